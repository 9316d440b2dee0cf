//! The final states of a delivery.

use super::Reason;
use crate::names::named;

named! {
    /// How a delivery ended.
    FinalState, "final state" {
        /// The endpoint accepted it.
        Delivered = "delivered",
        /// It was given up and has a dead letter.
        DeadLetter = "dead_letter",
        /// It was recorded and not sent.
        DryRun = "dry_run",
        /// It was dropped for newer ones because `max_pending` was reached, and has a dead letter.
        Dropped = "dropped",
        /// A person gave it up for good.
        Discarded = "discarded",
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
