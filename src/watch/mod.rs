//! Watches the repo, so that no script has to change: a telemetry file that appears is a stage
//! that ended, a task whose status becomes Done is a task completed. The operating system says
//! what changed; a slow look at everything finds what it did not say.

mod memory;
mod notifier;
#[cfg(feature = "cli")]
mod opinion;
mod settle;
#[cfg(test)]
mod tests;
mod tree;
mod turns;
mod unread;
#[cfg(feature = "cli")]
mod waiting;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::config::Config;
use crate::decode;
use crate::event::{Envelope, Event, KeyOrigin};
use crate::files::open::{self, Links};
use crate::intake::consensus::time_of_session;
use crate::intake::outstanding::MAX_TASKS_BYTES;
use crate::intake::stage::{self, StageRead};
use crate::intake::tasks::{self, TaskFile, TaskStates};
use crate::intake::telemetry::{MAX_TELEMETRY_BYTES, NotTelemetry, RepoPaths};
use memory::{Memory, Seen, Standing};
use notifier::{Notifier, Told};
#[cfg(feature = "cli")]
pub(crate) use opinion::Opinion;
use settle::{Due, Settler, Stamp};
use tree::{Kind, Tree};
use turns::{Turn, Turns};
#[cfg(feature = "cli")]
pub(crate) use waiting::Waiting;

/// How often everything is looked at, whatever the operating system said.
const LOOK: Duration = Duration::from_secs(60);

/// The same where the operating system says nothing.
const LOOK_UNTOLD: Duration = Duration::from_secs(5);

/// How often it is checked whether the folders that are watched, and the file of what was seen,
/// are still those.
const CHECK: Duration = Duration::from_secs(1);

/// How often in a row new folders are asked for: where they come and go without end, the next
/// check goes on.
const MOST_ROUNDS: usize = 16;

/// How long until something is tried again that could not be done.
const AGAIN: Duration = Duration::from_secs(1);

/// How often a file that waits for something beside it is looked at.
const GLANCE: Duration = Duration::from_millis(100);

/// How long files are read before it is heard what else changed.
const SLICE: Duration = Duration::from_millis(200);

/// After a look at everything the watcher does other things for so many times as long, and at least
/// for so long.
const REST: u32 = 2;
const LEAST_REST: Duration = Duration::from_millis(100);
const MOST_REST: Duration = Duration::from_secs(1);

/// How long a file waits for those that ended before it, beyond what these may wait for their
/// consensus.
const MOST_HELD_UP: Duration = Duration::from_secs(5);

/// Changes that wait to be looked at; beyond it everything is looked at.
const MAX_WAITING: usize = 4096;

/// What became of an event that was handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is on disk, or was known.
    Taken,
    /// It never will be.
    Refused(String),
    /// Not now.
    NotNow(String),
}

/// What wakes the watcher.
enum Message {
    Told(Told),
    Stop,
}

/// A watcher at work. Dropping it stops it; [`stop`](Self::stop) waits for it too.
#[derive(Debug)]
pub(crate) struct Watch {
    messages: SyncSender<Message>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to watch. At the very first start what is there is the baseline and is not sent,
    /// unless `from_start`. `tell` hears what is wrong with watching, and when that is over.
    ///
    /// # Errors
    /// Its memory is of a later version, or no thread could be had.
    pub(crate) fn start(
        config: impl Fn() -> Arc<Config> + Send + 'static,
        from_start: bool,
        emit: impl FnMut(Event) -> Fate + Send + 'static,
        tell: impl Fn(Option<String>) + Send + 'static,
    ) -> io::Result<Self> {
        let spool_dir = config().spool_dir.clone();
        let opened = open_memory(&spool_dir, &tell)?;
        let (messages, waiting) = mpsc::sync_channel(MAX_WAITING);
        let stopping = Arc::new(AtomicBool::new(false));
        let missed = Arc::new(AtomicBool::new(false));
        let (wake, overflow) = (messages.clone(), missed.clone());
        let notifier = Notifier::new(move |told| {
            if told == Told::Missed || wake.try_send(Message::Told(told)).is_err() {
                overflow.store(true, Ordering::Relaxed);
            }
        });
        let stop = stopping.clone();
        let work = move || {
            let opened = opened.or_else(|| open_memory_later(&spool_dir, &waiting, &tell));
            let Some((memory, is_first)) = opened else { return };
            let watcher = Watcher {
                config: Box::new(config),
                emit: Box::new(emit),
                tell: Box::new(tell),
                memory,
                is_unwritten: false,
                notifier,
                missed,
                look_is_due: true,
                stopping: stop,
                settler: Settler::default(),
                tasks_read: HashMap::new(),
                waits_since: HashMap::new(),
                said: HashSet::new(),
                has_looked: false,
            };
            watcher.run(&waiting, is_first && !from_start);
        };
        let thread = thread::Builder::new().name("spec-notify-watch".to_owned()).spawn(work)?;
        Ok(Self { messages, stopping, thread: Some(thread) })
    }

