//! Tests: a journal's files are cut and flipped at every byte.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::thread;

use bytes::Bytes;
use jiff::Timestamp;

use super::*;
use crate::clock;
use crate::event::EventKind;
use crate::spool::record::{Accepted, AcceptedDelivery};

fn spec() -> SpecId {
    "SPEC-1".parse().unwrap()
}

/// Writes an event with this body; its delivery.
fn accept(journal: &mut Journal, body: &Bytes) -> DeliveryId {
    let id = DeliveryId::random();
    let deliveries = vec![AcceptedDelivery::new(id, "s".parse().unwrap())];
    let key = id.to_string().parse().unwrap();
    let accepted = Accepted::of_bytes(clock::now(), key, EventKind::Test, deliveries, body).unwrap();
    journal.append(&Record::Accepted(accepted)).unwrap();
    journal.write().unwrap();
    journal.confirm();
    id
}

/// A journal of a few records: its file, its content with the room after them, and where each
/// record ends.
fn recorded(dir: &Path) -> (PathBuf, Vec<u8>, Vec<(usize, DeliveryId)>) {
    let (mut journal, _) = Journal::open(dir, &spec(), 8).unwrap();
    let path = dir.join("spool-00000001.jsonl");
    let mut ends = Vec::new();
    for _ in 0..4 {
        let id = accept(&mut journal, &"{}".into());
        ends.push((journal.segments[0].length as usize, id));
    }
    let content = fs::read(&path).unwrap();
    assert!(content.len() > ends[3].0 && content[ends[3].0..].iter().all(|byte| *byte == 0));
    (path, content, ends)
}

fn reopened(dir: &Path) -> BTreeSet<DeliveryId> {
    let (_, recovered) = Journal::open(dir, &spec(), 8).unwrap();
    recovered.unfinished().map(|(unfinished, _)| unfinished.delivery.id()).collect()
}

#[test]
fn cut_at_every_byte_it_opens_with_every_whole_record_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let (path, content, ends) = recorded(dir.path());
    for cut in 0..=content.len() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(path.file_name().unwrap()), &content[..cut]).unwrap();
        // A record without its newline counts as whole.
        let whole: BTreeSet<_> = ends.iter().filter(|(end, _)| *end <= cut + 1).map(|(_, id)| *id).collect();
        let (mut journal, recovered) = Journal::open(dir.path(), &spec(), 8).unwrap();
        assert_eq!(recovered.unfinished().count(), whole.len(), "cut at {cut}");
        let next = accept(&mut journal, &"{}".into());
        let found = reopened(dir.path());
        assert!(found.is_superset(&whole) && found.contains(&next), "cut at {cut}");
        assert_eq!(found.len(), whole.len() + 1);
    }
}

#[test]
fn with_any_byte_flipped_only_its_own_record_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (path, content, ends) = recorded(dir.path());
    for at in 0..content.len() {
        let dir = tempfile::tempdir().unwrap();
        let mut flipped = content.clone();
        flipped[at] ^= 0x11;
        fs::write(dir.path().join(path.file_name().unwrap()), &flipped).unwrap();
        let found = reopened(dir.path());
        let mut start = 0;
        for (end, id) in &ends {
            assert!(found.contains(id) || (start..*end).contains(&at), "byte {at}: {id} is lost");
            start = *end;
        }
        let aside = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let damaged = fs::read_dir(dir.path()).unwrap().map(aside).any(|name| name.starts_with("damaged-"));
        let in_room = at >= ends[3].0;
        assert!(damaged || in_room, "byte {at}: reported and kept");
        assert_eq!(reopened(dir.path()), found, "the same at the next start");
    }
}

/// A disk that loses power may have any of a batch's blocks, and room in the place of the others.
#[test]
fn what_of_a_batch_did_not_reach_the_disk_costs_no_record_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let (path, content, ends) = recorded(dir.path());
    let confirmed: BTreeSet<_> = ends[..2].iter().map(|(_, id)| *id).collect();
    let batch = ends[1].0..ends[3].0;
    for from in batch.clone().step_by(7) {
        for to in (from + 1..=batch.end).step_by(31) {
            let dir = tempfile::tempdir().unwrap();
            let mut torn = content.clone();
            torn[from..to].fill(0);
            fs::write(dir.path().join(path.file_name().unwrap()), &torn).unwrap();
            let (mut journal, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
            let next = accept(&mut journal, &"{}".into());
            let found = reopened(dir.path());
            assert!(found.is_superset(&confirmed) && found.contains(&next), "without {from} to {to}");
        }
    }
}

