//! Permits for requests: [`Sharing`] decides whose turn it is, this hands the permit over.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::oneshot;

use crate::delivery::{SeatId, Share, Sharing};

/// Requests that may be under way.
#[derive(Debug)]
pub(crate) struct Permits(Mutex<Sharing<oneshot::Sender<Permit>>>);

/// An active subscription's place among those that share the permits; given up on drop.
#[derive(Debug)]
pub(crate) struct Seat {
    permits: Arc<Permits>,
    id: SeatId,
}

/// A permit, or a place in the queue.
#[derive(Debug)]
pub(crate) enum Asked {
    Given(Permit),
    Waits(oneshot::Receiver<Permit>),
}

/// The right to one request, until it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    permits: Arc<Permits>,
    share: Option<Share>,
    since: Instant,
}

impl Permits {
    pub(crate) fn new(max_concurrency: usize) -> Self {
        Self(Mutex::new(Sharing::new(max_concurrency)))
    }

    fn sharing(&self) -> MutexGuard<'_, Sharing<oneshot::Sender<Permit>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn permit(self: &Arc<Self>, share: Share, now: Instant) -> Permit {
        Permit { permits: self.clone(), share: Some(share), since: now }
    }

    /// Applies a change and hands out the permits that it makes available.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut Sharing<oneshot::Sender<Permit>>)) {
        let mut sharing = self.sharing();
        change(&mut sharing);
        let mut given = Vec::new();
        while let Some((share, asked)) = sharing.give() {
            given.push((self.permit(share, Instant::now()), asked));
        }
        drop(sharing);
        for (permit, asked) in given {
            // If the receiver is gone, the permit is dropped here and so given back.
            drop(asked.send(permit));
        }
    }
}

impl Seat {
    pub(crate) fn new(permits: &Arc<Permits>) -> Self {
        Self { permits: permits.clone(), id: permits.sharing().open() }
    }

    /// Whether it belongs to these permits.
    pub(crate) fn is_of(&self, permits: &Arc<Permits>) -> bool {
        Arc::ptr_eq(&self.permits, permits)
    }

    /// Asks for a permit: takes one if one is free now, or would be once `spare` is given back,
    /// which it is then; else takes a place in the queue.
    pub(crate) fn ask(&self, is_proven: bool, spare: &mut Option<Permit>) -> Asked {
        let now = Instant::now();
        let share = {
            let mut sharing = self.permits.sharing();
            let mut share = sharing.ask_now(self.id, is_proven);
            // Whoever waits comes before this one, or not, as it is decided when both wait.
            if share.is_none() && !sharing.has_waiting() {
                // After a reload it may be one of other permits.
                let spare = spare.take_if(|spare| self.is_of(&spare.permits));
                spare.into_iter().for_each(|spare| spare.give_back(&mut sharing, now));
                share = sharing.ask_now(self.id, is_proven);
            }
            share
        };
        if let Some(share) = share {
            return Asked::Given(self.permits.permit(share, now));
        }
        let (asked, given) = oneshot::channel();
        self.permits.change(|sharing| sharing.ask(self.id, is_proven, asked));
        Asked::Waits(given)
    }
}

impl Asked {
    /// Waits for the permit. `None` only if the seat is gone, which cannot happen while this holds
    /// it.
    pub(crate) async fn permit(self) -> Option<Permit> {
        match self {
            Self::Given(permit) => Some(permit),
            Self::Waits(given) => given.await.ok(),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.permits.change(|sharing| sharing.close(self.id));
    }
}

impl Permit {
    fn give_back(mut self, sharing: &mut Sharing<oneshot::Sender<Self>>, now: Instant) {
        if let Some(share) = self.share.take() {
            sharing.give_back(share, now.saturating_duration_since(self.since));
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(share) = self.share.take() {
            let held_for = self.since.elapsed();
            self.permits.change(|sharing| sharing.give_back(share, held_for));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn a_permit_that_nobody_waits_for_any_more_goes_to_the_next() {
        let permits = Arc::new(Permits::new(1));
        let (one, other) = (Seat::new(&permits), Seat::new(&permits));
        let held = one.ask(true, &mut None).permit().now_or_never().flatten().unwrap();
        let (given_up, mut waits) =
            (Box::pin(other.ask(true, &mut None).permit()), Box::pin(one.ask(true, &mut None).permit()));
        let mut given_up = given_up;
        assert!((&mut given_up).now_or_never().is_none() && (&mut waits).now_or_never().is_none());
        drop(given_up);
        drop(held);
        assert!(waits.now_or_never().flatten().is_some());
    }

    #[test]
    fn a_seat_that_is_left_keeps_nothing_for_itself() {
        let permits = Arc::new(Permits::new(2));
        let (busy, idle) = (Seat::new(&permits), Seat::new(&permits));
        let _held = busy.ask(true, &mut None).permit().now_or_never().flatten().unwrap();
        let mut waits = Box::pin(busy.ask(true, &mut None).permit());
        assert!((&mut waits).now_or_never().is_none(), "the last one is kept for the other");
        drop(idle);
        assert!(waits.now_or_never().flatten().is_some());
    }

    #[test]
    fn a_permit_of_before_a_reload_is_given_back_to_those_it_is_of() {
        let (before, after) = (Arc::new(Permits::new(1)), Arc::new(Permits::new(1)));
        let (old, new) = (Seat::new(&before), Seat::new(&after));
        let mut spare = old.ask(true, &mut None).permit().now_or_never().flatten();
        let held = new.ask(true, &mut spare).permit().now_or_never().flatten();
        assert!(held.is_some());
        let mut waits = Box::pin(new.ask(true, &mut spare).permit());
        assert!((&mut waits).now_or_never().is_none(), "the other permits have one, and it is taken");
        assert!(spare.is_some());
        drop(spare);
        assert!(old.ask(true, &mut None).permit().now_or_never().flatten().is_some());
        drop(held);
        assert!(waits.now_or_never().flatten().is_some());
    }

    #[test]
    fn what_is_given_back_for_the_next_is_not_held_twice_and_passes_nobody_who_waits() {
        let permits = Arc::new(Permits::new(1));
        let (one, other) = (Seat::new(&permits), Seat::new(&permits));
        let mut spare = one.ask(true, &mut None).permit().now_or_never().flatten();
        assert!(spare.is_some());
        let mut next = one.ask(true, &mut spare).permit().now_or_never().flatten();
        assert!(next.is_some() && spare.is_none(), "nobody waits: it is the next one's");
        let mut waits = Box::pin(other.ask(true, &mut None).permit());
        assert!((&mut waits).now_or_never().is_none());
        let mut again = Box::pin(one.ask(true, &mut next).permit());
        assert!(next.is_some() && (&mut again).now_or_never().is_none(), "the other is first");
        drop(next);
        assert!(waits.now_or_never().flatten().is_some());
        assert!(again.now_or_never().flatten().is_some(), "which is given back by now");
    }
}
