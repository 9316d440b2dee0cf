//! `show`, and `replay` by the start of an id.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Answer, Endpoint, Ran, RequestExt as _, Sandbox, Terminal, wait_for, wait_for_end};

fn json_of(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let ran = sandbox.run(&[&["--json"], arguments].concat());
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {arguments:?} {ran:?}"))
}

fn id_of(emitted: &Value, at: usize) -> String {
    emitted["deliveries"][at]["id"].as_str().unwrap().to_owned()
}

fn says(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    for word in words {
        assert!(ran.stdout.contains(word) || ran.stderr.contains(word), "{word}: {ran:?}");
    }
}

/// An answer with this status and body.
fn page(status: u16, body: &str) -> Answer {
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: text/html\r\nserver: nginx\r\n");
    Answer::raw(format!("{head}content-length: {}\r\n\r\n{body}", body.len())).then_close()
}

const ONCE: &str = "max_attempts = 1";
const SLOWLY: &str = "initial_backoff_ms = 3600000\nmax_backoff_ms = 3600000\njitter_ms = 0";

#[test]
fn a_delivery_is_shown_whole_in_every_state_with_and_without_a_runtime() {
    let good = Endpoint::answering([200]);
    let html = "<!DOCTYPE html><html><head><title>503 at the gateway</title></head><body>long</body></html>";
    let failing = Endpoint::answering([page(503, html)]);
    let (dead, hanging) = (Endpoint::down(), Endpoint::answering([Answer::hang()]));
    let sandbox = Sandbox::new(&[
        ("good", &good.url(), ""),
        ("failing", &failing.url(), SLOWLY),
        ("dead", &dead.url(), ONCE),
        ("hanging", &hanging.url(), "per_request_timeout_ms = 60000"),
        ("paused", &good.url(), ""),
    ]);
    let serve = sandbox.serve();
    json_of(&sandbox, &["pause", "paused"]);
    let emitted = sandbox.emit("SPEC-1", "Validate", "k1");
    let ids: Vec<String> = (0..5).map(|at| id_of(&emitted, at)).collect();
    sandbox.wait_for_finals("SPEC-1", 2);
    hanging.wait_for(1);
    let shown = |at: usize| json_of(&sandbox, &["show", &ids[at][..18]]);
    wait_for("the failure to be recorded", || (shown(1)["delivery"]["attempts"] == 1).then_some(()));

    let delivered = shown(0);
    assert_eq!((&delivered["delivery"]["state"], &delivered["waits"]), (&json!("delivered"), &json!([])));
    assert!(delivered["ended_at"].is_string());
    assert_eq!((&delivered["stage"], &delivered["status"]), (&json!("Validate"), &json!("success")));
    let request = &delivered["attempts"][0]["request"];
    assert_eq!((&request["method"], &request["headers"]["x-speckit-id"]), (&json!("POST"), &json!(ids[0])));
    assert_eq!(request["headers"]["x-speckit-signature"], "sha256=…", "no signature is shown");
    assert!(!request["url"].as_str().unwrap().contains("hook"), "{request}");
    assert_eq!(delivered["attempts"][0]["response"]["status"], 200);

    let waits = shown(1);
    assert_eq!(waits["waits"][0]["for"], "backoff");
    assert!(waits["waits"][0]["until"].is_string() && waits["ended_at"].is_null());
    assert_eq!(waits["attempts"][0]["response"]["headers"]["server"], "nginx");
    let told = sandbox.run(&["show", &ids[1][..8]]);
    says(&told, 0, &["pending", "for its next attempt, at", "“503 at the gateway”", "#1", "503", "next at"]);
    assert!(!told.stdout.contains("DOCTYPE"), "{told:?}");

    let letter = shown(2);
    assert_eq!(letter["delivery"]["state"], "dead_letter");
    assert_eq!(letter["attempts"][0]["error"]["class"], "connection");
    assert_eq!(letter["command"], format!("spec-notify replay {}", ids[2]));
    says(&sandbox.run(&["show", &ids[2]]), 0, &["to do", "start the endpoint", "spec-notify replay"]);

    let under_way = shown(3);
    assert_eq!((&under_way["delivery"]["state"], &under_way["waits"]), (&json!("in_flight"), &json!([])));
    assert_eq!(under_way["attempts"], json!([]));
    assert_eq!(
        (&shown(4)["waits"][0]["for"], &shown(4)["delivery"]["paused"]),
        (&json!("paused"), &json!(true))
    );

    // The body byte for byte, as it went out.
    let body = json_of(&sandbox, &["show", &ids[0], "--body"])["body"].clone();
    assert!(body == good.requests()[0].told() || body.is_null(), "{body}");
    let body = json_of(&sandbox, &["show", &ids[2], "--body"])["body"].clone();
    assert_eq!(body, good.requests()[0].told());

    says(&sandbox.run(&["show", "ffffffff-ffff-4"]), 1, &["no delivery has an id that begins with"]);
    says(&sandbox.run(&["show", "SPEC-1"]), 2, &["a delivery's id looks like"]);

    serve.kill();
    let at_rest = shown(1);
    let kinds: Vec<&Value> = at_rest["waits"].as_array().unwrap().iter().map(|wait| &wait["for"]).collect();
    assert_eq!(kinds, ["no_runtime", "backoff"]);
    assert_eq!(at_rest["attempts"], waits["attempts"]);
    assert_eq!(shown(2)["delivery"], letter["delivery"]);
    assert_eq!(shown(0)["delivery"], delivered["delivery"]);
    says(
        &sandbox.run(&["show", &ids[4]]),
        0,
        &["no runtime is running", "paused by", "spec-notify resume paused"],
    );
    // Its evidence is gone: what the dead letter has is shown.
    fs::remove_dir_all(sandbox.path().join(crate::harness::EVIDENCE).join("commands")).unwrap();
    let summary = &shown(2)["attempts"][0];
    assert_eq!((&summary["error"]["class"], &summary["request"]), (&json!("connection"), &Value::Null));
}

