//! The filters of a subscription: whether it wants an event, with the reason if not.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::event::{Envelope, Event, EventKind, Stage, Status};
use crate::glob::{Glob, Malformed};
use crate::names::{UnknownName, named};

named! {
    /// `notify`: how much of what its filters admit a subscription is told.
    #[derive(Default)]
    Notify, "way to notify" {
        /// All of it.
        #[default]
        All = "all",
        /// What somebody has to know of: failures, halts, gates, stalls and the ends of runs.
        FailuresAndRuns = "failures+runs",
    }
}

impl Notify {
    /// Whether it is told of this. Anomalies were asked for by name.
    fn wants(self, kind: EventKind, status: Option<Status>) -> bool {
        match kind {
            _ if self == Self::All => true,
            EventKind::StageCompleted => matches!(status, Some(Status::Failure | Status::Halt)),
            EventKind::PipelineCompleted
            | EventKind::PipelineWaiting
            | EventKind::ConsensusConflict
            | EventKind::CostThreshold
            | EventKind::Stalled
            | EventKind::Test => true,
            EventKind::TaskCompleted | EventKind::TaskListCompleted => false,
        }
    }
}

/// One event pattern of `include_events`: a glob over event types.
#[derive(Clone, Debug)]
pub(crate) struct EventPattern {
    text: String,
    matcher: Glob,
}

/// Why a text is not an event pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPattern {
    /// It is not a valid glob.
    #[error("malformed pattern: {0}")]
    Glob(#[from] Malformed),
    /// It is a plain name that is not an event type.
    #[error(transparent)]
    Unknown(#[from] UnknownName),
    /// It is a glob that matches no event type.
    #[error(
        "no event type fits `{pattern}`; known are: {}",
        EventKind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ")
    )]
    MatchesNothing {
        /// The glob as given.
        pattern: String,
    },
}

impl EventPattern {
    /// Parses an event type, or a glob that matches at least one.
    ///
    /// # Errors
    /// [`InvalidPattern`]; a pattern that matches nothing is a mistake.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidPattern> {
        if !text.contains(['*', '?', '[', '{']) {
            text.parse::<EventKind>()?;
        }
        let matcher = Glob::of_text(text)?;
        if !EventKind::ALL.iter().any(|kind| matcher.is_match(kind.as_str())) {
            return Err(InvalidPattern::MatchesNothing { pattern: text.to_owned() });
        }
        Ok(Self { text: text.to_owned(), matcher })
    }
}

/// A glob over SPEC or task ids.
#[derive(Clone, Debug)]
pub(crate) struct IdPattern {
    text: String,
    matcher: Glob,
}

impl FromStr for IdPattern {
    type Err = InvalidPattern;

    fn from_str(text: &str) -> Result<Self, InvalidPattern> {
        Ok(Self { text: text.to_owned(), matcher: Glob::of_text(text)? })
    }
}

/// The filters of one subscription. An omitted filter (`None`) lets everything through, except
/// that anomalies need `include_events`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    /// `include_events`.
    pub events: Option<Vec<EventPattern>>,
    /// `include_stages`; not applied to events without a stage.
    pub stages: Option<BTreeSet<Stage>>,
    /// `include_status`; not applied to events without a status.
    pub statuses: Option<BTreeSet<Status>>,
    /// `include_specs`.
    pub specs: Option<Vec<IdPattern>>,
    /// `include_tasks`; not applied to events without a task.
    pub tasks: Option<Vec<IdPattern>>,
    /// `notify`.
    pub notify: Notify,
}

/// Which filter refused an event, and what it admits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// `include_events` does not match this type.
    Event {
        /// The event's type.
        kind: EventKind,
        /// The filter's patterns.
        wanted: Vec<String>,
    },
    /// There is no `include_events`; anomalies are sent only if it names them.
    Anomaly(EventKind),
    /// `include_stages` does not contain this stage.
    Stage {
        /// The event's stage.
        stage: Stage,
        /// The filter's stages.
        wanted: Vec<Stage>,
    },
    /// `notify` leaves this out.
    Notify {
        /// The event's type.
        kind: EventKind,
        /// The event's status.
        status: Option<Status>,
        /// The subscription's setting.
        notify: Notify,
    },
    /// `include_status` does not contain this status.
    Status {
        /// The event's status.
        status: Status,
        /// The filter's statuses.
        wanted: Vec<Status>,
    },
    /// `include_specs` does not match this SPEC.
    Spec {
        /// The event's SPEC.
        spec: String,
        /// The filter's patterns.
        wanted: Vec<String>,
    },
    /// `include_tasks` does not match this task.
    Task {
        /// The event's task.
        task: String,
        /// The filter's patterns.
        wanted: Vec<String>,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn list<T: fmt::Display>(items: &[T]) -> String {
            items.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
        }
        match self {
            Self::Event { kind, wanted } => write!(f, "include_events has no {kind}, only {}", list(wanted)),
            Self::Anomaly(kind) => {
                write!(f, "anomalies are sent only if include_events names them: add \"{kind}\"")
            }
            Self::Stage { stage, wanted } => {
                write!(f, "include_stages has no {stage}, only {}", list(wanted))
            }
            Self::Status { status, wanted } => {
                write!(f, "include_status has no {status}, only {}", list(wanted))
            }
            Self::Spec { spec, wanted } => write!(f, "include_specs has no {spec}, only {}", list(wanted)),
            Self::Notify { kind, status, notify } => {
                let status = status.map(|status| format!(" with the status {status}")).unwrap_or_default();
                write!(f, "notify = \"{notify}\" leaves out {kind}{status}")
            }
            Self::Task { task, wanted } => {
                let task = crate::names::printable(task, 80);
                write!(f, "include_tasks has no {task}, only {}", list(wanted))
            }
        }
    }
}

