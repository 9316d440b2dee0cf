//! Surveys the disk for what an operator should know: dead letters, damage, and what waits in the
//! inbox. Read-only.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use jiff::Timestamp;

use crate::archive::{Census, DeadLetterCount, Pauses, read_pauses};
use crate::delivery::SubscriptionId;
use crate::spool;

/// The subscription of each unfinished delivery and when it was accepted, read from the spool's
/// files.
///
/// # Errors
/// The spool cannot be listed.
pub(crate) fn unfinished(spool_dir: &Path) -> io::Result<Vec<(SubscriptionId, Timestamp)>> {
    let peeked = spool::unfinished(spool_dir)?.into_iter().map(|peeked| peeked.unfinished.delivery);
    Ok(peeked.map(|delivery| (delivery.common().subscription.clone(), delivery.accepted_at())).collect())
}

/// The result of a survey; see the module's documentation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Survey {
    /// The dead letters, by subscription.
    pub dead_letters: BTreeMap<SubscriptionId, DeadLetterCount>,
    /// Files with a dead letter's name that cannot be read.
    pub unreadable: Vec<String>,
    /// Files with copies of damaged records, relative to the spool.
    pub damaged: Vec<String>,
    /// What cannot be used, and why: SPEC folders, spool files, the inbox, dead letters.
    pub unusable: Vec<String>,
    /// The paused subscriptions.
    pub pauses: Pauses,
    /// Number of events in the inbox, by the names of its files.
    pub inbox: usize,
    /// Number of inbox files that hold no valid event.
    pub rejected: usize,
}

impl Survey {
    /// Surveys a spool; a folder that cannot be listed counts as empty.
    pub(crate) fn of(spool_dir: &Path) -> Self {
        Self::again(spool_dir, &mut Census::default())
    }

    /// Surveys a spool, reusing an earlier count of the dead letters.
    pub(crate) fn again(spool_dir: &Path, census: &mut Census) -> Self {
        let (dead_letters, unreadable) = census.take(spool_dir);
        Self { unreadable, ..Self::beside(spool_dir, dead_letters) }
    }

    /// Surveys everything but the dead letters, which are `counted` already.
    pub(crate) fn beside(spool_dir: &Path, counted: BTreeMap<SubscriptionId, DeadLetterCount>) -> Self {
        let (inbox, rejected) = spool::events_in_inbox(spool_dir);
        let (damaged, mut unusable) = (spool::damaged(spool_dir), spool::unusable(spool_dir));
        let pauses = read_pauses(spool_dir).unwrap_or_else(|error| {
            unusable.push(format!("{error}: who is paused is not known, and no runtime can start"));
            Pauses::default()
        });
        let unreadable = Vec::new();
        Self { dead_letters: counted, unreadable, damaged, unusable, pauses, inbox, rejected }
    }

    /// Number of dead letters in all.
    pub(crate) fn dead(&self) -> usize {
        self.dead_letters.values().map(|letters| letters.count).sum()
    }
}
