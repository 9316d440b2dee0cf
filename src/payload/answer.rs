//! What a service says in its answer besides the status: that a 2xx is none, and how long it wants
//! to be left alone.

use std::time::Duration;

use serde_json::{Map, Value};

use super::Format;
use crate::names::printable;

/// Most characters of a service's word that are kept.
const WORD: usize = 120;

/// Words with which Slack says that it is not able to now (its page on errors of incoming
/// webhooks, and those of its API).
const SLACK_PASSES: [&str; 6] = [
    "fatal_error",
    "internal_error",
    "request_timeout",
    "rollup_error",
    "service_unavailable",
    "team_added_to_org",
];

/// Parts of words with which Teams says so; it has no list of them.
const TEAMS_PASSES: [&str; 6] =
    ["throttl", "too many requests", "toomanyrequests", "exception", "error contacting", "timed out"];

/// What no answer has that means yes.
const TEAMS_FAILED: [&str; 6] = ["fail", "error", "denied", "unauthorized", "forbidden", "bad request"];

/// What of an answer a service's word can stand in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// The body, `None` where it cannot be read.
    pub body: Option<&'a str>,
}

/// A service that answers 2xx and says in the body that it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// In its own word.
    pub word: String,
    /// Whether another attempt may fare better.
    pub retry: bool,
    /// What to do about it.
    pub hint: &'static str,
}

/// What to do about a message that a service does not take, and about one that it cannot.
const LOOK_UP: &str =
    "the service does not take this message: look up its word, and correct the subscription's url or format";
const WAIT: &str = "the service could not take it then: see its status page";

impl Format {
    /// How long the service asks in its body to be left alone; only Discord does.
    pub fn wait(self, answer: Answer<'_>) -> Option<Duration> {
        let Self::Discord = self else { return None };
        let seconds = object(answer.body?)?.get("retry_after")?.as_f64()?;
        // Infinite ones are as long as there are.
        (seconds >= 0.0).then(|| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
    }

    /// What the service refused with, if its answer has a 2xx status and says in its body that it
    /// failed.
    pub fn rejection(self, answer: Answer<'_>) -> Option<Rejection> {
        if !(200..300).contains(&answer.status) || matches!(self, Self::SpecKit | Self::CloudEvents) {
            return None;
        }
        let Some(body) = answer.body.map(str::trim) else {
            let hint = "have the service, or what stands before it, answer without compression";
            let word = "its answer cannot be read: it is compressed (Content-Encoding)".to_owned();
            return Some(Rejection { word, retry: false, hint });
        };
        if is_page(answer.content_type, body) {
            // Not from the service: a sign-in, a proxy's notice.
            let word = "a web page came back, and no word of the service".to_owned();
            let hint = "the url leads to a sign-in or a proxy's page: use one that programs can reach";
            return Some(Rejection { word, retry: true, hint });
        }
        match self {
            Self::SpecKit | Self::CloudEvents => None,
            Self::Slack => slack_rejection(body),
            Self::Discord => discord_rejection(body),
            Self::Teams => teams_rejection(body),
            Self::Mattermost => said(body)?.err().map(|word| rejection(&word, is_too_much(&word))),
        }
    }
}

fn rejection(word: &str, retry: bool) -> Rejection {
    Rejection { word: printable(word, WORD), retry, hint: if retry { WAIT } else { LOOK_UP } }
}

/// Whether a word says that too much came: not now, then.
fn is_too_much(word: &str) -> bool {
    let letters: String = word.to_lowercase().chars().filter(|c| c.is_ascii_alphanumeric()).collect();
    ["ratelimit", "toomanyrequests", "throttl"].iter().any(|part| letters.contains(part))
}

fn is_page(content_type: Option<&str>, body: &str) -> bool {
    let is_html = content_type.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("text/html"));
    let beginning: String = body.chars().take(14).collect::<String>().to_ascii_lowercase();
    // Slack sends its `ok` as HTML.
    beginning.starts_with("<!doctype html")
        || beginning.starts_with("<html")
        || (is_html && body.starts_with('<'))
}

fn object(body: &str) -> Option<Map<String, Value>> {
    serde_json::from_str(body).ok()
}

