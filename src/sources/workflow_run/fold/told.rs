//! What a run tells, as events.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::facts::Gate;
use super::super::line::Step;
use super::{Asked, Fold, MAX_TEXT, World};
use crate::clock;
use crate::event::{Event, EventKind, EvidencePaths, IdempotencyKey, Pipeline, Stage, Status};
use crate::names::printable;
use crate::run::{StageEnd, tell_of_stages};

/// Most options of a gate that are told.
const MAX_OPTIONS: usize = 20;

/// A stage's end, as it is told.
pub(super) struct Ended<'a> {
    pub(super) step: &'a Step,
    pub(super) stage: Stage,
    pub(super) status: Status,
    pub(super) reason: Option<String>,
    pub(super) began: Option<Timestamp>,
    pub(super) at: Option<Timestamp>,
}

impl Fold {
    fn event(&self, kind: EventKind, status: Status, key: IdempotencyKey, at: Timestamp) -> Event {
        let mut event = Event::of_source(kind, self.spec().clone(), key, clock::in_milliseconds(at));
        event.event.status = Some(status);
        let mut evidence = EvidencePaths::default();
        evidence.paths.push(self.run.log());
        event.evidence = Some(evidence);
        event
    }

    fn pipeline(
        &self,
        attempt: u32,
        began: Option<Timestamp>,
        ended: Option<Timestamp>,
        step: Option<&Step>,
        world: &World<'_>,
    ) -> Pipeline {
        let mut run = json!({"id": self.run.id});
        if !self.run.folder.is_empty() {
            run["folder"] = printable(&self.run.folder, 200).into();
        }
        if let Some(workflow) = world.facts.workflow_id() {
            run["workflow"] = printable(workflow, 200).into();
        }
        if let Some(step) = step {
            run["step"] = printable(&step.id, 200).into();
        }
        let mut pipeline = Pipeline { attempt: Some(attempt), ..Pipeline::default() };
        pipeline.started_at = began.map(written);
        pipeline.completed_at = ended.map(written);
        pipeline.extra.insert("run".to_owned(), run);
        pipeline
    }

    pub(super) fn stage(&mut self, ended: Ended<'_>, world: &World<'_>) -> Event {
        let Ended { step, stage, status, reason, began, at } = ended;
        let attempt = self.attempts.entry(stage).or_default();
        *attempt = attempt.saturating_add(1);
        let attempt = *attempt;
        let key = IdempotencyKey::of_step(self.spec(), &stage.slug(), attempt, Some(&self.run.in_key()));
        let mut event = self.event(EventKind::StageCompleted, status, key, at.unwrap_or(world.now));
        event.event.stage = Some(stage);
        event.event.reasons.extend(reason.map(|reason| printable(reason.trim(), MAX_TEXT)));
        event.pipeline = Some(self.pipeline(attempt, began, at, Some(step), world));
        StageEnd::of(&event, stage, attempt).add_to(&mut self.stages);
        event
    }

    /// A gate that waits for a person.
    pub(super) fn waiting(&self, asked: &Asked, is_paused: bool, world: &World<'_>) -> Event {
        let Asked { step, n, at, since, .. } = asked;
        let Gate { message, options, show_file, .. } = world.facts.gate(step, is_paused);
        let name = printable(&step.id, 100);
        let key = IdempotencyKey::of_wait(self.spec(), &format!("gate-{}", step.id), *n, &self.run.in_key());
        let mut event = self.event(EventKind::PipelineWaiting, Status::Halt, key, at.unwrap_or(*since));
        event.event.reasons.push(format!("the run waits for a person at gate {name}"));
        let mut gate = json!({"step": name});
        let cut = |text: String| Value::from(text.chars().take(MAX_TEXT).collect::<String>());
        if let Some(message) = message {
            gate["message"] = cut(message);
        }
        if !options.is_empty() {
            gate["options"] = options.into_iter().take(MAX_OPTIONS).map(cut).collect();
        }
        if let Some(show_file) = show_file {
            gate["showFile"] = cut(show_file);
        }
        let mut pipeline = self.pipeline(*n, *at, None, Some(step), world);
        pipeline.extra.insert("gate".to_owned(), gate);
        event.pipeline = Some(pipeline);
        event
    }

    /// The run waits, and no gate asks for anything.
    pub(super) fn interrupted(&mut self, why: String, at: Option<Timestamp>, world: &World<'_>) -> Event {
        self.interruptions = self.interruptions.saturating_add(1);
        let n = self.interruptions;
        let key = IdempotencyKey::of_wait(self.spec(), "interrupted", n, &self.run.in_key());
        let mut event = self.event(EventKind::PipelineWaiting, Status::Halt, key, at.unwrap_or(world.now));
        event.event.reasons.push(why);
        let began = self.begun.iter().max_by_key(|(step, begun)| (begun.at, step.id.clone()));
        event.pipeline = Some(self.pipeline(n, at, None, began.map(|(step, _)| step), world));
        self.leg_is_over();
        event
    }

    /// A run that goes on and shows no sign of life since then.
    pub(in super::super) fn stalled(&self, since: Timestamp, world: &World<'_>) -> Event {
        let since = clock::in_milliseconds(since);
        let key = IdempotencyKey::of_stall(self.spec(), &clock::rfc3339(since), &self.run.in_key());
        let mut event = Event::new(EventKind::Stalled, self.spec().clone(), key);
        let last = self.begun.iter().max_by_key(|(step, begun)| (begun.at, step.id.clone()));
        let step = last.map(|(step, _)| step);
        event.event.stage = step.and_then(|step| world.facts.stage(step)).flatten();
        event.pipeline = Some(self.pipeline(self.ends.saturating_add(1), self.began, None, step, world));
        let place = match self.run.folder.as_str() {
            "" => String::new(),
            folder => format!(", in {},", printable(folder, 200)),
        };
        // Of a run that was killed the engine believes that it runs, and resumes none that does.
        let hint = format!(
            "look whether the run still works; Ctrl-C at its terminal stops it, and then `specify workflow \
             resume {}`{place} goes on where it stood; where it was killed, that is refused until \"status\" \
             in its state.json is \"paused\"; alerts.stall_after_s says how long a run may be silent",
            printable(&self.run.id, 120)
        );
        event.extra.insert("anomaly".to_owned(), json!({"since": clock::rfc3339(since), "hint": hint}));
        event
    }

    pub(super) fn end(
        &mut self,
        status: Status,
        reasons: Vec<String>,
        at: Option<Timestamp>,
        world: &World<'_>,
    ) -> Event {
        self.ends = self.ends.saturating_add(1);
        let key = IdempotencyKey::of_step(self.spec(), "pipeline", self.ends, Some(&self.run.in_key()));
        let mut event = self.event(EventKind::PipelineCompleted, status, key, at.unwrap_or(world.now));
        event.event.reasons = reasons;
        let step = self.troubles.first().map(|(step, _)| step).filter(|_| status != Status::Success);
        event.pipeline = Some(self.pipeline(self.ends, self.began, at, step, world));
        tell_of_stages(&mut event, &self.stages);
        self.leg_is_over();
        event
    }
}

fn written(at: Timestamp) -> String {
    clock::rfc3339(clock::in_milliseconds(at))
}
