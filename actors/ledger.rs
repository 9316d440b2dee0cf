//! The Ledger: the only writer of spool, evidence and dead letters. It may block: only the Router
//! shares its thread, and that can accept nothing while the disk is busy.
//!
//! Group commit: the first record of a batch schedules one flush. actix drains the mailbox before
//! that flush runs, so one write and one sync serve all records that arrived meanwhile, and then
//! everyone is answered.

mod reads;
mod shared;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::alarm::{Alarm, Ring};
use crate::archive::{Effect, Finished};
use crate::delivery::{Delivery, DeliveryId, FinalState, Health, Judgement, Pause, Reason, SubscriptionId};
use crate::event::SpecId;
use crate::feed::{Ended, Feed};
use crate::figures::{Counted, Counts, Totals, Way};
use crate::files::FileError;
use crate::fleet::{Link, Routed, Write};
use crate::spool::{Accepted, InboxName, Record, Settled, Standing};
use crate::store::{NotDiscarded, Store, StoreOptions};
pub(crate) use reads::{FindLastAttempts, NoBody, ReadBody, ReadCondition, ReadDeadLetter, ReadRun};
use shared::Shared;
pub(crate) use shared::{Pass, Written};

/// Records after which a batch is flushed even if more wait: bounds an emitter's wait.
const MAX_BATCH: usize = 256;

/// Capacity of the mailbox. Never reached: admission (1,024 emits) and the lanes' bounds are lower.
const MAILBOX: usize = 16 * 1024;

/// The shortest run that may end because a restart would take in more: without it, a file that
/// stays damaged would cause one restart after another.
const OUTDATED_AFTER: Duration = Duration::from_secs(10);

/// How long a change of a subscription's health may stay unwritten.
const KEEP_HEALTHS: Duration = Duration::from_secs(1);

/// The pause before each step of compaction, in which emitters are served.
const COMPACT_AFTER: Duration = Duration::from_secs(1);

/// Why something was not written.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NotWritten {
    /// The disk refused: trying again may succeed.
    #[error("{0}")]
    Failed(String),
    /// The Ledger has stopped.
    #[error("the ledger has stopped")]
    Stopped,
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
    /// Where it lies in the cluster, for a fleet.
    pub(crate) routed: Option<Routed>,
    pub(crate) reply: Reply,
}

/// From a Subscription, for each attempt that ended. Answered when it is written. Bounded by each
/// lane's limit of unwritten records.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RecordAttempt {
    pub(crate) finished: Arc<Finished>,
    /// True if an earlier try failed after the evidence was written: it is not written twice.
    pub(crate) again: bool,
    /// The subscription's health after these attempts; only with the last of a batch.
    pub(crate) health: Option<Health>,
    /// The epoch of the lease under which it was made.
    pub(crate) epoch: Option<i64>,
    pub(crate) reply: Reply,
}

/// From a Subscription, for each delivery that it gives up unsent. Answered and bounded as
/// [`RecordAttempt`].
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GiveUp {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) reason: Reason,
    /// Attempts that were made before.
    pub(crate) attempts: u32,
    /// Its payload, where the subscription has it in memory.
    pub(crate) held: Option<Bytes>,
    /// The epoch of the lease under which that is decided.
    pub(crate) epoch: Option<i64>,
    pub(crate) reply: Reply,
}

/// From the task that takes the inbox in: what to do with this file. Answered with the name of the
/// file that holds the rest, if any. One at a time.
#[derive(Message)]
#[rtype(result = "Option<InboxName>")]
pub(crate) struct SettleInbox {
    pub(crate) name: InboxName,
    pub(crate) settled: Settled,
}

/// From a Subscription: its health changed without an attempt that is recorded. One at a time, as
/// attempts end.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct KeepHealth {
    pub(crate) subscription: SubscriptionId,
    pub(crate) health: Health,
    /// The epoch of the lease under which it is known.
    pub(crate) epoch: Option<i64>,
}

/// From the task that reads the evidence at the start: what was counted before. Once.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Remember(pub(crate) Counts);

/// From the door, for an operator: give these dead letters up for good. At most
/// [`MAX_DISCARDED`](crate::store::MAX_DISCARDED); bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "Vec<Result<SubscriptionId, NotDiscarded>>")]
pub(crate) struct DiscardLetters {
    pub(crate) letters: Vec<(SpecId, DeliveryId)>,
    pub(crate) by: String,
}

