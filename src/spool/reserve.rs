//! The file `.reserve`, which only takes room on the disk. It is removed when the disk is full, so
//! that deliveries under way can end and be compacted, and created again when there is room. While
//! it is missing for a full disk, nothing new is accepted.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;

/// Its size: room for a compaction step with the largest event, and for the records of many
/// deliveries that end.
const BYTES: u64 = 1024 * 1024;

/// Room that must be free beside it before it is created again: otherwise the disk would be full
/// again at once.
const BESIDE: u64 = BYTES / 2;

/// The reserve; see the module's documentation.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    /// Whether it was given up, and the disk has not had room for it since.
    is_full: bool,
    /// Whether the limit on file sizes was logged. Free room does not help there; the journal goes
    /// on in another segment.
    is_limit_said: bool,
}

impl Reserve {
    /// Creates the file if it does not exist. A failure is only logged.
    pub(super) fn open(spool_dir: &Path) -> Self {
        let reserve = Self { path: spool_dir.join(".reserve"), is_full: false, is_limit_said: false };
        if !reserve.is_there()
            && let Err(error) = reserve.make()
        {
            log::warn!("no room is held in reserve for a full disk: {}: {error}", reserve.path.display());
        }
        reserve
    }

    /// Whether the disk is full as far as known.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Removes the file if the error says that the disk is full.
    pub(super) fn give_up_for(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::FileTooLarge && !self.is_limit_said {
            log::error!(
                "no file in {} may become as large as it would be: a limit on the size of files is set \
                 (ulimit -f, LimitFSIZE=): what does not fit is refused; raise the limit",
                self.path.parent().unwrap_or(Path::new("the spool")).display()
            );
            self.is_limit_said = true;
        }
        if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return;
        }
        if !self.is_full {
            log::error!(
                "the disk of {} is full: the room held in reserve is released so that deliveries can end; \
                 no event is accepted until there is room again",
                self.path.display()
            );
        }
        self.is_full = true;
        match files::remove(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::error!("cannot remove {}: {error}", self.path.display());
            }
            _ => {}
        }
    }

    /// Creates the file again if it is missing and there is room for it.
    pub(super) fn look(&mut self) {
        if self.is_there() {
            // The file could not be removed earlier: the next failed write tries again.
            self.is_full = false;
            return;
        }
        let free = self.path.parent().map_or(0, files::free_bytes);
        if free < BYTES + BESIDE || self.make().is_err() {
            return;
        }
        if self.is_full {
            log::info!("there is room again on the disk of {}: events are accepted", self.path.display());
        }
        self.is_full = false;
    }

    fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|found| found.len() >= BYTES)
    }

    fn make(&self) -> io::Result<()> {
        let made = files::private_file(&self.path).and_then(|mut file| files::allocate(&mut file, BYTES));
        if made.is_err() && files::remove(&self.path).is_err() {
            log::debug!("{} was not there to be removed", self.path.display());
        }
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_up_for_a_full_disk_alone_and_comes_back_with_room() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".reserve");
        let mut reserve = Reserve::open(dir.path());
        assert_eq!(fs::metadata(&path).unwrap().len(), BYTES);
        reserve.give_up_for(&io::ErrorKind::PermissionDenied.into());
        reserve.give_up_for(&io::ErrorKind::FileTooLarge.into());
        assert!(path.exists() && !reserve.is_full());
        reserve.give_up_for(&io::ErrorKind::StorageFull.into());
        assert!(!path.exists() && reserve.is_full());
        reserve.look();
        assert!(path.exists() && !reserve.is_full());
        // If another program removed it, it is only created again.
        fs::remove_file(&path).unwrap();
        reserve.look();
        assert!(path.exists() && !reserve.is_full());
    }
}
