//! All that one subscription decides: what may start now, when to look again, and what an outcome leads to.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use super::{InFlight, Jitter, Outcome, Pending, RetryPolicy, Verdict};

/// The waiting and running deliveries of one subscription. Holds no clock: every question brings `now`.
#[derive(Debug)]
pub struct Lane {
    policy: RetryPolicy,
    max_in_flight: usize,
    waiting: BinaryHeap<Reverse<Waiting>>,
    in_flight: usize,
    arrivals: u64,
    open: bool,
}

/// Ordered by due time, then by arrival.
#[derive(Debug)]
struct Waiting {
    due: Instant,
    arrival: u64,
    pending: Pending,
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.arrival).cmp(&(other.due, other.arrival))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Waiting {}

impl Lane {
    /// An empty lane that runs at most `max_in_flight` deliveries at a time.
    pub fn new(policy: RetryPolicy, max_in_flight: usize) -> Self {
        Self { policy, max_in_flight, waiting: BinaryHeap::new(), in_flight: 0, arrivals: 0, open: true }
    }

    /// Takes a delivery that is to start at `due` or later.
    pub fn enqueue(&mut self, pending: Pending, due: Instant) {
        self.arrivals += 1;
        self.waiting.push(Reverse(Waiting { due, arrival: self.arrivals, pending }));
    }

    /// The delivery to start now, if one is due and there is room for it. Call until `None`.
    pub fn start_next(&mut self, now: Instant) -> Option<InFlight> {
        let due = self.waiting.peek().is_some_and(|Reverse(first)| first.due <= now);
        if !self.open || !due || self.in_flight >= self.max_in_flight {
            return None;
        }
        let Reverse(first) = self.waiting.pop()?;
        self.in_flight += 1;
        Some(first.pending.start())
    }

    /// How long until something is due; `None` while nothing waits or there is no room: then the next
    /// [`finished`](Self::finished) or [`enqueue`](Self::enqueue) is the time to look again.
    pub fn next_due_in(&self, now: Instant) -> Option<Duration> {
        if !self.open || self.in_flight >= self.max_in_flight {
            return None;
        }
        self.waiting.peek().map(|Reverse(first)| first.due.saturating_duration_since(now))
    }

    /// Ends an attempt that [`start_next`](Self::start_next) began and makes room for another. A retry waits
    /// with the caller until its record is written, and comes back through [`enqueue`](Self::enqueue).
    pub fn finished(&mut self, in_flight: InFlight, outcome: &Outcome, jitter: Jitter) -> Verdict {
        self.in_flight = self.in_flight.saturating_sub(1);
        in_flight.finish(outcome, &self.policy, jitter)
    }

    /// Starts nothing more: what waits stays on disk for the next start.
    pub fn close(&mut self) {
        self.open = false;
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many are under way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// How many wait and are due.
    pub fn due(&self, now: Instant) -> usize {
        self.waiting.iter().filter(|Reverse(waiting)| waiting.due <= now).count()
    }
}
