//! What any process may read of a spool: nothing is repaired and nothing is locked.

use std::fs;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::IgnoredAny;
#[cfg(feature = "cli")]
use serde_json::value::RawValue;

use super::inbox::InboxName;
use super::lock::Lock;
use super::place::Place;
use super::record::{self, Accepted, Payload, Record, VERSION, decode_whole};
use super::recovery::Recovery;
use super::segment::{check_file, content_of, segment_numbers, segment_path};
use super::{OpenError, Unfinished};
use crate::delivery::{AttemptSummary, Delivery, DeliveryId};
use crate::event::SpecId;
#[cfg(feature = "cli")]
use crate::event::{EventKind, IdempotencyKey};
use crate::files::{self, FileError, absent_is_empty, known_specs, spec_dirs};

/// Whether a process owns the spool. Creates nothing.
pub(crate) fn is_owned(spool_dir: &Path) -> bool {
    Lock::is_held(spool_dir)
}

/// The unfinished deliveries of a SPEC and the last attempt of each, as far as they can be read
/// now.
///
/// # Errors
/// Its folder cannot be listed.
pub(crate) fn unfinished_of(spool_dir: &Path, spec: &SpecId) -> io::Result<Vec<Peeked>> {
    let dir = spool_dir.join(spec.as_str());
    match exists_in(&dir) {
        Ok(true) => peek(&dir, spec).map_err(io::Error::other),
        Ok(false) | Err(_) => Ok(Vec::new()),
    }
}

/// The unfinished deliveries of all SPECs.
///
/// # Errors
/// The spool cannot be listed.
pub(crate) fn unfinished(spool_dir: &Path) -> io::Result<Vec<Peeked>> {
    let mut found = Vec::new();
    for spec in specs(spool_dir)? {
        found.append(&mut unfinished_of(spool_dir, &spec)?);
    }
    Ok(found)
}

/// The SPECs that have or had something in a spool.
///
/// # Errors
/// The spool cannot be listed.
pub(crate) fn specs(spool_dir: &Path) -> io::Result<Vec<SpecId>> {
    absent_is_empty(known_specs(spool_dir))
}

/// Bytes of all journals in a spool; folders that cannot be listed are skipped.
pub(crate) fn bytes(spool_dir: &Path) -> u64 {
    let specs = specs(spool_dir).unwrap_or_default().into_iter();
    specs.map(|spec| bytes_in(&spool_dir.join(spec.as_str()))).sum()
}

/// The number of events in the inbox, by the names of its files, and the number of rejected files.
pub(crate) fn events_in_inbox(spool_dir: &Path) -> (usize, usize) {
    let names = names(&spool_dir.join("inbox"));
    let events = names.iter().filter_map(|name| name.parse().ok()).map(|name: InboxName| name.events());
    (events.sum(), names.iter().filter(|name| name.ends_with(".rejected")).count())
}

/// The files with copies of damaged records, relative to the spool.
pub(crate) fn damaged(spool_dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for spec in spec_dirs(spool_dir).unwrap_or_default() {
        let damaged = names(&spool_dir.join(spec.as_str()));
        let damaged = damaged.into_iter().filter(|name| name.starts_with("damaged-"));
        found.extend(damaged.map(|name| format!("{spec}/{name}")));
    }
    found.sort();
    found
}

/// Whether a directory holds a journal.
///
/// # Errors
/// It cannot be listed.
pub(super) fn exists_in(dir: &Path) -> Result<bool, FileError> {
    segment_numbers(dir).map(|numbers| !numbers.is_empty()).map_err(FileError::on("list", dir))
}

/// Checks that a journal could be opened: reads and syncs its files, and changes nothing.
pub(super) fn probe(dir: &Path) -> Result<(), FileError> {
    for number in segment_numbers(dir).map_err(FileError::on("list", dir))? {
        let path = segment_path(dir, number);
        let read = files::existing_file(&path).and_then(|file| {
            files::sync(&file)?;
            content_of(&file)
        });
        read.map_err(FileError::on("read", &path))?;
    }
    match check_version(dir) {
        Ok(()) => Ok(()),
        Err(OpenError::Io(error)) => Err(error),
        Err(error) => Err(FileError::on("read", dir)(io::Error::other(error.to_string()))),
    }
}

/// Bytes of a directory's journal files.
fn bytes_in(dir: &Path) -> u64 {
    let numbers = segment_numbers(dir).unwrap_or_default().into_iter();
    numbers.filter_map(|number| fs::metadata(segment_path(dir, number)).ok()).map(|found| found.len()).sum()
}

