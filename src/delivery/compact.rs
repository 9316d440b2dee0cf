//! A delivery in little memory: there may be a hundred thousand that wait. What it has in common
//! with others is there once.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Delivery, DeliveryId, SubscriptionId};
use crate::event::{EventKind, IdempotencyKey, SpecId, Stage, Status};
use crate::payload::Format;

/// What many deliveries have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Common {
    /// As in [`Delivery`], and so are the others.
    pub subscription: SubscriptionId,
    pub spec: SpecId,
    pub kind: EventKind,
    pub stage: Option<Stage>,
    pub status: Option<Status>,
    pub format: Format,
}

/// A [`Delivery`] that waits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compact {
    id: DeliveryId,
    common: Arc<Common>,
    key: Box<str>,
    /// In milliseconds since the epoch.
    accepted_at_ms: i64,
}

impl Compact {
    /// The delivery of these parts; `None` if `key` is no key.
    pub(crate) fn of_parts(
        id: DeliveryId,
        common: Arc<Common>,
        key: &str,
        accepted_at: Timestamp,
    ) -> Option<Self> {
        let accepted_at_ms = accepted_at.as_millisecond();
        IdempotencyKey::is_one(key).then(|| Self { id, common, key: key.into(), accepted_at_ms })
    }

    /// The delivery's id.
    pub(crate) fn id(&self) -> DeliveryId {
        self.id
    }

    /// What it has in common with others.
    pub(crate) fn common(&self) -> &Arc<Common> {
        &self.common
    }

    /// The event's key.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// When the event was accepted.
    pub(crate) fn accepted_at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.accepted_at_ms).unwrap_or_default()
    }

    /// The delivery as it was.
    pub(crate) fn whole(&self) -> Delivery {
        let Common { subscription, spec, kind, stage, status, format } = &*self.common;
        Delivery {
            id: self.id,
            subscription: subscription.clone(),
            spec: spec.clone(),
            key: IdempotencyKey::of_known(&self.key),
            kind: *kind,
            stage: *stage,
            status: *status,
            accepted_at: self.accepted_at(),
            format: *format,
        }
    }
}

/// Makes deliveries compact, those that have something in common with one copy of it.
#[derive(Debug, Default)]
pub(crate) struct Compactor {
    common: HashSet<Arc<Common>>,
    /// The number of copies at which those that nothing has any more are dropped.
    look_at: usize,
}

/// Copies below which none is dropped.
const FEW: usize = 64;

impl Compactor {
    /// The delivery, compact.
    pub(crate) fn compact(&mut self, delivery: &Delivery) -> Compact {
        let common = self.share(Common {
            subscription: delivery.subscription.clone(),
            spec: delivery.spec.clone(),
            kind: delivery.kind,
            stage: delivery.stage,
            status: delivery.status,
            format: delivery.format,
        });
        Compact {
            id: delivery.id,
            common,
            key: delivery.key.as_str().into(),
            accepted_at_ms: delivery.accepted_at.as_millisecond(),
        }
    }

    /// The one copy of this.
    fn share(&mut self, common: Common) -> Arc<Common> {
        if let Some(known) = self.common.get(&common) {
            return known.clone();
        }
        if self.common.len() >= self.look_at.max(FEW) {
            self.common.retain(|common| Arc::strong_count(common) > 1);
            self.look_at = 2 * self.common.len();
        }
        let common = Arc::new(common);
        self.common.insert(common.clone());
        common
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compact_delivery_is_the_same_and_shares_what_it_has_in_common() {
        let mut compactor = Compactor::default();
        let delivery = Delivery {
            stage: Some(Stage::Plan),
            status: Some(Status::Failure),
            ..Delivery::sample(DeliveryId::random(), "a key")
        };
        let other = Delivery { id: DeliveryId::random(), ..delivery.clone() };
        let (one, two) = (compactor.compact(&delivery), compactor.compact(&other));
        assert_eq!((one.whole(), two.whole()), (delivery.clone(), other));
        assert!(Arc::ptr_eq(one.common(), two.common()));
        let parts = |key| Compact::of_parts(one.id(), one.common().clone(), key, one.accepted_at());
        assert_eq!((parts(one.key()), parts("")), (Some(one.clone()), None));
    }

    #[test]
    fn what_no_delivery_has_any_more_is_dropped() {
        let mut compactor = Compactor::default();
        let mut of_spec = |n: usize| {
            let spec = format!("SPEC-{n}").parse().unwrap();
            compactor.compact(&Delivery { spec, ..Delivery::sample(DeliveryId::random(), "k") })
        };
        let kept: Vec<Compact> = (0..10).map(&mut of_spec).collect();
        (10..1_000).for_each(|n| drop(of_spec(n)));
        assert!(compactor.common.len() <= FEW, "{}", compactor.common.len());
        assert!(kept.iter().all(|kept| compactor.common.contains(kept.common())));
    }
}
