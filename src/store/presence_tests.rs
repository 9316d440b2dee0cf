//! Tests: the spool is removed, moved away and replaced under its owner, between any of its
//! operations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use proptest::prelude::*;

use super::*;
use crate::delivery::{Delivery, FinalState, KeyDigest};
use crate::event::{Event, EventKind};
use crate::files;
use crate::inspect::Survey;
use crate::spool::{Accepted, AcceptedDelivery, Content, Inbox, encode};

const SPECS: [&str; 2] = ["SPEC-1", "SPEC-2"];

#[derive(Clone, Copy, Debug)]
enum Op {
    Accept(usize),
    Finish(usize),
    Retry(usize),
    RemoveSpool,
    MoveSpool,
    RemoveSpec(usize),
    RemoveFile(usize),
    RemoveLock,
    RemoveRuntimeFile,
    /// A copy is made, as by a stash or a person.
    CopySpool,
    /// The copy replaces the spool.
    RestoreCopy,
    Compact(usize),
    Look,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..2usize).prop_map(Op::Accept),
        3 => (0..100usize).prop_map(Op::Finish),
        2 => (0..100usize).prop_map(Op::Retry),
        1 => Just(Op::RemoveSpool),
        1 => Just(Op::MoveSpool),
        1 => (0..2usize).prop_map(Op::RemoveSpec),
        1 => (0..2usize).prop_map(Op::RemoveFile),
        1 => Just(Op::RemoveLock),
        1 => Just(Op::RemoveRuntimeFile),
        1 => Just(Op::CopySpool),
        1 => Just(Op::RestoreCopy),
        2 => (0..2usize).prop_map(Op::Compact),
        1 => Just(Op::Look),
    ]
}

fn body(key: &str, spec: &SpecId) -> Bytes {
    let event = Event::new(EventKind::Test, spec.clone(), key.parse().unwrap());
    serde_json::to_vec(&event).unwrap().into()
}

fn accept(store: &mut Store, spec: &SpecId, key: &str) -> Result<DeliveryId, FileError> {
    accept_as(store, spec, key, None)
}

fn accept_as(
    store: &mut Store,
    spec: &SpecId,
    key: &str,
    sequence: Option<u64>,
) -> Result<DeliveryId, FileError> {
    let id = DeliveryId::random();
    let to = AcceptedDelivery::new(id, "s".parse().unwrap());
    let body = body(key, spec);
    let accepted = Accepted::of_bytes(clock::now(), key.parse().unwrap(), EventKind::Test, vec![to], &body);
    let accepted = Accepted { sequence, ..accepted.unwrap() };
    let added = store.append(spec, &Record::Accepted(accepted));
    let committed = store.commit().into_values().next().map_or(Ok(()), Err);
    added.and(committed).map(|()| id)
}

fn copy(from: &Path, to: &Path) {
    drop(fs::remove_dir_all(to));
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).into_iter().flatten().map(|entry| entry.unwrap()) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}

