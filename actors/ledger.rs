//! The Ledger: the only writer of spool, evidence and dead letters. It may block: beside it on its thread is only the Router,
//! which could accept nothing meanwhile.
//!
//! Group commit: the first record of a batch schedules one flush; the mailbox is drained before that flush runs,
//! so it writes all that came since, syncs once, and then answers everyone.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::alarm::Alarm;
use super::attempt::Attempt;
use crate::clock;
use crate::delivery::{Delivery, DeliveryId, Reason};
use crate::event::SpecId;
use crate::intake::run::Run;
use crate::store::{
    Accepted, AttemptLine, DeadLetter, ErrorLine, FinalLine, FinalState, Healths, InboxName, LastAttempt,
    Record, ResponseLine, Settled, Store, StoreOptions, add_evidence_line,
};

/// Records after which a batch is flushed even though more wait: bounds a batch, and so an emitter's wait.
const MAX_BATCH: usize = 256;

/// Messages that may wait. Admission (1,024 emits) and the lanes' own bounds keep it from ever being full.
const MAILBOX: usize = 16 * 1024;

/// Bytes that the lines of one attempt and of its delivery's end take at most, as a rule.
const USUAL_EVIDENCE: usize = 2 * 1024;

/// How long news of the subscriptions' health may wait to be written.
const KEEP_HEALTHS: Duration = Duration::from_secs(1);

/// How long a step of compaction waits, and the next one: emitters would wait for it otherwise.
const COMPACT_AFTER: Duration = Duration::from_secs(1);

/// Why something was not written.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NotWritten {
    /// The disk said no: it may say yes later.
    #[error("{0}")]
    Failed(String),
    /// There is no Ledger any more.
    #[error("the ledger has stopped")]
    Stopped,
}

/// Why something was not read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotRead(pub(super) String);

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
    pub(crate) finished: Arc<Finished>,
    /// Whether this was said before and could not be recorded: then its evidence is written.
    pub(crate) again: bool,
    pub(crate) reply: Reply,
}

/// From a Subscription, for each delivery that newer ones pushed out. Answered and bounded as [`RecordAttempt`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RecordDrop {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) reply: Reply,
}

/// From a Subscription, for an attempt of a delivery that waited without its body. Bounded by the attempts in flight.
#[derive(Message)]
#[rtype(result = "Result<Bytes, NotRead>")]
pub(crate) struct ReadBody {
    pub(crate) spec: SpecId,
    pub(crate) id: DeliveryId,
}

/// From the task that takes the inbox in: what is to be done with this file. Answered with the name of what is left of it.
/// One at a time.
#[derive(Message)]
#[rtype(result = "Option<InboxName>")]
pub(crate) struct SettleInbox {
    pub(crate) name: InboxName,
    pub(crate) settled: Settled,
}

/// An attempt that ended. Shared, and not sent: whoever made it drops it last, on the thread that allocated it, where no
/// lock of the allocator is in the way.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) attempt: Attempt,
    pub(crate) effect: Effect,
}

/// What an attempt leads to on disk.
#[derive(Debug)]
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
#[rtype(result = "Result<DeadLetter, NotRead>")]
pub(crate) struct ReadDeadLetter {
    pub(crate) spec: SpecId,
    pub(crate) id: DeliveryId,
}

/// From the Router, after an event that could not be accepted: what the SPEC's events on disk add up to.
#[derive(Message)]
#[rtype(result = "Result<Run, NotRead>")]
pub(crate) struct ReadRun(pub(crate) SpecId);

/// From the door, for `list`. One a listing.
#[derive(Message)]
#[rtype(result = "Vec<LastAttempt>")]
pub(crate) struct FindLastAttempts(pub(crate) Vec<(SpecId, DeliveryId)>);

/// From the door, for `status`.
#[derive(Message)]
#[rtype(result = "Healths")]
pub(crate) struct ReadHealths;

/// From the runtime, at a reload: other bounds.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ConfigureStore(pub(crate) StoreOptions);

/// From the runtime, once, at the end: everything is written and synced when it is answered.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Close;

/// Who waits for a batch, and the evidence that goes with it.
struct Waiting {
    spec: SpecId,
    evidence: Vec<u8>,
    reply: Reply,
}

