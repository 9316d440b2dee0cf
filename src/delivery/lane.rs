//! The decisions of one subscription: which delivery may start now, when to look again, and what
//! an outcome leads to.

use std::collections::HashSet;
use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use super::block::Time;
use super::line::Line;
use super::{Body, Compact, DeliveryId, InFlight, Jitter, Outcome, Pending, Queued, RetryPolicy, Verdict};

/// The waiting and running deliveries of one subscription. It has no clock: callers pass `now`.
#[derive(Debug)]
pub(crate) struct Lane {
    policy: RetryPolicy,
    max_in_flight: usize,
    max_pending: usize,
    waiting: Line,
    began: Instant,
    in_flight: usize,
    next_arrival: NonZeroU64,
    /// Whether attempts may start; `false` after [`close`](Self::close).
    may_start: bool,
    /// Nothing starts before this time, because the endpoint asked for a pause.
    paused_until: Option<Instant>,
    /// Least time between two starts.
    interval: Duration,
    /// Nothing starts before this time, because of the rate limit.
    next_start: Option<Instant>,
    /// Whether the breaker is open: one delivery at a time.
    is_narrow: bool,
    /// Whether a person holds its deliveries back.
    is_held: bool,
}

impl Lane {
    /// An empty lane that runs at most `max_in_flight` deliveries at a time and holds about
    /// `max_pending`.
    pub(crate) fn new(policy: RetryPolicy, max_in_flight: usize, max_pending: usize) -> Self {
        Self {
            policy,
            max_in_flight,
            max_pending,
            waiting: Line::default(),
            began: Instant::now(),
            in_flight: 0,
            next_arrival: NonZeroU64::MIN,
            may_start: true,
            paused_until: None,
            interval: Duration::ZERO,
            next_start: None,
            is_narrow: false,
            is_held: false,
        }
    }

    /// Limits the rate to `per_second` starts, evenly spaced; `None` for no limit.
    pub(crate) fn set_rate(&mut self, per_second: Option<f64>) {
        let seconds = per_second.map_or(0.0, |rate| 1.0 / rate);
        self.interval = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
    }

    /// Sets whether only one delivery may be in flight, because the endpoint fails repeatedly.
    pub(crate) fn set_narrow(&mut self, is_narrow: bool) {
        self.is_narrow = is_narrow;
    }

    /// Sets whether a person holds its deliveries back: then nothing starts.
    pub(crate) fn set_held(&mut self, is_held: bool) {
        self.is_held = is_held;
    }

    /// Starts nothing before `until`; a later time set before stays.
    pub(crate) fn pause_until(&mut self, until: Instant) {
        self.paused_until = self.paused_until.max(Some(until));
    }

    fn has_room(&self) -> bool {
        self.in_flight < if self.is_narrow { self.max_in_flight.min(1) } else { self.max_in_flight }
    }

    /// Takes a delivery that is due at `due`. Call [`shed`](Self::shed) afterwards.
    pub(crate) fn enqueue(&mut self, pending: Pending, due: Instant) {
        let arrival = pending.arrival.unwrap_or_else(|| self.arrive());
        self.waiting.insert(arrival, self.time(due), pending);
    }

    fn time(&self, at: Instant) -> Time {
        at.saturating_duration_since(self.began).as_nanos().try_into().unwrap_or(Time::MAX)
    }

    fn instant(&self, time: Time) -> Instant {
        self.began + Duration::from_nanos(time)
    }

    /// The next place in line.
    fn arrive(&mut self) -> NonZeroU64 {
        let arrival = self.next_arrival;
        self.next_arrival = arrival.saturating_add(1);
        arrival
    }

    /// Takes the deliveries that waited at the last stop, in their old order, each with the number
    /// of its attempts and when it is due.
    pub(crate) fn restore(&mut self, pending: impl IntoIterator<Item = (Compact, u32, Instant)>) {
        let mut line = std::mem::take(&mut self.waiting);
        let restored = pending.into_iter();
        line.restore(restored.map(|(delivery, made, due)| (self.arrive(), self.time(due), delivery, made)));
        self.waiting = line;
    }

