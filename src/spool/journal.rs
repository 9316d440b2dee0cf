//! The journal of one SPEC: numbered files of records (segments), oldest first, and the place of
//! each unfinished delivery in them. Payloads stay on disk until an attempt needs them.

mod compaction;
mod live;
mod opening;
mod reading;
mod repair;
mod sealed;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use hashbrown::HashMap;

use super::place::Place;
use super::record::{self, Record, VERSION};
use super::segment::{Segment, segment_path};
use crate::delivery::{DeliveryId, Told};
use crate::event::{IdempotencyKey, SpecId};
use crate::files::{self, FileError, FileId};
use crate::run::Run;

pub(super) use compaction::Compact;
use live::{LiveDeliveries, LiveDelivery};
pub(super) use repair::{Broken, Rescued};
use sealed::KnownSealed;
pub(super) use sealed::Sealing;

/// A segment that has reached this size takes no more records: this bounds how much one compaction
/// step moves.
const FILE_BYTES: u64 = 2 * 1024 * 1024;

/// Most room that a segment has for further records; no more than it holds. A sync of what is
/// written where the file has blocks already need not sync its blocks and length as well, and
/// takes a third less.
pub(super) const ROOM: u64 = 512 * 1024;

/// Room that a segment has after records that end at `end`.
fn room_after(end: u64) -> u64 {
    ROOM.min(end).min(FILE_BYTES.saturating_sub(end))
}

/// Writes `room` after the `end` of a file's records, and returns the file's size then: without
/// room, where the disk or a limit has none.
fn make_room(file: &File, end: u64, room: u64) -> io::Result<u64> {
    let size = end + room.min(files::max_file_bytes().saturating_sub(end));
    let made = files::write_zeros(file, end..size);
    made.map(|()| size).or_else(|_| files::shorten(file, end).map(|()| end))
}

/// Takes the lock by which a process alone writes to a segment, and returns whether it could.
/// Where there are no locks, the spool's own says as much.
fn lock_to_write(file: &File) -> bool {
    !matches!(file.try_lock(), Err(TryLockError::WouldBlock))
}

/// One SPEC's journal.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    spec: SpecId,
    /// The segments, oldest first.
    segments: VecDeque<Segment>,
    next_number: u64,
    /// Whether the last segment ends with a whole record, has room, and had no failed write.
    appendable: bool,
    batch: Vec<u8>,
    must_sync: bool,
    deliveries: LiveDeliveries,
    /// Attempts recorded before the last one, oldest first. Most deliveries have none.
    earlier_attempts: HashMap<DeliveryId, Vec<Place>>,
    /// Events with more than one unfinished delivery: the number of those, by the event's order.
    shared: HashMap<u64, u32>,
    /// Bytes of the records that `deliveries` refers to.
    live_bytes: u64,
    /// The SPEC's run, folded from the events read and appended so far.
    run: Run,
    /// The greatest `event.sequence` so far.
    sequence: u64,
    /// Number of records that only a later version of the program understands.
    later: usize,
    /// The last record of the run, if there is one: the steps before it are not needed.
    run_record: Option<Place>,
    known_sealed: KnownSealed,
}

impl Journal {
    fn empty(dir: &Path, spec: &SpecId) -> Self {
        Self {
            dir: dir.to_owned(),
            spec: spec.clone(),
            segments: VecDeque::new(),
            next_number: 1,
            appendable: false,
            batch: Vec::new(),
            must_sync: false,
            deliveries: LiveDeliveries::default(),
            earlier_attempts: HashMap::new(),
            shared: HashMap::new(),
            live_bytes: 0,
            run: Run::default(),
            sequence: 0,
            later: 0,
            run_record: None,
            known_sealed: KnownSealed::default(),
        }
    }

