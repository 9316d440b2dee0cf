//! The place of a record in a SPEC's journal.

use std::num::NonZeroU32;
use std::ops::Range;

use serde::{Deserialize, Serialize};

/// The place of a record: segment number, offset and length. Compact, because each unfinished
/// delivery holds one; a segment is far below 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    file: NonZeroU32,
    offset: u32,
    length: u32,
}

impl Place {
    pub(super) fn new(file: u64, range: &Range<usize>) -> Self {
        Self::at(file, range.start as u64, range.len() as u64)
    }

    /// Numbers beyond `u32` become `u32::MAX`: no segment has that number, so a read fails with an
    /// error.
    pub(super) fn at(file: u64, offset: u64, length: u64) -> Self {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let file = NonZeroU32::new(small(file)).unwrap_or(NonZeroU32::MAX);
        Self { file, offset: small(offset), length: small(length) }
    }

    pub(super) fn file(self) -> u64 {
        u64::from(self.file.get())
    }

    pub(super) fn offset(self) -> u64 {
        u64::from(self.offset)
    }

    pub(super) fn length(self) -> u64 {
        u64::from(self.length)
    }

    /// Grows with every record of a journal.
    pub(super) fn order(self) -> u64 {
        (self.file() << 32) | self.offset()
    }
}
