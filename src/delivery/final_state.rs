//! How a delivery ended.

use super::Reason;
use crate::names::named;

named! {
    /// How a delivery ended.
    FinalState, "final state" {
        /// The endpoint has it.
        Delivered = "delivered",
        /// Given up; a dead letter has it.
        DeadLetter = "dead_letter",
        /// Recorded, not sent.
        DryRun = "dry_run",
        /// Pushed out by newer ones because `max_pending` was reached; a dead letter has it.
        Dropped = "dropped",
    }
}

impl From<&Reason> for FinalState {
    fn from(reason: &Reason) -> Self {
        match reason {
            Reason::SpoolSaturated => Self::Dropped,
            Reason::Exhausted { .. }
            | Reason::Refused { .. }
            | Reason::Redirected { .. }
            | Reason::Rejected { .. }
            | Reason::SpoolRemoved => Self::DeadLetter,
        }
    }
}
