//! What is under way at an endpoint, and what is held back.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use spec_notify::{Runtime, SubscriptionId};

use crate::embed::setting;
use crate::harness::{Answer, Endpoint, Sandbox, wait_for};

fn json(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let ran = sandbox.run(&[&["--json"], arguments].concat());
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn count(rows: &Value) -> usize {
    rows.as_array().unwrap().len()
}

#[test]
fn in_flight_are_the_requests_that_the_endpoint_sees() {
    let endpoint = Endpoint::answering([Answer::hang()]);
    let sandbox = Sandbox::with_settings(
        "max_concurrency = 2",
        &[("one", &endpoint.url(), "max_in_flight = 8\nper_request_timeout_ms = 60000")],
    );
    let _serve = sandbox.serve();
    for n in 0..5 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    // Those who never succeeded share half of the permits.
    endpoint.wait_for(1);
    let looked = || {
        let status = json(&sandbox, &["status"]);
        let one = &status["subscriptions"][0];
        let both = (one["pending"].as_u64().unwrap(), one["in_flight"].as_u64().unwrap());
        let listed = json(&sandbox, &["list", "--state", "in_flight"]);
        let waits = json(&sandbox, &["list", "--state", "pending"]);
        (both, count(&listed), count(&waits), status["pending"].as_u64().unwrap())
    };
    assert_eq!(looked(), ((4, 1), 1, 4, 5));
    assert_eq!(endpoint.requests().len(), 1);
    endpoint.release();
    sandbox.wait_for_finals("SPEC-1", 5);
    wait_for("nothing to be left", || (looked() == ((0, 0), 0, 0, 0)).then_some(()));
}

/// That one subscription with this id has this many pending, and is paused or not.
fn one(sandbox: &Sandbox) -> (String, u64) {
    let status = json(sandbox, &["status"]);
    let one = &status["subscriptions"][0];
    (one["health"].as_str().unwrap().to_owned(), one["pending"].as_u64().unwrap())
}

#[test]
fn a_pause_holds_over_kills_and_reloads_and_is_shown_everywhere() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let serve = sandbox.serve();
    let report = json(&sandbox, &["pause", "one"]);
    assert_eq!((&report["changed"], report["paused"]["by"].is_string()), (&Value::Bool(true), true));
    assert_eq!(json(&sandbox, &["pause", "one"])["changed"], false);
    for n in 0..3 {
        assert_eq!(sandbox.emit("SPEC-1", "Plan", &format!("k{n}"))["outcome"], "accepted");
    }
    let is_held = || {
        let said = sandbox.run(&["status", "--banner"]);
        assert!(said.code == 1 && said.stdout.contains("one paused for"), "{said:?}");
        let said = sandbox.run(&["status"]);
        assert!(said.stdout.contains("3 deliveries wait") && said.stdout.contains("resume one"), "{said:?}");
        let listed = json(&sandbox, &["list"]);
        let rows = listed.as_array().unwrap();
        assert!(rows.iter().all(|row| row["paused"] == true && row["state"] == "pending"), "{rows:?}");
        assert!(sandbox.run(&["list"]).stdout.contains("paused"));
        assert_eq!((one(&sandbox), rows.len()), (("paused".to_owned(), 3), 3));
    };
    is_held();
    serve.kill();
    is_held();
    let serve = sandbox.serve();
    assert_eq!(sandbox.run(&["reload"]).code, 0);
    is_held();
    assert_eq!(endpoint.requests().len(), 0, "nothing was sent");
    let drained = sandbox.run(&["drain", "--no-watch", "--timeout", "20"]);
    assert!(drained.code == 0 && drained.stderr.contains("3 deliveries wait for one"), "{drained:?}");

    let other = sandbox.run(&["pause", "other"]);
    assert!(other.code == 1 && other.stderr.contains("there are: one"), "{other:?}");
    assert_eq!(json(&sandbox, &["resume", "one"])["paused"], Value::Null);
    sandbox.wait_for_finals("SPEC-1", 3);
    serve.kill();
    let _serve = sandbox.serve();
    // After a kill the evidence says that it was tried.
    wait_for("its health", || (one(&sandbox) == ("healthy".to_owned(), 0)).then_some(()));
    assert_eq!(json(&sandbox, &["resume", "one"])["changed"], false);
}

#[test]
fn a_request_under_way_ends_and_who_waits_for_its_turn_waits_on() {
    let endpoint = Endpoint::answering([Answer::hang()]);
    let sandbox = Sandbox::with_settings(
        "max_concurrency = 2\nmax_pending = 4",
        &[("one", &endpoint.url(), "max_in_flight = 8\nper_request_timeout_ms = 60000")],
    );
    let _serve = sandbox.serve();
    for n in 0..4 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    endpoint.wait_for(1);
    json(&sandbox, &["pause", "one"]);
    endpoint.release();
    sandbox.wait_for_finals("SPEC-1", 1);
    wait_for("the others to be held back", || (one(&sandbox) == ("paused".to_owned(), 3)).then_some(()));
    sandbox.emit("SPEC-1", "Plan", "k4");
    assert_eq!(endpoint.requests().len(), 1);
    // Bounded as ever: the oldest makes room.
    sandbox.emit("SPEC-1", "Plan", "k5");
    let finals = sandbox.wait_for_finals("SPEC-1", 2);
    assert_eq!((&finals[1]["state"], &finals[1]["idempotency_key"]), (&"dropped".into(), &"k1".into()));
    json(&sandbox, &["resume", "one"]);
    sandbox.wait_for_finals("SPEC-1", 6);
    assert_eq!(endpoint.requests().len(), 5);
}

