//! The state of a running runtime as plain values, gathered from the actors and the disk for
//! `status`.

use std::time::Duration;

use jiff::Timestamp;

use super::Survey;
use crate::archive::Healths;
use crate::config::{Durability, Role};
use crate::delivery::{Pause, SubscriptionId};
use crate::figures::{Counts, Totals};
use crate::fleet::Overview;
use crate::run::AwaitedStage;

/// The state that `status` reports; see the module's documentation.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) queues: Vec<(SubscriptionId, Role, Queue)>,
    pub(crate) condition: Condition,
    pub(crate) survey: Survey,
    /// Inbox files that are set aside, and why.
    pub(crate) inbox: Vec<String>,
    pub(crate) watching: Watching,
    /// Stages that wait for their agents.
    pub(crate) awaited: Vec<AwaitedStage>,
    /// The hint to reload, if the config file was edited since it was read.
    pub(crate) edited: Option<String>,
    /// The fleet that it delivers for.
    pub(crate) fleet: Option<FleetFacts>,
    pub(crate) uptime: Duration,
}

/// What is known of a fleet.
#[derive(Clone, Debug)]
pub(crate) struct FleetFacts {
    pub(crate) namespace: String,
    pub(crate) durability: Durability,
    /// Who the runtime is that answers, among the members.
    pub(crate) member: Option<String>,
    /// What the cluster says, or why it does not.
    pub(crate) overview: Result<Overview, Unseen>,
    /// Why the runtime that answers does not do its part.
    pub(crate) trouble: Option<String>,
}

/// Why a fleet cannot be seen.
#[derive(Clone, Debug)]
pub(crate) struct Unseen {
    pub(crate) why: String,
    /// Whether that is as it should be: a machine that hands over need not look.
    pub(crate) is_calm: bool,
}

impl FleetFacts {
    /// What waits for each subscription, by what the cluster says; and whether somebody delivers to
    /// those that this machine's config does not have.
    pub(crate) fn fill(
        &self,
        queues: &mut Vec<(SubscriptionId, Role, Queue)>,
        healths: &mut Healths,
        survey: &mut Survey,
    ) {
        let Ok(overview) = &self.overview else { return };
        for id in overview.subscriptions() {
            if !queues.iter().any(|(known, ..)| *known == id) {
                let is_wanted = overview.members.values().any(|info| info.wants.contains(&id));
                queues.push((id, if is_wanted { Role::Active } else { Role::Inactive }, Queue::default()));
            }
        }
        for (id, _, queue) in queues {
            let (waiting, oldest) = match overview.pending.get(id) {
                Some((waiting, oldest)) => (*waiting, Some(*oldest)),
                None => (0, None),
            };
            queue.waiting = waiting.saturating_sub(queue.in_flight);
            queue.oldest = oldest;
            queue.paused = overview.pauses.get(id).cloned();
        }
        healths.clone_from(&overview.healths);
        survey.dead_letters.clone_from(&overview.dead_letters);
        survey.pauses.clone_from(&overview.pauses);
    }
}

/// The unfinished deliveries of a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Queue {
    /// How many wait: for their time, for a permit, or for the disk.
    pub(crate) waiting: usize,
    /// How many have a request under way at the endpoint.
    pub(crate) in_flight: usize,
    /// Further requests under way, which operators asked for.
    pub(crate) of_operators: usize,
    /// A person's pause.
    pub(crate) paused: Option<Pause>,
    /// When the oldest unfinished delivery was accepted.
    pub(crate) oldest: Option<Timestamp>,
    /// How many of them cannot be read at present, and why.
    pub(crate) unread: Option<(usize, String)>,
}

/// The state of the files, and the subscriptions' health.
#[derive(Debug)]
pub(crate) struct Condition {
    pub(crate) healths: Healths,
    /// Attempts of the last day.
    pub(crate) counts: Counts,
    /// What happened since the start.
    pub(crate) totals: Totals,
    /// What keeps events from being accepted.
    pub(crate) troubles: Vec<String>,
    /// What keeps evidence from being written.
    pub(crate) evidence: Vec<String>,
    /// Records that only a later version of the program can deliver.
    pub(crate) later: Vec<String>,
}

/// Whether the repo is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Watching {
    /// Watching was not asked for.
    #[default]
    Off,
    On,
    /// The repo should be watched and is not, for this reason.
    Troubled(String),
}
