//! Folds a SPEC's stage events into runs: attempts, the end of a run, its cost. Pure decisions,
//! with no clock and no I/O.
//!
//! What an event means is decided once, by [`Run::plan`], and stored in the spool with the event as
//! a [`Step`]; a restart folds the steps and decides nothing anew. Events that follow from a run
//! are owed until they are accepted themselves, so that a stop in between does not lose them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::event::{Event, EventKind, IdempotencyKey, Pipeline, SpecId, Stage, Status};
use crate::names::printable;

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
    /// Earlier runs whose end is still to be told, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    untold: Vec<Run>,
}

impl Run {
    /// The effect of an event, if it concerns a run. Fills in the attempt of a stage event that has
    /// none.
    pub(crate) fn plan(&self, event: &mut Event, policy: &RunPolicy) -> Option<Step> {
        match (event.event.kind, event.event.stage) {
            (EventKind::StageCompleted, Some(stage)) => Some(self.plan_stage(event, stage, policy)),
            (EventKind::PipelineCompleted, _) => Some(Step::Told(event.event.idempotency_key.clone())),
            (EventKind::CostThreshold, _) if self.owes_an_anomaly() => Some(Step::CostTold),
            _ => None,
        }
    }

    fn plan_stage(&self, event: &mut Event, stage: Stage, policy: &RunPolicy) -> Step {
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
        let end = StageEnd {
            stage,
            status: event.event.status,
            attempt,
            started_at: pipeline.started_at.clone(),
            completed_at: pipeline.completed_at.clone(),
            cost_usd: event.telemetry.as_deref().and_then(cost),
            follow_ups: follow_ups(event, stage),
        };
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
        let ends = status.filter(|_| run.state == State::Open).map(|status| {
            let session = session_of(event);
            Ending {
                status,
                key: IdempotencyKey::of_step(&event.spec.id, "pipeline", run.number, session),
                branch: event.spec.branch.clone(),
                reasons: match status {
                    Status::Success => Vec::new(),
                    _ => event
                        .event
                        .reasons
                        .iter()
                        .take(MAX_FOLLOW_UPS)
                        .map(|it| printable(it, 1000))
                        .collect(),
                },
            }
        });
        Step::Stage(Box::new(StageStep { end, begins, ends, exceeds }))
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
        Self { number: self.number.saturating_add(1), stages: carried.collect(), untold, ..Self::default() }
    }

