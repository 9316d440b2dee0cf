//! What a stage's agents agreed on: the synthesis and telemetry files beside the guardrail's own.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::fields::text;
use crate::decode;
use crate::event::{Consensus, Event, EventKind, IdempotencyKey, SpecId, Stage, Status};
use crate::files::open::{self, Links};
use crate::names::printable;

/// Largest consensus file that is read, and most of a stage and kind.
const MAX_BYTES: u64 = 1024 * 1024;
const MOST_READ: usize = 32;

/// A consensus file, by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Named {
    path: PathBuf,
    is_synthesis: bool,
    /// The session in its name.
    session: Option<String>,
}

/// Where a SPEC's consensus files are.
pub(crate) fn dir(evidence_dir: &Path, spec: &SpecId) -> PathBuf {
    evidence_dir.join("consensus").join(spec.as_str())
}

/// The newest consensus of a stage that was reached later than `after` says, from the files in
/// `dir`; `None` where there is none. A synthesis has the verdict; agents that it does not list
/// come from the telemetry. Of many files those are read that are newest by their names.
pub(crate) fn newest(
    dir: &Path,
    stage: Stage,
    after: impl FnOnce() -> Option<Timestamp>,
) -> Option<Consensus> {
    let entries = fs::read_dir(dir).ok()?;
    let mut named: Vec<Named> =
        entries.flatten().filter_map(|entry| Named::of(&entry.path(), stage)).collect();
    if named.is_empty() {
        return None;
    }
    named.sort_by_cached_key(|named| Reverse(named.written()));
    let after = after();
    let newest = |is_synthesis| {
        let of_kind = named.iter().filter(|named| named.is_synthesis == is_synthesis).take(MOST_READ);
        let read = of_kind.filter_map(Named::read);
        read.filter(|(at, _)| after.is_none_or(|after| *at > after)).max_by_key(|(at, _)| *at)
    };
    match (newest(true), newest(false)) {
        (None, None) => None,
        (Some((_, only)), None) | (None, Some((_, only))) => Some(only),
        (Some((_, mut synthesis)), Some((_, telemetry))) => {
            if synthesis.agents.is_empty() {
                synthesis.agents = telemetry.agents;
            }
            synthesis.status = synthesis.status.or(telemetry.status);
            Some(synthesis)
        }
    }
}

impl Named {
    /// `spec-<stage>[_<session>]_synthesis.json` and `…_telemetry.json[l]`; agents' outputs are
    /// neither.
    fn of(path: &Path, stage: Stage) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let rest = name.strip_prefix(&format!("spec-{}_", stage.slug()))?;
        let (stem, is_synthesis) = match rest.strip_suffix("synthesis.json") {
            Some(stem) => (stem, true),
            None => {
                (rest.strip_suffix("telemetry.jsonl").or_else(|| rest.strip_suffix("telemetry.json"))?, false)
            }
        };
        let session = stem.strip_suffix('_').filter(|session| !session.is_empty());
        if session.is_none() && !stem.is_empty() {
            return None;
        }
        Some(Self { path: path.to_owned(), is_synthesis, session: session.map(str::to_owned) })
    }

    /// When it was written, without opening it: by its name, else by its time on disk.
    fn written(&self) -> Option<Timestamp> {
        let modified = || fs::symlink_metadata(&self.path).and_then(|found| found.modified()).ok();
        self.session.as_deref().and_then(time_of_session).or_else(|| modified()?.try_into().ok())
    }

    /// What it says, and when that was: by its own word, its name, or its time on disk.
    fn read(&self) -> Option<(Timestamp, Consensus)> {
        let content = open::whole(&self.path, Links::Refused, MAX_BYTES).ok()?;
        let fields = match self.is_synthesis {
            true => object(&content)?,
            // Its last line counts.
            false => {
                let text = decode::text(&content);
                let mut lines = text.lines().rev();
                lines.find_map(|line| object(line.as_bytes()))?
            }
        };
        let own = text(&fields, "timestamp").and_then(|at| at.parse().ok());
        Some((own.or_else(|| self.written())?, read(&fields)))
    }
}

