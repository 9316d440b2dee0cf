//! The log of one workflow run, read as it grows, with what lies beside it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use crate::clock;
use crate::config::Config;
use crate::event::{Event, EventKind};
use crate::files::open::{self, Links};
use crate::run::{add_follow_ups, is_news};
use crate::sources::outstanding;
use crate::sources::workflow_run::{self, Facts, Log, MAX_LINE, Next, PATIENCE, World};
use crate::watch::file::relative;
use crate::watch::memory::SeenRun;
use crate::watch::settle::Stamp;
use crate::watch::{AGAIN, Fate};

/// How often `state.json` is looked at where it is behind the log.
const GLANCE: Duration = Duration::from_millis(50);

/// How long one log is read before others are, and how much at a time.
const SLICE: Duration = Duration::from_millis(100);

const PIECE: usize = 2 * MAX_LINE;

/// Largest `workflow.yml` and `state.json` that are read, and largest `state.json` that is kept.
const MAX_WORKFLOW: u64 = 1024 * 1024;

const MAX_STATE: u64 = 16 * 1024 * 1024;

const MAX_KEPT: usize = 256 * 1024;

/// Most workflows that a run calls, directly or not, that are looked at.
const MAX_CALLED: usize = 32;

/// Bytes that are compared before a log is read on: its last line, with its time.
const MAX_BEFORE: usize = 256;

/// Events that are read ahead of what is taken.
const MAX_AHEAD: usize = 64;

/// A log that is being read.
pub(super) struct Reading {
    /// That which holds its `.specify`.
    folder: PathBuf,
    log: Log,
    facts: Facts,
    /// Device and inode.
    identity: (u64, u64),
    untold: VecDeque<Event>,
    wants_since: Option<Instant>,
    /// How long a missing fact is waited for: less once one did not come.
    patience: Duration,
    /// What stands before its position, by which a log that was written again is seen.
    before: Vec<u8>,
    /// The length of the `state.json` that is kept.
    state_bytes: usize,
    /// What beside it could not be read the last time.
    unreadable: Vec<String>,
    /// That was said.
    has_said: bool,
    /// The sign of life after which the run was told to be stalled.
    stalled: Option<Timestamp>,
}

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopped {
    /// At the end, or within its last line.
    AtTheEnd,
    /// There is more than was read at once.
    Full,
    /// A fact is still missing.
    Wanting,
    /// It is not what was read before.
    Replaced,
}

impl Reading {
    /// Begins to read a log of this length.
    pub(super) fn new(
        path: &Path,
        identity: (u64, u64),
        seen: Option<&SeenRun>,
        length: u64,
        config: &Config,
    ) -> Self {
        let told = seen.map(|seen| seen.told).filter(|told| told.at <= length);
        let spec = seen.and_then(|seen| seen.spec.clone());
        let log = Log::new(workflow_run::Name::of(path, &config.repo), spec, told);
        let folder = workflow_run::folder_of(path).unwrap_or(&config.repo).to_owned();
        let mut reading = Self {
            folder,
            log,
            facts: Facts::default(),
            identity,
            untold: VecDeque::new(),
            wants_since: None,
            patience: PATIENCE,
            before: Vec::new(),
            state_bytes: 0,
            unreadable: Vec::new(),
            has_said: false,
            stalled: None,
        };
        reading.read_facts(path);
        reading
    }

    /// Whether this file, so long by now, is the one that is being read.
    pub(super) fn goes_on_in(&self, identity: (u64, u64), length: u64) -> bool {
        self.identity == identity && self.log.position() <= length
    }

    /// What is wrong with the log, said once.
    pub(super) fn complaint(&mut self) -> Option<String> {
        self.log.complaint()
    }

    /// What is to be remembered of the log as of this version; `None` while something of it is
    /// untold.
    pub(super) fn seen(&self, version: Stamp) -> Option<SeenRun> {
        if !self.untold.is_empty() || self.log.is_catching_up() {
            return None;
        }
        let (spec, goes_on) = (self.log.spec().cloned(), self.log.silent_since().is_some());
        Some(SeenRun { told: self.log.told(), version: Some(version), spec, goes_on })
    }

    /// Reads a piece of the log without telling it, and counts what it tells.
    #[cfg(feature = "cli")]
    pub(super) fn count_on(
        &mut self,
        path: &Path,
        file: &File,
        config: &Config,
    ) -> io::Result<(usize, Stopped)> {
        let stopped = self.read_on(path, file, config, true)?;
        Ok((self.untold.drain(..).count(), stopped))
    }

