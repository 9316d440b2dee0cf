//! A Subscription: one config entry's mailbox, its lane of deliveries, and its one timer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use jiff::SignedDuration;
use tokio::sync::{Semaphore, oneshot};

use super::attempt::{self, Attempt};
use super::ledger::{Effect, Ledger, NotWritten, RecordAttempt};
use crate::clock;
use crate::config::SubscriptionConfig;
use crate::delivery::{Delivery, InFlight, Jitter, Judgement, Lane, Pending, Verdict};
use crate::env::Environment;
use crate::http::Client;
use crate::secret::Endpoint;
use crate::store::{DeadLetter, Unfinished};

/// Requests of one subscription at a time, where `max_concurrency` allows as many.
const MAX_IN_FLIGHT: usize = 8;

/// Finished attempts whose record the Ledger has not written yet; no new attempt starts beyond it.
const MAX_UNRECORDED: usize = 64;

/// From the Router, for each accepted event. What is lost on the way is found in the spool by the next start.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Enqueue(pub(crate) Arc<Delivery>);

/// From the Router, on an operator's request: one attempt now, outside the lane but under the same permits.
/// Bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "Result<Sent, SendError>")]
pub(crate) struct SendNow {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) purpose: Purpose,
}

/// Why one attempt is made now.
pub(crate) enum Purpose {
    /// To try the subscription out.
    Sample,
    /// To resolve a dead letter.
    Replay(Box<DeadLetter>),
}

/// One attempt made on request, and whether the endpoint took it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What was sent.
    pub delivery: Arc<Delivery>,
    /// What came of it.
    pub attempt: Attempt,
    /// Whether it arrived (or, for a dry run, would have been sent).
    pub succeeded: bool,
}

/// Why nothing was sent on request.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct SendError(pub(crate) String);

/// From the Router: answered when nothing is under way and nothing is due. With `close`, nothing starts any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Settle {
    pub(crate) close: bool,
    pub(crate) reply: oneshot::Sender<()>,
}

/// From the Router: how many deliveries wait or are under way.
#[derive(Message)]
#[rtype(result = "Lanes")]
pub(crate) struct Count;

/// How many deliveries are not finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, MessageResponse)]
pub(crate) struct Lanes {
    pub(crate) waiting: usize,
    pub(crate) in_flight: usize,
}

/// What an attempt needs; cheap to clone into the future that makes it.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) config: Arc<SubscriptionConfig>,
    pub(crate) endpoint: Endpoint,
    pub(crate) environment: Environment,
    pub(crate) client: Client,
    pub(crate) permits: Arc<Semaphore>,
}

impl Sender {
    /// Waits for a permit and makes the attempt; the permit is free as soon as the request has ended.
    async fn send(self, delivery: Arc<Delivery>, number: u32) -> Attempt {
        let permit = if self.config.dry_run { None } else { self.permits.acquire().await.ok() };
        let attempt =
            attempt::make(&self.client, &self.environment, &self.config, &self.endpoint, &delivery, number)
                .await;
        drop(permit);
        attempt
    }
}

/// See the module's first line.
pub(crate) struct Subscription {
    sender: Sender,
    ledger: Addr<Ledger>,
    lane: Lane,
    unrecorded: usize,
    timer: Option<SpawnHandle>,
    settling: Vec<oneshot::Sender<()>>,
}

impl Actor for Subscription {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.pump(context);
    }
}

impl Subscription {
    /// A subscription that goes on with what the spool says is unfinished.
    pub(crate) fn new(
        sender: Sender,
        ledger: Addr<Ledger>,
        max_concurrency: usize,
        unfinished: impl IntoIterator<Item = Unfinished>,
    ) -> Self {
        let policy = sender.config.retry.clone();
        let (now, wall) = (Instant::now(), clock::now());
        let longest = policy.max + policy.jitter;
        let mut lane = Lane::new(policy, max_concurrency.min(MAX_IN_FLIGHT));
        for Unfinished { delivery, attempts, next_attempt_at } in unfinished {
            let wait =
                next_attempt_at.map_or(Duration::ZERO, |at| remaining(at.duration_since(wall), longest));
            lane.enqueue(Pending::new(delivery, attempts), now + wait);
        }
        Self { sender, ledger, lane, unrecorded: 0, timer: None, settling: Vec::new() }
    }

