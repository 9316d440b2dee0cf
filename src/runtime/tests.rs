//! Panics in each actor: the runtime starts again from disk, and gives up after too many.

use std::fs;
use std::net::TcpListener;
use std::path::Path;

use super::*;
use crate::actors::{Door, Panic, StandStill};
use crate::answer::Receipt;
use crate::config::{LoadOptions, load};
use crate::event::{Event, EventKind};

const LONG: Duration = Duration::from_secs(30);

/// A runtime with one subscription whose endpoint takes connections and never answers.
fn runtime(repo: &Path, listener: &TcpListener) -> Runtime {
    let port = listener.local_addr().unwrap().port();
    let text = format!(
        "[spec_ops.webhooks]\nenabled = true\nspool_dir = \"spool\"\nmax_concurrency = 8\n\
         [[spec_ops.webhooks.subscriptions]]\n\
         id = \"s\"\nurl = \"http://127.0.0.1:{port}/\"\nsecret_env = \"S\"\n\
         per_request_timeout_ms = 600000\n"
    );
    fs::create_dir_all(repo.join(".spec-kit")).unwrap();
    fs::write(repo.join(".spec-kit/config.toml"), text).unwrap();
    let environment = Environment::fixed([("S", "a secret of the tests")]);
    let options = LoadOptions {
        config: None,
        repo: Some(repo.into()),
        working_dir: repo.into(),
        secrets: true,
        role: None,
    };
    Runtime::start_blocking(load(&options, &environment).config.unwrap(), environment).unwrap()
}

fn emit(handle: &Handle, key: &str) -> Receipt {
    let event = Event::new(EventKind::Test, "SPEC-1".parse().unwrap(), key.parse().unwrap());
    handle.emit_blocking(event, LONG).unwrap()
}

/// Makes an actor panic and waits until the runtime has noticed.
fn panic_in(handle: &Handle, who: Panic) {
    let mut modes = handle.modes();
    modes.borrow_and_update();
    door(handle).router().try_send(who).unwrap();
    handle.block(LONG, modes.changed()).expect("the panic is noticed").unwrap();
}

fn door(handle: &Handle) -> Door {
    let mode = handle.modes().borrow().clone();
    let Mode::Owner(door) = mode else { panic!("not the owner: {mode:?}") };
    door
}

/// Emitters on any executor and on plain threads hear of it in their own time.
#[test]
fn while_the_disk_stands_still_events_are_queued_and_none_is_lost_or_doubled() {
    let repo = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let runtime = runtime(repo.path(), &listener);
    let handle = runtime.handle();
    let (go_on, until) = std::sync::mpsc::channel();
    door(&handle).router().try_send(StandStill(until)).unwrap();
    let event = |key: &str| Event::new(EventKind::Test, "SPEC-1".parse().unwrap(), key.parse().unwrap());
    assert_eq!(handle.block(LONG, handle.emit(event("async"))).unwrap(), Ok(Receipt::Queued));
    assert_eq!(handle.emit_blocking(event("plain"), Duration::from_millis(400)), Ok(Receipt::Queued));
    drop(go_on);
    // What was queued may have been accepted as well: the key tells.
    assert!(matches!(emit(&handle, "after"), Receipt::Accepted(_)));
    assert_eq!(emit(&handle, "async"), Receipt::Duplicate);
    assert_eq!(emit(&handle, "plain"), Receipt::Duplicate);
    let connections: Vec<_> = listener.incoming().take(3).map(Result::unwrap).collect();
    assert_eq!(connections.len(), 3);
    assert_eq!(runtime.drain_blocking(Duration::ZERO).pending, 3);
}

fn wait_for_owner(handle: &Handle) {
    let mut modes = handle.modes();
    let back = modes.wait_for(|mode| matches!(mode, Mode::Owner(_)));
    drop(handle.block(LONG, back).expect("the runtime is back").unwrap());
}

#[test]
fn a_panic_in_any_actor_restarts_everything_from_disk() {
    for who in [Panic::Router, Panic::Subscription, Panic::Ledger] {
        let repo = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let runtime = runtime(repo.path(), &listener);
        let handle = runtime.handle();
        assert!(matches!(emit(&handle, "before"), Receipt::Accepted(_)));
        // Its request is under way when the panic comes.
        let _under_way = listener.accept().unwrap();
        panic_in(&handle, who);
        // Accepted by the new run, or queued until there is one: never refused, never lost.
        assert!(matches!(emit(&handle, "meanwhile"), Receipt::Accepted(_) | Receipt::Queued), "{who:?}");
        wait_for_owner(&handle);
        assert_eq!(emit(&handle, "before"), Receipt::Duplicate, "{who:?}");
        assert!(matches!(emit(&handle, "after"), Receipt::Accepted(_)), "{who:?}");
        // Three requests reach the endpoint in the new run: nothing of what was accepted is lost.
        let connections: Vec<_> = listener.incoming().take(3).map(Result::unwrap).collect();
        assert_eq!(connections.len(), 3, "{who:?}");
        assert_eq!(runtime.drain_blocking(Duration::ZERO).pending, 3, "{who:?}");
    }
}

#[test]
fn after_too_many_panics_it_stops_and_says_so_and_events_are_queued() {
    let repo = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let runtime = runtime(repo.path(), &listener);
    let handle = runtime.handle();
    for _ in 0..=MAX_RESTARTS {
        wait_for_owner(&handle);
        panic_in(&handle, Panic::Router);
    }
    let reason = handle.block(LONG, handle.failed()).expect("it gives up");
    assert!(reason.contains("panicked more than 5 times within a minute"), "{reason}");
    assert_eq!(emit(&handle, "late"), Receipt::Queued);
}

#[test]
fn restarts_are_counted_within_a_minute() {
    let start = Instant::now();
    let mut restarts = Restarts::default();
    assert!((0..5).all(|n| restarts.may_restart(start + Duration::from_secs(n))));
    assert!(!restarts.may_restart(start + Duration::from_secs(59)));
    assert!(restarts.may_restart(start + Duration::from_secs(60)));
    assert!(!restarts.may_restart(start + Duration::from_millis(60_500)));
}
