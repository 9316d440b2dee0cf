//! A file of values in blocks, each with its length and a checksum: written and read without having
//! all of it in memory. A block's checksum goes on from that of the one before, so that a block in
//! the place of another is noticed.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use crate::files;

/// Bytes at which a block is whole; a value is never divided.
const BLOCK: usize = 64 * 1024;

/// Room that the disk must have beside the file: it must not take the last of it.
const ROOM: u64 = 64 * 1024 * 1024;

/// Largest file that is written or read.
const MAX_BYTES: u64 = 1024 * 1024 * 1024;

/// Bytes before a block: its length and the CRC-32 of all blocks up to it, least byte first.
const PREFIX: usize = 8;

/// Writes values into a file that takes the place of another once it is whole.
pub(super) struct Writer<'a> {
    path: &'a Path,
    file: NamedTempFile,
    block: Vec<u8>,
    /// The checksum of the blocks so far.
    sum: u32,
    bytes: u64,
}

impl<'a> Writer<'a> {
    /// A file that begins with this text.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn new(path: &'a Path, beginning: &str) -> io::Result<Self> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let mut writer = Self { path, file: files::temporary(dir)?, block: Vec::new(), sum: 0, bytes: 0 };
        writer.append(beginning.as_bytes())?;
        writer.begin();
        Ok(writer)
    }

    fn begin(&mut self) {
        self.block.clear();
        self.block.extend([0; PREFIX]);
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.bytes += bytes.len() as u64;
        let has_room = files::free_bytes(self.path.parent().unwrap_or(self.path)) >= ROOM;
        match self.bytes > MAX_BYTES || !has_room {
            true => Err(io::Error::other("there is no room to spare for it")),
            false => files::append(self.file.as_file_mut(), bytes),
        }
    }

    /// Adds a value.
    ///
    /// # Errors
    /// It cannot be written, or the disk has no room to spare.
    pub(super) fn add(&mut self, value: &impl Serialize) -> io::Result<()> {
        let block = std::mem::take(&mut self.block);
        self.block = postcard::to_extend(value, block).map_err(io::Error::other)?;
        if self.block.len() >= BLOCK { self.end_block() } else { Ok(()) }
    }

    fn end_block(&mut self) -> io::Result<()> {
        let mut block = std::mem::take(&mut self.block);
        if let Some((prefix, content)) = block.split_first_chunk_mut::<PREFIX>() {
            let length = u32::try_from(content.len()).map_err(io::Error::other)?;
            let (of_length, of_sum) = prefix.split_at_mut(PREFIX / 2);
            of_length.copy_from_slice(&length.to_le_bytes());
            self.sum = sum_after(self.sum, content);
            of_sum.copy_from_slice(&self.sum.to_le_bytes());
        }
        self.append(&block)?;
        self.block = block;
        self.begin();
        Ok(())
    }

    /// Puts the file in its place, unsynced, and returns its bytes.
    ///
    /// # Errors
    /// It cannot be written, or the disk has no room to spare.
    pub(super) fn finish(mut self) -> io::Result<u64> {
        if self.block.len() > PREFIX {
            self.end_block()?;
        }
        files::put_in_place(self.file, self.path)?;
        Ok(self.bytes)
    }
}

/// Reads a file of a [`Writer`].
pub(super) struct Reader {
    file: File,
    bytes: u64,
    block: Vec<u8>,
    /// The checksum of the blocks so far.
    sum: u32,
    at: usize,
}

impl Reader {
    /// Opens the file; `None` if it begins with another text.
    ///
    /// # Errors
    /// It cannot be opened or read, or is too large.
    pub(super) fn open(path: &Path, beginning: &str) -> io::Result<Option<Self>> {
        let mut file = files::open_to_read(path)?;
        let bytes = file.metadata()?.len();
        if bytes > MAX_BYTES {
            return Err(io::Error::other("it is too large"));
        }
        let mut start = Vec::new();
        (&mut file).take(beginning.len() as u64).read_to_end(&mut start)?;
        let is_it = start == beginning.as_bytes();
        Ok(is_it.then(|| Self { file, bytes, block: Vec::new(), sum: 0, at: 0 }))
    }

