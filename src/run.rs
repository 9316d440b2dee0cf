//! Folds a SPEC's stage events into runs: attempts, the end of a run, its cost. Pure decisions,
//! with no clock and no I/O.
//!
//! What an event means is decided once, by [`Run::plan`], and stored in the spool with the event
//! as a [`Step`]; a restart folds the steps and decides nothing anew. Events that follow from a
//! run are owed until they are accepted themselves, so that a stop in between does not lose them.

mod spent;
mod stall;
mod told;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock;
use crate::event::{Event, EventKind, IdempotencyKey, Pipeline, Stage, Status};
use crate::names::printable;
pub(crate) use spent::Spent;
use spent::cost_in;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::SpecId;
    use proptest::prelude::*;
    use serde_json::json;

    const POLICY: RunPolicy =
        RunPolicy { max_stage_attempts: 3, cost_threshold_usd: Some(5.0), stall_after: None };

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn spec() -> SpecId {
        "SPEC-KIT-065-x".parse().unwrap()
    }

    fn stage(stage: Stage, status: Status, minute: u32, telemetry: &Value) -> Event {
        let session = format!("s{minute}");
        let key = IdempotencyKey::of_step(&spec(), &stage.slug(), 1, Some(&session));
        let mut event = Event::new(EventKind::StageCompleted, spec(), key);
        (event.event.stage, event.event.status) = (Some(stage), Some(status));
        if status != Status::Success {
            event.event.reasons = vec!["scenario `a` is failed".to_owned()];
        }
        let at = format!("2025-10-14T10:{minute:02}:00Z");
        event.pipeline = Some(Pipeline { completed_at: Some(at), ..Pipeline::default() });
        let mut fields = telemetry.as_object().cloned().unwrap_or_default();
        fields.insert("sessionId".to_owned(), session.into());
        event.telemetry = Some(fields.into());
        event
    }

    #[test]
    fn a_workflow_run_is_none_of_these() {
        let mut run = Run::default();
        let mut plan = stage(Stage::Plan, Status::Failure, 1, &Value::Null);
        let step = run.plan(&mut plan, &POLICY, NOW).unwrap();
        run.take(&step);
        let before = run.clone();
        for (kind, of) in [
            (EventKind::StageCompleted, Some(Stage::Unlock)),
            (EventKind::StageCompleted, Some(Stage::Plan)),
            (EventKind::PipelineWaiting, None),
            (EventKind::PipelineCompleted, None),
        ] {
            let mut event = Event::new(kind, spec(), "k".parse().unwrap());
            (event.event.stage, event.event.status) = (of, Some(Status::Halt));
            let mut pipeline = Pipeline { attempt: Some(9), ..Pipeline::default() };
            pipeline.extra.insert("run".to_owned(), json!({"id": "6f9a3c73"}));
            event.pipeline = Some(pipeline);
            assert_eq!(run.plan(&mut event, &POLICY, NOW), None);
            assert_eq!(event.pipeline.unwrap().max_attempts, None);
        }
        assert_eq!(run, before);
    }

    #[test]
    fn a_cost_that_was_not_told_yet_is_told_after_the_next_run_has_begun() {
        let mut run = Run::default();
        let take = |run: &mut Run, mut event: Event| {
            run.plan(&mut event, &POLICY, NOW).inspect(|step| run.take(step))
        };
        take(&mut run, stage(Stage::Plan, Status::Success, 1, &json!({"cost_usd": 6.0})));
        take(&mut run, stage(Stage::Tasks, Status::Success, 2, &json!({})));
        take(&mut run, stage(Stage::Plan, Status::Success, 3, &json!({"cost_usd": 7.0})));
        for (number, total) in [(1, 6.0), (2, 7.0)] {
            let anomaly = run.owed_anomaly(&spec()).unwrap();
            assert_eq!(
                (&anomaly.extra["anomaly"]["run"], &anomaly.extra["cost"]["totalUsd"]),
                (&json!(number), &json!(total))
            );
            take(&mut run, anomaly);
        }
        assert_eq!((run.owed_anomaly(&spec()), run.untold.len()), (None, 0));
    }

    #[test]
    fn a_run_ends_under_the_session_that_its_last_stage_has_in_its_key() {
        let ends_as = |key: &str| {
            let mut event = stage(Stage::Unlock, Status::Success, 1, &json!({}));
            event.event.idempotency_key = key.parse().unwrap();
            let mut run = Run::default();
            let step = run.plan(&mut event, &POLICY, NOW).unwrap();
            run.take(&step);
            let now = "2025-10-14T11:00:00Z".parse().unwrap();
            run.owed_ends(&spec(), &[], None, now)[0].event.idempotency_key.to_string()
        };
        for (key, session) in [
            ("SPEC-KIT-065:unlock:attempt-1:s1", "s1"),
            ("SPEC-KIT-065:unlock:attempt-1:2025-10-14T10-01-00Z_s1", "2025-10-14T10-01-00Z_s1"),
            ("SPEC-KIT-065:unlock:attempt-1:s1:2025-10-14T10:01:00Z", "s1"),
            ("SPEC-KIT-065:unlock:attempt-1", "s1"),
            ("a key of the host's own", "s1"),
        ] {
            assert_eq!(ends_as(key), format!("SPEC-KIT-065:pipeline:attempt-1:{session}"), "{key}");
        }
    }

    /// The stage of `of` told again, as a `halt`.
    fn correction(of: &Event) -> Event {
        let mut again = of.clone();
        let key = &of.event.idempotency_key;
        again.event.amends = Some(key.clone());
        again.event.idempotency_key = format!("{key}:consensus-run_1").parse().unwrap();
        again.event.status = Some(Status::Halt);
        again.event.reasons = vec!["the consensus is a conflict".to_owned()];
        again
    }

    #[test]
    fn a_correction_ends_the_run_while_nothing_came_after_its_stage_and_is_no_attempt() {
        let plan = stage(Plan, Success, 0, &json!({}));
        let mut run = Run::default();
        apply(&mut run, plan.clone());
        let (attempt, owed) = apply(&mut run, correction(&plan));
        assert_eq!((attempt, owed[0].event.status), (1, Some(Halt)));
        assert_eq!(owed[0].event.idempotency_key.as_str(), "SPEC-KIT-065:pipeline:attempt-1:s0");
        assert_eq!(told(&owed[0]), named(&[(Plan, 1)]));
        assert_eq!(owed[0].extra["followUps"], json!(["Plan: the consensus is a conflict"]));
        // A later stage has begun: the run goes on, and its end says what is left to do.
        let mut run = Run::default();
        apply(&mut run, plan.clone());
        apply(&mut run, stage(Tasks, Success, 1, &json!({})));
        assert_eq!(apply(&mut run, correction(&plan)), (1, vec![]));
        let (_, owed) = apply(&mut run, stage(Unlock, Success, 2, &json!({})));
        assert_eq!(owed[0].event.status, Some(Success));
        assert_eq!(owed[0].pipeline.as_ref().unwrap().extra["stages"][0]["status"], "halt");
        assert_eq!(owed[0].extra["followUps"], json!(["Plan: the consensus is a conflict"]));
        // The end was told: it stays what it was.
        let unlock = stage(Unlock, Success, 2, &json!({}));
        assert_eq!(apply(&mut run, correction(&unlock)).1, vec![]);
        // Of a stage that no run has.
        let mut none = Run::default();
        assert_eq!(none.plan(&mut correction(&plan), &POLICY, NOW), None);
        assert_eq!(apply(&mut none, stage(Plan, Success, 3, &json!({}))), (1, vec![]));
    }

    #[test]
    fn a_correction_of_the_last_stage_turns_an_end_that_is_not_told_yet() {
        let unlock = stage(Unlock, Success, 2, &json!({}));
        let mut run = Run::default();
        for event in [unlock.clone(), correction(&unlock)] {
            let step = run.plan(&mut event.clone(), &POLICY, NOW).unwrap();
            run.take(&step);
        }
        let owed = run.owed_ends(&spec(), &[], None, Timestamp::UNIX_EPOCH);
        let keys: Vec<_> = owed.iter().map(|event| event.event.idempotency_key.to_string()).collect();
        assert_eq!(
            (keys, owed[0].event.status),
            (vec!["SPEC-KIT-065:pipeline:attempt-1:s2".to_owned()], Some(Halt))
        );
    }

    fn spent(total_usd: f64, at: &str) -> Spent {
        let per_stage = [("Plan".to_owned(), total_usd.into())].into_iter().collect();
        Spent { total_usd, budget_usd: Some(2.0), per_stage, at: at.parse().unwrap() }
    }

    #[test]
    fn the_end_has_what_the_host_says_that_was_spent_since_the_run_before() {
        let mut run = Run::default();
        let end = |run: &mut Run, of: Event, spent: &Spent| {
            let step = run.plan(&mut of.clone(), &POLICY, NOW).unwrap();
            run.take(&step);
            let mut owed = run.owed_ends(&spec(), &[], Some(spent), Timestamp::UNIX_EPOCH);
            let step = run.plan(&mut owed[0], &POLICY, NOW).unwrap();
            run.take(&step);
            owed[0].extra.get("cost").cloned()
        };
        let first = spent(3.5, "2025-10-14T10:20:00Z");
        let cost = end(&mut run, stage(Unlock, Success, 10, &json!({"cost_usd": 1.0})), &first);
        assert_eq!(cost, Some(json!({"totalUsd": 3.5, "budgetUsd": 2.0, "perStage": {"Plan": 3.5}})));
        // The file is that of the run before.
        let old = spent(3.5, "2025-10-14T10:09:00Z");
        let cost = end(&mut run, stage(Unlock, Success, 40, &json!({"cost_usd": 1.0})), &old);
        assert_eq!(cost, Some(json!({"totalUsd": 1.0})));
        let cost = end(&mut run, stage(Unlock, Success, 50, &json!({})), &old);
        assert_eq!(cost, None);
    }

    #[test]
    fn a_cost_that_the_host_sums_up_is_told_once_a_run() {
        let mut run = Run::default();
        let alert = |run: &mut Run| {
            let mut event = Event::new(EventKind::CostThreshold, spec(), "k".parse().unwrap());
            event.extra.insert("anomaly".to_owned(), json!({"thresholdUsd": 5.0}));
            let takes = run.takes_alert(&mut event, &POLICY, clock::now());
            if takes {
                let step = run.plan(&mut event, &POLICY, NOW).unwrap();
                run.take(&serde_json::from_str(&serde_json::to_string(&step).unwrap()).unwrap());
            }
            takes.then(|| (event.event.idempotency_key.to_string(), event.extra["anomaly"]["run"].clone()))
        };
        let key = |number| format!("SPEC-KIT-065-x:pipeline:attempt-{number}:cost-threshold-5");
        assert_eq!(alert(&mut run), Some((key(1), json!(1))));
        assert_eq!(alert(&mut run), None);
        // Its first stage is seen later, and costs as much.
        assert_eq!(apply(&mut run, stage(Plan, Success, 0, &json!({"cost_usd": 6.0}))).1, vec![]);
        assert_eq!(alert(&mut run), None);
        apply(&mut run, stage(Unlock, Success, 1, &json!({})));
        apply(&mut run, stage(Plan, Success, 2, &json!({})));
        assert_eq!(alert(&mut run), Some((key(2), json!(2))));
        assert!(!run.takes_alert(
            &mut Event::new(EventKind::CostThreshold, spec(), "k".parse().unwrap()),
            &RunPolicy { cost_threshold_usd: None, ..POLICY },
            clock::now()
        ));
    }

    #[test]
    fn a_run_that_goes_on_and_is_silent_is_told_once_until_it_shows_life() {
        let at = |minute: i64| Timestamp::from_second(1_760_000_000 + 60 * minute).unwrap();
        let after = SignedDuration::from_mins(30);
        let mut run = Run::default();
        let take = |run: &mut Run, mut event: Event, minute| {
            let step = run.plan(&mut event, &POLICY, at(minute)).unwrap();
            run.take(&serde_json::from_str(&serde_json::to_string(&step).unwrap()).unwrap());
        };
        let stalled = |run: &Run, minute| run.stalled(&spec(), run.last_sign()?, after, at(minute));
        assert_eq!(stalled(&run, 1000), None, "nothing began");
        take(&mut run, stage(Plan, Success, 0, &json!({})), 0);
        assert_eq!((stalled(&run, 29), stalled(&run, 24 * 60 + 31)), (None, None), "not yet, and no news");
        let event = stalled(&run, 30).unwrap();
        let key = "SPEC-KIT-065-x:pipeline:attempt-1:stalled-2025-10-09T08:53:20.000Z";
        assert_eq!(event.event.idempotency_key.as_str(), key);
        assert_eq!((event.event.stage, &event.extra["anomaly"]["run"]), (Some(Plan), &json!(1)));
        take(&mut run, event, 30);
        assert_eq!(stalled(&run, 60), None, "told");
        // A task became Done, and it is silent again.
        let task = Event::new(EventKind::TaskCompleted, spec(), "t".parse().unwrap());
        take(&mut run, task.clone(), 70);
        assert_eq!((stalled(&run, 99), stalled(&run, 100).is_some()), (None, true));
        // A file that it left.
        assert!(run.stalled(&spec(), at(95), after, at(100)).is_none());
        take(&mut run, stage(Unlock, Success, 3, &json!({})), 101);
        assert_eq!(stalled(&run, 200), None, "it ended");
        assert_eq!(run.plan(&mut task.clone(), &POLICY, at(201)), None);
    }

    #[test]
    fn what_is_kept_of_a_stage_is_bounded_however_much_it_says() {
        let mut run = Run::default();
        for minute in 0..3 {
            let mut event = stage(Stage::Validate, Status::Failure, minute, &json!({}));
            event.event.reasons = vec!["x".repeat(2_000); 5_000];
            let step = run.plan(&mut event, &POLICY, NOW).unwrap();
            run.take(&step);
        }
        assert!(run.owes_its_end());
        let bytes = serde_json::to_vec(&run).unwrap().len();
        assert!(bytes < 128 * 1024, "{bytes}");
    }

    /// Applies an event as the Router and the spool do. Returns its attempt and the events owed
    /// then, which are told at once.
    fn apply(run: &mut Run, mut event: Event) -> (u32, Vec<Event>) {
        let step = run.plan(&mut event, &POLICY, NOW).unwrap();
        let attempt = event.pipeline.and_then(|pipeline| pipeline.attempt).unwrap_or(0);
        // As after a restart: only what the spool stores is left.
        run.take(&serde_json::from_str(&serde_json::to_string(&step).unwrap()).unwrap());
        *run = serde_json::from_str(&serde_json::to_string(run).unwrap()).unwrap();
        let ends = run.owed_ends(&spec(), &[], None, Timestamp::UNIX_EPOCH);
        let owed: Vec<Event> = run.owed_anomaly(&spec()).into_iter().chain(ends).collect();
        for mut event in owed.clone() {
            let step = run.plan(&mut event, &POLICY, NOW).unwrap();
            run.take(&step);
        }
        assert_eq!((run.owed_anomaly(&spec()), run.owes_its_end()), (None, false), "told once");
        (attempt, owed)
    }

    use Stage::{Audit, Implement, Plan, Tasks, Unlock, Validate};
    use Status::{Failure, Halt, Success};

    fn told(event: &Event) -> Vec<(String, u64)> {
        let stages = event.pipeline.as_ref().unwrap().extra["stages"].as_array().unwrap();
        let told =
            |one: &Value| (one["stage"].as_str().unwrap().to_owned(), one["attempt"].as_u64().unwrap());
        stages.iter().map(told).collect()
    }

    fn named(stages: &[(Stage, u64)]) -> Vec<(String, u64)> {
        stages.iter().map(|(stage, attempt)| (stage.to_string(), *attempt)).collect()
    }

    #[test]
    fn a_run_ends_with_its_unlock_and_is_told_as_a_whole() {
        let mut run = Run::default();
        assert_eq!(apply(&mut run, stage(Plan, Success, 0, &json!({"cost_usd": 1.5}))), (1, vec![]));
        assert_eq!(apply(&mut run, stage(Validate, Failure, 10, &json!({"cost": {"totalUsd": 0.25}}))).0, 1);
        assert_eq!(apply(&mut run, stage(Validate, Success, 20, &json!({}))), (2, vec![]));
        let (_, mut owed) = apply(&mut run, stage(Unlock, Success, 45, &json!({})));
        let event = owed.pop().unwrap();
        assert!(owed.is_empty());
        assert_eq!(event.event.status, Some(Success));
        assert_eq!(event.event.idempotency_key.as_str(), "SPEC-KIT-065:pipeline:attempt-1:s45");
        assert_eq!(event.pipeline.as_ref().unwrap().extra["durationMs"], 45 * 60 * 1000);
        assert_eq!(told(&event), named(&[(Plan, 1), (Validate, 1), (Validate, 2), (Unlock, 1)]));
        assert_eq!(event.extra["cost"], json!({"totalUsd": 1.75}));
        assert!(!event.extra.contains_key("followUps"), "what failed was mended");
        // The next Plan begins the next run.
        assert_eq!(apply(&mut run, stage(Plan, Success, 50, &json!({}))).0, 1);
        let (_, owed) = apply(&mut run, stage(Unlock, Success, 55, &json!({})));
        assert_eq!(owed[0].event.idempotency_key.as_str(), "SPEC-KIT-065:pipeline:attempt-2:s55");
        assert_eq!(told(&owed[0]), named(&[(Plan, 1), (Unlock, 1)]));
    }

    #[test]
    fn a_run_ends_with_a_halt_or_the_last_allowed_failure_and_the_next_may_go_on_from_there() {
        let mut run = Run::default();
        apply(&mut run, stage(Plan, Success, 0, &json!({})));
        for minute in [1, 2] {
            assert!(apply(&mut run, stage(Tasks, Failure, minute, &json!({}))).1.is_empty());
        }
        let (attempt, owed) = apply(&mut run, stage(Tasks, Failure, 3, &json!({})));
        assert_eq!((attempt, owed[0].event.status), (3, Some(Failure)));
        assert_eq!(owed[0].extra["followUps"], json!(["Tasks: scenario `a` is failed"]));
        let (attempt, owed) = apply(&mut run, stage(Tasks, Halt, 4, &json!({})));
        assert_eq!((attempt, owed[0].event.status), (1, Some(Halt)), "a new run, which halts");
        for (minute, of) in (5..).zip([Tasks, Implement, Validate, Audit]) {
            assert_eq!(apply(&mut run, stage(of, Success, minute, &json!({}))), (1, vec![]));
        }
        let (_, owed) = apply(&mut run, stage(Unlock, Success, 9, &json!({})));
        let all = [Plan, Tasks, Implement, Validate, Audit, Unlock].map(|stage| (stage, 1));
        assert_eq!(told(&owed[0]), named(&all), "it stands on the plan of the run before");
        assert_eq!(owed[0].pipeline.as_ref().unwrap().attempt, Some(3));
    }

    #[test]
    fn the_hosts_own_pipeline_event_ends_the_run_and_its_last_stage_may_come_late() {
        let own = || Event::new(EventKind::PipelineCompleted, spec(), "own".parse().unwrap());
        let mut run = Run::default();
        apply(&mut run, stage(Plan, Success, 0, &json!({})));
        assert!(apply(&mut run, own()).1.is_empty());
        assert_eq!(
            apply(&mut run, stage(Unlock, Success, 45, &json!({}))),
            (1, vec![]),
            "it is told already"
        );
        // If ours is still owed, the host's takes precedence.
        let mut run = Run::default();
        let step = run.plan(&mut stage(Unlock, Success, 45, &json!({})), &POLICY, NOW).unwrap();
        run.take(&step);
        assert!(run.owes_its_end());
        let step = run.plan(&mut own(), &POLICY, NOW).unwrap();
        run.take(&step);
        assert!(!run.owes_its_end());
    }

    #[test]
    fn the_next_run_may_begin_before_an_end_is_told() {
        let mut run = Run::default();
        for minute in 0..3 {
            let step = run.plan(&mut stage(Unlock, Success, minute, &json!({})), &POLICY, NOW).unwrap();
            run.take(&step);
        }
        let owed = run.owed_ends(&spec(), &[], None, Timestamp::UNIX_EPOCH);
        let numbers: Vec<_> = owed.iter().map(|event| event.pipeline.as_ref().unwrap().attempt).collect();
        assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
        for mut event in owed {
            let step = run.plan(&mut event, &POLICY, NOW).unwrap();
            run.take(&step);
        }
        assert!(!run.owes_its_end() && !run.owes_earlier_ends());
    }

    #[test]
    fn a_cost_above_the_threshold_is_told_once_a_run() {
        let mut run = Run::default();
        let agents =
            json!({"consensus": {"agents": [{"cost_usd": 2.0}, {"cost_usd": 1.0}, {"cost_usd": null}]}});
        assert!(apply(&mut run, stage(Plan, Success, 0, &agents)).1.is_empty());
        let (_, owed) = apply(&mut run, stage(Tasks, Success, 1, &agents));
        assert_eq!(owed[0].event.kind, EventKind::CostThreshold);
        assert_eq!(owed[0].extra["anomaly"]["totalUsd"], 6.0);
        assert_eq!(
            owed[0].event.idempotency_key.as_str(),
            "SPEC-KIT-065:tasks:attempt-1:s1:cost-threshold-5"
        );
        assert!(apply(&mut run, stage(Implement, Success, 2, &agents)).1.is_empty());
        assert!(apply(&mut run, stage(Plan, Success, 3, &agents)).1.is_empty(), "a new run");
        assert_eq!(apply(&mut run, stage(Tasks, Success, 4, &agents)).1.len(), 1);
    }

    #[test]
    fn an_attempt_that_is_told_is_believed() {
        let mut run = Run::default();
        let mut given = stage(Plan, Failure, 0, &json!({}));
        given.pipeline.as_mut().unwrap().attempt = Some(3);
        let (attempt, owed) = apply(&mut run, given);
        assert_eq!((attempt, owed[0].event.status), (3, Some(Failure)));
    }

    proptest! {
        /// Whatever stages come in whatever order: memory is bounded, and each run's end is told
        /// exactly once, with a key of its own.
        #[test]
        fn every_end_is_told_once(
            events in proptest::collection::vec((0usize..6, 0usize..3, 0usize..4), 1..300),
        ) {
            let mut run = Run::default();
            let mut keys = std::collections::HashSet::new();
            for (minute, (of, status, corrected)) in (0u32..).zip(events) {
                let mut event = stage(Stage::ALL[of], Status::ALL[status], minute % 60, &json!({}));
                let telemetry = event.telemetry.as_mut().unwrap().fields_mut();
                telemetry.insert("sessionId".to_owned(), minute.to_string().into());
                let ends = Stage::ALL[of] == Unlock && status == 0 || status == 2;
                let later = correction(&event);
                let (attempt, owed) = apply(&mut run, event);
                prop_assert!(attempt >= 1 && attempt as usize <= MAX_STAGES + 1);
                prop_assert!(!ends || owed.len() == 1);
                if corrected == 0 {
                    let before = run.stages.len();
                    let (again, owed) = apply(&mut run, later);
                    prop_assert_eq!((again, run.stages.len()), (attempt, before));
                    prop_assert!(owed.iter().all(|event| keys.insert(event.event.idempotency_key.clone())));
                }
                prop_assert!(owed.iter().all(|event| keys.insert(event.event.idempotency_key.clone())));
                prop_assert!(run.stages.len() <= MAX_STAGES);
            }
        }
    }
}
