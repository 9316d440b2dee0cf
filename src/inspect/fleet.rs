//! What `status` says of a fleet: who does what, what nobody has routed, what would not survive.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::StatusReport;
use super::facts::FleetFacts;
use super::words::{counted, short};
use crate::config::Durability;
use crate::delivery::SubscriptionId;
use crate::fleet::{Duty, Gone, Overview};

/// Unrouted events that are older than this have nobody who routes, in seconds.
const LATE_S: u64 = 60;

/// The state of a fleet, in `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FleetStatus {
    /// Which fleet of those that share the cluster.
    pub namespace: String,
    /// The runtime that answered, among the members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The processes that deliver.
    pub members: Vec<FleetMember>,
    /// Number of accepted events that nobody has fanned out yet.
    pub unrouted: usize,
    /// How long the oldest of them has waited, in seconds.
    pub oldest_unrouted_s: u64,
    /// Number of events that can never be fanned out; the cluster keeps them.
    pub refused: usize,
    /// Processes that delivered, gave nothing up and went silent within the last hour.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<GoneMember>,
    /// Number of standbys that confirm at present.
    pub streaming: usize,
    /// Whether this role may not look which standbys there are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub standbys_unseen: bool,
    /// Their names.
    #[serde(default)]
    pub confirming: Vec<String>,
    /// Number of nodes that the cluster's URL names.
    #[serde(default)]
    pub nodes: usize,
    /// Whether the cluster answered; what else stands here is nothing where it did not.
    #[serde(default)]
    pub is_seen: bool,
    /// Why this machine, which hands over only, sees nothing of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<String>,
    /// Why something is not as it should be; also in `warnings`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// A process that delivers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FleetMember {
    /// Its id, drawn at its start.
    pub id: String,
    /// Its machine.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// The program's version.
    pub version: String,
    /// A digest of its config.
    pub config: String,
    /// Whether it fans events out.
    pub routes: bool,
    /// The subscriptions that it delivers to at present.
    pub subscriptions: Vec<SubscriptionId>,
}

/// A process that delivered and went silent: others have its work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GoneMember {
    /// Its machine.
    pub host: String,
    /// Its process id there.
    pub pid: u32,
    /// How long ago its leases ran out, in seconds.
    pub since_s: u64,
}

impl FleetStatus {
    fn of(facts: &FleetFacts) -> Self {
        let none = Overview::default();
        let view = facts.overview.as_ref().unwrap_or(&none);
        let mut does: BTreeMap<&str, (bool, Vec<SubscriptionId>)> = BTreeMap::new();
        for (duty, seen) in view.leases.iter().filter(|(_, seen)| seen.is_live) {
            let of = does.entry(seen.holder.as_str()).or_default();
            match duty {
                Duty::Route => of.0 = true,
                Duty::Deliver(id) => of.1.push(id.clone()),
            }
        }
        let members = view.members.iter().map(|(id, info)| {
            let (routes, subscriptions) = does.get(id.as_str()).cloned().unwrap_or_default();
            FleetMember {
                id: id.to_string(),
                host: info.host.clone(),
                pid: info.pid,
                version: info.version.clone(),
                config: info.config.clone(),
                routes,
                subscriptions,
            }
        });
        let gone = view.gone.iter().map(|Gone { info, since_s }| GoneMember {
            host: info.host.clone(),
            pid: info.pid,
            since_s: *since_s,
        });
        let unseen = facts.overview.as_ref().err();
        Self {
            namespace: facts.namespace.clone(),
            member: facts.member.clone(),
            members: members.collect(),
            unrouted: view.unrouted,
            oldest_unrouted_s: view.oldest_unrouted_s,
            refused: view.refused,
            gone: gone.collect(),
            streaming: view.confirming.len(),
            standbys_unseen: view.standbys_unseen,
            confirming: view.confirming.clone(),
            nodes: view.nodes,
            is_seen: facts.overview.is_ok(),
            unseen: unseen.filter(|unseen| unseen.is_calm).map(|unseen| unseen.why.clone()),
            problem: unseen
                .filter(|unseen| !unseen.is_calm)
                .map(|unseen| unseen.why.clone())
                .or_else(|| view.problem.clone()),
        }
    }

