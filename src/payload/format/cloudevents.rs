//! An event as a CloudEvent 1.0 in structured mode, with the `spec-kit` payload as its data.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::event::{Event, EventKind};

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
    time: Option<String>,
    datacontenttype: &'static str,
    data: &'a RawValue,
}

/// The body. `id` is the event's idempotency key: the same event has the same `source` and `id`, as
/// the specification requires.
pub(super) fn body(event: &Event, spec_kit: &[u8]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&CloudEvent {
        specversion: "1.0",
        id: event.event.idempotency_key.as_str(),
        source: format!("/spec-kit/{}", event.spec.id),
        kind: event.event.kind,
        subject: event.spec.id.as_str(),
        time: time(event),
        datacontenttype: "application/json",
        data: serde_json::from_slice(spec_kit)?,
    })
}

/// When the event ended, in UTC: hosts may write times in forms that RFC 3339 does not allow.
fn time(event: &Event) -> Option<String> {
    let completed: Timestamp = event.pipeline.as_ref()?.completed_at.as_ref()?.parse().ok()?;
    // RFC 3339 has no years before 0.
    Some(completed.to_string()).filter(|time| !time.starts_with('-'))
}
