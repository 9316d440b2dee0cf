//! The answer to `status`: the state of each subscription, what waits, and what an operator should
//! do. Built from a runtime's actors, or from the disk alone.

#[cfg(feature = "cli")]
mod at_rest;

use std::fmt;
use std::io;
use std::path::Path;
use std::process;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::causes::Trouble;
use super::fleet::FleetStatus;
use super::warnings::rejected;
use super::words::counted;
use super::{Condition, Facts, Queue, Survey, Watching};
use crate::archive::Healths;
use crate::clock;
use crate::config::Role;
use crate::delivery::{Health, HealthState, Incident, LocalFault, Pause, SubscriptionId};
use crate::event::SpecId;
use crate::figures::{Counts, Figures};
use crate::files::read_small;
use crate::files::user::check_owner;
use crate::run::AwaitedStage;
#[cfg(feature = "cli")]
use crate::watch::Waiting;
#[cfg(feature = "cli")]
pub(crate) use at_rest::Unfinished;

/// The answer to `status`, as `--json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatusReport {
    /// Whether webhooks are off: nothing is accepted, and nothing sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub off: bool,
    /// The runtime; `None` if none runs, or its `runtime.json` cannot be read.
    pub runtime: Option<RuntimeStatus>,
    /// The subscriptions in the config's order, then those no longer in the config that still have
    /// deliveries or dead letters.
    pub subscriptions: Vec<SubscriptionStatus>,
    /// The attempts of all subscriptions over time.
    #[serde(default)]
    pub figures: Box<Figures>,
    /// Since when the figures are whole, where the evidence has nothing older and the day is not
    /// over.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "clock::maybe_millis")]
    pub figures_from: Option<Timestamp>,
    /// Number of unfinished deliveries of all subscriptions.
    pub pending: usize,
    /// Number of events in the inbox, which the next runtime takes in.
    pub inbox: usize,
    /// The fleet that this machine delivers for; absent for one machine alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetStatus>,
    /// What the repo holds that no runtime has taken in yet; absent if one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<SourcesStatus>,
    /// Stages whose guardrail passed and that are told once their agents have agreed
    /// (`stage_ends_with = "consensus"`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaited: Vec<AwaitedStage>,
    /// What fails, grouped by how; also in `warnings`.
    #[serde(default)]
    pub troubles: Vec<Trouble>,
    /// What an operator should know, and what to do about it.
    pub warnings: Vec<String>,
    /// What is set aside and cannot be delivered at present, and why; also in `warnings`.
    #[serde(default)]
    pub aside: Vec<String>,
    /// Why a runtime that should answer does not; also in `warnings`.
    #[serde(skip)]
    pub(crate) silent: Option<String>,
}

/// The runtime that answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RuntimeStatus {
    /// Its process id.
    pub pid: u32,
    /// The address of its control port.
    pub address: String,
    /// The program's version.
    pub version: String,
    /// How long it has owned the spool, in seconds.
    pub uptime_s: u64,
    /// Whether it watches the repo.
    #[serde(default)]
    pub watches: bool,
}

/// The address of the control port, as `runtime.json` says.
fn address_in(spool_dir: &Path) -> io::Result<String> {
    #[derive(Deserialize)]
    struct Announced {
        address: String,
    }
    let path = spool_dir.join("runtime.json");
    check_owner(&path)?;
    Ok(serde_json::from_slice::<Announced>(&read_small(&path)?)?.address)
}

/// What the repo holds that no runtime has taken in yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SourcesStatus {
    /// Number of stages that ended.
    pub stages: usize,
    /// Number of tasks that became Done.
    pub tasks: usize,
    /// Number of workflow runs of which something is to be told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub runs: usize,
    /// Whether the look was cut short, so that there may be more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partial: bool,
    /// Whether the next start takes them as known without telling them, because this repo was
    /// never watched.
    pub baseline: bool,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(crate) fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl SourcesStatus {
    /// Whether any count is above zero.
    pub fn is_something(&self) -> bool {
        self.stages + self.tasks + self.runs > 0
    }

    #[cfg(feature = "cli")]
    pub(crate) fn of(waiting: &Waiting) -> Self {
        Self {
            stages: waiting.stages,
            tasks: waiting.tasks,
            runs: waiting.runs,
            partial: waiting.is_partial,
            baseline: waiting.is_first,
        }
    }
}

