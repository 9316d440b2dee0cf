//! What an operator sees of a fleet, from any machine that may read the cluster.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::lease::{Duty, MemberId, MemberInfo, Seen};
use crate::archive::{DeadLetter, DeadLetterCount, Healths, Pauses};
use crate::delivery::{AttemptSummary, SubscriptionId};
use crate::event::SpecId;
use crate::spool::Unfinished;

/// The state of a fleet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overview {
    /// The members that are alive.
    pub(crate) members: BTreeMap<MemberId, MemberInfo>,
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
    /// Number of standbys that confirm commits at present.
    pub(crate) streaming: usize,
    /// Why what is acknowledged would not survive.
    pub(crate) problem: Option<String>,
}

/// Which deliveries a page wants, as far as the cluster chooses.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) spec: Option<SpecId>,
    pub(crate) subscription: Option<SubscriptionId>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) before: Option<Timestamp>,
    pub(crate) limit: usize,
}

/// A place in the order in which evidence became final.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) tx: i64,
    pub(crate) seq: i64,
}

/// The newest deliveries that the cluster knows of each kind.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// With the last attempt of each.
    pub(crate) waiting: Vec<(Unfinished, Option<AttemptSummary>)>,
    /// Without their payloads.
    pub(crate) letters: Vec<DeadLetter>,
    /// The final lines of the evidence.
    pub(crate) ends: Vec<(SpecId, String)>,
}