/// From a Subscription, for an operator: give these deliveries up for good. Each is answered when
/// its end is synced. Bounded as [`DiscardLetters`].
#[derive(Message)]
#[rtype(result = "Vec<oneshot::Receiver<Result<(), NotWritten>>>")]
pub(crate) struct DiscardWaiting {
    /// Each with the attempts that were made.
    pub(crate) deliveries: Vec<(Arc<Delivery>, u32)>,
    pub(crate) by: String,
}

/// From a Subscription, for an operator: its deliveries are paused, or not any more. Answered when
/// that is synced. Bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub(crate) struct KeepPause {
    pub(crate) subscription: SubscriptionId,
    pub(crate) pause: Option<Pause>,
}

/// From the runtime, at a reload: the store's new bounds. One at a time, as reloads are.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ConfigureStore(pub(crate) StoreOptions);

/// From the runtime, twice a second: check that all files are still there. Answered with the
/// deliveries whose payload was removed. One at a time.
#[derive(Message)]
#[rtype(result = "Vec<DeliveryId>")]
pub(crate) struct Look;

/// From the runtime, at its start and its end: the new content of `runtime.json`, or its removal.
/// Answered when it is written. Two a run.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Announce(pub(crate) Option<Vec<u8>>);

/// From the runtime, once, at the end. Answered when everything is written and synced; the error
/// says what is not.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub(crate) struct Close;

/// One that is answered when the batch is on disk.
struct Waiting {
    spec: SpecId,
    reply: Reply,
    /// The end of a delivery, for those who watch.
    end: Option<Box<Ended>>,
}

/// See the module's first lines.
pub(crate) struct Ledger {
    store: Store,
    /// The cluster that has all but the inbox, for a fleet.
    shared: Option<Shared>,
    /// What `status` says of the last day.
    counts: Counts,
    /// What metrics say, from the start on.
    totals: Totals,
    waiting: Vec<Waiting>,
    flush_scheduled: bool,
    healths_scheduled: bool,
    compaction_scheduled: bool,
    must_compact: bool,
    started: Instant,
    alarm: Alarm,
    /// Hears what ended once it is on disk.
    feed: Feed,
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
    pub(crate) fn new(store: Store, alarm: Alarm, feed: Feed) -> Self {
        Self {
            store,
            shared: None,
            counts: Counts::default(),
            totals: Totals::default(),
            healths_scheduled: false,
            compaction_scheduled: false,
            must_compact: false,
            waiting: Vec::new(),
            flush_scheduled: false,
            started: Instant::now(),
            alarm,
            feed,
            #[cfg(test)]
            flushes: 0,
        }
    }

    /// A Ledger whose events and deliveries lie in the cluster; it tells when some were added.
    pub(crate) fn sharing(mut self, link: Link, routed: Arc<Notify>) -> Self {
        self.shared = Some(Shared::new(link, routed));
        self
    }

    /// Answers once the batch is on disk, or at once if nothing could be added to it.
    fn answer_for(&mut self, added: Result<(), FileError>, waiting: Waiting, context: &mut Context<Self>) {
        match added {
            Ok(()) => self.waiting.push(waiting),
            Err(error) => answer(waiting.reply, Err(NotWritten::Failed(error.to_string()))),
        }
        // In both cases: even a refused record may have left evidence to flush.
        self.compact_later(context);
        if self.waiting.len() >= MAX_BATCH {
            self.flush_then_compact(context);
        } else if !self.flush_scheduled {
            self.flush_scheduled = true;
            let flush = |(), ledger: &mut Self, context: &mut _| ledger.flush_then_compact(context);
            context.spawn(actix::fut::ready(()).map(flush));
        }
    }

    /// The end of a delivery, if somebody watches.
    fn watched(&self, end: impl FnOnce() -> Option<Ended>) -> Option<Box<Ended>> {
        if self.feed.is_watched() { end().map(Box::new) } else { None }
    }

