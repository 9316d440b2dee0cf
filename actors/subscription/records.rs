//! Hands what became of deliveries to the Ledger, and tries again until it is written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::{Due, Subscription};
use crate::actors::ledger::{GiveUp, Ledger, NotWritten, RecordAttempt, Reply};
use crate::archive::Finished;
use crate::delivery::{DeliveryId, Pending, Reason};

/// Ended attempts go to the Ledger in batches of 16, or after 2 ms, while others are under way. A
/// crash would send that many again.
const MAX_GATHERED: usize = 16;
const GATHERED_FOR: Duration = Duration::from_millis(2);

/// The pause before something that could not be written is tried again.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

/// From a task of its own: what became of a delivery is on disk. Bounded by
/// [`MAX_UNRECORDED`](super::MAX_UNRECORDED).
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Recorded {
    id: DeliveryId,
    retry: Option<Due>,
}

/// An attempt that ended, when its delivery is due again, and when it is handed to the Ledger at
/// the latest.
pub(super) struct Gathered {
    finished: Arc<Finished>,
    retry: Option<Due>,
    hand_over_by: Instant,
}

impl Subscription {
    /// Keeps an attempt that ended until it is handed to the Ledger.
    pub(super) fn gather(&mut self, finished: Finished, retry: Option<Due>) {
        self.unrecorded += 1;
        let hand_over_by = Instant::now() + GATHERED_FOR;
        self.gathered.push(Gathered { finished: Arc::new(finished), retry, hand_over_by });
    }

    /// When the gathered attempts are handed over at the latest.
    pub(super) fn hand_over_by(&self) -> Option<Instant> {
        self.gathered.first().map(|oldest| oldest.hand_over_by)
    }

    /// Hands ended attempts to the Ledger, in batches while more are under way, because each
    /// hand-over wakes the Ledger's thread.
    pub(super) fn hand_over(&mut self, now: Instant, context: &Context<Self>) {
        let is_last = self.lane.in_flight() == 0 || !self.lane.is_open();
        let is_time = self.hand_over_by().is_some_and(|by| by <= now);
        if !is_last && !is_time && self.gathered.len() < MAX_GATHERED {
            return;
        }
        let gathered = std::mem::take(&mut self.gathered);
        let last = gathered.len().saturating_sub(1);
        for (at, Gathered { finished, retry, .. }) in gathered.into_iter().enumerate() {
            let (ledger, id) = (self.ledger.clone(), finished.delivery.id);
            // The health after the last one includes all before it.
            let (health, epoch) = ((at == last).then(|| self.health.clone()), self.right.epoch());
            let hand = move |again, health| {
                let finished = finished.clone();
                hand(&ledger, |reply| RecordAttempt { finished, again, health, epoch, reply })
            };
            let answer = hand(false, health);
            self.spawn(context, async move {
                until_written(id, answer, || hand(true, None)).await;
                Recorded { id, retry }
            });
        }
    }

    /// Gives the oldest delivery up because too many wait.
    pub(super) fn drop_oldest(&mut self, dropped: &Pending, context: &mut Context<Self>) {
        let delivery = dropped.delivery().clone();
        log::warn!(
            subscription:% = self.id, spec:% = delivery.spec, delivery:% = delivery.id;
            "more than max_pending deliveries of {} wait: dropped the oldest, {} ({})",
            self.id,
            delivery.key,
            delivery.id
        );
        self.give_up(dropped, Reason::SpoolSaturated, context);
    }

    /// Gives up a waiting delivery without an attempt.
    pub(super) fn give_up(&mut self, pending: &Pending, reason: Reason, context: &mut Context<Self>) {
        let delivery = pending.delivery().clone();
        let held = pending.body().map(|body| body.bytes().clone());
        let (ledger, id, epoch) = (self.ledger.clone(), delivery.id, self.right.epoch());
        let attempts = pending.attempts_made();
        let hand = move || {
            hand(&ledger, |reply| GiveUp {
                delivery: delivery.clone(),
                reason: reason.clone(),
                attempts,
                held: held.clone(),
                epoch,
                reply,
            })
        };
        let answer = hand();
        self.unread.remove(&id);
        self.unrecorded += 1;
        self.spawn(context, async move {
            until_written(id, answer, hand).await;
            Recorded { id, retry: None }
        });
    }
}

/// What the Ledger will answer, or why it could not be asked.
pub(super) type Answer = Result<oneshot::Receiver<Result<(), NotWritten>>, NotWritten>;

/// Hands something to the Ledger at once, so that messages keep their order.
pub(super) fn hand<M>(ledger: &Addr<Ledger>, message: impl FnOnce(Reply) -> M) -> Answer
where
    M: Message<Result = ()> + Send + 'static,
    Ledger: Handler<M>,
{
    let (reply, answer) = oneshot::channel();
    match ledger.try_send(message(reply)) {
        Ok(()) => Ok(answer),
        Err(SendError::Full(_)) => Err(NotWritten::Failed("the ledger is busy".to_owned())),
        Err(SendError::Closed(_)) => Err(NotWritten::Stopped),
    }
}

/// Resolves when it is written.
pub(super) async fn written(answer: Answer) -> Result<(), NotWritten> {
    answer?.await.unwrap_or(Err(NotWritten::Stopped))
}

/// Tries again while the disk refuses: until it is written, only this task knows what happened.
/// Ends when the Ledger has stopped; the delivery is then pending at the next start.
async fn until_written(id: DeliveryId, mut answer: Answer, again: impl Fn() -> Answer) {
    let mut said = String::new();
    while let Err(NotWritten::Failed(error)) = written(answer).await {
        if said != error {
            log::error!(
                delivery:% = id;
                "what happened to {id} is not recorded yet, and is tried again each second: {error}"
            );
            said = error;
        }
        actix_rt::time::sleep(RECORD_AGAIN).await;
        answer = again();
    }
}

impl Handler<Recorded> for Subscription {
    type Result = ();

    fn handle(&mut self, Recorded { id, retry }: Recorded, context: &mut Self::Context) {
        self.unrecorded -= 1;
        self.under_way.remove(&id);
        if let Some((pending, due)) = retry.filter(|_| self.right.keeps()) {
            self.lane.enqueue(pending, due);
        }
        self.pump(context);
    }
}
