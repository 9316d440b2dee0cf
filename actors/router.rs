//! The Router: takes events in, tells new from known, and fans out to the subscriptions that want
//! them.

mod runs;

use std::collections::btree_map::Entry as Place;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::pin;
use std::sync::Arc;

use actix::prelude::*;
use actix_rt::ArbiterHandle;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::alarm::Alarm;
use super::attempt::Settings;
use super::ledger::{Accept, Ledger, ReadDeadLetter, ReadRun};
use super::subscription::{
    self, Configure, Enqueue, ListUnfinished, Purpose, Queue, ReadQueue, RequestError, SendNow, Sent, Settle,
    Subscription,
};
use super::tell::tell;
use crate::clock;
use crate::config::Config;
use crate::delivery::{
    BodyBudget, Dedupe, Delivery, DeliveryId, Identities, Identity, KeyDigest, Pending, SubscriptionId,
};
use crate::event::{Event, IdempotencyKey, SpecId};
use crate::filter::Filter;
use crate::payload::{self, Format};
use crate::run::Run;
use crate::store::{Accepted, AcceptedDelivery, Healths, InboxName, Listed, Query, Recovered, Unfinished};

/// Bodies of waiting deliveries held in memory, over all subscriptions; beyond it they are read
/// back when their turn comes.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Messages that may wait: more than admission lets in.
const MAILBOX: usize = 4 * 1024;

/// What became of an event that was emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It is on disk and will be delivered; possibly to nobody.
    Accepted(Vec<(DeliveryId, SubscriptionId)>),
    /// An event with the same idempotency key was accepted within `dedupe_window_s`.
    Duplicate,
    /// It is on disk, in the inbox: the runtime takes it in as soon as it can.
    Queued,
    /// Webhooks are switched off: nothing was kept.
    Off,
}

/// Why an event was not accepted. Nothing of it is kept: emit it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EmitError {
    /// It cannot be accepted, now or later.
    #[error("refused: {0}")]
    Refused(String),
    /// It could not be accepted now.
    #[error("not accepted: {0}")]
    Unavailable(String),
}

/// What became of an event, and the key that it has: its own, or that of the event that it is.
#[derive(Clone, Debug)]
pub(crate) struct Emission {
    pub(crate) key: IdempotencyKey,
    pub(crate) result: Result<Receipt, EmitError>,
}

/// Answers an [`Emit`].
pub(crate) type EmitReply = oneshot::Sender<Emission>;

/// Where the answer goes, and of which event it is.
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

/// From a `Handle` or the task that takes the inbox in, for each event. Bounded by the admission
/// permit it carries.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Emit {
    pub(crate) event: Event,
    /// The inbox file it comes from.
    pub(crate) inbox: Option<InboxName>,
    /// Absent for what follows from a run: there is little of it.
    pub(crate) admission: Option<OwnedSemaphorePermit>,
    pub(crate) reply: EmitReply,
}

/// From the Router's own task to itself: an acceptance ended. Bounded as [`Emit`].
#[derive(Message)]
#[rtype(result = "()")]
struct Ended {
    spec: SpecId,
    key: KeyDigest,
    at: Timestamp,
    result: Result<(), EmitError>,
}

/// From a `Handle`: send a sample to one subscription now. Bounded by the admission permit.
#[derive(Message)]
#[rtype(result = "Result<Sent, RequestError>")]
pub(crate) struct Sample {
    pub(crate) event: Event,
    pub(crate) subscription: SubscriptionId,
    /// Whether it is only to be shown.
    pub(crate) dry_run: bool,
    pub(crate) admission: OwnedSemaphorePermit,
}

/// From a `Handle`: send a dead letter again now. Bounded by the admission permit.
#[derive(Message)]
#[rtype(result = "Result<Sent, RequestError>")]
pub(crate) struct Replay {
    pub(crate) spec: SpecId,
    pub(crate) id: DeliveryId,
    pub(crate) admission: OwnedSemaphorePermit,
}

