//! Folds the lines of a run's log into what it tells. Pure: the same lines give the same events,
//! with the same keys, because everything is counted in the log.

mod told;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::Name;
use super::facts::Facts;
use super::line::{Line, Outcome, Step, What};
use crate::event::{Event, SpecId, Stage, Status};
use crate::names::printable;
use crate::run::StageEnd;
use told::Ended;

/// Most reasons of a run's failure: of a fan-out many steps can fail it.
const MAX_TROUBLES: usize = 10;

/// Most steps that are under way at a time, and gates of a run: far above what a workflow has. Of
/// others it is not known when they began.
const MAX_STEPS: usize = 10_000;

/// Most characters of a reason, and of a text that a gate shows.
const MAX_TEXT: usize = 1000;

/// A place in the log: where a line begins, and the checksum of all before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) at: u64,
    /// None where what was before it was never read.
    pub(crate) crc: Option<u32>,
}

/// What is known beside the log.
pub(crate) struct World<'a> {
    pub(crate) facts: &'a Facts,
    /// The SPEC that the repo is at.
    pub(crate) spec_now: &'a dyn Fn() -> Option<SpecId>,
    /// What is not known by now is not waited for.
    pub(crate) is_final: bool,
    /// The facts were read after the line was.
    pub(crate) is_fresh: bool,
    pub(crate) now: Timestamp,
}

/// Something has to be known before a line can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wanting;

/// A step that began.
#[derive(Clone, Debug)]
struct Begun {
    kind: String,
    at: Option<Timestamp>,
}

/// Whether an unanswered gate was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    No,
    /// It stood at an earlier reading, or belongs to the baseline: told once it is paused.
    Before,
    Yes,
}

/// A gate that is not answered.
#[derive(Clone, Debug)]
struct Asked {
    step: Step,
    n: u32,
    from: Mark,
    at: Option<Timestamp>,
    /// Since when it counts as unanswered.
    since: Timestamp,
    told: Told,
}

/// A stage that failed, whose error is in a line that is still to come.
#[derive(Clone, Debug)]
struct Unsettled {
    step: Step,
    stage: Stage,
    from: Mark,
    began: Option<Timestamp>,
    ended: Option<Timestamp>,
    since: Timestamp,
}

/// See the module's first lines.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    run: Name,
    /// Fixed when the run's `speckit.specify` succeeds, without one at its first line.
    spec: Option<SpecId>,
    /// The one that it was fixed to at an earlier reading.
    remembered: Option<SpecId>,
    /// The one until then.
    until_then: SpecId,
    began: Option<Timestamp>,
    has_begun: bool,
    begun: HashMap<Step, Begun>,
    asked: Vec<Asked>,
    unsettled: Vec<Unsettled>,
    attempts: BTreeMap<Stage, u32>,
    gates: HashMap<String, u32>,
    interruptions: u32,
    ends: u32,
    stages: Vec<StageEnd>,
    /// Since the run was started or resumed: the steps that failed it, or at which it was ended,
    /// with their errors.
    troubles: Vec<(Step, Option<String>)>,
    /// Since then a gate has paused the run.
    is_paused: bool,
    /// A step was started since the run was last ended, paused or interrupted.
    goes_on: bool,
    /// When the last line was written, as far as lines say it.
    last_at: Option<Timestamp>,
}

impl Fold {
    /// Of a run of which nothing was read. `remembered` is its SPEC, where that was fixed at an
    /// earlier reading.
    pub(super) fn new(run: Name, remembered: Option<SpecId>) -> Self {
        let until_then = format!("run-{}", run.id).parse().unwrap_or_else(|_| SpecId::tracker());
        Self {
            run,
            spec: None,
            remembered,
            until_then,
            began: None,
            has_begun: false,
            begun: HashMap::new(),
            asked: Vec::new(),
            unsettled: Vec::new(),
            attempts: BTreeMap::new(),
            gates: HashMap::new(),
            interruptions: 0,
            ends: 0,
            stages: Vec::new(),
            troubles: Vec::new(),
            is_paused: false,
            goes_on: false,
            last_at: None,
        }
    }

