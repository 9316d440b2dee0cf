//! One file of a SPEC's journal (a segment): its name, and how it is read.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use serde::de::IgnoredAny;

use super::record::{self, Scan};
use crate::files::{self, FileError, FileId};
use crate::transient;

/// Largest file that is read: more than one batch adds to a file that is not full. This program
/// writes no larger one.
const MAX_FILE_BYTES: u64 = 1024 * 1024 * 1024;

/// Greatest segment number that is accepted: no journal comes near it.
pub(super) const MAX_NUMBER: u64 = u32::MAX as u64 / 2;

/// One file of the journal.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) number: u64,
    /// Bytes of its records.
    pub(super) length: u64,
    /// Bytes of its file: after the records there may be room for the next ones, NUL bytes.
    pub(super) size: u64,
    /// Bytes that the keys of its events would take as [`Record::Known`].
    pub(super) known_bytes: u64,
    /// The file's identity: a file removed or replaced at the path has another one.
    pub(super) id: FileId,
    /// Kept open while the bound allows it, so that it can be read even after it is removed.
    pub(super) file: Option<File>,
}

impl Segment {
    /// The file at its path, to write to.
    ///
    /// # Errors
    /// Another file is there, or none.
    pub(super) fn open_by_name(&self, path: &Path) -> io::Result<File> {
        let file = files::existing_file(path)?;
        match FileId::of(&file)? == self.id {
            true => Ok(file),
            false => Err(io::Error::new(io::ErrorKind::NotFound, "another file is in its place")),
        }
    }

    /// Whether nobody has written to it, or cut it, since this process did. Only for one that is
    /// locked, or to be looked at.
    pub(super) fn is_as_left(&self, file: &File) -> io::Result<bool> {
        let mut next = [0];
        let is_room = file.read_at(&mut next, self.length)? == 0 || next == [0];
        Ok(is_room && file.metadata()?.len() == self.size)
    }

    /// `length` bytes at `offset`, or as many as there are.
    pub(super) fn read_up_to(&self, dir: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
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
            match file.read_at(&mut bytes[read..], offset + read as u64) {
                Ok(0) => break,
                Ok(more) => read += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(read);
        Ok(bytes)
    }

    /// `length` bytes at `offset`: from the open file, else from the file at its path.
    pub(super) fn read_at(&self, dir: &Path, offset: u64, length: usize) -> io::Result<Vec<u8>> {
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

/// A segment that a start has opened.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) number: u64,
    pub(super) id: FileId,
    pub(super) file: File,
    path: PathBuf,
}

/// A segment and what it holds, payloads aside: each of those is read when its attempt starts.
pub(super) struct ReadSegment {
    pub(super) opened: Opened,
    /// Bytes of the file.
    pub(super) size: u64,
    pub(super) scan: Scan<IgnoredAny>,
    /// What is damaged, and where that begins.
    pub(super) damaged: Vec<(usize, Vec<u8>)>,
    /// Bytes of an unfinished last line.
    pub(super) torn: usize,
    /// Whether a record can be appended once that is cut.
    pub(super) ends_whole: bool,
}

impl Opened {
    /// Opens and syncs it: after a failed sync, what is read here may never have reached the disk.
    pub(super) fn open(dir: &Path, number: u64) -> Result<Self, FileError> {
        let path = segment_path(dir, number);
        let file = files::existing_file(&path).map_err(FileError::on("open", &path))?;
        files::sync(&file).map_err(FileError::on("sync", &path))?;
        let id = FileId::of(&file).map_err(FileError::on("read", &path))?;
        Ok(Self { number, id, file, path })
    }

    /// Reads its content into a buffer that one segment after the other uses, so that no memory is
    /// mapped anew for each.
    pub(super) fn read(self, content: &mut Vec<u8>) -> Result<ReadSegment, FileError> {
        let size = read_into(&self.file, content).map_err(FileError::on("read", &self.path))?;
        let scan: Scan<IgnoredAny> = record::scan(content);
        let damaged = scan.damaged.iter().map(|range| (range.start, content[range.clone()].to_vec()));
        let damaged = damaged.collect();
        let torn = content.len() - scan.torn_at;
        let ends_whole = scan.torn_at == 0 || content[..scan.torn_at].ends_with(b"\n");
        Ok(ReadSegment { opened: self, size, scan, damaged, torn, ends_whole })
    }
}

fn segment_name(number: u64) -> String {
    format!("spool-{number:08}.jsonl")
}

/// The number in a file's name. Only the spelling of [`segment_name`] counts.
fn number_of(name: &str) -> Option<u64> {
    let number = name.strip_prefix("spool-")?.strip_suffix(".jsonl")?.parse().ok()?;
    (segment_name(number) == name).then_some(number)
}

/// The file's path.
pub(super) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(segment_name(number))
}

/// The numbers of a directory's journal files, in order. Other files are skipped.
pub(super) fn segment_numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        numbers.extend(name.to_str().and_then(number_of));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The records of an open file.
pub(super) fn content_of(file: &File) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    read_into(file, &mut content)?;
    Ok(content)
}

/// Reads the records of an open file into `content`, in place of what that holds: all but the room
/// for further ones at its end. Returns the file's size.
fn read_into(file: &File, content: &mut Vec<u8>) -> io::Result<u64> {
    let length = file.metadata()?.len();
    if length > MAX_FILE_BYTES {
        return Err(io::Error::other(TOO_LARGE));
    }
    content.clear();
    // With a byte more, the read that finds the end needs no more room.
    let room = usize::try_from(length).map_or(0, |length| length + 1);
    if content.capacity() < room {
        *content = transient::list(room);
    }
    let size = file.take(MAX_FILE_BYTES).read_to_end(content)?;
    content.truncate(content.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
    Ok(size as u64)
}

/// Checks that a file can be a segment, without reading it.
pub(super) fn check_file(path: &Path) -> io::Result<()> {
    let length = files::open_to_read(path)?.metadata()?.len();
    let number = path.file_name().and_then(|name| number_of(name.to_str()?));
    match (number, length) {
        (Some(number), _) if number > MAX_NUMBER => Err(io::Error::other(NO_SUCH_NUMBER)),
        (_, length) if length > MAX_FILE_BYTES => Err(io::Error::other(TOO_LARGE)),
        _ => Ok(()),
    }
}

pub(super) const NO_SUCH_NUMBER: &str = "spec-notify makes no file with such a number; move it away";
const TOO_LARGE: &str = "it is larger than any file that spec-notify makes; move it away";
