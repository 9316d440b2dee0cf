//! Figures beside what the endpoint counted, and health over an incident.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Answer, Endpoint, Sandbox, flaky, wait_for};

fn status(sandbox: &Sandbox) -> Value {
    serde_json::from_str(&sandbox.run(&["status", "--json"]).stdout).unwrap()
}

#[test]
fn a_runtime_that_hangs_or_is_gone_hides_no_figures_and_nothing_is_said_to_get_less() {
    let endpoint = Endpoint::answering([Answer::status(200), Answer::status(200), Answer::hang()]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "max_in_flight = 1")]);
    let serve = sandbox.serve();
    for n in 0..4 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    sandbox.wait_for_finals("SPEC-1", 2);
    let counted = |report: &Value| report["subscriptions"][0]["figures"]["hour"]["delivered"].clone();
    serve.signal("STOP");
    let hung = status(&sandbox);
    serve.signal("CONT");
    assert_eq!((&hung["runtime"], counted(&hung)), (&Value::Null, json!(2)), "{hung}");
    serve.kill();
    let gone = status(&sandbox);
    assert_eq!((counted(&gone), &gone["pending"]), (json!(2), &json!(2)));
    assert_eq!(gone["subscriptions"][0].get("empty_in_s").filter(|left| !left.is_null()), None, "{gone}");
}

#[test]
fn a_flaky_endpoint_is_degraded_throughout_and_its_figures_are_what_it_counted() {
    const EVENTS: usize = 60;
    let answers = flaky(1000);
    let endpoint = Endpoint::answering(answers.clone());
    let lines =
        "max_in_flight = 1\nmax_attempts = 3\ninitial_backoff_ms = 5\nbackoff_factor = 1.0\njitter_ms = 0";
    let sandbox = Sandbox::new(&[("flaky", &endpoint.url(), lines)]);
    assert_eq!(status(&sandbox)["subscriptions"][0]["health"], "untried");
    let serve = sandbox.serve();
    let mut states = Vec::new();
    for n in 0..EVENTS {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
        if n % 5 == 4 {
            sandbox.wait_for_finals("SPEC-1", n + 1);
            states.push(status(&sandbox)["subscriptions"][0]["health"].clone());
        }
    }
    assert!(states.iter().all(|state| state == "degraded"), "{states:?}");
    let requests = endpoint.requests().len();
    let failed = answers[..requests].iter().filter(|status| **status == 503).count();
    let dead = fs::read_dir(sandbox.spool().join("SPEC-1/dead-letter")).unwrap().count();
    assert!(failed * 2 > requests && dead > 3, "{failed} of {requests}, {dead} dead");
    let expected = json!([requests, EVENTS - dead, failed, {"503": failed}, dead]);
    let counted = |report: &Value| {
        let hour = &report["subscriptions"][0]["figures"]["hour"];
        assert_eq!(report["figures"]["hour"], *hour, "of all together, which is one");
        json!([hour["attempts"], hour["delivered"], hour["failed"], hour["failures"], hour["given_up"]])
    };
    let report = status(&sandbox);
    assert_eq!(counted(&report), expected);
    assert_eq!(report["figures"]["hour"]["accepted"], EVENTS);
    let [attempts, letters] = &report["troubles"].as_array().unwrap()[..] else { panic!("{report}") };
    assert_eq!((&attempts["what"], &attempts["count"]), (&json!("status 503"), &json!(failed)));
    assert_eq!((&letters["kind"], &letters["count"]), (&json!("dead_letters"), &json!(dead)));
    // The command works as it stands.
    let command = letters["command"].as_str().unwrap().strip_prefix("spec-notify ").unwrap();
    endpoint.repair([200]);
    let replayed = sandbox.run(&command.split(' ').collect::<Vec<_>>());
    assert_eq!(replayed.code, 0, "{replayed:?}");
    // A restart has them from the evidence, and what is over is still shown.
    serve.terminate();
    let expected = json!([requests + dead, EVENTS, failed, {"503": failed}, dead]);
    assert_eq!(counted(&status(&sandbox)), expected, "without a runtime");
    let _serve = sandbox.serve();
    wait_for("the figures", || (counted(&status(&sandbox)) == expected).then_some(()));
    assert_eq!(status(&sandbox)["subscriptions"][0]["health"], "degraded", "it may fail again at any time");
}

#[test]
fn fifteen_that_fail_alike_are_told_once_and_the_banner_stays_short() {
    let down: Vec<Endpoint> = (0..15).map(|_| Endpoint::down()).collect();
    let urls: Vec<String> = down.iter().map(Endpoint::url).collect();
    let names: Vec<String> = (0..15).map(|n| format!("team-{n:02}")).collect();
    let entries: Vec<_> =
        names.iter().zip(&urls).map(|(name, url)| (&**name, &**url, "max_attempts = 1")).collect();
    let sandbox = Sandbox::new(&entries);
    let _serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.wait_for_finals("SPEC-1", 15);
    let report = status(&sandbox);
    let troubles = report["troubles"].as_array().unwrap();
    assert_eq!(troubles.len(), 2, "{troubles:?}");
    assert_eq!((&troubles[0]["count"], &troubles[1]["count"]), (&json!(15), &json!(15)));
    assert_eq!(troubles[1]["command"], "spec-notify replay --all");
    let shown = sandbox.run(&["status"]).stdout;
    assert!(shown.contains("15 × cannot connect: connection refused since "), "{shown}");
    assert!(shown.contains("team-00, team-01, team-02 and 12 more of 15 subscriptions"), "{shown}");
    assert!(shown.lines().count() < 45, "{shown}");
    let banner = sandbox.run(&["status", "--banner"]);
    assert_eq!((banner.code, banner.stdout.lines().count()), (1, 1));
    assert!(banner.stdout.trim_end().chars().count() <= 120, "{}", banner.stdout);
    assert!(banner.stdout.contains("15 of 15 subscriptions failing for"), "{}", banner.stdout);
}
