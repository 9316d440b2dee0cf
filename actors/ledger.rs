//! The Ledger: the only writer of spool, evidence and dead letters, alone on its thread, so that it may block.
//!
//! Group commit: the first record of a batch schedules one flush; the mailbox is drained before that flush runs,
//! so it writes all that came since, syncs once, and then answers everyone.

use std::sync::Arc;

use actix::prelude::*;
use serde_json::Map;
use tokio::sync::oneshot;

use super::attempt::Attempt;
use crate::clock;
use crate::delivery::{Delivery, DeliveryId, Reason};
use crate::event::SpecId;
use crate::store::{
    Accepted, AttemptLine, DeadLetter, ErrorLine, FinalLine, FinalState, Record, ResponseLine, Store,
};

/// Records after which a batch is flushed even though more wait: bounds a batch, and so an emitter's wait.
const MAX_BATCH: usize = 256;

/// Messages that may wait. Admission (1,024 emits) and the lanes' own bounds keep it from ever being full.
const MAILBOX: usize = 16 * 1024;

/// Why something was not written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotWritten(pub(crate) String);

/// Where the Ledger answers.
pub(crate) type Reply = oneshot::Sender<Result<(), NotWritten>>;

/// From the Router, for each event. Answered when the record is synced. Bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Accept {
    pub(crate) spec: SpecId,
    pub(crate) record: Accepted,
    pub(crate) reply: Reply,
}

/// From a Subscription, for each attempt that ended. Answered when it is written. Bounded by each lane's limit of
/// unwritten records.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RecordAttempt {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) attempt: Attempt,
    pub(crate) effect: Effect,
    pub(crate) reply: Reply,
}

/// What an attempt leads to on disk.
#[derive(Clone, Debug)]
pub(crate) enum Effect {
    /// It stays pending.
    Retry { next_attempt_at: jiff::Timestamp },
    /// It is finished.
    Delivered,
    /// It moves to the dead letters.
    DeadLetter(Reason),
    /// It is finished, unsent.
    DryRun,
    /// A sample, of which only the evidence remains.
    Sample,
    /// The dead letter is resolved.
    Replayed,
    /// The dead letter stays, with one attempt more.
    ReplayFailed(Box<DeadLetter>),
}

impl Effect {
    fn outcome(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Delivered | Self::Replayed => "delivered",
            Self::DeadLetter(_) | Self::ReplayFailed(_) => "failed",
            Self::DryRun => "dry_run",
            Self::Sample => "sample",
        }
    }
}

/// From the Router, for a replay. Bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "Result<DeadLetter, NotWritten>")]
pub(crate) struct ReadDeadLetter {
    pub(crate) spec: SpecId,
    pub(crate) id: DeliveryId,
}

/// From the runtime, once, at the end: everything is written and synced when it is answered.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Close;

/// See the module's first lines.
pub(crate) struct Ledger {
    store: Store,
    waiting: Vec<(SpecId, Reply)>,
    flush_scheduled: bool,
    #[cfg(test)]
    flushes: usize,
}

impl Actor for Ledger {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
    }
}