fn first_file(dir: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(dir).ok()?.map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|kind| kind == "jsonl")).min()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// Whatever is removed and when: everything acknowledged before and after is there at the next
    /// start, and there is only one owner.
    #[test]
    fn nothing_that_was_acknowledged_is_lost_with_the_names_of_its_files(
        ops in proptest::collection::vec(op(), 1..40),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        let specs = SPECS.map(|spec| spec.parse::<SpecId>().unwrap());
        let options = StoreOptions::in_dir(dir.path());
        let (mut store, _) = Store::open(options.clone()).unwrap();
        store.announce(Some(b"here".to_vec()));
        let mut pending: BTreeMap<DeliveryId, (SpecId, String, u32)> = BTreeMap::new();
        let mut known = BTreeSet::new();
        let mut sequences = BTreeMap::new();
        let commit = |store: &mut Store, added: Result<(), FileError>| {
            added.unwrap();
            assert!(store.commit().is_empty());
        };
        for (n, op) in ops.iter().enumerate() {
            let nth = |n: usize| pending.keys().nth(n % pending.len().max(1)).copied();
            match *op {
                Op::Accept(at) => {
                    let key = format!("k{n}");
                    // Far ahead of the clock, from which it could not be had again.
                    let sequence = 4_000_000_000_000 + n as u64;
                    let id = accept_as(&mut store, &specs[at], &key, Some(sequence)).unwrap();
                    sequences.insert(specs[at].clone(), sequence);
                    pending.insert(id, (specs[at].clone(), key.clone(), 0));
                    known.insert(key);
                }
                Op::Finish(at) => if let Some(id) = nth(at) {
                    let (spec, ..) = pending.remove(&id).unwrap();
                    let finished = Record::finished(id, FinalState::Delivered, clock::now());
                    let added = store.append(&spec, &finished);
                    commit(&mut store, added);
                },
                Op::Retry(at) => if let Some(id) = nth(at) {
                    let (spec, _, attempts) = pending.get_mut(&id).unwrap();
                    *attempts += 1;
                    let attempt = AttemptSummary {
                        attempt: *attempts, at: clock::now(), status: Some(500), error: None, response: None,
                        latency_ms: 1.0,
                    };
                    let attempted = Record::Attempted { id, attempt, next_attempt_at: clock::now() };
                    let added = store.append(spec, &attempted);
                    commit(&mut store, added);
                },
                Op::RemoveSpool => drop(fs::remove_dir_all(&spool)),
                Op::MoveSpool => drop(fs::rename(&spool, dir.path().join(format!("elsewhere-{n}")))),
                Op::RemoveSpec(at) => drop(fs::remove_dir_all(spool.join(SPECS[at]))),
                Op::RemoveFile(at) => {
                    if let Some(path) = first_file(&spool.join(SPECS[at])) {
                        fs::remove_file(path).unwrap();
                    }
                }
                Op::RemoveLock => drop(fs::remove_file(spool.join(".lock"))),
                Op::RemoveRuntimeFile => drop(fs::remove_file(spool.join("runtime.json"))),
                Op::CopySpool => copy(&spool, &dir.path().join("copy")),
                Op::RestoreCopy => if dir.path().join("copy").exists() {
                    drop(fs::remove_dir_all(&spool));
                    fs::rename(dir.path().join("copy"), &spool).unwrap();
                },
                Op::Compact(at) => drop(store.spool.compact(&specs[at])),
                Op::Look => store.look(),
            }
        }
        store.look();
        prop_assert_eq!(fs::read(spool.join("runtime.json")).unwrap(), b"here");
        prop_assert!(matches!(Store::open(options.clone()), Err(OpenError::Locked(_))), "one owner");
        prop_assert_eq!(store.lost(), []);
        // Dropped as by `kill -9`: nothing more is written.
        drop(store);
        let (mut store, recovered) = Store::open(options).unwrap();
        let found: BTreeMap<DeliveryId, u32> = recovered
            .unfinished
            .values()
            .flatten()
            .map(|found| (found.delivery.id(), found.attempts))
            .collect();
        for (id, (spec, key, attempts)) in &pending {
            prop_assert_eq!(found.get(id), Some(attempts), "{}", key);
            prop_assert_eq!(store.body(spec, *id).unwrap(), body(key, spec));
        }
        prop_assert_eq!(found.len(), pending.len(), "what has ended stays ended");
        let remembered: HashSet<KeyDigest> = recovered.known.iter().map(|event| event.key).collect();
        let known: HashSet<KeyDigest> = known.iter().map(|key| KeyDigest::of(key.as_bytes())).collect();
        prop_assert_eq!(remembered, known);
        for (spec, sequence) in sequences {
            prop_assert_eq!(recovered.sequences.get(&spec), Some(&sequence), "{}", spec);
        }
    }
}