    /// Keeps a subscription's health; it is written within a second.
    fn keep_health(&mut self, id: SubscriptionId, health: Health, context: &mut Context<Self>) {
        self.store.healths_mut().insert(id, health);
        self.feed.touch();
        if !self.healths_scheduled && self.shared.is_none() {
            self.healths_scheduled = true;
            context.run_later(KEEP_HEALTHS, |ledger, _| {
                ledger.healths_scheduled = false;
                ledger.store.keep_healths(false);
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
        let mut ends = Vec::new();
        for Waiting { spec, reply, end } in std::mem::take(&mut self.waiting) {
            let written =
                failed.get(&spec).map_or(Ok(()), |error| Err(NotWritten::Failed(error.to_string())));
            ends.extend(end.filter(|_| written.is_ok()).map(|end| *end));
            answer(reply, written);
        }
        self.feed.tell(ends);
        self.feed.touch();
        self.ring_if_not_owner();
    }

    /// Ends this run if another process owns the spool, or if a restart would take in more.
    fn ring_if_not_owner(&self) {
        match self.store.standing() {
            Standing::Owner => {}
            Standing::Deposed => self.alarm.ring(Ring::Deposed),
            Standing::Outdated if self.started.elapsed() < OUTDATED_AFTER => {}
            Standing::Outdated => self.alarm.ring(Ring::Outdated),
        }
    }

    /// As [`flush`](Self::flush); a compaction that cannot wait follows, after everyone was
    /// answered.
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

    /// Compacts step by step, with a pause before each, until nothing is left to do.
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

/// Counts an event that was accepted.
fn count(counts: &mut Counts, totals: &mut Totals, accepted: &Accepted) {
    totals.event();
    for delivery in &accepted.deliveries {
        counts.accepted(&delivery.subscription, accepted.at);
        totals.accepted(&delivery.subscription);
    }
}

/// How an attempt counts; `None` of a dry run.
fn counted(Finished { attempt, effect, .. }: &Finished) -> Option<Counted> {
    let outcome = attempt.outcome.as_ref()?;
    let way = match &outcome.result {
        Ok(response) => Way::Status(response.status),
        Err(failure) => Way::Class(failure.class),
    };
    let is_success = outcome.judge() == Judgement::Delivered;
    let at = attempt.at + outcome.latency;
    let gave_up = matches!(effect, Effect::DeadLetter(_));
    Some(Counted { at, latency_ms: attempt.latency_ms(), failed: (!is_success).then_some(way), gave_up })
}

/// Answers. An emitter that gave up waiting is no error: its record is written all the same.
fn answer(reply: Reply, result: Result<(), NotWritten>) {
    if reply.send(result).is_err() {
        log::debug!("a record was written for an emitter that no longer waits");
    }
}

impl Handler<Accept> for Ledger {
    type Result = ();

    fn handle(&mut self, Accept { spec, record, routed, reply }: Accept, context: &mut Self::Context) {
        if let Some(routed) = routed {
            let record = Box::new(record);
            return self.share(Write::Route { spec, record, routed }, reply, context);
        }
        let record = Record::Accepted(record);
        let added = self.store.append(&spec, &record);
        if let (Ok(()), Record::Accepted(accepted)) = (&added, &record) {
            count(&mut self.counts, &mut self.totals, accepted);
        }
        self.answer_for(added, Waiting { spec, reply, end: None }, context);
    }
}

impl Handler<RecordAttempt> for Ledger {
    type Result = ();

    fn handle(&mut self, message: RecordAttempt, context: &mut Self::Context) {
        let RecordAttempt { finished, again, health, epoch, reply } = message;
        let delivery = &finished.delivery;
        if let Some(health) = &health {
            self.keep_health(delivery.subscription.clone(), health.clone(), context);
        }
        // One that has to be recorded again was counted the first time.
        if !again && let Some(counted) = counted(&finished) {
            self.counts.ended(&delivery.subscription, &counted);
            self.totals.attempted(&delivery.subscription, &counted);
        }
        if let (false, Some(state)) = (again, finished.effect.end()) {
            self.totals.ended(&delivery.subscription, state);
        }
        if self.shared.is_some() {
            return self.share(Write::Attempt { finished, health, epoch }, reply, context);
        }
        let added = self.store.settle(&finished, again);
        let end = self.watched(|| Ended::by(&finished));
        self.answer_for(added, Waiting { spec: delivery.spec.clone(), reply, end }, context);
    }
}

impl Handler<GiveUp> for Ledger {
    type Result = ();

    fn handle(&mut self, message: GiveUp, context: &mut Self::Context) {
        let GiveUp { delivery, reason, attempts, held, epoch, reply } = message;
        let state = FinalState::from(&reason);
        if self.shared.is_some() {
            self.totals.ended(&delivery.subscription, state);
            return self.share(Write::GiveUp { delivery, reason, attempts, epoch }, reply, context);
        }
        let end = self.watched(|| Some(Ended::given_up(&delivery, &reason, attempts)));
        let added = self.store.give_up(&delivery, reason, held.as_ref());
        if added.is_ok() {
            self.totals.ended(&delivery.subscription, state);
        }
        self.answer_for(added, Waiting { spec: delivery.spec.clone(), reply, end }, context);
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

impl Handler<SettleInbox> for Ledger {
    type Result = Option<InboxName>;

    fn handle(&mut self, SettleInbox { name, settled }: SettleInbox, _: &mut Self::Context) -> Self::Result {
        self.store.settle_inbox(&name, settled)
    }
}

impl Handler<KeepHealth> for Ledger {
    type Result = ();

    fn handle(&mut self, message: KeepHealth, context: &mut Self::Context) {
        let KeepHealth { subscription, health, epoch } = message;
        self.keep_health(subscription.clone(), health.clone(), context);
        if let Some(epoch) = epoch.filter(|_| self.shared.is_some()) {
            // Nobody waits for it.
            let (reply, _) = oneshot::channel();
            self.share(Write::Health { subscription, health, epoch }, reply, context);
        }
    }
}

impl Handler<Remember> for Ledger {
    type Result = ();

    fn handle(&mut self, Remember(counts): Remember, _: &mut Self::Context) {
        self.counts.merge(counts);
    }
}

impl Handler<DiscardLetters> for Ledger {
    type Result = MessageResult<DiscardLetters>;

    fn handle(&mut self, message: DiscardLetters, _: &mut Self::Context) -> Self::Result {
        let DiscardLetters { letters, by } = message;
        let discarded = self.store.discard_letters(&letters, &by);
        discarded.iter().flatten().for_each(|of| self.totals.ended(of, FinalState::Discarded));
        self.feed.touch();
        MessageResult(discarded)
    }
}

impl Handler<DiscardWaiting> for Ledger {
    type Result = MessageResult<DiscardWaiting>;

    fn handle(&mut self, message: DiscardWaiting, context: &mut Self::Context) -> Self::Result {
        let DiscardWaiting { deliveries, by } = message;
        let (deliveries, attempts): (Vec<_>, Vec<_>) = deliveries.into_iter().unzip();
        let added = self.store.discard_waiting(&deliveries, &by);
        let added = deliveries.iter().zip(attempts).zip(added);
        let answers = added.map(|((delivery, attempts), added)| {
            let (reply, answer) = oneshot::channel();
            if added.is_ok() {
                self.totals.ended(&delivery.subscription, FinalState::Discarded);
            }
            let end = self.watched(|| Some(Ended::discarded(delivery, attempts)));
            self.answer_for(added, Waiting { spec: delivery.spec.clone(), reply, end }, context);
            answer
        });
        MessageResult(answers.collect())
    }
}

impl Handler<KeepPause> for Ledger {
    type Result = Result<(), String>;

    fn handle(&mut self, message: KeepPause, _: &mut Self::Context) -> Self::Result {
        let KeepPause { subscription, pause } = message;
        self.store.set_pause(&subscription, pause.as_ref()).map_err(|error| error.to_string())
    }
}

impl Handler<ConfigureStore> for Ledger {
    type Result = ();

    fn handle(&mut self, ConfigureStore(options): ConfigureStore, _: &mut Self::Context) {
        self.store.configure(&options);
        self.feed.touch();
    }
}

impl Handler<Close> for Ledger {
    type Result = Result<(), String>;

    fn handle(&mut self, _: Close, context: &mut Self::Context) -> Self::Result {
        self.flush();
        let closed = self.store.close();
        self.store.keep_healths(closed.is_ok());
        context.stop();
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKind;
    use crate::feed::RuntimeState;
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
            let ledger = Ledger::new(store, Alarm::new().0, Feed::new(RuntimeState::Running)).start();
            // The first message also starts the actor, which sets the mailbox's capacity.
            assert_eq!(ledger.send(Flushes).await.unwrap(), 0);
            let mut replies = Vec::new();
            for n in 0..MAX_BATCH - 1 {
                let (reply, answer) = oneshot::channel();
                let key = format!("k{n}").parse().unwrap();
                let record =
                    Accepted::new(crate::clock::now(), key, EventKind::Test, vec![], &"{}".into()).unwrap();
                let accept = Accept { spec: "SPEC-1".parse().unwrap(), record, routed: None, reply };
                ledger.try_send(accept).unwrap();
                replies.push(answer);
            }
            for answer in replies {
                answer.await.unwrap().unwrap();
            }
            assert_eq!(ledger.send(Flushes).await.unwrap(), 1);
        });
    }
}
