//! An event as a message of a Mattermost incoming webhook, in Slack's older form: a text and one
//! attachment. Rocket.Chat and Zulip take the same.
//!
//! Limits: Mattermost takes 16,383 characters of a message, Zulip 10,000, Rocket.Chat 5,000 as it
//! comes; the parts below add up to less.

use serde_json::{Value, json};

use super::cut::{Spelling, utf16};
use super::markdown::Markdown;
use super::summary::Summary;

const HEADLINE: usize = 300;

const MARKDOWN: Markdown = Markdown {
    text: Spelling { escape: inert, width: utf16 },
    // Where no markup is read: in code, and in a notification.
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

/// Takes the meaning from markup, mentions, emoji names and addresses. A backslash is shown where
/// the service knows no such escape: what begins with these two is broken by a space without
/// width.
fn inert(c: char, to: &mut String) {
    if "\\`*_[]()#~|>!".contains(c) {
        to.push('\\');
    }
    to.push(c);
    if matches!(c, '@' | ':') {
        to.push('\u{200b}');
    }
}

/// Code cannot hold a backtick; a mention in it is looked for by some.
fn inert_in_code(c: char, to: &mut String) {
    to.push(if c == '`' { '\'' } else { c });
    if c == '@' {
        to.push('\u{200b}');
    }
}
