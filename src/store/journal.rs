//! The spool of one SPEC on disk: numbered files of records, oldest first, and where in them each
//! unfinished delivery stands. Bodies stay on disk until an attempt needs them.
//!
//! Compaction works from the old end: what is still wanted of the oldest file is appended to the
//! newest, synced, and the oldest removed. A crash in between leaves some records twice, which
//! recovery reads as once.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use jiff::Timestamp;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::files::FileId;
use super::place::Place;
use super::record::{self, Accepted, AcceptedDelivery, FinalState, Record, VERSION};
use super::recovery::{Recovery, TOLD_BEFORE};
use super::{OpenError, StoreError, Unfinished, files, is_gone};
use crate::clock;
use crate::delivery::{AttemptSummary, DeliveryId};
use crate::event::{IdempotencyKey, SpecId};
use crate::run::Run;

/// A file that has reached this many bytes is not appended to any more: bounds what one step of
/// compaction moves.
const FILE_BYTES: u64 = 2 * 1024 * 1024;

/// Largest file that is read: above what one batch adds to a file that is not full. Another is none
/// of ours.
const MAX_FILE_BYTES: u64 = 1024 * 1024 * 1024;

/// Greatest number of a file: no journal comes near it.
const MAX_NUMBER: u64 = u32::MAX as u64 / 2;

/// Whose turn it is: a compaction takes time that emitters would wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compact {
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

/// Where an unfinished delivery stands.
#[derive(Debug)]
struct LiveDelivery {
    event: Place,
    /// The last attempt recorded since; those before it stand in `earlier_attempts`, or in the
    /// event's record.
    last_attempt: Option<Place>,
}

/// One file of the journal.
#[derive(Debug)]
struct Segment {
    number: u64,
    length: u64,
    /// What the keys of its events would take as [`Record::Known`].
    known_bytes: u64,
    /// Which file it is: whoever removes or replaces it takes only its name.
    id: FileId,
    /// Kept open while it may be, so that it can be read without its name.
    file: Option<File>,
}

impl Segment {
    /// The first `length` bytes, or as many as there are.
    fn read_up_to(&self, dir: &Path, length: usize) -> io::Result<Vec<u8>> {
        let by_name;
        let file = match &self.file {
            Some(file) => file,
            None => {
                by_name = files::open_to_read(&segment_path(dir, self.number))?;
                &by_name
            }
        };
        let mut bytes = vec![0; length];
        let mut read = 0;
        while read < length {
            match file.read_at(&mut bytes[read..], read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    /// The bytes at `range`: from the open file, else from whatever has its name.
    fn read_at(&self, dir: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        match &self.file {
            Some(file) => file.read_exact_at(&mut bytes, offset)?,
            None => {
                let path = segment_path(dir, self.number);
                files::open_to_read(&path)?.read_exact_at(&mut bytes, offset)?;
            }
        }
        Ok(bytes)
    }
}

/// One SPEC's journal.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    spec: SpecId,
    /// Oldest first.
    segments: VecDeque<Segment>,
    next_number: u64,
    /// Whether the last segment ends with a whole record, has room, and never failed.
    appendable: bool,
    batch: Vec<u8>,
    must_sync: bool,
    deliveries: HashMap<DeliveryId, LiveDelivery>,
    /// Attempts recorded before the last one, oldest first: few deliveries have any.
    earlier_attempts: HashMap<DeliveryId, Vec<Place>>,
    /// Events, by their order, of which more than one delivery is unfinished, and how many.
    shared: HashMap<u64, u32>,
    /// Bytes of the records that `deliveries` needs.
    live_bytes: u64,
    /// What the events read and appended so far add up to.
    run: Run,
    /// Records that only a later version of the program knows.
    later: usize,
}

fn segment_name(number: u64) -> String {
    format!("spool-{number:08}.jsonl")
}

/// The number in a file's name. Another spelling of it is none of ours.
fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix("spool-")?.strip_suffix(".jsonl")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// The file's path.
fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(segment_name(number))
}

/// The numbers of a directory's journal files, in order. Other files are not ours.
fn segment_numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(number_of));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// All of an open file.
fn content_of(file: &File) -> io::Result<Vec<u8>> {
    if file.metadata()?.len() > MAX_FILE_BYTES {
        return Err(io::Error::other(TOO_LARGE));
    }
    let mut content = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut content)?;
    Ok(content)
}

