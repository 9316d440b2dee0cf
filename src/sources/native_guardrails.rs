//! Native guardrails: `guardrail-<stage>-<time>_<pid>.json`, beside the bash ones or in
//! `docs/<SPEC-ID>/evidence/`. `success` is the host's verdict. `sessionId` is only a process id,
//! so the time stands in the key beside it.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::fields::{filled, text};
use super::place::Level;
use super::telemetry::{Guardrail, Named};
use crate::event::Stage;
use crate::names::printable;

/// Reasons that are told; the telemetry has them all.
const MAX_REASONS: usize = 20;

pub(super) static SOURCE: Guardrail = Guardrail {
    name: "native guardrails",
    pattern: "guardrail-<stage>-<time>_<pid>.json",
    commands: &["guardrail."],
    is_before_agents: true,
    places: |repo| repo.places(("commands", &[Level::Spec]), &[Level::Spec, Level::Named("evidence")]),
    named: |stem| {
        let (stage, rest) = stem.strip_prefix("guardrail-")?.split_once('-')?;
        let at = rest.split_once('_').and_then(|(time, _)| time_in_a_name(time));
        Some(Named {
            stage: Stage::of_guardrail(stage)?,
            session: rest.to_owned(),
            at,
            is_of_an_agent: false,
        })
    },
    session: |fields, in_name| {
        // As the host writes time and process into the name, however broken the content is.
        let in_fields = || {
            let (session, at) = (text(fields, "sessionId")?, text(fields, "timestamp"));
            Some(at.map_or(session.to_owned(), |at| format!("{}_{session}", at.replace(':', "-"))))
        };
        in_name.map(str::to_owned).or_else(in_fields)
    },
    defect: |fields| match fields.get("success") {
        Some(Value::Bool(_)) => None,
        Some(_) => Some("`success` is neither true nor false".to_owned()),
        None => Some("required fields are missing or empty: success".to_owned()),
    },
    failures,
};

/// `2025-12-26T13-50-08Z`: a time whose colons a file's name cannot have.
fn time_in_a_name(name: &str) -> Option<Timestamp> {
    let (day, clock) = name.split_once('T')?;
    format!("{day}T{}", clock.replace('-', ":")).parse().ok()
}

/// The failed checks of a stage that the host does not count as passed, else its errors.
fn failures(_: Stage, fields: &Map<String, Value>) -> Vec<String> {
    if fields.get("success") == Some(&Value::Bool(true)) {
        return Vec::new();
    }
    let list = |name: &str| fields.get(name).and_then(Value::as_array).into_iter().flatten();
    let failed = list("checks").filter(|check| check.get("status").and_then(filled) == Some("failed"));
    let mut reasons: Vec<String> = failed
        .take(MAX_REASONS)
        .map(|check| {
            let part =
                |name: &str, most: usize| check.get(name).and_then(filled).map(|text| printable(text, most));
            let name = part("name", 80).unwrap_or_else(|| "a check".to_owned());
            part("message", 300)
                .map_or_else(|| format!("{name} failed"), |message| format!("{name}: {message}"))
        })
        .collect();
    if reasons.is_empty() {
        let errors = list("errors").filter_map(|error| filled(error.get("message").unwrap_or(error)));
        reasons.extend(errors.take(MAX_REASONS).map(|error| printable(error, 300)));
    }
    if reasons.is_empty() {
        reasons.push("the guardrail does not say why: `success` is false".to_owned());
    }
    reasons
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_has_its_stage_and_its_time() {
        let named = (SOURCE.named)("guardrail-validate-2025-12-26T14-41-13Z_462513").unwrap();
        let at: Timestamp = "2025-12-26T14:41:13Z".parse().unwrap();
        assert_eq!((named.stage, named.at), (Stage::Validate, Some(at)));
        assert_eq!(named.session, "2025-12-26T14-41-13Z_462513");
        for none in ["guardrail-plan", "guardrail-deploy-2025-12-26T14-41-13Z_1", "spec-plan_s", "guardrail-"]
        {
            assert!((SOURCE.named)(none).is_none(), "{none}");
        }
        assert_eq!((SOURCE.named)("guardrail-plan-x").unwrap().at, None);
    }

    #[test]
    fn success_decides_and_failed_checks_are_the_reasons() {
        let reasons = |fields: Value| failures(Stage::Audit, fields.as_object().unwrap());
        let checks = json!([{"name": "clean-tree", "status": "failed", "message": "1 change"},
            {"name": "files", "status": "passed", "message": "there"}, {"status": "failed"}]);
        assert_eq!(reasons(json!({"success": true, "checks": checks})), Vec::<String>::new());
        assert_eq!(
            reasons(json!({"success": false, "checks": checks})),
            ["clean-tree: 1 change", "a check failed"]
        );
        assert_eq!(
            reasons(json!({"success": false, "errors": ["no tree", {"message": "no file"}]})),
            ["no tree", "no file"]
        );
        assert_eq!(reasons(json!({"success": false, "checks": 7})).len(), 1);
    }
}
