//! What is done with one file: it is read, its events are told, and then it is remembered. In this
//! order nothing is forgotten, and what is told again is known by its key.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::file::{age, is_whole, relative, stage_in, stamp, telemetry_in};
use super::late::{Correction, Late};
use super::memory::{Memory, Seen};
use super::runs::Runs;
use super::settle::Stamp;
use super::standing::Standing;
use super::tree::Kind;
use super::{AGAIN, Fate};
use crate::config::Config;
use crate::decode;
use crate::event::{Envelope, Event, IdempotencyKey, KeyOrigin};
use crate::files::open::{self, Links};
use crate::sources::costs;
use crate::sources::outstanding::MAX_TASKS_BYTES;
use crate::sources::stage::{self, Awaits};
use crate::sources::tasks::{self, TaskFile, TaskStates};

/// How often a file that waits for something beside it is looked at.
pub(super) const GLANCE: Duration = Duration::from_millis(100);

/// What came of looking at a file.
pub(super) enum Looked {
    Done,
    /// It may still be being written.
    Torn,
    Later(Duration),
    /// It waits for something beside it, which will be told of, and holds nobody up.
    Held,
}

/// See the module's first lines.
pub(super) struct Reader {
    emit: Box<dyn FnMut(Event) -> Fate + Send>,
    memory: Memory,
    /// The version of each file of tasks that was read last.
    tasks_read: HashMap<PathBuf, Stamp>,
    /// Since when a stage waits: for its consensus, or for those that ended before it.
    waits_since: HashMap<PathBuf, Instant>,
    /// Workflow runs, whose logs are read as they grow.
    runs: Runs,
}

impl Reader {
    pub(super) fn new(memory: Memory, emit: Box<dyn FnMut(Event) -> Fate + Send>) -> Self {
        Self { emit, memory, tasks_read: HashMap::new(), waits_since: HashMap::new(), runs: Runs::default() }
    }

    /// Writes what was remembered. `root` is where its paths begin.
    pub(super) fn flush(&mut self, root: &Path) -> io::Result<()> {
        self.memory.flush(root)
    }

    /// Whether a source was looked at before this start.
    pub(super) fn knows_source(&self, source: &str) -> bool {
        self.memory.knows_source(source)
    }

    pub(super) fn remember_source(&mut self, source: &str) {
        self.memory.remember_source(source);
    }

    /// Whether this version of a file was read.
    pub(super) fn has_read(&self, kind: Kind, path: &Path, version: Stamp, config: &Config) -> bool {
        match kind {
            Kind::Telemetry(_) | Kind::Consensus | Kind::Costs => {
                self.memory.file(&relative(path, config)).is_some_and(|seen| seen.version == Some(version))
            }
            Kind::Tasks => self.tasks_read.get(path) == Some(&version),
            Kind::WorkflowRun => {
                self.memory.run(&relative(path, config)).is_some_and(|seen| seen.is_all_of(version))
            }
        }
    }

    /// The log of a workflow run changed, or has more than was told.
    pub(super) fn run_changed(&mut self, path: &Path) {
        self.runs.changed(path, Instant::now());
    }

    /// Reads the logs of workflow runs that are due, as long as `goes_on`; the others stay due.
    pub(super) fn read_runs(&mut self, config: &Config, goes_on: impl Fn() -> bool) {
        for path in self.runs.due(Instant::now()).into_iter().take_while(|_| goes_on()) {
            self.runs.read(&path, config, &mut self.memory, &mut self.emit);
        }
    }

    /// How long until one is.
    pub(super) fn next_run(&self) -> Option<Duration> {
        self.runs.next(Instant::now())
    }

    /// For how long a file has been waiting, from the first time that this is asked.
    pub(super) fn waited(&mut self, path: &Path) -> Duration {
        self.waits_since.entry(path.to_owned()).or_insert_with(Instant::now).elapsed()
    }

