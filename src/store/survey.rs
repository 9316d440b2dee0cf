//! What there is on disk that an operator should know of: dead letters, damage, and what waits in the inbox. Read-only.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{dead_letter, spec_dirs};
use crate::delivery::{DeliveryId, SubscriptionId};

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
    /// Events in the inbox.
    pub inbox: usize,
    /// Inbox files that hold no event.
    pub rejected: usize,
}

/// Looks at a spool again and again, and opens each dead letter once.
#[derive(Debug, Default)]
pub struct Surveyor(HashMap<DeliveryId, (SubscriptionId, Timestamp)>);

impl Survey {
    /// Looks at a spool; what cannot be listed counts as empty.
    pub fn of(spool_dir: &Path) -> Self {
        Surveyor::default().look(spool_dir)
    }

    /// How many dead letters there are in all.
    pub fn dead(&self) -> usize {
        self.dead_letters.values().map(|letters| letters.count).sum()
    }
}

impl Surveyor {
    /// Everything there is now.
    pub fn look(&mut self, spool_dir: &Path) -> Survey {
        let before = std::mem::take(&mut self.0);
        self.look_knowing(spool_dir, None, &before)
    }

    /// Everything but the dead letters, which are `counted` already.
    pub fn look_beside(spool_dir: &Path, counted: BTreeMap<SubscriptionId, DeadLetterCount>) -> Survey {
        Self::default().look_knowing(spool_dir, Some(counted), &HashMap::new())
    }

    fn look_knowing(
        &mut self,
        spool_dir: &Path,
        counted: Option<BTreeMap<SubscriptionId, DeadLetterCount>>,
        before: &HashMap<DeliveryId, (SubscriptionId, Timestamp)>,
    ) -> Survey {
        let counts_letters = counted.is_none();
        let mut survey = Survey { dead_letters: counted.unwrap_or_default(), ..Survey::default() };
        for name in names(&spool_dir.join("inbox")) {
            survey.inbox += usize::from(name.ends_with(".event.json"));
            survey.rejected += usize::from(name.ends_with(".rejected"));
        }
        for spec in spec_dirs(spool_dir).unwrap_or_default() {
            let dir = spool_dir.join(spec.as_str());
            let damaged = names(&dir).into_iter().filter(|name| name.starts_with("damaged-"));
            survey.damaged.extend(damaged.map(|name| format!("{spec}/{name}")));
            let letters = dir.join("dead-letter");
            for id in counts_letters.then(|| dead_letter::ids(&letters)).into_iter().flatten() {
                let known = before.get(&id).cloned();
                let read = || dead_letter::head(&letters, id).map(|head| (head.subscription, head.dead_at));
                match known.map_or_else(read, Ok) {
                    Ok((subscription, dead_at)) => {
                        self.0.insert(id, (subscription.clone(), dead_at));
                        let none = DeadLetterCount { count: 0, oldest: dead_at };
                        let of = survey.dead_letters.entry(subscription).or_insert(none);
                        of.count += 1;
                        of.oldest = of.oldest.min(dead_at);
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
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}
