//! `kill -9`, and what a new start makes of it.

use std::collections::HashSet;
use std::process::Stdio;

use serde_json::json;

use crate::harness::{Endpoint, RequestExt as _, Sandbox};

#[test]
fn what_waits_for_a_retry_at_a_kill_arrives_after_the_next_start() {
    let down = Endpoint::down();
    let sandbox = Sandbox::new(&[(
        "later",
        &down.url(),
        "initial_backoff_ms = 200\nmax_attempts = 1000\nbackoff_factor = 1.0",
    )]);
    let serve = sandbox.serve();
    let ids: HashSet<String> = (0..5)
        .map(|n| {
            let emitted = sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
            emitted["deliveries"][0]["id"].as_str().unwrap().to_owned()
        })
        .collect();
    // The spool's word comes after that of the evidence.
    crate::harness::wait_for("a first attempt of each", || {
        let spool = sandbox.spool_text("SPEC-1");
        let is_tried = |id: &String| spool.contains(&format!(r#"{{"attempted":{{"id":"{id}""#));
        ids.iter().all(is_tried).then_some(())
    });
    serve.kill();

    down.repair([200]);
    let endpoint = down;
    let _serve = sandbox.serve();
    sandbox.wait_for_finals("SPEC-1", 5);
    assert_eq!(arrived(&endpoint), ids);
    assert_eq!(endpoint.requests().len(), 5, "each arrives once");
    assert!(
        endpoint.requests().iter().all(|request| request.text_of("x-speckit-attempt") != "1"),
        "attempts go on being counted"
    );
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "k0")["outcome"], "duplicate", "known events stay known");
}

#[test]
fn an_accepted_event_outlives_a_kill_right_after_the_answer() {
    let endpoint = Endpoint::answering([crate::harness::Answer::hang()]);
    let sandbox = Sandbox::new(&[("hanging", &endpoint.url(), "")]);
    let serve = sandbox.serve();
    let ids: HashSet<String> = (0..20)
        .map(|n| {
            sandbox.emit("SPEC-1", "Plan", &format!("k{n}"))["deliveries"][0]["id"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    serve.kill();
    endpoint.release();
    let _serve = sandbox.serve();
    sandbox.wait_for_finals("SPEC-1", 20);
    let finals: HashSet<String> = sandbox
        .wait_for_finals("SPEC-1", 20)
        .iter()
        .map(|line| line["delivery"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(finals, ids);
}

/// What ended and is not on disk yet is sent again; while that is too much nothing more is sent.
#[test]
fn a_kill_under_load_has_few_requests_sent_again() {
    const MAX_IN_FLIGHT: usize = 2;
    const UNWRITTEN: usize = 4;
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), &format!("max_in_flight = {MAX_IN_FLIGHT}"))]);
    let (mut emitted, mut again) = (0, 0);
    for kill_at in [60, 150, 290] {
        let events: String = (emitted..emitted + 300)
            .map(|n| {
                let event = json!({"type": "spec-auto.stage.completed", "stage": "Plan", "status": "success",
                                   "idempotency_key": format!("k{n}")});
                json!({"event": event, "spec": {"id": "SPEC-1"}}).to_string() + "\n"
            })
            .collect();
        let file = sandbox.write("events.jsonl", &events);
        let serve = sandbox.serve();
        let mut emit = sandbox.command(&["emit", "--event", file.to_str().unwrap()]);
        let mut emit = emit.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        endpoint.wait_for(emitted + again + kill_at);
        serve.kill();
        // What was not accepted by then is queued, and delivered by the next one.
        assert!(emit.wait().unwrap().success());
        emitted += 300;
        let serve = sandbox.serve();
        crate::harness::wait_for("all to arrive", || (arrived(&endpoint).len() == emitted).then_some(()));
        sandbox.wait_until_nothing_is_pending();
        serve.kill();
        let before = again;
        again = endpoint.requests().len() - emitted;
        assert!(again - before <= MAX_IN_FLIGHT + UNWRITTEN, "{} came again", again - before);
    }
}

/// What a start would read for long is noted at rest, and no event is lost or sent again for that.
#[test]
fn after_a_rest_and_a_kill_a_start_reads_what_came_since_and_delivers_all_that_waits() {
    const AT_REST: usize = 5_000;
    const SINCE: usize = 40;
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "max_in_flight = 16")]);
    let serve = sandbox.serve();
    assert_eq!(sandbox.run(&["pause", "one"]).code, 0);
    let emit = |numbers: std::ops::Range<usize>| {
        let message = "x".repeat(2_000);
        let event = |n| {
            let event = json!({"type": "spec-kit.task.completed", "idempotency_key": format!("k{n}")});
            let task = json!({"id": format!("T{n}")});
            json!({"event": event, "spec": {"id": "SPEC-1"}, "task": task, "message": message}).to_string()
        };
        let events: Vec<String> = numbers.map(event).collect();
        let file = sandbox.write("events.jsonl", &events.join("\n"));
        assert_eq!(sandbox.run(&["emit", "--event", file.to_str().unwrap()]).code, 0);
    };
    emit(0..AT_REST);
    let noted = sandbox.spool().join("SPEC-1/sealed.bin");
    crate::harness::wait_for("what is sealed to be noted", || noted.exists().then_some(()));
    emit(AT_REST..AT_REST + SINCE);
    serve.kill();
    // A start that reads this file finds it damaged.
    let sealed = sandbox.spool().join("SPEC-1/spool-00000001.jsonl");
    let modified = std::fs::metadata(&sealed).unwrap().modified().unwrap();
    let first = std::fs::read_to_string(&sealed).unwrap();
    let at = first.find("xxxx").unwrap();
    let file = std::fs::File::options().write(true).open(&sealed).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"y", at as u64).unwrap();
    file.set_modified(modified).unwrap();
    let serve = sandbox.serve();
    assert!(noted.exists());
    let damaged = std::fs::read_dir(sandbox.spool().join("SPEC-1")).unwrap();
    let damaged =
        damaged.filter(|file| file.as_ref().unwrap().file_name().to_string_lossy().starts_with("damaged"));
    assert_eq!(damaged.count(), 0, "the sealed files are not read");
    std::os::unix::fs::FileExt::write_all_at(&file, b"x", at as u64).unwrap();
    assert_eq!(sandbox.run(&["resume", "one"]).code, 0);
    endpoint.wait_for(AT_REST + SINCE);
    sandbox.wait_until_nothing_is_pending();
    assert_eq!(arrived(&endpoint).len(), AT_REST + SINCE);
    assert_eq!(endpoint.requests().len(), AT_REST + SINCE, "each arrives once");
    serve.kill();
}