/// See the module's first lines.
pub(crate) struct Ledger {
    store: Store,
    waiting: Vec<Waiting>,
    flush_scheduled: bool,
    healths: Healths,
    healths_scheduled: bool,
    compaction_scheduled: bool,
    must_compact: bool,
    _alarm: Alarm,
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
    pub(crate) fn new(store: Store, healths: Healths, alarm: Alarm) -> Self {
        Self {
            store,
            healths,
            healths_scheduled: false,
            compaction_scheduled: false,
            must_compact: false,
            waiting: Vec::new(),
            flush_scheduled: false,
            _alarm: alarm,
            #[cfg(test)]
            flushes: 0,
        }
    }

    /// Adds a record to the batch and sees to it that the batch is flushed.
    fn append(&mut self, record: &Record, waiting: Waiting, context: &mut Context<Self>) {
        match self.store.append(&waiting.spec, record) {
            Err(error) => self.refuse(waiting, NotWritten::Failed(error.to_string())),
            Ok(()) => self.answer_after_flush(waiting, context),
        }
    }

    /// Takes note of how an attempt ended; on disk soon.
    fn note_health(&mut self, delivery: &Delivery, attempt: &Attempt, context: &mut Context<Self>) {
        let Some(outcome) = &attempt.outcome else { return };
        let health = self.healths.entry(delivery.subscription.clone()).or_default();
        health.note(outcome, clock::now(), || attempt.summary().in_words());
        if !self.healths_scheduled {
            self.healths_scheduled = true;
            context.run_later(KEEP_HEALTHS, |ledger, _| {
                ledger.healths_scheduled = false;
                ledger.store.keep_healths(&ledger.healths, false);
            });
        }
    }

    /// Says that something is not recorded. An attempt was made all the same, so its evidence is written.
    fn refuse(&mut self, waiting: Waiting, error: NotWritten) {
        if !waiting.evidence.is_empty() {
            self.store.add_evidence(&waiting.spec, &waiting.evidence);
            self.store.flush_evidence();
        }
        answer(waiting.reply, Err(error));
    }

    fn answer_after_flush(&mut self, waiting: Waiting, context: &mut Context<Self>) {
        self.waiting.push(waiting);
        self.compact_later(context);
        if self.waiting.len() >= MAX_BATCH {
            self.flush_then_compact(context);
        } else if !self.flush_scheduled {
            self.flush_scheduled = true;
            let flush = |(), ledger: &mut Self, context: &mut _| ledger.flush_then_compact(context);
            context.spawn(actix::fut::ready(()).map(flush));
        }
    }

    /// Writes the batch's evidence, then the batch: a kill in between leaves an attempt without a record, which is made
    /// again, and no attempt without evidence.
    fn flush(&mut self) {
        self.flush_scheduled = false;
        #[cfg(test)]
        {
            self.flushes += 1;
        }
        let waiting = std::mem::take(&mut self.waiting);
        for Waiting { spec, evidence, .. } in waiting.iter().filter(|waiting| !waiting.evidence.is_empty()) {
            self.store.add_evidence(spec, evidence);
        }
        self.store.flush_evidence();
        let failed = self.store.flush();
        for error in failed.values() {
            log::error!("{error}; nothing of this batch is acknowledged");
        }
        for Waiting { spec, reply, .. } in waiting {
            let written =
                failed.get(&spec).map_or(Ok(()), |error| Err(NotWritten::Failed(error.to_string())));
            answer(reply, written);
        }
    }

    /// As [`flush`](Self::flush); what has to be compacted is, once those who waited have heard.
    fn flush_then_compact(&mut self, context: &mut Context<Self>) {
        self.flush();
        if self.store.must_compact() && !self.must_compact {
            self.must_compact = true;
            context.run_later(Duration::from_millis(1), |ledger, _| {
                ledger.must_compact = false;
                ledger.flush();
                ledger.store.compact_what_must();
            });
        }
    }

