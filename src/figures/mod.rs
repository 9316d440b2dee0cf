//! Figures over time: attempts, deliveries, failures and latencies of each subscription in the
//! last minute, ten minutes, hour and day. Bounded memory, no clock and no I/O.
//!
//! Each window is a row of slots. A window counts its current slot and those before it: it is one
//! slot short at most.

mod evidence;
mod histogram;
mod totals;
mod window;

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};

use crate::delivery::{FailureClass, SubscriptionId};
pub(crate) use evidence::from_evidence;
use histogram::Histogram;
pub use totals::Counters;
pub(crate) use totals::{BOUNDS_S, Totals};
pub use window::{Figures, Minutes, Window, Windows};

/// How far back the longest window looks.
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Most ways to fail that are told apart in a slot; what comes beyond counts to the last.
const MAX_WAYS: usize = 8;

/// Most subscriptions that are kept; a config has no more, and ids that left it make room.
const MAX_SUBSCRIPTIONS: usize = 256;

/// The windows: the length of a slot in seconds, and their number.
const ROWS: [(i64, i64); 4] = [(5, 12), (20, 30), (60, 60), (1800, 48)];

/// An attempt as it counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Counted {
    /// When it ended.
    pub(crate) at: Timestamp,
    pub(crate) latency_ms: f64,
    /// How it failed, if it did.
    pub(crate) failed: Option<Way>,
    /// Whether its delivery ended with it as a dead letter.
    pub(crate) gave_up: bool,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// It was answered with this status.
    Status(u16),
    /// There was no answer.
    Class(FailureClass),
}

/// See the module's first line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    rows: BTreeMap<SubscriptionId, Rows>,
    /// What ended before may be missing: the evidence goes no further back.
    from: Option<Timestamp>,
}

/// The windows of one subscription.
#[derive(Clone, Debug, Default)]
struct Rows([Row; ROWS.len()]);

/// One window: the slots in which something happened, by their number since 1970.
#[derive(Clone, Debug, Default)]
struct Row(VecDeque<(i64, Box<Slot>)>);

/// What happened in one slot of time.
#[derive(Clone, Debug, Default)]
struct Slot {
    accepted: u32,
    delivered: u32,
    failed: u32,
    given_up: u32,
    max_ms: f32,
    /// In milliseconds since 1970; 0 where there is none.
    first_bad: i64,
    last_good: i64,
    ways: Vec<(Way, u32)>,
    latencies: Histogram,
}

/// What can happen.
enum Happened<'a> {
    Accepted(Timestamp),
    Ended(&'a Counted),
}

impl Counts {
    /// An attempt ended.
    pub(crate) fn ended(&mut self, of: &SubscriptionId, counted: &Counted) {
        self.rows(of).note(&Happened::Ended(counted));
    }

    /// A delivery was accepted.
    pub(crate) fn accepted(&mut self, of: &SubscriptionId, at: Timestamp) {
        self.rows(of).note(&Happened::Accepted(at));
    }

    fn rows(&mut self, of: &SubscriptionId) -> &mut Rows {
        if self.rows.len() >= MAX_SUBSCRIPTIONS && !self.rows.contains_key(of) {
            let quietest = self.rows.iter().min_by_key(|(_, rows)| rows.last()).map(|(id, _)| id.clone());
            quietest.iter().for_each(|id| drop(self.rows.remove(id)));
        }
        self.rows.entry(of.clone()).or_default()
    }

    /// Adds what others counted at other times.
    pub(crate) fn merge(&mut self, other: Self) {
        self.from = self.from.max(other.from);
        for (id, rows) in other.rows {
            self.rows(&id).merge(rows);
        }
    }

    /// What ended before this is missing, as far as it belongs to the last day.
    pub(crate) fn from(&self, now: Timestamp) -> Option<Timestamp> {
        self.from.filter(|from| now.duration_since(*from) < DAY)
    }

    /// The figures of a subscription.
    pub(crate) fn of(&self, id: &SubscriptionId, now: Timestamp) -> Figures {
        Figures::of(&self.rows.get(id), now)
    }

    /// The figures of all subscriptions together.
    pub(crate) fn in_all(&self, now: Timestamp) -> Figures {
        Figures::of(&self.rows.values(), now)
    }
}

