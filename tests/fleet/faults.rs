//! What goes wrong at a bad moment: connections cut in the middle of a transaction, clocks that are
//! an hour off, disks that stand still, programs of another version.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cluster::{Cluster, wait_for};
use crate::deliver::nothing_left;
use crate::harness::Endpoint;
use crate::machine::{Machine, arrived, ready, said};
use crate::proxy::{Scissors, before};

/// The URL of a cluster whose connections can be cut.
fn behind(cluster: &Cluster, scissors: &Scissors) -> String {
    let nodes: Vec<String> =
        cluster.ports().iter().map(|port| format!("127.0.0.1:{}", before(*port, scissors))).collect();
    format!("postgresql://postgres@{}/postgres", nodes.join(","))
}

#[test]
fn a_transaction_that_is_cut_anywhere_is_done_once() {
    let cluster = ready();
    let scissors = Scissors::default();
    let endpoint = Endpoint::answering([200]);
    let deliver = "role = \"deliver\"\nlease_s = 5";
    let deliverer =
        Machine::with(&behind(&cluster, &scissors), deliver, &[("chatops", &*endpoint.url(), "")]);
    let emitter = Machine::new(&cluster.url("postgres"), "");
    let serve = deliverer.serve();
    let (mut count, mut expected) = (0, 0);
    // An Unlock ends a run: its end follows from what the Router knows.
    let mut emit = |key: &str, stage: &str| {
        let stage = ["--stage", stage, "--status", "success", "--key", key];
        let event = ["emit", "--type", "spec-auto.stage.completed", "--spec", &format!("SPEC-{count}")];
        assert_eq!(emitter.json(0, &[&event[..], &stage].concat())["outcome"], "accepted");
        count += 1;
        expected += if stage[1] == "Unlock" { 2 } else { 1 };
        endpoint.wait_for(expected);
        nothing_left(&cluster);
        expected
    };
    emit("first", "Unlock");
    for skip in 0..2 {
        let (what, stage) = [("route", "Unlock"), ("settle", "Plan")][skip];
        let mut statements = 0;
        loop {
            scissors.arm(skip, statements);
            emit(&format!("{what}-{statements}"), stage);
            if scissors.disarm() || statements > 30 {
                panic!("no transaction was cut: {}", serve.log());
            }
            // The transaction had fewer: nothing was left to cut.
            if scissors.cuts() == 0 {
                break;
            }
            statements += 1;
        }
        assert!(statements > 3, "{what} has some statements: {statements}");
    }
    let all = emit("last", "Unlock");
    // A run's end comes from where its last stage did, not from where it is routed.
    let ends = endpoint.requests().into_iter().map(|request| request.json());
    let sources: BTreeSet<String> = ends.map(|payload| payload["source"].to_string()).collect();
    let repo = emitter.path().file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(sources, BTreeSet::from([serde_json::json!({"repo": repo}).to_string()]));
    let came = arrived(&endpoint);
    let keys: BTreeSet<&String> = came.iter().map(|(_, key)| key).collect();
    let ids: BTreeSet<&String> = came.iter().map(|(id, _)| id).collect();
    assert_eq!((keys.len(), ids.len()), (all, all), "each event once, under one id");
    let evidence = "SELECT count(*) FILTER (WHERE is_end), count(DISTINCT (delivery, attempt, is_end)) - \
                    count(*) FILTER (WHERE is_end) >= count(DISTINCT delivery) FROM spec_notify.evidence";
    assert_eq!(cluster.sql(evidence), format!("{all}|t"));
}

#[test]
fn a_member_that_stops_in_the_middle_of_a_transaction_holds_nobody_up() {
    let cluster = ready();
    let scissors = Scissors::default();
    let endpoint = Endpoint::answering([200]);
    let subscriptions = [("chatops", &*endpoint.url(), "")];
    let stops =
        Machine::with(&behind(&cluster, &scissors), "role = \"deliver\"\nlease_s = 5", &subscriptions);
    let serve = stops.serve();
    let emitter = Machine::new(&cluster.url("postgres"), "");
    emitter.emit("SPEC-1", "k1");
    endpoint.wait_for(1);
    nothing_left(&cluster);
    // Its lease is locked by the transaction, in which nothing goes on.
    scissors.hold(1);
    emitter.emit("SPEC-1", "k2");
    wait_for("the transaction", || (scissors.cuts() > 0).then_some(()));
    serve.signal("STOP");
    let other = Machine::deliverer(&cluster, &subscriptions);
    let of_other = other.serve();
    endpoint.wait_for(2);
    nothing_left(&cluster);
    serve.signal("CONT");
    emitter.emit("SPEC-1", "k3");
    endpoint.wait_for(3);
    nothing_left(&cluster);
    let came: BTreeSet<(String, String)> = arrived(&endpoint).into_iter().collect();
    assert_eq!(came.len(), 3, "each under one id: {came:?}");
    drop((serve, of_other));
}

