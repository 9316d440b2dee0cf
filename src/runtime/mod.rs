//! The actors at work: a runtime on threads of its own, and handles to it for any thread and
//! any executor.
//!
//! One process owns a spool at a time. A runtime that finds its spool owned is on standby: it
//! hands its events to the owner, and takes over when the owner ends. After a panic in an actor
//! everything starts again from disk.

mod block;
mod handle;
mod owner;
mod standby;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use handle::Handle;

use crate::actors::Door;
use crate::config::{Config, Loaded, Problem, load};
use crate::delivery::SubscriptionId;
use crate::env::Environment;
use crate::files::max_open;
use crate::http::TlsError;
use crate::spool::OpenError;
use crate::store::Store;
use owner::Ended;
use standby::Link;

/// Restarts after a panic within [`RESTART_WINDOW`]; one more is the end.
const MAX_RESTARTS: usize = 5;

/// See [`MAX_RESTARTS`].
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// The pause before a spool that could not be opened is tried again, and how often waiting threads
/// check whether to stop.
const PAUSE: Duration = Duration::from_millis(100);

/// The lowest limit of open files that a runtime starts with: threads, spool and control port take
/// about twenty.
const MIN_OPEN_FILES: u64 = 32;

/// Why a runtime did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The spool could not be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// TLS could not be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An active subscription has no endpoint; a checked config has one.
    #[error("subscription `{0}` has no endpoint: check the config")]
    NoEndpoint(SubscriptionId),
    /// The control port could not be opened.
    #[error("cannot listen on 127.0.0.1:{port}: {source}; choose another port")]
    ControlPort {
        /// The configured port; 0 is any.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// Too few files may be open for a runtime and one request.
    #[error(
        "this process may have {0} files open, and a runtime needs {MIN_OPEN_FILES}: \
         raise the limit (ulimit -n, LimitNOFILE)"
    )]
    OpenFiles(u64),
    /// The fleet's cluster does not keep what it acknowledges, or its schema is not this
    /// program's.
    #[error("this machine cannot deliver for the fleet: {0}")]
    Fleet(String),
    /// No thread could be had.
    #[error("cannot start the runtime's thread: {0}")]
    Thread(#[from] io::Error),
    /// The thread ended before it was ready.
    #[error("the runtime's thread ended while starting; its panic is on stderr")]
    Died,
}

/// What a runtime left undone when it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Deliveries not finished.
    pub pending: usize,
    /// Whether all of them are on disk, for the next start. They are not where the spool was
    /// removed under the runtime and could not be written again; the log says why.
    pub is_kept: bool,
}

impl Default for Drained {
    fn default() -> Self {
        Self { pending: 0, is_kept: true }
    }
}

/// The actors, running or on standby. Dropping it stops at once; what is pending is on disk.
#[derive(Debug)]
pub struct Runtime {
    handle: Handle,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: watch::Sender<Option<Duration>>,
    thread: JoinHandle<Drained>,
}

/// How events reach the spool now.
#[derive(Clone, Debug)]
enum Mode {
    /// Not yet: starting, or starting again.
    Starting,
    /// Through our own actors.
    Owner(Door),
    /// Through the process that owns the spool.
    Standby(Link),
    /// The runtime was stopped.
    Stopped,
    /// The runtime gave up, for this reason.
    Failed(Arc<str>),
}

/// The config as it is now, and where secrets are read from.
#[derive(Debug)]
struct Current {
    config: Mutex<Arc<Config>>,
    environment: Environment,
}

impl Current {
    fn config(&self) -> Arc<Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, config: impl Into<Arc<Config>>) {
        *self.config.lock().unwrap_or_else(PoisonError::into_inner) = config.into();
    }

    /// Reads the config again as it was read at the start. Blocks.
    fn read_again(&self) -> Loaded {
        let config = self.config();
        let Some(source) = &config.source else {
            let help = "start the runtime again with the right config";
            return Loaded::refused("this runtime's config was not read from a file", help);
        };
        let mut loaded = load(source, &self.environment);
        let known = loaded.errors.len();
        if let Some(new) = &mut loaded.config {
            (new.control_port, new.watch) = (config.control_port, config.watch);
            new.takes_part = config.takes_part;
            let fixed = [
                ("enabled = false", new.enabled),
                ("another spool_dir", new.spool_dir == config.spool_dir),
                ("another evidence_dir", new.evidence_dir == config.evidence_dir),
                ("another fleet", new.fleet == config.fleet),
            ];
            for (what, _) in fixed.iter().filter(|(_, same)| !same) {
                let message = format!("{what} cannot be taken over by a running runtime");
                loaded.errors.push(Problem::general(message, "stop it, and start it again there"));
            }
        }
        loaded.config = loaded.config.filter(|_| loaded.errors.len() == known);
        loaded
    }
}

/// What every run needs.
struct Setting {
    current: Arc<Current>,
    mode: watch::Sender<Mode>,
    stop: watch::Receiver<Option<Duration>>,
    ready: SyncSender<Result<(), StartError>>,
}

