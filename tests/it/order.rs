//! What a receiver orders by, and where events say they come from, seen at the endpoint.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::harness::{Answer, Endpoint, RequestExt as _, Sandbox, shift_library, wait_for};

const RETRIES: &str = "initial_backoff_ms = 1\nbackoff_factor = 1.0\nmax_backoff_ms = 20\nmax_attempts = 1000\nmax_in_flight = 8";

#[test]
fn the_sequence_is_the_order_of_acceptance_over_kills_take_over_and_a_clock_that_is_set_back() {
    // The first requests fail, so that deliveries come out of order.
    let endpoint = Endpoint::answering([[503; 9].as_slice(), &[200]].concat());
    let sandbox = Sandbox::new(&[("all", &endpoint.url(), RETRIES)]);
    let clock = sandbox.write("clock", "0");
    let sandbox = match shift_library().filter(|_| cfg!(target_os = "linux")) {
        Some(library) => {
            let sandbox = sandbox.env("LD_PRELOAD", library.to_str().unwrap());
            sandbox.env("SHIFT_CLOCK", clock.to_str().unwrap())
        }
        None => {
            eprintln!("the clock stays: no C compiler that builds a library to preload");
            sandbox
        }
    };
    let mut accepted: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut emit = |spec: &'static str| {
        let keys = accepted.entry(spec).or_default();
        let key = format!("{spec}-{}", keys.len());
        assert_eq!(sandbox.emit(spec, "Plan", &key)["outcome"], "accepted");
        keys.push(key);
    };
    let mut serve = sandbox.serve();
    for seconds in ["3600", "0", "-3600", "60"] {
        for _ in 0..3 {
            emit("SPEC-1");
            emit("SPEC-1-other");
        }
        serve.kill();
        sandbox.write("clock", seconds);
        serve = sandbox.serve();
        emit("SPEC-1");
    }
    let second = sandbox.standby();
    emit("SPEC-1");
    serve.kill();
    sandbox.wait_for_owner(&second);
    emit("SPEC-1");
    let count: usize = accepted.values().map(Vec::len).sum();
    sandbox.wait_until_nothing_is_pending();

    let mut bodies: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut told: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
    for request in endpoint.requests() {
        let id = request.text_of("x-speckit-id").to_owned();
        let first = bodies.entry(id).or_insert_with(|| request.body().to_vec());
        assert_eq!(first, request.body(), "every attempt has the same body");
        let body = request.told();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (spec, key) = (text(&body["spec"]["id"]), text(&body["event"]["idempotency_key"]));
        let of = told.entry(spec).or_default();
        if let Some(other) = of.insert(body["event"]["sequence"].as_u64().unwrap(), key.clone()) {
            assert_eq!(other, key, "two events have one sequence");
        }
    }
    assert_eq!(bodies.len(), count);
    for (spec, keys) in accepted {
        let in_order: Vec<String> = told[spec].values().cloned().collect();
        assert_eq!(in_order, keys, "{spec}");
    }
}

#[test]
fn every_way_in_says_of_which_repo_commit_and_branch_it_is() {
    let (payloads, clouds) = (Endpoint::answering([200]), Endpoint::answering([200]));
    let sandbox = Sandbox::new(&[
        ("payloads", &payloads.url(), "include_events = [\"*\"]"),
        ("clouds", &clouds.url(), "format = \"cloudevents\""),
    ]);
    let commit = "0123456789abcdef0123456789abcdef01234567";
    sandbox.write(".git/HEAD", "ref: refs/heads/feat/x\n");
    sandbox.write(".git/packed-refs", &format!("{commit} refs/heads/feat/x\n"));
    sandbox.write(".git/config", "[remote \"origin\"]\nurl = https://me:s3cret@host/owner/name.git\n");
    let source = json!({"repo": "owner/name", "commit": commit, "branch": "feat/x"});
    let queued = sandbox.emit("SPEC-1", "Plan", "from the inbox");
    assert_eq!(queued["outcome"], "queued");
    let inbox: String = sandbox
        .inbox()
        .iter()
        .map(|name| fs::read_to_string(sandbox.spool().join("inbox").join(name)).unwrap())
        .collect();
    assert!(inbox.contains(commit), "as of when it was emitted");
    let _serve = sandbox.serve_with(&["--no-watch"]);
    let given = json!({"event": {"type": "spec-auto.stage.completed", "stage": "Unlock", "status": "halt"},
        "spec": {"id": "SPEC-1"}, "source": {"commit": "mine", "build": 7}});
    let file = sandbox.write("event.json", &given.to_string());
    assert_eq!(sandbox.run(&["emit", "--event", file.to_str().unwrap()]).code, 0);
    assert_eq!(sandbox.run(&["test", "SPEC-1", "--subscription", "payloads"]).code, 0);
    let of = |key: &str, value: &str| {
        let path = format!("/event/{key}");
        let is = |body: &Value| body.pointer(&path).and_then(Value::as_str) == Some(value);
        wait_for(value, || payloads.requests().iter().map(|request| request.told()).find(is))
    };
    assert_eq!(of("idempotency_key", "from the inbox")["source"], source);
    assert_eq!(of("type", "spec-auto.pipeline.completed")["source"], source, "what a run owes");
    assert_eq!(of("type", "spec-kit.webhook.test")["source"], source);
    let own = json!({"repo": "owner/name", "commit": "mine", "branch": "feat/x", "build": 7});
    assert_eq!(of("stage", "Unlock")["source"], own, "what is given is kept");
    let cloud: Value = serde_json::from_slice(clouds.wait_for(1)[0].body()).unwrap();
    assert_eq!(cloud["data"]["source"], source);
    assert_eq!(cloud["source"], "/owner/name");
    assert_eq!(cloud["time"], cloud["data"]["event"]["time"]);
    assert_eq!(cloud["sequence"], format!("{:020}", cloud["data"]["event"]["sequence"].as_u64().unwrap()));
    for request in payloads.requests() {
        let text = String::from_utf8(request.body().to_vec()).unwrap();
        assert!(!text.contains("s3cret") && !text.contains(sandbox.path().to_str().unwrap()), "{text}");
    }
}

