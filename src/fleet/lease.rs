//! Who does what in a fleet: a lease for each subscription and one for the Router. Its rules,
//! without a clock and without the cluster; the cluster decides who has one, by its own clock
//! alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::delivery::SubscriptionId;
use crate::digest::sha256;

/// The part of a lease in which its holder starts anything, counted from when it asked for it.
const USED: f64 = 0.8;

/// What one member does at a time.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Duty {
    /// Fans events out.
    Route,
    /// Sends what waits for one subscription.
    Deliver(SubscriptionId),
}

impl Duty {
    /// The duty of this name; `None` for a name of something else, or of a later version.
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name.strip_prefix("sub:") {
            Some(id) => id.parse().ok().map(Self::Deliver),
            None => (name == "router").then_some(Self::Route),
        }
    }
}

impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Route => f.write_str("router"),
            Self::Deliver(id) => write!(f, "sub:{id}"),
        }
    }
}

/// A process that delivers, while it runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MemberId(Arc<str>);

impl MemberId {
    pub(crate) fn new(id: &str) -> Self {
        Self(id.into())
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// What a member says of itself in its row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct MemberInfo {
    pub(crate) host: String,
    pub(crate) pid: u32,
    pub(crate) version: String,
    /// A digest of its config: two that differ deliver differently.
    pub(crate) config: String,
    /// The subscriptions that it can deliver to.
    pub(crate) wants: Vec<SubscriptionId>,
}

/// A lease that is held: until when, by this machine's clocks, and under which epoch.
#[derive(Clone, Debug)]
pub(crate) struct Tenure {
    pub(crate) epoch: i64,
    valid: Arc<Validity>,
}

/// Until when something may start. Two clocks, because the one stands still in a machine that
/// sleeps, and the other may be set.
#[derive(Debug)]
struct Validity {
    base: Instant,
    /// Nanoseconds from `base`.
    until: AtomicU64,
    /// Unix milliseconds.
    until_wall: AtomicI64,
}

impl Tenure {
    /// A lease that was asked for at `sent`, by both clocks, and given.
    pub(crate) fn new(epoch: i64, sent: (Instant, i64), lease: Duration) -> Self {
        let valid = Validity { base: sent.0, until: AtomicU64::new(0), until_wall: AtomicI64::new(0) };
        let tenure = Self { epoch, valid: Arc::new(valid) };
        tenure.renewed(sent, lease);
        tenure
    }

    /// It was asked for again at `sent`, and given again.
    pub(crate) fn renewed(&self, (sent, wall): (Instant, i64), lease: Duration) {
        let used = lease.mul_f64(USED);
        let until = sent.saturating_duration_since(self.valid.base) + used;
        let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
        self.valid.until.fetch_max(until, Ordering::AcqRel);
        let used = i64::try_from(used.as_millis()).unwrap_or(i64::MAX);
        self.valid.until_wall.store(wall.saturating_add(used), Ordering::Release);
    }

    /// Whether something may start now, by both clocks.
    pub(crate) fn may_start(&self, now: Instant, wall: i64) -> bool {
        let at = now.saturating_duration_since(self.valid.base).as_nanos();
        at < u128::from(self.valid.until.load(Ordering::Acquire))
            && wall < self.valid.until_wall.load(Ordering::Acquire)
    }
}

/// Who shall do what. Every member that sees the same members and wishes finds the same; where a
/// member comes or goes, little else moves.
pub(crate) fn shares(members: &BTreeMap<MemberId, MemberInfo>) -> BTreeMap<Duty, MemberId> {
    let mut duties: BTreeSet<Duty> =
        members.values().flat_map(|info| &info.wants).cloned().map(Duty::Deliver).collect();
    if !members.is_empty() {
        duties.insert(Duty::Route);
    }
    let most = duties.len().div_ceil(members.len().max(1));
    let mut loads: BTreeMap<&MemberId, usize> = BTreeMap::new();
    let mut shares = BTreeMap::new();
    for duty in duties {
        let name = duty.to_string();
        let can = |info: &MemberInfo| match &duty {
            Duty::Route => true,
            Duty::Deliver(id) => info.wants.contains(id),
        };
        let fit = members.iter().filter(|(_, info)| can(info)).map(|(id, _)| id);
        // Who has room first, then by lot: the lot of a name and a member is always the same.
        let chosen = fit.min_by_key(|id| {
            let load = loads.get(id).copied().unwrap_or_default();
            (load.saturating_sub(most.saturating_sub(1)), sha256(format!("{name}\n{id}").as_bytes()))
        });
        if let Some(chosen) = chosen {
            *loads.entry(chosen).or_default() += 1;
            shares.insert(duty, chosen.clone());
        }
    }
    shares
}

/// Who has a lease, as the cluster says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) holder: MemberId,
    /// Whether it has not run out, by the cluster's clock.
    pub(crate) is_live: bool,
}

