//! Deliveries a second through everything: accept, sync, sign, POST, evidence. Beside raw awc that
//! signs and sends.

use std::time::Instant;

use futures_util::future::join_all;
use spec_notify::Event;

use super::machine::interleaved;
use super::repo::{Entry, Repo, drain, event};
use super::table::{Figure, Target};
use super::{Bench, raw};

const EMITTERS: usize = 64;

pub(super) fn delivered(
    bench: &Bench,
    (label, least): (&'static str, f64),
    subscriptions: usize,
    concurrency: usize,
) -> Vec<Figure> {
    let deliveries = bench.count(6_400, 1_024);
    let (ours, reference) = interleaved(
        bench.rounds(),
        || through_everything(bench, deliveries / subscriptions, subscriptions, concurrency),
        || raw::rate(&bench.receiver.url(""), deliveries, concurrency),
    );
    let what =
        format!("delivered a second, {subscriptions} subscriptions, concurrency {concurrency} / raw awc");
    vec![Figure::new(label, what, "/s", ours, Target::RatioAtLeast(least)).over(reference)]
}

/// From the first emit until every delivery is recorded.
fn through_everything(bench: &Bench, count: usize, subscriptions: usize, concurrency: usize) -> f64 {
    let url = bench.receiver.url("");
    let entries: Vec<Entry> = (0..subscriptions).map(|n| Entry::new(format!("s{n}"), &url, "")).collect();
    let repo = Repo::new(&format!("max_concurrency = {concurrency}"), &entries);
    let runtime = repo.runtime();
    let handle = runtime.handle();
    let shares = shares(count);
    bench.receiver.take();
    let tokio = tokio::runtime::Builder::new_current_thread().build().expect("an executor");
    let started = Instant::now();
    tokio.block_on(async {
        join_all(shares.into_iter().map(async |share| {
            for event in share {
                handle.emit(event).await.expect("accepted");
            }
        }))
        .await;
        handle.idle().await;
    });
    let elapsed = started.elapsed().as_secs_f64();
    let sent = bench.receiver.take().len();
    assert_eq!(sent, count * subscriptions, "each is sent once");
    assert_eq!(drain(runtime), 0, "nothing is left");
    sent as f64 / elapsed
}

/// The events of each emitter.
fn shares(count: usize) -> Vec<Vec<Event>> {
    let events: Vec<Event> = (0..count).map(event).collect();
    events.chunks(count.div_ceil(EMITTERS)).map(<[Event]>::to_vec).collect()
}
