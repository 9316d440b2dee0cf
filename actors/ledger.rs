//! The Ledger: the only writer of spool, evidence and dead letters. It may block: beside it on its
//! thread is only the Router, which could accept nothing meanwhile.
//!
//! Group commit: the first record of a batch schedules one flush; the mailbox is drained before
//! that flush runs, so it writes all that came since, syncs once, and then answers everyone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::alarm::{Alarm, Ring};
use crate::delivery::{Delivery, DeliveryId, Health, Reason, SubscriptionId};
use crate::event::SpecId;
use crate::run::Run;
use crate::store::{
    Accepted, DeadLetter, Finished, Healths, InboxName, LastAttempt, Record, Settled, Standing, Store,
    StoreError, StoreOptions, Unreadable,
};

/// Records after which a batch is flushed even though more wait: bounds a batch, and so an
/// emitter's wait.
const MAX_BATCH: usize = 256;

/// Messages that may wait. Admission (1,024 emits) and the lanes' own bounds keep it from ever
/// being full.
const MAILBOX: usize = 16 * 1024;

/// How long a run lasts at least that ends because a start would take more in: what cannot be
/// mended must not spin.
const OUTDATED_AFTER: Duration = Duration::from_secs(10);

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

/// Why a payload was not read.
#[derive(Clone, Debug)]
pub(crate) enum NoBody {
    /// It never will be.
    Gone(String),
    /// Not now.
    NotNow(String),
}

/// Where the Ledger answers.
pub(crate) type Reply = oneshot::Sender<Result<(), NotWritten>>;

/// From the Router, for each event. Answered when the record is synced. Bounded by the admission
/// permits.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Accept {
    pub(crate) spec: SpecId,
    pub(crate) record: Accepted,
    pub(crate) reply: Reply,
}

/// From a Subscription, for each attempt that ended. Answered when it is written. Bounded by each
/// lane's limit of unwritten records.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RecordAttempt {
    pub(crate) finished: Arc<Finished>,
    /// Whether this was said before and could not be recorded: then its evidence is written.
    pub(crate) again: bool,
    /// How the subscription fares by now, with the last of several.
    pub(crate) health: Option<Health>,
    pub(crate) reply: Reply,
}

/// From a Subscription, for each delivery that it gives up unsent. Answered and bounded as
/// [`RecordAttempt`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GiveUp {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) reason: Reason,
    /// Its payload, where the subscription has it in memory.
    pub(crate) held: Option<Bytes>,
    /// As in [`RecordAttempt`].
    pub(crate) again: bool,
    pub(crate) reply: Reply,
}

/// From a Subscription, for an attempt of a delivery that waited without its body. Bounded by the
/// attempts in flight.
#[derive(Message)]
#[rtype(result = "Result<Bytes, NoBody>")]
pub(crate) struct ReadBody {
    pub(crate) spec: SpecId,
    pub(crate) id: DeliveryId,
}

/// From the task that takes the inbox in: what is to be done with this file. Answered with the
/// name of what is left of it. One at a time.
#[derive(Message)]
#[rtype(result = "Option<InboxName>")]
pub(crate) struct SettleInbox {
    pub(crate) name: InboxName,
    pub(crate) settled: Settled,
}

/// From the Router, for a replay. Bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "Result<DeadLetter, NotRead>")]
pub(crate) struct ReadDeadLetter {
    pub(crate) spec: SpecId,
    pub(crate) id: DeliveryId,
}

/// From the Router, after an event that could not be accepted: what the SPEC's events on disk add
/// up to.
#[derive(Message)]
#[rtype(result = "Result<Run, NotRead>")]
pub(crate) struct ReadRun(pub(crate) SpecId);

/// From the door, for `list`. One a listing.
#[derive(Message)]
#[rtype(result = "Vec<LastAttempt>")]
pub(crate) struct FindLastAttempts(pub(crate) Vec<(SpecId, DeliveryId)>);