    /// Reads and tells until there is nothing more or something has to be waited for; `None` where
    /// an event is not taken now.
    pub(super) fn go_on(
        &mut self,
        path: &Path,
        file: &File,
        name: &str,
        config: &Config,
        emit: &mut dyn FnMut(Event) -> Fate,
    ) -> io::Result<Option<Stopped>> {
        let until = Instant::now() + SLICE;
        loop {
            while let Some(event) = self.untold.front() {
                match emit(event.clone()) {
                    Fate::Taken => {}
                    Fate::Refused(why) => log::warn!("an event of {name} is not sent: {why}"),
                    Fate::NotNow(why) => {
                        log::warn!("{name} waits: {why}");
                        return Ok(None);
                    }
                }
                self.untold.pop_front();
            }
            let stopped = self.read_on(path, file, config, false)?;
            if self.untold.is_empty() && (stopped != Stopped::Full || Instant::now() > until) {
                return Ok(Some(stopped));
            }
        }
    }

    /// When to look again.
    pub(super) fn next(
        &mut self,
        stopped: Option<Stopped>,
        path: &Path,
        config: &Config,
    ) -> Option<Duration> {
        match stopped {
            None => Some(AGAIN),
            Some(Stopped::Full | Stopped::Replaced) => Some(Duration::ZERO),
            Some(Stopped::Wanting) => Some(GLANCE),
            Some(Stopped::AtTheEnd) => {
                let now = clock::exactly();
                let stalls = self.silence(path, config).and_then(|(sign, after)| {
                    let left = after - now.duration_since(sign);
                    let may_be_told = self.stalled.is_none_or(|told| told < sign);
                    let wait = if may_be_told { left } else { after };
                    is_news(sign, after, now).then(|| Duration::try_from(wait).unwrap_or_default())
                });
                self.log.due_in(config.gate_notice, now).into_iter().chain(stalls).min()
            }
        }
    }

    /// Reads a piece of the log; what it tells is added to what is untold. What is not known is
    /// not waited for where that is `final`.
    fn read_on(&mut self, path: &Path, file: &File, config: &Config, is_final: bool) -> io::Result<Stopped> {
        // As of before the read: what is written later may answer a gate.
        let now = clock::exactly();
        let mut piece = vec![0; MAX_BEFORE + PIECE];
        let start = self.before.len();
        let read = file.read_at(&mut piece[..start + PIECE], self.log.position() - start as u64)?;
        let piece = &piece[..read];
        let Some(mut bytes) = piece.strip_prefix(&*self.before) else { return Ok(Stopped::Replaced) };
        let is_more = bytes.len() == PIECE;
        let mut is_fresh = false;
        loop {
            if self.untold.len() >= MAX_AHEAD {
                return Ok(Stopped::Full);
            }
            let is_given_up = self.wants_since.is_some_and(|since| since.elapsed() >= self.patience);
            if is_given_up {
                self.say_what_is_missing(path, config);
                self.patience = PATIENCE / 5;
            }
            let is_final = is_final || is_given_up || self.log.is_catching_up();
            let before = self.log.position();
            match self.with_world(config, is_final, is_fresh, |log, world| log.next(bytes, world)) {
                Next::Taken(told) => {
                    self.untold
                        .extend(told.into_iter().map(|event| with_open_tasks(event, &self.folder, config)));
                    let over = usize::try_from(self.log.position() - before).unwrap_or(usize::MAX);
                    bytes = bytes.get(over..).unwrap_or_default();
                    let end = piece.len() - bytes.len();
                    self.before = piece[end.saturating_sub(MAX_BEFORE)..end].to_vec();
                    self.wants_since = None;
                    is_fresh = false;
                }
                Next::Replaced => return Ok(Stopped::Replaced),
                Next::Wants if is_fresh => {
                    self.wants_since.get_or_insert_with(Instant::now);
                    return Ok(Stopped::Wanting);
                }
                Next::Wants => {
                    self.read_facts(path);
                    is_fresh = true;
                }
                Next::Torn if is_more => return Ok(Stopped::Full),
                Next::Torn => break,
            }
        }
        let is_due = self.log.due_in(config.gate_notice, now).is_some_and(|wait| wait.is_zero());
        if is_due {
            self.read_facts(path);
            let notice = config.gate_notice;
            let told = self.with_world(config, true, true, |log, world| log.due(notice, world));
            self.untold.extend(told);
        }
        if let Some(stalled) = self.stall(path, config).filter(|_| !is_final) {
            self.untold.push_back(stalled);
        }
        Ok(Stopped::AtTheEnd)
    }