fn object(json: &[u8]) -> Option<Map<String, Value>> {
    match decode::json(json).ok()?.0 {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

/// The time that a session begins with: `2025-10-14T10:00:00Z-4711`.
pub(crate) fn time_of_session(session: &str) -> Option<Timestamp> {
    let (at, _) = session.split_once('Z')?;
    format!("{at}Z").parse().ok()
}

/// The verdict and the agents of a synthesis, or of telemetry that embeds a consensus.
fn read(fields: &Map<String, Value>) -> Consensus {
    let inner = fields.get("consensus").and_then(Value::as_object);
    let mut consensus = inner.map(embedded).unwrap_or_default();
    consensus.status = text(fields, "status").map(str::to_owned).or(consensus.status);
    if consensus.agents.is_empty() {
        consensus.agents = fields.get("agents").map(agents).unwrap_or_default();
    }
    consensus
}

/// The verdict and the agents of an embedded consensus, in the payload's words.
pub(crate) fn embedded(given: &Map<String, Value>) -> Consensus {
    let extra = ["agreements", "conflicts"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), given.get(name)?.clone())))
        .filter(|(_, list)| list.as_array().is_some_and(|list| !list.is_empty()))
        .collect();
    Consensus {
        status: text(given, "status").map(str::to_owned),
        agents: given.get("agents").map(agents).unwrap_or_default(),
        extra,
    }
}

/// Agents as a list, or as an object whose lists name those that took part (`active`).
fn agents(given: &Value) -> Vec<Map<String, Value>> {
    let list = given.as_array().or_else(|| given.get("active")?.as_array());
    let kept = |agent: &Map<String, Value>| {
        let mut kept = Map::new();
        for (name, other) in [
            ("agent", "agent"),
            ("model", "model_id"),
            ("model_release", "model_release"),
            ("reasoning_mode", "reasoning_mode"),
        ] {
            if let Some(value) = text(agent, name).or_else(|| text(agent, other)) {
                kept.insert(name.to_owned(), value.into());
            }
        }
        kept
    };
    let agents = list.into_iter().flatten().filter_map(Value::as_object).map(kept);
    agents.filter(|agent| !agent.is_empty()).collect()
}

