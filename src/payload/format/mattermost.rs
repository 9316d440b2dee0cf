//! An event as a message of a Mattermost incoming webhook: a text in Markdown and nothing else,
//! which Rocket.Chat and Zulip show too.
//!
//! Limits of a message in characters: Mattermost 16,383, Zulip 10,000, Rocket.Chat 5,000 by
//! default. The parts below add up to less.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::Format;
use super::place::{Place, Service};
use crate::payload::answer::{Rejection, is_too_much, rejection, said};
use crate::payload::cut::{Spelling, broken, utf16};
use crate::payload::markdown::{bold, link};
use crate::payload::message::Message;

const HEADLINE: usize = 400;
const BODY: usize = 2000;
const FOOTER: usize = 1900;

const TEXT: Spelling = Spelling { tame: unlinked, escape: inert, width: utf16 };

/// The message.
pub(super) fn message(message: &Message<'_>) -> Value {
    let mut lines = vec![TEXT.head(message, HEADLINE, bold, link)];
    lines.extend(TEXT.body(message, BODY));
    let owner = message.owner.map(|owner| format!("Owner: @{owner}"));
    let footer = Some(TEXT.last_line(message, FOOTER, link)).filter(|it| !it.is_empty());
    let last: Vec<String> = footer.into_iter().chain(owner).collect();
    lines.extend((!last.is_empty()).then(|| last.join(" · ")));
    json!({"text": lines.join("\n")})
}

/// Whether this is the name of a user: one that calls a whole channel is not.
pub(super) fn is_owner(text: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    let is_everybody = matches!(text, "all" | "channel" | "here" | "everyone");
    (1..=64).contains(&text.len()) && text.bytes().all(is_of_name) && !is_everybody
}

/// What begins with `www.` is made a link.
fn unlinked(text: &str) -> Cow<'_, str> {
    broken(text, &["www."])
}

/// Escapes markup, mentions, emoji names and links. Some services show a backslash before `@` and
/// `:`, so these are broken by a zero-width space instead, where no space follows anyway.
fn inert(c: char, next: Option<char>, to: &mut String) {
    if "\\`*_[]#~|>!".contains(c) {
        to.push('\\');
    }
    to.push(c);
    if matches!(c, '@' | ':') && next != Some(' ') {
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
