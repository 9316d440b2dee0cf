//! What a host is told: what became of an event it emitted, or why a request came to nothing.

use std::time::Duration;

use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::EventError;
use crate::files::FileError;

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

/// Why an event was not accepted. Nothing of it is kept.
///
/// ```
/// use spec_notify::{EmitError, Event, Handle, Receipt};
///
/// /// Whether the event is kept, after one more try where that may help.
/// async fn emit_twice(handle: &Handle, event: Event) -> Result<Receipt, EmitError> {
///     match handle.emit(event.clone()).await {
///         Err(error) if error.is_temporary() => handle.emit(event).await,
///         result => result,
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EmitError {
    /// It is above the limits of events, or a published field of it has another type: correct the
    /// event.
    #[error("refused: {0}")]
    Invalid(#[source] EventError),
    /// It cannot be accepted, now or later: a format that a subscription uses cannot show it, or
    /// the spool's owner says so.
    #[error("refused: {0}")]
    Refused(String),
    /// It could not be accepted now: emit it again.
    #[error("not accepted: {0}")]
    Unavailable(String),
    /// It could not be accepted now, nor put into the inbox: mend the spool's folder, then emit it
    /// again.
    #[error("not accepted: {reason}; nor could it be queued: {source}")]
    NotQueued {
        /// Why it could not be accepted.
        reason: String,
        /// Why the inbox could not be written.
        source: FileError,
    },
}

impl EmitError {
    /// Whether the same event may be accepted later.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::NotQueued { .. })
    }

    /// The reason without the words that say what kind of error it is.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Invalid(error) => error.to_string(),
            Self::Refused(reason) | Self::Unavailable(reason) => reason.clone(),
            Self::NotQueued { reason, source } => format!("{reason}; nor could it be queued: {source}"),
        }
    }
}

/// Why a runtime did not do what was asked of it.
///
/// A runtime on standby passes on what the spool's owner, another process, says: its refusals are
/// all [`Refused`](Self::Refused), with the same words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// Webhooks are off, so there is nothing to do it with. What only looks (`status`, `list`,
    /// `show`, `metrics`) is answered all the same.
    #[error("webhooks are off: set enabled = true, or SPECKIT_WEBHOOKS_ENABLED=1")]
    Off,
    /// There is no subscription with this id: name one of those that are known.
    #[error("no subscription `{id}`; there are: {}", listed(known))]
    NoSubscription {
        /// The id that was asked for.
        id: SubscriptionId,
        /// Every subscription, in the config's order.
        known: Vec<SubscriptionId>,
    },
    /// No subscription with this id is active: set `active = true`, or name one that is.
    #[error("no active subscription `{id}`; active are: {}", listed(active))]
    NotActive {
        /// The id that was asked for.
        id: SubscriptionId,
        /// The active subscriptions, in the config's order.
        active: Vec<SubscriptionId>,
    },
    /// There is no dead letter with this id, any more or at all: list them.
    #[error(
        "there is no dead letter {0}: it arrived or was discarded meanwhile, or made room; \
         spec-notify list --state dead_letter has them all"
    )]
    NoDeadLetter(DeliveryId),
    /// It would not, for this reason, which says what to do.
    #[error("{0}")]
    Refused(String),
    /// The request went out, and what came of it could not be written: the evidence does not have
    /// it, and a dead letter stays as it was.
    #[error("sent, but not recorded: {0}")]
    NotRecorded(String),
    /// The spool or the evidence could not be read or written: mend the folder, then ask again.
    #[error("{0}")]
    Files(String),
    /// The runtime could not be asked, or has stopped: start one.
    #[error("no runtime is reachable: {0}")]
    Unreachable(String),
    /// There was no answer in this time. What was asked for may still happen.
    #[error("no answer from the runtime within {} ms", .0.as_millis())]
    TimedOut(Duration),
}

impl RequestError {
    /// Whether nothing was sent, because there was nothing to send or it was not to be: that says
    /// nothing of the endpoint.
    #[cfg(feature = "cli")]
    pub(crate) fn is_not_sent(&self) -> bool {
        match self {
            Self::Off
            | Self::NoSubscription { .. }
            | Self::NotActive { .. }
            | Self::NoDeadLetter(_)
            | Self::Refused(_)
            | Self::Files(_) => true,
            Self::NotRecorded(_) | Self::Unreachable(_) | Self::TimedOut(_) => false,
        }
    }

    /// As another process has it who was told in words.
    pub(crate) fn from_words(words: String) -> Self {
        let why = words.strip_prefix("sent, but not recorded: ").map(str::to_owned);
        why.map_or(Self::Refused(words), Self::NotRecorded)
    }

    /// Whether no runtime answered, so that one has to be started or looked at.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::TimedOut(_))
    }
}

fn listed(ids: &[SubscriptionId]) -> String {
    ids.iter().map(SubscriptionId::as_str).collect::<Vec<_>>().join(", ")
}
