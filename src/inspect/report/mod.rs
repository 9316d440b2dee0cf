//! The answer to `report`: what happened since a time, as values. Attempts and ends are counted
//! from the evidence one by one, runs are told from the events that the spool still has, and what
//! is unresolved is what `status` says.

mod attempts;
mod runs;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::{RuntimeStatus, StatusReport, Trouble};
use crate::archive::Part;
use crate::clock;
use crate::delivery::{HealthState, SubscriptionId};
use crate::event::Source;
use attempts::{Counted, count};
pub(crate) use attempts::{FailureCause, Slot, Tally};
use runs::Told;
pub(crate) use runs::{RunReport, StepKind};

/// See the module's first lines.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// What is older is left out.
    #[serde(with = "clock::millis")]
    pub since: Timestamp,
    /// When it was made.
    #[serde(with = "clock::millis")]
    pub until: Timestamp,
    /// The checkout.
    pub source: Source,
    /// The runtime; `None` if none runs.
    pub runtime: Option<RuntimeStatus>,
    /// Since when it is whole, where the evidence has nothing older.
    #[serde(skip_serializing_if = "Option::is_none", with = "clock::maybe_millis")]
    pub whole_from: Option<Timestamp>,
    /// All subscriptions together.
    pub total: Tally,
    /// Unfinished deliveries now, of all subscriptions.
    pub pending: usize,
    /// Dead letters now, of all subscriptions.
    pub dead_letters: usize,
    /// Each subscription: those that somebody has to look at first, then in the config's order.
    pub subscriptions: Vec<SubscriptionReport>,
    /// How attempts failed, the most frequent first.
    pub causes: Vec<FailureCause>,
    /// The time in which attempts were made, in equal parts.
    pub over_time: Vec<Slot>,
    /// The runs, the newest first.
    pub runs: Vec<RunReport>,
    /// Number of runs that are left out, because there are newer ones.
    pub earlier_runs: usize,
    /// Whether events of that time were compacted away, so that runs may lack stages.
    pub runs_are_partial: bool,
    /// Whether it is of a fleet, whose cluster keeps no events that runs and tasks are told from.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub of_fleet: bool,
    /// Number of tasks that became Done.
    pub tasks: usize,
    /// What fails now, with what to do.
    pub troubles: Vec<Trouble>,
    /// What else is left to do, as sentences.
    pub warnings: Vec<String>,
}

/// One subscription.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SubscriptionReport {
    /// Its id.
    pub id: SubscriptionId,
    /// Its health now.
    pub health: HealthState,
    /// Whether somebody has to look.
    pub unresolved: bool,
    /// Deliveries that are not finished now.
    pub pending: usize,
    /// Dead letters now.
    pub dead_letters: usize,
    /// What happened.
    #[serde(flatten)]
    pub(crate) tally: Tally,
}

impl Report {
    /// Reads the evidence and the spool of a repo; `status` is what its runtime, or its disk, says
    /// now.
    ///
    /// # Errors
    /// The spool cannot be listed.
    pub(crate) fn read(
        spool_dir: &Path,
        evidence: &[Part],
        status: &StatusReport,
        source: Source,
        (since, until): (Timestamp, Timestamp),
    ) -> io::Result<Self> {
        let Counted { total, mut each, mut causes, over_time, whole_from } = count(evidence, since, until);
        // A fleet's cluster keeps no event that has been fanned out.
        let told = if status.fleet.is_some() { Told::default() } else { runs::told(spool_dir, since)? };
        let Told { runs, earlier, is_partial, tasks } = told;
        let mut subscriptions: Vec<SubscriptionReport> = Vec::new();
        for one in &status.subscriptions {
            subscriptions.push(SubscriptionReport {
                id: one.id.clone(),
                health: one.health,
                unresolved: one.unresolved || one.dead_letters > 0,
                pending: one.pending + one.in_flight,
                dead_letters: one.dead_letters,
                tally: taken(&mut each, &one.id),
            });
        }
        // Those that left the config since.
        subscriptions.extend(each.into_iter().map(|(id, tally)| SubscriptionReport {
            id,
            health: HealthState::Inactive,
            unresolved: false,
            pending: 0,
            dead_letters: 0,
            tally,
        }));
        let (mut unwell, well): (Vec<_>, Vec<_>) = subscriptions.into_iter().partition(|one| one.unresolved);
        unwell.extend(well);
        for cause in causes.iter_mut().filter(|cause| cause.hint.is_empty()) {
            let known = status.troubles.iter().find(|trouble| trouble.what == cause.what);
            cause.hint = known.map(|trouble| trouble.hint.clone()).unwrap_or_default();
        }
        // Those that say a trouble are said by the trouble.
        let told: Vec<String> = status.trouble_sentences().collect();
        Ok(Self {
            since,
            until,
            source,
            runtime: status.runtime.clone(),
            whole_from,
            total,
            pending: status.pending,
            dead_letters: status.subscriptions.iter().map(|one| one.dead_letters).sum(),
            subscriptions: unwell,
            causes,
            over_time,
            runs,
            earlier_runs: earlier,
            runs_are_partial: is_partial,
            of_fleet: status.fleet.is_some(),
            tasks,
            troubles: status.troubles.clone(),
            warnings: status.warnings.iter().filter(|warning| !told.contains(warning)).cloned().collect(),
        })
    }

    /// Whether nothing happened in that time.
    pub(crate) fn is_empty(&self) -> bool {
        self.total.attempts == 0 && self.total.ended.is_empty() && self.runs.is_empty() && self.tasks == 0
    }

    /// Number of subscriptions that somebody has to look at.
    pub(crate) fn unwell(&self) -> usize {
        self.subscriptions.iter().filter(|one| one.unresolved).count()
    }
}

/// Takes what one subscription has out of all.
fn taken(each: &mut Vec<(SubscriptionId, Tally)>, id: &SubscriptionId) -> Tally {
    let place = each.iter().position(|(known, _)| known == id);
    place.map(|place| each.swap_remove(place).1).unwrap_or_default()
}

/// Counts by a word.
pub(crate) type ByWord = BTreeMap<String, u64>;
