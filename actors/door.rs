//! The way to the actors of one run, from any thread and any executor.

use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use actix::Addr;
use actix_rt::time::sleep;
use futures_util::future::{Either, select};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

use super::ledger::{Condition, FindLastAttempts, Ledger, Look, ReadCondition};
use super::router::{
    Emission, Emit, GiveUpLost, ListAllUnfinished, ReadQueues, Replay, Router, Sample, WaitIdle,
};
use super::subscription::{Queue, Sent};
use super::tell::tell;
use crate::answer::{EmitError, Receipt, RequestError};
use crate::config::{Config, Origin, Report, Role};
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::env::Environment;
use crate::event::{Event, SpecId};
use crate::intake::branch::Branch;
use crate::payload;
use crate::store::{
    InboxName, Listing, Page, Query, StoreOptions, Survey, Surveyor, Tried, TriedQuery, tried,
};

/// Emits and requests under way at a time; more wait for their turn.
const MAX_ADMITTED: u32 = 1024;

/// Threads that read files for operators at a time; more wait for their turn.
const MAX_READING: usize = 2;

/// How often those who wait look at the clock.
const TICK: Duration = Duration::from_millis(250);

/// How often the names of all files are made sure of.
const LOOK_AFTER_FILES: Duration = Duration::from_millis(500);

/// See the module's first line. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    router: Addr<Router>,
    ledger: Addr<Ledger>,
    admission: Arc<Semaphore>,
    /// Held by who reads the files for an operator.
    reading: Arc<Semaphore>,
    branch: Branch,
    files: Arc<StoreOptions>,
    /// Used by one reader at a time.
    surveyor: Arc<Mutex<Surveyor>>,
    /// What of the inbox stands aside, and why.
    inbox: Arc<Mutex<Vec<String>>>,
    /// Whether the repo is watched.
    watching: Arc<Mutex<Watching>>,
    /// Where the config that is in force came from.
    origin: Arc<Mutex<Option<Origin>>>,
    reloads: mpsc::Sender<ReloadReply>,
    /// Wakes those who wait, for their executors may have no timers.
    ticks: Arc<Notify>,
    started: Instant,
}

/// Who waits for a reload to end.
pub(crate) type ReloadReply = oneshot::Sender<Report>;

/// Whether the repo is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Watching {
    /// Nobody asked for it.
    #[default]
    Off,
    On,
    /// It should be, and this is wrong.
    Troubled(String),
}

/// What an operator may want to know now, from the actors and the disk.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) queues: Vec<(SubscriptionId, Role, Queue)>,
    pub(crate) condition: Condition,
    pub(crate) survey: Survey,
    /// What of the inbox stands aside, and why.
    pub(crate) inbox: Vec<String>,
    pub(crate) watching: Watching,
    /// What is to be done because the config was edited since it was read, if it was.
    pub(crate) edited: Option<String>,
    pub(crate) uptime: Duration,
}

impl Door {
    /// To be called on the actors' own arbiter.
    pub(crate) fn new(
        router: Addr<Router>,
        ledger: Addr<Ledger>,
        config: &Config,
        environment: Environment,
    ) -> (Self, mpsc::Receiver<ReloadReply>) {
        let (reloads, reload) = mpsc::channel(1);
        let door = Self {
            router,
            ledger,
            admission: Arc::new(Semaphore::new(MAX_ADMITTED as usize)),
            reading: Arc::new(Semaphore::new(MAX_READING)),
            branch: Branch::new(&config.repo, environment),
            files: Arc::new(config.store_options()),
            surveyor: Arc::default(),
            inbox: Arc::default(),
            watching: Arc::default(),
            origin: Arc::new(Mutex::new(config.origin.clone())),
            reloads,
            ticks: Arc::default(),
            started: Instant::now(),
        };
        actix_rt::spawn(tick(door.ticks.clone()));
        (door, reload)
    }

    /// The Router, for the end of a run.
    pub(crate) fn router(&self) -> &Addr<Router> {
        &self.router
    }

    /// Resolves when every actor has begun, with all that was recovered. What is emitted earlier
    /// waits for that.
    pub(crate) async fn began(&self) {
        if self.router.send(ReadQueues).await.is_err() {
            log::debug!("an actor has ended before it began");
        }
    }

