//! How much of a record is read: all of it, or what says which deliveries are unfinished.

use std::fmt::Debug;

use memchr::memmem;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use super::Record;
use crate::delivery::AttemptSummary;

/// How much of a record is read.
pub(crate) trait Part: Sized + Clone + Debug {
    /// A payload.
    type Body: DeserializeOwned + Clone + Debug;
    /// An attempt.
    type Attempt: DeserializeOwned + Clone + Debug;

    /// The attempt's number.
    fn number(attempt: &Self::Attempt) -> u32;

    /// The record with this JSON text.
    fn record_of(json: &[u8]) -> serde_json::Result<Record<Self>>;
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) enum Whole {}

impl Part for Whole {
    type Body = Box<RawValue>;
    type Attempt = AttemptSummary;

    fn number(attempt: &AttemptSummary) -> u32 {
        attempt.attempt
    }

    fn record_of(json: &[u8]) -> serde_json::Result<Record<Self>> {
        serde_json::from_slice(json)
    }
}

/// What says which deliveries are unfinished: no payload, and of attempts their numbers.
#[derive(Clone, Debug)]
pub(crate) enum Outline {}

/// An attempt of which only its number is read.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Numbered {
    pub(super) attempt: u32,
}

impl Part for Outline {
    type Body = IgnoredAny;
    type Attempt = Numbered;

    fn number(attempt: &Numbered) -> u32 {
        attempt.attempt
    }

    /// Payloads can be long, and are the last fields of an accepted event: all before them is a
    /// whole record once it is closed, so where they end need not be found.
    fn record_of(json: &[u8]) -> serde_json::Result<Record<Self>> {
        if let Some(attempted) = attempted(json) {
            return Ok(attempted);
        }
        // JSON escapes quotation marks within a text, so this is a field. If it belongs to anything
        // within the event, what comes before it cannot be closed like this.
        let before_payloads = json.starts_with(ACCEPTED).then(|| memmem::find(json, BODY)).flatten();
        let skipped = before_payloads.map(|at| [&json[..at], NO_BODY].concat());
        skipped
            .and_then(|text| serde_json::from_slice(&text).ok())
            .map_or_else(|| serde_json::from_slice(json), Ok)
    }
}

const ACCEPTED: &[u8] = br#"{"accepted":{"#;
const BODY: &[u8] = br#","body":"#;
const NO_BODY: &[u8] = br#","body":null}}"#;

/// An attempted record in the form in which [`encode`] writes it, the most frequent ones of a spool
/// whose endpoints fail. `None` for any other text: it is read as JSON.
pub(super) fn attempted(json: &[u8]) -> Option<Record<Outline>> {
    let text = std::str::from_utf8(json).ok()?.strip_prefix(r#"{"attempted":{"id":""#)?;
    let (id, text) = text.split_once(r#"","attempt":{"attempt":"#)?;
    let (attempt, text) = text.split_once(',')?;
    // JSON escapes quotation marks within a text, and two braces close the attempted record and
    // what is around it: so this is a field of that record.
    let (_, next_attempt_at) = text.strip_suffix(r#""}}"#)?.rsplit_once(r#"},"next_attempt_at":""#)?;
    Some(Record::Attempted {
        id: id.parse().ok()?,
        attempt: Numbered { attempt: attempt.parse().ok()? },
        next_attempt_at: next_attempt_at.parse().ok()?,
    })
}
