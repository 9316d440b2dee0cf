//! The actors at work: a runtime on threads of its own, and handles to it for any thread and
//! any executor.
//!
//! One process owns a spool at a time. A runtime that finds its spool owned is on standby: it
//! hands its events to the owner, and takes over when the owner ends. After a panic in an actor
//! everything starts again from disk.

mod beside;
mod block;
mod blocking;
mod handle;
mod owner;
mod requests;
mod standby;
#[cfg(test)]
mod tests;
mod updates;

use std::collections::VecDeque;
use std::error::Error;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};

pub use handle::Handle;
pub use updates::{Ends, Updates};

use block::wait_for;

use crate::actors::Door;
use crate::config::{Config, Loaded, Problem, load};
use crate::delivery::SubscriptionId;
use crate::env::Environment;
use crate::feed::{Feed, RuntimeState};
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

/// The longest deadline that is told from none.
const LONGEST: Duration = Duration::from_secs(365 * 86_400);

/// A deadline that can be added to a time of now.
fn bounded(deadline: Duration) -> Duration {
    deadline.min(LONGEST)
}

/// Why a runtime did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The spool could not be opened: see [`OpenError`].
    #[error(transparent)]
    Store(#[from] OpenError),
    /// TLS could not be set up: a file that the config names cannot be used, or OpenSSL cannot.
    #[error(transparent)]
    Tls(Box<dyn Error + Send + Sync>),
    /// An active subscription has no endpoint: the config was loaded without its secrets.
    #[error("subscription `{0}` has no endpoint: check the config")]
    NoEndpoint(SubscriptionId),
    /// The control port could not be opened: choose another one, or 0 for any.
    #[error("cannot listen on 127.0.0.1:{port}: {source}; choose another port")]
    ControlPort {
        /// The configured port; 0 is any.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// Too few files may be open for a runtime and one request: raise the limit.
    #[error(
        "this process may have {0} files open, and a runtime needs {MIN_OPEN_FILES}: \
         raise the limit (ulimit -n, LimitNOFILE)"
    )]
    OpenFiles(u64),
    /// The fleet's cluster does not keep what it acknowledges, or its schema is not this
    /// program's.
    #[error("this machine cannot deliver for the fleet: {0}")]
    Fleet(String),
    /// No thread could be had: this user may have too few, or there is no memory.
    #[error("cannot start the runtime's thread: {0}; raise the limit of threads (ulimit -u)")]
    Thread(#[from] io::Error),
    /// The thread ended before it was ready: a fault of this library.
    #[error("the runtime's thread ended while starting; its panic is on stderr")]
    Died,
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error.into())
    }
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

/// The actors, running or on standby.
///
/// Dropping it stops them at once and does not wait for their end: what is pending is on disk, and
/// requests that are cut off are made again at the next start. To wait, drain it.
#[derive(Debug)]
pub struct Runtime {
    handle: Handle,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    /// Whose end is the runtime's too.
    stop: watch::Sender<Option<Duration>>,
    /// Told as the thread's last act.
    drained: oneshot::Receiver<Drained>,
}