#[test]
fn an_id_that_means_several_names_them_and_one_that_means_none_fails() {
    let dead = Endpoint::down();
    let sandbox = Sandbox::new(&[("one", &dead.url(), ONCE)]);
    let _serve = sandbox.serve();
    let emitted: Vec<String> =
        (0..17).map(|n| id_of(&sandbox.emit("SPEC-1", "Plan", &format!("k{n}")), 0)).collect();
    sandbox.wait_for_finals("SPEC-1", 17);
    // Of 17 ids at least two begin with the same digit.
    let count = |digit: char| emitted.iter().filter(|id| id.starts_with(digit)).count();
    let digit = "0123456789abcdef".chars().max_by_key(|digit| count(*digit)).unwrap().to_string();
    for command in [&["show"][..], &["replay"], &["discard", "--yes"]] {
        let ran = sandbox.run(&[command, &[&digit]].concat());
        says(&ran, 2, &["give more of the id", "SPEC-1 to one"]);
        for id in emitted.iter().filter(|id| id.starts_with(&digit)) {
            assert!(ran.stderr.contains(id) || count('0') > 10, "{ran:?}");
        }
    }
    says(&sandbox.run(&["replay", "SPEC-1"]), 2, &["`SPEC-1` is no delivery", "--delivery-id, or --all"]);
    says(&sandbox.run(&["replay", "ffffffff-ffff"]), 1, &["no dead letter has an id"]);
    assert_eq!(sandbox.dead_letters("SPEC-1").len(), 17);
}