    /// Ends it, after the file it is at.
    pub(crate) fn stop(mut self) {
        self.tell_to_stop();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the watcher panicked: what it did not see is seen at the next start");
        }
    }

    fn tell_to_stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        // Full means that it is awake anyway.
        drop(self.messages.try_send(Message::Stop));
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tell_to_stop();
    }
}

/// Reads what was seen; `None` where it cannot be read now.
fn open_memory(spool_dir: &Path, tell: &impl Fn(Option<String>)) -> io::Result<Option<(Memory, bool)>> {
    match Memory::open(spool_dir) {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Err(error),
        Err(error) => {
            let what = format!("the repo is not watched yet: {error}; it is tried again every second");
            log::error!("{what}");
            tell(Some(what));
            Ok(None)
        }
    }
}

/// The same as soon as it can be read; `None` where the watcher is to stop.
fn open_memory_later(
    spool_dir: &Path,
    waiting: &Receiver<Message>,
    tell: &impl Fn(Option<String>),
) -> Option<(Memory, bool)> {
    // No folder is watched yet: whatever is said is that it is to stop.
    while let Err(RecvTimeoutError::Timeout) = waiting.recv_timeout(AGAIN) {
        match Memory::open(spool_dir) {
            Ok(opened) => {
                log::info!("the repo is watched now");
                tell(None);
                return Some(opened);
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                let what = format!("the repo is not watched: {error}");
                log::error!("{what}");
                tell(Some(what));
                return None;
            }
            Err(error) => log::debug!("{error}"),
        }
    }
    None
}

struct Watcher {
    config: Box<dyn Fn() -> Arc<Config> + Send>,
    emit: Box<dyn FnMut(Event) -> Fate + Send>,
    tell: Box<dyn Fn(Option<String>) + Send>,
    memory: Memory,
    /// The memory could not be written the last time.
    is_unwritten: bool,
    notifier: Notifier,
    /// Something was not told of.
    missed: Arc<AtomicBool>,
    /// Everything is to be looked at.
    look_is_due: bool,
    stopping: Arc<AtomicBool>,
    settler: Settler,
    /// The version of each file of tasks that was read last.
    tasks_read: HashMap<PathBuf, Stamp>,
    /// Since when a stage waits for its consensus.
    waits_since: HashMap<PathBuf, Instant>,
    /// What was said of sources that nobody reads.
    said: HashSet<String>,
    /// What is passed over was said for the first time.
    has_looked: bool,
}

/// What came of looking at a file.
enum Looked {
    Done,
    /// It may still be being written.
    Torn,
    Later(Duration),
}

