//! The runs of a time, told from the events that the spool still has: a compaction keeps of an
//! event that has ended no more than its key.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::clock;
use crate::event::{EventKind, SpecId, Status};
use crate::names::printable;
use crate::run::cost_in;
use crate::spool::{self, Seen};

/// Most runs that are told.
const MAX_RUNS: usize = 200;

/// Most stages, gates and anomalies of a run, and most reasons of one of them, that are told.
const MAX_PARTS: usize = 100;
const MAX_REASONS: usize = 5;

/// Longest text of others that is shown.
const LONGEST: usize = 300;

/// One run of a SPEC.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct RunReport {
    /// Its SPEC.
    pub spec: SpecId,
    /// The id of a workflow run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Its number among the SPEC's runs, where it was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// How it ended; `None` as long as that was not told.
    pub status: Option<Status>,
    /// Why not in success.
    pub reasons: Vec<String>,
    /// When it began, as far as that is known.
    #[serde(with = "clock::millis")]
    pub began_at: Timestamp,
    /// When the last of it happened.
    #[serde(with = "clock::millis")]
    pub last_at: Timestamp,
    /// How long it took.
    pub duration_ms: Option<i64>,
    /// What it cost, in US dollars.
    pub cost_usd: Option<f64>,
    /// Its stages, in the order in which they ended.
    pub stages: Vec<StageReport>,
    /// Where it waited for a person.
    pub gates: Vec<GateReport>,
    /// What was unusual.
    pub anomalies: Vec<AnomalyReport>,
    /// What it left to do.
    pub follow_ups: Vec<String>,
}

/// The end of one stage.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct StageReport {
    /// The stage's name.
    pub stage: String,
    /// Which attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// How it ended.
    pub status: Option<Status>,
    /// Why not in success.
    pub reasons: Vec<String>,
    /// When it began, as far as that is known.
    #[serde(with = "clock::maybe_millis")]
    pub began_at: Option<Timestamp>,
    /// When it ended.
    #[serde(with = "clock::millis")]
    pub ended_at: Timestamp,
    /// How long it took.
    pub duration_ms: Option<i64>,
    /// What it cost, in US dollars.
    pub cost_usd: Option<f64>,
}

/// A gate at which the run waited for a person.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct GateReport {
    /// The step.
    pub step: String,
    /// What it asks.
    pub message: String,
    /// When it was told.
    #[serde(with = "clock::millis")]
    pub at: Timestamp,
}

/// What was unusual in a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct AnomalyReport {
    /// What it was.
    pub event: EventKind,
    /// When it was told.
    #[serde(with = "clock::millis")]
    pub at: Timestamp,
}

/// What happened in a run at one time, for people.
pub(crate) struct Step {
    /// When it began.
    pub(crate) from: Timestamp,
    /// When it ended.
    pub(crate) to: Timestamp,
    /// The stage and its attempt, the gate, or what was unusual.
    pub(crate) name: String,
    /// What it was.
    pub(crate) kind: StepKind,
    pub(crate) duration_ms: Option<i64>,
    pub(crate) cost_usd: Option<f64>,
    /// Why not in success, or what is asked.
    pub(crate) why: Vec<String>,
}

/// What a [`Step`] was.
pub(crate) enum StepKind {
    Stage(Option<Status>),
    Gate,
    Anomaly,
}

/// See the module's first lines.
#[derive(Default)]
pub(super) struct Told {
    pub(super) runs: Vec<RunReport>,
    pub(super) earlier: usize,
    pub(super) is_partial: bool,
    pub(super) tasks: usize,
}

/// What is read of a payload; whatever else stands there, and whatever its form.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Body {
    event: Of,
    pipeline: Map<String, Value>,
    telemetry: Cost,
    cost: Option<Value>,
    #[serde(rename = "followUps")]
    follow_ups: Option<Value>,
}

