//! What is done with one file: it is read, its events are told, and then it is remembered. In this
//! order nothing is forgotten, and what is told again is known by its key.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::file::{age, is_whole, relative, stage_in, stamp, telemetry_in};
use super::memory::{Memory, Seen};
use super::settle::Stamp;
use super::standing::Standing;
use super::tree::Kind;
use super::{AGAIN, Fate};
use crate::config::Config;
use crate::decode;
use crate::event::{Envelope, Event, KeyOrigin};
use crate::files::open::{self, Links};
use crate::sources::outstanding::MAX_TASKS_BYTES;
use crate::sources::stage;
use crate::sources::tasks::{self, TaskFile, TaskStates};

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
    /// The version of each file of tasks that was read last.
    tasks_read: HashMap<PathBuf, Stamp>,
    /// Since when a stage waits: for its consensus, or for those that ended before it.
    waits_since: HashMap<PathBuf, Instant>,
}

impl Reader {
    pub(super) fn new(memory: Memory, emit: Box<dyn FnMut(Event) -> Fate + Send>) -> Self {
        Self { emit, memory, tasks_read: HashMap::new(), waits_since: HashMap::new() }
    }

    /// Writes what was remembered. `root` is where its paths begin.
    pub(super) fn flush(&mut self, root: &Path) -> io::Result<()> {
        self.memory.flush(root)
    }

    /// Whether this version of a file was read.
    pub(super) fn has_read(&self, kind: Kind, path: &Path, version: Stamp, config: &Config) -> bool {
        match kind {
            Kind::Telemetry(_) => self
                .memory
                .telemetry(&relative(path, config))
                .is_some_and(|seen| seen.version == Some(version)),
            Kind::Tasks => self.tasks_read.get(path) == Some(&version),
        }
    }

    /// For how long a file has been waiting, from the first time that this is asked.
    pub(super) fn waited(&mut self, path: &Path) -> Duration {
        self.waits_since.entry(path.to_owned()).or_insert_with(Instant::now).elapsed()
    }

    /// Takes a file as known, and tells nothing of it. In haste, a telemetry file is not opened: by
    /// its name it is of one session.
    pub(super) fn take_as_known(&mut self, kind: Kind, path: &Path, config: &Config, in_haste: bool) {
        match kind {
            Kind::Telemetry(_) => {
                let seen = if in_haste { Seen::default() } else { as_it_is(path, config) };
                self.memory.remember_telemetry(&relative(path, config), seen);
            }
            Kind::Tasks => drop(self.read_tasks(path, config, true, true)),
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
            Kind::Tasks => self.read_tasks(path, config, is_final, false),
        };
        if matches!(looked, Looked::Done) {
            if !kind.is_telemetry() {
                self.tasks_read.insert(path.to_owned(), version);
            }
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

    /// Reads a file of tasks; tells of those that became Done, unless this is the baseline.
    fn read_tasks(&mut self, path: &Path, config: &Config, is_final: bool, baseline: bool) -> Looked {
        let name = relative(path, config);
        let Ok(bytes) = open::start(path, Links::Refused, MAX_TASKS_BYTES + 1) else {
            return Looked::Later(AGAIN);
        };
        if bytes.len() as u64 > MAX_TASKS_BYTES {
            log::warn!("{name} is larger than {MAX_TASKS_BYTES} bytes: its tasks are not watched");
            return Looked::Done;
        }
        // Cut off within a line, `Done` may still become `Done (in part)`.
        let text = decode::text(&bytes);
        if !is_final && !text.ends_with('\n') {
            return Looked::Torn;
        }
        let file = TaskFile::of(path, config);
        let rows = file.rows(&text);
        let mut states: TaskStates = self.memory.tasks(&name).cloned().unwrap_or_default();
        for (row, times) in states.apply(&rows) {
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

/// What a telemetry file says at the very first start. One that cannot be read then is known by its
/// name.
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
