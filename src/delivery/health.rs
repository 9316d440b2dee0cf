//! How well an endpoint takes what it is sent, from its last attempts.

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Judgement, Outcome, Response};
use crate::event::{UnknownName, named};

/// Failures in a row after which a subscription counts as `open` (contract section 5).
pub const OPEN_AFTER: u32 = 5;

/// Receivers refuse signatures five minutes old; a minute is worth a word.
const MAX_SKEW_S: i64 = 60;

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
    /// Until when the endpoint asked to be left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
    /// How far its clock is off ours, in seconds, where that is more than a minute; ahead is positive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_s: Option<i64>,
}

/// What an attempt changed about the breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It opened: from now on one request at a time.
    Opened,
    /// It closed.
    Closed,
}

impl Health {
    /// An attempt ended at `at`; `in_words` is what to say of a failure. Returns what that changed about the breaker.
    pub fn note(
        &mut self,
        outcome: &Outcome,
        at: Timestamp,
        in_words: impl FnOnce() -> String,
    ) -> Option<Turn> {
        let was_open = self.state() == HealthState::Open;
        if let Ok(Response { clock_skew, .. }) = &outcome.result {
            self.clock_skew_s = clock_skew.filter(|skew| skew.abs() > MAX_SKEW_S);
        }
        if let Some(pause) = outcome.pause() {
            self.paused_until = self.paused_until.max(Some(at + pause));
        }
        match outcome.judge() {
            Judgement::Delivered => self.succeeded(at),
            Judgement::Retry | Judgement::Terminal(_) => self.failed(at, in_words()),
        }
        match (was_open, self.state() == HealthState::Open) {
            (false, true) => Some(Turn::Opened),
            (true, false) => Some(Turn::Closed),
            _ => None,
        }
    }

    /// Whether its last attempt succeeded: only then it may hold more than its share.
    pub fn is_proven(&self) -> bool {
        self.consecutive_failures == 0 && self.last_success_at.is_some()
    }

    fn succeeded(&mut self, at: Timestamp) {
        self.consecutive_failures = 0;
        self.failing_since = None;
        self.last_success_at = Some(at);
    }

    fn failed(&mut self, at: Timestamp, error: String) {
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
    use std::time::Duration;

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

    #[test]
    fn the_breaker_turns_once_each_way_and_a_pause_and_a_clock_are_noted() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let answer = |status: u16, clock_skew| {
            let retry_after = Some(Duration::from_secs(100));
            let response = Response { status, retry_after, clock_skew, ..Response::default() };
            Outcome { result: Ok(response), latency: Duration::ZERO, resent: false }
        };
        let mut health = Health::default();
        assert!(!health.is_proven());
        let turns: Vec<_> =
            (0..7).map(|n| health.note(&answer(500, Some(-60)), at(n), String::new)).collect();
        assert_eq!(turns, [None, None, None, None, Some(Turn::Opened), None, None]);
        assert_eq!((health.clock_skew_s, health.paused_until, health.is_proven()), (None, None, false));
        assert_eq!(health.note(&answer(429, Some(-61)), at(8), String::new), None);
        assert_eq!((health.clock_skew_s, health.paused_until), (Some(-61), Some(at(108))));
        assert_eq!(health.note(&answer(200, Some(5)), at(9), String::new), Some(Turn::Closed));
        assert_eq!((health.clock_skew_s, health.is_proven()), (None, true));
        assert_eq!(health.note(&answer(200, None), at(10), String::new), None);
    }
}
