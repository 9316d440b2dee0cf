//! What an operator sees of a fleet, from any machine that may read the cluster.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lease::{Duty, MemberId, MemberInfo, Seen};
use crate::archive::{DeadLetterCount, Healths, Pauses};
use crate::delivery::{DeliveryId, IdPrefix, SubscriptionId};
use crate::event::SpecId;

/// The state of a fleet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overview {
    /// The members that are alive.
    pub(crate) members: BTreeMap<MemberId, MemberInfo>,
    /// Those that went silent: they gave nothing up, and their leases ran out.
    pub(crate) gone: Vec<Gone>,
    pub(crate) leases: BTreeMap<Duty, Seen>,
    /// Number of events that nobody has routed.
    pub(crate) unrouted: usize,
    /// How long the oldest of them has waited, in seconds.
    pub(crate) oldest_unrouted_s: u64,
    /// Number of events that can never be routed.
    pub(crate) refused: usize,
    /// What waits for each subscription, and since when the oldest.
    pub(crate) pending: BTreeMap<SubscriptionId, (usize, Timestamp)>,
    pub(crate) dead_letters: BTreeMap<SubscriptionId, DeadLetterCount>,
    pub(crate) healths: Healths,
    pub(crate) pauses: Pauses,
    /// The standbys that confirm commits at present, by their names.
    pub(crate) confirming: Vec<String>,
    /// Number of standbys that stream at present.
    pub(crate) attached: usize,
    /// Whether this role may not look which standbys there are.
    pub(crate) standbys_unseen: bool,
    /// Number of nodes that the URL names.
    pub(crate) nodes: usize,
    /// Why what is acknowledged would not survive.
    pub(crate) problem: Option<String>,
}

impl Overview {
    /// Every subscription that a member delivers to, or of which something is left.
    pub(crate) fn subscriptions(&self) -> BTreeSet<SubscriptionId> {
        let wanted = self.members.values().flat_map(|info| &info.wants);
        let left = self.pending.keys().chain(self.dead_letters.keys()).chain(self.pauses.keys());
        wanted.chain(left).cloned().collect()
    }
}

/// A member that went silent.
#[derive(Clone, Debug)]
pub(crate) struct Gone {
    pub(crate) info: MemberInfo,
    /// How long ago its leases ran out, in seconds.
    pub(crate) since_s: u64,
}

/// Deliveries of a page.
pub(crate) const PAGE: usize = 500;

/// Which deliveries are looked for, as far as the cluster chooses: newest first, a page at a time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// The start of its id.
    pub(crate) id: Option<IdPrefix>,
    pub(crate) spec: Option<SpecId>,
    pub(crate) subscription: Option<SubscriptionId>,
    pub(crate) since: Option<Timestamp>,
    /// Of those that have ended, only what ended since.
    pub(crate) ended_since: Option<Timestamp>,
    /// Only those that are older: when it was accepted, and its id.
    pub(crate) before: Option<(Timestamp, DeliveryId)>,
}

/// Which lines of evidence are looked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct WantedLines {
    /// The start of their delivery's id.
    pub(crate) id: Option<IdPrefix>,
    pub(crate) spec: Option<SpecId>,
    pub(crate) subscription: Option<SubscriptionId>,
    /// Only ends, or only attempts.
    pub(crate) is_end: Option<bool>,
    /// Only those before this place.
    pub(crate) before: Option<Place>,
    /// Only those after this place.
    pub(crate) after: Option<Place>,
    /// Only those before which no further one will come.
    pub(crate) is_final: bool,
    pub(crate) limit: usize,
}

/// A place in the order in which evidence became final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) tx: i64,
    pub(crate) seq: i64,
}

/// A line of evidence in the cluster.
#[derive(Clone, Debug)]
pub(crate) struct PlacedLine {
    pub(crate) place: Place,
    pub(crate) spec: SpecId,
    pub(crate) line: String,
}

/// What became of a delivery that a person gave up for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    Up(SubscriptionId),
    /// It waits for a subscription that a member delivers to, or may.
    Wanted(SubscriptionId),
    NotThere,
}
