//! Counts the open connections of all clients: above a limit, no more are kept alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The number of open connections, and the limit up to which they are kept alive. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    open: Arc<AtomicUsize>,
    most_kept: usize,
}

/// One open connection, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Connections {
    /// A count of zero. While more than `most_kept` are open, a connection closes after its answer.
    pub(crate) fn new(most_kept: usize) -> Self {
        Self { open: Arc::default(), most_kept }
    }

    /// Counts a new connection.
    pub(super) fn count(&self) -> Counted {
        self.open.fetch_add(1, Ordering::Relaxed);
        Counted(self.open.clone())
    }

    /// Whether too many are open to keep one alive.
    pub(super) fn are_too_many(&self) -> bool {
        self.open.load(Ordering::Relaxed) > self.most_kept
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_dropped_make_room() {
        let connections = Connections::new(1);
        let first = connections.clone().count();
        assert!(!connections.are_too_many());
        let second = connections.count();
        assert!(connections.are_too_many());
        drop((first, second));
        assert!(!connections.are_too_many());
    }
}
