//! The way of one event through the Router: which event it is, whether it is known, what it does
//! to its SPEC's run, who gets it, and what its emitter hears.

use std::collections::HashSet;
use std::sync::Arc;

use actix::prelude::*;
use futures_util::FutureExt as _;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::fan_out::{News, fan_out, refused};
use super::{Router, Seat};
use crate::actors::acceptance::{Acceptance, Accepting, Outgoing};
use crate::actors::emitter::{EmitReply, Emitter};
use crate::actors::ledger::{Accept, NotWritten, ReadRun};
use crate::actors::mailbox::after_mailbox;
use crate::actors::subscription::Subscription;
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

/// An event that the Ledger writes.
pub(super) struct Writing {
    spec: SpecId,
    key: KeyDigest,
    at: Timestamp,
    accepting: Accepting,
    /// Held until the Router knows how it ended.
    _admission: Option<Arc<OwnedSemaphorePermit>>,
    /// The Ledger's answer, or why it could not be asked.
    written: Result<oneshot::Receiver<Result<(), NotWritten>>, EmitError>,
}

impl Writing {
    /// Waits for the Ledger's answer.
    async fn is_written(&mut self) -> Result<(), EmitError> {
        match &mut self.written {
            Ok(written) => match written.await {
                Ok(written) => written.map_err(|error| EmitError::Unavailable(error.to_string())),
                Err(_) => Err(stopped()),
            },
            Err(error) => Err(error.clone()),
        }
    }
}

/// An event that was written, or was not.
struct WritingEnded {
    writing: Writing,
    result: Result<(), EmitError>,
}

/// From the Router's own task to itself: these ended, in order. Bounded as [`Emit`].
#[derive(Message)]
#[rtype(result = "()")]
struct WritingsEnded(Vec<WritingEnded>);

impl Handler<Emit> for Router {
    type Result = ();

    fn handle(&mut self, emit: Emit, context: &mut Self::Context) {
        let Emit { mut event, published, from, admission, reply } = emit;
        let at = if let From::Cluster { accepted_at, .. } = from { accepted_at } else { clock::now() };
        if self.seat == Some(Seat::Stands) {
            let why = EmitError::Unavailable("another member of the fleet routes".to_owned());
            return Emitter::new(event.event.idempotency_key, reply).hears(Err(why));
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
                return Emitter::new(event.event.idempotency_key, reply).hears(Ok(Receipt::Duplicate));
            }
        }
        let emitter = Emitter::new(event.event.idempotency_key.clone(), reply);
        let key = KeyDigest::from(&event.event.idempotency_key);
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
        let fanned_out = payload::raw_body(&event).map_err(refused).and_then(|payload| {
            let body = payload::bytes_of(&payload);
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
            fan_out(&news, payload, active, &self.bodies, ids)
        });
        let (mut accepted, outgoing) = match fanned_out {
            Ok(fanned_out) => fanned_out,
            Err(error) => return emitter.hears(Err(error)),
        };
        let own = |(address, pending): (&Addr<Subscription>, Pending)| (address.clone().recipient(), pending);
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
                self.identities.counted(&spec, &event.event.idempotency_key, &mut told, attempt);
                told
            }),
            Identity::Known(told) => Some(told),
        };
        self.accepting.insert(key, Vec::new());
        let (written, answered) = oneshot::channel();
        let routed = self.routed(&spec, &from);
        let is_shared = routed.is_some();
        let receipt = match is_told_already {
            true => Receipt::Duplicate,
            false => Receipt::Accepted(deliveries),
        };
        // Whoever has the lease of its subscription reads it from the cluster.
        let outgoing = if is_shared { Vec::new() } else { outgoing };
        let admission = admission.map(Arc::new);
        let outgoing = Outgoing { deliveries: outgoing, admission: admission.clone() };
        let acceptance = Acceptance { emitter: emitter.with(event), receipt, outgoing };
        let accepting = Accepting::new(acceptance);
        let of_ledger = accepting.clone();
        let accept =
            Accept { spec: spec.clone(), record: accepted, routed, accepting: of_ledger, reply: written };
        let sent = self
            .ledger
            .try_send(accept)
            .map_err(|error| EmitError::Unavailable(format!("the ledger does not take events: {error}")));
        let written = sent.map(|()| answered);
        let writing = Writing { spec, key, at, accepting, _admission: admission, written };
        self.wait_until_written(writing, context);
    }
}

impl Router {
    /// Waits for the Ledger together with the events that it is given now: they are one write, and
    /// end together.
    fn wait_until_written(&mut self, writing: Writing, context: &mut Context<Self>) {
        self.written_next.push(writing);
        if self.written_next.len() > 1 {
            return;
        }
        after_mailbox(context, |router, context| {
            let waiting = std::mem::take(&mut router.written_next);
            let (address, alarm) = (context.address(), router.alarm.clone());
            actix_rt::spawn(async move {
                let _alarm = alarm;
                let mut waiting = waiting.into_iter().peekable();
                while let Some(mut writing) = waiting.next() {
                    let result = writing.is_written().await;
                    let mut ended = vec![WritingEnded { writing, result }];
                    // The Ledger answers in order.
                    while let Some(result) =
                        waiting.peek_mut().and_then(|next| next.is_written().now_or_never())
                        && let Some(writing) = waiting.next()
                    {
                        ended.push(WritingEnded { writing, result });
                    }
                    if !tell(&address, WritingsEnded(ended)).await {
                        log::debug!("the router stopped while events were accepted");
                    }
                }
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

impl Handler<WritingsEnded> for Router {
    type Result = ();

    fn handle(&mut self, WritingsEnded(ended): WritingsEnded, context: &mut Self::Context) {
        for WritingEnded { writing: Writing { spec, key, at, .. }, result } in &ended {
            for other in self.accepting.remove(key).unwrap_or_default() {
                if other.send(result.clone()).is_err() {
                    log::debug!(spec:%; "an emitter of an event of {spec} no longer waits");
                }
            }
            match result {
                Ok(()) => {
                    self.known.remember(*key, *at);
                    self.tell_of_run(spec, context);
                    self.expect_life(spec, None);
                    self.await_silence(context);
                }
                // In a fleet all is read again.
                Err(_) if self.seat.is_some() => {}
                Err(_) => drop(self.unsure.insert(spec.clone())),
            }
        }
        let unsure = ended.iter().map(|ended| &ended.writing.spec).filter(|spec| self.unsure.contains(*spec));
        for spec in unsure.cloned().collect::<HashSet<_>>() {
            self.read_run(spec, context);
        }
        // Those that the Ledger has not begun: of a fleet, or not written.
        let mut accepted = Vec::new();
        for WritingEnded { writing, result } in ended {
            match (writing.accepting.take(), result) {
                (Some(acceptance), Ok(())) => accepted.push(acceptance),
                (Some(acceptance), Err(error)) => acceptance.fails(error),
                (None, _) => {}
            }
        }
        Acceptance::begin(accepted);
    }
}

impl Router {
    /// Reads a SPEC's run from disk: an event that was not written may have changed it. No event is
    /// taken until it is known, since what that did to the run would be lost.
    fn read_run(&self, spec: SpecId, context: &mut Context<Self>) {
        let read = self.ledger.send(ReadRun(spec.clone())).into_actor(self);
        context.wait(read.map(|read, router, _| match read {
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

#[cfg(test)]
mod tests;
