//! Admission: the bound on emits and requests under way, and the patience of those who wait.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::time::sleep;
use futures_util::future::{Either, select};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Emits and requests under way at a time; more wait for their turn.
const MAX_ADMITTED: u32 = 1024;

/// How often those who wait look at the clock.
const TICK: Duration = Duration::from_millis(250);

/// See the module's first lines. Clones share the permits.
#[derive(Clone, Debug)]
pub(super) struct Admission {
    permits: Arc<Semaphore>,
    /// Wakes the waiting callers: a host's executor may have no timers.
    ticks: Arc<Notify>,
}

impl Admission {
    /// To be called on the actors' own arbiter, which makes the ticks.
    pub(super) fn new() -> Self {
        let ticks = Arc::<Notify>::default();
        actix_rt::spawn(tick(ticks.clone()));
        Self { permits: Arc::new(Semaphore::new(MAX_ADMITTED as usize)), ticks }
    }

    /// A permit; `None` where none is free `within` that time, or the runtime is gone.
    pub(super) async fn admit(&self, within: Duration) -> Option<OwnedSemaphorePermit> {
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => self.patiently(within, self.permits.clone().acquire_owned()).await?.ok(),
        }
    }

    /// Waits until no permit is out. Whoever emits holds one until each subscription has its
    /// delivery, so nothing is on its way from one actor to another then.
    pub(super) async fn all_back(&self) {
        drop(self.permits.acquire_many(MAX_ADMITTED).await);
    }

    /// What `work` comes to; `None` where that takes longer than `within`, or 250 ms more.
    pub(super) async fn patiently<T>(&self, within: Duration, work: impl Future<Output = T>) -> Option<T> {
        let (end, mut work) = (Instant::now() + within, pin!(work));
        loop {
            match select(work.as_mut(), pin!(self.ticks.notified())).await {
                Either::Left((value, _)) => return Some(value),
                Either::Right(_) if Instant::now() < end => {}
                Either::Right(_) => return None,
            }
        }
    }
}

/// Ticks as long as the runtime's thread runs.
async fn tick(ticks: Arc<Notify>) {
    loop {
        sleep(TICK).await;
        ticks.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permits_are_bounded_and_who_waits_gives_up_in_time() {
        actix_rt::System::new().block_on(async {
            let admission = Admission::new();
            let mut held = Vec::new();
            for _ in 0..MAX_ADMITTED {
                held.push(admission.admit(Duration::ZERO).await.unwrap());
            }
            let began = Instant::now();
            assert!(admission.admit(Duration::from_millis(1)).await.is_none());
            assert!(began.elapsed() < 20 * TICK);
            assert!(admission.patiently(Duration::ZERO, admission.all_back()).await.is_none());
            held.clear();
            admission.all_back().await;
            assert!(admission.admit(Duration::ZERO).await.is_some());
        });
    }
}
