//! Keeps git from seeing this program's folders: a `.gitignore` with `*` in each, created with the
//! folder.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::FileError;
use super::new::{self, Readers};
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
    match new::create(&path, CONTENT, Readers::Usual) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Whether a folder has such a `.gitignore`, of ours or of somebody else.
#[cfg(feature = "cli")]
pub(crate) fn hides_all(dir: &Path) -> bool {
    files::read_small(&dir.join(NAME)).is_ok_and(|content| {
        let lines = content.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let rules: Vec<&[u8]> = lines.filter(|line| !line.is_empty() && !line.starts_with(b"#")).collect();
        rules == [b"*"]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left_in(dir: &Path) -> Vec<String> {
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn it_is_never_changed_once_it_is_there() {
        let dir = tempfile::tempdir().unwrap();
        ensure(dir.path());
        assert_eq!(fs::read(dir.path().join(NAME)).unwrap(), CONTENT);
        assert!(hides_all(dir.path()));
        for (mine, hides) in [("# mine\n*\n", true), ("*\n!.env\n", false), ("mine", false), ("", false)] {
            fs::write(dir.path().join(NAME), mine).unwrap();
            ensure(dir.path());
            assert_eq!(fs::read_to_string(dir.path().join(NAME)).unwrap(), mine);
            assert_eq!(hides_all(dir.path()), hides, "{mine:?}");
        }
        assert_eq!(left_in(dir.path()), [NAME]);
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
