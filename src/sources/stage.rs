//! A stage that ended, from its telemetry file and the consensus files beside it.

use std::fs;
use std::path::Path;

use jiff::Timestamp;

use super::consensus;
use super::telemetry::{self, NotTelemetry, RepoPaths};
use crate::clock;
use crate::event::{Event, KeyOrigin, Stage};

/// What a telemetry file says, with its consensus.
#[derive(Clone, Debug)]
pub(crate) struct StageRead {
    /// The stage's event.
    pub event: Event,
    /// The event of a conflict, where the consensus is one.
    pub conflict: Option<Event>,
    /// Whether a consensus may still come: its folder is there, and none of this run is in it.
    pub awaits_consensus: bool,
}

/// Reads a telemetry file's content, and the newest consensus of its stage that no earlier run of
/// the stage had. One that the telemetry embeds counts where there is no other.
///
/// # Errors
/// As [`telemetry::read`].
pub(crate) fn read(path: &Path, bytes: &[u8], repo: &RepoPaths<'_>) -> Result<StageRead, NotTelemetry> {
    let mut event = telemetry::read(path, bytes, repo)?;
    event.event.key_origin = KeyOrigin::Source(written(path));
    let dir = consensus::dir(repo.evidence_dir, &event.spec.id);
    // What cannot be judged has no verdict that a consensus could change.
    let is_judged = event.telemetry.as_ref().is_some_and(|fields| !fields.contains_key("error"));
    let stage = event.event.stage.filter(|_| is_judged);
    let found = stage.and_then(|stage| consensus::newest(&dir, stage, || run_before(path, stage)));
    let awaits_consensus = is_judged && found.is_none() && event.consensus.is_none() && dir.is_dir();
    let consensus = found.or_else(|| event.consensus.take());
    let mut conflict = consensus.and_then(|consensus| consensus::apply(&mut event, consensus));
    std::iter::once(&mut event).chain(&mut conflict).for_each(fit);
    Ok(StageRead { event, conflict, awaits_consensus })
}

/// When a file was written; now where it is gone already.
pub(crate) fn written(path: &Path) -> Timestamp {
    let written = fs::metadata(path).and_then(|found| found.modified());
    let written = written.ok().and_then(|at| Timestamp::try_from(at).ok());
    written.map_or_else(clock::now, clock::in_milliseconds)
}

/// Leaves out what is beside the point, so that a large consensus or a long list of artifacts
/// never keeps a stage from being told. The telemetry itself is bounded already.
fn fit(event: &mut Event) {
    const STEPS: [fn(&mut Event); 3] = [
        |event| {
            if let Some(consensus) = &mut event.consensus {
                consensus.extra.clear();
                consensus.extra.insert("omitted".to_owned(), TOO_MUCH.into());
            }
            if let Some(anomaly) = event.extra.get_mut("anomaly") {
                anomaly["disagreements"] = Vec::<String>::new().into();
            }
        },
        |event| event.consensus.iter_mut().for_each(|consensus| consensus.agents.clear()),
        |event| event.evidence.iter_mut().for_each(|evidence| evidence.paths.truncate(1)),
    ];
    for step in STEPS {
        if event.check_limits().is_ok() {
            return;
        }
        step(event);
    }
}

/// Said in the place of what was left out.
const TOO_MUCH: &str = "too large or too deeply nested for an event: see the consensus files";

/// When the stage's run before this one was, by the sessions in the names of the files beside this
/// one.
fn run_before(path: &Path, stage: Stage) -> Option<Timestamp> {
    let time = |path: &Path| telemetry::named(path).filter(|(_, named)| named.stage == stage)?.1.at;
    let own = time(path)?;
    let beside = fs::read_dir(path.parent()?).ok()?.flatten();
    let times = beside.filter_map(|entry| time(&entry.path()));
    times.filter(|at| *at < own).max()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_large_or_deep_consensus_and_many_artifacts_leave_an_event_within_the_limits() {
        let deep = (0..120).fold(json!(1), |inner, _| json!([inner]));
        for (points, artifacts) in [
            (json!(["x".repeat(600 * 1024)]), 10),
            (json!(["x".repeat(300 * 1024)]), 2500),
            (json!([deep]), 1),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let repo = RepoPaths { root: dir.path(), evidence_dir: &dir.path().join("ev") };
            let consensus = dir.path().join("ev/consensus/SPEC-1");
            fs::create_dir_all(&consensus).unwrap();
            let synthesis = json!({"stage": "plan", "timestamp": "2025-10-14T10:00:01Z", "status": "conflict",
                "consensus": {"status": "conflict", "conflicts": points}});
            fs::write(consensus.join("spec-plan_2025-10-14T10:00:01Z_synthesis.json"), synthesis.to_string())
                .unwrap();
            let artifacts: Vec<_> =
                (0..artifacts).map(|n| format!("docs/a/{n}-{}", "p".repeat(80))).collect();
            let telemetry = json!({"command": "spec-ops-plan", "specId": "SPEC-1", "sessionId": "s",
                "timestamp": "2025-10-14T10:00:00Z",
                "baseline": {"status": "passed"}, "artifacts": artifacts});
            let path = dir.path().join("ev/commands/SPEC-1/spec-plan_s.json");
            let read = read(&path, telemetry.to_string().as_bytes(), &repo).unwrap();
            assert_eq!(read.event.check_limits(), Ok(()));
            assert_eq!(read.conflict.unwrap().check_limits(), Ok(()));
            assert_eq!(read.event.consensus.unwrap().status.as_deref(), Some("conflict"));
        }
    }
}