/// Yes or no, and why, in the way of Slack's API (`ok`), Rocket.Chat (`success`) or Zulip
/// (`result`).
fn said(body: &str) -> Option<Result<(), String>> {
    let answer = object(body)?;
    let is_well = match (answer.get("ok").or(answer.get("success")), answer.get("result")) {
        (Some(Value::Bool(is_well)), _) => *is_well,
        (None, Some(Value::String(result))) => result == "success",
        _ => return None,
    };
    let why = ["error", "code", "msg", "message"].iter().find_map(|name| answer.get(*name)?.as_str());
    Some(if is_well { Ok(()) } else { Err(why.unwrap_or(body).to_owned()) })
}

fn slack_rejection(body: &str) -> Option<Rejection> {
    let word = match said(body) {
        Some(Ok(())) => return None,
        Some(Err(word)) => word,
        None if body == "ok" => return None,
        None if body.is_empty() => "no answer \"ok\"".to_owned(),
        None => body.to_owned(),
    };
    Some(rejection(&word, SLACK_PASSES.contains(&word.as_str()) || is_too_much(&word)))
}

fn discord_rejection(body: &str) -> Option<Rejection> {
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

fn teams_rejection(body: &str) -> Option<Rejection> {
    const ENDPOINT: &str = "Microsoft Teams endpoint returned HTTP error";
    let lower = body.to_lowercase();
    let has = |parts: &[&str]| parts.iter().any(|part| lower.contains(part));
    if !has(&TEAMS_FAILED) && !has(&TEAMS_PASSES) {
        return None;
    }
    let behind = body.split_once(ENDPOINT).map_or(body, |(_, behind)| behind);
    let words = behind.split(|c: char| !c.is_ascii_alphanumeric());
    let status = words.filter(|word| word.len() == 3).find_map(|word| word.parse::<u16>().ok());
    let passes = |status: u16| status == 408 || status == 429 || (500..600).contains(&status);
    Some(match status.filter(|_| body.contains(ENDPOINT)) {
        Some(status) => rejection(&format!("{ENDPOINT} {status}"), passes(status)),
        None => rejection(body, has(&TEAMS_PASSES) || status.is_some_and(passes)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(format: Format, status: u16, content_type: &str, body: &str) -> Option<Rejection> {
        let content_type = Some(content_type);
        format.rejection(Answer { status, content_type, body: Some(body) })
    }

    fn word(format: Format, status: u16, body: &str) -> Option<(String, bool)> {
        rejected(format, status, "text/plain", body).map(|rejection| (rejection.word, rejection.retry))
    }

    #[test]
    fn slack_says_ok_or_why_not() {
        for fine in
            ["ok", " ok\r\n", r#"{"ok":true}"#, r#"{"success":true}"#, r#"{"result":"success","msg":""}"#]
        {
            assert_eq!(word(Format::Slack, 200, fine), None, "{fine}");
        }
        assert_eq!(word(Format::Slack, 200, "no_service"), Some(("no_service".to_owned(), false)));
        assert_eq!(word(Format::Slack, 200, "rate_limited"), Some(("rate_limited".to_owned(), true)));
        let answer = r#"{"ok":false,"error":"ratelimited"}"#;
        assert_eq!(word(Format::Slack, 200, answer), Some(("ratelimited".to_owned(), true)));
        assert_eq!(word(Format::Slack, 200, ""), Some(("no answer \"ok\"".to_owned(), false)));
        assert_eq!(word(Format::Slack, 404, "no_service"), None, "the status says it");
        let (long, _) = word(Format::Slack, 200, &"\u{1b}[2Jx".repeat(1000)).unwrap();
        assert!(long.ends_with('…') && long.chars().count() == WORD + 1 && !long.contains('\u{1b}'));
    }

    #[test]
    fn teams_passes_the_status_of_what_is_behind_it_on() {
        let body = |status: &str| {
            format!(
                "Webhook message delivery failed with error: \
                 Microsoft Teams endpoint returned HTTP error {status} \
                 with ContextId tcid=3626521845697697778,server=DB3PEPF0000009A,cv=429.503."
            )
        };
        for (status, retry) in
            [("413", false), ("400", false), ("408", true), ("429", true), ("500", true), ("503", true)]
        {
            let said = format!("Microsoft Teams endpoint returned HTTP error {status}");
            assert_eq!(word(Format::Teams, 200, &body(status)), Some((said, retry)));
        }
        for (said, retry) in [
            ("Delivery failed with error: nobody there", false),
            ("Access denied", false),
            ("System.Net.Http.HttpRequestException: Error while copying content to a stream.", true),
            ("Webhook message delivery failed with error: ApplicationThrottled", true),
            ("Webhook message delivery failed with error: Error contacting Microsoft Teams endpoint", true),
        ] {
            assert_eq!(word(Format::Teams, 202, said), Some((said.to_owned(), retry)));
        }
        for fine in ["", "1", "Accepted", r#"{"status":"posted"}"#] {
            assert_eq!(word(Format::Teams, 200, fine), None, "{fine}");
        }
        assert_eq!(word(Format::Teams, 503, &body("503")), None);
    }

    #[test]
    fn discord_answers_nothing_a_message_or_an_error() {
        let error = r#"{"code": 50006, "message": "Cannot send an empty message"}"#;
        let said = "50006 Cannot send an empty message".to_owned();
        assert_eq!(word(Format::Discord, 200, error), Some((said, false)));
        for fine in ["", "ok", "[]", r#"{"id":"1","code":1,"message":"m"}"#, r#"{"code":"x","message":"m"}"#]
        {
            assert_eq!(word(Format::Discord, 200, fine), None, "{fine}");
        }
        assert_eq!(word(Format::Discord, 400, error), None);
    }

    #[test]
    fn discord_says_in_the_body_how_long_it_wants_to_be_left_alone() {
        let waits = |format: Format, body: &str| {
            format.wait(Answer { status: 429, body: Some(body), content_type: None })
        };
        let limited = r#"{"message": "You are being rate limited.", "retry_after": 2.5, "global": false}"#;
        assert_eq!(waits(Format::Discord, limited), Some(Duration::from_millis(2500)));
        assert_eq!(waits(Format::SpecKit, limited), None);
        for none in
            ["", "[]", r#"{"retry_after": "2.5"}"#, r#"{"retry_after": -1}"#, r#"{"retry_after": null}"#]
        {
            assert_eq!(waits(Format::Discord, none), None, "{none}");
        }
        assert_eq!(waits(Format::Discord, r#"{"retry_after": 1e300}"#), Some(Duration::MAX));
    }

    #[test]
    fn mattermost_and_what_is_compatible_say_yes_by_their_status() {
        for fine in ["ok", "", "anything", r#"{"success":true}"#, r#"{"result":"success"}"#, "{}"] {
            assert_eq!(word(Format::Mattermost, 200, fine), None, "{fine}");
        }
        for (no, said) in [
            (r#"{"success":false,"error":"Invalid integration id"}"#, "Invalid integration id"),
            (r#"{"result":"error","msg":"Stream does not exist"}"#, "Stream does not exist"),
        ] {
            assert_eq!(word(Format::Mattermost, 200, no), Some((said.to_owned(), false)));
        }
    }

    #[test]
    fn a_page_is_no_word_of_any_service() {
        let page = "<!DOCTYPE html>\n<html><head><title>Sign in to your account</title>";
        for format in [Format::Slack, Format::Discord, Format::Teams, Format::Mattermost] {
            for (content_type, body) in
                [("text/html; charset=utf-8", page), ("text/plain", page), ("Text/HTML", "<p>Sign in</p>")]
            {
                assert!(rejected(format, 200, content_type, body).unwrap().retry, "{format}");
            }
        }
        assert_eq!(rejected(Format::Slack, 200, "text/html", "ok"), None);
        assert_eq!(rejected(Format::SpecKit, 200, "text/html", page), None);
    }

    #[test]
    fn an_endpoint_of_ones_own_says_all_by_its_status() {
        for format in [Format::SpecKit, Format::CloudEvents] {
            assert_eq!(word(format, 200, "no_service"), None);
        }
    }
}
