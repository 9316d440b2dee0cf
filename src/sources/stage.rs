//! A stage that ended, from its telemetry file and the consensus files of its SPEC.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::GUARDRAILS;
use super::consensus::{self, Identity, Reached, Runs};
use super::place::{RepoPaths, entries};
use super::telemetry::{self, Guardrail, NotTelemetry};
use crate::clock;
use crate::config::StageEndsWith;
use crate::event::{Event, IdempotencyKey, KeyOrigin, SpecId, Stage, Status};

/// What a telemetry file says, with its consensus.
#[derive(Clone, Debug)]
pub(crate) struct StageRead {
    /// The stage's event.
    pub event: Event,
    /// The event of a conflict, where the consensus is one.
    pub conflict: Option<Event>,
    /// What the stage still waits for.
    pub awaits: Awaits,
    /// Its consensus, where files say it.
    pub reached: Option<Reached>,
}

/// What a stage still waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Awaits {
    Nothing,
    /// A consensus may follow at once: a folder is there for it, and none of this run is in it.
    Consensus,
    /// The stage ends with its synthesis, which is not there, and no later guardrail is.
    Synthesis,
}

/// Where and how a stage is read.
#[derive(Clone, Copy)]
pub(crate) struct Setting<'a> {
    pub repo: RepoPaths<'a>,
    pub ends_with: StageEndsWith,
    /// Whether what a consensus file says may belong to the run with this key: none other has it.
    pub is_free: &'a dyn Fn(&Path, &Identity, &IdempotencyKey) -> bool,
    /// When the consensus was reached that a telemetry file was told with.
    pub told_with: &'a dyn Fn(&Path) -> Option<Timestamp>,
}

impl<'a> Setting<'a> {
    /// Where nothing is known but the files.
    pub(crate) fn of_files(repo: RepoPaths<'a>, ends_with: StageEndsWith) -> Self {
        Self { repo, ends_with, is_free: &|_, _, _| true, told_with: &|_| None }
    }
}

/// One telemetry file of a SPEC, by its name.
#[derive(Clone, Debug)]
pub(crate) struct Ended {
    pub(crate) path: PathBuf,
    pub(crate) stage: Stage,
    /// When its stage ended: by its name, else by when it was written.
    pub(crate) at: Timestamp,
    guardrail: &'static Guardrail,
}

impl Ended {
    fn of(path: &Path) -> Option<Self> {
        let (guardrail, named) = telemetry::named(path)?;
        let at = named.at.unwrap_or_else(|| written(path));
        Some(Self { path: path.to_owned(), stage: named.stage, at, guardrail })
    }
}

/// The telemetry files of a SPEC, in the order in which their stages ended.
pub(crate) fn ended(spec: &SpecId, repo: &RepoPaths<'_>) -> Vec<Ended> {
    let places = GUARDRAILS.iter().flat_map(|guardrail| (guardrail.places)(repo));
    let mut folders: Vec<PathBuf> = places.map(|place| place.folder_of(spec)).collect();
    folders.sort();
    folders.dedup();
    let mut all: Vec<Ended> =
        folders.iter().flat_map(|folder| entries(folder)).filter_map(|path| Ended::of(&path)).collect();
    in_order(&mut all);
    all
}

fn in_order(all: &mut [Ended]) {
    all.sort_by(|one, other| (one.at, &one.path).cmp(&(other.at, &other.path)));
}

/// What is known of the runs of a stage, of which these are the telemetry files.
pub(crate) fn runs(of_stage: &[&Ended], setting: &Setting<'_>) -> Runs {
    Runs {
        ended: of_stage.iter().map(|ended| ended.at).collect(),
        reached: of_stage.iter().filter_map(|ended| (setting.told_with)(&ended.path)).collect(),
        are_guardrail_first: of_stage.iter().any(|ended| ended.guardrail.is_before_agents),
    }
}

