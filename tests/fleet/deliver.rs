//! Whoever lives delivers: takeovers, what an owner leaves to the next, what operators see.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::cluster::{Cluster, wait_for};
use crate::harness::{Answer, Endpoint, Serve};
use crate::machine::{Machine, arrived, key, ready};

/// Waits until nothing is to be routed or delivered.
pub(crate) fn nothing_left(cluster: &Cluster) {
    let left = "SELECT (SELECT count(*) FROM spec_notify.delivery WHERE ended_at IS NULL) + \
                (SELECT count(*) FROM spec_notify.event WHERE NOT routed)";
    wait_for("nothing pending", || (cluster.sql(left) == "0").then_some(()));
}

/// Who holds the lease, by process id; nothing if nobody does.
pub(crate) fn holder(cluster: &Cluster, name: &str) -> String {
    cluster.sql(&format!(
        "SELECT m.info::jsonb ->> 'pid' FROM spec_notify.lease AS l \
         JOIN spec_notify.lease AS m ON m.name = 'member:' || l.holder \
         WHERE l.name = '{name}' AND l.until > clock_timestamp()"
    ))
}

pub(crate) fn pid_of(machine: &Machine) -> String {
    let text = fs::read_to_string(machine.spool().join("runtime.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()["pid"].to_string()
}

pub(crate) fn wait_for_holder(cluster: &Cluster, name: &str, machine: &Machine) {
    wait_for("the lease", || (holder(cluster, name) == pid_of(machine)).then_some(()));
}

#[test]
fn what_is_emitted_on_one_machine_is_delivered_by_another() {
    let cluster = ready();
    let endpoint = Endpoint::answering([200]);
    let emitter = Machine::new(&cluster.url("postgres"), "");
    let deliverer = Machine::deliverer(&cluster, &[("chatops", &endpoint.url(), "")]);
    let _serve = deliverer.serve();
    for n in 0..5 {
        assert_eq!(emitter.emit("SPEC-1", &format!("k{n}"))["outcome"], "accepted");
    }
    endpoint.wait_for(5);
    let mut keys: Vec<String> = arrived(&endpoint).into_iter().map(|(_, key)| key).collect();
    keys.sort();
    assert_eq!(keys, ["k0", "k1", "k2", "k3", "k4"]);
    nothing_left(&cluster);
    assert_eq!(cluster.sql("SELECT count(*) FROM spec_notify.evidence"), "10");

    // What an operator sees, through the runtime and without one.
    let seen = |machine: &Machine| {
        let listed = machine.json(0, &["list"]);
        let listed = listed.as_array().unwrap();
        assert!(listed.len() == 5 && listed.iter().all(|one| one["state"] == "delivered"), "{listed:?}");
        machine.json(0, &["status"])["fleet"].clone()
    };
    let fleet = seen(&deliverer);
    assert_eq!((&fleet["namespace"], &fleet["unrouted"]), (&"payments".into(), &0.into()), "{fleet}");
    assert_eq!(fleet["members"][0]["subscriptions"], serde_json::json!(["chatops"]), "{fleet}");
    assert_eq!((&fleet["members"][0]["routes"], &fleet["streaming"]), (&true.into(), &2.into()), "{fleet}");
    let elsewhere = Machine::deliverer(&cluster, &[("chatops", &endpoint.url(), "")]);
    assert_eq!(seen(&elsewhere)["members"], fleet["members"]);
}

#[test]
fn a_command_that_waits_hears_what_a_deliverer_made_of_its_event() {
    let cluster = ready();
    let endpoint = Endpoint::deciding(|request| match request.json()["spec"]["id"] == "SPEC-1" {
        true => Answer::status(200),
        false => Answer::status(400),
    });
    let emitter = Machine::new(&cluster.url("postgres"), "");
    let deliverer = Machine::deliverer(&cluster, &[("chatops", &endpoint.url(), "")]);
    let waits = |machine: &Machine, spec: &str, key: &str, seconds: &str| {
        let event = ["emit", "--type", "spec-auto.stage.completed", "--stage", "Plan", "--status", "success"];
        let of = ["--spec", spec, "--key", key, "--wait", "--timeout", seconds];
        machine.run(&[&event[..], &of].concat())
    };
    // Nobody fans out yet: that is no success.
    let late = waits(&emitter, "SPEC-1", "early", "1");
    assert!(late.code == 1 && late.stdout.contains("that nobody has fanned out after 1 s"), "{late:?}");
    let serve = deliverer.serve();
    for (n, machine) in [&emitter, &deliverer].into_iter().enumerate() {
        for (spec, code, end) in [("SPEC-1", 0, "1 delivered"), ("SPEC-2", 1, "1 dead_letter")] {
            let ended = waits(machine, spec, &format!("{spec}-{n}"), "60");
            assert!(ended.code == code && ended.stdout.contains(end), "{ended:?}");
        }
    }
    // What was known already counts as what became of it.
    let known = waits(&emitter, "SPEC-1", "early", "60");
    assert!(known.code == 0 && known.stdout.contains("1 delivered"), "{known:?}");
    drop(serve);
}

/// Two deliverers of one subscription; the first has its lease.
fn two(cluster: &Cluster, endpoint: &Endpoint, more: &str) -> [(Machine, Serve); 2] {
    let subscriptions = [("chatops", &*endpoint.url(), more)];
    let first = Machine::deliverer(cluster, &subscriptions);
    let serve = first.serve();
    wait_for_holder(cluster, "sub:chatops", &first);
    wait_for_holder(cluster, "router", &first);
    let second = Machine::deliverer(cluster, &subscriptions);
    let of_second = second.serve();
    // The second has its share: one of the two leases.
    wait_for("both to have one", || {
        let holders = ["router", "sub:chatops"].map(|name| holder(cluster, name));
        (!holders.contains(&String::new()) && holders[0] != holders[1]).then_some(())
    });
    match holder(cluster, "sub:chatops") == pid_of(&first) {
        true => [(first, serve), (second, of_second)],
        false => [(second, of_second), (first, serve)],
    }
}

#[test]
fn a_member_that_dies_or_stops_is_taken_over_from_and_does_no_harm_when_it_wakes() {
    let cluster = ready();
    let endpoint = Endpoint::answering([200]);
    let emitter = Machine::new(&cluster.url("postgres"), "");
    let [(owner, serve), (other, of_other)] = two(&cluster, &endpoint, "");
    let mut count = 0;
    let mut emit = |many: usize| {
        for _ in 0..many {
            emitter.emit("SPEC-1", &format!("k{count}"));
            count += 1;
        }
        count
    };
    endpoint.wait_for(emit(3));
    // Killed: the other has both in a while.
    serve.kill();
    endpoint.wait_for(emit(3));
    wait_for_holder(&cluster, "sub:chatops", &other);
    wait_for_holder(&cluster, "router", &other);
    // Frozen for longer than its lease: it wakes to nothing of its own.
    let serve = owner.serve();
    of_other.signal("STOP");
    endpoint.wait_for(emit(3));
    wait_for_holder(&cluster, "router", &owner);
    of_other.signal("CONT");
    let all = emit(3);
    endpoint.wait_for(all);
    nothing_left(&cluster);
    let came = arrived(&endpoint);
    let keys: BTreeSet<&String> = came.iter().map(|(_, key)| key).collect();
    let ids: BTreeSet<&String> = came.iter().map(|(id, _)| id).collect();
    assert_eq!((keys.len(), ids.len()), (all, all), "each under one id");
    let ends = "SELECT count(*), count(DISTINCT delivery) FROM spec_notify.evidence WHERE is_end";
    assert_eq!(cluster.sql(ends), format!("{all}|{all}"));
    drop((serve, of_other));
}

#[test]
fn a_subscription_that_is_switched_off_on_one_member_moves_once_its_request_has_ended() {
    let cluster = ready();
    let endpoint = Endpoint::answering([Answer::hang(), Answer::status(200)]);
    let emitter = Machine::new(&cluster.url("postgres"), "");
    let lines = "active = true\nper_request_timeout_ms = 8000\ninitial_backoff_ms = 1";
    let [(owner, _serve), (other, _of_other)] = two(&cluster, &endpoint, lines);
    emitter.emit("SPEC-1", "k");
    endpoint.wait_for(1);
    let config = owner.path().join(".spec-kit/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains("active = true"), "{text}");
    fs::write(&config, text.replace("active = true", "active = false")).unwrap();
    assert_eq!(owner.run(&["reload"]).code, 0);
    wait_for_holder(&cluster, "sub:chatops", &other);
    let attempts = cluster.sql("SELECT count(*) FROM spec_notify.evidence WHERE NOT is_end");
    assert_ne!(attempts, "0", "it was moved while its request was under way");
    nothing_left(&cluster);
    assert_eq!(arrived(&endpoint).len(), 2);
}

#[test]
fn a_member_that_is_told_to_end_hands_its_work_over_at_once() {
    let cluster = ready();
    let endpoint = Endpoint::answering([200]);
    let subscriptions = [("chatops", &*endpoint.url(), "")];
    // Far longer than this test waits for anything.
    let long = "role = \"deliver\"\nlease_s = 60";
    let machine = || Machine::with(&cluster.url("postgres"), long, &subscriptions);
    let (first, second) = (machine(), machine());
    let serve = first.serve();
    wait_for_holder(&cluster, "sub:chatops", &first);
    wait_for_holder(&cluster, "router", &first);
    let _of_second = second.serve();
    let (code, log) = serve.terminate();
    assert_eq!(code, 0, "{log}");
    first.emit("SPEC-1", "k1");
    endpoint.wait_for(1);
    wait_for_holder(&cluster, "sub:chatops", &second);
}

#[test]
fn what_an_owner_knew_of_an_endpoint_the_next_one_knows() {
    let cluster = ready();
    // It asks to be left alone for longer than the test lasts.
    let leave_me =
        b"HTTP/1.1 429 Too Many\r\nretry-after: 600\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let endpoint = Endpoint::answering([Answer::raw(leave_me).then_close(), Answer::status(200)]);
    let broken = Endpoint::answering([503]);
    let retry = "initial_backoff_ms = 100\nmax_backoff_ms = 200\nmax_attempts = 1000\nmax_in_flight = 8";
    let held = Endpoint::answering([200]);
    let subscriptions =
        [("alone", &*endpoint.url(), ""), ("broken", &*broken.url(), retry), ("held", &*held.url(), "")];
    let first = Machine::deliverer(&cluster, &subscriptions);
    let serve = first.serve();
    wait_for_holder(&cluster, "sub:held", &first);
    assert_eq!(first.run(&["pause", "held"]).code, 0);
    for n in 0..9 {
        first.emit("SPEC-1", &format!("k{n}"));
    }
    endpoint.wait_for(1);
    broken.wait_for(12);
    wait_for("all nine to be routed", || {
        let routed = "SELECT count(*) FROM spec_notify.delivery WHERE subscription = 'broken'";
        (cluster.sql(routed) == "9").then_some(())
    });
    wait_for("the breaker", || {
        let health = cluster.sql("SELECT health FROM spec_notify.health WHERE subscription = 'broken'");
        let health: Value = serde_json::from_str(&health).ok()?;
        (health["consecutive_failures"].as_u64()? >= 5).then_some(())
    });
    wait_for("the pause", || {
        let pauses = "SELECT count(*) FROM spec_notify.health WHERE paused_until > clock_timestamp()";
        (cluster.sql(pauses) == "1").then_some(())
    });
    let asked_before = endpoint.requests().len();
    let (code, log) = serve.terminate();
    assert_eq!(code, 0, "{log}");

    // The next one asks another machine of theirs, which never answers.
    let silent = Endpoint::answering([Answer::hang()]);
    let silent = (silent.url(), silent);
    let subscriptions =
        subscriptions.map(|one| if one.0 == "broken" { ("broken", silent.0.as_str(), one.2) } else { one });
    let second = Machine::deliverer(&cluster, &subscriptions);
    let _serve = second.serve();
    for id in ["alone", "broken", "held"] {
        wait_for_holder(&cluster, &format!("sub:{id}"), &second);
    }
    silent.1.wait_for(1);
    let report = second.json(1, &["status"]);
    let of = |id: &str| {
        let all = report["subscriptions"].as_array().unwrap();
        all.iter().find(|one| one["id"] == id).unwrap().clone()
    };
    let broken_now = of("broken");
    let waits = broken_now["pending"].as_u64().unwrap() + broken_now["in_flight"].as_u64().unwrap();
    assert_eq!((&broken_now["health"], waits), (&"open".into(), 9), "{report}");
    assert!(of("alone")["paused_until"].is_string(), "{report}");
    assert_eq!((&of("held")["health"], held.requests().len()), (&"paused".into(), 0), "{report}");
    assert_eq!(endpoint.requests().len(), asked_before, "it is left alone");
    // A person ends the pause on a machine that never saw it begin.
    assert_eq!(second.run(&["resume", "held"]).code, 0);
    held.wait_for(9);
    // The breaker is as narrow as it was: one request at a time.
    assert_eq!(silent.1.most_waiting(), 1);
    silent.1.release();
    wait_for("all of broken", || {
        let left = "SELECT count(*) FROM spec_notify.delivery WHERE subscription = 'broken'";
        (cluster.sql(left) == "0").then_some(())
    });
    let keys: BTreeSet<String> = held.requests().iter().map(key).collect();
    assert_eq!(keys.len(), 9);
}

#[test]
fn dead_letters_lie_in_the_cluster_and_any_member_sends_them_again() {
    let cluster = ready();
    let endpoint = Endpoint::answering([400, 500, 200]);
    let [(owner, _serve), (other, _of_other)] = two(&cluster, &endpoint, "");
    owner.emit("SPEC-1", "k1");
    let dead_letters = || -> Value {
        let ran = other.run(&["--json", "list", "--state", "dead_letter"]);
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let letter = wait_for("a dead letter", || dead_letters().as_array().unwrap().first().cloned());
    assert_eq!((&letter["attempts"], &letter["last_status"]), (&1.into(), &400.into()), "{letter}");
    let status = other.json(1, &["status"]);
    assert_eq!(status["subscriptions"][0]["dead_letters"], 1, "{status}");
    // From the one that does not own the subscription, in vain and then well.
    let id = letter["id"].as_str().unwrap();
    let replay = ["replay", "SPEC-1", "--delivery-id", id];
    assert_eq!(other.run(&replay).code, 1);
    let again = dead_letters();
    assert_eq!(again[0]["attempts"], 2, "{again}");
    assert_eq!(other.run(&replay).code, 0);
    assert_eq!(cluster.sql("SELECT count(*) FROM spec_notify.delivery"), "0");
    let came = arrived(&endpoint);
    assert!(came.len() == 3 && came.iter().all(|(of, _)| of == id), "{came:?}");
    let lines = "SELECT string_agg(line::jsonb ->> 'record', ' ' ORDER BY seq) FROM spec_notify.evidence";
    assert_eq!(cluster.sql(lines), "attempt final attempt attempt final");
    assert_eq!(other.run(&["test", "SPEC-1", "--subscription", "chatops"]).code, 0);
}

#[test]
fn evidence_comes_back_into_the_repo_each_line_once() {
    let cluster = ready();
    let endpoint = Endpoint::answering([200]);
    let [(owner, _serve), (other, _of_other)] = two(&cluster, &endpoint, "");
    let here = Machine::deliverer(&cluster, &[("chatops", &endpoint.url(), "")]);
    let mut pulls = 0;
    let lines =
        |machine: &Machine| (1..=2).map(|n| machine.lines(&format!("SPEC-{n}"))).collect::<Vec<_>>().concat();
    // Two write, and a third pulls all the time.
    for n in 0..12 {
        let machine = if n % 2 == 0 { &owner } else { &other };
        machine.emit(&format!("SPEC-{}", n % 2 + 1), &format!("k{n}"));
        pulls += usize::from(here.run(&["evidence", "pull"]).code == 0);
    }
    nothing_left(&cluster);
    wait_for("all lines", || {
        assert_eq!(here.run(&["evidence", "pull"]).code, 0);
        (lines(&here).len() == 24).then_some(())
    });
    assert_eq!(pulls, 12);
    // As after a crash between the lines and the note of how far they came.
    fs::remove_file(here.spool().join("pulled.json")).unwrap();
    assert_eq!(here.json(0, &["evidence", "pull"])["lines"], 0);
    let (mut pulled, there) = (lines(&here), cluster.sql("SELECT line FROM spec_notify.evidence"));
    let mut there: Vec<&str> = there.lines().collect();
    pulled.sort();
    there.sort_unstable();
    assert_eq!(pulled, there);
}

#[test]
fn a_fleet_whose_members_differ_or_that_is_alone_says_so() {
    let mut cluster = ready();
    let (one, other) = (Endpoint::answering([200]), Endpoint::answering([200]));
    let down = Endpoint::down();
    let with = |url: &str, own: &str| {
        Machine::deliverer(&cluster, &[("chatops", url, ""), (own, &*down.url(), "include_specs = [\"X\"]")])
    };
    let (first, second) = (with(&one.url(), "of-first"), with(&other.url(), "of-second"));
    let (_serve, _of_second) = (first.serve(), second.serve());
    let warned = |code: i32, what: &str| {
        wait_for(what, || {
            let ran = first.run(&["--json", "status"]);
            let report: Value = serde_json::from_str(&ran.stdout).unwrap();
            let is_it =
                report["warnings"].as_array()?.iter().any(|warning| warning.as_str().unwrap().contains(what));
            (is_it && ran.code == code).then_some(report)
        })
    };
    warned(1, "configs differ");
    // Whichever fans out: what the other alone has is fed by nobody.
    let fed = warned(1, "gets no events at present")["warnings"].to_string();
    let router = holder(&cluster, "router");
    let unfed = if router == pid_of(&first) { "of-second" } else { "of-first" };
    assert!(fed.contains(&format!("{unfed} gets no events")), "{router}: {fed}");
    [1, 2].iter().for_each(|next| cluster.kill((cluster.primary() + next) % 3));
    let alone = warned(1, "no standby streams");
    assert_eq!(alone["fleet"]["streaming"], 0);
    // Nothing is accepted, and all of it goes on later.
    assert_eq!(first.emit("SPEC-1", "k1")["outcome"], "queued");
    [1, 2].iter().for_each(|next| cluster.start_node((cluster.primary() + next) % 3));
    wait_for("the delivery", || (one.requests().len() + other.requests().len() == 1).then_some(()));
}

#[test]
fn work_is_shared_and_moves_when_members_come_and_go() {
    let cluster = ready();
    let endpoint = Endpoint::answering([200]);
    let url = endpoint.url();
    let ids: Vec<String> = (0..9).map(|n| format!("s{n}")).collect();
    let subscriptions: Vec<(&str, &str, &str)> =
        ids.iter().map(|id| (id.as_str(), url.as_str(), "")).collect();
    let machines = [(); 3].map(|()| Machine::deliverer(&cluster, &subscriptions));
    let mut serving: Vec<Serve> = Vec::new();
    // Nine subscriptions and the Router's lease, as even as they can be.
    let shared = |most: &str, members: &str| {
        let shares = "SELECT coalesce(max(n), 0) || ' of ' || coalesce(sum(n), 0) || ' by ' || count(*) \
            FROM ( \
                      SELECT count(*) AS n FROM spec_notify.lease \
                      WHERE name NOT LIKE 'member:%' AND until > clock_timestamp() GROUP BY holder) AS \
                      shares";
        let even = format!("{most} of 10 by {members}");
        wait_for(&even, || (cluster.sql(shares) == even).then_some(()));
    };
    for (machine, most) in machines.iter().zip(["10", "5", "4"]) {
        serving.push(machine.serve());
        shared(most, &serving.len().to_string());
    }
    machines[0].emit("SPEC-1", "k1");
    endpoint.wait_for(9);
    // Four connections a process, at most.
    let sessions = "SELECT max(n) <= 4 FROM (SELECT count(*) AS n FROM pg_stat_activity \
                    WHERE application_name LIKE 'spec-notify %' GROUP BY application_name) AS each";
    assert_eq!(cluster.sql(sessions), "t");
    serving.remove(1).kill();
    shared("5", "2");
    machines[0].emit("SPEC-1", "k2");
    endpoint.wait_for(18);
    assert_eq!(serving.remove(0).terminate().0, 0);
    shared("10", "1");
    nothing_left(&cluster);
    let came = arrived(&endpoint);
    let ids: BTreeSet<&String> = came.iter().map(|(id, _)| id).collect();
    assert_eq!(ids.len(), 18);
}

#[test]
fn the_bounds_hold_in_the_cluster() {
    let cluster = ready();
    let endpoint = Endpoint::answering([400]);
    let settings = "max_pending = 3\nmax_evidence_bytes = 65536\nmax_dead_letter_bytes = 65536";
    let subscriptions = [("held", &*endpoint.url(), "")];
    let machine = Machine::bounded(&cluster, settings, &subscriptions);
    let serve = machine.serve();
    wait_for_holder(&cluster, "sub:held", &machine);
    assert_eq!(machine.run(&["pause", "held"]).code, 0);
    for n in 0..6 {
        machine.emit("SPEC-1", &format!("k{n}"));
    }
    // More than may wait: the oldest are dead letters, with evidence.
    let dead = "SELECT string_agg(key, ' ' ORDER BY seq) FROM spec_notify.delivery \
                WHERE reason LIKE '%spool_saturated%'";
    wait_for("three dead letters", || (cluster.sql(dead) == "k0 k1 k2").then_some(()));
    assert_eq!(machine.emit("SPEC-1", "k5")["outcome"], "duplicate");
    // A day later, and with far more evidence and far larger dead letters than the bounds.
    cluster.sql(
        "UPDATE spec_notify.event SET at = at - interval '2 days'; \
         INSERT INTO spec_notify.evidence (ns, spec, delivery, attempt, is_end, at, line) \
             SELECT ns, spec, gen_random_uuid(), n, false, at, rpad('{\"n\":' || n, 999, ' ') || '}' \
             FROM (SELECT * FROM spec_notify.evidence LIMIT 1) AS one, generate_series(1, 300) AS n; \
         UPDATE spec_notify.body SET bytes = convert_to(rpad('{\"x\":\"', 30000, 'x') || '\"}', 'UTF8')",
    );
    assert_eq!(serve.terminate().0, 0);
    let _serve = machine.serve();
    let kept = "SELECT (SELECT sum(octet_length(line) + 1) <= 65536 AND max(attempt) = 300 FROM \
        spec_notify.evidence) \
                AND (SELECT string_agg(key, ' ') = 'k2' OR count(*) = 2 FROM spec_notify.delivery \
                     WHERE ended_at IS NOT NULL) \
                AND (SELECT count(*) = 0 FROM spec_notify.event WHERE routed)";
    wait_for("what is beyond the bounds to go", || (cluster.sql(kept) == "t").then_some(()));
    // What waits is not what is kept: it is all there.
    assert_eq!(cluster.sql("SELECT count(*) FROM spec_notify.delivery WHERE ended_at IS NULL"), "3");
    assert_eq!(machine.emit("SPEC-1", "k5")["outcome"], "accepted");
}
