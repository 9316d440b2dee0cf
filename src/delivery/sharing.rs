//! Shares the concurrent requests among all subscriptions, so that no slow or dead endpoint delays
//! another (`docs/explain/delivery.md`, fairness). It has no clock: callers pass how long a share
//! was held.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The place of one active subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeatId(u64);

/// The right to make one request.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "it is taken until it is given back"]
pub(crate) struct Share {
    seat: SeatId,
    is_unproven: bool,
    /// Whether it was given although another subscription had waited longer.
    overtakes: bool,
}

/// The shares that are held and the requests that wait; `T` identifies a waiting request.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Sharing<T> {
    max: usize,
    held: usize,
    held_unproven: usize,
    /// Requests that wait, of all seats.
    waiting: usize,
    seats: BTreeMap<SeatId, Seat<T>>,
    next_seat: u64,
    next_arrival: u64,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
struct Seat<T> {
    is_proven: bool,
    held: usize,
    /// Waiting requests, oldest first, with their places in the line of all requests.
    waiting: VecDeque<(u64, T)>,
    /// How long it usually holds a share (moving average, weight 1/8).
    usual: Duration,
    /// Total time of the shares with which it overtook, since the longest waiting subscription last
    /// had its turn.
    ahead: Duration,
}

impl<T> Seat<T> {
    /// Whether it may have one more, where there `has_room` for who is not proven and what is free
    /// `is_kept` for who holds none.
    fn may_start(&self, has_room: bool, is_kept: bool) -> bool {
        (self.is_proven || has_room) && (self.held == 0 || !is_kept)
    }

    fn arrival(&self) -> Option<u64> {
        self.waiting.front().map(|(arrival, _)| *arrival)
    }
}

impl<T> Sharing<T> {
    /// At most `max` shares at a time. Subscriptions whose endpoint is not proven hold at most half
    /// of them, but at least one may be held.
    pub(crate) fn new(max: usize) -> Self {
        Self {
            max: max.max(1),
            held: 0,
            held_unproven: 0,
            waiting: 0,
            seats: BTreeMap::new(),
            next_seat: 0,
            next_arrival: 0,
        }
    }

    /// Adds a subscription.
    pub(crate) fn open(&mut self) -> SeatId {
        let id = SeatId(self.next_seat);
        self.next_seat += 1;
        let zero = Duration::ZERO;
        let seat = Seat { is_proven: false, held: 0, waiting: VecDeque::new(), usual: zero, ahead: zero };
        self.seats.insert(id, seat);
        id
    }

    /// Removes a subscription. Its shares must still be given back; its waiting requests are
    /// dropped.
    pub(crate) fn close(&mut self, id: SeatId) {
        if let Some(seat) = self.seats.remove(&id) {
            self.waiting -= seat.waiting.len();
        }
    }

    /// Gives a share at once, if one is free for this subscription and no request waits; else
    /// [`ask`](Self::ask).
    pub(crate) fn ask_now(&mut self, id: SeatId, is_proven: bool) -> Option<Share> {
        if self.has_waiting() {
            return None;
        }
        let (free, has_room) = self.free();
        let is_kept = self.is_kept(free);
        let seat = self.seats.get_mut(&id)?;
        seat.is_proven = is_proven;
        (free > 0 && seat.may_start(has_room, is_kept)).then(|| self.take(id, false)).flatten()
    }

