//! Hands what became of deliveries to the Ledger, and tries again until it is written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::{Due, Subscription};
use crate::actors::ledger::{GiveUp, Ledger, NotWritten, RecordAttempts, Reply};
use crate::archive::Finished;
use crate::delivery::{DeliveryId, Health, Pending, Reason};

/// Ended attempts go to the Ledger in batches ([`Right::at_a_time`](super::Right::at_a_time)), or
/// after 2 ms, while others may begin.
const GATHERED_FOR: Duration = Duration::from_millis(2);

/// The pause before something that could not be written is tried again.
const RECORD_AGAIN: Duration = Duration::from_secs(1);

/// From a task of its own: which of these deliveries' attempts are on disk, and which are not, and
/// why. Bounded by [`Subscription::has_room`].
#[derive(Default, Message)]
#[rtype(result = "()")]
pub(super) struct Recorded {
    written: Vec<(DeliveryId, Option<Due>)>,
    unwritten: Vec<(Ended, NotWritten)>,
}

/// From a task of its own: what the disk had refused, or what was given up, is on disk, and when
/// the delivery is due again. Bounded by `MAX_HELD_UP`.
#[derive(Message)]
#[rtype(result = "()")]
struct WrittenAtLast(DeliveryId, Option<Due>);

/// An attempt that ended, and when its delivery is due again.
struct Ended {
    finished: Arc<Finished>,
    retry: Option<Due>,
}

/// Attempts that ended and are not handed to the Ledger yet, oldest first.
#[derive(Default)]
pub(super) struct Gathered {
    ended: Vec<Ended>,
    /// When they are handed over at the latest.
    by: Option<Instant>,
}

impl Subscription {
    /// Keeps an attempt that ended until it is handed to the Ledger.
    pub(super) fn gather(&mut self, finished: Finished, retry: Option<Due>) {
        self.unwritten += 1;
        self.gathered.by.get_or_insert_with(|| Instant::now() + GATHERED_FOR);
        self.gathered.ended.push(Ended { finished: Arc::new(finished), retry });
    }

    /// When the gathered attempts are handed over at the latest.
    pub(super) fn hand_over_by(&self) -> Option<Instant> {
        self.gathered.by
    }

    /// Hands ended attempts to the Ledger, in batches while more may begin, because each hand-over
    /// wakes the Ledger's thread.
    pub(super) fn hand_over(&mut self, now: Instant, context: &Context<Self>) {
        let is_last = self.lane.in_flight() == 0 || !self.lane.is_open() || !self.has_room();
        let is_time = self.hand_over_by().is_some_and(|by| by <= now);
        let is_batch = self.gathered.ended.len() >= self.right.at_a_time();
        if self.gathered.ended.is_empty() || !(is_last || is_time || is_batch) {
            return;
        }
        let Gathered { ended, .. } = std::mem::take(&mut self.gathered);
        let attempts = ended.iter().map(|ended| ended.finished.clone()).collect();
        // The health after the last one includes all before it.
        let answers = record(&self.ledger, attempts, false, Some(self.health.clone()), self.right.epoch());
        self.spawn(context, async move {
            let mut recorded = Recorded::default();
            for (ended, answer) in ended.into_iter().zip(answers) {
                match written(answer).await {
                    Ok(()) => recorded.written.push((ended.finished.delivery.id, ended.retry)),
                    Err(error) => recorded.unwritten.push((ended, error)),
                }
            }
            recorded
        });
    }

    /// Hands an attempt that could not be written to the Ledger again and again.
    fn record_again(&mut self, Ended { finished, retry }: Ended, error: NotWritten, context: &Context<Self>) {
        let (ledger, id, epoch) = (self.ledger.clone(), finished.delivery.id, self.right.epoch());
        self.spawn(context, async move {
            let again = |was_taken| {
                let answer = record(&ledger, vec![finished.clone()], was_taken, None, epoch).pop();
                answer.unwrap_or(Err(NotWritten::Stopped))
            };
            until_written(id, Err(error), again).await;
            WrittenAtLast(id, retry)
        });
    }