/// Refuses a journal of a later version; changes nothing.
pub(super) fn check_version(dir: &Path) -> Result<(), OpenError> {
    let numbers = segment_numbers(dir).map_err(FileError::on("list", dir))?;
    for path in numbers.iter().map(|number| segment_path(dir, *number)) {
        let file = files::open_to_read(&path).map_err(FileError::on("open", &path))?;
        let mut start = vec![0; 512];
        let read = file.read_at(&mut start, 0).map_err(FileError::on("read", &path))?;
        if let Some((Record::Spool { version, .. }, _)) = record::decode::<IgnoredAny>(&start[..read])
            && version > VERSION
        {
            return Err(OpenError::Newer { path, version });
        }
    }
    Ok(())
}

/// The unfinished deliveries in `dir` and the last attempt of each, as far as they can be read now.
/// Repairs nothing, locks nothing, reads no payload.
fn peek(dir: &Path, spec: &SpecId) -> Result<Vec<Peeked>, FileError> {
    let mut recovery = Recovery::of(spec);
    for number in segment_numbers(dir).map_err(FileError::on("list", dir))? {
        let path = segment_path(dir, number);
        // A compacting runtime may have removed the file: its records are in a later one.
        let Ok(content) = files::open_to_read(&path).and_then(|file| content_of(&file)) else { continue };
        for (range, record) in record::scan::<IgnoredAny>(&content).records {
            recovery.read(&record, Place::new(number, &range));
        }
    }
    let last = |id, place: Option<Place>| place.map(|place| LastAttempt::at(dir, id, place));
    let peeked = |(unfinished, place): (Unfinished, _)| Peeked {
        last_attempt: last(unfinished.delivery.id(), place),
        unfinished,
    };
    Ok(recovery.unfinished().map(peeked).collect())
}

/// An unfinished delivery, and where its last attempt is recorded.
#[derive(Debug)]
pub(crate) struct Peeked {
    /// The delivery.
    pub unfinished: Unfinished,
    /// Its last attempt, if there was one.
    pub last_attempt: Option<LastAttempt>,
}

/// What a spool still has of one delivery, finished or not.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The delivery.
    pub delivery: Delivery,
    /// The event's payload.
    pub payload: Bytes,
    /// What the delivery sends.
    pub body: Bytes,
    /// The attempts that were recorded, oldest first.
    pub attempts: Vec<AttemptSummary>,
    /// When its next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// Whether it has ended.
    pub is_finished: bool,
}

/// Reads one delivery from the spool's files, as far as they have it: a compaction removes what has
/// ended.
///
/// # Errors
/// The SPEC's folder cannot be listed.
pub(crate) fn kept(spool_dir: &Path, spec: &SpecId, id: DeliveryId) -> io::Result<Option<Kept>> {
    let dir = spool_dir.join(spec.as_str());
    let mut kept: Option<Kept> = None;
    for number in segment_numbers(&dir).or_else(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Vec::new()),
        _ => Err(error),
    })? {
        let path = segment_path(&dir, number);
        let Ok(content) = files::open_to_read(&path).and_then(|file| content_of(&file)) else { continue };
        for (range, record) in record::scan::<IgnoredAny>(&content).records {
            match record {
                Record::Accepted(accepted) if accepted.deliveries.iter().any(|one| one.id == id) => {
                    let line = content.get(range).unwrap_or_default();
                    if let Ok(Record::Accepted(whole)) = decode_whole(line) {
                        kept = Kept::of(whole, spec, id).or(kept);
                    }
                }
                Record::Attempted { id: of, attempt, next_attempt_at } if of == id => {
                    if let Some(kept) = &mut kept {
                        kept.attempts.push(attempt);
                        kept.next_attempt_at = Some(next_attempt_at);
                    }
                }
                Record::Finished { id: of, .. } if of == id => {
                    kept.iter_mut().for_each(|kept| kept.is_finished = true);
                }
                _ => {}
            }
        }
    }
    Ok(kept)
}

impl Kept {
    fn of(accepted: Accepted, spec: &SpecId, id: DeliveryId) -> Option<Self> {
        let of = accepted.deliveries.iter().find(|one| one.id == id)?;
        let delivery = Delivery {
            id,
            subscription: of.subscription.clone(),
            spec: spec.clone(),
            key: accepted.idempotency_key.clone(),
            kind: accepted.event,
            stage: accepted.stage,
            status: accepted.status,
            accepted_at: accepted.at,
            format: of.format,
        };
        let (attempts, next_attempt_at) = (of.attempts.clone(), of.next_attempt_at);
        let payload = Bytes::from(accepted.body.get().to_owned());
        let body = accepted.into_body(id);
        Some(Self { delivery, payload, body, attempts, next_attempt_at, is_finished: false })
    }
}

