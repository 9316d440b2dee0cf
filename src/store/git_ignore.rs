//! What keeps git from seeing our folders: a `.gitignore` with `*` in each, made with it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, linkat};

use super::files;

const NAME: &str = ".gitignore";

/// Everything in the folder, this file too.
const CONTENT: &[u8] = b"*\n";

/// Folders whose file could not be made, as far as that was said.
static SAID: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Makes the file in a folder of ours where there is none; one that is there is left as it is. Where
/// it cannot be made that is said once, and everything else goes on.
pub(super) fn ensure(dir: &Path) {
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

/// Names a file only when all of it is on disk: whoever runs git meanwhile sees nothing. Others may
/// read it, as far as the user's mask says: so may their git.
fn make_unseen(dir: &Path, path: &Path) -> io::Result<()> {
    let mut file = tempfile::tempfile_in(dir)?;
    files::append(&mut file, CONTENT)?;
    files::sync(&file)?;
    let nameless = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, nameless, CWD, path, AtFlags::SYMLINK_FOLLOW)?;
    Ok(())
}

/// The same where the file system has no files without a name, or there is no `/proc`.
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
