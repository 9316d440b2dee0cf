//! Failing endpoints: retries under one id, dead letters, replays, deadlines.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::json;

use crate::harness::{Answer, Endpoint, RequestExt as _, Sandbox, wait_for};

const FAST: &str = "initial_backoff_ms = 1\njitter_ms = 0\nmax_attempts = 3";

#[test]
fn a_delivery_is_retried_under_one_id_with_one_body_until_it_arrives() {
    let endpoint = Endpoint::answering([500, 429, 200]);
    let sandbox = Sandbox::new(&[("flaky", &endpoint.url(), FAST)]);
    let _serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    let finals = sandbox.wait_for_finals("SPEC-1", 1);
    assert_eq!((&finals[0]["state"], &finals[0]["attempts"]), (&json!("delivered"), &json!(3)));
    let requests = endpoint.requests();
    let distinct = |part: fn(&crate::harness::Request) -> String| {
        requests.iter().map(part).collect::<HashSet<_>>().len()
    };
    assert_eq!(requests.len(), 3);
    assert_eq!(distinct(|r| r.text_of("x-speckit-id").to_owned()), 1);
    assert_eq!(distinct(|r| String::from_utf8(r.body().to_vec()).unwrap()), 1);
    let attempts: Vec<_> = requests.iter().map(|r| r.text_of("x-speckit-attempt").to_owned()).collect();
    assert_eq!(attempts, ["1", "2", "3"]);
    let outcomes: Vec<_> = sandbox.evidence("SPEC-1").iter().map(|line| line["outcome"].clone()).collect();
    assert_eq!(outcomes, [json!("retry"), json!("retry"), json!("delivered"), json!(null)]);
}

#[test]
fn exhausted_retries_become_a_dead_letter_that_can_be_replayed() {
    let down = Endpoint::down();
    let sandbox = Sandbox::new(&[("dead", &down.url(), FAST)]);
    let serve = sandbox.serve();
    let emitted = sandbox.emit("SPEC-1", "Plan", "k1");
    let id = emitted["deliveries"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.wait_for_finals("SPEC-1", 1)[0]["state"], "dead_letter");
    let letter = sandbox.dead_letters("SPEC-1").remove(0);
    assert_eq!(letter["id"], id);
    assert_eq!(letter["attempts"].as_array().unwrap().len(), 3);
    assert_eq!(letter["reason"], json!({"kind": "exhausted", "attempts": 3}));
    assert_eq!(letter["replay"], format!("spec-notify replay SPEC-1 --delivery-id {id}"));
    assert_eq!(letter["body"]["event"]["idempotency_key"], "k1");

    let replay = ["--json", "--replay", "SPEC-1", "--delivery-id", &id];
    let failed = sandbox.run(&replay);
    assert_eq!(failed.code, 1, "{failed:?}");
    assert_eq!(sandbox.dead_letters("SPEC-1")[0]["attempts"].as_array().unwrap().len(), 4);

    // Repaired; and replayed without a running runtime, by owning the spool for the moment.
    down.repair([200]);
    let endpoint = down;
    serve.terminate();
    let replayed = sandbox.run(&replay);
    assert_eq!(replayed.code, 0, "{replayed:?}");
    let report: serde_json::Value = serde_json::from_str(&replayed.stdout).unwrap();
    assert_eq!((&report[0]["id"], &report[0]["outcome"]), (&json!(id), &json!("delivered")));
    let request = endpoint.requests().remove(0);
    assert_eq!(request.text_of("x-speckit-id"), id);
    assert_eq!(request.text_of("x-speckit-attempt"), "5");
    assert_eq!(request.told(), letter["body"]);
    assert!(sandbox.dead_letters("SPEC-1").is_empty());
    let finals: Vec<_> =
        sandbox.evidence("SPEC-1").into_iter().filter(|line| line["record"] == "final").collect();
    assert_eq!(finals.last().unwrap()["state"], "delivered");
    let gone = sandbox.run(&replay);
    assert!(gone.code == 1 && gone.stderr.contains("no dead letter"), "{gone:?}");
}