    /// Bytes of the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The next value; `None` at the end, or where it is not what was written.
    pub(super) fn next<'a, T: Deserialize<'a>>(&'a mut self) -> Option<T> {
        if self.at == self.block.len() && !self.next_block()? {
            return None;
        }
        let (value, rest) = postcard::take_from_bytes(&self.block[self.at..]).ok()?;
        self.at = self.block.len() - rest.len();
        Some(value)
    }

    /// Whether all was read.
    pub(super) fn is_at_end(&mut self) -> bool {
        self.at == self.block.len() && self.next_block() == Some(false)
    }

    /// Reads the next block; `Some(false)` if there is none, `None` if it is damaged.
    fn next_block(&mut self) -> Option<bool> {
        let mut prefix = Vec::new();
        (&mut self.file).take(PREFIX as u64).read_to_end(&mut prefix).ok()?;
        if prefix.is_empty() {
            return Some(false);
        }
        let (length, sum) = prefix.split_first_chunk::<4>()?;
        let (length, sum) = (u32::from_le_bytes(*length), u32::from_le_bytes(sum.try_into().ok()?));
        self.at = 0;
        self.block.clear();
        (&mut self.file).take(u64::from(length)).read_to_end(&mut self.block).ok()?;
        let is_whole = self.block.len() == length as usize && length > 0;
        self.sum = sum_after(self.sum, &self.block);
        (is_whole && self.sum == sum).then_some(true)
    }
}

/// The checksum of `block` after blocks with the checksum `before`; 0 before the first.
fn sum_after(before: u32, block: &[u8]) -> u32 {
    let mut sum = crc32fast::Hasher::new_with_initial(before);
    sum.update(block);
    sum.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGINNING: &str = "beginning\n";

    fn written(path: &Path, values: &[Vec<u8>]) -> u64 {
        let mut writer = Writer::new(path, BEGINNING).unwrap();
        values.iter().for_each(|value| writer.add(value).unwrap());
        writer.finish().unwrap()
    }

    #[test]
    fn values_of_many_blocks_are_read_as_they_were_written_and_none_of_a_block_that_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let values: Vec<Vec<u8>> = (0..60_u8).map(|n| vec![n; usize::from(n) * 200]).collect();
        let bytes = written(&path, &values);
        assert_eq!(bytes, path.metadata().unwrap().len());
        assert!(bytes > 3 * BLOCK as u64, "there are several blocks");
        let read = || {
            let mut reader = Reader::open(&path, BEGINNING).unwrap().unwrap();
            let read: Vec<Vec<u8>> = std::iter::from_fn(|| reader.next()).take(values.len()).collect();
            (read, reader.is_at_end())
        };
        assert_eq!(read(), (values.clone(), true));
        let mut content = std::fs::read(&path).unwrap();
        content.push(0);
        std::fs::write(&path, &content).unwrap();
        assert_eq!(read(), (values.clone(), false), "something follows");
        content.pop();
        let last = content.len() - 1;
        content[last] ^= 1;
        std::fs::write(&path, &content).unwrap();
        let (read, is_at_end) = read();
        assert!(!is_at_end && !read.is_empty() && values.starts_with(&read) && read.len() < values.len());
        assert!(Reader::open(&path, "another\n").unwrap().is_none());
    }

    #[test]
    fn a_block_in_the_place_of_another_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let values: Vec<Vec<u8>> = (0..3).map(|n| vec![n; BLOCK]).collect();
        written(&path, &values);
        let mut content = std::fs::read(&path).unwrap();
        let block = (content.len() - BEGINNING.len()) / 3;
        let (first, second) = (BEGINNING.len() + block, BEGINNING.len() + 2 * block);
        content.copy_within(first..second, second);
        std::fs::write(&path, content).unwrap();
        let mut reader = Reader::open(&path, BEGINNING).unwrap().unwrap();
        let read: Vec<Vec<u8>> = std::iter::from_fn(|| reader.next()).collect();
        assert_eq!(read, values[..2]);
        assert!(!reader.is_at_end());
    }

    /// As `docs/contributing/spool-format.md` has it.
    #[test]
    fn a_block_is_its_length_its_checksum_and_its_values() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        written(&path, &[vec![7, 8]]);
        let content = [2, 7, 8];
        let sum = crc32fast::hash(&content).to_le_bytes();
        let expected = [BEGINNING.as_bytes(), &[3, 0, 0, 0], &sum, &content].concat();
        assert_eq!(std::fs::read(&path).unwrap(), expected);
    }
}
