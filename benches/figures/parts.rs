//! The parts alone: what a delivery cannot do without, on threads as spec-notify has them, and
//! nothing else. The same figures as the table's, so each says how near to its target any
//! arrangement of these parts could come on this machine.
//!
//! An event is serialised and its record built on the thread that emits. One thread owns the disk:
//! it writes what has come, syncs it if there are events in it, and answers. One more signs,
//! hashes and sends, with awc. What became of a delivery goes back to the disk's thread as the
//! bytes that spec-notify writes of it, made beforehand. As many deliveries are sent and not
//! written as a kill may have sent again (figure 16).

use std::fs::{self, File, OpenOptions};
use std::hint::black_box;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use spec_notify::Event;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::Bench;
use super::accept::{EMITTERS, IN_TURN, Reference};
use super::machine::{in_turn, median, own_cpu_seconds, thread_cpu_seconds};
use super::raw::{self, Raw};
use super::repo::{EVIDENCE, Entry, Repo, SPEC, drain, event};
use super::table::{Figure, Target};

/// Records that are written together at most.
const MAX_BATCH: usize = 256;

/// Deliveries of a subscription that may have ended and not be written, beyond `max_in_flight`.
const UNWRITTEN: usize = 4;

/// `max_in_flight` of a subscription at most, by default.
const MAX_IN_FLIGHT: usize = 8;

/// What spec-notify writes, byte for byte.
#[derive(Clone)]
struct Written {
    /// Of an accepted event: what stands before its payload.
    before_payload: Vec<u8>,
    /// Of a delivery that ended: its lines of evidence.
    evidence: Vec<u8>,
    /// The same: its record.
    end: Vec<u8>,
}

impl Written {
    /// Of one event that was delivered to `url`.
    fn of(url: &str, lines: &'static str) -> Self {
        let repo = Repo::new("", &[Entry::new("one", url, lines)]);
        let runtime = repo.runtime();
        let handle = runtime.handle();
        handle.emit_blocking(event("written"), Duration::from_secs(10)).expect("accepted");
        handle.block(Duration::from_secs(10), handle.idle()).expect("delivered");
        drain(runtime);
        let spool = fs::read(repo.spool().join(SPEC).join("spool-00000001.jsonl")).expect("a journal");
        let line = |has: &str| {
            let mut lines = spool.split_inclusive(|byte| *byte == b'\n');
            let has = has.as_bytes();
            lines.find(|line| line.windows(has.len()).any(|word| word == has)).expect("a record").to_vec()
        };
        let accepted = line("\"accepted\":");
        let body = accepted.windows(8).position(|word| word == b"\"body\":{").expect("a payload");
        let evidence =
            repo.path().join(EVIDENCE).join("commands").join(SPEC).join("webhooks/deliveries.jsonl");
        Self {
            before_payload: accepted[..body].to_vec(),
            evidence: fs::read(evidence).expect("evidence"),
            end: line("\"finished\":"),
        }
    }

    /// The record of an event.
    fn accepted(&self, payload: &[u8]) -> Vec<u8> {
        let mut record = Vec::with_capacity(self.before_payload.len() + payload.len() + 16);
        record.extend_from_slice(&self.before_payload);
        record.extend_from_slice(payload);
        let sum = crc32fast::hash(&record);
        writeln!(record, "{sum:08x}").expect("written");
        record
    }
}

/// To the disk's thread.
#[derive(Debug)]
enum Job {
    /// An event: answered when it is synced.
    Accept { record: Vec<u8>, payload: Bytes, reply: oneshot::Sender<()> },
    /// A delivery ended, which is one that may be unwritten.
    End(OwnedSemaphorePermit),
}

/// The disk's thread.
struct Disk {
    jobs: mpsc::UnboundedReceiver<Job>,
    written: Written,
    /// Hears of what is accepted; without it each event ends at once.
    sender: Option<mpsc::UnboundedSender<Bytes>>,
    spool: Batched,
    evidence: Batched,
    ended: usize,
}

/// Room that is made in the spool's file at a time.
const ROOM: u64 = 512 * 1024;

