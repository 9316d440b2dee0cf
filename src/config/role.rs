//! What a subscription is there for: to get events, to have them recorded only, or to hold what
//! waits.

use super::SubscriptionConfig;

/// See the module's first line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Active,
    /// What it would get is recorded and not sent.
    DryRun,
    /// Gets nothing new; switched off, or no longer in the config.
    Inactive,
}

impl SubscriptionConfig {
    /// What the entry is there for: `dry_run` means nothing where it is not `active`.
    pub(crate) fn role(&self) -> Role {
        match (self.active, self.dry_run) {
            (false, _) => Role::Inactive,
            (true, true) => Role::DryRun,
            (true, false) => Role::Active,
        }
    }
}
