//! What is emitted is in the cluster or waits here, and every refusal says what to do.

use std::fs;

use serde_json::Value;

use crate::cluster::{self, Cluster};
use crate::harness::EVIDENCE;
use crate::machine::{Machine, keys_of, ready, said};

#[test]
fn what_is_emitted_is_in_the_cluster_once_and_waits_here_while_that_is_silent() {
    let mut cluster = ready();
    let machine = Machine::new(&cluster.url("postgres"), "");
    let first = machine.emit("SPEC-1", "k1");
    assert_eq!((&first["outcome"], &first["routed"]), (&"accepted".into(), &Value::from(false)), "{first}");
    assert_eq!(machine.emit("SPEC-1", "k1")["outcome"], "duplicate");
    let other = Machine::new(&cluster.url("postgres"), "");
    assert_eq!(other.emit_with(0, "SPEC-1", "k1", &["--require-accepted"])["outcome"], "duplicate");
    assert_eq!((keys_of(&cluster, "SPEC-1"), machine.inbox()), (vec!["k1".to_owned()], 0));

    // No standby confirms: nothing is acknowledged, a duplicate neither.
    let standbys = [1, 2].map(|next| (cluster.primary() + next) % 3);
    standbys.iter().for_each(|node| cluster.kill(*node));
    for key in ["k1", "k2", "k3"] {
        assert_eq!(machine.emit("SPEC-1", key)["outcome"], "queued", "{key}");
    }
    machine.emit_with(1, "SPEC-2", "k9", &["--require-accepted"]);
    assert_eq!(machine.inbox(), 4);
    let left = machine.run(&["drain", "--no-watch", "--timeout", "2"]);
    assert_eq!(left.code, 1, "{left:?}");
    // It is there again: each is handed over once, in its order, by the last step of a job.
    standbys.iter().for_each(|node| cluster.start_node(*node));
    cluster::wait_for("all of them", || {
        (machine.run(&["drain", "--no-watch", "--timeout", "20"]).code == 0).then_some(())
    });
    assert_eq!(machine.inbox(), 0);
    assert_eq!(keys_of(&cluster, "SPEC-1"), ["k1", "k2", "k3"]);
    assert_eq!(keys_of(&cluster, "SPEC-2"), ["k9"]);
}

#[test]
fn no_event_that_was_accepted_is_lost_with_its_primary_and_none_is_there_twice() {
    let mut cluster = ready();
    let machines = [0, 1].map(|_| Machine::new(&cluster.url("postgres"), ""));
    let mut accepted = Vec::new();
    let mut emit = |from: usize, many: usize| {
        for n in from..from + many {
            for (at, machine) in machines.iter().enumerate() {
                // Every key from both, as two checkouts of one repo would.
                let told = machine.emit(&format!("SPEC-{}", n % 3), &format!("k{n}"));
                if at == 0 && told["outcome"] != "queued" {
                    accepted.push(format!("k{n}"));
                }
            }
        }
    };
    emit(0, 10);
    let old = cluster.primary();
    cluster.freeze(old, true);
    // The primary answers nobody: what is emitted waits here.
    emit(10, 2);
    cluster.promote();
    emit(12, 10);
    // The old one wakes up; its standbys have left it, so it acknowledges nothing.
    cluster.freeze(old, false);
    emit(22, 5);
    cluster.kill(old);
    for machine in &machines {
        cluster::wait_for("what waits to be handed over", || {
            (machine.run(&["drain", "--no-watch", "--timeout", "20"]).code == 0).then_some(())
        });
    }
    let there: Vec<String> = (0..3).flat_map(|spec| keys_of(&cluster, &format!("SPEC-{spec}"))).collect();
    let mut sorted = there.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!((sorted.len(), there.len()), (27, 27), "{there:?}");
    assert!(accepted.len() >= 20, "most were accepted at once: {accepted:?}");
    assert!(accepted.iter().all(|key| there.contains(key)), "{accepted:?} {there:?}");
}

#[test]
fn an_emitter_can_read_no_event_and_every_refusal_says_what_to_do() {
    let cluster = ready();
    let grants = Machine::new(&cluster.url("postgres"), "").run(&["fleet", "init", "--print"]);
    let text = grants.stdout;
    let roles = &text[text.find("CREATE ROLE").unwrap()..];
    cluster.sql(roles);
    let machine = Machine::new(&cluster.url("spec_notify_emitter"), "");
    assert_eq!(machine.emit("SPEC-1", "k1")["outcome"], "accepted");
    assert_eq!(machine.emit("SPEC-1", "k1")["outcome"], "duplicate");
    let read = cluster.sql(
        "SELECT has_column_privilege('spec_notify_emitter', 'spec_notify.event', 'event', 'SELECT'), \
         has_column_privilege('spec_notify_emitter', 'spec_notify.event', 'key', 'SELECT')",
    );
    assert_eq!(read, "f|t");

    let said = |url: &str, more: &str| said(&Machine::new(url, more).run(&["fleet", "check"]));
    let nobody = said(&cluster.url("nobody"), "");
    assert!(nobody.contains("correct the user and the password"), "{nobody}");
    let url = cluster.url("postgres");
    let elsewhere = said(&format!("{}nowhere", url.strip_suffix("postgres").unwrap()), "");
    assert!(elsewhere.contains("make the database"), "{elsewhere}");
    let no_url = said("what is this", "");
    assert!(no_url.contains("holds no URL") && !no_url.contains("what is this"), "{no_url}");
    cluster.sql("ALTER SYSTEM SET synchronous_standby_names = ''");
    cluster.sql("SELECT pg_reload_conf()");
    cluster::wait_for("the setting", || {
        (cluster.sql("SHOW synchronous_standby_names").is_empty()).then_some(())
    });
    let alone = said(&cluster.url("postgres"), "");
    assert!(alone.contains("acknowledges alone"), "{alone}");
    // What is not safe there is kept here.
    assert_eq!(machine.emit("SPEC-1", "k2")["outcome"], "queued");
    assert!(said(&cluster.url("postgres"), "durability = \"single\"").contains("survives"));
}

