//! The retry law: how long to wait before each retry. The one place that knows the `backoff` crate.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use jiff::SignedDuration;

/// How often, and how long apart, a delivery is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first included; at least 1.
    pub max_attempts: u32,
    /// Before the first retry.
    pub initial: Duration,
    /// Each wait is the one before times this; at least 1.
    pub factor: f64,
    /// Cap of one wait, jitter not counted.
    pub max: Duration,
    /// Largest jitter.
    pub jitter: Duration,
}

/// The config's defaults.
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

/// A random part of a wait, drawn by the caller from `0..=policy.jitter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jitter(pub Duration);

impl RetryPolicy {
    /// `min(max, initial * factor^(retry-1)) + jitter`, with `retry` from 1 (contract section 5).
    pub fn wait_before_retry(&self, retry: u32, jitter: Jitter) -> Duration {
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
        wait.min(self.max) + jitter.0.min(self.jitter)
    }

    /// What is left of the wait after `attempts_made` attempts, by a wall clock that says `left` and may have jumped
    /// since: never negative, never more than that wait can be.
    pub fn remaining_wait(&self, attempts_made: u32, left: SignedDuration) -> Duration {
        let longest = self.wait_before_retry(attempts_made.max(1), Jitter(self.jitter));
        Duration::try_from(left).unwrap_or(Duration::ZERO).min(longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
            (1..=10).map(|n| policy().wait_before_retry(n, Jitter(Duration::ZERO)).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]);
    }

    proptest! {
        #[test]
        fn a_clock_that_jumps_neither_parks_a_delivery_nor_shortens_what_is_left(attempts in 0u32..40, left_ms in -100_000i64..400_000, jump_s in -7200i64..7200) {
            let policy = policy();
            let longest = policy.wait_before_retry(attempts.max(1), Jitter(policy.jitter));
            let left = SignedDuration::from_millis(left_ms);
            let jumped = policy.remaining_wait(attempts, left + SignedDuration::from_secs(jump_s));
            prop_assert!(jumped <= longest);
            if left >= SignedDuration::ZERO && jump_s >= 0 {
                prop_assert!(jumped >= policy.remaining_wait(attempts, left));
            }
        }

        #[test]
        fn the_law(initial in 1u64..100_000, factor in 1.0f64..10.0, max in 1u64..1_000_000, retry in 1u32..40, jitter in 0u64..500) {
            let policy = RetryPolicy {
                max_attempts: 40,
                initial: Duration::from_millis(initial),
                factor,
                max: Duration::from_millis(max),
                jitter: Duration::from_millis(500),
            };
            let expected = (initial as f64 * factor.powi(retry as i32 - 1)).min(max as f64) + jitter as f64;
            let wait = policy.wait_before_retry(retry, Jitter(Duration::from_millis(jitter))).as_secs_f64() * 1000.0;
            prop_assert!((wait - expected).abs() <= 1.0 + expected * 1e-6, "{wait} {expected}");
        }
    }
}
