//! Who took part in a consensus: as fields, or in the text that a host writes for people.

use serde_json::{Map, Value};

use super::super::fields::{filled, text};
use crate::names::printable;

/// Most agents that are read out of a text, and most characters of a value.
const MOST: usize = 32;
const LONGEST: usize = 200;

/// What is told of an agent, and how hosts name it.
const FIELDS: [(&str, &[&str]); 4] = [
    ("agent", &["agent", "agent_name"]),
    ("model", &["model", "model_id"]),
    ("model_release", &["model_release"]),
    ("reasoning_mode", &["reasoning_mode"]),
];

/// Agents as a list, or as an object whose lists name those that took part (`active`).
pub(super) fn in_fields(given: &Value) -> Vec<Map<String, Value>> {
    let list = given.as_array().or_else(|| given.get("active")?.as_array());
    let kept = |agent: &Map<String, Value>| {
        let value = |(name, given): &(&str, &[&str])| {
            let value = given.iter().find_map(|given| text(agent, given))?;
            Some(((*name).to_owned(), Value::from(value)))
        };
        FIELDS.iter().filter_map(value).collect::<Map<_, _>>()
    };
    let agents = list.into_iter().flatten().filter_map(Value::as_object).map(kept);
    agents.filter(|agent| !agent.is_empty()).collect()
}

/// Agents in the Markdown of a synthesis: a block `### <agent>` for each, in which `**model**:`
/// and its like stand before their values, on the same line or the next that is not empty. A block
/// without a model is no agent's.
pub(super) fn in_markdown(markdown: &str) -> Vec<Map<String, Value>> {
    let mut agents: Vec<Map<String, Value>> = Vec::new();
    let mut wanted: Option<&str> = None;
    for line in markdown.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let value = match (line.strip_prefix("### "), field(line)) {
            (Some(agent), _) if agents.len() < MOST => {
                agents.push(Map::new());
                wanted = Some("agent");
                agent
            }
            (Some(_), _) => break,
            (None, Some((name, value))) => {
                wanted = FIELDS.iter().map(|(known, _)| *known).find(|known| *known == name);
                value
            }
            (None, None) => line,
        };
        if let (Some(name), Some(agent)) = (wanted, agents.last_mut())
            && !value.is_empty()
        {
            if let Some(value) = filled(&value.into()) {
                agent.entry(name).or_insert_with(|| printable(value, LONGEST).into());
            }
            wanted = None;
        }
    }
    agents.retain(|agent| agent.contains_key("model"));
    agents
}

/// `**name**: value`; the value may be on a later line.
fn field(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.strip_prefix("**")?.split_once("**")?;
    Some((name.trim_end_matches(':'), value.trim_start_matches(':').trim()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn agents_stand_in_the_text_that_is_written_for_people() {
        let text = "# Plan: SPEC-1\n\n**Stage**: Plan\n**Agents**: 2\n\n## Agent Responses (Raw)\n\n\
            ### gemini\n\n**stage**:\nspec-plan\n\n**model**:\ngemini-2.5-pro\n\n**model_release**:\n\
            2025-05-14\n\n**reasoning_mode**:\nthinking\n\n**notes**:\n- { \"model\": \"no\" }\n\n\
            ### claude\n**model**: claude-4.5\n**model**: another\n**reasoning_mode**: ${mode}\n\n\
            ### Summary\n\nAll agents agree.\n";
        let expected = json!([
            {"agent": "gemini", "model": "gemini-2.5-pro", "model_release": "2025-05-14",
                "reasoning_mode": "thinking"},
            {"agent": "claude", "model": "claude-4.5"},
        ]);
        assert_eq!(json!(in_markdown(text)), expected);
        for none in ["", "### gemini", "**model**:\nx", "### a\n**model**:", "### a\n\n### b\n**Model**: x"] {
            assert_eq!(in_markdown(none), Vec::<Map<_, _>>::new(), "{none}");
        }
        assert_eq!(in_markdown(&"### a\n**model**: b\n".repeat(100)).len(), MOST);
    }
}
