//! Folds a SPEC's stage events into runs: attempts, the end of a run, its cost. Pure decisions,
//! with no clock and no I/O.
//!
//! What an event means is decided once, by [`Run::plan`], and stored in the spool with the event
//! as a [`Step`]; a restart folds the steps and decides nothing anew. Events that follow from a
//! run are owed until they are accepted themselves, so that a stop in between does not lose them.

mod plan;
mod spent;
mod stall;
#[cfg(test)]
mod tests;
mod told;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::event::{IdempotencyKey, Source, Stage, Status};
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
    /// The checkout of the event that ended it; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<Box<Source>>,
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
    /// Where the last end of a stage stands that has this time.
    fn place_of(&self, stage: Stage, completed_at: Option<&String>) -> Option<usize> {
        let is_it = |end: &StageEnd| end.stage == stage && end.completed_at.as_ref() == completed_at;
        self.stages.iter().rposition(is_it)
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

    /// Whether the end of an earlier run is still to be told.
    pub(crate) fn owes_earlier_ends(&self) -> bool {
        self.untold.iter().any(Self::owes_its_end)
    }

    fn ends_as(&self, key: &IdempotencyKey) -> bool {
        matches!(&self.state, State::Ending(ending) if ending.key == *key)
    }
}
