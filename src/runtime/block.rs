//! Waits for a future on a plain thread, for a limited time and without an executor.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The result of `future`, or `None` after `deadline`, when it is dropped.
pub(super) fn block_on<T>(future: impl Future<Output = T>, deadline: Duration) -> Option<T> {
    let end = Instant::now() + deadline;
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[test]
    fn it_wakes_for_the_value_and_gives_up_at_the_deadline() {
        let (sender, receiver) = oneshot::channel();
        let thread = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(receiver, Duration::from_secs(30)), Some(Ok(7)));
        thread.join().unwrap().unwrap();
        assert_eq!(block_on(std::future::pending::<()>(), Duration::ZERO), None);
    }
}