#[test]
fn without_a_runtime_it_holds_too_and_nothing_is_sent_meanwhile() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "k1")["outcome"], "queued");
    assert_eq!(json(&sandbox, &["pause", "one"])["changed"], true);
    assert_eq!(json(&sandbox, &["pause", "one"])["changed"], false);
    let drained = json(&sandbox, &["drain", "--no-watch", "--timeout", "20"]);
    assert_eq!(
        (&drained["paused"][0]["subscription"], &drained["paused"][0]["pending"]),
        (&"one".into(), &1.into())
    );
    assert_eq!(one(&sandbox), ("paused".to_owned(), 1));
    assert_eq!(endpoint.requests().len(), 0);

    // What a person asks for by name goes out, and says so.
    let tested = sandbox.run(&["test", "SPEC-1", "--subscription", "one"]);
    assert!(tested.code == 0 && tested.stderr.contains("one is paused by"), "{tested:?}");
    assert_eq!(endpoint.requests().len(), 1);

    assert_eq!(json(&sandbox, &["resume", "one"])["changed"], true);
    assert_eq!(endpoint.requests().len(), 1);
    assert_eq!(sandbox.run(&["drain", "--no-watch", "--timeout", "20"]).code, 0);
    assert_eq!(endpoint.requests().len(), 2);
}

/// Killed at any moment, a confirmed pause holds, and a confirmed end lets everything go.
#[test]
fn kills_between_do_not_let_a_paused_delivery_go() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let mut sent = 0;
    for round in 0..6 {
        let serve = sandbox.serve();
        let paused = sandbox.run(&["pause", "one"]);
        assert_eq!(paused.code, 0, "{paused:?}");
        sandbox.emit("SPEC-1", "Plan", &format!("k{round}"));
        if round % 2 == 0 {
            // The spool goes, and with it the pause: both are written again.
            std::fs::remove_dir_all(sandbox.spool().join(".paused")).unwrap();
            wait_for("it to be there again", || {
                sandbox.spool().join(".paused/one.json").exists().then_some(())
            });
        }
        serve.kill();
        let serve = sandbox.serve();
        assert_eq!(one(&sandbox), ("paused".to_owned(), 1));
        assert_eq!(endpoint.requests().len(), sent);
        serve.kill();
        assert_eq!(sandbox.run(&["resume", "one"]).code, 0);
        let serve = sandbox.serve();
        sent += 1;
        sandbox.wait_for_finals("SPEC-1", sent);
        assert_eq!(endpoint.requests().len(), sent);
        serve.kill();
    }
}

#[test]
fn however_pauses_and_resumes_cross_the_runtime_says_what_the_disk_has() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let serve = sandbox.serve();
    for round in 0..3 {
        std::thread::scope(|scope| {
            for n in 0..6 {
                let command = if n % 2 == 0 { "pause" } else { "resume" };
                let sandbox = &sandbox;
                scope.spawn(move || assert_eq!(sandbox.run(&[command, "one"]).code, 0));
            }
        });
        let is_paused = one(&sandbox).0 == "paused";
        assert_eq!(sandbox.spool().join(".paused/one.json").exists(), is_paused, "round {round}");
    }
    json(&sandbox, &["pause", "one"]);
    sandbox.emit("SPEC-1", "Plan", "k1");
    assert_eq!(one(&sandbox), ("paused".to_owned(), 1));
    json(&sandbox, &["resume", "one"]);
    sandbox.wait_for_finals("SPEC-1", 1);
    assert_eq!((endpoint.requests().len(), serve.terminate().0), (1, 0));
}

/// As many as one look of an actor finds answered: their answers are not taken in their order.
#[test]
fn changes_that_a_host_asks_for_together_end_as_the_disk_has_them() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let (config, environment) = setting(sandbox.path());
    let runtime = Runtime::start_blocking(config, environment).unwrap();
    let (handle, one) = (runtime.handle(), "one".parse::<SubscriptionId>().unwrap());
    actix_rt::System::new().block_on(async {
        for round in 0..50 {
            let ask = |n: usize| {
                let (handle, one) = (handle.clone(), one.clone());
                let pauses = (n + round).is_multiple_of(2);
                async move { if pauses { handle.pause(one).await } else { handle.resume(one).await } }
            };
            for changed in join_all((0..8).map(ask)).await {
                changed.unwrap();
            }
            let status = handle.status().await.unwrap();
            let is_paused = status.subscriptions[0].paused.is_some();
            assert_eq!(sandbox.spool().join(".paused/one.json").exists(), is_paused, "round {round}");
        }
    });
    assert_eq!(runtime.drain_blocking(Duration::from_secs(5)).pending, 0);
}