    /// Updates the index for an appended or recovered record: where it is, and what it ends.
    fn index<B>(&mut self, record: &Record<B>, place: Place) {
        self.sequence = self.sequence.max(record.sequence());
        match record {
            Record::Spool { .. } => {}
            Record::Run(run) => {
                self.run = run.clone();
                self.run_record = Some(place);
            }
            Record::Known { idempotency_key, told, .. } => self.add_known(idempotency_key, told.as_ref()),
            Record::Later(_) => self.later += 1,
            Record::Accepted(accepted) => {
                accepted.run.iter().for_each(|step| self.run.take(step));
                self.add_known(&accepted.idempotency_key, accepted.told.as_ref());
                for delivery in &accepted.deliveries {
                    self.forget(delivery.id);
                }
                if accepted.deliveries.is_empty() {
                    return;
                }
                self.live_bytes += place.length();
                if accepted.deliveries.len() > 1 {
                    let unfinished = u32::try_from(accepted.deliveries.len()).unwrap_or(u32::MAX);
                    self.shared.insert(place.order(), unfinished);
                }
                for delivery in &accepted.deliveries {
                    self.deliveries.insert(delivery.id, LiveDelivery { event: place, last_attempt: None });
                }
            }
            Record::Attempted { id, .. } => {
                if let Some(delivery) = self.deliveries.get_mut(*id) {
                    if let Some(earlier) = delivery.last_attempt.replace(place) {
                        self.earlier_attempts.entry(*id).or_default().push(earlier);
                    }
                    self.live_bytes += place.length();
                }
            }
            Record::Finished { id, .. } => self.forget(*id),
        }
    }

    fn add_known(&mut self, key: &IdempotencyKey, told: Option<&Told>) {
        if let Some(segment) = self.segments.back_mut() {
            segment.known_bytes += record::known_length(key, told) as u64;
        }
    }

    /// Drops a delivery from the index: its records are no longer needed.
    fn forget(&mut self, id: DeliveryId) {
        let Some(LiveDelivery { event, last_attempt }) = self.deliveries.remove(id) else { return };
        let attempts = self.earlier_attempts.remove(&id).into_iter().flatten().chain(last_attempt);
        self.live_bytes -= attempts.map(Place::length).sum::<u64>();
        match self.shared.get_mut(&event.order()) {
            None => self.live_bytes -= event.length(),
            Some(unfinished) if *unfinished > 2 => *unfinished -= 1,
            Some(_) => drop(self.shared.remove(&event.order())),
        }
    }

    /// Adds a record to the batch; on disk after [`flush`](Self::flush).
    pub(super) fn append(&mut self, record: &Record) -> Result<(), FileError> {
        self.make_appendable()?;
        let Some((number, end)) = self.segments.back().map(|last| (last.number, last.length)) else {
            return Err(FileError::on("open", &self.dir)(io::ErrorKind::NotFound.into()));
        };
        let offset = end + self.batch.len() as u64;
        let length = record::encode(record, &mut self.batch) as u64;
        self.must_sync |=
            matches!(record, Record::Accepted(_) | Record::Finished { discarded_by: Some(_), .. });
        self.index(record, Place::at(number, offset, length));
        Ok(())
    }

