//! Delivery of one event to one subscription: its states, and what the outcome of each attempt
//! means.

mod advice;
mod block;
mod body;
mod compact;
mod dedupe;
mod final_state;
mod health;
mod hold;
mod id_prefix;
mod identity;
#[cfg(test)]
mod identity_tests;
mod lane;
mod line;
mod outcome;
mod page;
mod pause;
mod queued;
mod retry;
mod retry_after;
mod session;
mod sharing;
mod summary;
mod trouble;

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use uuid::Uuid;

#[cfg(feature = "cli")]
pub(crate) use advice::hint_of_status;
pub(crate) use body::{Body, BodyBudget, Payload};
pub(crate) use compact::{Common, Compact, Compactor, SharedKey};
pub(crate) use dedupe::{Dedupe, KeyDigest, KnownEvent};
pub(crate) use final_state::FinalState;
pub(crate) use health::{Health, OPEN_AFTER};
pub use health::{HealthState, LocalFault};
pub(crate) use hold::Hold;
pub use id_prefix::{IdPrefix, InvalidIdPrefix};
pub(crate) use identity::{Identities, Identity, Told};
pub(crate) use lane::Lane;
pub(crate) use outcome::{Failure, FailureClass, Judgement, MAX_KEPT_BYTES, Outcome, Reason, Response};
pub(crate) use page::readable;
pub use pause::Pause;
pub(crate) use queued::Queued;
pub(crate) use retry::{Jitter, RetryPolicy, retry_at};
pub(crate) use retry_after::{MAX_RETRY_AFTER, clock_skew, retry_after};
pub(crate) use session::MAX_SESSIONS;
pub(crate) use sharing::{SeatId, Share, Sharing};
pub(crate) use summary::AttemptSummary;
pub use trouble::{Cause, Incident};

use crate::clock;
use crate::event::{EventKind, IdempotencyKey, SpecId, Stage, Status};
use crate::names;
use crate::payload::Format;

/// The id of a delivery, sent as `X-SpecKit-Id`: a UUID v4, the same on every attempt and every
/// replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeliveryId(Uuid);

impl DeliveryId {
    /// A new id.
    pub fn random() -> Self {
        Self(clock::uuid())
    }

    /// The id that follows from a digest, in the form of a random one.
    pub(crate) fn of_digest(digest: &[u8; 32]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        Self(uuid::Builder::from_random_bytes(bytes).into_uuid())
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// The text is no delivery id, for this reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDeliveryId(String);

impl FromStr for DeliveryId {
    type Err = InvalidDeliveryId;

    fn from_str(text: &str) -> Result<Self, InvalidDeliveryId> {
        let parsed = text.parse();
        parsed.map(Self).map_err(|error: uuid::Error| InvalidDeliveryId(error.to_string()))
    }
}

/// The name of a subscription: 1 to 64 letters, digits, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SubscriptionId(Arc<str>);

/// The text is not a valid subscription id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a subscription id has 1 to 64 of letters, digits, `.`, `_` and `-`")]
pub struct InvalidSubscriptionId;

impl SubscriptionId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SubscriptionId {
    type Err = InvalidSubscriptionId;

    fn from_str(text: &str) -> Result<Self, InvalidSubscriptionId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSubscriptionId)
        }
    }
}

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for SubscriptionId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        names::parsed(deserializer)
    }
}

/// What is delivered, and to which subscription; fixed when the event is accepted.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// The delivery's id, sent as `X-SpecKit-Id`.
    pub id: DeliveryId,
    /// The subscription it goes to.
    pub subscription: SubscriptionId,
    /// The SPEC of the event.
    pub spec: SpecId,
    /// The event's key, for the evidence.
    pub key: IdempotencyKey,
    /// Its type, for the `X-SpecKit-Event` header.
    pub kind: EventKind,
    /// The stage that the event tells of.
    pub stage: Option<Stage>,
    /// How that ended.
    pub status: Option<Status>,
    /// When the event was accepted.
    pub accepted_at: Timestamp,
    /// The format of its body.
    pub format: Format,
}

