//! What is fuzzed: each function takes any bytes and panics where a promise does not hold. Built
//! into the library with `--cfg fuzzing` alone; `fuzz/` runs them.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs, reason = "a panic is the finding")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::Value;

use crate::delivery::{
    self, Delivery, DeliveryId, Failure, FailureClass, InFlight, Jitter, Lane, Outcome, Pending, Response,
    RetryPolicy, Verdict,
};
use crate::event::{Event, SpecId};
use crate::glob::Glob;
use crate::payload::{self, Answer, Format, Reader};
use crate::sources::place::RepoPaths;
use crate::sources::tasks::{self, TaskFile};
use crate::sources::telemetry;
use crate::sources::workflow_run::{Facts, Log, Name, Next, World};
use crate::store::{Store, StoreOptions};
use crate::{Environment, LoadOptions};

pub use crate::control::fuzzing::frame;
pub use crate::http::fuzzing::{answer, proxy};
pub use crate::spool::fuzzing::records;

/// Every target, by its name.
pub const TARGETS: [(&str, fn(&[u8])); 14] = [
    ("answer", answer),
    ("config", config),
    ("env_file", env_file),
    ("event", event),
    ("frame", frame),
    ("glob", glob),
    ("lane", lane),
    ("proxy", proxy),
    ("records", records),
    ("recovery", recovery),
    ("retry_after", retry_after),
    ("run_log", run_log),
    ("task_list", task_list),
    ("telemetry", telemetry),
];

fn now() -> Timestamp {
    Timestamp::from_second(1_760_436_000).unwrap()
}

/// A folder in memory for this process and target.
fn folder(name: &str) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let base = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    let folder = base.join(format!("spec-notify-fuzz-{}-{name}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// What every event must bear: a body that is JSON, and a message of each service that is, with
/// nobody called whom the config does not name.
fn told(event: &Event) {
    let body = payload::body(event).unwrap();
    serde_json::from_slice::<Value>(&body).unwrap();
    for format in Format::ALL {
        let message = format.render(event, &body, &Reader::default()).unwrap();
        serde_json::from_slice::<Value>(&message).unwrap();
        let calls = *format == Format::Slack && String::from_utf8_lossy(&message).contains("<!");
        assert!(!calls, "somebody is called");
    }
}

/// The first line is the path below the repo, the rest the file.
pub fn telemetry(bytes: &[u8]) {
    let (path, content) = split(bytes, b'\n');
    let root = Path::new("/r");
    let roots = [root.to_owned()];
    let paths = RepoPaths { root, evidence_dir: Path::new("/r/docs/ev"), source_roots: &roots };
    let named = Path::new("/r").join(String::from_utf8_lossy(path).trim_start_matches('/'));
    for file in [&named, Path::new("/r/docs/ev/commands/SPEC-1/spec-plan_s.json")] {
        if let Ok(event) = telemetry::read(file, content, &paths) {
            told(&event);
        }
    }
}

pub fn event(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(event) = Event::from_json(text) else { return };
    told(&event);
    let written = serde_json::to_string(&event).unwrap();
    let again = Event::from_json(&written).unwrap();
    assert_eq!(again.event.idempotency_key, event.event.idempotency_key);
    assert_eq!(serde_json::to_string(&again).unwrap(), written);
}

/// Two states of a list, parted by a NUL: what became done between them is told.
pub fn task_list(bytes: &[u8]) {
    let tracker: SpecId = "SPEC-T".parse().unwrap();
    for path in ["SPEC.md", "specs/001-a/tasks.md"] {
        let path = Path::new(path);
        let file = TaskFile {
            path,
            inside: path,
            evidence_dir: Path::new("docs/ev"),
            tracker: &tracker,
            extra_done: &[],
        };
        let rows = file.rows(&String::from_utf8_lossy(bytes));
        let ids: BTreeSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        assert_eq!(ids.len(), rows.len(), "an id counts once");
        for row in rows.iter().filter(|row| row.is_done).take(20) {
            told(&tasks::event(row, 1, &file, now()));
            told(&tasks::list_event(row, 1, rows.len(), &file, now()));
        }
    }
}

/// `workflow.yml`, `state.json` and the log, parted by NULs: read at once and byte by byte, the
/// same is told.
pub fn run_log(bytes: &[u8]) {
    let (workflow, rest) = split(bytes, 0);
    let (state, log) = split(rest, 0);
    let mut facts = Facts::default();
    facts.read_workflow(workflow);
    facts.read_state(state);
    let spec_now = || "SPEC-1".parse().ok();
    let world = World { facts: &facts, spec_now: &spec_now, is_final: true, is_fresh: true, now: now() };
    let name = || Name::of(Path::new("/r/.specify/workflows/runs/6f9a/log.jsonl"), Path::new("/r"));
    let read = |parts: &[usize]| {
        let (mut reader, mut keys) = (Log::new(name(), None, None), Vec::new());
        for end in parts {
            loop {
                let at = usize::try_from(reader.position()).unwrap().min(*end);
                match reader.next(&log[at..*end], &world) {
                    Next::Taken(events) => {
                        events.iter().for_each(told);
                        keys.extend(events.into_iter().map(|event| event.event.idempotency_key));
                    }
                    Next::Torn => break,
                    Next::Wants => panic!("it is final"),
                    Next::Replaced => panic!("nothing was replaced"),
                }
            }
        }
        reader.due(Duration::ZERO, &world).iter().for_each(told);
        (reader.position(), keys)
    };
    let whole = read(&[log.len()]);
    let half = log.len() / 2;
    assert_eq!(read(&[half / 2, half, log.len()]), whole, "how it grows makes no difference");
}

pub fn config(bytes: &[u8]) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| folder("config"));
    fs::write(folder.join("config.toml"), bytes).unwrap();
    let environment = Environment::fixed([("S", "0123456789abcdef")]);
    let options = LoadOptions::in_dir(folder).repo(folder).config("config.toml");
    let loaded = options.load(&environment);
    assert!(loaded.config.is_some() || !loaded.errors.is_empty(), "neither a config nor an error");
    let report = serde_json::to_string(&loaded.report()).unwrap();
    serde_json::from_str::<Value>(&report).unwrap();
}

