//! A delivery given up: one file that holds all it takes to understand it and to send it again.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::evidence::AttemptSummary;
use super::{StoreError, files};
use crate::clock;
use crate::delivery::{Delivery, DeliveryId, Reason, SubscriptionId};
use crate::event::{EventKind, IdempotencyKey, SpecId};

const VERSION: u32 = 1;

/// The content of `dead-letter/<delivery-id>.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeadLetter {
    /// Format version.
    pub v: u32,
    /// The `X-SpecKit-Id`.
    pub id: DeliveryId,
    /// To whom.
    pub subscription: SubscriptionId,
    /// Of which SPEC.
    pub spec: SpecId,
    /// Which event.
    pub idempotency_key: IdempotencyKey,
    /// Its type.
    pub event: EventKind,
    /// When the event was accepted.
    #[serde(with = "clock::millis")]
    pub accepted_at: Timestamp,
    /// When it was given up.
    #[serde(with = "clock::millis")]
    pub dead_at: Timestamp,
    /// Why, for machines.
    pub reason: Reason,
    /// Why, in a sentence.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// The command that sends it again.
    pub replay: String,
    /// Every attempt, oldest first.
    pub attempts: Vec<AttemptSummary>,
    /// The payload, byte for byte.
    pub body: Box<RawValue>,
}

impl DeadLetter {
    /// The dead letter of `delivery`.
    ///
    /// # Errors
    /// The body is not JSON, which no accepted event's is.
    pub fn new(
        delivery: &Delivery,
        reason: Reason,
        attempts: Vec<AttemptSummary>,
        dead_at: Timestamp,
    ) -> serde_json::Result<Self> {
        Ok(Self {
            v: VERSION,
            id: delivery.id,
            subscription: delivery.subscription.clone(),
            spec: delivery.spec.clone(),
            idempotency_key: delivery.key.clone(),
            event: delivery.kind,
            accepted_at: delivery.accepted_at,
            dead_at,
            message: reason.to_string(),
            hint: reason.hint().to_owned(),
            replay: format!("spec-notify replay {} --delivery-id {}", delivery.spec, delivery.id),
            reason,
            attempts,
            body: RawValue::from_string(String::from_utf8_lossy(&delivery.body).into_owned())?,
        })
    }

    /// The delivery it holds, ready to be sent again under the same id.
    pub fn delivery(&self) -> Delivery {
        Delivery {
            id: self.id,
            subscription: self.subscription.clone(),
            spec: self.spec.clone(),
            key: self.idempotency_key.clone(),
            kind: self.event,
            body: self.body.get().to_owned().into(),
            accepted_at: self.accepted_at,
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), StoreError> {
        // Not pretty-printed: that would touch the body's bytes.
        let json = serde_json::to_vec(self).map_err(|error| StoreError::on("write", path)(error.into()))?;
        files::write_atomic(path, &json).map_err(StoreError::on("write", path))
    }

    pub(super) fn read(path: &Path) -> Result<Self, StoreError> {
        let json = fs::read(path).map_err(StoreError::on("read", path))?;
        serde_json::from_slice(&json).map_err(|error| StoreError::on("read", path)(error.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_keeps_the_body_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let body = r#"{"n":1.10,"u":"\u00fc"}"#;
        let delivery = Delivery {
            id: DeliveryId::random(),
            subscription: "s".parse().unwrap(),
            spec: "SPEC-1".parse().unwrap(),
            key: "k".parse().unwrap(),
            kind: EventKind::StageCompleted,
            body: body.into(),
            accepted_at: "2025-10-14T10:00:00.123Z".parse().unwrap(),
        };
        let letter =
            DeadLetter::new(&delivery, Reason::Exhausted { attempts: 3 }, vec![], delivery.accepted_at)
                .unwrap();
        let path = dir.path().join("x.json");
        letter.write(&path).unwrap();
        let read = DeadLetter::read(&path).unwrap();
        assert_eq!(read.delivery(), delivery);
        assert_eq!(read.replay, format!("spec-notify replay SPEC-1 --delivery-id {}", delivery.id));
    }
}
