//! What an event means for its SPEC's run, decided once: a stage of it, its end, a cost above the
//! threshold.

use jiff::Timestamp;
use serde_json::Value;

use super::spent::cost_in;
use super::{Ending, Excess, MAX_FOLLOW_UPS, MAX_STAGES, Run, RunPolicy, StageEnd, StageStep, State, Step};
use crate::event::{Event, EventKind, IdempotencyKey, Pipeline, Stage, Status};
use crate::names::printable;

impl Run {
    /// The effect of an event that was seen `at`, if it concerns a run. Fills in the attempt of a
    /// stage event that has none. A workflow run is none of these: its own log says when it ends.
    pub(crate) fn plan(&self, event: &mut Event, policy: &RunPolicy, at: Timestamp) -> Option<Step> {
        if event.is_of_a_workflow_run() {
            let pipeline = event.pipeline.get_or_insert_with(Pipeline::default);
            // Its source has counted; an emitter may not have.
            pipeline.attempt.get_or_insert(1);
            return None;
        }
        match (event.event.kind, event.event.stage) {
            (EventKind::StageCompleted, Some(stage)) if event.event.amends.is_some() => {
                self.plan_correction(event, stage, policy, at)
            }
            (EventKind::StageCompleted, Some(stage)) => Some(self.plan_stage(event, stage, policy, at)),
            (EventKind::PipelineCompleted, _) => Some(Step::Told(event.event.idempotency_key.clone())),
            (EventKind::CostThreshold, _) if self.owes_an_anomaly() => Some(Step::CostTold),
            (EventKind::CostThreshold, _) => policy.cost_threshold_usd.map(Step::CostSeen),
            (EventKind::TaskCompleted, _) => self.last_sign().map(|_| Step::Alive(at)),
            (EventKind::Stalled, _) => {
                let since = event.extra.get("anomaly")?.get("since")?.as_str()?;
                since.parse().ok().map(Step::Stalled)
            }
            _ => None,
        }
    }

    fn plan_stage(&self, event: &mut Event, stage: Stage, policy: &RunPolicy, at: Timestamp) -> Step {
        let begins = self.is_over_for(stage);
        let next;
        let run = match begins {
            true => {
                next = self.next(stage);
                &next
            }
            false => self,
        };
        let pipeline = event.pipeline.get_or_insert_with(Pipeline::default);
        let earlier = run.stages.iter().filter(|end| end.stage == stage).count();
        let counted = u32::try_from(earlier).unwrap_or(u32::MAX).saturating_add(1);
        let attempt = *pipeline.attempt.get_or_insert(counted);
        pipeline.max_attempts.get_or_insert(policy.max_stage_attempts);
        let end = StageEnd::of(event, stage, attempt);
        let cost = run.cost().into_iter().chain(end.cost_usd).reduce(|sum, cost| sum + cost);
        let exceeded = policy.cost_threshold_usd.filter(|threshold| {
            cost.is_some_and(|cost| cost >= *threshold) && run.threshold_told != Some(*threshold)
        });
        let exceeds = exceeded.and_then(|threshold_usd| {
            let of = printable(event.event.idempotency_key.as_str(), 440);
            let key = format!("{of}:cost-threshold-{threshold_usd}").parse().ok()?;
            Some(Excess { threshold_usd, stage, key })
        });
        let status = end_of_run(stage, event.event.status, attempt, policy);
        let ends =
            status.filter(|_| run.state == State::Open).map(|status| Ending::of(event, status, run.number));
        let seen_at = Some(at);
        Step::Stage(Box::new(StageStep { end, begins, seen_at, amends: false, ends, exceeds }))
    }

    /// The effect of a stage told again with another status: on the stage as it stands in the
    /// run, and on the run only while nothing came after that stage and no end was told. Says
    /// which attempt it is.
    fn plan_correction(
        &self,
        event: &mut Event,
        stage: Stage,
        policy: &RunPolicy,
        at: Timestamp,
    ) -> Option<Step> {
        let pipeline = event.pipeline.get_or_insert_with(Pipeline::default);
        pipeline.max_attempts.get_or_insert(policy.max_stage_attempts);
        let place = self.place_of(stage, pipeline.completed_at.as_ref());
        pipeline.attempt.get_or_insert(place.map_or(1, |place| self.stages[place].attempt));
        let place = place?;
        let was = &self.stages[place];
        let end =
            StageEnd { status: event.event.status, follow_ups: follow_ups(event, stage), ..was.clone() };
        let is_last = place + 1 == self.stages.len() && !event.event.is_followed;
        let halts = event.event.status == Some(Status::Halt) && is_last;
        let ends = match &self.state {
            State::Open if halts => Some(Ending::of(event, Status::Halt, self.number)),
            // What is to be told of the run's end is told under the key it has.
            State::Ending(ending) if halts => {
                let key = ending.key.clone();
                Some(Ending { key, ..Ending::of(event, Status::Halt, self.number) })
            }
            State::Open | State::Ending(_) | State::Ended | State::EndedByHost => None,
        };
        let step = StageStep { end, begins: false, seen_at: Some(at), amends: true, ends, exceeds: None };
        Some(Step::Stage(Box::new(step)))
    }

