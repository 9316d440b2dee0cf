//! What a host is told: what became of an event it emitted, or why a request came to nothing.

use crate::delivery::{DeliveryId, SubscriptionId};

/// What became of an event that was emitted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Receipt {
    /// It is on disk and will be delivered; possibly to nobody.
    Accepted(Vec<(DeliveryId, SubscriptionId)>),
    /// An event with the same idempotency key was accepted within `dedupe_window_s`.
    Duplicate,
    /// It is on disk, in the inbox: the runtime takes it in as soon as it can.
    Queued,
    /// Webhooks are switched off: nothing was kept.
    Off,
}

/// Why an event was not accepted. Nothing of it is kept: emit it again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// It cannot be accepted, now or later.
    #[error("refused: {0}")]
    Refused(String),
    /// It could not be accepted now.
    #[error("not accepted: {0}")]
    Unavailable(String),
}

/// Why a runtime did not do what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// It would not.
    #[error("{0}")]
    Refused(String),
    /// It could not be asked, or gave no answer.
    #[error("no runtime is reachable: {0}")]
    Unreachable(String),
}