/// How events reach the spool now.
#[derive(Clone, Debug)]
enum Mode {
    /// Nowhere: webhooks are off.
    Off,
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

impl Mode {
    /// As a host sees it.
    fn state(&self) -> RuntimeState {
        match self {
            Self::Off => RuntimeState::Off,
            Self::Starting => RuntimeState::Starting,
            Self::Owner(_) => RuntimeState::Running,
            Self::Standby(_) => RuntimeState::StandingBy,
            Self::Stopped => RuntimeState::Stopped,
            Self::Failed(reason) => RuntimeState::Failed(reason.clone()),
        }
    }
}

/// The config as it is now, and where secrets are read from.
#[derive(Debug)]
struct Current {
    config: Mutex<Arc<Config>>,
    environment: Environment,
    feed: Feed,
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
            let switch = if config.enabled { "enabled = false" } else { "enabled = true" };
            let fixed = [
                (switch, new.enabled == config.enabled),
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
    /// Where `Runtime::start` waits for the first answer.
    ready: mpsc::Sender<Result<(), StartError>>,
}

impl Runtime {
    /// Starts the actors on threads of their own and goes on with what the spool says is pending;
    /// where another process owns the spool, stands by. With `enabled = false` nothing is started:
    /// no thread, no file, no socket. Works on any executor; given up, it leaves nothing running.
    ///
    /// Secrets are read from `environment` for each attempt.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use spec_notify::{Config, Environment, Runtime};
    ///
    /// # async fn host(config: Config) -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = Runtime::start(config, Environment::process()).await?;
    /// let handle = runtime.handle();
    /// // For as long as the host runs: events through the handle, and at the end
    /// let drained = runtime.drain(Duration::from_secs(5)).await;
    /// println!("{} deliveries wait on disk for the next start", drained.pending);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start(config: Config, environment: Environment) -> Result<Self, StartError> {
        let is_on = config.enabled;
        let (mode, changes) = watch::channel(if is_on { Mode::Starting } else { Mode::Off });
        let feed = Feed::new(changes.borrow().state());
        let current = Arc::new(Current { config: Mutex::new(Arc::new(config)), environment, feed });
        let handle = Handle::new(changes, current.clone());
        if !is_on {
            return Ok(Self { handle, running: None });
        }
        if let Some(most) = max_open().filter(|most| *most < MIN_OPEN_FILES) {
            return Err(StartError::OpenFiles(most));
        }
        let (ready, mut started) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(None);
        let setting = Setting { current, mode, stop: stopped, ready };
        let (ended, drained) = oneshot::channel();
        let thread = thread::Builder::new().name("spec-notify".to_owned());
        thread.spawn(move || {
            if ended.send(supervise(&Arc::new(setting))).is_err() {
                log::debug!("nobody waits for the runtime's end");
            }
        })?;
        let running = Running { stop, drained };
        started.recv().await.ok_or(StartError::Died)??;
        Ok(Self { handle, running: Some(running) })
    }

    /// As [`start`](Self::start), for plain threads: waits until events can be taken.
    ///
    /// # Errors
    /// As `start`.
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
    /// let runtime = Runtime::start_blocking(config, environment).unwrap();
    /// assert!(!runtime.handle().is_on());
    /// assert_eq!(runtime.drain_blocking(Duration::ZERO).pending, 0);
    /// # std::fs::remove_dir(&repo).unwrap();
    /// ```
    pub fn start_blocking(config: Config, environment: Environment) -> Result<Self, StartError> {
        wait_for(Self::start(config, environment))
    }

    /// A handle to this runtime.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops: no event is taken any more, no attempt starts, those under way may end until
    /// `deadline`. When this returns, everything is written and the spool is free. Works on any
    /// executor; given up, it goes on by itself.
    pub async fn drain(self, deadline: Duration) -> Drained {
        let Some(Running { stop, drained }) = self.running else { return Drained::default() };
        stop.send_replace(Some(bounded(deadline)));
        drained.await.unwrap_or_else(|_| {
            log::error!("the runtime's thread panicked; what is pending is on disk");
            Drained::default()
        })
    }

    /// As [`drain`](Self::drain), for plain threads.
    pub fn drain_blocking(self, deadline: Duration) -> Drained {
        wait_for(self.drain(deadline))
    }
}

impl Setting {
    /// Whether the runtime is to stop: it was told so, or was dropped with the sender.
    fn is_stopped(&self) -> bool {
        self.stop.borrow().is_some() || self.stop.has_changed().is_err()
    }

    fn set_mode(&self, mode: Mode) {
        self.current.feed.set_state(mode.state());
        self.mode.send_replace(mode);
    }

    /// Says that events can be taken now; the first time it also answers `Runtime::start`.
    fn is_ready(&self, mode: Mode) {
        self.set_mode(mode);
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
                let ended = thread.spawn(move || owner::run(&run, opened)).map(thread::JoinHandle::join);
                setting.set_mode(Mode::Starting);
                match ended {
                    Ok(Ok(Ended::Stopped(drained))) => {
                        setting.set_mode(Mode::Stopped);
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
                        setting.set_mode(Mode::Failed(reason.into()));
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
    setting.set_mode(Mode::Stopped);
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
