//! A runtime whose spool another process owns: its events go through that process, and when that
//! ends it takes over.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::block::on_a_thread;
use super::{Mode, PAUSE, Setting};
use crate::answer::{EmitError, Receipt};
use crate::ask::{Ask, EmitEvent, ReadStatus};
use crate::control::{Client, ClientError};
use crate::event::Event;
use crate::feed::Feed;
use crate::spool;

/// Events that may wait to be handed over; more go to the inbox.
const MAX_WAITING: usize = 1024;

/// How long an operator's request may take: the longest deadline of an attempt, plus its wait in
/// the queue.
const PATIENCE: Duration = Duration::from_secs(660);

/// How often the owner is asked for its status, and how long it may take to answer.
const SHOW_EVERY: Duration = Duration::from_secs(2);

/// How long the owner may take to answer at all.
const CONNECT: Duration = Duration::from_secs(2);

/// The way to the owner. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Link {
    jobs: SyncSender<Job>,
    spool_dir: std::path::PathBuf,
}

/// An event to be handed over.
struct Job {
    event: Event,
    deadline: Instant,
    reply: oneshot::Sender<Result<Receipt, EmitError>>,
}

impl Link {
    /// Hands an event to the owner.
    pub(super) async fn emit(&self, event: Box<Event>, within: Duration) -> Result<Receipt, EmitError> {
        let unavailable = |reason: &str| EmitError::Unavailable(reason.to_owned());
        let (reply, answer) = oneshot::channel();
        let job = Job { event: *event, deadline: Instant::now() + within, reply };
        self.jobs.try_send(job).map_err(|_| unavailable("too many events wait for the spool's owner"))?;
        answer.await.unwrap_or_else(|_| Err(unavailable("the spool changes its owner")))
    }

    /// Asks the owner something on a new thread: operators ask seldom, and the answer may wait for
    /// an endpoint.
    pub(super) async fn ask<A: Ask>(&self, ask: A) -> Result<A::Answer, ClientError> {
        let spool_dir = self.spool_dir.clone();
        let asking = on_a_thread(move || {
            Client::connect(&spool_dir, CONNECT).and_then(|mut client| client.request(&ask, PATIENCE))
        });
        let no_thread =
            |error| ClientError::Refused(format!("cannot start a thread to ask the owner: {error}"));
        asking.await.unwrap_or_else(|error| Err(no_thread(error)))
    }
}

/// Hands events over until the spool is free, or the runtime is to stop.
pub(super) fn run(setting: &Setting) {
    let spool_dir = &setting.current.config().spool_dir;
    let (jobs, waiting) = mpsc::sync_channel::<Job>(MAX_WAITING);
    log::info!("another process owns the spool {}: standing by", spool_dir.display());
    setting.is_ready(Mode::Standby(Link { jobs, spool_dir: spool_dir.clone() }));
    let mut client = None;
    let mut looked = Instant::now();
    let mut view = View::default();
    while !setting.is_stopped() {
        match waiting.recv_timeout(PAUSE) {
            Ok(Job { event, deadline, reply }) => {
                let result = hand_over(&mut client, spool_dir, &event, deadline);
                if reply.send(result).is_err() {
                    log::debug!("an emitter no longer waits for its answer");
                }
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
        }
        if looked.elapsed() >= PAUSE {
            looked = Instant::now();
            view.look(&setting.current.feed, spool_dir);
            if !spool::is_owned(spool_dir) {
                log::info!("the spool {} is free: taking over", spool_dir.display());
                break;
            }
        }
    }
    setting.set_mode(Mode::Starting);
}

/// What those who watch see of the owner.
#[derive(Default)]
struct View {
    looked: Option<Instant>,
    looking: Option<JoinHandle<()>>,
}

impl View {
    /// Asks the owner for its status, on another thread and from time to time, while somebody
    /// watches.
    fn look(&mut self, feed: &Feed, spool_dir: &Path) {
        let is_time = self.looked.is_none_or(|looked| looked.elapsed() >= SHOW_EVERY);
        let is_looking = self.looking.as_ref().is_some_and(|looking| !looking.is_finished());
        if !is_time || is_looking || !feed.is_watched() {
            return;
        }
        self.looked = Some(Instant::now());
        let (feed, spool_dir) = (feed.clone(), spool_dir.to_owned());
        let thread = thread::Builder::new().name("spec-notify-view".to_owned());
        let looking = thread.spawn(move || {
            let status = Client::connect(&spool_dir, CONNECT)
                .and_then(|mut client| client.request(&ReadStatus {}, SHOW_EVERY));
            match status {
                Ok(status) => feed.show(status),
                Err(error) => log::debug!("no status for those who watch: {error}"),
            }
        });
        self.looking = looking.ok();
    }
}

/// One exchange with the owner. If the connection has ended meanwhile, repeats it on a new one: the
/// owner recognises an event that comes twice.
fn hand_over(
    client: &mut Option<Client>,
    spool_dir: &Path,
    event: &Event,
    deadline: Instant,
) -> Result<Receipt, EmitError> {
    let unavailable = |reason: String| EmitError::Unavailable(reason);
    let request = EmitEvent::of(event).map_err(|error| EmitError::Refused(error.to_string()))?;
    let left = || deadline.saturating_duration_since(Instant::now());
    if let Some(open) = client
        && let Ok(emitted) = open.request(&request, left())
    {
        return emitted.into_receipt();
    }
    *client = None;
    let mut fresh =
        Client::connect(spool_dir, left().min(CONNECT)).map_err(|error| unavailable(error.to_string()))?;
    let emitted = fresh.request(&request, left()).map_err(|error| unavailable(error.to_string()))?;
    *client = Some(fresh);
    emitted.into_receipt()
}