    /// Starts what may start, arms the timer for the rest, and answers who waits for quiet.
    fn pump(&mut self, context: &mut Context<Self>) {
        let now = Instant::now();
        while self.unrecorded < MAX_UNRECORDED
            && let Some(in_flight) = self.lane.start_next(now)
        {
            self.launch(in_flight, context);
        }
        if let Some(timer) = self.timer.take() {
            context.cancel_future(timer);
        }
        if self.unrecorded < MAX_UNRECORDED
            && let Some(wait) = self.lane.next_due_in(now)
        {
            self.timer = Some(context.run_later(wait, |subscription, context| {
                subscription.timer = None;
                subscription.pump(context);
            }));
        }
        if self.unrecorded == 0 && !self.lane.is_busy(now) {
            for reply in self.settling.drain(..) {
                if reply.send(()).is_err() {
                    log::debug!("nobody waits any more for {} to settle", self.sender.config.id);
                }
            }
        }
    }

    fn launch(&mut self, in_flight: InFlight, context: &mut Context<Self>) {
        let config = &self.sender.config;
        log::debug!("attempt {} of {} to {} begins", in_flight.attempt(), in_flight.delivery().id, config.id);
        let sending = self.sender.clone().send(in_flight.delivery().clone(), in_flight.attempt());
        context.spawn(sending.into_actor(self).map(|attempt, subscription, context| {
            subscription.finished(in_flight, attempt, context);
        }));
    }

    fn finished(&mut self, in_flight: InFlight, attempt: Attempt, context: &mut Context<Self>) {
        let delivery = in_flight.delivery().clone();
        let number = in_flight.attempt();
        let config = &self.sender.config;
        let jitter = Jitter(config.retry.jitter.mul_f64(fastrand::f64()));
        let (effect, again) = match &attempt.outcome {
            None => {
                log::info!("dry run: {} to {} is recorded and not sent", delivery.id, config.id);
                self.lane.release();
                (Effect::DryRun, None)
            }
            Some(outcome) => {
                let verdict = self.lane.finished(in_flight, outcome, jitter);
                log_verdict(config, &delivery, number, outcome, &verdict);
                match verdict {
                    Verdict::Delivered => (Effect::Delivered, None),
                    Verdict::DeadLetter(reason) => (Effect::DeadLetter(reason), None),
                    Verdict::Retry { pending, wait } => {
                        let next_attempt_at = clock::now() + wait;
                        (Effect::Retry { next_attempt_at }, Some((pending, Instant::now() + wait)))
                    }
                }
            }
        };
        let buried = matches!(effect, Effect::DeadLetter(_));
        let written = self.record(delivery.clone(), attempt, effect);
        self.unrecorded += 1;
        context.spawn(written.into_actor(self).map(move |written, subscription, context| {
            subscription.unrecorded -= 1;
            if let Some((pending, due)) = again {
                subscription.lane.enqueue(pending, due);
            }
            if let Err(error) = written {
                log::error!("attempt {number} of {} not recorded: {error}", delivery.id);
                if buried {
                    // Its dead letter could not be written: the spool still has it, so the lane keeps it too.
                    let wait = subscription.sender.config.retry.max;
                    subscription.lane.enqueue(Pending::new(delivery, number - 1), Instant::now() + wait);
                }
            }
            subscription.pump(context);
        }));
        self.pump(context);
    }

