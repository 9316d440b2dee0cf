//! An event as a message of a Slack incoming webhook: a section and a line of context.
//!
//! Slack's documented limits: a section's text 3,000, and it refuses a message near 13,000 as a
//! whole. `text` is what notifications show. `expand` keeps Slack from folding the section.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::Format;
use super::place::{Place, Service};
use crate::payload::answer::{Rejection, is_too_much, rejection, said};
use crate::payload::cut::{Spelling, utf16};
use crate::payload::message::Message;

const HEADLINE: usize = 400;
const SECTION: usize = 3000;
const CONTEXT: usize = 2000;

const TEXT: Spelling = Spelling { tame: tamed, escape: entity, width: utf16 };

/// The message.
pub(super) fn message(message: &Message<'_>) -> Value {
    let head = TEXT.head(message, HEADLINE, |text| format!("*{text}*"), link);
    let lines = TEXT.body(message, SECTION - utf16(&head) - 1);
    let section = std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n");
    let mut blocks = vec![json!({"type": "section", "expand": true, "text": markup(&section)})];
    let owner = message.owner.map(|owner| format!("Owner: {}", mention(owner)));
    let footer = Some(TEXT.last_line(message, CONTEXT, link)).filter(|it| !it.is_empty());
    let context: Vec<String> = footer.into_iter().chain(owner).collect();
    if !context.is_empty() {
        blocks.push(json!({"type": "context", "elements": [markup(&context.join(" · "))]}));
    }
    // Previews of the linked pages would be longer than the message.
    json!({
        "text": TEXT.fit(&message.headline(), HEADLINE),
        "blocks": blocks,
        "unfurl_links": false,
        "unfurl_media": false,
    })
}

/// Text with Slack's markup; `verbatim` prevents Slack from turning text into links.
fn markup(text: &str) -> Value {
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

fn link(text: &str, url: &str) -> String {
    format!("<{}|{text}>", url.replace('&', "&amp;"))
}

/// How Slack calls somebody: a user's id, or a group's.
fn mention(owner: &str) -> String {
    if owner.starts_with('S') { format!("<!subteam^{owner}>") } else { format!("<@{owner}>") }
}

/// Whether this is the id of a user or of a group of users.
pub(super) fn is_owner(text: &str) -> bool {
    let is_id = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    text.starts_with(['U', 'W', 'S']) && (3..=24).contains(&text.len()) && text.bytes().all(is_id)
}

/// Slack has no escape for these: marks become signs that look alike, and names of emoji are
/// broken by a space without width. `_` within a word means nothing.
fn tamed(text: &str) -> Cow<'_, str> {
    if !text.contains(['*', '_', '~', '`', ':']) {
        return text.into();
    }
    let mut tame = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let (mut before, mut is_name) = (' ', false);
    while let Some(c) = chars.next() {
        let is_in_word =
            before.is_ascii_alphanumeric() && chars.peek().is_some_and(char::is_ascii_alphanumeric);
        match c {
            '*' => tame.push('∗'),
            '~' => tame.push('∼'),
            '`' => tame.push('\''),
            '_' if !is_in_word => tame.push('＿'),
            ':' if is_name && before != ':' => tame.push_str("\u{200b}:"),
            c => tame.push(c),
        }
        let is_of_name = c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '\'');
        is_name = c == ':' || is_name && is_of_name;
        before = c;
    }
    tame.into()
}

/// Escapes the three characters that Slack interprets in every text: mentions, links and entities
/// begin with them.
fn entity(c: char, _: Option<char>, to: &mut String) {
    match c {
        '&' => to.push_str("&amp;"),
        '<' => to.push_str("&lt;"),
        '>' => to.push_str("&gt;"),
        c => to.push(c),
    }
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