impl Body {
    /// A time that the pipeline part says.
    fn time(&self, name: &str) -> Option<Timestamp> {
        self.pipeline.get(name)?.as_str()?.parse().ok()
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Of {
    stage: Option<Value>,
    status: Option<Value>,
    amends: Option<Value>,
    reasons: Option<Value>,
}

/// What telemetry says of costs.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Cost {
    #[serde(rename = "costUsd")]
    cost_usd_camel: Option<Value>,
    cost_usd: Option<Value>,
    cost: Option<Value>,
    consensus: Option<Value>,
}

impl Cost {
    fn usd(self) -> Option<f64> {
        let fields = [
            ("costUsd", self.cost_usd_camel),
            ("cost_usd", self.cost_usd),
            ("cost", self.cost),
            ("consensus", self.consensus),
        ];
        let fields = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        cost_in(&fields.collect())
    }
}

/// Reads the runs that something was told of since then.
///
/// # Errors
/// The spool cannot be listed.
pub(super) fn told(spool_dir: &Path, since: Timestamp) -> io::Result<Told> {
    let (mut tasks, mut is_partial) = (0, false);
    let mut runs = Vec::new();
    for spec in spool::specs(spool_dir)? {
        let mut seen = spool::seen(spool_dir, &spec)?;
        seen.sort_by_key(|one| one.at);
        let mut keys = HashSet::new();
        // What a crash left twice counts once.
        seen.retain(|one| keys.insert(one.key.clone()));
        let mut of_spec = OfSpec { spec, current: None, flows: Vec::new(), done: Vec::new() };
        for one in seen {
            if one.event.is_none() {
                is_partial |= one.at >= since;
                continue;
            }
            tasks += usize::from(one.at >= since && one.event == Some(EventKind::TaskCompleted));
            of_spec.take(one);
        }
        runs.extend(of_spec.all().filter(|run| run.last_at >= since));
    }
    runs.sort_unstable_by_key(|run: &RunReport| std::cmp::Reverse(run.last_at));
    let earlier = runs.len().saturating_sub(MAX_RUNS);
    runs.truncate(MAX_RUNS);
    Ok(Told { runs, earlier, is_partial, tasks })
}

/// The runs of one SPEC, as far as they are read.
struct OfSpec {
    spec: SpecId,
    /// The run that guardrails tell of, while it goes on.
    current: Option<RunReport>,
    /// Workflow runs by what tells one from another.
    flows: Vec<(String, RunReport)>,
    done: Vec<RunReport>,
}

impl OfSpec {
    fn take(&mut self, seen: Seen) {
        let Seen { at, event: Some(kind), begins_run, body, .. } = seen else { return };
        let is_of_a_run = matches!(
            kind,
            EventKind::StageCompleted
                | EventKind::PipelineCompleted
                | EventKind::PipelineWaiting
                | EventKind::ConsensusConflict
                | EventKind::CostThreshold
                | EventKind::Stalled
        );
        if !is_of_a_run {
            return;
        }
        let body: Body = serde_json::from_str(&body).unwrap_or_default();
        let flow = body.pipeline.get("run").and_then(Value::as_object);
        let flow = flow.map(|run| {
            let part = |name: &str| run.get(name).and_then(Value::as_str).unwrap_or_default();
            (format!("{}@{}", part("id"), part("folder")), shown(part("id")))
        });
        if let Some((key, id)) = flow {
            let place = self.flows.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
                let new = RunReport { run: Some(id), ..RunReport::new(self.spec.clone(), at) };
                self.flows.push((key, new));
                self.flows.len() - 1
            });
            return self.flows[place].1.add(kind, body, at);
        }
        if begins_run {
            self.done.extend(self.current.take());
        }
        // An end may be told after the next run began: it says when the last of its stages ended.
        let ended = body.time("completedAt").filter(|_| kind == EventKind::PipelineCompleted);
        let is_its = |run: &&mut RunReport| {
            run.status.is_none() && run.stages.last().is_some_and(|stage| Some(stage.ended_at) == ended)
        };
        if let Some(run) = self.done.iter_mut().find(is_its) {
            return run.add(kind, body, at);
        }
        let run = self.current.get_or_insert_with(|| RunReport::new(self.spec.clone(), at));
        run.add(kind, body, at);
        if run.status.is_some() {
            self.done.extend(self.current.take());
        }
    }

    fn all(self) -> impl Iterator<Item = RunReport> {
        self.done.into_iter().chain(self.current).chain(self.flows.into_iter().map(|(_, run)| run))
    }
}

impl RunReport {
    fn new(spec: SpecId, at: Timestamp) -> Self {
        Self {
            spec,
            run: None,
            number: None,
            status: None,
            reasons: Vec::new(),
            began_at: at,
            last_at: at,
            duration_ms: None,
            cost_usd: None,
            stages: Vec::new(),
            gates: Vec::new(),
            anomalies: Vec::new(),
            follow_ups: Vec::new(),
        }
    }

