//! Tests: what each format renders of each kind of event, and of hostile text.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::format::TEAMS_MESSAGE;
use super::pages::{Forge, Pages};
use super::{Format, Reader, body, sample};
use crate::event::{Event, EventKind, Source};

fn event(document: &Value) -> Event {
    Event::from_json(&document.to_string()).unwrap()
}

/// Pages of a repo on a service whose host shows which one it is.
fn pages() -> Pages {
    Pages {
        repo: "acme/checkout".to_owned(),
        home: Some("https://github.com/acme/checkout".to_owned()),
        forge: Some(Forge::GitHub),
        branch: Some("feature/webhooks_v2".to_owned()),
        commit: Some("8393d67".repeat(5) + "12345"),
        job: Some("https://github.com/acme/checkout/actions/runs/47".to_owned()),
        request: None,
        template: None,
        files: Vec::new(),
    }
}

fn owner(format: Format) -> &'static str {
    match format {
        Format::Discord => "111222333444555666",
        Format::Teams => "lead@acme.example",
        Format::Mattermost => "lead",
        _ => "U123",
    }
}

fn rendered(format: Format, event: &Event) -> (Bytes, Value) {
    let pages = pages();
    let reader = Reader {
        subscription: Some("chat"),
        gets: Some("run ends"),
        pages: Some(&pages),
        owner: Some(owner(format)),
    };
    let bytes = format.render(event, &body(event).unwrap(), &reader).unwrap();
    let value = serde_json::from_slice(&bytes).unwrap();
    (bytes, value)
}

/// An event of the repo that has pages, with more said of it.
fn of_repo(kind: &str, more: &Value) -> Event {
    let mut document = json!({
        "event": {"type": kind, "idempotency_key": "k"},
        "spec": {"id": "SPEC-KIT-065-add-webhooks", "branch": "feature/webhooks_v2"},
        "source": {"repo": "acme/checkout", "commit": pages().commit, "branch": "feature/webhooks_v2"},
    });
    for (name, value) in more.as_object().unwrap() {
        match (document.get_mut(name).and_then(Value::as_object_mut), value.as_object()) {
            (Some(there), Some(more)) => there.extend(more.clone()),
            _ => document[name] = value.clone(),
        }
    }
    event(&document)
}

fn stage(status: &str, reasons: &[&str]) -> Event {
    of_repo(
        "spec-auto.stage.completed",
        &json!({
            "event": {"status": status, "stage": "Validate", "reasons": reasons},
            "pipeline": {"attempt": 2, "maxAttempts": 3, "startedAt": "2026-01-02T03:00:00Z",
                "completedAt": "2026-01-02T05:02:30+02:00"},
            "consensus": {"status": "degraded"},
            "evidence": {"paths": ["evidence/commands/SPEC-KIT-065/spec-validate_s.json",
            "evidence/log <1>.txt"]},
        }),
    )
}

/// A stage as the guardrails write it.
fn scenarios() -> Event {
    let failed = ["login keeps the cart", "retry_after 429", "dead letter is *replayed*"];
    let mut reasons: Vec<String> =
        failed.iter().map(|name| format!("scenario `{name}` is failed, not passed or skipped")).collect();
    reasons.push("hal.summary.status is failed: graphql_ping".to_owned());
    let mut event = stage("failure", &reasons.iter().map(String::as_str).collect::<Vec<_>>());
    let fields = json!({"scenarios": vec![json!({"name": "x", "status": "passed"}); 12]});
    event.telemetry = Some(fields.as_object().unwrap().clone().into());
    event
}

/// A stage whose telemetry is broken.
fn unreadable() -> Event {
    let reason = "the file is not valid JSON: expected `,` or `}` at line 17 column 111";
    let mut event = stage("halt", &[reason]);
    event.telemetry = Some(json!({"error": reason}).as_object().unwrap().clone().into());
    event
}

