//! Compaction of one SPEC's journal, from the old end: what is still wanted of the oldest file is
//! appended to the newest, synced, and the oldest removed. A crash in between leaves some records
//! twice, which recovery reads as once.

use jiff::Timestamp;
use serde::de::IgnoredAny;

use super::Journal;
use crate::clock;
use crate::files::{self, FileError, is_gone};
use crate::spool::place::Place;
use crate::spool::record::{self, AcceptedDelivery, Record, decode_whole};
use crate::spool::recovery::TOLD_BEFORE;
use crate::spool::segment::segment_path;

/// Whose turn it is: a compaction takes time that emitters would wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::spool) enum Compact {
    /// When there is little else to do.
    AtLeisure,
    /// Whatever waits.
    AtOnce,
    /// The disk is full: all that is to be had counts.
    ForRoom,
}

impl Compact {
    /// Bytes of finished work that are not worth it.
    fn slack(self) -> u64 {
        match self {
            Self::AtLeisure => 1024 * 1024,
            Self::AtOnce => 16 * 1024 * 1024,
            Self::ForRoom => 64 * 1024,
        }
    }
}

/// Keys of finished events kept for one SPEC, in bytes; beyond it the oldest are forgotten.
const MAX_KNOWN_BYTES: u64 = 16 * 1024 * 1024;

impl Journal {
    /// Whether finished work takes more room than what is still wanted.
    pub(in crate::spool) fn is_wasteful(&self, compact: Compact) -> bool {
        // Which records belong to one of a later version only that version can tell.
        if self.later > 0 {
            return false;
        }
        let total: u64 = self.segments.iter().map(|segment| segment.length).sum();
        let wanted = self.live_bytes + self.known_bytes();
        // What is wanted is moved: as a rule not worth it where it is the greater part.
        let part = if compact == Compact::ForRoom { wanted } else { 2 * wanted };
        total > part + compact.slack()
    }

    /// Bytes that a step of compaction takes before it gives any back.
    pub(in crate::spool) fn compaction_takes(&self) -> Result<u64, FileError> {
        let Some(oldest) = self.segments.front() else { return Ok(0) };
        let failed = |error| FileError::on("read", &segment_path(&self.dir, oldest.number))(error);
        let mut records = Vec::new();
        for record in self.wanted(oldest.number, &self.content(oldest).map_err(failed)?)? {
            record::encode(&record, &mut records);
        }
        Ok(records.len() as u64)
    }

    fn known_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.known_bytes).sum()
    }

    /// Moves what is still wanted of the oldest file to the newest and removes it; one bounded
    /// step. Events accepted before `known_since` are forgotten. After a failure as after one of
    /// [`write`](Self::write).
    pub(in crate::spool) fn compact_oldest(&mut self, known_since: Timestamp) -> Result<(), FileError> {
        self.flush()?;
        if self.segments.len() == 1 {
            self.seal();
        }
        let Some(oldest) = self.segments.front() else { return Ok(()) };
        let path = segment_path(&self.dir, oldest.number);
        let failed = |doing| FileError::on(doing, &path);
        let content = self.content(oldest).map_err(failed("read"))?;
        let wanted = self.wanted(oldest.number, &content)?;
        self.take_over(wanted, known_since)?;
        self.must_sync = true;
        self.flush()?;
        files::remove(&path).map_err(failed("remove"))?;
        files::sync_dir(&self.dir).map_err(failed("sync the directory of"))?;
        self.segments.pop_front();
        Ok(())
    }

    /// What is still wanted of a file's content, as records of its own.
    pub(super) fn wanted(&self, number: u64, content: &[u8]) -> Result<Vec<Record>, FileError> {
        let mut wanted = Vec::new();
        let mut has_steps = false;
        for (range, record) in record::scan::<IgnoredAny>(content).records {
            match record {
                Record::Accepted(accepted) => {
                    has_steps |= accepted.run.is_some();
                    let place = Place::new(number, &range);
                    match accepted.deliveries.iter().any(|delivery| self.is_live(delivery.id, place)) {
                        true => wanted.extend(self.live_event(&content[range], place)?),
                        false => wanted.push(Record::Known {
                            idempotency_key: accepted.idempotency_key,
                            at: accepted.at,
                            told: accepted.told,
                        }),
                    }
                }
                Record::Run(_) => has_steps = true,
                Record::Known { idempotency_key, at, told } => {
                    wanted.push(Record::Known { idempotency_key, at, told });
                }
                Record::Later(later) => wanted.push(Record::Later(later)),
                Record::Spool { .. } | Record::Attempted { .. } | Record::Finished { .. } => {}
            }
        }
        if has_steps {
            wanted.push(Record::Run(self.run.clone()));
        }
        Ok(wanted)
    }

    /// Adds what is wanted of another file, or of another journal.
    pub(super) fn take_over(&mut self, wanted: Vec<Record>, known_since: Timestamp) -> Result<(), FileError> {
        let now = clock::now();
        for mut record in wanted {
            let is_too_much = match &mut record {
                Record::Known { at, told, .. } => {
                    told.take_if(|told| !told.is_of_a_session() && now.duration_since(*at) > TOLD_BEFORE);
                    *at < known_since || self.known_bytes() > MAX_KNOWN_BYTES
                }
                _ => false,
            };
            if !is_too_much {
                self.append(&record)?;
            }
        }
        Ok(())
    }

    /// The event's record with what is unfinished of it, and the attempts that were made since.
    fn live_event(&self, line: &[u8], place: Place) -> Result<Option<Record>, FileError> {
        let failed = |error| FileError::on("read", &self.dir)(error);
        let Record::Accepted(mut accepted) = decode_whole(line).map_err(failed)? else { return Ok(None) };
        accepted.run = None;
        let mut moved = Vec::new();
        for delivery in accepted.deliveries.iter().filter(|delivery| self.is_live(delivery.id, place)) {
            let (attempts, next_attempt_at) = match self.attempts_and_due(delivery.id, &accepted) {
                Ok(read) => read,
                Err(error) if is_gone(&error) => {
                    log::warn!("the attempts of {} cannot be read any more: {error}", delivery.id);
                    (delivery.attempts.clone(), delivery.next_attempt_at)
                }
                Err(error) => return Err(failed(error)),
            };
            moved.push(AcceptedDelivery { attempts, next_attempt_at, ..delivery.clone() });
        }
        accepted.deliveries = moved;
        Ok(Some(Record::Accepted(accepted)))
    }
}
