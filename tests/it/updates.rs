//! What a host sees of its runtime without asking it: the state, the headline, and what ended.

use std::sync::Arc;
use std::time::Duration;

use spec_notify::{
    DeliveryState, Ended, Environment, Event, EventKind, Handle, LoadOptions, Query, RequestError, Runtime,
    RuntimeState, Snapshot, Stage, Status, Updates,
};

use crate::embed::setting;
use crate::harness::{Endpoint, PATIENCE, Sandbox, wait_for};

fn stage(stage: Stage, key: &str) -> Event {
    let mut event = Event::new(EventKind::StageCompleted, "SPEC-1".parse().unwrap(), key.parse().unwrap());
    (event.event.stage, event.event.status) = (Some(stage), Some(Status::Success));
    event
}

fn runtime(sandbox: &Sandbox) -> Runtime {
    let (config, environment) = setting(sandbox.path());
    Runtime::start_blocking(config, environment).unwrap()
}

/// Waits for a snapshot of which this holds.
fn until(updates: &mut Updates, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    loop {
        let snapshot = updates.snapshot();
        if holds(&snapshot) {
            return snapshot;
        }
        assert!(updates.changed_blocking(PATIENCE), "{what}: {snapshot:?}");
    }
}

fn until_ended(updates: &mut Updates, count: usize) -> Vec<Arc<Ended>> {
    let mut ended = Vec::new();
    while ended.len() < count {
        let ends = updates.ended();
        assert_eq!(ends.missed, 0);
        ended.extend(ends.deliveries);
        if ended.len() < count {
            assert!(updates.changed_blocking(PATIENCE), "{ended:?}");
        }
    }
    ended
}

fn dead_letters(snapshot: &Snapshot) -> usize {
    let status = snapshot.status.iter();
    status.flat_map(|status| &status.subscriptions).map(|one| one.dead_letters).sum()
}

#[test]
fn a_watcher_sees_what_ended_and_the_words_of_the_banner() {
    let endpoint = Endpoint::answering([200, 400]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let runtime = runtime(&sandbox);
    let handle = runtime.handle();
    let mut updates = handle.watch();
    let quiet = until(&mut updates, "a first look", |snapshot| snapshot.status.is_some());
    assert_eq!((quiet.state.clone(), quiet.headline()), (RuntimeState::Running, None));
    handle.emit_blocking(stage(Stage::Plan, "k1"), PATIENCE).unwrap();
    let first = until_ended(&mut updates, 1);
    handle.emit_blocking(stage(Stage::Tasks, "k2"), PATIENCE).unwrap();
    let second = until_ended(&mut updates, 1);
    for (ended, stage, state, status) in [
        (&first[0], Stage::Plan, DeliveryState::Delivered, 200),
        (&second[0], Stage::Tasks, DeliveryState::DeadLetter, 400),
    ] {
        let row = &ended.delivery;
        assert_eq!((row.subscription.as_str(), row.spec.as_str()), ("one", "SPEC-1"));
        assert_eq!(
            (row.event, row.stage, row.status),
            (EventKind::StageCompleted, Some(stage), Some(Status::Success))
        );
        assert_eq!((row.state, row.attempts, row.last_status), (state, 1, Some(status)));
    }
    assert!(second[0].delivery.hint.is_some());
    let ill = until(&mut updates, "the dead letter", |snapshot| dead_letters(snapshot) == 1);
    let headline = ill.headline().unwrap();
    assert!(headline.contains("1 dead letter"), "{headline}");
    let banner = sandbox.run(&["status", "--banner"]);
    let words = |line: &str| line.split(" for ").next().unwrap().trim().to_owned();
    assert_eq!(words(&banner.stdout), words(&headline), "the same words, but for the time");
    // A listing says the same of each.
    let listed = handle.list_blocking(Query::newest(5), PATIENCE).unwrap().deliveries;
    let mut stages: Vec<_> = listed.iter().map(|row| (row.stage, row.status)).collect();
    stages.sort();
    assert_eq!(
        stages,
        [(Some(Stage::Plan), Some(Status::Success)), (Some(Stage::Tasks), Some(Status::Success))]
    );
    let mut other = updates.clone();
    assert_eq!(runtime.drain_blocking(PATIENCE).pending, 0);
    until(&mut updates, "the end", |snapshot| snapshot.state == RuntimeState::Stopped);
    assert!(!updates.changed_blocking(PATIENCE), "nothing changes any more");
    until(&mut other, "the end", |snapshot| snapshot.state == RuntimeState::Stopped);
}

#[test]
fn what_waits_is_seen_while_it_waits_and_when_it_is_gone() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let runtime = runtime(&sandbox);
    let handle = runtime.handle();
    let mut updates = handle.watch();
    handle.pause_blocking("one".parse().unwrap(), PATIENCE).unwrap();
    let pending = |snapshot: &Snapshot| snapshot.status.as_ref().map(|status| status.pending);
    for key in ["k1", "k2", "k3"] {
        handle.emit_blocking(stage(Stage::Plan, key), PATIENCE).unwrap();
    }
    let held = until(&mut updates, "three wait", |snapshot| pending(snapshot) == Some(3));
    assert!(held.headline().unwrap().contains("one paused"), "{:?}", held.headline());
    handle.resume_blocking("one".parse().unwrap(), PATIENCE).unwrap();
    assert_eq!(until_ended(&mut updates, 3).len(), 3);
    until(&mut updates, "none waits", |snapshot| pending(snapshot) == Some(0));
    runtime.drain_blocking(PATIENCE);
}

