//! The parts that messages of Discord and Mattermost share: lists under bold names, and facts as
//! fields.

use serde_json::Value;

use super::cut::{Spelling, bullet, bullet_code};
use super::summary::Summary;

const VALUE: usize = 120;
const LIST_ITEMS: usize = 12;
const EVIDENCE_ITEMS: usize = 5;

/// How a service formats these parts.
pub(super) struct Markdown {
    pub(super) text: Spelling,
    pub(super) code: Spelling,
    /// Length of all lists together, without their names.
    pub(super) lists: usize,
    /// The text between two lists.
    pub(super) between: &'static str,
    /// Length of all evidence paths together.
    pub(super) evidence: usize,
    /// Builds a field from its name, its value, and whether others may be beside it.
    pub(super) field: fn(&str, &str, bool) -> Value,
}

impl Markdown {
    /// Each list under its name; empty if there are no lists.
    pub(super) fn lists(&self, summary: &Summary) -> String {
        let share = self.lists / summary.lists.len().max(1);
        let list = |(name, items): &(&str, Vec<String>)| {
            format!("**{name}**\n{}", self.text.lines(items, LIST_ITEMS, share, bullet).join("\n"))
        };
        summary.lists.iter().map(list).collect::<Vec<_>>().join(self.between)
    }

    /// The facts, then the evidence paths.
    pub(super) fn fields(&self, summary: &Summary) -> Vec<Value> {
        let facts = summary.facts.iter();
        let mut fields: Vec<Value> =
            facts.map(|(name, value)| (self.field)(name, &self.text.fit(value, VALUE), true)).collect();
        let paths = self.code.lines(&summary.evidence, EVIDENCE_ITEMS, self.evidence, bullet_code);
        if !paths.is_empty() {
            fields.push((self.field)("Evidence", &paths.join("\n"), false));
        }
        fields
    }
}
