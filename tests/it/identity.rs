//! Events that are emitted by flags, without a session or a key: a further attempt, or the one
//! that was just told.

use serde_json::Value;

use crate::harness::{EVIDENCE, Endpoint, RequestExt as _, Sandbox, plan_telemetry, wait_for};

fn emit(sandbox: &Sandbox, arguments: &[&str]) -> (String, String) {
    let ran = sandbox.run(&[&["--json", "emit", "--spec", "SPEC-KIT-001", "--type"], arguments].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let emitted: Value = serde_json::from_str(&ran.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&emitted["outcome"]), text(&emitted["event"]["idempotency_key"]))
}

fn told(endpoint: &Endpoint) -> Vec<(String, String)> {
    let of = |request: crate::harness::Request| {
        let body = request.told();
        assert!(body["event"].get("key_origin").is_none(), "{body}");
        (body["event"]["idempotency_key"].as_str().unwrap().to_owned(), body["event"]["status"].to_string())
    };
    endpoint.requests().into_iter().map(of).collect()
}

#[test]
fn a_further_attempt_is_told_and_the_same_again_is_not() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "include_events = [\"spec-auto.*.completed\"]")]);
    let serve = sandbox.serve();
    let stage =
        |status| emit(&sandbox, &["spec-auto.stage.completed", "--stage", "Plan", "--status", status]);
    let key = |n| format!("SPEC-KIT-001:plan:attempt-{n}");
    assert_eq!(stage("failure"), ("accepted".into(), key(1)));
    assert_eq!(stage("failure"), ("duplicate".into(), key(1)));
    assert_eq!(stage("success"), ("accepted".into(), key(2)));
    assert_eq!(stage("success"), ("duplicate".into(), key(2)));
    sandbox.wait_until_nothing_is_pending();
    serve.kill();
    // Over a kill, and in the inbox, the same holds.
    assert_eq!(stage("success").0, "queued");
    assert_eq!(stage("failure").0, "queued");
    let _serve = sandbox.serve();
    wait_for("the inbox to be empty", || sandbox.inbox().is_empty().then_some(()));
    endpoint.wait_for(3);
    let pipeline = |status| emit(&sandbox, &["spec-auto.pipeline.completed", "--status", status]);
    assert_eq!(pipeline("failure").0, "accepted");
    assert_eq!(pipeline("success").0, "accepted");
    assert_eq!(pipeline("success").0, "duplicate");
    endpoint.wait_for(5);
    let plans: Vec<_> = told(&endpoint).into_iter().filter(|(key, _)| key.contains(":plan:")).collect();
    let expected = [(1, "failure"), (2, "success"), (3, "failure")];
    assert_eq!(plans, expected.map(|(n, status)| (key(n), format!("\"{status}\""))));
}

#[test]
fn a_stage_that_is_watched_and_emitted_is_told_once_whichever_comes_first() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    wait_for("a baseline", || sandbox.spool().join("watch.jsonl").exists().then_some(()));
    let file = |session: &str| {
        let telemetry = plan_telemetry("SPEC-KIT-001", session).to_string();
        sandbox.write(&format!("{EVIDENCE}/commands/SPEC-KIT-001/spec-plan_{session}.json"), &telemetry)
    };
    let by_flags =
        || emit(&sandbox, &["spec-auto.stage.completed", "--stage", "Plan", "--status", "success"]).0;
    let seen = |session: &str| {
        let watched = std::fs::read_to_string(sandbox.spool().join("watch.jsonl")).unwrap_or_default();
        watched.contains(session).then_some(())
    };
    // By flags first, and the file a moment later.
    assert_eq!(by_flags(), "accepted");
    file("s1");
    wait_for("the file to be seen", || seen("s1"));
    // The file first: another session is another event, and flags say the same.
    file("s2");
    wait_for("the file to be seen", || seen("s2"));
    assert_eq!(by_flags(), "duplicate");
    // What is read by both is one event as well.
    let path = file("s3");
    assert_eq!(sandbox.run(&["emit", "--telemetry", path.to_str().unwrap()]).code, 0);
    wait_for("the file to be seen", || seen("s3"));
    sandbox.wait_until_nothing_is_pending();
    let keys: Vec<String> = told(&endpoint).into_iter().map(|(key, _)| key).collect();
    let expected =
        ["SPEC-KIT-001:plan:attempt-1", "SPEC-KIT-001:plan:attempt-1:s2", "SPEC-KIT-001:plan:attempt-1:s3"];
    assert_eq!(keys, expected);
}

#[test]
fn a_retry_under_the_same_session_is_told_with_its_verdict_however_it_is_seen() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let serve = sandbox.serve();
    wait_for("a baseline", || sandbox.spool().join("watch.jsonl").exists().then_some(()));
    let path = format!("{EVIDENCE}/commands/SPEC-KIT-001/spec-validate_s.json");
    let write = |second: u32, verdict: &str| {
        let telemetry = serde_json::json!({"command": "spec-ops-validate", "specId": "SPEC-KIT-001",
            "sessionId": "s", "timestamp": format!("2026-01-01T10:00:{second:02}Z"),
            "scenarios": [{"name": "a", "status": verdict}]});
        sandbox.write(&path, &telemetry.to_string())
    };
    let by_command = || {
        let ran = sandbox.run(&["--json", "emit", "--telemetry", &path]);
        assert_eq!(ran.code, 0, "{ran:?}");
        let emitted: Value = serde_json::from_str(&ran.stdout).unwrap();
        emitted["outcome"].as_str().unwrap().to_owned()
    };
    let first = "SPEC-KIT-001:validate:attempt-1:s".to_owned();
    let further = |second: u32| format!("{first}:2026-01-01T10:00:{second:02}Z");
    let (failure, success) = ("\"failure\"".to_owned(), "\"success\"".to_owned());
    let mut expected = vec![(first.clone(), failure.clone()), (further(5), success)];
    let is_told = |expected: &[(String, String)]| {
        endpoint.wait_for(expected.len());
        assert_eq!(by_command(), "duplicate");
        sandbox.wait_until_nothing_is_pending();
    };
    write(0, "failed");
    is_told(&expected[..1]);
    write(5, "passed");
    is_told(&expected);
    serve.kill();
    // The same verdict, and nothing new.
    write(7, "passed");
    let serve = sandbox.serve();
    assert_eq!(by_command(), "duplicate");
    serve.kill();
    // By a script, while nothing runs, and by the watcher afterwards.
    expected.push((further(10), failure));
    write(10, "failed");
    assert_eq!(by_command(), "queued");
    let _serve = sandbox.serve();
    is_told(&expected);
    assert_eq!(told(&endpoint), expected);
    let attempts: Vec<Value> =
        endpoint.requests().iter().map(|request| request.told()["pipeline"]["attempt"].clone()).collect();
    assert_eq!(attempts, [1, 2, 3].map(Value::from));
}
