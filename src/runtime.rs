//! The door to the actors: a runtime on a thread of its own, and handles to it for any thread and any executor.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use actix::{Actor as _, Addr};
use actix_rt::time::timeout;
use actix_rt::{Arbiter, ArbiterHandle, System};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::actors::{
    Close, CloseLedger, Emit, EmitError, Lanes, Ledger, Receipt, Replay, Router, Sample, SendError, Sender,
    Sent, Subscription, Target, WaitIdle,
};
use crate::config::{Config, SubscriptionConfig};
use crate::delivery::{Dedupe, DeliveryId, SubscriptionId};
use crate::env::Environment;
use crate::event::{Event, SpecId};
use crate::http::{Client, TlsError};
use crate::intake::repo;
use crate::payload;
use crate::store::{OpenError, Recovered, Store, Unfinished};

/// Emits and requests under way at a time, over all handles; more wait for their turn.
const MAX_ADMITTED: usize = 1024;

/// Why a runtime did not start.
#[derive(Debug, thiserror::Error)]
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
    /// No thread could be had.
    #[error("cannot start the runtime's thread: {0}")]
    Thread(#[from] io::Error),
    /// The thread ended before it was ready.
    #[error("the runtime's thread ended while starting; its panic is on stderr")]
    Died,
}

/// What a runtime left undone when it ended. All of it is on disk, for the next start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Deliveries not finished.
    pub pending: usize,
}

/// The actors, running. Dropping it stops at once; what is pending is on disk.
#[derive(Debug)]
pub struct Runtime {
    handle: Handle,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    stop: oneshot::Sender<Duration>,
    thread: JoinHandle<Drained>,
}

/// Sends events and requests to a runtime, from any thread or executor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle(Arc<State>);

#[derive(Debug)]
enum State {
    Off,
    On(Door),
}

/// What a handle needs to reach the actors.
#[derive(Debug)]
struct Door {
    router: Addr<Router>,
    arbiter: ArbiterHandle,
    admission: Arc<Semaphore>,
    repo: PathBuf,
}

impl Runtime {
    /// Starts the actors on a thread of their own and goes on with what the spool says is pending. With
    /// `enabled = false` nothing is started: no thread, no file, no socket.
    ///
    /// Secrets are read from `environment` for each attempt.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running.
    pub fn start(config: Config, environment: Environment) -> Result<Self, StartError> {
        if !config.enabled {
            return Ok(Self { handle: Handle(Arc::new(State::Off)), running: None });
        }
        let (ready, started) = mpsc::sync_channel(1);
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("spec-notify".to_owned())
            .spawn(move || run(config, environment, &ready, stopped))?;
        let door = started.recv().map_err(|_| StartError::Died)??;
        Ok(Self { handle: Handle(Arc::new(State::On(door))), running: Some(Running { stop, thread }) })
    }

    /// A handle to this runtime.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Stops: no event is taken any more, no attempt starts, those under way may end until `deadline`.
    pub fn drain(mut self, deadline: Duration) -> Drained {
        self.stop(deadline)
    }

    fn stop(&mut self, deadline: Duration) -> Drained {
        let Some(Running { stop, thread }) = self.running.take() else { return Drained { pending: 0 } };
        if stop.send(deadline).is_err() {
            log::error!("the runtime's thread had ended already; what is pending is on disk");
        }
        thread.join().unwrap_or_else(|_| {
            log::error!("the runtime's thread panicked; what is pending is on disk");
            Drained { pending: 0 }
        })
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop(Duration::ZERO);
    }
}

impl Handle {
    /// Whether webhooks are switched on.
    pub fn is_on(&self) -> bool {
        matches!(*self.0, State::On(_))
    }

    /// Accepts an event: when this returns `Accepted`, it is synced to disk. Waits for one write, never for the
    /// network. Works on any executor.
    ///
    /// # Errors
    /// [`EmitError`]: nothing of the event was kept.
    pub async fn emit(&self, mut event: Event) -> Result<Receipt, EmitError> {
        let State::On(door) = &*self.0 else { return Ok(Receipt::Off) };
        let stopped = || EmitError::Unavailable("the runtime has stopped".to_owned());
        let admission = door.admit().await.ok_or_else(stopped)?;
        if event.spec.branch.is_none() {
            event.spec.branch = repo::current_branch(&door.repo);
        }
        door.router.send(Emit { event, admission }).await.map_err(|_| stopped())?
    }