/// From the runtime or a `Handle`: answered when nothing is under way and nothing is due.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WaitIdle;

/// From the runtime, at the end: no event is taken any more, no attempt starts; answered when
/// those under way have ended, with how many deliveries are left.
#[derive(Message)]
#[rtype(result = "usize")]
pub(crate) struct Close {
    /// Whether to wait for what is under way, or only count.
    pub(crate) wait: bool,
}

/// From the runtime, at a reload: these config entries from now on. Answered when every
/// subscription knows.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Reconfigure {
    pub(crate) entries: Vec<Entry>,
    pub(crate) config: Arc<Config>,
}

/// From the door, for `status`: every subscription and its queue, in the config's order, those
/// that left it last.
#[derive(Message)]
#[rtype(result = "Vec<(SubscriptionId, Role, Queue)>")]
pub(crate) struct ReadQueues;

/// From the task that looks after the files: these deliveries' payloads were taken away.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GiveUpLost(pub(crate) Vec<DeliveryId>);

/// From the door, for `list`: the newest unfinished deliveries of every subscription.
#[derive(Message)]
#[rtype(result = "Vec<Listed>")]
pub(crate) struct ListAllUnfinished(pub(crate) Arc<Query>);

/// One config entry.
pub(crate) struct Entry {
    pub(crate) id: SubscriptionId,
    pub(crate) role: Role,
    pub(crate) filter: Filter,
    pub(crate) format: Format,
    /// Absent where it is not active.
    pub(crate) settings: Option<Settings>,
}

/// What a subscription is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Active,
    DryRun,
    /// Gets nothing new; switched off, or no longer in the config.
    Inactive,
}

/// One subscription, as the Router sees it.
struct Target {
    id: SubscriptionId,
    role: Role,
    filter: Filter,
    format: Format,
    address: Addr<Subscription>,
}

/// See the module's first line.
pub(crate) struct Router {
    targets: Vec<Target>,
    ledger: Addr<Ledger>,
    known: Dedupe,
    /// Which events those are that come without an identity.
    identities: Identities,
    bodies: BodyBudget,
    /// Events whose acceptance is under way, and who else emitted them meanwhile.
    accepting: HashMap<KeyDigest, Vec<oneshot::Sender<Result<(), EmitError>>>>,
    config: Arc<Config>,
    runs: HashMap<SpecId, Run>,
    /// How subscriptions fared at the start, for those that have not begun yet.
    healths: Healths,
    /// Where subscriptions run: the disk, which may block this thread, must not hold requests up.
    deliveries: ArbiterHandle,
    /// SPECs of which an event was not accepted: their runs are read from disk.
    unsure: HashSet<SpecId>,
    /// Runs whose end is to be told, and when that is.
    ending: HashMap<SpecId, SpawnHandle>,
    open: bool,
    alarm: Alarm,
}

impl Actor for Router {
    type Context = Context<Self>;

    /// What runs owed at the last stop is told now.
    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        let specs: Vec<SpecId> = self.runs.keys().cloned().collect();
        for spec in specs {
            self.tell_of_run(&spec, context);
        }
    }
}

impl Router {
    /// A Router that goes on with what the disk says, and a Subscription for each entry and for
    /// each id of which something is unfinished.
    pub(crate) fn new(
        entries: Vec<Entry>,
        recovered: Recovered,
        ledger: Addr<Ledger>,
        deliveries: ArbiterHandle,
        config: Arc<Config>,
        alarm: Alarm,
    ) -> Self {
        let mut unfinished = recovered.unfinished;
        let mut router = Self {
            targets: Vec::new(),
            ledger,
            known: Dedupe::new(config.dedupe_window),
            identities: Identities::default(),
            bodies: BodyBudget::new(MAX_BODY_BYTES),
            accepting: HashMap::new(),
            config,
            runs: recovered.runs,
            healths: recovered.healths,
            deliveries,
            unsure: HashSet::new(),
            ending: HashMap::new(),
            open: true,
            alarm,
        };
        for entry in entries {
            let waiting = unfinished.remove(&entry.id).unwrap_or_default();
            router.add(entry, waiting);
        }
        for (id, waiting) in unfinished {
            let (filter, format) = (Filter::default(), Format::default());
            let entry = Entry { id, role: Role::Inactive, filter, format, settings: None };
            router.add(entry, waiting);
        }
        for (spec, key, told) in recovered.told {
            router.identities.restore(&spec, key, told);
        }
        // After the subscriptions, which begin meanwhile on their own thread.
        router.known.restore(recovered.known);
        router
    }

