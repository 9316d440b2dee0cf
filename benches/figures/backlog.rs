//! What 100,000 pending deliveries cost a `serve`: CPU, memory, its start.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use futures_util::future::join_all;

use spec_notify::EventKind;
use spec_notify::internals::Client;
use spec_notify::internals::{EmitEvent, EmitOutcome};

use super::Bench;
use super::accept::WITHIN;
use super::machine::{cpu_seconds, interleaved, median, memory};
use super::repo::{Entry, Repo, Serve, drain, event, event_of};
use super::table::{Figure, Target};

/// Nothing listens there.
const REFUSED: &str = "http://127.0.0.1:9/";

/// The first retry is in an hour or two: while we measure, everything waits.
const LATER: &str = "include_events = [\"spec-kit.task.completed\"]\ninitial_backoff_ms = 3600000\n\
                     max_backoff_ms = 3600000\njitter_ms = 3600000";

/// The first retries are spread over the coming hour, so that some are due while we measure.
const WITHIN_THE_HOUR: &str = "include_events = [\"spec-kit.task.completed\"]\ninitial_backoff_ms = 1000\n\
                               jitter_ms = 3600000";

const SETTINGS: &str = "max_pending = 1000000\nmax_concurrency = 64";

const EMITTERS: usize = 256;

/// How long a `serve` may become quiet after its start.
const QUIET: Duration = Duration::from_secs(1);

/// A repo with `count` deliveries that failed once and wait for a retry, and a subscription to
/// which all is well.
fn backlog(bench: &Bench, count: usize, retries: &'static str) -> Repo {
    let healthy =
        Entry::new("healthy", bench.receiver.url(""), "include_events = [\"spec-auto.stage.completed\"]");
    let repo = Repo::new(SETTINGS, &[healthy, Entry::new("refused", REFUSED, retries)]);
    let runtime = repo.runtime();
    let handle = runtime.handle();
    let tokio = tokio::runtime::Builder::new_current_thread().build().expect("an executor");
    tokio.block_on(async {
        join_all((0..EMITTERS).map(async |emitter| {
            for n in (emitter..count).step_by(EMITTERS) {
                let event = event_of("SPEC-PENDING-1", EventKind::TaskCompleted, n);
                handle.emit(event).await.expect("accepted");
            }
        }))
        .await;
        handle.idle().await;
    });
    assert!(drain(runtime) >= count * 9 / 10, "they wait");
    repo
}

pub(super) fn waiting(bench: &Bench) -> Vec<Figure> {
    let count = bench.count(100_000, 200);
    let many = backlog(bench, count, LATER);
    let few = backlog(bench, 100.min(count), LATER);
    let mut figures = cpu_per_delivery(bench, &many, &few);
    figures.extend(resident(bench, &many));
    figures.extend(start(bench, &many));
    figures
}

fn cpu_per_delivery(bench: &Bench, many: &Repo, few: &Repo) -> Vec<Figure> {
    let count = bench.count(2_000, 20);
    let serve = |repo: &Repo| repo.serve(&["--no-watch"]);
    let (with_many, with_few) = (serve(many), serve(few));
    thread::sleep(QUIET);
    let mut round = 0;
    let mut spent = |repo: &Repo, serve: &Serve| {
        round += 1;
        cpu_of_deliveries(bench, repo, serve, round, count) * 1e6
    };
    // The first round warms both up.
    spent(many, &with_many);
    spent(few, &with_few);
    let spent = std::cell::RefCell::new(spent);
    let (ours, reference) = interleaved(
        bench.slow_rounds(),
        || spent.borrow_mut()(many, &with_many),
        || spent.borrow_mut()(few, &with_few),
    );
    let what = "CPU per delivery (accepted at the control port) with 100,000 pending / with 100";
    vec![Figure::new("7", what, "us", ours, Target::RatioAtMost(1.1)).over(reference)]
}

/// CPU seconds of `serve` for each of `count` events that it takes at its port and delivers.
fn cpu_of_deliveries(bench: &Bench, repo: &Repo, serve: &Serve, round: usize, count: usize) -> f64 {
    let mut client = Client::connect(&repo.spool(), WITHIN).expect("a control port");
    let requests: Vec<EmitEvent> =
        (0..count).map(|n| EmitEvent::of(&event(format!("{round}-{n}"))).expect("JSON")).collect();
    bench.receiver.take();
    let before = cpu_seconds(&serve.child);
    for request in requests {
        let emitted = client.request(&request, WITHIN).expect("an answer");
        assert_eq!(emitted.outcome, EmitOutcome::Accepted);
    }
    bench.receiver.wait_for(count);
    thread::sleep(Duration::from_millis(50));
    (cpu_seconds(&serve.child) - before) / count as f64
}

