//! A stage that ended, from its telemetry file and the consensus files beside it.

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::consensus;
use super::telemetry::{self, NotTelemetry, RepoPaths};
use crate::event::{Event, Stage};

/// What a telemetry file says, with its consensus.
#[derive(Clone, Debug)]
pub struct StageRead {
    /// The stage's event.
    pub event: Event,
    /// The event of a conflict, where the consensus is one.
    pub conflict: Option<Event>,
    /// Whether a consensus may still come: its folder is there, and none of this run is in it.
    pub awaits_consensus: bool,
}

/// Reads a telemetry file's content, and the newest consensus of its stage that no earlier run of the stage had. One that
/// the telemetry embeds counts where there is no other.
///
/// # Errors
/// As [`telemetry::read`].
pub fn read(path: &Path, bytes: &[u8], repo: &RepoPaths<'_>) -> Result<StageRead, NotTelemetry> {
    let mut event = telemetry::read(path, bytes, repo)?;
    let dir = consensus::dir(repo.evidence_dir, &event.spec.id);
    let found = event.event.stage.and_then(|stage| consensus::newest(&dir, stage, run_before(path, stage)));
    let awaits_consensus = found.is_none() && event.consensus.is_none() && dir.is_dir();
    let consensus = found.or_else(|| event.consensus.take());
    let conflict = consensus.and_then(|consensus| consensus::apply(&mut event, consensus));
    Ok(StageRead { event, conflict, awaits_consensus })
}

/// When the stage's run before this one was, by the sessions in the names of the files beside this one.
fn run_before(path: &Path, stage: Stage) -> Option<Timestamp> {
    let prefix = format!("spec-{}_", stage.slug());
    let time = |name: &str| consensus::time_of_session(name.strip_prefix(&prefix)?);
    let own = time(path.file_name()?.to_str()?)?;
    let beside = fs::read_dir(path.parent()?).ok()?.flatten();
    let times = beside.filter_map(|entry| time(entry.file_name().to_str()?));
    times.filter(|at| *at < own).max()
}