#[test]
fn a_replay_needs_no_more_than_the_start_of_an_id_and_nothing_to_do_is_no_failure() {
    let dead = Endpoint::down();
    let sandbox = Sandbox::new(&[("one", &dead.url(), ONCE)]);
    says(&sandbox.run(&["replay", "--all"]), 0, &["nothing to replay"]);
    says(&sandbox.run(&["replay", "--all", "--dry-run"]), 0, &["nothing to replay"]);
    assert_eq!(json_of(&sandbox, &["replay", "--all"]), json!([]));
    says(&sandbox.run(&["replay", "--all", "--subscription", "slip"]), 1, &["no subscription `slip`"]);
    let both = ["replay", "--all", "--subscription", "one", "--subscription", "slip"];
    says(&sandbox.run(&both), 1, &["no subscription `slip`"]);
    let serve = sandbox.serve();
    let ids: Vec<String> =
        (0..3).map(|n| id_of(&sandbox.emit("SPEC-1", "Plan", &format!("k{n}")), 0)).collect();
    sandbox.wait_for_finals("SPEC-1", 3);
    dead.repair([200]);
    let endpoint = dead;
    says(&sandbox.run(&["replay", &ids[0][..13]]), 0, &["delivered: one answered 200"]);
    says(&sandbox.run(&["replay", "SPEC-1", "--delivery-id", &ids[1][..13]]), 0, &["delivered"]);
    let there = format!("{} to one is delivered", ids[0]);
    says(&sandbox.run(&["replay", &ids[0]]), 1, &["no dead letter has an id", &there]);
    // All leaves what is paused alone; by its id it goes, and says so.
    json_of(&sandbox, &["pause", "one"]);
    says(&sandbox.run(&["replay", "--all"]), 1, &["1 not tried: one is paused by", "spec-notify resume one"]);
    assert_eq!(json_of(&sandbox, &["replay", "--all"])[0]["outcome"], "not_tried");
    assert_eq!(endpoint.requests().len(), 2);
    let sent = json_of(&sandbox, &["replay", &ids[2]]);
    assert_eq!(sent[0]["outcome"], "delivered");
    serve.kill();
    assert_eq!(json_of(&sandbox, &["show", &ids[2]])["delivery"]["state"], "delivered");
    says(&sandbox.run(&["replay", "--all", "--since", "2h"]), 0, &["nothing to replay"]);
}

#[test]
fn what_an_endpoint_or_an_emitter_wrote_does_nothing_to_the_terminal() {
    let hostile = "\u{1b}]0;title\u{7}\u{9b}31m\u{202e}";
    let endpoint = Endpoint::answering([page(404, hostile)]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    let key = "k\u{202e}y";
    let id = id_of(&sandbox.emit("SPEC-1", "Plan", key), 0);
    sandbox.wait_for_finals("SPEC-1", 1);
    for arguments in
        [&["show", &id, "--body"][..], &["list", "-o", "wide"], &["--json", "show", &id, "--body"]]
    {
        for width in [0, 60, 160] {
            let mut terminal = Terminal::of_columns(width);
            let mut child = terminal.start(&mut sandbox.command(arguments));
            terminal.wait_for_text("SPEC-1");
            wait_for_end("it", &mut child);
            for deceiving in ["\u{1b}]0;", "\u{7}", "\u{9b}", "\u{202e}"] {
                assert!(!terminal.shown().contains(deceiving), "{arguments:?}: {}", terminal.shown());
            }
        }
    }
}

#[test]
fn people_read_times_of_their_zone_and_machines_utc() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    let id = id_of(&sandbox.emit("SPEC-1", "Plan", "k1"), 0);
    sandbox.wait_for_finals("SPEC-1", 1);
    for (zone, told) in [("UTC-05:30", "UTC+05:30"), ("UTC", "UTC"), ("No/Such_Zone", "UTC")] {
        let ran = Ran::from(sandbox.command(&["show", &id]).env("TZ", zone).output().unwrap());
        says(&ran, 0, &[&format!("are in {told}")]);
    }
    let ran = Ran::from(sandbox.command(&["--json", "show", &id]).env("TZ", "UTC-05:30").output().unwrap());
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(shown["delivery"]["accepted_at"].as_str().unwrap().ends_with('Z'), "{shown}");
}
