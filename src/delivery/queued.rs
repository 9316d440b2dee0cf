//! A delivery in a lane's line. One without its body in memory is kept small: all that wait for a
//! retry are such, and they may be many.

use std::num::NonZeroU64;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Body, Compact, Compactor, Delivery, DeliveryId, Pending};

/// See the module's first line.
#[derive(Debug)]
pub(crate) struct Queued {
    attempts_made: u32,
    delivery: Kept,
}

#[derive(Debug)]
enum Kept {
    Whole(Arc<Delivery>, Body),
    Compact(Compact),
}

impl Queued {
    /// A delivery that a lane takes.
    pub(super) fn new(pending: Pending, compactor: &mut Compactor) -> Self {
        let Pending { delivery, attempts_made, body, .. } = pending;
        let delivery = match body {
            Some(body) => Kept::Whole(delivery, body),
            None => Kept::Compact(compactor.compact(&delivery)),
        };
        Self { attempts_made, delivery }
    }

    /// A delivery with `attempts_made` attempts that ended without success.
    pub(super) fn recovered(delivery: Compact, attempts_made: u32) -> Self {
        Self { attempts_made, delivery: Kept::Compact(delivery) }
    }

    /// The delivery as it leaves the line, in which it had this place.
    pub(super) fn into_pending(self, arrival: NonZeroU64) -> Pending {
        let (delivery, body) = match self.delivery {
            Kept::Whole(delivery, body) => (delivery, Some(body)),
            Kept::Compact(delivery) => (Arc::new(delivery.whole()), None),
        };
        Pending { delivery, attempts_made: self.attempts_made, arrival: Some(arrival), body }
    }

    /// The delivery.
    pub(crate) fn delivery(&self) -> Arc<Delivery> {
        match &self.delivery {
            Kept::Whole(delivery, _) => delivery.clone(),
            Kept::Compact(delivery) => Arc::new(delivery.whole()),
        }
    }

    /// The delivery's id.
    pub(crate) fn id(&self) -> DeliveryId {
        match &self.delivery {
            Kept::Whole(delivery, _) => delivery.id,
            Kept::Compact(delivery) => delivery.id(),
        }
    }

    /// When its event was accepted.
    pub(crate) fn accepted_at(&self) -> Timestamp {
        match &self.delivery {
            Kept::Whole(delivery, _) => delivery.accepted_at,
            Kept::Compact(delivery) => delivery.accepted_at(),
        }
    }

    /// Number of attempts that ended without success.
    pub(crate) fn attempts_made(&self) -> u32 {
        self.attempts_made
    }
}
