//! The health of a subscription's endpoint, from its last attempts.

use std::borrow::Cow;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::trouble::{Cause, Incident, Recent, SOME, Trouble, remember};
use super::{Judgement, Outcome, Response};
use crate::clock;
use crate::event::SpecId;
use crate::names::named;

/// Failures in a row that open the breaker: one request at a time (`docs/explain/delivery.md`).
pub(crate) const OPEN_AFTER: u32 = 5;

/// While something succeeded so recently, an endpoint that fails is `degraded`: it may be the next
/// attempt that succeeds.
const LATELY: SignedDuration = SignedDuration::from_secs(60);

/// The share of failures in the last ten minutes that makes an endpoint `degraded`, in percent.
const MANY: u64 = 10;

/// Clock difference in seconds above which it is reported. Receivers refuse signatures that are
/// five minutes old.
const MAX_SKEW_S: i64 = 60;

named! {
    /// The health of a subscription.
    HealthState, "health" {
        /// Nothing was sent yet.
        Untried = "untried",
        /// Attempts succeed.
        Healthy = "healthy",
        /// A share of the attempts in the last minutes failed, though some succeeded.
        Degraded = "degraded",
        /// The last attempt failed and nothing succeeded for a minute, or this machine cannot make
        /// one.
        Failing = "failing",
        /// At least five attempts in a row failed and nothing succeeded for a minute: one request
        /// at a time until one succeeds.
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
    /// The attempts of the last minutes.
    #[serde(default, skip_serializing_if = "Recent::is_empty")]
    recent: Recent,
    /// The spell of failures that it has, or had last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trouble: Option<Trouble>,
    /// Spells of the last day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    incidents: Vec<Incident>,
    /// Since when it is healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    well_since: Option<Timestamp>,
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

/// Age at which a fault of this machine counts like any other failure (`docs/explain/delivery.md`).
const LOCAL_FAULT_COUNTS_AFTER: SignedDuration = SignedDuration::from_hours(24);

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
    /// [`note_local`](Self::note_local) did not handle. `in_words` describes a failure.
    pub(crate) fn note(
        &mut self,
        outcome: &Outcome,
        spec: &SpecId,
        at: Timestamp,
        in_words: impl FnOnce() -> String,
    ) {
        if !outcome.is_local() {
            self.local_fault = None;
        }
        if let Ok(Response { clock_skew, .. }) = &outcome.result {
            self.clock_skew_s = clock_skew.filter(|skew| skew.abs() > MAX_SKEW_S);
        }
        if let Some(pause) = outcome.pause() {
            self.paused_until = self.paused_until.max(Some(at + pause));
        }
        match outcome.judge() {
            Judgement::Delivered => self.succeeded(at),
            Judgement::Retry | Judgement::Terminal(_) => {
                let advice = outcome.advice().map(Cow::into_owned);
                let hint = advice.clone().unwrap_or_default();
                let (what, spec) = (outcome.cause(), spec.clone());
                self.last_spec = Some(spec.clone());
                self.last_hint = advice;
                self.failed(Cause { what, count: 1, since: at, last: at, hint, spec }, in_words());
            }
        }
    }

    /// Whether the last attempt succeeded: only then may the subscription hold more than its share.
    pub(crate) fn is_proven(&self) -> bool {
        self.consecutive_failures == 0 && self.last_success_at.is_some()
    }

    /// Whether the breaker is open: five attempts in a row failed.
    pub(crate) fn is_narrow(&self) -> bool {
        self.consecutive_failures >= OPEN_AFTER
    }

    /// A delivery was given up after its last attempt.
    pub(crate) fn gave_up(&mut self) {
        if let Some(trouble) = &mut self.trouble {
            trouble.gave_up();
        }
    }

    fn succeeded(&mut self, at: Timestamp) {
        self.consecutive_failures = 0;
        self.failing_since = None;
        self.last_success_at = Some(at);
        self.recent.add(at, false);
        self.well_since.get_or_insert(at);
        self.end_what_is_over(at);
    }

    fn failed(&mut self, cause: Cause, error: String) {
        let at = cause.last;
        self.end_what_is_over(at);
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        self.failing_since.get_or_insert(at);
        self.last_error = Some(error);
        self.recent.add(at, true);
        let in_a_row = self.consecutive_failures;
        let trouble = self.trouble.get_or_insert_with(|| Trouble::new(at));
        trouble.add(cause, in_a_row);
        let many = self.recent.fail(MANY, at);
        if many || (in_a_row >= 2 && self.recent.fail(SOME, at)) || in_a_row >= OPEN_AFTER {
            trouble.mark(at);
        }
    }

    fn end_what_is_over(&mut self, now: Timestamp) {
        if self.ongoing(now).is_none()
            && let Some(incident) = self.trouble.take().map(Trouble::into_incident)
        {
            if let Some(incident) = &incident {
                self.well_since = Some(incident.to);
            }
            remember(&mut self.incidents, incident, now);
        }
    }

    /// The spell of failures, unless it is over.
    fn ongoing(&self, now: Timestamp) -> Option<&Trouble> {
        let is_over =
            |trouble: &Trouble| self.consecutive_failures == 0 && trouble.is_over(&self.recent, now);
        self.trouble.as_ref().filter(|trouble| !is_over(trouble))
    }

    /// The health of an active subscription with these attempts.
    pub(crate) fn state(&self, now: Timestamp) -> HealthState {
        let is_marked = self.ongoing(now).is_some_and(|trouble| trouble.is_marked);
        let since_success = self.last_success_at.map(|at| now.duration_since(at));
        let succeeded_lately = since_success.is_some_and(|past| !past.is_negative() && past < LATELY);
        let was_well_lately = is_marked && self.recent.sums(now).0 > 0;
        match self.consecutive_failures {
            _ if self.local_fault.is_some() => HealthState::Failing,
            OPEN_AFTER.. if !succeeded_lately => HealthState::Open,
            1.. if !succeeded_lately && !was_well_lately => HealthState::Failing,
            _ if is_marked => HealthState::Degraded,
            0 if self.last_success_at.is_none() => HealthState::Untried,
            _ => HealthState::Healthy,
        }
    }

    /// Since when it is in this state; `None` where nothing was sent yet.
    pub(crate) fn since(&self, now: Timestamp) -> Option<Timestamp> {
        match self.state(now) {
            HealthState::Untried => None,
            HealthState::Healthy => {
                let ended = self.incidents(now).last().map(|incident| incident.to);
                ended.or(self.well_since).or(self.last_success_at)
            }
            _ => {
                let trouble = self.trouble.as_ref().map(|trouble| trouble.since);
                let local = self.local_fault.as_ref().map(|fault| fault.since);
                local.or(trouble).or(self.failing_since)
            }
        }
    }

    /// Whether somebody has to look: it fails now, or may at any time.
    pub(crate) fn is_unresolved(&self, now: Timestamp) -> bool {
        match self.state(now) {
            HealthState::Failing | HealthState::Open => true,
            HealthState::Degraded => {
                self.consecutive_failures > 0 || self.ongoing(now).is_some_and(Trouble::is_flaky)
            }
            _ => false,
        }
    }

    /// How attempts fail at present, the most frequent first.
    pub(crate) fn causes(&self, now: Timestamp) -> Vec<Cause> {
        let mut causes = match self.ongoing(now) {
            Some(trouble) => trouble.causes.clone(),
            None => self.cause_of_an_earlier_version().into_iter().collect(),
        };
        causes.sort_by_key(|cause| std::cmp::Reverse(cause.count));
        causes
    }

    /// An earlier version remembered the last failure alone.
    fn cause_of_an_earlier_version(&self) -> Option<Cause> {
        let since = self.failing_since?;
        Some(Cause {
            what: self.last_error.clone()?,
            count: self.consecutive_failures,
            since,
            last: since,
            hint: self.last_hint.clone().unwrap_or_default(),
            spec: self.last_spec.clone()?,
        })
    }

    /// How many attempts of the last ten minutes succeeded, and how many failed.
    pub(crate) fn recently(&self, now: Timestamp) -> (u64, u64) {
        self.recent.sums(now)
    }

    /// The spells of failures that ended in the last day, the oldest first.
    pub(crate) fn incidents(&self, now: Timestamp) -> Vec<Incident> {
        let mut incidents = self.incidents.clone();
        let over = self.trouble.clone().filter(|_| self.ongoing(now).is_none());
        remember(&mut incidents, over.and_then(Trouble::into_incident), now);
        incidents
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Failure, FailureClass};
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_760_000_000 + second).unwrap()
    }

    fn answer(status: u16) -> Outcome {
        Outcome::new(Ok(Response { status, ..Response::default() }), Duration::ZERO)
    }

    impl Health {
        fn tried(&mut self, status: u16, second: i64) -> HealthState {
            let before = self.clone();
            self.note(&answer(status), &"SPEC-1".parse().unwrap(), at(second), || format!("status {status}"));
            let written = serde_json::to_string(self).unwrap();
            assert_eq!(*self, serde_json::from_str(&written).unwrap(), "{before:?}");
            self.state(at(second))
        }
    }

    use HealthState::{Degraded, Failing, Healthy, Open, Untried};

    #[test]
    fn an_endpoint_that_never_took_anything_fails_and_is_open_after_five() {
        let mut health = Health::default();
        assert_eq!((health.state(at(0)), health.since(at(0))), (Untried, None));
        for n in 1..=6 {
            let state = health.tried(503, n);
            assert_eq!(state, if n < 5 { Failing } else { Open });
            assert_eq!((health.since(at(n)), health.is_narrow()), (Some(at(1)), n >= 5));
            assert!(health.is_unresolved(at(n)));
        }
        let cause = health.causes(at(9)).remove(0);
        assert_eq!((cause.what.as_str(), cause.count, cause.since), ("status 503", 6, at(1)));
        assert!(cause.hint.contains("a gateway answered"), "{}", cause.hint);
        // It takes something: it is watched for a minute, and well.
        assert_eq!((health.tried(200, 10), health.is_unresolved(at(10))), (Degraded, false));
        assert_eq!((health.state(at(65)), health.state(at(66))), (Degraded, Healthy));
        assert_eq!((health.since(at(66)), health.causes(at(66))), (Some(at(6)), vec![]));
    }

    #[test]
    fn one_that_was_well_and_goes_down_is_degraded_at_once_and_open_after_a_minute() {
        let mut health = Health::default();
        assert_eq!(health.tried(200, 0), Healthy);
        let down: Vec<_> = [10, 11, 13, 17, 25, 41, 60, 71].map(|second| health.tried(500, second)).into();
        assert_eq!(down, [Degraded, Degraded, Degraded, Degraded, Degraded, Degraded, Open, Open]);
        assert_eq!(health.since(at(71)), Some(at(10)));
        // Nobody has to ask it again for that.
        let mut quiet = Health::default();
        quiet.tried(200, 0);
        (0..5).for_each(|second| assert_eq!(quiet.tried(500, second), Degraded));
        assert_eq!((quiet.state(at(59)), quiet.state(at(60))), (Degraded, Open));
    }

    #[test]
    fn one_failure_among_many_successes_is_none() {
        let mut health = Health::default();
        (0..100).for_each(|second| assert_eq!(health.tried(200, second), Healthy));
        assert_eq!((health.tried(500, 100), health.tried(200, 101)), (Healthy, Healthy));
        assert_eq!(health.incidents(at(101)), []);
        assert_eq!((health.tried(500, 110), health.tried(500, 111)), (Healthy, Degraded));
    }

    /// The incident of the requirements: six in ten answered 503, five a second.
    #[test]
    fn a_flaky_endpoint_is_degraded_throughout_and_then_remembered_for_a_day() {
        let mut health = Health::default();
        (0..600).for_each(|second| assert_eq!(health.tried(200, second), Healthy));
        let mut dice = 7_u64;
        let mut fails = || {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % 10 < 6
        };
        let (mut states, mut failed) = (Vec::new(), 0);
        for second in 600..1200 {
            for _ in 0..5 {
                let is_failure = fails();
                failed += u32::from(is_failure);
                health.tried(if is_failure { 503 } else { 200 }, second);
                states.push(health.state(at(second)));
            }
        }
        let first = states.iter().position(|state| *state == Degraded).unwrap();
        assert!(first < 200, "it takes a tenth of ten minutes' attempts: {first}");
        assert!(states[first..].iter().all(|state| *state == Degraded));
        (0..31).for_each(|_| health.gave_up());
        health.tried(200, 1200);
        // Well again: ten minutes after the last failure, whatever is asked of it.
        assert_eq!((health.state(at(1700)), health.is_unresolved(at(1700))), (Degraded, true));
        assert_eq!(health.state(at(1800)), Healthy);
        for now in [1800, 1200 + 86_000] {
            let incidents = health.incidents(at(now));
            let [incident] = &incidents[..] else { panic!("{incidents:?}") };
            assert_eq!(
                (incident.failures, incident.given_up, incident.what.as_str()),
                (failed, 31, "status 503")
            );
            assert!(incident.from < at(605) && incident.to > at(1195), "{incident:?}");
        }
        health.tried(200, 5000);
        assert_eq!((health.incidents(at(5000)).len(), health.incidents(at(90_000)).len()), (1, 0));
    }

    #[test]
    fn a_pause_and_a_clock_are_noted() {
        let answer = |status: u16, clock_skew| {
            let retry_after = Some(Duration::from_secs(100));
            let response = Response { status, retry_after, clock_skew, ..Response::default() };
            Outcome::new(Ok(response), Duration::ZERO)
        };
        let (mut health, spec) = (Health::default(), "SPEC-1".parse().unwrap());
        assert!(!health.is_proven());
        health.note(&answer(500, Some(-60)), &spec, at(1), String::new);
        assert_eq!((health.clock_skew_s, health.paused_until, health.is_proven()), (None, None, false));
        health.note(&answer(429, Some(-61)), &spec, at(8), String::new);
        assert_eq!((health.clock_skew_s, health.paused_until), (Some(-61), Some(at(108))));
        health.note(&answer(200, Some(5)), &spec, at(9), String::new);
        assert_eq!((health.clock_skew_s, health.is_proven()), (None, true));
    }

    #[test]
    fn a_fault_of_this_machine_is_none_of_the_endpoints_for_a_day() {
        let failed = |class| {
            let failure = Failure { class, message: "no network".to_owned(), hint: "connect it".into() };
            Outcome::new(Err(failure), Duration::ZERO)
        };
        let (local, other) = (failed(FailureClass::Local), failed(FailureClass::Dns));
        let (mut health, spec) = (Health::default(), "SPEC-1".parse().unwrap());
        assert_eq!(health.note_local(&other, at(0)), None);
        assert_eq!(health.state(at(0)), Untried);
        let wait =
            |health: &mut Health, second| health.note_local(&local, at(second)).map(|wait| wait.as_secs());
        for (second, waits) in [(0, 1), (1, 1), (10, 5), (3600, 60), (86_399, 60)] {
            assert_eq!(wait(&mut health, second), Some(waits), "{second}");
            assert_eq!((health.state(at(second)), health.consecutive_failures), (Failing, 0));
            assert_eq!(health.since(at(second)), Some(at(0)));
        }
        assert_eq!(wait(&mut health, 86_400), None, "from now on it counts");
        health.note(&local, &spec, at(86_400), String::new);
        assert_eq!(health.consecutive_failures, 1);
        assert_eq!(wait(&mut health, 86_401), None, "and goes on to");
        health.note(&other, &spec, at(86_402), || "dns".to_owned());
        assert_eq!((&health.local_fault, health.last_hint.as_deref()), (&None, Some("connect it")));
        assert_eq!(wait(&mut health, 86_403), Some(1), "another one");
    }

    #[test]
    fn what_an_earlier_version_kept_is_read() {
        let at = |second| at(second).to_string();
        let kept = format!(r#"{{"consecutive_failures":7,"failing_since":"{}"}}"#, at(1));
        let health: Health = serde_json::from_str(&kept).unwrap();
        let now = at(9).parse().unwrap();
        assert_eq!((health.state(now), health.since(now).unwrap().to_string()), (Open, at(1)));
    }

    /// Statuses, and the seconds before each.
    fn tries() -> impl Strategy<Value = Vec<(u16, i64)>> {
        let status = prop::sample::select(vec![200_u16, 500, 503, 404]);
        prop::collection::vec((status, -30_i64..400), 1..120)
    }

    proptest! {
        /// Whatever happens, and however clocks are set, what fails now is never called healthy
        /// for more than a minute, nothing but failures makes it look bad, and all is bounded.
        #[test]
        fn what_is_said_of_an_endpoint_holds(
            tries in tries()
        ) {
            let (mut health, mut now, mut last_success) = (Health::default(), 0, None);
            let mut failed_ever = false;
            for (status, step) in tries {
                now += step;
                health.tried(status, now);
                failed_ever |= status != 200;
                if status == 200 {
                    last_success = Some(now);
                }
                let recently = last_success.is_some_and(|then: i64| (0..60).contains(&(now - then)));
                let state = health.state(at(now));
                prop_assert!(status == 200 || recently || !matches!(state, Healthy | Untried));
                prop_assert!(status != 200 || matches!(state, Healthy | Degraded));
                prop_assert!(failed_ever || state == Healthy);
                prop_assert!(health.causes(at(now)).len() <= 8 && health.incidents(at(now)).len() <= 8);
                let later = health.state(at(now + 90_000));
                prop_assert!(status != 200 || later == Healthy, "{later}");
            }
            let length = serde_json::to_string(&health).unwrap().len();
            prop_assert!(length < 8 * 1024, "{length}");
        }
    }
}