/// From a Subscription: how it fares by now, where no attempt is to be recorded that would say so.
/// One at a time, as attempts come to it.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct KeepHealth {
    pub(crate) subscription: SubscriptionId,
    pub(crate) health: Health,
}

/// From the door, for `status`: how the subscriptions and the files fare.
#[derive(Message)]
#[rtype(result = "Condition")]
pub(crate) struct ReadCondition;

/// See [`ReadCondition`].
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) healths: Healths,
    /// What keeps events from being accepted.
    pub(crate) troubles: Vec<String>,
    /// What keeps evidence from being written.
    pub(crate) evidence: Vec<String>,
    /// What only a later version of the program delivers.
    pub(crate) later: Vec<String>,
}

/// From the runtime, at a reload: other bounds.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ConfigureStore(pub(crate) StoreOptions);

/// From the runtime, now and then: make sure of the names of all files. Answered with the
/// deliveries of which the payload was taken away. One at a time.
#[derive(Message)]
#[rtype(result = "Vec<DeliveryId>")]
pub(crate) struct Look;

/// From the runtime, at its start and its end: what `runtime.json` says from now on. Answered when
/// it is written.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Announce(pub(crate) Option<Vec<u8>>);

/// From the runtime, once, at the end: everything is written and synced when it is answered, but
/// for what the answer says.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub(crate) struct Close;