    /// Adds a request that waits for a share. Call [`give`](Self::give) afterwards.
    pub(crate) fn ask(&mut self, id: SeatId, is_proven: bool, request: T) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        seat.is_proven = is_proven;
        seat.waiting.push_back((self.next_arrival, request));
        self.next_arrival += 1;
        self.waiting += 1;
    }

    /// Whether some request waits.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting > 0
    }

    /// How many shares are free, and whether one that is not proven may have one of them.
    fn free(&self) -> (usize, bool) {
        (self.max.saturating_sub(self.held), self.held_unproven < (self.max / 2).max(1))
    }

    /// Whether what is free is for the subscriptions that hold none: one for each of them, but at
    /// most half of all.
    fn is_kept(&self, free: usize) -> bool {
        let idle = || self.seats.values().filter(|seat| seat.held == 0).count();
        free <= (self.max / 2).max(1) && free <= idle()
    }

    /// Takes a share for a subscription.
    fn take(&mut self, id: SeatId, overtakes: bool) -> Option<Share> {
        if !overtakes {
            self.seats.values_mut().for_each(|seat| seat.ahead = Duration::ZERO);
        }
        let seat = self.seats.get_mut(&id)?;
        seat.held += 1;
        let is_unproven = !seat.is_proven;
        self.held += 1;
        self.held_unproven += usize::from(is_unproven);
        Some(Share { seat: id, is_unproven, overtakes })
    }

    /// Gives a share to the next request, if one is free. Call until `None`.
    pub(crate) fn give(&mut self) -> Option<(Share, T)> {
        let (free, has_room) = self.free();
        if free == 0 || !self.has_waiting() {
            return None;
        }
        let is_kept = self.is_kept(free);
        let wants = |seat: &Seat<T>| !seat.waiting.is_empty() && seat.may_start(has_room, is_kept);
        let mut wanting: Vec<_> = self.seats.iter().filter(|(_, seat)| wants(seat)).collect();
        // Subscriptions that hold the fewest shares come first.
        let fewest = wanting.iter().map(|(_, seat)| seat.held).min()?;
        wanting.retain(|(_, seat)| seat.held == fewest);
        let (patient, waits) = *wanting.iter().min_by_key(|(_, seat)| seat.arrival())?;
        // Among these, a much quicker one may overtake, so that an endpoint that answers at once
        // waits for one request of slow ones and not for a round of them. All that overtake
        // together cost whoever waits longest at most about the time of one of its own requests.
        let may_overtake = |seat: &Seat<T>| seat.usual * 2 <= waits.usual && seat.ahead < waits.usual;
        let may_overtake = |seat: &Seat<T>| std::ptr::eq(seat, waits) || may_overtake(seat);
        let quickest = wanting.iter().filter(|(_, seat)| may_overtake(seat));
        let (id, _) = *quickest.min_by_key(|(_, seat)| (seat.usual, seat.arrival()))?;
        let (id, overtakes) = (*id, id != patient);
        let (_, request) = self.seats.get_mut(&id)?.waiting.pop_front()?;
        self.waiting -= 1;
        self.take(id, overtakes).map(|share| (share, request))
    }

    /// Takes back a share that was held for `held_for`. Call [`give`](Self::give) afterwards.
    pub(crate) fn give_back(&mut self, Share { seat, is_unproven, overtakes }: Share, held_for: Duration) {
        self.held = self.held.saturating_sub(1);
        self.held_unproven = self.held_unproven.saturating_sub(usize::from(is_unproven));
        let Some(seat) = self.seats.get_mut(&seat) else { return };
        seat.held = seat.held.saturating_sub(1);
        if overtakes {
            seat.ahead += held_for;
        }
        seat.usual = if seat.usual.is_zero() { held_for } else { (seat.usual * 7 + held_for) / 8 };
    }
}

#[cfg(test)]
mod tests {
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;

    use proptest::prelude::*;

    use super::*;

    fn take<T>(sharing: &mut Sharing<T>) -> Vec<(Share, T)> {
        std::iter::from_fn(|| sharing.give()).collect()
    }

    #[test]
    fn who_is_not_proven_holds_at_most_half_and_at_least_one() {
        for (max, unproven) in [(1, 1), (2, 1), (3, 1), (4, 2), (64, 32)] {
            let mut sharing = Sharing::new(max);
            let (new, proven) = (sharing.open(), sharing.open());
            (0..100).for_each(|n| sharing.ask(new, false, n));
            assert_eq!(take(&mut sharing).len(), unproven, "{max}");
            (0..100).for_each(|n| sharing.ask(proven, true, n));
            assert_eq!(take(&mut sharing).len(), max - unproven, "{max}");
        }
    }

    #[test]
    fn the_last_one_is_kept_for_who_holds_none() {
        let mut sharing = Sharing::new(4);
        let (one, other) = (sharing.open(), sharing.open());
        (0..9).for_each(|n| sharing.ask(one, true, n));
        let mut taken = take(&mut sharing);
        assert_eq!(taken.len(), 3);
        sharing.ask(other, true, 100);
        assert_eq!(take(&mut sharing).pop().map(|(_, request)| request), Some(100));
        // The other holds one now and nothing is free: a share given back goes to the one with
        // fewer.
        sharing.ask(other, true, 101);
        let (share, _) = taken.pop().unwrap();
        sharing.give_back(share, Duration::from_secs(1));
        assert_eq!(take(&mut sharing).pop().map(|(_, request)| request), Some(101));
        // Alone it gets all shares.
        sharing.close(other);
        taken.drain(..).for_each(|(share, _)| sharing.give_back(share, Duration::ZERO));
        assert_eq!(take(&mut sharing).len(), 2, "and two are held by the one that is closed");
        let mut alone = Sharing::new(4);
        let only = alone.open();
        (0..9).for_each(|n| alone.ask(only, true, n));
        assert_eq!(take(&mut alone).len(), 4);
    }