    /// Forgets all that waits: it is somebody else's.
    pub(crate) fn clear(&mut self) {
        self.waiting = Line::default();
    }

    /// Begins the rate limit one interval from `now`: somebody else may just have started
    /// something.
    pub(crate) fn rest(&mut self, now: Instant) {
        self.next_start = (!self.interval.is_zero()).then(|| now + self.interval);
    }

    /// Removes the oldest waiting delivery if more than `max_pending` are pending; it is to be
    /// dropped. Call until `None`.
    pub(crate) fn shed(&mut self) -> Option<Pending> {
        if self.waiting.len() + self.in_flight <= self.max_pending {
            return None;
        }
        let (arrival, _) = self.waiting.oldest()?;
        self.remove(arrival).map(|(pending, _)| pending)
    }

    /// Takes a delivery out of the line, with the time that it is due.
    fn remove(&mut self, arrival: NonZeroU64) -> Option<(Pending, Instant)> {
        let (due, pending) = self.waiting.remove(arrival)?;
        Some((pending, self.instant(due)))
    }

    /// The delivery to start now, if one is due and there is room for it. Call until `None`.
    pub(crate) fn start_next(&mut self, now: Instant) -> Option<(InFlight, Option<Body>)> {
        let not_before = self.paused_until.max(self.next_start);
        if !self.may_start
            || self.is_held
            || !self.is_due(now)
            || !self.has_room()
            || not_before.is_some_and(|at| now < at)
        {
            return None;
        }
        let (_, arrival) = self.waiting.first_due()?;
        let (_, pending) = self.waiting.remove(arrival)?;
        self.in_flight += 1;
        self.take_turn(now);
        Some(pending.start())
    }

    /// Takes the next turn that the rate limit has, and returns how long that is from `now`: an
    /// attempt outside the lane counts against the limit too.
    pub(crate) fn take_turn(&mut self, now: Instant) -> Duration {
        // Spaced by when each could have started, not by when this was called.
        let from = self.next_start.filter(|at| now.duration_since(*at) < self.interval).unwrap_or(now);
        self.next_start = (!self.interval.is_zero()).then(|| from + self.interval);
        from.saturating_duration_since(now)
    }

    /// How long from `now` the next turn of the rate limit is.
    pub(crate) fn next_turn_in(&self, now: Instant) -> Duration {
        self.next_start.map_or(Duration::ZERO, |at| at.saturating_duration_since(now))
    }

    fn is_due(&self, now: Instant) -> bool {
        self.waiting.first_due().is_some_and(|(first, _)| first <= self.time(now))
    }

    /// How long until something is due. `None` if nothing waits or there is no room: look again
    /// after the next [`finished`](Self::finished) or [`enqueue`](Self::enqueue).
    pub(crate) fn next_due_in(&self, now: Instant) -> Option<Duration> {
        if !self.may_start || self.is_held || !self.has_room() {
            return None;
        }
        let (first, _) = self.waiting.first_due()?;
        let at = Some(self.instant(first)).max(self.paused_until).max(self.next_start)?;
        Some(at.saturating_duration_since(now))
    }

    /// Ends an attempt that [`start_next`](Self::start_next) began and makes room for another. A
    /// retry stays with the caller until its record is written, and comes back through
    /// [`enqueue`](Self::enqueue). If the endpoint asked for a pause, nothing else starts
    /// meanwhile.
    pub(crate) fn finished(
        &mut self,
        in_flight: InFlight,
        outcome: &Outcome,
        jitter: Jitter,
        now: Instant,
    ) -> Verdict {
        self.release();
        if let Some(pause) = outcome.pause() {
            self.pause_until(now + pause);
        }
        in_flight.finish(outcome, &self.policy, jitter)
    }