    /// Applies a step.
    pub(crate) fn take(&mut self, step: &Step) {
        match step {
            Step::Stage(step) => {
                let StageStep { end, begins, ends, exceeds } = &**step;
                if *begins {
                    *self = self.next(end.stage);
                }
                // Only what the last attempt left to do is told.
                let earlier = self.stages.iter_mut().filter(|earlier| earlier.stage == end.stage);
                earlier.for_each(|earlier| earlier.follow_ups.clear());
                self.stages.push(end.clone());
                if self.stages.len() > MAX_STAGES {
                    self.stages.remove(0);
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

    /// The anomaly event for a cost above the threshold: the oldest that is still to be told.
    pub(crate) fn owed_anomaly(&self, spec: &SpecId) -> Option<Event> {
        let mut runs = self.untold.iter().chain(std::iter::once(self));
        runs.find_map(|run| run.own_anomaly(spec))
    }

    fn own_anomaly(&self, spec: &SpecId) -> Option<Event> {
        let Excess { threshold_usd, stage, key } = self.excess.as_ref()?;
        let mut anomaly = Event::new(EventKind::CostThreshold, spec.clone(), key.clone());
        anomaly.event.stage = Some(*stage);
        let hint = "look at what the run's stages cost so far, and stop it if that is not meant";
        let mut told = json!({"thresholdUsd": threshold_usd});
        // Of a very long run, the stages that cost it may be forgotten.
        if let Some(total) = self.cost().map(rounded) {
            anomaly.extra.insert("cost".to_owned(), json!({"totalUsd": total}));
            told["totalUsd"] = total.into();
        }
        told["run"] = self.number.into();
        told["hint"] = hint.into();
        anomaly.extra.insert("anomaly".to_owned(), told);
        Some(anomaly)
    }

    /// An event for each run whose end is still to be told, oldest first. `open_tasks` are the
    /// SPEC's tasks that are not Done; `now` is the end of a run whose stages have no time.
    pub(crate) fn owed_ends(&self, spec: &SpecId, open_tasks: &[String], now: Timestamp) -> Vec<Event> {
        let runs = self.untold.iter().chain(std::iter::once(self));
        runs.filter_map(|run| run.owed_end(spec, open_tasks, now)).collect()
    }

    fn owed_end(&self, spec: &SpecId, open_tasks: &[String], now: Timestamp) -> Option<Event> {
        let State::Ending(Ending { status, key, branch, reasons }) = &self.state else { return None };
        let mut event = Event::of_source(EventKind::PipelineCompleted, spec.clone(), key.clone(), now);
        event.event.status = Some(*status);
        event.event.reasons.clone_from(reasons);
        event.spec.branch.clone_from(branch);
        let began = |end: &StageEnd| end.started_at.clone().or(end.completed_at.clone());
        let started_at = self.stages.iter().find_map(began);
        let ended = self.stages.iter().rev().find_map(|end| end.completed_at.clone());
        let completed_at = ended.unwrap_or_else(|| format!("{now:.3}"));
        let mut extra = Map::new();
        extra.insert("stages".to_owned(), self.stages.iter().map(StageEnd::told).collect());
        if let Some(length) = milliseconds(started_at.as_deref(), Some(&completed_at)) {
            extra.insert("durationMs".to_owned(), length.into());
        }
        event.pipeline = Some(Pipeline {
            attempt: Some(self.number),
            max_attempts: None,
            started_at,
            completed_at: Some(completed_at),
            extra,
        });
        if let Some(cost) = self.cost() {
            event.extra.insert("cost".to_owned(), json!({"totalUsd": rounded(cost)}));
        }
        let mut follow_ups = self.outstanding();
        follow_ups.extend_from_slice(open_tasks);
        follow_ups.truncate(MAX_FOLLOW_UPS);
        if !follow_ups.is_empty() {
            event.extra.insert("followUps".to_owned(), follow_ups.into());
        }
        Some(event)
    }

    /// The cost of its stages, as far as their telemetry gives it.
    fn cost(&self) -> Option<f64> {
        self.stages.iter().filter_map(|end| end.cost_usd).reduce(|sum, cost| sum + cost)
    }

    /// What the last attempt of each stage left to do.
    fn outstanding(&self) -> Vec<String> {
        let is_last =
            |at: usize, end: &StageEnd| self.stages[at + 1..].iter().all(|later| later.stage != end.stage);
        let last = self.stages.iter().enumerate().filter(|(at, end)| is_last(*at, end));
        last.flat_map(|(_, end)| end.follow_ups.clone()).collect()
    }
}

impl StageEnd {
    /// The stage in the form of the pipeline event.
    fn told(&self) -> Value {
        let mut told = json!({"stage": self.stage});
        if let Some(status) = self.status {
            told["status"] = status.as_str().into();
        }
        told["attempt"] = self.attempt.into();
        for (name, at) in [("startedAt", &self.started_at), ("completedAt", &self.completed_at)] {
            if let Some(at) = at {
                told[name] = at.as_str().into();
            }
        }
        if let Some(length) = milliseconds(self.started_at.as_deref(), self.completed_at.as_deref()) {
            told["durationMs"] = length.into();
        }
        told
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
/// its own.
fn session_of(event: &Event) -> Option<&str> {
    let given = event.telemetry.as_ref()?.get("sessionId")?.as_str()?;
    let numbered = event.event.idempotency_key.as_str().split_once(":attempt-");
    let in_key = numbered.and_then(|(_, rest)| rest.split_once(':')).map(|(_, session)| session);
    in_key.filter(|session| session.ends_with(given)).or(Some(given))
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

/// The cost of a stage from its telemetry: the total, else the sum over the agents.
fn cost(telemetry: &Map<String, Value>) -> Option<f64> {
    let of = |fields: &Value| {
        ["totalUsd", "total_usd", "costUsd", "cost_usd"].iter().find_map(|name| fields.get(name)?.as_f64())
    };
    let whole = ["cost_usd", "costUsd"].iter().find_map(|name| telemetry.get(*name)?.as_f64());
    let whole = whole.or_else(|| of(telemetry.get("cost")?));
    let agents = || {
        let agents = telemetry.get("consensus")?.get("agents")?.as_array()?;
        agents.iter().filter_map(of).reduce(|sum, cost| sum + cost)
    };
    whole.or_else(agents).filter(|cost| cost.is_finite() && *cost >= 0.0)
}

/// Rounded to a hundredth of a cent, because sums of decimals have rounding errors.
fn rounded(usd: f64) -> f64 {
    (usd * 10_000.0).round() / 10_000.0
}

fn milliseconds(from: Option<&str>, to: Option<&str>) -> Option<i64> {
    let (from, to): (Timestamp, Timestamp) = (from?.parse().ok()?, to?.parse().ok()?);
    i64::try_from(to.duration_since(from).as_millis()).ok().filter(|length| *length >= 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const POLICY: RunPolicy = RunPolicy { max_stage_attempts: 3, cost_threshold_usd: Some(5.0) };

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
    fn a_cost_that_was_not_told_yet_is_told_after_the_next_run_has_begun() {
        let mut run = Run::default();
        let take =
            |run: &mut Run, mut event: Event| run.plan(&mut event, &POLICY).inspect(|step| run.take(step));
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
            let step = run.plan(&mut event, &POLICY).unwrap();
            run.take(&step);
            let now = "2025-10-14T11:00:00Z".parse().unwrap();
            run.owed_ends(&spec(), &[], now)[0].event.idempotency_key.to_string()
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

    #[test]
    fn what_is_kept_of_a_stage_is_bounded_however_much_it_says() {
        let mut run = Run::default();
        for minute in 0..3 {
            let mut event = stage(Stage::Validate, Status::Failure, minute, &json!({}));
            event.event.reasons = vec!["x".repeat(2_000); 5_000];
            let step = run.plan(&mut event, &POLICY).unwrap();
            run.take(&step);
        }
        assert!(run.owes_its_end());
        let bytes = serde_json::to_vec(&run).unwrap().len();
        assert!(bytes < 128 * 1024, "{bytes}");
    }

    /// Applies an event as the Router and the spool do. Returns its attempt and the events owed
    /// then, which are told at once.
    fn apply(run: &mut Run, mut event: Event) -> (u32, Vec<Event>) {
        let step = run.plan(&mut event, &POLICY).unwrap();
        let attempt = event.pipeline.and_then(|pipeline| pipeline.attempt).unwrap_or(0);
        // As after a restart: only what the spool stores is left.
        run.take(&serde_json::from_str(&serde_json::to_string(&step).unwrap()).unwrap());
        *run = serde_json::from_str(&serde_json::to_string(run).unwrap()).unwrap();
        let ends = run.owed_ends(&spec(), &[], Timestamp::UNIX_EPOCH);
        let owed: Vec<Event> = run.owed_anomaly(&spec()).into_iter().chain(ends).collect();
        for mut event in owed.clone() {
            let step = run.plan(&mut event, &POLICY).unwrap();
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
        let step = run.plan(&mut stage(Unlock, Success, 45, &json!({})), &POLICY).unwrap();
        run.take(&step);
        assert!(run.owes_its_end());
        let step = run.plan(&mut own(), &POLICY).unwrap();
        run.take(&step);
        assert!(!run.owes_its_end());
    }

    #[test]
    fn the_next_run_may_begin_before_an_end_is_told() {
        let mut run = Run::default();
        for minute in 0..3 {
            let step = run.plan(&mut stage(Unlock, Success, minute, &json!({})), &POLICY).unwrap();
            run.take(&step);
        }
        let owed = run.owed_ends(&spec(), &[], Timestamp::UNIX_EPOCH);
        let numbers: Vec<_> = owed.iter().map(|event| event.pipeline.as_ref().unwrap().attempt).collect();
        assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
        for mut event in owed {
            let step = run.plan(&mut event, &POLICY).unwrap();
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
        fn every_end_is_told_once(events in proptest::collection::vec((0usize..6, 0usize..3), 1..300)) {
            let mut run = Run::default();
            let mut keys = std::collections::HashSet::new();
            for (minute, (of, status)) in (0u32..).zip(events) {
                let mut event = stage(Stage::ALL[of], Status::ALL[status], minute % 60, &json!({}));
                let telemetry = event.telemetry.as_mut().unwrap().fields_mut();
                telemetry.insert("sessionId".to_owned(), minute.to_string().into());
                let ends = Stage::ALL[of] == Unlock && status == 0 || status == 2;
                let (attempt, owed) = apply(&mut run, event);
                prop_assert!(attempt >= 1 && attempt as usize <= MAX_STAGES + 1);
                prop_assert!(!ends || owed.len() == 1);
                prop_assert!(owed.iter().all(|event| keys.insert(event.event.idempotency_key.clone())));
                prop_assert!(run.stages.len() <= MAX_STAGES);
            }
        }
    }
}
