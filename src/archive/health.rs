//! The health of the subscriptions, kept across restarts in `health.json`. It informs people and
//! fairness only; no delivery's outcome depends on it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::census::DeadLetterCount;
use crate::delivery::{Health, SubscriptionId};
use crate::files;

const VERSION: u32 = 1;

/// The health of every subscription that was ever tried.
pub(crate) type Healths = BTreeMap<SubscriptionId, Health>;

/// What a run left when it ended in order. Absent while a runtime runs, and after a kill.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AtRest {
    /// Number of unfinished deliveries.
    pub pending: usize,
    /// Dead letters, by subscription.
    #[serde(default)]
    pub dead_letters: BTreeMap<SubscriptionId, DeadLetterCount>,
}

#[derive(Default, Serialize, Deserialize)]
struct Content {
    v: u32,
    #[serde(flatten)]
    rest: Option<AtRest>,
    subscriptions: Healths,
}

fn path(spool_dir: &Path) -> PathBuf {
    spool_dir.join("health.json")
}

/// The stored health; empty if there is no file, or none that this version can read.
pub(crate) fn read_healths(spool_dir: &Path) -> Healths {
    read(spool_dir).subscriptions
}

/// What the last run left, if it ended in order: saves reading the spool to find out.
pub(crate) fn left_at_rest(spool_dir: &Path) -> Option<AtRest> {
    read(spool_dir).rest
}

fn read(spool_dir: &Path) -> Content {
    let path = path(spool_dir);
    let content = match files::read_small(&path) {
        Ok(bytes) => serde_json::from_slice::<Content>(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Content::default(),
        Err(error) => Err(error.to_string()),
    };
    match content {
        Ok(content) if content.v <= VERSION => content,
        Ok(_) => Content::default(),
        Err(error) => {
            log::warn!("{} cannot be read: {error}; health is counted from zero", path.display());
            Content::default()
        }
    }
}

/// Replaces the file without a sync: after a power loss health is counted from zero.
///
/// # Errors
/// The file could not be written: the old one remains.
pub(crate) fn write_healths(spool_dir: &Path, healths: &Healths, rest: Option<AtRest>) -> io::Result<()> {
    let content = Content { v: VERSION, rest, subscriptions: healths.clone() };
    files::replace(&path(spool_dir), &serde_json::to_vec(&content)?)
}
