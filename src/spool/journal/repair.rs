//! Repairs a journal after a failed write, or after its files were removed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;

use bytes::Bytes;
use jiff::Timestamp;

use super::{Journal, LiveDelivery};
use crate::clock;
use crate::delivery::{DeliveryId, FinalState};
use crate::files::{self, FileError, is_gone};
use crate::spool::place::Place;
use crate::spool::record::{Accepted, Record};
use crate::spool::segment::{Segment, segment_numbers, segment_path};

impl Journal {
    /// The same journal, indexed anew from its open files: unconfirmed records are not in it.
    fn reread(&self) -> Result<Self, FileError> {
        let failed = |error| FileError::on("read again", &self.dir)(error);
        let mut journal = Self {
            next_number: self.next_number,
            sequence: self.sequence,
            ..Self::empty(&self.dir, &self.spec)
        };
        for segment in &self.segments {
            let file = segment.file.as_ref().map(File::try_clone).transpose().map_err(failed)?;
            let Segment { number, length, size, id, .. } = *segment;
            journal.segments.push_back(Segment { number, length, size, known_bytes: 0, id, file });
            let mut start = 0;
            loop {
                let piece = match self.piece(segment, start) {
                    Ok(Some(piece)) => piece,
                    Ok(None) => break,
                    // What is in it is lost, and said to be.
                    Err(error) if is_gone(&error) => break,
                    Err(error) => return Err(failed(error)),
                };
                start = piece.end();
                piece.records.iter().for_each(|(place, record)| journal.index(record, *place));
            }
        }
        Ok(journal)
    }

    /// Writes the records still needed of a journal whose files were removed into new segments at
    /// its path, beside whatever is there now.
    pub(in crate::spool) fn rescue(
        &self,
        known_since: Timestamp,
        keep_open: usize,
    ) -> Result<Rescued, FileError> {
        let (mut fresh, found) = Self::open(&self.dir, &self.spec, keep_open)?;
        fresh.seal();
        // Should a removed segment come back, its number must sort before those written now.
        fresh.next_number = fresh.next_number.max(self.next_number);
        fresh.sequence = fresh.sequence.max(self.sequence);
        if !self.segments.is_empty() {
            // Also where nothing is moved into it: its first line has the last `event.sequence`.
            fresh.begin_segment()?;
        }
        let mut unread: HashSet<DeliveryId> = self.deliveries.iter().map(|(id, _)| id).collect();
        // An older copy of this journal's files may be at the path: deliveries in it that have
        // ended since must not begin again.
        let mut copied: HashMap<String, Vec<DeliveryId>> = HashMap::new();
        for (unfinished, _) in found.unfinished().filter(|(found, _)| !unread.contains(&found.delivery.id()))
        {
            copied.entry(unfinished.delivery.key().to_owned()).or_default().push(unfinished.delivery.id());
        }
        // First: of most segments the steps are in it.
        if !self.run.is_empty() {
            fresh.append(&Record::Run(self.run.clone()))?;
        }
        for segment in &self.segments {
            let (mut start, mut has_steps) = (0, false);
            loop {
                let piece = match self.piece(segment, start) {
                    Ok(Some(piece)) => piece,
                    Ok(None) => break,
                    Err(error) => {
                        let path = segment_path(&self.dir, segment.number);
                        log::error!("{} is gone, and cannot be read any more: {error}", path.display());
                        break;
                    }
                };
                start = piece.end();
                has_steps |= piece.has_steps();
                let wanted = self.wanted(piece)?;
                let mut ended = Vec::new();
                for record in &wanted {
                    let (Record::Accepted(Accepted { idempotency_key: key, .. })
                    | Record::Known { idempotency_key: key, .. }) = record
                    else {
                        continue;
                    };
                    ended.extend(copied.remove(key.as_str()).into_iter().flatten());
                    if let Record::Accepted(accepted) = record {
                        for delivery in &accepted.deliveries {
                            unread.remove(&delivery.id);
                        }
                    }
                }
                fresh.take_over(wanted, known_since)?;
                for id in ended {
                    // The final state here is a placeholder: the evidence has the real one.
                    fresh.append(&Record::finished(id, FinalState::Delivered, clock::now()))?;
                }
            }
            fresh.take_over(self.wanted_run(segment.number, has_steps).into_iter().collect(), known_since)?;
            fresh.flush()?;
        }
        fresh.must_sync = true;
        fresh.flush()?;
        let lost = unread.into_iter().collect();
        Ok(Rescued { journal: fresh, lost, has_strangers: !copied.is_empty() })
    }

