//! What a consensus does to its stage: a conflict halts it, and is told on its own; one that comes
//! after the stage was told is told as a correction.

use serde_json::Value;

use super::Reached;
use crate::event::{Consensus, Event, EventKind, IdempotencyKey, KeyOrigin, Status};
use crate::names::printable;

/// Longest key of a stage that another is made of, in characters.
const LONGEST_KEY: usize = 360;

/// Whether it is one that halts its stage.
pub(super) fn is_conflict(consensus: &Consensus) -> bool {
    consensus.status.as_deref() == Some("conflict")
}

/// Gives a stage event its consensus. A conflict makes it a `halt`; the second event tells of the
/// conflict.
pub(crate) fn apply(event: &mut Event, consensus: Consensus) -> Option<Event> {
    let conflict = is_conflict(&consensus);
    event.consensus = Some(consensus);
    conflict.then(|| halt(event)).flatten()
}

/// The stage of `told` again, with a consensus that was reached after it was told under `key`; and
/// the event of the conflict. `None` where that changes nothing of what was told.
pub(crate) fn correction(told: &Event, key: &IdempotencyKey, reached: &Reached) -> Option<(Event, Event)> {
    if !is_conflict(&reached.consensus) {
        return None;
    }
    let mut event = told.clone();
    let which = reached.run.as_ref().unwrap_or(&reached.time);
    let own = format!("{}:consensus-{which}", printable(key.as_str(), LONGEST_KEY));
    event.event.idempotency_key = own.parse().ok()?;
    event.event.amends = Some(key.clone());
    event.event.key_origin = KeyOrigin::Given;
    let conflict = apply(&mut event, reached.consensus.clone())?;
    Some((event, conflict))
}

fn halt(event: &mut Event) -> Option<Event> {
    event.event.status = Some(Status::Halt);
    let points = event.consensus.iter().filter_map(|consensus| consensus.extra.get("conflicts")?.as_array());
    let points: Vec<Value> = points.flatten().cloned().collect();
    event.event.reasons.push(match points.len() {
        0 => "the consensus is a conflict".to_owned(),
        1 => "the consensus is a conflict: 1 point of disagreement".to_owned(),
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
    use super::super::embedded;
    use super::*;
    use serde_json::json;

    fn stage() -> Event {
        let mut event = Event::new(
            EventKind::StageCompleted,
            "SPEC-1".parse().unwrap(),
            "SPEC-1:plan:attempt-1:s".parse().unwrap(),
        );
        event.event.status = Some(Status::Success);
        event
    }

    fn consensus(fields: &Value) -> Consensus {
        embedded(fields.as_object().unwrap())
    }

    #[test]
    fn a_conflict_halts_the_stage_and_is_told_of_on_its_own() {
        let mut event = stage();
        let anomaly =
            apply(&mut event, consensus(&json!({"status": "conflict", "conflicts": ["a or b", "c"]})))
                .unwrap();
        assert_eq!((event.event.status, event.event.reasons.len()), (Some(Status::Halt), 1));
        assert_eq!(anomaly.event.kind, EventKind::ConsensusConflict);
        assert_eq!(anomaly.event.idempotency_key.as_str(), "SPEC-1:plan:attempt-1:s:consensus-conflict");
        assert_eq!(anomaly.extra["anomaly"]["disagreements"], json!(["a or b", "c"]));
        event.event.status = Some(Status::Success);
        assert!(apply(&mut event, consensus(&json!({"status": "degraded"}))).is_none());
        assert_eq!(event.event.status, Some(Status::Success));
    }

    #[test]
    fn a_late_conflict_corrects_the_stage_under_a_key_of_its_own() {
        let mut reached = Reached {
            at: "2026-01-01T10:05:00Z".parse().unwrap(),
            time: "2026-01-01T10:05:00Z".to_owned(),
            run: Some("run_1".to_owned()),
            consensus: consensus(&json!({"status": "conflict", "conflicts": ["a or b"]})),
            is_synthesis: true,
            files: Vec::new(),
        };
        let key = stage().event.idempotency_key;
        for (run, suffix) in [(Some("run_1"), "run_1"), (None, "2026-01-01T10:05:00Z")] {
            reached.run = run.map(str::to_owned);
            let (again, anomaly) = correction(&stage(), &key, &reached).unwrap();
            let own = format!("{key}:consensus-{suffix}");
            assert_eq!(again.event.idempotency_key.as_str(), own);
            assert_eq!((again.event.status, &again.event.amends), (Some(Status::Halt), &Some(key.clone())));
            assert_eq!(anomaly.event.idempotency_key.as_str(), format!("{own}:consensus-conflict"));
        }
        for status in ["ok", "degraded", "hold"] {
            reached.consensus.status = Some(status.to_owned());
            assert!(correction(&stage(), &key, &reached).is_none());
        }
    }
}