#[cfg(any(test, fuzzing))]
#[allow(clippy::unwrap_used, reason = "only tests have it")]
impl Delivery {
    /// One of SPEC-1 to the subscription `s`, accepted now.
    pub(crate) fn sample(id: DeliveryId, key: &str) -> Self {
        Self {
            id,
            subscription: SubscriptionId("s".into()),
            spec: "SPEC-1".parse().unwrap(),
            key: key.parse().unwrap(),
            kind: EventKind::StageCompleted,
            stage: None,
            status: None,
            accepted_at: clock::now(),
            format: Format::SpecKit,
        }
    }
}

/// A delivery that waits for its next attempt.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    delivery: Arc<Delivery>,
    attempts_made: u32,
    /// Its place in line, once a lane has taken it.
    arrival: Option<NonZeroU64>,
    body: Option<Body>,
}

impl Pending {
    /// A new delivery. Without `body` (no room in memory) the first attempt reads it back from the
    /// spool.
    pub(crate) fn new(delivery: Arc<Delivery>, body: Option<Body>) -> Self {
        Self { delivery, attempts_made: 0, arrival: None, body }
    }

    /// The delivery.
    pub(crate) fn delivery(&self) -> &Arc<Delivery> {
        &self.delivery
    }

    /// Its body, if it is in memory.
    pub(crate) fn body(&self) -> Option<&Body> {
        self.body.as_ref()
    }

    /// Number of attempts that ended without success.
    pub(crate) fn attempts_made(&self) -> u32 {
        self.attempts_made
    }

    /// Begins the next attempt and hands over the body.
    pub(crate) fn start(self) -> (InFlight, Option<Body>) {
        let attempt = self.attempts_made.saturating_add(1);
        (InFlight { attempt, delivery: self.delivery, arrival: self.arrival }, self.body)
    }
}

/// A delivery with an attempt in progress. Never stored: after a crash it is [`Pending`] again.
#[derive(Debug)]
pub(crate) struct InFlight {
    delivery: Arc<Delivery>,
    attempt: u32,
    arrival: Option<NonZeroU64>,
}

/// The consequence of an attempt.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// The endpoint accepted it.
    Delivered,
    /// Try again after `wait`.
    Retry {
        /// The delivery, with the attempt counted.
        pending: Pending,
        /// The wait, from now.
        wait: Duration,
    },
    /// The delivery is given up.
    DeadLetter(Reason),
}

impl InFlight {
    /// The delivery.
    pub(crate) fn delivery(&self) -> &Arc<Delivery> {
        &self.delivery
    }

    /// The number of this attempt, from 1.
    pub(crate) fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Takes back an attempt that could not be made: it is not counted.
    pub(crate) fn put_back(self) -> Pending {
        let attempts_made = self.attempt.saturating_sub(1);
        Pending { delivery: self.delivery, attempts_made, arrival: self.arrival, body: None }
    }

    /// Ends the attempt: the outcome's judgement, and whether the policy allows another attempt.
    pub(crate) fn finish(self, outcome: &Outcome, policy: &RetryPolicy, jitter: Jitter) -> Verdict {
        match outcome.judge() {
            Judgement::Delivered => Verdict::Delivered,
            Judgement::Terminal(reason) => Verdict::DeadLetter(reason),
            Judgement::Retry if self.attempt >= policy.max_attempts => {
                Verdict::DeadLetter(Reason::Exhausted { attempts: self.attempt })
            }
            Judgement::Retry => Verdict::Retry {
                // A pause that the endpoint asked for lengthens the wait and never shortens it.
                wait: policy.wait_before_retry(self.attempt, jitter).max(outcome.pause().unwrap_or_default()),
                // A waiting retry keeps no body in memory: the next attempt reads it back.
                pending: Pending {
                    delivery: self.delivery,
                    attempts_made: self.attempt,
                    arrival: self.arrival,
                    body: None,
                },
            },
        }
    }
}
