//! The Router: takes events in, tells new from known, and fans out to the subscriptions that want them.

use std::collections::HashMap;
use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::ledger::{Accept, Ledger, ReadDeadLetter};
use super::subscription::{Count, Enqueue, Lanes, Purpose, SendError, SendNow, Sent, Settle, Subscription};
use crate::clock;
use crate::delivery::{Dedupe, Delivery, DeliveryId, SubscriptionId};
use crate::event::{Event, IdempotencyKey, SpecId};
use crate::filter::Filter;
use crate::payload;
use crate::store::{Accepted, AcceptedDelivery};

/// What became of an event that was emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// It is on disk and will be delivered; possibly to nobody.
    Accepted(Vec<(DeliveryId, SubscriptionId)>),
    /// An event with the same idempotency key was accepted within the last 24 hours.
    Duplicate,
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

/// From a `Handle`, for each event. Bounded by the admission permit it carries.
#[derive(Message)]
#[rtype(result = "Result<Receipt, EmitError>")]
pub(crate) struct Emit {
    pub(crate) event: Event,
    pub(crate) admission: OwnedSemaphorePermit,
}

/// From the Router's own task to itself: an acceptance ended. Bounded as [`Emit`].
#[derive(Message)]
#[rtype(result = "()")]
struct Ended {
    key: IdempotencyKey,
    at: Timestamp,
    result: Result<(), EmitError>,
}

/// From a `Handle`: send a sample to one subscription now. Bounded by the admission permit.
#[derive(Message)]
#[rtype(result = "Result<Sent, SendError>")]
pub(crate) struct Sample {
    pub(crate) event: Event,
    pub(crate) subscription: SubscriptionId,
    pub(crate) admission: OwnedSemaphorePermit,
}

/// From a `Handle`: send a dead letter again now. Bounded by the admission permit.
#[derive(Message)]
#[rtype(result = "Result<Sent, SendError>")]
pub(crate) struct Replay {
    pub(crate) spec: SpecId,
    pub(crate) id: DeliveryId,
    pub(crate) admission: OwnedSemaphorePermit,
}

/// From the runtime or a `Handle`: answered when nothing is under way and nothing is due.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct WaitIdle;

/// From the runtime, at the end: no event is taken any more, no attempt starts; answered when those under way have
/// ended, with what is left.
#[derive(Message)]
#[rtype(result = "Lanes")]
pub(crate) struct Close {
    /// Whether to wait for what is under way, or only count.
    pub(crate) wait: bool,
}

/// One active subscription, as the Router sees it.
pub(crate) struct Target {
    pub(crate) id: SubscriptionId,
    pub(crate) filter: Filter,
    pub(crate) address: Addr<Subscription>,
}

/// See the module's first line.
pub(crate) struct Router {
    targets: Vec<Target>,
    ledger: Addr<Ledger>,
    known: Dedupe,
    /// Events whose acceptance is under way, and who else emitted them meanwhile.
    accepting: HashMap<IdempotencyKey, Vec<oneshot::Sender<Result<(), EmitError>>>>,
    open: bool,
}

impl Actor for Router {
    type Context = Context<Self>;
}

impl Router {
    pub(crate) fn new(targets: Vec<Target>, ledger: Addr<Ledger>, known: Dedupe) -> Self {
        Self { targets, ledger, known, accepting: HashMap::new(), open: true }
    }