    /// Makes sure that the last segment can be appended to; begins a new one otherwise.
    fn make_appendable(&mut self) -> Result<(), FileError> {
        let Some(last) = self.segments.back_mut().filter(|_| self.appendable) else {
            return self.begin_segment();
        };
        if last.file.is_none() {
            let path = segment_path(&self.dir, last.number);
            let opened = last.open_by_name(&path).map_err(FileError::on("open", &path))?;
            if !lock_to_write(&opened) {
                return self.begin_segment();
            }
            if !last.is_as_left(&opened).map_err(FileError::on("read", &path))? {
                let other = io::Error::new(io::ErrorKind::NotFound, "another process has written to it");
                return Err(FileError::on("go on with", &path)(other));
            }
            last.file = Some(opened);
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), FileError> {
        self.give_back_room();
        let mut header = Vec::new();
        let sequence = (self.sequence > 0).then_some(self.sequence);
        let first = Record::Spool { version: VERSION, spec: self.spec.clone(), sequence };
        record::encode(&first, &mut header);
        let (path, file) = loop {
            let path = segment_path(&self.dir, self.next_number);
            match files::new_file(&path) {
                Ok(file) => break (path, file),
                // Another program put it there: do not write to it.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.next_number += 1,
                Err(error) => return Err(FileError::on("create", &path)(error)),
            }
        };
        lock_to_write(&file);
        let written = files::write_at(&file, &header, 0)
            .and_then(|()| files::sync(&file))
            .and_then(|()| files::sync_dir(&self.dir))
            .and_then(|()| FileId::of(&file));
        let id = written.map_err(|error| {
            // The file may be half written: remove it, or skip its number, so that nothing is
            // appended to it.
            if files::remove(&path).is_err() {
                self.next_number += 1;
            }
            FileError::on("create", &path)(error)
        })?;
        let length = header.len() as u64;
        let number = self.next_number;
        self.segments.push_back(Segment {
            number,
            length,
            size: length,
            known_bytes: 0,
            id,
            file: Some(file),
        });
        self.next_number += 1;
        self.appendable = true;
        Ok(())
    }

    /// Cuts the room for further records off the last segment. Where that fails, it stays.
    pub(super) fn give_back_room(&mut self) {
        let Some(last) = self.segments.back_mut().filter(|last| last.size > last.length) else { return };
        let path = segment_path(&self.dir, last.number);
        let by_name = || last.open_by_name(&path);
        let file = last.file.as_ref().map_or_else(by_name, File::try_clone);
        let cut = file.and_then(|file| match lock_to_write(&file) && last.is_as_left(&file)? {
            true => files::shorten(&file, last.length),
            false => Err(io::Error::other("another process writes to it")),
        });
        match cut {
            Ok(()) => last.size = last.length,
            Err(error) => log::debug!("{}: its room is not cut off: {error}", path.display()),
        }
    }

    /// Closes the last segment for appends: the next record begins a new one.
    pub(super) fn seal(&mut self) {
        self.appendable = false;
    }

    /// Closes all segments but the `newest`. A closed one is opened by its name when needed.
    pub(super) fn close_files(&mut self, newest: usize) {
        // Writing the batch needs the last segment.
        let kept = if self.batch.is_empty() { newest } else { newest.max(1) };
        self.segments.iter_mut().rev().skip(kept).for_each(|segment| segment.file = None);
    }

    /// Number of open segments.
    pub(super) fn open_files(&self) -> usize {
        self.segments.iter().filter(|segment| segment.file.is_some()).count()
    }

    /// Whether records wait to be written.
    pub(super) fn has_batch(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Writes the batch, and syncs it if an emitter waits for it: then there is room for more after
    /// it. It counts only after [`confirm`](Self::confirm). After a failure nothing more may be
    /// written through this journal until [`Broken::repair`].
    pub(super) fn write(&mut self) -> Result<(), FileError> {
        self.write_with(self.must_sync)
    }

    /// As [`write`](Self::write), with room after it or without.
    fn write_with(&mut self, room: bool) -> Result<(), FileError> {
        let Some(last) = self.segments.back_mut().filter(|_| !self.batch.is_empty()) else { return Ok(()) };
        let end = last.length + self.batch.len() as u64;
        let room = if room && end > last.size { room_after(end) } else { 0 };
        let path = segment_path(&self.dir, last.number);
        let file = last.file.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        let written = file.and_then(|file| {
            files::write_at(file, &self.batch, last.length)?;
            last.size = last.size.max(end);
            if room > 0 {
                last.size = make_room(file, end, room)?;
            }
            if self.must_sync || end >= FILE_BYTES { files::sync(file) } else { Ok(()) }
        });
        written.map_err(FileError::on("write", &path))
    }

    /// Counts the batch that was [`write`](Self::write)ten as part of the journal.
    pub(super) fn confirm(&mut self) {
        let Some(last) = self.segments.back_mut() else { return };
        last.length += self.batch.len() as u64;
        if last.length >= FILE_BYTES && !self.batch.is_empty() {
            self.appendable = false;
        }
        self.batch.clear();
        self.must_sync = false;
    }

    fn flush(&mut self) -> Result<(), FileError> {
        self.write_with(false)?;
        self.confirm();
        Ok(())
    }

    /// Whether less than half of the room that there could be is left. The next batch that needs
    /// more than that makes it, and its emitters wait for it.
    pub(super) fn is_short_of_room(&self) -> bool {
        let last = self.segments.back().filter(|last| self.appendable && last.file.is_some());
        last.is_some_and(|last| last.size - last.length < room_after(last.length) / 2)
    }

    /// Makes that room now, unless something is in the batch. A failure is as one of
    /// [`write`](Self::write).
    pub(super) fn make_room_ahead(&mut self) -> Result<(), FileError> {
        let is_due = self.is_short_of_room() && self.batch.is_empty();
        let Some(last) = self.segments.back_mut().filter(|_| is_due) else { return Ok(()) };
        let file = last.file.as_ref().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        let made = file.and_then(|file| {
            last.size = make_room(file, last.length, room_after(last.length))?;
            files::sync(file)
        });
        made.map_err(FileError::on("write", &segment_path(&self.dir, last.number)))
    }

    /// Syncs every file of the journal, open or not.
    pub(super) fn sync_all(&self) -> Result<(), FileError> {
        for segment in &self.segments {
            let path = segment_path(&self.dir, segment.number);
            let synced = match &segment.file {
                Some(file) => files::sync(file),
                None => files::existing_file(&path).and_then(|file| files::sync(&file)),
            };
            synced.map_err(FileError::on("sync", &path))?;
        }
        Ok(())
    }

    /// Syncs what was written without a sync, and cuts off the room for more.
    pub(super) fn finish(&mut self) -> Result<(), FileError> {
        self.give_back_room();
        let file = self.segments.back().and_then(|last| last.file.as_ref());
        file.map_or(Ok(()), files::sync).map_err(FileError::on("sync", &self.dir))
    }

    /// Whether the last segment is still the file at its path, with the size that it was given
    /// here: no other process has replaced it or appended to it.
    ///
    /// # Errors
    /// The path cannot be looked at.
    pub(super) fn is_last_in_place(&self) -> Result<bool, FileError> {
        let Some(last) = self.segments.back() else { return Ok(true) };
        let path = segment_path(&self.dir, last.number);
        let failed = || FileError::on("look at", &path);
        let Some(size) = last.id.size_at(&path).map_err(failed())? else { return Ok(false) };
        match &last.file {
            // Whoever writes to a file that this process does not cuts its room.
            Some(_) => Ok(size == last.size || (size == last.length && !self.appendable)),
            None => files::open_to_read(&path).and_then(|file| last.is_as_left(&file)).map_err(failed()),
        }
    }

    /// Whether every segment is still the file at its path, and no other process has written to the
    /// last one.
    ///
    /// # Errors
    /// As [`is_last_in_place`](Self::is_last_in_place).
    pub(super) fn is_in_place(&self) -> Result<bool, FileError> {
        Ok(self.has_its_names()? && self.is_last_in_place()?)
    }

    fn has_its_names(&self) -> Result<bool, FileError> {
        for segment in &self.segments {
            let path = segment_path(&self.dir, segment.number);
            if !segment.id.is_at(&path).map_err(FileError::on("look at", &path))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Gives up this journal after a failed write; the result can repair it. Unconfirmed records
    /// are dropped.
    pub(super) fn into_broken(mut self) -> Broken {
        self.batch.clear();
        Broken(self)
    }

    /// The SPEC's run, folded from its events.
    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    /// The greatest `event.sequence` of its events, and of those that compactions removed.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Number of records that only a later version of the program understands.
    pub(super) fn later(&self) -> usize {
        self.later
    }

    /// Number of unfinished deliveries.
    pub(super) fn pending(&self) -> usize {
        self.deliveries.len()
    }

    /// Whether the journal has no segment.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// Whether this delivery is unfinished and its event is recorded at this place.
    fn is_live(&self, id: DeliveryId, event: Place) -> bool {
        self.deliveries.get(id).is_some_and(|live| live.event == event)
    }
}