/// What cannot be read now stays pending: its end is told in the evidence once it has come to it.
#[test]
fn an_end_that_cannot_be_written_yet_is_not_told_and_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
    let spec: SpecId = "SPEC-1".parse().unwrap();
    let id = accept(&mut store, &spec, "k").unwrap();
    store.spool.close_files();
    let file = first_file(&dir.path().join("spool/SPEC-1")).unwrap();
    let away = dir.path().join("away");
    fs::rename(&file, &away).unwrap();
    fs::create_dir(&file).unwrap();
    let delivery = Delivery::sample(id, "k");
    let ends = || {
        let evidence = dir.path().join("evidence/commands/SPEC-1/webhooks/deliveries.jsonl");
        let text = fs::read_to_string(evidence).unwrap_or_default();
        text.lines().filter(|line| line.contains(r#""record":"final""#)).count()
    };
    let reason = crate::delivery::Reason::SpoolSaturated;
    store.give_up(&delivery, reason.clone(), None).unwrap_err();
    store.flush_evidence();
    assert_eq!(ends(), 0);
    fs::remove_dir(&file).unwrap();
    fs::rename(&away, &file).unwrap();
    store.give_up(&delivery, reason, None).unwrap();
    assert!(store.commit().is_empty());
    assert_eq!(ends(), 1);
}

#[test]
fn what_was_closed_and_removed_is_lost_and_told_and_becomes_a_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
    let spec: SpecId = "SPEC-1".parse().unwrap();
    let id = accept(&mut store, &spec, "k").unwrap();
    store.spool.close_files();
    fs::remove_dir_all(dir.path().join("spool/SPEC-1")).unwrap();
    assert!(matches!(store.body(&spec, id), Err(Unreadable::Gone(_))));
    assert_eq!(store.lost(), [id]);
    let delivery = Delivery::sample(id, "k");
    // A payload held in memory is saved in the dead letter; without it, the letter cannot be sent
    // again.
    let held = body("k", &spec);
    for (held, kept) in [(Some(&held), true), (None, false)] {
        store.give_up(&delivery, crate::delivery::Reason::SpoolRemoved, held).unwrap();
        assert!(store.commit().is_empty());
        let letter = store.read_dead_letter(&spec, id).unwrap();
        assert_eq!(letter.reason, crate::delivery::Reason::SpoolRemoved);
        assert_eq!(letter.has_payload(), kept);
    }
    let survey = Survey::of(&dir.path().join("spool"));
    assert_eq!(survey.dead(), 1);
}

#[test]
fn a_runtime_whose_spool_another_took_steps_down_and_hands_over_what_only_it_has() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let (mut store, _) = Store::open(options.clone()).unwrap();
    let spec: SpecId = "SPEC-1".parse().unwrap();
    accept(&mut store, &spec, "k1").unwrap();
    fs::remove_dir_all(&options.spool_dir).unwrap();
    let (mut other, recovered) = Store::open(options.clone()).unwrap();
    assert!(recovered.unfinished.is_empty());
    let refused = accept(&mut store, &spec, "k2").unwrap_err().to_string();
    assert!(refused.contains("another runtime owns"), "{refused}");
    assert_eq!(store.standing(), Standing::Deposed);
    let inbox = Inbox::new(&options.spool_dir);
    let handed = inbox.read(&inbox.names().unwrap(), 1 << 20);
    let Content::Events(events) = &handed[0].content else { panic!("{handed:?}") };
    assert!(handed.len() == 1 && events.len() == 1 && events[0].contains(r#""k1""#), "{handed:?}");
    other.announce(Some(b"the other".to_vec()));
    assert!(store.close().is_err(), "what it holds is not on disk");
    drop(store);
    assert_eq!(fs::read(options.spool_dir.join("runtime.json")).unwrap(), b"the other");
}

#[test]
fn without_the_repo_nothing_is_made_anew_and_nothing_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let repo = dir.path().join("repo");
    fs::create_dir(&repo).unwrap();
    let (mut store, _) = Store::open(StoreOptions::in_dir(&repo)).unwrap();
    let spec: SpecId = "SPEC-1".parse().unwrap();
    accept(&mut store, &spec, "k1").unwrap();
    fs::rename(&repo, dir.path().join("away")).unwrap();
    assert!(accept(&mut store, &spec, "k2").is_err());
    assert!(!repo.exists());
    fs::rename(dir.path().join("away"), &repo).unwrap();
    accept(&mut store, &spec, "k3").unwrap();
    assert!(store.close().is_ok());
}

