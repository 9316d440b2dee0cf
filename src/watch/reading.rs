//! What is done with one file: it is read, its events are told, and then it is remembered. In this
//! order nothing is forgotten, and what is told again is known by its key.

mod beside;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::SignedDuration;

use super::file::{age, is_whole, relative, stage_in, stamp, tasks_in, telemetry_in};
use super::lists::Lists;
use super::memory::{Memory, Seen};
use super::runs::Runs;
use super::settle::Stamp;
use super::standing::Standing;
use super::tree::{Kind, Tree};
use super::{AGAIN, Fate};
use crate::clock;
use crate::config::Config;
use crate::decode;
use crate::event::{Envelope, Event, KeyOrigin};
use crate::files::open::{self, Links};
use crate::run::AwaitedStage;
use crate::sources::costs;
use crate::sources::done::TaskStates;
use crate::sources::outstanding::MAX_TASKS_BYTES;
use crate::sources::stage::{self, Awaits};
use crate::sources::standpoint::Glance;
use crate::sources::tasks::{self, TaskFile};

/// A run whose log is older is read again only when it changes.
const MAY_STALL: Duration = Duration::from_secs(24 * 60 * 60);

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

/// What would have been told of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Untold {
    pub(super) stages: usize,
    pub(super) tasks: usize,
    /// Stages that were told, with a verdict that a consensus changes.
    pub(super) corrections: usize,
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
    /// The version of each summary of costs that was read last, and the threshold then.
    costs_read: HashMap<PathBuf, (Stamp, Option<f64>)>,
    /// Since when a stage waits: for its consensus, or for those that ended before it.
    waits_since: HashMap<PathBuf, Instant>,
    /// Stages that wait for their agents, and whether that was said.
    awaited: BTreeMap<PathBuf, AwaitedStage>,
    awaited_is_said: bool,
    /// Workflow runs, whose logs are read as they grow.
    runs: Runs,
}

impl Reader {
    pub(super) fn new(memory: Memory, emit: Box<dyn FnMut(Event) -> Fate + Send>) -> Self {
        let (tasks_read, waits_since) = (HashMap::new(), HashMap::new());
        let (lists, unread) = (Lists::new(), HashMap::new());
        let (costs_read, runs) = (HashMap::new(), Runs::default());
        let awaited = BTreeMap::new();
        Self {
            emit,
            memory,
            lists,
            tasks_read,
            unread,
            stood: None,
            costs_read,
            waits_since,
            awaited,
            awaited_is_said: true,
            runs,
        }
    }

    /// Writes what was remembered. `root` is where its paths begin.
    pub(super) fn flush(&mut self, root: &Path) -> io::Result<()> {
        self.memory.flush(root)
    }

    /// The sources that were not looked at before this start.
    pub(super) fn new_sources(&self, tree: &Tree) -> Vec<String> {
        let mut sources = tree.sources();
        sources.retain(|source| !self.memory.knows_source(source));
        sources
    }

