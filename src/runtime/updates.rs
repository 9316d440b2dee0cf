//! A host's view of a runtime that costs nothing to look at: the latest state, and what ended since
//! it last looked.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::Handle;
use super::block::block_on;
use crate::feed::{Ended, Latest, Snapshot};

/// The changes of a runtime, for one watcher. Made by [`Handle::watch`].
///
/// Looking never waits, neither for the runtime nor for a disk: a draw loop may look at each frame.
/// A watcher that looks seldom loses states in between, never the latest. A clone looks on its own.
#[derive(Clone, Debug)]
pub struct Updates {
    receiver: watch::Receiver<Latest>,
    /// How many ends were told when this watcher looked last.
    seen: u64,
}

/// The deliveries that ended since a watcher last asked.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Ends {
    /// The newest of them, oldest first; at most 256.
    pub deliveries: Vec<Arc<Ended>>,
    /// How many older ones this watcher missed; the evidence has them.
    pub missed: u64,
}

impl Updates {
    pub(super) fn new(receiver: watch::Receiver<Latest>) -> Self {
        let seen = receiver.borrow().told();
        Self { receiver, seen }
    }

    /// The latest state.
    ///
    /// ```
    /// # fn draw(updates: &mut spec_notify::Updates) {
    /// let snapshot = updates.snapshot();
    /// println!("{}", snapshot.headline().unwrap_or_else(|| snapshot.state.to_string()));
    /// # }
    /// ```
    pub fn snapshot(&mut self) -> Arc<Snapshot> {
        self.receiver.borrow_and_update().snapshot.clone()
    }

    /// The deliveries that ended since this was last called, or since the watcher was made. What
    /// ends in another process, which owns the spool, is not among them.
    ///
    /// ```
    /// # fn draw(updates: &mut spec_notify::Updates) {
    /// let ends = updates.ended();
    /// for ended in &ends.deliveries {
    ///     let row = &ended.delivery;
    ///     println!("{} {:?} to {}: {}", row.spec, row.stage, row.subscription, row.state);
    /// }
    /// if ends.missed > 0 {
    ///     println!("and {} before these", ends.missed);
    /// }
    /// # }
    /// ```
    pub fn ended(&mut self) -> Ends {
        let latest = self.receiver.borrow();
        let (deliveries, missed) = latest.ends_after(self.seen);
        self.seen = latest.told();
        Ends { deliveries, missed }
    }

    /// Whether something changed since [`snapshot`](Self::snapshot) or [`changed`](Self::changed).
    pub fn has_changed(&self) -> bool {
        self.receiver.has_changed().unwrap_or(false)
    }

    /// Waits until something changed: the state, the status, or a delivery ended. `false` means
    /// that nothing will change any more: webhooks are off, or the runtime has ended.
    ///
    /// ```no_run
    /// # async fn banner(handle: &spec_notify::Handle) {
    /// let mut updates = handle.watch();
    /// while updates.changed().await {
    ///     if let Some(headline) = updates.snapshot().headline() {
    ///         println!("{headline}");
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn changed(&mut self) -> bool {
        let is_final = |latest: &Latest| latest.snapshot.state.is_final();
        if !self.has_changed() && is_final(&self.receiver.borrow()) {
            return false;
        }
        self.receiver.changed().await.is_ok()
    }

    /// As [`changed`](Self::changed), for plain threads: `false` also if nothing changed before the
    /// deadline.
    pub fn changed_blocking(&mut self, deadline: Duration) -> bool {
        block_on(self.changed(), deadline).unwrap_or(false)
    }
}

impl Handle {
    /// Begins to watch the runtime: its state, its status, and each delivery that ends. The status
    /// is gathered within milliseconds of a change, at most ten times a second, and only while
    /// somebody watches. On standby it is asked of the spool's owner every two seconds.
    ///
    /// ```no_run
    /// # async fn host(handle: spec_notify::Handle) {
    /// let mut updates = handle.watch();
    /// updates.changed().await;
    /// println!("webhooks: {}", updates.snapshot().state);
    /// # }
    /// ```
    pub fn watch(&self) -> Updates {
        Updates::new(self.feed().subscribe())
    }
}