    /// The last sign of life of a run that goes on, and how long it may be silent: a line of its
    /// log, a change of its state, a task that was ticked.
    fn silence(&self, path: &Path, config: &Config) -> Option<(Timestamp, SignedDuration)> {
        let after = config.runs.stall_after?;
        let line = self.log.silent_since()?;
        let written = |path: &Path| {
            let found = std::fs::symlink_metadata(path).ok().filter(|found| found.is_file())?;
            Timestamp::try_from(found.modified().ok()?).ok()
        };
        let list = self.log.spec().map(|spec| self.folder.join("specs").join(spec.as_str()).join("tasks.md"));
        let files = [Some(path.to_owned()), Some(path.with_file_name("state.json")), list];
        let signs = files.iter().flatten().filter_map(|path| written(path)).chain(line);
        // Of a clock that is ahead no more is known than that somebody was there.
        Some((signs.max()?.min(clock::exactly()), after))
    }

    /// The event of a run that is silent for so long, once for each sign of life.
    fn stall(&mut self, path: &Path, config: &Config) -> Option<Event> {
        let (sign, after) = self.silence(path, config)?;
        let now = clock::exactly();
        let is_told = self.stalled.is_some_and(|told| told >= sign);
        if is_told || now.duration_since(sign) < after || !is_news(sign, after, now) {
            return None;
        }
        self.stalled = Some(sign);
        Some(self.with_world(config, true, true, |log, world| log.stalled(sign, world)))
    }

    fn with_world<T>(
        &mut self,
        config: &Config,
        is_final: bool,
        is_fresh: bool,
        act: impl FnOnce(&mut Log, &World<'_>) -> T,
    ) -> T {
        let folder = &self.folder;
        let spec_now = || workflow_run::spec::now(folder, &config.repo);
        let now = clock::exactly();
        let world = World { facts: &self.facts, spec_now: &spec_now, is_final, is_fresh, now };
        act(&mut self.log, &world)
    }

    /// Reads what lies beside the log.
    fn read_facts(&mut self, log: &Path) {
        let beside = |name: &str, most| open::whole(&log.with_file_name(name), Links::Refused, most);
        self.unreadable.clear();
        if !self.facts.has_workflow() {
            match beside("workflow.yml", MAX_WORKFLOW) {
                Ok(bytes) if self.facts.read_workflow(&bytes) => self.read_called(log),
                Ok(_) => self.unreadable.push("workflow.yml is no workflow".to_owned()),
                Err(error) => self.unreadable.push(format!("workflow.yml: {error}")),
            }
        }
        match beside("state.json", MAX_STATE) {
            Ok(bytes) => {
                self.state_bytes = bytes.len();
                if !self.facts.read_state(&bytes) {
                    self.unreadable.push("state.json is no JSON object".to_owned());
                }
            }
            Err(error) => self.unreadable.push(format!("state.json: {error}")),
        }
    }

    /// Reads the workflows that are called, of which one may make the run's SPEC.
    fn read_called(&mut self, log: &Path) {
        let Some(installed) = log.ancestors().nth(3) else { return };
        let mut called = self.facts.calls();
        let mut next = 0;
        while let Some(id) = called.get(next).filter(|_| next < MAX_CALLED) {
            let workflow = installed.join(id).join("workflow.yml");
            next += 1;
            // The engine says what is wrong with one that is not there.
            let Ok(bytes) = open::whole(&workflow, Links::Refused, MAX_WORKFLOW) else { continue };
            let further = self.facts.read_called(&bytes);
            let is_new = |id: &String| !called.contains(id);
            let further: Vec<String> = further.into_iter().filter(is_new).collect();
            called.extend(further);
        }
    }

    /// Says once what of a run could not be told, and why.
    fn say_what_is_missing(&mut self, path: &Path, config: &Config) {
        if !self.unreadable.is_empty() && !std::mem::replace(&mut self.has_said, true) {
            log::warn!(
                "{}: what it leaves out (a step's command, what a gate asks, an error) is not sent, because \
                 beside it {}",
                relative(path, config),
                self.unreadable.join(", and ")
            );
        }
    }

    /// A large `state.json` is read again when it is needed.
    pub(super) fn forget_what_is_large(&mut self) {
        if self.state_bytes > MAX_KEPT {
            self.facts.forget_state();
            self.state_bytes = 0;
        }
    }
}

/// The end of a run also says what is not Done of its SPEC.
fn with_open_tasks(mut event: Event, folder: &Path, config: &Config) -> Event {
    if event.event.kind == EventKind::PipelineCompleted {
        let open = outstanding::tasks(config, &[folder.to_owned()], &event.spec.id);
        add_follow_ups(&mut event, open);
    }
    event
}
