//! What is wrong, grouped: over all subscriptions, what failed in the same way is told once, with
//! what to do and the command that does it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::words::{grouped, listed};
use super::{StatusReport, Survey};
use crate::clock;
use crate::delivery::{Cause, HealthState, SubscriptionId};
use crate::names::named;

/// Most subscriptions that are named; of more it is said how many.
const NAMED: usize = 3;

named! {
    /// What a [`Trouble`] counts.
    TroubleKind, "kind of trouble" {
        /// Attempts that failed, of subscriptions that fail at present.
        Attempts = "attempts",
        /// Deliveries that were given up, and can be replayed.
        DeadLetters = "dead_letters",
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Trouble {
    /// What is counted.
    pub kind: TroubleKind,
    /// The failure in words: `status 503`, or `cannot connect: connection refused`.
    pub what: String,
    /// How many attempts or dead letters.
    pub count: u64,
    /// When the first of them ended.
    #[serde(with = "clock::millis")]
    pub since: Timestamp,
    /// When the last of them ended.
    #[serde(with = "clock::millis")]
    pub last: Timestamp,
    /// What to do about it, as a clause.
    pub hint: String,
    /// Whose they are.
    pub subscriptions: Vec<SubscriptionId>,
    /// What to run then.
    pub command: String,
}

impl Trouble {
    /// What it is, since when and whose; `time` says how a time is written.
    pub(crate) fn headline(&self, time: impl Fn(Timestamp) -> String) -> String {
        let Self { kind, what, count, since, last, subscriptions, .. } = self;
        let names: Vec<&str> = subscriptions.iter().map(SubscriptionId::as_str).collect();
        let whose = listed(&names, NAMED, "subscriptions");
        let when =
            if since == last { format!("at {}", time(*since)) } else { format!("since {}", time(*since)) };
        let noun = if *count == 1 { "dead letter" } else { "dead letters" };
        let count = grouped(*count);
        match kind {
            TroubleKind::Attempts => format!("{count} × {what} {when}: {whose}"),
            TroubleKind::DeadLetters => format!("{count} {noun} {when}, {what}: {whose}"),
        }
    }

    /// The same as a sentence, with what to do.
    pub(crate) fn sentence(&self, time: impl Fn(Timestamp) -> String) -> String {
        let then = match self.kind {
            TroubleKind::Attempts => "then try it",
            TroubleKind::DeadLetters => "then",
        };
        let hint = if self.hint.is_empty() { String::new() } else { format!("{}; ", self.hint) };
        format!("{}; {hint}{then}: {}", self.headline(time), self.command)
    }
}

impl StatusReport {
    /// What is wrong with endpoints that fail, then the dead letters; the most frequent first.
    pub(super) fn find_troubles(
        &self,
        causes: &[(SubscriptionId, Vec<Cause>)],
        survey: &Survey,
    ) -> Vec<Trouble> {
        let mut attempts = Vec::new();
        for (id, cause) in causes.iter().flat_map(|(id, causes)| causes.iter().map(move |cause| (id, cause)))
        {
            let Cause { what, count, since, last, hint, spec } = cause.clone();
            add(
                &mut attempts,
                Trouble {
                    kind: TroubleKind::Attempts,
                    what,
                    count: count.into(),
                    since,
                    last,
                    hint,
                    subscriptions: vec![id.clone()],
                    command: format!("spec-notify test {spec} --subscription {id}"),
                },
            );
        }
        let mut letters = Vec::new();
        for (id, of) in &survey.dead_letters {
            let health = self.subscriptions.iter().find(|one| one.id == *id).map(|one| one.health);
            let is_active = health.is_some_and(|health| health != HealthState::Inactive);
            let first = if is_active { "" } else { "make it active; " };
            for cause in &of.causes {
                let hint = cause.hint.strip_suffix("; then replay").unwrap_or(&cause.hint);
                let hint = hint.strip_suffix(", then replay").unwrap_or(hint);
                add(
                    &mut letters,
                    Trouble {
                        kind: TroubleKind::DeadLetters,
                        what: cause.what.clone(),
                        count: cause.count as u64,
                        since: cause.oldest,
                        last: cause.newest,
                        hint: format!("{first}{hint}"),
                        subscriptions: vec![id.clone()],
                        command: format!("spec-notify replay --all --subscription {id}"),
                    },
                );
            }
        }
        // What fails otherwise may fail still, and is left alone.
        let is_alone = letters.len() == 1;
        for group in letters.iter_mut().filter(|group| group.subscriptions.len() > 1) {
            "spec-notify replay --all".clone_into(&mut group.command);
            for id in group.subscriptions.iter().filter(|_| !is_alone) {
                group.command += &format!(" --subscription {id}");
            }
        }
        let most_first =
            |groups: &mut Vec<Trouble>| groups.sort_by_key(|group| std::cmp::Reverse(group.count));
        most_first(&mut attempts);
        most_first(&mut letters);
        attempts.append(&mut letters);
        attempts
    }
}

/// Adds to the group that says the same, or makes one.
fn add(groups: &mut Vec<Trouble>, one: Trouble) {
    match groups.iter_mut().find(|known| known.what == one.what && known.hint == one.hint) {
        None => groups.push(one),
        Some(known) => {
            known.count += one.count;
            known.since = known.since.min(one.since);
            if one.last > known.last {
                known.last = one.last;
                known.command = one.command;
            }
            known.subscriptions.extend(one.subscriptions);
        }
    }
}
