//! The answer to `status`: the state of each subscription, what waits, and what an operator should
//! do. Built from a runtime's actors, or from the disk alone.

use std::fmt;
use std::io;
use std::path::Path;
use std::process;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::warnings::rejected;
use super::words::{ago, counted};
use super::{Condition, Facts, Queue, Survey, Watching};
use crate::archive::Healths;
use crate::clock;
use crate::config::Role;
#[cfg(feature = "cli")]
use crate::config::{Config, SubscriptionConfig};
use crate::delivery::{HealthState, LocalFault, Pause, SubscriptionId};
use crate::event::SpecId;
use crate::files::read_small;
use crate::files::user::check_owner;
use crate::run::AwaitedStage;
#[cfg(feature = "cli")]
use crate::watch::Waiting;

/// The answer to `status`, as `--json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StatusReport {
    /// The runtime; `None` if none runs, or its `runtime.json` cannot be read.
    pub runtime: Option<RuntimeStatus>,
    /// The subscriptions in the config's order, then those no longer in the config that still have
    /// deliveries or dead letters.
    pub subscriptions: Vec<SubscriptionStatus>,
    /// Number of unfinished deliveries of all subscriptions.
    pub pending: usize,
    /// Number of events in the inbox, which the next runtime takes in.
    pub inbox: usize,
    /// What the repo holds that no runtime has taken in yet; absent if one runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sources: Option<SourcesStatus>,
    /// Stages whose guardrail passed and that are told once their agents have agreed
    /// (`stage_ends_with = "consensus"`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaited: Vec<AwaitedStage>,
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
        Self { stages: waiting.stages, tasks: waiting.tasks, runs: waiting.runs, baseline: waiting.is_first }
    }
}

/// Displayed as in `3 stages and 1 task`.
impl fmt::Display for SourcesStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = (self.runs, "workflow run", "workflow runs");
        let kinds = [(self.stages, "stage", "stages"), (self.tasks, "task", "tasks"), runs];
        let there = kinds.into_iter().filter(|(count, ..)| *count > 0);
        let there: Vec<String> = there.map(|(count, one, many)| counted(count, one, many)).collect();
        f.write_str(&there.join(" and "))
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
    /// Number of deliveries that wait.
    pub pending: usize,
    /// Number of requests under way at its endpoint, those of `test` and `replay` too.
    pub in_flight: usize,
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

    pub(super) fn is_failing(&self) -> bool {
        matches!(self.health, HealthState::Failing | HealthState::Open)
    }
}

/// The unfinished deliveries, as far as known without a runtime.
#[derive(Clone, Debug)]
pub(crate) enum Unfinished {
    /// The subscription of each delivery, and when it was accepted.
    Listed(Vec<(SubscriptionId, Timestamp)>),
    /// Only their number.
    Counted(usize),
    /// Unknown: the last run did not end in order, and counting would take long.
    Unknown,
}

