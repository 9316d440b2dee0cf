//! What the guardrails of a run would have written: for the demo and for tests, which have no
//! pipeline.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::event::{SpecId, Stage};

/// The evidence tree of a repo whose config says nothing else.
pub(crate) const EVIDENCE: &str = "docs/SPEC-OPS-004-integrated-coder-hooks/evidence";

/// A stage's end in the `run`th run of a SPEC, as bash guardrails tell it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StageEnd<'a> {
    pub spec: &'a SpecId,
    /// One that guardrails judge.
    pub stage: Stage,
    pub run: u16,
    pub passes: bool,
}

impl StageEnd<'_> {
    /// How many stages came before it. Each takes a minute.
    fn minute(&self) -> usize {
        Stage::OF_GUARDRAILS.iter().take_while(|stage| **stage != self.stage).count()
    }

    fn timestamp(&self) -> String {
        format!("2025-10-14T10:{:02}:00Z", self.minute())
    }

    /// The guardrail's session, which its event's key ends with.
    pub(crate) fn session(&self) -> String {
        format!("{}-{}{:03}", self.timestamp(), self.run, self.minute())
    }

    /// Where its telemetry lies in the repo.
    pub(crate) fn path(&self) -> PathBuf {
        self.folder().join(format!("spec-{}_{}.json", self.stage.slug(), self.session()))
    }

    fn folder(&self) -> PathBuf {
        [EVIDENCE, "commands", self.spec.as_str()].iter().collect()
    }

    /// Its telemetry.
    pub(crate) fn telemetry(&self) -> Value {
        let log = self.folder().join(format!("spec-{}_{}.log", self.stage.slug(), self.session()));
        let mut telemetry = json!({
            "schemaVersion": 1,
            "command": format!("spec-ops-{}", self.stage.slug()),
            "specId": self.spec.as_str(),
            "sessionId": self.session(),
            "timestamp": self.timestamp(),
            "artifacts": [{"path": log}],
        });
        let word = |passed: &'static str| Value::from(if self.passes { passed } else { "failed" });
        match self.stage {
            Stage::Plan => {
                telemetry["baseline"] =
                    json!({"mode": "full", "artifact": "baseline.md", "status": word("passed")});
                telemetry["hooks"] = json!({"session.start": "ok"});
            }
            Stage::Tasks => telemetry["tool"] = json!({"status": word("ready")}),
            Stage::Implement => {
                telemetry["lock_status"] = word("locked");
                telemetry["hook_status"] = "ok".into();
            }
            Stage::Unlock => telemetry["unlock_status"] = word("unlocked"),
            _ => telemetry["scenarios"] = json!([{"name": "unit tests", "status": word("passed")}]),
        }
        telemetry
    }
}
