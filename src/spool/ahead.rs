//! Work on the next items while the last is taken in: on a second thread, in order, a few ahead.

use std::sync::mpsc::sync_channel;
use std::thread;

/// Items that are under way, or done and not taken yet: bounds the memory of what they hold.
const AHEAD: usize = 4;

/// Calls `take` with what `work` makes of each item, in their order. `work` runs on a second thread
/// if there is more than one item and a thread can be had.
///
/// # Errors
/// The first error of an item or of `take`: nothing more is taken then.
pub(super) fn in_order<T: Send, U: Send, E>(
    mut items: impl ExactSizeIterator<Item = Result<T, E>>,
    mut work: impl FnMut(T) -> U + Clone + Send,
    mut take: impl FnMut(U) -> Result<(), E>,
) -> Result<(), E> {
    if items.len() < 2 {
        return items.try_for_each(|item| take(work(item?)));
    }
    thread::scope(|scope| {
        let (to_do, given) = sync_channel(AHEAD);
        let (done, results) = sync_channel(AHEAD);
        let ahead = work.clone();
        let worker = move || given.into_iter().map(ahead).try_for_each(|result| done.send(result));
        if thread::Builder::new().spawn_scoped(scope, worker).is_err() {
            return items.try_for_each(|item| take(work(item?)));
        }
        // Both channels have room for all that is under way, so no send waits. One that fails means
        // that the worker has panicked, which the end of the scope passes on.
        let mut under_way = 0;
        for item in items {
            if under_way == AHEAD {
                let Ok(result) = results.recv() else { break };
                take(result)?;
                under_way -= 1;
            }
            if to_do.send(item?).is_err() {
                break;
            }
            under_way += 1;
        }
        drop(to_do);
        results.into_iter().try_for_each(take)
    })
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
