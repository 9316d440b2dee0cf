//! Tests: a journal's files are cut and flipped at every byte.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::*;
use crate::clock;
use crate::event::EventKind;
use crate::spool::record::{Accepted, AcceptedDelivery};

fn spec() -> SpecId {
    "SPEC-1".parse().unwrap()
}

/// A journal of a few records: its file, its content, and where each record ends.
fn recorded(dir: &Path) -> (PathBuf, Vec<u8>, Vec<(usize, DeliveryId)>) {
    let (mut journal, _) = Journal::open(dir, &spec(), 8).unwrap();
    let path = dir.join("spool-00000001.jsonl");
    let mut ends = Vec::new();
    for n in 0..4 {
        let id = DeliveryId::random();
        let deliveries = vec![AcceptedDelivery::new(id, "s".parse().unwrap())];
        let key = format!("k{n}").parse().unwrap();
        let accepted = Accepted::new(clock::now(), key, EventKind::Test, deliveries, &"{}".into()).unwrap();
        journal.append(&Record::Accepted(accepted)).unwrap();
        journal.write().unwrap();
        journal.confirm();
        ends.push((fs::metadata(&path).unwrap().len() as usize, id));
    }
    let content = fs::read(&path).unwrap();
    (path, content, ends)
}

fn reopened(dir: &Path) -> BTreeSet<DeliveryId> {
    let (_, recovered) = Journal::open(dir, &spec(), 8).unwrap();
    recovered.unfinished().map(|(unfinished, _)| unfinished.delivery.id).collect()
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
        let next = DeliveryId::random();
        let deliveries = vec![AcceptedDelivery::new(next, "s".parse().unwrap())];
        let key = "next".parse().unwrap();
        let accepted = Accepted::new(clock::now(), key, EventKind::Test, deliveries, &"{}".into()).unwrap();
        journal.append(&Record::Accepted(accepted)).unwrap();
        journal.write().unwrap();
        journal.confirm();
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
        assert!(damaged || at + 1 == content.len(), "byte {at}: reported and kept");
        assert_eq!(reopened(dir.path()), found, "the same at the next start");
    }
}
