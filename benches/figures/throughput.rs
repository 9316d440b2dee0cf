//! Deliveries through everything: accept, sync, sign, POST, evidence; how many a second, and what
//! CPU each takes. Beside raw awc that signs and sends.

use std::time::Instant;

use futures_util::future::join_all;
use spec_notify::Event;

use super::accept::EMITTERS;
use super::machine::{
    INTAKE, SUBSCRIPTIONS, cpu_seconds_of_threads, in_turn, median, own_cpu_seconds, thread_cpu_seconds,
};
use super::raw::Posted;
use super::repo::{Entry, Repo, drain, event};
use super::table::{Figure, Target};
use super::{Bench, raw};

pub(super) fn many_endpoints(bench: &Bench) -> Vec<Figure> {
    let load = Load { subscriptions: 16, concurrency: 64 };
    vec![load.measure(bench).rate("1", 0.8)]
}

pub(super) fn one_endpoint(bench: &Bench) -> Vec<Figure> {
    let measured = Load { subscriptions: 1, concurrency: 4 }.measure(bench);
    vec![measured.rate("2", 0.65), measured.cpu("2b", 1.6)]
}

#[derive(Clone, Copy)]
struct Load {
    subscriptions: usize,
    concurrency: usize,
}

/// What a turn of ours came to.
struct Delivered {
    /// A second.
    rate: f64,
    /// CPU seconds of the process for each.
    cpu: f64,
    /// Of these, those of the thread that emits, of the intake's and of the Subscriptions'.
    emitting: f64,
    intake: f64,
    sending: f64,
}

struct Measured {
    load: Load,
    ours: Vec<Delivered>,
    raw: Vec<Posted>,
}

impl Load {
    fn measure(self, bench: &Bench) -> Measured {
        let deliveries = bench.count(6_400, 1_024);
        let url = bench.receiver.url("");
        let (ours, raw) = in_turn(
            bench.rounds(),
            || self.through_everything(bench, deliveries / self.subscriptions),
            || raw::posted(&url, deliveries, self.concurrency),
        );
        Measured { load: self, ours, raw }
    }

    /// From the first emit until every delivery is recorded. The CPU is counted to the end of the
    /// runtime, so that nothing is left out that was put off.
    fn through_everything(self, bench: &Bench, count: usize) -> Delivered {
        let url = bench.receiver.url("");
        let entries: Vec<Entry> =
            (0..self.subscriptions).map(|n| Entry::new(format!("s{n}"), &url, "")).collect();
        let repo = Repo::new(&format!("max_concurrency = {}", self.concurrency), &entries);
        let runtime = repo.runtime();
        let handle = runtime.handle();
        let shares = shares(count);
        bench.receiver.take();
        let tokio = tokio::runtime::Builder::new_current_thread().build().expect("an executor");
        let started = Instant::now();
        let (before, before_here) = (own_cpu_seconds(), thread_cpu_seconds());
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
        let emitting = thread_cpu_seconds() - before_here;
        let [intake, sending] = [INTAKE, SUBSCRIPTIONS].map(cpu_seconds_of_threads);
        assert_eq!(drain(runtime), 0, "nothing is left");
        let cpu = own_cpu_seconds() - before;
        let sent = bench.receiver.take().len();
        assert_eq!(sent, count * self.subscriptions, "each is sent once");
        let sent = sent as f64;
        let [cpu, emitting, intake, sending] = [cpu, emitting, intake, sending].map(|cpu| cpu / sent);
        Delivered { rate: sent / elapsed, cpu, emitting, intake, sending }
    }
}

impl Measured {
    fn rate(&self, label: &'static str, least: f64) -> Figure {
        let Load { subscriptions, concurrency } = self.load;
        let what =
            format!("delivered a second, {subscriptions} subscriptions, concurrency {concurrency} / raw awc");
        let figure = Figure::new(label, what, "/s", self.ours(|turn| turn.rate), Target::RatioAtLeast(least));
        figure.over(self.raw(|turn| turn.rate))
    }

    fn cpu(&self, label: &'static str, most: f64) -> Figure {
        let what = "CPU of all threads per delivery, as in 2 / of raw awc per POST";
        let of = |figure: fn(&Delivered) -> f64| self.ours(figure) * 1e6;
        let (cpu, emitting) = (of(|turn| turn.cpu), of(|turn| turn.emitting));
        let (intake, sending) = (of(|turn| turn.intake), of(|turn| turn.sending));
        let note = format!(
            "counted are all threads of the process from the first emit to the end of the runtime: \
             {emitting:.1} us in the one that emits, {intake:.1} in the Router's and Ledger's, \
             {sending:.1} in the Subscriptions'"
        );
        let figure = Figure::new(label, what, "us", cpu, Target::RatioAtMost(most));
        figure.over(self.raw(|turn| turn.cpu) * 1e6).note(note)
    }

    fn ours(&self, figure: impl Fn(&Delivered) -> f64) -> f64 {
        median(&self.ours.iter().map(figure).collect::<Vec<_>>())
    }

    fn raw(&self, figure: impl Fn(&Posted) -> f64) -> f64 {
        median(&self.raw.iter().map(figure).collect::<Vec<_>>())
    }
}

/// The events of each emitter.
fn shares(count: usize) -> Vec<Vec<Event>> {
    let events: Vec<Event> = (0..count).map(event).collect();
    events.chunks(count.div_ceil(EMITTERS)).map(<[Event]>::to_vec).collect()
}
