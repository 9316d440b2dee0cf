//! The runtime inside a host: on tokio, on actix, and on plain threads.

use std::path::Path;
use std::time::Duration;

use spec_notify::{Config, LoadOptions};
use spec_notify::{Environment, Receipt, Runtime};
use spec_notify::{Event, EventKind, IdempotencyKey, SpecId};

use crate::harness::{Endpoint, SECRET, Sandbox};

pub(crate) fn setting(repo: &Path) -> (Config, Environment) {
    let environment = Environment::fixed([("TEST_SECRET", SECRET)]);
    let loaded = LoadOptions::in_dir(repo).repo(repo).load(&environment);
    (loaded.into_config().unwrap(), environment)
}

pub(crate) fn event(key: &str) -> Event {
    let spec: SpecId = "SPEC-1".parse().unwrap();
    Event::new(EventKind::PipelineCompleted, spec, key.parse::<IdempotencyKey>().unwrap())
}

fn start() -> (Endpoint, Sandbox, Runtime) {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("host", &endpoint.url(), "")]);
    let (config, environment) = setting(sandbox.path());
    let runtime = Runtime::start_blocking(config, environment).unwrap();
    (endpoint, sandbox, runtime)
}

fn assert_accepted(receipt: &Receipt) {
    assert!(matches!(receipt, Receipt::Accepted(deliveries) if deliveries.len() == 1), "{receipt:?}");
}

#[test]
fn in_a_tokio_host() {
    let (endpoint, _sandbox, runtime) = start();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    tokio.block_on(async {
        let tasks: Vec<_> = (0..50)
            .map(|n| {
                let handle = runtime.handle();
                tokio::spawn(async move { handle.emit(event(&format!("k{n}"))).await.unwrap() })
            })
            .collect();
        for task in tasks {
            assert_accepted(&task.await.unwrap());
        }
        assert_eq!(runtime.handle().emit(event("k0")).await.unwrap(), Receipt::Duplicate);
        runtime.handle().idle().await;
    });
    assert_eq!(endpoint.requests().len(), 50);
    assert_eq!(runtime.drain_blocking(Duration::from_secs(5)).pending, 0);
}

#[test]
fn in_an_actix_host() {
    let (endpoint, _sandbox, runtime) = start();
    actix_rt::System::new().block_on(async {
        assert_accepted(&runtime.handle().emit(event("k1")).await.unwrap());
        runtime.handle().idle().await;
    });
    assert_eq!(endpoint.requests().len(), 1);
    assert_eq!(runtime.drain_blocking(Duration::from_secs(5)).pending, 0);
}

#[test]
fn on_plain_threads() {
    let (endpoint, _sandbox, runtime) = start();
    std::thread::scope(|scope| {
        for n in 0..8 {
            let handle = runtime.handle();
            scope.spawn(move || {
                assert_accepted(
                    &handle.emit_blocking(event(&format!("k{n}")), Duration::from_secs(10)).unwrap(),
                );
            });
        }
    });
    endpoint.wait_for(8);
    assert_eq!(runtime.drain_blocking(Duration::from_secs(5)).pending, 0);
}

#[test]
fn several_runtimes_live_side_by_side() {
    let (first, second) = (start(), start());
    for (endpoint, _sandbox, runtime) in [first, second] {
        runtime.handle().emit_blocking(event("same"), Duration::from_secs(10)).unwrap();
        assert_eq!(endpoint.wait_for(1).len(), 1);
        runtime.drain_blocking(Duration::from_secs(5));
    }
}

#[test]
fn switched_off_there_is_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (config, environment) = setting(dir.path());
    let runtime = Runtime::start_blocking(config, environment).unwrap();
    assert_eq!(runtime.handle().emit_blocking(event("k"), Duration::from_secs(1)).unwrap(), Receipt::Off);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn after_the_end_an_emit_goes_to_the_inbox() {
    let (_endpoint, sandbox, runtime) = start();
    let handle = runtime.handle();
    runtime.drain_blocking(Duration::from_secs(5));
    assert_eq!(handle.emit_blocking(event("late"), Duration::from_secs(5)).unwrap(), Receipt::Queued);
    assert_eq!(sandbox.inbox().len(), 1);
}

#[test]
fn a_second_runtime_goes_through_the_first_and_takes_over_when_it_ends() {
    let (endpoint, sandbox, first) = start();
    let (config, environment) = setting(sandbox.path());
    let second = Runtime::start_blocking(config, environment).unwrap();
    let handle = second.handle();
    let emit = |key: &str| handle.emit_blocking(event(key), Duration::from_secs(10)).unwrap();
    assert_accepted(&emit("k1"));
    assert_eq!(emit("k1"), Receipt::Duplicate);
    endpoint.wait_for(1);
    let spec: SpecId = "SPEC-1".parse().unwrap();
    let sent = handle.block(Duration::from_secs(10), handle.test(spec, "host".parse().unwrap()));
    assert_eq!(sent.unwrap().unwrap().outcome.as_str(), "delivered");
    first.drain_blocking(Duration::from_secs(5));
    crate::harness::wait_for("the second to own the spool", || {
        let key = format!("k{:?}", std::time::Instant::now());
        matches!(emit(&key), Receipt::Accepted(_)).then_some(())
    });
    assert_eq!(emit("k1"), Receipt::Duplicate, "what the first accepted stays known");
    second.drain_blocking(Duration::from_secs(5));
}