impl Runtime {
    /// Starts the actors on threads of their own and goes on with what the spool says is pending;
    /// where another process owns the spool, stands by. With `enabled = false` nothing is started:
    /// no thread, no file, no socket.
    ///
    /// Secrets are read from `environment` for each attempt.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use spec_notify::{Environment, LoadOptions, Receipt, Runtime};
    /// # let repo = std::env::temp_dir().join(format!("spec-notify-{}", std::process::id()));
    /// # std::fs::create_dir_all(&repo).unwrap();
    ///
    /// // A repo without a config: nothing is started, and every event is answered with `Off`.
    /// let environment = Environment::fixed([]);
    /// let loaded = LoadOptions::in_dir(&repo).repo(&repo).load(&environment);
    /// let config = loaded.into_config().unwrap();
    /// let runtime = Runtime::start(config, environment).unwrap();
    /// assert!(!runtime.handle().is_on());
    /// assert_eq!(runtime.drain(Duration::ZERO).pending, 0);
    /// # std::fs::remove_dir(&repo).unwrap();
    /// ```
    pub fn start(config: Config, environment: Environment) -> Result<Self, StartError> {
        if !config.enabled {
            return Ok(Self { handle: Handle::off(), running: None });
        }
        if let Some(most) = max_open().filter(|most| *most < MIN_OPEN_FILES) {
            return Err(StartError::OpenFiles(most));
        }
        let (ready, started) = mpsc::sync_channel(1);
        let (stop, stopped) = watch::channel(None);
        let (mode, changes) = watch::channel(Mode::Starting);
        let current = Arc::new(Current { config: Mutex::new(Arc::new(config)), environment });
        let handle = Handle::on(changes, current.clone());
        let setting = Setting { current, mode, stop: stopped, ready };
        let thread = thread::Builder::new()
            .name("spec-notify".to_owned())
            .spawn(move || supervise(&Arc::new(setting)))?;
        started.recv().map_err(|_| StartError::Died)??;
        Ok(Self { handle, running: Some(Running { stop, thread }) })
    }

    /// A handle to this runtime.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops: no event is taken any more, no attempt starts, those under way may end until
    /// `deadline`.
    pub fn drain(mut self, deadline: Duration) -> Drained {
        self.stop(deadline)
    }

    fn stop(&mut self, deadline: Duration) -> Drained {
        let Some(Running { stop, thread }) = self.running.take() else { return Drained::default() };
        stop.send_replace(Some(deadline));
        thread.join().unwrap_or_else(|_| {
            log::error!("the runtime's thread panicked; what is pending is on disk");
            Drained::default()
        })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

impl Setting {
    /// Whether the runtime is to stop: it was told so, or was dropped with the sender.
    fn is_stopped(&self) -> bool {
        self.stop.borrow().is_some() || self.stop.has_changed().is_err()
    }

    /// Says that events can be taken now; the first time it also answers `Runtime::start`.
    fn is_ready(&self, mode: Mode) {
        self.mode.send_replace(mode);
        // `Runtime::start` waits for the first answer only.
        drop(self.ready.try_send(Ok(())));
    }
}

/// The runtime's thread, from start to end: run after run, on standby in between.
fn supervise(setting: &Arc<Setting>) -> Drained {
    let mut has_run = false;
    let mut restarts = Restarts::default();
    while !setting.is_stopped() {
        let error = match Store::open(setting.current.config().store_options()) {
            Ok(opened) => {
                let run = setting.clone();
                let thread = thread::Builder::new().name("spec-notify-actors".to_owned());
                let ended = thread.spawn(move || owner::run(&run, opened)).map(JoinHandle::join);
                setting.mode.send_replace(Mode::Starting);
                match ended {
                    Ok(Ok(Ended::Stopped(drained))) => {
                        setting.mode.send_replace(Mode::Stopped);
                        return drained;
                    }
                    Ok(Ok(Ended::NotStarted(error))) => error,
                    Ok(Ok(Ended::Reopen)) => {
                        has_run = true;
                        continue;
                    }
                    Ok(Ok(Ended::Panicked) | Err(_)) => {
                        has_run = true;
                        if restarts.may_restart(Instant::now()) {
                            log::error!("a part of the runtime panicked: starting again from disk");
                            continue;
                        }
                        let reason = format!(
                            "the runtime panicked more than {MAX_RESTARTS} times within a minute and has \
                             stopped; what was accepted is on disk, and events go to the inbox: \
                             restart it, and report the panic above"
                        );
                        log::error!("{reason}");
                        setting.mode.send_replace(Mode::Failed(reason.into()));
                        return Drained::default();
                    }
                    Err(error) => error.into(),
                }
            }
            Err(OpenError::Locked(_)) => {
                has_run = true;
                standby::run(setting);
                continue;
            }
            Err(error) => error.into(),
        };
        if !has_run {
            drop(setting.ready.try_send(Err(error)));
            return Drained::default();
        }
        log::error!("cannot take over the spool: {error}; trying again");
        let end = Instant::now() + 10 * PAUSE;
        while !setting.is_stopped() && Instant::now() < end {
            thread::park_timeout(PAUSE);
        }
    }
    setting.mode.send_replace(Mode::Stopped);
    Drained::default()
}

/// The times of the latest restarts.
#[derive(Debug, Default)]
struct Restarts(VecDeque<Instant>);

impl Restarts {
    /// Whether another restart is within the bounds; counts it if so.
    fn may_restart(&mut self, now: Instant) -> bool {
        self.0.retain(|at| now.duration_since(*at) < RESTART_WINDOW);
        if self.0.len() >= MAX_RESTARTS {
            return false;
        }
        self.0.push_back(now);
        true
    }
}
