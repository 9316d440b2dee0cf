//! What a delivery costs beside the parts it stands on, measured in the same run: `cargo bench`.
//!
//! Every figure is the median of interleaved rounds. The ratio is what travels to other machines; the rest does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a bench that cannot measure has nothing else to do"
)]

mod receiver;

use std::fs::{self, OpenOptions};
use std::hint::black_box;
use std::io::Write as _;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use receiver::Receiver;
use spec_notify::config::{LoadOptions, load};
use spec_notify::delivery::{Delivery, DeliveryId};
use spec_notify::event::{Event, EventKind, IdempotencyKey};
use spec_notify::secret::Secret;
use spec_notify::sign::{self, Secrets};
use spec_notify::{Environment, Receipt, Runtime};

const ROUNDS: usize = 5;
/// Few enough that no compaction removes the record that is read back.
const ACCEPTS_A_ROUND: usize = 300;
const DELIVERIES_A_ROUND: usize = 6_400;
const BODY_BYTES: usize = 2_048;
const EMITTERS: usize = 64;
const SECRET: &str = "a secret of the bench, 32 bytes!";
const SPEC: &str = "SPEC-BENCH-1";

fn main() {
    if std::env::args().nth(1).as_deref() == Some(receiver::ARGUMENT) {
        return receiver::serve().expect("the receiver serves");
    }
    println!("{:<44} {:>12} {:>12} {:>7}", "what", "ours", "reference", "ratio");
    durable_accept();
    let receiver = Receiver::spawn().expect("a receiver process");
    for (subscriptions, concurrency) in [(16, 64), (1, 4)] {
        throughput(&receiver, subscriptions, concurrency);
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One emitter, one event at a time, beside one append and fdatasync of the same bytes in the same directory.
fn durable_accept() {
    let mut ours = Vec::new();
    let mut reference = Vec::new();
    for _ in 0..ROUNDS {
        let repo = tempfile::tempdir().unwrap();
        let runtime = start(repo.path(), 9, 1, 4, "dry_run = true");
        let handle = runtime.handle();
        let events: Vec<Event> = (0..ACCEPTS_A_ROUND).map(event).collect();
        let mut times = Vec::new();
        for event in events {
            let started = Instant::now();
            let receipt = handle.emit_blocking(event, Duration::from_secs(10)).unwrap();
            times.push(started.elapsed().as_secs_f64());
            assert!(matches!(receipt, Receipt::Accepted(_)));
        }
        ours.push(median(times));
        runtime.drain(Duration::from_secs(10));

        let line = accepted_line(repo.path());
        let path = repo.path().join("reference");
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        let append = |_| {
            let started = Instant::now();
            file.write_all(&line).unwrap();
            file.sync_data().unwrap();
            started.elapsed().as_secs_f64()
        };
        reference.push(median((0..ACCEPTS_A_ROUND).map(append).collect()));
    }
    let (ours, reference) = (median(ours) * 1e3, median(reference) * 1e3);
    println!(
        "{:<44} {ours:>9.3} ms {reference:>9.3} ms {:>7.2}",
        "durable accept, one emitter, p50 / fdatasync",
        ours / reference
    );
}

/// An accepted event as it stands in the spool.
fn accepted_line(repo: &Path) -> Vec<u8> {
    let spool = fs::read_dir(repo.join("spool")).unwrap().map(|entry| entry.unwrap().path());
    let journal =
        spool.map(|dir| dir.join("spool-00000001.jsonl")).find(|path| path.exists()).expect("a journal");
    let journal = fs::read(journal).unwrap();
    let is_accepted = |line: &&[u8]| line.windows(11).any(|word| word == b"\"accepted\":");
    journal.split_inclusive(|byte| *byte == b'\n').find(is_accepted).expect("an accepted event").to_vec()
}

/// Deliveries a second through accept, fsync, sign, POST and evidence, beside raw awc that signs and sends.
fn throughput(receiver: &Receiver, subscriptions: usize, concurrency: usize) {
    let mut ours = Vec::new();
    let mut reference = Vec::new();
    for _ in 0..ROUNDS {
        ours.push(through_everything(receiver, subscriptions, concurrency));
        reference.push(through_awc(receiver, concurrency));
    }
    let (ours, reference) = (median(ours), median(reference));
    println!(
        "{:<44} {ours:>10.0}/s {reference:>10.0}/s {:>7.2}",
        format!("delivered, {subscriptions} subscriptions, concurrency {concurrency} / awc"),
        ours / reference
    );
}

fn through_everything(receiver: &Receiver, subscriptions: usize, concurrency: usize) -> f64 {
    let repo = tempfile::tempdir().unwrap();
    let runtime = start(repo.path(), receiver.port, subscriptions, concurrency, "");
    let count = DELIVERIES_A_ROUND / subscriptions;
    let mut events: Vec<Event> = (0..count).map(event).collect();
    let shares: Vec<Vec<Event>> =
        (0..EMITTERS).map(|_| events.split_off(events.len() - count / EMITTERS)).collect();
    let tokio = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let before = posts(receiver);
    let started = Instant::now();
    tokio.block_on(async {
        let handle = runtime.handle();
        join_all(shares.into_iter().map(async |share| {
            for event in share {
                handle.emit(event).await.unwrap();
            }
        }))
        .await;
        handle.idle().await;
    });
    let elapsed = started.elapsed().as_secs_f64();
    let sent = posts(receiver) - before;
    assert_eq!(sent, count / EMITTERS * EMITTERS * subscriptions);
    assert_eq!(runtime.drain(Duration::from_secs(10)).pending, 0);
    sent as f64 / elapsed
}

fn through_awc(receiver: &Receiver, concurrency: usize) -> f64 {
    let body = Bytes::from(serde_json::to_vec(&event(0)).unwrap());
    let secrets = Rc::new(Secrets { current: Secret::parse(SECRET).unwrap(), previous: None });
    let url = format!("http://127.0.0.1:{}/", receiver.port);
    actix_rt::System::new().block_on(async {
        let client =
            awc::Client::builder().connector(awc::Connector::new().limit(0)).no_default_headers().finish();
        let started = Instant::now();
        join_all((0..concurrency).map(async |_| {
            for _ in 0..DELIVERIES_A_ROUND / concurrency {
                let delivery = Delivery {
                    id: DeliveryId::random(),
                    subscription: "raw".parse().unwrap(),
                    spec: SPEC.parse().unwrap(),
                    key: "key".parse().unwrap(),
                    kind: EventKind::StageCompleted,
                    accepted_at: "2026-01-01T00:00:00Z".parse().unwrap(),
                    format: spec_notify::payload::Format::SpecKit,
                };
                let mut request = client.post(&url);
                for header in sign::headers(&delivery, &body, 1, 1_767_225_600, &secrets).unwrap() {
                    request = request.insert_header(header);
                }
                let mut answer = request.send_body(body.clone()).await.unwrap();
                black_box(answer.body().await.unwrap());
            }
        }))
        .await;
        (DELIVERIES_A_ROUND / concurrency * concurrency) as f64 / started.elapsed().as_secs_f64()
    })
}

/// How many POSTs the receiver has had.
fn posts(receiver: &Receiver) -> usize {
    actix_rt::System::new().block_on(async {
        let url = format!("http://127.0.0.1:{}/", receiver.port);
        let body = awc::Client::default().get(url).send().await.unwrap().body().await.unwrap();
        std::str::from_utf8(&body).unwrap().parse().unwrap()
    })
}

fn start(repo: &Path, port: u16, subscriptions: usize, concurrency: usize, extra: &str) -> Runtime {
    let mut config = format!(
        "[spec_ops.webhooks]\nenabled = true\nspool_dir = \"spool\"\nmax_concurrency = {concurrency}\n"
    );
    for n in 0..subscriptions {
        config.push_str(&format!(
            "[[spec_ops.webhooks.subscriptions]]\nid = \"s{n}\"\nurl = \"http://127.0.0.1:{port}/\"\n\
             secret_env = \"SECRET\"\n{extra}\n"
        ));
    }
    fs::create_dir_all(repo.join(".spec-kit")).unwrap();
    fs::write(repo.join(".spec-kit/config.toml"), config).unwrap();
    let environment = Environment::fixed([("SECRET", SECRET)]);
    let options =
        LoadOptions { config: None, repo: Some(repo.into()), working_dir: repo.into(), secrets: true };
    let loaded = load(&options, &environment);
    Runtime::start(loaded.config.expect("a good config"), environment).unwrap()
}

/// A stage event whose body has about [`BODY_BYTES`].
fn event(n: usize) -> Event {
    let key: IdempotencyKey = format!("{SPEC}:plan:attempt-1:{n}").parse().unwrap();
    let mut event = Event::new(EventKind::StageCompleted, SPEC.parse().unwrap(), key);
    let bare = serde_json::to_vec(&event).unwrap().len() + r#","message":"""#.len();
    event.extra.insert("message".to_owned(), "x".repeat(BODY_BYTES - bare).into());
    event
}