impl Filter {
    /// Whether the subscription wants this event.
    ///
    /// # Errors
    /// The first filter that refuses the event.
    pub(crate) fn admits(&self, event: &Event) -> Result<(), Refusal> {
        let Envelope { kind, status, stage, .. } = event.event;
        self.admits_kind(kind)?;
        if let (Some(wanted), Some(stage)) = (&self.stages, stage)
            && !wanted.contains(&stage)
        {
            return Err(Refusal::Stage { stage, wanted: wanted.iter().copied().collect() });
        }
        self.admits_status(status)?;
        let spec = event.spec.id.as_str();
        if let Some(wanted) = unless_any(self.specs.as_deref(), spec) {
            return Err(Refusal::Spec { spec: spec.to_owned(), wanted });
        }
        if let Some(task) = &event.task
            && let Some(wanted) = unless_any(self.tasks.as_deref(), &task.id)
        {
            return Err(Refusal::Task { task: task.id.clone(), wanted });
        }
        if !self.notify.wants(kind, status) {
            return Err(Refusal::Notify { kind, status, notify: self.notify });
        }
        Ok(())
    }

    fn admits_kind(&self, kind: EventKind) -> Result<(), Refusal> {
        match &self.events {
            // `failures+runs` names stalls by what it says.
            None if kind == EventKind::Stalled && self.notify == Notify::FailuresAndRuns => Ok(()),
            None if kind.is_anomaly() => Err(Refusal::Anomaly(kind)),
            Some(patterns) if !patterns.iter().any(|p| p.matcher.is_match(kind.as_str())) => {
                Err(Refusal::Event { kind, wanted: patterns.iter().map(|p| p.text.clone()).collect() })
            }
            _ => Ok(()),
        }
    }

    fn admits_status(&self, status: Option<Status>) -> Result<(), Refusal> {
        match (&self.statuses, status) {
            (Some(wanted), Some(status)) if !wanted.contains(&status) => {
                Err(Refusal::Status { status, wanted: wanted.iter().copied().collect() })
            }
            _ => Ok(()),
        }
    }

    /// Whether the subscription is told of a stage that ends its run so by the run's end alone: it
    /// says the same and more.
    pub(crate) fn leaves_to_the_run(&self, end: Status) -> bool {
        self.notify == Notify::FailuresAndRuns
            && self.admits_kind(EventKind::PipelineCompleted).is_ok()
            && self.admits_status(Some(end)).is_ok()
    }

    /// What the subscription gets, for people.
    pub(crate) fn gets(&self) -> String {
        let mut gets = match self.notify {
            Notify::All => "all that its filters admit".to_owned(),
            Notify::FailuresAndRuns => "failures, halts, gates, stalls and run ends".to_owned(),
        };
        let list = |name: &str, words: Vec<&str>| format!("; {name} {}", words.join(", "));
        if let Some(events) = &self.events {
            gets += &list("of the events", events.iter().map(|one| one.text.as_str()).collect());
        }
        if let Some(stages) = &self.stages {
            gets += &list("of the stages", stages.iter().map(|one| one.as_str()).collect());
        }
        if let Some(statuses) = &self.statuses {
            gets += &list("with the status", statuses.iter().map(|one| one.as_str()).collect());
        }
        if let Some(specs) = &self.specs {
            gets += &list("of the SPECs", specs.iter().map(|one| one.text.as_str()).collect());
        }
        if let Some(tasks) = &self.tasks {
            gets += &list("of the tasks", tasks.iter().map(|one| one.text.as_str()).collect());
        }
        gets
    }
}

