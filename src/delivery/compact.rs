//! A delivery in little memory: there may be a hundred thousand that wait. What it has in common
//! with others is there once.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
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

/// A [`Delivery`] that waits, and its key as whoever has it keeps it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Compact<K = SharedKey> {
    pub(super) id: DeliveryId,
    pub(super) common: Arc<Common>,
    pub(super) key: K,
    /// In milliseconds since the epoch.
    pub(super) accepted_at_ms: i64,
}

/// A key in a text with those of others: a hundred thousand of their own would be as many holes in
/// the allocator's memory once they are gone.
#[derive(Clone)]
pub(crate) struct SharedKey {
    all: Arc<String>,
    range: Range<usize>,
}

impl SharedKey {
    fn as_str(&self) -> &str {
        &self.all[self.range.clone()]
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl PartialEq for SharedKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl<K> Compact<K> {
    /// The delivery of these parts.
    pub(crate) fn of_parts(id: DeliveryId, common: Arc<Common>, key: K, accepted_at: Timestamp) -> Self {
        Self { id, common, key, accepted_at_ms: accepted_at.as_millisecond() }
    }

    /// The delivery's id.
    pub(crate) fn id(&self) -> DeliveryId {
        self.id
    }

    /// What it has in common with others.
    pub(crate) fn common(&self) -> &Arc<Common> {
        &self.common
    }

    /// When the event was accepted.
    pub(crate) fn accepted_at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.accepted_at_ms).unwrap_or_default()
    }

    /// The same delivery with its key kept like this.
    fn with<L>(self, keep: impl FnOnce(K) -> L) -> Compact<L> {
        let Self { id, common, key, accepted_at_ms } = self;
        Compact { id, common, key: keep(key), accepted_at_ms }
    }
}

impl Compact<&str> {
    /// The delivery as it was.
    pub(crate) fn whole(&self) -> Delivery {
        let Common { subscription, spec, kind, stage, status, format } = &*self.common;
        Delivery {
            id: self.id,
            subscription: subscription.clone(),
            spec: spec.clone(),
            key: IdempotencyKey::of_known(self.key),
            kind: *kind,
            stage: *stage,
            status: *status,
            accepted_at: self.accepted_at(),
            format: *format,
        }
    }

    /// The same with its key at the end of this text.
    pub(crate) fn with_key_in(self, keys: &mut String) -> Compact<Range<usize>> {
        let start = keys.len();
        keys.push_str(self.key);
        self.with(|_| start..keys.len())
    }

    /// The same with a copy of its key.
    #[cfg(any(test, feature = "fleet"))]
    pub(crate) fn with_own_key(self) -> Compact {
        self.with(|key| SharedKey { all: Arc::new(key.to_owned()), range: 0..key.len() })
    }
}

impl Compact<Range<usize>> {
    /// Its key, which is in this text.
    pub(crate) fn key_in<'a>(&self, keys: &'a str) -> &'a str {
        &keys[self.key.clone()]
    }

    /// The same with its key, which is in this text.
    pub(crate) fn with_key_of(self, keys: &Arc<String>) -> Compact {
        self.with(|range| SharedKey { all: keys.clone(), range })
    }
}

impl Compact {
    /// The event's key.
    pub(crate) fn key(&self) -> &str {
        self.key.as_str()
    }

    /// The same, with its key where it is.
    pub(crate) fn borrowed(&self) -> Compact<&str> {
        let Self { id, common, key, accepted_at_ms } = self;
        Compact { id: *id, common: common.clone(), key: key.as_str(), accepted_at_ms: *accepted_at_ms }
    }

    /// The delivery as it was.
    pub(crate) fn whole(&self) -> Delivery {
        self.borrowed().whole()
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
    pub(crate) fn compact<'a>(&mut self, delivery: &'a Delivery) -> Compact<&'a str> {
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
            key: delivery.key.as_str(),
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
        assert_eq!((one.whole(), two.whole()), (delivery.clone(), other.clone()));
        assert!(Arc::ptr_eq(one.common(), two.common()));
        let own = one.clone().with_own_key();
        assert_eq!((own.key(), own.whole()), (&*delivery.key.to_string(), delivery.clone()));
        let mut keys = "another".to_owned();
        let ranged = one.with_key_in(&mut keys);
        assert_eq!(ranged.key_in(&keys), own.key());
        assert_eq!(ranged.with_key_of(&Arc::new(keys)), own);
    }

    #[test]
    fn what_no_delivery_has_any_more_is_dropped() {
        let mut compactor = Compactor::default();
        let mut of_spec = |n: usize| {
            let spec = format!("SPEC-{n}").parse().unwrap();
            let delivery = Delivery { spec, ..Delivery::sample(DeliveryId::random(), "k") };
            compactor.compact(&delivery).with_own_key()
        };
        let kept: Vec<Compact> = (0..10).map(&mut of_spec).collect();
        (10..1_000).for_each(|n| drop(of_spec(n)));
        assert!(compactor.common.len() <= FEW, "{}", compactor.common.len());
        assert!(kept.iter().all(|kept| compactor.common.contains(kept.common())));
    }
}
