//! The way to the actors of one run, from any thread and any executor.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::Addr;
use actix_rt::ArbiterHandle;
use actix_rt::time::{sleep, timeout};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::ledger::{Ledger, ReadInbox, SettleInbox};
use super::router::{Emit, EmitError, Receipt, Replay, Router, Sample, WaitIdle};
use super::subscription::{NotSent, Sent};
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::{Event, SpecId};
use crate::intake::repo;
use crate::payload;
use crate::store::{InboxName, Taken};

/// Emits and requests under way at a time; more wait for their turn.
const MAX_ADMITTED: usize = 1024;

/// Inbox files read at a time.
const INBOX_BATCH: usize = 256;

/// How often an empty inbox is looked at.
const INBOX_POLL: Duration = Duration::from_millis(500);

/// See the module's first line. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    router: Addr<Router>,
    arbiter: ArbiterHandle,
    admission: Arc<Semaphore>,
    repo: Arc<Path>,
}

impl Door {
    /// To be called on the actors' own arbiter.
    pub(crate) fn new(router: Addr<Router>, repo: &Path) -> Self {
        Self {
            router,
            arbiter: actix_rt::Arbiter::current(),
            admission: Arc::new(Semaphore::new(MAX_ADMITTED)),
            repo: repo.into(),
        }
    }

    /// The Router, for the end of a run.
    pub(crate) fn router(&self) -> &Addr<Router> {
        &self.router
    }

    /// Accepts an event: when this says `Accepted`, it is synced to disk. Waits `within` for admission, and again for
    /// the disk.
    pub(crate) async fn emit(
        &self,
        mut event: Event,
        inbox: Option<InboxName>,
        within: Duration,
    ) -> Result<Receipt, EmitError> {
        let stopped = || EmitError::Unavailable("the runtime has stopped".to_owned());
        let admission = self.admit(within).await.ok_or_else(|| {
            EmitError::Unavailable("the runtime is stopped, or busy with too many events".to_owned())
        })?;
        if event.spec.branch.is_none() {
            event.spec.branch = repo::current_branch(&self.repo);
        }
        let (reply, answer) = oneshot::channel();
        let emit = Emit { event, inbox, within, admission, reply };
        self.router.send(emit).await.map_err(|_| stopped())?;
        answer.await.unwrap_or_else(|_| Err(stopped()))
    }

    /// Sends one signed sample of `spec` to an active subscription now.
    pub(crate) async fn test(&self, spec: SpecId, subscription: SubscriptionId) -> Result<Sent, NotSent> {
        let admission = self.admit(ADMISSION).await.ok_or_else(gone)?;
        let event = payload::sample(spec, repo::current_branch(&self.repo));
        self.router.send(Sample { event, subscription, admission }).await.map_err(|_| gone())?
    }

    /// Sends a dead letter again now, under its own id, signed anew. Success removes it; failure adds to it.
    pub(crate) async fn replay(&self, spec: SpecId, id: DeliveryId) -> Result<Sent, NotSent> {
        let admission = self.admit(ADMISSION).await.ok_or_else(gone)?;
        self.router.send(Replay { spec, id, admission }).await.map_err(|_| gone())?
    }

    /// Waits until nothing is under way and nothing is due.
    pub(crate) async fn idle(&self) {
        if self.router.send(WaitIdle).await.is_err() {
            log::debug!("the runtime stopped while someone waited for it to be idle");
        }
    }

    /// The caller's executor may have no timers: who has to wait, waits on ours.
    async fn admit(&self, within: Duration) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = self.admission.clone().try_acquire_owned() {
            return Some(permit);
        }
        let (admitted, admission) = oneshot::channel();
        let semaphore = self.admission.clone();
        self.arbiter.spawn(async move {
            if let Ok(Ok(permit)) = timeout(within, semaphore.acquire_owned()).await
                && admitted.send(permit).is_err()
            {
                log::debug!("an emitter gave up waiting for admission");
            }
        });
        admission.await.ok()
    }
}

/// How long a request of an operator waits for admission.
const ADMISSION: Duration = Duration::from_secs(10);

fn gone() -> NotSent {
    NotSent("the runtime has stopped".to_owned())
}

/// Takes the inbox in, in order, until the actors end. A file goes when its event is accepted or known.
pub(crate) async fn take_inbox_in(ledger: Addr<Ledger>, door: Door) {
    /// The disk may take its time: the file waits as well as we do.
    const PATIENCE: Duration = Duration::from_secs(3600);
    while let Ok(events) = ledger.send(ReadInbox { count: INBOX_BATCH }).await {
        let mut stuck = events.is_empty();
        for Taken { name, event } in events {
            let emitted = match event {
                Ok(event) => door.emit(event, Some(name.clone()), PATIENCE).await,
                Err(why) => Err(EmitError::Refused(why)),
            };
            let rejected = match emitted {
                // The Ledger has removed the file.
                Ok(Receipt::Accepted(_)) => continue,
                Ok(_) => None,
                Err(EmitError::Refused(why)) => Some(why),
                Err(EmitError::Unavailable(why)) => {
                    log::warn!("the inbox waits: {why}");
                    stuck = true;
                    break;
                }
            };
            if ledger.send(SettleInbox { name, rejected }).await.is_err() {
                return;
            }
        }
        if stuck {
            sleep(INBOX_POLL).await;
        }
    }
}
