//! How much of a record is read: all of it, or all but its payloads.

use std::fmt::Debug;

use memchr::memmem;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::value::RawValue;

use super::Record;

/// How much of a record is read.
pub(crate) trait Part: Sized + Clone + Debug {
    /// A payload.
    type Body: DeserializeOwned + Clone + Debug;

    /// The record with this JSON text.
    fn record_of(json: &[u8]) -> serde_json::Result<Record<Self>>;
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) enum Whole {}

impl Part for Whole {
    type Body = Box<RawValue>;

    fn record_of(json: &[u8]) -> serde_json::Result<Record<Self>> {
        serde_json::from_slice(json)
    }
}

/// All but payloads: what says which deliveries are unfinished.
#[derive(Clone, Debug)]
pub(crate) enum Outline {}

impl Part for Outline {
    type Body = IgnoredAny;

    /// Payloads can be long, and are the last fields of an accepted event: all before them is a
    /// whole record once it is closed, so where they end need not be found.
    fn record_of(json: &[u8]) -> serde_json::Result<Record<Self>> {
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
