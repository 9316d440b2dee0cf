//! Makes events in code: what must be said is asked for at the start, the rest may follow.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    Carried, Consensus, Event, EventKind, EvidencePaths, IdempotencyKey, KeyOrigin, Pipeline, SpecId, Stage,
    Status, Task, key_of,
};
use crate::clock;

/// An event in the making; [`build`](Self::build) ends it.
///
/// Without a key of its own, an event has the one that follows from what it tells: a stage or a run
/// from its SPEC, attempt and session, so that the same one told twice is one event. Name a
/// [`session`](Self::session) wherever your host has one.
#[derive(Clone, Debug)]
#[must_use = "an event in the making is nothing: build it, then emit it"]
pub struct EventBuilder {
    event: Event,
    session: Option<String>,
    has_key: bool,
}

impl Event {
    /// A stage ended.
    ///
    /// ```
    /// use spec_notify::{Event, Stage, Status};
    ///
    /// let spec = "SPEC-KIT-065".parse().unwrap();
    /// let event = Event::stage(spec, Stage::Validate, Status::Failure)
    ///     .session("run-7")
    ///     .attempt(2)
    ///     .reason("2 of 40 scenarios failed")
    ///     .build();
    /// assert_eq!(event.event.idempotency_key.as_str(), "SPEC-KIT-065:validate:attempt-2:run-7");
    /// ```
    pub fn stage(spec: SpecId, stage: Stage, status: Status) -> EventBuilder {
        let mut builder = EventBuilder::new(EventKind::StageCompleted, spec);
        builder.event.event.stage = Some(stage);
        builder.event.event.status = Some(status);
        builder
    }

    /// A run ended.
    ///
    /// ```
    /// use spec_notify::{Event, Status};
    ///
    /// let spec = "SPEC-KIT-065".parse().unwrap();
    /// let event = Event::pipeline(spec, Status::Success).session("run-7").build();
    /// assert_eq!(event.event.kind.as_str(), "spec-auto.pipeline.completed");
    /// ```
    pub fn pipeline(spec: SpecId, status: Status) -> EventBuilder {
        let mut builder = EventBuilder::new(EventKind::PipelineCompleted, spec);
        builder.event.event.status = Some(status);
        builder
    }

    /// A run stands at a gate and waits for a person, who is asked this.
    ///
    /// ```
    /// use spec_notify::Event;
    ///
    /// let spec = "SPEC-KIT-065".parse().unwrap();
    /// let gate = Event::gate(spec, "review-plan", "Is the plan good?");
    /// let event = gate.options(["approve", "reject"]).build();
    /// assert_eq!(event.event.status, Some(spec_notify::Status::Halt));
    /// ```
    pub fn gate(spec: SpecId, step: impl Into<String>, message: impl Into<String>) -> EventBuilder {
        let mut builder = EventBuilder::new(EventKind::PipelineWaiting, spec);
        builder.event.event.status = Some(Status::Halt);
        let gate = json!({"step": step.into(), "message": message.into()});
        builder.pipeline_mut().extra.insert("gate".to_owned(), gate);
        builder
    }

    /// A task became Done. Each is an event of its own, unless it has a key.
    ///
    /// ```
    /// use spec_notify::Event;
    ///
    /// let spec = "SPEC-KIT-065".parse().unwrap();
    /// let event = Event::task(spec, "T12").title("Add webhooks").build();
    /// assert_eq!(event.task.unwrap().id, "T12");
    /// ```
    pub fn task(spec: SpecId, id: impl Into<String>) -> EventBuilder {
        let mut builder = EventBuilder::new(EventKind::TaskCompleted, spec);
        builder.event.task = Some(Task {
            id: id.into(),
            title: None,
            status: Some("Done".to_owned()),
            markers: Vec::new(),
            extra: Map::new(),
        });
        builder
    }

    /// The last open task of a list became Done: so many of so many.
    ///
    /// ```
    /// use spec_notify::Event;
    ///
    /// let event = Event::task_list("SPEC-KIT-065".parse().unwrap(), 12, 12).build();
    /// assert_eq!(event.extra["tasks"]["done"], 12);
    /// ```
    pub fn task_list(spec: SpecId, done: u32, total: u32) -> EventBuilder {
        let builder = EventBuilder::new(EventKind::TaskListCompleted, spec);
        builder.field("tasks", json!({"done": done, "total": total}))
    }
}

impl EventBuilder {
    fn new(kind: EventKind, spec: SpecId) -> Self {
        // Replaced where the event ends up with another one.
        let key = IdempotencyKey::unique(&spec, kind.as_str());
        Self { event: Event::new(kind, spec, key), session: None, has_key: false }
    }

    fn pipeline_mut(&mut self) -> &mut Pipeline {
        self.event.pipeline.get_or_insert_default()
    }

    /// Which session of the host this is of: the part of the key that tells runs apart. It is also
    /// `telemetry.sessionId`. Give each run a session of its own, and each further try of a stage
    /// its [`attempt`](Self::attempt): the same again is a duplicate, and nothing is sent.
    pub fn session(mut self, session: impl Into<String>) -> Self {
        self.session = Some(session.into());
        self
    }

    /// Which event this is, instead of what would follow from the rest.
    pub fn key(mut self, key: IdempotencyKey) -> Self {
        self.event.event.idempotency_key = key;
        self.has_key = true;
        self
    }