/// A file, and what is to be written to it.
struct Batched {
    file: File,
    batch: Vec<u8>,
    length: u64,
    size: u64,
}

impl Batched {
    fn in_folder(folder: &Path, name: &str) -> Self {
        let file = OpenOptions::new().write(true).create_new(true).open(folder.join(name)).expect("a file");
        Self { file, batch: Vec::new(), length: 0, size: 0 }
    }

    fn write(&mut self) {
        self.file.write_all_at(&self.batch, self.length).expect("written");
        self.length += self.batch.len() as u64;
        self.batch.clear();
    }

    /// As [`write`](Self::write), synced, into room that is made beforehand.
    fn sync(&mut self) {
        self.write();
        if self.length > self.size {
            self.file.write_all_at(&vec![0; ROOM as usize], self.length).expect("room");
            self.size = self.length + ROOM;
        }
        self.file.sync_data().expect("synced");
    }
}

impl Disk {
    /// One to be run, and where its jobs go.
    fn new(
        folder: &Path,
        written: &Written,
        sender: Option<mpsc::UnboundedSender<Bytes>>,
    ) -> (mpsc::UnboundedSender<Job>, Self) {
        let (to, jobs) = mpsc::unbounded_channel();
        let (spool, evidence) = (Batched::in_folder(folder, "spool"), Batched::in_folder(folder, "evidence"));
        (to, Self { jobs, written: written.clone(), sender, spool, evidence, ended: 0 })
    }

    /// Until `ends` deliveries have ended, or nobody emits any more.
    fn run(mut self, ends: usize) {
        while self.ended < ends
            && let Some(first) = self.jobs.blocking_recv()
        {
            let (mut accepted, mut written) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            let mut batch = 0;
            while let Some(job) = next {
                match job {
                    Job::Accept { record, payload, reply } => {
                        self.spool.batch.extend_from_slice(&record);
                        accepted.push((payload, reply));
                    }
                    Job::End(unwritten) => {
                        self.end();
                        written.push(unwritten);
                    }
                }
                batch += 1;
                next = if batch < MAX_BATCH { self.jobs.try_recv().ok() } else { None };
            }
            self.evidence.write();
            if accepted.is_empty() {
                self.spool.write();
            } else {
                self.spool.sync();
            }
            drop(written);
            for (payload, reply) in accepted {
                match &self.sender {
                    Some(sender) => sender.send(payload).expect("somebody sends"),
                    // Its end is of the next batch.
                    None => self.end(),
                }
                reply.send(()).expect("an emitter waits");
            }
        }
        self.evidence.write();
        self.spool.write();
    }

    /// Adds what is written of a delivery that ended.
    fn end(&mut self) {
        self.evidence.batch.extend_from_slice(&self.written.evidence);
        self.spool.batch.extend_from_slice(&self.written.end);
        self.ended += 1;
    }
}

/// Emits: serialises, builds the record, and waits until it is synced.
async fn emit(jobs: &mpsc::UnboundedSender<Job>, written: &Written, event: &Event) {
    let payload = Bytes::from(serde_json::to_vec(event).expect("JSON"));
    let record = written.accepted(&payload);
    let (reply, answer) = oneshot::channel();
    jobs.send(Job::Accept { record, payload, reply }).expect("the disk's thread runs");
    answer.await.expect("synced");
}

/// The thread that sends: each payload to `copies` endpoints, `concurrency` at a time, and no more
/// than may be unwritten.
fn send(
    url: &str,
    copies: usize,
    concurrency: usize,
    mut accepted: mpsc::UnboundedReceiver<Bytes>,
    ended: &mpsc::UnboundedSender<Job>,
) {
    actix_rt::System::new().block_on(async {
        let raw = Rc::new(Raw::to(url));
        let permits = Arc::new(Semaphore::new(concurrency));
        let unwritten = Arc::new(Semaphore::new(copies * (concurrency.min(MAX_IN_FLIGHT) + UNWRITTEN)));
        while let Some(payload) = accepted.recv().await {
            black_box(openssl::sha::sha256(&payload));
            for _ in 0..copies {
                let unwritten = unwritten.clone().acquire_owned().await.expect("a permit");
                let permit = permits.clone().acquire_owned().await.expect("a permit");
                let (raw, ended, payload) = (raw.clone(), ended.clone(), payload.clone());
                actix_rt::spawn(async move {
                    raw.post(&payload).await;
                    drop(permit);
                    // The disk's thread ends with the last one.
                    drop(ended.send(Job::End(unwritten)));
                });
            }
        }
        drop(permits.acquire_many(u32::try_from(concurrency).expect("few")).await);
    });
}

