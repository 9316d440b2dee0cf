//! The newest attempts, read from the evidence, for `top`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ShownError;
use crate::archive::{Part, is_record};
use crate::clock;
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::{IdempotencyKey, SpecId};

/// Most attempts in one answer.
const MAX_TRIED: usize = 200;

/// Selects attempts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriedQuery {
    /// Only attempts of this SPEC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<SpecId>,
    /// Only attempts of this delivery.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery_id: Option<DeliveryId>,
    /// Most attempts to return; at most [`MAX_TRIED`].
    pub limit: usize,
}

/// One attempt, as recorded in the evidence.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Tried {
    /// When it began.
    #[serde(with = "clock::millis")]
    pub time: Timestamp,
    /// The delivery's id.
    pub delivery: DeliveryId,
    /// The event's key.
    pub idempotency_key: IdempotencyKey,
    /// The subscription it went to.
    pub subscription: SubscriptionId,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<TriedResponse>,
    /// Why there was no answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ShownError>,
    /// Duration of the attempt, in milliseconds.
    pub latency_ms: f64,
    /// `delivered`, `retry`, `failed`, `dry_run` or `sample`.
    pub outcome: String,
}

/// The answer to an attempt; see [`Tried::response`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TriedResponse {
    /// HTTP status.
    pub status: u16,
    /// The body's first KiB, made printable.
    pub body: String,
}

impl TriedQuery {
    /// The limit within its bounds.
    pub(crate) fn most(&self) -> usize {
        self.limit.clamp(1, MAX_TRIED)
    }
}

/// The newest attempts, newest first.
pub(crate) fn tried(parts: &[Part], query: &TriedQuery) -> Vec<Tried> {
    let limit = query.most();
    let mut newest: BTreeMap<(Timestamp, DeliveryId, u32), Tried> = BTreeMap::new();
    for part in parts {
        for line in part.lines() {
            if !is_record(&line, "attempt") {
                continue;
            }
            let Ok(tried) = serde_json::from_slice::<Tried>(&line) else { continue };
            // Lines are ordered by the ends of the attempts: before one that ended before a full
            // page began, none begins on it.
            let ended_at = tried.time + Duration::from_secs_f64(tried.latency_ms.clamp(0.0, 1e9) / 1e3);
            if newest.len() >= limit
                && newest.first_key_value().is_some_and(|(oldest, _)| ended_at < oldest.0)
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
    newest.into_values().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// Lines stand in the order of the attempts' ends.
    #[test]
    fn a_slow_attempt_hides_none_that_began_before_it_ended() {
        let dir = tempfile::tempdir().unwrap();
        let webhooks = dir.path().join("commands/SPEC-1/webhooks");
        fs::create_dir_all(&webhooks).unwrap();
        let line = |second: u32, latency_ms: u32| {
            let (time, id) = (format!("2025-10-14T10:00:{second:02}.000Z"), DeliveryId::random());
            let of = format!(r#""time":"{time}","delivery":"{id}","idempotency_key":"k","subscription":"s""#);
            let end = format!(r#""attempt":1,"latency_ms":{latency_ms},"outcome":"delivered""#);
            format!(r#"{{"v":2,"record":"attempt",{of},{end}}}"#)
        };
        // By their ends: 29.1, 29.8 (a slow one), 30.0, 31.1.
        let lines = [line(29, 100), line(1, 28_800), line(28, 2_000), line(31, 100)].join("\n") + "\n";
        fs::write(webhooks.join("deliveries.jsonl"), lines).unwrap();
        let parts = crate::archive::evidence_parts(dir.path(), None).unwrap();
        let newest = tried(&parts, &TriedQuery { spec: None, delivery_id: None, limit: 2 });
        let begun: Vec<i8> =
            newest.iter().map(|one| one.time.strftime("%S").to_string().parse().unwrap()).collect();
        assert_eq!(begun, [31, 29]);
    }
}
