//! Counts dead letters by subscription, with the age of the oldest. Read-only.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::dead_letter::Head;
use super::{dead_letter, dead_letter_dir};
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::SpecId;
use crate::files::{has_rested, spec_dirs};

/// Most causes of a subscription's dead letters that are told apart.
const MAX_CAUSES: usize = 8;

/// Dead letters of one subscription.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeadLetterCount {
    /// Their number.
    pub count: usize,
    /// When the oldest became a dead letter.
    pub oldest: Timestamp,
    /// Why they were given up, the most frequent first.
    #[serde(default)]
    pub causes: Vec<DeadLetterCause>,
}

/// Dead letters of one subscription that were given up for the same reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeadLetterCause {
    /// What their last attempt came to, in words.
    pub what: String,
    /// What to do about it.
    pub hint: String,
    pub count: usize,
    pub oldest: Timestamp,
    pub newest: Timestamp,
}

impl DeadLetterCount {
    fn add(&mut self, letter: &Head) {
        self.count += 1;
        self.oldest = self.oldest.min(letter.dead_at);
        let is_it = |cause: &DeadLetterCause| cause.what == letter.what && cause.hint == letter.hint;
        let full = (self.causes.len() == MAX_CAUSES).then_some(MAX_CAUSES - 1);
        match self.causes.iter().position(is_it).or(full) {
            Some(place) => {
                let cause = &mut self.causes[place];
                cause.count += 1;
                cause.oldest = cause.oldest.min(letter.dead_at);
                cause.newest = cause.newest.max(letter.dead_at);
            }
            None => self.causes.push(DeadLetterCause {
                what: letter.what.clone(),
                hint: letter.hint.clone(),
                count: 1,
                oldest: letter.dead_at,
                newest: letter.dead_at,
            }),
        }
    }
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
    each: HashMap<DeliveryId, Head>,
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
            for letter in letters.each.values() {
                let none = DeadLetterCount { count: 0, oldest: letter.dead_at, causes: Vec::new() };
                counts.entry(letter.subscription.clone()).or_insert(none).add(letter);
            }
            unreadable.extend(letters.unreadable.iter().map(|id| format!("{spec}/dead-letter/{id}.json")));
            self.0.insert(spec, letters);
        }
        for count in counts.values_mut() {
            count.causes.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.what.cmp(&b.what)));
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
            let read = || dead_letter::head(dir, id);
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
