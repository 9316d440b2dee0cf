//! How the subscriptions fared, kept across restarts: a hint for people and for fairness, never for a delivery's fate.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files;
use crate::delivery::{Health, SubscriptionId};

const VERSION: u32 = 1;

/// Every subscription that was ever tried.
pub type Healths = BTreeMap<SubscriptionId, Health>;

#[derive(Serialize, Deserialize)]
struct Content {
    v: u32,
    subscriptions: Healths,
}

fn path(spool_dir: &Path) -> PathBuf {
    spool_dir.join("health.json")
}

/// What is known; nothing where there is no file, or none that this version reads.
pub fn read_healths(spool_dir: &Path) -> Healths {
    let path = path(spool_dir);
    let content = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice::<Content>(&bytes).map_err(|error| error.to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Healths::new(),
        Err(error) => Err(error.to_string()),
    };
    match content {
        Ok(content) if content.v <= VERSION => content.subscriptions,
        Ok(_) => Healths::new(),
        Err(error) => {
            log::warn!("{} cannot be read: {error}; health is counted anew", path.display());
            Healths::new()
        }
    }
}

/// Replaces the file, unsynced: after a power loss health is counted anew.
pub(super) fn write(spool_dir: &Path, healths: &Healths) -> io::Result<()> {
    let content = Content { v: VERSION, subscriptions: healths.clone() };
    files::replace(&path(spool_dir), &serde_json::to_vec(&content)?)
}
