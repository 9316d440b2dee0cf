//! Tests: the store is stopped, or its disk fills up, between any two file operations; its files
//! are cut and flipped.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::archive::{Attempt, Effect, Finished, RequestLine};
use crate::delivery::{Delivery, FinalState, Identities, Identity, KeyDigest, Outcome, Reason, Response};
use crate::event::{Event, EventKind, IdempotencyKey, Stage, Status};
use crate::files::{self, fault};
use crate::run::{Run, RunPolicy};
use crate::spool::{Accepted, AcceptedDelivery, Inbox, encode, put_in_inbox};

fn spec() -> SpecId {
    "SPEC-1".parse().unwrap()
}

/// What the workload was told, step by step.
#[derive(Default)]
struct Told {
    /// Deliveries of acknowledged events.
    accepted: BTreeSet<DeliveryId>,
    known: BTreeSet<String>,
    /// Deliveries whose end was begun, and those of them whose end was confirmed.
    ending: BTreeSet<DeliveryId>,
    ended: BTreeSet<DeliveryId>,
    /// Dead letters that were confirmed and not removed.
    dead: BTreeSet<DeliveryId>,
    /// Dead letters whose removal was begun.
    resolving: BTreeSet<DeliveryId>,
    queued: BTreeSet<String>,
    /// The confirmed run, and the run once everything begun is accepted.
    run: Run,
    run_begun: Run,
    /// The last confirmed `event.sequence`, and the last that was begun.
    sequence: u64,
    sequence_begun: u64,
}

/// A bound at which the evidence file is rotated once, and both files hold all lines of the
/// workload.
fn options(dir: &Path) -> StoreOptions {
    StoreOptions { max_evidence_bytes: 9_000, ..StoreOptions::in_dir(dir) }
}

/// Repeats a step until it succeeds.
fn insist<T, E: std::fmt::Debug>(mut step: impl FnMut() -> Result<T, E>) -> T {
    for _ in 0..10 {
        if let Ok(done) = step() {
            return done;
        }
    }
    step().unwrap()
}

/// Commits what was added, makes room for more, then lets the store look again, in case the disk
/// was full.
fn commit(store: &mut Store, added: Result<(), FileError>) -> Result<(), FileError> {
    let committed = store.commit().into_values().next().map_or(Ok(()), Err);
    store.make_room_ahead();
    store.look();
    added.and(committed)
}

/// One delivery, and the number of its attempts so far.
struct Way {
    delivery: Arc<Delivery>,
    attempts: u32,
}

impl Way {
    fn new(id: DeliveryId, subscription: &str, key: &str) -> Self {
        let subscription = subscription.parse().unwrap();
        let delivery = Delivery { subscription, ..Delivery::sample(id, key) };
        Self { delivery: Arc::new(delivery), attempts: 0 }
    }

    /// Ends an attempt as a subscription does: repeated until it is written.
    fn ends(&mut self, store: &mut Store, effect: Effect) {
        self.attempts += 1;
        let status = if matches!(effect, Effect::Delivered | Effect::Replayed) { 200 } else { 500 };
        let response = Response { status, ..Response::default() };
        let outcome = Outcome::new(Ok(response), Duration::ZERO);
        let request = RequestLine {
            url: "http://127.0.0.1".to_owned(),
            headers: Vec::new(),
            body_sha256: String::new(),
            body_bytes: 0,
        };
        let attempt = Attempt {
            number: self.attempts,
            at: clock::now(),
            request,
            outcome: Some(outcome),
            unsent: None,
        };
        let finished = Finished { delivery: self.delivery.clone(), attempt, effect };
        let mut again = false;
        insist(|| {
            let added = store.settle(&finished, again);
            again = true;
            commit(store, added)
        });
    }

    fn is_retried(&mut self, store: &mut Store) {
        self.ends(store, Effect::Retry { next_attempt_at: clock::now() });
    }

    fn is_delivered(&mut self, store: &mut Store, told: &RefCell<Told>) {
        told.borrow_mut().ending.insert(self.delivery.id);
        self.ends(store, Effect::Delivered);
        told.borrow_mut().ended.insert(self.delivery.id);
    }