/// The ids of the deliveries that came.
fn arrived(endpoint: &Endpoint) -> HashSet<String> {
    endpoint.requests().iter().map(|request| request.text_of("x-speckit-id").to_owned()).collect()
}

#[test]
fn a_second_serve_stands_by_and_takes_over_when_the_first_is_killed() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let first = sandbox.serve();
    let second = sandbox.standby();
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "k1")["outcome"], "accepted");
    first.kill();
    sandbox.wait_for_owner(&second);
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "k1")["outcome"], "duplicate");
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "k2")["outcome"], "accepted");
    sandbox.wait_for_finals("SPEC-1", 2);
    let (code, log) = second.terminate();
    assert_eq!(code, 0, "{log}");
}

#[test]
fn a_runtime_that_is_stopped_holds_nobody_up_and_loses_nothing() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let serve = sandbox.serve();
    serve.signal("STOP");
    let arguments = ["--json", "emit", "--type", "spec-auto.stage.completed", "--spec", "SPEC-1"];
    let ran = sandbox.run(&[&arguments[..], &["--key", "k1", "--deadline", "4000"]].concat());
    assert!(ran.code == 0 && ran.stdout.contains("\"queued\""), "{ran:?}");
    serve.signal("CONT");
    sandbox.wait_for_finals("SPEC-1", 1);
    crate::harness::wait_for("the inbox to be empty", || sandbox.inbox().is_empty().then_some(()));
    assert_eq!(endpoint.requests().len(), 1, "it came twice and is delivered once");
}

#[test]
fn a_deadline_at_shutdown_leaves_the_rest_on_disk() {
    let endpoint = Endpoint::answering([crate::harness::Answer::hang()]);
    let sandbox = Sandbox::new(&[("hanging", &endpoint.url(), "per_request_timeout_ms = 60000")]);
    let serve = sandbox.serve_with(&["--drain-deadline", "50"]);
    sandbox.emit("SPEC-1", "Plan", "k1");
    endpoint.wait_for(1);
    let (code, log) = serve.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(log.contains("stopped; 1 delivery pending"), "{log}");
    assert!(!sandbox.spool().join("runtime.json").exists());
    endpoint.release();
    let _serve = sandbox.serve();
    sandbox.wait_for_finals("SPEC-1", 1);
}
