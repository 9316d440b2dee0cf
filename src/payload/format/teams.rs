//! An event as an Adaptive Card 1.4 for a Teams Workflows webhook.
//!
//! Teams accepts messages of 28 KB and has been observed to count them in UTF-16; a body of half as
//! many bytes of UTF-8 fits either way. Text is in `TextRun`s, which have no markup; the facts have
//! markup and are escaped.

use serde_json::{Value, json};

use super::Format;
use super::place::{Place, Service};
use crate::payload::answer::{Rejection, rejection};
use crate::payload::cut::{Spelling, bullet, verbatim};
use crate::payload::summary::{Summary, Tone};

/// Most bytes of a message; the parts below add up to less.
#[cfg(test)]
pub(crate) const MESSAGE: usize = 14_000;

const HEADLINE: usize = 400;
const VALUE: usize = 200;
/// Length of all lists together, without their names.
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

/// A block of one line. Takes the text by value to avoid a copy.
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

/// Escapes what the card's Markdown interprets.
fn backslashed(c: char, to: &mut String) {
    if "\\`*_[]()<>#!~|".contains(c) {
        to.push('\\');
    }
    to.push(c);
}

/// Bytes of a text within a JSON string. Summaries have no control characters, which would take
/// more.
fn json_bytes(text: &str) -> usize {
    text.len() + text.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

/// Recognises the hosts of Teams and of its Workflows.
pub(super) fn service(place: &Place<'_>) -> Option<Service> {
    if matches!(place.host, "outlook.office.com" | "outlook.office365.com")
        || place.is_below("webhook.office.com")
    {
        return Service::named("Teams", Format::Teams);
    }
    let is_flow = place.is_below("logic.azure.com") || place.is_below("environment.api.powerplatform.com");
    let note = "; or format = \"spec-kit\", where the workflow is one of your own";
    is_flow.then_some(Service { name: "a Teams workflow", format: Format::Teams, note })
}

/// Parts of messages by which Teams says that it cannot take one at present; Microsoft publishes no
/// list of them.
const TEAMS_PASSES: [&str; 6] =
    ["throttl", "too many requests", "toomanyrequests", "exception", "error contacting", "timed out"];

/// Parts of messages that mean a failure; a successful answer has none of them.
const TEAMS_FAILED: [&str; 6] = ["fail", "error", "denied", "unauthorized", "forbidden", "bad request"];

/// The refusal in a 2xx answer: Teams reports the status of the service behind it in the body.
pub(super) fn refusal(body: &str) -> Option<Rejection> {
    const ENDPOINT: &str = "Microsoft Teams endpoint returned HTTP error";
    let lower = body.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if !has(&TEAMS_FAILED) && !has(&TEAMS_PASSES) {
        return None;
    }
    let behind = body.split_once(ENDPOINT).map_or(body, |(_, behind)| behind);
    let words = behind.split(|c: char| !c.is_ascii_alphanumeric());
    let status = words.filter(|word| word.len() == 3).find_map(|word| word.parse::<u16>().ok());
    let passes = |status: u16| status == 408 || status == 429 || (500..600).contains(&status);
    Some(match status.filter(|_| body.contains(ENDPOINT)) {
        Some(status) => rejection(&format!("{ENDPOINT} {status}"), passes(status)),
        None => rejection(body, has(&TEAMS_PASSES) || status.is_some_and(passes)),
    })
}