    /// Whether a record is on disk, and counted.
    fn is_confirmed(&self, place: Place) -> bool {
        self.segment(place.file()).is_some_and(|segment| place.offset() < segment.length)
    }

    /// Whether the folder has a segment that does not belong to this journal.
    pub(in crate::spool) fn has_strangers(&self) -> Result<bool, FileError> {
        let numbers = segment_numbers(&self.dir).map_err(FileError::on("list", &self.dir))?;
        Ok(!numbers.iter().all(|number| self.segment(*number).is_some()))
    }
}

/// A journal that was repaired.
pub(in crate::spool) struct Rescued {
    pub(in crate::spool) journal: Journal,
    /// Deliveries that can no longer be read.
    pub(in crate::spool) lost: Vec<DeliveryId>,
    /// Whether the folder had unfinished deliveries that this journal never held.
    pub(in crate::spool) has_strangers: bool,
}

/// A journal whose last write or sync failed. Its files stay open, so that they can be read even if
/// they are removed.
#[derive(Debug)]
pub(in crate::spool) struct Broken(pub(super) Journal);

impl Broken {
    /// Cuts the unconfirmed bytes, reads the journal again, and appends to a new segment from now
    /// on.
    pub(in crate::spool) fn repair(
        &self,
        known_since: Timestamp,
        keep_open: usize,
    ) -> Result<Rescued, FileError> {
        let Self(journal) = self;
        if !journal.has_its_names()? {
            let before = journal.reread()?;
            let mut rescued = before.rescue(known_since, keep_open)?;
            // Of a file that is gone nothing was read again, unless a copy of it is in its place.
            let (read, kept) = (&before.deliveries, &rescued.journal.deliveries);
            let went_with_it = |(id, live): &(DeliveryId, &LiveDelivery)| {
                journal.is_confirmed(live.event) && read.get(*id).is_none() && kept.get(*id).is_none()
            };
            rescued.lost.extend(journal.deliveries.iter().filter(went_with_it).map(|(id, _)| id));
            return Ok(rescued);
        }
        if let Some(last) = journal.segments.back() {
            let path = segment_path(&journal.dir, last.number);
            let file = files::existing_file(&path);
            file.and_then(|file| files::cut(&file, last.length)).map_err(FileError::on("repair", &path))?;
        }
        let (mut fresh, _) = Journal::open(&journal.dir, &journal.spec, keep_open)?;
        fresh.seal();
        Ok(Rescued { journal: fresh, lost: Vec::new(), has_strangers: false })
    }

    /// See [`Journal::has_strangers`].
    pub(in crate::spool) fn has_strangers(&self) -> Result<bool, FileError> {
        self.0.has_strangers()
    }

    /// Whether its files are still at their paths.
    pub(in crate::spool) fn has_its_names(&self) -> bool {
        self.0.has_its_names().is_ok_and(|has| has)
    }

    /// The payload of each acknowledged event with an unfinished delivery, as far as it can be
    /// read.
    pub(in crate::spool) fn unfinished_bodies(&self) -> Vec<Bytes> {
        let Self(journal) = self;
        // An event that was being moved is where it was before.
        let mut before = None;
        let mut body = |id: DeliveryId| {
            let accepted = journal.read_accepted(id).or_else(|error| {
                match before.get_or_insert_with(|| journal.reread()) {
                    Ok(before) => before.read_accepted(id),
                    Err(_) => Err(error),
                }
            });
            accepted.ok().map(Accepted::into_payload)
        };
        let live = journal.deliveries.iter();
        let events: BTreeMap<u64, DeliveryId> = live.map(|(id, live)| (live.event.order(), id)).collect();
        events.into_values().filter_map(&mut body).collect()
    }

    /// Number of open segments.
    pub(in crate::spool) fn open_files(&self) -> usize {
        self.0.open_files()
    }
}
