//! A wall clock that jumps by an hour, both ways, under a running `serve` and between two of them.

use std::time::Duration;

use crate::harness::{Endpoint, RequestExt as _, Sandbox, shift_library};

const WAIT: Duration = Duration::from_millis(200);

const POLICY: &str = "initial_backoff_ms = 200\nbackoff_factor = 1.0\njitter_ms = 0\nmax_attempts = 1000";

#[test]
fn a_clock_that_jumps_an_hour_neither_parks_a_delivery_nor_causes_a_burst() {
    let Some(library) = shift_library().filter(|_| cfg!(target_os = "linux")) else {
        eprintln!("skipped: no C compiler that builds a library to preload");
        return;
    };
    let endpoint = Endpoint::answering([503]);
    let sandbox = Sandbox::new(&[("failing", &endpoint.url(), POLICY)]);
    let clock = sandbox.write("clock", "0");
    let sandbox =
        sandbox.env("LD_PRELOAD", library.to_str().unwrap()).env("SHIFT_CLOCK", clock.to_str().unwrap());
    let mut came = 0;
    let mut goes_on = |after: &str| {
        came = endpoint.wait_for(came + 3).len();
        eprintln!("{came} requests after {after}");
    };
    let mut serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    goes_on("the start");
    for seconds in ["3600", "0", "-3600", "0"] {
        sandbox.write("clock", seconds);
        goes_on(seconds);
    }
    for seconds in ["3600", "-3600", "0"] {
        serve.kill();
        sandbox.write("clock", seconds);
        serve = sandbox.serve();
        goes_on(&format!("a restart at {seconds}"));
    }
    endpoint.repair([200]);
    sandbox.wait_for_finals("SPEC-1", 1);

    let requests = endpoint.requests();
    let stamp =
        |request: &crate::harness::Request| request.text_of("webhook-timestamp").parse::<i64>().unwrap();
    let (first, last) = (stamp(&requests[0]), requests.iter().map(stamp).max().unwrap());
    assert!(last - first >= 3600, "the clock did jump");
    // A request is sent a wait after the answer to the one before, which came after that one; but
    // for the three that follow a restart.
    let early = requests.windows(2).filter(|pair| pair[1].at() - pair[0].at() < WAIT).count();
    assert!(early <= 3, "{early} of {} came early", requests.len());
}
