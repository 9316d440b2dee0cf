//! What the audit log says of attempts, and what it weighs.

use std::fs;

use openssl::hash::{MessageDigest, hash};
use serde_json::{Value, json};

use crate::harness::{EVIDENCE, Endpoint, RequestExt as _, Sandbox};

/// The lines of a SPEC's evidence, as they stand there.
fn lines(sandbox: &Sandbox, spec: &str) -> Vec<String> {
    let path = sandbox.path().join(EVIDENCE).join("commands").join(spec).join("webhooks/deliveries.jsonl");
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// What no attempt can be understood without.
const ALONE: [&str; 11] = [
    "v",
    "record",
    "time",
    "delivery",
    "idempotency_key",
    "event",
    "subscription",
    "attempt",
    "request",
    "latency_ms",
    "outcome",
];

#[test]
fn a_refused_connection_takes_at_most_900_bytes_and_each_line_stands_alone() {
    let down = Endpoint::down();
    let policy = "max_attempts = 3\ninitial_backoff_ms = 1\nheaders = { \"X-Team\" = \"platform\" }";
    let sandbox = Sandbox::new(&[("chatops-production", &down.url(), policy)]);
    let telemetry =
        crate::harness::plan_telemetry("SPEC-KIT-065-integrated-coder-hooks", "20251014T100000Z-1234567890");
    let path = sandbox.write("spec-plan_20251014T100000Z-1234567890.json", &telemetry.to_string());
    assert_eq!(sandbox.run(&["emit", "--telemetry", path.to_str().unwrap()]).code, 0);
    assert_eq!(sandbox.run(&["drain"]).code, 1);
    let lines = lines(&sandbox, "SPEC-KIT-065-integrated-coder-hooks");
    let attempts: Vec<&String> = lines.iter().filter(|line| parsed(line)["record"] == "attempt").collect();
    assert_eq!(attempts.len(), 3);
    for line in attempts {
        assert!(line.len() < 900, "{} bytes: {line}", line.len());
        let line = parsed(line);
        for name in ALONE {
            assert!(!line[name].is_null(), "no {name} in {line}");
        }
        assert_eq!((&line["v"], &line["error"]["class"]), (&json!(2), &json!("connection")));
        let request = &line["request"];
        assert_eq!(request["headers"].as_object().unwrap().len(), 2, "{request}");
        assert_eq!(request["headers"]["x-team"], "platform");
        assert!(request["headers"]["user-agent"].as_str().unwrap().starts_with("spec-notify/"));
        assert!(request["url"].as_str().unwrap().starts_with("http://127.0.0.1:"), "{request}");
        assert!(request["body_bytes"].as_u64().unwrap() > 100);
    }
}

#[test]
fn what_nobody_could_tell_from_the_line_stays_in_it() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("bus", &endpoint.url(), "format = \"cloudevents\"")]);
    sandbox.emit("SPEC-1", "Plan", "k");
    assert_eq!(sandbox.run(&["drain"]).code, 0);
    let line = sandbox.evidence("SPEC-1").remove(0);
    assert_eq!(line["request"]["headers"]["content-type"], "application/cloudevents+json; charset=utf-8");
    // What the rest of the line says was sent: the page of the files says where.
    let request = endpoint.requests().remove(0);
    let second = |time: &Value| time.as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    for (header, value) in [
        ("x-speckit-id", line["delivery"].as_str().unwrap()),
        ("x-speckit-event", line["event"].as_str().unwrap()),
        ("x-speckit-attempt", &line["attempt"].to_string()),
        ("x-speckit-request-timestamp", &second(&line["time"]).to_string()),
        ("webhook-id", line["delivery"].as_str().unwrap()),
        ("webhook-timestamp", &second(&line["time"]).to_string()),
        ("accept-encoding", "identity"),
    ] {
        assert_eq!(request.text_of(header), value, "{header}");
    }
}

#[test]
fn an_attempt_of_a_replay_says_so_and_who_asked_and_no_other_does() {
    let endpoint = Endpoint::answering([400, 400, 200]);
    let sandbox = Sandbox::new(&[("tracker", &endpoint.url(), "")]);
    sandbox.emit("SPEC-1", "Plan", "k");
    sandbox.run(&["drain"]);
    // Without a runtime and through one.
    assert_eq!(sandbox.run(&["replay", "--all"]).code, 1);
    let serve = sandbox.serve();
    assert_eq!(sandbox.run(&["replay", "--all"]).code, 0);
    assert_eq!(serve.terminate().0, 0);
    let evidence = sandbox.evidence("SPEC-1");
    let attempts: Vec<&Value> = evidence.iter().filter(|line| line["record"] == "attempt").collect();
    let is_replay: Vec<&Value> = attempts.iter().map(|line| &line["replay"]).collect();
    assert_eq!(is_replay, [&Value::Null, &json!(true), &json!(true)]);
    let of = std::process::Command::new("id").arg("-un").output().unwrap();
    let user = String::from_utf8(of.stdout).unwrap();
    let users: Vec<Option<&str>> = attempts.iter().map(|line| line["user"].as_str()).collect();
    assert_eq!(users, [None, Some(user.trim()), Some(user.trim())]);
}

#[test]
fn a_dry_runs_line_has_the_payload_byte_for_byte() {
    let endpoint = Endpoint::answering([200]);
    let subscriptions = [
        ("quiet", &*endpoint.url(), "dry_run = true"),
        ("chat", &*endpoint.url(), "dry_run = true\nformat = \"slack\""),
        ("loud", &*endpoint.url(), ""),
    ];
    let sandbox = Sandbox::new(&subscriptions);
    let event = r#"{"event":{"type":"spec-auto.stage.completed","stage":"Plan","status":"failure",
        "reasons":["a \"quoted\" line\nand a second ü"]},"spec":{"id":"SPEC-1"},"n":1.10}"#;
    let file = sandbox.write("event.json", &event.replace('\n', ""));
    assert_eq!(sandbox.run(&["emit", "--event", file.to_str().unwrap()]).code, 0);
    assert_eq!(sandbox.run(&["drain"]).code, 0);
    assert_eq!(sandbox.run(&["test", "SPEC-1", "--subscription", "loud", "--dry-run"]).code, 0);
    let mut outcomes = Vec::new();
    for line in lines(&sandbox, "SPEC-1") {
        let value = parsed(&line);
        let raw = line.split_once(r#","body":"#).map(|(_, body)| body.strip_suffix('}').unwrap());
        if value["record"] != "attempt" || value.get("response").is_some() {
            assert!(value.get("body").is_none(), "{line}");
            continue;
        }
        let raw = raw.unwrap();
        assert_eq!(value["request"]["body_bytes"], raw.len());
        let digest = hash(MessageDigest::sha256(), raw.as_bytes()).unwrap();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(value["request"]["body_sha256"], hex);
        outcomes.push(value["outcome"].as_str().unwrap().to_owned());
    }
    assert_eq!(outcomes, ["dry_run", "dry_run", "sample"]);
    let loud = endpoint.requests().remove(0).told();
    let quiet =
        lines(&sandbox, "SPEC-1").iter().map(|line| parsed(line)).find(|l| l["subscription"] == "quiet");
    assert_eq!(quiet.unwrap()["body"], loud);
}