/// Whether a file can be one of a journal, without reading it.
pub(super) fn check_file(path: &Path) -> io::Result<()> {
    let length = files::open_to_read(path)?.metadata()?.len();
    let number = path.file_name().and_then(|name| number_of(name.to_str()?));
    match (number, length) {
        (Some(number), _) if number > MAX_NUMBER => Err(io::Error::other(NO_SUCH_NUMBER)),
        (_, length) if length > MAX_FILE_BYTES => Err(io::Error::other(TOO_LARGE)),
        _ => Ok(()),
    }
}

const NO_SUCH_NUMBER: &str = "no file of ours has such a number; move it away";
const TOO_LARGE: &str = "it is larger than any file of ours; move it away";

/// Whether a directory holds a journal.
///
/// # Errors
/// It cannot be listed.
pub(super) fn exists_in(dir: &Path) -> Result<bool, StoreError> {
    segment_numbers(dir).map(|numbers| !numbers.is_empty()).map_err(StoreError::on("list", dir))
}

/// Whether a journal could be opened: reads it, and changes nothing.
pub(super) fn probe(dir: &Path) -> Result<(), StoreError> {
    for number in segment_numbers(dir).map_err(StoreError::on("list", dir))? {
        let path = segment_path(dir, number);
        let read = files::existing_file(&path).and_then(|file| {
            files::sync(&file)?;
            content_of(&file)
        });
        read.map_err(StoreError::on("read", &path))?;
    }
    match check_version(dir) {
        Ok(()) => Ok(()),
        Err(OpenError::Io(error)) => Err(error),
        Err(error) => Err(StoreError::on("read", dir)(io::Error::other(error.to_string()))),
    }
}

/// Bytes of a directory's journal files.
pub(super) fn bytes_in(dir: &Path) -> u64 {
    let numbers = segment_numbers(dir).unwrap_or_default().into_iter();
    numbers.filter_map(|number| fs::metadata(segment_path(dir, number)).ok()).map(|found| found.len()).sum()
}

/// Refuses a journal of a later version; touches nothing.
pub(super) fn check_version(dir: &Path) -> Result<(), OpenError> {
    let numbers = segment_numbers(dir).map_err(StoreError::on("list", dir))?;
    for path in numbers.iter().map(|number| segment_path(dir, *number)) {
        let file = files::open_to_read(&path).map_err(StoreError::on("open", &path))?;
        let mut start = vec![0; 512];
        let read = file.read_at(&mut start, 0).map_err(StoreError::on("read", &path))?;
        if let Some((Record::Spool { version, .. }, _)) = record::decode::<IgnoredAny>(&start[..read])
            && version > VERSION
        {
            return Err(OpenError::Newer { path, version });
        }
    }
    Ok(())
}

/// What is unfinished in `dir`, and the last attempt of each, as far as it can be read now:
/// nothing is repaired, nothing locked, and no payload read.
pub(super) fn peek(dir: &Path, spec: &SpecId) -> Result<Vec<Peeked>, StoreError> {
    let mut recovery = Recovery::of(spec);
    for number in segment_numbers(dir).map_err(StoreError::on("list", dir))? {
        let path = segment_path(dir, number);
        // A runtime that compacts may have removed it: what it held stands in a later one.
        let Ok(content) = files::open_to_read(&path).and_then(|file| content_of(&file)) else { continue };
        for (range, record) in record::scan::<IgnoredAny>(&content).records {
            recovery.read(&record, Place::new(number, &range));
        }
    }
    let last = |id, place: Option<Place>| place.map(|place| LastAttempt { dir: dir.to_owned(), id, place });
    let peeked = |(unfinished, place): (Unfinished, _)| Peeked {
        last_attempt: last(unfinished.delivery.id, place),
        unfinished,
    };
    Ok(recovery.unfinished().map(peeked).collect())
}

