//! Creates a file where none is: whole from the moment it has its name, and one that exists stays.

use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, linkat};

use crate::files;

/// Who may read a new file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Whom the user's mask admits.
    Usual,
    /// The user alone.
    #[cfg(feature = "cli")]
    Owner,
}

impl Readers {
    fn mode(self) -> Option<u32> {
        match self {
            Self::Usual => None,
            #[cfg(feature = "cli")]
            Self::Owner => Some(0o600),
        }
    }
}

/// Creates a file with this content.
///
/// # Errors
/// Something is in its place, or it cannot be written; then nothing is left.
pub(crate) fn create(path: &Path, content: &[u8], readers: Readers) -> io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match create_unseen(dir, path, content, readers) {
        Err(error) if !is_final(&error) => create_by_name(dir, path, content, readers)?,
        created => created?,
    }
    // One that is not sure to last is none: the caller is told that nothing was made.
    files::sync_dir(dir).inspect_err(|_| drop(fs::remove_file(path)))
}

/// Whether the other way would end with the same error.
fn is_final(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::AlreadyExists)
}

/// Writes the file before it has a name, so that a stop leaves nothing and a running git sees no
/// half file.
fn create_unseen(dir: &Path, path: &Path, content: &[u8], readers: Readers) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(dir)?;
    if let Some(mode) = readers.mode() {
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    files::append(&mut file, content)?;
    files::sync(&file)?;
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, nameless, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(())
}

/// Does the same by renaming, for file systems without nameless files, or without `/proc`.
fn create_by_name(dir: &Path, path: &Path, content: &[u8], readers: Readers) -> io::Result<()> {
    let permissions = fs::Permissions::from_mode(readers.mode().unwrap_or(0o666));
    let mut file = tempfile::Builder::new().permissions(permissions).tempfile_in(dir)?;
    files::append(file.as_file_mut(), content)?;
    files::sync(file.as_file())?;
    file.persist_noclobber(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_whole_and_one_that_is_there_stays() {
        for make in [create_unseen, create_by_name] {
            for readers in [Readers::Usual, Readers::Owner] {
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().join("new");
                make(dir.path(), &path, b"mine\n", readers).unwrap();
                fs::write(dir.path().join("usual"), "").unwrap();
                let mode = |name| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
                assert_eq!(mode("new"), if readers == Readers::Usual { mode("usual") } else { 0o600 });
                let error = make(dir.path(), &path, b"other", readers).unwrap_err();
                assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
                assert_eq!(fs::read(&path).unwrap(), b"mine\n");
                std::os::unix::fs::symlink("nowhere", dir.path().join("link")).unwrap();
                assert!(make(dir.path(), &dir.path().join("link"), b"other", readers).is_err());
                assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "nothing else is left");
            }
        }
    }
}
