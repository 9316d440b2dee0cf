//! Events as they come, to see and try out the messages that are made of them.

use serde_json::{Map, Value, json};

use crate::event::SpecId;
use crate::names::named;

named! {
    /// What happens in a sample.
    Sample, "sample" {
        StagePassed = "stage-success",
        StageFailed = "stage-failure",
        StageHalted = "stage-halt",
        RunPassed = "run-success",
        RunFailed = "run-failure",
        Task = "task",
        Conflict = "conflict",
        Cost = "cost",
        Stall = "stall",
        Gate = "gate",
        List = "task-list",
    }
}

/// The reason of a scenario that failed.
const FAILED: &str = "scenario `login keeps the cart` is failed, not passed or skipped";

impl Sample {
    /// The event, in the payload's shape. Whoever accepts it says where and when.
    pub(crate) fn event(self, spec: &SpecId) -> Map<String, Value> {
        let (kind, mut parts) = match self {
            Self::StagePassed => ("spec-auto.stage.completed", stage("Plan", "success", &[])),
            Self::StageFailed => {
                ("spec-auto.stage.completed", stage("Validate", "failure", &[FAILED, "there is no scenario"]))
            }
            Self::StageHalted => {
                let defect = "the file is not valid JSON: expected `,` or `}` at line 17 column 111";
                let mut parts = stage("Audit", "halt", &[defect]);
                parts["telemetry"] = json!({"error": defect});
                ("spec-auto.stage.completed", parts)
            }
            Self::RunPassed => ("spec-auto.pipeline.completed", run("success", &[])),
            Self::RunFailed => ("spec-auto.pipeline.completed", run("failure", &[FAILED])),
            Self::Task => {
                let task = json!({"id": "T7", "title": "Retry budget per subscription", "status": "Done"});
                ("spec-kit.task.completed", json!({"task": task}))
            }
            Self::Conflict => {
                let positions = json!({"claude": "a queue each", "gpt_pro": "one shared file"});
                let points = json!([{"point": "retries", "positions": positions}, "who retries"]);
                let anomaly = json!({"disagreements": points});
                let event = json!({"stage": "Plan"});
                ("spec-auto.anomaly.consensus_conflict", json!({"event": event, "anomaly": anomaly}))
            }
            Self::Cost => {
                let anomaly = json!({"thresholdUsd": 5.0, "totalUsd": 6.02, "run": 2});
                let cost = json!({"totalUsd": 6.02, "perStage": {"Implement": 4.8, "Plan": 1.22}});
                let event = json!({"stage": "Implement"});
                let parts = json!({"event": event, "anomaly": anomaly, "cost": cost});
                ("spec-auto.anomaly.cost_threshold", parts)
            }
            Self::Stall => {
                let event = json!({"stage": "Implement"});
                ("spec-auto.anomaly.stalled", json!({"event": event, "anomaly": {"run": 1}}))
            }
            Self::Gate => {
                let gate = json!({"step": "review-plan", "message": "Review the plan",
                    "options": ["approve", "reject"]});
                let event =
                    json!({"status": "halt", "reasons": ["the run waits for a person at gate review-plan"]});
                let pipeline = json!({"run": {"id": "6f9a3c73", "step": "review-plan"}, "gate": gate});
                ("spec-auto.pipeline.waiting", json!({"event": event, "pipeline": pipeline}))
            }
            Self::List => {
                let tasks = json!({"done": 12, "total": 12});
                ("spec-kit.tasklist.completed", json!({"tasks": tasks}))
            }
        };
        parts["event"]["type"] = kind.into();
        parts["spec"] = json!({"id": spec});
        parts.as_object().cloned().unwrap_or_default()
    }
}

fn stage(stage: &str, status: &str, reasons: &[&str]) -> Value {
    json!({
        "event": {"stage": stage, "status": status, "reasons": reasons},
        "pipeline": {"attempt": 2, "maxAttempts": 3, "durationMs": 150_000},
        "evidence": {"paths": [format!("evidence/spec-{}_sample.json", stage.to_ascii_lowercase())]},
    })
}

fn run(status: &str, reasons: &[&str]) -> Value {
    json!({
        "event": {"status": status, "reasons": reasons},
        "pipeline": {"attempt": 1, "durationMs": 2_700_000, "stages": [
            {"stage": "Plan", "status": "success", "attempt": 1, "durationMs": 150_000},
            {"stage": "Implement", "status": "success", "attempt": 1, "durationMs": 1_320_000},
            {"stage": "Validate", "status": "failure", "attempt": 1, "durationMs": 310_000},
            {"stage": "Validate", "status": status, "attempt": 2, "durationMs": 290_000},
        ]},
        "cost": {"totalUsd": 4.37},
        "followUps": ["task T9 (Docs for rotation) is Open, not Done"],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;

    #[test]
    fn every_sample_is_an_event() {
        for sample in Sample::ALL {
            let document = Value::Object(sample.event(&"SPEC-1".parse().unwrap()));
            Event::from_json(&document.to_string()).unwrap();
        }
    }
}
