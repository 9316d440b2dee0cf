//! Counts what the evidence has of a time: every attempt and every end, exactly.

use std::collections::HashSet;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::ByWord;
use crate::archive::{End, Part, is_record};
use crate::clock;
use crate::delivery::{DeliveryId, FinalState, SubscriptionId, hint_of_status};
use crate::names::printable;

/// Number of parts of the time in which attempts were made.
const SLOTS: usize = 48;

/// Most ways to fail that are told apart; the rarest beyond are told as one.
const MAX_CAUSES: usize = 20;

/// Lines stand nearly in the order of their times: those of one batch may not, and a clock may be
/// set back. After so many that are too old in a row nothing newer comes.
const OUT_OF_ORDER: usize = 256;

/// Longest failure in words.
const LONGEST_CAUSE: usize = 120;

/// What happened to one subscription, or to all.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Tally {
    /// Requests, those of `test` and `replay` included.
    pub attempts: u64,
    /// Attempts that succeeded.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// The same by HTTP status or class of the failure.
    pub failures: ByWord,
    /// Deliveries that ended, by their last state.
    pub ended: ByWord,
    /// Deliveries that were given up, also where a replay delivered them since.
    pub given_up: u64,
    /// Latency of half of the attempts, in milliseconds, exactly.
    pub p50_ms: Option<f64>,
    /// Latency of 95 in 100 attempts, in milliseconds, exactly.
    pub p95_ms: Option<f64>,
    /// The largest latency, in milliseconds.
    pub max_ms: Option<f64>,
    /// When the first attempt failed.
    #[serde(with = "clock::maybe_millis")]
    pub first_bad_at: Option<Timestamp>,
    /// When the last attempt failed.
    #[serde(with = "clock::maybe_millis")]
    pub last_bad_at: Option<Timestamp>,
    /// When the last attempt succeeded.
    #[serde(with = "clock::maybe_millis")]
    pub last_good_at: Option<Timestamp>,
}

impl Tally {
    /// How many deliveries ended in this state.
    pub(crate) fn ended_as(&self, state: FinalState) -> u64 {
        self.ended.get(state.as_str()).copied().unwrap_or(0)
    }
}

/// One way in which attempts failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct FailureCause {
    /// The failure in words.
    pub what: String,
    /// Number of attempts.
    pub count: u64,
    /// When the first of them ended.
    #[serde(with = "clock::millis")]
    pub first: Timestamp,
    /// When the last of them ended.
    #[serde(with = "clock::millis")]
    pub last: Timestamp,
    /// Whose they were.
    pub subscriptions: Vec<SubscriptionId>,
    /// What to do about it; empty where that is not known any more.
    pub hint: String,
}

/// A part of the time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Slot {
    /// When it began.
    #[serde(with = "clock::millis")]
    pub at: Timestamp,
    /// Attempts that succeeded.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// Latency of half of them, in milliseconds.
    pub p50_ms: Option<f64>,
    /// Latency of 95 in 100 of them, in milliseconds.
    pub p95_ms: Option<f64>,
}

/// See the module's first line.
pub(super) struct Counted {
    pub(super) total: Tally,
    pub(super) each: Vec<(SubscriptionId, Tally)>,
    pub(super) causes: Vec<FailureCause>,
    pub(super) over_time: Vec<Slot>,
    pub(super) whole_from: Option<Timestamp>,
}

/// An attempt in the evidence, as far as it counts.
#[derive(Deserialize)]
struct Line {
    time: Timestamp,
    subscription: SubscriptionId,
    latency_ms: f64,
    outcome: String,
    response: Option<Answer>,
    error: Option<Error>,
}

#[derive(Deserialize)]
struct Answer {
    status: u16,
}

#[derive(Deserialize)]
struct Error {
    class: String,
    message: String,
}

/// One attempt that was sent.
struct Attempt {
    of: SubscriptionId,
    at: Timestamp,
    latency_ms: f64,
    failure: Option<Failure>,
}

struct Failure {
    /// Status or class.
    word: String,
    /// In words that are the same whenever it is the same.
    what: String,
    hint: &'static str,
}

