//! What tasks beside the actors report for `status`: the inbox, the watcher, the config's origin.

use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Origin;
use crate::feed::Feed;
use crate::inspect::Watching;
use crate::run::AwaitedStage;

/// The latest of each. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Notices {
    told: Arc<Mutex<Told>>,
    /// Hears that something changed.
    feed: Feed,
}

/// See [`Notices`].
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Inbox files that are set aside, and why.
    pub(super) inbox: Vec<String>,
    pub(super) watching: Watching,
    /// Stages that wait for their agents.
    pub(super) awaited: Vec<AwaitedStage>,
    /// Why this member of a fleet does not do its part.
    pub(super) fleet: Option<String>,
    /// Where the config that is in force came from.
    pub(super) origin: Option<Origin>,
}

impl Notices {
    pub(super) fn new(origin: Option<Origin>, feed: Feed) -> Self {
        Self { told: Arc::new(Mutex::new(Told { origin, ..Told::default() })), feed }
    }

    /// Changes what is told.
    pub(super) fn tell(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
        self.feed.touch();
    }

    /// What is told by now.
    pub(super) fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
