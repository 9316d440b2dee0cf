//! The Router: takes events in, tells new from known, and fans out to the subscriptions that want
//! them.

mod fan_out;
mod lead;
mod lifecycle;
mod operator;
mod runs;
mod stalls;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use actix::prelude::*;
use actix_rt::ArbiterHandle;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::alarm::Alarm;
use super::attempt::Settings;
use super::ledger::{Accept, Ledger, ReadRun};
use super::subscription::{self, Enqueue, Right, Subscription};
use super::tell::tell;
use crate::answer::{EmitError, Receipt};
use crate::archive::{Healths, Pauses};
use crate::clock;
use crate::config::{Config, FleetConfig, FleetRole, Role, SubscriptionConfig};
use crate::delivery::{
    BodyBudget, Dedupe, DeliveryId, Identities, Identity, KeyDigest, Pending, SubscriptionId,
};
use crate::event::{Event, EventKind, IdempotencyKey, KeyOrigin, SpecId, sequence_after};
use crate::feed::Feed;
use crate::fleet::{Term, delivery_id};
use crate::names::counted;
use crate::payload::{self, pages::Pages};
use crate::run::{AwaitedStage, Run, Silences};
use crate::sources::checkout::Checkout;
use crate::sources::host;
use crate::spool::{InboxName, Recovered, Unfinished};
use fan_out::{News, fan_out, refused};
pub(crate) use lead::{FindDeliverable, Lead, StandDown};
pub(crate) use lifecycle::{Close, Reconfigure, WaitIdle};
pub(crate) use operator::{
    DiscardWaiting, FindActive, FindAny, FindUnfinished, Found, ListAllUnfinished, ReadQueues,
};
pub(crate) use stalls::Await;

/// Bytes of waiting bodies kept in memory, over all subscriptions; others are read back from the
/// spool when their turn comes.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Messages that may wait: more than admission lets in.
const MAILBOX: usize = 4 * 1024;

/// What became of an event, and its key: its own, or the one of the known event that it turned
/// out to be.
#[derive(Clone, Debug)]
pub(crate) struct Emission {
    pub(crate) key: IdempotencyKey,
    pub(crate) result: Result<Receipt, EmitError>,
}

/// Answers an [`Emit`].
pub(crate) type EmitReply = oneshot::Sender<Emission>;

/// Where an event's answer goes.
struct Emitter {
    key: IdempotencyKey,
    reply: EmitReply,
}

impl Emitter {
    fn hears(self, result: Result<Receipt, EmitError>) {
        let Self { key, reply } = self;
        if reply.send(Emission { key, result }).is_err() {
            log::debug!("an emitter no longer waits for its answer");
        }
    }
}

/// Where an event comes from.
#[derive(Clone, Debug)]
pub(crate) enum From {
    /// Somebody waits for the answer.
    Emitter,
    /// This inbox file, which is removed once the event is accepted.
    Inbox(InboxName),
    /// This place in a fleet's cluster.
    Cluster { seq: i64, accepted_at: Timestamp },
}

/// From a `Handle` or the task that takes the inbox in, for each event. Bounded by the admission
/// permit it carries.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Emit {
    pub(crate) event: Event,
    /// Which files of its evidence have a page.
    pub(crate) published: Vec<String>,
    pub(crate) from: From,
    /// Absent for events that follow from a run: at most a few per SPEC.
    pub(crate) admission: Option<OwnedSemaphorePermit>,
    pub(crate) reply: EmitReply,
}

/// From the Router's own task to itself: an acceptance ended. Bounded as [`Emit`].
#[derive(Message)]
#[rtype(result = "()")]
struct AcceptanceEnded {
    spec: SpecId,
    key: KeyDigest,
    at: Timestamp,
    result: Result<(), EmitError>,
}

/// From the task that looks after the files: these deliveries' payloads were removed. One at a
/// time.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GiveUpLost(pub(crate) Vec<DeliveryId>);

