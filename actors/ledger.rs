//! The Ledger: the only writer of spool, evidence and dead letters. It may block: only the Router
//! shares its thread, and that can accept nothing while the disk is busy.
//! Records are written in batches (`ledger/batch.rs`).

mod batch;
mod lifecycle;
mod operator;
mod payloads;
mod reads;
mod shared;

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use super::acceptance::Accepting;
use super::alarm::Alarm;
use crate::archive::{Effect, Finished};
use crate::delivery::{Delivery, FinalState, Health, Judgement, Reason, SubscriptionId};
use crate::event::SpecId;
use crate::feed::{Ended, Feed};
use crate::figures::{Counted, Counts, Totals, Way};
use crate::fleet::{Link, Routed, Write};
use crate::spool::{Accepted, InboxName, Record, Settled};
use crate::store::Store;
use batch::{MAX_BATCH, Waiting, answer};
pub(crate) use lifecycle::{Announce, Close, ConfigureStore, Look};
pub(crate) use operator::{DiscardLetters, DiscardWaiting, KeepPause};
pub(crate) use reads::{FindLastAttempts, NoBody, ReadBody, ReadCondition, ReadDeadLetter, ReadRun};
use shared::Shared;
pub(crate) use shared::{Pass, Written};

/// Capacity of the mailbox. Never reached: admission (1,024 emits) and the lanes' bounds are lower.
const MAILBOX: usize = 16 * 1024;

/// How long a change of a subscription's health may stay unwritten.
const KEEP_HEALTHS: Duration = Duration::from_secs(1);

/// Why something was not written.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum NotWritten {
    /// The disk refused: trying again may succeed.
    #[error("{0}")]
    Failed(String),
    /// Too much waits: nothing of it was taken.
    #[error("the ledger is busy")]
    Busy,
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
    /// What begins once the record is written to the spool.
    pub(crate) accepting: Accepting,
    pub(crate) reply: Reply,
}

/// From a Subscription, for attempts that ended. Each is answered when it is written. Bounded by
/// each lane's limit of unwritten records.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RecordAttempts {
    pub(crate) attempts: Vec<(Arc<Finished>, Reply)>,
    /// True if an earlier try failed after the evidence was written: it is not written twice.
    pub(crate) again: bool,
    /// The subscription's health after these attempts.
    pub(crate) health: Option<Health>,
    /// The epoch of the lease under which they were made.
    pub(crate) epoch: Option<i64>,
}

/// From a Subscription, for each delivery that it gives up unsent. Answered and bounded as
/// [`RecordAttempts`].
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
    room_scheduled: bool,
    /// When a batch was written last.
    flushed: Instant,
    /// Set while nothing was written since, until it is at rest.
    sealing: Option<SpawnHandle>,
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
            room_scheduled: false,
            flushed: Instant::now(),
            sealing: None,
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

impl Handler<Accept> for Ledger {
    type Result = ();

    fn handle(&mut self, accept: Accept, context: &mut Self::Context) {
        let Accept { spec, record, routed, accepting, reply } = accept;
        if let Some(routed) = routed {
            let record = Box::new(record);
            return self.share(Write::Route { spec, record, routed }, reply, context);
        }
        let record = Record::Accepted(record);
        let added = self.store.append(&spec, &record);
        if let (Ok(()), Record::Accepted(accepted)) = (&added, &record) {
            count(&mut self.counts, &mut self.totals, accepted);
        }
        self.answer_for(added, Waiting::for_event(spec, accepting, reply), context);
    }
}

impl Handler<RecordAttempts> for Ledger {
    type Result = ();

    fn handle(&mut self, message: RecordAttempts, context: &mut Self::Context) {
        let RecordAttempts { attempts, again, mut health, epoch } = message;
        if let (Some(health), Some((last, _))) = (&health, attempts.last()) {
            self.keep_health(last.delivery.subscription.clone(), health.clone(), context);
        }
        let count = attempts.len();
        for (at, (finished, reply)) in attempts.into_iter().enumerate() {
            let delivery = &finished.delivery;
            // One that has to be recorded again was counted the first time.
            if !again && let Some(counted) = counted(&finished) {
                self.counts.ended(&delivery.subscription, &counted);
                self.totals.attempted(&delivery.subscription, &counted);
            }
            if let (false, Some(state)) = (again, finished.effect.end()) {
                self.totals.ended(&delivery.subscription, state);
            }
            if self.shared.is_some() {
                // It is the health after the last one.
                let health = if at + 1 == count { health.take() } else { None };
                self.share(Write::Attempt { finished, health, epoch }, reply, context);
                continue;
            }
            let added = self.store.settle(&finished, again);
            let end = self.watched(|| Ended::by(&finished));
            self.answer_for(added, Waiting::for_delivery(delivery, reply, end), context);
        }
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
        self.answer_for(added, Waiting::for_delivery(&delivery, reply, end), context);
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
