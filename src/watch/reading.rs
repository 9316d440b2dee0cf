//! What is done with one file: it is read, its events are told, and then it is remembered. In this
//! order nothing is forgotten, and what is told again is known by its key.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::file::{age, is_whole, relative, stage_in, stamp, telemetry_in};
use super::lists::Lists;
use super::memory::{Memory, Seen};
use super::settle::Stamp;
use super::standing::Standing;
use super::tree::Kind;
use super::{AGAIN, Fate};
use crate::config::Config;
use crate::decode;
use crate::event::{Envelope, Event, KeyOrigin};
use crate::files::open::{self, Links};
use crate::sources::done::TaskStates;
use crate::sources::outstanding::MAX_TASKS_BYTES;
use crate::sources::repo::Glance;
use crate::sources::stage;
use crate::sources::tasks::{self, TaskFile};

/// How often a file that waits for something beside it is looked at.
pub(super) const GLANCE: Duration = Duration::from_millis(100);

/// What came of looking at a file.
pub(super) enum Looked {
    Done,
    /// It may still be being written.
    Torn,
    Later(Duration),
}

/// See the module's first lines.
pub(super) struct Reader {
    emit: Box<dyn FnMut(Event) -> Fate + Send>,
    memory: Memory,
    pub(super) lists: Lists,
    /// The version of each file of tasks that was read last, and where its repo stood.
    tasks_read: HashMap<PathBuf, (Stamp, Option<Glance>)>,
    /// Why a list of tasks is not read, as it was said.
    unread: HashMap<PathBuf, String>,
    /// Where the repo itself stood last.
    stood: Option<Glance>,
    /// Since when a stage waits: for its consensus, or for those that ended before it.
    waits_since: HashMap<PathBuf, Instant>,
}

impl Reader {
    pub(super) fn new(memory: Memory, emit: Box<dyn FnMut(Event) -> Fate + Send>) -> Self {
        let (tasks_read, waits_since) = (HashMap::new(), HashMap::new());
        let (lists, unread) = (Lists::new(), HashMap::new());
        Self { emit, memory, lists, tasks_read, unread, stood: None, waits_since }
    }

    /// Writes what was remembered. `root` is where its paths begin.
    pub(super) fn flush(&mut self, root: &Path) -> io::Result<()> {
        self.memory.flush(root)
    }

    /// Whether git moved HEAD or the stash, or came to an end, since this was asked last.
    pub(super) fn has_moved(&mut self, config: &Config) -> bool {
        let stands = Glance::at(&config.repo);
        let has_moved = stands != self.stood;
        self.stood = stands;
        has_moved
    }

    /// Whether this version of a file was read. A list of tasks is read again where HEAD has
    /// moved: a commit can change what its rows mean without a change in it.
    pub(super) fn has_read(&self, kind: Kind, path: &Path, version: Stamp, config: &Config) -> bool {
        match kind {
            Kind::Telemetry(_) => self
                .memory
                .telemetry(&relative(path, config))
                .is_some_and(|seen| seen.version == Some(version)),
            Kind::Tasks => {
                self.tasks_read.get(path).is_some_and(|read| *read == (version, glance_at_repo_of(path)))
            }
        }
    }

    /// For how long a file has been waiting, from the first time that this is asked.
    pub(super) fn waited(&mut self, path: &Path) -> Duration {
        self.waits_since.entry(path.to_owned()).or_insert_with(Instant::now).elapsed()
    }

    /// Takes a file as known, and tells nothing of it. In haste, a telemetry file is not opened:
    /// by its name it is of one session.
    pub(super) fn take_as_known(&mut self, kind: Kind, path: &Path, config: &Config, in_haste: bool) {
        match kind {
            Kind::Telemetry(_) => {
                let seen = if in_haste { Seen::default() } else { as_it_is(path, config) };
                self.memory.remember_telemetry(&relative(path, config), seen);
            }
            Kind::Tasks => {
                let glance = glance_at_repo_of(path);
                self.read_tasks(path, glance.as_ref(), config, true, true);
            }
        }
    }

    /// Reads this version of a file and tells what it says.
    pub(super) fn read(
        &mut self,
        kind: Kind,
        path: &Path,
        version: Stamp,
        config: &Config,
        is_final: bool,
    ) -> Looked {
        let looked = match kind {
            Kind::Telemetry(_) => self.read_telemetry(path, version, config, is_final),
            Kind::Tasks => {
                let glance = glance_at_repo_of(path);
                let looked = self.read_tasks(path, glance.as_ref(), config, is_final, false);
                if matches!(looked, Looked::Done) {
                    self.tasks_read.insert(path.to_owned(), (version, glance));
                }
                looked
            }
        };
        if matches!(looked, Looked::Done) {
            self.is_done_with(path);
        }
        looked
    }