pub fn env_file(bytes: &[u8]) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let file = FOLDER.get_or_init(|| folder("env")).join("env");
    fs::write(&file, bytes).unwrap();
    let environment = Environment::fixed([]).with_file(Some(&file));
    let read = environment.refresh();
    let text = String::from_utf8_lossy(bytes);
    for name in text.split(['=', '\n', ' ']).take(20) {
        if let Some(value) = environment.get(name) {
            assert!(!value.is_empty(), "empty is not set");
            assert!(!value.contains('\n'), "a value is of one line");
        }
    }
    if let Err(error) = read {
        let said = error.to_string();
        assert!(said.len() < 2_000, "{} bytes of error", said.len());
    }
}

/// The first line is the glob, the rest a text.
pub fn glob(bytes: &[u8]) {
    let (glob, text) = split(bytes, b'\n');
    let (glob, text) = (String::from_utf8_lossy(glob), String::from_utf8_lossy(text));
    if let Ok(glob) = Glob::of_text(&glob) {
        let _ = glob.is_match(&text);
    }
    let parts: Vec<&str> = glob.split('/').collect();
    let path = Glob::of_path(&parts);
    // What is written without signs is itself.
    if !glob.contains(['*', '?']) {
        assert!(path.is_match(&glob));
        assert_eq!(path.is_match(&text), glob == text);
    }
}

pub fn retry_after(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(wait) = delivery::retry_after(&text, now()) {
        assert!(wait <= delivery::MAX_RETRY_AFTER, "{wait:?}");
    }
    let _ = delivery::clock_skew(&text, now());
    for format in Format::ALL {
        for status in [200, 429, 503] {
            for content_type in [None, Some("text/html"), Some("application/json")] {
                let answer = Answer { status, content_type, body: Some(&text) };
                let _ = format.rejection(answer);
                let _ = format.wait(answer);
            }
        }
    }
}