    /// Hands an attempt to the Ledger; resolves when it is written.
    fn record(
        &self,
        delivery: Arc<Delivery>,
        attempt: Attempt,
        effect: Effect,
    ) -> impl Future<Output = Result<(), NotWritten>> + use<> {
        let (reply, answer) = oneshot::channel();
        let sent = self.ledger.try_send(RecordAttempt { delivery, attempt, effect, reply });
        async move {
            sent.map_err(|error| NotWritten(format!("the ledger does not take records: {error}")))?;
            answer.await.unwrap_or_else(|_| Err(NotWritten("the ledger has stopped".to_owned())))
        }
    }
}

/// How much of a wait is left, whatever the wall clock did meanwhile: never negative, never above the longest.
fn remaining(left: SignedDuration, longest: Duration) -> Duration {
    Duration::try_from(left).unwrap_or(Duration::ZERO).min(longest)
}

fn log_verdict(
    config: &SubscriptionConfig,
    delivery: &Delivery,
    number: u32,
    outcome: &crate::delivery::Outcome,
    verdict: &Verdict,
) {
    let (subscription, summary) = (&config.id, outcome.summary());
    let what = format!("{} ({})", delivery.key, delivery.id);
    match verdict {
        Verdict::Delivered => log::info!("delivered {what} to {subscription} at attempt {number}: {summary}"),
        Verdict::Retry { wait, .. } => {
            let seconds = wait.as_secs_f64();
            log::warn!(
                "attempt {number} of {what} to {subscription} failed, next in {seconds:.1} s: {summary}"
            );
        }
        Verdict::DeadLetter(reason) => {
            log::error!(
                "gave {what} to {subscription} up after attempt {number}, {reason}: {summary}; {}",
                reason.hint()
            );
        }
    }
}

impl Handler<Enqueue> for Subscription {
    type Result = ();

    fn handle(&mut self, Enqueue(delivery): Enqueue, context: &mut Self::Context) {
        self.lane.enqueue(Pending::new(delivery, 0), Instant::now());
        self.pump(context);
    }
}

impl Handler<SendNow> for Subscription {
    type Result = ResponseActFuture<Self, Result<Sent, SendError>>;

    fn handle(&mut self, message: SendNow, _: &mut Self::Context) -> Self::Result {
        let SendNow { delivery, purpose } = message;
        let number = match &purpose {
            Purpose::Sample => 1,
            Purpose::Replay(letter) => {
                u32::try_from(letter.attempts.len()).unwrap_or(u32::MAX).saturating_add(1)
            }
        };
        let sending = self.sender.clone().send(delivery.clone(), number);
        Box::pin(sending.into_actor(self).then(move |attempt, subscription, _| {
            let arrived =
                attempt.outcome.as_ref().is_some_and(|outcome| outcome.judge() == Judgement::Delivered);
            let effect = match purpose {
                Purpose::Sample => Effect::Sample,
                Purpose::Replay(_) if arrived => Effect::Replayed,
                Purpose::Replay(letter) => Effect::ReplayFailed(letter),
            };
            let succeeded = arrived || attempt.outcome.is_none();
            let written = subscription.record(delivery.clone(), attempt.clone(), effect);
            async move {
                written.await.map_err(|error| SendError(format!("sent, but not recorded: {error}")))?;
                Ok(Sent { delivery, attempt, succeeded })
            }
            .into_actor(subscription)
        }))
    }
}

impl Handler<Settle> for Subscription {
    type Result = ();

    fn handle(&mut self, settle: Settle, context: &mut Self::Context) {
        if settle.close {
            self.lane.close();
        }
        self.settling.push(settle.reply);
        self.pump(context);
    }
}

impl Handler<Count> for Subscription {
    type Result = Lanes;

    fn handle(&mut self, _: Count, _: &mut Self::Context) -> Lanes {
        Lanes { waiting: self.lane.waiting(), in_flight: self.lane.in_flight() + self.unrecorded }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_survives_the_wall_clock() {
        let longest = Duration::from_secs(300);
        for (left, expected) in [(-3600, 0), (0, 0), (10, 10), (3600, 300)] {
            assert_eq!(remaining(SignedDuration::from_secs(left), longest), Duration::from_secs(expected));
        }
    }
}
