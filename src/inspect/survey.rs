//! What there is on disk that an operator should know of: dead letters, damage, and what waits in
//! the inbox. Read-only.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use jiff::Timestamp;

use crate::archive::{Census, DeadLetterCount};
use crate::delivery::SubscriptionId;
use crate::spool;

/// To whom each unfinished delivery goes, and when it was accepted, as the spool's files say.
///
/// # Errors
/// The spool cannot be listed.
pub(crate) fn unfinished(spool_dir: &Path) -> io::Result<Vec<(SubscriptionId, Timestamp)>> {
    let peeked = spool::unfinished(spool_dir)?.into_iter().map(|peeked| peeked.unfinished.delivery);
    Ok(peeked.map(|delivery| (delivery.subscription.clone(), delivery.accepted_at)).collect())
}

/// See the module's first line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// By subscription.
    pub dead_letters: BTreeMap<SubscriptionId, DeadLetterCount>,
    /// Files that should be dead letters and cannot be read.
    pub unreadable: Vec<String>,
    /// Side files with damaged records, relative to the spool.
    pub damaged: Vec<String>,
    /// What of it cannot be used, and why: SPEC folders, spool files, the inbox, dead letters.
    pub unusable: Vec<String>,
    /// Events in the inbox, by the names of its files.
    pub inbox: usize,
    /// Inbox files that hold no event.
    pub rejected: usize,
}

impl Survey {
    /// Looks at a spool; what cannot be listed counts as empty.
    pub(crate) fn of(spool_dir: &Path) -> Self {
        Self::again(spool_dir, &mut Census::default())
    }

    /// The same, where the dead letters were counted before.
    pub(crate) fn again(spool_dir: &Path, census: &mut Census) -> Self {
        let (dead_letters, unreadable) = census.take(spool_dir);
        Self { unreadable, ..Self::beside(spool_dir, dead_letters) }
    }

    /// Everything but the dead letters, which are `counted` already.
    pub(crate) fn beside(spool_dir: &Path, counted: BTreeMap<SubscriptionId, DeadLetterCount>) -> Self {
        let (inbox, rejected) = spool::events_in_inbox(spool_dir);
        let (damaged, unusable) = (spool::damaged(spool_dir), spool::unusable(spool_dir));
        Self { dead_letters: counted, unreadable: Vec::new(), damaged, unusable, inbox, rejected }
    }

    /// How many dead letters there are in all.
    pub(crate) fn dead(&self) -> usize {
        self.dead_letters.values().map(|letters| letters.count).sum()
    }
}