    /// The body, once, and a delivery for each subscription that wants the event.
    fn prepare(&self, event: &Event, at: Timestamp) -> Result<(Accepted, Vec<Outgoing>), EmitError> {
        let refused = |error: &dyn std::fmt::Display| EmitError::Refused(error.to_string());
        let body: Bytes = payload::body(event).map_err(|error| refused(&error))?;
        let envelope = &event.event;
        let outgoing: Vec<Outgoing> = self
            .targets
            .iter()
            .filter(|target| target.filter.admits(event).is_ok())
            .map(|target| {
                let delivery = Delivery {
                    id: DeliveryId::random(),
                    subscription: target.id.clone(),
                    spec: event.spec.id.clone(),
                    key: envelope.idempotency_key.clone(),
                    kind: envelope.kind,
                    body: body.clone(),
                    accepted_at: at,
                };
                Outgoing { address: target.address.clone(), delivery: Arc::new(delivery) }
            })
            .collect();
        let deliveries = outgoing
            .iter()
            .map(|Outgoing { delivery, .. }| AcceptedDelivery {
                id: delivery.id,
                subscription: delivery.subscription.clone(),
            })
            .collect();
        let accepted = Accepted::new(at, envelope.idempotency_key.clone(), envelope.kind, deliveries, &body)
            .map_err(|error| refused(&error))?;
        Ok((accepted, outgoing))
    }

    fn target(&self, id: &SubscriptionId) -> Result<Addr<Subscription>, SendError> {
        self.targets.iter().find(|target| target.id == *id).map(|target| target.address.clone()).ok_or_else(
            || {
                let known: Vec<_> = self.targets.iter().map(|target| target.id.as_str()).collect();
                SendError(format!("no active subscription `{id}`; active are: {}", known.join(", ")))
            },
        )
    }
}

/// A delivery and the subscription it goes to.
struct Outgoing {
    address: Addr<Subscription>,
    delivery: Arc<Delivery>,
}

impl Handler<Emit> for Router {
    type Result = ResponseFuture<Result<Receipt, EmitError>>;

    fn handle(&mut self, Emit { event, admission }: Emit, context: &mut Self::Context) -> Self::Result {
        let at = clock::now();
        let key = event.event.idempotency_key.clone();
        if !self.open {
            let error = EmitError::Unavailable("the runtime is shutting down".to_owned());
            return Box::pin(async { Err(error) });
        }
        if self.known.knows(&key, at) {
            return Box::pin(async { Ok(Receipt::Duplicate) });
        }
        if let Some(others) = self.accepting.get_mut(&key) {
            let (reply, answer) = oneshot::channel();
            others.push(reply);
            return Box::pin(async move {
                let _admission = admission;
                answer.await.unwrap_or_else(|_| Err(stopped()))?;
                Ok(Receipt::Duplicate)
            });
        }
        let (accepted, outgoing) = match self.prepare(&event, at) {
            Ok(prepared) => prepared,
            Err(error) => return Box::pin(async { Err(error) }),
        };
        self.accepting.insert(key.clone(), Vec::new());
        let (reply, answer) = oneshot::channel();
        let sent = self.ledger.try_send(Accept { spec: event.spec.id, record: accepted, reply });
        let router = context.address();
        Box::pin(async move {
            let _admission = admission;
            let written = match sent {
                Ok(()) => match answer.await {
                    Ok(written) => written.map_err(|error| EmitError::Unavailable(error.to_string())),
                    Err(_) => Err(stopped()),
                },
                Err(error) => {
                    Err(EmitError::Unavailable(format!("the ledger does not take events: {error}")))
                }
            };
            if router.send(Ended { key, at, result: written.clone() }).await.is_err() {
                log::debug!("the router stopped while an event was accepted");
            }
            written?;
            let mut deliveries = Vec::with_capacity(outgoing.len());
            for Outgoing { address, delivery } in outgoing {
                deliveries.push((delivery.id, delivery.subscription.clone()));
                if address.send(Enqueue(delivery)).await.is_err() {
                    log::error!("a subscription has stopped: its deliveries wait on disk for the next start");
                }
            }
            Ok(Receipt::Accepted(deliveries))
        })
    }
}

fn stopped() -> EmitError {
    EmitError::Unavailable("the runtime has stopped".to_owned())
}

impl Handler<Ended> for Router {
    type Result = ();

