//! Gives up what waits for a subscription that is not active, because a person asked for it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;

use super::{Due, Subscription};
use crate::actors::ledger::DiscardWaiting as OnDisk;
use crate::ask::Discarded;
use crate::delivery::DeliveryId;

/// From the Router, for an operator: give up those of these deliveries that wait here. At most
/// [`MAX_DISCARDED`](crate::store::MAX_DISCARDED); bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "Vec<Discarded>")]
pub(crate) struct DiscardWaiting {
    pub(crate) ids: Arc<HashSet<DeliveryId>>,
    pub(crate) by: String,
}

impl Handler<DiscardWaiting> for Subscription {
    type Result = ResponseActFuture<Self, Vec<Discarded>>;

    /// What is taken out of the lane here comes back unless the disk confirms its end.
    fn handle(&mut self, DiscardWaiting { ids, by }: DiscardWaiting, _: &mut Self::Context) -> Self::Result {
        let refused =
            |id: &DeliveryId, why: &str| Discarded::refused(*id, Some(self.id.clone()), why.to_owned());
        let is_under_way = |id: &&DeliveryId| self.under_way.contains_key(*id);
        let mut results: Vec<Discarded> = Vec::new();
        if self.sender.is_some() {
            let waits = self.lane.newest_first().map(|(_, queued)| queued.id());
            let here = waits.filter(|id| ids.contains(id)).chain(ids.iter().filter(is_under_way).copied());
            results.extend(here.map(|id| Discarded::is_wanted(id, self.id.clone())));
            return Box::pin(actix::fut::ready(results));
        }
        let busy = ids.iter().filter(is_under_way);
        results.extend(busy.map(|id| refused(id, "its last request is still under way: try again")));
        let taken: Vec<Due> = self.lane.take(&ids);
        if taken.is_empty() {
            return Box::pin(actix::fut::ready(results));
        }
        let of = |(pending, _): &Due| (pending.delivery().clone(), pending.attempts_made());
        let deliveries = taken.iter().map(of).collect();
        self.held_up += taken.len();
        let answers = self.ledger.send(OnDisk { deliveries, by });
        let ended = async move {
            let mut ended = Vec::with_capacity(taken.len());
            let answers = answers.await.unwrap_or_default();
            let mut answers = answers.into_iter();
            for due in taken {
                let answer = match answers.next() {
                    Some(answer) => answer.await.map_or_else(
                        |_| Err(STOPPED.to_owned()),
                        |written| written.map_err(|error| error.to_string()),
                    ),
                    None => Err(STOPPED.to_owned()),
                };
                ended.push((due, answer));
            }
            ended
        };
        Box::pin(ended.into_actor(self).map(move |ended, subscription, context| {
            subscription.held_up -= ended.len();
            for ((pending, due), written) in ended {
                let id = pending.delivery().id;
                results.push(match written {
                    Ok(()) => {
                        subscription.unread.remove(&id);
                        Discarded::done(id, subscription.id.clone())
                    }
                    Err(error) => {
                        subscription.lane.enqueue(pending, due.max(Instant::now()));
                        Discarded::refused(id, Some(subscription.id.clone()), error)
                    }
                });
            }
            subscription.pump(context);
            results
        }))
    }
}

const STOPPED: &str = "the ledger has stopped";