    /// Compacts a step at a time, in a while, and again while there is something to do.
    fn compact_later(&mut self, context: &mut Context<Self>) {
        if self.compaction_scheduled {
            return;
        }
        self.compaction_scheduled = true;
        context.run_later(COMPACT_AFTER, |ledger, context| {
            ledger.compaction_scheduled = false;
            ledger.flush();
            if ledger.store.compact_some() {
                ledger.compact_later(context);
            }
        });
    }

    /// Writes the dead letter of a delivery that is given up. Where that fails the delivery stays pending.
    fn bury(
        &mut self,
        delivery: &Delivery,
        last: Option<&Attempt>,
        reason: Reason,
    ) -> Result<DeadLetter, NotWritten> {
        let failed = |error: &dyn std::fmt::Display| NotWritten::Failed(error.to_string());
        let (mut attempts, body) =
            self.store.attempts_and_body(&delivery.spec, delivery.id).map_err(|error| failed(&error))?;
        attempts.extend(last.map(Attempt::summary));
        let letter = DeadLetter::new(delivery, &body, reason, attempts, clock::now());
        let letter = letter.map_err(|error| failed(&error))?;
        self.store.write_dead_letter(&letter).map_err(|error| failed(&error))?;
        Ok(letter)
    }

    /// Writes the dead letter, then the record that it ends the delivery.
    fn give_up(
        &mut self,
        delivery: &Delivery,
        last: Option<&Attempt>,
        reason: Reason,
        mut waiting: Waiting,
        context: &mut Context<Self>,
    ) {
        match self.bury(delivery, last, reason) {
            Err(error) => {
                log::error!("no dead letter for {}: {error}; it stays pending", delivery.id);
                self.refuse(waiting, error);
            }
            Ok(letter) => {
                add_evidence_line(&FinalLine::of_dead_letter(&letter), &mut waiting.evidence);
                let state = (&letter.reason).into();
                let record = Record::Finished { id: delivery.id, state, at: letter.dead_at };
                self.append(&record, waiting, context);
            }
        }
    }
}

fn attempt_evidence(Finished { delivery, attempt, effect }: &Finished) -> Vec<u8> {
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
            headers: &response.headers,
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
    let mut lines = Vec::with_capacity(USUAL_EVIDENCE);
    add_evidence_line(&line, &mut lines);
    lines
}

fn add_final_evidence(delivery: &Delivery, last: &Attempt, state: FinalState, lines: &mut Vec<u8>) {
    let attempts = if state == FinalState::DryRun { 0 } else { last.number };
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
        reason: None,
        accepted_at: delivery.accepted_at,
        last_status: last.status(),
        last_error: None,
    };
    add_evidence_line(&line, lines);
}

/// Answers; nobody listens any more where the emitter gave up waiting, which is no fault of the record.
fn answer(reply: Reply, result: Result<(), NotWritten>) {
    if reply.send(result).is_err() {
        log::debug!("a record was written for an emitter that no longer waits");
    }
}

impl Handler<Accept> for Ledger {
    type Result = ();

    fn handle(&mut self, Accept { spec, record, reply }: Accept, context: &mut Self::Context) {
        let waiting = Waiting { spec, evidence: Vec::new(), reply };
        self.append(&Record::Accepted(record), waiting, context);
    }
}

impl Handler<RecordAttempt> for Ledger {
    type Result = ();

    fn handle(&mut self, message: RecordAttempt, context: &mut Self::Context) {
        let RecordAttempt { finished, again, reply } = message;
        let Finished { delivery, attempt, effect } = &*finished;
        let id = delivery.id;
        if !again {
            self.note_health(delivery, attempt, context);
        }
        let evidence = if again { Vec::new() } else { attempt_evidence(&finished) };
        let mut waiting = Waiting { spec: delivery.spec.clone(), evidence, reply };
        let state = match effect {
            Effect::Retry { next_attempt_at } => {
                let next_attempt_at = *next_attempt_at;
                let record = Record::Attempted { id, attempt: attempt.summary(), next_attempt_at };
                return self.append(&record, waiting, context);
            }
            Effect::DeadLetter(reason) => {
                return self.give_up(delivery, Some(attempt), reason.clone(), waiting, context);
            }
            Effect::Sample => return self.answer_after_flush(waiting, context),
            Effect::Replayed => {
                if let Err(error) = self.store.remove_dead_letter(&delivery.spec, id) {
                    return self.refuse(waiting, NotWritten::Failed(error.to_string()));
                }
                add_final_evidence(delivery, attempt, FinalState::Delivered, &mut waiting.evidence);
                return self.answer_after_flush(waiting, context);
            }
            Effect::ReplayFailed(letter) => {
                let mut letter = letter.clone();
                letter.attempts.push(attempt.summary());
                if let Err(error) = self.store.write_dead_letter(&letter) {
                    return self.refuse(waiting, NotWritten::Failed(error.to_string()));
                }
                return self.answer_after_flush(waiting, context);
            }
            Effect::Delivered => FinalState::Delivered,
            Effect::DryRun => FinalState::DryRun,
        };
        if !again {
            add_final_evidence(delivery, attempt, state, &mut waiting.evidence);
        }
        self.append(&Record::Finished { id, state, at: clock::now() }, waiting, context);
    }
}