    /// Makes an event of a cost that no stage told the one of this run. False where there is
    /// nothing to tell: the threshold was told of this run already, or the cost was `written`
    /// before it.
    pub(crate) fn takes_alert(&self, event: &mut Event, policy: &RunPolicy, written: Timestamp) -> bool {
        if self.before.is_some_and(|before| written <= before) {
            return false;
        }
        let is_new = |usd: &f64| self.threshold_told != Some(*usd);
        let Some(threshold_usd) = policy.cost_threshold_usd.filter(is_new) else {
            return false;
        };
        let number = self.number.max(1);
        let run = IdempotencyKey::of_step(&event.spec.id, "pipeline", number, None);
        let Ok(key) = format!("{run}:cost-threshold-{threshold_usd}").parse() else { return false };
        event.event.idempotency_key = key;
        if let Some(Value::Object(anomaly)) = event.extra.get_mut("anomaly") {
            anomaly.insert("run".to_owned(), number.into());
        }
        true
    }

    /// Whether this stage begins another run.
    pub(super) fn is_over_for(&self, stage: Stage) -> bool {
        let last = self.stages.iter().map(|end| end.stage).max();
        match self.state {
            State::EndedByHost => last.is_none_or(|last| stage <= last),
            State::Ending(_) | State::Ended => true,
            State::Open => self.number == 0 || (stage == Stage::Plan && last > Some(Stage::Plan)),
        }
    }

    fn owes_an_anomaly(&self) -> bool {
        self.excess.is_some() || self.untold.iter().any(|run| run.excess.is_some())
    }
}

impl StageEnd {
    /// What an event tells of the end of a stage.
    pub(crate) fn of(event: &Event, stage: Stage, attempt: u32) -> Self {
        let pipeline = event.pipeline.as_ref();
        Self {
            stage,
            status: event.event.status,
            attempt,
            started_at: pipeline.and_then(|pipeline| pipeline.started_at.clone()),
            completed_at: pipeline.and_then(|pipeline| pipeline.completed_at.clone()),
            cost_usd: event.telemetry.as_deref().and_then(cost_in),
            follow_ups: follow_ups(event, stage),
        }
    }

    /// Adds it to the stages of its run. Only what the last attempt left to do is told.
    pub(crate) fn add_to(self, stages: &mut Vec<Self>) {
        let earlier = stages.iter_mut().filter(|earlier| earlier.stage == self.stage);
        earlier.for_each(|earlier| earlier.follow_ups.clear());
        stages.push(self);
        if stages.len() > MAX_STAGES {
            stages.remove(0);
        }
    }
}

impl Ending {
    /// The end of run `number` with the stage that an event tells of.
    fn of(event: &Event, status: Status, number: u32) -> Self {
        let reasons = event.event.reasons.iter().take(MAX_FOLLOW_UPS).map(|it| printable(it, 1000));
        Self {
            status,
            key: IdempotencyKey::of_step(&event.spec.id, "pipeline", number, session_of(event)),
            branch: event.spec.branch.clone(),
            source: event.source.as_ref().map(|source| Box::new(source.in_short())),
            reasons: if status == Status::Success { Vec::new() } else { reasons.collect() },
        }
    }
}

/// The status with which a stage's end ends its run; `None` if the run goes on.
fn end_of_run(stage: Stage, status: Option<Status>, attempt: u32, policy: &RunPolicy) -> Option<Status> {
    match status? {
        Status::Success => (stage == Stage::Unlock).then_some(Status::Success),
        Status::Failure => (attempt >= policy.max_stage_attempts).then_some(Status::Failure),
        Status::Halt => Some(Status::Halt),
    }
}

/// The session of a stage, as its key has it: a source may add to `sessionId` what makes it one of
/// its own, and a version of it has its time behind.
fn session_of(event: &Event) -> Option<&str> {
    let telemetry = event.telemetry.as_ref()?;
    let of_stage = event.event.amends.as_ref().unwrap_or(&event.event.idempotency_key);
    let numbered = of_stage.as_str().split_once(":attempt-");
    let in_key = numbered.and_then(|(_, rest)| rest.split_once(':')).map(|(_, session)| session);
    let Some(given) = telemetry.get("sessionId").and_then(Value::as_str) else {
        // Broken telemetry: its session stands in its name alone.
        return in_key.filter(|_| telemetry.contains_key("error"));
    };
    let added = in_key.and_then(|session| {
        let at = session.find(&format!("_{given}"))?;
        session.get(..at + 1 + given.len())
    });
    added.or(Some(given))
}

/// What remains to be done after a stage: the reasons why it did not succeed, and a missing
/// consensus.
pub(super) fn follow_ups(event: &Event, stage: Stage) -> Vec<String> {
    let mut found: Vec<String> = match event.event.status {
        Some(Status::Success) | None => Vec::new(),
        Some(_) => {
            event.event.reasons.iter().map(|reason| format!("{stage}: {}", printable(reason, 300))).collect()
        }
    };
    let verdict = event.consensus.as_ref().and_then(|consensus| consensus.status.as_deref());
    if let Some(verdict @ ("hold" | "conflict" | "degraded")) = verdict {
        found.push(format!("{stage}: the consensus is {verdict}"));
    }
    found.truncate(MAX_FOLLOW_UPS);
    found
}