/// Subscriptions that get everything, one a format.
fn in_every_format(url: &str) -> Vec<(&'static str, String, String)> {
    let formats = ["spec-kit", "cloudevents", "slack", "discord", "teams", "mattermost"];
    let of = |format: &'static str| {
        let lines = format!(
            "format = \"{format}\"\nrate_limit_per_s = 100.0\n\
             include_events = [\"spec-*\", \"spec-auto.anomaly.*\"]"
        );
        (format, url.to_owned(), lines)
    };
    formats.map(of).to_vec()
}

#[test]
fn a_machine_is_named_only_where_the_config_shows_it_and_every_cloud_event_has_a_time() {
    let machine = rustix::system::uname().nodename().to_str().unwrap().to_owned();
    // Names this short stand in anything.
    let machine_in = |text: &str| machine.len() > 5 && text.contains(&machine);
    for shows in [false, true] {
        let endpoint = Endpoint::answering([Answer::status(200).body("ok")]);
        let subscriptions = in_every_format(&endpoint.url());
        let entries: Vec<(&str, &str, &str)> =
            subscriptions.iter().map(|(id, url, lines)| (*id, url.as_str(), lines.as_str())).collect();
        let settings = if shows { "show_host = true" } else { "" };
        let sandbox = Sandbox::with_settings(settings, &entries);
        let _serve = sandbox.serve_with(&["--no-watch"]);
        let kinds = [
            "spec-auto.stage.completed",
            "spec-auto.pipeline.waiting",
            "spec-kit.task.completed",
            "spec-auto.anomaly.stalled",
        ];
        for kind in kinds {
            let event = json!({"event": {"type": kind, "status": "failure"}, "spec": {"id": "SPEC-1"},
                "source": {"repo": "team/shop & co", "host": if shows { Value::Null } else { "theirs".into() }}});
            let file = sandbox.write("event.json", &event.to_string());
            assert_eq!(sandbox.run(&["emit", "--event", file.to_str().unwrap()]).code, 0);
        }
        for (id, ..) in &subscriptions {
            assert_eq!(sandbox.run(&["test", "SPEC-1", "--subscription", id]).code, 0, "{id}");
        }
        sandbox.wait_until_nothing_is_pending();
        let requests = endpoint.wait_for((kinds.len() + 1) * subscriptions.len());
        for request in &requests {
            let (head, body) = (format!("{:?}", request.headers()), String::from_utf8_lossy(request.body()));
            assert!(!machine_in(&head), "{head}");
            assert_eq!(machine_in(&body), shows && machine.len() > 5, "{body}");
            assert!(!body.contains("theirs"), "{body}");
            if head.contains("cloudevents+json") {
                let cloud = request.told();
                assert!(
                    cloud["time"].is_string() && cloud["time"] == cloud["data"]["event"]["time"],
                    "{cloud}"
                );
                let repo = cloud["data"]["source"]["repo"].as_str().unwrap();
                let source =
                    if repo == "team/shop & co" { "/team/shop%20%26%20co" } else { &format!("/{repo}") };
                assert_eq!(cloud["source"], source);
                let host = cloud["data"]["source"].get("host").and_then(Value::as_str);
                assert_eq!(host, shows.then_some(machine.as_str()));
            }
        }
        let evidence = Value::from(sandbox.evidence("SPEC-1")).to_string();
        assert!(!machine_in(&evidence), "{evidence}");
    }
}