    /// What happened to a delivery is on disk: it waits for its next attempt, if there is one.
    fn goes_on(&mut self, id: DeliveryId, retry: Option<Due>) {
        self.under_way.remove(&id);
        if let Some((pending, due)) = retry.filter(|_| self.right.keeps()) {
            self.lane.enqueue(pending, due);
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
        self.held_up += 1;
        self.spawn(context, async move {
            until_written(id, answer, |_| hand()).await;
            WrittenAtLast(id, None)
        });
    }
}

/// What the Ledger will answer, or why it could not be asked.
pub(super) type Answer = Result<oneshot::Receiver<Result<(), NotWritten>>, NotWritten>;

/// Hands something to the Ledger at once, so that messages keep their order.
fn hand<M>(ledger: &Addr<Ledger>, message: impl FnOnce(Reply) -> M) -> Answer
where
    M: Message<Result = ()> + Send + 'static,
    Ledger: Handler<M>,
{
    let (reply, answer) = oneshot::channel();
    sent(ledger.try_send(message(reply))).map(|()| answer)
}

/// Hands ended attempts to the Ledger at once, and returns its answer for each.
pub(super) fn record(
    ledger: &Addr<Ledger>,
    attempts: Vec<Arc<Finished>>,
    again: bool,
    health: Option<Health>,
    epoch: Option<i64>,
) -> Vec<Answer> {
    let (attempts, answers): (Vec<_>, Vec<_>) = attempts
        .into_iter()
        .map(|finished| {
            let (reply, answer) = oneshot::channel();
            ((finished, reply), answer)
        })
        .unzip();
    let sent = sent(ledger.try_send(RecordAttempts { attempts, again, health, epoch }));
    answers.into_iter().map(|answer| sent.clone().map(|()| answer)).collect()
}

fn sent<M>(sent: Result<(), SendError<M>>) -> Result<(), NotWritten> {
    sent.map_err(|error| match error {
        SendError::Full(_) => NotWritten::Busy,
        SendError::Closed(_) => NotWritten::Stopped,
    })
}

/// Resolves when it is written.
pub(super) async fn written(answer: Answer) -> Result<(), NotWritten> {
    answer?.await.unwrap_or(Err(NotWritten::Stopped))
}

/// Tries again while the disk refuses: until it is written, only this task knows what happened.
/// `again` hears whether the Ledger has taken it once, and its evidence with it. Ends when the
/// Ledger has stopped; the delivery is then pending at the next start.
async fn until_written(id: DeliveryId, mut answer: Answer, again: impl Fn(bool) -> Answer) {
    let (mut said, mut was_taken) = (String::new(), false);
    while let Err(refused @ (NotWritten::Failed(_) | NotWritten::Busy)) = written(answer).await {
        was_taken |= matches!(refused, NotWritten::Failed(_));
        let error = refused.to_string();
        if said != error {
            log::error!(
                delivery:% = id;
                "what happened to {id} is not recorded yet, and is tried again each second: {error}"
            );
            said = error;
        }
        actix_rt::time::sleep(RECORD_AGAIN).await;
        answer = again(was_taken);
    }
}

impl Handler<Recorded> for Subscription {
    type Result = ();

    fn handle(&mut self, Recorded { written, unwritten }: Recorded, context: &mut Self::Context) {
        self.unwritten -= written.len() + unwritten.len();
        self.held_up += unwritten.len();
        for (id, retry) in written {
            self.goes_on(id, retry);
        }
        for (ended, error) in unwritten {
            self.record_again(ended, error, context);
        }
        self.pump(context);
    }
}

impl Handler<WrittenAtLast> for Subscription {
    type Result = ();

    fn handle(&mut self, WrittenAtLast(id, retry): WrittenAtLast, context: &mut Self::Context) {
        self.held_up -= 1;
        self.goes_on(id, retry);
        self.pump(context);
    }
}
