//! What is under way at an endpoint, and what is held back.

use serde_json::Value;

use crate::harness::{Answer, Endpoint, Sandbox, wait_for};

fn json(sandbox: &Sandbox, arguments: &[&str]) -> Value {
    let ran = sandbox.run(&[&["--json"], arguments].concat());
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn count(rows: &Value) -> usize {
    rows.as_array().unwrap().len()
}

#[test]
fn in_flight_are_the_requests_that_the_endpoint_sees() {
    let endpoint = Endpoint::answering(vec![Answer::Hang]);
    let sandbox = Sandbox::with_settings(
        "max_concurrency = 2",
        &[("one", &endpoint.url(), "max_in_flight = 8\nper_request_timeout_ms = 60000")],
    );
    let _serve = sandbox.serve();
    for n in 0..5 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    // Those who never succeeded share half of the permits.
    endpoint.wait_for(1);
    let looked = || {
        let status = json(&sandbox, &["status"]);
        let one = &status["subscriptions"][0];
        let both = (one["pending"].as_u64().unwrap(), one["in_flight"].as_u64().unwrap());
        let listed = json(&sandbox, &["list", "--state", "in_flight"]);
        let waits = json(&sandbox, &["list", "--state", "pending"]);
        (both, count(&listed), count(&waits), status["pending"].as_u64().unwrap())
    };
    assert_eq!(looked(), ((4, 1), 1, 4, 5));
    assert_eq!(endpoint.requests().len(), 1);
    endpoint.release();
    sandbox.wait_for_finals("SPEC-1", 5);
    wait_for("nothing to be left", || (looked() == ((0, 0), 0, 0, 0)).then_some(()));
}
