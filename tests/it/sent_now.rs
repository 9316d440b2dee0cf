//! What an operator has sent now, a sample or a dead letter, beside all that may come between.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use spec_notify::{Runtime, SpecId};

use crate::embed::setting;
use crate::harness::{Answer, Endpoint, Ran, Sandbox, wait_for};

/// Long enough for what the test itself decides when it ends.
const PATIENT: &str = "max_attempts = 1\nper_request_timeout_ms = 60000";

/// As many dead letters as asked for, of an endpoint that is hanging since.
fn dead(sandbox: &Sandbox, endpoint: &Endpoint, count: usize) -> Vec<String> {
    for n in 0..count {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    sandbox.wait_for_finals("SPEC-1", count);
    endpoint.repair([Answer::hang()]);
    let listed = sandbox.run(&["--json", "list", "--state", "dead_letter"]);
    let listed: Vec<Value> = serde_json::from_str(&listed.stdout).unwrap();
    let ids: Vec<String> = listed.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), count);
    ids
}

/// Runs a command, and `meanwhile` once a request of it is there; then the endpoint answers.
fn beside(sandbox: &Sandbox, endpoint: &Endpoint, command: &[&str], meanwhile: impl FnOnce()) -> Ran {
    let before = endpoint.requests().len();
    std::thread::scope(|scope| {
        let running = scope.spawn(|| sandbox.run(command));
        endpoint.wait_for(before + 1);
        meanwhile();
        endpoint.release();
        running.join().unwrap()
    })
}

fn edit(sandbox: &Sandbox, from: &str, to: &str) {
    let config = sandbox.path().join(".spec-kit/config.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(config, text.replace(from, to)).unwrap();
}

#[test]
fn a_runtime_that_is_told_to_stop_lets_what_an_operator_asked_for_end() {
    for replays in [false, true] {
        let endpoint = Endpoint::answering([400]);
        let sandbox = Sandbox::new(&[("one", &endpoint.url(), PATIENT)]);
        let serve = sandbox.serve();
        let ids = dead(&sandbox, &endpoint, 1);
        let test = ["test", "SPEC-1", "--subscription", "one"];
        let replay = ["replay", &ids[0]];
        let command: &[&str] = if replays { &replay } else { &test };
        let ran = beside(&sandbox, &endpoint, command, || {
            serve.signal("TERM");
            wait_for("it to hear that", || serve.log().contains("stopping").then_some(()));
        });
        assert_eq!(ran.code, 0, "{ran:?}");
        wait_for("it to stop", || serve.log().contains("stopped;").then_some(()));
        assert_eq!(sandbox.dead_letters("SPEC-1").is_empty(), replays);
        let attempts = sandbox.evidence("SPEC-1");
        assert_eq!(attempts.iter().filter(|line| line["record"] == "attempt").count(), 2);
    }
}

#[test]
fn a_pause_stops_a_replay_of_all_at_the_next() {
    let endpoint = Endpoint::answering([400]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), PATIENT)]);
    let _serve = sandbox.serve();
    dead(&sandbox, &endpoint, 4);
    let ran = beside(&sandbox, &endpoint, &["replay", "--all", "--rate", "1000"], || {
        assert_eq!(sandbox.run(&["pause", "one"]).code, 0);
    });
    assert!(ran.code == 1 && ran.stdout.contains("3 not tried: one is paused by"), "{ran:?}");
    assert_eq!((endpoint.requests().len(), sandbox.dead_letters("SPEC-1").len()), (5, 3));
}

#[test]
fn what_is_gone_before_its_turn_is_no_failure_of_the_endpoint() {
    let endpoint = Endpoint::answering([400]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), PATIENT)]);
    let _serve = sandbox.serve();
    let mut ids = dead(&sandbox, &endpoint, 9);
    ids.reverse();
    let ran = beside(&sandbox, &endpoint, &["replay", "--all", "--rate", "1000"], || {
        for id in &ids[1..8] {
            assert_eq!(sandbox.run(&["discard", id, "--yes"]).code, 0);
        }
    });
    let said = &ran.stdout;
    assert!(ran.code == 1 && said.contains("2 dead letters replayed: 2 delivered\n"), "{ran:?}");
    assert!(said.contains("7 not tried: there is no dead letter: it arrived or was discarded"), "{ran:?}");
    assert!(sandbox.dead_letters("SPEC-1").is_empty());
}

