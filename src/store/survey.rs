//! What there is on disk that an operator should know of: dead letters, damage, and what waits in the inbox. Read-only.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{InboxName, dead_letter, spec_dirs};
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::SpecId;

/// Dead letters of one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetterCount {
    /// How many.
    pub count: usize,
    /// When the oldest was given up.
    pub oldest: Timestamp,
}

/// See the module's first line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// By subscription.
    pub dead_letters: BTreeMap<SubscriptionId, DeadLetterCount>,
    /// Files that should be dead letters and cannot be read.
    pub unreadable: Vec<String>,
    /// Side files with damaged records, relative to the spool.
    pub damaged: Vec<String>,
    /// SPEC folders that cannot be used, and why.
    pub unusable: Vec<String>,
    /// Events in the inbox, by the names of its files.
    pub inbox: usize,
    /// Inbox files that hold no event.
    pub rejected: usize,
}

impl Survey {
    /// Looks at a spool; what cannot be listed counts as empty.
    pub fn of(spool_dir: &Path) -> Self {
        Surveyor::default().look(spool_dir)
    }

    /// Everything but the dead letters, which are `counted` already.
    pub fn beside(spool_dir: &Path, counted: BTreeMap<SubscriptionId, DeadLetterCount>) -> Self {
        let mut survey = Self { dead_letters: counted, ..Self::default() };
        for name in names(&spool_dir.join("inbox")) {
            survey.inbox += name.parse().map_or(0, |name: InboxName| name.events());
            survey.rejected += usize::from(name.ends_with(".rejected"));
        }
        for spec in spec_dirs(spool_dir).unwrap_or_default() {
            let dir = spool_dir.join(spec.as_str());
            survey.unusable.extend(why_unusable(&dir).map(|why| format!("{}: {why}", dir.display())));
            let damaged = names(&dir);
            let damaged = damaged.into_iter().filter(|name| name.starts_with("damaged-"));
            survey.damaged.extend(damaged.map(|name| format!("{spec}/{name}")));
        }
        survey.damaged.sort();
        survey
    }

    /// How many dead letters there are in all.
    pub fn dead(&self) -> usize {
        self.dead_letters.values().map(|letters| letters.count).sum()
    }
}

/// Looks at a spool again and again: opens each dead letter once, and lists a folder again only when it has changed.
#[derive(Debug, Default)]
pub struct Surveyor(HashMap<SpecId, Letters>);

/// The dead letters of one SPEC, as they were found.
#[derive(Debug, Default)]
struct Letters {
    /// When the folder had last changed; unknown where it had just changed: it may do so again within its clock's tick.
    modified: Option<SystemTime>,
    each: HashMap<DeliveryId, (SubscriptionId, Timestamp)>,
    unreadable: Vec<DeliveryId>,
}

/// The clock of any file system ticks more often than this.
const TICK: Duration = Duration::from_secs(2);

impl Surveyor {
    /// Everything there is now.
    pub fn look(&mut self, spool_dir: &Path) -> Survey {
        let mut survey = Survey::beside(spool_dir, BTreeMap::new());
        let mut before = std::mem::take(&mut self.0);
        for spec in spec_dirs(spool_dir).unwrap_or_default() {
            let letters = Letters::look(
                &spool_dir.join(spec.as_str()).join("dead-letter"),
                before.remove(&spec).unwrap_or_default(),
            );
            for (subscription, dead_at) in letters.each.values() {
                let none = DeadLetterCount { count: 0, oldest: *dead_at };
                let of = survey.dead_letters.entry(subscription.clone()).or_insert(none);
                of.count += 1;
                of.oldest = of.oldest.min(*dead_at);
            }
            let unreadable = letters.unreadable.iter().map(|id| format!("{spec}/dead-letter/{id}.json"));
            survey.unreadable.extend(unreadable);
            self.0.insert(spec, letters);
        }
        survey.unreadable.sort();
        survey
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
        let is_settled = modified.elapsed().is_ok_and(|age| age > TICK);
        let mut letters = Self { modified: is_settled.then_some(modified), ..Self::default() };
        for id in dead_letter::ids(dir) {
            let known = before.each.get(&id).cloned();
            let read = || dead_letter::head(dir, id).map(|head| (head.subscription, head.dead_at));
            match known.map_or_else(read, Ok) {
                Ok(letter) => drop(letters.each.insert(id, letter)),
                // Replayed a moment ago.
                Err(error) if error.is_not_found() => {}
                Err(_) => letters.unreadable.push(id),
            }
        }
        letters
    }
}

/// Why a SPEC's folder cannot be used, where it cannot; a plain file is somebody else's.
fn why_unusable(dir: &Path) -> Option<String> {
    match fs::symlink_metadata(dir) {
        Ok(found) if found.is_symlink() => Some("a symbolic link is in its place".to_owned()),
        Ok(found) if found.is_dir() => fs::read_dir(dir).err().map(|error| error.to_string()),
        _ => None,
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
