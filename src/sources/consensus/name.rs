//! How consensus files are named.

use std::path::Path;

use jiff::Timestamp;

use super::super::session::time_of_session;
use crate::event::Stage;

/// What a consensus file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The verdict in the host's word, the points, the agents.
    Synthesis,
    /// Which run of the agents it was, and when it was exported.
    Verdict,
    /// The agents.
    Telemetry,
}

const PARTS: [(&str, Part); 3] =
    [("synthesis", Part::Synthesis), ("verdict", Part::Verdict), ("telemetry", Part::Telemetry)];

/// What a consensus file's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) stage: Stage,
    pub(crate) part: Part,
    /// What tells it from others of its stage.
    pub(super) session: Option<String>,
}

impl Named {
    /// What the name of a file says in the folder of its SPEC: `spec-<stage>[_<session>]_<part>`,
    /// `<stage>_<part>` or `<SPEC-ID>_<stage>_<part>[_<time>]`. Agents' outputs are none.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?;
        let lines = name.strip_suffix(".jsonl");
        let stem = lines.or_else(|| name.strip_suffix(".json"))?;
        let of_spec = folder_of_spec(path).and_then(|spec| stem.strip_prefix(spec)?.strip_prefix('_'));
        let (stage, rest) = of_spec.unwrap_or(stem).split_once('_')?;
        let stage = Stage::of_guardrail(stage.strip_prefix("spec-").unwrap_or(stage))?;
        let (part, session) = PARTS.iter().find_map(|(word, part)| {
            if rest == *word {
                return Some((*part, None));
            }
            let before = rest.strip_suffix(word).and_then(|rest| rest.strip_suffix('_'));
            let after = || rest.strip_prefix(word).and_then(|rest| rest.strip_prefix('_'));
            let session = before.or_else(after).filter(|session| !session.is_empty())?;
            Some((*part, Some(session.to_owned())))
        })?;
        (lines.is_none() || part == Part::Telemetry).then_some(Self { stage, part, session })
    }

    /// When it was written, as its name says it in UTC: hosts also write their local time there.
    pub(super) fn at(&self) -> Option<Timestamp> {
        self.session.as_deref().and_then(time_of_session)
    }
}

/// The name of the folder that is a SPEC's: `consensus/<SPEC-ID>/` or
/// `<SPEC-ID>/evidence/consensus/`.
pub(crate) fn folder_of_spec(path: &Path) -> Option<&str> {
    let above: Vec<&str> =
        path.ancestors().skip(1).take(3).filter_map(|folder| folder.file_name()?.to_str()).collect();
    match above.as_slice() {
        ["consensus", "evidence", spec] => Some(spec),
        [spec, "consensus", ..] => Some(spec),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_name_and_no_agents_output() {
        use Part::{Synthesis, Telemetry, Verdict};
        use Stage::{Audit, Plan};
        let session = |text: &str| Some(text.to_owned());
        for (name, stage, part, expected) in [
            ("spec-plan_synthesis.json", Plan, Synthesis, None),
            (
                "spec-plan_2025-10-06T00:00:00Z_synthesis.json",
                Plan,
                Synthesis,
                session("2025-10-06T00:00:00Z"),
            ),
            ("spec-audit_run-7_verdict.json", Audit, Verdict, session("run-7")),
            ("spec-plan_a_telemetry.jsonl", Plan, Telemetry, session("a")),
            ("plan_synthesis.json", Plan, Synthesis, None),
            ("audit_verdict.json", Audit, Verdict, None),
            ("SPEC-KIT-900_plan_synthesis_20251101_101500.json", Plan, Synthesis, session("20251101_101500")),
            (
                "SPEC-KIT-900_spec-plan_synthesis_20251101_101500.json",
                Plan,
                Synthesis,
                session("20251101_101500"),
            ),
            ("SPEC-KIT-900_spec-plan_verdict.json", Plan, Verdict, None),
        ] {
            for folder in ["ev/consensus/SPEC-KIT-900", "docs/SPEC-KIT-900/evidence/consensus"] {
                let named = Named::of(&Path::new(folder).join(name)).unwrap();
                assert_eq!(
                    (named.stage, named.part, named.session),
                    (stage, part, expected.clone()),
                    "{name}"
                );
            }
        }
        for none in [
            "spec-plan_2025-10-06T00:00:00Z_claude.json",
            "plan_synthesis.jsonl",
            "deploy_synthesis.json",
            "SPEC-KIT-901_plan_synthesis_1.json",
            "SPEC-KIT-900_quality-gate-pre-plan_20251101_101500.json",
            "plan_synthesis.json.tmp",
            "synthesis.json",
        ] {
            assert_eq!(Named::of(&Path::new("ev/consensus/SPEC-KIT-900").join(none)), None, "{none}");
        }
    }
}
