//! Waits for a future on a plain thread without an executor, and for blocking work on an executor
//! without its threads.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// The result of `future`, or `None` after `deadline`, when it is dropped.
pub(super) fn block_on<T>(future: impl Future<Output = T>, deadline: Duration) -> Option<T> {
    let began = Instant::now();
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return Some(value);
        }
        let left = deadline.saturating_sub(began.elapsed());
        if left.is_zero() {
            return None;
        }
        thread::park_timeout(left);
    }
}

/// The result of `future`, however long it takes.
pub(super) fn wait_for<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Some(value) = block_on(future.as_mut(), Duration::MAX) {
            return value;
        }
    }
}

/// The result of blocking `work`, which runs on a thread of its own: rare work, for which a thread
/// is cheap enough. If nobody waits any more it runs to its end all the same.
///
/// # Errors
/// No thread could be had, or `work` panicked.
pub(super) async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let (done, result) = oneshot::channel();
    let thread = thread::Builder::new().name("spec-notify-aside".to_owned());
    thread.spawn(move || {
        if done.send(work()).is_err() {
            log::debug!("nobody waits any more for what a thread has done");
        }
    })?;
    result.await.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_wakes_for_the_value_and_gives_up_at_the_deadline() {
        let (sender, receiver) = oneshot::channel();
        let thread = thread::spawn(move || sender.send(7));
        assert_eq!(block_on(receiver, Duration::MAX), Some(Ok(7)));
        thread.join().unwrap().unwrap();
        assert_eq!(block_on(std::future::pending::<()>(), Duration::ZERO), None);
    }

    #[test]
    fn blocking_work_runs_on_another_thread_and_its_panic_is_an_error() {
        let here = thread::current().id();
        assert_ne!(wait_for(on_a_thread(move || thread::current().id())).unwrap(), here);
        assert!(wait_for(on_a_thread(|| panic!("as this test means it"))).is_err());
    }
}