    fn dies(&mut self, store: &mut Store, told: &RefCell<Told>) {
        let id = self.delivery.id;
        told.borrow_mut().ending.insert(id);
        self.ends(store, Effect::DeadLetter(Reason::Exhausted { attempts: self.attempts + 1 }));
        told.borrow_mut().dead.insert(id);
        told.borrow_mut().ended.insert(id);
    }

    fn is_dropped(&self, store: &mut Store, told: &RefCell<Told>) {
        let id = self.delivery.id;
        told.borrow_mut().ending.insert(id);
        insist(|| {
            let added = store.give_up(&self.delivery, Reason::SpoolSaturated, None);
            commit(store, added)
        });
        told.borrow_mut().dead.insert(id);
        told.borrow_mut().ended.insert(id);
    }

    fn is_replayed(&mut self, store: &mut Store, told: &RefCell<Told>, arrives: bool) {
        let letter = Box::new(store.read_dead_letter(&spec(), self.delivery.id).unwrap());
        match arrives {
            true => {
                told.borrow_mut().resolving.insert(self.delivery.id);
                self.ends(store, Effect::Replayed);
            }
            false => self.ends(store, Effect::ReplayFailed(letter)),
        }
    }
}

/// Accepts an event for two subscriptions. After a refusal it is accepted as a new event, as an
/// emitter would do.
fn accept(store: &mut Store, told: &RefCell<Told>, key: &str, inbox: Option<&InboxName>) -> [Way; 2] {
    let mut event = Event::new(EventKind::StageCompleted, spec(), key.parse().unwrap());
    event.event.stage = Some(Stage::Plan);
    let policy = RunPolicy { max_stage_attempts: 3, cost_threshold_usd: None, stall_after: None };
    let step = told.borrow().run.plan(&mut event, &policy, jiff::Timestamp::UNIX_EPOCH);
    step.iter().for_each(|step| told.borrow_mut().run_begun.take(step));
    let ids = insist(|| {
        // Far ahead of the clock, from which it could not be had again.
        let sequence = told.borrow().sequence_begun.max(4_000_000_000_000) + 1;
        told.borrow_mut().sequence_begun = sequence;
        let ids = [DeliveryId::random(), DeliveryId::random()];
        let to = |(id, name): (DeliveryId, &str)| AcceptedDelivery::new(id, name.parse().unwrap());
        let deliveries = ids.into_iter().zip(["a", "b"]).map(to).collect();
        let body = Bytes::from(format!(r#"{{"key":"{key}"}}"#));
        let at = clock::now();
        let mut accepted =
            Accepted::of_bytes(at, key.parse().unwrap(), EventKind::StageCompleted, deliveries, &body)
                .unwrap();
        accepted.inbox = inbox.map(ToString::to_string);
        accepted.run.clone_from(&step);
        accepted.sequence = Some(sequence);
        let added = store.append(&spec(), &Record::Accepted(accepted));
        commit(store, added).map(|()| ids)
    });
    step.iter().for_each(|step| told.borrow_mut().run.take(step));
    let sequence = told.borrow().sequence_begun;
    told.borrow_mut().sequence = sequence;
    told.borrow_mut().accepted.extend(ids);
    told.borrow_mut().known.insert(key.to_owned());
    let [a, b] = ids;
    [Way::new(a, "a", key), Way::new(b, "b", key)]
}

/// Runs every kind of operation, in several orders: accept, attempt, deliver, bury, drop, replay,
/// take in the inbox, compact, rotate the evidence.
fn workload(dir: &Path, told: &RefCell<Told>) {
    let options = options(dir);
    let (mut store, _) = insist(|| Store::open(options.clone()));
    let store = &mut store;
    let [mut a, mut b] = accept(store, told, "k0", None);
    let [mut c, d] = accept(store, told, "k1", None);
    a.is_retried(store);
    c.is_retried(store);
    c.is_retried(store);
    b.is_delivered(store, told);
    store.spool.compact(&spec());
    a.is_retried(store);
    a.dies(store, told);
    c.dies(store, told);
    d.is_dropped(store, told);
    let event = Event::new(EventKind::Test, spec(), "from the inbox".parse().unwrap());
    insist(|| put_in_inbox(&options.spool_dir, std::slice::from_ref(&event)));
    told.borrow_mut().queued.insert("from the inbox".to_owned());
    let taken = Inbox::new(&options.spool_dir).names().unwrap();
    accept(store, told, "from the inbox", Some(&taken[0]));
    // A put that failed late may have left its file. The Router recognises the key and has the file
    // removed.
    taken[1..].iter().for_each(|again| drop(store.settle_inbox(again, Settled::Done)));
    store.spool.compact(&spec());
    a.is_replayed(store, told, false);
    a.is_replayed(store, told, true);
    store.spool.compact(&spec());
    let [mut e, _] = accept(store, told, "k2", None);
    e.is_delivered(store, told);
    insist(|| store.close());
}

/// Checks that the disk agrees with what was told.
fn check(dir: &Path, told: &Told, refused_may_be_there: bool) {
    let (mut store, recovered) = Store::open(options(dir)).unwrap();
    // This opens the file, which cuts an incomplete line.
    store.add_evidence(&spec(), b"{}\n");
    store.flush_evidence();
    check_evidence(dir, told, refused_may_be_there);
    let run = recovered.runs.get(&spec()).cloned().unwrap_or_default();
    assert!(run == told.run || (refused_may_be_there && run == told.run_begun), "{run:?}");
    let sequence = recovered.sequences.get(&spec()).copied().unwrap_or(0);
    assert!((told.sequence..=told.sequence_begun).contains(&sequence), "{sequence}");
    let mut unfinished = BTreeMap::new();
    for found in recovered.unfinished.values().flatten() {
        let id = found.delivery.id();
        assert!(unfinished.insert(id, found.attempts).is_none(), "{id} twice");
        let body = store.body(&spec(), id).unwrap();
        assert_eq!(body, format!(r#"{{"key":"{}"}}"#, found.delivery.key()).as_bytes());
        // Attempts are not counted while the disk is full.
        let attempts = store.attempts_and_body(&spec(), id).unwrap().0;
        assert_eq!(attempts.last().map_or(0, |last| last.attempt), found.attempts);
    }
    for id in &told.accepted {
        match unfinished.contains_key(id) {
            true => assert!(!told.ended.contains(id), "{id} ended and came back"),
            false => assert!(told.ending.contains(id), "{id} is lost"),
        }
    }
    if !refused_may_be_there {
        assert!(unfinished.keys().all(|id| told.accepted.contains(id)), "a refused event came back");
    }
    let known: HashSet<KeyDigest> = recovered.known.iter().map(|event| event.key).collect();
    assert!(told.known.iter().all(|key| known.contains(&KeyDigest::of(key.as_bytes()))));
    for id in told.dead.difference(&told.resolving) {
        store.read_dead_letter(&spec(), *id).unwrap();
        assert!(!unfinished.contains_key(id), "a dead letter's delivery is not pending too");
    }
    for key in &told.queued {
        let waiting = Inbox::new(&options(dir).spool_dir).names().unwrap().len();
        let (waits, taken) = (waiting > 0, known.contains(&KeyDigest::of(key.as_bytes())));
        assert!(waits || taken, "an event in the inbox is lost");
        // If the file could not be removed, its event is known.
        assert!(!(waits && taken && refused_may_be_there), "an event is taken in and waits still");
    }
}

/// Checks that nothing ended twice, and that whatever ended, died or was resolved has its line, as
/// far as lines could be written.
fn check_evidence(dir: &Path, told: &Told, could_be_written: bool) {
    let webhooks = dir.join("evidence/commands/SPEC-1/webhooks");
    let mut finals: Vec<(DeliveryId, String)> = Vec::new();
    for name in ["deliveries.1.jsonl", "deliveries.jsonl"] {
        let text = fs::read_to_string(webhooks.join(name)).unwrap_or_default();
        assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        for line in lines.filter(|line| line["record"] == "final") {
            let id = line["delivery"].as_str().unwrap().parse().unwrap();
            finals.push((id, line["state"].as_str().unwrap().to_owned()));
        }
    }
    let distinct: BTreeSet<_> = finals.iter().collect();
    assert_eq!(distinct.len(), finals.len(), "a final line twice: {finals:?}");
    if could_be_written {
        let has = |id: &DeliveryId, states: &[&str]| {
            let tells = finals.iter().any(|(of, state)| of == id && states.contains(&state.as_str()));
            assert!(tells, "{id} is {states:?}, and nothing tells of it: {finals:?}");
        };
        let dead = crate::archive::Archive::new(options(dir).of_archive()).dead_letters_of(&spec());
        dead.iter().for_each(|id| has(id, &["dead_letter", "dropped"]));
        told.ended.iter().for_each(|id| has(id, &["delivered", "dead_letter", "dropped"]));
        let resolved = told.dead.iter().filter(|id| !dead.contains(id));
        resolved.for_each(|id| has(id, &["delivered"]));
    }
}

#[test]
fn stopped_between_any_two_file_operations_nothing_is_lost_or_doubled() {
    let mut crashes = 0;
    loop {
        let dir = tempfile::tempdir().unwrap();
        let told = RefCell::new(Told::default());
        let ended = fault::crash_after(crashes, || workload(dir.path(), &told));
        check(dir.path(), &told.borrow(), true);
        // Opening again must change nothing that was told.
        check(dir.path(), &told.borrow(), true);
        if ended {
            break;
        }
        crashes += 1;
    }
    assert!(crashes > 60, "{crashes}");
}

#[test]
fn a_disk_that_fills_up_at_any_operation_loses_nothing_and_service_resumes() {
    for failures in [1, 3] {
        let mut at = 0;
        loop {
            let dir = tempfile::tempdir().unwrap();
            let told = RefCell::new(Told::default());
            let failed = fault::full_after(at, failures, || workload(dir.path(), &told));
            check(dir.path(), &told.borrow(), false);
            if !failed {
                break;
            }
            at += 1;
        }
        assert!(at > 60, "{at}");
    }
}

#[test]
fn a_disk_that_our_own_records_filled_recovers_as_deliveries_end_and_a_start_on_it_takes_in_all() {
    let dir = tempfile::tempdir().unwrap();
    fault::on_a_disk_of(4 << 20, || {
        let (mut store, _) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
        let store_one = |store: &mut Store, n: usize| {
            let mut way = Way::new(DeliveryId::random(), "a", &format!("k{n}"));
            way.attempts = 1;
            let to = AcceptedDelivery::new(way.delivery.id, "a".parse().unwrap());
            let body = Bytes::from(format!("\"{}\"", "x".repeat(20_000)));
            let (at, key) = (clock::now(), way.delivery.key.clone());
            let accepted = Accepted::of_bytes(at, key, EventKind::StageCompleted, vec![to], &body).unwrap();
            let added = store.append(&spec(), &Record::Accepted(accepted));
            let committed = store.commit().into_values().next().map_or(Ok(()), Err);
            added.and(committed).map(|()| way)
        };
        let mut accepted: Vec<Way> = Vec::new();
        while let Ok(way) = store_one(&mut store, accepted.len()) {
            accepted.push(way);
            assert!(accepted.len() < 1_000, "it fills up");
        }
        assert!(accepted.len() > 100, "{}", accepted.len());
        // A failed attempt takes none of the room that is left.
        let left = files::free_bytes(dir.path());
        accepted[0].is_retried(&mut store);
        assert!(files::free_bytes(dir.path()) >= left);
        drop(store);

        let (mut store, recovered) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
        assert_eq!(recovered.unfinished.values().flatten().count(), accepted.len());
        for way in &mut accepted {
            way.is_delivered(&mut store, &RefCell::default());
        }
        insist(|| {
            store.look();
            store_one(&mut store, 1_000)
        });
    });
}

#[test]
fn a_later_version_is_left_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool/SPEC-1/spool-00000001.jsonl");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut line = Vec::new();
    encode(&Record::Spool { version: 2, spec: spec(), sequence: None }, &mut line);
    line.extend_from_slice(b"whatever comes then, unfinished");
    fs::write(&path, &line).unwrap();
    let error = Store::open(StoreOptions::in_dir(dir.path())).unwrap_err().to_string();
    assert!(error.contains("format 2"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), line);
}

#[test]
fn nothing_is_written_through_a_symbolic_link_and_foreign_files_stay() {
    let elsewhere = tempfile::tempdir().unwrap();
    let target = elsewhere.path().join("target");
    fs::write(&target, "theirs").unwrap();
    for (link, is_dir) in
        [("spool/.lock", false), ("spool/SPEC-1", true), ("spool/SPEC-1/spool-00000001.jsonl", false)]
    {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join(link);
        fs::create_dir_all(link.parent().unwrap()).unwrap();
        fs::write(dir.path().join("spool/notes.txt"), "foreign").unwrap();
        let to = if is_dir { elsewhere.path() } else { &target };
        std::os::unix::fs::symlink(to, &link).unwrap();
        let refused = Store::open(StoreOptions::in_dir(dir.path()))
            .map_err(|error| error.to_string())
            .and_then(|(mut store, _)| {
                let body = "{}".into();
                let accepted =
                    Accepted::of_bytes(clock::now(), "k".parse().unwrap(), EventKind::Test, vec![], &body)
                        .unwrap();
                store.append(&spec(), &Record::Accepted(accepted)).map_err(|error| error.to_string())
            });
        let error = refused.unwrap_err();
        assert!(error.contains("symbolic link"), "{error}");
        assert_eq!(fs::read_to_string(&target).unwrap(), "theirs");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 1);
        assert_eq!(fs::read_to_string(dir.path().join("spool/notes.txt")).unwrap(), "foreign");
    }
}

/// A SPEC's run and what was told of its sessions are wanted too, however large they are.
#[test]
fn compaction_ends_whatever_the_records_hold_that_are_always_wanted() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
    let mut run = Run::default();
    for n in 0..3_000 {
        let session = format!("s-{n}");
        let key = IdempotencyKey::of_step(&spec(), "validate", 1, Some(&session));
        let mut event = Event::of_source(EventKind::StageCompleted, spec(), key.clone(), clock::now());
        (event.event.stage, event.event.status) = (Some(Stage::Validate), Some(Status::Failure));
        event.event.reasons = vec!["x".repeat(290); 60];
        let told = match Identities::default().resolve(&mut event, clock::now(), |_| false) {
            Identity::Own(told) => told,
            Identity::Known(told) => Some(told),
        };
        let step = run.plan(
            &mut event,
            &RunPolicy { max_stage_attempts: 9, cost_threshold_usd: None, stall_after: None },
            jiff::Timestamp::UNIX_EPOCH,
        );
        let mut accepted =
            Accepted::of_bytes(clock::now(), key, EventKind::StageCompleted, vec![], &"{}".into()).unwrap();
        run.take(step.as_ref().unwrap());
        (accepted.run, accepted.told) = (step, told);
        store.append(&spec(), &Record::Accepted(accepted)).unwrap();
        if n % 100 == 99 {
            assert!(store.commit().is_empty());
        }
    }
    let mut steps = 0;
    while store.compact_some() {
        steps += 1;
        assert!(steps < 100, "compaction goes on and on");
    }
    assert!(steps > 0);
    drop(store);
    let (mut store, recovered) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
    assert_eq!(recovered.known.len(), 3_000);
    assert_eq!(store.run(&spec()).unwrap(), run);
    assert!(!store.compact_some());
}

#[test]
fn compaction_keeps_the_spool_in_proportion_to_what_is_pending() {
    let at_leisure = |store: &mut Store| {
        store.compact_some();
    };
    passes_40_mb_through(at_leisure, 5 << 20);
    passes_40_mb_through(Store::compact_what_must, 20 << 20);
}

fn passes_40_mb_through(compact: impl Fn(&mut Store), bound: u64) {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
    let body = Bytes::from(format!("\"{}\"", "x".repeat(10_000)));
    let size = |dir: &Path| -> u64 {
        let entries = fs::read_dir(dir.join("spool/SPEC-1")).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).sum()
    };
    let mut oldest = None;
    let mut largest = 0;
    for n in 0..4_000 {
        let id = DeliveryId::random();
        let deliveries = vec![AcceptedDelivery::new(id, "s".parse().unwrap())];
        let key = format!("k{n}").parse().unwrap();
        let accepted = Accepted::of_bytes(clock::now(), key, EventKind::Test, deliveries, &body).unwrap();
        store.append(&spec(), &Record::Accepted(accepted)).unwrap();
        // The first delivery stays pending throughout; all others end.
        match oldest {
            None => oldest = Some(id),
            Some(_) => {
                let state = FinalState::Delivered;
                store.append(&spec(), &Record::finished(id, state, clock::now())).unwrap();
            }
        }
        assert!(store.commit().is_empty());
        compact(&mut store);
        largest = largest.max(size(dir.path()));
    }
    assert!(
        largest < bound,
        "40 MB passed through, one delivery is pending, and {largest} bytes are on disk"
    );
    drop(store);
    let (mut store, recovered) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
    assert_eq!(recovered.unfinished.values().flatten().count(), 1);
    assert_eq!(recovered.known.len(), 4_000, "finished events stay known");
    assert_eq!(store.body(&spec(), oldest.unwrap()).unwrap(), body);
}

