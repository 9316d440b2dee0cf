//! The listing of deliveries for `list`: what one of them says, and which are asked for.

mod page;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::archive::{DeadLetter, End};
use crate::clock;
use crate::delivery::{AttemptSummary, Delivery, DeliveryId, FinalState, IdPrefix, SubscriptionId};
use crate::event::{EventKind, IdempotencyKey, SpecId, Stage, Status};
use crate::names::named;
pub use page::MAX_LISTED;
pub(crate) use page::Page;

named! {
    /// The state of a delivery.
    DeliveryState, "state" {
        /// It waits: for its next attempt, or for its turn to make one.
        Pending = "pending",
        /// Its request is under way at the endpoint.
        InFlight = "in_flight",
        /// The endpoint accepted it.
        Delivered = "delivered",
        /// It was given up; it can be replayed while its dead letter exists.
        DeadLetter = "dead_letter",
        /// It was dropped in favour of newer ones; it can be replayed while its dead letter exists.
        Dropped = "dropped",
        /// A person gave it up for good.
        Discarded = "discarded",
        /// It was recorded and not sent.
        DryRun = "dry_run",
    }
}

impl From<FinalState> for DeliveryState {
    fn from(state: FinalState) -> Self {
        match state {
            FinalState::Delivered => Self::Delivered,
            FinalState::DeadLetter => Self::DeadLetter,
            FinalState::DryRun => Self::DryRun,
            FinalState::Dropped => Self::Dropped,
            FinalState::Discarded => Self::Discarded,
        }
    }
}

/// One delivery, as `list --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Listed {
    /// The delivery's id, sent as `X-SpecKit-Id`.
    pub id: DeliveryId,
    /// The subscription it goes to.
    pub subscription: SubscriptionId,
    /// The event's type.
    pub event: EventKind,
    /// The stage that the event tells of, where the files say it: those of earlier versions do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// How that ended, where the files say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The SPEC of the event.
    pub spec: SpecId,
    /// The event's key.
    pub idempotency_key: IdempotencyKey,
    /// The delivery's state.
    pub state: DeliveryState,
    /// Attempts made so far.
    pub attempts: u32,
    /// HTTP status of the last attempt, if there was an answer.
    pub last_status: Option<u16>,
    /// Why the last attempt failed; `None` after a success.
    pub last_error: Option<String>,
    /// Duration of the last attempt in milliseconds; absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_latency_ms: Option<f64>,
    /// What to do about a dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// When the event was accepted.
    #[serde(with = "clock::millis")]
    pub accepted_at: Timestamp,
    /// When the next attempt is due, while it is pending.
    #[serde(with = "clock::maybe_millis")]
    pub next_attempt_at: Option<Timestamp>,
    /// Whether it waits because a person paused its subscription.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

impl Listed {
    /// An unfinished delivery.
    pub(crate) fn unfinished(
        delivery: &Delivery,
        state: DeliveryState,
        attempts: u32,
        next_attempt_at: Option<Timestamp>,
    ) -> Self {
        Self {
            id: delivery.id,
            subscription: delivery.subscription.clone(),
            event: delivery.kind,
            stage: delivery.stage,
            status: delivery.status,
            spec: delivery.spec.clone(),
            idempotency_key: delivery.key.clone(),
            state,
            attempts,
            last_status: None,
            last_error: None,
            last_latency_ms: None,
            hint: None,
            accepted_at: delivery.accepted_at,
            next_attempt_at,
            paused: false,
        }
    }
}

impl Listed {
    /// The delivery of a SPEC that ended so.
    pub(super) fn of_end(end: End, spec: &SpecId) -> Self {
        Self {
            id: end.delivery,
            subscription: end.subscription,
            event: end.event,
            stage: end.stage,
            status: end.status,
            spec: spec.clone(),
            idempotency_key: end.idempotency_key,
            state: end.state.into(),
            attempts: end.attempts,
            last_status: end.last_status,
            last_error: end.last_error,
            last_latency_ms: end.last_latency_ms,
            hint: None,
            accepted_at: end.accepted_at,
            next_attempt_at: None,
            paused: false,
        }
    }

    fn set_last_attempt(&mut self, last: &AttemptSummary) {
        self.last_status = last.status;
        self.last_error = Some(last.in_words());
        self.last_latency_ms = Some(last.latency_ms);
    }

    /// The delivery of a dead letter.
    pub(super) fn of_letter(letter: &DeadLetter) -> Self {
        let state = DeliveryState::from(FinalState::from(&letter.reason));
        let attempts = u32::try_from(letter.attempts.len()).unwrap_or(u32::MAX);
        let last = letter.attempts.last();
        Self {
            last_status: last.and_then(|last| last.status),
            last_error: Some(letter.failure()),
            last_latency_ms: last.map(|last| last.latency_ms),
            hint: Some(letter.hint.clone()),
            ..Self::unfinished(&letter.delivery(), state, attempts, None)
        }
    }
}

/// Selects deliveries.
///
/// ```
/// use spec_notify::{DeliveryState, Query};
///
/// let dead = Query { states: vec![DeliveryState::DeadLetter], ..Query::newest(20) };
/// assert_eq!(dead.limit, 20);
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Only deliveries whose id begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<IdPrefix>,
    /// Only deliveries of this SPEC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<SpecId>,
    /// Only deliveries to this subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionId>,
    /// Only deliveries in one of these states; empty means any state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<DeliveryState>,
    /// Only deliveries accepted at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Of those that have ended, only what ended at this time or later: what is new since a look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_since: Option<Timestamp>,
    /// Only deliveries older than this one: the last one of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Cursor>,
    /// Most deliveries to return; at most [`MAX_LISTED`].
    pub limit: usize,
}

/// The place of a delivery in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// When the event was accepted.
    #[serde(with = "clock::millis")]
    pub accepted_at: Timestamp,
    /// The delivery's id.
    pub id: DeliveryId,
}

impl Listed {
    /// The place of this delivery.
    pub fn cursor(&self) -> Cursor {
        Cursor { accepted_at: self.accepted_at, id: self.id }
    }
}

impl Query {
    /// The newest `limit` of all deliveries.
    pub fn newest(limit: usize) -> Self {
        Self {
            id: None,
            spec: None,
            subscription: None,
            states: Vec::new(),
            since: None,
            ended_since: None,
            before: None,
            limit,
        }
    }

    /// Whether a delivery is selected.
    pub(crate) fn wants(&self, listed: &Listed) -> bool {
        self.wants_id(listed.id)
            && self.spec.as_ref().is_none_or(|spec| *spec == listed.spec)
            && self.subscription.as_ref().is_none_or(|subscription| *subscription == listed.subscription)
            && (self.states.is_empty() || self.states.contains(&listed.state))
            && self.since.is_none_or(|since| listed.accepted_at >= since)
            && self.before.is_none_or(|before| listed.cursor() < before)
    }

    fn wants_id(&self, id: DeliveryId) -> bool {
        self.id.as_ref().is_none_or(|prefix| prefix.matches(id))
    }

    fn wants_any(&self, states: &[DeliveryState]) -> bool {
        self.states.is_empty() || self.states.iter().any(|state| states.contains(state))
    }

    /// Whether it wants any that have ended.
    fn wants_ended(&self) -> bool {
        let is_ended =
            |state: &DeliveryState| !matches!(state, DeliveryState::Pending | DeliveryState::InFlight);
        self.states.is_empty() || self.states.iter().any(is_ended)
    }
}

/// The deliveries that were found, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Listing {
    /// One page.
    pub deliveries: Vec<Listed>,
    /// Whether there are older ones.
    pub more: bool,
}
