//! What there is on disk that an operator should know of: dead letters, damage, and what waits in
//! the inbox. Read-only.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{InboxName, dead_letter, journal, spec_dirs};
use crate::clock;
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
    /// What of it cannot be used, and why: SPEC folders, spool files, the inbox, dead letters.
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
        let unusable = unusable(spool_dir);
        let mut survey = Self { dead_letters: counted, unusable, ..Self::default() };
        for name in names(&spool_dir.join("inbox")) {
            survey.inbox += name.parse().map_or(0, |name: InboxName| name.events());
            survey.rejected += usize::from(name.ends_with(".rejected"));
        }
        for spec in spec_dirs(spool_dir).unwrap_or_default() {
            let damaged = names(&spool_dir.join(spec.as_str()));
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

/// Looks at a spool again and again: opens each dead letter once, and lists a folder again only
/// when it has changed.
#[derive(Debug, Default)]
pub struct Surveyor(HashMap<SpecId, Letters>);

/// The dead letters of one SPEC, as they were found.
#[derive(Debug, Default)]
struct Letters {
    /// When the folder had last changed; unknown where it had just changed: it may do so again
    /// within its clock's tick.
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
        let is_settled = clock::age(modified).is_some_and(|age| age > TICK);
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

/// What of a spool cannot be looked at, and why. Plain files with an ending are somebody else's.
fn unusable(spool_dir: &Path) -> Vec<String> {
    let mut unusable = Vec::new();
    let mut say = |path: &Path, why: &dyn std::fmt::Display| {
        unusable.push(format!("{}: {why}", path.display()));
    };
    let lock = spool_dir.join(".lock");
    if fs::symlink_metadata(&lock).is_ok_and(|found| !found.is_file()) {
        say(&lock, &"something else than a file is in its place, and no runtime can start");
    }
    let mut folders = vec![spool_dir.join("inbox")];
    for spec in spec_dirs(spool_dir).unwrap_or_default() {
        let dir = spool_dir.join(spec.as_str());
        if fs::symlink_metadata(&dir).is_ok_and(|found| found.is_file()) && spec.as_str().contains('.') {
            continue;
        }
        for name in names(&dir).into_iter().filter(|name| name.starts_with("spool-")) {
            let path = dir.join(name);
            if let Err(error) = journal::check_file(&path)
                && error.kind() != io::ErrorKind::NotFound
            {
                say(&path, &error);
            }
        }
        folders.push(dir.join("dead-letter"));
        folders.push(dir);
    }
    for dir in folders {
        match fs::symlink_metadata(&dir) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => say(&dir, &error),
            Ok(found) if found.is_symlink() => say(&dir, &"a symbolic link is in its place"),
            Ok(found) if !found.is_dir() => say(&dir, &"something else than a folder is in its place"),
            Ok(_) => {
                if let Err(error) = fs::read_dir(&dir) {
                    say(&dir, &error);
                }
            }
        }
    }
    unusable
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
