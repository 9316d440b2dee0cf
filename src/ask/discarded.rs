//! The answer to `discard`.

use serde::{Deserialize, Serialize};

use crate::delivery::{DeliveryId, SubscriptionId};
use crate::names::named;

/// Most deliveries in one request to discard them.
pub(crate) const MAX_ASKED_TO_DISCARD: usize = 500;

named! {
    /// What became of a delivery that was to be discarded.
    DiscardOutcome, "outcome" {
        /// It is given up for good.
        Discarded = "discarded",
        /// It stays.
        Refused = "refused",
        /// There is no such dead letter, and nothing that waits with this id.
        NotFound = "not_found",
    }
}

/// One delivery that was to be discarded, as `--json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Discarded {
    /// The delivery's id.
    pub id: DeliveryId,
    /// The subscription it was to go to; absent if it was not found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionId>,
    /// The result.
    pub outcome: DiscardOutcome,
    /// Why it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Discarded {
    pub(crate) fn done(id: DeliveryId, subscription: SubscriptionId) -> Self {
        Self { id, subscription: Some(subscription), outcome: DiscardOutcome::Discarded, error: None }
    }

    pub(crate) fn refused(id: DeliveryId, subscription: Option<SubscriptionId>, error: String) -> Self {
        Self { id, subscription, outcome: DiscardOutcome::Refused, error: Some(error) }
    }

    pub(crate) fn not_found(id: DeliveryId) -> Self {
        Self { id, subscription: None, outcome: DiscardOutcome::NotFound, error: None }
    }

    /// What is pending for an active subscription.
    pub(crate) fn is_wanted(id: DeliveryId, subscription: SubscriptionId) -> Self {
        let why = format!(
            "it is pending for the active subscription {subscription}: pause {subscription} holds it back"
        );
        Self::refused(id, Some(subscription), why)
    }
}
