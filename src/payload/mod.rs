//! The body of an event: `spec-kit`, made once when the event is accepted, and the formats of
//! other services rendered from it.

mod answer;
mod cut;
mod format;
mod markdown;
mod message;
mod one_line;
pub(crate) mod pages;
mod reader;
#[cfg(feature = "cli")]
mod samples;
#[cfg(test)]
mod tests;

pub(crate) use answer::{Answer, Rejection};
pub use format::Format;
pub(crate) use format::{Service, service_of};
pub(crate) use message::is_a_call;
pub(crate) use reader::Reader;
#[cfg(feature = "cli")]
pub(crate) use samples::Sample;

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use crate::event::{Event, EventKind, IdempotencyKey, KeyOrigin, Source, SpecId, sequence_at};

/// The body of `event`: compact JSON, as described by `docs/reference/payload.schema.json`.
///
/// # Errors
/// A parsed event cannot cause one; the error comes from serde's signature.
pub(crate) fn body(event: &Event) -> serde_json::Result<Bytes> {
    raw_body(event).map(|json| bytes_of(&json))
}

/// As [`body`], as the JSON text that it is known to be.
///
/// # Errors
/// As `body`.
pub(crate) fn raw_body(event: &Event) -> serde_json::Result<Box<RawValue>> {
    match event.event.key_origin {
        KeyOrigin::Given => to_raw_value(event),
        // The key's origin is internal and not sent.
        KeyOrigin::Source(_) | KeyOrigin::Rewritten(_) | KeyOrigin::Made { .. } => {
            let mut event = event.clone();
            event.event.key_origin = KeyOrigin::Given;
            to_raw_value(&event)
        }
    }
}

/// A copy of these bytes, without room to spare: it is held for as long as its deliveries wait.
pub(crate) fn bytes_of(json: &RawValue) -> Bytes {
    Bytes::copy_from_slice(json.get().as_bytes())
}

/// How the message of `event` reads, without the markup of any service.
#[cfg(feature = "cli")]
pub(crate) fn text(event: &Event, reader: &Reader<'_>) -> String {
    message::Message::of(event, reader).text()
}

/// A sample event of a SPEC, for trying out a subscription. It is none of the SPEC's own events,
/// so its place in their order is that of its time.
pub(crate) fn sample(spec: SpecId, checkout: Source, at: Timestamp) -> Event {
    let key = IdempotencyKey::unique(&spec, EventKind::Test.as_str());
    let mut event = Event::new(EventKind::Test, spec, key);
    event.come_from(checkout);
    event.accepted(at, sequence_at(at));
    event.extra.insert("message".to_owned(), json!("A sample from spec-notify: no stage ran."));
    event
}