#[test]
fn the_pieces_of_a_file_have_what_the_whole_file_has() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
    for size in [0, 5_000, 300, 300, 1_000, 700, 900, 20, 20, 20, 2_000, 900, 10_000, 0] {
        accept(&mut journal, &format!("\"{}\"", "x".repeat(size)).into());
    }
    let path = dir.path().join("spool-00000001.jsonl");
    let content = fs::read(&path).unwrap();
    let length = usize::try_from(journal.segments[0].length).unwrap();
    let told = |content: &[u8]| {
        let scan: record::Scan<serde::de::IgnoredAny> = record::scan(content);
        let place = |range: &std::ops::Range<usize>| Place::new(1, range);
        let records = scan.records.iter().map(|(range, record)| (place(range), format!("{record:?}")));
        let damaged: BTreeSet<usize> = scan.damaged.into_iter().flatten().collect();
        (records.collect::<Vec<_>>(), damaged, scan.torn_at)
    };
    let (mut most_pieces, mut most_damaged) = (0, 0);
    for n in 0..length / 11 {
        let mut changed = content.clone();
        match n % 4 {
            0 => changed[n * 11] ^= 0x11,
            1 => changed[n * 11] = b'\n',
            // A newline that is damaged, in a part of the file that is.
            2 => changed[n * 11..(n * 11 + 3_000).min(length)].fill(b'?'),
            _ => changed.truncate(n * 11),
        }
        fs::write(&path, &changed).unwrap();
        changed.resize(length, b'\n');
        let (mut records, mut damaged, mut torn_at) = (Vec::new(), BTreeSet::new(), 0);
        let (mut start, mut pieces) = (0, 0);
        while let Some(piece) = journal.piece(&journal.segments[0], start).unwrap() {
            records.extend(piece.records.iter().map(|(place, record)| (*place, format!("{record:?}"))));
            for (at, bytes) in piece.damaged() {
                let at = usize::try_from(at).unwrap();
                assert_eq!(bytes, &changed[at..at + bytes.len()]);
                damaged.extend(at..at + bytes.len());
            }
            for (place, _) in &piece.records {
                let from = usize::try_from(place.offset()).unwrap();
                assert_eq!(piece.line(*place), &changed[from..from + place.length() as usize]);
            }
            let from = usize::try_from(start).unwrap();
            torn_at = from + told(&changed[from..usize::try_from(piece.end()).unwrap()]).2;
            (start, pieces) = (piece.end(), pieces + 1);
        }
        (most_pieces, most_damaged) = (most_pieces.max(pieces), most_damaged.max(damaged.len()));
        assert_eq!((records, damaged, torn_at), told(&changed[..length]), "change {n}");
    }
    assert!(most_pieces > 8 && most_damaged > 2_000, "{most_pieces} {most_damaged}");
}

#[test]
fn what_is_gone_with_a_file_as_a_journal_is_repaired_is_said_to_be_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
    let mut gone: Vec<DeliveryId> = (0..3).map(|_| accept(&mut journal, &"{}".into())).collect();
    journal.seal();
    let kept = accept(&mut journal, &"{}".into());
    fs::remove_file(segment_path(dir.path(), journal.segments[0].number)).unwrap();
    journal.segments[0].file = None;
    // Nobody was told that this one is accepted.
    let unconfirmed = DeliveryId::random();
    let deliveries = vec![AcceptedDelivery::new(unconfirmed, "s".parse().unwrap())];
    let key = unconfirmed.to_string().parse().unwrap();
    let accepted = Accepted::of_bytes(clock::now(), key, EventKind::Test, deliveries, &"{}".into());
    journal.append(&Record::Accepted(accepted.unwrap())).unwrap();
    let Rescued { journal, mut lost, .. } = journal.into_broken().repair(Timestamp::MIN, 8).unwrap();
    gone.sort();
    lost.sort();
    assert_eq!(lost, gone);
    assert_eq!(journal.deliveries.iter().map(|(id, _)| id).collect::<Vec<_>>(), [kept]);
}