/// Stopped, or without room, between any two file operations: what was confirmed is gone for good,
/// what is gone is told, and nothing else goes.
#[test]
fn a_discard_ends_what_was_confirmed_and_nothing_else() {
    for crashes in [true, false] {
        for at in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let told = RefCell::new(Told::default());
            let (mut store, _) = Store::open(options(dir.path())).unwrap();
            let [mut letter, waits] = accept(&mut store, &told, "k0", None);
            let [kept, buried] = accept(&mut store, &told, "k1", None);
            letter.dies(&mut store, &told);
            buried.is_dropped(&mut store, &told);
            drop(store);
            let confirmed = RefCell::new(BTreeSet::new());
            let work = || {
                let Ok((mut store, _)) = Store::open(options(dir.path())) else { return };
                let results = store.discard_letters(&[(spec(), letter.delivery.id)], "ada");
                if results[0].is_ok() {
                    confirmed.borrow_mut().insert(letter.delivery.id);
                }
                let added = store.discard_waiting(std::slice::from_ref(&waits.delivery), "ada");
                if store.commit().is_empty() && added[0].is_ok() {
                    confirmed.borrow_mut().insert(waits.delivery.id);
                }
            };
            let ended = match crashes {
                true => fault::crash_after(at, work),
                false => !fault::full_after(at, 2, work),
            };
            for _ in 0..2 {
                let (store, recovered) = Store::open(options(dir.path())).unwrap();
                let unfinished: BTreeSet<DeliveryId> =
                    recovered.unfinished.values().flatten().map(|one| one.delivery.id()).collect();
                assert!(unfinished.contains(&kept.delivery.id), "{at}");
                store.read_dead_letter(&spec(), buried.delivery.id).unwrap();
                let webhooks = dir.path().join("evidence/commands/SPEC-1/webhooks");
                let evidence = ["deliveries.1.jsonl", "deliveries.jsonl"]
                    .map(|name| fs::read_to_string(webhooks.join(name)).unwrap_or_default())
                    .concat();
                for id in [letter.delivery.id, waits.delivery.id] {
                    let is_there = unfinished.contains(&id) || store.read_dead_letter(&spec(), id).is_ok();
                    assert!(!(is_there && confirmed.borrow().contains(&id)), "{id} came back, {at}");
                    let lines = evidence.lines().filter(|line| line.contains(&id.to_string()));
                    let is_told = lines.into_iter().any(|line| {
                        line.contains(r#""state":"discarded""#) && line.contains(r#""user":"ada""#)
                    });
                    assert!(is_there || is_told, "{id} is gone without a word, {at}");
                }
            }
            if ended {
                assert_eq!(confirmed.borrow().len(), 2);
                assert!(at > 5, "{at}");
                break;
            }
        }
    }
}