#[test]
fn one_specs_trouble_is_its_own_and_is_noticed_when_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let spool = options.spool_dir.clone();
    let good: SpecId = "SPEC-1".parse().unwrap();
    let bad: SpecId = "SPEC-2".parse().unwrap();
    let (mut store, _) = Store::open(options.clone()).unwrap();
    let id = accept(&mut store, &bad, "k1").unwrap();
    drop(store);
    fs::rename(spool.join("SPEC-2"), dir.path().join("theirs")).unwrap();
    symlink(dir.path().join("theirs"), spool.join("SPEC-2")).unwrap();
    let (mut store, recovered) = Store::open(options.clone()).unwrap();
    assert!(recovered.unfinished.is_empty());
    accept(&mut store, &good, "k2").unwrap();
    let refused = accept(&mut store, &bad, "k3").unwrap_err().to_string();
    assert!(refused.contains("symbolic link"), "{refused}");
    assert!(Survey::of(&spool).unusable[0].contains("a symbolic link is in its place"));
    store.look();
    assert_eq!(store.standing(), Standing::Owner);
    fs::remove_file(spool.join("SPEC-2")).unwrap();
    fs::rename(dir.path().join("theirs"), spool.join("SPEC-2")).unwrap();
    store.look();
    assert_eq!(store.standing(), Standing::Outdated, "a start takes it in");
    drop(store);
    let (_, recovered) = Store::open(options).unwrap();
    let found: Vec<DeliveryId> =
        recovered.unfinished.values().flatten().map(|found| found.delivery.id()).collect();
    assert!(found.contains(&id));
}

fn finish(store: &mut Store, spec: &SpecId, id: DeliveryId) {
    let finished = Record::finished(id, FinalState::Delivered, clock::now());
    store.append(spec, &finished).unwrap();
    assert!(store.commit().is_empty());
}

fn unfinished(options: &StoreOptions) -> BTreeSet<DeliveryId> {
    let (_, recovered) = Store::open(options.clone()).unwrap();
    recovered.unfinished.values().flatten().map(|found| found.delivery.id()).collect()
}

/// Adds an event whose record stays in the batch.
fn add(store: &mut Store, spec: &SpecId, key: &str, size: usize) -> DeliveryId {
    let id = DeliveryId::random();
    let to = AcceptedDelivery::new(id, "s".parse().unwrap());
    let mut event = Event::new(EventKind::Test, spec.clone(), key.parse().unwrap());
    event.extra.insert("pad".to_owned(), "x".repeat(size).into());
    let body = crate::payload::body(&event).unwrap();
    let accepted = Accepted::of_bytes(clock::now(), key.parse().unwrap(), EventKind::Test, vec![to], &body);
    store.append(spec, &Record::Accepted(accepted.unwrap())).unwrap();
    id
}

#[test]
fn who_steps_down_leaves_the_files_that_another_goes_on_with_alone() {
    let spec: SpecId = "SPEC-1".parse().unwrap();
    let touches: [fn(&mut Store, &SpecId); 3] = [
        |store, _| store.look(),
        |store, spec| {
            store.look();
            drop(store.run(spec));
        },
        |store, spec| {
            add(store, spec, "refused", 0);
            assert!(!store.commit().is_empty());
        },
    ];
    for touch in touches {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions::in_dir(dir.path());
        let (mut store, _) = Store::open(options.clone()).unwrap();
        let before = accept(&mut store, &spec, "k1").unwrap();
        fs::remove_file(options.spool_dir.join(".lock")).unwrap();
        let (mut other, _) = Store::open(options.clone()).unwrap();
        let after = accept(&mut other, &spec, "k2").unwrap();
        touch(&mut store, &spec);
        assert_eq!(store.standing(), Standing::Deposed);
        assert!(store.close().is_err());
        drop(store);
        other.look();
        assert_eq!(other.lost(), []);
        let last = accept(&mut other, &spec, "k3").unwrap();
        assert!(other.body(&spec, before).is_ok() && other.body(&spec, after).is_ok());
        drop(other);
        assert!(unfinished(&options).is_superset(&[before, after, last].into()));
    }
}

