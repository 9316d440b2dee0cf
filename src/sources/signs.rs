//! Signs of life of a run, beside what is told: the newest file that it left. Blocks.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::place::{RepoPaths, entries};
use super::{GUARDRAILS, consensus, costs};
use crate::event::SpecId;

/// Files of a folder that are looked at.
const MOST: usize = 10_000;

/// When a SPEC's run last left a file: telemetry, an agent's output, consensus, costs, or one in
/// the SPEC's own folder.
pub(crate) fn last(spec: &SpecId, repo: &RepoPaths<'_>) -> Option<Timestamp> {
    let guardrails = GUARDRAILS.iter().flat_map(|guardrail| (guardrail.places)(repo));
    let places = guardrails.chain(consensus::places(repo));
    let mut folders: Vec<PathBuf> = places.map(|place| place.folder_of(spec)).collect();
    folders.push(repo.root.join("docs").join(spec.as_str()));
    folders.sort();
    folders.dedup();
    let inside = folders.iter().flat_map(|folder| entries(folder).take(MOST));
    let costs = costs::of(spec, repo).map(|spent| spent.at);
    inside.filter_map(|path| written(&path)).chain(costs).max()
}

fn written(path: &Path) -> Option<Timestamp> {
    let found = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file)?;
    found.modified().ok()?.try_into().ok()
}
