//! The lock that makes this process the spool's owner. The system releases it when the process
//! ends.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::OpenError;
use crate::files::{self, FileError, FileId, git_ignore, user};

/// Tries to lock a file that is replaced while it is being locked.
const TRIES: usize = 10;

/// A lock that is held, and the identity of the file it was taken on.
#[derive(Debug)]
pub(crate) struct Lock {
    path: PathBuf,
    id: FileId,
    _file: File,
}

impl Lock {
    /// Makes the folder of a spool where it is missing, and takes its lock.
    ///
    /// # Errors
    /// Another process holds it, the spool is another user's, or it cannot be written.
    pub(crate) fn own(spool_dir: &Path) -> Result<Self, OpenError> {
        git_ignore::ensure_dir(spool_dir)?;
        user::check_owner(spool_dir).map_err(|error| OpenError::Foreign(spool_dir.to_owned(), error))?;
        git_ignore::ensure(spool_dir);
        Self::take(spool_dir)
    }

    /// Takes the lock of a spool.
    ///
    /// # Errors
    /// Another process holds it, or the file cannot be created.
    pub(super) fn take(spool_dir: &Path) -> Result<Self, OpenError> {
        Self::take_file(spool_dir, ".lock")
    }

    /// Makes the folder of a spool where it is missing, and takes the lock of those who bring a
    /// fleet's evidence into the repo: one at a time.
    ///
    /// # Errors
    /// As [`own`](Self::own).
    #[cfg(all(feature = "cli", feature = "fleet"))]
    pub(crate) fn to_pull(spool_dir: &Path) -> Result<Self, OpenError> {
        git_ignore::ensure_dir(spool_dir)?;
        git_ignore::ensure(spool_dir);
        Self::take_file(spool_dir, ".pull.lock")
    }

    fn take_file(spool_dir: &Path, name: &str) -> Result<Self, OpenError> {
        let path = spool_dir.join(name);
        for _ in 0..TRIES {
            let file = files::private_file(&path).map_err(FileError::on("open", &path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(spool_dir.to_owned())),
                Err(TryLockError::Error(source)) => return Err(FileError::on("lock", &path)(source).into()),
            }
            let id = FileId::of(&file).map_err(FileError::on("look at", &path))?;
            // If the file was removed between open and lock, the lock would keep no other process
            // out.
            if id.is_at(&path).map_err(FileError::on("look at", &path))? {
                return Ok(Self { path, id, _file: file });
            }
        }
        let replaced = io::Error::other("another process replaces it again and again");
        Err(FileError::on("lock", &path)(replaced).into())
    }

    /// Whether a process holds the lock of a spool; found out by sharing it for a moment.
    pub(super) fn is_held(spool_dir: &Path) -> bool {
        let file = files::open_to_read(&spool_dir.join(".lock"));
        file.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Whether the locked file is still the one at its path. If not, another process can lock the
    /// new one.
    ///
    /// # Errors
    /// The path cannot be looked at.
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