#[test]
fn what_was_handed_over_and_has_ended_is_not_written_into_the_new_owners_spool() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let (mut store, _) = Store::open(options.clone()).unwrap();
    let spec: SpecId = "SPEC-1".parse().unwrap();
    accept(&mut store, &spec, "k1").unwrap();
    // One event of the largest size accepted, and one journal whose last write failed.
    let large = add(&mut store, &"SPEC-2".parse().unwrap(), "large", crate::event::MAX_EVENT_BYTES - 300);
    assert!(store.commit().is_empty());
    accept(&mut store, &"SPEC-3".parse().unwrap(), "k3").unwrap();
    add(&mut store, &"SPEC-3".parse().unwrap(), "refused", 0);
    files::fault::full_after(0, 1, || assert_eq!(store.commit().len(), 1));
    fs::remove_dir_all(&options.spool_dir).unwrap();
    let (mut other, _) = Store::open(options.clone()).unwrap();
    store.look();
    let inbox = Inbox::new(&options.spool_dir);
    let handed = inbox.read(&inbox.names().unwrap(), 8 << 20);
    let events = handed.iter().map(|taken| match &taken.content {
        Content::Events(events) => events.len(),
        other => panic!("{other:?}"),
    });
    assert_eq!(events.sum::<usize>(), 3, "{large}");
    let id = accept(&mut other, &spec, "k1").unwrap();
    finish(&mut other, &spec, id);
    drop(store.close());
    drop(store);
    assert!(other.close().is_ok());
    drop(other);
    assert_eq!(unfinished(&options), BTreeSet::new());
}

#[test]
fn a_batch_that_is_broken_before_its_commit_is_not_answered_as_written() {
    let spec: SpecId = "SPEC-1".parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let (mut store, _) = Store::open(options.clone()).unwrap();
    accept(&mut store, &spec, "k0").unwrap();
    add(&mut store, &spec, "k1", 0);
    fs::remove_dir_all(&options.spool_dir).unwrap();
    let (other, _) = Store::open(options.clone()).unwrap();
    store.look();
    assert_eq!(store.commit().into_keys().collect::<Vec<_>>(), std::slice::from_ref(&spec));
    drop((store, other));

    // Room is made on a full disk while a batch waits.
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let (mut store, _) = Store::open(options.clone()).unwrap();
    let waste = add(&mut store, &spec, "waste", 200_000);
    assert!(store.commit().is_empty());
    finish(&mut store, &spec, waste);
    let id = add(&mut store, &spec, "k1", 0);
    store.spool.note_failure(&FileError::on("write", dir.path())(io::ErrorKind::StorageFull.into()));
    files::fault::full_after(0, 1, || store.look());
    let is_written = store.commit().is_empty();
    drop(store);
    assert_eq!(unfinished(&options).contains(&id), is_written);
}

#[test]
fn what_comes_back_or_comes_from_another_is_taken_in_by_a_start_and_what_has_ended_stays_ended() {
    let spec: SpecId = "SPEC-1".parse().unwrap();
    // As by a stash: moved away, ended meanwhile, and back beside what was written again.
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let (folder, stash) = (options.spool_dir.join("SPEC-1"), dir.path().join("stash"));
    let (mut store, _) = Store::open(options.clone()).unwrap();
    let waste = accept(&mut store, &spec, "waste").unwrap();
    finish(&mut store, &spec, waste);
    store.spool.compact(&spec);
    let ended = accept(&mut store, &spec, "k1").unwrap();
    fs::rename(&folder, &stash).unwrap();
    store.look();
    finish(&mut store, &spec, ended);
    for entry in fs::read_dir(&stash).unwrap().map(|entry| entry.unwrap()) {
        let to = folder.join(entry.file_name());
        assert!(!to.exists(), "a number is never used again");
        fs::rename(entry.path(), to).unwrap();
    }
    store.look();
    assert_eq!(store.standing(), Standing::Outdated);
    assert!(store.close().is_ok());
    drop(store);
    assert_eq!(unfinished(&options), BTreeSet::new());

    // Moved away before the start, and back while the owner runs.
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let (folder, stash) = (options.spool_dir.join("SPEC-1"), dir.path().join("stash"));
    let (mut store, _) = Store::open(options.clone()).unwrap();
    let waits = accept(&mut store, &spec, "k1").unwrap();
    drop(store);
    fs::rename(&folder, &stash).unwrap();
    let (mut store, _) = Store::open(options.clone()).unwrap();
    fs::rename(&stash, &folder).unwrap();
    store.look();
    assert_eq!(store.standing(), Standing::Outdated);
    drop(store);
    assert_eq!(unfinished(&options), [waits].into());

    // Accepted by another owner that has ended meanwhile.
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let (mut store, _) = Store::open(options.clone()).unwrap();
    let ours = accept(&mut store, &spec, "k1").unwrap();
    fs::remove_dir_all(&options.spool_dir).unwrap();
    let (mut other, _) = Store::open(options.clone()).unwrap();
    let theirs = [
        accept(&mut other, &spec, "k2").unwrap(),
        accept(&mut other, &"SPEC-3".parse().unwrap(), "k3").unwrap(),
    ];
    drop(other);
    store.look();
    assert_eq!(store.standing(), Standing::Outdated);
    drop(store);
    assert!(unfinished(&options).is_superset(&[ours, theirs[0], theirs[1]].into()));
}