#[test]
fn what_no_retry_can_mend_is_given_up_at_once() {
    let redirect = b"HTTP/1.1 302 Found\r\nlocation: http://user:pw@elsewhere.example:81/secret-path\r\ncontent-length: 0\r\n\r\n";
    let cases = [
        (Answer::status(404), json!({"kind": "refused", "status": 404})),
        (Answer::status(401), json!({"kind": "refused", "status": 401})),
        (
            Answer::raw(redirect).then_close(),
            json!({"kind": "redirected", "status": 302, "host": "elsewhere.example:81"}),
        ),
    ];
    for (answer, reason) in cases {
        let endpoint = Endpoint::answering([answer]);
        let sandbox = Sandbox::new(&[("strict", &endpoint.url(), FAST)]);
        let _serve = sandbox.serve();
        sandbox.emit("SPEC-1", "Plan", "k1");
        sandbox.wait_for_finals("SPEC-1", 1);
        assert_eq!(endpoint.requests().len(), 1);
        let letter = sandbox.dead_letters("SPEC-1").remove(0);
        assert_eq!(letter["reason"], reason);
        assert!(!letter["hint"].as_str().unwrap().is_empty());
        let evidence = format!("{:?}", sandbox.evidence("SPEC-1"));
        assert!(!evidence.contains("secret-path") && !evidence.contains("pw@"), "{evidence}");
    }
}

#[test]
fn one_deadline_covers_an_attempt_from_end_to_end() {
    let drips = Answer::status(200).body(vec![b'x'; 100_000]).drip(Duration::from_millis(20));
    for answer in [Answer::hang(), drips] {
        let endpoint = Endpoint::answering([answer.clone(), Answer::status(200)]);
        let lines = format!("{FAST}\nper_request_timeout_ms = 300");
        let sandbox = Sandbox::new(&[("slow", &endpoint.url(), &lines)]);
        let _serve = sandbox.serve();
        sandbox.emit("SPEC-1", "Plan", "k1");
        assert_eq!(sandbox.wait_for_finals("SPEC-1", 1)[0]["state"], "delivered");
        let first = &sandbox.evidence("SPEC-1")[0];
        assert_eq!(
            (&first["error"]["class"], &first["outcome"]),
            (&json!("timeout"), &json!("retry")),
            "{answer:?}"
        );
        endpoint.release();
    }
}

#[test]
fn a_long_answer_is_read_up_to_its_bound_and_kept_up_to_a_smaller_one() {
    let head = b"HTTP/1.1 200 OK\r\ncontent-length: 10000000\r\n\r\n".to_vec();
    let endpoint = Endpoint::answering([Answer::raw([head, vec![b'a'; 10_000_000]].concat()).then_close()]);
    let sandbox = Sandbox::new(&[("long", &endpoint.url(), FAST)]);
    let _serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    assert_eq!(sandbox.wait_for_finals("SPEC-1", 1)[0]["state"], "delivered");
    let body = sandbox.evidence("SPEC-1")[0]["response"]["body"].as_str().unwrap().to_owned();
    assert_eq!((body.chars().count(), body.ends_with('…')), (1025, true));
}

#[test]
fn a_broken_answer_is_a_failure_of_its_own_kind() {
    for (answer, class) in
        [(Answer::raw("nonsense\r\n\r\n").then_close(), "protocol"), (Answer::close(), "connection")]
    {
        let endpoint = Endpoint::answering([answer.clone(), answer, Answer::status(200)]);
        let sandbox = Sandbox::new(&[("broken", &endpoint.url(), FAST)]);
        let _serve = sandbox.serve();
        sandbox.emit("SPEC-1", "Plan", "k1");
        let first = wait_for("the first attempt", || sandbox.evidence("SPEC-1").into_iter().next());
        assert_eq!(first["error"]["class"], class, "{first}");
    }
}
