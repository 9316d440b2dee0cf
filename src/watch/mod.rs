//! Watches the repo, so that no script has to change: a telemetry file that appears is a stage
//! that ended, a task whose status becomes Done is a task completed. The operating system says
//! what changed; a slow look at everything finds what it did not say.

mod baseline;
mod file;
mod late;
mod lists;
mod memory;
mod notifier;
#[cfg(feature = "cli")]
mod opinion;
mod reading;
mod runs;
mod settle;
mod standing;
#[cfg(test)]
mod tests;
mod tree;
mod turns;
mod unread;
#[cfg(feature = "cli")]
mod waiting;
mod watcher;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::config::Config;
use crate::event::Event;
use crate::run::AwaitedStage;
#[cfg(feature = "cli")]
pub(crate) use baseline::Known;
use memory::Memory;
use notifier::{Notifier, Told};
#[cfg(feature = "cli")]
pub(crate) use opinion::Opinion;
use reading::Reader;
#[cfg(feature = "cli")]
pub(crate) use unread::{elsewhere, other_trees};
#[cfg(feature = "cli")]
pub(crate) use waiting::Waiting;
use watcher::Watcher;

/// How long until something is tried again that could not be done.
const AGAIN: Duration = Duration::from_secs(1);

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

/// What the watcher says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// What is wrong with watching; `None` when that is over.
    Trouble(Option<String>),
    /// All stages that wait for their agents by now.
    Awaited(Vec<AwaitedStage>),
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
    /// unless `from_start`. `tell` hears what it says of itself.
    ///
    /// # Errors
    /// Its memory is of a later version, or no thread could be had.
    pub(crate) fn start(
        config: impl Fn() -> Arc<Config> + Send + 'static,
        from_start: bool,
        emit: impl FnMut(Event) -> Fate + Send + 'static,
        tell: impl Fn(Said) + Send + 'static,
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
            let reader = Reader::new(memory, Box::new(emit));
            let watcher = Watcher::new(Box::new(config), Box::new(tell), reader, notifier, missed, stop);
            watcher.run(&waiting, is_first, from_start);
        };
        let thread = thread::Builder::new().name("spec-notify-watch".to_owned()).spawn(work)?;
        Ok(Self { messages, stopping, thread: Some(thread) })
    }

    /// Ends it, after the file it is at.
    pub(crate) fn stop(mut self) {
        self.tell_to_stop();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            log::error!("the watcher panicked: the next start finds what it missed");
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
fn open_memory(spool_dir: &Path, tell: &impl Fn(Said)) -> io::Result<Option<(Memory, bool)>> {
    match Memory::open(spool_dir) {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Err(error),
        Err(error) => {
            let what = format!("the repo is not watched yet: {error}; it is tried again every second");
            log::error!("{what}");
            tell(Said::Trouble(Some(what)));
            Ok(None)
        }
    }
}

/// The same as soon as it can be read; `None` where the watcher is to stop.
fn open_memory_later(
    spool_dir: &Path,
    waiting: &Receiver<Message>,
    tell: &impl Fn(Said),
) -> Option<(Memory, bool)> {
    // No folder is watched yet: whatever is said is that it is to stop.
    while let Err(RecvTimeoutError::Timeout) = waiting.recv_timeout(AGAIN) {
        match Memory::open(spool_dir) {
            Ok(opened) => {
                log::info!("the repo is watched now");
                tell(Said::Trouble(None));
                return Some(opened);
            }
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                let what = format!("the repo is not watched: {error}");
                log::error!("{what}");
                tell(Said::Trouble(Some(what)));
                return None;
            }
            Err(error) => log::debug!("{error}"),
        }
    }
    None
}
