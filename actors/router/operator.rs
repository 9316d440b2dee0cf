//! What operators ask of the Router: where a subscription is, and what waits.

use std::collections::HashSet;
use std::sync::Arc;

use actix::prelude::*;
use futures_util::future::join_all;

use super::{Router, Subscriber};
use crate::actors::subscription::{self, ListUnfinished, ReadQueue, Subscription};
use crate::answer::RequestError;
use crate::ask::Discarded;
use crate::config::{Role, SubscriptionConfig};
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::inspect::{Listed, Query, Queue, Unended};
use crate::payload::pages::Pages;
use crate::sources::host;

/// From the door, for what an operator asks of one subscription: where it is, if it is active.
/// Bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "Result<Found, RequestError>")]
pub(crate) struct FindActive(pub(crate) SubscriptionId);

/// From the door, for what an operator asks of one subscription that need not be active. Bounded by
/// the admission permits.
#[derive(Message)]
#[rtype(result = "Result<Addr<Subscription>, RequestError>")]
pub(crate) struct FindAny(pub(crate) SubscriptionId);

/// From the door, for an operator: give up those of these deliveries that wait for a subscription
/// that is not active. Bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "Vec<Discarded>")]
pub(crate) struct DiscardWaiting {
    pub(crate) ids: Arc<HashSet<DeliveryId>>,
    pub(crate) by: String,
}

/// From the door, for `show`: an unfinished delivery and what it waits for. One per request.
#[derive(Message)]
#[rtype(result = "Option<Unended>")]
pub(crate) struct FindUnfinished(pub(crate) DeliveryId);

/// An active subscription.
pub(crate) struct Found {
    pub(crate) address: Addr<Subscription>,
    pub(crate) config: Arc<SubscriptionConfig>,
    /// Where its messages may lead.
    pub(crate) pages: Pages,
    /// The machine that its messages may name.
    pub(crate) host: Option<String>,
}

/// From the door, for `status`: every subscription and its queue, in the config's order, those
/// that left it last. One per request.
#[derive(Message)]
#[rtype(result = "Vec<(SubscriptionId, Role, Queue)>")]
pub(crate) struct ReadQueues;

/// From the door, for `list`: the newest unfinished deliveries of every subscription. One per
/// listing.
#[derive(Message)]
#[rtype(result = "Vec<Listed>")]
pub(crate) struct ListAllUnfinished(pub(crate) Arc<Query>);

impl Router {
    /// The pages that messages may lead to.
    pub(super) fn pages(&self) -> Pages {
        self.checkout.pages(self.config.link_template.as_ref())
    }

    /// Whether anybody gets messages, which lead to pages of the repo.
    pub(super) fn has_chats(&self) -> bool {
        self.active_ones().any(|(config, _)| config.format.is_chat())
    }
}

/// All that was answered, in the order in which it was asked.
async fn gathered<T, E>(asked: Vec<impl Future<Output = Result<Vec<T>, E>>>) -> Vec<T> {
    join_all(asked).await.into_iter().flatten().flatten().collect()
}

impl Handler<FindActive> for Router {
    type Result = Result<Found, RequestError>;

    fn handle(&mut self, FindActive(id): FindActive, _: &mut Self::Context) -> Self::Result {
        let mut active = self.active_ones();
        let found = active.find(|(config, _)| config.id == id);
        let found = found.map(|(config, address)| Found {
            address: address.clone(),
            config: config.clone(),
            pages: self.pages(),
            host: host::name(self.config.show_host),
        });
        found.ok_or_else(|| {
            let active = self.active_ones().map(|(config, _)| config.id.clone()).collect();
            RequestError::NotActive { id, active }
        })
    }
}

impl Handler<FindAny> for Router {
    type Result = Result<Addr<Subscription>, RequestError>;

    fn handle(&mut self, FindAny(id): FindAny, _: &mut Self::Context) -> Self::Result {
        let found = self.subscribers.iter().find(|one| one.id == id).map(|one| one.address.clone());
        found.ok_or_else(|| {
            let known = self.subscribers.iter().map(|one| one.id.clone()).collect();
            RequestError::NoSubscription { id, known }
        })
    }
}

impl Handler<DiscardWaiting> for Router {
    type Result = ResponseFuture<Vec<Discarded>>;

    fn handle(&mut self, DiscardWaiting { ids, by }: DiscardWaiting, _: &mut Self::Context) -> Self::Result {
        let ask = |one: &Subscriber| {
            one.address.send(subscription::DiscardWaiting { ids: ids.clone(), by: by.clone() })
        };
        let asked: Vec<_> = self.subscribers.iter().map(ask).collect();
        Box::pin(gathered(asked))
    }
}

impl Handler<FindUnfinished> for Router {
    type Result = ResponseFuture<Option<Unended>>;

    fn handle(&mut self, FindUnfinished(id): FindUnfinished, _: &mut Self::Context) -> Self::Result {
        let ask = |one: &Subscriber| one.address.send(subscription::ShowUnfinished(id));
        let asked: Vec<_> = self.subscribers.iter().map(ask).collect();
        Box::pin(async move {
            let mut found = None;
            for shown in asked {
                found = shown.await.ok().flatten().or(found);
            }
            found
        })
    }
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
        Box::pin(gathered(asked))
    }
}
