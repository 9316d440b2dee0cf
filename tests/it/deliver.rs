//! From an event to a signed request: telemetry files, headers, signatures, bodies, filters,
//! evidence.

use std::collections::HashSet;

use serde_json::{Value, json};

use spec_notify::internals::Secret;
use spec_notify::internals::sign;

use crate::harness::{
    Answer, EVIDENCE, Endpoint, RequestExt as _, SECRET, Sandbox, payload_schema, plan_telemetry,
};

#[test]
fn the_schema_refuses_what_is_no_payload() {
    let validator = payload_schema();
    let good = json!({"schemaVersion": "1.0", "event": {"type": "spec-auto.stage.completed", "stage": "Plan",
        "status": "success", "idempotency_key": "k", "time": "2026-01-02T03:04:05.678Z", "sequence": 7},
        "spec": {"id": "SPEC-1"}, "source": {"repo": "o/n"}, "pipeline": {"attempt": 1, "maxAttempts": 3},
        "unknown": {"to": "1.0"}});
    assert!(validator.is_valid(&good), "what is not known is no fault");
    for (pointer, wrong) in [
        ("/schemaVersion", json!("2.0")),
        ("/event/type", json!("other")),
        ("/event/stage", json!("plan")),
        ("/event/status", json!("ok")),
        ("/event/idempotency_key", Value::Null),
        ("/event/time", json!("2026-01-02T03:04:05Z")),
        ("/event/sequence", json!("7")),
        ("/spec/id", json!("../x")),
        ("/source", json!({})),
        ("/source/repo", json!(7)),
        ("/pipeline", json!({"attempt": 1})),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = wrong;
        assert!(!validator.is_valid(&bad), "{pointer}");
    }
    let mut without_stage = good;
    without_stage["event"].as_object_mut().unwrap().remove("stage");
    without_stage.as_object_mut().unwrap().remove("pipeline");
    assert!(validator.is_valid(&without_stage), "an emitter may leave it out");
}

