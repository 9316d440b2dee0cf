//! Costs: of a stage as its telemetry says it, and of a SPEC as the host sums it up.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// What a host says that a SPEC cost so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spent {
    pub(crate) total_usd: f64,
    pub(crate) budget_usd: Option<f64>,
    /// US dollars by stage.
    pub(crate) per_stage: Map<String, Value>,
    /// When it said so.
    pub(crate) at: Timestamp,
}

impl Spent {
    /// The payload's `cost`.
    pub(crate) fn told(&self, total_usd: f64) -> Value {
        let mut told = json!({"totalUsd": rounded(total_usd)});
        if let Some(budget) = self.budget_usd {
            told["budgetUsd"] = budget.into();
        }
        if !self.per_stage.is_empty() {
            told["perStage"] = Value::Object(self.per_stage.clone());
        }
        told
    }
}

/// The cost of a stage from its telemetry: the total, else the sum over the agents.
pub(crate) fn cost_in(telemetry: &Map<String, Value>) -> Option<f64> {
    let of = |fields: &Value| {
        ["totalUsd", "total_usd", "costUsd", "cost_usd"].iter().find_map(|name| fields.get(name)?.as_f64())
    };
    let whole = ["cost_usd", "costUsd"].iter().find_map(|name| telemetry.get(*name)?.as_f64());
    let whole = whole.or_else(|| of(telemetry.get("cost")?));
    let agents = || {
        let agents = telemetry.get("consensus")?.get("agents")?.as_array()?;
        agents.iter().filter_map(of).reduce(|sum, cost| sum + cost)
    };
    whole.or_else(agents).filter(|cost| cost.is_finite() && *cost >= 0.0)
}

/// Rounded to a hundredth of a cent, because sums of decimals have rounding errors.
pub(super) fn rounded(usd: f64) -> f64 {
    (usd * 10_000.0).round() / 10_000.0
}
