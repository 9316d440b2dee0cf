//! What happened in a pipeline: the event, and the values it is made of, each with its one parser.

mod carried;
mod limits;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::clock;

pub use carried::Carried;
pub(crate) use limits::depth;
pub use limits::{MAX_EVENT_BYTES, MAX_EVENT_DEPTH};

/// Version of the payload's shape; changes within 1.x only add.
pub const SCHEMA_VERSION: &str = "1.0";

/// A word that is none of the words allowed in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{given}`{}; known are: {}", nearest_hint(.given, .known), .known.join(", "))]
pub struct UnknownName {
    pub(crate) what: &'static str,
    pub(crate) given: String,
    pub(crate) known: Vec<&'static str>,
}

fn nearest_hint(given: &str, known: &[&'static str]) -> String {
    nearest(given, known.iter().copied()).map_or(String::new(), |name| format!(" (did you mean `{name}`?)"))
}

/// The known word closest to `given`, when it is close enough to be a slip of the keyboard.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&given, &name.to_lowercase()), name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// An enum whose every variant has one name on the wire: `ALL`, `as_str`, `Display`, `FromStr`
/// (case does not count) and serde, all from the one list.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            /// Every value, in the order a person would list them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name used in config files, payloads and messages.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|value| value.as_str().eq_ignore_ascii_case(text)).ok_or_else(|| UnknownName {
                    what: $what,
                    given: text.to_owned(),
                    known: Self::ALL.iter().map(|value| value.as_str()).collect(),
                })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}
pub(crate) use named;

named! {
    /// What kind of thing happened; the name is the `X-SpecKit-Event` header.
    EventKind, "event type" {
        /// One stage of a run ended.
        StageCompleted = "spec-auto.stage.completed",
        /// A whole run ended.
        PipelineCompleted = "spec-auto.pipeline.completed",
        /// A tracked task became Done.
        TaskCompleted = "spec-kit.task.completed",
        /// The agents of a stage disagree.
        ConsensusConflict = "spec-auto.anomaly.consensus_conflict",
        /// A run cost more than its threshold.
        CostThreshold = "spec-auto.anomaly.cost_threshold",
        /// A sample, sent on request to try a subscription out.
        Test = "spec-kit.webhook.test",
    }
}

impl EventKind {
    /// Anomalies go only to subscriptions whose `include_events` names them.
    pub fn is_anomaly(self) -> bool {
        matches!(self, Self::ConsensusConflict | Self::CostThreshold)
    }
}

named! {
    /// A stage of the pipeline, in the order they run.
    Stage, "stage" {
        /// Plan.
        Plan = "Plan",
        /// Tasks.
        Tasks = "Tasks",
        /// Implement.
        Implement = "Implement",
        /// Validate.
        Validate = "Validate",
        /// Audit.
        Audit = "Audit",
        /// Unlock.
        Unlock = "Unlock",
    }
}

impl Stage {
    /// The lower-case name, as file names and idempotency keys have it.
    pub fn slug(self) -> String {
        self.as_str().to_ascii_lowercase()
    }
}

named! {
    /// How a stage or a pipeline ended.
    Status, "status" {
        /// The guardrail counts it as passed.
        Success = "success",
        /// The guardrail counts it as failed.
        Failure = "failure",
        /// It could not be judged, or a conflict stopped it.
        Halt = "halt",
    }
}

/// The id of a SPEC. It names folders, so only `[A-Za-z0-9][A-Za-z0-9._-]{0,127}` is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SpecId(Arc<str>);

/// Names of the spool's own files and folders, which are no SPEC's in any case of letters: some
/// file systems do not tell them apart.
const RESERVED: [&str; 5] = ["inbox", "health.json", "lock", "runtime.json", "watch.jsonl"];

/// A text that is no SPEC id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpecId {
    /// It cannot name a folder.
    #[error(
        "`{}` is not a SPEC id: it must start with a letter or digit and have at most 128 of letters, digits, `.`, `_` and `-` (it becomes a folder name)",
        printable(.0, 140)
    )]
    Malformed(String),
    /// It names something else in the spool.
    #[error(
        "`{0}` is not a SPEC id: the spool has a file or folder of its own by that name, and a SPEC's id becomes the name of a folder beside it; rename the SPEC"
    )]
    Reserved(String),
}

