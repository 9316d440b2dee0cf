//! An event as a message of a Mattermost incoming webhook, in Slack's older form: a text and one
//! attachment. Rocket.Chat and Zulip accept the same.
//!
//! Limits of a message in characters: Mattermost 16,383, Zulip 10,000, Rocket.Chat 5,000 by
//! default. The parts below add up to less.

use serde_json::{Value, json};

use super::Format;
use super::place::{Place, Service};
use crate::payload::answer::{Rejection, is_too_much, rejection, said};
use crate::payload::cut::{Spelling, utf16};
use crate::payload::markdown::Markdown;
use crate::payload::summary::Summary;

const HEADLINE: usize = 300;

const MARKDOWN: Markdown = Markdown {
    text: Spelling { escape: inert, width: utf16 },
    // For places without markup: code, and the fallback text of a notification.
    code: Spelling { escape: inert_in_code, width: utf16 },
    lists: 2200,
    between: "\n\n",
    evidence: 900,
    field: |name, value, short| json!({"title": name, "value": value, "short": short}),
};

/// The message.
pub(super) fn message(summary: &Summary) -> Value {
    let mut attachment = json!({
        "fallback": MARKDOWN.code.fit(&summary.headline, HEADLINE),
        "fields": MARKDOWN.fields(summary),
    });
    let lists = MARKDOWN.lists(summary);
    if !lists.is_empty() {
        attachment["text"] = lists.into();
    }
    if let Some(colour) = summary.tone.hex() {
        attachment["color"] = colour.into();
    }
    let headline = MARKDOWN.text.fit(&summary.headline, HEADLINE);
    json!({"text": format!("**{headline}**"), "attachments": [attachment]})
}

/// Escapes markup, mentions, emoji names and links. Some services show a backslash before `@` and
/// `:`, so these are broken by a zero-width space instead.
fn inert(c: char, to: &mut String) {
    if "\\`*_[]()#~|>!".contains(c) {
        to.push('\\');
    }
    to.push(c);
    if matches!(c, '@' | ':') {
        to.push('\u{200b}');
    }
}

/// A backtick would end the code. Some services find mentions in code too, so `@` is broken.
fn inert_in_code(c: char, to: &mut String) {
    to.push(if c == '`' { '\'' } else { c });
    if c == '@' {
        to.push('\u{200b}');
    }
}

/// Recognises self-hosted services by their paths.
pub(super) fn service(place: &Place<'_>) -> Option<Service> {
    match place.segments[..] {
        ["hooks", id] | [.., "hooks", id] if is_mattermost_id(id) => {
            Service::named("Mattermost", Format::Mattermost)
        }
        ["hooks", id, token] if is_rocket_chat(id, token) => {
            Service::named("Rocket.Chat", Format::Mattermost)
        }
        ["api", "v1", "external", "slack_incoming"] => Service::named("Zulip", Format::Mattermost),
        _ => None,
    }
}

/// Whether this is a Mattermost id: 26 characters of its base 32.
fn is_mattermost_id(id: &str) -> bool {
    id.len() == 26 && id.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Whether this is a Rocket.Chat id (MongoDB's, or its own) and a longer token.
fn is_rocket_chat(id: &str, token: &str) -> bool {
    let is_random = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    matches!(id.len(), 17 | 24) && token.len() >= 40 && is_random(id) && is_random(token)
}

/// The refusal in a 2xx answer of Mattermost or a compatible service.
pub(super) fn refusal(body: &str) -> Option<Rejection> {
    said(body)?.err().map(|word| rejection(&word, is_too_much(&word)))
}
