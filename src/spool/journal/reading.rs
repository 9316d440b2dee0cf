//! Reading back from a journal: payloads when their attempt starts, the attempts so far, and files
//! piece by piece.

use std::io;
use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;
use memchr::memrchr;
use serde::de::IgnoredAny;

use super::Journal;
use crate::delivery::{AttemptSummary, DeliveryId};
use crate::files::FileError;
use crate::spool::peek::LastAttempt;
use crate::spool::place::Place;
use crate::spool::record::{self, Accepted, Record, Scan, decode_whole};
use crate::spool::segment::Segment;

/// Bytes of a segment that are looked at together; more where a record is longer.
const PIECE: usize = if cfg!(test) { 1024 } else { 128 * 1024 };

/// Some lines of a segment. Each is a record with its newline, or damaged: there is no newline
/// within a record. The last one of the segment may be without it.
pub(super) struct Piece {
    /// Where they begin.
    start: u64,
    content: Vec<u8>,
    pub(super) records: Vec<(Place, Record<IgnoredAny>)>,
    damaged: Vec<Range<usize>>,
}

impl Piece {
    fn new(segment: &Segment, start: u64, content: Vec<u8>) -> Self {
        let Scan { records, damaged, .. } = record::scan(&content);
        let place =
            |range: Range<usize>| Place::at(segment.number, start + range.start as u64, range.len() as u64);
        let records = records.into_iter().map(|(range, record)| (place(range), record)).collect();
        Self { start, content, records, damaged }
    }

    /// Where the next piece begins.
    pub(super) fn end(&self) -> u64 {
        self.start + self.content.len() as u64
    }

    /// Whether the SPEC's run is in it, or a step of it.
    pub(super) fn has_steps(&self) -> bool {
        self.records.iter().any(|(_, record)| match record {
            Record::Accepted(accepted) => accepted.run.is_some(),
            Record::Run(_) => true,
            _ => false,
        })
    }

    /// What is damaged, and where that is.
    pub(super) fn damaged(&self) -> impl Iterator<Item = (u64, &[u8])> {
        self.damaged.iter().map(|range| (self.start + range.start as u64, &self.content[range.clone()]))
    }

    /// A record of it as it is written.
    pub(super) fn line(&self, place: Place) -> &[u8] {
        let from = usize::try_from(place.offset() - self.start).unwrap_or(usize::MAX);
        let length = usize::try_from(place.length()).unwrap_or(usize::MAX);
        self.content.get(from..from.saturating_add(length)).unwrap_or_default()
    }
}

impl Journal {
    /// The attempts recorded after the event's own record, oldest first.
    fn attempts_of(&self, id: DeliveryId) -> impl Iterator<Item = Place> {
        let last = self.deliveries.get(id).and_then(|delivery| delivery.last_attempt);
        self.earlier_attempts.get(&id).into_iter().flatten().copied().chain(last)
    }

    /// The segment with this number.
    pub(super) fn segment(&self, number: u64) -> Option<&Segment> {
        let at = self.segments.binary_search_by_key(&number, |segment| segment.number).ok()?;
        self.segments.get(at)
    }

    fn read(&self, place: Place) -> io::Result<Record> {
        let segment = self.segment(place.file()).ok_or(io::ErrorKind::NotFound)?;
        let length = usize::try_from(place.length()).map_err(io::Error::other)?;
        if place.offset() < segment.length {
            return decode_whole(&segment.read_at(&self.dir, place.offset(), length)?);
        }
        // Only the last segment has a batch that is not yet counted in its length.
        let start = usize::try_from(place.offset() - segment.length).map_err(io::Error::other)?;
        decode_whole(self.batch.get(start..start + length).ok_or(io::ErrorKind::UnexpectedEof)?)
    }

    /// The records of a segment from this place on, as many as are looked at together; `None` at
    /// its end. Whole files would be the most memory that a runtime takes.
    pub(super) fn piece(&self, segment: &Segment, start: u64) -> io::Result<Option<Piece>> {
        let is_last = self.segments.back().is_some_and(|last| last.number == segment.number);
        let batch = if is_last { &self.batch[..] } else { &[] };
        let mut most = PIECE;
        while start < segment.length + batch.len() as u64 {
            let end = segment.length.min(start + most as u64);
            let length = usize::try_from(end.saturating_sub(start)).map_err(io::Error::other)?;
            let mut content = segment.read_up_to(&self.dir, start, length)?;
            // Another program may have cut the file: with newlines in its place, what follows keeps
            // its place.
            content.resize(length, b'\n');
            match end < segment.length {
                true => content.truncate(memrchr(b'\n', &content).map_or(0, |newline| newline + 1)),
                false => content.extend_from_slice(batch),
            }
            if !content.is_empty() {
                return Ok(Some(Piece::new(segment, start, content)));
            }
            most *= 2;
        }
        Ok(None)
    }

    pub(super) fn read_accepted(&self, id: DeliveryId) -> io::Result<Accepted> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{id} is not pending"));
        let delivery = self.deliveries.get(id).ok_or_else(missing)?;
        match self.read(delivery.event)? {
            Record::Accepted(accepted) => Ok(accepted),
            _ => Err(missing()),
        }
    }

    /// The payload of an unfinished delivery.
    pub(in crate::spool) fn body(&self, id: DeliveryId) -> Result<Bytes, FileError> {
        let accepted = self.read_accepted(id).map_err(FileError::on("read a payload from", &self.dir))?;
        Ok(accepted.into_body(id))
    }

    /// The attempts of an unfinished delivery, oldest first, and when the next one is due.
    pub(super) fn attempts_and_due(
        &self,
        id: DeliveryId,
        accepted: &Accepted,
    ) -> io::Result<(Vec<AttemptSummary>, Option<Timestamp>)> {
        let moved = accepted.deliveries.iter().find(|delivery| delivery.id == id);
        let (mut attempts, mut due) =
            moved.map_or((Vec::new(), None), |d| (d.attempts.clone(), d.next_attempt_at));
        for place in self.attempts_of(id) {
            if let Record::Attempted { attempt, next_attempt_at, .. } = self.read(place)? {
                attempts.push(attempt);
                due = Some(next_attempt_at);
            }
        }
        Ok((attempts, due))
    }

    /// Where the last attempt of an unfinished delivery is recorded, if there was one.
    pub(in crate::spool) fn last_attempt(&self, id: DeliveryId) -> Option<LastAttempt> {
        let delivery = self.deliveries.get(id)?;
        let place = delivery.last_attempt.unwrap_or(delivery.event);
        Some(LastAttempt::at(&self.dir, id, place))
    }

    /// The attempts of an unfinished delivery, oldest first, and its payload.
    pub(in crate::spool) fn attempts_and_body(
        &self,
        id: DeliveryId,
    ) -> Result<(Vec<AttemptSummary>, Bytes), FileError> {
        let failed = |error| FileError::on("read a delivery from", &self.dir)(error);
        let accepted = self.read_accepted(id).map_err(failed)?;
        let (attempts, _) = self.attempts_and_due(id, &accepted).map_err(failed)?;
        Ok((attempts, accepted.into_body(id)))
    }
}