impl Line {
    /// As it counts; `None` of one that was not sent.
    fn attempt(self) -> Option<Attempt> {
        let status = self.response.map(|answer| answer.status);
        let is_success = match self.outcome.as_str() {
            "delivered" => true,
            "sample" => status.is_some_and(|status| (200..300).contains(&status)),
            "dry_run" => return None,
            _ => false,
        };
        let failure = || match (status, self.error) {
            (Some(status @ 200..=299), _) => Some(Failure {
                word: status.to_string(),
                what: format!("status {status}, and the service said that it failed"),
                hint: "",
            }),
            (Some(status), _) => Some(Failure {
                word: status.to_string(),
                what: format!("status {status}"),
                hint: hint_of_status(status),
            }),
            (None, Some(error)) => Some(Failure {
                word: printable(&error.class, LONGEST_CAUSE),
                what: printable(&error.message, LONGEST_CAUSE),
                hint: "",
            }),
            (None, None) => None,
        };
        let failure = if is_success { None } else { Some(failure()?) };
        let latency_ms = self.latency_ms.clamp(0.0, 1e9);
        let at = self.time + Duration::from_secs_f64(latency_ms / 1e3);
        Some(Attempt { of: self.subscription, at, latency_ms, failure })
    }
}

/// Counts what ended from `since` on, up to `until`.
pub(super) fn count(parts: &[Part], since: Timestamp, until: Timestamp) -> Counted {
    let (mut attempts, mut counts) = (Vec::new(), Counts::default());
    let mut whole_from = None::<Timestamp>;
    for part in parts {
        let (mut oldest, mut before) = (None, 0);
        for line in part.lines() {
            let at = if is_record(&line, "final") {
                let Ok(end) = serde_json::from_slice::<End>(&line) else { continue };
                if (since..=until).contains(&end.time) {
                    counts.end(&end);
                }
                end.time
            } else if is_record(&line, "attempt") {
                let Ok(read) = serde_json::from_slice::<Line>(&line) else { continue };
                let Some(attempt) = read.attempt() else { continue };
                let at = attempt.at;
                if (since..=until).contains(&at) {
                    attempts.push(attempt);
                }
                at
            } else {
                continue;
            };
            before = if at < since { before + 1 } else { 0 };
            if before > OUT_OF_ORDER {
                break;
            }
            oldest = Some(oldest.map_or(at, |oldest: Timestamp| oldest.min(at)));
        }
        // Where it goes back to before that time, nothing of it is missing.
        if part.is_cut() {
            whole_from = whole_from.max(oldest.filter(|oldest| *oldest >= since));
        }
    }
    attempts.sort_unstable_by_key(|attempt: &Attempt| attempt.at);
    let over_time = over_time(&attempts);
    attempts.iter().for_each(|attempt| counts.attempt(attempt));
    let Counts { total, each, causes, .. } = counts;
    let each = each.into_iter().map(|(id, sum)| (id, sum.tally())).collect();
    Counted { total: total.tally(), each, causes: most_frequent(causes), over_time, whole_from }
}

#[derive(Default)]
struct Counts {
    total: Sum,
    each: Vec<(SubscriptionId, Sum)>,
    causes: Vec<FailureCause>,
    /// Where a cause stands among them, by its words.
    places: ByWord,
    ended: HashSet<DeliveryId>,
    given_up: HashSet<DeliveryId>,
}

#[derive(Default)]
struct Sum {
    tally: Tally,
    latencies: Vec<f64>,
}

impl Counts {
    /// The end of a delivery; of several the last one comes first.
    fn end(&mut self, end: &End) {
        let is_last = self.ended.insert(end.delivery);
        let gave_up = matches!(end.state, FinalState::DeadLetter | FinalState::Dropped)
            && self.given_up.insert(end.delivery);
        let sum = sum_of(&mut self.each, &end.subscription);
        for tally in [&mut self.total.tally, &mut sum.tally] {
            if is_last {
                *tally.ended.entry(end.state.as_str().to_owned()).or_default() += 1;
            }
            tally.given_up += u64::from(gave_up);
        }
    }

    /// An attempt; they come in the order of their ends.
    fn attempt(&mut self, attempt: &Attempt) {
        self.total.add(attempt);
        sum_of(&mut self.each, &attempt.of).add(attempt);
        let Some(Failure { what, hint, .. }) = &attempt.failure else { return };
        let next = self.causes.len() as u64;
        let place = *self.places.entry(what.clone()).or_insert(next);
        if place == next {
            self.causes.push(FailureCause {
                what: what.clone(),
                count: 0,
                first: attempt.at,
                last: attempt.at,
                subscriptions: Vec::new(),
                hint: (*hint).to_owned(),
            });
        }
        let Some(cause) = usize::try_from(place).ok().and_then(|place| self.causes.get_mut(place)) else {
            return;
        };
        cause.count += 1;
        cause.last = attempt.at;
        if !cause.subscriptions.contains(&attempt.of) {
            cause.subscriptions.push(attempt.of.clone());
        }
    }
}

