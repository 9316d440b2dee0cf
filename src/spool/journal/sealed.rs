//! What a start knows of a SPEC's sealed segments, those that take no more records, without reading
//! them: a file beside them with what reading them came to. A start that had to read much writes
//! it, and so does a runtime at rest, so the next start reads what came after.
//!
//! It is a hint. One that is damaged, of another version, or about other files than those that are
//! there, counts as none, and all is read. Compaction may remove segments, oldest first, after it
//! has moved what is still wanted of them: what the file says of those is left out.
//! `docs/contributing/spool-format.md` describes it.

mod blocks;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Journal, LiveDelivery};
use crate::delivery::{Common, Compact, DeliveryId, KnownEvent, Told};
use crate::event::{IdempotencyKey, SpecId};
use crate::files::{self, FileId};
use crate::run::Run;
use crate::spool::place::Place;
use crate::spool::recovery::{Recovery, Unfinished};
use crate::spool::segment::{Opened, ReadSegment, Segment, segment_numbers, segment_path};
use blocks::{Reader, Writer};

/// Bytes of sealed segments that a start may read; beyond it, and beyond what the file has, it is
/// written.
const READ_AT_MOST: u64 = if cfg!(test) { 1 } else { 8 * 1024 * 1024 };

/// Events that a full file has, about: payloads of 2 KiB.
const RECORDS_OF_A_FILE: usize = 1024;

/// Unfinished deliveries above which a runtime at rest leaves the file to the next start: for a
/// moment all that is known of them is in memory twice, some 20 MiB for so many.
const PENDING_AT_REST: usize = 100_000;

/// The first bytes of the file: its version, and the program's, whose types it holds.
const BEGINNING: &str = concat!("spec-notify sealed 2 ", env!("CARGO_PKG_VERSION"), "\n");

/// A sealed segment: the file that was read, and nothing else, is what is known.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Sealed {
    number: u64,
    length: u64,
    id: FileId,
    modified: SystemTime,
    known_bytes: u64,
}

/// What the file knows, as far as this process has seen to it.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::spool) struct KnownSealed {
    /// The last segment; 0 for none.
    last: u64,
    /// Bytes of the file.
    bytes: u64,
}

/// A thread that brings a SPEC's file up to date.
#[derive(Debug)]
pub(in crate::spool) struct Sealing {
    pub(in crate::spool) spec: SpecId,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Option<KnownSealed>>,
}

impl Sealing {
    pub(in crate::spool) fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends it after the segment that it reads.
    pub(in crate::spool) fn stop(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }

    /// Waits until it has ended.
    pub(in crate::spool) fn end(self) -> Option<KnownSealed> {
        self.thread.join().unwrap_or_else(|_| {
            log::error!("noting what full files hold has panicked: the next start reads them");
            None
        })
    }
}

/// All but known events and deliveries, which follow one by one.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    segments: Vec<Sealed>,
    sequence: u64,
    run_record: Option<Place>,
    /// Their number.
    known: usize,
    inbox: Vec<String>,
    common: Vec<Common>,
    /// [`Memory`] as JSON: its types leave fields out, which only a format with names can.
    memory: String,
    /// Their number.
    deliveries: usize,
}

#[derive(Serialize, Deserialize)]
struct Memory {
    run: Run,
    told: VecDeque<(Timestamp, IdempotencyKey, Told)>,
    verdicts: VecDeque<(IdempotencyKey, Told)>,
}

/// An unfinished delivery.
#[derive(Debug, Serialize, Deserialize)]
struct Entry<'a> {
    id: DeliveryId,
    key: &'a str,
    /// The place in [`Head::common`] of what it has in common with others.
    common: u32,
    accepted_at_ms: i64,
    attempts: u32,
    next_attempt_ms: Option<i64>,
    event: Place,
    /// Whether its event has other unfinished deliveries.
    is_shared: bool,
    last_attempt: Option<Place>,
    earlier_attempts: Vec<Place>,
}

fn path_in(dir: &Path) -> PathBuf {
    dir.join("sealed.bin")
}