/// One subscription, as the Router sees it.
struct Subscriber {
    id: SubscriptionId,
    /// Absent while it is not active.
    config: Option<Arc<SubscriptionConfig>>,
    address: Addr<Subscription>,
}

impl Subscriber {
    fn role(&self) -> Role {
        self.config.as_ref().map_or(Role::Inactive, |config| config.role())
    }
}

/// See the module's first line.
pub(crate) struct Router {
    subscribers: Vec<Subscriber>,
    ledger: Addr<Ledger>,
    known: Dedupe,
    /// Tells which event it is where one comes without an identity.
    identities: Identities,
    bodies: BodyBudget,
    /// Events being accepted, and who else emitted the same ones meanwhile.
    accepting: HashMap<KeyDigest, Vec<oneshot::Sender<Result<(), EmitError>>>>,
    config: Arc<Config>,
    checkout: Checkout,
    runs: HashMap<SpecId, Run>,
    /// The last `event.sequence` that each SPEC was given. One whose event was not accepted after
    /// all is not given again in this run.
    sequences: HashMap<SpecId, u64>,
    /// The health and the pauses of subscriptions as recovered, for those not started yet.
    healths: Healths,
    pauses: Pauses,
    /// The thread of the subscriptions: this one may block on the disk, and requests must not.
    deliveries: ArbiterHandle,
    /// SPECs with an event that was not accepted: their runs have to be read from disk.
    unsure: HashSet<SpecId>,
    /// Timers of the runs whose end is to be told.
    ending: HashMap<SpecId, SpawnHandle>,
    /// When to look which run went silent, and the timer for the first of them.
    silences: Silences,
    silence_timer: Option<SpawnHandle>,
    /// Stages that wait for their agents: their runs may go silent too.
    awaited: Vec<AwaitedStage>,
    open: bool,
    /// By what right it routes, where it is one of a fleet.
    seat: Option<Seat>,
    alarm: Alarm,
    feed: Feed,
}

/// A Router's place in a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    /// Another member routes.
    Stands,
    Leads(Term),
}

impl Actor for Router {
    type Context = Context<Self>;

    /// Tells first what runs still owed at the last stop.
    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        let specs: Vec<SpecId> = self.runs.keys().cloned().collect();
        for spec in specs {
            self.tell_of_run(&spec, context);
            self.expect_life(&spec, None);
        }
        self.await_silence(context);
    }
}

impl Router {
    /// A Router with what was recovered from disk, and one Subscription for each config entry and
    /// for each other id with unfinished deliveries.
    pub(crate) fn new(
        entries: Vec<(SubscriptionId, Option<Settings>)>,
        (recovered, healths, pauses): (Recovered, Healths, Pauses),
        ledger: Addr<Ledger>,
        deliveries: ArbiterHandle,
        config: Arc<Config>,
        checkout: Checkout,
        (alarm, feed): (Alarm, Feed),
    ) -> Self {
        let mut unfinished = recovered.unfinished;
        let mut router = Self {
            subscribers: Vec::new(),
            ledger,
            known: Dedupe::new(config.dedupe_window),
            identities: Identities::default(),
            bodies: BodyBudget::new(MAX_BODY_BYTES),
            accepting: HashMap::new(),
            config,
            checkout,
            runs: recovered.runs,
            sequences: recovered.sequences,
            healths,
            pauses,
            deliveries,
            unsure: HashSet::new(),
            ending: HashMap::new(),
            silences: Silences::default(),
            silence_timer: None,
            awaited: Vec::new(),
            open: true,
            seat: None,
            alarm,
            feed,
        };
        let delivers = |fleet: &FleetConfig| fleet.role == FleetRole::Deliver;
        router.seat = router.config.fleet.as_ref().filter(|fleet| delivers(fleet)).map(|_| Seat::Stands);
        for (id, settings) in entries {
            let waiting = unfinished.remove(&id).unwrap_or_default();
            router.add(id, settings, waiting);
        }
        for (id, waiting) in unfinished {
            router.add(id, None, waiting);
        }
        // One that is not in the config now stays paused when it returns.
        for id in router.pauses.keys().cloned().collect::<Vec<_>>() {
            router.add(id, None, Vec::new());
        }
        for (spec, key, told) in recovered.told {
            router.identities.restore(&spec, key, told);
        }
        // Last, because it takes long: the subscriptions start meanwhile on their own thread.
        router.known.restore(recovered.known);
        router
    }

