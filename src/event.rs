//! What happened in a pipeline: the event, and the values it is made of, each with its one
//! parser.

mod bound;
mod builder;
mod carried;
mod json;
mod key;
mod limits;
mod order;
mod shape;
mod source;
mod spec_id;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::names::named;

pub use builder::EventBuilder;
pub use carried::Carried;
pub use json::EventError;
use json::key_of;
pub use key::{IdempotencyKey, InvalidKey, KeyOrigin};
pub(crate) use limits::depth;
pub use limits::{MAX_EVENT_BYTES, MAX_EVENT_DEPTH};
pub(crate) use order::{sequence_after, sequence_at};
pub use source::Source;
pub use spec_id::{InvalidSpecId, SpecId};

/// Version of the payload's shape; changes within 1.x only add.
pub const SCHEMA_VERSION: &str = "1.0";

named! {
    /// What kind of thing happened; the name is the `X-SpecKit-Event` header.
    EventKind, "event type" {
        /// One stage of a run ended.
        StageCompleted = "spec-auto.stage.completed",
        /// A whole run ended.
        PipelineCompleted = "spec-auto.pipeline.completed",
        /// A run stands at a gate, or was interrupted, and waits for a person.
        PipelineWaiting = "spec-auto.pipeline.waiting",
        /// A tracked task became Done.
        TaskCompleted = "spec-kit.task.completed",
        /// The last open task of a task list became Done.
        TaskListCompleted = "spec-kit.tasklist.completed",
        /// The agents of a stage disagree.
        ConsensusConflict = "spec-auto.anomaly.consensus_conflict",
        /// A run cost more than its threshold.
        CostThreshold = "spec-auto.anomaly.cost_threshold",
        /// A run that has begun shows no sign of life.
        Stalled = "spec-auto.anomaly.stalled",
        /// A sample, sent on request to try a subscription out.
        Test = "spec-kit.webhook.test",
    }
}

impl EventKind {
    /// Anomalies go only to subscriptions whose `include_events` names them.
    pub fn is_anomaly(self) -> bool {
        matches!(self, Self::ConsensusConflict | Self::CostThreshold | Self::Stalled)
    }
}

named! {
    /// A stage of the pipeline, in the order they run: those of hosts with guardrails, and those of
    /// GitHub Spec Kit, which share three.
    Stage, "stage" {
        /// Constitution, of GitHub Spec Kit.
        Constitution = "Constitution",
        /// Specify, of GitHub Spec Kit.
        Specify = "Specify",
        /// Clarify, of GitHub Spec Kit.
        Clarify = "Clarify",
        /// Plan.
        Plan = "Plan",
        /// Checklist, of GitHub Spec Kit.
        Checklist = "Checklist",
        /// Tasks.
        Tasks = "Tasks",
        /// Analyze, of GitHub Spec Kit.
        Analyze = "Analyze",
        /// Implement.
        Implement = "Implement",
        /// Converge, of GitHub Spec Kit.
        Converge = "Converge",
        /// Validate.
        Validate = "Validate",
        /// Audit.
        Audit = "Audit",
        /// Unlock.
        Unlock = "Unlock",
    }
}

impl Stage {
    /// The stages that guardrails judge, in the order they run.
    pub(crate) const OF_GUARDRAILS: [Self; 6] =
        [Self::Plan, Self::Tasks, Self::Implement, Self::Validate, Self::Audit, Self::Unlock];

    /// The stage of a guardrail with this name.
    pub(crate) fn of_guardrail(name: &str) -> Option<Self> {
        name.parse().ok().filter(|stage| Self::OF_GUARDRAILS.contains(stage))
    }

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

/// One event, in the shape of the `spec-kit` payload (`docs/reference/payload.schema.json`).
///
/// Fields this version does not know are carried through unchanged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// Always [`SCHEMA_VERSION`] on the way out.
    #[serde(rename = "schemaVersion")]
    schema_version: String,
    /// What happened.
    pub event: Envelope,
    /// To which SPEC.
    pub spec: Spec,
    /// In which checkout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
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

/// The `event` part of the payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
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
    /// The key of the event that this one corrects: the same stage, told again with another
    /// status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amends: Option<IdempotencyKey>,
    /// Of a correction: what follows its stage has begun, though it may not be told yet. Never in a
    /// payload.
    #[serde(skip)]
    pub(crate) is_followed: bool,
    /// Of a stage: its source tells next that the run ended with it. Never in a payload.
    #[serde(skip)]
    pub(crate) ends_run: bool,
    /// Where the key comes from. The Router takes it out.
    #[serde(default, skip_serializing_if = "KeyOrigin::is_given")]
    pub key_origin: KeyOrigin,
    /// When the runtime accepted it: RFC 3339 in UTC with milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Its place in the order of its SPEC's events, given by the runtime as it accepts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// Why the status is not `success`, one sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// Everything else that was given.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The `spec` part of the payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
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
#[non_exhaustive]
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
#[non_exhaustive]
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
#[non_exhaustive]
pub struct Task {
    /// The task's id in its list.
    pub id: String,
    /// Its title.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Its status as a word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// What a check box has in brackets between its id and its title: `[P] [US1]` is `P`, `US1`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub markers: Vec<String>,
    /// Everything else that was given.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

/// The `evidence` part of the payload.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EvidencePaths {
    /// Paths relative to the repo.
    #[serde(default)]
    pub paths: Vec<String>,
    /// Everything else that was given.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Event {
    /// An event with nothing but its identity; the rest is filled in by whoever knows more.
    ///
    /// ```
    /// use spec_notify::{Event, EventKind, IdempotencyKey, Stage, Status};
    ///
    /// let spec = "SPEC-KIT-065".parse().unwrap();
    /// let key = IdempotencyKey::of_step(&spec, "plan", 1, Some("session-7"));
    /// let mut event = Event::new(EventKind::StageCompleted, spec, key);
    /// event.event.stage = Some(Stage::Plan);
    /// event.event.status = Some(Status::Success);
    /// assert_eq!(event.event.idempotency_key.as_str(), "SPEC-KIT-065:plan:attempt-1:session-7");
    /// ```
    pub fn new(kind: EventKind, spec: SpecId, idempotency_key: IdempotencyKey) -> Self {
        Self {
            schema_version: SCHEMA_VERSION.to_owned(),
            event: Envelope {
                kind,
                status: None,
                stage: None,
                idempotency_key,
                amends: None,
                is_followed: false,
                ends_run: false,
                key_origin: KeyOrigin::Given,
                time: None,
                sequence: None,
                reasons: Vec::new(),
                extra: Map::new(),
            },
            spec: Spec { id: spec, branch: None, extra: Map::new() },
            source: None,
            pipeline: None,
            telemetry: None,
            consensus: None,
            task: None,
            evidence: None,
            extra: Map::new(),
        }
    }

    /// An event that a source tells of, as of `at`.
    pub(crate) fn of_source(kind: EventKind, spec: SpecId, key: IdempotencyKey, at: Timestamp) -> Self {
        let mut event = Self::new(kind, spec, key);
        event.event.key_origin = KeyOrigin::Source(at);
        event
    }

    /// Whether it tells of a workflow run, which its source counts by itself: its log says which
    /// attempt it is, and when the run ends.
    pub(crate) fn is_of_a_workflow_run(&self) -> bool {
        let run = self.pipeline.as_ref().and_then(|pipeline| pipeline.extra.get("run"));
        run.is_some_and(|run| run.get("id").is_some_and(Value::is_string))
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
}
