//! Opens a journal: what is known of its sealed segments is taken in, the others are read.

use std::io;
use std::path::Path;

use serde::de::IgnoredAny;

use super::{FILE_BYTES, Journal, lock_to_write};
use crate::event::SpecId;
use crate::files::{self, FileError};
use crate::names::counted;
use crate::spool::ahead;
use crate::spool::place::Place;
use crate::spool::record;
use crate::spool::recovery::Recovery;
use crate::spool::segment::{
    MAX_NUMBER, NO_SUCH_NUMBER, Opened, ReadSegment, Segment, segment_numbers, segment_path,
};

impl Journal {
    /// Opens or creates the journal in `dir`: reads its records, copies damaged ones aside, and
    /// cuts an unfinished last record. Only the newest `keep_open` segments stay open.
    pub(in crate::spool) fn open(
        dir: &Path,
        spec: &SpecId,
        keep_open: usize,
    ) -> Result<(Self, Recovery), FileError> {
        files::create_dir_durably(dir)?;
        let numbers = segment_numbers(dir).map_err(FileError::on("list", dir))?;
        if let Some(last) = numbers.last().filter(|last| **last > MAX_NUMBER) {
            let path = segment_path(dir, *last);
            return Err(FileError::on("use", &path)(io::Error::other(NO_SUCH_NUMBER)));
        }
        let (mut journal, mut recovery) = Self::of_sealed(dir, spec, &numbers);
        journal.next_number = numbers.last().map_or(1, |last| last + 1);
        journal.open_files_again(keep_open)?;
        let newest = numbers.last().copied();
        let known = journal.segments.back().map_or(0, |last| last.number);
        let unread: Vec<u64> = numbers.into_iter().filter(|number| *number > known).collect();
        let opened = unread.into_iter().map(|number| Opened::open(dir, number));
        let mut content = Vec::new();
        let read = move |opened: Opened| opened.read(&mut content);
        ahead::in_order(opened, read, |read| {
            let read = read?;
            if Some(read.opened.number) == newest && journal.is_worth_sealing(0) {
                journal.note_sealed(&recovery);
            }
            journal.take_segment(read, &mut recovery)?;
            journal.close_files(keep_open);
            Ok(())
        })?;
        Ok((journal, recovery))
    }

    /// Opens and syncs the files of segments that were taken in without reading them; only the
    /// newest `keep_open` stay open.
    fn open_files_again(&mut self, keep_open: usize) -> Result<(), FileError> {
        let closed = self.segments.len().saturating_sub(keep_open);
        for (at, segment) in self.segments.iter_mut().enumerate() {
            let opened = Opened::open(&self.dir, segment.number)?;
            segment.file = (at >= closed).then_some(opened.file);
        }
        Ok(())
    }

    /// Takes in the next segment: copies what is damaged aside and cuts an unfinished last record.
    fn take_segment(&mut self, read: ReadSegment, recovery: &mut Recovery) -> Result<(), FileError> {
        let ReadSegment { opened, mut size, scan, damaged, torn, ends_whole } = read;
        let Opened { number, id, file, .. } = opened;
        for (at, bytes) in &damaged {
            self.set_aside(number, *at as u64, bytes);
        }
        let length = scan.torn_at as u64;
        let is_mine = lock_to_write(&file);
        if torn > 0 && is_mine {
            let path = segment_path(&self.dir, number);
            log::warn!(
                "{}: cut {} of a record that a crash left unfinished; it was never acknowledged",
                path.display(),
                counted(torn, "byte", "bytes")
            );
            files::cut(&file, length).map_err(FileError::on("repair", &path))?;
            size = length;
        }
        let segment = Segment { number, length, size, known_bytes: 0, id, file: Some(file) };
        self.add_segment(segment, scan, recovery);
        self.appendable = is_mine && ends_whole && length > 0 && length < FILE_BYTES;
        Ok(())
    }

    pub(super) fn add_segment(
        &mut self,
        segment: Segment,
        scan: record::Scan<IgnoredAny>,
        recovery: &mut Recovery,
    ) {
        let number = segment.number;
        self.segments.push_back(segment);
        for (range, record) in scan.records {
            let place = Place::new(number, &range);
            recovery.read(&record, place);
            self.index(&record, place);
        }
    }

    /// Copies damaged bytes into a file of their own, once, and logs it.
    pub(super) fn set_aside(&self, number: u64, offset: u64, bytes: &[u8]) {
        let path = self.dir.join(format!("damaged-{number:08}-{offset:08}"));
        if path.exists() {
            return;
        }
        let kept = match files::write_atomic(&path, bytes) {
            Ok(()) => format!("a copy is kept in {}", path.display()),
            Err(error) => format!("no copy could be kept: {error}"),
        };
        log::error!(
            "{}: {} damaged at {offset} ({kept}); all other records are recovered",
            segment_path(&self.dir, number).display(),
            counted(bytes.len(), "byte is", "bytes are"),
        );
    }
}