    /// The SPEC, once it is fixed.
    pub(super) fn fixed_spec(&self) -> Option<&SpecId> {
        self.spec.as_ref().or(self.remembered.as_ref())
    }

    fn spec(&self) -> &SpecId {
        self.spec.as_ref().unwrap_or(&self.until_then)
    }

    /// Takes a line that begins at a mark; what it tells.
    ///
    /// # Errors
    /// [`Wanting`]: nothing was taken, and the line is to be given again once more is known.
    pub(super) fn take(&mut self, line: &Line, from: Mark, world: &World<'_>) -> Result<Vec<Event>, Wanting> {
        let facts = world.facts;
        if !self.has_begun && !facts.has_workflow() && !world.is_final {
            return Err(Wanting);
        }
        let stage = self.stage_of(line, world)?;
        if let What::Completed { step, outcome: Outcome::Paused } = &line.what
            && self.is_gate(step)
            && !(world.is_fresh && facts.gate(step, true).is_whole)
            && !world.is_final
        {
            return Err(Wanting);
        }
        if !std::mem::replace(&mut self.has_begun, true) {
            self.began = line.at;
            if !facts.specifies() && self.spec.is_none() {
                self.fix_spec(world);
            }
        }
        self.last_at = self.last_at.max(line.at);
        Ok(match &line.what {
            What::Started { step, kind } => self.started(step, kind, line.at, from, world),
            What::Completed { step, outcome } => self.completed(step, *outcome, stage, line.at, from, world),
            What::Failed { step, error } => {
                self.begun.remove(step);
                self.add_trouble(step, error.as_deref());
                let mut told = self.settle_step(step, error.as_deref(), world);
                told.iter_mut().for_each(|event| event.event.ends_run = true);
                told
            }
            What::Continued { step, error } => self.settle_step(step, error.as_deref(), world),
            What::Aborted { step, error } => {
                // Earlier versions say no more than this.
                self.add_trouble(step, error.as_deref().or(Some("a person rejected it")));
                self.settle_step(step, error.as_deref(), world)
            }
            What::Interrupted => {
                let told = self.settle(world);
                let why = "the run was interrupted, and waits to be resumed".to_owned();
                told.into_iter().chain([self.interrupted(why, line.at, world)]).collect()
            }
            What::Finished(outcome) => self.finished(*outcome, line.at, world),
            What::Broken { error } => {
                let mut told = self.settle(world);
                let error = error.clone().or_else(|| facts.error(None));
                let reason = error.unwrap_or_else(|| "the workflow engine failed".to_owned());
                let mut reasons = self.reasons();
                if !self.troubles.iter().any(|(_, known)| known.as_deref() == Some(&reason)) {
                    reasons.push(printable(&reason, MAX_TEXT));
                }
                told.push(self.end(Status::Failure, reasons, line.at, world));
                told
            }
        })
    }

    /// The stage that a line tells the end of.
    fn stage_of(&self, line: &Line, world: &World<'_>) -> Result<Option<Stage>, Wanting> {
        let What::Completed { step, outcome: Outcome::Completed | Outcome::Failed } = &line.what else {
            return Ok(None);
        };
        // What stands in a branch, a loop or a fan-out tells of itself.
        if self.begun.get(step).is_some_and(|begun| begun.kind != "command") {
            return Ok(None);
        }
        match world.facts.stage(step) {
            None if !world.is_final => Err(Wanting),
            known => Ok(known.flatten()),
        }
    }

    fn is_gate(&self, step: &Step) -> bool {
        self.begun.get(step).is_some_and(|begun| begun.kind == "gate")
    }