    fn add(&mut self, id: SubscriptionId, settings: Option<Settings>, waiting: Vec<Unfinished>) {
        let pending = counted(waiting.len(), "pending delivery", "pending deliveries");
        match (waiting.len(), &settings) {
            (0, _) => {}
            (_, None) => log::warn!(
                subscription:% = id;
                "{pending} for `{id}`, which is not an active subscription: \
                 kept in the spool until it returns"
            ),
            (_, Some(_)) => {
                log::info!(subscription:% = id; "{pending} of {id} recovered from the spool");
            }
        }
        let (ledger, told) = (self.ledger.clone(), (self.alarm.clone(), self.feed.clone()));
        let health = self.healths.remove(&id).unwrap_or_default();
        let pause = self.pauses.remove(&id);
        if let Some(pause) = &pause {
            log::warn!("{id} is paused by {}: what waits for it is held back", pause.by);
        }
        let (of, config) = (id.clone(), settings.as_ref().map(|settings| settings.config.clone()));
        let right = if self.seat.is_some() { Right::None } else { Right::Own };
        let address = Subscription::start_in_arbiter(&self.deliveries, move |_| {
            Subscription::new(of, settings, ledger, waiting, (health, pause), right, told)
        });
        self.subscribers.push(Subscriber { id, config, address });
    }

    #[cfg(test)]
    pub(super) fn first_subscriber(&self) -> &Addr<Subscription> {
        &self.subscribers[0].address
    }

    #[cfg(test)]
    pub(super) fn ledger(&self) -> &Addr<Ledger> {
        &self.ledger
    }

    /// The place in the order of its SPEC of an event that is accepted at `at`.
    fn next_sequence(&mut self, spec: &SpecId, at: Timestamp) -> u64 {
        let last = self.sequences.entry(spec.clone()).or_default();
        *last = sequence_after(*last, at);
        *last
    }

    fn active_ones(&self) -> impl Iterator<Item = (&Arc<SubscriptionConfig>, &Addr<Subscription>)> {
        self.subscribers.iter().filter_map(|one| Some((one.config.as_ref()?, &one.address)))
    }
}

impl Handler<Emit> for Router {
    type Result = ();