/// Gives a stage event its consensus. A conflict makes it a `halt`; the second event tells of the
/// conflict.
pub(crate) fn apply(event: &mut Event, consensus: Consensus) -> Option<Event> {
    let is_conflict = consensus.status.as_deref() == Some("conflict");
    event.consensus = Some(consensus);
    if !is_conflict {
        return None;
    }
    event.event.status = Some(Status::Halt);
    let points = event.consensus.iter().filter_map(|consensus| consensus.extra.get("conflicts")?.as_array());
    let points: Vec<Value> = points.flatten().cloned().collect();
    event.event.reasons.push(match points.len() {
        0 => "the consensus is a conflict".to_owned(),
        count => format!("the consensus is a conflict: {count} points of disagreement"),
    });
    let key: IdempotencyKey =
        format!("{}:consensus-conflict", printable(event.event.idempotency_key.as_str(), 480))
            .parse()
            .ok()?;
    let mut anomaly = Event::new(EventKind::ConsensusConflict, event.spec.id.clone(), key);
    anomaly.event.stage = event.event.stage;
    anomaly.pipeline.clone_from(&event.pipeline);
    anomaly.consensus.clone_from(&event.consensus);
    anomaly.evidence.clone_from(&event.evidence);
    let hint = "read the synthesis, settle the points with the agents' owners, and run the stage again";
    anomaly.extra.insert("anomaly".to_owned(), serde_json::json!({"disagreements": points, "hint": hint}));
    Some(anomaly)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn write(dir: &Path, name: &str, content: &Value) {
        fs::write(dir.join(name), content.to_string()).unwrap();
    }

    #[test]
    fn the_newest_of_the_stage_counts_and_agents_may_come_from_the_telemetry() {
        let dir = tempfile::tempdir().unwrap();
        let newest =
            |after: Option<&str>| newest(dir.path(), Stage::Plan, || after.map(|at| at.parse().unwrap()));
        assert_eq!(newest(None), None);
        let synthesis = |at: &str, status: &str| {
            json!({"stage": "plan", "timestamp": at, "status": status, "agents": [],
                "consensus": {"agreements": ["a"], "conflicts": []}})
        };
        write(
            dir.path(),
            "spec-plan_2025-10-06T00:00:00Z_synthesis.json",
            &synthesis("2025-10-06T00:00:00Z", "degraded"),
        );
        write(
            dir.path(),
            "spec-plan_2025-10-07T00:00:00Z_synthesis.json",
            &synthesis("${timestamp_run}", "ok"),
        );
        write(
            dir.path(),
            "spec-plan_2025-10-08T00:00:00Z_claude.json",
            &synthesis("2025-10-08T00:00:00Z", "conflict"),
        );
        write(
            dir.path(),
            "spec-tasks_2025-10-08T00:00:00Z_synthesis.json",
            &synthesis("2025-10-08T00:00:00Z", "conflict"),
        );
        fs::write(dir.path().join("spec-plan_2025-10-09T00:00:00Z_synthesis.json"), "{\"status\": \"confl")
            .unwrap();
        let agent = json!({"agent": "claude", "model_id": "claude-4.5", "model_release": "2025-09-29",
            "reasoning_mode": "auto", "cost_usd": null});
        write(
            dir.path(),
            "spec-plan_2025-10-07T00:00:00Z_telemetry.jsonl",
            &json!({"timestamp": "2025-10-07T00:00:00Z", "consensus": {"status": "ok", "agents": [agent]}}),
        );
        let found = newest(None).unwrap();
        assert_eq!(found.status.as_deref(), Some("ok"));
        assert_eq!(
            Value::from(found.agents[0].clone()),
            json!({"agent": "claude", "model": "claude-4.5", "model_release": "2025-09-29",
                "reasoning_mode": "auto"})
        );
        assert_eq!(found.extra["agreements"], json!(["a"]));
        assert_eq!(newest(Some("2025-10-07T00:00:00Z")), None, "it belongs to an earlier run");
        let active = json!({"timestamp": "2025-10-10T00:00:00Z", "status": "hold",
            "agents": {"active": [{"model": "gpt-5", "role": "x"}], "degraded": ["gpt"]}});
        write(dir.path(), "spec-plan_synthesis.json", &active);
        let found = newest(None).unwrap();
        assert_eq!(
            (found.status.as_deref(), Value::from(found.agents[0].clone())),
            (Some("hold"), json!({"model": "gpt-5"}))
        );
    }

    #[test]
    fn a_conflict_halts_the_stage_and_is_told_of_on_its_own() {
        let mut event = Event::new(
            EventKind::StageCompleted,
            "SPEC-1".parse().unwrap(),
            "SPEC-1:plan:attempt-1:s".parse().unwrap(),
        );
        event.event.status = Some(Status::Success);
        let consensus =
            embedded(json!({"status": "conflict", "conflicts": ["a or b", "c"]}).as_object().unwrap());
        let anomaly = apply(&mut event, consensus).unwrap();
        assert_eq!((event.event.status, event.event.reasons.len()), (Some(Status::Halt), 1));
        assert_eq!(anomaly.event.kind, EventKind::ConsensusConflict);
        assert_eq!(anomaly.event.idempotency_key.as_str(), "SPEC-1:plan:attempt-1:s:consensus-conflict");
        assert_eq!(anomaly.extra["anomaly"]["disagreements"], json!(["a or b", "c"]));
        let degraded = embedded(json!({"status": "degraded"}).as_object().unwrap());
        event.event.status = Some(Status::Success);
        assert!(apply(&mut event, degraded).is_none());
        assert_eq!(event.event.status, Some(Status::Success));
    }
}
