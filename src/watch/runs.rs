//! The logs of workflow runs: read as they grow, told line by line, and then remembered. They do
//! not settle first: a line that ends is whole.

mod reading;

use std::collections::HashMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::file::{relative, stamp};
use super::memory::{Memory, SeenRun};
use super::{AGAIN, Fate};
use crate::config::Config;
use crate::event::Event;
use crate::files::open::{self, Links};
use crate::sources::workflow_run::Mark;
use reading::{Reading, Stopped};

/// How long after a change a log is read: the engine writes its lines one by one.
const SOON: Duration = Duration::from_millis(20);

/// Logs that are kept open to be read on; others are read from their start when they change.
const MAX_OPEN: usize = 32;

/// See the module's first lines.
#[derive(Default)]
pub(super) struct Runs {
    open: HashMap<PathBuf, Reading>,
    due: HashMap<PathBuf, Instant>,
}

impl Runs {
    /// A log changed, or is there.
    pub(super) fn changed(&mut self, path: &Path, now: Instant) {
        let soon = now + SOON;
        let due = self.due.entry(path.to_owned()).or_insert(soon);
        *due = soon.min(*due);
    }

    /// Whether a log is being read.
    pub(super) fn is_open(&self, path: &Path) -> bool {
        self.open.contains_key(path)
    }

    /// The logs that are to be read now, those that wait longest first.
    pub(super) fn due(&self, now: Instant) -> Vec<PathBuf> {
        let mut due: Vec<_> = self.due.iter().filter(|(_, at)| **at <= now).collect();
        due.sort_unstable_by_key(|(_, at)| **at);
        due.into_iter().map(|(path, _)| path.clone()).collect()
    }

    /// How long until one is.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        self.due.values().map(|at| at.saturating_duration_since(now)).min()
    }

    /// Takes a log as known that is not opened: what comes later is told.
    pub(super) fn take_as_known(path: &Path, config: &Config, memory: &mut Memory) {
        if let Some(version) = stamp(path) {
            let told = Mark { at: version.0, crc: None };
            memory.remember_run(
                &relative(path, config),
                SeenRun { told, version: Some(version), ..SeenRun::default() },
            );
        }
    }

    /// Reads what a log has more, and tells it.
    pub(super) fn read(
        &mut self,
        path: &Path,
        config: &Config,
        memory: &mut Memory,
        emit: &mut dyn FnMut(Event) -> Fate,
    ) {
        self.due.remove(path);
        let name = relative(path, config);
        let opened =
            stamp(path).and_then(|version| Some((version, open::to_read(path, Links::Refused).ok()?)));
        let Some((version, file)) = opened else {
            // Gone, or something else is in its place.
            self.open.remove(path);
            return;
        };
        let Ok(identity) = file.metadata().map(|found| (found.dev(), found.ino())) else { return };
        let known = self.open.remove(path).filter(|it| it.goes_on_in(identity, version.0));
        let mut reading =
            known.unwrap_or_else(|| Reading::new(path, identity, memory.run(&name), version.0, config));
        let wait = match reading.go_on(path, &file, &name, config, emit) {
            Ok(Some(Stopped::Replaced)) => {
                log::info!("{name} was replaced: it is read from its start");
                reading = Reading::new(
                    path,
                    identity,
                    memory.run(&name).map(from_its_start).as_ref(),
                    version.0,
                    config,
                );
                Some(Duration::ZERO)
            }
            Ok(stopped) => reading.next(stopped, path, config),
            Err(error) => {
                log::debug!("{name} cannot be read now: {error}");
                Some(AGAIN)
            }
        };
        if let Some(complaint) = reading.complaint() {
            log::warn!("{name} {complaint}: it is ignored, and so are others like it");
        }
        if let Some(seen) = reading.seen(version) {
            memory.remember_run(&name, seen);
        }
        if let Some(wait) = wait {
            self.due.insert(path.to_owned(), Instant::now() + wait);
        }
        reading.forget_what_is_large();
        self.open.insert(path.to_owned(), reading);
        if self.open.len() > MAX_OPEN {
            self.open.retain(|path, _| self.due.contains_key(path));
        }
    }
}

/// How many events of a log no runtime has told. Changes nothing.
#[cfg(feature = "cli")]
pub(super) fn untold(path: &Path, config: &Config, memory: &Memory) -> std::io::Result<usize> {
    let Some(version) = stamp(path) else { return Ok(0) };
    let seen = memory.run(&relative(path, config));
    if seen.is_some_and(|seen| seen.is_all_of(version)) {
        return Ok(0);
    }
    let file = open::to_read(path, Links::Refused)?;
    let mut reading = Reading::new(path, (0, 0), seen, version.0, config);
    let mut count = 0;
    loop {
        let (untold, stopped) = reading.count_on(path, &file, config)?;
        if stopped == Stopped::Replaced {
            reading = Reading::new(path, (0, 0), seen.map(from_its_start).as_ref(), version.0, config);
            continue;
        }
        count += untold;
        if stopped != Stopped::Full {
            return Ok(count);
        }
    }
}

/// What is still known of a run whose log is another one.
fn from_its_start(seen: &SeenRun) -> SeenRun {
    SeenRun { spec: seen.spec.clone(), ..SeenRun::default() }
}
