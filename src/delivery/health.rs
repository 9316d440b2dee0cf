//! The health of a subscription's endpoint, from its last attempts.

use std::borrow::Cow;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Judgement, Outcome, Response};
use crate::clock;
use crate::event::SpecId;
use crate::names::named;

/// Failures in a row after which a subscription counts as `open` (`docs/delivery.md`).
pub(crate) const OPEN_AFTER: u32 = 5;

/// Clock difference in seconds above which it is reported. Receivers refuse signatures that are
/// five minutes old.
const MAX_SKEW_S: i64 = 60;

named! {
    /// The health of a subscription.
    HealthState, "health" {
        /// The last attempt succeeded, or there was none.
        Healthy = "healthy",
        /// The last attempt failed, or this machine cannot make one.
        Failing = "failing",
        /// At least five attempts in a row failed: one request at a time until one succeeds.
        Open = "open",
        /// A person holds its deliveries back.
        Paused = "paused",
        /// Configured and switched off, or no longer configured.
        Inactive = "inactive",
        /// Its deliveries are recorded and not sent.
        DryRun = "dry_run",
    }
}

/// What is remembered of a subscription's attempts, over all its deliveries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Health {
    /// Number of failed attempts since the last success.
    pub consecutive_failures: u32,
    /// When the first of these attempts failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failing_since: Option<Timestamp>,
    /// When an attempt last succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_success_at: Option<Timestamp>,
    /// The last failure, in words; kept after a success.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_hint: Option<String>,
    /// The SPEC of the delivery that failed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_spec: Option<SpecId>,
    /// Why nothing can be sent from this machine to its endpoint, as long as that lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_fault: Option<LocalFault>,
    /// Until when the endpoint asked for a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
    /// The difference between its clock and ours in seconds, if it is more than a minute; positive
    /// if its clock is ahead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew_s: Option<i64>,
}

/// A fault of this machine, which is not counted against the endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocalFault {
    /// When it first occurred.
    #[serde(with = "clock::millis")]
    pub since: Timestamp,
    /// The fault in words.
    pub error: String,
    /// What to do about it.
    pub hint: String,
}

/// Age at which a fault of this machine counts like any other failure (`docs/delivery.md`).
const LOCAL_FAULT_COUNTS_AFTER: SignedDuration = SignedDuration::from_hours(24);

/// A change of the breaker's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It opened: one request at a time from now on.
    Opened,
    /// It closed.
    Closed,
}

impl Health {
    /// Notes an attempt that this machine was not able to make. Returns the wait before the next
    /// one: half the time the fault has lasted, from 1 s to 60 s. `None` if the failure counts like
    /// any other: it is not a local fault, or has lasted for a day.
    pub(crate) fn note_local(&mut self, outcome: &Outcome, at: Timestamp) -> Option<Duration> {
        let failure = outcome.result.as_ref().err().filter(|_| outcome.is_local())?;
        let since = self.local_fault.as_ref().map_or(at, |fault| fault.since);
        let lasts = at.duration_since(since);
        if lasts >= LOCAL_FAULT_COUNTS_AFTER {
            return None;
        }
        let (error, hint) = (failure.message.clone(), failure.hint.clone().into_owned());
        self.local_fault = Some(LocalFault { since, error, hint });
        let half = Duration::try_from(lasts).unwrap_or_default() / 2;
        Some(half.clamp(Duration::from_secs(1), Duration::from_secs(60)))
    }

