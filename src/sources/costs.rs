//! What a SPEC cost: `<SPEC-ID>_cost_summary.json` with `total_spent`, `budget` and `per_stage`,
//! the host's own figures.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::place::{Level, Place, RepoPaths};
use super::stage;
use crate::decode;
use crate::digest::sha256;
use crate::event::{Event, EventKind, EvidencePaths, IdempotencyKey, SpecId, Stage};
use crate::files::open::{self, Links};
use crate::run::Spent;

const ENDING: &str = "_cost_summary.json";

/// Largest file that is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// Stages whose costs are told.
const MAX_STAGES: usize = 32;

/// Where the summaries lie.
pub(crate) fn places(repo: &RepoPaths<'_>) -> Vec<Place> {
    repo.places(("costs", &[]), &[Level::Spec, Level::Named("evidence"), Level::Named("costs")])
}

/// Whose summary a file is by its name.
pub(crate) fn spec_of(path: &Path) -> Option<SpecId> {
    path.file_name()?.to_str()?.strip_suffix(ENDING)?.parse().ok()
}

/// What a SPEC cost so far, by the newest of its summaries; `None` where there is none. Blocks.
pub(crate) fn of(spec: &SpecId, repo: &RepoPaths<'_>) -> Option<Spent> {
    let files = places(repo).into_iter().map(|place| place.folder_of(spec).join(format!("{spec}{ENDING}")));
    let summaries = files.filter_map(|file| read(&file).ok()?.spent);
    summaries.max_by_key(|spent| spent.at)
}

/// A summary as it was read.
pub(crate) struct Summary {
    /// What it says; `None` where it is no summary.
    pub(crate) spent: Option<Spent>,
    /// What stands in it, for comparison.
    pub(crate) content: [u8; 32],
}

/// What stands in a file. Blocks.
///
/// # Errors
/// It cannot be read now.
pub(crate) fn read(path: &Path) -> io::Result<Summary> {
    let bytes = open::start(path, Links::Refused, MAX_BYTES)?;
    let spent = decode::json(&bytes).ok().and_then(|(value, _)| spent(&value, stage::written(path)));
    Ok(Summary { spent, content: sha256(&bytes) })
}

fn spent(summary: &Value, at: Timestamp) -> Option<Spent> {
    let usd = |value: &Value| value.as_f64().filter(|usd| usd.is_finite() && *usd >= 0.0);
    let per_stage = summary.get("per_stage").and_then(Value::as_object).into_iter().flatten();
    let of_stage = |(name, cost): (&String, &Value)| {
        let stage: Stage = name.strip_prefix("spec-").unwrap_or(name).parse().ok()?;
        Some((stage.to_string(), usd(cost)?.into()))
    };
    Some(Spent {
        total_usd: usd(summary.get("total_spent")?)?,
        budget_usd: summary.get("budget").and_then(usd),
        per_stage: per_stage.filter_map(of_stage).take(MAX_STAGES).collect::<Map<_, _>>(),
        at,
    })
}

/// The event of a cost that reached the threshold. The Router knows which run of the SPEC it is,
/// and whether that was told already.
pub(crate) fn alert(spec: &SpecId, spent: &Spent, threshold_usd: f64, path: Option<&str>) -> Event {
    let key = IdempotencyKey::of_step(spec, "pipeline", 1, None);
    let mut event = Event::of_source(EventKind::CostThreshold, spec.clone(), key, spent.at);
    event.extra.insert("cost".to_owned(), spent.told(spent.total_usd));
    let hint = "look at what the run's stages cost so far, and stop it if that is not meant";
    let told = json!({"thresholdUsd": threshold_usd, "totalUsd": spent.total_usd, "hint": hint});
    event.extra.insert("anomaly".to_owned(), told);
    let paths = path.map(str::to_owned).into_iter().collect();
    event.evidence = Some(EvidencePaths { paths, extra: Map::new() });
    event
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_what_was_spent_and_nothing_else_is_one() {
        let at = Timestamp::UNIX_EPOCH;
        let given = json!({"spec_id": "SPEC-1", "total_spent": 12.5, "budget": 2.0, "call_count": 9,
            "per_stage": {"spec-plan": 12.0, "Tasks": 0.5, "deploy": 1.0, "audit": "x"}});
        let found = spent(&given, at).unwrap();
        let told = json!({"totalUsd": 12.5, "budgetUsd": 2.0, "perStage": {"Plan": 12.0, "Tasks": 0.5}});
        assert_eq!(found.told(found.total_usd), told);
        for none in [
            json!({}),
            json!([]),
            json!({"total_spent": null}),
            json!({"total_spent": -1}),
            json!({"total_spent": "1"}),
        ] {
            assert_eq!(spent(&none, at), None, "{none}");
        }
        let bare = spent(&json!({"total_spent": 0, "budget": -1, "per_stage": []}), at).unwrap();
        assert_eq!(bare.told(0.0), json!({"totalUsd": 0.0}));
    }

    #[test]
    fn a_file_is_of_the_spec_in_its_name() {
        let of = |name: &str| spec_of(Path::new(name)).map(|spec| spec.to_string());
        assert_eq!(of("costs/SPEC-KIT-900_cost_summary.json").as_deref(), Some("SPEC-KIT-900"));
        for none in [
            "_cost_summary.json",
            "SPEC-1_cost_summary.json.tmp",
            "cost_summary.json",
            "../_cost_summary.json",
        ] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