#[test]
fn what_is_found_lost_at_the_end_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
    let spec: SpecId = "SPEC-1".parse().unwrap();
    accept(&mut store, &spec, "k1").unwrap();
    store.spool.close_files();
    fs::remove_dir_all(dir.path().join("spool/SPEC-1")).unwrap();
    assert!(
        store
            .close()
            .unwrap_err()
            .contains("1 delivery went with a file that was removed, and has no dead letter yet")
    );
}

#[test]
fn of_a_file_that_somebody_cut_all_that_is_left_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let (mut store, _) = Store::open(options.clone()).unwrap();
    let spec: SpecId = "SPEC-1".parse().unwrap();
    let ids: Vec<_> = (0..10).map(|n| accept(&mut store, &spec, &format!("k{n}")).unwrap()).collect();
    let path = first_file(&options.spool_dir.join("SPEC-1")).unwrap();
    let records = fs::read(&path).unwrap().iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(records as u64 - 20).unwrap();
    store.look();
    assert_eq!(store.lost(), ids[9..]);
    drop(store);
    assert_eq!(unfinished(&options), ids[..9].iter().copied().collect());
}

#[test]
fn a_spec_set_aside_that_a_start_would_refuse_stays_aside() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    fs::create_dir_all(&options.spool_dir).unwrap();
    let folder = options.spool_dir.join("SPEC-2");
    symlink(dir.path(), &folder).unwrap();
    let (mut store, _) = Store::open(options.clone()).unwrap();
    fs::remove_file(&folder).unwrap();
    fs::create_dir(&folder).unwrap();
    let mut line = Vec::new();
    encode(&Record::Spool { version: 2, spec: "SPEC-2".parse().unwrap(), sequence: None }, &mut line);
    fs::write(folder.join("spool-00000001.jsonl"), &line).unwrap();
    store.look();
    assert_eq!(store.standing(), Standing::Owner, "all other SPECs go on");
    accept(&mut store, &"SPEC-1".parse().unwrap(), "k1").unwrap();
}

/// How the runtime ends that began beside another, whose lock had been taken away.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Beside {
    Killed,
    Ended,
}

/// A file that the bound of open files has closed is locked by nobody: the next owner goes on in
/// it.
#[test]
fn who_opens_a_file_again_overwrites_nothing_that_another_wrote_meanwhile() {
    let spec: SpecId = "SPEC-1".parse().unwrap();
    for beside in [Beside::Killed, Beside::Ended] {
        for (lock_returns, large) in [false, true].into_iter().flat_map(|lock| [0, 17, 19].map(|n| (lock, n)))
        {
            let dir = tempfile::tempdir().unwrap();
            let options = StoreOptions::in_dir(dir.path());
            let (mut first, _) = Store::open(options.clone()).unwrap();
            let mut ids = BTreeSet::new();
            for n in 0..large {
                ids.insert(add(&mut first, &spec, &format!("large{n}"), 100_000));
                assert!(first.commit().is_empty());
            }
            ids.insert(accept(&mut first, &spec, "before").unwrap());
            first.spool.close_files();
            let (lock, away) = (options.spool_dir.join(".lock"), dir.path().join("away"));
            fs::rename(&lock, &away).unwrap();
            let (mut other, _) = Store::open(options.clone()).unwrap();
            ids.insert(accept(&mut other, &spec, "meanwhile").unwrap());
            if beside == Beside::Ended {
                other.close().unwrap();
            }
            drop(other);
            if lock_returns {
                fs::rename(&away, &lock).unwrap();
            }
            ids.insert(accept(&mut first, &spec, "after").unwrap());
            drop(first);
            let found: BTreeSet<_> = unfinished(&options).into_iter().collect();
            assert!(found.is_superset(&ids), "{beside:?}, {lock_returns}, {large}");
        }
    }
}