    fn warnings(&self, facts: &FleetFacts, report: &StatusReport) -> Vec<String> {
        let mut warnings: Vec<String> =
            self.problem.iter().map(|problem| format!("the fleet's cluster: {problem}")).collect();
        if let Some(unseen) = &self.unseen {
            log::debug!("the fleet cannot be seen from here: {unseen}");
            return warnings;
        }
        warnings.extend(facts.overview.as_ref().ok().and_then(|view| standby_gone(facts.durability, view)));
        if self.problem.is_none() && self.members.is_empty() {
            warnings.push(
                "no member of the fleet is alive: what is accepted waits in the cluster; start spec-notify \
                 serve \
                 --role deliver somewhere"
                    .to_owned(),
            );
        }
        let late = short(jiff::SignedDuration::from_secs(i64::try_from(self.oldest_unrouted_s).unwrap_or(0)));
        if self.unrouted > 0 && self.oldest_unrouted_s >= LATE_S {
            let waits = counted(self.unrouted, "event waits", "events wait");
            warnings.push(format!(
                "{waits} in the cluster to be fanned out, the oldest for {late}: see the log of the member \
                 that routes"
            ));
        }
        if self.refused > 0 {
            let kept = counted(self.refused, "event", "events");
            warnings.push(format!(
                "{kept} in the cluster can never be fanned out: SELECT spec, refused, event FROM \
                 spec_notify.event \
                 WHERE refused IS NOT NULL"
            ));
        }
        let configs: BTreeSet<&str> = self.members.iter().map(|member| member.config.as_str()).collect();
        if configs.len() > 1 {
            let each =
                self.members.iter().map(|one| format!("{} ({}) has {}", one.host, one.pid, one.config));
            let router = self.members.iter().find(|one| one.routes);
            let by = router.map_or(String::new(), |one| format!(" ({} ({}) at present)", one.host, one.pid));
            warnings.push(format!(
                "the members' configs differ: {}. An event goes to the subscriptions that the member which \
                 fans it out has{by}, and is sent as its owner's config says; give all the same, and reload",
                each.collect::<Vec<_>>().join(", ")
            ));
        }
        if let Ok(view) = &facts.overview {
            for id in unfed(view) {
                warnings.push(format!(
                    "{id} gets no events at present: only members that do not fan them out have it, and what \
                     is accepted meanwhile is not made up for; give all members the same config, and reload"
                ));
            }
        }
        let mine: BTreeSet<&SubscriptionId> =
            self.members.iter().flat_map(|member| &member.subscriptions).collect();
        for one in report.subscriptions.iter().filter(|one| one.pending > 0 && !mine.contains(&one.id)) {
            if self.problem.is_none() && !self.members.is_empty() {
                let waits = counted(one.pending, "delivery waits", "deliveries wait");
                warnings.push(format!(
                    "{}: {waits} and no member delivers to it at present: see that it is active in a \
                     member's config",
                    one.id
                ));
            }
        }
        warnings
    }
}

/// The subscriptions that members would deliver to, and whoever fans events out does not have.
fn unfed(view: &Overview) -> Vec<&SubscriptionId> {
    let router = view.leases.get(&Duty::Route).filter(|seen| seen.is_live);
    let Some(routes) = router.and_then(|seen| view.members.get(&seen.holder)) else { return Vec::new() };
    let wanted: BTreeSet<&SubscriptionId> = view.members.values().flat_map(|info| &info.wants).collect();
    wanted.into_iter().filter(|id| !routes.wants.contains(id)).collect()
}

/// What to say where not all nodes follow that the URL names: the next that goes may stop all.
fn standby_gone(durability: Durability, view: &Overview) -> Option<String> {
    let expected = view.nodes.saturating_sub(1);
    if durability != Durability::Replicated || view.attached >= expected || view.confirming.is_empty() {
        return None;
    }
    Some(format!(
        "the fleet's cluster: {} of {expected} standbys streams ({}): a node is down, or does not follow the \
         primary; see its log, and that it comes back before the next one goes",
        view.attached,
        view.confirming.join(", ")
    ))
}

impl StatusReport {
    /// Adds what is known of a fleet.
    pub(crate) fn add_fleet(&mut self, facts: &FleetFacts) {
        let fleet = FleetStatus::of(facts);
        let mut warnings = fleet.warnings(facts, self);
        if let Some(trouble) = &facts.trouble {
            warnings.insert(0, format!("this runtime does not deliver at present: {trouble}"));
        }
        self.warnings.splice(0..0, warnings);
        self.fleet = Some(fleet);
    }
}
