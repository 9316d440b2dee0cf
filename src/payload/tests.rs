//! Tests: what each format renders of each kind of event, and of hostile text.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::format::TEAMS_MESSAGE;
use super::{Format, body, sample};
use crate::event::{Event, EventKind, Source};

fn event(document: &Value) -> Event {
    Event::from_json(&document.to_string()).unwrap()
}

fn rendered(format: Format, event: &Event) -> (Bytes, Value) {
    let bytes = format.render(event, &body(event).unwrap()).unwrap();
    let value = serde_json::from_slice(&bytes).unwrap();
    (bytes, value)
}

fn stage(status: &str, reasons: &[&str]) -> Event {
    event(&json!({
        "event": {"type": "spec-auto.stage.completed", "status": status, "stage": "Validate",
        "reasons": reasons},
        "spec": {"id": "SPEC-KIT-065-add-webhooks", "branch": "feature/webhooks_v2"},
        "pipeline": {"attempt": 2, "maxAttempts": 3, "startedAt": "2025-10-14T10:00:00Z",
            "completedAt": "2025-10-14T12:02:30+02:00"},
        "consensus": {"status": "degraded"},
        "evidence": {"paths": ["evidence/commands/SPEC-KIT-065/spec-validate_s.json",
        "evidence/log <1>.txt"]},
    }))
}

fn pipeline() -> Event {
    event(&json!({
        "event": {"type": "spec-auto.pipeline.completed", "status": "failure",
            "reasons": ["Validate failed at attempt 3 of 3"],
            "idempotency_key": "SPEC-KIT-065:pipeline:attempt-1"},
        "spec": {"id": "SPEC-KIT-065-add-webhooks", "branch": "main"},
        "pipeline": {"attempt": 1, "startedAt": "2025-10-14T10:00:00Z", "completedAt": "2025-10-14T10:45:00Z",
            "durationMs": 2_700_000, "stages": [
                {"stage": "Plan", "status": "success", "attempt": 1, "durationMs": 90_000},
                {"stage": "Validate", "status": "failure", "attempt": 3}]},
        "cost": {"totalUsd": 1.754},
        "followUps": ["Validate: scenario `a` is failed", "Task T7 is open"],
    }))
}

fn task() -> Event {
    event(&json!({
        "event": {"type": "spec-kit.task.completed", "idempotency_key": "SPEC-KIT-065:SPEC.md#T7:done-1"},
        "spec": {"id": "SPEC-KIT-065", "branch": "main"},
        "task": {"id": "T7", "title": "Retries & back-off", "status": "Done"},
    }))
}

fn task_list() -> Event {
    event(&json!({
        "event": {"type": "spec-kit.tasklist.completed",
            "idempotency_key": "002-kanban:specs/002-kanban/tasks.md:tasklist-done-1"},
        "spec": {"id": "002-kanban", "branch": "main"},
        "tasks": {"done": 12, "total": 12},
        "evidence": {"paths": ["specs/002-kanban/tasks.md"]},
    }))
}

fn conflict() -> Event {
    event(&json!({
        "event": {"type": "spec-auto.anomaly.consensus_conflict", "stage": "Plan",
        "idempotency_key": "k:consensus-conflict"},
        "spec": {"id": "SPEC-KIT-065"},
        "pipeline": {"attempt": 1, "maxAttempts": 3},
        "consensus": {"status": "conflict"},
        "anomaly": {"disagreements": ["queue or file", {"point": "retries"}], "hint": "read the synthesis"},
    }))
}

fn cost() -> Event {
    event(&json!({
        "event": {"type": "spec-auto.anomaly.cost_threshold", "stage": "Audit",
        "idempotency_key": "k:cost-threshold-5"},
        "spec": {"id": "SPEC-KIT-065"},
        "cost": {"totalUsd": 6},
        "anomaly": {"thresholdUsd": 5, "totalUsd": 6, "run": 1, "hint": "look at the agents"},
    }))
}

