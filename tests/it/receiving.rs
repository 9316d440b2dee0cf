//! The receiver of `docs/reference/receiving.md` as it stands there: deliveries come shuffled,
//! doubled and from four threads at once, and it is killed in between.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde_json::json;
use spec_notify::internals::{Secret, sign};
use spec_notify::{DeliveryId, Stage, Status};

use crate::harness::page::{block, page};
use crate::harness::{Endpoint, PATIENCE, Sandbox, payload_schema, wait_for};
use crate::recipes::Program;

/// What `Program` gives to every recipe.
const SECRET: &str = "the-secret-of-the-recipe";

/// Whose SPECs and keys are the same.
const REPOS: [&str; 2] = ["o/one", "o/two"];
const SPECS: usize = 3;
const STAGES: usize = 4;
const EVENTS: u64 = 12;

struct Delivery {
    id: String,
    body: String,
}

/// The newest sequence and status of each stage of each SPEC of each repo.
type Expected = BTreeMap<(String, String, String), (u64, String)>;

/// Two deliveries of each event, each of them twice, in any order.
fn deliveries() -> (Vec<Delivery>, Expected) {
    let (mut all, mut expected) = (Vec::new(), Expected::new());
    for n in 0..SPECS * STAGES * REPOS.len() {
        let (repo, n) = (REPOS[n % REPOS.len()], n / REPOS.len());
        let (spec, stage) = (format!("SPEC-{}", n / STAGES), Stage::ALL[n % STAGES]);
        for sequence in 1..=EVENTS {
            let sequence = sequence * 10 + n as u64;
            let status = Status::ALL[fastrand::usize(..Status::ALL.len())];
            let body = json!({"schemaVersion": "1.0",
                "event": {"type": "spec-auto.stage.completed", "stage": stage, "status": status,
                    "idempotency_key": format!("{spec}:{stage}:{sequence}"), "sequence": sequence,
                    "time": "2026-01-02T03:04:05.678Z"},
                "spec": {"id": spec}, "source": {"repo": repo},
                "pipeline": {"attempt": 1, "maxAttempts": 3}});
            assert!(payload_schema().is_valid(&body), "{body}");
            for _ in 0..2 {
                let id = DeliveryId::random().to_string();
                all.extend((0..2).map(|_| Delivery { id: id.clone(), body: body.to_string() }));
            }
            let place = (repo.to_owned(), spec.clone(), stage.to_string());
            expected.insert(place, (sequence, status.to_string()));
        }
    }
    fastrand::shuffle(&mut all);
    (all, expected)
}

/// Sends a request and returns the status of its answer, if there is one.
fn send(port: &str, delivery: &Delivery, secret: &str) -> Option<u16> {
    let Delivery { id, body } = delivery;
    let timestamp = Timestamp::now().as_second();
    let signature = sign::standard(&Secret::parse(secret).unwrap(), id, timestamp, body.as_bytes());
    let mut stream = TcpStream::connect(format!("127.0.0.1:{port}")).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nwebhook-id: {id}\r\nwebhook-timestamp: {timestamp}\r\n\
         webhook-signature: {signature}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all((head + body).as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.split(' ').nth(1)?.parse().ok()
}

/// What the receiver holds.
fn query<T: DeserializeOwned>(file: &Path, sql: &str) -> Vec<T> {
    let script = "import json, sqlite3, sys\n\
        print(json.dumps(sqlite3.connect(sys.argv[1]).execute(sys.argv[2]).fetchall()))";
    let output = Command::new("python3").args(["-c", script]).arg(file).arg(sql).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

#[test]
fn the_receiver_applies_each_event_once_and_keeps_the_newest_though_it_is_killed() {
    let sandbox = Sandbox::new(&[]);
    let file = sandbox.write("receiver.py", &block(&page("docs/reference/receiving.md"), "python"));
    let database = sandbox.path().join("state.db");
    let port = Endpoint::down().address().port().to_string();
    let start = || Program::start(&file, &port, &[("STATE", database.to_str().unwrap())]);
    let mut program = start();
    if program.is_none() {
        return;
    }
    let (all, expected) = deliveries();
    wait_for("the receiver", || send(&port, &all[0], "another-secret-altogether").filter(|it| *it == 401));
    let answered = AtomicUsize::new(0);
    thread::scope(|scope| {
        for part in all.chunks(all.len().div_ceil(4)) {
            let (port, answered) = (&port, &answered);
            scope.spawn(move || {
                for delivery in part {
                    wait_for("an answer", || {
                        let status = send(port, delivery, SECRET);
                        assert!(status.is_none_or(|status| status == 204), "{status:?}");
                        status
                    });
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for kill in 1..=5 {
            wait_for("some answers", || {
                (answered.load(Ordering::Relaxed) > kill * all.len() / 7).then_some(())
            });
            drop(program.take());
            program = start();
        }
    });
    drop(program);
    let held: Vec<(String, String, String, String, u64, u64)> = query(&database, "SELECT * FROM stages");
    assert_eq!(held.len(), SPECS * STAGES * REPOS.len());
    for (repo, spec, stage, status, sequence, events) in held {
        let place = format!("{repo} {spec} {stage}");
        assert_eq!((sequence, status), expected[&(repo, spec, stage)], "{place}");
        assert_eq!(events, EVENTS, "{place}: each was applied once");
    }
    let seen: Vec<[usize; 1]> = query(&database, "SELECT count(*) FROM seen");
    assert_eq!(seen, [[all.len() / 2 + all.len() / 4]], "each delivery, and each event");
}
