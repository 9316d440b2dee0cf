//! Temporary files left behind by a killed process: removed at the next start, once it is certain
//! that no process is writing them.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use crate::event::SpecId;
use crate::files::{self, user};

/// An empty file younger than this may have just been created and not be locked yet.
const YOUNG: Duration = Duration::from_secs(60);

/// Removes the temporary files that killed processes left in the spool's folders. Only the spool's
/// owner may call it; other processes may be writing events into the inbox meanwhile.
pub(super) fn sweep(spool_dir: &Path, specs: &[SpecId]) {
    let folders = specs.iter().map(|spec| spool_dir.join(spec.as_str()));
    let folders = folders.flat_map(|folder| [folder.join("dead-letter"), folder]);
    for folder in folders.chain([spool_dir.to_owned(), spool_dir.join("inbox"), spool_dir.join(".paused")]) {
        for path in left_in(&folder) {
            match files::remove(&path) {
                Ok(()) => log::debug!("{}: removed, a killed write had left it", path.display()),
                Err(error) => log::warn!("{}: a killed write left it; it stays: {error}", path.display()),
            }
        }
    }
}

fn left_in(folder: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(is_name_of_one));
    named.map(|entry| entry.path()).filter(|path| is_left(path).unwrap_or(false))
}

/// Whether the name has the form that `tempfile` gives: `.tmp` and six alphanumeric characters.
fn is_name_of_one(name: &str) -> bool {
    let random = name.strip_prefix(".tmp");
    random.is_some_and(|random| random.len() == 6 && random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

fn is_left(path: &Path) -> io::Result<bool> {
    let file = files::open_to_read(path)?;
    let found = file.metadata()?;
    if found.uid() != user::own() || file.try_lock().is_err() {
        return Ok(false);
    }
    let age = clock::now().as_second() - found.mtime();
    Ok(found.len() > 0 || age > i64::try_from(YOUNG.as_secs()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use super::*;

    #[test]
    fn what_is_in_use_stays_and_what_a_killed_write_left_goes() {
        let dir = tempfile::tempdir().unwrap();
        let spec: SpecId = "SPEC-1".parse().unwrap();
        let folders = ["", "inbox", "SPEC-1", "SPEC-1/dead-letter"].map(|folder| dir.path().join(folder));
        fs::create_dir_all(&folders[1]).unwrap();
        fs::create_dir_all(&folders[3]).unwrap();
        let mut in_use = Vec::new();
        for folder in &folders {
            // When a process is killed, its locks are released but its files stay.
            fs::write(folder.join(".tmpAb12zZ"), "half").unwrap();
            File::create(folder.join(".tmpOld000")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
            for other in [".tmp-other", ".tmpAb12z", "tmpAb12zZ", ".tmpAb12zZ.json"] {
                fs::write(folder.join(other), "whose").unwrap();
            }
            std::os::unix::fs::symlink("/dev/null", folder.join(".tmpLink00")).unwrap();
            File::create(folder.join(".tmpNew000")).unwrap();
            let mut writing = files::temporary(folder).unwrap();
            writing.write_all(b"half").unwrap();
            in_use.push(writing);
        }
        sweep(dir.path(), &[spec]);
        for (folder, writing) in folders.iter().zip(in_use) {
            assert!(!folder.join(".tmpAb12zZ").exists() && !folder.join(".tmpOld000").exists());
            let files = fs::read_dir(folder).unwrap().flatten();
            let files = files.filter(|entry| !entry.file_type().unwrap().is_dir());
            assert_eq!(files.count(), 7, "of others, in use, or perhaps in use: {}", folder.display());
            writing.persist(folder.join("whole")).unwrap();
        }
    }
}
