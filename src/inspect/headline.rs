//! What is unresolved, in one line: for a prompt, a status command, a banner.

use jiff::Timestamp;

use super::status::{StatusReport, SubscriptionStatus};
use super::words::{ago, counted};
use crate::clock;
use crate::delivery::HealthState;
use crate::names::printable;

/// Longest headline, in characters: it stands on a line of somebody's prompt or status command.
const LONGEST: usize = 120;

impl StatusReport {
    /// One line of at most 120 characters if something is unresolved, as of now; the same words as
    /// `spec-notify status --banner`. See [`banner`](Self::banner).
    pub fn headline(&self) -> Option<String> {
        self.banner(clock::now())
    }

    /// One line if something is unresolved: failing subscriptions, dead letters, damage, or events
    /// that wait for a runtime.
    pub fn banner(&self, now: Timestamp) -> Option<String> {
        let mut parts = Vec::new();
        let bad: Vec<_> =
            self.subscriptions.iter().filter(|one| one.needs_somebody() && one.paused.is_none()).collect();
        let in_words = |one: &SubscriptionStatus| {
            let lasts = one.since.map_or(String::new(), |since| format!(" for {}", ago(now, since)));
            format!("{} {}{lasts}", one.id, one.health)
        };
        match &bad[..] {
            [] => {}
            [one] => parts.push(in_words(one)),
            [one, other] => parts.extend([in_words(one), in_words(other)]),
            [..] => {
                let oldest = bad.iter().filter_map(|one| one.since).min();
                let lasts = oldest.map_or(String::new(), |since| format!(" for {}", ago(now, since)));
                let fail = bad.iter().filter(|one| one.health != HealthState::Degraded).count();
                let of = self.subscriptions.len();
                parts.push(match (fail, bad.len() - fail) {
                    (fail, 0) => format!("{fail} of {of} subscriptions failing{lasts}"),
                    (0, degraded) => format!("{degraded} of {of} subscriptions degraded{lasts}"),
                    (fail, degraded) => {
                        format!("{fail} of {of} subscriptions failing, {degraded} degraded, some{lasts}")
                    }
                });
            }
        }
        let paused: Vec<_> = self.subscriptions.iter().filter(|one| one.paused.is_some()).collect();
        match paused[..] {
            [] => {}
            [one] => {
                let lasts = one.paused.as_ref().map_or(String::new(), |pause| ago(now, pause.since));
                parts.push(format!("{} paused for {lasts}", one.id));
            }
            _ => parts.push(format!("{} paused", counted(paused.len(), "subscription", "subscriptions"))),
        }
        let dead: usize = self.subscriptions.iter().map(|subscription| subscription.dead_letters).sum();
        if dead > 0 {
            parts.push(counted(dead, "dead letter", "dead letters"));
        }
        if let Some(sources) = self.sources.filter(|sources| sources.is_something() && !sources.baseline) {
            parts.push(format!("{sources} not sent"));
        }
        if parts.is_empty() && !self.warnings.is_empty() {
            parts.push(counted(self.warnings.len(), "warning", "warnings"));
        }
        let unresolved = !parts.is_empty();
        if unresolved && self.pending > 0 {
            parts.push(format!("{} pending", self.pending));
        }
        if unresolved && self.runtime.is_none() {
            let what = match &self.fleet {
                _ if self.silent.is_some() => Some("the runtime does not answer"),
                None => Some("no runtime runs"),
                // Others deliver for this machine, or it is not known whether they do.
                Some(fleet) => (fleet.is_seen && fleet.members.is_empty()).then_some("nobody delivers"),
            };
            parts.extend(what.map(str::to_owned));
        }
        unresolved.then(|| {
            let (start, end) = ("spec-notify: ", " (see spec-notify status)");
            // `…` where it is cut.
            let room = LONGEST - start.len() - end.len() - 1;
            format!("{start}{}{end}", printable(&parts.join(", "), room))
        })
    }
}
