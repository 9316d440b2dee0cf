//! An event as a message of a Mattermost incoming webhook, in Slack's older form: a text and one
//! attachment. Rocket.Chat and Zulip take the same.
//!
//! Limits: Mattermost takes 16,383 characters of a message, Zulip 10,000, Rocket.Chat 5,000 as it
//! comes; the parts below add up to less.

use serde_json::{Value, json};

use super::cut::{Spelling, bullet, bullet_code, utf16};
use super::summary::Summary;

const HEADLINE: usize = 300;
const VALUE: usize = 120;
/// All lists together, without their names.
const LISTS: usize = 2200;
const LIST_ITEMS: usize = 12;
const EVIDENCE: usize = 900;
const EVIDENCE_ITEMS: usize = 5;

const TEXT: Spelling = Spelling { escape: inert, width: utf16 };
/// Where no markup is read: in code, and in a notification.
const CODE: Spelling = Spelling { escape: inert_in_code, width: utf16 };

/// The message.
pub(super) fn message(summary: &Summary) -> Value {
    let field = |name: &str, value: &str, short: bool| json!({"title": name, "value": value, "short": short});
    let facts = summary.facts.iter();
    let mut fields: Vec<Value> =
        facts.map(|(name, value)| field(name, &TEXT.fit(value, VALUE), true)).collect();
    let paths = CODE.lines(&summary.evidence, EVIDENCE_ITEMS, EVIDENCE, bullet_code);
    if !paths.is_empty() {
        fields.push(field("Evidence", &paths.join("\n"), false));
    }
    let mut attachment = json!({"fallback": CODE.fit(&summary.headline, HEADLINE), "fields": fields});
    let lists = lists(summary);
    if !lists.is_empty() {
        attachment["text"] = lists.into();
    }
    if let Some(colour) = summary.tone.hex() {
        attachment["color"] = colour.into();
    }
    json!({"text": format!("**{}**", TEXT.fit(&summary.headline, HEADLINE)), "attachments": [attachment]})
}

fn lists(summary: &Summary) -> String {
    let share = LISTS / summary.lists.len().max(1);
    let list = |(name, items): &(&str, Vec<String>)| {
        format!("**{name}**\n{}", TEXT.lines(items, LIST_ITEMS, share, bullet).join("\n"))
    };
    summary.lists.iter().map(list).collect::<Vec<_>>().join("\n\n")
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