    /// A slow one that holds none took what was kept, and the fast one waited for 130 ms.
    #[test]
    fn one_is_kept_for_each_that_holds_none_up_to_half() {
        let mut sharing = Sharing::new(6);
        let seats = [0; 4].map(|_| sharing.open());
        (0..9).for_each(|n| sharing.ask(seats[0], true, n));
        assert_eq!(take(&mut sharing).len(), 3, "three hold none");
        seats[1..].iter().for_each(|seat| sharing.ask(*seat, true, 100));
        assert_eq!(take(&mut sharing).len(), 3, "each has its own at once");
        let mut many = Sharing::new(6);
        let seats = [0; 6].map(|_| many.open());
        (0..9).for_each(|n| many.ask(seats[0], true, n));
        assert_eq!(take(&mut many).len(), 3, "no more than half is kept");
    }

    #[test]
    fn what_a_closed_one_gives_back_is_free_again() {
        let mut sharing = Sharing::new(2);
        let (one, other) = (sharing.open(), sharing.open());
        sharing.ask(one, false, 1);
        let share = take(&mut sharing).pop().unwrap().0;
        sharing.close(one);
        sharing.give_back(share, Duration::ZERO);
        sharing.ask(other, false, 2);
        assert_eq!(take(&mut sharing).len(), 1);
    }

    /// An endpoint, and how it is used.
    #[derive(Clone, Debug)]
    struct Endpoint {
        every_ms: u64,
        takes_ms: Vec<u64>,
        fails: bool,
        max_in_flight: usize,
    }

    /// How long each endpoint's requests that came after `from_ms` waited for their share, in
    /// milliseconds.
    fn simulate(max: usize, endpoints: &[Endpoint], from_ms: u64, until_ms: u64) -> Vec<Vec<u64>> {
        let mut sharing = Sharing::new(max);
        let seats: Vec<SeatId> = endpoints.iter().map(|_| sharing.open()).collect();
        let mut waits = vec![Vec::new(); endpoints.len()];
        // Coming events by time: a new event of an endpoint, or the end of a request.
        let mut coming: BinaryHeap<Reverse<(u64, usize, Option<usize>)>> =
            (0..endpoints.len()).map(|at| Reverse((0, at, None))).collect();
        let mut under_way: Vec<Option<(Share, u64)>> = Vec::new();
        // As in the lane: no more requests wait at a time than may be in flight.
        let mut queued: Vec<VecDeque<u64>> = vec![VecDeque::new(); endpoints.len()];
        let mut asking = vec![0; endpoints.len()];
        let mut made = vec![0; endpoints.len()];
        while let Some(Reverse((now, at, ends))) = coming.pop() {
            match ends {
                Some(slot) => {
                    let (share, since) = under_way[slot].take().unwrap();
                    sharing.give_back(share, Duration::from_millis(now - since));
                    asking[at] -= 1;
                }
                None if now < until_ms => {
                    queued[at].push_back(now);
                    coming.push(Reverse((now + endpoints[at].every_ms, at, None)));
                }
                None => {}
            }
            while asking[at] < endpoints[at].max_in_flight
                && let Some(since) = queued[at].pop_front()
            {
                asking[at] += 1;
                sharing.ask(seats[at], !endpoints[at].fails, (at, since));
            }
            while let Some((share, (at, since))) = sharing.give() {
                if since >= from_ms {
                    waits[at].push(now - since);
                }
                let takes = &endpoints[at].takes_ms;
                let takes = takes[made[at] % takes.len()];
                made[at] += 1;
                under_way.push(Some((share, now)));
                coming.push(Reverse((now + takes, at, Some(under_way.len() - 1))));
            }
        }
        waits
    }

    /// At most ten events a second, and an endpoint that answers at once.
    fn fast() -> impl Strategy<Value = Endpoint> {
        (100u64..200, prop::collection::vec(1u64..6, 1..8), 1usize..9).prop_map(
            |(every_ms, takes_ms, max_in_flight)| Endpoint {
                every_ms,
                takes_ms,
                fails: false,
                max_in_flight,
            },
        )
    }

    /// An endpoint that takes between `at_least_ms` and twice that.
    fn slow(at_least_ms: u64) -> impl Strategy<Value = Endpoint> {
        let takes_ms = prop::collection::vec(at_least_ms..2 * at_least_ms, 1..8);
        (20u64..400, takes_ms, any::<bool>(), 1usize..9).prop_map(
            |(every_ms, takes_ms, fails, max_in_flight)| Endpoint {
                every_ms,
                takes_ms,
                fails,
                max_in_flight,
            },
        )
    }

