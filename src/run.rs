//! Folds a SPEC's stage events into runs: attempts, the end of a run, its cost. Pure decisions,
//! with no clock and no I/O.
//!
//! What an event means is decided once, by [`Run::plan`], and stored in the spool with the event
//! as a [`Step`]; a restart folds the steps and decides nothing anew. Events that follow from a
//! run are owed until they are accepted themselves, so that a stop in between does not lose them.

mod spent;
mod stall;
#[cfg(test)]
mod tests;
mod told;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock;
use crate::event::{Event, EventKind, IdempotencyKey, Pipeline, Stage, Status};
use crate::names::printable;
pub(crate) use spent::{Spent, cost_in};
pub use stall::AwaitedStage;
pub(crate) use stall::{Silences, is_news};
pub(crate) use told::{add_follow_ups, tell_of_stages};

/// Most stages of one run that are kept; of a longer run the last ones are told.
const MAX_STAGES: usize = 100;

/// Most follow-ups in one event; also of what is kept of one stage, and of an end's reasons.
const MAX_FOLLOW_UPS: usize = 50;

/// Most ended runs of a SPEC that wait to be told; they are told as soon as the next one begins.
const MAX_UNTOLD: usize = 100;

/// The operator's settings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct RunPolicy {
    /// `max_stage_attempts`: a stage that fails this often in a run ends it.
    pub max_stage_attempts: u32,
    /// `cost_threshold_usd`: a run that costs this much is an anomaly.
    pub cost_threshold_usd: Option<f64>,
    /// `stall_after_s`: a run that is silent for so long is an anomaly.
    pub stall_after: Option<SignedDuration>,
}

/// The end of one stage in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StageEnd {
    stage: Stage,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    attempt: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    completed_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cost_usd: Option<f64>,
    /// What remains to be done after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    follow_ups: Vec<String>,
}

/// The end of a run, kept until it is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ending {
    status: Status,
    /// The key of the pipeline event.
    key: IdempotencyKey,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

/// A cost above the threshold, kept until it is told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Excess {
    threshold_usd: f64,
    stage: Stage,
    /// The key of the anomaly event.
    key: IdempotencyKey,
}

/// A stage that ended, and its effect on its run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StageStep {
    end: StageEnd,
    /// Whether it is the first stage of a new run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    begins: bool,
    /// When it was seen.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "clock::maybe_millis")]
    seen_at: Option<Timestamp>,
    /// Whether it corrects what was told of the stage, and is no further attempt.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    amends: bool,
    /// The end of the run, if this stage ends it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ends: Option<Ending>,
    /// The cost above the threshold, if this stage exceeds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exceeds: Option<Excess>,
}