impl Journal {
    /// A journal of what is known of the sealed segments among these, if it fits them; else an
    /// empty one. The later segments are to be read.
    pub(super) fn of_sealed(dir: &Path, spec: &SpecId, numbers: &[u64]) -> (Self, Recovery) {
        let known = Self::known(dir, spec, numbers);
        known.unwrap_or_else(|| {
            let mut recovery = Recovery::of(spec);
            let records = numbers.len() * RECORDS_OF_A_FILE;
            recovery.make_room(records, records);
            (Self::empty(dir, spec), recovery)
        })
    }

    fn known(dir: &Path, spec: &SpecId, numbers: &[u64]) -> Option<(Self, Recovery)> {
        let path = path_in(dir);
        let reader = match Reader::open(&path, BEGINNING) {
            Ok(reader) => reader,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    log::debug!("{}: not used: {error}", path.display());
                }
                return None;
            }
        };
        let known = reader.and_then(|reader| Self::of_file(dir, spec, numbers, reader));
        if known.is_none() {
            log::debug!("{} is not of the files that are there: they are read", path.display());
            // Nothing else would remove it, and it may be large.
            if let Err(error) = files::remove(&path) {
                log::debug!("{}: {error}", path.display());
            }
        }
        known
    }

    fn of_file(dir: &Path, spec: &SpecId, numbers: &[u64], mut file: Reader) -> Option<(Self, Recovery)> {
        // A folder may have another SPEC's name by now.
        let is_of = |head: &Head| head.common.iter().all(|common| common.spec == *spec);
        let head: Head = file.next().filter(|head| is_of(head) && fits(dir, &head.segments, numbers))?;
        let (mut journal, mut recovery) = (Self::empty(dir, spec), Recovery::of(spec));
        let last = journal.restore(&mut recovery, head, &mut file, numbers)?;
        journal.known_sealed = KnownSealed { last, bytes: file.bytes() };
        file.is_at_end().then_some((journal, recovery))
    }

    /// Whether a start would read much of its segments, but for so many of the newest.
    pub(super) fn is_worth_sealing(&self, newest: usize) -> bool {
        let sealed = self.segments.iter().take(self.segments.len().saturating_sub(newest));
        let unknown = sealed.filter(|segment| segment.number > self.known_sealed.last);
        let to_read: u64 = unknown.map(|segment| segment.length).sum();
        self.later == 0 && to_read > READ_AT_MOST.max(self.known_sealed.bytes)
    }

    /// Whether a runtime at rest is to note what its sealed segments hold.
    pub(in crate::spool) fn is_worth_sealing_aside(&self) -> bool {
        self.pending() <= PENDING_AT_REST && self.is_worth_sealing(1)
    }

    /// Brings the file up to date, on another thread that reads what is sealed by now. It ends
    /// without that if anything else happens to the files meanwhile: the next start finds out.
    pub(in crate::spool) fn seal_aside(&mut self) -> io::Result<Sealing> {
        let last = self.segments.iter().rev().nth(1).map_or(0, |segment| segment.number);
        // Also where that fails: it is tried again once there is as much more to read.
        self.known_sealed.last = last;
        let (dir, spec, is_over) = (self.dir.clone(), self.spec.clone(), Arc::<AtomicBool>::default());
        let stop = is_over.clone();
        let sealing = move || match bring_up_to_date(&dir, &spec, last, &stop) {
            Ok(known) => known,
            Err(error) => {
                log::debug!("what {} holds is not noted: {error}", dir.display());
                None
            }
        };
        let thread = thread::Builder::new().name("spec-notify-sealing".to_owned()).spawn(sealing)?;
        Ok(Sealing { spec: self.spec.clone(), is_over, thread })
    }

    /// Takes in what a thread has written.
    pub(in crate::spool) fn has_sealed(&mut self, known: KnownSealed) {
        self.known_sealed = known;
    }

    fn restore(
        &mut self,
        recovery: &mut Recovery,
        head: Head,
        file: &mut Reader,
        numbers: &[u64],
    ) -> Option<u64> {
        let last = head.segments.last()?.number;
        let is_there = |place: &Place| numbers.binary_search(&place.file()).is_ok();
        for Sealed { number, length, id, known_bytes, .. } in head.segments {
            if numbers.binary_search(&number).is_ok() {
                self.segments.push_back(Segment {
                    number,
                    length,
                    size: length,
                    known_bytes,
                    id,
                    file: None,
                });
            }
        }
        self.sequence = head.sequence;
        self.run_record = head.run_record.filter(is_there);
        let memory: Memory = serde_json::from_str(&head.memory).ok()?;
        self.run = memory.run;
        recovery.inbox = head.inbox;
        (recovery.told, recovery.verdicts) = (memory.told, memory.verdicts);
        // No more than there can be, whatever the numbers say.
        let most = usize::try_from(file.bytes() / 16).unwrap_or(usize::MAX);
        let count = head.deliveries.min(most);
        recovery.reserve(count, head.known.min(most));
        self.deliveries.reserve(count);
        for _ in 0..head.known {
            recovery.known.push(file.next()?);
        }
        let common: Vec<Arc<Common>> = head.common.into_iter().map(Arc::new).collect();
        for _ in 0..head.deliveries {
            let entry: Entry<'_> = file.next()?;
            if is_there(&entry.event) {
                self.restore_delivery(recovery, entry, &common)?;
            }
        }
        Some(last)
    }

    fn restore_delivery(
        &mut self,
        recovery: &mut Recovery,
        entry: Entry<'_>,
        common: &[Arc<Common>],
    ) -> Option<()> {
        let common = common.get(entry.common as usize)?.clone();
        let time = |ms| Timestamp::from_millisecond(ms).ok();
        let accepted_at = time(entry.accepted_at_ms)?;
        let key = Some(entry.key).filter(|key| IdempotencyKey::is_one(key))?;
        let delivery = Compact::of_parts(entry.id, common, key, accepted_at);
        let before =
            if entry.is_shared { self.shared.entry(entry.event.order()).or_default() } else { &mut 0 };
        self.live_bytes += if *before == 0 { entry.event.length() } else { 0 };
        *before += 1;
        let attempts = entry.earlier_attempts.iter().chain(&entry.last_attempt);
        self.live_bytes += attempts.map(|place| place.length()).sum::<u64>();
        if !entry.earlier_attempts.is_empty() {
            self.earlier_attempts.insert(entry.id, entry.earlier_attempts);
        }
        let live = LiveDelivery { event: entry.event, last_attempt: entry.last_attempt };
        if self.deliveries.insert(entry.id, live).is_some() {
            return None;
        }
        let unfinished = Unfinished {
            delivery,
            attempts: entry.attempts,
            next_attempt_at: entry.next_attempt_ms.map(time).map_or(Some(None), |at| at.map(Some))?,
        };
        recovery.restore(unfinished, entry.last_attempt);
        Some(())
    }

    /// Writes what is known of the segments that were taken in, which are to be sealed ones, if the
    /// disk has room to spare. Without it the next start takes longer, and nothing else.
    pub(super) fn note_sealed(&mut self, recovery: &Recovery) {
        // Only a later version knows what its records mean.
        if self.later > 0 {
            return;
        }
        let path = path_in(&self.dir);
        match self.write_sealed(&path, recovery) {
            Ok(bytes) => {
                let last = self.segments.back().map_or(0, |segment| segment.number);
                self.known_sealed = KnownSealed { last, bytes };
            }
            Err(error) => log::debug!("{}: {error}", path.display()),
        }
    }

    /// Writes the file, and returns its bytes.
    fn write_sealed(&self, path: &Path, recovery: &Recovery) -> io::Result<u64> {
        let (mut common, mut places) = (Vec::new(), HashMap::new());
        for (Unfinished { delivery, .. }, _) in recovery.live() {
            places.entry(delivery.common()).or_insert_with_key(|one| {
                common.push(Common::clone(one));
                common.len() - 1
            });
        }
        let memory = Memory {
            run: self.run.clone(),
            told: recovery.told.clone(),
            verdicts: recovery.verdicts.clone(),
        };
        let sealed = |segment: &Segment| {
            let Segment { number, length, known_bytes, id, .. } = *segment;
            let modified = fs::symlink_metadata(segment_path(&self.dir, number))?.modified()?;
            Ok(Sealed { number, length, id, modified, known_bytes })
        };
        let inbox = self.dir.parent().map(|spool| spool.join("inbox"));
        let is_waiting = |name: &&String| inbox.as_ref().is_some_and(|inbox| inbox.join(name).exists());
        let known = KnownEvent::newest(recovery.known.clone());
        let mut writer = Writer::new(path, BEGINNING)?;
        writer.add(&Head {
            segments: self.segments.iter().map(sealed).collect::<io::Result<_>>()?,
            sequence: self.sequence,
            run_record: self.run_record,
            known: known.len(),
            inbox: recovery.inbox.iter().filter(|name| is_waiting(name)).cloned().collect(),
            common,
            memory: serde_json::to_string(&memory)?,
            deliveries: recovery.live().count(),
        })?;
        for event in known {
            writer.add(&event)?;
        }
        for (Unfinished { delivery, attempts, next_attempt_at }, key) in recovery.live() {
            let id = delivery.id();
            let (Some(live), Some(place)) = (self.deliveries.get(id), places.get(delivery.common())) else {
                return Err(io::Error::other("a delivery that waits is not in the index"));
            };
            writer.add(&Entry {
                id,
                key,
                common: u32::try_from(*place).map_err(io::Error::other)?,
                accepted_at_ms: delivery.accepted_at().as_millisecond(),
                attempts: *attempts,
                next_attempt_ms: next_attempt_at.map(Timestamp::as_millisecond),
                event: live.event,
                is_shared: self.shared.contains_key(&live.event.order()),
                last_attempt: live.last_attempt,
                earlier_attempts: self.earlier_attempts.get(&id).cloned().unwrap_or_default(),
            })?;
        }
        writer.finish()
    }
}