    fn add(&mut self, entry: Entry, waiting: Vec<Unfinished>) {
        let Entry { id, role, filter, format, settings } = entry;
        match (waiting.len(), role) {
            (0, _) => {}
            (count, Role::Inactive) => log::warn!(
                "{count} pending deliveries are for `{id}`, which is not an active subscription: \
                 they stay in the spool and go on when it returns"
            ),
            (count, _) => log::info!("{count} pending deliveries of {id} recovered from the spool"),
        }
        let (ledger, alarm) = (self.ledger.clone(), self.alarm.clone());
        let health = self.healths.remove(&id).unwrap_or_default();
        let of = id.clone();
        let address = Subscription::start_in_arbiter(&self.deliveries, move |_| {
            Subscription::new(of, settings, ledger, waiting, health, alarm)
        });
        self.targets.push(Target { id, role, filter, format, address });
    }

    /// The body, once, and a delivery for each subscription that wants the event; none where it
    /// `is_told_already`.
    fn prepare(
        &self,
        event: &Event,
        inbox: Option<&InboxName>,
        at: Timestamp,
        is_told_already: bool,
    ) -> Result<(Accepted, Vec<Outgoing>), EmitError> {
        let refused = |error: &dyn std::fmt::Display| EmitError::Refused(error.to_string());
        let body: Bytes = payload::body(event).map_err(|error| refused(&error))?;
        let envelope = &event.event;
        let wanting: Vec<&Target> = self
            .targets
            .iter()
            .filter(|target| !is_told_already && target.role != Role::Inactive)
            .filter(|target| target.filter.admits(event).is_ok())
            .collect();
        // Each body once, whoever wants it.
        let mut rendered = BTreeMap::new();
        for target in &wanting {
            if let Place::Vacant(place) = rendered.entry(target.format) {
                let bytes = target.format.render(event, &body).map_err(|error| refused(&error))?;
                place.insert((self.bodies.hold(&bytes), bytes));
            }
        }
        let outgoing: Vec<Outgoing> = wanting
            .into_iter()
            .map(|target| {
                let delivery = Delivery {
                    id: DeliveryId::random(),
                    subscription: target.id.clone(),
                    spec: event.spec.id.clone(),
                    key: envelope.idempotency_key.clone(),
                    kind: envelope.kind,
                    accepted_at: at,
                    format: target.format,
                };
                let held = rendered.get(&target.format).and_then(|(held, _)| held.clone());
                let pending = Pending::new(Arc::new(delivery), held);
                Outgoing { address: target.address.clone(), pending }
            })
            .collect();
        let deliveries = outgoing
            .iter()
            .map(|Outgoing { pending, .. }| pending.delivery())
            .map(|delivery| AcceptedDelivery {
                format: delivery.format,
                ..AcceptedDelivery::new(delivery.id, delivery.subscription.clone())
            })
            .collect();
        let mut accepted =
            Accepted::new(at, envelope.idempotency_key.clone(), envelope.kind, deliveries, &body)
                .map_err(|error| refused(&error))?;
        for (format, (_, bytes)) in rendered.iter().filter(|(format, _)| **format != Format::SpecKit) {
            accepted.add_body(*format, bytes).map_err(|error| refused(&error))?;
        }
        accepted.inbox = inbox.map(ToString::to_string);
        Ok((accepted, outgoing))
    }