/// The effect of one event on its SPEC's run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// A stage ended.
    Stage(Box<StageStep>),
    /// The run's end was told by the event with this key, made by us or by the host. The host's
    /// takes precedence.
    Told(IdempotencyKey),
    /// The run's cost was told.
    CostTold,
    /// The same, of this threshold and of a cost that no stage told.
    CostSeen(f64),
    /// The run goes on: a task became Done.
    Alive(#[serde(with = "clock::millis")] Timestamp),
    /// It was told that the run is silent since then.
    Stalled(#[serde(with = "clock::millis")] Timestamp),
}

impl Step {
    /// Whether a run begins with it.
    #[cfg(feature = "cli")]
    pub(crate) fn begins_run(&self) -> bool {
        matches!(self, Self::Stage(step) if step.begins)
    }

    /// How it ends its run, where it does: the run's end is then told as an event of its own.
    pub(crate) fn ends_run(&self) -> Option<Status> {
        match self {
            Self::Stage(step) => step.ends.as_ref().map(|ending| ending.status),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum State {
    #[default]
    Open,
    /// The run ended, which is still to be told.
    Ending(Ending),
    /// The run ended and was told.
    Ended,
    /// The host told the end before this run reached it: the last stages may still come.
    EndedByHost,
}

/// The current run of a SPEC.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// The run's number, from 1, counted per SPEC.
    number: u32,
    stages: Vec<StageEnd>,
    state: State,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    excess: Option<Excess>,
    /// The threshold that was told last, or is to be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    threshold_told: Option<f64>,
    /// The last sign of life.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "clock::maybe_millis")]
    sign: Option<Timestamp>,
    /// The sign of life after which the run was told to be stalled.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "clock::maybe_millis")]
    stalled: Option<Timestamp>,
    /// When the run before this one ended: what was spent until then is not this one's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Timestamp>,
    /// Earlier runs whose end is still to be told, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    untold: Vec<Run>,
}

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

    /// Where the last end of a stage stands that has this time.
    fn place_of(&self, stage: Stage, completed_at: Option<&String>) -> Option<usize> {
        let is_it = |end: &StageEnd| end.stage == stage && end.completed_at.as_ref() == completed_at;
        self.stages.iter().rposition(is_it)
    }

    /// Whether this stage begins another run.
    fn is_over_for(&self, stage: Stage) -> bool {
        let last = self.stages.iter().map(|end| end.stage).max();
        match self.state {
            State::EndedByHost => last.is_none_or(|last| stage <= last),
            State::Ending(_) | State::Ended => true,
            State::Open => self.number == 0 || (stage == Stage::Plan && last > Some(Stage::Plan)),
        }
    }

    /// The run after this one, begun by `stage`. If `stage` is not the first stage, the last
    /// results of the stages before it are carried over.
    fn next(&self, stage: Stage) -> Self {
        let last = |of: Stage| self.stages.iter().rev().find(|end| end.stage == of);
        let before = Stage::ALL.iter().filter(|earlier| **earlier < stage);
        let carried = before.filter_map(|earlier| last(*earlier)).cloned();
        let mut untold = self.untold.clone();
        if self.owes_its_end() || self.excess.is_some() {
            untold.push(Self { untold: Vec::new(), ..self.clone() });
        }
        if untold.len() > MAX_UNTOLD {
            untold.remove(0);
        }
        let ended = self.stages.iter().rev().find_map(|end| end.completed_at.as_deref()?.parse().ok());
        Self {
            number: self.number.saturating_add(1),
            stages: carried.collect(),
            untold,
            before: ended,
            // What was told before its first stage was seen was told of the first run.
            threshold_told: self.threshold_told.filter(|_| self.number == 0),
            ..Self::default()
        }
    }

    /// Applies a step.
    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Stage(step) => {
                let StageStep { end, begins, seen_at, amends, ends, exceeds } = &**step;
                if *begins {
                    *self = self.next(end.stage);
                }
                self.sign = self.sign.max(*seen_at);
                let corrected = self.place_of(end.stage, end.completed_at.as_ref()).filter(|_| *amends);
                match corrected {
                    Some(place) => self.stages[place] = end.clone(),
                    None => end.clone().add_to(&mut self.stages),
                }
                if let Some(ending) = ends {
                    self.state = State::Ending(ending.clone());
                }
                if let Some(excess) = exceeds {
                    self.threshold_told = Some(excess.threshold_usd);
                    self.excess = Some(excess.clone());
                }
            }
            Step::Told(key) if self.untold.iter().any(|run| run.ends_as(key)) => {
                let told = self.untold.iter_mut().filter(|run| run.ends_as(key));
                told.for_each(|run| run.state = State::Ended);
                self.forget_what_is_told();
            }
            Step::Told(_) => {
                self.number = self.number.max(1);
                self.state = match self.state {
                    State::Ending(_) | State::Ended => State::Ended,
                    State::Open | State::EndedByHost => State::EndedByHost,
                };
            }
            Step::CostSeen(threshold_usd) => self.threshold_told = Some(*threshold_usd),
            Step::Alive(at) => self.sign = self.sign.max(Some(*at)),
            Step::Stalled(since) => self.stalled = Some(*since),
            // They are told one after the other, oldest first.
            Step::CostTold => {
                let earlier = self.untold.iter_mut().find(|run| run.excess.is_some());
                match earlier {
                    Some(run) => run.excess = None,
                    None => self.excess = None,
                }
                self.forget_what_is_told();
            }
        }
    }

    fn forget_what_is_told(&mut self) {
        self.untold.retain(|run| run.owes_its_end() || run.excess.is_some());
    }

    /// Whether nothing has happened yet.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the end of this run is still to be told.
    pub(crate) fn owes_its_end(&self) -> bool {
        matches!(self.state, State::Ending(_))
    }

    fn owes_an_anomaly(&self) -> bool {
        self.excess.is_some() || self.untold.iter().any(|run| run.excess.is_some())
    }

    /// Whether the end of an earlier run is still to be told.
    pub(crate) fn owes_earlier_ends(&self) -> bool {
        self.untold.iter().any(Self::owes_its_end)
    }

    fn ends_as(&self, key: &IdempotencyKey) -> bool {
        matches!(&self.state, State::Ending(ending) if ending.key == *key)
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
fn follow_ups(event: &Event, stage: Stage) -> Vec<String> {
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
