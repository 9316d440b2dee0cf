//! The end of a delivery, as the evidence has it.

#[cfg(feature = "cli")]
use std::path::Path;

use jiff::Timestamp;
use serde::Deserialize;

#[cfg(feature = "cli")]
use crate::archive::{evidence_files, is_record, lines_of};
use crate::delivery::{DeliveryId, FinalState, SubscriptionId};
use crate::event::{EventKind, IdempotencyKey, Stage, Status};

/// A final line of the evidence.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct End {
    pub(super) time: Timestamp,
    pub(super) delivery: DeliveryId,
    pub(super) idempotency_key: IdempotencyKey,
    pub(super) event: EventKind,
    pub(super) stage: Option<Stage>,
    pub(super) status: Option<Status>,
    pub(super) subscription: SubscriptionId,
    pub(super) attempts: u32,
    pub(super) state: FinalState,
    pub(super) user: Option<String>,
    pub(super) accepted_at: Timestamp,
    pub(super) last_status: Option<u16>,
    pub(super) last_error: Option<String>,
    pub(super) last_latency_ms: Option<f64>,
}

/// How many deliveries arrived since then, by the evidence.
#[cfg(feature = "cli")]
pub(crate) fn delivered_since(evidence_dir: &Path, since: Timestamp) -> usize {
    let files = evidence_files(evidence_dir, None).unwrap_or_default();
    let arrived = |path: &Path| {
        let finals = lines_of(path).filter(|line| is_record(line, "final"));
        let ends = finals.filter_map(|line| serde_json::from_slice::<End>(&line).ok());
        ends.take_while(|end| end.time >= since).filter(|end| end.state == FinalState::Delivered).count()
    };
    files.iter().map(|(_, path)| arrived(path)).sum()
}