/// Reads the segments up to this one that the file does not know yet, and writes it.
fn bring_up_to_date(
    dir: &Path,
    spec: &SpecId,
    last: u64,
    is_over: &AtomicBool,
) -> io::Result<Option<KnownSealed>> {
    let mut numbers = segment_numbers(dir)?;
    numbers.retain(|number| *number <= last);
    let (mut journal, mut recovery) = Journal::of_sealed(dir, spec, &numbers);
    let known = journal.known_sealed.last;
    let mut content = Vec::new();
    for number in numbers.into_iter().filter(|number| *number > known) {
        if is_over.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let read = Opened::open(dir, number).and_then(|opened| opened.read(&mut content));
        let ReadSegment { opened, size, scan, .. } = read.map_err(io::Error::other)?;
        let (id, length) = (opened.id, scan.torn_at as u64);
        if size > length {
            return Err(io::Error::other("its records are followed by something that a start cuts"));
        }
        let segment = Segment { number, length, size, known_bytes: 0, id, file: None };
        journal.add_segment(segment, scan, &mut recovery);
    }
    journal.note_sealed(&recovery);
    Ok(Some(journal.known_sealed))
}

/// Whether those of these sealed segments that are there are as they were, all later than those
/// that are not, and none is there beside them.
fn fits(dir: &Path, sealed: &[Sealed], numbers: &[u64]) -> bool {
    let Some(last) = sealed.last() else { return false };
    let there: Vec<u64> = numbers.iter().copied().take_while(|number| *number <= last.number).collect();
    let Some(kept) = sealed.len().checked_sub(there.len()).filter(|_| !there.is_empty()) else {
        return false;
    };
    sealed[kept..].iter().zip(there).all(|(segment, number)| {
        let found = fs::symlink_metadata(segment_path(dir, number));
        segment.number == number
            && found.is_ok_and(|found| {
                found.is_file()
                    && found.len() == segment.length
                    && FileId::from(&found) == segment.id
                    && found.modified().is_ok_and(|modified| modified == segment.modified)
            })
    })
}