/// See [`peek`].
pub(super) struct Peeked {
    pub(super) unfinished: Unfinished,
    pub(super) last_attempt: Option<LastAttempt>,
}

/// Where the last attempt of an unfinished delivery stands: can be read on any thread.
#[derive(Clone, Debug)]
pub struct LastAttempt {
    dir: PathBuf,
    /// Of which delivery.
    pub id: DeliveryId,
    place: Place,
}

impl LastAttempt {
    /// Reads it; `None` where a compaction has just moved it, or it is not written yet.
    pub fn read(&self) -> Option<AttemptSummary> {
        match read_record::<IgnoredAny>(&self.dir, self.place).ok()? {
            Record::Attempted { id, attempt, .. } if id == self.id => Some(attempt),
            Record::Accepted(accepted) => {
                accepted.deliveries.into_iter().find(|delivery| delivery.id == self.id)?.attempts.pop()
            }
            _ => None,
        }
    }
}

fn read_record<B: DeserializeOwned>(dir: &Path, place: Place) -> io::Result<Record<B>> {
    let mut line = vec![0; usize::try_from(place.length()).map_err(io::Error::other)?];
    files::open_to_read(&segment_path(dir, place.file()))?.read_exact_at(&mut line, place.offset())?;
    decode_whole(&line)
}

