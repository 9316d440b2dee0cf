//! An event as an Adaptive Card 1.4 for a Teams Workflows webhook.
//!
//! Teams takes messages of 28 KB and is seen to count them in UTF-16, so a body of half as many
//! bytes of UTF-8 fits either way. Text stands in `TextRun`s, in which nothing is markup; the
//! facts, which have markup, are escaped.

use serde_json::{Value, json};

use super::cut::{Spelling, bullet, verbatim};
use super::summary::{Summary, Tone};

/// Most bytes of a message; the parts below add up to less.
#[cfg(test)]
pub(super) const MESSAGE: usize = 14_000;

const HEADLINE: usize = 400;
const VALUE: usize = 200;
/// All lists together, without their names.
const LISTS: usize = 4500;
const LIST_ITEMS: usize = 8;
const EVIDENCE: usize = 1500;

const TEXT: Spelling = Spelling { escape: verbatim, width: json_bytes };
const FACT: Spelling = Spelling { escape: backslashed, width: json_bytes };

/// The message.
pub(super) fn message(summary: &Summary) -> Value {
    json!({
        "type": "message",
        "attachments": [{
            "contentType": "application/vnd.microsoft.card.adaptive",
            "content": {
                "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                "type": "AdaptiveCard",
                "version": "1.4",
                "body": body(summary),
            },
        }],
    })
}

fn body(summary: &Summary) -> Vec<Value> {
    let mut body = vec![headline(summary), facts(summary)];
    let share = LISTS / summary.lists.len().max(1);
    for (name, items) in &summary.lists {
        body.push(name_of_list(name));
        let lines = TEXT.lines(items, LIST_ITEMS, share, bullet);
        body.extend(lines.into_iter().map(|line| run(json!({"type": "TextRun", "text": line}))));
    }
    let paths = TEXT.lines(&summary.evidence, LIST_ITEMS, EVIDENCE, bullet);
    if !paths.is_empty() {
        body.push(name_of_list("Evidence"));
    }
    let path = |line: String| run(json!({"type": "TextRun", "text": line, "fontType": "Monospace"}));
    body.extend(paths.into_iter().map(path));
    body
}

fn headline(summary: &Summary) -> Value {
    let text = TEXT.fit(&summary.headline, HEADLINE);
    let colour = colour(summary.tone);
    run(json!({"type": "TextRun", "text": text, "size": "Large", "weight": "Bolder", "color": colour}))
}

fn facts(summary: &Summary) -> Value {
    let fact = |(name, value): &(&str, String)| json!({"title": name, "value": FACT.fit(value, VALUE)});
    json!({"type": "FactSet", "facts": summary.facts.iter().map(fact).collect::<Vec<_>>()})
}

fn name_of_list(name: &str) -> Value {
    run(json!({"type": "TextRun", "text": name, "weight": "Bolder"}))
}

/// A line of its own. The caller hands its only text over.
fn run(text: Value) -> Value {
    let mut block = json!({"type": "RichTextBlock"});
    block["inlines"] = Value::Array(vec![text]);
    block
}

fn colour(tone: Tone) -> &'static str {
    match tone {
        Tone::Success => "Good",
        Tone::Failure => "Attention",
        Tone::Halt => "Warning",
        Tone::Neutral => "Default",
    }
}

/// Takes the meaning from what the card's Markdown knows.
fn backslashed(c: char, to: &mut String) {
    if "\\`*_[]()<>#!~|".contains(c) {
        to.push('\\');
    }
    to.push(c);
}

/// Bytes of a text within a JSON string. Summaries have no control characters, which take more.
fn json_bytes(text: &str) -> usize {
    text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}