    /// As [`emit`](Self::emit), for plain threads; waits at most `deadline`. Not from within an actor.
    ///
    /// # Errors
    /// As `emit`; after `deadline` the event may or may not have been kept, and its idempotency key tells when it
    /// is emitted again.
    pub fn emit_blocking(&self, event: Event, deadline: Duration) -> Result<Receipt, EmitError> {
        let handle = self.clone();
        self.block(deadline, async move { handle.emit(event).await }).unwrap_or_else(|| match *self.0 {
            State::Off => Ok(Receipt::Off),
            State::On(_) => {
                Err(EmitError::Unavailable(format!("no answer within {} ms", deadline.as_millis())))
            }
        })
    }

    /// Sends one signed sample of `spec` to an active subscription now and says what came of it.
    ///
    /// # Errors
    /// No such subscription, webhooks are off, or the runtime has stopped.
    pub async fn test(&self, spec: SpecId, subscription: SubscriptionId) -> Result<Sent, SendError> {
        let door = self.door()?;
        let admission = door.admit().await.ok_or_else(gone)?;
        let event = payload::sample(spec, repo::current_branch(&door.repo));
        door.router.send(Sample { event, subscription, admission }).await.map_err(|_| gone())?
    }

    /// Sends a dead letter again now, under its own id, signed anew. Success removes it; failure adds to it.
    ///
    /// # Errors
    /// No such dead letter, its subscription is gone, webhooks are off, or the runtime has stopped.
    pub async fn replay(&self, spec: SpecId, id: DeliveryId) -> Result<Sent, SendError> {
        let door = self.door()?;
        let admission = door.admit().await.ok_or_else(gone)?;
        door.router.send(Replay { spec, id, admission }).await.map_err(|_| gone())?
    }

    /// Waits until nothing is under way and nothing is due; what waits for a later retry does not count.
    pub async fn idle(&self) {
        if let State::On(door) = &*self.0
            && door.router.send(WaitIdle).await.is_err()
        {
            log::debug!("the runtime stopped while someone waited for it to be idle");
        }
    }

    /// Runs one of the calls above from a plain thread, for at most `deadline`; `None` after it, when the runtime
    /// has stopped, or when webhooks are off.
    pub fn block<T: Send + 'static>(
        &self,
        deadline: Duration,
        call: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let State::On(door) = &*self.0 else { return None };
        let (answer, answered) = mpsc::sync_channel(1);
        door.arbiter.spawn(async move {
            if answer.send(call.await).is_err() {
                log::debug!("a caller gave up waiting");
            }
        });
        answered.recv_timeout(deadline).ok()
    }

    fn door(&self) -> Result<&Door, SendError> {
        match &*self.0 {
            State::On(door) => Ok(door),
            State::Off => Err(SendError(
                "webhooks are off: set enabled = true, or SPECKIT_WEBHOOKS_ENABLED=1".to_owned(),
            )),
        }
    }
}

fn gone() -> SendError {
    SendError("the runtime has stopped".to_owned())
}

impl Door {
    async fn admit(&self) -> Option<OwnedSemaphorePermit> {
        self.admission.clone().acquire_owned().await.ok()
    }
}