    /// Takes a file as known, and tells nothing of it. In haste, a telemetry file is not opened:
    /// by its name it is of one session.
    pub(super) fn take_as_known(&mut self, kind: Kind, path: &Path, config: &Config, in_haste: bool) {
        match kind {
            Kind::Telemetry(_) => match in_haste {
                true => self.memory.remember(&relative(path, config), Seen::default()),
                false => self.take_telemetry_as_it_is(path, config),
            },
            Kind::Consensus => self.take_consensus_as_it_is(path, config),
            Kind::Costs => {
                let seen = Seen { version: stamp(path), baseline: true, ..Seen::default() };
                self.memory.remember(&relative(path, config), seen);
            }
            Kind::Tasks => drop(self.read_tasks(path, config, true, true)),
            Kind::WorkflowRun => Runs::take_as_known(path, config, &mut self.memory),
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
            Kind::Consensus => self.read_consensus(path, version, config, is_final),
            Kind::Costs => self.read_costs(path, version, config, is_final),
            Kind::Tasks => self.read_tasks(path, config, is_final, false),
            // It is not settled first.
            Kind::WorkflowRun => {
                self.run_changed(path);
                Looked::Done
            }
        };
        if matches!(looked, Looked::Done) {
            if matches!(kind, Kind::Tasks) {
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
        let mut read = match stage_in(path, &bytes, config, &self.memory) {
            Ok(read) => read,
            Err(not) => {
                log::debug!("{not}");
                self.memory.remember(&name, Seen { version: Some(seen), ..Seen::default() });
                return Looked::Done;
            }
        };
        let Envelope { idempotency_key: key, status, .. } = read.event.event.clone();
        let standing = Standing::of(self.memory.file(&name), &key, status, path);
        let baseline = standing == Standing::Baseline;
        let reached = read.reached.as_ref().map(|reached| reached.at);
        let seen_now = Seen { key: Some(key.clone()), status, version: Some(seen), baseline, reached };
        if standing.is_known() {
            self.memory.remember(&name, seen_now);
            return Looked::Done;
        }
        if standing == Standing::Rewritten {
            read.event.event.key_origin = KeyOrigin::Rewritten(stage::written(path));
        }
        match read.awaits {
            // What ended while nobody watched has waited already.
            Awaits::Consensus
                if self.waited(path) < config.consensus_wait && age(seen) < config.consensus_wait =>
            {
                return Looked::Later(GLANCE);
            }
            Awaits::Synthesis => return Looked::Held,
            Awaits::Consensus | Awaits::Nothing => {}
        }
        let events = [Some(read.event), read.conflict].into_iter().flatten();
        if let Err(later) = self.tell(&name, events) {
            return later;
        }
        self.memory.remember(&name, seen_now);
        for file in read.reached.into_iter().flat_map(|reached| reached.files) {
            self.belongs(&file, stamp(&file), &key, baseline, config);
        }
        Looked::Done
    }

    /// Hands events over; when to look again where one is not taken now.
    fn tell(&mut self, name: &str, events: impl IntoIterator<Item = Event>) -> Result<(), Looked> {
        for event in events {
            match (self.emit)(event) {
                Fate::Taken => {}
                Fate::Refused(why) => log::warn!("{name} is not sent: {why}"),
                Fate::NotNow(why) => {
                    log::warn!("{name} waits: {why}");
                    return Err(Looked::Later(AGAIN));
                }
            }
        }
        Ok(())
    }

    /// Remembers that a version of a consensus file belongs to the stage with this key.
    fn belongs(
        &mut self,
        file: &Path,
        version: Option<Stamp>,
        stage: &IdempotencyKey,
        baseline: bool,
        config: &Config,
    ) {
        let seen = Seen { key: Some(stage.clone()), version, baseline, ..Seen::default() };
        self.memory.remember(&relative(file, config), seen);
    }

    /// Reads a consensus file by itself: where it changes the verdict of a stage that was told,
    /// the stage is told again. What is for a stage that is not told yet is read with it.
    fn read_consensus(&mut self, path: &Path, version: Stamp, config: &Config, is_final: bool) -> Looked {
        let name = relative(path, config);
        match Late::of(path, version, config, &self.memory) {
            Late::Unreadable if !is_final => return Looked::Torn,
            Late::Unreadable => {
                log::warn!("{name} cannot be read as a consensus (JSON up to 1 MiB): it counts for no stage");
                self.memory.remember(&name, Seen { version: Some(version), ..Seen::default() });
            }
            Late::Free => {
                self.memory.remember(&name, Seen { version: Some(version), ..Seen::default() });
            }
            Late::Belongs(key) => self.belongs(path, Some(version), &key, false, config),
            // The verdict that names the run is exported with it.
            Late::Corrects(correction) if !correction.names_its_run && !is_final => {
                return Looked::Later(GLANCE);
            }
            Late::Corrects(correction) => {
                let Correction { key, event, conflict, .. } = *correction;
                if let Err(later) = self.tell(&name, [event, conflict]) {
                    return later;
                }
                self.belongs(path, Some(version), &key, false, config);
            }
        }
        Looked::Done
    }

    /// Reads what a SPEC cost; tells of it where it is above the threshold. The Router knows
    /// whether that was told of this run.
    fn read_costs(&mut self, path: &Path, version: Stamp, config: &Config, is_final: bool) -> Looked {
        let name = relative(path, config);
        let Ok(read) = costs::read(path) else { return Looked::Later(AGAIN) };
        let Some((spent, spec)) = read.zip(costs::spec_of(path)) else {
            if !is_final {
                return Looked::Torn;
            }
            log::warn!("{name} is no summary of costs (JSON with a number `total_spent`): it is not told of");
            self.memory.remember(&name, Seen { version: Some(version), ..Seen::default() });
            return Looked::Done;
        };
        let threshold = config.runs.cost_threshold_usd.filter(|threshold| spent.total_usd >= *threshold);
        let alert = threshold.map(|threshold| costs::alert(&spec, &spent, threshold, Some(&name)));
        if let Err(later) = self.tell(&name, alert) {
            return later;
        }
        self.memory.remember(&name, Seen { version: Some(version), ..Seen::default() });
        Looked::Done
    }

    /// What a telemetry file says at the very first start, and the consensus that it has then. One
    /// that cannot be read then is known by its name.
    fn take_telemetry_as_it_is(&mut self, path: &Path, config: &Config) {
        let (name, version) = (relative(path, config), stamp(path));
        let read = telemetry_in(path).map(|bytes| stage_in(path, &bytes, config, &self.memory));
        let (seen, reached) = match read {
            Err(_) => (Seen::default(), None),
            Ok(Err(_)) => (Seen { version, ..Seen::default() }, None),
            Ok(Ok(read)) => {
                let Envelope { idempotency_key, status, .. } = read.event.event;
                let at = read.reached.as_ref().map(|reached| reached.at);
                (
                    Seen { key: Some(idempotency_key), status, version, baseline: true, reached: at },
                    read.reached,
                )
            }
        };
        if let Some(key) = &seen.key {
            for file in reached.into_iter().flat_map(|reached| reached.files) {
                self.belongs(&file, stamp(&file), key, true, config);
            }
        }
        self.memory.remember(&name, seen);
    }

    /// A consensus file at the first look at such files belongs to the stage that was told, or is
    /// nobody's.
    fn take_consensus_as_it_is(&mut self, path: &Path, config: &Config) {
        let Some(version) = stamp(path) else { return };
        let name = relative(path, config);
        if self.memory.file(&name).is_some_and(|seen| seen.version == Some(version)) {
            return;
        }
        let key = match Late::of(path, version, config, &self.memory) {
            Late::Belongs(key) => Some(key),
            Late::Corrects(correction) => Some(correction.key),
            Late::Unreadable | Late::Free => None,
        };
        self.memory.remember(&name, Seen { key, version: Some(version), baseline: true, ..Seen::default() });
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