    /// What happened in it, in the order in which it began.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let stages = self.stages.iter().map(|stage| {
            let attempt = stage.attempt.filter(|attempt| *attempt > 1);
            Step {
                from: stage.began_at.unwrap_or(stage.ended_at),
                to: stage.ended_at,
                name: attempt.map_or(stage.stage.clone(), |n| format!("{} ({n})", stage.stage)),
                kind: StepKind::Stage(stage.status),
                duration_ms: stage.duration_ms,
                cost_usd: stage.cost_usd,
                why: stage.reasons.clone(),
            }
        });
        let at_once = |at: Timestamp, name: String, kind: StepKind, why: Vec<String>| Step {
            from: at,
            to: at,
            name,
            kind,
            duration_ms: None,
            cost_usd: None,
            why,
        };
        let mut steps: Vec<Step> = stages.collect();
        for gate in &self.gates {
            let why = if gate.message.is_empty() { Vec::new() } else { vec![gate.message.clone()] };
            steps.push(at_once(gate.at, format!("gate {}", gate.step), StepKind::Gate, why));
        }
        for one in &self.anomalies {
            let name = one.event.as_str().rsplit('.').next().unwrap_or_default().replace('_', " ");
            steps.push(at_once(one.at, name, StepKind::Anomaly, Vec::new()));
        }
        steps.sort_by_key(|step| step.from);
        steps
    }

    fn add(&mut self, kind: EventKind, body: Body, at: Timestamp) {
        let pipeline = &body.pipeline;
        self.last_at = self.last_at.max(at);
        self.began_at = body
            .time("startedAt")
            .or(body.time("completedAt"))
            .map_or(self.began_at, |it| it.min(self.began_at));
        match kind {
            EventKind::StageCompleted => self.add_stage(body, at),
            EventKind::PipelineCompleted => self.end(&body, at),
            EventKind::PipelineWaiting => {
                let gate = pipeline.get("gate").and_then(Value::as_object);
                let part = |name: &str| gate.and_then(|gate| gate.get(name)?.as_str()).unwrap_or_default();
                if gate.is_some() && self.gates.len() < MAX_PARTS {
                    let (step, message) = (shown(part("step")), shown(part("message")));
                    self.gates.push(GateReport { step, message, at });
                }
            }
            event if self.anomalies.len() < MAX_PARTS => self.anomalies.push(AnomalyReport { event, at }),
            _ => {}
        }
    }

    fn add_stage(&mut self, body: Body, at: Timestamp) {
        let pipeline = &body.pipeline;
        let Some(stage) = body.event.stage.as_ref().and_then(Value::as_str) else { return };
        let (began_at, ended_at) = (body.time("startedAt"), body.time("completedAt").unwrap_or(at));
        let stage = StageReport {
            stage: shown(stage),
            attempt: number(pipeline.get("attempt")),
            status: status(body.event.status.as_ref()),
            reasons: texts(body.event.reasons.as_ref()),
            began_at,
            ended_at,
            duration_ms: began_at.and_then(|began| length(began, ended_at)),
            cost_usd: body.telemetry.usd(),
        };
        let is_room = self.stages.len() < MAX_PARTS;
        let corrected = self.stages.iter_mut().rev().find(|known| known.stage == stage.stage);
        match corrected.filter(|_| body.event.amends.is_some()) {
            Some(known) => {
                known.status = stage.status;
                known.reasons = stage.reasons;
            }
            None if is_room => self.stages.push(stage),
            None => {}
        }
    }

    fn end(&mut self, body: &Body, at: Timestamp) {
        let pipeline = &body.pipeline;
        self.number = number(pipeline.get("attempt"));
        self.status = status(body.event.status.as_ref());
        self.reasons = texts(body.event.reasons.as_ref());
        self.follow_ups = texts(body.follow_ups.as_ref());
        let ended = body.time("completedAt").unwrap_or(at);
        self.duration_ms = body.time("startedAt").and_then(|began| length(began, ended));
        let told = body.cost.as_ref().and_then(|cost| cost.get("totalUsd")?.as_f64());
        let sum = self.stages.iter().filter_map(|stage| stage.cost_usd).reduce(|sum, cost| sum + cost);
        self.cost_usd = told.or(sum);
        // The end says all stages; those whose own events are gone have no reasons and no cost.
        let all = pipeline.get("stages").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        if all.len() > self.stages.len() {
            let known = std::mem::take(&mut self.stages);
            self.stages =
                all.iter().take(MAX_PARTS).filter_map(|one| StageReport::of_end(one, &known, at)).collect();
        }
    }
}

impl StageReport {
    fn of_end(told: &Value, known: &[Self], at: Timestamp) -> Option<Self> {
        let time = |name: &str| told.get(name)?.as_str()?.parse::<Timestamp>().ok();
        let stage = shown(told.get("stage")?.as_str()?);
        let attempt = number(told.get("attempt"));
        let own = known.iter().find(|one| one.stage == stage && one.attempt == attempt);
        Some(own.cloned().unwrap_or_else(|| Self {
            attempt,
            status: status(told.get("status")),
            reasons: Vec::new(),
            began_at: time("startedAt"),
            ended_at: time("completedAt").unwrap_or(at),
            duration_ms: told.get("durationMs").and_then(Value::as_i64),
            cost_usd: None,
            stage,
        }))
    }
}

/// A text of others on one line.
fn shown(text: &str) -> String {
    printable(&text.split_whitespace().collect::<Vec<_>>().join(" "), LONGEST)
}

fn length(from: Timestamp, to: Timestamp) -> Option<i64> {
    i64::try_from(to.duration_since(from).as_millis()).ok().filter(|length| *length >= 0)
}

fn number(value: Option<&Value>) -> Option<u32> {
    u32::try_from(value?.as_u64()?).ok()
}

fn status(value: Option<&Value>) -> Option<Status> {
    value?.as_str()?.parse().ok()
}

fn texts(value: Option<&Value>) -> Vec<String> {
    let all = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    all.iter().filter_map(Value::as_str).take(MAX_REASONS).map(shown).collect()
}
