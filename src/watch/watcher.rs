//! The watcher's loop: it hears what changed, looks at everything from time to time, and has files
//! read once they have settled.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::baseline::Known;
use super::file::{ended_at, group_of, stamp};
use super::notifier::{Notifier, Told};
use super::reading::{GLANCE, Looked, Reader};
use super::settle::{Due, Settler, Stamp};
use super::tree::{Kind, Tree};
use super::turns::{Turn, Turns};
use super::{MAX_WAITING, Message, Said, unread};
use crate::config::Config;
use crate::names::counted;
use crate::sources::place::entries;

/// How often everything is looked at, whatever the operating system said.
pub(super) const LOOK: Duration = Duration::from_secs(60);

/// The pause between two such looks is at least this many times the duration of the last one, up to
/// the longest: in a large repo they are rarer.
const LOOK_REST: u32 = 500;
const LONGEST_LOOK: Duration = Duration::from_secs(300);

/// The same where the operating system says nothing.
const LOOK_UNTOLD: Duration = Duration::from_secs(5);

/// How often it is checked whether the folders that are watched, and the file of what was seen,
/// are still those.
const CHECK: Duration = Duration::from_secs(1);

/// How often in a row new folders are asked for: where they come and go without end, the next
/// check goes on.
const MOST_ROUNDS: usize = 16;

/// How long files are read before it is heard what else changed.
const SLICE: Duration = Duration::from_millis(200);

/// After a look at everything the watcher does other things for so many times as long, and at
/// least for so long.
const REST: u32 = 2;
const LEAST_REST: Duration = Duration::from_millis(100);
const MOST_REST: Duration = Duration::from_secs(1);

/// Folders, and entries of one, that are looked at as soon as they come.
const MOST_INSIDE: usize = 64;

/// How long a file waits for those that ended before it, beyond what these may wait for their
/// consensus.
const MOST_HELD_UP: Duration = Duration::from_secs(5);

/// See the module's first lines.
pub(super) struct Watcher {
    config: Box<dyn Fn() -> Arc<Config> + Send>,
    tell: Box<dyn Fn(Said) + Send>,
    reader: Reader,
    /// The memory could not be written the last time.
    is_unwritten: bool,
    notifier: Notifier,
    /// Something was not told of.
    missed: Arc<AtomicBool>,
    /// Everything is to be looked at.
    look_is_due: bool,
    stopping: Arc<AtomicBool>,
    settler: Settler,
    /// The config that everything was looked at with.
    looked_with: Option<Arc<Config>>,
    /// What was said of sources that nobody reads.
    said: HashSet<String>,
    /// What is passed over was said for the first time.
    has_looked: bool,
}

/// When everything is looked at again after a look that took so long.
fn look_again(took: Duration, is_told: bool) -> Duration {
    if is_told { (took * LOOK_REST).clamp(LOOK, LONGEST_LOOK) } else { LOOK_UNTOLD }
}

impl Watcher {
    /// `missed` says that the notifier could not tell of something, `stopping` that it is to end.
    pub(super) fn new(
        config: Box<dyn Fn() -> Arc<Config> + Send>,
        tell: Box<dyn Fn(Said) + Send>,
        reader: Reader,
        notifier: Notifier,
        missed: Arc<AtomicBool>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        Self {
            config,
            tell,
            reader,
            is_unwritten: false,
            notifier,
            missed,
            look_is_due: true,
            stopping,
            settler: Settler::default(),
            looked_with: None,
            said: HashSet::new(),
            has_looked: false,
        }
    }

