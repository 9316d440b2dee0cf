//! Compaction of one SPEC's journal from its oldest segment: the records still needed are appended
//! to the newest segment and synced, then the oldest is removed. A crash in between leaves some
//! records twice; recovery counts them once.

use jiff::Timestamp;

use super::Journal;
use super::reading::Piece;
use crate::clock;
use crate::files::{self, FileError, is_gone};
use crate::spool::place::Place;
use crate::spool::record::{self, AcceptedDelivery, Record, decode_whole};
use crate::spool::recovery::TOLD_BEFORE;
use crate::spool::segment::segment_path;

/// How urgent a compaction is. It takes time during which emitters wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::spool) enum Compact {
    /// Compact when there is little else to do.
    AtLeisure,
    /// Compact even if work waits.
    AtOnce,
    /// The disk is full: compact whatever gives room.
    ForRoom,
}

impl Compact {
    /// Bytes of finished work below which a compaction is not worth it.
    fn slack(self) -> u64 {
        match self {
            Self::AtLeisure => 1024 * 1024,
            Self::AtOnce => 16 * 1024 * 1024,
            Self::ForRoom => 64 * 1024,
        }
    }
}

/// Most bytes of keys of finished events kept for one SPEC; beyond it the oldest are forgotten.
const MAX_KNOWN_BYTES: u64 = 16 * 1024 * 1024;

impl Journal {
    /// Whether finished work takes more room than what is still needed.
    pub(in crate::spool) fn is_wasteful(&self, compact: Compact) -> bool {
        // Only a later version knows which records belong to its own, so nothing may be dropped.
        if self.later > 0 {
            return false;
        }
        let total: u64 = self.segments.iter().map(|segment| segment.length).sum();
        // All that a compaction keeps: what it does not count it would move for ever.
        let wanted = self.live_bytes + self.known_bytes() + self.run_record.map_or(0, Place::length);
        // Needed records are moved, so it is usually not worth it where they are the larger part.
        let part = if compact == Compact::ForRoom { wanted } else { 2 * wanted };
        total > part + compact.slack()
    }

    /// Bytes that a compaction step writes before it frees any.
    pub(in crate::spool) fn compaction_takes(&self) -> Result<u64, FileError> {
        let Some(oldest) = self.segments.front() else { return Ok(0) };
        let failed = |error| FileError::on("read", &segment_path(&self.dir, oldest.number))(error);
        let (mut takes, mut start, mut has_steps) = (0, 0, false);
        let mut records = Vec::new();
        while let Some(piece) = self.piece(oldest, start).map_err(failed)? {
            start = piece.end();
            has_steps |= piece.has_steps();
            for record in self.wanted(piece)? {
                records.clear();
                takes += record::encode(&record, &mut records) as u64;
            }
        }
        records.clear();
        let run = self.wanted_run(oldest.number, has_steps);
        Ok(takes + run.map_or(0, |run| record::encode(&run, &mut records) as u64))
    }

    fn known_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.known_bytes).sum()
    }

    /// One bounded step: moves what is still needed of the oldest segment to the newest, and
    /// removes the oldest. Events accepted before `known_since` are forgotten. A failure has to be
    /// treated like one of [`write`](Self::write).
    pub(in crate::spool) fn compact_oldest(&mut self, known_since: Timestamp) -> Result<(), FileError> {
        self.flush()?;
        if self.segments.len() == 1 {
            // Also where nothing is moved into it: its first line has the last `event.sequence`.
            self.begin_segment()?;
        }
        let Some(number) = self.segments.front().map(|oldest| oldest.number) else { return Ok(()) };
        let path = segment_path(&self.dir, number);
        let failed = |doing| FileError::on(doing, &path);
        let (mut start, mut has_steps) = (0, false);
        let mut all_damaged: Vec<(u64, Vec<u8>)> = Vec::new();
        while let Some(oldest) = self.segments.front()
            && let Some(piece) = self.piece(oldest, start).map_err(failed("read"))?
        {
            start = piece.end();
            has_steps |= piece.has_steps();
            for (at, bytes) in piece.damaged() {
                match all_damaged.last_mut() {
                    Some((from, before)) if *from + before.len() as u64 == at => before.extend(bytes),
                    _ => all_damaged.push((at, bytes.to_vec())),
                }
            }
            let wanted = self.wanted(piece)?;
            self.take_over(wanted, known_since)?;
        }
        // A start that did not read it has not seen this, and it goes with the file. Where another
        // program cut the file there are newlines in the place of what is gone.
        for (at, bytes) in all_damaged.iter().filter(|(_, bytes)| bytes.iter().any(|byte| *byte != b'\n')) {
            self.set_aside(number, *at, bytes);
        }
        self.take_over(self.wanted_run(number, has_steps).into_iter().collect(), known_since)?;
        self.must_sync = true;
        self.flush()?;
        files::remove(&path).map_err(failed("remove"))?;
        files::sync_dir(&self.dir).map_err(failed("sync the directory of"))?;
        self.segments.pop_front();
        Ok(())
    }

    /// The records of a piece of a segment that are still needed, rewritten to stand on their own;
    /// of the run and its steps [`wanted_run`](Self::wanted_run) is needed once.
    pub(super) fn wanted(&self, mut piece: Piece) -> Result<Vec<Record>, FileError> {
        let mut wanted = Vec::new();
        for (place, record) in std::mem::take(&mut piece.records) {
            match record {
                Record::Accepted(accepted) => {
                    match accepted.deliveries.iter().any(|delivery| self.is_live(delivery.id, place)) {
                        true => wanted.extend(self.live_event(piece.line(place), place)?),
                        false => wanted.push(Record::Known {
                            idempotency_key: accepted.idempotency_key,
                            at: accepted.at,
                            told: accepted.told,
                        }),
                    }
                }
                Record::Known { idempotency_key, at, told } => {
                    wanted.push(Record::Known { idempotency_key, at, told });
                }
                Record::Later(later) => wanted.push(Record::Later(later)),
                Record::Spool { .. }
                | Record::Attempted { .. }
                | Record::Finished { .. }
                | Record::Run(_) => {}
            }
        }
        Ok(wanted)
    }

    /// The run, where a segment has steps of it that are in no later record: once a pass, however
    /// large it is.
    pub(super) fn wanted_run(&self, number: u64, has_steps: bool) -> Option<Record> {
        let is_wanted = has_steps && self.run_record.is_none_or(|run| run.file() <= number);
        is_wanted.then(|| Record::Run(self.run.clone()))
    }

    /// Appends the records needed of another segment, or of another journal.
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

    /// The event's record with its unfinished deliveries only, each with the attempts made since.
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