impl SpecId {
    /// Whose tasks those of the repo's tracker are that name no SPEC.
    pub fn tracker() -> Self {
        Self("SPEC-TRACKER".into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id up to its number: `SPEC-KIT-065` of `SPEC-KIT-065-add-webhooks`; the whole id where
    /// it has none.
    pub fn short(&self) -> &str {
        let mut end = 0;
        for segment in self.0.split('-') {
            end += segment.len();
            if !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit()) {
                return &self.0[..end];
            }
            end += 1;
        }
        &self.0
    }
}

impl FromStr for SpecId {
    type Err = InvalidSpecId;

    fn from_str(text: &str) -> Result<Self, InvalidSpecId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if !(starts_well && text.len() <= 128 && text.bytes().all(allowed)) {
            return Err(InvalidSpecId::Malformed(text.to_owned()));
        }
        if RESERVED.iter().any(|name| name.eq_ignore_ascii_case(text)) {
            return Err(InvalidSpecId::Reserved(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for SpecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for SpecId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Says which event this is, so that the same one seen twice is delivered once: 1 to 512 printable
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct IdempotencyKey(Arc<str>);

/// A text that is no idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an idempotency key: it must have 1 to 512 printable characters", printable(.0, 80))]
pub struct InvalidKey(String);

impl IdempotencyKey {
    /// The key of a stage or pipeline event: `<SPEC>:<step>:attempt-<n>`, and `:<session>` where
    /// there is one.
    ///
    /// With a session the SPEC is its short id, without one the full id, because short ids are
    /// shared.
    pub fn of_step(spec: &SpecId, step: &str, attempt: u32, session: Option<&str>) -> Self {
        let session = session.map(|text| printable(text, 200)).filter(|text| !text.is_empty());
        let key = match session {
            Some(session) => format!("{}:{step}:attempt-{attempt}:{session}", spec.short()),
            None => format!("{spec}:{step}:attempt-{attempt}"),
        };
        Self(key.into())
    }

    /// The key of a task that became Done for the `times`th time. Several lists of a SPEC may have
    /// the same id: `list` says which one it is.
    pub fn of_task(spec: &SpecId, list: &str, id: &str, times: u32) -> Self {
        let (list, id) = (printable(list, 160), printable(id, 160));
        Self(format!("{spec}:{list}#{id}:done-{times}").into())
    }

    /// The key of a further version of a session, which the source rewrote with another verdict.
    pub(crate) fn of_version(&self, stamp: &str) -> Self {
        Self(format!("{self}:{}", printable(stamp, 64)).into())
    }

    /// A key no other event has: for events that have no natural identity, such as a test.
    pub fn unique(spec: &SpecId, what: &str) -> Self {
        Self(format!("{spec}:{}:{}", printable(what, 200), Uuid::new_v4()).into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        let length = text.chars().count();
        if (1..=512).contains(&length) && !text.chars().any(char::is_control) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidKey(text.to_owned()))
        }
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for IdempotencyKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Whether a character does something to the text around it where it is shown: control characters,
/// and those that break its line or reorder it.
pub(crate) fn is_deceiving(c: char) -> bool {
    const MARKS: [char; 3] = ['\u{61c}', '\u{200e}', '\u{200f}'];
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') || MARKS.contains(&c)
}

/// JSON whose texts have no deceiving characters as they stand, and mean the same.
pub(crate) fn harmless_json(json: &str) -> Cow<'_, str> {
    if json.bytes().all(|byte| byte < 0x7f) {
        return json.into();
    }
    let mut harmless = String::with_capacity(json.len());
    for c in json.chars() {
        // Outside of its texts there is none; all of them have four digits.
        match is_deceiving(c) {
            true => harmless += &format!("\\u{:04x}", u32::from(c)),
            false => harmless.push(c),
        }
    }
    harmless.into()
}

/// `text` for a message or a log line: deceiving characters replaced, at most `limit` characters,
/// a mark where cut.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let mut shown: String =
        text.chars().take(limit).map(|c| if is_deceiving(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(limit).is_some() {
        shown.push('…');
    }
    shown
}

/// One event, in the shape of the `spec-kit` payload (`docs/payload.schema.json`).
///
/// Fields this version does not know are carried through unchanged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Always [`SCHEMA_VERSION`] on the way out.
    #[serde(rename = "schemaVersion")]
    schema_version: String,
    /// What happened.
    pub event: Envelope,
    /// To which SPEC.
    pub spec: Spec,
    /// In which run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<Pipeline>,
    /// The guardrail's telemetry, field by field as it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<Carried>,
    /// What the stage's agents agreed on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consensus: Option<Consensus>,
    /// The task, for a task event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Task>,
    /// Where to read more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evidence: Option<EvidencePaths>,
    /// Everything else that was given.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Where the key of an event comes from, and when the event was made; never in a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyOrigin {
    /// Whoever emitted it gave one: it is this event and no other.
    #[default]
    Given,
    /// From the session that the event tells of, or the task list it stands in.
    Source(#[serde(with = "clock::millis")] Timestamp),
    /// The same, of a session of which something else was told already.
    Rewritten(#[serde(with = "clock::millis")] Timestamp),
    /// The event had neither a key nor a session: the Router finds out which one it is.
    Made {
        /// When, to the nanosecond.
        at: Timestamp,
        /// So that it is known when it is handed over a second time.
        nonce: u64,
    },
}

impl KeyOrigin {
    fn is_given(&self) -> bool {
        *self == Self::Given
    }
}

/// The `event` part of the payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope {
    /// What kind of event.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// How it ended, where it can end in more than one way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Which stage, for a stage event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Which event this is.
    pub idempotency_key: IdempotencyKey,
    /// Where the key comes from. The Router takes it out.
    #[serde(default, skip_serializing_if = "KeyOrigin::is_given")]
    pub key_origin: KeyOrigin,
    /// Why the status is not `success`, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Everything else that was given.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The `spec` part of the payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// The SPEC's full id.
    pub id: SpecId,
    /// The repo's current branch; `HEAD` where it is detached, absent outside a repo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// Everything else that was given.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The `pipeline` part of the payload: the run this belongs to. Times are RFC 3339.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Pipeline {
    /// Which try of the stage or run this was, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// How many tries the host allows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u32>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// Everything else that was given.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The `consensus` part of the payload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Consensus {
    /// The verdict, in the host's word: `ok`, `degraded`, `hold`, `conflict`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Who took part: objects with `agent`, `model`, `model_release`, `reasoning_mode`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<Map<String, Value>>,
    /// Everything else that was given.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The `task` part of the payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// The task's id in its table.
    pub id: String,
    /// Its title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its status as a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// Everything else that was given.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The `evidence` part of the payload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EvidencePaths {
    /// Paths relative to the repo.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Everything else that was given.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// Why a text is not taken as an event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// More than [`MAX_EVENT_BYTES`].
    #[error(
        "the event has {0} bytes; at most {MAX_EVENT_BYTES} are accepted: shorten `telemetry` or link to a file"
    )]
    TooLarge(usize),
    /// Nested more deeply than [`MAX_EVENT_DEPTH`].
    #[error(
        "the event is nested {0} levels deep; at most {MAX_EVENT_DEPTH} are accepted: flatten what is in it, or link \
         to a file"
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
    /// An event with nothing but its identity; the rest is filled in by whoever knows more.
    pub fn new(kind: EventKind, spec: SpecId, idempotency_key: IdempotencyKey) -> Self {
        Self {
            schema_version: SCHEMA_VERSION.to_owned(),
            event: Envelope {
                kind,
                status: None,
                stage: None,
                idempotency_key,
                key_origin: KeyOrigin::Given,
                reasons: Vec::new(),
                extra: Map::new(),
            },
            spec: Spec { id: spec, branch: None, extra: Map::new() },
            pipeline: None,
            telemetry: None,
            consensus: None,
            task: None,
            evidence: None,
            extra: Map::new(),
        }
    }

    /// Reads one JSON object in the payload's shape. `event.type` and `spec.id` are required; a
    /// missing `event.idempotency_key` is made from what is there.
    ///
    /// # Errors
    /// [`EventError`] says which part is wrong.
    pub fn from_json(text: &str) -> Result<Self, EventError> {
        limits::check_text(text, MAX_EVENT_BYTES)?;
        let event = Self::parse(text)?;
        if limits::may_have_grown(text.len()) {
            event.check_limits()?;
        }
        Ok(event)
    }

    /// An event that a source tells of, as of `at`.
    pub(crate) fn of_source(kind: EventKind, spec: SpecId, key: IdempotencyKey, at: Timestamp) -> Self {
        let mut event = Self::new(kind, spec, key);
        event.event.key_origin = KeyOrigin::Source(at);
        event
    }

    /// The step that its key names, and which try of it this is as far as the event says: 1 where
    /// it does not.
    pub(crate) fn numbered_step(&self) -> Option<(String, u32)> {
        let attempt = self.pipeline.as_ref().and_then(|pipeline| pipeline.attempt).unwrap_or(1);
        match (self.event.kind, self.event.stage) {
            (EventKind::StageCompleted, Some(stage)) => Some((stage.slug(), attempt)),
            (EventKind::PipelineCompleted, _) => Some(("pipeline".to_owned(), attempt)),
            _ => None,
        }
    }

    fn parse(text: &str) -> Result<Self, EventError> {
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
        let (key, origin) = derived_key(&document)?;
        if let Some(Value::Object(envelope)) = document.get_mut("event")
            && envelope.get("idempotency_key").is_none_or(Value::is_null)
        {
            envelope.insert("idempotency_key".into(), key.as_str().into());
            envelope.insert("key_origin".into(), serde_json::to_value(origin).map_err(malformed)?);
        }
        let mut event: Self = serde_json::from_value(Value::Object(document)).map_err(malformed)?;
        if let Some(telemetry) = &mut event.telemetry {
            telemetry.restore(text);
        }
        Ok(event)
    }
}

/// The key of an event that came without one: from its step, attempt and session where it has a
/// step, else unique.
fn derived_key(document: &Map<String, Value>) -> Result<(IdempotencyKey, KeyOrigin), EventError> {
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
    let now = clock::now();
    let made = KeyOrigin::Made { at: clock::exactly(), nonce: fastrand::u64(..) };
    Ok(match step {
        Some(step) => {
            let key = IdempotencyKey::of_step(&spec, &step, attempt, session);
            (key, if session.is_some() { KeyOrigin::Source(now) } else { made })
        }
        None => {
            let what = text_at("task", "id").unwrap_or(kind.as_str());
            (IdempotencyKey::unique(&spec, what), made)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_ids_become_folder_names() {
        for good in ["SPEC-KIT-065", "a", "A.b_c-1", "inbox-1", "health", "lock-1", &"x".repeat(128)] {
            assert!(good.parse::<SpecId>().is_ok(), "{good}");
        }
        for reserved in RESERVED.iter().flat_map(|name| [(*name).to_owned(), name.to_uppercase()]) {
            let error = reserved.parse::<SpecId>().unwrap_err().to_string();
            assert!(error.contains("a file or folder of its own"), "{reserved}: {error}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "-a", ".a", "a b", "é", "a\n", &"x".repeat(129)] {
            assert!(bad.parse::<SpecId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn short_id_ends_with_the_first_number() {
        for (full, short) in [
            ("SPEC-KIT-065-add-webhook-for-9", "SPEC-KIT-065"),
            ("SPEC-KIT-045-mini", "SPEC-KIT-045"),
            ("SPEC-KIT-DEMO", "SPEC-KIT-DEMO"),
            ("065", "065"),
        ] {
            assert_eq!(full.parse::<SpecId>().unwrap().short(), short);
        }
    }

    #[test]
    fn keys_follow_the_seed() {
        let spec: SpecId = "SPEC-KIT-065-add-webhook".parse().unwrap();
        assert_eq!(
            IdempotencyKey::of_step(&spec, "plan", 1, Some("abcd-1234")).as_str(),
            "SPEC-KIT-065:plan:attempt-1:abcd-1234"
        );
        assert_eq!(
            IdempotencyKey::of_step(&spec, "plan", 2, None).as_str(),
            "SPEC-KIT-065-add-webhook:plan:attempt-2"
        );
    }

    #[test]
    fn a_given_key_is_kept_and_unknown_fields_are_carried() {
        let text = r#"{"event":{"type":"spec-auto.stage.completed","stage":"Plan","idempotency_key":"mine","x":1},
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
