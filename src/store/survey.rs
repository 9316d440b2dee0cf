//! What there is on disk that an operator should know of: dead letters, damage, and what waits in the inbox. Read-only.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::{dead_letter, spec_dirs};
use crate::delivery::SubscriptionId;

/// Dead letters of one subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Events in the inbox.
    pub inbox: usize,
    /// Inbox files that hold no event.
    pub rejected: usize,
}

impl Survey {
    /// Looks at a spool; what cannot be listed counts as empty.
    pub fn of(spool_dir: &Path) -> Self {
        let mut survey = Self::default();
        for name in names(&spool_dir.join("inbox")) {
            survey.inbox += usize::from(name.ends_with(".event.json"));
            survey.rejected += usize::from(name.ends_with(".rejected"));
        }
        for spec in spec_dirs(spool_dir).unwrap_or_default() {
            let dir = spool_dir.join(spec.as_str());
            let damaged = names(&dir).into_iter().filter(|name| name.starts_with("damaged-"));
            survey.damaged.extend(damaged.map(|name| format!("{spec}/{name}")));
            let letters = dir.join("dead-letter");
            for id in dead_letter::ids(&letters) {
                match dead_letter::head(&letters, id) {
                    Ok(letter) => {
                        let none = DeadLetterCount { count: 0, oldest: letter.dead_at };
                        let of = survey.dead_letters.entry(letter.subscription).or_insert(none);
                        of.count += 1;
                        of.oldest = of.oldest.min(letter.dead_at);
                    }
                    // Replayed a moment ago.
                    Err(error) if error.is_not_found() => {}
                    Err(_) => survey.unreadable.push(format!("{spec}/dead-letter/{id}.json")),
                }
            }
        }
        survey.damaged.sort();
        survey.unreadable.sort();
        survey
    }

    /// How many dead letters there are in all.
    pub fn dead(&self) -> usize {
        self.dead_letters.values().map(|letters| letters.count).sum()
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