#[test]
fn a_running_machine_takes_no_fleet_over_and_goes_on_as_it_was() {
    let machine = Machine::new("postgresql://nobody@127.0.0.1:1/none", "");
    let file = machine.path().join(".spec-kit/config.toml");
    let with_fleet = fs::read_to_string(&file).unwrap();
    let alone = with_fleet.split("[spec_ops.webhooks.fleet]").next().unwrap();
    fs::write(&file, alone).unwrap();
    let _serve = machine.serve();
    cluster::wait_for("the runtime", || machine.spool().join("runtime.json").exists().then_some(()));
    fs::write(&file, &with_fleet).unwrap();
    let reload = machine.run(&["reload"]);
    assert!(reload.code != 0 && said(&reload).contains("another fleet"), "{reload:?}");
}

#[test]
fn a_machine_that_watches_hands_over_what_happens_and_what_waited() {
    let mut cluster = ready();
    let machine = Machine::new(&cluster.url("postgres"), "");
    let standbys = [1, 2].map(|next| (cluster.primary() + next) % 3);
    standbys.iter().for_each(|node| cluster.kill(*node));
    assert_eq!(machine.emit("SPEC-KIT-001", "waited")["outcome"], "queued");
    let _serve = machine.serve();
    cluster::wait_for("the baseline", || machine.spool().join("watch.jsonl").exists().then_some(()));
    let telemetry = r#"{"command": "spec-ops-plan", "specId": "SPEC-KIT-001", "sessionId": "s-1",
        "timestamp": "2025-10-14T10:00:00Z", "baseline": {"status": "passed"}}"#;
    let folder = machine.path().join(EVIDENCE).join("commands/SPEC-KIT-001");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("spec-plan_s-1.json"), telemetry).unwrap();
    standbys.iter().for_each(|node| cluster.start_node(*node));
    let expected = ["waited", "SPEC-KIT-001:plan:attempt-1:s-1"];
    cluster::wait_for("both", || (keys_of(&cluster, "SPEC-KIT-001") == expected).then_some(()));
    cluster::wait_for("an empty inbox", || (machine.inbox() == 0).then_some(()));
}

#[test]
fn a_cluster_is_made_ready_and_asked_what_it_keeps() {
    let mut cluster = Cluster::start();
    let machine = Machine::new(&cluster.url("postgres"), "");
    let missing = machine.run(&["fleet", "check"]);
    assert!(missing.code == 1 && said(&missing).contains("fleet init"), "{missing:?}");
    assert_eq!(machine.json(0, &["fleet", "init"])["outcome"], "made");
    assert_eq!(machine.json(0, &["fleet", "init"])["outcome"], "there already");
    // For whoever may not run this program at the database: what is missing, and no more.
    let print = |from: &str| machine.run(&["fleet", "init", "--print", "--from", from]);
    let (upgrade, nothing) = (print("3").stdout, print("4").stdout);
    assert!(upgrade.starts_with("BEGIN;") && upgrade.contains("version = 4"), "{upgrade}");
    assert!(!upgrade.contains("CREATE TABLE") && !upgrade.contains("CREATE ROLE"), "{upgrade}");
    assert!(nothing.contains("GRANT") && !nothing.contains("ALTER"), "{nothing}");
    assert_eq!(print("9").code, 2);
    let well = machine.json(0, &["fleet", "check"]);
    assert_eq!((&well["ok"], &well["streaming"]), (&Value::from(true), &Value::from(2)));

    // A program that is older than the schema says so by name.
    cluster.sql("UPDATE spec_notify.meta SET version = 7, oldest = 6");
    let newer = machine.run(&["fleet", "check"]);
    assert!(newer.code == 1 && said(&newer).contains("version 7"), "{newer:?}");
    cluster.sql("UPDATE spec_notify.meta SET version = 4, oldest = 1");

    // What is promised is looked at.
    cluster.kill((cluster.primary() + 1) % 3);
    cluster.kill((cluster.primary() + 2) % 3);
    let alone = cluster::wait_for("nobody streams", || {
        let ran = machine.run(&["fleet", "check"]);
        (ran.code == 1).then_some(ran)
    });
    assert!(said(&alone).contains("no standby streams"), "{alone:?}");

    // Nobody is there, and who is there is no cluster.
    cluster.kill(cluster.primary());
    let down = machine.run(&["fleet", "check"]);
    assert!(down.code == 1 && said(&down).contains("no node is read-write"), "{down:?}");
    assert!(!said(&down).contains("postgresql://"), "the URL is a secret: {down:?}");
}
