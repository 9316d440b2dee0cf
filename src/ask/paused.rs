//! The answer to `pause` and `resume`.

use serde::{Deserialize, Serialize};

use crate::delivery::{Pause, SubscriptionId};

/// Whether a subscription's deliveries are held back now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct PauseReport {
    /// The subscription.
    pub subscription: SubscriptionId,
    /// Since when, and by whom; `null` if it is not paused.
    pub paused: Option<Pause>,
    /// Whether this request changed it.
    pub changed: bool,
    /// Number of its unfinished deliveries.
    pub pending: usize,
}
