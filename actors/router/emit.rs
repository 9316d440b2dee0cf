//! The way of one event through the Router: which event it is, whether it is known, what it does
//! to its SPEC's run, who gets it, and what its emitter hears.

use std::collections::HashMap;
use std::sync::Arc;

use actix::prelude::*;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::fan_out::{News, fan_out, refused};
use super::{Router, Seat};
use crate::actors::ledger::{Accept, ReadRun};
use crate::actors::mailbox::after_mailbox;
use crate::actors::subscription::{Enqueue, Subscription};
use crate::actors::tell::tell;
use crate::answer::{EmitError, Receipt};
use crate::clock;
use crate::delivery::{DeliveryId, Identity, KeyDigest, Pending, SubscriptionId};
use crate::event::{Event, EventKind, IdempotencyKey, KeyOrigin, SpecId, sequence_after};
use crate::fleet::delivery_id;
use crate::payload;
use crate::payload::pages::Pages;
use crate::run::Run;
use crate::sources::host;
use crate::spool::InboxName;

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
pub(super) struct Emitter {
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
    pub(crate) event: Box<Event>,
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
    ended: Ended,
}

/// How an acceptance ended: what its emitter hears, and the deliveries that begin.
pub(super) struct Ended {
    emitter: Emitter,
    receipt: Result<Receipt, EmitError>,
    outgoing: Vec<(Addr<Subscription>, Pending)>,
    admission: Option<Arc<OwnedSemaphorePermit>>,
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
        // In a fleet the machine that emitted it has named itself.
        if self.seat.is_none() || !self.config.show_host {
            event.name_host(host::name(self.config.show_host));
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
        let ids = |(_, pending): &(_, Pending)| {
            let delivery = pending.delivery();
            (delivery.id, delivery.subscription.clone())
        };
        let deliveries = outgoing.iter().map(ids).collect();
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
        // Whoever has the lease of its subscription reads it from the cluster.
        let outgoing = if is_shared { Vec::new() } else { outgoing };
        actix_rt::spawn(async move {
            let _alarm = alarm;
            let result = match sent {
                Ok(()) => match answered.await {
                    Ok(written) => written.map_err(|error| EmitError::Unavailable(error.to_string())),
                    Err(_) => Err(stopped()),
                },
                Err(error) => {
                    Err(EmitError::Unavailable(format!("the ledger does not take events: {error}")))
                }
            };
            let receipt = result.map(|()| match is_told_already {
                true => Receipt::Duplicate,
                false => Receipt::Accepted(deliveries),
            });
            let admission = admission.map(Arc::new);
            let ended = Ended { emitter, receipt, outgoing, admission };
            if !tell(&router, AcceptanceEnded { spec, key, at, ended }).await {
                log::debug!("the router stopped while an event was accepted");
            }
        });
    }
}

impl Router {
    /// Hands the deliveries of an accepted event to their subscriptions, together with those of the
    /// events that were written with it, and answers the emitters then: each hand-over wakes the
    /// subscriptions' thread.
    fn begin_deliveries(&mut self, ended: Ended, context: &mut Context<Self>) {
        self.accepted.push(ended);
        if self.accepted.len() > 1 {
            return;
        }
        after_mailbox(context, |router, _| {
            let mut starting: HashMap<SubscriptionId, (Addr<Subscription>, Enqueue)> = HashMap::new();
            let mut heard = Vec::with_capacity(router.accepted.len());
            for Ended { emitter, receipt, outgoing, admission } in router.accepted.drain(..) {
                let outgoing = if receipt.is_ok() { outgoing } else { Vec::new() };
                for (address, pending) in outgoing {
                    let of = pending.delivery().subscription.clone();
                    let (_, enqueue) = starting.entry(of).or_insert_with(|| (address, Enqueue::default()));
                    enqueue.pending.push(pending);
                    enqueue.admissions.extend(admission.clone());
                }
                heard.push((emitter, receipt));
            }
            let alarm = router.alarm.clone();
            actix_rt::spawn(async move {
                let _alarm = alarm;
                for (address, enqueue) in starting.into_values() {
                    if !tell(&address, enqueue).await {
                        log::error!(
                            "a subscription has stopped: its deliveries wait on disk for the next start"
                        );
                    }
                }
                heard.into_iter().for_each(|(emitter, receipt)| emitter.hears(receipt));
            });
        });
    }

    /// The place in the order of its SPEC of an event that is accepted at `at`.
    fn next_sequence(&mut self, spec: &SpecId, at: Timestamp) -> u64 {
        let last = self.sequences.entry(spec.clone()).or_default();
        *last = sequence_after(*last, at);
        *last
    }
}

pub(super) fn stopped() -> EmitError {
    EmitError::Unavailable("the runtime has stopped".to_owned())
}

impl Handler<AcceptanceEnded> for Router {
    type Result = ();

    fn handle(
        &mut self,
        AcceptanceEnded { spec, key, at, ended }: AcceptanceEnded,
        context: &mut Self::Context,
    ) {
        let result = ended.receipt.as_ref().map(drop).map_err(EmitError::clone);
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
        self.begin_deliveries(ended, context);
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
