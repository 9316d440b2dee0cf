//! The retry schedule: how long to wait before each retry. The only user of the `backoff` crate.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use jiff::{SignedDuration, Timestamp};

/// How often a delivery is tried, and at which intervals.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RetryPolicy {
    /// Attempts in all, including the first; at least 1.
    pub max_attempts: u32,
    /// The wait before the first retry.
    pub initial: Duration,
    /// Each wait is the one before multiplied by this; at least 1.
    pub factor: f64,
    /// Longest wait, without jitter.
    pub max: Duration,
    /// Largest jitter.
    pub jitter: Duration,
}

/// The defaults of the config.
impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 10,
            initial: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_secs(300),
            jitter: Duration::from_millis(250),
        }
    }
}

/// A random number from 0 to 1, drawn by the caller.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Jitter(pub(crate) f64);

impl RetryPolicy {
    /// `min(max, initial * factor^(retry-1)) + jitter`, with `retry` from 1
    /// (`docs/explain/delivery.md`).
    pub(crate) fn wait_before_retry(&self, retry: u32, jitter: Jitter) -> Duration {
        let mut schedule = ExponentialBackoff {
            current_interval: self.initial,
            initial_interval: self.initial,
            randomization_factor: 0.0,
            multiplier: self.factor,
            max_interval: self.max,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        let mut wait = self.initial;
        for _ in 0..retry {
            match schedule.next_backoff() {
                Some(next) => wait = next,
                None => break,
            }
            if wait >= self.max {
                break;
            }
        }
        wait.min(self.max) + self.jitter.mul_f64(jitter.0.clamp(0.0, 1.0))
    }

    /// The rest of the wait after `attempts_made` attempts, of which the wall clock says that
    /// `left` is left. The clock may have jumped: the result is never negative and never longer
    /// than that wait can be.
    pub(crate) fn remaining_wait(&self, attempts_made: u32, left: SignedDuration) -> Duration {
        let longest = self.wait_before_retry(attempts_made.max(1), Jitter(1.0));
        Duration::try_from(left).unwrap_or(Duration::ZERO).min(longest)
    }
}

/// Most milliseconds that a retry is delayed so that it starts together with others.
const MAX_SLACK_MS: u128 = 256;

/// When a retry starts that waits for `wait` from `now`: never earlier, and later by at most a
/// 128th of the wait, from 1 ms to 256 ms. Long waits so end together and wake the machine seldom.
pub(crate) fn retry_at(now: Timestamp, wait: Duration) -> Timestamp {
    let allowed = (wait.as_millis() / 128).clamp(1, MAX_SLACK_MS);
    // A power of two, so that the grids of different slacks coincide.
    let slack = 1_i128 << allowed.ilog2();
    let nanoseconds = i128::try_from(wait.as_nanos()).unwrap_or(i128::MAX);
    let due = now.as_nanosecond().saturating_add(nanoseconds);
    let grid = slack * 1_000_000;
    let at = due.div_euclid(grid) + i128::from(due.rem_euclid(grid) > 0);
    Timestamp::from_nanosecond(at.saturating_mul(grid)).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn policy() -> RetryPolicy {
        RetryPolicy {
            max_attempts: 10,
            initial: Duration::from_millis(1000),
            factor: 2.0,
            max: Duration::from_secs(300),
            jitter: Duration::from_millis(250),
        }
    }

    #[test]
    fn the_default_schedule() {
        let waits: Vec<u64> =
            (1..=10).map(|n| policy().wait_before_retry(n, Jitter(0.0)).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    }

    #[test]
    fn what_waits_long_starts_together() {
        let now: Timestamp = "2025-10-14T10:00:00Z".parse().unwrap();
        let starts_within_256_ms_of = |wait: Duration| {
            let starts = (0..256).map(|ms| retry_at(now, wait + Duration::from_millis(ms)));
            starts.collect::<BTreeSet<_>>().len()
        };
        assert!(starts_within_256_ms_of(Duration::from_secs(300)) <= 2);
        assert!(starts_within_256_ms_of(Duration::from_secs(1)) > 30);
    }

    proptest! {
        #[test]
        fn a_clock_that_jumps_neither_parks_a_delivery_nor_shortens_what_is_left(
            attempts in 0u32..40,
            left_ms in -100_000i64..400_000,
            jump_s in -7200i64..7200,
        ) {
            let policy = policy();
            let longest = policy.wait_before_retry(attempts.max(1), Jitter(1.0));
            let left = SignedDuration::from_millis(left_ms);
            let jumped = policy.remaining_wait(attempts, left + SignedDuration::from_secs(jump_s));
            prop_assert!(jumped <= longest);
            if left >= SignedDuration::ZERO && jump_s >= 0 {
                prop_assert!(jumped >= policy.remaining_wait(attempts, left));
            }
        }

        #[test]
        fn a_retry_is_never_early_and_hardly_late(
            now_ns in 0i64..4_000_000_000_000_000_000,
            wait_us in 0u64..7_200_000_000,
        ) {
            let now = Timestamp::from_nanosecond(now_ns.into()).unwrap();
            let wait = Duration::from_micros(wait_us);
            let late = retry_at(now, wait).duration_since(now) - SignedDuration::try_from(wait).unwrap();
            prop_assert!(!late.is_negative());
            let allowed = (wait / 128).clamp(Duration::from_millis(1), Duration::from_millis(256));
            prop_assert!(late.unsigned_abs() <= allowed, "{late:?} of {wait:?}");
        }

        #[test]
        fn the_law(
            initial in 1u64..100_000,
            factor in 1.0f64..10.0,
            max in 1u64..1_000_000,
            retry in 1u32..40,
            jitter in 0u64..500,
        ) {
            let policy = RetryPolicy {
                max_attempts: 40,
                initial: Duration::from_millis(initial),
                factor,
                max: Duration::from_millis(max),
                jitter: Duration::from_millis(500),
            };
            let expected = (initial as f64 * factor.powi(retry as i32 - 1)).min(max as f64) + jitter as f64;
            let drawn = Jitter(jitter as f64 / 500.0);
            let wait = policy.wait_before_retry(retry, drawn).as_secs_f64() * 1000.0;
            prop_assert!((wait - expected).abs() <= 1.0 + expected * 1e-6, "{wait} {expected}");
        }
    }
}