fn waiting() -> Event {
    event(&json!({
        "event": {"type": "spec-auto.pipeline.waiting", "status": "halt",
        "reasons": ["the run waits for a person at gate review-spec"],
        "idempotency_key": "002-kanban:gate-review-spec-1:6f9a3c73"},
        "spec": {"id": "002-kanban", "branch": "002-kanban"},
        "pipeline": {"attempt": 1, "startedAt": "2026-11-28T09:30:11.447Z",
            "run": {"id": "6f9a3c73", "workflow": "speckit", "step": "review-spec"},
            "gate": {"step": "review-spec", "message": "Review the generated spec\nbefore planning.",
                "options": ["approve", "reject"], "showFile": "specs/002-kanban/spec.md"}},
    }))
}

fn test() -> Event {
    let checkout = Source { branch: Some("main".to_owned()), ..Source::default() };
    let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
    let mut event = sample("SPEC-KIT-065".parse().unwrap(), checkout, at);
    event.event.idempotency_key = "SPEC-KIT-065:test".parse().unwrap();
    event
}

#[test]
fn what_each_format_makes_of_each_event() {
    let events = [
        ("stage_success", stage("success", &[])),
        ("stage_failure", stage("failure", &["scenario `a_b` is failed", "see https://example.com/*"])),
        ("stage_halt", stage("halt", &["the telemetry is no JSON: line 1"])),
        ("pipeline", pipeline()),
        ("waiting", waiting()),
        ("task", task()),
        ("task_list", task_list()),
        ("conflict", conflict()),
        ("cost", cost()),
        ("test", test()),
    ];
    for format in [Format::Slack, Format::Discord, Format::Teams, Format::Mattermost, Format::CloudEvents] {
        for (name, event) in &events {
            let mut event = event.clone();
            event.accepted("2026-01-02T03:04:05.678Z".parse().unwrap(), 1_767_323_045_678);
            let (_, value) = rendered(format, &event);
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            insta::assert_snapshot!(format!("{format}_{name}"), pretty);
        }
    }
}

#[test]
fn the_spec_kit_body_is_left_as_it_is() {
    let given = Bytes::from_static(b"{ \"any\": 1.000000000000000000001 }");
    assert_eq!(Format::SpecKit.render(&task(), &given).unwrap(), given);
    let wrapped = Format::CloudEvents.render(&task(), &given).unwrap();
    let wrapped = std::str::from_utf8(&wrapped).unwrap();
    assert!(wrapped.ends_with(",\"data\":{ \"any\": 1.000000000000000000001 }}"), "{wrapped}");
    assert!(Format::CloudEvents.render(&task(), &Bytes::from_static(b"{")).is_err());
}

#[test]
fn a_cloud_event_has_the_time_and_the_order_of_its_acceptance() {
    let mut event = task();
    let wrapped = |event: &Event| rendered(Format::CloudEvents, event).1;
    assert!(wrapped(&event).get("time").is_none() && wrapped(&event).get("sequence").is_none());
    event.accepted("2026-01-02T03:04:05.678Z".parse().unwrap(), 1_767_323_045_678);
    assert_eq!(wrapped(&event)["time"], "2026-01-02T03:04:05.678Z");
    // Compared as texts, by the extension's rule.
    assert_eq!(wrapped(&event)["sequence"], "00000001767323045678");
}

