//! The few file operations that must be right for durability: new directories, whole-file replacement, repair.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::StoreError;

/// Creates a directory and its missing parents; each new entry is synced in the directory above it.
pub(super) fn create_dir_durably(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_dir_durably(parent)?;
    }
    match fs::create_dir(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        Err(error) => return Err(StoreError::on("create directory", dir)(error)),
    }
    sync_dir(parent.unwrap_or(Path::new(".")))
}

/// Syncs a directory's entries.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(StoreError::on("sync directory", dir))
}

/// Opens a file for reading and appending, made 0600 where it is new.
///
/// # Errors
/// As `open`.
pub fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Replaces a file's content: readers see the old one or the new one, whole. The file is 0600.
///
/// # Errors
/// The directory is not writable or the disk is full; the old content stands.
pub fn write_atomic(path: &Path, content: &[u8]) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
    temporary.write_all(content)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path)?;
    File::open(dir)?.sync_all()
}

/// Cuts a last line that has no newline, which a crash left. Returns the length kept and the bytes cut.
pub(super) fn cut_torn_line(file: &mut File) -> io::Result<(u64, u64)> {
    const BLOCK: u64 = 64 * 1024;
    let length = file.seek(SeekFrom::End(0))?;
    let mut end = length;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        let mut block = Vec::new();
        file.take(end - start).read_to_end(&mut block)?;
        if let Some(newline) = block.iter().rposition(|byte| *byte == b'\n') {
            let kept = start + newline as u64 + 1;
            if kept < length {
                file.set_len(kept)?;
            }
            return Ok((kept, length - kept));
        }
        end = start;
    }
    if length > 0 {
        file.set_len(0)?;
    }
    Ok((0, length))
}