    /// Notes that sources are looked at from now on.
    pub(super) fn remember_sources(&mut self, sources: &[String]) {
        sources.iter().for_each(|source| self.memory.remember_source(source));
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
            Kind::Telemetry(_) | Kind::Consensus => {
                self.memory.file(&relative(path, config)).is_some_and(|seen| seen.version == Some(version))
            }
            // With another threshold it may say something else.
            Kind::Costs => self.costs_read.get(path) == Some(&(version, config.runs.cost_threshold_usd)),
            // One that goes on may stall, which is in no line.
            Kind::WorkflowRun => self.memory.run(&relative(path, config)).is_some_and(|seen| {
                let may_stall = seen.goes_on && age(version) < MAY_STALL && !self.runs.is_open(path);
                seen.is_all_of(version) && !may_stall
            }),
            Kind::Tasks => {
                self.tasks_read.get(path).is_some_and(|read| *read == (version, glance_at_repo_of(path)))
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

    /// Takes a file as known, and tells nothing of it: what would have been told of it otherwise.
    /// In haste, a telemetry file is not opened: by its name it is of one session.
    pub(super) fn take_as_known(
        &mut self,
        kind: Kind,
        path: &Path,
        config: &Config,
        in_haste: bool,
    ) -> io::Result<Untold> {
        let name = relative(path, config);
        match kind {
            Kind::Telemetry(_) if in_haste => {
                self.memory.remember(&name, Seen::default());
                Ok(Untold { stages: 1, ..Untold::default() })
            }
            Kind::Telemetry(_) => self.take_telemetry_as_it_is(path, config),
            Kind::Consensus => Ok(self.take_consensus_as_it_is(path, config)),
            Kind::Costs => {
                self.memory.remember_cost(&name, costs::read(path)?.content);
                Ok(Untold::default())
            }
            // Its log is not read for that: there may be very many.
            Kind::WorkflowRun => {
                Runs::take_as_known(path, config, &mut self.memory);
                Ok(Untold::default())
            }
            Kind::Tasks => {
                let Some((states, tasks)) = tasks_in(path, config, &self.memory, &mut self.lists)? else {
                    return Ok(Untold::default());
                };
                self.memory.remember_tasks(&name, states);
                Ok(Untold { tasks, ..Untold::default() })
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
            Kind::Consensus => self.read_consensus(path, version, config, is_final),
            Kind::Costs => self.read_costs(path, version, config, is_final),
            // It is not settled first.
            Kind::WorkflowRun => {
                self.run_changed(path);
                Looked::Done
            }
            Kind::Tasks => {
                let glance = glance_at_repo_of(path);
                let looked = self.read_tasks(path, glance.as_ref(), config, is_final);
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
        self.awaited_is_said &= self.awaited.remove(path).is_none();
    }

    /// Files that wait for their agents may have been removed, which nobody is told of.
    pub(super) fn forget_what_is_gone(&mut self) {
        let before = self.awaited.len();
        self.awaited.retain(|path, _| path.exists());
        self.awaited_is_said &= self.awaited.len() == before;
    }

    /// The stages that wait for their agents, where they are others than the last time.
    pub(super) fn awaited_anew(&mut self) -> Option<Vec<AwaitedStage>> {
        let is_said = std::mem::replace(&mut self.awaited_is_said, true);
        (!is_said).then(|| self.awaited.values().cloned().collect())
    }

    /// A stage waits for its agents.
    fn awaits(&mut self, path: &Path, event: &Event, seen: Stamp) {
        let Some(stage) = event.event.stage else { return };
        let since = event.pipeline.as_ref().and_then(|pipeline| pipeline.completed_at.as_ref()?.parse().ok());
        let since =
            since.unwrap_or_else(|| clock::now() - SignedDuration::try_from(age(seen)).unwrap_or_default());
        let awaited = AwaitedStage { spec: event.spec.id.clone(), stage, since };
        if self.awaited.get(path) != Some(&awaited) {
            self.awaited.insert(path.to_owned(), awaited);
            self.awaited_is_said = false;
        }
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
            Awaits::Synthesis => {
                self.awaits(path, &read.event, seen);
                return Looked::Held;
            }
            Awaits::Consensus | Awaits::Nothing => {}
        }
        let events = [Some(read.event), read.conflict].into_iter().flatten();
        if let Err(later) = self.tell(&name, events) {
            return later;
        }
        self.memory.remember(&name, seen_now);
        if let Some(reached) = &read.reached {
            self.belongs(reached, &key, baseline);
        }
        Looked::Done
    }

    /// Hands events over; when to look again where one is not taken now.
    fn tell(&mut self, name: &str, events: impl IntoIterator<Item = Event>) -> Result<(), Looked> {
        for event in events {
            let key = event.event.idempotency_key.clone();
            match (self.emit)(event) {
                Fate::Taken => {}
                Fate::Refused(why) => log::warn!("{key} of {name} is not sent: {why}"),
                Fate::NotNow(why) => {
                    log::warn!("{name} waits: {why}");
                    return Err(Looked::Later(AGAIN));
                }
            }
        }
        Ok(())
    }

    /// What a telemetry file says, and the consensus that it has, as known. One that cannot be
    /// read is known by its name.
    fn take_telemetry_as_it_is(&mut self, path: &Path, config: &Config) -> io::Result<Untold> {
        let (name, version) = (relative(path, config), stamp(path));
        let before = self.memory.file(&name).cloned();
        if before.as_ref().is_some_and(|seen| version.is_some() && seen.version == version) {
            return Ok(Untold::default());
        }
        let bytes = telemetry_in(path).inspect_err(|_| {
            if before.is_none() {
                self.memory.remember(&name, Seen::default());
            }
        })?;
        let Ok(read) = stage_in(path, &bytes, config, &self.memory) else {
            self.memory.remember(&name, Seen { version, ..Seen::default() });
            return Ok(Untold::default());
        };
        let Envelope { idempotency_key: key, status, .. } = read.event.event;
        let standing = Standing::of(before.as_ref(), &key, status, path);
        // Of what was told, only a version is taken as known, and a later one is a retry.
        let baseline = !matches!(standing, Standing::Told | Standing::Rewritten);
        let reached = read.reached.as_ref().map(|reached| reached.at);
        if let Some(reached) = &read.reached {
            self.belongs(reached, &key, baseline);
        }
        self.memory.remember(&name, Seen { key: Some(key), status, version, baseline, reached });
        Ok(Untold { stages: usize::from(!standing.is_known()), ..Untold::default() })
    }

    /// Says once why a list is not read.
    fn is_unread(&mut self, path: &Path, why: String) {
        if self.unread.get(path) != Some(&why) {
            log::warn!("{why}");
            self.unread.insert(path.to_owned(), why);
        }
    }

    /// Reads a file of tasks; tells of those that became Done.
    fn read_tasks(
        &mut self,
        path: &Path,
        glance: Option<&Glance>,
        config: &Config,
        is_final: bool,
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
        let mut states: TaskStates = self.memory.tasks(&name).cloned().unwrap_or_default();
        let rows = states.whole(file.rows(&text), &text);
        let Some(view) = self.lists.view(path, &file, &text, &rows, &states, glance) else {
            return Looked::Later(GLANCE);
        };
        let became_done = states.apply(&rows, &view, (self.lists.now)());
        let completes = states.completes(&rows, &became_done);
        if completes.is_some() && !is_final && states.has_open_beside(&rows) {
            return Looked::Torn;
        }
        if !became_done.is_empty() {
            let written = stage::written(path);
            let events = became_done.iter().map(|(row, times)| tasks::event(row, *times, &file, written));
            let list = completes.zip(became_done.last());
            let list =
                list.map(|(times, (row, _))| tasks::list_event(row, times, rows.len(), &file, written));
            // Where one is not taken now, all of it again: what was taken is known.
            if let Err(later) = self.tell(&name, events.chain(list)) {
                return later;
            }
        }
        self.memory.remember_tasks(&name, states);
        Looked::Done
    }
}

fn glance_at_repo_of(path: &Path) -> Option<Glance> {
    Glance::at(path.parent()?)
}