/// Displayed as in `3 stages and 1 task`, or `at least 3 stages` of a look that was cut short.
impl fmt::Display for SourcesStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = (self.runs, "workflow run", "workflow runs");
        let kinds = [(self.stages, "stage", "stages"), (self.tasks, "task", "tasks"), runs];
        let there = kinds.into_iter().filter(|(count, ..)| *count > 0);
        let there: Vec<String> = there.map(|(count, one, many)| counted(count, one, many)).collect();
        let at_least = if self.partial { "at least " } else { "" };
        write!(f, "{at_least}{}", there.join(" and "))
    }
}

/// The state of one subscription.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubscriptionStatus {
    /// The subscription's id.
    pub id: SubscriptionId,
    /// The state in a word.
    pub health: HealthState,
    /// Since when it is in that state.
    #[serde(default, with = "clock::maybe_millis")]
    pub since: Option<Timestamp>,
    /// Whether somebody has to look: it fails, or may at any time.
    #[serde(default)]
    pub unresolved: bool,
    /// Number of deliveries that wait.
    pub pending: usize,
    /// Number of requests under way at its endpoint, those of `test` and `replay` too.
    pub in_flight: usize,
    /// In how many seconds nothing waits any more at the rate of the last minute; absent where
    /// nothing waits, or as many come as end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub empty_in_s: Option<f64>,
    /// Its attempts over time.
    #[serde(default)]
    pub figures: Figures,
    /// Spells of failures that ended in the last day, the oldest first.
    #[serde(default)]
    pub incidents: Vec<Incident>,
    /// Number of dead letters, which can be replayed.
    pub dead_letters: usize,
    /// Number of failed attempts since the last success.
    pub consecutive_failures: u32,
    /// When the first of these attempts failed.
    #[serde(with = "clock::maybe_millis")]
    pub failing_since: Option<Timestamp>,
    /// When an attempt last succeeded.
    #[serde(with = "clock::maybe_millis")]
    pub last_success_at: Option<Timestamp>,
    /// The last failure, in words.
    pub last_error: Option<String>,
    /// What to do about it.
    #[serde(default)]
    pub last_hint: Option<String>,
    /// The SPEC of the delivery that failed last.
    #[serde(default)]
    pub last_spec: Option<SpecId>,
    /// Why nothing can be sent from this machine to its endpoint, as long as that lasts.
    #[serde(default)]
    pub local_fault: Option<LocalFault>,
    /// When the oldest unfinished delivery was accepted.
    #[serde(with = "clock::maybe_millis")]
    pub oldest_pending_at: Option<Timestamp>,
    /// Since when a person holds its deliveries back, and who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Until when its endpoint asked for a pause, if that time is in the future.
    #[serde(default, with = "clock::maybe_millis")]
    pub paused_until: Option<Timestamp>,
    /// The difference between its endpoint's clock and ours in seconds, if it is more than a
    /// minute; positive if the endpoint's clock is ahead.
    #[serde(default)]
    pub clock_skew_s: Option<i64>,
}

impl SubscriptionStatus {
    /// Whether what waits for it is not sent now, whatever its endpoint does.
    #[cfg(feature = "cli")]
    pub(crate) fn is_parked(&self) -> bool {
        self.health == HealthState::Inactive || self.paused.is_some()
    }

    /// As `unresolved`, which a runtime of an earlier version does not say.
    pub(super) fn needs_somebody(&self) -> bool {
        self.unresolved || matches!(self.health, HealthState::Failing | HealthState::Open)
    }

    fn of(
        id: SubscriptionId,
        role: Role,
        queue: &Queue,
        health: Health,
        dead_letters: usize,
        figures: Figures,
        now: Timestamp,
    ) -> Self {
        let state = match role {
            Role::Active | Role::DryRun if queue.paused.is_some() => HealthState::Paused,
            Role::Active => match health.state(now) {
                // A kill may cost the last second of what was remembered, and not its evidence.
                HealthState::Untried if figures.day.delivered > 0 => HealthState::Healthy,
                state => state,
            },
            Role::DryRun => HealthState::DryRun,
            Role::Inactive => HealthState::Inactive,
        };
        let fails = health.failing_since.or(health.local_fault.as_ref().map(|fault| fault.since));
        Self {
            id,
            health: state,
            since: match &queue.paused {
                Some(pause) => Some(pause.since),
                None => health.since(now).filter(|_| role == Role::Active),
            },
            unresolved: queue.paused.is_some() || (role == Role::Active && health.is_unresolved(now)),
            pending: queue.waiting,
            in_flight: queue.in_flight + queue.of_operators,
            dead_letters,
            empty_in_s: match (role, &queue.paused) {
                (Role::Inactive, _) | (_, Some(_)) => None,
                _ => figures.empty_in_s(queue.waiting + queue.in_flight),
            },
            figures,
            incidents: health.incidents(now),
            consecutive_failures: health.consecutive_failures,
            failing_since: fails,
            last_success_at: health.last_success_at,
            last_error: health.last_error,
            last_hint: health.last_hint,
            last_spec: health.last_spec,
            local_fault: health.local_fault,
            oldest_pending_at: queue.oldest,
            paused: queue.paused.clone(),
            paused_until: health.paused_until.filter(|until| *until > now),
            clock_skew_s: health.clock_skew_s,
        }
    }
}