/// Whoever took the spool meanwhile gets them.
#[test]
fn what_a_compaction_was_moving_as_it_failed_can_still_be_handed_over() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
    let body = |n: usize| Bytes::from(format!("\"{n}{}\"", "x".repeat(400)));
    let moved: Vec<DeliveryId> = (0..9).map(|n| accept(&mut journal, &body(n))).collect();
    journal.seal();
    accept(&mut journal, &body(9));
    let newest = segment_path(dir.path(), journal.segments[1].number);
    journal.segments[1].file = Some(File::open(&newest).unwrap());
    journal.compact_oldest(Timestamp::MIN).unwrap_err();
    assert!(moved.iter().all(|id| journal.read_accepted(*id).is_ok()), "as long as its batch is there");
    let mut kept = journal.into_broken().unfinished_bodies();
    kept.sort();
    assert_eq!(kept, (0..10).map(body).collect::<Vec<_>>());
}

#[test]
fn a_file_has_room_for_as_much_again_and_gives_it_back() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
    let body = Bytes::from(format!("\"{}\"", "x".repeat(20_000)));
    let size = |number| fs::metadata(segment_path(dir.path(), number)).unwrap().len();
    let mut ids = Vec::new();
    let (mut grew, mut before) = (0, 0);
    while journal.segments.len() < 2 {
        ids.push(accept(&mut journal, &body));
        let last = journal.segments.back().unwrap();
        assert_eq!(size(last.number), last.size);
        assert!((last.length..=last.length + ROOM.min(last.length)).contains(&last.size), "{last:?}");
        assert!(last.length >= FILE_BYTES || last.size <= FILE_BYTES, "{last:?}");
        grew += usize::from(last.size != before);
        before = last.size;
    }
    assert!(ids.len() > 100 && grew < 20, "{grew} of {}", ids.len());
    let (full, length) = (&journal.segments[0], journal.segments[1].length);
    assert_eq!((size(1), full.size), (full.length, full.length), "a full file has none");
    assert!(size(2) > length);
    journal.finish().unwrap();
    assert_eq!(size(2), length, "nor has any at the end of a run");
    ids.push(accept(&mut journal, &body));
    assert!(size(2) > length + 20_000, "it goes on in it");
    drop(journal);
    let killed = size(2);
    let (mut journal, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
    ids.push(accept(&mut journal, &"{}".into()));
    assert_eq!(size(2), killed, "a start goes on in what a kill left");
    drop(journal);
    assert_eq!(reopened(dir.path()), ids.into_iter().collect());
}

#[test]
fn an_event_makes_no_room_where_it_was_made_ahead() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
    let mut ids = BTreeSet::from([accept(&mut journal, &"{}".into())]);
    for n in 0..2_000 {
        let (number, size, length) = {
            let last = journal.segments.back().unwrap();
            assert_eq!(fs::metadata(segment_path(dir.path(), last.number)).unwrap().len(), last.size);
            (last.number, last.size, last.length)
        };
        assert!(size <= FILE_BYTES && size - length <= ROOM.min(length), "{size} of {length}");
        ids.insert(accept(&mut journal, &"{}".into()));
        let last = journal.segments.back().unwrap();
        assert_eq!((last.number, last.size), (number, size), "event {n}");
        assert_eq!(journal.is_short_of_room(), last.size - last.length < room_after(last.length) / 2);
        journal.make_room_ahead().unwrap();
        assert!(!journal.is_short_of_room());
    }
    drop(journal);
    assert_eq!(reopened(dir.path()), ids);
}

/// As where the spool's lock was taken away under a runtime, and another one began.
#[test]
fn two_that_write_beside_each_other_overwrite_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
    let mut ids = BTreeSet::from([accept(&mut first, &"{}".into())]);
    let (mut second, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
    for _ in 0..3 {
        ids.insert(accept(&mut second, &"{}".into()));
        ids.insert(accept(&mut first, &"{}".into()));
    }
    second.close_files(0);
    first.close_files(0);
    ids.insert(accept(&mut first, &"{}".into()));
    ids.insert(accept(&mut second, &"{}".into()));
    drop((first, second));
    assert_eq!(reopened(dir.path()), ids);
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!names.into_iter().any(|name| name.to_str().unwrap().starts_with("damaged-")));
}