#[test]
fn what_waits_for_its_turn_is_not_sent_after_what_comes_between() {
    let (slow, endpoint, other) =
        (Endpoint::answering([Answer::hang()]), Endpoint::answering([400]), Endpoint::start());
    let subscriptions = [("slow", &*slow.url(), PATIENT), ("one", &*endpoint.url(), PATIENT)];
    let sandbox = Sandbox::with_settings("max_concurrency = 1", &subscriptions);
    let _serve = sandbox.serve();
    // Only the `test` below takes the one permit for it.
    assert_eq!(sandbox.run(&["pause", "slow"]).code, 0);
    let ids = dead(&sandbox, &endpoint, 1);
    let before = endpoint.requests().len();
    let (slow_sandbox, first) = (&sandbox, &ids[0]);
    std::thread::scope(|scope| {
        scope.spawn(move || slow_sandbox.run(&["test", "SPEC-1", "--subscription", "slow"]));
        slow.wait_for(1);
        sandbox.emit("SPEC-1", "Tasks", "waits");
        // Once one is refused because of the other, that one waits.
        let both = [(); 2].map(|()| scope.spawn(move || slow_sandbox.run(&["replay", first])));
        wait_for("one to wait", || both.iter().any(|replay| replay.is_finished()).then_some(()));
        assert_eq!(sandbox.run(&["discard", first, "--yes"]).code, 0);
        edit(&sandbox, &endpoint.url(), &other.url());
        assert_eq!(sandbox.run(&["reload"]).code, 0);
        slow.release();
        let ran = both.map(|replay| replay.join().unwrap());
        let said = ran.iter().map(|ran| ran.stderr.as_str()).collect::<String>();
        assert!(ran.iter().all(|ran| ran.code == 1), "{ran:?}");
        assert!(said.contains("is being sent again already") && said.contains("nothing was sent"), "{said}");
    });
    assert_eq!(other.wait_for(1).len(), 1, "what waited goes to the URL of now");
    assert_eq!((endpoint.requests().len(), sandbox.dead_letters("SPEC-1").len()), (before, 0));
}

#[test]
fn of_many_that_ask_for_the_same_dead_letter_each_request_is_one_attempt_of_it() {
    let endpoint = Endpoint::answering([400]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), PATIENT)]);
    let serve = sandbox.serve();
    let ids = dead(&sandbox, &endpoint, 1);
    endpoint.repair([400]);
    assert_eq!(serve.terminate().0, 0);
    let (config, environment) = setting(sandbox.path());
    let runtime = Runtime::start_blocking(config, environment).unwrap();
    let (handle, spec, id) = (runtime.handle(), "SPEC-1".parse::<SpecId>().unwrap(), ids[0].parse().unwrap());
    actix_rt::System::new().block_on(async {
        let many = (0..8).map(async |_| {
            for _ in 0..50 {
                drop(handle.replay(spec.clone(), id).await);
            }
        });
        join_all(many).await;
    });
    assert_eq!(runtime.drain_blocking(Duration::from_secs(5)).pending, 0);
    let letters = sandbox.dead_letters("SPEC-1");
    assert_eq!(letters[0]["attempts"].as_array().unwrap().len(), endpoint.requests().len());
}

#[test]
fn a_replay_that_sends_nothing_adds_nothing_to_the_dead_letter() {
    let endpoint = Endpoint::answering([400]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), PATIENT)]);
    let serve = sandbox.serve();
    let ids = dead(&sandbox, &endpoint, 1);
    let before = sandbox.dead_letters("SPEC-1");
    serve.kill();
    edit(&sandbox, PATIENT, &format!("{PATIENT}\ndry_run = true"));
    let ran = sandbox.run(&["replay", &ids[0]]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!((sandbox.dead_letters("SPEC-1"), endpoint.requests().len()), (before, 1));
}
