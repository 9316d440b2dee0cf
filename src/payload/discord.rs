//! An event as a message of a Discord webhook: one embed.
//!
//! Limits as Discord documents them: title 256, description 4,096, 25 fields, a field's name 256
//! and value 1,024, all of it 6,000. Discord counts code points (its API is Python 3); UTF-16
//! units are never fewer.

use serde_json::{Value, json};

use super::cut::{Spelling, bullet, bullet_code, utf16};
use super::summary::{Summary, Tone};

const TITLE: usize = 256;
/// All lists together, without their names.
const LISTS: usize = 3000;
const LIST_ITEMS: usize = 12;
const VALUE: usize = 120;
const EVIDENCE: usize = 1000;
const EVIDENCE_ITEMS: usize = 5;

const TEXT: Spelling = Spelling { escape: backslashed, width: utf16 };
const CODE: Spelling = Spelling { escape: in_code, width: utf16 };

/// The message. `allowed_mentions` keeps every mention in it from notifying anybody.
pub(super) fn message(summary: &Summary) -> Value {
    let mut embed = json!({"title": TEXT.fit(&summary.headline, TITLE)});
    let description = description(summary);
    if !description.is_empty() {
        embed["description"] = description.into();
    }
    if let Some(colour) = colour(summary.tone) {
        embed["color"] = colour.into();
    }
    embed["fields"] = fields(summary).into();
    json!({"embeds": [embed], "allowed_mentions": {"parse": []}})
}

fn description(summary: &Summary) -> String {
    let share = LISTS / summary.lists.len().max(1);
    let list = |(name, items): &(&str, Vec<String>)| {
        format!("**{name}**\n{}", TEXT.lines(items, LIST_ITEMS, share, bullet).join("\n"))
    };
    summary.lists.iter().map(list).collect::<Vec<_>>().join("\n")
}

fn fields(summary: &Summary) -> Vec<Value> {
    let field =
        |name: &str, value: &str, inline: bool| json!({"name": name, "value": value, "inline": inline});
    let facts = summary.facts.iter();
    let mut fields: Vec<Value> =
        facts.map(|(name, value)| field(name, &TEXT.fit(value, VALUE), true)).collect();
    let paths = CODE.lines(&summary.evidence, EVIDENCE_ITEMS, EVIDENCE, bullet_code);
    if !paths.is_empty() {
        fields.push(field("Evidence", &paths.join("\n"), false));
    }
    fields
}

fn colour(tone: Tone) -> Option<u32> {
    match tone {
        Tone::Success => Some(0x2e_b6_7d),
        Tone::Failure => Some(0xe0_1e_5a),
        Tone::Halt => Some(0xec_b2_2e),
        Tone::Neutral => None,
    }
}

/// Takes the meaning from markup, mentions, emoji names and addresses.
fn backslashed(c: char, to: &mut String) {
    if "\\`*_~|<>#[]():@".contains(c) {
        to.push('\\');
    }
    to.push(c);
}

/// Code cannot hold a backtick; nothing else means anything in it.
fn in_code(c: char, to: &mut String) {
    to.push(if c == '`' { '\'' } else { c });
}