#[test]
fn whatever_an_emitter_leaves_out_its_event_fits_the_schema() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("all", &endpoint.url(), "include_events = [\"*\"]")]);
    let _serve = sandbox.serve_with(&["--no-watch"]);
    let mut lines = String::new();
    for kind in spec_notify::EventKind::ALL {
        for more in [
            json!({}),
            json!({"event": {"status": "failure", "reasons": [], "time": "noon", "sequence": -1}}),
            json!({"event": {"stage": "Plan"}, "pipeline": {}, "source": {"repo": null, "host": "h"}}),
            json!({"task": {"id": "T"}, "evidence": {}, "consensus": {"agents": []}, "telemetry": {"error": 7}}),
            json!({"cost": null, "followUps": null, "anomaly": {"hint": null}, "pipeline": {"stages": null}}),
        ] {
            let mut event = json!({"event": {}, "spec": {"id": "SPEC-1"}});
            for (name, value) in more.as_object().unwrap() {
                event[name] = value.clone();
            }
            event["event"]["type"] = kind.as_str().into();
            event["event"]["idempotency_key"] = format!("k{}", lines.len()).into();
            lines += &format!("{event}\n");
        }
    }
    let file = sandbox.write("events.jsonl", &lines);
    let ran = sandbox.run(&["emit", "--event", file.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for request in endpoint.wait_for(lines.lines().count()) {
        let body = request.told();
        assert!(body["event"]["time"].is_string() && body["event"]["sequence"].is_u64(), "{body:#}");
    }
    let wrong = r#"{"event": {"type": "spec-kit.task.completed"}, "spec": {"id": "A"}, "cost": "cheap"}"#;
    let ran = sandbox.run(&["emit", "--event", sandbox.write("wrong.json", wrong).to_str().unwrap()]);
    assert!(ran.code == 2 && ran.stderr.contains("`cost` must be an object"), "{ran:?}");
}

#[test]
fn a_telemetry_file_becomes_a_signed_request_with_evidence() {
    let endpoint = Endpoint::answering([204]);
    let sandbox = Sandbox::new(&[("chatops", &endpoint.url(), "")]);
    sandbox.write(".git/HEAD", "ref: refs/heads/feat/x\n");
    let spec = "SPEC-KIT-901-first";
    let path = format!("{EVIDENCE}/commands/{spec}/spec-plan_s-1.json");
    let telemetry = plan_telemetry(spec, "s-1");
    sandbox.write(&path, &telemetry.to_string());
    let serve = sandbox.serve();

    let ran = sandbox.run(&["emit", "--telemetry", &path]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(ran.stdout.starts_with("accepted 1 delivery: spec-auto.stage.completed"), "{ran:?}");
    let request = endpoint.wait_for(1).remove(0);

    assert_eq!((request.method(), request.target()), ("POST", "/hook"));
    let secret = Secret::parse(SECRET).unwrap();
    let id = request.text_of("x-speckit-id").to_owned();
    let timestamp: i64 = request.text_of("webhook-timestamp").parse().unwrap();
    for (name, value) in [
        ("content-type", "application/json".to_owned()),
        ("accept-encoding", "identity".to_owned()),
        ("user-agent", format!("spec-notify/{}", env!("CARGO_PKG_VERSION"))),
        ("x-speckit-event", "spec-auto.stage.completed".to_owned()),
        ("x-speckit-attempt", "1".to_owned()),
        ("x-speckit-request-timestamp", timestamp.to_string()),
        ("webhook-id", id.clone()),
        ("x-speckit-signature", sign::spec_kit(&secret, request.body())),
        ("webhook-signature", sign::standard(&secret, &id, timestamp, request.body())),
    ] {
        assert_eq!(request.text_of(name), value, "{name}");
    }
    let payload = request.told();
    assert_eq!(payload["event"]["idempotency_key"], "SPEC-KIT-901:plan:attempt-1:s-1");
    assert_eq!(payload["event"]["status"], "success");
    assert_eq!(payload["spec"], json!({"id": spec, "branch": "feat/x"}));
    assert_eq!(payload["telemetry"], telemetry);
    assert_eq!(payload["evidence"]["paths"], json!([path, path.replace(".json", ".log")]));

    let finals = sandbox.wait_for_finals(spec, 1);
    assert_eq!(
        (finals[0]["state"].as_str(), finals[0]["delivery"].as_str()),
        (Some("delivered"), Some(id.as_str()))
    );
    let attempt = &sandbox.evidence(spec)[0];
    assert_eq!(attempt["response"]["status"], 204);
    assert_eq!(attempt["request"]["body_bytes"], request.body().len());
    assert_eq!(attempt["outcome"], "delivered");

    let again = sandbox.run(&["emit", "--telemetry", &path]);
    assert!(again.stdout.starts_with("duplicate"), "{again:?}");
    let (code, log) = serve.terminate();
    assert_eq!((code, endpoint.requests().len()), (0, 1), "{log}");
    assert!(log.contains("stopped; 0 deliveries pending"), "{log}");
}

#[test]
fn each_subscription_gets_what_its_filters_admit() {
    let (all, failures, tasks) =
        (Endpoint::answering([200]), Endpoint::answering([200]), Endpoint::answering([200]));
    let sandbox = Sandbox::new(&[
        ("all", &all.url(), ""),
        ("failures", &failures.url(), "include_status = [\"failure\", \"halt\"]"),
        ("tasks", &tasks.url(), "include_events = [\"spec-kit.task.*\"]"),
        ("off", &tasks.url(), "active = false"),
    ]);
    let events = [
        json!({"event": {"type": "spec-auto.stage.completed", "stage": "Plan", "status": "success"}, "spec": {"id": "SPEC-1"}}),
        json!({"event": {"type": "spec-auto.stage.completed", "stage": "Tasks", "status": "failure"}, "spec": {"id": "SPEC-1"}}),
        json!({"event": {"type": "spec-kit.task.completed"}, "spec": {"id": "SPEC-1"}, "task": {"id": "T1"}, "mine": [1]}),
        json!({"event": {"type": "spec-auto.anomaly.cost_threshold"}, "spec": {"id": "SPEC-1"}}),
    ];
    let lines: Vec<String> = events.iter().map(Value::to_string).collect();
    let file = sandbox.write("events.jsonl", &lines.join("\n"));
    let _serve = sandbox.serve();
    let ran = sandbox.run(&["--json", "emit", "--event", file.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let who: Vec<Vec<String>> = ran
        .stdout
        .lines()
        .map(|line| {
            let emitted: Value = serde_json::from_str(line).unwrap();
            let deliveries = emitted["deliveries"].as_array().unwrap();
            deliveries.iter().map(|delivery| delivery["subscription"].as_str().unwrap().to_owned()).collect()
        })
        .collect();
    assert_eq!(who, [vec!["all"], vec!["all", "failures"], vec!["all", "failures", "tasks"], vec![]]);
    let finals = sandbox.wait_for_finals("SPEC-1", 6);
    let ids: HashSet<_> = finals.iter().map(|line| line["delivery"].to_string()).collect();
    assert_eq!(ids.len(), 6);
    for (endpoint, count) in [(&all, 3), (&failures, 2), (&tasks, 1)] {
        endpoint.wait_for(count).iter().for_each(|request| drop(request.told()));
    }
    assert_eq!(tasks.requests()[0].told()["mine"], json!([1]));
}

#[test]
fn a_dry_run_is_recorded_and_not_sent() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("quiet", &endpoint.url(), "dry_run = true")]);
    let _serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    assert_eq!(sandbox.wait_for_finals("SPEC-1", 1)[0]["state"], "dry_run");
    assert_eq!(endpoint.requests().len(), 0);
}

#[test]
fn with_no_runtime_emit_queues_and_the_next_runtime_delivers_once_and_in_order() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::with_settings("max_concurrency = 1", &[("direct", &endpoint.url(), "")]);
    for n in 0..5 {
        assert_eq!(sandbox.emit("SPEC-1", "Plan", &format!("k{n}"))["outcome"], "queued");
    }
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "k1")["outcome"], "queued", "the same once more");
    assert_eq!(sandbox.inbox().len(), 6);
    let _serve = sandbox.serve();
    sandbox.wait_for_finals("SPEC-1", 5);
    crate::harness::wait_for("the inbox to be empty", || sandbox.inbox().is_empty().then_some(()));
    let keys: Vec<String> = endpoint
        .requests()
        .iter()
        .map(|request| request.told()["event"]["idempotency_key"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(keys, ["k0", "k1", "k2", "k3", "k4"]);
}

#[test]
fn max_concurrency_holds_over_all_subscriptions() {
    // Each is proven first: who is not gets half of it at most.
    let answers = [vec![Answer::status(200); 4], vec![Answer::hang()]].concat();
    let endpoint = Endpoint::answering(answers);
    let names: Vec<String> = (0..4).map(|n| format!("s{n}")).collect();
    let url = endpoint.url();
    let entries: Vec<(&str, &str, &str)> =
        names.iter().map(|name| (name.as_str(), url.as_str(), "per_request_timeout_ms = 60000")).collect();
    let sandbox = Sandbox::with_settings("max_concurrency = 3", &entries);
    let _serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "first");
    sandbox.wait_for_finals("SPEC-1", 4);
    for n in 0..3 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    endpoint.wait_for(7);
    endpoint.release();
    sandbox.wait_for_finals("SPEC-1", 16);
    assert_eq!(endpoint.most_waiting(), 3);
}