#[test]
fn a_deliverer_whose_clock_is_an_hour_off_waits_as_long_as_the_others() {
    let Some(library) = crate::harness::shift_library() else {
        eprintln!("skipped: no C compiler that builds a library to preload");
        return;
    };
    let cluster = ready();
    let endpoint = Endpoint::answering([503]);
    let fast = "initial_backoff_ms = 200\nbackoff_factor = 1.0\njitter_ms = 0\nmax_attempts = 1000";
    let late = |seconds: &str| {
        let machine = Machine::deliverer(&cluster, &[("failing", &*endpoint.url(), fast)]);
        let clock = machine.sandbox().write("clock", seconds);
        machine
            .with_env("LD_PRELOAD", library.to_str().unwrap())
            .with_env("SHIFT_CLOCK", clock.to_str().unwrap())
    };
    Machine::new(&cluster.url("postgres"), "").emit("SPEC-1", "k1");
    let mut came = 0;
    // Each takes over what the one before has just put off.
    for seconds in ["3600", "-3600", "0", "3600"] {
        let machine = late(seconds);
        let serve = machine.serve();
        came = endpoint.wait_for(came + 4).len();
        let waits = cluster.sql(
            "SELECT coalesce(max(next_attempt_at - clock_timestamp()), '0') < '10 s' \
            FROM spec_notify.delivery",
        );
        assert_eq!(waits, "t", "a wait is as long as it is by the cluster's clock");
        let (code, log) = serve.terminate();
        assert_eq!(code, 0, "{log}");
    }
    endpoint.repair([200]);
    let serve = late("-3600").serve();
    nothing_left(&cluster);
    drop(serve);
}

#[test]
fn a_takeover_sends_no_faster_than_the_rate_allows() {
    let cluster = ready();
    let endpoint = Endpoint::answering([200]);
    let subscriptions = [("slow", &*endpoint.url(), "rate_limit_per_s = 2.0")];
    let machines = [(); 2].map(|()| Machine::deliverer(&cluster, &subscriptions));
    for n in 0..8 {
        machines[0].emit("SPEC-1", &format!("k{n}"));
    }
    let serve = machines[0].serve();
    endpoint.wait_for(3);
    let other = machines[1].serve();
    assert_eq!(serve.terminate().0, 0);
    let came = endpoint.wait_for(8);
    let gaps = came.windows(2).map(|pair| pair[1].at().duration_since(pair[0].at()));
    // By the endpoint's clock, whose thread may have been late for the first of two.
    let least = gaps.min().unwrap();
    assert!(least > Duration::from_millis(250), "{least:?}");
    drop(other);
}

#[test]
fn a_primary_whose_disk_stands_still_now_and_then_loses_nothing_and_holds_no_emitter_up() {
    let cluster = ready();
    let endpoint = Endpoint::answering([200]);
    let deliverer = Machine::deliverer(&cluster, &[("chatops", &*endpoint.url(), "")]);
    let _serve = deliverer.serve();
    let emitter = Machine::new(&cluster.url("postgres"), "");
    let mut outcomes = BTreeSet::new();
    for n in 0..12 {
        if n % 3 == 0 {
            cluster.freeze(cluster.primary(), true);
        }
        // Whether the cluster answers or not, the pipeline goes on.
        let told = emitter.emit_with(0, "SPEC-1", &format!("k{n}"), &["--deadline", "1000"]);
        outcomes.insert(told["outcome"].as_str().unwrap().to_owned());
        cluster.freeze(cluster.primary(), false);
    }
    assert_eq!(outcomes, BTreeSet::from(["accepted".to_owned(), "queued".to_owned()]));
    wait_for("what waits here", || {
        (emitter.run(&["drain", "--no-watch", "--timeout", "20"]).code == 0).then_some(())
    });
    nothing_left(&cluster);
    let keys: BTreeSet<String> = arrived(&endpoint).into_iter().map(|(_, key)| key).collect();
    assert_eq!(keys.len(), 12);
}