/// Those of one subscription, of which there are few.
fn sum_of<'a>(each: &'a mut Vec<(SubscriptionId, Sum)>, id: &SubscriptionId) -> &'a mut Sum {
    let place = each.iter().position(|(known, _)| known == id).unwrap_or_else(|| {
        each.push((id.clone(), Sum::default()));
        each.len() - 1
    });
    &mut each[place].1
}

impl Sum {
    fn add(&mut self, attempt: &Attempt) {
        let Self { tally, latencies } = self;
        latencies.push(attempt.latency_ms);
        tally.attempts += 1;
        match &attempt.failure {
            None => {
                tally.delivered += 1;
                tally.last_good_at = Some(attempt.at);
            }
            Some(Failure { word, .. }) => {
                tally.failed += 1;
                *tally.failures.entry(word.clone()).or_default() += 1;
                tally.first_bad_at.get_or_insert(attempt.at);
                tally.last_bad_at = Some(attempt.at);
            }
        }
    }

    fn tally(mut self) -> Tally {
        let (p50_ms, p95_ms) = quantiles(&mut self.latencies);
        Tally { p50_ms, p95_ms, max_ms: self.latencies.last().copied(), ..self.tally }
    }
}

/// The latencies of half and of 95 in 100; sorts them.
fn quantiles(latencies: &mut [f64]) -> (Option<f64>, Option<f64>) {
    latencies.sort_unstable_by(f64::total_cmp);
    let at = |percent: usize| {
        let rank = (latencies.len() * percent).div_ceil(100);
        latencies.get(rank.checked_sub(1)?).copied()
    };
    (at(50), at(95))
}

/// The most frequent first; what is beyond the bound as one.
fn most_frequent(mut causes: Vec<FailureCause>) -> Vec<FailureCause> {
    causes.sort_by_key(|cause| std::cmp::Reverse(cause.count));
    if causes.len() > MAX_CAUSES {
        let others = causes.split_off(MAX_CAUSES - 1);
        let what = format!("{} others", others.len());
        let merged = others.into_iter().reduce(|mut sum, other| {
            sum.count += other.count;
            sum.first = sum.first.min(other.first);
            sum.last = sum.last.max(other.last);
            let new = other.subscriptions.into_iter().filter(|id| !sum.subscriptions.contains(id));
            let new: Vec<_> = new.collect();
            sum.subscriptions.extend(new);
            sum
        });
        causes.extend(merged.map(|merged| FailureCause { what, hint: String::new(), ..merged }));
    }
    causes
}

/// The time from the first attempt to the last in equal parts; none where there are no attempts.
fn over_time(attempts: &[Attempt]) -> Vec<Slot> {
    let (Some(first), Some(last)) = (attempts.first(), attempts.last()) else { return Vec::new() };
    let from = first.at.as_millisecond();
    let step = usize::try_from(last.at.as_millisecond() - from).unwrap_or(0) / SLOTS + 1;
    let mut latencies: Vec<Vec<f64>> = vec![Vec::new(); SLOTS];
    let mut slots: Vec<Slot> = (0..SLOTS)
        .map(|place| {
            let after = SignedDuration::from_millis(i64::try_from(place * step).unwrap_or(0));
            Slot { at: first.at + after, delivered: 0, failed: 0, p50_ms: None, p95_ms: None }
        })
        .collect();
    for attempt in attempts {
        let place = usize::try_from(attempt.at.as_millisecond() - from).unwrap_or(0) / step;
        let place = place.min(SLOTS - 1);
        latencies[place].push(attempt.latency_ms);
        match attempt.failure {
            None => slots[place].delivered += 1,
            Some(_) => slots[place].failed += 1,
        }
    }
    for (slot, latencies) in slots.iter_mut().zip(&mut latencies) {
        (slot.p50_ms, slot.p95_ms) = quantiles(latencies);
    }
    slots
}