    /// Notes an attempt for a delivery of `spec` that ended at `at` and that
    /// [`note_local`](Self::note_local) did not handle. `in_words` describes a failure. Returns the
    /// change of the breaker's state, if any.
    pub(crate) fn note(
        &mut self,
        outcome: &Outcome,
        spec: &SpecId,
        at: Timestamp,
        in_words: impl FnOnce() -> String,
    ) -> Option<Turn> {
        if !outcome.is_local() {
            self.local_fault = None;
        }
        let was_open = self.state() == HealthState::Open;
        if let Ok(Response { clock_skew, .. }) = &outcome.result {
            self.clock_skew_s = clock_skew.filter(|skew| skew.abs() > MAX_SKEW_S);
        }
        if let Some(pause) = outcome.pause() {
            self.paused_until = self.paused_until.max(Some(at + pause));
        }
        match outcome.judge() {
            Judgement::Delivered => self.succeeded(at),
            Judgement::Retry | Judgement::Terminal(_) => {
                self.failed(at, in_words());
                self.last_hint = outcome.advice().map(Cow::into_owned);
                self.last_spec = Some(spec.clone());
            }
        }
        match (was_open, self.state() == HealthState::Open) {
            (false, true) => Some(Turn::Opened),
            (true, false) => Some(Turn::Closed),
            _ => None,
        }
    }

    /// Whether the last attempt succeeded: only then may the subscription hold more than its share.
    pub(crate) fn is_proven(&self) -> bool {
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

    /// The health of an active subscription with these attempts.
    pub(crate) fn state(&self) -> HealthState {
        match self.consecutive_failures {
            0 if self.local_fault.is_none() => HealthState::Healthy,
            0 => HealthState::Failing,
            1..OPEN_AFTER => HealthState::Failing,
            _ => HealthState::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Failure, FailureClass};
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

    #[test]
    fn the_breaker_turns_once_each_way_and_a_pause_and_a_clock_are_noted() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let answer = |status: u16, clock_skew| {
            let retry_after = Some(Duration::from_secs(100));
            let response = Response { status, retry_after, clock_skew, ..Response::default() };
            Outcome::new(Ok(response), Duration::ZERO)
        };
        let (mut health, spec) = (Health::default(), "SPEC-1".parse().unwrap());
        assert!(!health.is_proven());
        let turns: Vec<_> =
            (0..7).map(|n| health.note(&answer(500, Some(-60)), &spec, at(n), String::new)).collect();
        assert_eq!(turns, [None, None, None, None, Some(Turn::Opened), None, None]);
        assert_eq!((health.clock_skew_s, health.paused_until, health.is_proven()), (None, None, false));
        assert_eq!(health.note(&answer(429, Some(-61)), &spec, at(8), String::new), None);
        assert_eq!((health.clock_skew_s, health.paused_until), (Some(-61), Some(at(108))));
        assert_eq!(health.note(&answer(200, Some(5)), &spec, at(9), String::new), Some(Turn::Closed));
        assert_eq!((health.clock_skew_s, health.is_proven()), (None, true));
        assert_eq!(health.note(&answer(200, None), &spec, at(10), String::new), None);
    }

    #[test]
    fn a_fault_of_this_machine_is_none_of_the_endpoints_for_a_day() {
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let failed = |class| {
            let failure = Failure { class, message: "no network".to_owned(), hint: "connect it".into() };
            Outcome::new(Err(failure), Duration::ZERO)
        };
        let (local, other) = (failed(FailureClass::Local), failed(FailureClass::Dns));
        let (mut health, spec) = (Health::default(), "SPEC-1".parse().unwrap());
        assert_eq!(health.note_local(&other, at(0)), None);
        assert_eq!(health.state(), HealthState::Healthy);
        let wait =
            |health: &mut Health, second| health.note_local(&local, at(second)).map(|wait| wait.as_secs());
        for (second, waits) in [(0, 1), (1, 1), (10, 5), (3600, 60), (86_399, 60)] {
            assert_eq!(wait(&mut health, second), Some(waits), "{second}");
            assert_eq!((health.state(), health.consecutive_failures), (HealthState::Failing, 0));
        }
        assert_eq!(wait(&mut health, 86_400), None, "from now on it counts");
        health.note(&local, &spec, at(86_400), String::new);
        assert_eq!(health.consecutive_failures, 1);
        assert_eq!(wait(&mut health, 86_401), None, "and goes on to");
        health.note(&other, &spec, at(86_402), || "dns".to_owned());
        assert_eq!((&health.local_fault, health.last_hint.as_deref()), (&None, Some("connect it")));
        assert_eq!(wait(&mut health, 86_403), Some(1), "another one");
    }
}