    /// Endpoints of about equal slowness, or of different slowness.
    fn slow_ones() -> impl Strategy<Value = (bool, Vec<Endpoint>)> {
        let alike = (300u64..1500).prop_flat_map(|at_least| prop::collection::vec(slow(at_least), 1..20));
        let mixed = prop::collection::vec((300u64..1500).prop_flat_map(slow), 1..20);
        prop_oneof![alike.prop_map(|slow| (true, slow)), mixed.prop_map(|slow| (false, slow))]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// With no more endpoints than half of the shares, the fast one is not delayed. With more,
        /// it waits for at most one of their requests, or for two if their speeds differ. None of
        /// them starves.
        #[test]
        fn slow_endpoints_do_not_keep_a_fast_one_waiting(
            max in prop_oneof![1usize..9, 9usize..50],
            fast in fast(),
            (are_alike, slow) in slow_ones(),
        ) {
            let longest = slow.iter().flat_map(|one| &one.takes_ms).max().copied().unwrap();
            // By then each has shown how long it takes; before, it cannot be known.
            let from = longest * slow.len() as u64 + 1000;
            let until = from + 20_000;
            let alone = simulate(max, std::slice::from_ref(&fast), from, until).remove(0);
            let all: Vec<Endpoint> = slow.iter().cloned().chain([fast.clone()]).collect();
            let mut waits = simulate(max, &all, from, until);
            let of_fast = waits.pop().unwrap();
            prop_assert_eq!(of_fast.len(), alone.len(), "all of it was sent");
            if all.len() <= max / 2 {
                prop_assert_eq!(of_fast, alone);
            } else {
                let wait = of_fast.iter().max().copied().unwrap();
                // And for its own requests that came meanwhile, and for those that came while these
                // were sent.
                let own = (longest / fast.every_ms + 2) * fast.takes_ms.iter().max().unwrap();
                let most = if are_alike { longest } else { 2 * longest };
                prop_assert!(wait <= most + 2 * own, "{wait} ms beside {longest} ms");
            }
            for (one, waits) in slow.iter().zip(&waits) {
                prop_assert!(!waits.is_empty(), "{one:?} starves");
            }
        }

        /// No order of asking, ending and closing gives out more shares than there are, or loses
        /// one.
        #[test]
        fn shares_are_neither_made_nor_lost(
            max in 1usize..6,
            steps in prop::collection::vec((0u8..4, 0usize..5, any::<bool>()), 1..200),
        ) {
            let mut sharing = Sharing::new(max);
            let mut seats: Vec<SeatId> = (0..3).map(|_| sharing.open()).collect();
            let mut shares = Vec::new();
            for (step, at, is_proven) in steps {
                match step {
                    0 | 1 => {
                        let seat = seats[at % seats.len()];
                        let mut other = sharing.clone();
                        let now = sharing.ask_now(seat, is_proven);
                        let is_first = other.waiting == 0;
                        other.ask(seat, is_proven, ());
                        let asked = if is_first { take(&mut other) } else { Vec::new() };
                        prop_assert!(asked.iter().map(|(share, ())| share).eq(&now), "as if it had asked");
                        match now {
                            Some(share) => {
                                other.next_arrival = sharing.next_arrival;
                                prop_assert_eq!(format!("{other:?}"), format!("{sharing:?}"));
                                shares.push(share);
                            }
                            None => sharing.ask(seat, is_proven, ()),
                        }
                    }
                    2 if !shares.is_empty() => {
                        sharing.give_back(shares.remove(at % shares.len()), Duration::from_millis(at as u64));
                    }
                    _ if seats.len() > 1 && at == 0 => {
                        sharing.close(seats.remove(0));
                        seats.push(sharing.open());
                    }
                    _ => {}
                }
                shares.extend(take(&mut sharing).into_iter().map(|(share, ())| share));
                prop_assert!(shares.len() <= max);
                let unproven = shares.iter().filter(|share| share.is_unproven).count();
                prop_assert!(unproven <= (max / 2).max(1));
                prop_assert_eq!((sharing.held, sharing.held_unproven), (shares.len(), unproven));
                let waiting: usize = sharing.seats.values().map(|seat| seat.waiting.len()).sum();
                prop_assert_eq!(sharing.waiting, waiting);
            }
            shares.drain(..).for_each(|share| sharing.give_back(share, Duration::ZERO));
            // Once nothing is held, every waiting request gets a share.
            let mut left: usize = sharing.seats.values().map(|seat| seat.waiting.len()).sum();
            while left > 0 {
                let given = take(&mut sharing);
                prop_assert!(!given.is_empty());
                left -= given.len();
                given.into_iter().for_each(|(share, ())| sharing.give_back(share, Duration::ZERO));
            }
        }
    }
}
