//! Beside a peer, Debian's Alertmanager: what each delivers, what that takes and what a kill loses,
//! in the same run and to the same receiver.

mod alertmanager;

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use spec_notify::internals::{Client, Request};

use self::alertmanager::Alertmanager;
use super::accept::WITHIN;
use super::machine::{cpu_seconds, in_turn, median, now, peak_memory, wait_for};
use super::receiver::Arrival;
use super::repo::{Entry, Repo, Serve, event};
use super::table::{Figure, Target};
use super::{Bench, port};

pub(super) use self::alertmanager::installed;

/// The figures of a setting: delivered, CPU, memory, lost.
type Labels = [&'static str; 4];

/// From the last request until what follows from it has been done: an answer read, a record kept.
const SETTLE: Duration = Duration::from_millis(50);

/// What comes no more within this is missing; after a kill and a start, lost.
const QUIET: Duration = Duration::from_secs(5);

/// Between two looks at what has come.
const PAUSE: Duration = Duration::from_millis(2);

/// Most deliveries under way: more than either needs to be busy, and fewer than the connections
/// that the receiver takes, because Alertmanager makes one for each.
const UNDER_WAY: usize = 640;

/// Takes events of 2 KB in and sends each to every endpoint: spec-notify, or its peer.
trait Sender {
    /// As a process that takes events.
    fn start(&self) -> Serve;

    /// All events over one connection, a batch at a time, until the last one is accepted. Before
    /// each batch `wait` is told how many were handed over, and returns once there may be more.
    fn hand_over(&self, wait: impl FnMut(usize));
}

struct SpecNotify {
    repo: Repo,
    requests: Vec<Request>,
    batch: usize,
}

impl SpecNotify {
    fn new(endpoints: &[String], count: usize, batch: usize) -> Self {
        let entries = endpoints.iter().enumerate().map(|(n, url)| Entry::new(format!("s{n}"), url, ""));
        let repo = Repo::new("", &entries.collect::<Vec<_>>());
        Self { repo, requests: port::requests(&(0..count).map(event).collect::<Vec<_>>()), batch }
    }
}

impl Sender for SpecNotify {
    fn start(&self) -> Serve {
        self.repo.serve(&[])
    }

    fn hand_over(&self, mut wait: impl FnMut(usize)) {
        let mut client = Client::connect(&self.repo.spool(), WITHIN).expect("a connection");
        for (n, batch) in self.requests.chunks(self.batch).enumerate() {
            wait(n * self.batch);
            port::hand_over(&mut client, batch, port::is_accepted).expect("all are handed over");
        }
    }
}

pub(super) fn one_endpoint(bench: &Bench) -> Vec<Figure> {
    Setting { bench, endpoints: 1, batch: 64 }.figures(["P1a", "P2a", "P3a", "P4a"])
}

pub(super) fn ten_endpoints(bench: &Bench) -> Vec<Figure> {
    Setting { bench, endpoints: 10, batch: 16 }.figures(["P1b", "P2b", "P3b", "P4b"])
}

struct Setting<'a> {
    bench: &'a Bench,
    endpoints: usize,
    /// Events handed over at a time: a small part of [`UNDER_WAY`].
    batch: usize,
}

/// What a process under load comes to.
struct Loaded {
    /// Deliveries a second, from the first event handed over to the last request.
    rate: f64,
    /// CPU seconds of the process for each.
    cpu: f64,
    /// The most resident memory it had, in MiB.
    memory: f64,
    /// Deliveries that had not come when it was quiet.
    missing: usize,
}

