//! The inbox: events accepted while no runtime could be reached, one durable file each, until a runtime takes them in.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{StoreError, files};
use crate::clock;
use crate::event::Event;

/// The format of an inbox file.
const VERSION: u32 = 1;

/// How the name of an inbox file ends.
const SUFFIX: &str = ".event.json";

/// The name of an inbox file: nanoseconds since the epoch, and an id. In order they are the order of the events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct InboxName(String);

/// A name that no inbox file has.
#[derive(Debug, thiserror::Error)]
#[error("not the name of an inbox file")]
pub struct InvalidInboxName;

impl FromStr for InboxName {
    type Err = InvalidInboxName;

    fn from_str(name: &str) -> Result<Self, InvalidInboxName> {
        let stem = name.strip_suffix(SUFFIX).ok_or(InvalidInboxName)?;
        match !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            true => Ok(Self(name.to_owned())),
            false => Err(InvalidInboxName),
        }
    }
}

impl fmt::Display for InboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What an inbox file holds.
#[derive(Serialize, Deserialize)]
struct Content<E> {
    v: u32,
    #[serde(with = "clock::millis")]
    queued_at: Timestamp,
    event: E,
}

/// An inbox file that was read.
#[derive(Debug)]
pub struct Taken {
    /// Which.
    pub name: InboxName,
    /// The event, or why it is none.
    pub event: Result<Event, String>,
}

/// Puts an event into the inbox of a spool: durable when this returns, and taken in by the next runtime.
///
/// # Errors
/// The inbox cannot be written; nothing was kept.
pub fn put(spool_dir: &Path, event: &Event) -> Result<(), StoreError> {
    let dir = spool_dir.join("inbox");
    files::ensure_dir(spool_dir)?;
    // The runtime refuses a spool of another user: what is put there would wait for ever.
    files::check_owner(spool_dir).map_err(StoreError::on("use the spool", spool_dir))?;
    files::create_dir_durably(&dir)?;
    let now = clock::now();
    // Ids keep events of the same nanosecond apart; they have no order anyway.
    let name = format!("{:020}-{}{SUFFIX}", clock::nanoseconds(), Uuid::new_v4().simple());
    let path = dir.join(name);
    let failed = |error| StoreError::on("write", &path)(error);
    let content = serde_json::to_vec(&Content { v: VERSION, queued_at: now, event });
    files::write_atomic(&path, &content.map_err(|error| failed(error.into()))?).map_err(|error| {
        // It may be there and not be synced: the emitter hears that it is not, so it should not be.
        if let Err(error) = files::remove(&path) {
            log::debug!("{} was not there to be removed: {error}", path.display());
        }
        failed(error)
    })
}

/// The owner's view of the inbox.
#[derive(Debug)]
pub(super) struct Inbox {
    dir: PathBuf,
}

impl Inbox {
    pub(super) fn new(spool_dir: &Path) -> Self {
        Self { dir: spool_dir.join("inbox") }
    }

    /// The oldest `count` events. Files of a later version stay where they are.
    pub(super) fn read(&self, count: usize) -> Vec<Taken> {
        let mut names = match self.names() {
            Ok(names) => names,
            Err(error) => {
                log::error!("cannot list the inbox {}: {error}", self.dir.display());
                return Vec::new();
            }
        };
        names.sort();
        names.into_iter().filter_map(|name| self.read_one(name)).take(count).collect()
    }

    fn names(&self) -> io::Result<Vec<InboxName>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
        }
        Ok(names)
    }

    fn read_one(&self, name: InboxName) -> Option<Taken> {
        let path = self.dir.join(&name.0);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                log::error!("cannot read {}: {error}; it stays in the inbox", path.display());
                return None;
            }
        };
        let event = match serde_json::from_slice::<Content<Box<RawValue>>>(&bytes) {
            Ok(content) if content.v > VERSION => {
                log::error!(
                    "{} was written by a later version (format {}): it stays in the inbox for that version",
                    path.display(),
                    content.v
                );
                return None;
            }
            Ok(content) => Event::from_json(content.event.get()).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        Some(Taken { name, event })
    }

    /// Removes a file. One that stays is read again, and known then.
    pub(super) fn remove(&self, name: &InboxName) {
        let path = self.dir.join(&name.0);
        match files::remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::error!(
                    "cannot remove {}: {error}; its event is accepted and not sent twice",
                    path.display()
                );
            }
            _ => {}
        }
    }

    /// Renames a file that holds no event, so that it is looked at by a person and not again by us.
    pub(super) fn reject(&self, name: &InboxName, why: &str) {
        let path = self.dir.join(&name.0);
        let aside = self.dir.join(format!("{name}.rejected"));
        match files::rename(&path, &aside) {
            Ok(()) => log::error!("{} is not taken in: {why}", aside.display()),
            Err(error) => {
                log::error!("{} is not taken in: {why}; and cannot be renamed: {error}", path.display())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;

    fn event(key: &str) -> Event {
        Event::new(EventKind::Test, "SPEC-1".parse().unwrap(), key.parse().unwrap())
    }

    #[test]
    fn events_come_out_in_the_order_they_went_in() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::new(dir.path());
        assert!(inbox.read(10).is_empty());
        for n in 0..20 {
            put(dir.path(), &event(&format!("k{n}"))).unwrap();
        }
        let key = |taken: &Taken| taken.event.as_ref().unwrap().event.idempotency_key.to_string();
        let read = inbox.read(15);
        assert_eq!(
            read.iter().map(key).collect::<Vec<_>>(),
            (0..15).map(|n| format!("k{n}")).collect::<Vec<_>>()
        );
        read.iter().for_each(|taken| inbox.remove(&taken.name));
        assert_eq!(inbox.read(15).len(), 5);
    }

    #[test]
    fn what_is_no_event_is_set_aside_and_a_later_version_waits() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = Inbox::new(dir.path());
        put(dir.path(), &event("k")).unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join("inbox").join(name), text).unwrap();
        write("0-1-1.event.json", "{broken");
        write("0-1-2.event.json", r#"{"v":2,"queued_at":"2026-01-01T00:00:00Z","event":{}}"#);
        write("notes.txt", "not ours");
        let read = inbox.read(10);
        assert_eq!(read.len(), 2);
        let why = read[0].event.as_ref().unwrap_err();
        inbox.reject(&read[0].name, why);
        assert_eq!(inbox.read(10).len(), 1);
        assert!(dir.path().join("inbox/0-1-1.event.json.rejected").exists());
        assert!(dir.path().join("inbox/0-1-2.event.json").exists());
    }
}
