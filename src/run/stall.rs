//! When a run that went silent counts as stalled: plain decisions over signs of life.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{Run, State};
use crate::clock;
use crate::event::{Event, EventKind, IdempotencyKey, Pipeline, SpecId, Stage};

/// What went silent so much longer ago is no news: a run that somebody left, and a runtime that
/// starts years later.
const OLD: SignedDuration = SignedDuration::from_hours(24);

/// Whether it is worth telling that a run is silent since `sign`.
pub(crate) fn is_news(sign: Timestamp, after: SignedDuration, now: Timestamp) -> bool {
    now.duration_since(sign) <= after.saturating_add(OLD)
}

/// A stage whose guardrail passed and that is told once its agents have agreed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct AwaitedStage {
    /// Its SPEC.
    pub spec: SpecId,
    /// The stage.
    pub stage: Stage,
    /// When its guardrail ended.
    #[serde(with = "clock::millis")]
    pub since: Timestamp,
}

impl Run {
    /// The last sign of life of a run that goes on, as far as its events tell.
    pub(crate) fn last_sign(&self) -> Option<Timestamp> {
        self.sign.filter(|_| self.state == State::Open && !self.stages.is_empty())
    }

    /// The event of a run that goes on, or that begins with the stage that is `awaited`, and whose
    /// last sign of life was at `sign`, at least `after` ago. `None` where that was told, or is no
    /// news.
    pub(crate) fn stalled(
        &self,
        spec: &SpecId,
        awaited: Option<Stage>,
        sign: Timestamp,
        after: SignedDuration,
        now: Timestamp,
    ) -> Option<Event> {
        let stands_at = self.last_sign().and_then(|_| Some(self.stages.last()?.stage));
        let stage = awaited.or(stands_at)?;
        let was_told = self.stalled.is_some_and(|told| told >= sign);
        if was_told || now.duration_since(sign) < after || !is_news(sign, after, now) {
            return None;
        }
        let begins = awaited.is_some_and(|stage| self.is_over_for(stage));
        let number = self.number.saturating_add(u32::from(begins));
        let since = clock::rfc3339(sign);
        let run = IdempotencyKey::of_step(spec, "pipeline", number, None);
        let mut event =
            Event::new(EventKind::Stalled, spec.clone(), format!("{run}:stalled-{since}").parse().ok()?);
        event.event.stage = Some(stage);
        let ends = self.stages.iter().filter(|_| !begins);
        let began = ends.into_iter().find_map(|end| end.started_at.clone().or(end.completed_at.clone()));
        event.pipeline = Some(Pipeline { attempt: Some(number), started_at: began, ..Pipeline::default() });
        let what = match awaited {
            Some(stage) => format!("the agents of {stage}, whose guardrail passed, still work"),
            None => format!("what follows {stage} still works"),
        };
        let hint = format!(
            "look whether {what}, and start it again where it does not; \
             alerts.stall_after_s says how long a run may be silent"
        );
        event.extra.insert("anomaly".to_owned(), json!({"since": since, "run": number, "hint": hint}));
        Some(event)
    }
}

/// When which SPEC's run is to be looked at for a stall.
#[derive(Debug, Default)]
pub(crate) struct Silences {
    at: HashMap<SpecId, Timestamp>,
    order: BTreeSet<(Timestamp, SpecId)>,
}

impl Silences {
    /// A SPEC is to be looked at then; not at all where there is no time.
    pub(crate) fn set(&mut self, spec: &SpecId, at: Option<Timestamp>) {
        if let Some(before) = self.at.remove(spec) {
            self.order.remove(&(before, spec.clone()));
        }
        if let Some(at) = at {
            self.at.insert(spec.clone(), at);
            self.order.insert((at, spec.clone()));
        }
    }

    /// When the next one is to be looked at.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        self.order.first().map(|(at, _)| *at)
    }

    /// Those that are to be looked at by now; they are set anew where they are not over.
    pub(crate) fn due(&mut self, now: Timestamp) -> Vec<SpecId> {
        let mut due = Vec::new();
        while let Some((_, spec)) = self.order.first().filter(|(at, _)| *at <= now).cloned() {
            self.set(&spec, None);
            due.push(spec);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_due_come_in_order_and_once() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let spec = |name: &str| -> SpecId { name.parse().unwrap() };
        let mut silences = Silences::default();
        for (name, second) in [("A", 30), ("B", 10), ("C", 20)] {
            silences.set(&spec(name), Some(at(second)));
        }
        silences.set(&spec("B"), Some(at(25)));
        assert_eq!(silences.next(), Some(at(20)));
        assert_eq!(silences.due(at(25)), [spec("C"), spec("B")]);
        assert_eq!(silences.due(at(25)), []);
        silences.set(&spec("A"), None);
        assert_eq!(silences.next(), None);
    }
}
