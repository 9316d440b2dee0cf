//! What becomes of an emitted event, as those outside the process hear it.

use serde::{Deserialize, Serialize};

use crate::answer::{EmitError, Receipt};
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::{Event, EventKind, IdempotencyKey};
use crate::names::named;

named! {
    /// What became of an emitted event.
    EmitOutcome, "outcome" {
        /// On disk, to be delivered.
        Accepted = "accepted",
        /// Known already.
        Duplicate = "duplicate",
        /// On disk, in the inbox: the next runtime takes it in.
        Queued = "queued",
        /// On its way into the inbox: the disk did not confirm it within the deadline.
        Unconfirmed = "unconfirmed",
        /// Webhooks are off.
        Disabled = "disabled",
        /// Not taken: it is not a valid event, or could not be stored.
        Refused = "refused",
    }
}

/// The outcome of one `emit`, as `--json` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Emitted {
    /// What became of it.
    pub outcome: EmitOutcome,
    /// Which event; absent where the input was no event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EmittedEvent>,
    /// One for each subscription that wants it.
    pub deliveries: Vec<EmittedDelivery>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Which event was emitted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EmittedEvent {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// Its key.
    pub idempotency_key: IdempotencyKey,
}

/// One delivery of an accepted event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EmittedDelivery {
    /// The `X-SpecKit-Id`.
    pub id: DeliveryId,
    /// To whom.
    pub subscription: SubscriptionId,
}

impl EmittedEvent {
    /// Which event this is.
    pub fn of(event: &Event) -> Self {
        Self { kind: event.event.kind, idempotency_key: event.event.idempotency_key.clone() }
    }
}

impl Emitted {
    /// For an event that was given to a runtime.
    pub fn new(event: EmittedEvent, result: Result<Receipt, EmitError>) -> Self {
        let (outcome, deliveries, error) = match result {
            Ok(Receipt::Accepted(deliveries)) => (EmitOutcome::Accepted, deliveries, None),
            Ok(Receipt::Duplicate) => (EmitOutcome::Duplicate, Vec::new(), None),
            Ok(Receipt::Queued) => (EmitOutcome::Queued, Vec::new(), None),
            Ok(Receipt::Off) => (EmitOutcome::Disabled, Vec::new(), None),
            Err(error) => (EmitOutcome::Refused, Vec::new(), Some(error.to_string())),
        };
        let deliveries =
            deliveries.into_iter().map(|(id, subscription)| EmittedDelivery { id, subscription }).collect();
        Self { outcome, event: Some(event), deliveries, error }
    }

    /// The same, as the emitter's result.
    pub(crate) fn into_receipt(self) -> Result<Receipt, EmitError> {
        match self.outcome {
            EmitOutcome::Accepted => {
                let deliveries =
                    self.deliveries.into_iter().map(|delivery| (delivery.id, delivery.subscription));
                Ok(Receipt::Accepted(deliveries.collect()))
            }
            EmitOutcome::Duplicate => Ok(Receipt::Duplicate),
            EmitOutcome::Queued => Ok(Receipt::Queued),
            EmitOutcome::Disabled => Ok(Receipt::Off),
            EmitOutcome::Unconfirmed => {
                Err(EmitError::Unavailable("the disk did not confirm it within the deadline".to_owned()))
            }
            EmitOutcome::Refused => {
                Err(EmitError::Refused(self.error.unwrap_or_else(|| "it is no event".to_owned())))
            }
        }
    }

    /// For a text that is no event.
    pub fn refused(error: String) -> Self {
        Self { outcome: EmitOutcome::Refused, event: None, deliveries: Vec::new(), error: Some(error) }
    }
}