    fn handle(&mut self, emit: Emit, context: &mut Self::Context) {
        let Emit { mut event, published, from, admission, reply } = emit;
        let at = if let From::Cluster { accepted_at, .. } = from { accepted_at } else { clock::now() };
        if self.seat == Some(Seat::Stands) {
            let key = event.event.idempotency_key;
            let why = EmitError::Unavailable("another member of the fleet routes".to_owned());
            return Emitter { key, reply }.hears(Err(why));
        }
        let is_under_way = |key: &IdempotencyKey| self.accepting.contains_key(&key.into());
        if let Some(other) = self.identities.waits_for(&event, is_under_way)
            && let Some(others) = self.accepting.get_mut(&(&other).into())
        {
            // Whether both are one event is known only when the other acceptance ends: emit it
            // again then.
            let (ended, end) = oneshot::channel();
            others.push(ended);
            let router = context.address();
            actix_rt::spawn(async move {
                drop(end.await);
                if !tell(&router, Emit { event, published, from, admission, reply }).await {
                    log::debug!("the router stopped while an event waited for another");
                }
            });
            return;
        }
        let known = |key: &IdempotencyKey| self.known.knows(key.into(), at);
        let seen_at = match event.event.key_origin {
            KeyOrigin::Source(written) | KeyOrigin::Rewritten(written) => written.min(at),
            KeyOrigin::Given | KeyOrigin::Made { .. } => at,
        };
        let is_seen_cost = event.event.kind == EventKind::CostThreshold
            && matches!(event.event.key_origin, KeyOrigin::Source(_));
        let identity = self.identities.resolve(&mut event, at, known);
        if let Some(amended) = &mut event.event.amends
            && let Some(last) = self.identities.last_version(amended)
        {
            *amended = last;
        }
        if is_seen_cost {
            let none = Run::default();
            let run = self.runs.get(&event.spec.id).unwrap_or(&none);
            if !run.takes_alert(&mut event, &self.config.runs, seen_at) {
                let key = event.event.idempotency_key;
                return Emitter { key, reply }.hears(Ok(Receipt::Duplicate));
            }
        }
        let emitter = Emitter { key: event.event.idempotency_key.clone(), reply };
        let key = KeyDigest::from(&emitter.key);
        if !self.open {
            return emitter.hears(Err(EmitError::Unavailable("the runtime is shutting down".to_owned())));
        }
        if self.known.knows(key, at) {
            return emitter.hears(Ok(Receipt::Duplicate));
        }
        if let Some(others) = self.accepting.get_mut(&key) {
            let (ended, end) = oneshot::channel();
            others.push(ended);
            actix_rt::spawn(async move {
                let _admission = admission;
                let ended = end.await.unwrap_or_else(|_| Err(stopped()));
                emitter.hears(ended.map(|()| Receipt::Duplicate));
            });
            return;
        }
        // Deliveries of one SPEC share one allocation of its id.
        if let Some((known, _)) = self.runs.get_key_value(&event.spec.id) {
            event.spec.id = known.clone();
        }
        let spec = event.spec.id.clone();
        let is_told_already = matches!(identity, Identity::Known(_));
        let step = match is_told_already {
            true => None,
            false => {
                let none = Run::default();
                self.runs.get(&spec).unwrap_or(&none).plan(&mut event, &self.config.runs, seen_at)
            }
        };
        let sequence = self.next_sequence(&spec, at);
        // In a fleet the machine that emitted it has named itself.
        if self.seat.is_none() || !self.config.show_host {
            event.name_host(host::name(self.config.show_host));
        }
        event.accepted(at, sequence);
        let body = payload::body(&event).map_err(refused);
        let fanned_out = body.and_then(|body| {
            let active = self.active_ones().map(|(config, address)| (&**config, address));
            let (fleet, key) = (self.config.fleet.as_ref(), event.event.idempotency_key.clone());
            let seq = if let From::Cluster { seq, .. } = from { Some(seq) } else { None };
            let ids = |subscription: &SubscriptionId| match (self.seat, fleet) {
                (Some(_), Some(fleet)) => delivery_id(&fleet.namespace, seq, &key, subscription),
                _ => DeliveryId::random(),
            };
            let of_source = event.event.status.filter(|_| event.event.ends_run);
            let ends = step.as_ref().and_then(|step| step.ends_run()).or(of_source);
            let pages = self.has_chats().then(|| Pages { files: published, ..self.pages() });
            let pages = pages.as_ref();
            let news = News { event: &event, body: &body, at, is_told_already, ends, pages };
            fan_out(&news, active, &self.bodies, ids)
        });
        let (mut accepted, outgoing) = match fanned_out {
            Ok(fanned_out) => fanned_out,
            Err(error) => return emitter.hears(Err(error)),
        };
        let own = |(address, pending): (&Addr<Subscription>, Pending)| (address.clone(), pending);
        let outgoing: Vec<_> = outgoing.into_iter().map(own).collect();
        accepted.sequence = Some(sequence);
        accepted.inbox = if let From::Inbox(name) = &from { Some(name.to_string()) } else { None };
        if let Some(step) = &step {
            self.runs.entry(spec.clone()).or_default().take(step);
        }
        accepted.run = step;
        accepted.told = match identity {
            Identity::Own(told) => told.map(|mut told| {
                let attempt = event.pipeline.as_ref().and_then(|pipeline| pipeline.attempt);
                self.identities.counted(&spec, &emitter.key, &mut told, attempt);
                told
            }),
            Identity::Known(told) => Some(told),
        };
        self.accepting.insert(key, Vec::new());
        let (written, answered) = oneshot::channel();
        let routed = self.routed(&spec, &from);
        let is_shared = routed.is_some();
        let accept = Accept { spec: spec.clone(), record: accepted, routed, reply: written };
        let sent = self.ledger.try_send(accept);
        let (router, alarm) = (context.address(), self.alarm.clone());
        let admission = admission.map(Arc::new);
        let accepting = async move {
            let written = match sent {
                Ok(()) => match answered.await {
                    Ok(written) => written.map_err(|error| EmitError::Unavailable(error.to_string())),
                    Err(_) => Err(stopped()),
                },
                Err(error) => {
                    Err(EmitError::Unavailable(format!("the ledger does not take events: {error}")))
                }
            };
            if !tell(&router, AcceptanceEnded { spec, key, at, result: written.clone() }).await {
                log::debug!("the router stopped while an event was accepted");
            }
            written?;
            let mut deliveries = Vec::with_capacity(outgoing.len());
            for (address, pending) in outgoing {
                let delivery = pending.delivery();
                deliveries.push((delivery.id, delivery.subscription.clone()));
                // Whoever has the lease of its subscription reads it from the cluster.
                if !is_shared && !tell(&address, Enqueue { pending, _admission: admission.clone() }).await {
                    log::error!("a subscription has stopped: its deliveries wait on disk for the next start");
                }
            }
            Ok(if is_told_already { Receipt::Duplicate } else { Receipt::Accepted(deliveries) })
        };
        actix_rt::spawn(async move {
            let _alarm = alarm;
            emitter.hears(accepting.await);
        });
    }
}

