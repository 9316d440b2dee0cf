//! Warnings for an operator about the subscriptions and the files, and what to do about them.

use jiff::SignedDuration;

use super::words::{ago, counted, short};
use super::{StatusReport, Survey};
use crate::clock;
use crate::delivery::{HealthState, LocalFault};

impl StatusReport {
    /// What fails, as it stands in the warnings.
    pub(crate) fn trouble_sentences(&self) -> impl Iterator<Item = String> {
        self.troubles.iter().map(|trouble| trouble.sentence(clock::rfc3339))
    }

    pub(super) fn find_warnings(&self, survey: &Survey) -> Vec<String> {
        let mut warnings: Vec<String> = self.trouble_sentences().collect();
        for subscription in &self.subscriptions {
            let id = &subscription.id;
            if let Some(LocalFault { since, error, hint }) = &subscription.local_fault {
                let lasts = ago(clock::now(), *since);
                warnings.push(format!(
                    "{id}: nothing could be sent for {lasts}: {error}; {hint}. \
                     What waits is tried again by itself, and no attempt is counted before a day has passed"
                ));
            }
            if let Some(until) = subscription.paused_until {
                let left = short(until.duration_since(clock::now()));
                warnings.push(format!(
                    "{id}: its endpoint asked for a pause of another {left} (Retry-After): \
                     what waits goes on then"
                ));
            }
            if let Some(pause) = &subscription.paused {
                let lasts = ago(clock::now(), pause.since);
                let waits = counted(subscription.pending, "delivery waits", "deliveries wait");
                warnings.push(format!(
                    "{id}: paused by {} for {lasts}; {waits}; to let them go on: spec-notify resume {id}",
                    pause.by
                ));
            }
            if let Some(skew) = subscription.clock_skew_s {
                let (by, way) = (
                    short(SignedDuration::from_secs(skew.abs())),
                    if skew > 0 { "ahead of" } else { "behind" },
                );
                warnings.push(format!(
                    "{id}: its endpoint's clock is {by} {way} this machine's: receivers refuse signatures \
                     that are \
                     five minutes old; set both by NTP"
                ));
            }
            let waiting = subscription.pending + subscription.in_flight;
            if subscription.health == HealthState::Inactive && waiting > 0 {
                let what = counted(waiting, "pending delivery waits", "pending deliveries wait");
                warnings.push(format!(
                    "{id}: {what} and it is not an active subscription; they go on when it returns"
                ));
            }
        }
        for unusable in &survey.unusable {
            warnings.push(format!(
                "{unusable}: what it holds waits, and its new events wait in the inbox; \
                 move it away or fix it"
            ));
        }
        for file in &survey.damaged {
            warnings.push(format!("damaged records were set aside in {file}: look at it, then remove it"));
        }
        for file in &survey.unreadable {
            warnings.push(format!("{file} cannot be read as a dead letter: look at it, then move it away"));
        }
        warnings.extend(rejected(survey));
        warnings
    }
}

pub(super) fn rejected(survey: &Survey) -> Option<String> {
    let files = counted(survey.rejected, "file", "files");
    (survey.rejected > 0).then(|| {
        format!("{files} in the inbox hold no event (inbox/*.rejected): look at them, then remove them")
    })
}