    /// Accepts an event: when this says `Accepted`, it is synced to disk. Waits `within`, or a
    /// [`TICK`] longer, for admission, and again for the disk; an event for which it no longer
    /// waits may be accepted all the same.
    pub(crate) async fn emit(
        &self,
        event: Event,
        inbox: Option<InboxName>,
        within: Duration,
    ) -> Result<Receipt, EmitError> {
        self.emit_and_name(event, inbox, within).await.result
    }

    /// As [`emit`](Self::emit), and says which event it was.
    pub(crate) async fn emit_and_name(
        &self,
        event: Event,
        inbox: Option<InboxName>,
        within: Duration,
    ) -> Emission {
        let key = event.event.idempotency_key.clone();
        let emitted = self.try_to_emit(event, inbox, within).await;
        emitted.unwrap_or_else(|error| Emission { key, result: Err(error) })
    }

    async fn try_to_emit(
        &self,
        mut event: Event,
        inbox: Option<InboxName>,
        within: Duration,
    ) -> Result<Emission, EmitError> {
        let stopped = || EmitError::Unavailable("the runtime has stopped".to_owned());
        let admission = self.admit(within).await.ok_or_else(|| {
            EmitError::Unavailable("the runtime is stopped, or busy with too many events".to_owned())
        })?;
        self.branch.add_to(&mut event);
        let (reply, answer) = oneshot::channel();
        let emit = Emit { event, inbox, admission: Some(admission), reply };
        let answered = async {
            if !tell(&self.router, emit).await {
                return Err(stopped());
            }
            answer.await.map_err(|_| stopped())
        };
        self.patiently(within, answered).await.unwrap_or_else(|| {
            let waited = format!("no answer from the disk within {} ms", within.as_millis());
            Err(EmitError::Unavailable(waited))
        })
    }

    /// What `work` comes to; `None` where that takes longer than `within`, or a [`TICK`] more.
    async fn patiently<T>(&self, within: Duration, work: impl Future<Output = T>) -> Option<T> {
        let (end, mut work) = (Instant::now() + within, pin!(work));
        loop {
            match select(work.as_mut(), pin!(self.ticks.notified())).await {
                Either::Left((value, _)) => return Some(value),
                Either::Right(_) if Instant::now() < end => {}
                Either::Right(_) => return None,
            }
        }
    }

    /// Sends one signed sample of `spec` to an active subscription now.
    pub(crate) async fn test(
        &self,
        spec: SpecId,
        subscription: SubscriptionId,
        dry_run: bool,
    ) -> Result<Sent, RequestError> {
        let admission = self.admit(ADMISSION).await.ok_or_else(gone)?;
        let event = payload::sample(spec, self.branch.current());
        self.router.send(Sample { event, subscription, dry_run, admission }).await.map_err(|_| gone())?
    }

    /// Sends a dead letter again now, under its own id, signed anew. Success removes it; failure
    /// adds to it.
    pub(crate) async fn replay(&self, spec: SpecId, id: DeliveryId) -> Result<Sent, RequestError> {
        let admission = self.admit(ADMISSION).await.ok_or_else(gone)?;
        self.router.send(Replay { spec, id, admission }).await.map_err(|_| gone())?
    }

    /// Whose door it is.
    pub(crate) fn spool_dir(&self) -> &Path {
        &self.files.spool_dir
    }

    /// What there is to know for `status`.
    pub(crate) async fn facts(&self) -> Result<Facts, RequestError> {
        let queues = self.router.send(ReadQueues).await.map_err(|_| gone())?;
        let condition = self.ledger.send(ReadCondition).await.map_err(|_| gone())?;
        let surveyor = self.surveyor.clone();
        let origin = self.origin.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let look = move |files: &StoreOptions| {
            let survey = surveyor.lock().unwrap_or_else(PoisonError::into_inner).look(&files.spool_dir);
            (survey, origin.and_then(|origin| origin.edited()))
        };
        let (survey, edited) = self.read(look).await?;
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let watching = self.watching.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let uptime = self.started.elapsed();
        Ok(Facts { queues, condition, survey, inbox, watching, edited, uptime })
    }

