//! What the figures of a time say, as values for `status`, reports and hosts.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ROWS, Row, Rows, Slot, Way};
use crate::clock;

/// The figures of one subscription, or of all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Figures {
    /// The last minute.
    pub minute: Window,
    /// The last ten minutes.
    pub ten_minutes: Window,
    /// The last hour.
    pub hour: Window,
    /// The last 24 hours.
    pub day: Window,
    /// Each minute of the last hour.
    pub minutes: Minutes,
}

/// The lengths of the windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Windows {
    /// The last minute.
    Minute,
    /// The last ten minutes.
    TenMinutes,
    /// The last hour.
    Hour,
    /// The last 24 hours.
    Day,
}

/// The attempts of each minute of the last hour, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Minutes {
    /// Attempts that succeeded.
    pub delivered: Vec<u64>,
    /// Attempts that failed.
    pub failed: Vec<u64>,
}

/// What happened in a window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Window {
    /// Number of requests, those of `test` and `replay` included.
    pub attempts: u64,
    /// Number of attempts that succeeded.
    pub delivered: u64,
    /// Number of attempts that failed.
    pub failed: u64,
    /// The same by HTTP status (`503`) or class of the failure (`timeout`).
    pub failures: BTreeMap<String, u64>,
    /// Number of deliveries that were given up after an attempt.
    pub given_up: u64,
    /// Number of deliveries that were accepted, as far as this runtime saw.
    pub accepted: u64,
    /// The latency of half of the attempts, in milliseconds; at most a fifth off.
    pub p50_ms: Option<f64>,
    /// The latency of 95 in 100 attempts, in milliseconds; at most a fifth off.
    pub p95_ms: Option<f64>,
    /// The largest latency, in milliseconds.
    pub max_ms: Option<f64>,
    /// When the first attempt failed.
    #[serde(with = "clock::maybe_millis")]
    pub first_bad_at: Option<Timestamp>,
    /// When the last attempt succeeded.
    #[serde(with = "clock::maybe_millis")]
    pub last_good_at: Option<Timestamp>,
    /// Deliveries a second.
    pub delivered_per_s: f64,
}

impl Figures {
    pub(super) fn of<'a>(rows: &(impl IntoIterator<Item = &'a Rows> + Clone), now: Timestamp) -> Self {
        let window = |which: usize| {
            let of = rows.clone().into_iter().map(|rows| &rows.0[which]);
            Window::of(of, ROWS[which], now)
        };
        let (slot_s, slots) = ROWS[2];
        let none = vec![0; usize::try_from(slots).unwrap_or_default()];
        let mut minutes = Minutes { delivered: none.clone(), failed: none };
        let first = now.as_second().div_euclid(slot_s) - slots + 1;
        for (number, slot) in rows.clone().into_iter().flat_map(|rows| rows.0[2].within(slot_s, slots, now)) {
            let Ok(place) = usize::try_from(number - first) else { continue };
            minutes.delivered[place] += u64::from(slot.delivered);
            minutes.failed[place] += u64::from(slot.failed);
        }
        Self { minute: window(0), ten_minutes: window(1), hour: window(2), day: window(3), minutes }
    }

    /// One of the windows.
    pub fn window(&self, which: Windows) -> &Window {
        match which {
            Windows::Minute => &self.minute,
            Windows::TenMinutes => &self.ten_minutes,
            Windows::Hour => &self.hour,
            Windows::Day => &self.day,
        }
    }

    /// In how many seconds nothing waits any more, at the rate of the last minute: `None` where
    /// nothing waits, or as many come as end.
    pub fn empty_in_s(&self, pending: usize) -> Option<f64> {
        let Window { delivered, given_up, accepted, .. } = self.minute;
        #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let (ended, pending) = ((delivered + given_up) as f64 - accepted as f64, pending as f64);
        (ended > 0.0 && pending > 0.0).then(|| pending * 60.0 / ended)
    }
}

impl Row {
    /// The slots of the window that ends `now`.
    fn within(&self, slot_s: i64, slots: i64, now: Timestamp) -> impl Iterator<Item = (i64, &Slot)> {
        let now = now.as_second().div_euclid(slot_s);
        let is_within = move |number: &i64| (now - slots + 1..=now).contains(number);
        self.0.iter().filter(move |(number, _)| is_within(number)).map(|(number, slot)| (*number, &**slot))
    }
}

impl Window {
    fn of<'a>(rows: impl Iterator<Item = &'a Row>, (slot_s, slots): (i64, i64), now: Timestamp) -> Self {
        let mut sum = Slot::default();
        let (mut window, mut failures) = (Self::default(), BTreeMap::<Way, u64>::new());
        for (_, slot) in rows.flat_map(|row| row.within(slot_s, slots, now)) {
            window.delivered += u64::from(slot.delivered);
            window.failed += u64::from(slot.failed);
            window.given_up += u64::from(slot.given_up);
            window.accepted += u64::from(slot.accepted);
            for (way, count) in &slot.ways {
                *failures.entry(*way).or_default() += u64::from(*count);
            }
            sum.merge(slot);
        }
        let max_ms = f64::from(sum.max_ms);
        let round = |ms: f64| (ms * 10.0).round() / 10.0;
        window.attempts = window.delivered + window.failed;
        window.failures = failures.into_iter().map(|(way, count)| (way.to_string(), count)).collect();
        window.p50_ms = sum.latencies.quantile(0.5, max_ms).map(round);
        window.p95_ms = sum.latencies.quantile(0.95, max_ms).map(round);
        window.max_ms = (window.attempts > 0).then(|| round(max_ms));
        let at = |millis: i64| Timestamp::from_millisecond(millis).ok().filter(|_| millis != 0);
        window.first_bad_at = at(sum.first_bad);
        window.last_good_at = at(sum.last_good);
        #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let per_s = window.delivered as f64 / (slot_s * slots) as f64;
        window.delivered_per_s = (per_s * 1000.0).round() / 1000.0;
        window
    }
}

/// `503`, or `timeout`.
impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => status.fmt(f),
            Self::Class(class) => class.fmt(f),
        }
    }
}
