//! An event as a message of a Slack incoming webhook.
//!
//! Slack's documented limits for Block Kit: a header 150 characters, a section's text 3,000, a
//! field 2,000, 10 fields, 50 blocks. The colour is that of an attachment, because blocks have
//! none.

use serde_json::{Value, json};

use super::Format;
use super::place::{Place, Service};
use crate::payload::answer::{Rejection, is_too_much, rejection, said};
use crate::payload::cut::{Spelling, bullet, bullet_code, utf16};
use crate::payload::summary::Summary;

const HEADER: usize = 150;
const SECTION: usize = 3000;
const FIELD: usize = 1000;
const ITEMS: usize = 15;

const TEXT: Spelling = Spelling { escape: entity, width: utf16 };
const CODE: Spelling = Spelling { escape: entity_in_code, width: utf16 };

/// The message.
pub(super) fn message(summary: &Summary) -> Value {
    let mut attachment = json!({"blocks": details(summary)});
    if let Some(colour) = summary.tone.hex() {
        attachment["color"] = colour.into();
    }
    let headline = TEXT.fit(&summary.headline, HEADER);
    json!({
        "text": headline,
        "blocks": [{"type": "header", "text": plain(&headline)}],
        "attachments": [attachment],
    })
}

fn details(summary: &Summary) -> Vec<Value> {
    let fact = |(name, value): &(&str, String)| plain(&format!("{name}: {}", TEXT.fit(value, FIELD)));
    let facts: Vec<Value> = summary.facts.iter().map(fact).collect();
    let mut blocks = vec![json!({"type": "section", "fields": facts})];
    for (name, items) in &summary.lists {
        let lines = TEXT.lines(items, ITEMS, SECTION, bullet).join("\n");
        blocks.push(section(&markup(&format!("*{name}*"))));
        blocks.push(section(&plain(&lines)));
    }
    let lines = CODE.lines(&summary.evidence, ITEMS, SECTION - "*Evidence*\n".len(), bullet_code).join("\n");
    if !lines.is_empty() {
        blocks.push(section(&markup(&format!("*Evidence*\n{lines}"))));
    }
    blocks
}

fn section(text: &Value) -> Value {
    json!({"type": "section", "text": text})
}

/// Text in which Slack interprets no markup.
fn plain(text: &str) -> Value {
    json!({"type": "plain_text", "text": text, "emoji": false})
}

/// Text with Slack's markup; `verbatim` prevents Slack from turning text into links.
fn markup(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// Escapes the three characters that Slack interprets in every text: mentions, links and entities
/// begin with them.
fn entity(c: char, to: &mut String) {
    match c {
        '&' => to.push_str("&amp;"),
        '<' => to.push_str("&lt;"),
        '>' => to.push_str("&gt;"),
        c => to.push(c),
    }
}

/// Like [`entity`]; a backtick would end the code.
fn entity_in_code(c: char, to: &mut String) {
    entity(if c == '`' { '\'' } else { c }, to);
}

/// Recognises Slack's hosts.
pub(super) fn service(place: &Place<'_>) -> Option<Service> {
    match (place.host, &place.segments[..]) {
        ("hooks.slack.com" | "hooks.slack-gov.com", ["triggers" | "workflows", ..]) => {
            let note = "; the workflow gets the message as its variable `text` and nothing else of it: \
                        an incoming webhook's URL (/services/…) shows all";
            Some(Service { name: "a Slack workflow", format: Format::Slack, note })
        }
        ("hooks.slack.com" | "hooks.slack-gov.com", _) => Service::named("Slack", Format::Slack),
        _ => None,
    }
}

/// Messages by which Slack says that it cannot take one at present (from Slack's page on errors of
/// incoming webhooks, and those of its API).
const SLACK_PASSES: [&str; 6] = [
    "fatal_error",
    "internal_error",
    "request_timeout",
    "rollup_error",
    "service_unavailable",
    "team_added_to_org",
];

/// The refusal in a 2xx answer: anything but `ok`.
pub(super) fn refusal(body: &str) -> Option<Rejection> {
    let word = match said(body) {
        Some(Ok(())) => return None,
        Some(Err(word)) => word,
        None if body == "ok" => return None,
        None if body.is_empty() => "no answer \"ok\"".to_owned(),
        None => body.to_owned(),
    };
    Some(rejection(&word, SLACK_PASSES.contains(&word.as_str()) || is_too_much(&word)))
}