/// Who waits for a batch.
struct Waiting {
    spec: SpecId,
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
    started: Instant,
    alarm: Alarm,
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
            started: Instant::now(),
            alarm,
            #[cfg(test)]
            flushes: 0,
        }
    }

    /// Answers once the batch is on disk to which something was added, or at once where it was
    /// not.
    fn answer_for(&mut self, added: Result<(), StoreError>, waiting: Waiting, context: &mut Context<Self>) {
        match added {
            Ok(()) => self.waiting.push(waiting),
            Err(error) => answer(waiting.reply, Err(NotWritten::Failed(error.to_string()))),
        }
        // What was refused may have left evidence.
        self.compact_later(context);
        if self.waiting.len() >= MAX_BATCH {
            self.flush_then_compact(context);
        } else if !self.flush_scheduled {
            self.flush_scheduled = true;
            let flush = |(), ledger: &mut Self, context: &mut _| ledger.flush_then_compact(context);
            context.spawn(actix::fut::ready(()).map(flush));
        }
    }

    /// Keeps how a subscription fares; on disk soon.
    fn keep_health(&mut self, id: SubscriptionId, health: Health, context: &mut Context<Self>) {
        self.healths.insert(id, health);
        if !self.healths_scheduled {
            self.healths_scheduled = true;
            context.run_later(KEEP_HEALTHS, |ledger, _| {
                ledger.healths_scheduled = false;
                ledger.store.keep_healths(&ledger.healths, false);
            });
        }
    }

    /// Writes the batch and answers those who wait for it.
    fn flush(&mut self) {
        self.flush_scheduled = false;
        #[cfg(test)]
        {
            self.flushes += 1;
        }
        let failed = self.store.commit();
        for error in failed.values() {
            log::error!("{error}; nothing of this batch is acknowledged");
        }
        for Waiting { spec, reply } in std::mem::take(&mut self.waiting) {
            let written =
                failed.get(&spec).map_or(Ok(()), |error| Err(NotWritten::Failed(error.to_string())));
            answer(reply, written);
        }
        self.ring_if_not_owner();
    }

    /// Ends this run where another process owns the spool, or a start would take more in.
    fn ring_if_not_owner(&self) {
        match self.store.standing() {
            Standing::Owner => {}
            Standing::Deposed => self.alarm.ring(Ring::Deposed),
            Standing::Outdated if self.started.elapsed() < OUTDATED_AFTER => {}
            Standing::Outdated => self.alarm.ring(Ring::Outdated),
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
}

/// Answers; nobody listens any more where the emitter gave up waiting, which is no fault of the
/// record.
fn answer(reply: Reply, result: Result<(), NotWritten>) {
    if reply.send(result).is_err() {
        log::debug!("a record was written for an emitter that no longer waits");
    }
}

impl Handler<Accept> for Ledger {
    type Result = ();

    fn handle(&mut self, Accept { spec, record, reply }: Accept, context: &mut Self::Context) {
        let added = self.store.append(&spec, &Record::Accepted(record));
        self.answer_for(added, Waiting { spec, reply }, context);
    }
}

impl Handler<RecordAttempt> for Ledger {
    type Result = ();

    fn handle(&mut self, message: RecordAttempt, context: &mut Self::Context) {
        let RecordAttempt { finished, again, health, reply } = message;
        let delivery = &finished.delivery;
        if let Some(health) = health {
            self.keep_health(delivery.subscription.clone(), health, context);
        }
        let added = self.store.settle(&finished, again);
        self.answer_for(added, Waiting { spec: delivery.spec.clone(), reply }, context);
    }
}

impl Handler<GiveUp> for Ledger {
    type Result = ();

    fn handle(&mut self, message: GiveUp, context: &mut Self::Context) {
        let GiveUp { delivery, reason, held, again, reply } = message;
        let added = self.store.give_up(&delivery, reason, held.as_ref(), again);
        self.answer_for(added, Waiting { spec: delivery.spec.clone(), reply }, context);
    }
}

impl Handler<Look> for Ledger {
    type Result = MessageResult<Look>;

    fn handle(&mut self, _: Look, _: &mut Self::Context) -> Self::Result {
        self.store.look();
        self.ring_if_not_owner();
        MessageResult(self.store.lost())
    }
}

impl Handler<Announce> for Ledger {
    type Result = ();

    fn handle(&mut self, Announce(content): Announce, _: &mut Self::Context) {
        self.store.announce(content);
    }
}

impl Handler<ReadBody> for Ledger {
    type Result = Result<Bytes, NoBody>;

    fn handle(&mut self, ReadBody { spec, id }: ReadBody, _: &mut Self::Context) -> Self::Result {
        self.store.body(&spec, id).map_err(|error| match error {
            Unreadable::Gone(error) => NoBody::Gone(error.to_string()),
            Unreadable::NotNow(error) => NoBody::NotNow(error.to_string()),
        })
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
                    "there is no dead letter {id}: it arrived meanwhile, or made room; \
                     spec-notify list --state dead_letter has them all"
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

impl Handler<KeepHealth> for Ledger {
    type Result = ();

    fn handle(&mut self, message: KeepHealth, context: &mut Self::Context) {
        let KeepHealth { subscription, health } = message;
        self.keep_health(subscription, health, context);
    }
}

impl Handler<ReadCondition> for Ledger {
    type Result = MessageResult<ReadCondition>;

    fn handle(&mut self, _: ReadCondition, _: &mut Self::Context) -> Self::Result {
        self.store.look();
        MessageResult(Condition {
            healths: self.healths.clone(),
            troubles: self.store.troubles().map(str::to_owned).collect(),
            evidence: self.store.evidence_troubles().collect(),
            later: self.store.later_records().collect(),
        })
    }
}

impl Handler<ConfigureStore> for Ledger {
    type Result = ();

    fn handle(&mut self, ConfigureStore(options): ConfigureStore, _: &mut Self::Context) {
        self.store.configure(&options);
    }
}

impl Handler<Close> for Ledger {
    type Result = Result<(), String>;

    fn handle(&mut self, _: Close, context: &mut Self::Context) -> Self::Result {
        self.flush();
        let closed = self.store.close();
        self.store.keep_healths(&self.healths, closed.is_ok());
        context.stop();
        closed
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
                let record =
                    Accepted::new(crate::clock::now(), key, EventKind::Test, vec![], &"{}".into()).unwrap();
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
