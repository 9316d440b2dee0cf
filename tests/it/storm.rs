//! The kill storm: emitters that never stop, and a `serve` that is killed at random moments and
//! started again.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Endpoint, RequestExt as _, Sandbox};

const EMITTERS: usize = 10;

#[test]
fn a_kill_storm_loses_nothing() {
    storm(25);
}

#[test]
#[ignore = "the long form: a few minutes"]
fn a_long_kill_storm_loses_nothing() {
    storm(200);
}

fn storm(kills: usize) {
    let endpoints = [Endpoint::answering([200]), Endpoint::answering([200])];
    let sandbox = Sandbox::new(&[("one", &endpoints[0].url(), ""), ("two", &endpoints[1].url(), "")]);
    let ended = AtomicBool::new(false);
    let kept: BTreeSet<String> = thread::scope(|scope| {
        let emitters: Vec<_> = (0..EMITTERS)
            .map(|n| {
                scope.spawn({
                    let (sandbox, ended) = (&sandbox, &ended);
                    move || emit_until(sandbox, n, ended)
                })
            })
            .collect();
        for _ in 0..kills {
            let mut command = sandbox.command(&["serve"]);
            let mut serve = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // Any moment from its very start on: this is the randomness, not a wait for something.
            thread::park_timeout(Duration::from_millis(fastrand::u64(0..120)));
            serve.kill().unwrap();
            serve.wait().unwrap();
        }
        ended.store(true, Ordering::Relaxed);
        emitters.into_iter().flat_map(|emitter| emitter.join().unwrap()).collect()
    });
    assert!(kept.len() > kills, "the emitters were at work: {}", kept.len());
    let _serve = sandbox.serve();
    let mut duplicates = 0;
    for endpoint in &endpoints {
        sandbox.wait_until_nothing_is_pending();
        let arrived = arrived(endpoint);
        let lost: Vec<&String> = kept.iter().filter(|key| !arrived.contains_key(*key)).collect();
        assert!(lost.is_empty(), "{} of {} events lost: {lost:?}", lost.len(), kept.len());
        for (key, ids) in arrived {
            let distinct: BTreeSet<&String> = ids.iter().collect();
            assert_eq!(distinct.len(), 1, "{key} came under several ids: {ids:?}");
            assert!(ids.len() <= 1 + kills, "{key} came {} times", ids.len());
            duplicates += ids.len() - 1;
        }
    }
    assert!(duplicates <= kills * kept.len());
    eprintln!("{kills} kills, {} events to 2 subscriptions: 0 lost, {duplicates} sent again", kept.len());
}

/// Emits event after event, each by a process of its own; returns the keys of those that were said
/// to be kept.
fn emit_until(sandbox: &Sandbox, emitter: usize, ended: &AtomicBool) -> Vec<String> {
    let mut kept = Vec::new();
    for n in 0.. {
        if ended.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("emitter-{emitter}-{n}");
        let spec = format!("SPEC-{emitter}");
        let emitted = sandbox.emit(&spec, "Plan", &key);
        assert!(["accepted", "queued"].contains(&emitted["outcome"].as_str().unwrap()), "{emitted}");
        kept.push(key);
    }
    kept
}

/// The ids of the requests that came, by the event's key.
fn arrived(endpoint: &Endpoint) -> BTreeMap<String, Vec<String>> {
    let mut arrived: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for request in endpoint.requests() {
        let body: Value = request.told();
        let key = body["event"]["idempotency_key"].as_str().unwrap().to_owned();
        arrived.entry(key).or_default().push(request.text_of("x-speckit-id").to_owned());
    }
    arrived
}