fn hostile_events(text: &str) -> Vec<Event> {
    let copies = if text.len() > 1000 { 2 } else { 20 };
    let parts = json!({
        "pipeline": {"attempt": u32::MAX, "maxAttempts": u32::MAX, "durationMs": u64::MAX,
            "stages": [{"stage": text, "status": text}], "run": {"id": text},
            "gate": {"step": text, "message": text, "options": vec![text; copies], "showFile": text}},
        "cost": {"totalUsd": 1e308},
        "followUps": vec![text; 3],
        "anomaly": {"disagreements": vec![text; copies], "hint": text,
        "thresholdUsd": -1e308, "totalUsd": 1e308},
        "message": text,
        "consensus": {"status": text},
        "task": {"id": text, "title": text},
        "evidence": {"paths": vec![text; copies]},
    });
    // All kinds show the same parts; the headline of a task also contains the text.
    let kinds = EventKind::ALL.iter();
    kinds
        .filter(|kind| text.len() < 1000 || **kind == EventKind::TaskCompleted)
        .map(|kind| {
            let mut document = json!({
                "event": {"type": kind, "status": "failure", "reasons": [], "idempotency_key": "k"},
                "spec": {"id": "S".repeat(128)},
            });
            document.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
            // Built from the value, because the JSON text may exceed the size limit of an event.
            document["schemaVersion"] = "1.0".into();
            let mut event: Event = serde_json::from_value(document).unwrap();
            event.event.reasons = vec![text.to_owned(); copies];
            event.spec.branch = Some(text.to_owned());
            event
        })
        .collect()
}

/// Collects every string in a value with the name it is under.
fn strings<'a>(value: &'a Value, name: &'a str, found: &mut Vec<(&'a str, &'a str)>) {
    match value {
        Value::String(text) => found.push((name, text)),
        Value::Array(list) => list.iter().for_each(|value| strings(value, name, found)),
        Value::Object(map) => map.iter().for_each(|(name, value)| strings(value, name, found)),
        _ => {}
    }
}

fn units(value: &Value) -> usize {
    value.as_str().map_or(0, |text| text.encode_utf16().count())
}

fn check_slack(message: &Value) {
    assert!((1..=150).contains(&units(&message["text"])));
    let top = message["blocks"].as_array().unwrap();
    let details = message["attachments"][0]["blocks"].as_array().unwrap();
    assert!(top.len() + details.len() <= 50);
    assert!((1..=150).contains(&units(&top[0]["text"]["text"])));
    for block in details {
        let fields = block["fields"].as_array().map_or(&[][..], Vec::as_slice);
        assert!(fields.len() <= 10 && fields.iter().all(|field| (1..=2000).contains(&units(&field["text"]))));
        assert!(fields.is_empty() != block["text"].is_null());
        assert!(units(&block["text"]["text"]) <= 3000);
    }
    let mut found = Vec::new();
    strings(message, "", &mut found);
    for (_, text) in found {
        assert!(!text.contains(['<', '>']), "{text}");
        let entities =
            ["&amp;", "&lt;", "&gt;"].iter().map(|entity| text.matches(entity).count()).sum::<usize>();
        assert_eq!(entities, text.matches('&').count(), "{text}");
    }
}

fn check_discord(message: &Value) {
    assert_eq!(message["allowed_mentions"], json!({"parse": []}));
    let embed = &message["embeds"][0];
    let fields = embed["fields"].as_array().unwrap();
    assert!((1..=256).contains(&units(&embed["title"])) && units(&embed["description"]) <= 4096);
    assert!(fields.len() <= 25);
    let mut total = units(&embed["title"]) + units(&embed["description"]);
    for field in fields {
        let (name, value) = (units(&field["name"]), units(&field["value"]));
        assert!((1..=256).contains(&name) && (1..=1024).contains(&value));
        total += name + value;
    }
    assert!(total <= 6000, "{total}");
    assert!(message.get("content").is_none());
    unescaped(embed["title"].as_str().unwrap(), "`*_~|<>#[]():@");
}

fn check_mattermost(message: &Value) {
    let attachment = &message["attachments"][0];
    let mut found = Vec::new();
    strings(message, "", &mut found);
    assert!(found.iter().map(|(_, text)| text.chars().count()).sum::<usize>() < 5000);
    for (_, text) in found {
        assert!(text.split('@').skip(1).all(|rest| rest.starts_with('\u{200b}')), "{text}");
    }
    let headline = message["text"].as_str().unwrap().trim_matches('*');
    unescaped(headline.trim_end_matches('\\'), "`*_[]()#~|>!");
    let fields = attachment["fields"].as_array().unwrap();
    for field in fields.iter().filter(|field| field["title"] != "Evidence") {
        unescaped(field["value"].as_str().unwrap(), "`*_[]()#~|>!");
    }
}

