//! Reads no more of a file than is wanted, however long it is.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// The first `limit` bytes of a file.
///
/// # Errors
/// It cannot be opened or read.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}
