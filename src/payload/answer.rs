//! Reads what a chat service says in its answer besides the status.

use serde_json::{Map, Value};

use crate::names::printable;

/// Most characters of a service's message that are kept.
pub(super) const WORD: usize = 120;

/// The parts of an answer that can hold a service's message.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The body; `None` if it cannot be decoded.
    pub body: Option<&'a str>,
}

/// A failure that a service reports in the body of a 2xx answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rejection {
    /// The service's message.
    pub word: String,
    /// Whether another attempt may succeed.
    pub retry: bool,
    /// What to do about it.
    pub hint: &'static str,
}

/// What to do about a message that a service refuses, and about one that it cannot take at present.
const LOOK_UP: &str =
    "the service does not take this message: look up its word, and correct the subscription's url or format";
const WAIT: &str = "the service could not take it then: see its status page";

/// A rejection with the service's message.
pub(super) fn rejection(word: &str, retry: bool) -> Rejection {
    Rejection { word: printable(word, WORD), retry, hint: if retry { WAIT } else { LOOK_UP } }
}

/// Whether a message means that a rate limit was hit, so that a later attempt may succeed.
pub(super) fn is_too_much(word: &str) -> bool {
    let letters: String = word.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    ["ratelimit", "toomanyrequests", "throttl"].iter().any(|part| letters.contains(part))
}

/// Whether a body is a web page and not a service's message.
pub(super) fn is_page(content_type: Option<&str>, body: &str) -> bool {
    let is_html = content_type.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"));
    let beginning: String = body.chars().take(14).collect::<String>().to_ascii_lowercase();
    // Slack sends its `ok` with an HTML content type.
    beginning.starts_with("<!doctype html")
        || beginning.starts_with("<html")
        || (is_html && body.starts_with('<'))
}

/// The fields of a body that is a JSON object.
pub(super) fn object(body: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(body).ok()
}

/// Success or the reason of failure, as in Slack's API (`ok`), Rocket.Chat (`success`) or Zulip
/// (`result`). `None` if the body has none of these fields.
pub(super) fn said(body: &str) -> Option<Result<(), String>> {
    let answer = object(body)?;
    let is_well = match (answer.get("ok").or(answer.get("success")), answer.get("result")) {
        (Some(Value::Bool(is_well)), _) => *is_well,
        (None, Some(Value::String(result))) => result == "success",
        _ => return None,
    };
    let why = ["error", "code", "msg", "message"].iter().find_map(|name| answer.get(*name)?.as_str());
    Some(if is_well { Ok(()) } else { Err(why.unwrap_or(body).to_owned()) })
}