    fn handle(&mut self, Ended { key, at, result }: Ended, _: &mut Self::Context) {
        for other in self.accepting.remove(&key).unwrap_or_default() {
            if other.send(result.clone()).is_err() {
                log::debug!("an emitter of {key} no longer waits");
            }
        }
        if result.is_ok() {
            self.known.remember(key, at);
        }
    }
}

impl Handler<Sample> for Router {
    type Result = ResponseFuture<Result<Sent, SendError>>;

    fn handle(&mut self, message: Sample, _: &mut Self::Context) -> Self::Result {
        let Sample { event, subscription, admission } = message;
        let prepared = self.target(&subscription).and_then(|address| {
            let body = payload::body(&event).map_err(|error| SendError(error.to_string()))?;
            Ok((address, body))
        });
        Box::pin(async move {
            let _admission = admission;
            let (address, body) = prepared?;
            let delivery = Arc::new(Delivery {
                id: DeliveryId::random(),
                subscription,
                spec: event.spec.id,
                key: event.event.idempotency_key,
                kind: event.event.kind,
                body,
                accepted_at: clock::now(),
            });
            send_now(&address, delivery, Purpose::Sample).await
        })
    }
}

impl Handler<Replay> for Router {
    type Result = ResponseActFuture<Self, Result<Sent, SendError>>;

    fn handle(&mut self, Replay { spec, id, admission }: Replay, _: &mut Self::Context) -> Self::Result {
        let reading = self.ledger.send(ReadDeadLetter { spec, id });
        Box::pin(reading.into_actor(self).then(|read, router, _| {
            let prepared = match read {
                Ok(Ok(letter)) => router.target(&letter.subscription).map(|address| (address, letter)),
                Ok(Err(error)) => Err(SendError(error.to_string())),
                Err(_) => Err(SendError("the ledger has stopped".to_owned())),
            };
            async move {
                let _admission = admission;
                let (address, letter) = prepared?;
                let delivery = Arc::new(letter.delivery());
                send_now(&address, delivery, Purpose::Replay(Box::new(letter))).await
            }
            .into_actor(router)
        }))
    }
}

async fn send_now(
    address: &Addr<Subscription>,
    delivery: Arc<Delivery>,
    purpose: Purpose,
) -> Result<Sent, SendError> {
    let sent = address.send(SendNow { delivery, purpose }).await;
    sent.unwrap_or_else(|_| Err(SendError("the subscription has stopped".to_owned())))
}

impl Router {
    /// Resolves when every subscription is quiet; a stopped one is.
    fn settle(&self, close: bool) -> impl Future<Output = ()> + use<> {
        let addresses: Vec<_> = self.targets.iter().map(|target| target.address.clone()).collect();
        async move {
            let mut answers = Vec::new();
            for address in addresses {
                let (reply, answer) = oneshot::channel();
                if address.send(Settle { close, reply }).await.is_ok() {
                    answers.push(answer);
                }
            }
            for answer in answers {
                if answer.await.is_err() {
                    log::error!("a subscription stopped before it was quiet");
                }
            }
        }
    }
}

impl Handler<WaitIdle> for Router {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: WaitIdle, _: &mut Self::Context) -> Self::Result {
        Box::pin(self.settle(false))
    }
}

impl Handler<Close> for Router {
    type Result = ResponseFuture<Lanes>;

    fn handle(&mut self, Close { wait }: Close, _: &mut Self::Context) -> Self::Result {
        self.open = false;
        let settled = wait.then(|| self.settle(true));
        let addresses: Vec<_> = self.targets.iter().map(|target| target.address.clone()).collect();
        Box::pin(async move {
            if let Some(settled) = settled {
                settled.await;
            }
            let mut left = Lanes::default();
            for address in addresses {
                let lanes = address.send(Count).await.unwrap_or_default();
                left.waiting += lanes.waiting;
                left.in_flight += lanes.in_flight;
            }
            left
        })
    }
}
