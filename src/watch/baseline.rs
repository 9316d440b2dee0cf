//! What the sources hold now is taken as known, and nothing is sent for it: at the very first
//! start, of a source that an earlier version did not watch, and on request.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

#[cfg(feature = "cli")]
use super::Fate;
use super::file::relative;
#[cfg(feature = "cli")]
use super::memory::Memory;
use super::reading::{GLANCE, Reader};
use super::tree::Tree;
use crate::config::Config;
use crate::names::counted;

/// How long a baseline waits in all for git, where that is writing: what its files say then is
/// neither before nor after.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was taken as known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// Stages that ended and were not told.
    pub(crate) stages: usize,
    /// Tasks that became Done and were not told.
    pub(crate) tasks: usize,
    /// Nothing was watched here before.
    pub(crate) is_first: bool,
    /// Files that were looked at.
    pub(super) files: usize,
    /// What could not be read, and what that means for it.
    pub(crate) troubles: Vec<String>,
}

impl Known {
    /// Takes what these sources hold as known. While `in_haste`, telemetry is known by its name and
    /// not opened.
    pub(super) fn take(
        reader: &mut Reader,
        tree: &Tree,
        config: &Config,
        sources: &[String],
        is_first: bool,
        in_haste: &AtomicBool,
    ) -> Self {
        let mut known = Self { is_first, ..Self::default() };
        let mut unreadable = Unreadable::default();
        let until = Instant::now() + PATIENCE;
        for (kind, path) in tree.files() {
            if !sources.contains(&tree.source_of(kind, &path)) {
                continue;
            }
            known.files += 1;
            let mut take = || reader.take_as_known(kind, &path, config, in_haste.load(Ordering::Relaxed));
            let mut taken = take();
            while let Err(error) = &taken
                && error.kind() == io::ErrorKind::WouldBlock
                && Instant::now() < until
                && !in_haste.load(Ordering::Relaxed)
            {
                thread::park_timeout(GLANCE);
                taken = take();
            }
            match taken {
                Ok(untold) => {
                    // At a first look no stage was told that could be corrected.
                    known.stages += untold.stages + if is_first { 0 } else { untold.corrections };
                    known.tasks += untold.tasks;
                }
                Err(error) => {
                    let name = relative(&path, config);
                    let what = "it may be sent once it can";
                    unreadable.add(format!("{name} cannot be read, and {what}: {error}"));
                }
            }
        }
        reader.remember_sources(sources);
        known.troubles = unreadable.sentences();
        known
    }

    /// Takes what all sources hold as known and writes that down, for the process that owns the
    /// spool.
    ///
    /// # Errors
    /// What was seen can be neither read nor written.
    #[cfg(feature = "cli")]
    pub(crate) fn of(config: &Config) -> io::Result<Self> {
        let (memory, is_first) = Memory::open(&config.spool_dir)?;
        // Nothing is told here.
        let mut reader = Reader::new(memory, Box::new(|_| Fate::NotNow(String::new())));
        let tree = Tree::of(config);
        let sources = tree.sources();
        let known = Self::take(&mut reader, &tree, config, &sources, is_first, &AtomicBool::new(false));
        reader.flush(&config.repo)?;
        Ok(known)
    }

    /// Whether a first look at this repo was written down.
    #[cfg(feature = "cli")]
    pub(crate) fn is_written(config: &Config) -> bool {
        Memory::open(&config.spool_dir).is_ok_and(|(_, is_first)| !is_first)
    }
}

/// Files that are named where they cannot be read; more are counted alone.
const MAX_NAMED: usize = 3;

/// Files that could not be read.
#[derive(Debug, Default)]
pub(super) struct Unreadable {
    named: Vec<String>,
    more: usize,
}

impl Unreadable {
    pub(super) fn add(&mut self, sentence: String) {
        match self.named.len() < MAX_NAMED {
            true => self.named.push(sentence),
            false => self.more += 1,
        }
    }

    pub(super) fn sentences(self) -> Vec<String> {
        let more = (self.more > 0)
            .then(|| format!("{} cannot be read", counted(self.more, "more file", "more files")));
        self.named.into_iter().chain(more).collect()
    }
}