/// What a turn came to: a second, and CPU seconds of the process for each, and of these of the
/// disk's thread and of the one that sends.
struct Turn {
    rate: f64,
    cpu: f64,
    disk: f64,
    sending: f64,
}

/// As [`throughput`](super::throughput): from the first emit until every delivery is recorded.
fn delivered(
    bench: &Bench,
    written: &Written,
    subscriptions: usize,
    concurrency: usize,
    count: usize,
) -> Turn {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let url = bench.receiver.url("");
    bench.receiver.take();
    let deliveries = count * subscriptions;
    let events: Vec<Event> = (0..count).map(event).collect();
    let (started, before) = (Instant::now(), own_cpu_seconds());
    let [disk, sending] = thread::scope(|scope| {
        let (sender, accepted) = mpsc::unbounded_channel();
        let (jobs, disk) = Disk::new(folder.path(), written, Some(sender));
        let disk = scope.spawn(move || {
            disk.run(deliveries);
            thread_cpu_seconds()
        });
        let (ended, url) = (jobs.clone(), &url);
        let sending = scope.spawn(move || {
            send(url, subscriptions, concurrency, accepted, &ended);
            thread_cpu_seconds()
        });
        at_once(&jobs, written, &events);
        [disk, sending].map(|thread| thread.join().expect("a thread that ends"))
    });
    let (elapsed, cpu) = (started.elapsed().as_secs_f64(), own_cpu_seconds() - before);
    assert_eq!(bench.receiver.take().len(), deliveries, "each is sent once");
    let deliveries = deliveries as f64;
    let [cpu, disk, sending] = [cpu, disk, sending].map(|cpu| cpu / deliveries);
    Turn { rate: deliveries / elapsed, cpu, disk, sending }
}

/// Every emitter has its events accepted.
fn at_once(jobs: &mpsc::UnboundedSender<Job>, written: &Written, events: &[Event]) {
    let tokio = tokio::runtime::Builder::new_current_thread().build().expect("an executor");
    tokio.block_on(join_all(events.chunks(events.len().div_ceil(EMITTERS)).map(async |share| {
        for event in share {
            emit(jobs, written, event).await;
        }
    })));
}

pub(super) fn many_endpoints(bench: &Bench) -> Vec<Figure> {
    let (parts, reference) = beside_awc(bench, 16, 64);
    let cpu = cpu_of(&parts);
    vec![rate("L1", "16 subscriptions, concurrency 64", &parts, &reference, 0.8).note(cpu)]
}

pub(super) fn one_endpoint(bench: &Bench) -> Vec<Figure> {
    let (parts, reference) = beside_awc(bench, 1, 4);
    let cpu = median(&parts.iter().map(|turn| turn.cpu * 1e6).collect::<Vec<_>>());
    let raw = median(&reference.iter().map(|turn| turn.cpu * 1e6).collect::<Vec<_>>());
    let what = "the parts alone: CPU of all threads per delivery / of raw awc per POST";
    vec![
        rate("L2", "1 subscription, concurrency 4", &parts, &reference, 0.65),
        Figure::new("L2b", what, "us", cpu, Target::RatioAtMost(1.6)).over(raw).note(cpu_of(&parts)),
    ]
}

/// In words, what each thread takes of a delivery.
fn cpu_of(parts: &[Turn]) -> String {
    let of = |figure: fn(&Turn) -> f64| median(&parts.iter().map(figure).collect::<Vec<_>>()) * 1e6;
    let (all, disk, sending) = (of(|turn| turn.cpu), of(|turn| turn.disk), of(|turn| turn.sending));
    format!("{all:.1} us of CPU, {disk:.1} of it in the disk's thread, {sending:.1} in the one that sends")
}