    /// What of the inbox stands aside from now on, for `status`.
    pub(super) fn tell_of_inbox(&self, aside: Vec<String>) {
        *self.inbox.lock().unwrap_or_else(PoisonError::into_inner) = aside;
    }

    /// Whether the repo is watched from now on, for `status`.
    pub(crate) fn tell_of_watch(&self, watching: Watching) {
        *self.watching.lock().unwrap_or_else(PoisonError::into_inner) = watching;
    }

    /// Where the config that is in force from now on came from, for `status`.
    pub(crate) fn tell_of_config(&self, origin: Option<Origin>) {
        *self.origin.lock().unwrap_or_else(PoisonError::into_inner) = origin;
    }

    /// One page of deliveries, newest first.
    pub(crate) async fn list(&self, query: Query) -> Result<Listing, RequestError> {
        let mut page = Page::new(query);
        let query = Arc::new(page.query().clone());
        let unfinished = self.router.send(ListAllUnfinished(query)).await.map_err(|_| gone())?;
        unfinished.into_iter().for_each(|listed| page.add(listed));
        let last = self.ledger.send(FindLastAttempts(page.tried())).await.map_err(|_| gone())?;
        let listed = self.read(move |files| {
            page.set_last(&last);
            page.add_finished(files).map(|()| page.into_listing())
        });
        listed.await?.map_err(|error| RequestError::Refused(format!("cannot read the evidence: {error}")))
    }

    /// The newest attempts, newest first.
    pub(crate) async fn tried(&self, query: TriedQuery) -> Result<Vec<Tried>, RequestError> {
        let read = self.read(move |files| tried(files, &query)).await?;
        read.map_err(|error| RequestError::Refused(format!("cannot read the evidence: {error}")))
    }

    /// Takes the config over as it is now, if it is good.
    pub(crate) async fn reload(&self) -> Result<Report, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.reloads.send(reply).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Reads files on a thread of its own, few at a time: neither the actors nor the caller's
    /// executor may block.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&StoreOptions) -> T + Send + 'static,
    ) -> Result<T, RequestError> {
        let permit = self.reading.clone().acquire_owned().await.map_err(|_| gone())?;
        let (done, result) = oneshot::channel();
        let files = self.files.clone();
        thread::spawn(move || {
            if done.send(work(&files)).is_err() {
                log::debug!("nobody waits any more for what was read");
            }
            drop(permit);
        });
        result.await.map_err(|_| RequestError::Refused("no thread could be had to read the files".to_owned()))
    }

    /// Waits until nothing is under way and nothing is due.
    pub(crate) async fn idle(&self) {
        // Whoever emits holds a permit until each subscription has its delivery: with all of them
        // in hand nothing is on its way from one actor to another.
        drop(self.admission.acquire_many(MAX_ADMITTED).await);
        if self.router.send(WaitIdle).await.is_err() {
            log::debug!("the runtime stopped while someone waited for it to be idle");
        }
    }

    async fn admit(&self, within: Duration) -> Option<OwnedSemaphorePermit> {
        match self.admission.clone().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => self.patiently(within, self.admission.clone().acquire_owned()).await?.ok(),
        }
    }
}

/// Ticks as long as the runtime's thread runs.
async fn tick(ticks: Arc<Notify>) {
    loop {
        sleep(TICK).await;
        ticks.notify_waiters();
    }
}

/// How long a request of an operator waits for admission.
const ADMISSION: Duration = Duration::from_secs(10);

fn gone() -> RequestError {
    RequestError::Unreachable("the runtime has stopped".to_owned())
}

/// Makes sure of the names of all files, now and again, until the actors end.
pub(crate) async fn look_after_files(ledger: Addr<Ledger>, router: Addr<Router>) {
    while look_once(&ledger, &router).await {
        sleep(LOOK_AFTER_FILES).await;
    }
}

/// Makes sure of the names of all files, and has given up what was taken away; whether the actors
/// are there still.
pub(crate) async fn look_once(ledger: &Addr<Ledger>, router: &Addr<Router>) -> bool {
    match ledger.send(Look).await {
        Ok(lost) if lost.is_empty() => true,
        Ok(lost) => router.send(GiveUpLost(lost)).await.is_ok(),
        Err(_) => false,
    }
}