fn pipeline(status: &str) -> Event {
    let mut event = of_repo(
        "spec-auto.pipeline.completed",
        &json!({
            "event": {"status": status},
            "pipeline": {"attempt": 1, "startedAt": "2026-01-02T02:15:00Z",
                "completedAt": "2026-01-02T03:00:00Z", "durationMs": 2_700_000, "stages": [
                    {"stage": "Plan", "status": "success", "attempt": 1, "durationMs": 90_000},
                    {"stage": "Validate", "status": "failure", "attempt": 1, "durationMs": 310_000},
                    {"stage": "Validate", "status": status, "attempt": 2, "durationMs": 290_000}]},
            "cost": {"totalUsd": 4.366},
            "followUps": ["Audit: the consensus is degraded",
                "task T7 (Retry budget per subscription) is In Progress, not Done",
                "task T9 is Open, not Done"],
        }),
    );
    if status != "success" {
        let reason = "scenario `a` is failed, not passed or skipped";
        event.event.reasons = vec![reason.to_owned()];
        let left = event.extra["followUps"].as_array_mut().unwrap();
        left.push(format!("Validate: {reason}").into());
    }
    event
}

fn task() -> Event {
    let task = json!({"id": "T7", "title": "Retries & back-off", "status": "Done"});
    of_repo("spec-kit.task.completed", &json!({"task": task}))
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
    let hint = "read the synthesis, settle the points with the agents' owners, and run the stage again";
    let positions = json!({"claude": "a queue each", "gpt_pro": "one shared file"});
    let points = json!(["queue or file", {"point": "retries", "positions": positions}]);
    of_repo(
        "spec-auto.anomaly.consensus_conflict",
        &json!({
            "event": {"stage": "Plan"},
            "pipeline": {"attempt": 1, "maxAttempts": 3},
            "consensus": {"status": "conflict"},
            "anomaly": {"disagreements": points, "hint": hint},
        }),
    )
}

fn cost() -> Event {
    let hint = "look at what the run's stages cost so far, and stop it if that is not meant";
    of_repo(
        "spec-auto.anomaly.cost_threshold",
        &json!({
            "event": {"stage": "Implement"},
            "cost": {"totalUsd": 6.02, "perStage": {"plan": 0.9, "implement": 4.8, "tasks": 0.32}},
            "anomaly": {"thresholdUsd": 5, "totalUsd": 6.02, "run": 2, "hint": hint},
        }),
    )
}

fn stalled() -> Event {
    let hint = "look whether what follows Implement still works, and start it again where it does not";
    of_repo(
        "spec-auto.anomaly.stalled",
        &json!({
            "event": {"stage": "Implement"},
            "anomaly": {"since": "2026-01-02T02:24:00Z", "run": 1, "hint": hint},
        }),
    )
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
    let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
    let checkout = Source { repo: Some("acme/checkout".to_owned()), ..Source::default() };
    let mut event = sample("SPEC-KIT-065".parse().unwrap(), checkout, at);
    event.event.idempotency_key = "SPEC-KIT-065:test".parse().unwrap();
    event
}

/// What somebody writes who means harm, and what is much.
fn nasty() -> Event {
    let mut event = stage(
        "failure",
        &[
            "<!channel> @everyone <@U1> *bold* _it_ ~no~ `code` [a](https://evil.example) :tada: # H1 > q",
            "see https://ci.example/job/4711?x=1&y=2#L200 and retry_after, snake_case_names",
            "the \u{202e}detrever\u{202c} and \u{1b}[31m red",
        ],
    );
    event.event.reasons.extend((0..20).map(|n| format!("lorem ipsum dolor {} {n}", "sit amet ".repeat(60))));
    event.spec.branch = Some("users/*very*_long/`branch`/".repeat(8));
    event
}

/// As the runtime accepts it.
fn accepted(mut event: Event) -> Event {
    event.accepted("2026-01-02T03:04:05.678Z".parse().unwrap(), 1_767_323_045_678);
    event
}