fn resident(bench: &Bench, many: &Repo) -> Vec<Figure> {
    let measure = |repo: &Repo| {
        let serve = repo.serve(&["--no-watch"]);
        thread::sleep(QUIET);
        memory(&serve.child)
    };
    let idle = || measure(&Repo::new("", &[Entry::new("one", REFUSED, "")]));
    let (idle, full) = interleaved(bench.slow_rounds(), idle, || measure(many));
    vec![
        Figure::new("8a", "resident memory of `serve`, idle", "MiB", idle, Target::AtMost(15.0)),
        Figure::new("8b", "resident memory of `serve`, 100,000 pending", "MiB", full, Target::AtMost(30.0)),
    ]
}

fn start(bench: &Bench, many: &Repo) -> Vec<Figure> {
    let mut answered = Vec::new();
    let ready = || {
        let started = Instant::now();
        let serve = many.serve(&["--no-watch"]);
        let request = EmitEvent::of(&event(format!("start-{}", answered.len()))).expect("JSON");
        let mut client = Client::connect(&many.spool(), WITHIN).expect("a control port");
        let emitted = client.request(&request, WITHIN).expect("an answer");
        assert_eq!(emitted.outcome, EmitOutcome::Accepted);
        answered.push(started.elapsed().as_secs_f64());
        serve.ready_in.as_secs_f64()
    };
    let (ours, reference) = interleaved(bench.slow_rounds(), ready, || read_once(many));
    // What full files hold is noted beside them: without that they are read.
    let mut reading_all = Vec::new();
    for _ in 0..bench.slow_rounds() {
        let noted = many.spool().join("SPEC-PENDING-1/sealed.bin");
        assert!(fs::remove_file(noted).is_ok() || bench.is_smoke, "full files are noted");
        reading_all.push(many.serve(&["--no-watch"]).ready_in.as_secs_f64());
    }
    let what = "start with 100,000 pending until ready / reading the same bytes once";
    vec![
        Figure::new("9a", what, "s", ours, Target::RatioAtMost(8.0)).over(reference).note(format!(
            "ready is when the control port is open; an event sent at that moment is accepted {:.3} s after the \
             start; a start without `sealed.bin`, which reads all files, takes {:.3} s",
            median(&answered),
            median(&reading_all)
        )),
        Figure::new("9b", "start with 100,000 pending until ready", "s", ours, Target::Under(2.0)),
    ]
}

/// Seconds to read every file of the spool, file after file, from the page cache as the start does.
fn read_once(repo: &Repo) -> f64 {
    let mut folders = vec![repo.spool()];
    let started = Instant::now();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            match path.is_dir() {
                true => folders.push(path),
                false => drop(std::hint::black_box(fs::read(path).expect("a file"))),
            }
        }
    }
    started.elapsed().as_secs_f64()
}

pub(super) fn retries_within_the_hour(bench: &Bench) -> Vec<Figure> {
    let full = backlog(bench, bench.count(100_000, 200), WITHIN_THE_HOUR);
    let empty = Repo::new("", &[Entry::new("one", REFUSED, "")]);
    let [full, empty] = [&full, &empty].map(|repo| repo.serve(&["--no-watch"]));
    thread::sleep(2 * QUIET);
    let window = Duration::from_millis(bench.count(10_000, 300) as u64);
    let share = |serve: &Serve| {
        let (before, started) = (cpu_seconds(&serve.child), Instant::now());
        thread::sleep(window);
        (cpu_seconds(&serve.child) - before) / started.elapsed().as_secs_f64() * 100.0
    };
    let (ours, nothing) = interleaved(bench.slow_rounds(), || share(&full), || share(&empty));
    let what = "CPU of an idle `serve`, 100,000 retries spread over an hour";
    let figure = Figure::new("11", what, "% of a core", ours, Target::AtMost(1.0));
    vec![
        figure.note(format!(
            "28 retries a second are due and fail; a `serve` with nothing pending {nothing:.3} %"
        )),
    ]
}