    /// Makes room again after an attempt without an outcome: a dry run.
    pub(crate) fn release(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Takes back an attempt that could not be made: its delivery is due again after `wait`, and
    /// the attempt is not counted.
    pub(crate) fn put_back(&mut self, in_flight: InFlight, now: Instant, wait: Duration) {
        self.release();
        self.enqueue(in_flight.put_back(), now + wait);
    }

    /// Takes these waiting deliveries out of the lane, oldest first, with the time each is due.
    pub(crate) fn take(&mut self, ids: &HashSet<DeliveryId>) -> Vec<(Pending, Instant)> {
        let is_wanted = |(_, _, queued): &(NonZeroU64, Time, Queued<'_>)| ids.contains(&queued.id());
        let wanted: Vec<NonZeroU64> =
            self.waiting.newest_first().filter(is_wanted).map(|(arrival, ..)| arrival).collect();
        wanted.into_iter().rev().filter_map(|arrival| self.remove(arrival)).collect()
    }

    /// Starts nothing more until [`configure`](Self::configure). What waits stays on disk for the
    /// next start.
    pub(crate) fn close(&mut self) {
        self.may_start = false;
    }

    /// Whether attempts may start.
    pub(crate) fn is_open(&self) -> bool {
        self.may_start
    }

    /// Sets these bounds and this policy, and lets attempts start. Waiting deliveries keep their
    /// time and their place in line.
    pub(crate) fn configure(&mut self, policy: RetryPolicy, max_in_flight: usize, max_pending: usize) {
        (self.policy, self.max_in_flight, self.max_pending) = (policy, max_in_flight, max_pending);
        self.may_start = true;
    }

    /// The retry policy.
    pub(crate) fn policy(&self) -> &RetryPolicy {
        &self.policy
    }

    /// The waiting deliveries and when each is due, newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = (Instant, Queued<'_>)> {
        self.waiting.newest_first().map(|(_, due, queued)| (self.instant(due), queued))
    }

    /// A waiting delivery, when it is due, and how many are due before it.
    pub(crate) fn find(&self, id: DeliveryId) -> Option<(Queued<'_>, Instant, usize)> {
        let (arrival, due, queued) = self.waiting.newest_first().find(|(.., queued)| queued.id() == id)?;
        let is_before = |(other, at, _): &(NonZeroU64, Time, Queued<'_>)| (*at, *other) < (due, arrival);
        Some((queued, self.instant(due), self.waiting.newest_first().filter(is_before).count()))
    }

    /// Until when nothing starts because of a pause, or of the rate limit.
    pub(crate) fn stands_still_until(&self) -> (Option<Instant>, Option<Instant>) {
        (self.paused_until, self.next_start)
    }

    /// The delivery that has waited longest.
    pub(crate) fn oldest(&self) -> Option<Queued<'_>> {
        self.waiting.oldest().map(|(_, queued)| queued)
    }

    /// Number of waiting deliveries.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Most deliveries in flight.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.max_in_flight
    }