/// Reads a telemetry file's content, and the consensus of this run of the stage. One that the
/// telemetry embeds counts where there is no other.
///
/// # Errors
/// As [`telemetry::read`].
pub(crate) fn read(path: &Path, bytes: &[u8], setting: &Setting<'_>) -> Result<StageRead, NotTelemetry> {
    let repo = &setting.repo;
    let mut event = telemetry::read(path, bytes, repo)?;
    event.event.key_origin = KeyOrigin::Source(written(path));
    let folders = consensus::folders_of(&event.spec.id, repo);
    // What cannot be judged has no verdict that a consensus could change.
    let is_judged = event.telemetry.as_ref().is_some_and(|fields| !fields.contains_key("error"));
    let reached = event.event.stage.filter(|_| is_judged).and_then(|stage| {
        let key = &event.event.idempotency_key;
        let is_free = |file: &Path, identity: &Identity| (setting.is_free)(file, identity, key);
        consensus::of_run(&folders, stage, is_free, || runs_with(path, stage, &event.spec.id, setting))
    });
    let has_one = reached.as_ref().is_some_and(|reached| reached.is_synthesis) || event.consensus.is_some();
    let ends_later = setting.ends_with == StageEndsWith::Consensus
        && event.event.status == Some(Status::Success)
        && !is_followed(path, &event.spec.id, repo);
    let awaits = match (is_judged && !has_one, ends_later) {
        (true, true) => Awaits::Synthesis,
        (true, false) if reached.is_none() && !folders.is_empty() => Awaits::Consensus,
        _ => Awaits::Nothing,
    };
    let consensus = reached.as_ref().map(|reached| reached.consensus.clone());
    let consensus = consensus.or_else(|| event.consensus.take());
    let mut conflict = consensus.and_then(|consensus| consensus::apply(&mut event, consensus));
    std::iter::once(&mut event).chain(&mut conflict).for_each(fit);
    Ok(StageRead { event, conflict, awaits, reached })
}

/// The stage of a telemetry file again, and its conflict, where `reached` came after it was told
/// under `key` and changes its verdict.
pub(crate) fn correction(
    path: &Path,
    bytes: &[u8],
    key: &IdempotencyKey,
    reached: &Reached,
    repo: &RepoPaths<'_>,
) -> Option<(Event, Event)> {
    let told = telemetry::read(path, bytes, repo).ok()?;
    let (mut event, mut conflict) = consensus::correction(&told, key, reached)?;
    fit(&mut event);
    fit(&mut conflict);
    Some((event, conflict))
}

/// The runs of a stage, and which of them this file is, wherever it lies.
fn runs_with(path: &Path, stage: Stage, spec: &SpecId, setting: &Setting<'_>) -> Option<(Runs, usize)> {
    let mut all = ended(spec, &setting.repo);
    all.retain(|ended| ended.stage == stage);
    if !all.iter().any(|ended| ended.path == path) {
        let unnamed = || Ended { path: path.to_owned(), stage, at: written(path), guardrail: GUARDRAILS[0] };
        all.push(Ended::of(path).unwrap_or_else(unnamed));
        in_order(&mut all);
    }
    let place = all.iter().position(|ended| ended.path == path)?;
    Some((runs(&all.iter().collect::<Vec<_>>(), setting), place))
}

/// Whether a guardrail of the SPEC ended after this one.
fn is_followed(path: &Path, spec: &SpecId, repo: &RepoPaths<'_>) -> bool {
    let own = Ended::of(path).map_or_else(|| written(path), |ended| ended.at);
    ended(spec, repo).iter().any(|ended| ended.at > own && ended.path != path)
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
            let repo = RepoPaths {
                root: dir.path(),
                evidence_dir: &dir.path().join("ev"),
                source_roots: &[dir.path().to_owned()],
            };
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
            let setting = Setting::of_files(repo, StageEndsWith::Guardrail);
            let read = read(&path, telemetry.to_string().as_bytes(), &setting).unwrap();
            assert_eq!(read.event.check_limits(), Ok(()));
            assert_eq!(read.conflict.unwrap().check_limits(), Ok(()));
            assert_eq!(read.event.consensus.unwrap().status.as_deref(), Some("conflict"));
        }
    }
}
