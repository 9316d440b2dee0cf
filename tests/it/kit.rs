//! The kit for tests of hosts, used as a host would.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use spec_notify::testing::{Answer, Endpoint, Run, Sandbox, Tls, Unverified, wait_for};
use spec_notify::{Config, EventKind, Runtime, Stage, Status, WatchFrom};

const PROGRAM: &str = env!("CARGO_BIN_EXE_spec-notify");

const FAST: &str = "initial_backoff_ms = 1\njitter_ms = 0";

/// What a test that fails says.
fn message(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).unwrap_err();
    panic.downcast_ref::<String>().unwrap().clone()
}

#[test]
fn a_run_is_told_stage_by_stage_and_signed() {
    let endpoint = Endpoint::answering([503, 500, 200]);
    let sandbox = Sandbox::new().subscribe_with("host", &endpoint.url(), FAST);
    let runtime = sandbox.runtime();
    let run = Run::of("SPEC-KIT-065");
    run.emit(&runtime.handle());
    let requests = run.assert_told_to(&endpoint);
    assert_eq!(requests.len(), 7);
    for request in &requests {
        assert_eq!(request.verify(sandbox.secret()), Ok(()));
        assert_eq!(request.verify("another secret"), Err(Unverified::SpecKit));
        assert_eq!(request.event().unwrap().spec.id.as_str(), "SPEC-KIT-065");
    }
    assert_eq!(requests[6].event_type(), Some(EventKind::PipelineCompleted));
    assert_eq!(sandbox.wait_for_ends("SPEC-KIT-065", 7).len(), 7);
    assert_eq!(runtime.drain_blocking(Duration::from_secs(10)).pending, 0);
}

#[test]
fn a_run_that_fails_and_the_next_one_are_told_apart() {
    let endpoint = Endpoint::start();
    let sandbox = Sandbox::new().subscribe("host", &endpoint.url());
    let runtime = sandbox.runtime();
    let failed = Run::of("SPEC-1").failing_at(Stage::Implement);
    let stages = [
        (Stage::Plan, Status::Success),
        (Stage::Tasks, Status::Success),
        (Stage::Implement, Status::Failure),
    ];
    assert_eq!(failed.stages(), stages);
    failed.emit(&runtime.handle());
    assert_eq!(failed.assert_told_to(&endpoint).len(), 3);
    let second = Run::of("SPEC-1").numbered(2);
    second.emit(&runtime.handle());
    assert_eq!(second.assert_told_to(&endpoint).len(), 7);
    assert_eq!(failed.assert_told_to(&endpoint).len(), 3, "what came of the second is none of its");
}

#[test]
fn a_test_that_fails_says_what_came() {
    let endpoint = Endpoint::start().with_patience(Duration::from_millis(200));
    assert_eq!(message(|| drop(endpoint.wait_for(1))), "no 1 requests within 200ms, but none came");
    let sandbox = Sandbox::new().subscribe("host", &endpoint.url());
    let runtime = sandbox.runtime();
    Run::of("SPEC-1").up_to(Stage::Plan).emit(&runtime.handle());
    endpoint.wait_for(1);
    let came = "1 came:\n  1. POST /hook: spec-auto.stage.completed SPEC-1 Plan success (attempt 1)";
    let more = message(|| drop(endpoint.wait_until(|requests| requests.len() > 1)));
    assert_eq!(more, format!("not as expected within 200ms, but {came}"));
    let whole = message(|| drop(Run::of("SPEC-1").assert_told_to(&endpoint)));
    assert!(whole.ends_with(came), "{whole}");
    let other = Run::of("SPEC-1").failing_at(Stage::Plan);
    let other = message(|| drop(other.assert_told_to(&endpoint)));
    assert!(other.contains("Some(Failure)") && other.contains(came), "{other}");
}

