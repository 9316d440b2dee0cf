//! How many connections are open, over all clients: where there are too many, no more are kept
//! alive.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A count of open connections, and how many of them are kept alive for later. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    open: Arc<AtomicUsize>,
    most_kept: usize,
}

/// One open connection, counted until it is dropped.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Connections {
    /// None is open yet; beyond `most_kept` each ends with its answer.
    pub(crate) fn new(most_kept: usize) -> Self {
        Self { open: Arc::default(), most_kept }
    }

    /// Counts one that was opened.
    pub(super) fn count(&self) -> Counted {
        self.open.fetch_add(1, Ordering::Relaxed);
        Counted(self.open.clone())
    }

    /// Whether there are too many to keep one alive.
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