impl Ledger {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            waiting: Vec::new(),
            flush_scheduled: false,
            #[cfg(test)]
            flushes: 0,
        }
    }

    /// Adds a record to the batch and sees to it that the batch is flushed.
    fn append(&mut self, spec: &SpecId, record: &Record, reply: Reply, context: &mut Context<Self>) {
        match self.store.append(spec, record) {
            Err(error) => answer(reply, Err(NotWritten(error.to_string()))),
            Ok(()) => self.answer_after_flush(spec, reply, context),
        }
    }

    fn answer_after_flush(&mut self, spec: &SpecId, reply: Reply, context: &mut Context<Self>) {
        self.waiting.push((spec.clone(), reply));
        if self.waiting.len() >= MAX_BATCH {
            self.flush();
        } else if !self.flush_scheduled {
            self.flush_scheduled = true;
            context.spawn(actix::fut::ready(()).map(|(), ledger: &mut Self, _| ledger.flush()));
        }
    }

    fn flush(&mut self) {
        self.flush_scheduled = false;
        #[cfg(test)]
        {
            self.flushes += 1;
        }
        let failed = self.store.flush();
        for error in failed.values() {
            log::error!("{error}; nothing of this batch is acknowledged");
        }
        for (spec, reply) in self.waiting.drain(..) {
            let written = failed.get(&spec).map_or(Ok(()), |error| Err(NotWritten(error.to_string())));
            answer(reply, written);
        }
    }

    fn add_attempt_evidence(&mut self, delivery: &Delivery, attempt: &Attempt, effect: &Effect) {
        let result = attempt.outcome.as_ref().map(|outcome| outcome.result.as_ref());
        let next_attempt_at = match effect {
            Effect::Retry { next_attempt_at } => Some(clock::rfc3339(*next_attempt_at)),
            _ => None,
        };
        let line = AttemptLine {
            v: 1,
            record: "attempt",
            time: attempt.at,
            delivery: delivery.id,
            idempotency_key: &delivery.key,
            event: delivery.kind,
            subscription: &delivery.subscription,
            attempt: attempt.number,
            request: &attempt.request,
            response: result.and_then(Result::ok).map(|response| ResponseLine {
                status: response.status,
                headers: response
                    .headers
                    .iter()
                    .map(|(k, v)| (k.clone(), v.clone().into()))
                    .collect::<Map<_, _>>(),
                body: &response.body,
            }),
            error: result
                .and_then(Result::err)
                .map(|failure| ErrorLine { class: failure.class, message: &failure.message }),
            latency_ms: attempt.latency_ms(),
            resent: attempt.outcome.as_ref().is_some_and(|outcome| outcome.resent),
            outcome: effect.outcome(),
            next_attempt_at,
        };
        self.store.add_evidence(&delivery.spec, &line);
    }

    fn add_final_evidence(
        &mut self,
        delivery: &Delivery,
        attempts: u32,
        state: FinalState,
        reason: Option<&Reason>,
    ) {
        let line = FinalLine {
            v: 1,
            record: "final",
            time: clock::now(),
            delivery: delivery.id,
            idempotency_key: &delivery.key,
            event: delivery.kind,
            subscription: &delivery.subscription,
            attempts,
            state,
            reason,
        };
        self.store.add_evidence(&delivery.spec, &line);
    }

    /// Writes the dead letter of a delivery that is given up. Where that fails the delivery stays pending.
    fn bury(&mut self, delivery: &Delivery, attempt: &Attempt, reason: &Reason) -> Result<(), NotWritten> {
        let mut attempts = self.store.take_attempts(delivery.id);
        attempts.push(attempt.summary());
        let written = DeadLetter::new(delivery, reason.clone(), attempts.clone(), clock::now())
            .map_err(|error| error.to_string())
            .and_then(|letter| self.store.write_dead_letter(&letter).map_err(|error| error.to_string()));
        written.map_err(|error| {
            log::error!("no dead letter for {}: {error}; it stays pending", delivery.id);
            for summary in attempts {
                self.store.remember_attempt(delivery.id, summary);
            }
            NotWritten(error)
        })
    }
}

/// Answers; nobody listens any more where the emitter gave up waiting, which is no fault of the record.
fn answer(reply: Reply, result: Result<(), NotWritten>) {
    if reply.send(result).is_err() {
        log::debug!("a record was written for an emitter that no longer waits");
    }
}

impl Handler<Accept> for Ledger {
    type Result = ();

    fn handle(&mut self, accept: Accept, context: &mut Self::Context) {
        self.append(&accept.spec, &Record::Accepted(accept.record), accept.reply, context);
    }
}

impl Handler<RecordAttempt> for Ledger {
    type Result = ();

