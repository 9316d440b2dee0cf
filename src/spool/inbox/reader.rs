//! How a runtime reads the inbox: which files exist, what they hold, and how each is settled.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde_json::value::RawValue;

use super::{Header, InboxName, MAX_FILE_BYTES, One, VERSION, lines};
use crate::files;

/// The inbox of a spool. Any process may read it; only the owner's Ledger changes it.
#[derive(Clone, Debug)]
pub(crate) struct Inbox {
    dir: PathBuf,
}

/// An inbox file that was read.
#[derive(Debug)]
pub(crate) struct Taken {
    /// The file's name.
    pub name: InboxName,
    /// Its content.
    pub content: Content,
}

/// The content of an inbox file.
#[derive(Debug)]
pub(crate) enum Content {
    /// The events, as JSON.
    Events(Vec<String>),
    /// It holds no event and never will, for this reason.
    None(String),
    /// It cannot be read now, for this reason; it may be readable later.
    Unreadable(String),
    /// The file no longer exists.
    Gone,
}

/// How a file is settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// Every event in it is accepted or already known.
    Done,
    /// These events are invalid or can never be accepted, for this reason; the others are settled.
    /// No events: the whole file is invalid.
    Rejected(Vec<String>, String),
    /// These events are still to be taken in; the others are settled.
    Left(Vec<String>),
}

impl Inbox {
    /// The inbox of this spool.
    pub(crate) fn new(spool_dir: &Path) -> Self {
        Self { dir: spool_dir.join("inbox") }
    }

    /// When a file was last added or removed. `None` if that was less than a clock tick ago,
    /// because a later change could have the same time.
    pub(crate) fn changed(&self) -> Option<SystemTime> {
        let changed = fs::metadata(&self.dir).and_then(|found| found.modified()).ok()?;
        files::has_rested(changed).then_some(changed)
    }

    /// The names of all files, oldest first.
    ///
    /// # Errors
    /// The folder cannot be listed.
    pub(crate) fn names(&self) -> io::Result<Vec<InboxName>> {
        if fs::symlink_metadata(&self.dir).is_ok_and(|found| found.is_symlink()) {
            return Err(io::Error::other("a symbolic link is in its place; move it away"));
        }
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut names: Vec<InboxName> = Vec::new();
        for entry in entries {
            names.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
        }
        names.sort_unstable();
        Ok(names)
    }

    /// Reads files in this order until `most` bytes of events are read; always at least one file.
    pub(crate) fn read(&self, names: &[InboxName], most: usize) -> Vec<Taken> {
        let (mut read, mut bytes) = (Vec::new(), 0);
        for name in names {
            let content = self.read_one(name);
            if let Content::Events(events) = &content {
                bytes += events.iter().map(String::len).sum::<usize>();
            }
            read.push(Taken { name: name.clone(), content });
            if bytes >= most {
                break;
            }
        }
        read
    }

    fn read_one(&self, name: &InboxName) -> Content {
        let bytes = match read_file(&self.dir.join(&*name.0)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Content::Gone,
            Err(error) => return Content::Unreadable(error.to_string()),
        };
        if bytes.len() > MAX_FILE_BYTES {
            return Content::None(format!("it has more than {MAX_FILE_BYTES} bytes"));
        }
        let Ok(text) = String::from_utf8(bytes) else {
            return Content::None("it is not UTF-8 text".to_owned());
        };
        let (version, events) = match name.is_several() {
            true => match several(&text) {
                Ok(read) => read,
                Err(error) => return Content::None(format!("its first line: {error}")),
            },
            false => match serde_json::from_str::<One<Box<RawValue>>>(&text) {
                Ok(one) => (one.v, vec![one.event.get().to_owned()]),
                Err(error) => return Content::None(error.to_string()),
            },
        };
        match version {
            VERSION => Content::Events(events),
            later => Content::Unreadable(format!(
                "written by a later version of spec-notify (format {later}): that version takes it in"
            )),
        }
    }

    /// Settles a file. Returns the name that its remaining events are kept under, if any remain. A
    /// file that cannot be changed stays whole: its events are recognised when it is read again.
    pub(crate) fn settle(&self, name: &InboxName, settled: Settled) -> Option<InboxName> {
        match settled {
            Settled::Done => (!self.remove(name)).then(|| name.clone()),
            Settled::Rejected(events, why) if name.is_several() && !events.is_empty() => {
                let rest = self.leave(name, &events);
                (!self.reject(&rest, &why)).then_some(rest)
            }
            Settled::Rejected(_, why) => (!self.reject(name, &why)).then(|| name.clone()),
            Settled::Left(events) => Some(self.leave(name, &events)),
        }
    }

    /// Removes a file. Returns whether it is gone.
    pub(in crate::spool) fn remove(&self, name: &InboxName) -> bool {
        let path = self.dir.join(&*name.0);
        match files::remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                log::error!("cannot remove {}: {error}; what is in it is not sent twice", path.display());
                false
            }
            _ => true,
        }
    }

    /// Replaces a file by one that holds only these events, and returns its name. A crash in
    /// between leaves both files; the idempotency keys reveal the duplicates.
    fn leave(&self, name: &InboxName, events: &[String]) -> InboxName {
        let rest = name.with_events(events.len());
        if rest == *name {
            return rest;
        }
        let path = self.dir.join(&*rest.0);
        let written =
            lines(events).map_err(io::Error::from).and_then(|content| files::write_atomic(&path, &content));
        match written {
            Ok(()) => {
                self.remove(name);
                rest
            }
            Err(error) => {
                log::warn!("cannot write {}: {error}; {name} stays whole", path.display());
                name.clone()
            }
        }
    }

    /// Renames a file that holds no valid event to `*.rejected`, so that it is not read again and a
    /// person can look at it. Returns whether that succeeded.
    fn reject(&self, name: &InboxName, why: &str) -> bool {
        let path = self.dir.join(&*name.0);
        let aside = self.dir.join(format!("{name}.rejected"));
        match files::rename(&path, &aside) {
            Ok(()) => log::error!("{} is not taken in: {why}", aside.display()),
            Err(error) => {
                log::error!("{} is not taken in: {why}; and cannot be renamed: {error}", path.display());
                return false;
            }
        }
        true
    }
}

/// Reads a regular file. Refuses folders, links, pipes and devices, which another user may have put
/// there.
fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a file: move it away"));
    }
    let mut bytes = Vec::new();
    files::open_to_read(path)?.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The format version and the events of a file that holds several.
fn several(text: &str) -> serde_json::Result<(u32, Vec<String>)> {
    let mut lines = text.lines();
    let header: Header = serde_json::from_str(lines.next().unwrap_or_default())?;
    Ok((header.v, lines.filter(|line| !line.is_empty()).map(str::to_owned).collect()))
}