impl StatusReport {
    /// Whether another report, of another moment, says nothing else: what only the clock moves
    /// (uptime, figures) does not count.
    pub(crate) fn says_the_same(&self, other: &Self) -> bool {
        let timeless = |report: &Self| {
            let mut report = report.clone();
            report.runtime.iter_mut().for_each(|runtime| runtime.uptime_s = 0);
            (report.figures, report.figures_from) = (Box::default(), None);
            for one in &mut report.subscriptions {
                (one.figures, one.empty_in_s) = (Figures::default(), None);
            }
            report
        };
        timeless(self) == timeless(other)
    }

    /// The status where webhooks are off.
    pub(crate) fn off() -> Self {
        let nothing = (Healths::default(), Counts::default(), Survey::default());
        Self { off: true, ..Self::new(None, &[], &nothing.0, &nothing.1, &nothing.2) }
    }

    /// The status of a running runtime.
    pub(crate) fn of(facts: &Facts, spool_dir: &Path) -> Self {
        // It is this process that answers, whether its runtime.json can be read or not.
        let runtime = RuntimeStatus {
            pid: process::id(),
            address: address_in(spool_dir).unwrap_or_else(|_| "unknown".to_owned()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_s: facts.uptime.as_secs(),
            watches: facts.watching != Watching::Off,
        };
        let Condition { healths, counts, troubles, evidence, later, .. } = &facts.condition;
        let mut report = Self::new(Some(runtime), &facts.queues, healths, counts, &facts.survey);
        report.warnings.splice(0..0, troubles.iter().chain(evidence).chain(later).cloned());
        report.warnings.extend(facts.edited.iter().cloned());
        if let Watching::Troubled(trouble) = &facts.watching {
            report.warnings.push(trouble.clone());
        }
        report.warnings.extend(facts.inbox.iter().cloned());
        report.aside.extend(troubles.iter().chain(later).chain(&facts.inbox).cloned());
        report.awaited.clone_from(&facts.awaited);
        if let Some(fleet) = &facts.fleet {
            report.add_fleet(fleet);
        }
        report
    }

    fn new(
        runtime: Option<RuntimeStatus>,
        queues: &[(SubscriptionId, Role, Queue)],
        healths: &Healths,
        counts: &Counts,
        survey: &Survey,
    ) -> Self {
        let now = clock::now();
        let known = |id: &SubscriptionId| queues.iter().any(|(known, ..)| known == id);
        let gone = survey.dead_letters.keys().filter(|id| !known(id));
        let gone = gone.map(|id| (id.clone(), Role::Inactive, Queue::default()));
        let mut causes = Vec::new();
        let mut subscriptions = Vec::new();
        for (id, role, queue) in queues.iter().cloned().chain(gone) {
            let health = healths.get(&id).cloned().unwrap_or_default();
            if role == Role::Active && health.is_unresolved(now) {
                causes.push((id.clone(), health.causes(now)));
            }
            let letters = survey.dead_letters.get(&id).map_or(0, |letters| letters.count);
            let figures = counts.of(&id, now);
            subscriptions.push(SubscriptionStatus::of(id, role, &queue, health, letters, figures, now));
        }
        let pending = queues.iter().map(|(.., queue)| queue.waiting + queue.in_flight).sum();
        let mut aside = survey.unusable.clone();
        aside.extend(rejected(survey));
        let mut report = Self {
            off: false,
            runtime,
            subscriptions,
            figures: Box::new(counts.in_all(now)),
            figures_from: counts.from(now),
            pending,
            inbox: survey.inbox,
            fleet: None,
            sources: None,
            awaited: Vec::new(),
            troubles: Vec::new(),
            warnings: Vec::new(),
            aside,
            silent: None,
        };
        report.troubles = report.find_troubles(&causes, survey);
        report.warnings = report.find_warnings(survey);
        for (id, _, queue) in queues {
            if let Some((count, why)) = &queue.unread {
                let what = counted(*count, "delivery", "deliveries");
                report.warnings.push(format!(
                    "{id}: {what} cannot be read from the spool and are tried again each second: {why}"
                ));
            }
        }
        report
    }
}