#[test]
fn who_ends_cuts_nothing_that_another_wrote() {
    let dir = tempfile::tempdir().unwrap();
    let (mut first, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
    let before = accept(&mut first, &"{}".into());
    first.close_files(0);
    let (mut second, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
    let after = accept(&mut second, &"{}".into());
    drop(second);
    first.finish().unwrap();
    assert_eq!(reopened(dir.path()), [before, after].into());
}

#[test]
fn two_that_begin_a_file_at_the_same_moment_share_none() {
    for _ in 0..100 {
        let dir = tempfile::tempdir().unwrap();
        let at_once = Barrier::new(2);
        let begins = || {
            let (mut journal, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
            at_once.wait();
            accept(&mut journal, &"{}".into())
        };
        let ids =
            thread::scope(|scope| [scope.spawn(begins), scope.spawn(begins)].map(|one| one.join().unwrap()));
        assert_eq!(reopened(dir.path()), ids.into());
    }
}

/// As an earlier version wrote it, which a later one reads and goes on with.
#[test]
fn a_spool_without_sequences_counts_from_the_times_of_its_events() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("spool-00000001.jsonl");
    let mut content = Vec::new();
    for json in [
        r#"{"spool":{"version":1,"spec":"SPEC-1"}}"#,
        concat!(
            r#"{"accepted":{"at":"2025-10-14T10:00:00.123Z","idempotency_key":"k1","#,
            r#""event":"spec-kit.webhook.test","deliveries":[],"body":{}}}"#
        ),
        r#"{"known":{"idempotency_key":"k0","at":"2025-10-14T09:00:00.000Z"}}"#,
    ] {
        let line = format!("{:08x} {:08x} {json}\n", crc32fast::hash(json.as_bytes()), json.len());
        content.extend_from_slice(line.as_bytes());
    }
    fs::write(&path, &content).unwrap();
    let (mut journal, recovered) = Journal::open(dir.path(), &spec(), 8).unwrap();
    assert_eq!((journal.sequence(), recovered.known.len()), (1_760_436_000_123, 2));
    journal.compact_oldest(clock::now()).unwrap();
    drop(journal);
    assert!(!path.exists());
    let (journal, recovered) = Journal::open(dir.path(), &spec(), 8).unwrap();
    assert_eq!((journal.sequence(), recovered.known.len()), (1_760_436_000_123, 0), "nothing else is left");
}

#[test]
fn what_is_damaged_is_copied_before_a_compaction_removes_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, mut content, ends) = recorded(dir.path());
    let (mut journal, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
    let (end, damaged) = ends[1];
    content[end - 20] ^= 0x11;
    fs::write(&path, &content).unwrap();
    journal.compact_oldest(clock::now()).unwrap();
    assert!(!path.exists());
    let start = ends[0].0;
    let copy = fs::read(dir.path().join(format!("damaged-00000001-{start:08}"))).unwrap();
    assert_eq!(copy, content[start..end]);
    assert!(journal.body(damaged).unwrap_err().is_gone());
    assert!(ends.iter().filter(|(_, id)| *id != damaged).all(|(_, id)| journal.body(*id).is_ok()));
}

#[test]
fn what_is_damaged_over_many_pieces_is_one_copy() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = Journal::open(dir.path(), &spec(), 8).unwrap();
    let ids: Vec<DeliveryId> =
        (0..30).map(|_| accept(&mut journal, &format!("\"{}\"", "x".repeat(300)).into())).collect();
    let path = dir.path().join("spool-00000001.jsonl");
    let mut content = fs::read(&path).unwrap();
    let damage = 2_000..8_000;
    for at in damage.clone() {
        content[at] = if at % 97 == 0 { b'\n' } else { b'?' };
    }
    fs::write(&path, &content).unwrap();
    journal.compact_oldest(clock::now()).unwrap();
    let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let copies: Vec<_> = names.filter(|name| name.to_str().unwrap().starts_with("damaged-")).collect();
    assert_eq!(copies.len(), 1, "{copies:?}");
    let copy = fs::read(dir.path().join(&copies[0])).unwrap();
    assert!(copy.len() >= damage.len() && memchr::memmem::find(&content, &copy).is_some());
    let lost = ids.iter().filter(|id| journal.body(**id).is_err()).count();
    assert!((8..14).contains(&lost), "{lost} of {} are in it", ids.len());
}