#[test]
fn an_event_that_is_not_accepted_fails_the_test() {
    let sandbox = Sandbox::new().subscribe("host", &Endpoint::down().url());
    let runtime = sandbox.runtime();
    let run = Run::of("SPEC-1").up_to(Stage::Plan);
    run.emit(&runtime.handle());
    let twice = message(|| run.emit(&runtime.handle()));
    assert!(twice.ends_with("was not accepted but Duplicate"), "{twice}");
}

#[test]
fn the_program_tells_what_is_written_into_a_git_repo() {
    let endpoint = Endpoint::start();
    let sandbox = Sandbox::new().with_git().subscribe("host", &endpoint.url());
    let serve = sandbox.serve(PROGRAM, &["--from-start"]);
    let run = Run::of("SPEC-1");
    run.write_telemetry(&sandbox);
    let requests = run.assert_told_to(&endpoint);
    assert_eq!(requests[0].event().unwrap().source.unwrap().branch.as_deref(), Some("main"));
    let (code, log) = serve.terminate();
    assert_eq!(code, 0, "{log}");
}

#[test]
fn a_runtime_that_watches_tells_what_is_written() {
    let endpoint = Endpoint::start();
    let sandbox = Sandbox::new().settings("max_pending = 50").subscribe("host", &endpoint.url());
    let config: Config = sandbox.config().watching(WatchFrom::Start);
    let runtime = Runtime::start_blocking(config, sandbox.environment()).unwrap();
    let run = Run::of("SPEC-1").failing_at(Stage::Audit);
    run.write_telemetry(&sandbox);
    run.assert_told_to(&endpoint);
    runtime.drain_blocking(Duration::from_secs(10));
}

#[test]
fn an_endpoint_that_is_down_has_its_port_and_gets_what_waits_when_it_is_repaired() {
    let endpoint = Endpoint::down();
    let once = format!("{FAST}\nmax_attempts = 1");
    let sandbox = Sandbox::new().subscribe_with("patient", &endpoint.url(), FAST).subscribe_with(
        "hasty",
        &endpoint.url_of("/other"),
        &once,
    );
    let runtime = sandbox.runtime();
    Run::of("SPEC-1").up_to(Stage::Plan).emit(&runtime.handle());
    let ended = sandbox.wait_for_ends("SPEC-1", 1);
    assert_eq!((&ended[0]["subscription"], &ended[0]["state"]), (&"hasty".into(), &"dead_letter".into()));
    // The evidence has it first.
    wait_for("the dead letter", || (sandbox.dead_letters("SPEC-1").len() == 1).then_some(()));
    assert_eq!((endpoint.connections(), endpoint.requests().len()), (0, 0));
    endpoint.repair([200]);
    let request = endpoint.wait_for(1).remove(0);
    assert_eq!(request.target(), "/hook");
    assert!(request.attempt() > Some(1) && request.delivery_id().is_some());
}

#[test]
fn https_is_trusted_by_its_certificate() {
    let tls = Tls::self_signed("127.0.0.1");
    let endpoint = Endpoint::over_tls(&tls, [Answer::close().unasked(), 200.into()]);
    let lines = format!("{FAST}\nca_file = \"ca.pem\"");
    let sandbox = Sandbox::new();
    sandbox.write("ca.pem", tls.certificate());
    let sandbox = sandbox.subscribe_with("host", &endpoint.url(), &lines);
    let runtime = sandbox.runtime();
    Run::of("SPEC-1").up_to(Stage::Plan).emit(&runtime.handle());
    assert_eq!(endpoint.wait_for(1)[0].attempt(), Some(2), "the first connection was closed");
}

#[tokio::test]
async fn in_an_async_test_the_same_calls_work() {
    let endpoint = Endpoint::deciding(|request| match request.attempt() {
        Some(1) => 500.into(),
        _ => Answer::status(200),
    });
    let sandbox = Sandbox::new().subscribe_with("host", &endpoint.url(), FAST);
    let runtime = sandbox.runtime();
    for event in Run::of("SPEC-1").up_to(Stage::Tasks).events() {
        runtime.handle().emit(event).await.unwrap();
    }
    assert_eq!(endpoint.wait_for(4).len(), 4);
}
