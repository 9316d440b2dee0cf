//! What a member has written to the cluster, and the ids that follow from where an event lies in
//! it.

use std::sync::Arc;

use jiff::Timestamp;

use crate::archive::Finished;
use crate::config::Namespace;
use crate::delivery::{Delivery, DeliveryId, Health, KeyDigest, Reason, SubscriptionId, Told};
use crate::digest::sha256;
use crate::event::{IdempotencyKey, SpecId};
use crate::run::Run;
use crate::spool::{Accepted, Unfinished};

/// The right to route: of one lease, and of what was read from the cluster after it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Term {
    pub(crate) epoch: i64,
    /// Counts the readings.
    pub(crate) reading: u64,
}

/// An event that is routed.
#[derive(Clone, Debug)]
pub(crate) struct Routed {
    pub(crate) term: Term,
    /// Its place in the cluster; `None` for one that follows from a run.
    pub(crate) seq: Option<i64>,
    /// Its SPEC's run, with it.
    pub(crate) run: Option<Run>,
}

/// One thing to write. All of a batch are written, or none.
#[derive(Debug)]
pub(crate) enum Write {
    /// An event, and its deliveries.
    Route { spec: SpecId, record: Box<Accepted>, routed: Routed },
    /// An event goes to nobody: it is one that was routed before, or it was refused.
    Pass { seq: i64, term: Term, refused: Option<String> },
    /// An attempt, and what follows from it.
    Attempt { finished: Arc<Finished>, health: Option<Health>, epoch: Option<i64> },
    /// A delivery is given up unsent.
    GiveUp { delivery: Arc<Delivery>, reason: Reason, attempts: u32, epoch: Option<i64> },
    /// A subscription's health changed otherwise.
    Health { subscription: SubscriptionId, health: Health, epoch: i64 },
}

/// An event that is not routed yet.
#[derive(Clone, Debug)]
pub(crate) struct Unrouted {
    pub(crate) seq: i64,
    /// As JSON.
    pub(crate) event: String,
    /// When it was accepted, by this machine's clock.
    pub(crate) accepted_at: Timestamp,
}

/// What whoever begins to route has to know.
#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) runs: Vec<(SpecId, Run)>,
    pub(crate) sequences: Vec<(SpecId, u64)>,
    pub(crate) keys: Vec<(KeyDigest, Timestamp)>,
    pub(crate) told: Vec<(SpecId, IdempotencyKey, Told)>,
}

/// What waits for a subscription, from `cursor` on.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) unfinished: Vec<Unfinished>,
    /// The last that was read.
    pub(crate) cursor: i64,
}

/// The id of the delivery of an event to a subscription. An event that is routed once more,
/// because nobody knows whether it was, has the same ones.
pub(crate) fn delivery_id(
    namespace: &Namespace,
    seq: Option<i64>,
    key: &IdempotencyKey,
    subscription: &SubscriptionId,
) -> DeliveryId {
    DeliveryId::of_digest(&digest(namespace, seq, key, &format!("to {subscription}")))
}

/// The id of a payload of an event.
pub(super) fn body_id(
    namespace: &Namespace,
    seq: Option<i64>,
    key: &IdempotencyKey,
    format: &str,
) -> DeliveryId {
    DeliveryId::of_digest(&digest(namespace, seq, key, &format!("as {format}")))
}

fn digest(namespace: &Namespace, seq: Option<i64>, key: &IdempotencyKey, what: &str) -> [u8; 32] {
    let seq = seq.map_or(String::new(), |seq| seq.to_string());
    sha256(format!("{namespace}\n{seq}\n{key}\n{what}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_events_ids_are_always_the_same_and_no_others() {
        let (ns, key): (Namespace, IdempotencyKey) = ("payments".parse().unwrap(), "k".parse().unwrap());
        let to = |seq, id: &str| delivery_id(&ns, seq, &key, &id.parse().unwrap());
        assert_eq!(to(Some(1), "a"), to(Some(1), "a"));
        let all = [to(Some(1), "a"), to(Some(2), "a"), to(None, "a"), to(Some(1), "b")];
        let other = body_id(&ns, Some(1), &key, "slack");
        let mut texts: Vec<String> = all.iter().chain([&other]).map(ToString::to_string).collect();
        // A UUID of version 4, as its form says.
        assert!(texts.iter().all(|text| text.as_bytes()[14] == b'4'), "{texts:?}");
        texts.sort();
        texts.dedup();
        assert_eq!(texts.len(), 5);
    }
}
