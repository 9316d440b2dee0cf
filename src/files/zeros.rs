//! Zeros in a file, without as many in memory.

use std::fs::File;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;

use rustix::io::{Errno, pwritev};

use super::{step, take_room};

/// What is written again and again: a list of as many as are needed would stay in the allocator's
/// memory.
static ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];

/// Most parts of one write: Linux, macOS and the BSDs take 1,024 (`IOV_MAX`).
const MOST_PARTS: usize = 64;

/// Writes zeros in this range, whatever is there.
pub(crate) fn write_zeros(file: &File, range: Range<u64>) -> io::Result<()> {
    let Range { start: mut at, end } = range;
    if let Err(error) = step() {
        // A disk that fills up takes a part of them.
        file.write_all_at(&ZEROS[..1], at)?;
        return Err(error);
    }
    let length = if cfg!(test) { file.metadata()?.len() } else { 0 };
    take_room(end.saturating_sub(length))?;
    while at < end {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let whole = std::iter::repeat_n(&ZEROS[..], left / ZEROS.len());
        let parts = whole.chain([&ZEROS[..left % ZEROS.len()]]).take(MOST_PARTS).map(IoSlice::new);
        match pwritev(file, &parts.collect::<Vec<_>>(), at) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => at += written as u64,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_zeros_and_nothing_else_is() {
        let file = tempfile::tempfile().unwrap();
        let most = (MOST_PARTS * ZEROS.len()) as u64;
        for (start, end) in [(3, 3), (3, 4), (0, 16 * 1024), (5, most + 17_000), (1, 2 * most + 1)] {
            file.write_all_at(&vec![b'x'; usize::try_from(end).unwrap() + 2], 0).unwrap();
            write_zeros(&file, start..end).unwrap();
            let mut content = vec![1; usize::try_from(end).unwrap() + 2];
            file.read_exact_at(&mut content, 0).unwrap();
            let zeros = content.iter().zip(0..).filter(|(byte, _)| **byte == 0).map(|(_, at)| at);
            assert!(zeros.eq(start..end), "{start} to {end}");
        }
    }
}
