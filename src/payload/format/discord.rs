//! An event as a message of a Discord webhook: one embed.
//!
//! Discord's documented limits: title 256, description 4,096, 25 fields, a field's name 256 and
//! value 1,024, 6,000 in all. Discord counts code points (its API is Python 3); UTF-16 units are
//! never fewer.

use serde_json::{Value, json};

use std::time::Duration;

use super::Format;
use super::place::{Place, Service};
use crate::payload::answer::{Rejection, object, rejection};
use crate::payload::cut::{Spelling, utf16};
use crate::payload::markdown::Markdown;
use crate::payload::summary::{Summary, Tone};

const TITLE: usize = 256;

const MARKDOWN: Markdown = Markdown {
    text: Spelling { escape: backslashed, width: utf16 },
    code: Spelling { escape: in_code, width: utf16 },
    lists: 3000,
    between: "\n",
    evidence: 1000,
    field: |name, value, inline| json!({"name": name, "value": value, "inline": inline}),
};

/// The message. `allowed_mentions` prevents every mention in it from notifying anyone.
pub(super) fn message(summary: &Summary) -> Value {
    let mut embed = json!({"title": MARKDOWN.text.fit(&summary.headline, TITLE)});
    let description = MARKDOWN.lists(summary);
    if !description.is_empty() {
        embed["description"] = description.into();
    }
    if let Some(colour) = colour(summary.tone) {
        embed["color"] = colour.into();
    }
    embed["fields"] = MARKDOWN.fields(summary).into();
    json!({"embeds": [embed], "allowed_mentions": {"parse": []}})
}

fn colour(tone: Tone) -> Option<u32> {
    match tone {
        Tone::Success => Some(0x2e_b6_7d),
        Tone::Failure => Some(0xe0_1e_5a),
        Tone::Halt => Some(0xec_b2_2e),
        Tone::Neutral => None,
    }
}

/// Escapes markup, mentions, emoji names and links.
fn backslashed(c: char, to: &mut String) {
    if "\\`*_~|<>#[]():@".contains(c) {
        to.push('\\');
    }
    to.push(c);
}

/// A backtick would end the code; nothing else has a meaning in it.
fn in_code(c: char, to: &mut String) {
    to.push(if c == '`' { '\'' } else { c });
}

/// Recognises Discord's hosts. Discord also accepts Slack's messages, on paths that end in
/// `/slack`.
pub(super) fn service(place: &Place<'_>) -> Option<Service> {
    if !matches!(place.host, "discord.com" | "discordapp.com" | "ptb.discord.com" | "canary.discord.com") {
        return None;
    }
    let is_slack = place.segments.last() == Some(&"slack");
    Service::named("Discord", if is_slack { Format::Slack } else { Format::Discord })
}

/// The pause that Discord asks for in the body.
pub(super) fn wait(body: &str) -> Option<Duration> {
    let seconds = object(body)?.get("retry_after")?.as_f64()?;
    // A number too large for a duration counts as the longest one.
    (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// The refusal in a 2xx answer: an object with a code and a message, and without an id.
pub(super) fn refusal(body: &str) -> Option<Rejection> {
    let answer = object(body)?;
    if answer.contains_key("id") {
        return None;
    }
    let message = answer.get("message")?;
    let message = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
    if answer.contains_key("retry_after") {
        return Some(rejection(&message, true));
    }
    let code = answer.get("code")?.as_number()?;
    Some(rejection(&format!("{code} {message}"), false))
}
