//! The newest attempts, as `top` shows them, from the evidence.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::{evidence_files, is_record, lines_of};
use crate::clock;
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::{IdempotencyKey, SpecId};

/// Most attempts in one answer.
pub(crate) const MAX_TRIED: usize = 200;

/// Which attempts are wanted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriedQuery {
    /// Of this SPEC only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<SpecId>,
    /// Of this delivery only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<DeliveryId>,
    /// At most so many, at most [`MAX_TRIED`].
    pub limit: usize,
}

/// One attempt, as the evidence tells of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// When it began.
    #[serde(with = "clock::millis")]
    pub time: Timestamp,
    /// Of which delivery.
    pub delivery: DeliveryId,
    /// Which event.
    pub idempotency_key: IdempotencyKey,
    /// To whom.
    pub subscription: SubscriptionId,
    /// From 1.
    pub attempt: u32,
    /// What came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<TriedResponse>,
    /// Why nothing came back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<TriedError>,
    /// How long it took.
    pub latency_ms: f64,
    /// `delivered`, `retry`, `failed`, `dry_run` or `sample`.
    pub outcome: String,
}

/// See [`Tried::response`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriedResponse {
    /// HTTP status.
    pub status: u16,
    /// The body's first KiB, made printable.
    pub body: String,
}

/// See [`Tried::error`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriedError {
    /// What kind.
    pub class: String,
    /// For the reader.
    pub message: String,
}

/// The newest attempts, newest first.
///
/// # Errors
/// The evidence cannot be listed.
pub(crate) fn tried(evidence_dir: &Path, query: &TriedQuery) -> io::Result<Vec<Tried>> {
    let limit = query.limit.clamp(1, MAX_TRIED);
    let mut newest: BTreeMap<(Timestamp, DeliveryId, u32), Tried> = BTreeMap::new();
    for (_, path) in evidence_files(evidence_dir, query.spec.as_ref())? {
        for line in lines_of(&path) {
            if !is_record(&line, "attempt") {
                continue;
            }
            let Ok(tried) = serde_json::from_slice::<Tried>(&line) else { continue };
            // Lines stand in the order of the attempts' ends, which is nearly that of their
            // beginnings.
            if newest.len() >= limit
                && newest.first_key_value().is_some_and(|(oldest, _)| tried.time < oldest.0)
            {
                break;
            }
            if query.delivery_id.is_none_or(|id| id == tried.delivery) {
                newest.insert((tried.time, tried.delivery, tried.attempt), tried);
            }
            if newest.len() > limit {
                newest.pop_first();
            }
        }
    }
    Ok(newest.into_values().rev().collect())
}
