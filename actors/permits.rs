//! Who may send now: at most so many requests at a time over all subscriptions, of which those whose endpoint is not proven
//! hold at most half, so that no dead or slow endpoint starves a healthy one (contract section 5).

use tokio::sync::{Semaphore, SemaphorePermit};

/// Requests that may be under way.
#[derive(Debug)]
pub(crate) struct Permits {
    all: Semaphore,
    unproven: Semaphore,
}

/// The right to one request, until it is dropped.
pub(crate) struct Permit<'a> {
    _of_unproven: Option<SemaphorePermit<'a>>,
    _of_all: Option<SemaphorePermit<'a>>,
}

impl Permits {
    pub(crate) fn new(max_concurrency: usize) -> Self {
        let unproven = Semaphore::new((max_concurrency / 2).max(1));
        Self { all: Semaphore::new(max_concurrency), unproven }
    }

    /// Waits for one's turn. Who is not proven queues apart first: in the common queue there are never more of them than
    /// may hold a permit.
    pub(crate) async fn acquire(&self, is_proven: bool) -> Permit<'_> {
        // The semaphores are never closed.
        let of_unproven = match is_proven {
            true => None,
            false => self.unproven.acquire().await.ok(),
        };
        Permit { _of_unproven: of_unproven, _of_all: self.all.acquire().await.ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    #[test]
    fn who_is_not_proven_holds_at_most_half_and_at_least_one() {
        for (max, unproven) in [(1, 1), (2, 1), (3, 1), (4, 2), (64, 32)] {
            let permits = Permits::new(max);
            let mut held = Vec::new();
            while let Some(permit) = permits.acquire(false).now_or_never() {
                held.push(permit);
            }
            assert_eq!(held.len(), unproven, "{max}");
            while let Some(permit) = permits.acquire(true).now_or_never() {
                held.push(permit);
            }
            assert_eq!(held.len(), max);
            drop(held.pop());
            assert!(permits.acquire(true).now_or_never().is_some());
        }
    }
}
