//! What a run owes, as events: a cost above the threshold, and its end as a whole.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::spent::{Spent, rounded};
use super::{Ending, Excess, MAX_FOLLOW_UPS, Run, StageEnd, State};
use crate::event::{Event, EventKind, Pipeline, SpecId};

impl Run {
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
    /// SPEC's tasks that are not Done, `spent` is what the host says that the SPEC cost; `now` is
    /// the end of a run whose stages have no time.
    pub(crate) fn owed_ends(
        &self,
        spec: &SpecId,
        open_tasks: &[String],
        spent: Option<&Spent>,
        now: Timestamp,
    ) -> Vec<Event> {
        // The host's figure is of the run that goes on.
        let earlier = self.untold.iter().map(|run| (run, None));
        let runs = earlier.chain([(self, spent)]);
        runs.filter_map(|(run, spent)| run.owed_end(spec, open_tasks, spent, now)).collect()
    }

    fn owed_end(
        &self,
        spec: &SpecId,
        open_tasks: &[String],
        spent: Option<&Spent>,
        now: Timestamp,
    ) -> Option<Event> {
        let State::Ending(Ending { status, key, branch, source, reasons }) = &self.state else { return None };
        let mut event = Event::of_source(EventKind::PipelineCompleted, spec.clone(), key.clone(), now);
        event.event.status = Some(*status);
        event.event.reasons.clone_from(reasons);
        event.spec.branch.clone_from(branch);
        event.source = source.as_deref().cloned();
        let began = |end: &StageEnd| end.started_at.clone().or(end.completed_at.clone());
        let started_at = self.stages.iter().find_map(began);
        let ended = self.stages.iter().rev().find_map(|end| end.completed_at.clone());
        let completed_at = ended.unwrap_or_else(|| format!("{now:.3}"));
        event.pipeline = Some(Pipeline {
            attempt: Some(self.number),
            max_attempts: None,
            started_at,
            completed_at: Some(completed_at),
            extra: Map::new(),
        });
        if let Some(cost) = self.told_cost(spent) {
            event.extra.insert("cost".to_owned(), cost);
        }
        tell_of_stages(&mut event, &self.stages);
        add_follow_ups(&mut event, open_tasks.to_vec());
        Some(event)
    }

    /// The cost of its stages, as far as their telemetry gives it.
    pub(super) fn cost(&self) -> Option<f64> {
        self.stages.iter().filter_map(|end| end.cost_usd).reduce(|sum, cost| sum + cost)
    }

    /// The same or what the host says, whichever is more, in the payload's form.
    fn told_cost(&self, spent: Option<&Spent>) -> Option<Value> {
        let own = self.cost();
        match spent.filter(|spent| self.before.is_none_or(|before| spent.at > before)) {
            Some(spent) => Some(spent.told(own.unwrap_or_default().max(spent.total_usd))),
            None => own.map(|cost| json!({"totalUsd": rounded(cost)})),
        }
    }
}

/// Says in the event of a run's end what its stages were, how long it took and what they left to
/// do.
pub(crate) fn tell_of_stages(event: &mut Event, stages: &[StageEnd]) {
    let pipeline = event.pipeline.get_or_insert_with(Pipeline::default);
    pipeline.extra.insert("stages".to_owned(), stages.iter().map(StageEnd::told).collect());
    if let Some(length) = milliseconds(pipeline.started_at.as_deref(), pipeline.completed_at.as_deref()) {
        pipeline.extra.insert("durationMs".to_owned(), length.into());
    }
    add_follow_ups(event, outstanding(stages));
}

/// Adds to what is left to do after a run.
pub(crate) fn add_follow_ups(event: &mut Event, further: Vec<String>) {
    if further.is_empty() {
        return;
    }
    let all = event.extra.entry("followUps").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(all) = all {
        all.extend(further.into_iter().map(Value::from));
        all.truncate(MAX_FOLLOW_UPS);
    }
}

/// What the last attempt of each stage left to do.
fn outstanding(stages: &[StageEnd]) -> Vec<String> {
    let is_last = |at: usize, end: &StageEnd| stages[at + 1..].iter().all(|later| later.stage != end.stage);
    let last = stages.iter().enumerate().filter(|(at, end)| is_last(*at, end));
    last.flat_map(|(_, end)| end.follow_ups.clone()).collect()
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

fn milliseconds(from: Option<&str>, to: Option<&str>) -> Option<i64> {
    let (from, to): (Timestamp, Timestamp) = (from?.parse().ok()?, to?.parse().ok()?);
    i64::try_from(to.duration_since(from).as_millis()).ok().filter(|length| *length >= 0)
}