    fn handle(&mut self, message: RecordAttempt, context: &mut Self::Context) {
        let RecordAttempt { delivery, attempt, effect, reply } = message;
        let (id, number) = (delivery.id, attempt.number);
        self.add_attempt_evidence(&delivery, &attempt, &effect);
        let finished = |state| Record::Finished { id, state, at: clock::now() };
        let record = match effect {
            Effect::Retry { next_attempt_at } => {
                self.store.remember_attempt(id, attempt.summary());
                Record::Attempted { id, attempt: attempt.summary(), next_attempt_at }
            }
            Effect::Delivered => {
                self.store.take_attempts(id);
                self.add_final_evidence(&delivery, number, FinalState::Delivered, None);
                finished(FinalState::Delivered)
            }
            Effect::DryRun => {
                self.add_final_evidence(&delivery, 0, FinalState::DryRun, None);
                finished(FinalState::DryRun)
            }
            Effect::DeadLetter(reason) => {
                if let Err(error) = self.bury(&delivery, &attempt, &reason) {
                    return answer(reply, Err(error));
                }
                self.add_final_evidence(&delivery, number, FinalState::DeadLetter, Some(&reason));
                finished(FinalState::DeadLetter)
            }
            Effect::Sample => return self.answer_after_flush(&delivery.spec, reply, context),
            Effect::Replayed => {
                self.add_final_evidence(&delivery, number, FinalState::Delivered, None);
                if let Err(error) = self.store.remove_dead_letter(&delivery.spec, id) {
                    return answer(reply, Err(NotWritten(error.to_string())));
                }
                finished(FinalState::Delivered)
            }
            Effect::ReplayFailed(mut letter) => {
                letter.attempts.push(attempt.summary());
                if let Err(error) = self.store.write_dead_letter(&letter) {
                    return answer(reply, Err(NotWritten(error.to_string())));
                }
                return self.answer_after_flush(&delivery.spec, reply, context);
            }
        };
        self.append(&delivery.spec, &record, reply, context);
    }
}

impl Handler<ReadDeadLetter> for Ledger {
    type Result = Result<DeadLetter, NotWritten>;

    fn handle(&mut self, message: ReadDeadLetter, _: &mut Self::Context) -> Self::Result {
        self.store.read_dead_letter(&message.spec, message.id).map_err(|error| {
            NotWritten(format!("no dead letter {} of {}: {error}", message.id, message.spec))
        })
    }
}

impl Handler<Close> for Ledger {
    type Result = ();

    fn handle(&mut self, _: Close, context: &mut Self::Context) {
        self.flush();
        self.store.sync();
        context.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;

    #[derive(Message)]
    #[rtype(result = "usize")]
    struct Flushes;

    impl Handler<Flushes> for Ledger {
        type Result = usize;

        fn handle(&mut self, _: Flushes, _: &mut Self::Context) -> usize {
            self.flushes
        }
    }

    /// Group commit stands on actix draining the mailbox before it polls an actor's own futures.
    #[test]
    fn what_waits_in_the_mailbox_is_one_batch() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(dir.path(), dir.path()).unwrap();
        actix::System::new().block_on(async move {
            let ledger = Ledger::new(store).start();
            // The first message also starts the actor, which sets the mailbox's capacity.
            assert_eq!(ledger.send(Flushes).await.unwrap(), 0);
            let mut replies = Vec::new();
            for n in 0..MAX_BATCH - 1 {
                let (reply, answer) = oneshot::channel();
                let key = format!("k{n}").parse().unwrap();
                let record = Accepted::new(clock::now(), key, EventKind::Test, vec![], &"{}".into()).unwrap();
                ledger.try_send(Accept { spec: "SPEC-1".parse().unwrap(), record, reply }).unwrap();
                replies.push(answer);
            }
            for answer in replies {
                answer.await.unwrap().unwrap();
            }
            assert_eq!(ledger.send(Flushes).await.unwrap(), 1);
        });
    }
}
