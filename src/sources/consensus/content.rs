//! What a consensus file says: its verdict, its agents, which run of the agents it was and when.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::super::fields::text;
use super::agents;
use super::name::Part;
use crate::decode;
use crate::event::Consensus;
use crate::names::printable;

/// Longest id of a run of the agents that is kept, in characters.
const LONGEST_RUN: usize = 100;

/// The same of a time.
const LONGEST_TIME: usize = 64;

/// What one file says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Content {
    /// When it was reached, and that in its own word.
    pub(super) at: Option<(Timestamp, String)>,
    /// Which run of the agents it was.
    pub(super) run: Option<String>,
    pub(super) consensus: Consensus,
}

impl Content {
    /// Of a file's bytes; `None` where they are not what such a file holds. Of JSON Lines the last
    /// one counts.
    pub(super) fn of(part: Part, bytes: &[u8]) -> Option<Self> {
        if let Some(fields) = object(bytes) {
            return Some(Self::of_fields(&fields));
        }
        let text = decode::text(bytes);
        let mut lines = text.lines().rev().filter(|_| part == Part::Telemetry);
        lines.find_map(|line| object(line.as_bytes())).map(|fields| Self::of_fields(&fields))
    }

    fn of_fields(fields: &Map<String, Value>) -> Self {
        let inner = fields.get("consensus").and_then(Value::as_object);
        let mut consensus = embedded(inner.unwrap_or(fields));
        consensus.status = text(fields, "status").map(str::to_owned).or(consensus.status);
        for list in ["agents", "proposals"].into_iter().filter_map(|name| fields.get(name)) {
            if consensus.agents.is_empty() {
                consensus.agents = agents::in_fields(list);
            }
        }
        if let Some(markdown) = text(fields, "output_markdown").filter(|_| consensus.agents.is_empty()) {
            consensus.agents = agents::in_markdown(markdown);
        }
        let at = ["timestamp", "exported_at", "created_at"].into_iter().find_map(|name| text(fields, name));
        let run = ["run_id", "runId"].into_iter().find_map(|name| text(fields, name));
        Self {
            at: at.and_then(|at| Some((time(at)?, printable(at, LONGEST_TIME)))),
            run: run.map(|run| printable(run, LONGEST_RUN)).filter(|run| !run.is_empty()),
            consensus,
        }
    }
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
        agents: given.get("agents").map(agents::in_fields).unwrap_or_default(),
        extra,
    }
}

fn object(json: &[u8]) -> Option<Map<String, Value>> {
    match decode::json(json).ok()?.0 {
        Value::Object(fields) => Some(fields),
        _ => None,
    }
}

/// A time; one without a zone is SQLite's `CURRENT_TIMESTAMP`, which is UTC.
fn time(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| format!("{text}Z").parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn content(part: Part, fields: &Value) -> Content {
        Content::of(part, fields.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn a_verdict_names_the_run_and_its_time_and_a_synthesis_its_agents() {
        let verdict = json!({"spec_id": "SPEC-1", "stage": "plan", "proposals": [], "run_id": "run_1",
            "exported_at": "2025-12-26T23:16:03Z"});
        let found = content(Part::Verdict, &verdict);
        assert_eq!(found.run.as_deref(), Some("run_1"));
        assert_eq!(found.at.unwrap().1, "2025-12-26T23:16:03Z");
        assert_eq!(found.consensus, Consensus::default());
        let synthesis = json!({"output_markdown": "### gemini\n\n**model**:\ng-2.5\n", "status": "conflict",
            "agreements": null, "conflicts": ["a or b"], "created_at": "2026-01-01 10:05:00"});
        let found = content(Part::Synthesis, &synthesis);
        let at = ("2026-01-01T10:05:00Z".parse().unwrap(), "2026-01-01 10:05:00".to_owned());
        assert_eq!(found.at, Some(at));
        assert_eq!(found.consensus.status.as_deref(), Some("conflict"));
        assert_eq!(json!(found.consensus.agents), json!([{"agent": "gemini", "model": "g-2.5"}]));
        assert_eq!(json!(found.consensus.extra), json!({"conflicts": ["a or b"]}));
    }

    #[test]
    fn of_lines_the_last_counts_and_what_is_no_object_says_nothing() {
        let lines = b"{\"status\": \"ok\"}\n{\"status\": \"hold\"}\n{\"sta";
        let of = |part| Content::of(part, lines);
        assert_eq!(of(Part::Telemetry).unwrap().consensus.status.as_deref(), Some("hold"));
        assert_eq!(of(Part::Synthesis), None);
        for bytes in [&b""[..], b"[]", b"7", b"\xff\x00"] {
            assert_eq!(Content::of(Part::Telemetry, bytes), None);
        }
    }
}
