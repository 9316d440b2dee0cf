//! Reads the lines of a file from the last to the first, in blocks, so that the newest lines of a
//! long file are found without reading all of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Bytes read at a time.
const BLOCK: usize = 64 * 1024;

/// Longest line that is read: above any that this program writes, which has an event of at most
/// 512 KiB, some of it escaped. A longer one is an error and ends the reading.
const MAX_LINE: usize = 2 * 1024 * 1024;

/// Yields each line without its newline. A last line without a newline is still being written, or
/// torn, and is left out.
pub(super) struct Backwards {
    file: File,
    /// The offset in the file where `read` begins.
    start: u64,
    /// Bytes that are read and not yet yielded; they end with a newline once the torn tail is cut.
    read: Vec<u8>,
    tail_is_cut: bool,
}

impl Backwards {
    pub(super) fn new(file: File) -> io::Result<Self> {
        let start = file.metadata()?.len();
        Ok(Self { file, start, read: Vec::new(), tail_is_cut: false })
    }

    /// Reads the block before `read`, as long as `read` itself, so that a long line is read in few
    /// steps. Returns `false` at the beginning of the file.
    fn read_block(&mut self) -> io::Result<bool> {
        let length = usize::try_from(self.start).unwrap_or(usize::MAX).min(self.read.len().max(BLOCK));
        if length == 0 {
            return Ok(false);
        }
        let mut block = vec![0; length];
        self.start -= length as u64;
        self.file.read_exact_at(&mut block, self.start)?;
        block.append(&mut self.read);
        self.read = block;
        Ok(true)
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if !self.tail_is_cut
                && let Some(newline) = self.read.iter().rposition(|byte| *byte == b'\n')
            {
                self.read.truncate(newline + 1);
                self.tail_is_cut = true;
            }
            if self.tail_is_cut && !self.read.is_empty() {
                let content = self.read.len() - 1;
                let before = self.read[..content].iter().rposition(|byte| *byte == b'\n');
                if before.is_some() || self.start == 0 {
                    let line = self.read.split_off(before.map_or(0, |newline| newline + 1));
                    return Ok(Some(line[..line.len() - 1].to_vec()));
                }
            }
            if self.read.len() > MAX_LINE {
                self.start = 0;
                self.read.clear();
                return Err(io::Error::other(
                    "it has a line without end: what stands before that is not read",
                ));
            }
            if !self.read_block()? {
                return Ok(None);
            }
        }
    }
}

impl Iterator for Backwards {
    type Item = io::Result<Vec<u8>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_line().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{Seek as _, SeekFrom, Write as _};

    proptest! {
        #[test]
        fn it_yields_every_whole_line_last_first(
            lengths in proptest::collection::vec(0usize..40_000, 0..12),
            torn in 0usize..100_000,
        ) {
            let letter = |n: usize| char::from(b'a' + (n % 26) as u8).to_string();
            let lines: Vec<String> =
                lengths.iter().enumerate().map(|(n, length)| letter(n).repeat(*length)).collect();
            let mut file = tempfile::tempfile().unwrap();
            for line in &lines {
                writeln!(file, "{line}").unwrap();
            }
            write!(file, "{}", "z".repeat(torn)).unwrap();
            let read: Vec<Vec<u8>> = Backwards::new(file).unwrap().map(Result::unwrap).collect();
            let wanted: Vec<Vec<u8>> = lines.iter().rev().map(|line| line.clone().into_bytes()).collect();
            prop_assert_eq!(read, wanted);
        }
    }

    #[test]
    fn a_line_without_end_is_the_end() {
        for torn in [false, true] {
            let mut file = tempfile::tempfile().unwrap();
            writeln!(file, "before").unwrap();
            file.set_len(1 << 40).unwrap();
            file.seek(SeekFrom::End(0)).unwrap();
            if !torn {
                write!(file, "\nafter\n").unwrap();
            }
            let mut lines = Backwards::new(file).unwrap();
            if !torn {
                assert_eq!(lines.next().unwrap().unwrap(), b"after");
            }
            assert!(lines.next().unwrap().is_err());
            assert!(lines.next().is_none());
        }
    }
}
