//! The body of an event: `spec-kit`, made once when the event is accepted, and the formats of other
//! services rendered from it.

mod answer;
mod cut;
mod format;
mod markdown;
mod summary;
#[cfg(test)]
mod tests;

pub(crate) use answer::{Answer, Rejection};
pub use format::Format;
pub(crate) use format::{Service, service_of};

use bytes::Bytes;
use serde_json::json;

use crate::event::{Event, EventKind, IdempotencyKey, KeyOrigin, SpecId};

/// The body of `event`: compact JSON, as described by `docs/payload.schema.json`.
///
/// # Errors
/// A parsed event cannot cause one; the error comes from serde's signature.
pub(crate) fn body(event: &Event) -> serde_json::Result<Bytes> {
    match event.event.key_origin {
        KeyOrigin::Given => serde_json::to_vec(event),
        // The key's origin is internal and not sent.
        KeyOrigin::Source(_) | KeyOrigin::Rewritten(_) | KeyOrigin::Made { .. } => {
            let mut event = event.clone();
            event.event.key_origin = KeyOrigin::Given;
            serde_json::to_vec(&event)
        }
    }
    .map(Bytes::from)
}

/// A sample event of a SPEC, for trying out a subscription.
pub(crate) fn sample(spec: SpecId, branch: Option<String>) -> Event {
    let key = IdempotencyKey::unique(&spec, EventKind::Test.as_str());
    let mut event = Event::new(EventKind::Test, spec, key);
    event.spec.branch = branch;
    event.extra.insert("message".to_owned(), json!("A sample from spec-notify: no stage ran."));
    event
}