    /// Which try of the stage or run this was, from 1.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.pipeline_mut().attempt = Some(attempt);
        self
    }

    /// How many tries the host allows.
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.pipeline_mut().max_attempts = Some(max_attempts);
        self
    }

    /// When the stage or run began.
    pub fn started_at(mut self, at: Timestamp) -> Self {
        self.pipeline_mut().started_at = Some(clock::rfc3339(at));
        self
    }

    /// When it ended.
    pub fn completed_at(mut self, at: Timestamp) -> Self {
        self.pipeline_mut().completed_at = Some(clock::rfc3339(at));
        self
    }

    /// One more reason why the status is not `success`, as a sentence.
    pub fn reason(mut self, reason: impl Into<String>) -> Self {
        self.event.event.reasons.push(reason.into());
        self
    }

    /// The answers that a gate takes.
    pub fn options<T: Into<String>>(mut self, options: impl IntoIterator<Item = T>) -> Self {
        let options: Vec<Value> = options.into_iter().map(|option| Value::String(option.into())).collect();
        if let Some(gate) = self.pipeline_mut().extra.get_mut("gate").and_then(Value::as_object_mut) {
            gate.insert("options".to_owned(), Value::Array(options));
        }
        self
    }

    /// The title of a task.
    pub fn title(mut self, title: impl Into<String>) -> Self {
        let title = title.into();
        self.event.task.iter_mut().for_each(|task| task.title = Some(title.clone()));
        self
    }

    /// What the stage's agents agreed on, in the host's word: `ok`, `degraded`, `conflict`.
    pub fn consensus(mut self, status: impl Into<String>) -> Self {
        self.event.consensus = Some(Consensus { status: Some(status.into()), ..Consensus::default() });
        self
    }

    /// One more file to read, relative to the repo.
    pub fn evidence(mut self, path: impl Into<String>) -> Self {
        let evidence = self.event.evidence.get_or_insert_with(EvidencePaths::default);
        evidence.paths.push(path.into());
        self
    }

    /// The guardrail's telemetry, carried as it is.
    pub fn telemetry(mut self, fields: Map<String, Value>) -> Self {
        self.event.telemetry = Some(Carried::from(fields));
        self
    }

    /// A further field of the payload, carried as it is.
    pub fn field(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.event.extra.insert(name.into(), value.into());
        self
    }

    /// The event. Whether it is within the limits is checked when it is emitted.
    pub fn build(self) -> Event {
        let Self { mut event, session, has_key } = self;
        if let Some(session) = &session {
            let telemetry = event.telemetry.get_or_insert_with(|| Carried::from(Map::new()));
            telemetry.fields_mut().insert("sessionId".to_owned(), session.as_str().into());
        }
        if !has_key {
            let said = event.telemetry.as_ref().and_then(|fields| fields.get("sessionId")?.as_str());
            let step = event.numbered_step();
            let step = step.as_ref().map(|(step, attempt)| (step.as_str(), *attempt));
            let what = event.task.as_ref().map_or(event.event.kind.as_str(), |task| &task.id);
            let made = KeyOrigin::Made { at: clock::exactly(), nonce: clock::nonce() };
            let (key, origin) = key_of(&event.spec.id, step, said, what, made);
            (event.event.idempotency_key, event.event.key_origin) = (key, origin);
        }
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> SpecId {
        "SPEC-KIT-065-add-webhooks".parse().unwrap()
    }

    #[test]
    fn the_key_is_that_of_the_same_event_as_json() {
        let stage = || Event::stage(spec(), Stage::Plan, Status::Success);
        for built in [
            stage().session("s-1").attempt(2).build(),
            stage().attempt(2).build(),
            Event::pipeline(spec(), Status::Halt).session("s-1").build(),
        ] {
            let mut json = serde_json::to_value(&built).unwrap();
            let envelope = json["event"].as_object_mut().unwrap();
            envelope.remove("idempotency_key");
            envelope.remove("key_origin");
            let read = Event::from_json(&json.to_string()).unwrap();
            assert_eq!(read.event.idempotency_key, built.event.idempotency_key);
            let kind = std::mem::discriminant;
            assert_eq!(kind(&read.event.key_origin), kind(&built.event.key_origin));
        }
    }

    #[test]
    fn a_key_that_is_given_stays_and_tasks_without_one_are_told_apart() {
        let key: IdempotencyKey = "mine".parse().unwrap();
        assert_eq!(Event::task(spec(), "T1").key(key.clone()).build().event.idempotency_key, key);
        let task = || Event::task(spec(), "T1").build().event.idempotency_key;
        assert_ne!(task(), task());
    }

    #[test]
    fn what_is_built_is_an_event_of_the_published_shape() {
        for event in [
            Event::gate(spec(), "review", "Good?").options(["yes", "no"]).build(),
            Event::task(spec(), "T1").title("A task").build(),
            Event::task_list(spec(), 2, 2).build(),
            Event::stage(spec(), Stage::Audit, Status::Failure)
                .reason("hal failed")
                .consensus("ok")
                .evidence("docs/a.json")
                .started_at(clock::now())
                .completed_at(clock::now())
                .max_attempts(3)
                .telemetry(Map::new())
                .build(),
        ] {
            event.check_limits().unwrap();
            let json = serde_json::to_string(&event).unwrap();
            let read = Event::from_kept(&json).unwrap();
            assert_eq!(read.event.kind, event.event.kind, "{json}");
        }
    }
}