    /// Number of deliveries in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether something is in flight, or would start as soon as there is room.
    pub(crate) fn is_busy(&self, now: Instant) -> bool {
        let is_paused = self.paused_until.is_some_and(|until| now < until);
        self.in_flight > 0 || (self.may_start && !self.is_held && !is_paused && self.is_due(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::{Delivery, DeliveryId, Failure, FailureClass, Response};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::sync::Arc;

    fn pending() -> Pending {
        Pending::new(Arc::new(Delivery::sample(DeliveryId::random(), "k")), None)
    }

    fn outcome(status: Option<u16>) -> Outcome {
        let failure = Failure { class: FailureClass::Timeout, message: String::new(), hint: "".into() };
        let retry_after = Some(Duration::from_secs(30));
        let answer = |status| Response { status, retry_after, ..Response::default() };
        Outcome::new(status.map(answer).ok_or(failure), Duration::ZERO)
    }

    fn policy(max_attempts: u32) -> RetryPolicy {
        let second = Duration::from_secs(1);
        RetryPolicy { max_attempts, initial: second, factor: 2.0, max: second * 60, jitter: second }
    }

    proptest! {
        /// Whatever the endpoint answers and whenever the clock is read: each delivery ends
        /// exactly once, is tried at most `max_attempts` times and never before it is due; no more
        /// than allowed are in flight or pending; and the one dropped is the oldest that waits.
        #[test]
        fn nothing_is_lost_and_nothing_ends_twice(
            count in 1usize..20,
            max_in_flight in 1usize..5,
            max_attempts in 1u32..5,
            max_pending in 1usize..25,
            answers in proptest::collection::vec(
                prop_oneof![Just(None), Just(Some(200)), Just(Some(500)), Just(Some(404)), Just(Some(429))],
                1..50,
            ),
            steps in proptest::collection::vec((0u64..3_000, any::<bool>()), 1..400),
            rate in proptest::option::of(0.2f64..50.0),
            narrow in proptest::collection::vec(any::<bool>(), 1..10),
        ) {
            let start = Instant::now();
            let mut lane = Lane::new(policy(max_attempts), max_in_flight, max_pending);
            lane.set_rate(rate);
            let mut narrow = narrow.iter().copied().cycle();
            let mut starts: Vec<Instant> = Vec::new();
            let mut paused_until = start;
            let mut ended = BTreeSet::new();
            let mut running: Vec<InFlight> = Vec::new();
            let mut answers = answers.iter().cycle();
            for n in 0..count {
                // What comes later is due earlier: who is dropped is not the first that is due.
                lane.enqueue(pending(), start + Duration::from_nanos(u64::try_from(count - n).unwrap()));
                while let Some(dropped) = lane.shed() {
                    let mut waiting = lane.waiting.newest_first();
                    prop_assert!(waiting.all(|(arrival, ..)| Some(arrival) > dropped.arrival));
                    prop_assert!(ended.insert(dropped.delivery().id));
                }
                prop_assert!(lane.waiting() <= max_pending);
            }
            let mut now = start;
            let until_all_have_ended = std::iter::repeat_n((120_000, true), 200);
            for (advance, finish_first) in steps.iter().copied().chain(until_all_have_ended) {
                now += Duration::from_millis(advance);
                let (is_narrow, before) = (narrow.next().unwrap(), running.len());
                lane.set_narrow(is_narrow);
                while let Some((in_flight, _)) = lane.start_next(now) {
                    prop_assert!(in_flight.attempt() <= max_attempts);
                    prop_assert!(now >= paused_until, "the endpoint asked for a pause");
                    running.push(in_flight);
                    starts.push(now);
                }
                let allowed = if is_narrow { before.max(1) } else { max_in_flight };
                prop_assert!(running.len() <= allowed);
                prop_assert_eq!(running.len(), lane.in_flight());
                if finish_first && !running.is_empty() {
                    let in_flight = running.remove(0);
                    let id = in_flight.delivery().id;
                    let answer = outcome(*answers.next().unwrap());
                    if let Some(pause) = answer.pause() {
                        paused_until = paused_until.max(now + pause);
                    }
                    match lane.finished(in_flight, &answer, Jitter(0.0), now) {
                        Verdict::Retry { pending, wait } => {
                            prop_assert!(wait >= Duration::from_secs(1));
                            lane.enqueue(pending, now + wait);
                            prop_assert!(lane.shed().is_none(), "a retry pushes nobody out");
                        }
                        Verdict::Delivered | Verdict::DeadLetter(_) => prop_assert!(ended.insert(id)),
                    }
                }
                prop_assert_eq!(ended.len() + running.len() + lane.waiting(), count);
            }
            prop_assert_eq!(ended.len(), count);
            // Evenly spaced: a window has at most one start more than the rate allows.
            for (at, first) in starts.iter().enumerate() {
                for (more, last) in starts[at..].iter().enumerate() {
                    let lasted = last.duration_since(*first).as_secs_f64();
                    let allowed = rate.map_or(f64::MAX, |rate| lasted * rate + 2.0);
                    prop_assert!((more as f64) < allowed);
                }
            }
        }
    }

    #[test]
    fn a_burst_of_a_thousand_is_spread_evenly() {
        let start = Instant::now();
        let mut lane = Lane::new(policy(3), usize::MAX, usize::MAX);
        lane.set_rate(Some(100.0));
        (0..1000).for_each(|_| lane.enqueue(pending(), start));
        let (mut now, mut started) = (start, 0);
        while let Some(wait) = lane.next_due_in(now) {
            prop_assert_bounded(wait);
            // The caller is late now and then.
            now += wait + Duration::from_micros(started % 7 * 300);
            while lane.start_next(now).is_some() {
                started += 1;
            }
        }
        assert_eq!(started, 1000);
        let took = now.duration_since(start).as_secs_f64();
        assert!((9.9..10.1).contains(&took), "{took}");
    }

    #[test]
    fn what_starts_outside_the_lane_counts_against_its_rate() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut lane = Lane::new(policy(3), usize::MAX, usize::MAX);
        assert_eq!((lane.take_turn(now), lane.take_turn(now)), (Duration::ZERO, Duration::ZERO), "no rate");
        lane.set_rate(Some(1.0));
        let turns: Vec<Duration> = (0..3).map(|_| lane.take_turn(now)).collect();
        assert_eq!(turns, [Duration::ZERO, second, second * 2]);
        lane.enqueue(pending(), now);
        assert_eq!((lane.next_due_in(now), lane.next_turn_in(now)), (Some(second * 3), second * 3));
        assert!(lane.start_next(now + second * 2).is_none());
        assert!(lane.start_next(now + second * 3).is_some());
        assert_eq!(lane.take_turn(now + second * 3), second);
    }

    fn prop_assert_bounded(wait: Duration) {
        assert!(wait <= Duration::from_millis(10), "{wait:?}");
    }

    #[test]
    fn what_could_not_be_attempted_waits_in_its_place_and_what_is_taken_is_gone() {
        let now = Instant::now();
        let mut lane = Lane::new(policy(3), 1, 10);
        (0..2).for_each(|_| lane.enqueue(pending(), now));
        let (in_flight, _) = lane.start_next(now).unwrap();
        let id = in_flight.delivery().id;
        lane.put_back(in_flight, now, Duration::from_secs(1));
        assert_eq!((lane.waiting(), lane.in_flight(), lane.oldest().unwrap().id()), (2, 0, id));
        let (other, _) = lane.start_next(now).unwrap();
        assert_ne!(other.delivery().id, id, "it is not due yet");
        lane.put_back(other, now, Duration::ZERO);
        let (again, _) = lane.start_next(now + Duration::from_secs(1)).unwrap();
        assert_eq!(again.attempt(), 1, "what was not made is not counted");
        lane.put_back(again, now, Duration::ZERO);
        let taken = lane.take(&HashSet::from([id]));
        assert_eq!(taken.iter().map(|(pending, _)| pending.delivery().id).collect::<Vec<_>>(), [id]);
        let (left, _) = lane.start_next(now + Duration::from_secs(1)).unwrap();
        assert_ne!(left.delivery().id, id);
        assert_eq!((lane.waiting(), lane.next_due_in(now)), (0, None), "nothing is left of what was taken");
    }

    #[test]
    fn a_closed_lane_starts_nothing_and_keeps_what_waits() {
        let now = Instant::now();
        let mut lane = Lane::new(policy(3), 1, 10);
        lane.enqueue(pending(), now);
        assert!(lane.is_busy(now));
        lane.close();
        assert!(lane.start_next(now).is_none());
        assert_eq!((lane.waiting(), lane.is_busy(now), lane.next_due_in(now)), (1, false, None));
    }
}