fn all_events() -> Vec<(&'static str, Event)> {
    let mut late = stage("failure", &["baseline.status is failed, not passed or skipped"]);
    late.pipeline.as_mut().unwrap().completed_at = Some("2025-12-31T23:59:00Z".to_owned());
    vec![
        ("stage_success", stage("success", &[])),
        ("stage_failure", stage("failure", &["scenario `a_b` is failed", "see https://example.com/*"])),
        ("stage_halt", stage("halt", &["the consensus is a conflict: 2 points of disagreement"])),
        ("stage_scenarios", scenarios()),
        ("stage_unreadable", unreadable()),
        ("stage_late", late),
        ("stage_nasty", nasty()),
        ("pipeline", pipeline("failure")),
        ("pipeline_success", pipeline("success")),
        ("waiting", waiting()),
        ("task", task()),
        ("task_list", task_list()),
        ("conflict", conflict()),
        ("cost", cost()),
        ("stalled", stalled()),
        ("test", test()),
    ]
}

#[test]
fn what_each_format_makes_of_each_event() {
    for format in [Format::Slack, Format::Discord, Format::Teams, Format::Mattermost, Format::CloudEvents] {
        for (name, event) in all_events() {
            let (_, value) = rendered(format, &accepted(event));
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            insta::assert_snapshot!(format!("{format}_{name}"), pretty);
        }
    }
}

