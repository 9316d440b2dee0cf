//! The lock that makes this process a spool's owner. The system gives it up when the process ends.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::OpenError;
use crate::files::{self, FileError, FileId};

/// How often a lock file that is replaced while it is being locked is tried again.
const TRIES: usize = 10;

/// A lock that is held, on the file that lay at its path when it was taken.
#[derive(Debug)]
pub(super) struct Lock {
    path: PathBuf,
    id: FileId,
    _file: File,
}

impl Lock {
    /// Takes the lock of a spool.
    ///
    /// # Errors
    /// Another process holds it, or the file cannot be made.
    pub(super) fn take(spool_dir: &Path) -> Result<Self, OpenError> {
        let path = spool_dir.join(".lock");
        for _ in 0..TRIES {
            let file = files::private_file(&path).map_err(FileError::on("open", &path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(spool_dir.to_owned())),
                Err(TryLockError::Error(source)) => return Err(FileError::on("lock", &path)(source).into()),
            }
            let id = FileId::of(&file).map_err(FileError::on("look at", &path))?;
            // Removed between being opened and being locked, it would keep nobody out.
            if id.is_at(&path).map_err(FileError::on("look at", &path))? {
                return Ok(Self { path, id, _file: file });
            }
        }
        let replaced = io::Error::other("it is replaced again and again by somebody else");
        Err(FileError::on("lock", &path)(replaced).into())
    }

    /// Whether somebody holds the lock of a spool; asks by sharing it for a moment.
    pub(super) fn is_held(spool_dir: &Path) -> bool {
        let file = files::open_to_read(&spool_dir.join(".lock"));
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Whether the file that is locked is still the one at its path: another process would lock
    /// that one.
    ///
    /// # Errors
    /// Nobody can say: the path cannot be looked at.
    pub(super) fn is_in_place(&self) -> Result<bool, FileError> {
        self.id.is_at(&self.path).map_err(FileError::on("look at", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_lock_file_that_is_removed_or_replaced_is_noticed_and_keeps_nobody_out() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!Lock::is_held(dir.path()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "to look creates nothing");
        let lock = Lock::take(dir.path()).unwrap();
        assert!(lock.is_in_place().unwrap() && Lock::is_held(dir.path()));
        assert!(matches!(Lock::take(dir.path()), Err(OpenError::Locked(_))));
        fs::remove_file(dir.path().join(".lock")).unwrap();
        assert!(!lock.is_in_place().unwrap());
        let other = Lock::take(dir.path()).unwrap();
        assert!(other.is_in_place().unwrap() && !lock.is_in_place().unwrap());
    }
}