#[test]
fn on_standby_the_owners_status_is_seen() {
    let endpoint = Endpoint::answering([400]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let (first, second) = (runtime(&sandbox), runtime(&sandbox));
    let mut updates = second.handle().watch();
    assert_eq!(second.handle().state(), RuntimeState::StandingBy);
    second.handle().emit_blocking(stage(Stage::Plan, "k1"), PATIENCE).unwrap();
    let seen = until(&mut updates, "the dead letter", |snapshot| dead_letters(snapshot) == 1);
    assert_eq!(seen.state, RuntimeState::StandingBy);
    first.drain_blocking(PATIENCE);
    until(&mut updates, "the take-over", |snapshot| snapshot.state == RuntimeState::Running);
    second.drain_blocking(PATIENCE);
}

#[test]
fn off_is_a_state_and_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let environment = Environment::fixed([]);
    let options = LoadOptions::in_dir(dir.path()).repo(dir.path());
    let config = options.load(&environment).into_config().unwrap();
    let runtime = Runtime::start_blocking(config, environment).unwrap();
    let handle = runtime.handle();
    assert!(!handle.is_on());
    let status = handle.status_blocking(PATIENCE).unwrap();
    assert!(status.off && status.runtime.is_none() && status.headline().is_none());
    assert_eq!(handle.list_blocking(Query::newest(5), PATIENCE).unwrap().deliveries, []);
    assert_eq!(handle.metrics_blocking(PATIENCE).unwrap().subscriptions, []);
    let (spec, id) = ("SPEC-1".parse().unwrap(), spec_notify::DeliveryId::random());
    assert!(handle.show_blocking(spec, id, PATIENCE).unwrap().is_none());
    assert!(handle.idle_blocking(PATIENCE));
    let report = handle.reload_blocking(PATIENCE).unwrap();
    assert!(report.ok && report.enabled == Some(false), "{report:?}");
    assert_eq!(handle.pause_blocking("one".parse().unwrap(), PATIENCE), Err(RequestError::Off));
    let mut updates = handle.watch();
    assert_eq!(updates.snapshot().state, RuntimeState::Off);
    assert!(!updates.changed_blocking(PATIENCE));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn a_refusal_says_of_which_kind_it_is() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "active = false"), ("two", &endpoint.url(), "")]);
    let runtime = runtime(&sandbox);
    let handle: Handle = runtime.handle();
    let (one, two) = ("one".parse().unwrap(), "two".parse().unwrap());
    let (spec, id): (spec_notify::SpecId, _) = ("SPEC-1".parse().unwrap(), spec_notify::DeliveryId::random());
    let error = handle.test_blocking(spec.clone(), "one".parse().unwrap(), PATIENCE).unwrap_err();
    assert_eq!(error, RequestError::NotActive { id: one, active: vec![two] });
    let error = handle.pause_blocking("three".parse().unwrap(), PATIENCE).unwrap_err();
    assert!(matches!(&error, RequestError::NoSubscription { known, .. } if known.len() == 2), "{error:?}");
    assert_eq!(handle.replay_blocking(spec, id, PATIENCE).unwrap_err(), RequestError::NoDeadLetter(id));
    assert_eq!(handle.status_blocking(Duration::ZERO).unwrap_err(), RequestError::TimedOut(Duration::ZERO));
    runtime.drain_blocking(PATIENCE);
    let error = handle.status_blocking(PATIENCE).unwrap_err();
    assert!(error.is_unreachable(), "{error:?}");
}

#[test]
fn dropping_a_runtime_does_not_wait_and_the_spool_is_free_soon() {
    // Its only request is never answered.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let sandbox = Sandbox::new(&[("one", &url, "per_request_timeout_ms = 600000")]);
    let dropped = runtime(&sandbox);
    let handle = dropped.handle();
    handle.emit_blocking(stage(Stage::Plan, "k1"), PATIENCE).unwrap();
    let _under_way = listener.accept().unwrap();
    drop(dropped);
    wait_for("its end", || (handle.state() == RuntimeState::Stopped).then_some(()));
    let again = runtime(&sandbox);
    assert_eq!(again.handle().state(), RuntimeState::Running);
    let _again_under_way = listener.accept().unwrap();
    assert_eq!(again.drain_blocking(Duration::ZERO).pending, 1, "nothing is lost");
}

#[test]
fn the_longest_deadline_is_no_panic() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let runtime = runtime(&sandbox);
    let handle = runtime.handle();
    handle.emit_blocking(stage(Stage::Plan, "k1"), Duration::MAX).unwrap();
    assert!(handle.idle_blocking(Duration::MAX));
    assert_eq!(runtime.drain_blocking(Duration::MAX).pending, 0);
}

#[test]
fn on_an_executor_every_call_may_move_between_threads_and_a_blocking_one_is_no_panic() {
    fn moves<T: Send>(call: T) -> T {
        call
    }
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
    tokio.block_on(async {
        let (config, environment) = setting(sandbox.path());
        let runtime = moves(Runtime::start(config, environment)).await.unwrap();
        let handle = runtime.handle();
        let mut updates = handle.watch();
        assert!(moves(updates.changed()).await);
        moves(handle.emit(stage(Stage::Plan, "k1"))).await.unwrap();
        handle.emit_blocking(stage(Stage::Tasks, "k2"), PATIENCE).unwrap();
        handle.status_blocking(PATIENCE).unwrap();
        moves(handle.idle()).await;
        assert_eq!(moves(runtime.drain(PATIENCE)).await.pending, 0);
        let (config, environment) = setting(sandbox.path());
        Runtime::start_blocking(config, environment).unwrap().drain_blocking(PATIENCE);
    });
    assert_eq!(endpoint.requests().len(), 2);
}