    fn started(
        &mut self,
        step: &Step,
        kind: &str,
        at: Option<Timestamp>,
        from: Mark,
        world: &World<'_>,
    ) -> Vec<Event> {
        let told = self.settle_step(step, None, world);
        self.goes_on = true;
        if self.begun.len().max(self.gates.len()) >= MAX_STEPS {
            return told;
        }
        self.begun.insert(step.clone(), Begun { kind: kind.to_owned(), at });
        if kind == "gate" {
            let n = self.gates.entry(step.id.clone()).or_default();
            *n = n.saturating_add(1);
            let since = at.map_or(world.now, |at| at.min(world.now));
            self.asked.retain(|asked| asked.step != *step);
            self.asked.push(Asked { step: step.clone(), n: *n, from, at, since, told: Told::No });
        }
        told
    }

    fn completed(
        &mut self,
        step: &Step,
        outcome: Outcome,
        stage: Option<Stage>,
        at: Option<Timestamp>,
        from: Mark,
        world: &World<'_>,
    ) -> Vec<Event> {
        let mut told = self.settle_step(step, None, world);
        let began = self.begun.remove(step);
        let asked = self.asked.iter().position(|asked| asked.step == *step);
        let asked = asked.map(|place| self.asked.remove(place));
        let began_at = began.as_ref().and_then(|begun| begun.at);
        match (outcome, stage) {
            (Outcome::Paused, _) if began.is_some_and(|begun| begun.kind == "gate") => {
                self.is_paused = true;
                let untold = asked.filter(|asked| asked.told != Told::Yes);
                told.extend(untold.map(|asked| self.waiting(&asked, true, world)));
            }
            (Outcome::Completed, Some(stage)) => {
                if stage == Stage::Specify && self.spec.is_none() {
                    self.fix_spec(world);
                }
                let status = Status::Success;
                told.push(
                    self.stage(Ended { step, stage, status, reason: None, began: began_at, at }, world),
                );
            }
            (Outcome::Failed, Some(stage)) => {
                let (step, since) = (step.clone(), world.now);
                self.unsettled.push(Unsettled { step, stage, from, began: began_at, ended: at, since });
            }
            _ => {}
        }
        told
    }

    fn finished(&mut self, outcome: Outcome, at: Option<Timestamp>, world: &World<'_>) -> Vec<Event> {
        let mut told = self.settle(world);
        let or = |mut reasons: Vec<String>, other: &str| {
            if reasons.is_empty() {
                reasons.push(world.facts.error(None).map_or(other.to_owned(), |it| printable(&it, MAX_TEXT)));
            }
            reasons
        };
        match outcome {
            Outcome::Completed => told.push(self.end(Status::Success, Vec::new(), at, world)),
            Outcome::Failed => {
                let reasons = or(self.reasons(), "the workflow failed");
                told.push(self.end(Status::Failure, reasons, at, world));
            }
            Outcome::Aborted => {
                let reasons = or(self.reasons(), "the workflow was ended by a person");
                told.push(self.end(Status::Halt, reasons, at, world));
            }
            Outcome::Paused if self.is_paused => self.leg_is_over(),
            Outcome::Paused => {
                let why = "the run is paused, and waits to be resumed".to_owned();
                told.push(self.interrupted(why, at, world));
            }
            Outcome::Other => self.leg_is_over(),
        }
        told
    }

    /// Nothing runs any more until the run is resumed.
    fn leg_is_over(&mut self) {
        self.begun.clear();
        self.asked.clear();
        self.troubles.clear();
        self.is_paused = false;
        self.goes_on = false;
    }

    /// When its last line was written, while it runs: it has neither ended nor paused, and no gate
    /// waits for a person.
    pub(super) fn silent_since(&self) -> Option<Option<Timestamp>> {
        (self.goes_on && self.asked.is_empty()).then_some(self.last_at)
    }

    fn add_trouble(&mut self, step: &Step, error: Option<&str>) {
        // A workflow that is called fails its caller with the same error.
        let is_known = error.is_some() && self.troubles.iter().any(|(_, known)| known.as_deref() == error);
        if !is_known && self.troubles.len() < MAX_TROUBLES {
            self.troubles.push((step.clone(), error.map(str::to_owned)));
        }
    }

