//! Bash guardrails: `<evidence>/commands/<SPEC-ID>/spec-<stage>_<session>.json`, judged stage by
//! stage. Files named `spec-<stage>_<agent>_<session>.json` are agents' outputs.

use serde_json::{Map, Value};

use super::fields::{filled, text};
use super::place::{Level, Place};
use super::session::time_of_session;
use super::telemetry::{Guardrail, Named};
use crate::event::Stage;
use crate::names::printable;

pub(super) static SOURCE: Guardrail = Guardrail {
    name: "bash guardrails",
    pattern: "spec-<stage>_<session>.json",
    commands: &["spec-ops-", "spec-", "speckit."],
    is_before_agents: false,
    places: |repo| vec![Place { root: repo.evidence_dir.join("commands"), levels: &[Level::Spec] }],
    named: |stem| {
        let (stage, rest) = stem.strip_prefix("spec-")?.split_once('_')?;
        let at = time_of_session(rest);
        Some(Named {
            stage: Stage::of_guardrail(stage)?,
            session: rest.to_owned(),
            at,
            is_of_an_agent: rest.contains('_'),
        })
    },
    session: |fields, in_name| text(fields, "sessionId").or(in_name).map(str::to_owned),
    defect: |_| None,
    failures,
};

/// Why the guardrail does not count the stage as passed (`docs/reference/sources.md`); empty where
/// it does.
fn failures(stage: Stage, fields: &Map<String, Value>) -> Vec<String> {
    let mut reasons = Vec::new();
    let mut require = |name: &str, value: Option<&Value>, allowed: &[&str]| {
        let word = value.and_then(filled);
        if !word.is_some_and(|word| allowed.contains(&word)) {
            let is = match (word, value) {
                (Some(word), _) => format!("is {}", printable(word, 80)),
                (None, None) => "is missing".to_owned(),
                (None, Some(_)) => "is empty or not a text".to_owned(),
            };
            reasons.push(format!("{name} {is}, not {}", allowed.join(" or ")));
        }
    };
    let within = |outer: &str, inner: &str| fields.get(outer).and_then(|outer| outer.get(inner));
    match stage {
        Stage::Plan => {
            require("baseline.status", within("baseline", "status"), &["passed", "skipped"]);
            if let Some(hook) = within("hooks", "session.start") {
                require("hooks[\"session.start\"]", Some(hook), &["ok"]);
            }
        }
        Stage::Tasks => require("tool.status", within("tool", "status"), &["ok", "ready", "skipped"]),
        Stage::Implement => {
            require("lock_status", fields.get("lock_status"), &["locked"]);
            require("hook_status", fields.get("hook_status"), &["ok"]);
        }
        Stage::Unlock => require("unlock_status", fields.get("unlock_status"), &["unlocked"]),
        Stage::Validate | Stage::Audit => {
            let scenarios = fields.get("scenarios").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            for (at, scenario) in scenarios.iter().enumerate() {
                let name = scenario
                    .get("name")
                    .and_then(filled)
                    .map_or(format!("#{}", at + 1), |name| printable(name, 120));
                require(&format!("scenario `{name}`"), scenario.get("status"), &["passed", "skipped"]);
            }
            if scenarios.is_empty() {
                reasons.push("there is no scenario".to_owned());
            }
            let summary = within("hal", "summary");
            if summary.and_then(|summary| summary.get("status")).and_then(filled) == Some("failed") {
                let checks =
                    summary.and_then(|summary| summary.get("failed_checks")).and_then(Value::as_array);
                let checks: Vec<_> = checks
                    .into_iter()
                    .flatten()
                    .filter_map(filled)
                    .map(|check| printable(check, 80))
                    .collect();
                let which =
                    if checks.is_empty() { String::new() } else { format!(": {}", checks.join(", ")) };
                reasons.push(format!("hal.summary.status is failed{which}"));
            }
        }
        // Files of these are no guardrail's: see `Stage::of_guardrail`.
        Stage::Constitution
        | Stage::Specify
        | Stage::Clarify
        | Stage::Checklist
        | Stage::Analyze
        | Stage::Converge => reasons.push(format!("no guardrail judges {stage}")),
    }
    reasons
}
