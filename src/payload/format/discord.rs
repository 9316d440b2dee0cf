//! An event as a message of a Discord webhook: the headline as its text, which phones show, and
//! one embed with the rest.
//!
//! Discord's documented limits: text 2,000, an embed's title 256, description 4,096, footer 2,048,
//! 6,000 in all. Discord counts code points (its API is Python 3); UTF-16 units are never fewer.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Value, json};

use super::Format;
use super::place::{Place, Service};
use crate::payload::answer::{Rejection, object, rejection};
use crate::payload::cut::{PLAIN, Spelling, broken, utf16};
use crate::payload::markdown::link;
use crate::payload::message::{Foot, Message, Of, Tone};

const CONTENT: usize = 500;
const TITLE: usize = 256;
const BODY: usize = 2600;
const PAGES: usize = 1300;
const FOOTER: usize = 500;

const TEXT: Spelling = Spelling { tame: uninviting, escape: backslashed, width: utf16 };

/// The message. `allowed_mentions` prevents every mention in it from notifying anyone but the
/// owner.
pub(super) fn message(message: &Message<'_>) -> Value {
    // Lock screens show this text as it is. Links in it would unfold a preview: the embed has
    // them.
    let mut content = TEXT.head(message, CONTENT, str::to_owned, |text, _| text.to_owned());
    let mut allowed = json!({"parse": []});
    if let Some(owner) = message.owner {
        content += &format!(" <@{owner}>");
        allowed["users"] = json!([owner]);
    }
    let mut lines = TEXT.body(message, BODY);
    let mut embed = json!({});
    if let Some(page) = &message.page {
        embed["title"] = TEXT.fit(&message.title, TITLE).into();
        embed["url"] = page.as_str().into();
    }
    // Discord itself says when a message was told.
    let mut message = message.clone();
    message.footer.retain(|foot| foot.of != Of::Time || message.time.is_none());
    // Its footers have no links.
    if message.links.is_empty() && message.footer.iter().all(|foot| foot.url.is_none()) {
        let footer = PLAIN.fit(&footer(&message.footer), FOOTER);
        if !footer.is_empty() {
            embed["footer"] = json!({"text": footer});
        }
    } else {
        lines.push(TEXT.last_line(&message, PAGES, link));
    }
    if !lines.is_empty() {
        embed["description"] = lines.join("\n").into();
    }
    let is_empty = embed.as_object().is_some_and(serde_json::Map::is_empty);
    if let Some(colour) = colour(message.tone) {
        embed["color"] = colour.into();
    }
    if let Some(time) = &message.time {
        embed["timestamp"] = time.as_str().into();
    }
    let embeds: Vec<Value> = if is_empty { Vec::new() } else { vec![embed] };
    json!({"content": content, "embeds": embeds, "allowed_mentions": allowed})
}

/// The footer, which has no markup.
fn footer(feet: &[Foot]) -> String {
    let parts = feet.iter().enumerate();
    parts.map(|(at, foot)| format!("{}{}", if at == 0 { "" } else { foot.before }, foot.text)).collect()
}

/// Whether this is the id of a user.
pub(super) fn is_owner(text: &str) -> bool {
    (15..=20).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn colour(tone: Tone) -> Option<u32> {
    match tone {
        Tone::Success => Some(0x2e_b6_7d),
        Tone::Failure => Some(0xe0_1e_5a),
        Tone::Halt => Some(0xec_b2_2e),
        Tone::Neutral => None,
    }
}

/// Discord makes cards of the addresses of invitations, also within text.
fn uninviting(text: &str) -> Cow<'_, str> {
    broken(text, &["discord.gg/", "discord.com/", "discordapp.com/"])
}

/// Escapes markup, mentions, emoji names and links. A colon before a space begins neither an
/// emoji's name nor an address.
fn backslashed(c: char, next: Option<char>, to: &mut String) {
    let is_inert = c == ':' && next == Some(' ');
    if "\\`*_~|<>#[]:@".contains(c) && !is_inert {
        to.push('\\');
    }
    to.push(c);
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
