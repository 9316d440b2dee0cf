//! An event as JSON: read from a text within the limits, and given a key where it came without one.

use std::fmt;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::key::{IdempotencyKey, KeyOrigin};
use super::limits::{self, MAX_EVENT_BYTES, MAX_EVENT_DEPTH};
use super::spec_id::SpecId;
use super::{Event, EventKind, SCHEMA_VERSION, Stage, shape};
use crate::clock;
use crate::names::printable;

/// Why a text is not taken as an event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// More than [`MAX_EVENT_BYTES`].
    #[error(
        "the event has {0} bytes; at most {MAX_EVENT_BYTES} are accepted: shorten `telemetry` or link to a \
         file"
    )]
    TooLarge(usize),
    /// Nested more deeply than [`MAX_EVENT_DEPTH`].
    #[error(
        "the event is nested {0} levels deep; at most {MAX_EVENT_DEPTH} are accepted: \
         flatten what is in it, or link to a file"
    )]
    TooDeep(usize),
    /// Not JSON, or a field is missing or of the wrong type.
    #[error("not an event: {0}")]
    Malformed(String),
    /// Made for another major version of the payload.
    #[error("schemaVersion `{0}` is not supported: this version reads 1.x")]
    Version(String),
}

impl Event {
    /// Reads one JSON object in the payload's shape. `event.type` and `spec.id` are required; a
    /// missing `event.idempotency_key` is made from what is there.
    ///
    /// # Errors
    /// [`EventError`] says which part is wrong.
    ///
    /// ```
    /// use spec_notify::Event;
    ///
    /// let text = r#"{"event": {"type": "spec-kit.task.completed"}, "spec": {"id": "SPEC-1"}}"#;
    /// assert_eq!(Event::from_json(text).unwrap().spec.id.as_str(), "SPEC-1");
    /// let error = Event::from_json(r#"{"event": {}}"#).unwrap_err().to_string();
    /// assert!(error.contains("event.type"));
    /// ```
    pub fn from_json(text: &str) -> Result<Self, EventError> {
        limits::check_text(text, MAX_EVENT_BYTES)?;
        let event = Self::parse(text)?;
        if limits::may_have_grown(text.len()) {
            event.check_limits()?;
        }
        Ok(event)
    }

    pub(super) fn parse(text: &str) -> Result<Self, EventError> {
        let malformed = |error: serde_json::Error| EventError::Malformed(error.to_string());
        let mut document: Map<String, Value> = serde_json::from_str(text).map_err(malformed)?;
        match document.get("schemaVersion") {
            None | Some(Value::Null) => {}
            Some(Value::String(version)) if version == "1" || version.starts_with("1.") => {}
            Some(Value::String(other)) => return Err(EventError::Version(printable(other, 40))),
            Some(other) => return Err(EventError::Version(printable(&other.to_string(), 40))),
        }
        document.insert("schemaVersion".into(), SCHEMA_VERSION.into());
        for (part, field) in [("event", "type"), ("spec", "id")] {
            match document.get(part) {
                Some(Value::Object(object)) if object.get(field).is_some_and(Value::is_string) => {}
                _ => return Err(EventError::Malformed(format!("`{part}.{field}` is required, as a string"))),
            }
        }
        let (key, origin) = derived_key(&document, clock::exactly(), clock::nonce())?;
        if let Some(Value::Object(envelope)) = document.get_mut("event") {
            if envelope.get("idempotency_key").is_none_or(Value::is_null) {
                envelope.insert("idempotency_key".into(), key.as_str().into());
                envelope.insert("key_origin".into(), serde_json::to_value(origin).map_err(malformed)?);
            }
            // The runtime gives them, whatever is said here.
            envelope.retain(|name, _| name != "time" && name != "sequence");
        }
        shape::without_nulls(&mut document);
        let mut event: Self = serde_json::from_value(Value::Object(document)).map_err(malformed)?;
        event.check_shape()?;
        if let Some(telemetry) = &mut event.telemetry {
            telemetry.restore(text);
        }
        Ok(event)
    }
}