impl Rows {
    fn note(&mut self, happened: &Happened<'_>) {
        for (row, (slot_s, slots)) in self.0.iter_mut().zip(ROWS) {
            row.note(happened, slot_s, slots);
        }
    }

    fn merge(&mut self, other: Self) {
        for ((row, other), (_, slots)) in self.0.iter_mut().zip(other.0).zip(ROWS) {
            row.merge(other, slots);
        }
    }

    /// The number of the last slot of the longest window.
    fn last(&self) -> Option<i64> {
        self.0.last()?.0.back().map(|(at, _)| *at)
    }
}

impl Row {
    fn note(&mut self, happened: &Happened<'_>, slot_s: i64, slots: i64) {
        let (Happened::Accepted(at) | Happened::Ended(Counted { at, .. })) = happened;
        let number = at.as_second().div_euclid(slot_s);
        // Where the clock was set back by a whole window, what it said before is of no time.
        if self.0.back().is_some_and(|(last, _)| number <= last - slots) {
            self.0.clear();
        }
        let place = match self.0.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(place) => place,
            Err(place) => {
                self.0.insert(place, (number, Box::default()));
                place
            }
        };
        self.0[place].1.note(happened);
        let last = self.0.back().map_or(number, |(last, _)| *last);
        self.forget(last - slots);
    }

    fn merge(&mut self, Self(other): Self, slots: i64) {
        for (number, slot) in other {
            match self.0.binary_search_by_key(&number, |(number, _)| *number) {
                Ok(place) => self.0[place].1.merge(&slot),
                Err(place) => self.0.insert(place, (number, slot)),
            }
        }
        let last = self.0.back().map(|(last, _)| *last);
        if let Some(last) = last {
            self.forget(last - slots);
        }
    }

    /// Forgets the slots up to this one.
    fn forget(&mut self, up_to: i64) {
        while self.0.front().is_some_and(|(first, _)| *first <= up_to) {
            self.0.pop_front();
        }
    }
}

impl Slot {
    fn note(&mut self, happened: &Happened<'_>) {
        let add = |count: &mut u32| *count = count.saturating_add(1);
        let Counted { at, latency_ms, failed, gave_up } = match happened {
            Happened::Accepted(_) => return add(&mut self.accepted),
            Happened::Ended(counted) => **counted,
        };
        self.latencies.add(latency_ms);
        #[allow(clippy::cast_possible_truncation, reason = "a latency, to seven digits")]
        let latency = latency_ms as f32;
        self.max_ms = self.max_ms.max(latency);
        match failed {
            None => {
                add(&mut self.delivered);
                self.last_good = self.last_good.max(at.as_millisecond());
            }
            Some(way) => {
                add(&mut self.failed);
                self.add_way(way, 1);
                let millis = at.as_millisecond();
                self.first_bad = if self.first_bad == 0 { millis } else { self.first_bad.min(millis) };
            }
        }
        if gave_up {
            add(&mut self.given_up);
        }
    }

    fn add_way(&mut self, way: Way, count: u32) {
        let known = self.ways.iter().position(|(known, _)| *known == way);
        match known.or((self.ways.len() == MAX_WAYS).then_some(MAX_WAYS - 1)) {
            Some(place) => self.ways[place].1 = self.ways[place].1.saturating_add(count),
            None => self.ways.push((way, count)),
        }
    }

    fn merge(&mut self, other: &Self) {
        for (count, more) in [
            (&mut self.accepted, other.accepted),
            (&mut self.delivered, other.delivered),
            (&mut self.failed, other.failed),
            (&mut self.given_up, other.given_up),
        ] {
            *count = count.saturating_add(more);
        }
        self.max_ms = self.max_ms.max(other.max_ms);
        self.last_good = self.last_good.max(other.last_good);
        let bad = [self.first_bad, other.first_bad];
        self.first_bad = bad.into_iter().filter(|at| *at != 0).min().unwrap_or(0);
        self.latencies.merge(&other.latencies);
        other.ways.iter().for_each(|(way, count)| self.add_way(*way, *count));
    }
}

#[cfg(test)]
mod tests;
