//! The format of a subscription: which body an event becomes, and when a service's answer means no in spite of its status.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;

use super::summary::Summary;
use super::{cloudevents, discord, slack, teams};
use crate::delivery::Rejection;
use crate::event::{Event, UnknownName, named, printable};

/// Most characters of a service's word that are kept.
const WORD: usize = 120;

named! {
    /// What a subscription's endpoint understands.
    #[derive(Default)]
    Format, "format" {
        /// The payload itself.
        #[default]
        SpecKit = "spec-kit",
        /// A message of a Slack incoming webhook.
        Slack = "slack",
        /// A message of a Discord webhook.
        Discord = "discord",
        /// A card for a Teams Workflows webhook.
        Teams = "teams",
        /// A CloudEvent 1.0 in structured mode.
        CloudEvents = "cloudevents",
    }
}

impl Format {
    /// The `Content-Type` of the body.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::CloudEvents => "application/cloudevents+json; charset=utf-8",
            _ => "application/json",
        }
    }

    /// The body of `event`, whose body in the `spec-kit` format is `spec_kit`.
    ///
    /// # Errors
    /// `spec_kit` is not JSON.
    pub fn render(self, event: &Event, spec_kit: &Bytes) -> serde_json::Result<Bytes> {
        let message = match self {
            Self::SpecKit => return Ok(spec_kit.clone()),
            Self::CloudEvents => return cloudevents::body(event, spec_kit).map(Bytes::from),
            Self::Slack => slack::message(&Summary::of(event)),
            Self::Discord => discord::message(&Summary::of(event)),
            Self::Teams => teams::message(&Summary::of(event)),
        };
        serde_json::to_vec(&message).map(Bytes::from)
    }

    /// What the service refused with, if its answer has a 2xx status and says in `body` that it failed.
    pub fn rejection(self, status: u16, body: &str) -> Option<Rejection> {
        if !(200..300).contains(&status) {
            return None;
        }
        match self {
            Self::SpecKit | Self::CloudEvents => None,
            Self::Slack => slack_rejection(body.trim()),
            Self::Discord => discord_rejection(body),
            Self::Teams => teams_rejection(body.trim()),
        }
    }
}

fn slack_rejection(body: &str) -> Option<Rejection> {
    match body {
        "ok" => None,
        "" => Some(Rejection { word: "no answer \"ok\"".to_owned(), retry: false }),
        word => Some(Rejection { word: printable(word, WORD), retry: false }),
    }
}

fn discord_rejection(body: &str) -> Option<Rejection> {
    let answer: Value = serde_json::from_str(body).ok()?;
    let (code, message) = (answer.get("code")?.as_number()?, answer.get("message")?);
    if answer.get("id").is_some() {
        return None;
    }
    let message = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
    Some(Rejection { word: printable(&format!("{code} {message}"), WORD), retry: false })
}

fn teams_rejection(body: &str) -> Option<Rejection> {
    const ENDPOINT: &str = "Microsoft Teams endpoint returned HTTP error";
    if !body.contains("failed with error") && !body.contains(ENDPOINT) {
        return None;
    }
    let words = body.split(|c: char| !c.is_ascii_alphanumeric());
    let status = words.filter(|word| word.len() == 3).find_map(|word| word.parse::<u16>().ok());
    let word = match status {
        Some(status) if body.contains(ENDPOINT) => format!("{ENDPOINT} {status}"),
        _ => printable(body, WORD),
    };
    Some(Rejection {
        word,
        retry: status.is_some_and(|status| status == 429 || (500..600).contains(&status)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(format: Format, status: u16, body: &str) -> Option<(String, bool)> {
        format.rejection(status, body).map(|rejection| (rejection.word, rejection.retry))
    }

    #[test]
    fn the_names_are_those_of_the_config() {
        assert_eq!(Format::default(), Format::SpecKit);
        assert_eq!("cloudevents".parse(), Ok(Format::CloudEvents));
        let error = "slak".parse::<Format>().unwrap_err().to_string();
        assert!(error.starts_with("unknown format `slak` (did you mean `slack`?)"), "{error}");
    }

    #[test]
    fn slack_says_ok_or_why_not() {
        assert_eq!(word(Format::Slack, 200, "ok"), None);
        assert_eq!(word(Format::Slack, 200, " ok\r\n"), None);
        assert_eq!(word(Format::Slack, 200, "no_service"), Some(("no_service".to_owned(), false)));
        assert_eq!(word(Format::Slack, 200, ""), Some(("no answer \"ok\"".to_owned(), false)));
        assert_eq!(word(Format::Slack, 404, "no_service"), None, "the status says it");
        let (long, _) = word(Format::Slack, 200, &"\u{1b}[2Jx".repeat(1000)).unwrap();
        assert!(long.ends_with('…') && long.chars().count() == WORD + 1 && !long.contains('\u{1b}'));
    }

    #[test]
    fn teams_passes_the_status_of_what_is_behind_it_on() {
        let body = |status: &str| {
            format!(
                "Webhook message delivery failed with error: Microsoft Teams endpoint returned HTTP error {status} \
                 with ContextId tcid=3626521845697697778,server=DB3PEPF0000009A,cv=429.503."
            )
        };
        for (status, retry) in [("413", false), ("400", false), ("429", true), ("500", true), ("503", true)] {
            let said = format!("Microsoft Teams endpoint returned HTTP error {status}");
            assert_eq!(word(Format::Teams, 200, &body(status)), Some((said, retry)));
        }
        assert_eq!(
            word(Format::Teams, 202, "Delivery failed with error: nobody there"),
            Some(("Delivery failed with error: nobody there".to_owned(), false))
        );
        assert_eq!(word(Format::Teams, 202, ""), None);
        assert_eq!(word(Format::Teams, 200, "1"), None);
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
    fn an_endpoint_of_ones_own_says_all_by_its_status() {
        for format in [Format::SpecKit, Format::CloudEvents] {
            assert_eq!(word(format, 200, "no_service"), None);
        }
    }
}
