//! How long an event takes to its first request: alone, in a burst, and from a file that is
//! written to a watched repo.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use spec_notify::{Handle, Receipt, Runtime};

use super::accept::{IN_TURN, Reference, WITHIN};
use super::machine::{median, now, quantile};
use super::repo::{EVIDENCE, Entry, Repo, SPEC, drain, event};
use super::table::{Figure, Target};
use super::{Bench, raw};

/// Long enough for everything to be asleep.
const PAUSE: Duration = Duration::from_millis(5);

/// A file rests this long before it is read: `watch/settle.rs`.
const SETTLE_MS: f64 = 40.0;

pub(super) fn idle(bench: &Bench) -> Vec<Figure> {
    let rounds: Vec<[f64; 3]> = (0..bench.rounds()).map(|_| idle_round(bench)).collect();
    let [ours, sync, post] = [0, 1, 2].map(|n| median_of(&rounds, n) * 1e3);
    let what = "idle: emit called to request received, p50 / (fdatasync p50 + raw POST p50)";
    let figure = Figure::new("5", what, "ms", ours, Target::RatioAtMost(2.0)).over(sync + post);
    vec![figure.note(format!("fdatasync {sync:.3} ms, raw POST {post:.3} ms"))]
}

/// The p50 of ours, of an append and fdatasync, and of a raw POST, in seconds.
fn idle_round(bench: &Bench) -> [f64; 3] {
    let repo = Repo::new("", &[Entry::new("one", bench.receiver.url(""), "")]);
    let runtime = repo.runtime();
    let mut file = Reference::in_folder(repo.path());
    let (mut ours, mut sync, mut post) = (Vec::new(), Vec::new(), Vec::new());
    for turn in 0..bench.count(5, 1) {
        ours.extend(emitted_to_received(bench, &runtime.handle(), turn));
        sync.extend(file.syncs(IN_TURN, PAUSE));
        post.extend(raw::times(&bench.receiver.url(""), IN_TURN, PAUSE));
    }
    drain(runtime);
    [median(&ours), median(&sync), median(&post)]
}

fn median_of(rounds: &[[f64; 3]], n: usize) -> f64 {
    median(&rounds.iter().map(|round| round[n]).collect::<Vec<_>>())
}

/// One event at a time, each after a pause.
fn emitted_to_received(bench: &Bench, handle: &Handle, turn: usize) -> Vec<f64> {
    bench.receiver.take();
    let mut called = Vec::new();
    for event in (0..IN_TURN).map(|n| event(format!("{turn}-{n}"))).collect::<Vec<_>>() {
        thread::sleep(PAUSE);
        called.push(now());
        handle.emit_blocking(event, WITHIN).expect("accepted");
        handle.block(WITHIN, handle.idle()).expect("delivered");
    }
    let arrivals = bench.receiver.take();
    assert_eq!(arrivals.len(), IN_TURN);
    called.iter().zip(arrivals).map(|(called, arrival)| arrival.at - called).collect()
}

pub(super) fn burst(bench: &Bench) -> Vec<Figure> {
    let count = bench.count(100, 5);
    let round = |_| {
        let url = bench.receiver.url("");
        let entries: Vec<Entry> = (0..10).map(|n| Entry::new(format!("s{n}"), &url, "")).collect();
        let repo = Repo::new("", &entries);
        let runtime = repo.runtime();
        let waits = accepted_to_received(bench, &runtime, count);
        drain(runtime);
        quantile(&waits, 0.95) * 1e3
    };
    let p95s: Vec<f64> = (0..bench.rounds()).map(round).collect();
    let what = "100 events at once x 10 subscriptions: accepted to request received, p95";
    vec![Figure::new("13", what, "ms", median(&p95s), Target::Under(100.0))]
}

fn accepted_to_received(bench: &Bench, runtime: &Runtime, count: usize) -> Vec<f64> {
    let handle = runtime.handle();
    bench.receiver.take();
    let events: Vec<_> = (0..count).map(event).collect();
    let emit = async |event| match handle.emit(event).await.expect("an answer") {
        Receipt::Accepted(deliveries) => (now(), deliveries),
        other => unreachable!("not accepted: {other:?}"),
    };
    let tokio = tokio::runtime::Builder::new_current_thread().build().expect("an executor");
    let accepted = tokio.block_on(async {
        let accepted = join_all(events.into_iter().map(emit)).await;
        handle.idle().await;
        accepted
    });
    let arrivals: HashMap<String, f64> =
        bench.receiver.take().into_iter().map(|arrival| (arrival.id, arrival.at)).collect();
    let waits = accepted.iter().flat_map(|(at, deliveries)| deliveries.iter().map(move |(id, _)| (at, id)));
    waits.map(|(at, id)| (arrivals[&id.to_string()] - at).max(0.0)).collect()
}

pub(super) fn watched(bench: &Bench) -> Vec<Figure> {
    let count = bench.count(20, 2);
    let rounds: Vec<[f64; 3]> = (0..bench.rounds()).map(|_| written_to_received(bench, count)).collect();
    let part = |n: usize| median_of(&rounds, n) * 1e3;
    let what = "watch: a telemetry file written to its request received, p95";
    let note = format!(
        "settle {SETTLE_MS} ms (a constant), seen, read and taken {:.1} ms, synced and delivered {:.1} ms (p50 each)",
        part(1) - SETTLE_MS,
        part(2)
    );
    vec![Figure::new("15", what, "ms", part(0), Target::Under(80.0)).note(note)]
}

/// In seconds: the p95 of all; the p50 until the Router took it; the p50 from there.
fn written_to_received(bench: &Bench, count: usize) -> [f64; 3] {
    let repo = Repo::new("", &[Entry::new("one", bench.receiver.url(""), "")]);
    let _serve = repo.watch();
    bench.receiver.take();
    let (mut written, mut received) = (Vec::new(), Vec::new());
    for n in 0..count {
        let text = telemetry(&format!("session-{n}")).to_string();
        written.push(now());
        repo.write(&format!("{EVIDENCE}/commands/{SPEC}/spec-plan_session-{n}.json"), &text);
        received.push(bench.receiver.wait_for(1)[0].at);
    }
    let accepted: Vec<f64> = repo.finals(count).iter().map(accepted_at).collect();
    let from = |from: &[f64], to: &[f64]| -> Vec<f64> { from.iter().zip(to).map(|(a, b)| b - a).collect() };
    [
        quantile(&from(&written, &received), 0.95),
        median(&from(&written, &accepted)),
        median(&from(&accepted, &received)),
    ]
}

fn accepted_at(line: &Value) -> f64 {
    let at: Timestamp = line["accepted_at"].as_str().expect("a time").parse().expect("a time");
    at.as_millisecond() as f64 / 1e3
}

/// A Plan stage's telemetry, good in every field.
pub(super) fn telemetry(session: &str) -> Value {
    json!({
        "schemaVersion": 1, "command": "spec-ops-plan", "specId": SPEC, "sessionId": session,
        "timestamp": "2025-10-14T10:00:00Z",
        "baseline": {"mode": "full", "artifact": "b.md", "status": "passed"}, "hooks": {"session.start": "ok"},
        "artifacts": [{"path": format!("{EVIDENCE}/commands/{SPEC}/spec-plan_{session}.log")}],
    })
}
