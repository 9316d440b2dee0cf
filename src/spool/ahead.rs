//! Work on the next items while the last is taken in: on threads beside, in order, a few ahead.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope};

/// Threads beside the one that takes.
const WORKERS: usize = 2;

/// Items that are under way, or done and not taken yet: bounds the memory of what they hold.
const AHEAD: usize = 4;

/// Calls `take` with what `work` makes of each item, in their order. `work` runs on threads of its
/// own if there is more than one item and they can be had.
///
/// # Errors
/// The first error of an item or of `take`: nothing more is taken then.
pub(super) fn in_order<T: Send, U: Send, E>(
    mut items: impl ExactSizeIterator<Item = Result<T, E>>,
    work: impl Fn(T) -> U + Copy + Send,
    mut take: impl FnMut(U) -> Result<(), E>,
) -> Result<(), E> {
    if items.len() < 2 {
        return items.try_for_each(|item| take(work(item?)));
    }
    thread::scope(|scope| {
        let workers: Option<Vec<_>> = (0..WORKERS).map(|_| worker(scope, work)).collect();
        let Some(workers) = workers else {
            return items.try_for_each(|item| take(work(item?)));
        };
        // The channels have room for all that is under way, so no send waits. One that fails means
        // that a worker has panicked, which the end of the scope passes on.
        let (mut begun, mut taken) = (0, 0);
        let mut take_next = |taken: &mut usize| match workers[*taken % WORKERS].1.recv() {
            Ok(result) => {
                *taken += 1;
                take(result).map(|()| true)
            }
            Err(_) => Ok(false),
        };
        for item in items {
            if begun - taken == AHEAD && !take_next(&mut taken)? {
                return Ok(());
            }
            if workers[begun % WORKERS].0.send(item?).is_err() {
                return Ok(());
            }
            begun += 1;
        }
        while taken < begun && take_next(&mut taken)? {}
        Ok(())
    })
}

/// A thread that does `work`, until what is sent to it ends; `None` if it cannot be had.
fn worker<'scope, T: Send + 'scope, U: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    work: impl Fn(T) -> U + Send + 'scope,
) -> Option<(SyncSender<T>, Receiver<U>)> {
    let (to_do, given) = sync_channel(AHEAD);
    let (done, results) = sync_channel(AHEAD);
    let working = move || given.into_iter().map(work).try_for_each(|result| done.send(result));
    let started = thread::Builder::new().spawn_scoped(scope, working);
    started.is_ok().then_some((to_do, results))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn all_are_taken_in_order_up_to_the_first_error(
            count in 0_usize..20, bad_item in 0_usize..40, bad_take in 0_usize..40,
        ) {
            let items = (0..count).map(|n| if n == bad_item { Err(n) } else { Ok(n) });
            let mut taken = Vec::new();
            let ended = in_order(items, |n| n, |n| {
                if n == bad_take {
                    return Err(n);
                }
                taken.push(n);
                Ok(())
            });
            let first_bad = bad_item.min(bad_take);
            prop_assert_eq!(ended.is_ok(), first_bad >= count);
            prop_assert!(taken.len() <= first_bad.min(count));
            prop_assert!(taken.iter().copied().eq(0..taken.len()));
            if ended.is_ok() {
                prop_assert_eq!(taken.len(), count);
            }
        }
    }

    #[test]
    #[should_panic(expected = "a scoped thread panicked")]
    fn a_panic_of_the_work_is_passed_on() {
        let ended = in_order((0..20).map(Ok::<i32, ()>), |n| assert!(n < 3), |()| Ok(()));
        assert_eq!(ended, Ok(()));
    }
}