    /// Nothing waits for a file any more.
    pub(super) fn is_done_with(&mut self, path: &Path) {
        self.waits_since.remove(path);
    }

    fn read_telemetry(&mut self, path: &Path, seen: Stamp, config: &Config, is_final: bool) -> Looked {
        let name = relative(path, config);
        let Ok(bytes) = telemetry_in(path) else { return Looked::Later(AGAIN) };
        if !is_final && !is_whole(&bytes) {
            return Looked::Later(GLANCE);
        }
        let mut read = match stage_in(path, &bytes, config) {
            Ok(read) => read,
            Err(not) => {
                log::debug!("{not}");
                self.memory.remember_telemetry(&name, Seen { version: Some(seen), ..Seen::default() });
                return Looked::Done;
            }
        };
        let Envelope { idempotency_key: key, status, .. } = read.event.event.clone();
        let standing = Standing::of(self.memory.telemetry(&name), &key, status, path);
        let baseline = standing == Standing::Baseline;
        let seen_now = Seen { key: Some(key), status, version: Some(seen), baseline };
        if standing.is_known() {
            self.memory.remember_telemetry(&name, seen_now);
            return Looked::Done;
        }
        if standing == Standing::Rewritten {
            read.event.event.key_origin = KeyOrigin::Rewritten(stage::written(path));
        }
        if read.awaits_consensus {
            // What ended while nobody watched has waited already.
            if self.waited(path) < config.consensus_wait && age(seen) < config.consensus_wait {
                return Looked::Later(GLANCE);
            }
        }
        for event in [Some(read.event), read.conflict].into_iter().flatten() {
            match (self.emit)(event) {
                Fate::Taken => {}
                Fate::Refused(why) => log::warn!("{name} is not sent: {why}"),
                Fate::NotNow(why) => {
                    log::warn!("{name} waits: {why}");
                    return Looked::Later(AGAIN);
                }
            }
        }
        self.memory.remember_telemetry(&name, seen_now);
        Looked::Done
    }

    /// Says once why a list is not read.
    fn is_unread(&mut self, path: &Path, why: String) {
        if self.unread.get(path) != Some(&why) {
            log::warn!("{why}");
            self.unread.insert(path.to_owned(), why);
        }
    }

    /// Reads a file of tasks; tells of those that became Done, unless this is the baseline.
    fn read_tasks(
        &mut self,
        path: &Path,
        glance: Option<&Glance>,
        config: &Config,
        is_final: bool,
        baseline: bool,
    ) -> Looked {
        let name = relative(path, config);
        let bytes = match open::start(path, Links::Refused, MAX_TASKS_BYTES + 1) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    self.is_unread(path, format!("{name} cannot be read, and is tried again: {error}"));
                }
                return Looked::Later(AGAIN);
            }
        };
        if bytes.len() as u64 > MAX_TASKS_BYTES {
            let what = format!("{name} is larger than {MAX_TASKS_BYTES} bytes: its tasks are not watched");
            self.is_unread(path, what);
            return Looked::Done;
        }
        self.unread.remove(path);
        // Cut off within a line, `Done` may still become `Done (in part)`.
        let text = decode::text(&bytes);
        if !is_final && !text.ends_with('\n') {
            return Looked::Torn;
        }
        let file = TaskFile::of(path, config);
        let rows = file.rows(&text);
        let mut states: TaskStates = self.memory.tasks(&name).cloned().unwrap_or_default();
        let Some(view) = self.lists.view(path, &file, &text, &rows, &states, glance) else {
            return Looked::Later(GLANCE);
        };
        for (row, times) in states.apply(&rows, &view, (self.lists.now)()) {
            if baseline {
                continue;
            }
            let written = stage::written(path);
            match (self.emit)(tasks::event(row, times, &file, written)) {
                Fate::Taken => {}
                Fate::Refused(why) => log::warn!("task {} of {name} is not sent: {why}", row.id),
                // All of it again: what was taken is known.
                Fate::NotNow(why) => {
                    log::warn!("{name} waits: {why}");
                    return Looked::Later(AGAIN);
                }
            }
        }
        self.memory.remember_tasks(&name, states);
        Looked::Done
    }
}

fn glance_at_repo_of(path: &Path) -> Option<Glance> {
    Glance::at(path.parent()?)
}

/// What a telemetry file says at the very first start. One that cannot be read then is known by
/// its name.
fn as_it_is(path: &Path, config: &Config) -> Seen {
    let version = stamp(path);
    let Ok(bytes) = telemetry_in(path) else { return Seen::default() };
    match stage_in(path, &bytes, config).map(|read| read.event.event) {
        Ok(Envelope { idempotency_key, status, .. }) => {
            Seen { key: Some(idempotency_key), status, version, baseline: true }
        }
        Err(_) => Seen { version, ..Seen::default() },
    }
}
