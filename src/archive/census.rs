//! Counts dead letters by subscription, with the age of the oldest. Read-only.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{dead_letter, dead_letter_dir};
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::SpecId;
use crate::files::{has_rested, spec_dirs};

/// Dead letters of one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeadLetterCount {
    /// Their number.
    pub count: usize,
    /// When the oldest became a dead letter.
    pub oldest: Timestamp,
}

/// Counts the dead letters repeatedly: each file is opened once, and a folder is listed again only
/// when it has changed.
#[derive(Debug, Default)]
pub(crate) struct Census(HashMap<SpecId, Letters>);

/// The dead letters of one SPEC, as last listed.
#[derive(Debug, Default)]
struct Letters {
    /// The folder's modification time. `None` if it was less than a clock tick old: a later change
    /// could have the same time.
    modified: Option<SystemTime>,
    each: HashMap<DeliveryId, (SubscriptionId, Timestamp)>,
    unreadable: Vec<DeliveryId>,
}

/// The counts by subscription, and the files with a dead letter's name that cannot be read,
/// relative to the spool.
pub(super) type Counted = (BTreeMap<SubscriptionId, DeadLetterCount>, Vec<String>);

impl Census {
    /// All dead letters at present; a folder that cannot be listed counts as empty.
    pub(crate) fn take(&mut self, spool_dir: &Path) -> Counted {
        let (mut counts, mut unreadable) = (BTreeMap::new(), Vec::new());
        let mut before = std::mem::take(&mut self.0);
        for spec in spec_dirs(spool_dir).unwrap_or_default() {
            let dir = dead_letter_dir(spool_dir, &spec);
            let letters = Letters::look(&dir, before.remove(&spec).unwrap_or_default());
            for (subscription, dead_at) in letters.each.values() {
                let none = DeadLetterCount { count: 0, oldest: *dead_at };
                let of = counts.entry(subscription.clone()).or_insert(none);
                of.count += 1;
                of.oldest = of.oldest.min(*dead_at);
            }
            unreadable.extend(letters.unreadable.iter().map(|id| format!("{spec}/dead-letter/{id}.json")));
            self.0.insert(spec, letters);
        }
        unreadable.sort();
        (counts, unreadable)
    }
}

impl Letters {
    fn look(dir: &Path, before: Self) -> Self {
        let Ok(modified) = fs::metadata(dir).and_then(|found| found.modified()) else {
            return Self::default();
        };
        if before.modified == Some(modified) {
            return before;
        }
        let mut letters = Self { modified: has_rested(modified).then_some(modified), ..Self::default() };
        for id in dead_letter::ids(dir) {
            let known = before.each.get(&id).cloned();
            let read = || dead_letter::head(dir, id).map(|head| (head.subscription, head.dead_at));
            match known.map_or_else(read, Ok) {
                Ok(letter) => drop(letters.each.insert(id, letter)),
                // It was replayed a moment ago.
                Err(error) if error.is_not_found() => {}
                Err(_) => letters.unreadable.push(id),
            }
        }
        letters
    }
}
