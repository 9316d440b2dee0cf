//! What operators have the Ledger write: deliveries that are discarded, and pauses of
//! subscriptions.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::batch::Waiting;
use super::{Ledger, NotWritten};
use crate::delivery::{Delivery, DeliveryId, FinalState, Pause, SubscriptionId};
use crate::event::SpecId;
use crate::feed::Ended;
use crate::store::NotDiscarded;

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
            self.answer_for(added, Waiting::for_delivery(delivery, reply, end), context);
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