/// An event that a spool has accepted.
#[cfg(feature = "cli")]
#[derive(Debug)]
pub(crate) struct Seen {
    /// Its key.
    pub key: IdempotencyKey,
    /// When it was accepted.
    pub at: Timestamp,
    /// Its type; `None` where nothing but its key is kept any more.
    pub event: Option<EventKind>,
    /// Whether a run of its SPEC begins with it.
    pub begins_run: bool,
    /// The payload; empty where it is not kept any more.
    pub body: String,
}

/// The events that a SPEC's files still know, in no order; some may be there twice. Repairs
/// nothing and locks nothing.
///
/// # Errors
/// The SPEC's folder cannot be listed.
#[cfg(feature = "cli")]
pub(crate) fn seen(spool_dir: &Path, spec: &SpecId) -> io::Result<Vec<Seen>> {
    let dir = spool_dir.join(spec.as_str());
    let mut seen = Vec::new();
    for number in absent_is_empty(segment_numbers(&dir))? {
        let path = segment_path(&dir, number);
        // A compacting runtime may have removed the file: its records are in a later one.
        let Ok(content) = files::open_to_read(&path).and_then(|file| content_of(&file)) else { continue };
        for (_, record) in record::scan::<Box<RawValue>>(&content).records {
            match record {
                Record::Accepted(Accepted { at, idempotency_key: key, event, run, body, .. }) => {
                    let begins_run = run.is_some_and(|step| step.begins_run());
                    seen.push(Seen { key, at, event: Some(event), begins_run, body: body.get().to_owned() });
                }
                Record::Known { idempotency_key: key, at, .. } => {
                    seen.push(Seen { key, at, event: None, begins_run: false, body: String::new() });
                }
                _ => {}
            }
        }
    }
    Ok(seen)
}

/// Where the last attempt of an unfinished delivery is recorded: it can be read on any thread.
#[derive(Clone, Debug)]
pub(crate) struct LastAttempt {
    dir: PathBuf,
    /// The delivery.
    pub id: DeliveryId,
    place: Place,
}

impl LastAttempt {
    pub(super) fn at(dir: &Path, id: DeliveryId, place: Place) -> Self {
        Self { dir: dir.to_owned(), id, place }
    }

    /// Reads the attempt. `None` if a compaction has just moved it, or it is not written yet.
    pub(crate) fn read(&self) -> Option<AttemptSummary> {
        match read_record::<IgnoredAny>(&self.dir, self.place).ok()? {
            Record::Attempted { id, attempt, .. } if id == self.id => Some(attempt),
            Record::Accepted(accepted) => {
                accepted.deliveries.into_iter().find(|delivery| delivery.id == self.id)?.attempts.pop()
            }
            _ => None,
        }
    }
}

fn read_record<B: Payload>(dir: &Path, place: Place) -> io::Result<Record<B>> {
    let mut line = vec![0; usize::try_from(place.length()).map_err(io::Error::other)?];
    files::open_to_read(&segment_path(dir, place.file()))?.read_exact_at(&mut line, place.offset())?;
    decode_whole(&line)
}

/// What in a spool cannot be used, and why. Plain files with an extension are skipped: they belong
/// to others.
pub(crate) fn unusable(spool_dir: &Path) -> Vec<String> {
    let mut unusable = Vec::new();
    let mut say = |path: &Path, why: &dyn std::fmt::Display| {
        unusable.push(format!("{}: {why}", path.display()));
    };
    let lock = spool_dir.join(".lock");
    if fs::symlink_metadata(&lock).is_ok_and(|found| !found.is_file()) {
        say(&lock, &"something else than a file is in its place, and no runtime can start");
    }
    let mut folders = vec![spool_dir.join("inbox")];
    for spec in spec_dirs(spool_dir).unwrap_or_default() {
        let dir = spool_dir.join(spec.as_str());
        if fs::symlink_metadata(&dir).is_ok_and(|found| found.is_file()) && spec.as_str().contains('.') {
            continue;
        }
        for name in names(&dir).into_iter().filter(|name| name.starts_with("spool-")) {
            let path = dir.join(name);
            if let Err(error) = check_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                say(&path, &error);
            }
        }
        folders.push(dir.join("dead-letter"));
        folders.push(dir);
    }
    for dir in folders {
        match fs::symlink_metadata(&dir) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => say(&dir, &error),
            Ok(found) if found.is_symlink() => say(&dir, &"a symbolic link is in its place"),
            Ok(found) if !found.is_dir() => say(&dir, &"something else than a folder is in its place"),
            Ok(_) => {
                if let Err(error) = fs::read_dir(&dir) {
                    say(&dir, &error);
                }
            }
        }
    }
    unusable
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