fn decode_whole<B: DeserializeOwned>(line: &[u8]) -> io::Result<Record<B>> {
    let decoded = record::decode(line).map(|(record, _)| record);
    decoded.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the record is damaged"))
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
            deliveries: HashMap::new(),
            earlier_attempts: HashMap::new(),
            shared: HashMap::new(),
            live_bytes: 0,
            run: Run::default(),
            later: 0,
        }
    }

    /// Opens or creates the journal in `dir`: reads its records, sets damaged ones aside, cuts a
    /// torn tail. Of its files the newest `keep_open` stay open.
    pub(super) fn open(dir: &Path, spec: &SpecId, keep_open: usize) -> Result<(Self, Recovery), StoreError> {
        files::create_dir_durably(dir)?;
        let numbers = segment_numbers(dir).map_err(StoreError::on("list", dir))?;
        if let Some(last) = numbers.last().filter(|last| **last > MAX_NUMBER) {
            let path = segment_path(dir, *last);
            return Err(StoreError::on("use", &path)(io::Error::other(NO_SUCH_NUMBER)));
        }
        let mut journal =
            Self { next_number: numbers.last().map_or(1, |last| last + 1), ..Self::empty(dir, spec) };
        let mut recovery = Recovery::of(spec);
        for number in numbers {
            journal.read_segment(number, &mut recovery)?;
            journal.close_files(keep_open);
        }
        Ok((journal, recovery))
    }

    fn read_segment(&mut self, number: u64, recovery: &mut Recovery) -> Result<(), StoreError> {
        let path = segment_path(&self.dir, number);
        let failed = |doing| StoreError::on(doing, &path);
        let file = files::existing_file(&path).map_err(failed("open"))?;
        // After a sync that failed, what is read here may never have reached the disk: now it
        // does, or we stop.
        files::sync(&file).map_err(failed("sync"))?;
        let id = FileId::of(&file).map_err(failed("read"))?;
        let mut content = content_of(&file).map_err(failed("read"))?;
        // Payloads are passed over: none is needed before its turn comes.
        let scan = record::scan::<IgnoredAny>(&content);
        for damaged in &scan.damaged {
            self.set_aside(number, damaged.start, &content[damaged.clone()]);
        }
        if scan.torn_at < content.len() {
            log::warn!(
                "{}: cut {} bytes of a record that a crash left unfinished; it was never acknowledged",
                path.display(),
                content.len() - scan.torn_at
            );
            files::cut(&file, scan.torn_at as u64).map_err(failed("repair"))?;
            content.truncate(scan.torn_at);
        }
        let length = content.len() as u64;
        self.add_segment(Segment { number, length, known_bytes: 0, id, file: Some(file) }, scan, recovery);
        let is_whole = content.is_empty() || content.ends_with(b"\n");
        self.appendable = is_whole && length > 0 && length < FILE_BYTES;
        Ok(())
    }

    fn add_segment(&mut self, segment: Segment, scan: record::Scan<IgnoredAny>, recovery: &mut Recovery) {
        let number = segment.number;
        self.segments.push_back(segment);
        for (range, record) in scan.records {
            let place = Place::new(number, &range);
            recovery.read(&record, place);
            self.index(&record, place);
        }
    }

    /// The same journal as its open files have it: what was appended and never confirmed is not in
    /// it.
    fn reread(&self) -> Result<Self, StoreError> {
        let failed = |error| StoreError::on("read again", &self.dir)(error);
        let mut journal = Self { next_number: self.next_number, ..Self::empty(&self.dir, &self.spec) };
        let mut recovery = Recovery::of(&self.spec);
        for segment in &self.segments {
            let Ok(content) = self.content(segment) else { continue };
            let file = segment.file.as_ref().map(File::try_clone).transpose().map_err(failed)?;
            let Segment { number, length, id, .. } = *segment;
            let same = Segment { number, length, known_bytes: 0, id, file };
            journal.add_segment(same, record::scan(&content), &mut recovery);
        }
        Ok(journal)
    }

    /// Keeps a copy of damaged bytes in a file of their own, once, and says so.
    fn set_aside(&self, number: u64, offset: usize, bytes: &[u8]) {
        let path = self.dir.join(format!("damaged-{number:08}-{offset:08}"));
        if path.exists() {
            return;
        }
        let kept = match files::write_atomic(&path, bytes) {
            Ok(()) => format!("a copy is kept in {}", path.display()),
            Err(error) => format!("no copy could be kept: {error}"),
        };
        log::error!(
            "{}: {} bytes at {offset} are damaged ({kept}); all other records are recovered",
            segment_path(&self.dir, number).display(),
            bytes.len(),
        );
    }

    /// Keeps track of where an appended or recovered record stands and what it ends.
    fn index<B>(&mut self, record: &Record<B>, place: Place) {
        match record {
            Record::Spool { .. } => {}
            Record::Run(run) => self.run = run.clone(),
            Record::Known { idempotency_key, .. } => self.add_known(idempotency_key),
            Record::Later(_) => self.later += 1,
            Record::Accepted(accepted) => {
                accepted.run.iter().for_each(|step| self.run.take(step));
                self.add_known(&accepted.idempotency_key);
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
                if let Some(delivery) = self.deliveries.get_mut(id) {
                    if let Some(earlier) = delivery.last_attempt.replace(place) {
                        self.earlier_attempts.entry(*id).or_default().push(earlier);
                    }
                    self.live_bytes += place.length();
                }
            }
            Record::Finished { id, .. } => self.forget(*id),
        }
    }

    fn add_known(&mut self, key: &IdempotencyKey) {
        if let Some(segment) = self.segments.back_mut() {
            segment.known_bytes += record::known_length(key) as u64;
        }
    }

    /// Nothing of this delivery is wanted any more.
    fn forget(&mut self, id: DeliveryId) {
        let Some(LiveDelivery { event, last_attempt }) = self.deliveries.remove(&id) else { return };
        let attempts = self.earlier_attempts.remove(&id).into_iter().flatten().chain(last_attempt);
        self.live_bytes -= attempts.map(Place::length).sum::<u64>();
        match self.shared.get_mut(&event.order()) {
            None => self.live_bytes -= event.length(),
            Some(unfinished) if *unfinished > 2 => *unfinished -= 1,
            Some(_) => drop(self.shared.remove(&event.order())),
        }
    }

    /// The attempts recorded since the event's own record, oldest first.
    fn attempts_of(&self, id: DeliveryId) -> impl Iterator<Item = Place> {
        let last = self.deliveries.get(&id).and_then(|delivery| delivery.last_attempt);
        self.earlier_attempts.get(&id).into_iter().flatten().copied().chain(last)
    }

    /// Adds a record to the batch; on disk after [`flush`](Self::flush).
    pub(super) fn append(&mut self, record: &Record) -> Result<(), StoreError> {
        self.make_appendable()?;
        let Some((number, end)) = self.segments.back().map(|last| (last.number, last.length)) else {
            return Err(StoreError::on("open", &self.dir)(io::ErrorKind::NotFound.into()));
        };
        let offset = end + self.batch.len() as u64;
        let length = record::encode(record, &mut self.batch) as u64;
        self.must_sync |= matches!(record, Record::Accepted(_));
        self.index(record, Place::at(number, offset, length));
        Ok(())
    }

    /// Sees to it that the last file can be appended to, or begins a new one.
    fn make_appendable(&mut self) -> Result<(), StoreError> {
        let Some(last) = self.segments.back_mut().filter(|_| self.appendable) else {
            return self.begin_segment();
        };
        if last.file.is_none() {
            let path = segment_path(&self.dir, last.number);
            let opened = files::existing_file(&path).and_then(|file| match FileId::of(&file)? == last.id {
                true => Ok(file),
                false => Err(io::Error::new(io::ErrorKind::NotFound, "another file is in its place")),
            });
            last.file = Some(opened.map_err(StoreError::on("open", &path))?);
        }
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<(), StoreError> {
        // A file that somebody else put there is not ours to append to.
        while segment_path(&self.dir, self.next_number).exists() {
            self.next_number += 1;
        }
        let path = segment_path(&self.dir, self.next_number);
        let mut header = Vec::new();
        record::encode(&Record::Spool { version: VERSION, spec: self.spec.clone() }, &mut header);
        let created = files::private_file(&path).and_then(|mut file| {
            files::append(&mut file, &header)?;
            files::sync(&file)?;
            files::sync_dir(&self.dir)?;
            Ok((FileId::of(&file)?, file))
        });
        let (id, file) = created.map_err(|error| {
            // What is left of it must not be appended to.
            if files::remove(&path).is_err() {
                self.next_number += 1;
            }
            StoreError::on("create", &path)(error)
        })?;
        let length = header.len() as u64;
        let number = self.next_number;
        self.segments.push_back(Segment { number, length, known_bytes: 0, id, file: Some(file) });
        self.next_number += 1;
        self.appendable = true;
        Ok(())
    }

    /// Appends nothing more to the last file: the next record begins a new one.
    pub(super) fn seal(&mut self) {
        self.appendable = false;
    }

    /// Closes all files but the `newest`; what is needed again is opened by its name.
    pub(super) fn close_files(&mut self, newest: usize) {
        // What waits to be written needs the last one.
        let kept = if self.batch.is_empty() { newest } else { newest.max(1) };
        self.segments.iter_mut().rev().skip(kept).for_each(|segment| segment.file = None);
    }

    /// How many files are held open.
    pub(super) fn open_files(&self) -> usize {
        self.segments.iter().filter(|segment| segment.file.is_some()).count()
    }

    /// Whether something waits to be written.
    pub(super) fn has_batch(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Writes the batch, synced where an emitter waits for it; it counts once it is
    /// [`confirm`](Self::confirm)ed. After a failure nothing more may be written through this
    /// journal: [`Broken::repair`] it.
    pub(super) fn write(&mut self) -> Result<(), StoreError> {
        let Some(last) = self.segments.back_mut().filter(|_| !self.batch.is_empty()) else { return Ok(()) };
        let is_full = last.length + self.batch.len() as u64 >= FILE_BYTES;
        let path = segment_path(&self.dir, last.number);
        let file = last.file.as_mut().ok_or_else(|| io::Error::from(io::ErrorKind::NotFound));
        let written = file.and_then(|file| {
            files::append(file, &self.batch)?;
            if self.must_sync || is_full { files::sync(file) } else { Ok(()) }
        });
        written.map_err(StoreError::on("write", &path))
    }

    /// Counts what was [`write`](Self::write)ten as part of the journal.
    pub(super) fn confirm(&mut self) {
        let Some(last) = self.segments.back_mut() else { return };
        last.length += self.batch.len() as u64;
        if last.length >= FILE_BYTES && !self.batch.is_empty() {
            self.appendable = false;
        }
        self.batch.clear();
        self.must_sync = false;
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.write()?;
        self.confirm();
        Ok(())
    }

    /// Syncs what was written without a sync.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let file = self.segments.back().and_then(|last| last.file.as_ref());
        file.map_or(Ok(()), files::sync).map_err(StoreError::on("sync", &self.dir))
    }

    /// Whether the last file, batch included, is still what lies at its path, and nobody else has
    /// written to it.
    ///
    /// # Errors
    /// Nobody can say: the path cannot be looked at.
    pub(super) fn is_last_in_place(&self) -> Result<bool, StoreError> {
        let Some(last) = self.segments.back() else { return Ok(true) };
        let path = segment_path(&self.dir, last.number);
        let is_there = last.id.is_at(&path).map_err(StoreError::on("look at", &path))?;
        let length =
            last.file.as_ref().map_or(Ok(None), |file| file.metadata().map(|found| Some(found.len())));
        let length = length.map_err(StoreError::on("look at", &path))?;
        let written = last.length + self.batch.len() as u64;
        Ok(is_there && length.is_none_or(|length| length == written || length == last.length))
    }

    /// Whether every file is still what lies at its path, and nobody else has written to the last
    /// one.
    ///
    /// # Errors
    /// As [`is_last_in_place`](Self::is_last_in_place).
    pub(super) fn is_in_place(&self) -> Result<bool, StoreError> {
        Ok(self.has_its_names()? && self.is_last_in_place()?)
    }

    fn has_its_names(&self) -> Result<bool, StoreError> {
        for segment in &self.segments {
            let path = segment_path(&self.dir, segment.number);
            if !segment.id.is_at(&path).map_err(StoreError::on("look at", &path))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// How to make this journal's files whole again after a failed write: what was not confirmed
    /// is none of it.
    pub(super) fn into_broken(mut self) -> Broken {
        self.batch.clear();
        Broken(self)
    }

    fn read(&self, place: Place) -> io::Result<Record> {
        let segment = self.segments.binary_search_by_key(&place.file(), |segment| segment.number);
        let segment = segment.map_err(|_| io::Error::from(io::ErrorKind::NotFound))?;
        let segment = &self.segments[segment];
        let length = usize::try_from(place.length()).map_err(io::Error::other)?;
        if place.offset() < segment.length {
            return decode_whole(&segment.read_at(&self.dir, place.offset(), length)?);
        }
        // Only the last file has a batch that is not counted yet.
        let start = usize::try_from(place.offset() - segment.length).map_err(io::Error::other)?;
        decode_whole(self.batch.get(start..start + length).ok_or(io::ErrorKind::UnexpectedEof)?)
    }

    /// All of a file as far as it is there, with the batch where that belongs to it.
    fn content(&self, segment: &Segment) -> io::Result<Vec<u8>> {
        let length = usize::try_from(segment.length).map_err(io::Error::other)?;
        let mut content = segment.read_up_to(&self.dir, length)?;
        // Somebody cut it: what follows stays where it was.
        content.resize(length, b'\n');
        if self.segments.back().is_some_and(|last| last.number == segment.number) {
            content.extend_from_slice(&self.batch);
        }
        Ok(content)
    }

    fn read_accepted(&self, id: DeliveryId) -> io::Result<Accepted> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{id} is not pending"));
        let delivery = self.deliveries.get(&id).ok_or_else(missing)?;
        match self.read(delivery.event)? {
            Record::Accepted(accepted) => Ok(accepted),
            _ => Err(missing()),
        }
    }

    /// The payload of an unfinished delivery.
    pub(super) fn body(&self, id: DeliveryId) -> Result<Bytes, StoreError> {
        let accepted = self.read_accepted(id).map_err(StoreError::on("read a payload from", &self.dir))?;
        Ok(accepted.into_body(id))
    }

    /// The attempts of an unfinished delivery, oldest first, and when the next one is due.
    fn attempts_and_due(
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

    /// Where the last attempt of an unfinished delivery stands, if there was one.
    pub(super) fn last_attempt(&self, id: DeliveryId) -> Option<LastAttempt> {
        let delivery = self.deliveries.get(&id)?;
        let place = delivery.last_attempt.unwrap_or(delivery.event);
        Some(LastAttempt { dir: self.dir.clone(), id, place })
    }

    /// The attempts of an unfinished delivery, oldest first, and its payload.
    pub(super) fn attempts_and_body(
        &self,
        id: DeliveryId,
    ) -> Result<(Vec<AttemptSummary>, Bytes), StoreError> {
        let failed = |error| StoreError::on("read a delivery from", &self.dir)(error);
        let accepted = self.read_accepted(id).map_err(failed)?;
        let (attempts, _) = self.attempts_and_due(id, &accepted).map_err(failed)?;
        Ok((attempts, accepted.into_body(id)))
    }

    /// What the SPEC's events add up to.
    pub(super) fn run(&self) -> &Run {
        &self.run
    }

    /// How many records only a later version of the program knows.
    pub(super) fn later(&self) -> usize {
        self.later
    }

    /// How many deliveries are not finished.
    pub(super) fn pending(&self) -> usize {
        self.deliveries.len()
    }

    /// Whether finished work takes more room than what is still wanted.
    pub(super) fn is_wasteful(&self, compact: Compact) -> bool {
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
    pub(super) fn compaction_takes(&self) -> Result<u64, StoreError> {
        let Some(oldest) = self.segments.front() else { return Ok(0) };
        let failed = |error| StoreError::on("read", &segment_path(&self.dir, oldest.number))(error);
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
    pub(super) fn compact_oldest(&mut self, known_since: Timestamp) -> Result<(), StoreError> {
        self.flush()?;
        if self.segments.len() == 1 {
            self.seal();
        }
        let Some(oldest) = self.segments.front() else { return Ok(()) };
        let path = segment_path(&self.dir, oldest.number);
        let failed = |doing| StoreError::on(doing, &path);
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
    fn wanted(&self, number: u64, content: &[u8]) -> Result<Vec<Record>, StoreError> {
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
    fn take_over(&mut self, wanted: Vec<Record>, known_since: Timestamp) -> Result<(), StoreError> {
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

    /// Writes what is wanted of a journal whose files were taken away into new ones at its path,
    /// beside whatever lies there now.
    pub(super) fn rescue(&self, known_since: Timestamp, keep_open: usize) -> Result<Rescued, StoreError> {
        let (mut fresh, found) = Self::open(&self.dir, &self.spec, keep_open)?;
        fresh.seal();
        // Should one of our files come back, it is read before what is written now.
        fresh.next_number = fresh.next_number.max(self.next_number);
        let mut unread: HashSet<DeliveryId> = self.deliveries.keys().copied().collect();
        // An older copy of our files may lie there: what has ended since is not begun again.
        let mut copied: HashMap<IdempotencyKey, Vec<DeliveryId>> = HashMap::new();
        for (unfinished, _) in found.unfinished().filter(|(found, _)| !unread.contains(&found.delivery.id)) {
            copied.entry(unfinished.delivery.key.clone()).or_default().push(unfinished.delivery.id);
        }
        for segment in &self.segments {
            let content = match self.content(segment) {
                Ok(content) => content,
                Err(error) => {
                    let path = segment_path(&self.dir, segment.number);
                    log::error!("{} is gone, and cannot be read any more: {error}", path.display());
                    continue;
                }
            };
            let wanted = self.wanted(segment.number, &content)?;
            let mut ended = Vec::new();
            for record in &wanted {
                let (Record::Accepted(Accepted { idempotency_key: key, .. })
                | Record::Known { idempotency_key: key, .. }) = record
                else {
                    continue;
                };
                ended.extend(copied.remove(key).into_iter().flatten());
                if let Record::Accepted(accepted) = record {
                    for delivery in &accepted.deliveries {
                        unread.remove(&delivery.id);
                    }
                }
            }
            fresh.take_over(wanted, known_since)?;
            for id in ended {
                // How it ended stands in the evidence.
                fresh.append(&Record::Finished { id, state: FinalState::Delivered, at: clock::now() })?;
            }
            fresh.flush()?;
        }
        if !self.run.is_empty() {
            fresh.append(&Record::Run(self.run.clone()))?;
        }
        fresh.must_sync = true;
        fresh.flush()?;
        let lost = unread.into_iter().collect();
        Ok(Rescued { journal: fresh, lost, has_strangers: !copied.is_empty() })
    }

    /// Whether a file lies in the folder that is not of this journal.
    pub(super) fn has_strangers(&self) -> Result<bool, StoreError> {
        let numbers = segment_numbers(&self.dir).map_err(StoreError::on("list", &self.dir))?;
        let is_ours = |number: &u64| self.segments.binary_search_by_key(number, |own| own.number).is_ok();
        Ok(!numbers.iter().all(is_ours))
    }

    /// Whether it holds anything.
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    fn unfinished_bodies(&self) -> Vec<Bytes> {
        let events: BTreeMap<u64, DeliveryId> =
            self.deliveries.iter().map(|(id, live)| (live.event.order(), *id)).collect();
        let body = |id: DeliveryId| self.read_accepted(id).ok().map(Accepted::into_payload);
        events.into_values().filter_map(body).collect()
    }

    /// Whether this delivery is unfinished, and stands there.
    fn is_live(&self, id: DeliveryId, event: Place) -> bool {
        self.deliveries.get(&id).is_some_and(|live| live.event == event)
    }

    /// The event's record with what is unfinished of it, and the attempts that were made since.
    fn live_event(&self, line: &[u8], place: Place) -> Result<Option<Record>, StoreError> {
        let failed = |error| StoreError::on("read", &self.dir)(error);
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

/// A journal that was made whole again.
pub(super) struct Rescued {
    pub(super) journal: Journal,
    /// Deliveries that could not be read any more.
    pub(super) lost: Vec<DeliveryId>,
    /// Whether something unfinished lay there that was never ours.
    pub(super) has_strangers: bool,
}

/// A journal whose last write or sync failed. Its files stay open: should somebody remove them,
/// they can be read all the same.
#[derive(Debug)]
pub(super) struct Broken(Journal);

impl Broken {
    /// Cuts what nobody was told is on disk, reads the journal anew, and appends to another file
    /// from now on.
    pub(super) fn repair(&self, known_since: Timestamp, keep_open: usize) -> Result<Rescued, StoreError> {
        let Self(journal) = self;
        if !journal.has_its_names()? {
            return journal.reread()?.rescue(known_since, keep_open);
        }
        if let Some(last) = journal.segments.back() {
            let path = segment_path(&journal.dir, last.number);
            let file = files::existing_file(&path);
            file.and_then(|file| files::cut(&file, last.length)).map_err(StoreError::on("repair", &path))?;
        }
        let (mut fresh, _) = Journal::open(&journal.dir, &journal.spec, keep_open)?;
        fresh.seal();
        Ok(Rescued { journal: fresh, lost: Vec::new(), has_strangers: false })
    }

    /// See [`Journal::has_strangers`].
    pub(super) fn has_strangers(&self) -> Result<bool, StoreError> {
        self.0.has_strangers()
    }

    /// Whether its files lie where they did.
    pub(super) fn has_its_names(&self) -> bool {
        self.0.has_its_names().is_ok_and(|has| has)
    }

    /// The payload of each acknowledged event of which something is unfinished and can be read.
    pub(super) fn unfinished_bodies(&self) -> Vec<Bytes> {
        self.0.unfinished_bodies()
    }

    /// How many files are held open.
    pub(super) fn open_files(&self) -> usize {
        self.0.open_files()
    }
}
