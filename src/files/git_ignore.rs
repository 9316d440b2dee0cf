//! Keeps git from seeing this program's folders: a `.gitignore` with `*` in each, created with the
//! folder.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, linkat};

use super::FileError;
use crate::files;

const NAME: &str = ".gitignore";

/// Ignores everything in the folder, this file included.
const CONTENT: &[u8] = b"*\n";

/// Folders for which a failure was already logged.
static SAID: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Creates a folder of this program like [`files::create_dir_durably`], if possible with the
/// `.gitignore` in it from the start: other processes write into it as soon as it exists.
pub(crate) fn create_dir(dir: &Path) -> Result<(), FileError> {
    if matches!(fs::symlink_metadata(dir), Err(error) if error.kind() == io::ErrorKind::NotFound)
        && let Err(error) = create_whole(dir)
    {
        log::debug!("{} is not made at once with its {NAME}: {error}", dir.display());
    }
    files::create_dir_durably(dir)
}

/// Creates the spool's folder if it does not exist. The user may have reached it through links.
pub(crate) fn ensure_dir(dir: &Path) -> Result<(), FileError> {
    if dir.is_dir() { Ok(()) } else { create_dir(dir) }
}

fn create_whole(dir: &Path) -> io::Result<()> {
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    files::ensure_dir(parent).map_err(io::Error::other)?;
    let as_usual = fs::Permissions::from_mode(0o777);
    let made = tempfile::Builder::new().prefix(".spec-notify-").permissions(as_usual).tempdir_in(parent)?;
    make(made.path())?;
    // This fails if another process created the folder meanwhile, unless that folder is empty.
    files::rename(made.path(), dir)?;
    // The temporary name no longer exists, so nothing must be removed.
    drop(made.keep());
    files::sync_dir(parent)
}

/// Creates the `.gitignore` in a folder of this program if there is none; an existing one is never
/// changed. A failure is logged once, and everything else goes on.
pub(crate) fn ensure(dir: &Path) {
    if let Err(error) = make(dir)
        && SAID.lock().unwrap_or_else(PoisonError::into_inner).insert(dir.to_owned())
    {
        log::warn!("{}: {error}; `git status` shows this folder until it is there", dir.join(NAME).display());
    }
}

fn make(dir: &Path) -> io::Result<()> {
    let path = dir.join(NAME);
    match fs::symlink_metadata(&path) {
        Ok(found) if found.is_file() => return Ok(()),
        Ok(_) => return Err(io::Error::other("no file is in its place; move it away")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    match make_unseen(dir, &path) {
        Err(error) if error.kind() != io::ErrorKind::StorageFull => make_by_name(dir, &path),
        made => made,
    }
    .or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })?;
    files::sync_dir(dir)
}

/// Writes the file completely before it gets its name, so that a running git sees no half file. Its
/// mode follows the user's mask, so that other users' git may read it.
fn make_unseen(dir: &Path, path: &Path) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(dir)?;
    files::append(&mut file, CONTENT)?;
    files::sync(&file)?;
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, nameless, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(())
}

/// Does the same by renaming, for file systems without nameless files, or without `/proc`.
fn make_by_name(dir: &Path, path: &Path) -> io::Result<()> {
    let everybody = fs::Permissions::from_mode(0o666);
    let mut file = tempfile::Builder::new().permissions(everybody).tempfile_in(dir)?;
    files::append(file.as_file_mut(), CONTENT)?;
    files::sync(file.as_file())?;
    file.persist_noclobber(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_in(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn it_is_made_whole_and_never_changed_afterwards() {
        for make in [make_unseen, make_by_name] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join(NAME);
            make(dir.path(), &path).unwrap();
            fs::write(dir.path().join("usual"), "").unwrap();
            let mode = |name| fs::metadata(dir.path().join(name)).unwrap().permissions().mode();
            assert_eq!(mode(NAME), mode("usual"));
            fs::remove_file(dir.path().join("usual")).unwrap();
            assert_eq!(fs::read(&path).unwrap(), CONTENT);
            fs::write(&path, "mine").unwrap();
            let error = make(dir.path(), &path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
            ensure(dir.path());
            assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
            assert_eq!(left_in(dir.path()), [NAME]);
        }
    }

    #[test]
    fn a_folder_has_it_from_the_first_moment() {
        let dir = tempfile::tempdir().unwrap();
        let ours = dir.path().join("deep/down/ours");
        create_whole(&ours).unwrap();
        assert_eq!(left_in(&ours), [NAME]);
        assert_eq!(left_in(ours.parent().unwrap()), ["ours"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&ours), mode(ours.parent().unwrap()));
        // An existing folder stays, whoever created it.
        fs::write(ours.join("theirs"), "").unwrap();
        assert!(create_whole(&ours).is_err());
        create_dir(&ours).unwrap();
        assert!(ours.join("theirs").exists());
        assert_eq!(left_in(ours.parent().unwrap()), ["ours"]);
        std::os::unix::fs::symlink(&ours, dir.path().join("link")).unwrap();
        assert!(create_whole(&dir.path().join("link")).is_err());
        assert!(create_dir(&dir.path().join("link")).is_err());
        ensure_dir(&dir.path().join("link")).unwrap();
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, elsewhere) = (dir.path().join("folder"), dir.path().join("elsewhere"));
        fs::create_dir(&folder).unwrap();
        for target in [elsewhere.clone(), dir.path().to_owned()] {
            std::os::unix::fs::symlink(&target, folder.join(NAME)).unwrap();
            assert!(make(&folder).is_err());
            ensure(&folder);
            assert!(!elsewhere.exists());
            assert_eq!(left_in(dir.path()), ["folder"]);
            fs::remove_file(folder.join(NAME)).unwrap();
        }
    }
}
