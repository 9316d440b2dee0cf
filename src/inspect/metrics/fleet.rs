//! Metrics of a fleet: gauges that every member shows alike, because the cluster has them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Labels, SubscriptionMetrics, Text};
use crate::delivery::SubscriptionId;
use crate::inspect::FleetStatus;

/// A fleet, in [`Metrics`](super::Metrics).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FleetMetrics {
    /// Whether the cluster answered; all else is 0 where it did not.
    pub seen: bool,
    /// Whether this machine's role may look at it; nothing of the fleet is shown where not.
    #[serde(default)]
    pub may_look: bool,
    /// Members that are alive.
    pub members: usize,
    /// Members that went silent within the last hour.
    pub gone: usize,
    /// Number of configs that they have: one, where all deliver alike.
    pub configs: usize,
    /// Events that nobody has fanned out yet.
    pub unrouted: usize,
    /// How long the oldest of them has waited, in seconds.
    pub oldest_unrouted_s: u64,
    /// Events that can never be fanned out.
    pub refused: usize,
    /// Standbys that confirm at present.
    pub streaming: usize,
    /// The subscriptions that a member delivers to at present.
    pub owned: BTreeSet<SubscriptionId>,
}

impl FleetMetrics {
    pub(super) fn of(fleet: &FleetStatus) -> Self {
        let configs: BTreeSet<&str> = fleet.members.iter().map(|member| member.config.as_str()).collect();
        let owned = fleet.members.iter().flat_map(|member| &member.subscriptions).cloned();
        Self {
            seen: fleet.is_seen,
            may_look: fleet.unseen.is_none(),
            members: fleet.members.len(),
            gone: fleet.gone.len(),
            configs: configs.len(),
            unrouted: fleet.unrouted,
            oldest_unrouted_s: fleet.oldest_unrouted_s,
            refused: fleet.refused,
            streaming: fleet.streaming,
            owned: owned.collect(),
        }
    }

    pub(super) fn gauges(&self, subscriptions: &[SubscriptionMetrics], text: &mut Text) {
        if !self.may_look {
            return;
        }
        text.gauge("fleet_seen", "Whether the fleet's cluster answered; without it the others are absent.");
        text.one("fleet_seen", Labels::None, u8::from(self.seen));
        if !self.seen {
            return;
        }
        let gauges = [
            ("fleet_members", "Members that are alive.", self.members as u64),
            ("fleet_members_gone", "Members that went silent within the last hour.", self.gone as u64),
            ("fleet_configs", "Configs that the members have: 1 where all are alike.", self.configs as u64),
            ("fleet_unrouted_events", "Events that nobody has fanned out yet.", self.unrouted as u64),
            (
                "fleet_oldest_unrouted_seconds",
                "How long the oldest of them has waited.",
                self.oldest_unrouted_s,
            ),
            ("fleet_refused_events", "Events that can never be fanned out.", self.refused as u64),
            ("fleet_standbys", "Standbys of the cluster that confirm.", self.streaming as u64),
        ];
        for (name, help, value) in gauges {
            text.gauge(name, help);
            text.one(name, Labels::None, value);
        }
        text.gauge("fleet_owned", "Whether a member delivers to the subscription at present.");
        for one in subscriptions {
            text.one("fleet_owned", Labels::Of(&one.id), u8::from(self.owned.contains(&one.id)));
        }
    }
}
