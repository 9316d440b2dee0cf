//! The result of emitting an event, in the form that leaves the process.

use serde::{Deserialize, Serialize};

use crate::answer::{EmitError, Receipt};
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::{Event, EventKind, IdempotencyKey};
use crate::names::named;

named! {
    /// The result of emitting an event.
    EmitOutcome, "outcome" {
        /// It is on disk and will be delivered.
        Accepted = "accepted",
        /// It was already known.
        Duplicate = "duplicate",
        /// It is in the inbox, on disk: the next runtime takes it in.
        Queued = "queued",
        /// It is being put into the inbox: the disk did not confirm it within the deadline.
        Unconfirmed = "unconfirmed",
        /// Webhooks are disabled.
        Disabled = "disabled",
        /// It was refused: it is not a valid event, or could not be stored.
        Refused = "refused",
    }
}

/// The outcome of one `emit`, as `--json` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Emitted {
    /// The result.
    pub outcome: EmitOutcome,
    /// The event; absent if the input was not an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EmittedEvent>,
    /// One delivery for each subscription that wants the event.
    pub deliveries: Vec<EmittedDelivery>,
    /// `false` where a fleet's cluster has it: its deliveries are made by whoever routes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routed: Option<bool>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The identity of an emitted event.
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
    /// The delivery's id, sent as `X-SpecKit-Id`.
    pub id: DeliveryId,
    /// The subscription it goes to.
    pub subscription: SubscriptionId,
}

impl EmittedEvent {
    /// The identity of `event`.
    pub fn of(event: &Event) -> Self {
        Self { kind: event.event.kind, idempotency_key: event.event.idempotency_key.clone() }
    }
}

impl Emitted {
    /// The result for an event that was given to a runtime.
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
        Self { outcome, event: Some(event), deliveries, routed: None, error }
    }

    /// The result for an event that was offered to a fleet's cluster.
    #[cfg(feature = "cli")]
    pub(crate) fn of_fleet(event: EmittedEvent, result: Result<Receipt, EmitError>) -> Self {
        let emitted = Self::new(event, result);
        let routed = (emitted.outcome == EmitOutcome::Accepted).then_some(false);
        Self { routed, ..emitted }
    }

    /// The same result for the emitter in this process.
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

    /// The result for a text that is not an event.
    pub fn refused(error: String) -> Self {
        let (deliveries, error) = (Vec::new(), Some(error));
        Self { outcome: EmitOutcome::Refused, event: None, deliveries, routed: None, error }
    }
}
