//! An attempt that ended: what was sent, its result, and the effect on disk.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::dead_letter::DeadLetter;
use crate::delivery::{AttemptSummary, Delivery, FinalState, Outcome, Reason, readable};
use crate::names::printable;

/// What was sent, without secrets.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct RequestLine {
    /// Scheme, host, port and a short hash of the URL.
    pub url: String,
    /// Names and values; signatures are cut to their scheme. Only the headers that the rest of the
    /// line does not imply are serialised.
    #[serde(serialize_with = "telling")]
    pub headers: Vec<(Cow<'static, str>, Cow<'static, str>)>,
    /// SHA-256 of the body, in hex.
    pub body_sha256: String,
    /// The body's size in bytes.
    pub body_bytes: usize,
}

/// Serialises the headers except those whose value follows from the rest of the line or from the
/// format.
fn telling<S: Serializer>(
    headers: &[(Cow<'static, str>, Cow<'static, str>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let tells = |name: &str, value: &str| match name {
        "content-type" => value != "application/json",
        "accept-encoding" => value != "identity",
        "x-speckit-event"
        | "x-speckit-id"
        | "x-speckit-request-timestamp"
        | "x-speckit-attempt"
        | "x-speckit-signature"
        | "webhook-id"
        | "webhook-timestamp"
        | "webhook-signature" => false,
        _ => true,
    };
    serializer.collect_map(headers.iter().filter(|(name, value)| tells(name, value)).map(|(n, v)| (n, v)))
}

/// An attempt that ended, or that `dry_run` kept from being made.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// The attempt's number, from 1.
    pub(crate) number: u32,
    /// When it began.
    pub(crate) at: Timestamp,
    /// What was sent, without secrets.
    pub(crate) request: RequestLine,
    /// The result; `None` for a dry run.
    pub(crate) outcome: Option<Outcome>,
    /// The body that a dry run would have sent.
    pub(crate) unsent: Option<Unsent>,
}

/// A body that can stand within a line of evidence: JSON on one line.
#[derive(Clone, Debug)]
pub(crate) struct Unsent(Bytes);

impl Unsent {
    /// The body; `None` of one that is no JSON or has a line's end in it, which no accepted one
    /// has.
    pub(crate) fn of(body: &Bytes) -> Option<Self> {
        let is_one_line = memchr::memchr2(b'\n', b'\r', body).is_none();
        (is_one_line && serde_json::from_slice::<&RawValue>(body).is_ok()).then(|| Self(body.clone()))
    }

    pub(super) fn json(&self) -> &[u8] {
        let Self(body) = self;
        body
    }
}

impl Attempt {
    /// A short form for the spool and the dead letter.
    pub(crate) fn summary(&self) -> AttemptSummary {
        const KEPT: usize = 256;
        let outcome = self.outcome.as_ref();
        let response = outcome.and_then(|outcome| outcome.result.as_ref().ok());
        let kept = response.map(|response| printable(&readable(&response.body), KEPT));
        AttemptSummary {
            attempt: self.number,
            at: self.at,
            status: self.status(),
            error: outcome.and_then(|outcome| match &outcome.result {
                Err(failure) => Some(failure.to_string()),
                Ok(response) => response.rejection.as_ref().map(|_| outcome.summary()),
            }),
            response: kept.filter(|body| !body.is_empty()),
            latency_ms: self.latency_ms(),
        }
    }

    /// The answer's status, if there was an answer.
    pub(crate) fn status(&self) -> Option<u16> {
        self.outcome.as_ref().and_then(|outcome| outcome.result.as_ref().ok()).map(|response| response.status)
    }

    /// How long it took; 0 for a dry run.
    pub(crate) fn latency_ms(&self) -> f64 {
        let latency = self.outcome.as_ref().map_or(Duration::ZERO, |outcome| outcome.latency);
        (latency.as_secs_f64() * 1e6).round() / 1e3
    }
}

/// An attempt that ended, with its delivery and effect. It is shared between threads by reference
/// count: the thread that allocated it drops it last, which avoids the allocator's cross-thread
/// lock.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) attempt: Attempt,
    pub(crate) effect: Effect,
}

/// The effect of an attempt on disk.
#[derive(Debug)]
pub(crate) enum Effect {
    /// The delivery stays pending.
    Retry { next_attempt_at: Timestamp },
    /// The delivery is finished.
    Delivered,
    /// The delivery becomes a dead letter.
    DeadLetter(Reason),
    /// The delivery is finished without being sent.
    DryRun,
    /// A sample: only its evidence is kept.
    Sample,
    /// The dead letter is removed.
    Replayed,
    /// The dead letter stays, with one more attempt.
    ReplayFailed(Box<DeadLetter>),
}

impl Effect {
    /// The state in which its delivery ends with it; `None` where it does not.
    pub(crate) fn end(&self) -> Option<FinalState> {
        match self {
            Self::Delivered | Self::Replayed => Some(FinalState::Delivered),
            Self::DeadLetter(reason) => Some(reason.into()),
            Self::DryRun => Some(FinalState::DryRun),
            Self::Retry { .. } | Self::Sample | Self::ReplayFailed(_) => None,
        }
    }

    /// Why its delivery is given up with it, if so.
    pub(crate) fn gave_up(&self) -> Option<&Reason> {
        match self {
            Self::DeadLetter(reason) => Some(reason),
            _ => None,
        }
    }

    pub(super) fn is_replay(&self) -> bool {
        matches!(self, Self::Replayed | Self::ReplayFailed(_))
    }

    pub(super) fn outcome(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Delivered | Self::Replayed => "delivered",
            Self::DeadLetter(_) | Self::ReplayFailed(_) => "failed",
            Self::DryRun => "dry_run",
            Self::Sample => "sample",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_json_on_one_line_can_stand_within_a_line() {
        let json =
            |body: &'static str| Unsent::of(&body.into()).map(|unsent| unsent.json() == body.as_bytes());
        assert_eq!([r#"{"a":[1,"\n"]}"#, "{}"].map(json), [Some(true); 2]);
        assert_eq!(["", "no JSON\n{}", "{", "{\n}", "{}\r"].map(json), [None; 5]);
    }
}
