//! One line of a run's log.

use jiff::Timestamp;
use serde_json::{Map, Value};

/// Longest step id that is one.
const MAX_ID: usize = 500;

/// A step as it runs: in a loop or a fan-out its id says which time it is (`loop:plan:1`), in a
/// workflow that another one calls its place in that does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Step {
    pub(super) id: String,
    /// `execution_path`, as JSON; empty in the run's own workflow.
    pub(super) path: String,
}

impl Step {
    /// The id as the workflow has it: that of `loop:plan:1` is `plan`.
    pub(super) fn base(&self) -> &str {
        let mut from_the_end = self.id.rsplit(':');
        match (from_the_end.next(), from_the_end.next(), from_the_end.next()) {
            (Some(_), Some(base), Some(_)) => base,
            _ => &self.id,
        }
    }
}

/// How a step or a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Completed,
    Failed,
    Paused,
    Aborted,
    /// Nothing that is told.
    Other,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    Started {
        step: Step,
        kind: String,
    },
    Completed {
        step: Step,
        outcome: Outcome,
    },
    /// A step that failed fails the run, with its error.
    Failed {
        step: Step,
        error: Option<String>,
    },
    /// A step that failed does not.
    Continued {
        step: Step,
        error: Option<String>,
    },
    /// A person ended the run at a step.
    Aborted {
        step: Step,
        error: Option<String>,
    },
    Interrupted,
    Finished(Outcome),
    /// The engine itself failed.
    Broken {
        error: Option<String>,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) what: What,
    pub(super) at: Option<Timestamp>,
}

impl Line {
    /// Reads a line.
    ///
    /// # Errors
    /// Why it is passed over.
    pub(super) fn parse(text: &[u8]) -> Result<Self, String> {
        let fields: Map<String, Value> =
            serde_json::from_slice(text).map_err(|_| "is no JSON object".to_owned())?;
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let Some(event) = text("event") else { return Err("has no `event`".to_owned()) };
        let step = || {
            let id = text("step_id").filter(|id| !id.is_empty() && id.len() <= MAX_ID);
            let path = fields.get("execution_path").filter(|path| path.is_array());
            let path = path.map(Value::to_string).unwrap_or_default();
            id.map(|id| Step { id: id.to_owned(), path }).ok_or_else(|| "has no `step_id`".to_owned())
        };
        let error = || text("error").map(str::to_owned);
        let what = match event {
            "step_started" => {
                What::Started { step: step()?, kind: text("type").unwrap_or_default().to_owned() }
            }
            "step_completed" => What::Completed { step: step()?, outcome: outcome(text("status")) },
            "step_failed" => What::Failed { step: step()?, error: error() },
            "step_continue_on_error" => What::Continued { step: step()?, error: error() },
            "workflow_aborted" => What::Aborted { step: step()?, error: error() },
            "workflow_interrupted" => What::Interrupted,
            "workflow_finished" => What::Finished(outcome(text("status"))),
            "workflow_failed" | "resume_failed" => What::Broken { error: error() },
            _ => return Err("has an event that is not known".to_owned()),
        };
        Ok(Self { what, at: text("timestamp").and_then(|at| at.parse().ok()) })
    }
}

fn outcome(status: Option<&str>) -> Outcome {
    match status {
        Some("completed") => Outcome::Completed,
        Some("failed") => Outcome::Failed,
        Some("paused") => Outcome::Paused,
        Some("aborted") => Outcome::Aborted,
        _ => Outcome::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_the_engine_writes_them() {
        let step = |id: &str, path: &str| Step { id: id.to_owned(), path: path.to_owned() };
        for (text, what) in [
            (
                r#"{"event": "step_started", "step_id": "a", "type": "gate", "timestamp": "x"}"#,
                What::Started { step: step("a", ""), kind: "gate".to_owned() },
            ),
            (
                r#"{"event": "step_completed", "step_id": "a", "status": "paused",
                    "execution_path": [0, "workflow", 1], "workflow_id": "inner"}"#,
                What::Completed { step: step("a", "[0,\"workflow\",1]"), outcome: Outcome::Paused },
            ),
            (
                r#"{"event": "step_failed", "step_id": "a", "error": "e"}"#,
                What::Failed { step: step("a", ""), error: Some("e".to_owned()) },
            ),
            (
                r#"{"event": "workflow_aborted", "step_id": "a"}"#,
                What::Aborted { step: step("a", ""), error: None },
            ),
            (r#"{"event": "workflow_interrupted"}"#, What::Interrupted),
            (r#"{"event": "workflow_finished", "status": "new"}"#, What::Finished(Outcome::Other)),
            (r#"{"event": "resume_failed", "error": null}"#, What::Broken { error: None }),
        ] {
            assert_eq!(Line::parse(text.as_bytes()).map(|line| (line.what, line.at)), Ok((what, None)));
        }
        for text in ["", "{", "[]", "{}", r#"{"event": "step_started"}"#, r#"{"event": "new"}"#, "\u{0}"] {
            assert!(Line::parse(text.as_bytes()).is_err(), "{text}");
        }
        let at = r#"{"event": "workflow_interrupted", "timestamp": "2026-11-28T09:30:11.020786+00:00"}"#;
        let at = Line::parse(at.as_bytes()).unwrap().at.unwrap();
        assert_eq!(at.to_string(), "2026-11-28T09:30:11.020786Z");
    }

    #[test]
    fn the_id_in_the_workflow_of_a_step_that_runs_more_than_once() {
        for (id, base) in
            [("plan", "plan"), ("loop:plan:1", "plan"), ("o:loop:1:plan:2", "plan"), ("a:b", "a:b")]
        {
            assert_eq!(Step { id: id.to_owned(), path: String::new() }.base(), base);
        }
    }
}
