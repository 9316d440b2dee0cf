//! The subscriptions that a person has paused: a file for each in `.paused/` of the spool. That it
//! is there is what counts, so that no damage to its content lets a delivery go.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::delivery::{Pause, SubscriptionId};
use crate::files::{self, FileError, git_ignore};

const VERSION: u32 = 1;

/// The paused subscriptions.
pub(crate) type Pauses = BTreeMap<SubscriptionId, Pause>;

#[derive(Serialize, Deserialize)]
struct Content {
    v: u32,
    #[serde(flatten)]
    pause: Pause,
}

fn folder(spool_dir: &Path) -> PathBuf {
    spool_dir.join(".paused")
}

fn file(spool_dir: &Path, id: &SubscriptionId) -> PathBuf {
    folder(spool_dir).join(format!("{id}.json"))
}

/// The paused subscriptions.
///
/// # Errors
/// The folder is there and cannot be listed: nobody knows who is paused.
pub(crate) fn read_pauses(spool_dir: &Path) -> Result<Pauses, FileError> {
    let dir = folder(spool_dir);
    let listed = fs::symlink_metadata(&dir).and_then(|found| match found.is_symlink() {
        true => Err(io::Error::other("a symbolic link is in its place")),
        false => fs::read_dir(&dir),
    });
    let entries = match listed {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Pauses::new()),
        Err(error) => return Err(FileError::on("list", &dir)(error)),
    };
    let mut pauses = Pauses::new();
    for entry in entries {
        let name = entry.map_err(FileError::on("list", &dir))?.file_name();
        let id = name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|id| id.parse().ok());
        if let Some(id) = id {
            let pause = read(&dir.join(name));
            pauses.insert(id, pause);
        }
    }
    Ok(pauses)
}

/// What a file says; where it cannot be read, the pause holds all the same.
fn read(path: &Path) -> Pause {
    let read = files::read_small(path)
        .and_then(|json| serde_json::from_slice::<Content>(&json).map_err(io::Error::other));
    read.map(|content| content.pause).unwrap_or_else(|error| {
        log::warn!("{}: who paused it, and when, cannot be read: {error}", path.display());
        let modified = fs::symlink_metadata(path).and_then(|found| found.modified()).ok();
        let since = modified.and_then(|at| Timestamp::try_from(at).ok());
        Pause { since: since.map_or_else(clock::now, clock::in_milliseconds), by: "unknown".to_owned() }
    })
}

/// Whether a subscription is paused on disk.
pub(crate) fn is_paused(spool_dir: &Path, id: &SubscriptionId) -> bool {
    fs::symlink_metadata(file(spool_dir, id)).is_ok()
}

/// Writes a pause, synced.
///
/// # Errors
/// It could not be written.
pub(crate) fn write_pause(spool_dir: &Path, id: &SubscriptionId, pause: &Pause) -> Result<(), FileError> {
    git_ignore::ensure_dir(spool_dir)?;
    git_ignore::ensure(spool_dir);
    files::create_dir_durably(&folder(spool_dir))?;
    let path = file(spool_dir, id);
    let json = serde_json::to_vec(&Content { v: VERSION, pause: pause.clone() });
    let written = json.map_err(io::Error::other).and_then(|json| files::write_atomic(&path, &json));
    written.map_err(FileError::on("write", &path))
}

/// Removes a pause, synced; there may be none.
///
/// # Errors
/// It could not be removed.
pub(crate) fn remove_pause(spool_dir: &Path, id: &SubscriptionId) -> Result<(), FileError> {
    let path = file(spool_dir, id);
    match files::remove(&path) {
        Ok(()) => files::sync_dir(&folder(spool_dir)).map_err(FileError::on("sync", &path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(FileError::on("remove", &path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fault;

    fn id(text: &str) -> SubscriptionId {
        text.parse().unwrap()
    }

    #[test]
    fn a_pause_holds_whatever_its_file_says() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read_pauses(dir.path()).unwrap().is_empty());
        let pause = Pause::now("ada");
        for name in ["a", "..", "b.json"] {
            write_pause(dir.path(), &id(name), &pause).unwrap();
        }
        fs::write(dir.path().join(".paused/torn.json"), "{\"v\":1,").unwrap();
        fs::create_dir(dir.path().join(".paused/folder.json")).unwrap();
        fs::write(dir.path().join(".paused/.tmpabcdef"), "{}").unwrap();
        let pauses = read_pauses(dir.path()).unwrap();
        let names: Vec<&str> = pauses.keys().map(SubscriptionId::as_str).collect();
        assert_eq!(names, ["..", "a", "b.json", "folder", "torn"]);
        assert_eq!((&pauses[&id("a")], pauses[&id("torn")].by.as_str()), (&pause, "unknown"));
        remove_pause(dir.path(), &id("a")).unwrap();
        remove_pause(dir.path(), &id("a")).unwrap();
        assert!(!is_paused(dir.path(), &id("a")) && is_paused(dir.path(), &id("b.json")));
        assert!(remove_pause(dir.path(), &id("folder")).is_err(), "it stays paused, and says so");
    }

    /// A folder that cannot be listed must not read as "nobody is paused".
    #[test]
    fn what_cannot_be_listed_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let paused = dir.path().join(".paused");
        fs::write(&paused, "").unwrap();
        assert!(read_pauses(dir.path()).is_err());
        fs::remove_file(&paused).unwrap();
        std::os::unix::fs::symlink(dir.path(), &paused).unwrap();
        assert!(read_pauses(dir.path()).is_err());
    }

    #[test]
    fn stopped_between_any_two_file_operations_a_confirmed_pause_holds_and_a_confirmed_end_counts() {
        for on in [true, false] {
            for operations in 0.. {
                let dir = tempfile::tempdir().unwrap();
                let (one, other) = (id("one"), id("other"));
                write_pause(dir.path(), &other, &Pause::now("ada")).unwrap();
                if !on {
                    write_pause(dir.path(), &one, &Pause::now("ada")).unwrap();
                }
                let mut confirmed = false;
                let ended = fault::crash_after(operations, || {
                    confirmed = match on {
                        true => write_pause(dir.path(), &one, &Pause::now("bob")).is_ok(),
                        false => remove_pause(dir.path(), &one).is_ok(),
                    };
                });
                let pauses = read_pauses(dir.path()).unwrap();
                assert!(pauses.contains_key(&other), "the other stays, {operations}");
                assert!(!confirmed || pauses.contains_key(&one) == on, "{on} after {operations}");
                if ended {
                    assert!(confirmed && operations > 1);
                    break;
                }
            }
        }
    }
}