fn stopped() -> EmitError {
    EmitError::Unavailable("the runtime has stopped".to_owned())
}

impl Handler<AcceptanceEnded> for Router {
    type Result = ();

    fn handle(
        &mut self,
        AcceptanceEnded { spec, key, at, result }: AcceptanceEnded,
        context: &mut Self::Context,
    ) {
        for other in self.accepting.remove(&key).unwrap_or_default() {
            if other.send(result.clone()).is_err() {
                log::debug!(spec:%; "an emitter of an event of {spec} no longer waits");
            }
        }
        match result {
            Ok(()) => {
                self.known.remember(key, at);
                self.tell_of_run(&spec, context);
                self.expect_life(&spec, None);
                self.await_silence(context);
            }
            // In a fleet all is read again.
            Err(_) if self.seat.is_some() => {}
            Err(_) => drop(self.unsure.insert(spec.clone())),
        }
        if self.unsure.contains(&spec) {
            let read = self.ledger.send(ReadRun(spec.clone())).into_actor(self);
            context.spawn(read.map(|read, router, _| match read {
                Ok(Ok(run)) => {
                    router.unsure.remove(&spec);
                    router.runs.insert(spec, run);
                }
                Ok(Err(error)) => {
                    log::warn!(spec:%; "the run of {spec} is read from disk later: {error}");
                }
                Err(_) => log::debug!("the ledger has stopped"),
            }));
        }
    }
}

impl Handler<GiveUpLost> for Router {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, GiveUpLost(lost): GiveUpLost, _: &mut Self::Context) -> Self::Result {
        let lost = Arc::new(lost.into_iter().collect::<HashSet<_>>());
        let tell = |one: &Subscriber| one.address.send(subscription::GiveUpLost(lost.clone()));
        let told: Vec<_> = self.subscribers.iter().map(tell).collect();
        Box::pin(async move {
            for told in told {
                if told.await.is_err() {
                    log::error!(
                        "a subscription has stopped: its deliveries are looked for at the next start"
                    );
                }
            }
        })
    }
}