    /// Watches until it is to stop. At the very first start, what is there now is taken as known
    /// unless `from_start`.
    pub(super) fn run(mut self, waiting: &Receiver<Message>, is_first: bool, from_start: bool) {
        let config = (self.config)();
        self.take_baseline(&Tree::of(&config), &config, is_first, from_start);
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
                next_look = ended + look_again(ended - now, self.notifier.is_told());
                rested = ended + ((ended - now) * REST).clamp(LEAST_REST, MOST_REST);
            }
            self.read_what_is_due();
            self.say_what_is_awaited();
            self.read_runs();
            let now = Instant::now();
            let look = if self.look_is_due { rested.min(next_look) } else { next_look };
            let wait = look.min(next_check).saturating_duration_since(now);
            let waits = [self.settler.next(now), self.reader.next_run()];
            match waiting.recv_timeout(waits.into_iter().flatten().fold(wait, Duration::min)) {
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

    /// What costs next to nothing and finds, whatever was told or not, that folders went, came or
    /// were replaced, that HEAD moved, and that what was seen is not on disk.
    fn check(&mut self) {
        let config = (self.config)();
        self.look_is_due |= self.notifier.is_behind(&Tree::of(&config).roots());
        self.look_is_due |= self.reader.has_moved(&config);
        // A reload may name files that nobody told of.
        self.look_is_due |= !self.is_looked_with(&config);
        self.flush();
    }

    fn is_looked_with(&self, config: &Arc<Config>) -> bool {
        self.looked_with.as_ref().is_some_and(|before| Arc::ptr_eq(before, config))
    }

    /// Writes what was seen. What cannot be written now is written at a later check.
    fn flush(&mut self) {
        match (self.reader.flush(&(self.config)().repo), self.is_unwritten) {
            (Ok(()), false) | (Err(_), true) => {}
            (Ok(()), true) => {
                self.is_unwritten = false;
                log::info!("what was seen is on disk again");
                (self.tell)(Said::Trouble(None));
            }
            (Err(error), false) => {
                self.is_unwritten = true;
                let what = format!(
                    "what the watcher has seen cannot be written to watch.jsonl: {error}; \
                     it is tried again every second"
                );
                log::error!("{what}");
                (self.tell)(Said::Trouble(Some(what)));
            }
        }
    }

    /// What a source holds when it is looked at for the first time is known, and nothing is sent
    /// for it: at the very first start, and of one that is new in the config or in this version of
    /// the program.
    fn take_baseline(&mut self, tree: &Tree, config: &Config, is_first: bool, from_start: bool) {
        let new = self.reader.new_sources(tree);
        if new.is_empty() {
            return;
        }
        if is_first && from_start {
            self.reader.remember_sources(&new);
            return self.flush();
        }
        let known = Known::take(&mut self.reader, tree, config, &new, is_first, &self.stopping);
        self.flush();
        for trouble in &known.troubles {
            log::warn!("{trouble}");
        }
        if known.files > 0 {
            let files = counted(known.files, "file is", "files are");
            log::info!(
                "watching for the first time: {}: {files} there already, and not sent",
                new.join(", ")
            );
        }
    }

    /// Finds what appeared or changed, and has the operating system tell of more.
    fn look_at_everything(&mut self) {
        let config = (self.config)();
        if !self.is_looked_with(&config) {
            // Another setting may let go what waits for its agents.
            self.settler.wake_all(Instant::now());
            self.say(unread::elsewhere(&config));
        }
        self.looked_with = Some(config.clone());
        let tree = Tree::of(&config);
        self.take_baseline(&tree, &config, false, false);
        // Until no folder has come between looking and being told.
        for _ in 0..MOST_ROUNDS {
            if !self.notifier.watch(&tree.dirs()) {
                break;
            }
        }
        self.say_what_is_not_read(&tree, &config);
        self.reader.forget_what_is_gone();
        let now = Instant::now();
        for (kind, path) in tree.files() {
            if let Some(stamp) = stamp(&path)
                && !self.reader.has_read(kind, &path, stamp, &config)
            {
                self.seen(kind, &path, stamp, now);
            }
        }
    }

    /// A file was seen: what waits for something of its SPEC is looked at once more.
    fn seen(&mut self, kind: Kind, path: &Path, stamp: Stamp, now: Instant) {
        if matches!(kind, Kind::WorkflowRun) {
            return self.reader.run_changed(path);
        }
        let group = group_of(path);
        if self.settler.seen(path, group.clone(), stamp, now) {
            self.settler.wake(&group, now);
        }
    }

    /// Sources that nobody reads, once each, and at the first look what lies beside telemetry.
    fn say_what_is_not_read(&mut self, tree: &Tree, config: &Config) {
        self.say(unread::sources(config));
        if !std::mem::replace(&mut self.has_looked, true) && log::log_enabled!(log::Level::Debug) {
            for path in tree.passed_over() {
                log::debug!("{}: ignored: {}", path.display(), tree.why_not(&path));
            }
        }
    }

    /// Which stages wait for their agents, where that changed.
    fn say_what_is_awaited(&mut self) {
        if let Some(awaited) = self.reader.awaited_anew() {
            (self.tell)(Said::Awaited(awaited));
        }
    }

    /// Says each of these once.
    fn say(&mut self, sentences: impl IntoIterator<Item = String>) {
        for sentence in sentences {
            if !self.said.contains(&sentence) {
                log::warn!("{sentence}");
                self.said.insert(sentence);
            }
        }
    }

    /// What the operating system says.
    fn told(&mut self, told: Told) {
        let is_closed = matches!(told, Told::Closed(_));
        let path = match told {
            Told::Changed(path) | Told::Closed(path) => path,
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
            Some(kind) => {
                let now = Instant::now();
                if let Some(stamp) = stamp(&path) {
                    self.seen(kind, &path, stamp, now);
                }
                if is_closed && kind.is_written_once() {
                    self.settler.closed(&path, now);
                }
            }
            None if tree.is_folder(&path) => self.look_is_due |= !self.look_into(path, &tree),
            None if tree.is_beside_telemetry(&path) => {
                log::debug!("{}: ignored: {}", path.display(), tree.why_not(&path));
            }
            None => {}
        }
    }

    /// Looks at what a new folder holds, which was not told of. Whether that was all: one that
    /// holds much has its turn with everything else.
    fn look_into(&mut self, folder: PathBuf, tree: &Tree) -> bool {
        let mut left = vec![folder];
        for _ in 0..MOST_INSIDE {
            let Some(folder) = left.pop() else { return true };
            match self.notifier.watch_also(&folder) {
                Some(true) => {}
                // What came since it is watched was told of.
                Some(false) => continue,
                // It went, or was never one; or nobody tells of it.
                None if !folder.is_dir() => continue,
                None => return false,
            }
            let inside: Vec<PathBuf> = entries(&folder).take(MOST_INSIDE + 1).collect();
            if inside.len() > MOST_INSIDE {
                return false;
            }
            for path in inside {
                match tree.kind(&path) {
                    Some(kind) => {
                        if let Some(stamp) = stamp(&path) {
                            self.seen(kind, &path, stamp, Instant::now());
                        }
                    }
                    None if tree.is_folder(&path) => left.push(path),
                    None => {}
                }
            }
        }
        left.is_empty()
    }

    /// What the logs of workflow runs have more.
    fn read_runs(&mut self) {
        if self.reader.next_run().is_some_and(|wait| wait.is_zero()) {
            let until = Instant::now() + SLICE;
            let goes_on = || Instant::now() < until && !self.stopping.load(Ordering::Relaxed);
            self.reader.read_runs(&(self.config)(), goes_on);
            if !self.is_unwritten {
                self.flush();
            }
        }
    }

    /// Stages of a SPEC are read in the order they ended: a run is made of them. One that has to
    /// wait holds those up that come after it. What cannot be read in a [`SLICE`] is read in the
    /// next one.
    fn read_what_is_due(&mut self) {
        let began = Instant::now();
        let groups = self.settler.due(began, ended_at);
        if groups.is_empty() {
            return;
        }
        // Whatever it took to find them, as long again is for reading.
        let until = Instant::now() + began.elapsed().max(SLICE);
        let mut first_unread: HashMap<PathBuf, i128> = HashMap::new();
        for group in &groups {
            first_unread.extend(group.first_waiting.map(|first| (group.of.clone(), first)));
        }
        let config = (self.config)();
        for turn in Turns::of(groups) {
            if self.stopping.load(Ordering::Relaxed) || Instant::now() > until {
                break;
            }
            let Turn { due: Due { path, stamp: seen, ended_at, is_final, .. }, is_of_a_crowd } = turn;
            let group = group_of(&path);
            let first = first_unread.get(&group);
            if !is_of_a_crowd
                && first.is_some_and(|first| *first < ended_at)
                && self.reader.waited(&path) < config.consensus_wait + MOST_HELD_UP
            {
                self.settler.later(&path, Instant::now(), GLANCE);
                continue;
            }
            let looked = match (stamp(&path), Tree::of(&config).kind(&path)) {
                (Some(now), _) if now != seen => {
                    self.settler.seen(&path, group, now, Instant::now());
                    continue;
                }
                (Some(_), Some(kind)) => self.reader.read(kind, &path, seen, &config, is_final),
                // Gone, or no file any more.
                _ => {
                    self.reader.is_done_with(&path);
                    Looked::Done
                }
            };
            match looked {
                Looked::Done => {
                    self.settler.done(&path);
                    self.settler.wake(&group, Instant::now());
                }
                Looked::Held => self.settler.hold(&path),
                Looked::Torn => self.settler.torn(&path),
                Looked::Later(wait) => {
                    self.settler.later(&path, Instant::now(), wait);
                    let first = first_unread.entry(group).or_insert(ended_at);
                    *first = ended_at.min(*first);
                }
            }
        }
        if !self.is_unwritten {
            self.flush();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_takes_a_five_hundredth_of_the_time_at_most() {
        let again = |ms| look_again(Duration::from_millis(ms), true).as_secs();
        assert_eq!([1, 119, 240, 100_000].map(again), [60, 60, 120, 300]);
        assert_eq!(look_again(Duration::from_secs(1), false), LOOK_UNTOLD);
    }
}
