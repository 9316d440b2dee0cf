//! The inbox: events accepted while no runtime could be reached, kept in durable files until a
//! runtime takes them in. A single event has a file of its own (`.event.json`); events that came
//! together share one file of lines (`.events.jsonl`).

mod aside;
mod reader;

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use aside::{Aside, Cause};
pub(crate) use reader::{Content, Inbox, Settled, Taken};

use crate::clock;
use crate::event::Event;
use crate::files::user::check_owner;
use crate::files::{self, FileError, git_ignore};

/// The format version of an inbox file.
const VERSION: u32 = 1;

/// Ending of the name of a file that holds one event.
const ONE: &str = ".event.json";

/// Ending of the name of a file that holds several events.
const SEVERAL: &str = ".events.jsonl";

/// Largest inbox file that is read and written.
const MAX_FILE_BYTES: usize = 8 * 1024 * 1024;

/// The name of an inbox file: nanoseconds since the epoch, an id and, for several events, their
/// number. Sorting the names gives the order of the events.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct InboxName(Box<str>);

/// The name does not have the form of an inbox file's name.
#[derive(Debug, thiserror::Error)]
#[error("not the name of an inbox file")]
pub(crate) struct InvalidInboxName;

impl FromStr for InboxName {
    type Err = InvalidInboxName;

    fn from_str(name: &str) -> Result<Self, InvalidInboxName> {
        let stem = name.strip_suffix(ONE).or_else(|| name.strip_suffix(SEVERAL)).ok_or(InvalidInboxName)?;
        match !stem.is_empty() && stem.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-') {
            true => Ok(Self(name.into())),
            false => Err(InvalidInboxName),
        }
    }
}

impl fmt::Display for InboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl InboxName {
    /// A name for `events` events that are put into the inbox now. The id keeps names of the same
    /// nanosecond apart; their order does not matter.
    fn new(events: usize) -> Self {
        let stem = format!("{:020}-{}", clock::nanoseconds(), clock::uuid().simple());
        Self(if events == 1 { format!("{stem}{ONE}") } else { format!("{stem}-{events}{SEVERAL}") }.into())
    }

    /// The number of events in the file, taken from its name.
    pub(crate) fn events(&self) -> usize {
        let stem = self.0.strip_suffix(SEVERAL).unwrap_or_default();
        stem.rsplit_once('-').and_then(|(_, count)| count.parse().ok()).unwrap_or(1)
    }

    /// Whether the file holds several events.
    pub(crate) fn is_several(&self) -> bool {
        self.0.ends_with(SEVERAL)
    }

    /// The same name with another number of events: the file keeps its place in the order.
    fn with_events(&self, events: usize) -> Self {
        let stem = self.0.strip_suffix(SEVERAL).unwrap_or_default();
        let stem = stem.rsplit_once('-').map_or(stem, |(stem, _)| stem);
        Self(format!("{stem}-{events}{SEVERAL}").into())
    }
}

/// The content of a file that holds one event.
#[derive(Serialize, Deserialize)]
struct One<E> {
    v: u32,
    #[serde(with = "clock::millis")]
    queued_at: Timestamp,
    event: E,
}

/// The first line of a file that holds several events.
#[derive(Serialize, Deserialize)]
struct Header {
    v: u32,
    #[serde(with = "clock::millis")]
    queued_at: Timestamp,
}

/// Puts events into the inbox of a spool, all in one file, whole or not at all. They are durable
/// when this returns; the next runtime takes them in.
///
/// # Errors
/// An event could not be read back (it is above the limits), or the inbox cannot be written.
/// Nothing was kept.
pub(crate) fn put(spool_dir: &Path, events: &[Event]) -> Result<(), FileError> {
    let dir = spool_dir.join("inbox");
    let not_kept = |error: &dyn fmt::Display| {
        FileError::on("keep an event in", &dir)(std::io::Error::other(error.to_string()))
    };
    let mut texts = Vec::with_capacity(events.len());
    for event in events {
        let text = serde_json::to_string(event).map_err(|error| not_kept(&error))?;
        // Check the exact bytes that will be read later, so that whatever is put here can be taken
        // in.
        Event::from_kept(&text).map_err(|error| not_kept(&error))?;
        texts.push(text);
    }
    let content = match texts.as_slice() {
        [] => return Ok(()),
        [text] => {
            let event = serde_json::value::RawValue::from_string(text.clone());
            let event = event.map_err(|error| not_kept(&error))?;
            serde_json::to_vec(&One { v: VERSION, queued_at: clock::now(), event })
                .map_err(|error| not_kept(&error))?
        }
        _ => lines(&texts).map_err(|error| not_kept(&error))?,
    };
    if content.len() > MAX_FILE_BYTES {
        return Err(not_kept(&format!("{} bytes are more than {MAX_FILE_BYTES} at a time", content.len())));
    }
    git_ignore::ensure_dir(spool_dir)?;
    // A runtime refuses a spool of another user, so events put there would wait for ever.
    check_owner(spool_dir).map_err(FileError::on("use the spool", spool_dir))?;
    git_ignore::ensure(spool_dir);
    files::create_dir_durably(&dir)?;
    let path = dir.join(&*InboxName::new(events.len()).0);
    files::write_atomic(&path, &content).map_err(|error| {
        // The file may exist without being synced. The emitter is told that it failed, so remove
        // it.
        if let Err(error) = files::remove(&path) {
            log::debug!("{} was not there to be removed: {error}", path.display());
        }
        FileError::on("write", &path)(error)
    })
}

/// The content of a file that holds several events: a header line, then a line per event.
fn lines(texts: &[String]) -> serde_json::Result<Vec<u8>> {
    let mut content = serde_json::to_vec(&Header { v: VERSION, queued_at: clock::now() })?;
    for text in texts {
        content.push(b'\n');
        content.extend_from_slice(text.as_bytes());
    }
    content.push(b'\n');
    Ok(content)
}

#[cfg(test)]
mod tests;