/// Random operations on a lane beside a model that knows each delivery's state: nothing is lost,
/// nothing ends twice, bounds hold.
pub fn lane(bytes: &[u8]) {
    let mut bytes = bytes.iter().copied();
    let mut next = || bytes.next();
    let (Some(size), Some(bounds)) = (next(), next()) else { return };
    let (max_in_flight, max_pending) = (usize::from(size % 5) + 1, usize::from(size / 16) + 1);
    let second = Duration::from_secs(1);
    let policy = RetryPolicy {
        max_attempts: u32::from(bounds % 4) + 1,
        initial: second,
        factor: 2.0,
        max: second * 60,
        jitter: second,
    };
    let max_attempts = policy.max_attempts;
    let mut lane = Lane::new(policy, max_in_flight, max_pending);
    // A lane knows no time before it was made.
    let start = Instant::now();
    let mut at = start;
    // What the model knows: when each waiting one is due, and how often each was tried.
    let mut waiting: BTreeMap<DeliveryId, (Instant, u32)> = BTreeMap::new();
    let mut running: Vec<InFlight> = Vec::new();
    let mut ended: BTreeSet<DeliveryId> = BTreeSet::new();
    let (mut count, mut is_held, mut is_narrow, mut is_open) = (0usize, false, false, true);
    let mut paused_until = start;
    while let Some(operation) = next() {
        match operation % 12 {
            0..=3 => {
                let pending = pending();
                let id = pending.delivery().id;
                count += 1;
                waiting.insert(id, (at, 0));
                lane.enqueue(pending, at);
                while let Some(dropped) = lane.shed() {
                    let id = dropped.delivery().id;
                    assert!(waiting.remove(&id).is_some() && ended.insert(id), "dropped what did not wait");
                }
                assert!(lane.waiting() + running.len() <= max_pending.max(running.len()));
            }
            4..=6 => {
                while let Some((in_flight, _)) = lane.start_next(at) {
                    let id = in_flight.delivery().id;
                    let (due, attempts) = waiting.remove(&id).unwrap();
                    assert!(is_open && !is_held && at >= paused_until && due <= at, "started too early");
                    assert_eq!(in_flight.attempt(), attempts + 1);
                    assert!(in_flight.attempt() <= max_attempts);
                    running.push(in_flight);
                    assert!(running.len() <= if is_narrow { 1 } else { max_in_flight });
                }
            }
            7 | 8 if !running.is_empty() => {
                let in_flight = running.remove(usize::from(operation) % running.len());
                let (id, attempts) = (in_flight.delivery().id, in_flight.attempt());
                let outcome = outcome(next().unwrap_or(0));
                if let Some(pause) = outcome.pause() {
                    paused_until = paused_until.max(at + pause);
                }
                match lane.finished(in_flight, &outcome, Jitter(0.0), at) {
                    Verdict::Retry { pending, wait } => {
                        assert!(wait >= second && attempts < max_attempts);
                        waiting.insert(id, (at + wait, attempts));
                        lane.enqueue(pending, at + wait);
                        assert!(lane.shed().is_none(), "a retry pushes nobody out");
                    }
                    Verdict::Delivered | Verdict::DeadLetter(_) => assert!(ended.insert(id), "ended twice"),
                }
            }
            9 if !running.is_empty() => {
                let in_flight = running.pop().unwrap();
                let (id, attempts) = (in_flight.delivery().id, in_flight.attempt());
                waiting.insert(id, (at + second, attempts - 1));
                lane.put_back(in_flight, at, second);
            }
            10 => match next().unwrap_or(0) % 6 {
                0 => {
                    is_held = !is_held;
                    lane.set_held(is_held);
                }
                // What runs already goes on.
                1 if running.len() < 2 => {
                    is_narrow = !is_narrow;
                    lane.set_narrow(is_narrow);
                }
                2 => {
                    is_open = false;
                    lane.close();
                }
                3 => {
                    is_open = true;
                    lane.configure(lane.policy().clone(), max_in_flight, max_pending);
                }
                4 => {
                    let wanted = waiting.keys().next().copied().into_iter().collect();
                    for (pending, due) in lane.take(&wanted) {
                        let id = pending.delivery().id;
                        assert_eq!(waiting.remove(&id).map(|(due, _)| due), Some(due));
                        assert!(ended.insert(id));
                    }
                }
                _ => {
                    paused_until = paused_until.max(at + second);
                    lane.pause_until(at + second);
                }
            },
            _ => at += Duration::from_millis(u64::from(next().unwrap_or(0)) * 100),
        }
        assert_eq!((lane.waiting(), lane.in_flight()), (waiting.len(), running.len()));
        assert_eq!(waiting.len() + running.len() + ended.len(), count);
        // Whoever sleeps for so long misses nothing, and is not woken for nothing.
        if let Some(wait) = lane.next_due_in(at) {
            assert!(is_open && !is_held && wait < second * 3_700, "{wait:?}");
        }
    }
}

fn pending() -> Pending {
    Pending::new(Arc::new(Delivery::sample(DeliveryId::random(), "k")), None)
}

fn outcome(how: u8) -> Outcome {
    let retry_after = (how & 8 != 0).then(|| Duration::from_secs(u64::from(how)));
    let answer = |status| Ok(Response { status, retry_after, ..Response::default() });
    let result = match how % 6 {
        0 => answer(200),
        1 => answer(404),
        2 => answer(429),
        3 => answer(503),
        4 => answer(301),
        _ => Err(Failure { class: FailureClass::Timeout, message: String::new(), hint: "".into() }),
    };
    Outcome::new(result, Duration::ZERO)
}

/// Two files of a SPEC's spool, parted by a NUL, found at a start: it goes on, twice alike, and
/// what is unfinished can be read.
pub fn recovery(bytes: &[u8]) {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let base = FOLDER.get_or_init(|| folder("spool"));
    let _ = fs::remove_dir_all(base);
    let spec: SpecId = "SPEC-1".parse().unwrap();
    let files = base.join("spool").join(spec.as_str());
    fs::create_dir_all(&files).unwrap();
    for (number, content) in bytes.splitn(2, |byte| *byte == 0).enumerate() {
        fs::write(files.join(format!("spool-{}.jsonl", number + 1)), content).unwrap();
    }
    let mut found = Vec::new();
    for _ in 0..2 {
        let (mut store, recovered) = Store::open(StoreOptions::in_dir(base)).unwrap();
        let mut ids = BTreeSet::new();
        for unfinished in recovered.unfinished.values().flatten() {
            assert!(ids.insert(unfinished.delivery.id()), "found twice");
            let _ = store.body(&spec, unfinished.delivery.id());
        }
        found.push(ids);
        store.close().unwrap();
    }
    assert_eq!(found[0], found[1], "a second start finds the same");
}

/// What is before the first such byte and what is after it; all of it and nothing without one.
fn split(bytes: &[u8], by: u8) -> (&[u8], &[u8]) {
    let mut parts = bytes.splitn(2, |byte| *byte == by);
    (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
}
