//! The role of a subscription: events are sent, only recorded, or no longer taken.

use super::SubscriptionConfig;

/// The role of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Active,
    /// Its events are recorded and not sent.
    DryRun,
    /// It gets no new events: it is switched off, or no longer in the config.
    Inactive,
}

impl SubscriptionConfig {
    /// The role of this entry. `dry_run` has no effect if it is not `active`.
    pub(crate) fn role(&self) -> Role {
        match (self.active, self.dry_run) {
            (false, _) => Role::Inactive,
            (true, true) => Role::DryRun,
            (true, false) => Role::Active,
        }
    }
}