impl Setting<'_> {
    fn figures(&self, [rate, cpu, memory, lost]: Labels) -> Vec<Figure> {
        let (ours, theirs) = in_turn(
            self.bench.slow_rounds(),
            || self.loaded(&self.spec_notify()),
            || self.loaded(&self.alertmanager()),
        );
        let figure = |label, what: &str, unit, of: fn(&Loaded) -> f64, target| {
            let [ours, theirs] = [&ours, &theirs].map(|side| side.iter().map(of).collect::<Vec<_>>());
            let what = format!("{what}, endpoints: {} / Alertmanager", self.endpoints);
            Figure::new(label, what, unit, median(&ours), target).over(median(&theirs))
        };
        assert!(ours.iter().all(|loaded| loaded.missing == 0), "each is delivered");
        let missing: usize = theirs.iter().map(|loaded| loaded.missing).sum();
        let note = format!("{}; missing of its deliveries: {missing}", alertmanager::description());
        let most = Target::RatioAtMost;
        vec![
            figure(rate, "delivered a second", "/s", |loaded| loaded.rate, Target::RatioAtLeast(3.0))
                .note(note),
            figure(cpu, "CPU of the server per delivery", "us", |loaded| loaded.cpu * 1e6, most(0.25)),
            figure(memory, "most resident memory under load", "MiB", |loaded| loaded.memory, most(0.1)),
            self.kills(lost),
        ]
    }

    fn kills(&self, label: &'static str) -> Figure {
        let (ours, theirs) = in_turn(
            self.bench.slow_rounds(),
            || self.lost(&self.spec_notify()),
            || self.lost(&self.alertmanager()),
        );
        // One kill that loses something is one too many; of theirs, what is usual.
        let worst = ours.into_iter().fold(0.0, f64::max);
        let what = format!("lost by `kill -9` once all is accepted, endpoints: {}", self.endpoints);
        let figure = Figure::new(label, what, "deliveries", worst, Target::AtMost(0.0));
        figure.over(median(&theirs)).note(format!("of {} deliveries", self.all()))
    }

    /// Events: as many deliveries whatever there are of endpoints.
    fn count(&self) -> usize {
        self.bench.count(8_000, 40) / self.endpoints
    }

    /// Deliveries.
    fn all(&self) -> usize {
        self.count() * self.endpoints
    }

    fn endpoints(&self) -> Vec<String> {
        (0..self.endpoints).map(|n| self.bench.receiver.url(&format!("s{n}"))).collect()
    }

    fn spec_notify(&self) -> SpecNotify {
        SpecNotify::new(&self.endpoints(), self.count(), self.batch)
    }

    fn alertmanager(&self) -> Alertmanager {
        Alertmanager::new(&self.endpoints(), self.count(), self.batch)
    }

    /// What came until all is accepted.
    fn hand_over(&self, sender: &impl Sender) -> Vec<Arrival> {
        let mut arrivals = Vec::new();
        sender.hand_over(|handed| {
            wait_for("deliveries to end", PAUSE, || {
                arrivals.extend(self.bench.receiver.take());
                let under_way = (handed + self.batch) * self.endpoints;
                (under_way <= arrivals.len() + UNDER_WAY).then_some(())
            });
        });
        arrivals
    }

    fn loaded(&self, sender: &impl Sender) -> Loaded {
        let serve = sender.start();
        self.bench.receiver.take();
        let (started, before) = (now(), cpu_seconds(&serve.child));
        let mut arrivals = self.hand_over(sender);
        let missing = self.missing(&mut arrivals);
        thread::sleep(SETTLE);
        let cpu = cpu_seconds(&serve.child) - before;
        let last = arrivals.iter().map(|arrival| arrival.at).fold(started, f64::max);
        let (memory, came) = (peak_memory(&serve.child), (self.all() - missing) as f64);
        Loaded { rate: came / (last - started), cpu: cpu / came, memory, missing }
    }

    /// Deliveries of accepted events that never come, where the process is killed once all are
    /// accepted, and started again.
    fn lost(&self, sender: &impl Sender) -> f64 {
        let serve = sender.start();
        self.bench.receiver.take();
        let mut arrivals = self.hand_over(sender);
        drop(serve);
        let _again = sender.start();
        self.missing(&mut arrivals) as f64
    }

    /// Deliveries that have not come once all have, or nothing comes any more; adds what comes
    /// until then to `arrivals`.
    fn missing(&self, arrivals: &mut Vec<Arrival>) -> usize {
        let mut quiet_since = Instant::now();
        loop {
            let missing = self.all().saturating_sub(distinct(arrivals));
            if missing == 0 || quiet_since.elapsed() >= QUIET {
                return missing;
            }
            thread::sleep(PAUSE);
            let new = self.bench.receiver.take();
            if !new.is_empty() {
                quiet_since = Instant::now();
            }
            arrivals.extend(new);
        }
    }
}

/// Deliveries among the requests. One without an id counts as a delivery of its own, which is in
/// favour of who sends none.
fn distinct(arrivals: &[Arrival]) -> usize {
    let (without, with): (Vec<_>, Vec<_>) = arrivals.iter().partition(|arrival| arrival.id == "-");
    without.len() + with.iter().map(|arrival| &arrival.id).collect::<HashSet<_>>().len()
}