#[test]
fn a_primary_whose_disk_is_full_loses_nothing_that_it_acknowledged() {
    let Some(mut cluster) = Cluster::on_a_small_disk() else {
        return eprintln!("skipped: this user may make no disk of its own (mount)");
    };
    let endpoint = Endpoint::answering([200]);
    let emitter = Machine::new(&cluster.url("postgres"), "");
    emitter.json(0, &["fleet", "init"]);
    let deliverer = Machine::deliverer(&cluster, &[("chatops", &*endpoint.url(), "")]);
    let _serve = deliverer.serve();
    let mut keys = BTreeSet::new();
    let mut emit = |n: usize| {
        let key = format!("k{n}");
        let told = emitter.emit_with(0, "SPEC-1", &key, &["--deadline", "2000"]);
        assert!(["accepted", "queued"].iter().any(|outcome| told["outcome"] == *outcome), "{told}");
        keys.insert(key);
    };
    (0..3).for_each(&mut emit);
    endpoint.wait_for(3);
    cluster.fill_its_disk();
    (3..30).for_each(&mut emit);
    // Whatever it does without room: another takes its place.
    let full = cluster.primary();
    cluster.kill(full);
    cluster.promote();
    wait_for("what waits here", || {
        (emitter.run(&["drain", "--no-watch", "--timeout", "20"]).code == 0).then_some(())
    });
    wait_for("all of them", || {
        let came: BTreeSet<String> = arrived(&endpoint).into_iter().map(|(_, key)| key).collect();
        (came == keys).then_some(())
    });
    let ids: BTreeSet<(String, String)> = arrived(&endpoint).into_iter().collect();
    assert_eq!(ids.len(), keys.len(), "each under one id");
}

#[test]
fn programs_of_two_versions_deliver_side_by_side_and_one_that_does_not_fit_says_so() {
    let cluster = crate::cluster::Cluster::start();
    let endpoint = Endpoint::answering([200]);
    let emitter = Machine::new(&cluster.url("postgres"), "");
    let deliverer = Machine::deliverer(&cluster, &[("chatops", &*endpoint.url(), "")]);
    // A cluster of the version before: machines hand over to it, and none delivers.
    let all = emitter.run(&["fleet", "init", "--print"]).stdout;
    let first = &all[..all.find("-- What became of each event").unwrap()];
    cluster.sql(&format!("{first}; COMMIT"));
    assert_eq!(emitter.emit("SPEC-1", "before")["outcome"], "accepted");
    let refused = deliverer.run(&["serve", "--no-watch"]);
    assert!(refused.code != 0 && said(&refused).contains("fleet init upgrades it"), "{refused:?}");
    // Somebody reads a table for a while: an upgrade does not hold up those that come after it.
    std::thread::scope(|scope| {
        let reads = "BEGIN; LOCK TABLE spec_notify.event IN ACCESS SHARE MODE; SELECT pg_sleep(6)";
        let reading = scope.spawn(|| cluster.sql(reads));
        wait_for("the lock", || {
            let locked = "SELECT count(*) FROM pg_locks WHERE relation = 'spec_notify.event'::regclass \
                          AND mode = 'AccessShareLock' AND pid <> pg_backend_pid()";
            (cluster.sql(locked) != "0").then_some(())
        });
        let refused = emitter.run(&["fleet", "init"]);
        assert!(refused.code != 0 && said(&refused).contains("somebody holds a lock"), "{refused:?}");
        assert_eq!(emitter.emit("SPEC-1", "meanwhile")["outcome"], "accepted");
        reading.join().unwrap();
    });
    assert_eq!(emitter.json(0, &["fleet", "init"])["outcome"], "upgraded");
    assert_eq!(emitter.json(0, &["fleet", "init"])["outcome"], "there already");
    let serve = deliverer.serve();
    endpoint.wait_for(2);

    // What the version before says to the cluster still works.
    cluster.sql(
        "INSERT INTO spec_notify.event (ns, key, spec, event) \
         SELECT ns, 'x', spec, event FROM spec_notify.event WHERE false \
         ON CONFLICT (ns, key) DO UPDATE SET seen = spec_notify.event.seen + 1 RETURNING seen",
    );
    // The next version adds what this one does not know, while it runs.
    cluster.sql(
        "ALTER TABLE spec_notify.event ADD COLUMN later text DEFAULT 'x'; \
         ALTER TABLE spec_notify.delivery ADD COLUMN later int NOT NULL DEFAULT 1; \
         ALTER TABLE spec_notify.lease ADD COLUMN later text; \
         ALTER TABLE spec_notify.evidence ADD COLUMN later text; \
         INSERT INTO spec_notify.lease (ns, name, holder, until) \
             VALUES ('payments', 'later-duty', 'm', clock_timestamp() + interval '1 hour'); \
         UPDATE spec_notify.meta SET version = 5, oldest = 4",
    );
    emitter.emit("SPEC-1", "beside");
    endpoint.wait_for(3);
    nothing_left(&cluster);
    // The version after that lets it no longer in: it stops by itself, and says why.
    cluster.sql("UPDATE spec_notify.meta SET version = 6, oldest = 5");
    wait_for("it to say so", || serve.log().contains("upgrade spec-notify on this machine").then_some(()));
    wait_for("its leases to be free", || {
        let held = "SELECT count(*) FROM spec_notify.lease \
                    WHERE name IN ('router', 'sub:chatops') AND until > clock_timestamp()";
        (cluster.sql(held) == "0").then_some(())
    });
    emitter.emit("SPEC-1", "after");
    cluster.sql("UPDATE spec_notify.meta SET version = 4, oldest = 1");
    endpoint.wait_for(4);
}

