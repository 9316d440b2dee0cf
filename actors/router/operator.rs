//! What operators ask of the Router: a sample, a replay, what waits.

use std::sync::Arc;

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::{Router, Subscriber};
use crate::actors::ledger::ReadDeadLetter;
use crate::actors::subscription::{ListUnfinished, Purpose, ReadQueue, SendNow, Subscription};
use crate::answer::RequestError;
use crate::ask::SentReport;
use crate::clock;
use crate::config::{Role, SubscriptionConfig};
use crate::delivery::{Delivery, DeliveryId, SubscriptionId};
use crate::event::{Event, SpecId};
use crate::inspect::{Listed, Query, Queue};
use crate::payload;

/// From a `Handle`: send a sample to one subscription now. Bounded by the admission permit.
#[derive(Message)]
#[rtype(result = "Result<SentReport, RequestError>")]
pub(crate) struct Sample {
    pub(crate) event: Event,
    pub(crate) subscription: SubscriptionId,
    /// Show the request, send nothing.
    pub(crate) dry_run: bool,
    pub(crate) admission: OwnedSemaphorePermit,
}

/// From a `Handle`: send a dead letter again now. Bounded by the admission permit.
#[derive(Message)]
#[rtype(result = "Result<SentReport, RequestError>")]
pub(crate) struct Replay {
    pub(crate) spec: SpecId,
    pub(crate) id: DeliveryId,
    pub(crate) admission: OwnedSemaphorePermit,
}

/// From the door, for `status`: every subscription and its queue, in the config's order, those that
/// left it last. One per request.
#[derive(Message)]
#[rtype(result = "Vec<(SubscriptionId, Role, Queue)>")]
pub(crate) struct ReadQueues;

/// From the door, for `list`: the newest unfinished deliveries of every subscription. One per
/// listing.
#[derive(Message)]
#[rtype(result = "Vec<Listed>")]
pub(crate) struct ListAllUnfinished(pub(crate) Arc<Query>);

impl Router {
    /// An active subscription and its config.
    fn active(
        &self,
        id: &SubscriptionId,
    ) -> Result<(&SubscriptionConfig, &Addr<Subscription>), RequestError> {
        let mut active = self.active_ones();
        active.find(|(config, _)| config.id == *id).ok_or_else(|| {
            let known: Vec<_> = self.active_ones().map(|(config, _)| config.id.as_str()).collect();
            RequestError::Refused(format!("no active subscription `{id}`; active are: {}", known.join(", ")))
        })
    }
}

impl Handler<Sample> for Router {
    type Result = ResponseFuture<Result<SentReport, RequestError>>;

    fn handle(&mut self, message: Sample, _: &mut Self::Context) -> Self::Result {
        let Sample { event, subscription, dry_run, admission } = message;
        let prepared = self.active(&subscription).and_then(|(config, address)| {
            let body = payload::body(&event).and_then(|body| config.format.render(&event, &body));
            let body = body.map_err(|error| RequestError::Refused(error.to_string()))?;
            Ok((address.clone(), config.format, body))
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
    type Result = ResponseActFuture<Self, Result<SentReport, RequestError>>;

    fn handle(&mut self, Replay { spec, id, admission }: Replay, _: &mut Self::Context) -> Self::Result {
        let reading = self.ledger.send(ReadDeadLetter { spec, id });
        Box::pin(reading.into_actor(self).then(|read, router, _| {
            let prepared = match read {
                Ok(Ok(letter)) if !letter.has_payload() => Err(RequestError::Refused(format!(
                    "the dead letter {} cannot be sent again: {}; {}",
                    letter.id, letter.message, letter.hint
                ))),
                Ok(Ok(letter)) => {
                    router.active(&letter.subscription).map(|(_, address)| (address.clone(), letter))
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
) -> Result<SentReport, RequestError> {
    let sent = address.send(SendNow { delivery, body, purpose }).await;
    sent.unwrap_or_else(|_| Err(RequestError::Unreachable("the subscription has stopped".to_owned())))
}

impl Handler<ReadQueues> for Router {
    type Result = ResponseFuture<Vec<(SubscriptionId, Role, Queue)>>;

    fn handle(&mut self, _: ReadQueues, _: &mut Self::Context) -> Self::Result {
        let ask = |one: &Subscriber| (one.id.clone(), one.role(), one.address.send(ReadQueue));
        let asked: Vec<_> = self.subscribers.iter().map(ask).collect();
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
        let wanted = |one: &&Subscriber| query.subscription.as_ref().is_none_or(|id| *id == one.id);
        let ask = |one: &Subscriber| one.address.send(ListUnfinished { query: query.clone() });
        let asked: Vec<_> = self.subscribers.iter().filter(wanted).map(ask).collect();
        Box::pin(async move {
            let mut listed = Vec::new();
            for rows in asked {
                listed.append(&mut rows.await.unwrap_or_default());
            }
            listed
        })
    }
}