/// The first line of each message is what a lock screen shows.
#[test]
fn the_first_line_says_what_where_and_why() {
    let lines: Vec<String> = all_events()
        .into_iter()
        .filter(|(name, _)| *name != "stage_nasty")
        .map(|(_, event)| {
            let (_, message) = rendered(Format::Teams, &accepted(event));
            message["attachments"][0]["content"]["fallbackText"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        lines,
        [
            "✅ Validate passed (2 of 3): SPEC-KIT-065 add-webhooks · 2 min 30 s",
            "❌ Validate failed (2 of 3): SPEC-KIT-065 add-webhooks · 1 scenario failed, \
                see https://example.com/*",
            "⚠️ Validate halted (2 of 3): SPEC-KIT-065 add-webhooks · the agents disagree on 2 points",
            "❌ Validate failed (2 of 3): SPEC-KIT-065 add-webhooks · 3 of 12 scenarios failed, \
                HAL check failed: graphql_ping",
            "⚠️ Validate halted (2 of 3): SPEC-KIT-065 add-webhooks · its telemetry can't be read",
            "❌ Validate failed (2 of 3): SPEC-KIT-065 add-webhooks · the baseline failed",
            "❌ Run failed at Validate (attempt 2): SPEC-KIT-065 add-webhooks · 45 min · $4.37",
            "✅ Run passed: SPEC-KIT-065 add-webhooks · 45 min · $4.37 · 3 follow-ups",
            "✋ Approval needed: 002-kanban \"Review the generated spec before planning.\"",
            "☑️ SPEC-KIT-065 T7 done: Retries & back-off",
            "☑️ 002-kanban all 12 tasks are done",
            "⚠️ Agents disagree on Plan: SPEC-KIT-065 add-webhooks · 2 points",
            "💸 SPEC-KIT-065 cost $6.02, over the $5.00 limit (run 2, Implement)",
            "⏳ No news from SPEC-KIT-065 add-webhooks for 40 min, after Implement",
            "🔔 Test: subscription \"chat\" of acme/checkout works",
        ]
    );
}

#[test]
fn the_owner_is_called_where_somebody_has_to_do_something_and_nobody_else_is() {
    let calls = [
        "stage_failure",
        "stage_halt",
        "stage_scenarios",
        "stage_unreadable",
        "stage_late",
        "stage_nasty",
        "pipeline",
        "waiting",
        "stalled",
    ];
    for (name, event) in all_events() {
        for (format, mention) in [
            (Format::Slack, "<@U123>"),
            (Format::Discord, "<@111222333444555666>"),
            (Format::Teams, "<at>lead@acme.example</at>"),
            (Format::Mattermost, "@lead"),
        ] {
            let (bytes, message) = rendered(format, &event);
            let text = std::str::from_utf8(&bytes).unwrap();
            assert_eq!(text.contains(mention), calls.contains(&name), "{format} {name}: {text}");
            let allowed = &message["allowed_mentions"];
            let expected = match (format, calls.contains(&name)) {
                (Format::Discord, true) => json!({"parse": [], "users": ["111222333444555666"]}),
                (Format::Discord, false) => json!({"parse": []}),
                _ => Value::Null,
            };
            assert_eq!(*allowed, expected, "{format} {name}");
        }
    }
}

#[test]
fn the_spec_kit_body_is_left_as_it_is() {
    let given = Bytes::from_static(b"{ \"any\": 1.000000000000000000001 }");
    assert_eq!(Format::SpecKit.render(&task(), &given, &Reader::default()).unwrap(), given);
    let wrapped = Format::CloudEvents.render(&task(), &given, &Reader::default()).unwrap();
    let wrapped = std::str::from_utf8(&wrapped).unwrap();
    assert!(wrapped.ends_with(",\"data\":{ \"any\": 1.000000000000000000001 }}"), "{wrapped}");
    assert!(Format::CloudEvents.render(&task(), &Bytes::from_static(b"{"), &Reader::default()).is_err());
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

#[test]
fn a_cloud_event_is_of_its_repo_whatever_that_is_called() {
    for (repo, source) in [
        (Some("acme/checkout"), "/acme/checkout"),
        (Some("a folder: 50 %"), "/a%20folder%3A%2050%20%25"),
        (Some("//evil.example/x"), "/evil.example/x"),
        (Some("é"), "/%C3%A9"),
        (None, "/"),
    ] {
        let mut event = task();
        event.source = repo.map(|repo| Source { repo: Some(repo.to_owned()), ..Source::default() });
        assert_eq!(rendered(Format::CloudEvents, &event).1["source"], source);
    }
}

#[test]
fn the_last_line_names_the_machine_beside_the_repo() {
    let mut event = accepted(task());
    event.name_host(Some("build-3".to_owned()));
    let (bytes, _) = rendered(Format::Teams, &event);
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(
        text.contains(
            "\"acme/checkout on build-3 · feature/webhooks_v2 @ 8393d67 · 2\u{a0}Jan\u{a0}03:04\u{a0}UTC\""
        ),
        "{text}"
    );
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
            event.source = serde_json::from_value(json!({"repo": text, "commit": text})).unwrap();
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

/// A text without the links and the mention that are the program's own.
fn without_own(text: &str, own: &[&str]) -> String {
    own.iter().fold(text.to_owned(), |text, own| text.replace(own, ""))
}

fn check_slack(bytes: &Bytes, message: &Value) {
    assert!(bytes.len() < 12_000, "{}", bytes.len());
    assert!((1..=400).contains(&units(&message["text"])));
    let blocks = message["blocks"].as_array().unwrap();
    assert!((1..=2).contains(&blocks.len()) && message.get("attachments").is_none());
    assert!((1..=3000).contains(&units(&blocks[0]["text"]["text"])));
    assert!(units(&blocks.last().unwrap()["elements"][0]["text"]) <= 2000);
    let mut found = Vec::new();
    strings(message, "", &mut found);
    for (_, text) in found.iter().filter(|(name, _)| *name == "text") {
        let text = without_own(text, &["<@U123>"]);
        assert!(!text.contains(['<', '>']), "{text}");
        let entities =
            ["&amp;", "&lt;", "&gt;"].iter().map(|entity| text.matches(entity).count()).sum::<usize>();
        assert_eq!(entities, text.matches('&').count(), "{text}");
        assert!(!text.contains(['~', '`']), "{text}");
        // What happened is bold, and nothing else is.
        assert!(text.matches('*').count() <= 2, "{text}");
    }
}

fn check_discord(message: &Value) {
    assert!(message["allowed_mentions"]["parse"] == json!([]));
    let embed = &message["embeds"][0];
    assert!(embed.get("fields").is_none());
    let says = ["title", "description", "footer"].iter().any(|part| embed.get(part).is_some());
    assert!(says || embed.is_null(), "an empty embed is refused");
    assert_eq!(embed.get("title").is_some(), embed.get("url").is_some());
    assert!(units(&embed["title"]) <= 256 && units(&embed["description"]) <= 4096);
    assert!((1..=2000).contains(&units(&message["content"])) && units(&embed["footer"]["text"]) <= 2048);
    let total = units(&embed["title"]) + units(&embed["description"]) + units(&embed["footer"]["text"]);
    assert!(total + units(&message["content"]) <= 6000, "{total}");
    unescaped(embed["title"].as_str().unwrap_or_default(), "`*_~|<>#[]():@");
    // Our own marks apart, nothing means anything.
    let own = ["<@111222333444555666>", "**"];
    let content = without_own(message["content"].as_str().unwrap(), &own);
    let description = embed["description"].as_str().unwrap_or_default();
    for text in [&content, description] {
        unescaped(&text.replace(": ", " ").replace(":…", "…"), "`*_~|<>#[]@:");
    }
}

fn check_mattermost(message: &Value) {
    let text = message["text"].as_str().unwrap();
    assert!(text.chars().count() < 5000 && message.as_object().unwrap().len() == 1);
    let text = without_own(text, &["@lead", "**"]);
    for mark in ['@', ':'] {
        assert!(
            text.split(mark).skip(1).all(|rest| rest.starts_with(['\u{200b}', ' ', '\n', '…'])),
            "{text}"
        );
    }
    unescaped(&text, "`*_[]#~|>!");
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
    let content = &message["attachments"][0]["content"];
    assert_eq!(content["msteams"]["width"], "Full");
    let mentions = content["msteams"]["entities"].as_array().map_or(&[][..], Vec::as_slice);
    assert!(mentions.iter().all(|one| one["mentioned"]["id"] == "lead@acme.example") && mentions.len() <= 1);
    let [head, body @ ..] = &content["body"].as_array().unwrap()[..] else { panic!("no body") };
    assert_eq!(head["type"], "Container");
    for block in head["items"].as_array().unwrap().iter().chain(body) {
        match block["type"].as_str().unwrap() {
            "RichTextBlock" => assert!(!block["inlines"].as_array().unwrap().is_empty()),
            "TextBlock" => assert_eq!(block["text"], "Owner: <at>lead@acme.example</at>"),
            other => panic!("{other} knows markup"),
        }
    }
}

/// Checks an event that has no pages: every address in its messages is text.
fn check(event: &Event) {
    let spec_kit = body(event).unwrap();
    for format in [Format::Slack, Format::Discord, Format::Teams, Format::Mattermost] {
        let reader = Reader { owner: Some(owner(format)), ..Reader::default() };
        let bytes = format.render(event, &spec_kit, &reader).unwrap();
        let message = serde_json::from_slice(&bytes).unwrap();
        match format {
            Format::Slack => check_slack(&bytes, &message),
            Format::Discord => check_discord(&message),
            Format::Mattermost => check_mattermost(&message),
            _ => check_teams(&bytes, &message),
        }
        let mut found = Vec::new();
        strings(&message, "", &mut found);
        for (name, text) in found {
            assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{name}: {text:?}");
            assert!(!text.contains("s3cret") && !text.contains(&"\u{301}".repeat(4)), "{name}: {text:?}");
            // Nothing but our own marks begins a line.
            let begins = |line: &str| {
                let rest = line.trim_start_matches(|c: char| c.is_ascii_digit());
                let is_numbered = rest.len() < line.len() && rest.starts_with(['.', ')']);
                line.starts_with(['-', '+', '=', '#', '>']) || is_numbered
            };
            let has_marks = format == Format::Mattermost || name == "description";
            let is_quote = |line: &str| format == Format::Slack && line.starts_with("&gt;");
            assert!(!text.lines().any(|line| is_quote(line) || has_marks && begins(line)), "{name}: {text}");
            let lower = text.to_ascii_lowercase();
            let (invites, links) = (lower.contains("discord.gg/"), lower.contains(" www.evil"));
            // The footer of an embed has no markup.
            let is_plain = format != Format::Discord || name == "text";
            assert!(is_plain || !invites && !lower.contains("discord.com/"), "{name}: {text}");
            assert!(format != Format::Mattermost || !links, "{text}");
        }
    }
    let wrapped = Format::CloudEvents.render(event, &spec_kit, &Reader::default()).unwrap();
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
        "🎉".to_owned(),
        "- a".to_owned(),
        "1. a".to_owned(),
        "# a".to_owned(),
        "> a".to_owned(),
        "===".to_owned(),
        "+ a | b".to_owned(),
        "www.evil.example discord.gg/evil https://DISCORD.com/invite/x mailto:a@evil.example".to_owned(),
        "https://user:s3cret@evil.example/x https://evil.example/".to_owned() + &"x/".repeat(300),
        "Z".to_owned() + &"\u{301}".repeat(300) + "algo",
        "<script>alert(1)</script> <b>&amp;amp;</b> <!-- x --> <at>all</at>".to_owned(),
        r#"{"a": ["b\n\u0041", 1e30]} "x"#.to_owned(),
        "فشل الاختبار \u{202e}retry_after נכשל".to_owned(),
        "\u{200b}\u{feff}\u{2060}".to_owned(),
        "x".repeat(71) + "&<>*_~`@#[]()|\\:",
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
fn the_longest_links_beside_the_most_to_say_stay_within_every_limit() {
    let mut event = accepted(nasty());
    let branch = format!("feature/{}", "webhooks_v2(&)".repeat(17));
    let files: Vec<String> = (0..50).map(|n| format!("docs/{}/{n}&.json", "deep_(1)/".repeat(12))).collect();
    event.spec.branch = Some(branch.clone());
    event.evidence = serde_json::from_value(json!({"paths": files})).unwrap();
    let pages = Pages { branch: Some(branch), files, job: None, ..pages() };
    for format in [Format::Slack, Format::Discord, Format::Teams, Format::Mattermost] {
        let reader = Reader { pages: Some(&pages), owner: Some(owner(format)), ..Reader::default() };
        let bytes = format.render(&event, &body(&event).unwrap(), &reader).unwrap();
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(text.contains("/commit/8393d67") || format == Format::Teams, "{text}");
        let message: Value = serde_json::from_slice(&bytes).unwrap();
        match format {
            Format::Slack => {
                assert!(bytes.len() < 12_000 && units(&message["blocks"][0]["text"]["text"]) <= 3000);
                assert!(units(&message["blocks"][1]["elements"][0]["text"]) <= 2100);
            }
            Format::Discord => {
                let embed = &message["embeds"][0];
                let description = units(&embed["description"]);
                let total = description + units(&embed["title"]) + units(&embed["footer"]["text"]);
                assert!(description <= 4096 && total + units(&message["content"]) <= 6000);
            }
            Format::Mattermost => assert!(message["text"].as_str().unwrap().chars().count() < 5000),
            _ => assert!(bytes.len() <= TEAMS_MESSAGE, "{}", bytes.len()),
        }
    }
}

/// The first line of an event's message.
fn first_line(event: &Event) -> String {
    let (_, message) = rendered(Format::Teams, event);
    message["attachments"][0]["content"]["fallbackText"].as_str().unwrap().to_owned()
}

#[test]
fn a_long_reason_begins_in_the_first_line_and_goes_on_below_it() {
    let whole = format!("clean-tree: {}", "x ".repeat(54).trim());
    assert!(first_line(&stage("failure", &[&whole])).ends_with(&whole));
    let reason = "the migration of the retry scheduler to the monotonic clock changed the ordering of \
        deliveries that were accepted long before";
    let event = stage("failure", &[reason]);
    let line = first_line(&event);
    assert!(
        line.ends_with(" · the migration of the retry scheduler to the monotonic clock changed the…"),
        "{line}"
    );
    let (bytes, _) = rendered(Format::Teams, &event);
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    assert!(text.contains("\"• …ordering of deliveries that were accepted long before\""), "{text}");
    let address = format!("see https://ci.example/{} then", "x/".repeat(60));
    assert!(first_line(&stage("failure", &[&address])).ends_with(" · see…"));
}

#[test]
fn reasons_that_say_nothing_are_none() {
    let line = first_line(&stage("failure", &["", " ", "\u{200b}", "\u{7}", "\u{202e}"]));
    assert_eq!(line, "❌ Validate failed (2 of 3): SPEC-KIT-065 add-webhooks");
}

#[test]
fn a_workflow_run_that_failed_says_how_it_goes_on() {
    for (status, is_offered) in [("failure", true), ("halt", false), ("success", false)] {
        let mut event = pipeline(status);
        event.pipeline.as_mut().unwrap().extra.insert("run".to_owned(), json!({"id": "6f9a3c73"}));
        let (bytes, _) = rendered(Format::Teams, &event);
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let next = text.contains("→ Look at why, then: specify workflow resume 6f9a3c73");
        assert_eq!(next, is_offered, "{status}");
        assert!(!text.contains("run Validate again"), "{text}");
    }
}

#[test]
fn a_run_says_where_it_ended_and_not_what_was_mended_before() {
    let failed = json!({"stage": "Plan", "status": "failure", "attempt": 1});
    let passed = json!({"stage": "Plan", "status": "success", "attempt": 2});
    let tasks = json!({"stage": "Tasks", "status": "success", "attempt": 1});
    let again = json!({"stage": "Plan", "status": "failure", "attempt": 3});
    for (step, stages, place) in [
        ("review", json!([failed, passed]), " at step review: "),
        ("deploy", json!([failed, tasks]), " at step deploy: "),
        ("plan", json!([failed]), " at Plan: "),
        ("loop:plan:2", json!([failed, passed, again]), " at Plan (attempt 3): "),
        ("", json!([failed]), " at Plan: "),
        ("", json!([failed, passed]), ": "),
    ] {
        let mut event = pipeline("failure");
        event.event.reasons = vec![format!("step {step}: it gave up")];
        event.extra.insert("followUps".to_owned(), json!(["Plan: it gave up"]));
        let more = &mut event.pipeline.as_mut().unwrap().extra;
        more.insert("stages".to_owned(), stages);
        if !step.is_empty() {
            more.insert("run".to_owned(), json!({"id": "6f9a3c73", "step": step}));
        }
        let line = first_line(&event);
        assert!(line.starts_with(&format!("❌ Run failed{place}SPEC-KIT-065")), "{step}: {line}");
        if !step.is_empty() {
            let (bytes, _) = rendered(Format::Teams, &event);
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            assert_eq!(text.matches("t gave up").count(), 1, "{text}");
            assert!(!text.contains("tep plan") && !text.contains("Step "), "{text}");
        }
    }
}

#[test]
fn a_workflow_run_that_is_silent_says_at_which_step_and_how_it_goes_on() {
    let hint = "look whether the run still works; Ctrl-C at its terminal stops it";
    for (stage, step, place) in [
        (json!("Implement"), json!("implement"), ", at Implement"),
        (Value::Null, json!("build"), ", at step build"),
        (Value::Null, Value::Null, ""),
    ] {
        let event = of_repo(
            "spec-auto.anomaly.stalled",
            &json!({
                "event": {"stage": stage},
                "pipeline": {"attempt": 1, "run": {"id": "6f9a3c73", "step": step}},
                "anomaly": {"since": "2026-01-02T02:24:00Z", "hint": hint},
            }),
        );
        let line = first_line(&accepted(event.clone()));
        assert_eq!(line, format!("⏳ No news from SPEC-KIT-065 add-webhooks for 40 min{place}"));
        let (bytes, _) = rendered(Format::Teams, &event);
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(text.contains("If it hangs: Ctrl-C, then specify workflow resume 6f9a3c73"), "{text}");
    }
}

#[test]
fn a_folder_of_a_monorepo_stands_beside_the_spec() {
    let task = json!({"id": "T7", "title": "Retries", "status": "Done"});
    let list = |path: &str| json!({"task": task, "evidence": {"paths": [path]}});
    for (kind, more, line) in [
        (
            "spec-auto.pipeline.completed",
            json!({"event": {"status": "success"},
                "pipeline": {"run": {"id": "6f9a3c73", "folder": "packages/web"}}}),
            "✅ Run passed: SPEC-KIT-065 add-webhooks (packages/web)".to_owned(),
        ),
        (
            "spec-auto.pipeline.waiting",
            json!({"pipeline": {"gate": {"step": "a"},
                "run": {"id": "6f9a3c73", "folder": format!("{}web", "a/".repeat(40))}}}),
            "✋ Approval needed: SPEC-KIT-065 add-webhooks (…/web)".to_owned(),
        ),
        (
            "spec-kit.task.completed",
            list("packages/web/specs/001-login/tasks.md"),
            "☑️ SPEC-KIT-065 (packages/web) T7 done: Retries".to_owned(),
        ),
        (
            "spec-kit.task.completed",
            list("docs/SPEC-KIT-065-add-webhooks/tasks.md"),
            "☑️ SPEC-KIT-065 T7 done: Retries".to_owned(),
        ),
    ] {
        assert_eq!(first_line(&of_repo(kind, &more)), line);
    }
}

#[test]
fn what_has_one_name_is_named_once_and_a_long_name_leaves_room_for_why() {
    for (task, line) in [
        ("SPEC-KIT-065", "☑️ SPEC-KIT-065 add-webhooks done: Webhooks"),
        ("SPEC-KIT-065-add-webhooks", "☑️ SPEC-KIT-065 add-webhooks done: Webhooks"),
        ("SPEC-KIT-066", "☑️ SPEC-KIT-065 SPEC-KIT-066 done: Webhooks"),
    ] {
        let task = json!({"id": task, "title": "Webhooks", "status": "Done"});
        assert_eq!(first_line(&of_repo("spec-kit.task.completed", &json!({"task": task}))), line);
    }
    let mut event = stage("failure", &["the baseline broke"]);
    event.spec.id = format!("SPEC-KIT-065-{}", "of-a-long-name-".repeat(6)).parse().unwrap();
    let line = first_line(&event);
    assert!(line.chars().count() < 120 && line.ends_with("… · the baseline broke"), "{line}");
}

#[test]
fn a_run_that_no_shell_should_see_is_not_offered_to_one() {
    for (run, is_offered) in [("6f9a3c73", true), ("$(rm -rf /)", false), ("a; b", false), ("--help", false)]
    {
        let mut event = waiting();
        event.pipeline.as_mut().unwrap().extra["run"]["id"] = run.into();
        let (bytes, _) = rendered(Format::Teams, &event);
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert_eq!(text.contains("specify workflow resume"), is_offered, "{run}");
        assert!(is_offered || !text.contains(run), "{text}");
    }
}

#[test]
fn a_text_that_was_cut_ends_with_a_mark() {
    let event = stage("failure", &["a".repeat(100_000).as_str()]);
    for format in [Format::Slack, Format::Discord, Format::Teams, Format::Mattermost] {
        let (_, message) = rendered(format, &event);
        let mut found = Vec::new();
        strings(&message, "", &mut found);
        let lines = found.iter().flat_map(|(_, text)| text.lines());
        let lines = lines.map(|line| line.trim_end_matches(" <@111222333444555666>"));
        let cut: Vec<_> = lines.filter(|text| text.contains("aaaa")).collect();
        assert!(!cut.is_empty() && cut.iter().all(|text| text.ends_with('…')), "{format}: {cut:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_text_stays_within_every_limit(text in "\\PC{0,300}", control in "[\\x00-\\x1f<>&`@*\\\\]{0,40}") {
        hostile_events(&(text + &control)).iter().for_each(check);
    }
}
