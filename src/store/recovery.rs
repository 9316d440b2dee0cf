//! What the records of a SPEC's spool add up to, read in order: a plain fold, with no file in it.

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::Unfinished;
use super::journal::Place;
use super::record::Record;
use crate::delivery::{Delivery, DeliveryId};
use crate::event::{IdempotencyKey, SpecId};

/// What is unfinished, while records are read.
struct Found {
    unfinished: Unfinished,
    /// Where it was accepted: the order of the deliveries.
    order: u64,
    /// Which record has its last attempt.
    last_attempt: Option<Place>,
}

/// What the records read so far add up to.
pub(super) struct Recovery {
    spec: SpecId,
    found: HashMap<DeliveryId, Found>,
    /// Events that are known, and since when.
    pub(super) known: Vec<(IdempotencyKey, Timestamp)>,
    /// Inbox files that are accepted.
    pub(super) inbox: Vec<String>,
}

impl Recovery {
    pub(super) fn of(spec: &SpecId) -> Self {
        Self { spec: spec.clone(), found: HashMap::new(), known: Vec::new(), inbox: Vec::new() }
    }

    /// The next record, and where it stands.
    pub(super) fn read<B>(&mut self, record: &Record<B>, place: Place) {
        match record {
            Record::Spool { .. } | Record::Run(_) => {}
            Record::Known { idempotency_key, at } => self.known.push((idempotency_key.clone(), *at)),
            Record::Accepted(accepted) => {
                self.known.push((accepted.idempotency_key.clone(), accepted.at));
                self.inbox.extend(accepted.inbox.clone());
                for delivery in &accepted.deliveries {
                    // A record that a compaction moved stands for the same acceptance.
                    let order = self.found.get(&delivery.id).map_or(place.order(), |found| found.order);
                    let of = Delivery {
                        id: delivery.id,
                        subscription: delivery.subscription.clone(),
                        spec: self.spec.clone(),
                        key: accepted.idempotency_key.clone(),
                        kind: accepted.event,
                        accepted_at: accepted.at,
                        format: delivery.format,
                    };
                    let unfinished = Unfinished {
                        delivery: Arc::new(of),
                        attempts: delivery.attempts.last().map_or(0, |last| last.attempt),
                        next_attempt_at: delivery.next_attempt_at,
                    };
                    let last_attempt = (!delivery.attempts.is_empty()).then_some(place);
                    self.found.insert(delivery.id, Found { unfinished, order, last_attempt });
                }
            }
            Record::Attempted { id, attempt, next_attempt_at } => {
                if let Some(found) = self.found.get_mut(id) {
                    found.unfinished.attempts = attempt.attempt;
                    found.unfinished.next_attempt_at = Some(*next_attempt_at);
                    found.last_attempt = Some(place);
                }
            }
            Record::Finished { id, .. } => {
                self.found.remove(id);
            }
        }
    }

    /// What is unfinished, in the order of acceptance, and which record has its last attempt.
    pub(super) fn unfinished(self) -> impl Iterator<Item = (Unfinished, Option<Place>)> {
        let mut found: Vec<Found> = self.found.into_values().collect();
        found.sort_by_key(|found| found.order);
        found.into_iter().map(|found| (found.unfinished, found.last_attempt))
    }
}