impl Watcher {
    fn run(mut self, waiting: &Receiver<Message>, baseline: bool) {
        if baseline {
            self.take_baseline();
        }
        let mut next_look = Instant::now();
        let (mut next_check, mut rested) = (next_look, next_look);
        while !self.stopping.load(Ordering::Relaxed) {
            let now = Instant::now();
            if now >= next_check {
                self.check();
                next_check = now + CHECK;
            }
            if self.missed.swap(false, Ordering::Relaxed) {
                // What was lost may be that a folder is not the one any more that is watched.
                self.notifier.forget_all();
                self.look_is_due = true;
            }
            if (self.look_is_due && now >= rested) || now >= next_look {
                self.look_is_due = false;
                self.look_at_everything();
                let ended = Instant::now();
                next_look = ended + self.look_every();
                rested = ended + ((ended - now) * REST).clamp(LEAST_REST, MOST_REST);
            }
            self.read_what_is_due();
            let now = Instant::now();
            let look = if self.look_is_due { rested.min(next_look) } else { next_look };
            let wait = look.min(next_check).saturating_duration_since(now);
            match waiting.recv_timeout(wait.min(self.settler.next(now).unwrap_or(wait))) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Message::Told(told)) => self.told(told),
                Err(RecvTimeoutError::Timeout) => {}
            }
            for message in waiting.try_iter().take(MAX_WAITING) {
                if let Message::Told(told) = message {
                    self.told(told);
                }
            }
        }
        self.flush();
    }

    fn look_every(&self) -> Duration {
        if self.notifier.is_told() { LOOK } else { LOOK_UNTOLD }
    }

    /// What costs next to nothing and finds, whatever was told or not, that folders went, came or
    /// were replaced, and that what was seen is not on disk.
    fn check(&mut self) {
        let tree = Tree::of(&(self.config)());
        self.look_is_due |= self.notifier.is_behind(&tree.roots());
        self.flush();
    }

    /// Writes what was seen. What cannot be written now is written at a later check.
    fn flush(&mut self) {
        match (self.memory.flush(&(self.config)().repo), self.is_unwritten) {
            (Ok(()), false) | (Err(_), true) => {}
            (Ok(()), true) => {
                self.is_unwritten = false;
                log::info!("what was seen is on disk again");
                (self.tell)(None);
            }
            (Err(error), false) => {
                self.is_unwritten = true;
                let what = format!(
                    "what the watcher has seen cannot be written to watch.jsonl: {error}; it is tried again every second"
                );
                log::error!("{what}");
                (self.tell)(Some(what));
            }
        }
    }

    /// What exists at the very first start is known, and nothing is sent for it.
    fn take_baseline(&mut self) {
        let config = (self.config)();
        let mut count = 0;
        for (kind, path) in Tree::of(&config).files() {
            match kind {
                Kind::Telemetry => {
                    let seen = match self.stopping.load(Ordering::Relaxed) {
                        // In haste: by its name it is of one session.
                        true => Seen::default(),
                        false => as_it_is(&path, &config),
                    };
                    self.memory.remember_telemetry(&relative(&path, &config), seen);
                    count += 1;
                }
                Kind::Tasks => drop(self.read_tasks(&path, &config, true, true)),
            }
        }
        self.flush();
        log::info!("watching for the first time: {count} telemetry files are there already and are not sent");
    }

    /// Finds what appeared or changed, and has the operating system tell of more.
    fn look_at_everything(&mut self) {
        let config = (self.config)();
        let tree = Tree::of(&config);
        // Until no folder has come between looking and being told.
        for _ in 0..MOST_ROUNDS {
            if !self.notifier.watch(&tree.dirs()) {
                break;
            }
        }
        self.say_what_is_not_read(&tree, &config);
        let now = Instant::now();
        for (kind, path) in tree.files() {
            let is_known = match kind {
                Kind::Telemetry => self
                    .memory
                    .telemetry(&relative(&path, &config))
                    .is_some_and(|seen| seen.version.is_some() && seen.version == stamp(&path)),
                Kind::Tasks => stamp(&path).is_some_and(|stamp| self.tasks_read.get(&path) == Some(&stamp)),
            };
            if !is_known && let Some(stamp) = stamp(&path) {
                self.settler.seen(&path, stamp, now);
            }
        }
    }

    /// Sources that nobody reads, once each, and at the first look what lies beside telemetry.
    fn say_what_is_not_read(&mut self, tree: &Tree, config: &Config) {
        for unread in unread::sources(config) {
            if !self.said.contains(&unread) {
                log::warn!("{unread}");
                self.said.insert(unread);
            }
        }
        if !std::mem::replace(&mut self.has_looked, true) && log::log_enabled!(log::Level::Debug) {
            for path in tree.passed_over() {
                log::debug!("{}: passed over: {}", path.display(), tree.why_not(&path));
            }
        }
    }

    /// What the operating system says.
    fn told(&mut self, told: Told) {
        let path = match told {
            Told::Changed(path) => path,
            Told::Gone(path) => {
                // One that stands there by now was not told of.
                self.look_is_due |= self.notifier.gone(&path);
                path
            }
            Told::Missed => {
                self.missed.store(true, Ordering::Relaxed);
                return;
            }
        };
        let tree = Tree::of(&(self.config)());
        match tree.kind(&path) {
            Some(_) => {
                if let Some(stamp) = stamp(&path) {
                    self.settler.seen(&path, stamp, Instant::now());
                }
            }
            // A new folder: what it holds was not told of.
            None if tree.is_folder(&path) => self.look_is_due = true,
            None if tree.is_beside_telemetry(&path) => {
                log::debug!("{}: passed over: {}", path.display(), tree.why_not(&path));
            }
            None => {}
        }
    }

    /// Stages of a SPEC are read in the order they ended: a run is made of them. One that has to
    /// wait holds those up that come after it. What cannot be read in a [`SLICE`] is read in the
    /// next one.
    fn read_what_is_due(&mut self) {
        let began = Instant::now();
        let folders = self.settler.due(began, ended_at);
        if folders.is_empty() {
            return;
        }
        // Whatever it took to find them, as long again is for reading.
        let until = Instant::now() + began.elapsed().max(SLICE);
        let mut first_unread: HashMap<PathBuf, i128> = HashMap::new();
        for folder in &folders {
            first_unread.extend(folder.first_waiting.map(|first| (folder.path.clone(), first)));
        }
        let config = (self.config)();
        for turn in Turns::of(folders) {
            if self.stopping.load(Ordering::Relaxed) || Instant::now() > until {
                break;
            }
            let Turn { due: Due { path, stamp: seen, ended_at, is_final, .. }, is_of_a_crowd } = turn;
            let first = path.parent().and_then(|folder| first_unread.get(folder));
            if !is_of_a_crowd && first.is_some_and(|first| *first < ended_at) {
                let since = *self.waits_since.entry(path.clone()).or_insert_with(Instant::now);
                if since.elapsed() < config.consensus_wait + MOST_HELD_UP {
                    self.settler.later(&path, Instant::now(), GLANCE);
                    continue;
                }
            }
            let looked = match (stamp(&path), Tree::of(&config).kind(&path)) {
                (Some(now), _) if now != seen => {
                    self.settler.seen(&path, now, Instant::now());
                    continue;
                }
                (Some(_), Some(Kind::Telemetry)) => self.read_telemetry(&path, seen, &config, is_final),
                (Some(now), Some(Kind::Tasks)) => {
                    let looked = self.read_tasks(&path, &config, is_final, false);
                    if matches!(looked, Looked::Done) {
                        self.tasks_read.insert(path.clone(), now);
                    }
                    looked
                }
                // Gone, or no file any more.
                _ => Looked::Done,
            };
            match looked {
                Looked::Done => {
                    self.settler.done(&path);
                    self.waits_since.remove(&path);
                }
                Looked::Torn => self.settler.torn(&path),
                Looked::Later(wait) => {
                    self.settler.later(&path, Instant::now(), wait);
                    if let Some(folder) = path.parent() {
                        let first = first_unread.entry(folder.to_owned()).or_insert(ended_at);
                        *first = ended_at.min(*first);
                    }
                }
            }
        }
        if !self.is_unwritten {
            self.flush();
        }
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
            let since = *self.waits_since.entry(path.to_owned()).or_insert_with(Instant::now);
            // What ended while nobody watched has waited already.
            if since.elapsed() < config.consensus_wait && age(seen) < config.consensus_wait {
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

/// The content of a telemetry file, and one byte more of one that is too large to be judged.
fn telemetry_in(path: &Path) -> io::Result<Vec<u8>> {
    open::start(path, Links::Refused, MAX_TELEMETRY_BYTES as u64 + 1)
}

/// Whether nothing of a telemetry file is still to come, as far as its content says.
fn is_whole(bytes: &[u8]) -> bool {
    bytes.len() > MAX_TELEMETRY_BYTES || decode::is_json(bytes)
}

/// What a telemetry file with this content tells of.
fn stage_in(path: &Path, bytes: &[u8], config: &Config) -> Result<StageRead, NotTelemetry> {
    stage::read(path, bytes, &RepoPaths { root: &config.repo, evidence_dir: &config.evidence_dir })
}

/// A path as it is remembered: relative to the repo, where it is in it.
fn relative(path: &Path, config: &Config) -> String {
    path.strip_prefix(&config.repo).unwrap_or(path).to_string_lossy().into_owned()
}

/// A file's version; `None` for what is no file, a symbolic link included.
fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::symlink_metadata(path).ok()?;
    if found.is_symlink() {
        log::debug!("{} is a symbolic link and is not followed", path.display());
    }
    let written =
        found.modified().ok()?.duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    found.is_file().then_some((found.len(), u64::try_from(written).unwrap_or(u64::MAX)))
}

/// How long ago a version was written, by the wall clock.
fn age((_, written): Stamp) -> Duration {
    std::time::UNIX_EPOCH.elapsed().unwrap_or_default().saturating_sub(Duration::from_nanos(written))
}

/// When a stage ended, in nanoseconds: by the session in the file's name, else by when it was
/// written.
fn ended_at(path: &Path, (_, written): Stamp) -> i128 {
    let name = path.file_stem().and_then(|name| name.to_str());
    let named = name.and_then(|name| time_of_session(name.split_once('_')?.1));
    named.map_or_else(|| written.into(), Timestamp::as_nanosecond)
}
