//! Durable acceptance beside one append and fdatasync of the same bytes in the same directory.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use spec_notify::Receipt;

use super::Bench;
use super::machine::median;
use super::repo::{Entry, Repo, drain, event};
use super::table::{Figure, Target};

const EMITTERS: usize = 64;

/// How long an emit may take.
pub(super) const WITHIN: Duration = Duration::from_secs(10);

pub(super) fn one_emitter(bench: &Bench) -> Vec<Figure> {
    let count = bench.count(300, 20);
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        let repo = repo();
        ours.push(median(&emits(&repo, count)) * 1e3);
        reference.push(median(&syncs(&repo, count, Duration::ZERO)) * 1e3);
    }
    let what = "durable accept, one emitter, p50 / append and fdatasync p50";
    let figure = Figure::new("3", what, "ms", median(&ours), Target::RatioAtMost(1.5));
    vec![figure.over(median(&reference))]
}

pub(super) fn many_emitters(bench: &Bench) -> Vec<Figure> {
    let each = bench.count(100, 2);
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        let repo = repo();
        ours.push(accepts_a_second(&repo, each));
        let times = syncs(&repo, bench.count(300, 20), Duration::ZERO);
        reference.push(times.len() as f64 / times.iter().sum::<f64>());
    }
    let what = "durable accepts a second, 64 emitters / fdatasyncs a second";
    let figure = Figure::new("4", what, "/s", median(&ours), Target::RatioAtLeast(8.0));
    vec![figure.over(median(&reference))]
}

/// Everything but the network: a dry run is recorded as any delivery.
fn repo() -> Repo {
    Repo::new("", &[Entry::new("one", "http://127.0.0.1:9/", "dry_run = true")])
}

/// How long each emit took, one after the other.
fn emits(repo: &Repo, count: usize) -> Vec<f64> {
    let runtime = repo.runtime();
    let handle = runtime.handle();
    let emit = |event| {
        let started = Instant::now();
        let receipt = handle.emit_blocking(event, WITHIN).expect("an answer");
        assert!(matches!(receipt, Receipt::Accepted(_)));
        started.elapsed().as_secs_f64()
    };
    let events: Vec<_> = (0..count).map(event).collect();
    let times = events.into_iter().map(emit).collect();
    drain(runtime);
    times
}

fn accepts_a_second(repo: &Repo, each: usize) -> f64 {
    let runtime = repo.runtime();
    let handle = runtime.handle();
    let shares: Vec<Vec<_>> =
        (0..EMITTERS).map(|n| (0..each).map(|m| event(format!("{n}-{m}"))).collect()).collect();
    let tokio = tokio::runtime::Builder::new_current_thread().build().expect("an executor");
    let started = Instant::now();
    tokio.block_on(join_all(shares.into_iter().map(async |share| {
        for event in share {
            let receipt = handle.emit(event).await.expect("an answer");
            assert!(matches!(receipt, Receipt::Accepted(_)));
        }
    })));
    let rate = (EMITTERS * each) as f64 / started.elapsed().as_secs_f64();
    drain(runtime);
    rate
}

/// How long one append and fdatasync of an accepted event's bytes took, in the repo's own directory.
pub(super) fn syncs(repo: &Repo, count: usize, pause: Duration) -> Vec<f64> {
    let line = accepted_line();
    let path = repo.path().join("reference");
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("a file");
    let append = |_| {
        thread::sleep(pause);
        let started = Instant::now();
        file.write_all(&line).expect("written");
        file.sync_data().expect("synced");
        started.elapsed().as_secs_f64()
    };
    (0..count).map(append).collect()
}

/// An accepted event as it stands in the spool, of a repo of its own: a busy one's compaction may have removed it.
fn accepted_line() -> Vec<u8> {
    let repo = repo();
    emits(&repo, 1);
    let entries = fs::read_dir(repo.spool()).expect("a spool");
    let mut journals = entries.map(|entry| entry.expect("an entry").path().join("spool-00000001.jsonl"));
    let journal = journals.find(|path| path.exists()).expect("a journal");
    let journal = fs::read(journal).expect("a journal that can be read");
    let is_accepted = |line: &&[u8]| line.windows(11).any(|word| word == b"\"accepted\":");
    journal.split_inclusive(|byte| *byte == b'\n').find(is_accepted).expect("an accepted event").to_vec()
}
