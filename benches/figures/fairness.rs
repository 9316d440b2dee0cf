//! A healthy endpoint beside ten that accept requests and never answer, and beside three that take
//! their time.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use spec_notify::SentOutcome;
use spec_notify::{Receipt, Runtime};

use super::Bench;
use super::accept::WITHIN;
use super::machine::{interleaved, now, quantile};
use super::repo::{Entry, Repo, SPEC, event};
use super::table::{Figure, Target};

const HEALTHY: &str = "healthy";

/// Between two events.
const PAUSE: Duration = Duration::from_millis(20);

/// Between two events beside slow endpoints: more than these take.
const SLOW_PAUSE: Duration = Duration::from_millis(100);

/// How long is waited for what has not arrived; it counts as if it came then.
const PATIENCE: Duration = Duration::from_secs(15);

pub(super) fn beside_dead_endpoints(bench: &Bench) -> Vec<Figure> {
    let p99 = |dead: usize| {
        let mut entries: Vec<Entry> = (0..dead)
            .map(|n| {
                let url = bench.receiver.url(&format!("dead{n}"));
                Entry::new(format!("dead-{n}"), url, "per_request_timeout_ms = 2000")
            })
            .collect();
        entries.push(Entry::new(HEALTHY, bench.receiver.url(""), "per_request_timeout_ms = 2000"));
        let repo = Repo::new("max_concurrency = 4", &entries);
        let runtime = repo.runtime();
        prove(bench, &runtime, HEALTHY);
        quantile(&emitted_to_received(bench, &runtime, PAUSE, bench.count(100, 5)), 0.99) * 1e3
    };
    let (ours, reference) = interleaved(bench.rounds(), || p99(10), || p99(0));
    let what = "healthy endpoint beside ten dead ones, emit to request received, p99 / alone";
    let figure = Figure::new("10a", what, "ms", ours, Target::RatioAtMost(1.2)).over(reference);
    vec![
        figure.note(format!(
            "what has not arrived {} s after the last emit counts as that",
            PATIENCE.as_secs()
        )),
    ]
}

pub(super) fn beside_slow_endpoints(bench: &Bench) -> Vec<Figure> {
    let p99 = |slow: usize| {
        let slow =
            (0..slow).map(|n| Entry::new(format!("slow-{n}"), bench.receiver.url(&format!("slow{n}")), ""));
        let entries: Vec<Entry> = slow.chain([Entry::new(HEALTHY, bench.receiver.url(""), "")]).collect();
        let repo = Repo::new("max_concurrency = 4", &entries);
        let runtime = repo.runtime();
        for Entry { id, .. } in &entries {
            prove(bench, &runtime, id);
        }
        quantile(&emitted_to_received(bench, &runtime, SLOW_PAUSE, bench.count(60, 3)), 0.99) * 1e3
    };
    let (ours, reference) = interleaved(bench.slow_rounds(), || p99(3), || p99(0) * 1.5 + 50.0);
    let what = "endpoint that answers at once beside three of 1.5 s, ten events a second, p99 / (1.5 x alone + 50 ms)";
    vec![Figure::new("10b", what, "ms", ours, Target::RatioAtMost(1.0)).over(reference)]
}

/// As an endpoint is that has taken something before.
fn prove(bench: &Bench, runtime: &Runtime, id: &str) {
    let handle = runtime.handle();
    let sample = handle.test(SPEC.parse().expect("a SPEC id"), id.parse().expect("an id"));
    let sample = handle.block(WITHIN, sample).expect("an answer").expect("a sample");
    assert_eq!(sample.outcome, SentOutcome::Delivered);
    bench.receiver.take();
}

/// How long each of some events took to the healthy endpoint, one after each pause.
fn emitted_to_received(bench: &Bench, runtime: &Runtime, pause: Duration, count: usize) -> Vec<f64> {
    let handle = runtime.handle();
    let mut called = HashMap::new();
    for event in (0..count).map(event) {
        thread::sleep(pause);
        let at = now();
        let Receipt::Accepted(deliveries) = handle.emit_blocking(event, WITHIN).expect("an answer") else {
            unreachable!("a new event is accepted");
        };
        let healthy = deliveries.iter().find(|(_, to)| to.as_str() == HEALTHY).expect("it wants all");
        called.insert(healthy.0.to_string(), at);
    }
    let arrived = arrivals(bench, &called);
    let end = now();
    called.iter().map(|(id, at)| arrived.get(id).copied().unwrap_or(end) - at).collect()
}

fn arrivals(bench: &Bench, wanted: &HashMap<String, f64>) -> HashMap<String, f64> {
    let deadline = Instant::now() + if bench.is_smoke { PAUSE } else { PATIENCE };
    let mut arrived = HashMap::new();
    while arrived.len() < wanted.len() && Instant::now() < deadline {
        let new = bench.receiver.take().into_iter().filter(|arrival| wanted.contains_key(&arrival.id));
        arrived.extend(new.map(|arrival| (arrival.id, arrival.at)));
        thread::sleep(PAUSE);
    }
    arrived
}