/// The key of an event that came without one: from its step, attempt and session where it has a
/// step, else unique. `at` and `nonce` say where one was made.
fn derived_key(
    document: &Map<String, Value>,
    at: Timestamp,
    nonce: u64,
) -> Result<(IdempotencyKey, KeyOrigin), EventError> {
    let text_at =
        |part: &str, field: &str| document.get(part).and_then(|part| part.get(field)).and_then(Value::as_str);
    let malformed = |error: &dyn fmt::Display| EventError::Malformed(error.to_string());
    let spec: SpecId = text_at("spec", "id").unwrap_or_default().parse().map_err(|e| malformed(&e))?;
    let kind: EventKind = text_at("event", "type").unwrap_or_default().parse().map_err(|e| malformed(&e))?;
    let step = match (kind, text_at("event", "stage")) {
        (EventKind::StageCompleted, Some(stage)) => {
            Some(stage.parse::<Stage>().map_err(|e| malformed(&e))?.slug())
        }
        (EventKind::PipelineCompleted, _) => Some("pipeline".to_owned()),
        _ => None,
    };
    let attempt =
        document.get("pipeline").and_then(|p| p.get("attempt")).and_then(Value::as_u64).unwrap_or(1);
    let attempt = u32::try_from(attempt).unwrap_or(u32::MAX);
    let session = text_at("telemetry", "sessionId");
    let made = KeyOrigin::Made { at, nonce };
    let what = text_at("task", "id").unwrap_or(kind.as_str());
    let step = step.as_deref().map(|step| (step, attempt));
    Ok(key_of(&spec, step, session, what, made))
}

/// The key of an event that has none of its own: of a step by its attempt and session, else a
/// unique one. `made` says where and when that is done.
pub(super) fn key_of(
    spec: &SpecId,
    step: Option<(&str, u32)>,
    session: Option<&str>,
    what: &str,
    made: KeyOrigin,
) -> (IdempotencyKey, KeyOrigin) {
    let Some((step, attempt)) = step else { return (IdempotencyKey::unique(spec, what), made) };
    let key = IdempotencyKey::of_step(spec, step, attempt, session);
    match (made, session) {
        (KeyOrigin::Made { at, .. }, Some(_)) => (key, KeyOrigin::Source(clock::in_milliseconds(at))),
        (made, _) => (key, made),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_key_is_kept_and_unknown_fields_are_carried() {
        let text = r#"{"event":{"type":"spec-auto.stage.completed","stage":"Plan",
            "idempotency_key":"mine","x":1},
            "spec":{"id":"SPEC-1"},"future":{"a":[1,2]}}"#;
        let event = Event::from_json(text).unwrap();
        assert_eq!(event.event.idempotency_key.as_str(), "mine");
        let out = serde_json::to_value(&event).unwrap();
        assert_eq!(out["future"]["a"][1], 2);
        assert_eq!(out["event"]["x"], 1);
        assert_eq!(out["schemaVersion"], "1.0");
    }

    #[test]
    fn what_is_no_event_is_refused_with_a_reason() {
        for (text, reason) in [
            ("[]", "invalid type"),
            ("{", "EOF"),
            ("{}", "`event.type` is required"),
            (r#"{"event":{"type":"spec-auto.stage.completed"}}"#, "`spec.id` is required"),
            (
                r#"{"event":{"type":"spec-auto.stage.complete"},"spec":{"id":"A"}}"#,
                "did you mean `spec-auto.stage.completed`?",
            ),
            (
                r#"{"event":{"type":"spec-auto.stage.completed","stage":"Deploy"},"spec":{"id":"A"}}"#,
                "unknown stage `Deploy`",
            ),
            (
                r#"{"event":{"type":"spec-auto.stage.completed","status":"okay"},"spec":{"id":"A"}}"#,
                "unknown status `okay`",
            ),
            (r#"{"event":{"type":"spec-auto.stage.completed"},"spec":{"id":"../A"}}"#, "is not a SPEC id"),
            (
                r#"{"event":{"type":"spec-auto.stage.completed","idempotency_key":""},"spec":{"id":"A"}}"#,
                "idempotency key",
            ),
            (
                r#"{"schemaVersion":"2.0","event":{"type":"spec-auto.stage.completed"},"spec":{"id":"A"}}"#,
                "schemaVersion `2.0`",
            ),
            (
                r#"{"event":{"type":"spec-auto.stage.completed"},"spec":{"id":"A"},"pipeline":"x"}"#,
                "invalid type",
            ),
        ] {
            let error = Event::from_json(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