#[test]
fn who_steps_down_cuts_nothing_of_what_the_new_owner_wrote() {
    let spec: SpecId = "SPEC-1".parse().unwrap();
    for beside in [Beside::Killed, Beside::Ended] {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions::in_dir(dir.path());
        let (mut first, _) = Store::open(options.clone()).unwrap();
        let before = accept(&mut first, &spec, "before").unwrap();
        first.spool.close_files();
        fs::remove_file(options.spool_dir.join(".lock")).unwrap();
        let (mut other, _) = Store::open(options.clone()).unwrap();
        let after = accept(&mut other, &spec, "after").unwrap();
        other.spool.close_files();
        drop(first.close());
        drop(first);
        if beside == Beside::Ended {
            other.close().unwrap();
        }
        drop(other);
        let found = unfinished(&options);
        assert!(found.contains(&before) && found.contains(&after), "{beside:?}");
    }
}

#[test]
fn room_that_its_writer_cuts_is_nothing_that_was_taken_away() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let spec: SpecId = "SPEC-1".parse().unwrap();
    let (mut first, _) = Store::open(options.clone()).unwrap();
    accept(&mut first, &spec, "k1").unwrap();
    fs::remove_file(options.spool_dir.join(".lock")).unwrap();
    let (mut other, _) = Store::open(options.clone()).unwrap();
    drop(first.close());
    drop(first);
    other.look();
    let files = fs::read_dir(options.spool_dir.join("SPEC-1")).unwrap().count();
    assert_eq!((files, other.standing()), (1, Standing::Owner), "nothing is written anew");
}

#[test]
fn room_is_made_ahead_only_by_the_owner_while_it_runs_and_where_the_disk_has_some() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let spec: SpecId = "SPEC-1".parse().unwrap();
    let size = || fs::metadata(options.spool_dir.join("SPEC-1/spool-00000001.jsonl")).unwrap().len();
    let mut keys = 0..;
    let mut until_short = |store: &mut Store| {
        while !store.is_short_of_room() {
            accept(store, &spec, &format!("k{}", keys.next().unwrap())).unwrap();
        }
        size()
    };
    let (mut store, _) = Store::open(options.clone()).unwrap();
    let before = until_short(&mut store);
    store.make_room_ahead();
    assert!(size() > before && !store.is_short_of_room());

    let before = until_short(&mut store);
    files::fault::on_a_disk_of(1 << 20, || store.make_room_ahead());
    assert_eq!(size(), before, "others need what the disk has left");

    until_short(&mut store);
    store.close().unwrap();
    let closed = size();
    store.make_room_ahead();
    assert_eq!(size(), closed, "a run that has ended needs none");
    drop(store);

    let (mut store, _) = Store::open(options.clone()).unwrap();
    until_short(&mut store);
    fs::remove_file(options.spool_dir.join(".lock")).unwrap();
    let (_other, _) = Store::open(options.clone()).unwrap();
    let of_the_other = size();
    store.make_room_ahead();
    assert_eq!((size(), store.standing()), (of_the_other, Standing::Deposed));
}

/// Room for further records is a luxury: no record is refused for it, and compaction does not write
/// any.
#[test]
fn on_a_full_disk_room_for_further_records_takes_none() {
    let spec: SpecId = "SPEC-1".parse().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let (mut store, _) = Store::open(options.clone()).unwrap();
    add(&mut store, &spec, "large", 600_000);
    assert!(store.commit().is_empty());
    store.close().unwrap();
    drop(store);
    let (mut store, _) = Store::open(options).unwrap();
    files::fault::on_a_disk_of(2_000, || {
        accept(&mut store, &spec, "small").unwrap();
        assert!(!store.spool.is_full());
    });

    files::fault::on_a_disk_of(6 << 20, || {
        let dir = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
        let mut ids = Vec::new();
        for n in 0..20 {
            ids.push(add(&mut store, &spec, &format!("k{n}"), 105_000));
            assert!(store.commit().is_empty());
        }
        ids[..10].iter().for_each(|id| finish(&mut store, &spec, *id));
        let filled = (0..).find(|n| {
            add(&mut store, &"SPEC-2".parse().unwrap(), &format!("k{n}"), 50_000);
            !store.commit().is_empty()
        });
        assert!(filled.is_some_and(|filled| filled < 100) && store.spool.is_full());
        store.look();
        assert!(!store.spool.is_full(), "what a compaction moves fits");
    });
}