impl Handler<RecordDrop> for Ledger {
    type Result = ();

    fn handle(&mut self, RecordDrop { delivery, reply }: RecordDrop, context: &mut Self::Context) {
        let waiting = Waiting { spec: delivery.spec.clone(), evidence: Vec::new(), reply };
        self.give_up(&delivery, None, Reason::SpoolSaturated, waiting, context);
    }
}

impl Handler<ReadBody> for Ledger {
    type Result = Result<Bytes, NotRead>;

    fn handle(&mut self, ReadBody { spec, id }: ReadBody, _: &mut Self::Context) -> Self::Result {
        self.store.body(&spec, id).map_err(|error| NotRead(error.to_string()))
    }
}

impl Handler<ReadDeadLetter> for Ledger {
    type Result = Result<DeadLetter, NotRead>;

    fn handle(&mut self, message: ReadDeadLetter, _: &mut Self::Context) -> Self::Result {
        let ReadDeadLetter { spec, id } = message;
        self.store.read_dead_letter(&spec, id).map_err(|error| match error.is_not_found() {
            true => NotRead(match self.store.spec_of_dead_letter(id) {
                Some(other) => format!(
                    "the dead letter {id} is not of {spec}: spec-notify replay {other} --delivery-id {id}"
                ),
                None => format!(
                    "there is no dead letter {id}: it arrived meanwhile, or made room; spec-notify list --state \
                     dead_letter has them all"
                ),
            }),
            false => NotRead(format!("the dead letter {id} of {spec}: {error}")),
        })
    }
}

impl Handler<SettleInbox> for Ledger {
    type Result = Option<InboxName>;

    fn handle(&mut self, SettleInbox { name, settled }: SettleInbox, _: &mut Self::Context) -> Self::Result {
        self.store.settle_inbox(&name, settled)
    }
}

impl Handler<ReadRun> for Ledger {
    type Result = Result<Run, NotRead>;

    fn handle(&mut self, ReadRun(spec): ReadRun, _: &mut Self::Context) -> Self::Result {
        self.store.run(&spec).map_err(|error| NotRead(error.to_string()))
    }
}

impl Handler<FindLastAttempts> for Ledger {
    type Result = MessageResult<FindLastAttempts>;

    fn handle(&mut self, FindLastAttempts(ids): FindLastAttempts, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.store.last_attempts(&ids))
    }
}

impl Handler<ReadHealths> for Ledger {
    type Result = MessageResult<ReadHealths>;

    fn handle(&mut self, _: ReadHealths, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.healths.clone())
    }
}

impl Handler<ConfigureStore> for Ledger {
    type Result = ();

    fn handle(&mut self, ConfigureStore(options): ConfigureStore, _: &mut Self::Context) {
        self.store.configure(&options);
    }
}

impl Handler<Close> for Ledger {
    type Result = ();

    fn handle(&mut self, _: Close, context: &mut Self::Context) {
        self.flush();
        self.store.sync();
        self.store.keep_healths(&self.healths, true);
        context.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;
    use crate::store::StoreOptions;

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
        let (store, _) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
        actix::System::new().block_on(async move {
            let ledger = Ledger::new(store, Healths::new(), Alarm::new().0).start();
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