#[test]
fn what_leaves_the_machine_is_encrypted_and_the_nodes_certificate_verified() {
    let mut cluster = ready();
    let node = cluster.primary();
    // By a name that is not of this machine, at an address that is.
    let url = |name: &str| {
        let port = cluster.ports()[node];
        format!("postgresql://postgres@{name}:{port}/postgres?hostaddr=127.0.0.1")
    };
    let (good, wrong) = (url("db.example"), url("other.example"));
    let check = |url: &str, authority: &openssl::x509::X509| {
        let machine = Machine::with(url, "ca_file = \"ca.pem\"", &[]);
        machine.sandbox().write("ca.pem", &String::from_utf8(authority.to_pem().unwrap()).unwrap());
        machine.run(&["fleet", "check"])
    };
    let (certificate, key) = crate::harness::certificate::certificate("db.example");
    let plain = check(&good, &certificate);
    assert!(plain.code == 1 && said(&plain).contains("does not support TLS"), "{plain:?}");
    cluster.encrypt(node, &certificate, &key);
    let well = check(&good, &certificate);
    assert_eq!(well.code, 0, "{well:?}");
    assert_eq!(check(&wrong, &certificate).code, 1);
    let (other, _) = crate::harness::certificate::certificate("db.example");
    assert_eq!(check(&good, &other).code, 1, "an authority that nobody trusts here");
    let yesterday = openssl::asn1::Asn1Time::from_unix(1_700_000_000).unwrap();
    let (expired, key) = crate::harness::certificate::certificate_until("db.example", &yesterday);
    cluster.encrypt(node, &expired, &key);
    let refused = check(&good, &expired);
    assert!(refused.code == 1 && said(&refused).contains("expired"), "{refused:?}");
}

#[test]
fn whatever_is_wrong_with_the_cluster_is_said_in_one_message_with_what_to_do() {
    let cluster = ready();
    let endpoint = Endpoint::answering([200]);
    let at = |url: &str| Machine::with(url, "role = \"deliver\"", &[("chatops", &*endpoint.url(), "")]);
    let all = Machine::new(&cluster.url("postgres"), "").run(&["fleet", "init", "--print"]).stdout;
    cluster.sql(&all[all.find("CREATE ROLE").unwrap()..]);
    for (url, hint) in [
        (cluster.url("nobody"), "correct the user and the password"),
        (cluster.url("spec_notify_emitter"), "grant the role what it needs"),
        ("no url".to_owned(), "write postgresql://"),
    ] {
        let refused = at(&url).run(&["serve", "--no-watch"]);
        let said = said(&refused);
        assert!(refused.code != 0 && said.contains(hint), "{url}: {said}");
        assert!(!said.contains("postgresql://spec") && !said.contains("panicked"), "{said}");
    }
    // One that somebody has locked: nothing is lost, and it goes on by itself.
    let deliverer = at(&cluster.url("spec_notify_deliverer"));
    let serve = deliverer.serve();
    deliverer.emit("SPEC-1", "k1");
    endpoint.wait_for(1);
    let lock =
        cluster.hold("BEGIN; LOCK TABLE spec_notify.event IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(600)");
    let told = deliverer.emit_with(0, "SPEC-1", "k2", &["--deadline", "1000"]);
    assert_eq!(told["outcome"], "queued");
    cluster.let_go(lock);
    endpoint.wait_for(2);
    // And a name that a standby answers to alone.
    let standby = cluster.url_of((cluster.primary() + 1) % 3);
    let refused = Machine::with(&standby, "", &[]).run(&["fleet", "check"]);
    assert!(refused.code == 1 && said(&refused).contains("it is a standby"), "{refused:?}");
    wait_for("an empty inbox", || (deliverer.inbox() == 0).then_some(()));
    drop(serve);
}