    fn reasons(&self) -> Vec<String> {
        let reason = |(step, error): &(Step, Option<String>)| {
            let error = error.as_deref().unwrap_or("it failed").trim();
            printable(&format!("step {}: {error}", printable(&step.id, 100)), MAX_TEXT)
        };
        self.troubles.iter().map(reason).collect()
    }

    fn fix_spec(&mut self, world: &World<'_>) {
        let spec = self.remembered.take().or_else(|| (world.spec_now)());
        self.spec = Some(spec.unwrap_or_else(|| self.until_then.clone()));
    }

    /// Tells of the failure of a step's stage, whose error is known now.
    fn settle_step(&mut self, step: &Step, error: Option<&str>, world: &World<'_>) -> Vec<Event> {
        let place = self.unsettled.iter().position(|unsettled| unsettled.step == *step);
        let Some(place) = place else { return Vec::new() };
        let Unsettled { stage, began, ended, .. } = self.unsettled.remove(place);
        let error = error.map(str::to_owned).or_else(|| world.facts.error(Some(step)));
        let reason = error.filter(|error| !error.trim().is_empty());
        let reason = Some(reason.unwrap_or_else(|| format!("step {} failed", printable(&step.id, 100))));
        vec![self.stage(Ended { step, stage, status: Status::Failure, reason, began, at: ended }, world)]
    }

    /// Tells of all failures whose error is not known.
    pub(super) fn settle(&mut self, world: &World<'_>) -> Vec<Event> {
        let steps: Vec<Step> = self.unsettled.iter().map(|unsettled| unsettled.step.clone()).collect();
        steps.iter().flat_map(|step| self.settle_step(step, None, world)).collect()
    }

    /// Tells of the gates that nobody has answered for so long, and of stages whose error has not
    /// come within `patience`.
    pub(super) fn tell_what_is_due(
        &mut self,
        notice: Duration,
        patience: Duration,
        world: &World<'_>,
    ) -> Vec<Event> {
        let is_due = |since: Timestamp, wait: Duration| left(since, wait, world.now).is_zero();
        let mut due = Vec::new();
        for asked in self.asked.iter_mut().filter(|asked| asked.told == Told::No) {
            if is_due(asked.since, notice) {
                asked.told = Told::Yes;
                due.push(asked.clone());
            }
        }
        let mut told: Vec<Event> = due.iter().map(|asked| self.waiting(asked, false, world)).collect();
        if self.unsettled.iter().any(|unsettled| is_due(unsettled.since, patience)) {
            told.extend(self.settle(world));
        }
        told
    }

    /// How long until something is due that is in no line.
    pub(super) fn next(&self, notice: Duration, patience: Duration, now: Timestamp) -> Option<Duration> {
        let asked = self.untold().map(|asked| left(asked.since, notice, now));
        let unsettled = self.unsettled.iter().map(|unsettled| left(unsettled.since, patience, now));
        asked.chain(unsettled).min()
    }

    fn untold(&self) -> impl Iterator<Item = &Asked> {
        self.asked.iter().filter(|asked| asked.told == Told::No)
    }

    /// Where the first line begins of which something is still to be told.
    pub(super) fn first_untold(&self) -> Option<Mark> {
        let asked = self.untold().map(|asked| asked.from);
        asked.chain(self.unsettled.iter().map(|unsettled| unsettled.from)).min_by_key(|mark| mark.at)
    }

    /// What is still to be told was told at an earlier reading, or is part of the baseline.
    pub(super) fn is_told(&mut self, world: &World<'_>) {
        self.asked.iter_mut().for_each(|asked| asked.told = Told::Before);
        // They count as attempts all the same.
        drop(self.settle(world));
    }
}

/// How much of a wait is left.
fn left(since: Timestamp, wait: Duration, now: Timestamp) -> Duration {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    let left = wait.saturating_sub(now.duration_since(since));
    Duration::try_from(left).unwrap_or_default()
}
