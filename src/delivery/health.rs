//! How well an endpoint takes what it is sent, from its last attempts.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::event::{UnknownName, named};

/// Failures in a row after which a subscription counts as `open` (contract section 5).
pub const OPEN_AFTER: u32 = 5;

named! {
    /// How a subscription fares.
    HealthState, "health" {
        /// The last attempt succeeded, or there was none.
        Healthy = "healthy",
        /// The last attempt failed.
        Failing = "failing",
        /// At least [`OPEN_AFTER`] attempts in a row failed.
        Open = "open",
        /// Configured and switched off, or no longer configured.
        Inactive = "inactive",
        /// Recorded, not sent.
        DryRun = "dry_run",
    }
}

/// What is remembered of a subscription's attempts, whichever deliveries they were for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// Attempts that failed since the last one that did not.
    pub consecutive_failures: u32,
    /// When the first of these failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// When an attempt last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<Timestamp>,
    /// The last failure, in the words of its error; kept after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

impl Health {
    /// An attempt succeeded.
    pub fn succeeded(&mut self, at: Timestamp) {
        self.consecutive_failures = 0;
        self.failing_since = None;
        self.last_success_at = Some(at);
    }

    /// An attempt failed.
    pub fn failed(&mut self, at: Timestamp, error: String) {
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.failing_since.get_or_insert(at);
        self.last_error = Some(error);
    }

    /// What that amounts to for an active subscription.
    pub fn state(&self) -> HealthState {
        match self.consecutive_failures {
            0 => HealthState::Healthy,
            1..OPEN_AFTER => HealthState::Failing,
            _ => HealthState::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_open_it_and_one_success_closes_it() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let mut health = Health::default();
        assert_eq!(health.state(), HealthState::Healthy);
        for n in 1..=6 {
            health.failed(at(n), format!("error {n}"));
            assert_eq!(health.state(), if n < 5 { HealthState::Failing } else { HealthState::Open });
        }
        assert_eq!((health.failing_since, health.last_error.as_deref()), (Some(at(1)), Some("error 6")));
        health.succeeded(at(7));
        assert_eq!((health.state(), health.failing_since), (HealthState::Healthy, None));
        assert_eq!(health.last_success_at, Some(at(7)));
        health.failed(at(8), "again".to_owned());
        assert_eq!((health.state(), health.failing_since), (HealthState::Failing, Some(at(8))));
    }
}