/// The runtime's thread, from start to end.
fn run(
    config: Config,
    environment: Environment,
    ready: &SyncSender<Result<Door, StartError>>,
    stop: oneshot::Receiver<Duration>,
) -> Drained {
    let nothing = Drained { pending: 0 };
    let opened = Store::open(&config.spool_dir, &config.evidence_dir).map_err(StartError::from);
    let (store, recovered) = match opened {
        Ok(opened) => opened,
        Err(error) => return report(ready, Err(error), nothing),
    };
    System::new().block_on(async move {
        let ledger_thread = Arbiter::new();
        let ledger = Ledger::start_in_arbiter(&ledger_thread.handle(), move |_| Ledger::new(store));
        let drained = match start_actors(config, &environment, &ledger, recovered) {
            Err(error) => report(ready, Err(error), nothing),
            Ok(door) => {
                let router = door.router.clone();
                report(ready, Ok(door), nothing);
                // A dropped sender is a dropped runtime: stop at once.
                let deadline = stop.await.unwrap_or(Duration::ZERO);
                drain(&router, deadline).await
            }
        };
        if ledger.send(CloseLedger).await.is_err() {
            log::error!("the ledger had stopped already; what is pending is on disk");
        }
        ledger_thread.stop();
        if ledger_thread.join().is_err() {
            log::error!("the ledger's thread panicked; what is pending is on disk");
        }
        drained
    })
}

fn report(
    ready: &SyncSender<Result<Door, StartError>>,
    door: Result<Door, StartError>,
    drained: Drained,
) -> Drained {
    if ready.send(door).is_err() {
        log::debug!("nobody waits any more for the runtime to start");
    }
    drained
}

fn start_actors(
    config: Config,
    environment: &Environment,
    ledger: &Addr<Ledger>,
    recovered: Recovered,
) -> Result<Door, StartError> {
    let active: Vec<Arc<SubscriptionConfig>> =
        config.subscriptions.into_iter().filter(|subscription| subscription.active).map(Arc::new).collect();
    let endpoints = active
        .iter()
        .map(|s| s.endpoint.clone().ok_or_else(|| StartError::NoEndpoint(s.id.clone())))
        .collect::<Result<Vec<_>, _>>()?;
    // A TLS context costs tens of milliseconds and megabytes: only where an endpoint needs it.
    let client = Client::new(endpoints.iter().any(|endpoint| endpoint.is_tls()))?;
    let permits = Arc::new(Semaphore::new(config.max_concurrency));
    let mut known = Dedupe::default();
    let mut seen = recovered.known;
    seen.sort_by_key(|(_, at)| *at);
    for (key, at) in seen {
        known.remember(key, at);
    }
    let mut unfinished: HashMap<SubscriptionId, Vec<Unfinished>> = HashMap::new();
    for delivery in recovered.unfinished {
        unfinished.entry(delivery.delivery.subscription.clone()).or_default().push(delivery);
    }
    let mut targets = Vec::new();
    for (config_entry, endpoint) in active.into_iter().zip(endpoints) {
        let waiting = unfinished.remove(&config_entry.id).unwrap_or_default();
        if !waiting.is_empty() {
            log::info!(
                "{} pending deliveries of {} recovered from the spool",
                waiting.len(),
                config_entry.id
            );
        }
        let sender = Sender {
            config: config_entry.clone(),
            endpoint,
            environment: environment.clone(),
            client: client.clone(),
            permits: permits.clone(),
        };
        let address = Subscription::new(sender, ledger.clone(), config.max_concurrency, waiting).start();
        targets.push(Target { id: config_entry.id.clone(), filter: config_entry.filter.clone(), address });
    }
    for (subscription, waiting) in unfinished {
        log::warn!(
            "{} pending deliveries are for `{subscription}`, which is not an active subscription: they stay in the spool",
            waiting.len()
        );
    }
    Ok(Door {
        router: Router::new(targets, ledger.clone(), known).start(),
        arbiter: Arbiter::current(),
        admission: Arc::new(Semaphore::new(MAX_ADMITTED)),
        repo: config.repo,
    })
}

async fn drain(router: &Addr<Router>, deadline: Duration) -> Drained {
    if timeout(deadline, router.send(Close { wait: true })).await.is_err() {
        log::warn!("requests still under way after {} ms are cut off", deadline.as_millis());
    }
    let Lanes { waiting, in_flight } = router.send(Close { wait: false }).await.unwrap_or_default();
    Drained { pending: waiting + in_flight }
}

/// The spool directory's file that says where a running `serve` is.
pub fn runtime_file(spool_dir: &Path) -> PathBuf {
    spool_dir.join("runtime.json")
}