/// Checks that none of `marks` occurs without a backslash of its own.
fn unescaped(text: &str, marks: &str) {
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\\' {
            assert!(chars.next().is_some(), "{text}");
        } else {
            assert!(!marks.contains(c), "{c} in {text}");
        }
    }
}

fn check_teams(bytes: &Bytes, message: &Value) {
    assert!(bytes.len() <= TEAMS_MESSAGE, "{}", bytes.len());
    let body = message["attachments"][0]["content"]["body"].as_array().unwrap();
    for block in body {
        match block["type"].as_str().unwrap() {
            "RichTextBlock" => assert!(block["inlines"].as_array().unwrap().len() == 1),
            "FactSet" => block["facts"].as_array().unwrap().iter().for_each(|fact| {
                unescaped(fact["value"].as_str().unwrap(), "`*_[]()<>#!~|");
            }),
            other => panic!("{other} knows markup"),
        }
    }
}

fn check(event: &Event) {
    let spec_kit = body(event).unwrap();
    for format in [Format::Slack, Format::Discord, Format::Teams, Format::Mattermost] {
        let bytes = format.render(event, &spec_kit).unwrap();
        let message = serde_json::from_slice(&bytes).unwrap();
        match format {
            Format::Slack => check_slack(&message),
            Format::Discord => check_discord(&message),
            Format::Mattermost => check_mattermost(&message),
            _ => check_teams(&bytes, &message),
        }
        let mut found = Vec::new();
        strings(&message, "", &mut found);
        for (name, text) in found {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{name}: {text:?}");
        }
    }
    let wrapped = Format::CloudEvents.render(event, &spec_kit).unwrap();
    let wrapped: Value = serde_json::from_slice(&wrapped).unwrap();
    assert_eq!(wrapped["data"], serde_json::from_slice::<Value>(&spec_kit).unwrap());
}

#[test]
fn hostile_text_stays_within_every_limit_and_means_nothing() {
    let long = |text: &str| text.repeat(100_000 / text.chars().count());
    let texts = [
        String::new(),
        " ".to_owned(),
        "<!channel> <@U123> <https://evil.example|click> &lt;".to_owned(),
        "@everyone @here <@&1> `code` ```\nblock\n``` **b** _i_ ~s~ ||x|| [a](https://b) # h \\".to_owned(),
        "\u{0}\u{7}\u{1b}[31m\u{202e}\u{2028}\r\n\t\u{9b}".to_owned(),
        "é🎉👩‍👩‍👧‍👦".to_owned(),
        long("a"),
        long("&"),
        long("<!channel>"),
        long("`"),
        long("\\"),
        long("\""),
        long("🎉"),
        long("\u{1b}"),
        long("€"),
    ];
    for text in &texts {
        hostile_events(text).iter().for_each(check);
    }
}

#[test]
fn a_text_that_was_cut_ends_with_a_mark() {
    let event = stage("failure", &["a".repeat(100_000).as_str()]);
    for format in [Format::Slack, Format::Discord, Format::Teams, Format::Mattermost] {
        let (_, message) = rendered(format, &event);
        let mut found = Vec::new();
        strings(&message, "", &mut found);
        let cut: Vec<_> = found.iter().filter(|(_, text)| text.contains("aaaa")).collect();
        assert!(!cut.is_empty() && cut.iter().all(|(_, text)| text.ends_with('…')), "{format}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_text_stays_within_every_limit(text in "\\PC{0,300}", control in "[\\x00-\\x1f<>&`@*\\\\]{0,40}") {
        hostile_events(&(text + &control)).iter().for_each(check);
    }
}
