//! An event as a CloudEvent 1.0 in structured mode, with the `spec-kit` payload as its data.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::event::{Event, EventKind};
use crate::payload::pages::encoded;

/// The attributes, in the order in which they are sent.
#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: EventKind,
    subject: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    time: Option<&'a str>,
    /// The documented extension: texts that order as they stand.
    #[serde(skip_serializing_if = "Option::is_none")]
    sequence: Option<String>,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

/// The repo as a URI reference: the same from every machine and checkout.
fn source(event: &Event) -> String {
    let repo = event.source.as_ref().and_then(|source| source.repo.as_deref()).unwrap_or_default();
    // Two slashes at the start would make a host of what follows.
    let parts: Vec<String> = repo.split('/').filter(|part| !part.is_empty()).map(encoded).collect();
    format!("/{}", parts.join("/"))
}

/// The body. `id` is the event's idempotency key: the same event has the same `source` and `id`, as
/// the specification requires.
pub(super) fn body(event: &Event, spec_kit: &[u8]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&CloudEvent {
        specversion: "1.0",
        id: event.event.idempotency_key.as_str(),
        source: source(event),
        kind: event.event.kind,
        subject: event.spec.id.as_str(),
        time: event.event.time.as_deref(),
        sequence: event.event.sequence.map(|sequence| format!("{sequence:020}")),
        datacontenttype: "application/json",
        data: serde_json::from_slice(spec_kit)?,
    })
}