/// What a member does next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Leases that nobody has, and that are this member's share.
    pub(crate) take: Vec<Duty>,
    /// Leases that are another member's share, or nobody's.
    pub(crate) give: Vec<Duty>,
}

/// What `me`, who has `held`, does next.
pub(crate) fn plan(
    me: &MemberId,
    members: &BTreeMap<MemberId, MemberInfo>,
    leases: &BTreeMap<Duty, Seen>,
    held: &BTreeSet<Duty>,
) -> Plan {
    let shares = shares(members);
    let is_free = |duty: &Duty| leases.get(duty).is_none_or(|seen| !seen.is_live);
    let take = shares.iter().filter(|(duty, of)| *of == me && !held.contains(duty) && is_free(duty));
    let give = held.iter().filter(|duty| shares.get(*duty) != Some(me));
    Plan { take: take.map(|(duty, _)| duty.clone()).collect(), give: give.cloned().collect() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(n: usize) -> MemberId {
        MemberId::new(&format!("m{n}"))
    }

    fn id(n: usize) -> SubscriptionId {
        format!("s{n}").parse().unwrap()
    }

    fn fleet(wants: &[Vec<usize>]) -> BTreeMap<MemberId, MemberInfo> {
        let info = |wants: &Vec<usize>| MemberInfo {
            wants: wants.iter().map(|n| id(*n)).collect(),
            ..MemberInfo::default()
        };
        wants.iter().enumerate().map(|(n, wants)| (member(n), info(wants))).collect()
    }

    #[test]
    fn names_lead_back_to_their_duty() {
        for duty in [Duty::Route, Duty::Deliver(id(3))] {
            assert_eq!(Duty::of(&duty.to_string()), Some(duty));
        }
        assert_eq!((Duty::of("member:x"), Duty::of("sub:a b")), (None, None));
    }

    #[test]
    fn a_member_that_comes_gets_its_share_and_the_others_keep_theirs() {
        let all: Vec<usize> = (0..9).collect();
        let two = shares(&fleet(&[all.clone(), all.clone()]));
        let three = shares(&fleet(&[all.clone(), all.clone(), all.clone()]));
        let of =
            |shares: &BTreeMap<Duty, MemberId>, n| shares.values().filter(|of| **of == member(n)).count();
        assert_eq!((0..3).map(|n| of(&three, n)).sum::<usize>(), 10);
        assert!((0..3).all(|n| of(&three, n) <= 4) && (0..2).all(|n| of(&two, n) <= 5), "{three:?}");
        let moved = two.iter().filter(|(duty, of)| three[*duty] != **of && three[*duty] != member(2)).count();
        assert!(moved <= 3, "{moved} moved between those that stay");
    }

    #[test]
    fn nothing_starts_after_four_fifths_of_a_lease_by_either_clock() {
        let (start, lease) = (Instant::now(), Duration::from_secs(10));
        let tenure = Tenure::new(1, (start, 1_000), lease);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(tenure.may_start(at(7), 8_000));
        assert!(!tenure.may_start(at(8), 8_000), "the lease is used up");
        assert!(!tenure.may_start(at(1), 9_000), "the machine slept");
        tenure.renewed((at(7), 8_000), lease);
        assert!(tenure.may_start(at(14), 15_000));
        // A renewal that was sent before and answered later takes nothing away.
        tenure.renewed((at(3), 15_000), lease);
        assert!(tenure.may_start(at(14), 15_000));
    }

    proptest! {
        /// Whatever members can do: each duty has one of those that can, and where all can do all,
        /// nobody has more than its share.
        #[test]
        fn every_duty_is_somebodys(
            wants in prop::collection::vec(prop::collection::btree_set(0usize..12, 0..12), 1..6),
            all in any::<bool>(),
        ) {
            let wants: Vec<Vec<usize>> = wants.into_iter().map(|some| match all {
                true => (0..12).collect(),
                false => some.into_iter().collect(),
            }).collect();
            let members = fleet(&wants);
            let shares = shares(&members);
            let wanted: BTreeSet<usize> = wants.iter().flatten().copied().collect();
            prop_assert_eq!(shares.len(), wanted.len() + 1);
            for (duty, of) in &shares {
                if let Duty::Deliver(id) = duty {
                    prop_assert!(members[of].wants.contains(id));
                }
            }
            if all {
                let most = shares.len().div_ceil(members.len());
                for member in members.keys() {
                    prop_assert!(shares.values().filter(|of| *of == member).count() <= most);
                }
            }
        }
    }

    /// The cluster as its statements have it: a lease is renewed by who holds it and has not lost
    /// it, taken where it ran out, and fences by holder, epoch and time.
    #[derive(Default)]
    struct Cluster {
        now: u64,
        holder: Option<usize>,
        epoch: i64,
        until: u64,
        /// Epochs whose retries and dead letters were written.
        written: Vec<i64>,
    }

    const LEASE: u64 = 100;

    impl Cluster {
        fn renew(&mut self, member: usize) -> Option<i64> {
            let is_its = self.holder == Some(member) && self.until > self.now;
            is_its.then(|| {
                self.until = self.now + LEASE;
                self.epoch
            })
        }

        fn acquire(&mut self, member: usize) -> Option<i64> {
            let is_free = self.holder.is_none() || self.until <= self.now;
            is_free.then(|| {
                (self.holder, self.epoch, self.until) = (Some(member), self.epoch + 1, self.now + LEASE);
                self.epoch
            })
        }

        fn write(&mut self, member: usize, epoch: i64) -> bool {
            let fenced = self.holder == Some(member) && self.epoch == epoch && self.until > self.now;
            if fenced {
                self.written.push(epoch);
            }
            fenced
        }
    }

    /// A question that is on its way, or its answer.
    #[derive(Clone, Copy)]
    enum OnTheWay {
        Nothing,
        Asked { renews: bool, sent: Instant },
        Answered { epoch: Option<i64>, renews: bool, sent: Instant },
    }

    struct Member {
        tenure: Option<Tenure>,
        way: OnTheWay,
    }

    proptest! {
        /// One lease and three members, whose questions and answers take any time, who stop for
        /// any time between any two steps: nobody starts anything while another has the lease, and
        /// of two members that write, the later has the higher epoch.
        #[test]
        fn only_who_has_the_lease_starts_and_writes(
            steps in prop::collection::vec((0usize..3, 0u8..6, 0u64..60), 1..300),
        ) {
            let start = Instant::now();
            let lease = Duration::from_secs(LEASE);
            let mut cluster = Cluster::default();
            let mut members: Vec<Member> =
                (0..3).map(|_| Member { tenure: None, way: OnTheWay::Nothing }).collect();
            for (n, what, wait) in steps {
                cluster.now += wait;
                let now = start + Duration::from_secs(cluster.now);
                let wall = i64::try_from(cluster.now * 1000).unwrap();
                let wall_of = |at: Instant| i64::try_from((at - start).as_millis()).unwrap();
                let member = &mut members[n];
                match (what, member.way) {
                    (0, OnTheWay::Nothing) => {
                        member.way = OnTheWay::Asked { renews: member.tenure.is_some(), sent: now };
                    }
                    (1, OnTheWay::Asked { renews, sent }) => {
                        let epoch = if renews { cluster.renew(n) } else { cluster.acquire(n) };
                        member.way = OnTheWay::Answered { epoch, renews, sent };
                    }
                    (2, OnTheWay::Answered { epoch, renews, sent }) => {
                        member.way = OnTheWay::Nothing;
                        let sent = (sent, wall_of(sent));
                        match (&member.tenure, epoch) {
                            (Some(tenure), Some(epoch)) if renews && tenure.epoch == epoch => {
                                tenure.renewed(sent, lease);
                            }
                            (_, epoch) => {
                                member.tenure = epoch.map(|epoch| Tenure::new(epoch, sent, lease));
                            }
                        }
                    }
                    (3 | 4, _) if member.tenure.as_ref().is_some_and(|it| it.may_start(now, wall)) => {
                        prop_assert_eq!(cluster.holder, Some(n));
                        prop_assert!(cluster.until > cluster.now);
                    }
                    (5, _) => {
                        if let Some(tenure) = &member.tenure {
                            cluster.write(n, tenure.epoch);
                        }
                    }
                    _ => {}
                }
            }
            prop_assert!(cluster.written.is_sorted(), "{:?}", cluster.written);
        }
    }
}