fn beside_awc(bench: &Bench, subscriptions: usize, concurrency: usize) -> (Vec<Turn>, Vec<raw::Posted>) {
    let url = bench.receiver.url("");
    let written = Written::of(&url, "");
    let deliveries = bench.count(6_400, 1_024);
    in_turn(
        bench.rounds(),
        || delivered(bench, &written, subscriptions, concurrency, deliveries / subscriptions),
        || raw::posted(&url, deliveries, concurrency),
    )
}

fn rate(label: &'static str, what: &str, parts: &[Turn], reference: &[raw::Posted], least: f64) -> Figure {
    let ours = median(&parts.iter().map(|turn| turn.rate).collect::<Vec<_>>());
    let raw = median(&reference.iter().map(|turn| turn.rate).collect::<Vec<_>>());
    let what = format!("the parts alone: delivered a second, {what} / raw awc");
    Figure::new(label, what, "/s", ours, Target::RatioAtLeast(least)).over(raw)
}

pub(super) fn one_emitter(bench: &Bench) -> Vec<Figure> {
    let written = dry_run();
    let (mut ours, mut reference) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut file = Reference::in_folder(folder.path());
        let (mut emits, mut syncs) = (Vec::new(), Vec::new());
        thread::scope(|scope| {
            let (jobs, disk) = Disk::new(folder.path(), &written, None);
            scope.spawn(move || disk.run(usize::MAX));
            let tokio = tokio::runtime::Builder::new_current_thread().build().expect("an executor");
            for turn in 0..bench.count(15, 2) {
                let events: Vec<Event> = (0..IN_TURN).map(|n| event(format!("{turn}-{n}"))).collect();
                for event in &events {
                    let started = Instant::now();
                    tokio.block_on(emit(&jobs, &written, event));
                    emits.push(started.elapsed().as_secs_f64());
                }
                syncs.extend(file.syncs(IN_TURN, Duration::ZERO));
            }
        });
        ours.push(median(&emits) * 1e3);
        reference.push(median(&syncs) * 1e3);
    }
    let what = "the parts alone: durable accept, one emitter, p50 / append and fdatasync p50";
    vec![Figure::new("L3", what, "ms", median(&ours), Target::RatioAtMost(1.35)).over(median(&reference))]
}

pub(super) fn many_emitters(bench: &Bench) -> Vec<Figure> {
    let written = dry_run();
    let (mut ours, mut reference, mut disks) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.rounds() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut file = Reference::in_folder(folder.path());
        let (mut seconds, mut syncs) = (0.0, Vec::new());
        let (turns, each) = (bench.count(10, 1), bench.count(10, 2));
        let disk = thread::scope(|scope| {
            let (jobs, disk) = Disk::new(folder.path(), &written, None);
            let disk = scope.spawn(move || {
                disk.run(usize::MAX);
                thread_cpu_seconds()
            });
            for turn in 0..turns {
                let events: Vec<Event> = (0..EMITTERS * each).map(|n| event(format!("{turn}-{n}"))).collect();
                let started = Instant::now();
                at_once(&jobs, &written, &events);
                seconds += started.elapsed().as_secs_f64();
                syncs.extend(file.syncs(IN_TURN, Duration::ZERO));
            }
            drop(jobs);
            disk.join().expect("a thread that ends")
        });
        let count = (EMITTERS * each * turns) as f64;
        ours.push(count / seconds);
        disks.push(disk / count * 1e6);
        reference.push(syncs.len() as f64 / syncs.iter().sum::<f64>());
    }
    let what = "the parts alone: durable accepts a second, 64 emitters / fdatasyncs a second";
    let note = format!("{:.1} us of CPU in the disk's thread for each", median(&disks));
    let figure = Figure::new("L4", what, "/s", median(&ours), Target::RatioAtLeast(12.0));
    vec![figure.over(median(&reference)).note(note)]
}

fn dry_run() -> Written {
    Written::of("http://127.0.0.1:9/", "dry_run = true")
}