/// The patterns of a filter, if it is given and none matches this id.
fn unless_any(patterns: Option<&[IdPattern]>, id: &str) -> Option<Vec<String>> {
    let patterns = patterns.filter(|patterns| !patterns.iter().any(|one| one.matcher.is_match(id)))?;
    Some(patterns.iter().map(|one| one.text.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::IdempotencyKey;

    fn event(kind: EventKind, stage: Option<Stage>, status: Option<Status>) -> Event {
        let spec: crate::event::SpecId = "SPEC-1".parse().unwrap();
        let mut event = Event::new(kind, spec.clone(), IdempotencyKey::unique(&spec, "x"));
        event.event.stage = stage;
        event.event.status = status;
        event
    }

    #[test]
    fn an_omitted_filter_admits_all_but_anomalies() {
        for kind in EventKind::ALL {
            assert_eq!(
                Filter::default().admits(&event(*kind, None, None)).is_ok(),
                !kind.is_anomaly(),
                "{kind}"
            );
        }
    }

    #[test]
    fn each_filter_refuses_with_its_reason() {
        let filter = Filter {
            events: Some(vec![EventPattern::parse("spec-auto.*").unwrap()]),
            stages: Some([Stage::Plan].into()),
            statuses: Some([Status::Failure].into()),
            specs: Some(vec!["SPEC-1".parse().unwrap(), "SPEC-KIT-*".parse().unwrap()]),
            tasks: Some(vec!["T[12]".parse().unwrap()]),
            notify: Notify::All,
        };
        let mut other = event(EventKind::PipelineCompleted, None, None);
        other.spec.id = "SPEC-OPS-1".parse().unwrap();
        let refusal = filter.admits(&other).unwrap_err().to_string();
        assert_eq!(refusal, "include_specs has no SPEC-OPS-1, only SPEC-1, SPEC-KIT-*");
        let of_task = |id: &str| {
            let mut event = event(EventKind::PipelineCompleted, None, None);
            event.task = serde_json::from_value(serde_json::json!({"id": id})).unwrap();
            filter.admits(&event).map_err(|refusal| refusal.to_string())
        };
        assert_eq!(of_task("T2"), Ok(()));
        assert_eq!(of_task("T3").unwrap_err(), "include_tasks has no T3, only T[12]");
        let stage = EventKind::StageCompleted;
        assert_eq!(filter.admits(&event(stage, Some(Stage::Plan), Some(Status::Failure))), Ok(()));
        assert_eq!(filter.admits(&event(EventKind::PipelineCompleted, None, Some(Status::Failure))), Ok(()));
        assert_eq!(filter.admits(&event(EventKind::CostThreshold, None, None)), Ok(()));
        for (refused, words) in [
            (event(EventKind::TaskCompleted, None, None), "include_events has no spec-kit.task.completed"),
            (event(stage, Some(Stage::Audit), None), "include_stages has no Audit, only Plan"),
            (event(stage, Some(Stage::Plan), Some(Status::Halt)), "include_status has no halt, only failure"),
        ] {
            let refusal = filter.admits(&refused).unwrap_err().to_string();
            assert!(refusal.contains(words), "{refusal}");
        }
    }

    #[test]
    fn failures_and_runs_are_what_somebody_has_to_know_of() {
        let mut filter = Filter { notify: Notify::FailuresAndRuns, ..Filter::default() };
        let (stage, run) = (EventKind::StageCompleted, EventKind::PipelineCompleted);
        let (success, failure, halt) = (Some(Status::Success), Some(Status::Failure), Some(Status::Halt));
        for (kind, status, is_wanted) in [
            (stage, success, false),
            (stage, None, false),
            (stage, failure, true),
            (stage, halt, true),
            (run, success, true),
            (run, failure, true),
            (EventKind::TaskCompleted, None, false),
            (EventKind::TaskListCompleted, None, false),
            (EventKind::PipelineWaiting, halt, true),
            (EventKind::Stalled, None, true),
            (EventKind::CostThreshold, None, false),
            (EventKind::Test, None, true),
        ] {
            assert_eq!(filter.admits(&event(kind, None, status)).is_ok(), is_wanted, "{kind} {status:?}");
        }
        let refusal = filter.admits(&event(stage, None, success)).unwrap_err().to_string();
        let words = "notify = \"failures+runs\" leaves out spec-auto.stage.completed with the status success";
        assert_eq!(refusal, words);
        // It goes together with the filters.
        assert!(filter.leaves_to_the_run(Status::Failure));
        filter.events = Some(vec![EventPattern::parse("spec-auto.*").unwrap()]);
        assert!(filter.admits(&event(EventKind::CostThreshold, None, None)).is_ok(), "asked for by name");
        filter.statuses = Some([Status::Halt].into());
        assert!(filter.admits(&event(stage, None, failure)).is_err());
        assert!(filter.leaves_to_the_run(Status::Halt) && !filter.leaves_to_the_run(Status::Failure));
        filter.events = Some(vec![EventPattern::parse("spec-auto.stage.*").unwrap()]);
        assert!(!filter.leaves_to_the_run(Status::Halt), "it hears of no run");
        assert!(filter.admits(&event(EventKind::Stalled, None, None)).is_err());
        assert!(!Filter::default().leaves_to_the_run(Status::Halt));
        let gets = "failures, halts, gates, stalls and run ends; of the events spec-auto.stage.*; \
             with the status halt";
        assert_eq!(filter.gets(), gets);
    }

    #[test]
    fn a_pattern_that_fits_nothing_is_a_mistake() {
        for (pattern, words) in [
            ("spec-auto.stage.complete", "did you mean `spec-auto.stage.completed`?"),
            ("task.*", "no event type fits `task.*`"),
            ("spec-{", "malformed pattern"),
        ] {
            let error = EventPattern::parse(pattern).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