    #[cfg(test)]
    pub(super) fn first_target(&self) -> &Addr<Subscription> {
        &self.targets[0].address
    }

    #[cfg(test)]
    pub(super) fn ledger(&self) -> &Addr<Ledger> {
        &self.ledger
    }

    fn target(&self, id: &SubscriptionId) -> Result<&Target, RequestError> {
        let active = || self.targets.iter().filter(|target| target.role != Role::Inactive);
        active().find(|target| target.id == *id).ok_or_else(|| {
            let known: Vec<_> = active().map(|target| target.id.as_str()).collect();
            RequestError::Refused(format!("no active subscription `{id}`; active are: {}", known.join(", ")))
        })
    }
}

/// A delivery and the subscription it goes to.
struct Outgoing {
    address: Addr<Subscription>,
    pending: Pending,
}

impl Handler<Emit> for Router {
    type Result = ();

    fn handle(&mut self, emit: Emit, context: &mut Self::Context) {
        let Emit { mut event, inbox, admission, reply } = emit;
        let at = clock::now();
        let is_under_way = |key: &IdempotencyKey| self.accepting.contains_key(&key.into());
        if let Some(other) = self.identities.waits_for(&event, is_under_way)
            && let Some(others) = self.accepting.get_mut(&(&other).into())
        {
            // Whether it is that one is known once that one is accepted, or not.
            let (ended, end) = oneshot::channel();
            others.push(ended);
            let router = context.address();
            actix_rt::spawn(async move {
                drop(end.await);
                if !tell(&router, Emit { event, inbox, admission, reply }).await {
                    log::debug!("the router stopped while an event waited for another");
                }
            });
            return;
        }
        let known = |key: &IdempotencyKey| self.known.knows(key.into(), at);
        let identity = self.identities.resolve(&mut event, at, known);
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
        // One text for all that waits of a SPEC.
        if let Some((known, _)) = self.runs.get_key_value(&event.spec.id) {
            event.spec.id = known.clone();
        }
        let spec = event.spec.id.clone();
        let is_told_already = matches!(identity, Identity::Known(_));
        let step = match is_told_already {
            true => None,
            false => {
                let none = Run::default();
                self.runs.get(&spec).unwrap_or(&none).plan(&mut event, &self.config.runs)
            }
        };
        let prepared = self.prepare(&event, inbox.as_ref(), at, is_told_already);
        let (mut accepted, outgoing) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return emitter.hears(Err(error)),
        };
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
        let sent = self.ledger.try_send(Accept { spec: spec.clone(), record: accepted, reply: written });
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
            if !tell(&router, Ended { spec, key, at, result: written.clone() }).await {
                log::debug!("the router stopped while an event was accepted");
            }
            written?;
            let mut deliveries = Vec::with_capacity(outgoing.len());
            for Outgoing { address, pending } in outgoing {
                let delivery = pending.delivery();
                deliveries.push((delivery.id, delivery.subscription.clone()));
                if !tell(&address, Enqueue { pending, _admission: admission.clone() }).await {
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

impl Handler<Ended> for Router {
    type Result = ();

    fn handle(&mut self, Ended { spec, key, at, result }: Ended, context: &mut Self::Context) {
        for other in self.accepting.remove(&key).unwrap_or_default() {
            if other.send(result.clone()).is_err() {
                log::debug!("an emitter of an event of {spec} no longer waits");
            }
        }
        match result {
            Ok(()) => {
                self.known.remember(key, at);
                self.tell_of_run(&spec, context);
            }
            Err(_) => drop(self.unsure.insert(spec.clone())),
        }
        if self.unsure.contains(&spec) {
            let read = self.ledger.send(ReadRun(spec.clone())).into_actor(self);
            context.spawn(read.map(|read, router, _| match read {
                Ok(Ok(run)) => {
                    router.unsure.remove(&spec);
                    router.runs.insert(spec, run);
                }
                Ok(Err(error)) => log::warn!("the run of {spec} is read from disk later: {error}"),
                Err(_) => log::debug!("the ledger has stopped"),
            }));
        }
    }
}

impl Handler<Sample> for Router {
    type Result = ResponseFuture<Result<Sent, RequestError>>;

    fn handle(&mut self, message: Sample, _: &mut Self::Context) -> Self::Result {
        let Sample { event, subscription, dry_run, admission } = message;
        let prepared = self.target(&subscription).and_then(|target| {
            let body = payload::body(&event).and_then(|body| target.format.render(&event, &body));
            let body = body.map_err(|error| RequestError::Refused(error.to_string()))?;
            Ok((target.address.clone(), target.format, body))
        });
        Box::pin(async move {
            let _admission = admission;
            let (address, format, body) = prepared?;
            let delivery = Arc::new(Delivery {
                id: DeliveryId::random(),
                subscription,
                spec: event.spec.id,
                key: event.event.idempotency_key,
                kind: event.event.kind,
                accepted_at: clock::now(),
                format,
            });
            send_now(&address, delivery, body, Purpose::Sample { dry_run }).await
        })
    }
}

impl Handler<Replay> for Router {
    type Result = ResponseActFuture<Self, Result<Sent, RequestError>>;

    fn handle(&mut self, Replay { spec, id, admission }: Replay, _: &mut Self::Context) -> Self::Result {
        let reading = self.ledger.send(ReadDeadLetter { spec, id });
        Box::pin(reading.into_actor(self).then(|read, router, _| {
            let prepared = match read {
                Ok(Ok(letter)) if !letter.has_payload() => Err(RequestError::Refused(format!(
                    "the dead letter {} cannot be sent again: {}; {}",
                    letter.id, letter.message, letter.hint
                ))),
                Ok(Ok(letter)) => {
                    router.target(&letter.subscription).map(|target| (target.address.clone(), letter))
                }
                Ok(Err(error)) => Err(RequestError::Refused(error.to_string())),
                Err(_) => Err(RequestError::Unreachable("the ledger has stopped".to_owned())),
            };
            async move {
                let _admission = admission;
                let (address, letter) = prepared?;
                let (delivery, body) = (Arc::new(letter.delivery()), letter.payload());
                send_now(&address, delivery, body, Purpose::Replay(Box::new(letter))).await
            }
            .into_actor(router)
        }))
    }
}

async fn send_now(
    address: &Addr<Subscription>,
    delivery: Arc<Delivery>,
    body: Bytes,
    purpose: Purpose,
) -> Result<Sent, RequestError> {
    let sent = address.send(SendNow { delivery, body, purpose }).await;
    sent.unwrap_or_else(|_| Err(RequestError::Unreachable("the subscription has stopped".to_owned())))
}

impl Router {
    /// Tells every subscription now; resolves when all are quiet, as a stopped one is.
    fn settle(&self, close: bool) -> impl Future<Output = ()> + use<> {
        let tell_one = |target: &Target| {
            let (reply, answer) = oneshot::channel();
            // `send` takes the message at once; awaiting it only tells whether someone is there.
            (target.address.send(Settle { close, reply }), answer)
        };
        let told: Vec<_> = self.targets.iter().map(tell_one).collect();
        async move {
            for (request, answer) in told {
                if request.await.is_err() {
                    continue;
                }
                if answer.await.is_err() {
                    log::error!("a subscription stopped before it was quiet");
                }
            }
        }
    }
}

impl Handler<Reconfigure> for Router {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: Reconfigure, _: &mut Self::Context) -> Self::Result {
        let Reconfigure { entries, config } = message;
        if !self.open {
            return Box::pin(std::future::ready(()));
        }
        self.known.set_window(config.dedupe_window);
        self.config = config;
        let mut before = std::mem::take(&mut self.targets);
        let mut told = Vec::new();
        for entry in entries {
            match before.iter().position(|target| target.id == entry.id) {
                None => self.add(entry, Vec::new()),
                Some(at) => {
                    let Target { id, address, .. } = before.swap_remove(at);
                    told.push(address.send(Configure(entry.settings)));
                    let Entry { role, filter, format, .. } = entry;
                    self.targets.push(Target { id, role, filter, format, address });
                }
            }
        }
        // What waits for those that left stays with them, should they return.
        for target in before {
            told.push(target.address.send(Configure(None)));
            self.targets.push(Target { role: Role::Inactive, ..target });
        }
        Box::pin(async move {
            for told in told {
                if told.await.is_err() {
                    log::error!("a subscription has stopped: its deliveries wait on disk for the next start");
                }
            }
        })
    }
}

impl Handler<GiveUpLost> for Router {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, GiveUpLost(lost): GiveUpLost, _: &mut Self::Context) -> Self::Result {
        let lost = Arc::new(lost.into_iter().collect::<HashSet<_>>());
        let tell = |target: &Target| target.address.send(subscription::GiveUpLost(lost.clone()));
        let told: Vec<_> = self.targets.iter().map(tell).collect();
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

impl Handler<ReadQueues> for Router {
    type Result = ResponseFuture<Vec<(SubscriptionId, Role, Queue)>>;

    fn handle(&mut self, _: ReadQueues, _: &mut Self::Context) -> Self::Result {
        let ask = |target: &Target| (target.id.clone(), target.role, target.address.send(ReadQueue));
        let asked: Vec<_> = self.targets.iter().map(ask).collect();
        Box::pin(async move {
            let mut queues = Vec::with_capacity(asked.len());
            for (id, role, queue) in asked {
                queues.push((id, role, queue.await.unwrap_or_default()));
            }
            queues
        })
    }
}

impl Handler<ListAllUnfinished> for Router {
    type Result = ResponseFuture<Vec<Listed>>;

    fn handle(&mut self, ListAllUnfinished(query): ListAllUnfinished, _: &mut Self::Context) -> Self::Result {
        let wanted = |target: &&Target| query.subscription.as_ref().is_none_or(|id| *id == target.id);
        let ask = |target: &Target| target.address.send(ListUnfinished { query: query.clone() });
        let asked: Vec<_> = self.targets.iter().filter(wanted).map(ask).collect();
        Box::pin(async move {
            let mut listed = Vec::new();
            for rows in asked {
                listed.append(&mut rows.await.unwrap_or_default());
            }
            listed
        })
    }
}

impl Handler<WaitIdle> for Router {
    type Result = ResponseActFuture<Self, ()>;

    /// Ends of runs are told first, without their wait.
    fn handle(&mut self, _: WaitIdle, context: &mut Self::Context) -> Self::Result {
        let mut telling = actix::fut::wrap_future(std::future::ready(())).boxed_local();
        for (spec, timer) in std::mem::take(&mut self.ending) {
            context.cancel_future(timer);
            let told = self.tell_of_ends(spec);
            telling = telling.then(|(), _, _| told).boxed_local();
        }
        Box::pin(telling.then(|(), router, _| router.settle(false).into_actor(router)))
    }
}

impl Handler<Close> for Router {
    type Result = ResponseFuture<usize>;

    fn handle(&mut self, Close { wait }: Close, _: &mut Self::Context) -> Self::Result {
        self.open = false;
        let settled = self.settle(true);
        let addresses: Vec<_> = self.targets.iter().map(|target| target.address.clone()).collect();
        Box::pin(async move {
            // Kept until the queues are read: a message whose asker has gone is not handled.
            let mut settled = pin!(settled);
            if wait {
                settled.as_mut().await;
            }
            let mut left = 0;
            for address in addresses {
                let queue = address.send(ReadQueue).await.unwrap_or_default();
                left += queue.waiting + queue.in_flight;
            }
            left
        })
    }
}
