//! Tests: the names of formats, the answers of services, and their URLs.

use super::*;
use crate::payload::answer::WORD;

fn rejected(format: Format, status: u16, content_type: &str, body: &str) -> Option<Rejection> {
    let content_type = Some(content_type);
    format.rejection(Answer { status, content_type, body: Some(body) })
}

fn word(format: Format, status: u16, body: &str) -> Option<(String, bool)> {
    rejected(format, status, "text/plain", body).map(|rejection| (rejection.word, rejection.retry))
}

#[test]
fn slack_says_ok_or_why_not() {
    for fine in ["ok", " ok\r\n", r#"{"ok":true}"#, r#"{"success":true}"#, r#"{"result":"success","msg":""}"#]
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
    for fine in ["", "ok", "[]", r#"{"id":"1","code":1,"message":"m"}"#, r#"{"code":"x","message":"m"}"#] {
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
    for none in ["", "[]", r#"{"retry_after": "2.5"}"#, r#"{"retry_after": -1}"#, r#"{"retry_after": null}"#]
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

#[test]
fn the_names_are_those_of_the_config() {
    assert_eq!(Format::default(), Format::SpecKit);
    assert_eq!("cloudevents".parse(), Ok(Format::CloudEvents));
    let error = "slak".parse::<Format>().unwrap_err().to_string();
    assert!(error.starts_with("unknown format `slak` (did you mean `slack`?)"), "{error}");
}

#[test]
fn a_chat_service_is_known_by_its_url() {
    let mattermost = "xxxkeyxxxkeyxxxkeyxxxkeyxx";
    let (rocket, token) = ("6".repeat(24), "aB3".repeat(14));
    for (url, expected) in [
        ("hooks.slack.com/services/T0/B0/x", Some(Format::Slack)),
        ("hooks.slack.com/triggers/T0/1/x", Some(Format::Slack)),
        ("discord.com/api/webhooks/1/x", Some(Format::Discord)),
        ("discord.com/api/webhooks/1/x/slack", Some(Format::Slack)),
        ("ptb.discord.com/api/webhooks/1/x", Some(Format::Discord)),
        ("corp.webhook.office.com/webhookb2/x", Some(Format::Teams)),
        ("prod-12.westeurope.logic.azure.com:443/workflows/x/triggers/manual", Some(Format::Teams)),
        ("default1.2.environment.api.powerplatform.com:443/powerautomate/x", Some(Format::Teams)),
        (&format!("chat.corp.example/hooks/{mattermost}"), Some(Format::Mattermost)),
        (&format!("corp.example/chat/hooks/{mattermost}"), Some(Format::Mattermost)),
        (&format!("rocket.corp.example/hooks/{rocket}/{token}"), Some(Format::Mattermost)),
        ("zulip.corp.example/api/v1/external/slack_incoming?api_key=x&stream=y", Some(Format::Mattermost)),
        ("corp.example/hooks/speckit", None),
        ("corp.example/hooks/a/b", None),
        ("evillogic.azure.com.example/workflows/x", None),
        ("notwebhook.office.com/", None),
    ] {
        let parsed = Url::parse(&format!("https://{url}")).unwrap();
        assert_eq!(service_of(&parsed).map(|service| service.format), expected, "{url}");
    }
}
