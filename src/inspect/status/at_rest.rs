//! The status where no runtime answers, from the files alone: what waits, and what would send it.

use jiff::Timestamp;

use super::{SourcesStatus, StatusReport};
use crate::archive::Healths;
use crate::config::Role;
use crate::config::{Config, SubscriptionConfig};
use crate::delivery::SubscriptionId;
use crate::figures::Counts;
use crate::inspect::FleetFacts;
use crate::inspect::words::counted;
use crate::inspect::{Queue, Survey};
use crate::watch::Waiting;

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
    /// The status if no runtime answers. `sources` is what waits in the repo, if it was examined.
    pub(crate) fn at_rest(
        config: &Config,
        unfinished: Unfinished,
        (healths, counts): (&Healths, &Counts),
        survey: &Survey,
        sources: Option<Waiting>,
        silent: Option<String>,
        fleet: Option<&FleetFacts>,
    ) -> Self {
        let entry = |entry: &SubscriptionConfig| (entry.id.clone(), entry.role(), Queue::default());
        let mut queues: Vec<(SubscriptionId, Role, Queue)> = config.subscriptions.iter().map(entry).collect();
        let is_unknown = matches!(unfinished, Unfinished::Unknown);
        let one_each =
            |listed: Vec<(SubscriptionId, Timestamp)>| listed.into_iter().map(|(id, at)| (id, (1, at)));
        let (listed, counted_only) = match unfinished {
            Unfinished::Listed(listed) => (one_each(listed).collect::<Vec<_>>(), None),
            Unfinished::Counted(count) => (Vec::new(), Some(count)),
            Unfinished::Unknown => (Vec::new(), None),
        };
        for (id, (waiting, since)) in listed {
            let at = queues.iter().position(|(known, ..)| *known == id).unwrap_or_else(|| {
                queues.push((id, Role::Inactive, Queue::default()));
                queues.len() - 1
            });
            let queue = &mut queues[at].2;
            queue.waiting += waiting;
            queue.oldest = Some(queue.oldest.map_or(since, |oldest| oldest.min(since)));
        }
        for (id, pause) in &survey.pauses {
            let at = queues.iter().position(|(known, ..)| known == id).unwrap_or_else(|| {
                queues.push((id.clone(), Role::Inactive, Queue::default()));
                queues.len() - 1
            });
            queues[at].2.paused = Some(pause.clone());
        }
        let mut filled = fleet.map(|_| (healths.clone(), survey.clone()));
        if let Some((fleet, (healths, survey))) = fleet.zip(filled.as_mut()) {
            fleet.fill(&mut queues, healths, survey);
        }
        let (healths, survey) =
            filled.as_ref().map_or((healths, survey), |(healths, survey)| (healths, survey));
        let mut report = Self::new(None, &queues, healths, counts, survey);
        report.off = !config.enabled;
        // What nobody sends does not get less, whatever the last minute's rate was.
        report.subscriptions.iter_mut().for_each(|one| one.empty_in_s = None);
        report.pending = counted_only.unwrap_or(report.pending);
        let parked = report.subscriptions.iter().filter(|one| one.is_parked());
        let parked: usize = parked.map(|one| one.pending).sum();
        // What lies in a cluster is sent by others.
        let own = if fleet.is_some() { 0 } else { report.pending - parked };
        let waiting = own + survey.inbox;
        let in_repo = sources.as_ref().filter(|sources| sources.is_something()).map(SourcesStatus::of);
        if let Some(silent) = silent {
            report.warnings.insert(0, silent.clone());
            report.silent = Some(silent);
        } else if is_unknown {
            let what = "the last run did not end in order, and its rest is not counted: start spec-notify \
                        serve";
            report.warnings.insert(0, what.to_owned());
        }
        let to_tell = in_repo.filter(|sources| !sources.baseline);
        let waits = [
            (waiting > 0).then(|| counted(waiting, "delivery or event waits", "deliveries and events wait")),
            to_tell.map(|sources| format!("the repo holds {sources} not sent yet")),
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
                 drain records them as known and sends what comes after; serve --from-start sends them too"
            ));
        }
        if let Some(sources) = sources {
            report.sources = Some(SourcesStatus::of(&sources));
            if sources.is_partial && !sources.is_something() {
                let what =
                    "the repo has so many files that not all were looked at: spec-notify status looks longer";
                report.warnings.push(what.to_owned());
            }
            report.warnings.extend(sources.troubles);
        }
        if let Some(fleet) = fleet {
            report.add_fleet(fleet);
        }
        report
    }
}