impl StatusReport {
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
        let Condition { healths, troubles, evidence, later } = &facts.condition;
        let mut report = Self::new(Some(runtime), &facts.queues, healths, &facts.survey);
        report.warnings.splice(0..0, troubles.iter().chain(evidence).chain(later).cloned());
        report.warnings.extend(facts.edited.iter().cloned());
        if let Watching::Troubled(trouble) = &facts.watching {
            report.warnings.push(trouble.clone());
        }
        report.warnings.extend(facts.inbox.iter().cloned());
        report.aside.extend(troubles.iter().chain(later).chain(&facts.inbox).cloned());
        report.awaited.clone_from(&facts.awaited);
        report
    }

    /// The status if no runtime answers. `sources` is what waits in the repo, if it was examined.
    #[cfg(feature = "cli")]
    pub(crate) fn at_rest(
        config: &Config,
        unfinished: Unfinished,
        healths: &Healths,
        survey: &Survey,
        sources: Option<Waiting>,
        silent: Option<String>,
    ) -> Self {
        let entry = |entry: &SubscriptionConfig| (entry.id.clone(), entry.role(), Queue::default());
        let mut queues: Vec<(SubscriptionId, Role, Queue)> = config.subscriptions.iter().map(entry).collect();
        let is_unknown = matches!(unfinished, Unfinished::Unknown);
        let (listed, counted_only) = match unfinished {
            Unfinished::Listed(listed) => (listed, None),
            Unfinished::Counted(count) => (Vec::new(), Some(count)),
            Unfinished::Unknown => (Vec::new(), None),
        };
        for (id, since) in listed {
            let at = queues.iter().position(|(known, ..)| *known == id).unwrap_or_else(|| {
                queues.push((id, Role::Inactive, Queue::default()));
                queues.len() - 1
            });
            let queue = &mut queues[at].2;
            queue.waiting += 1;
            queue.oldest = Some(queue.oldest.map_or(since, |oldest| oldest.min(since)));
        }
        for (id, pause) in &survey.pauses {
            let at = queues.iter().position(|(known, ..)| known == id).unwrap_or_else(|| {
                queues.push((id.clone(), Role::Inactive, Queue::default()));
                queues.len() - 1
            });
            queues[at].2.paused = Some(pause.clone());
        }
        let mut report = Self::new(None, &queues, healths, survey);
        report.pending = counted_only.unwrap_or(report.pending);
        let parked = report.subscriptions.iter().filter(|one| one.is_parked());
        let waiting = report.pending + survey.inbox - parked.map(|one| one.pending).sum::<usize>();
        let in_repo = sources.as_ref().filter(|sources| sources.is_something()).map(SourcesStatus::of);
        if let Some(silent) = silent {
            report.warnings.insert(0, silent.clone());
            report.silent = Some(silent);
        } else if is_unknown {
            let what = "the last run did not end in order, and nobody has counted what it left: \
                        start spec-notify serve";
            report.warnings.insert(0, what.to_owned());
        }
        let to_tell = in_repo.filter(|sources| !sources.baseline);
        let waits = [
            (waiting > 0).then(|| counted(waiting, "delivery or event waits", "deliveries and events wait")),
            to_tell.map(|sources| format!("the repo holds {sources} not told yet")),
        ];
        let waits: Vec<String> = waits.into_iter().flatten().collect();
        if report.silent.is_none() && !waits.is_empty() {
            report.warnings.insert(
                0,
                format!(
                    "no runtime is running, and {}: start spec-notify serve, or run spec-notify drain",
                    waits.join(", and ")
                ),
            );
        }
        if let Some(known) = in_repo.filter(|sources| sources.baseline) {
            report.warnings.push(format!(
                "no runtime has watched this repo yet, and it holds {known}: the first spec-notify serve or \
                 drain takes them as known and tells what comes after; serve --from-start tells them too"
            ));
        }
        if let Some(sources) = sources {
            report.sources = Some(SourcesStatus::of(&sources));
            report.warnings.extend(sources.troubles);
        }
        report
    }

    fn new(
        runtime: Option<RuntimeStatus>,
        queues: &[(SubscriptionId, Role, Queue)],
        healths: &Healths,
        survey: &Survey,
    ) -> Self {
        let mut subscriptions: Vec<SubscriptionStatus> = queues
            .iter()
            .map(|(id, role, queue)| {
                let health = healths.get(id).cloned().unwrap_or_default();
                SubscriptionStatus {
                    health: match role {
                        Role::Active | Role::DryRun if queue.paused.is_some() => HealthState::Paused,
                        Role::Active => health.state(),
                        Role::DryRun => HealthState::DryRun,
                        Role::Inactive => HealthState::Inactive,
                    },
                    pending: queue.waiting,
                    in_flight: queue.in_flight + queue.of_operators,
                    dead_letters: survey.dead_letters.get(id).map_or(0, |letters| letters.count),
                    consecutive_failures: health.consecutive_failures,
                    failing_since: health
                        .failing_since
                        .or(health.local_fault.as_ref().map(|fault| fault.since)),
                    last_success_at: health.last_success_at,
                    last_error: health.last_error,
                    last_hint: health.last_hint,
                    last_spec: health.last_spec,
                    local_fault: health.local_fault,
                    oldest_pending_at: queue.oldest,
                    paused: queue.paused.clone(),
                    paused_until: health.paused_until.filter(|until| *until > clock::now()),
                    clock_skew_s: health.clock_skew_s,
                    id: id.clone(),
                }
            })
            .collect();
        let known = |id: &SubscriptionId| queues.iter().any(|(known, ..)| known == id);
        let gone = survey.dead_letters.iter().filter(|(id, _)| !known(id));
        subscriptions.extend(gone.map(|(id, letters)| SubscriptionStatus {
            id: id.clone(),
            health: HealthState::Inactive,
            pending: 0,
            in_flight: 0,
            dead_letters: letters.count,
            consecutive_failures: 0,
            failing_since: None,
            last_success_at: None,
            last_error: None,
            last_hint: None,
            last_spec: None,
            local_fault: None,
            oldest_pending_at: None,
            paused: None,
            paused_until: None,
            clock_skew_s: None,
        }));
        let pending = queues.iter().map(|(.., queue)| queue.waiting + queue.in_flight).sum();
        let mut aside = survey.unusable.clone();
        aside.extend(rejected(survey));
        let (inbox, warnings) = (survey.inbox, Vec::new());
        let (sources, silent) = (None, None);
        let awaited = Vec::new();
        let mut report =
            Self { runtime, subscriptions, pending, inbox, sources, awaited, warnings, aside, silent };
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

    /// One line if something is unresolved: failing subscriptions, dead letters, damage, or events
    /// that wait for a runtime.
    pub fn banner(&self, now: Timestamp) -> Option<String> {
        let mut parts = Vec::new();
        for subscription in self.subscriptions.iter().filter(|subscription| subscription.is_failing()) {
            let since = subscription
                .failing_since
                .map_or(String::new(), |since| format!(" since {}", ago(now, since)));
            parts.push(format!("{} {}{since}", subscription.id, subscription.health));
        }
        let paused: Vec<_> = self.subscriptions.iter().filter(|one| one.paused.is_some()).collect();
        match paused[..] {
            [] => {}
            [one] => {
                let since = one.paused.as_ref().map_or(String::new(), |pause| ago(now, pause.since));
                parts.push(format!("{} paused since {since}", one.id));
            }
            _ => parts.push(format!("{} paused", counted(paused.len(), "subscription", "subscriptions"))),
        }
        let dead: usize = self.subscriptions.iter().map(|subscription| subscription.dead_letters).sum();
        if dead > 0 {
            parts.push(counted(dead, "dead letter", "dead letters"));
        }
        if let Some(sources) = self.sources.filter(|sources| sources.is_something() && !sources.baseline) {
            parts.push(format!("{sources} not told"));
        }
        if parts.is_empty() && !self.warnings.is_empty() {
            parts.push(counted(self.warnings.len(), "warning", "warnings"));
        }
        let unresolved = !parts.is_empty();
        if unresolved && self.pending > 0 {
            parts.push(format!("{} pending", self.pending));
        }
        if unresolved && self.runtime.is_none() {
            let what = if self.silent.is_some() { "the runtime does not answer" } else { "no runtime runs" };
            parts.push(what.to_owned());
        }
        unresolved.then(|| format!("spec-notify: {} (see spec-notify status)", parts.join(", ")))
    }
}
