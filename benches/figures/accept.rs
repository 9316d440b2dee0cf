//! Durable acceptance beside one append and fdatasync of the same bytes in the same directory.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use spec_notify::{Handle, Receipt};

use super::Bench;
use super::machine::{INTAKE, cpu_seconds_of_threads, median};
use super::repo::{Entry, Repo, drain, event};
use super::table::{Figure, Target};

pub(super) const EMITTERS: usize = 64;

/// Ours and the reference take turns this often: what others do to the disk lasts longer than
/// that, and meets both.
pub(super) const IN_TURN: usize = 20;

/// How long an emit may take.
pub(super) const WITHIN: Duration = Duration::from_secs(10);

pub(super) fn one_emitter(bench: &Bench) -> Vec<Figure> {
    let (mut ours, mut alone, mut reference) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        let (emit_times, sync_times) = emits_and_syncs(bench, &repo());
        ours.push(median(&emit_times) * 1e3);
        reference.push(median(&sync_times) * 1e3);
        alone.push(median(&emits_and_syncs(bench, &Repo::new("", &[])).0) * 1e3);
    }
    let what = "durable accept, one emitter, p50 / append and fdatasync p50";
    let figure = Figure::new("3", what, "ms", median(&ours), Target::RatioAtMost(1.35));
    let note = format!("each is a dry run's too; where no subscription wants them {:.3} ms", median(&alone));
    vec![figure.over(median(&reference)).note(note)]
}

/// How long emits took one after the other, and how long syncs in between.
fn emits_and_syncs(bench: &Bench, repo: &Repo) -> (Vec<f64>, Vec<f64>) {
    let runtime = repo.runtime();
    let mut file = Reference::in_folder(repo.path());
    let (mut emit_times, mut sync_times) = (Vec::new(), Vec::new());
    for turn in 0..bench.count(15, 2) {
        emit_times.extend(emits(&runtime.handle(), turn, IN_TURN));
        sync_times.extend(file.syncs(IN_TURN, Duration::ZERO));
    }
    drain(runtime);
    (emit_times, sync_times)
}

pub(super) fn many_emitters(bench: &Bench) -> Vec<Figure> {
    let (mut ours, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        ours.push(accepts_a_second(bench, &repo()));
        alone.push(accepts_a_second(bench, &Repo::new("", &[])));
    }
    let of = |turns: &[Accepted], figure: fn(&Accepted) -> f64| {
        median(&turns.iter().map(figure).collect::<Vec<_>>())
    };
    let what = "durable accepts a second, 64 emitters / fdatasyncs a second";
    let figure = Figure::new("4", what, "/s", of(&ours, |turn| turn.rate), Target::RatioAtLeast(12.0));
    let note = format!(
        "each is a dry run's too: {:.1} us of CPU in the Router's and Ledger's thread; \
         where no subscription wants them {:.0} /s, {:.1} us",
        of(&ours, |turn| turn.intake) * 1e6,
        of(&alone, |turn| turn.rate),
        of(&alone, |turn| turn.intake) * 1e6
    );
    vec![figure.over(of(&ours, |turn| turn.syncs)).note(note)]
}

/// Everything but the network: a dry run is recorded as any delivery.
fn repo() -> Repo {
    Repo::new("", &[Entry::new("one", "http://127.0.0.1:9/", "dry_run = true")])
}

/// How long each emit took, one after the other.
fn emits(handle: &Handle, turn: usize, count: usize) -> Vec<f64> {
    let emit = |event| {
        let started = Instant::now();
        let receipt = handle.emit_blocking(event, WITHIN).expect("an answer");
        assert!(matches!(receipt, Receipt::Accepted(_)));
        started.elapsed().as_secs_f64()
    };
    let events: Vec<_> = (0..count).map(|n| event(format!("{turn}-{n}"))).collect();
    events.into_iter().map(emit).collect()
}

/// What a turn of many emitters came to.
struct Accepted {
    /// A second.
    rate: f64,
    /// Fdatasyncs a second, in between.
    syncs: f64,
    /// CPU seconds of the intake's thread for each, until it is recorded.
    intake: f64,
}

fn accepts_a_second(bench: &Bench, repo: &Repo) -> Accepted {
    let runtime = repo.runtime();
    let mut file = Reference::in_folder(repo.path());
    let (mut seconds, mut sync_times) = (0.0, Vec::new());
    let (turns, each) = (bench.count(10, 1), bench.count(10, 2));
    for turn in 0..turns {
        seconds += accepted_at_once(&runtime.handle(), turn, each);
        sync_times.extend(file.syncs(IN_TURN, Duration::ZERO));
    }
    let count = (EMITTERS * each * turns) as f64;
    let intake = cpu_seconds_of_threads(INTAKE) / count;
    drain(runtime);
    let syncs = sync_times.len() as f64 / sync_times.iter().sum::<f64>();
    Accepted { rate: count / seconds, syncs, intake }
}

/// Seconds until every emitter had its events accepted.
fn accepted_at_once(handle: &Handle, turn: usize, each: usize) -> f64 {
    let shares: Vec<Vec<_>> =
        (0..EMITTERS).map(|n| (0..each).map(|m| event(format!("{turn}-{n}-{m}"))).collect()).collect();
    let tokio = tokio::runtime::Builder::new_current_thread().build().expect("an executor");
    let started = Instant::now();
    tokio.block_on(join_all(shares.into_iter().map(async |share| {
        for event in share {
            let receipt = handle.emit(event).await.expect("an answer");
            assert!(matches!(receipt, Receipt::Accepted(_)));
        }
    })));
    let seconds = started.elapsed().as_secs_f64();
    handle.block(WITHIN, handle.idle()).expect("what was accepted is recorded");
    seconds
}

/// A file that is appended to and synced as the spool is.
pub(super) struct Reference {
    file: File,
    line: Vec<u8>,
}

impl Reference {
    pub(super) fn in_folder(folder: &Path) -> Self {
        let path = folder.join("reference");
        let file = OpenOptions::new().append(true).create(true).open(path).expect("a file");
        Self { file, line: accepted_line() }
    }

    /// How long each append and fdatasync of an accepted event's bytes took.
    pub(super) fn syncs(&mut self, count: usize, pause: Duration) -> Vec<f64> {
        let append = |_| {
            thread::sleep(pause);
            let started = Instant::now();
            self.file.write_all(&self.line).expect("written");
            self.file.sync_data().expect("synced");
            started.elapsed().as_secs_f64()
        };
        (0..count).map(append).collect()
    }
}

/// An accepted event as it stands in the spool, of a repo of its own: a busy one's compaction may
/// have removed it.
fn accepted_line() -> Vec<u8> {
    let repo = repo();
    let runtime = repo.runtime();
    emits(&runtime.handle(), 0, 1);
    drain(runtime);
    let entries = fs::read_dir(repo.spool()).expect("a spool");
    let mut journals = entries.map(|entry| entry.expect("an entry").path().join("spool-00000001.jsonl"));
    let journal = journals.find(|path| path.exists()).expect("a journal");
    let journal = fs::read(journal).expect("a journal that can be read");
    let is_accepted = |line: &&[u8]| line.windows(11).any(|word| word == b"\"accepted\":");
    journal.split_inclusive(|byte| *byte == b'\n').find(is_accepted).expect("an accepted event").to_vec()
}
