//! `-q`, and what `--json` prints when something fails.

use serde_json::{Value, json};

use crate::harness::port::runtime;
use crate::harness::{Endpoint, Ran, Sandbox, wait_for};

/// A dead letter of `one`, whose endpoint refuses everything; `two` takes everything.
fn after_a_failure() -> (Sandbox, [Endpoint; 2]) {
    let (refuses, takes) = (Endpoint::answering([400]), Endpoint::answering([200]));
    let only = |spec: &str| format!("include_specs = [\"{spec}\"]");
    let sandbox =
        Sandbox::new(&[("one", &refuses.url(), &only("BAD-*")), ("two", &takes.url(), &only("GOOD-*"))]);
    let serve = sandbox.serve();
    sandbox.emit("BAD-1", "Plan", "k1");
    sandbox.wait_for_finals("BAD-1", 1);
    serve.terminate();
    (sandbox, [refuses, takes])
}

#[test]
fn quiet_is_the_exit_code_and_errors_alone() {
    let (sandbox, _endpoints) = after_a_failure();
    let event = ["emit", "--type", "spec-auto.stage.completed", "--stage", "Plan", "--spec"];
    let emit = |spec: &'static str| [&event[..], &[spec]].concat();
    let secret = sandbox.run(&["-q", "secret", "new"]);
    assert!(secret.stdout.starts_with("whsec_"), "what is for another program is said: {secret:?}");
    for (arguments, code, error) in [
        (vec!["list"], 0, None),
        (vec!["list", "BAD-1"], 0, None),
        (vec!["list", "NONE-1"], 1, None),
        (vec!["status"], 1, None),
        (vec!["status", "--banner"], 1, None),
        (vec!["check"], 0, None),
        (vec!["check", "--config", "nowhere.toml"], 2, Some("nowhere.toml: cannot be read")),
        (vec!["explain", "--event", "nowhere.json"], 2, Some("cannot read nowhere.json")),
        (vec!["test", "S", "--subscription", "two"], 0, None),
        (vec!["test", "S", "--subscription", "one"], 1, Some("failed: one (status 400)")),
        (vec!["test", "S", "--subscription", "three"], 2, Some("no subscription `three`")),
        (emit("GOOD-1"), 0, None),
        (emit("../etc"), 2, Some("is not a SPEC id")),
        (vec!["drain", "--no-watch"], 0, None),
        (vec!["reload"], 3, Some("start spec-notify serve")),
        (vec!["baseline"], 0, None),
        (vec!["lst"], 2, Some("unrecognized subcommand")),
    ] {
        let ran = sandbox.run(&[&["-q"], &arguments[..]].concat());
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{arguments:?}: {ran:?}");
        match error {
            None => assert_eq!(ran.stderr, "", "{arguments:?}"),
            Some(words) => {
                let said = ran.stderr.starts_with("error: ") && ran.stderr.contains(words);
                assert!(said, "{arguments:?}: {ran:?}");
            }
        }
    }
    // Who asks for JSON reads it.
    let listed = sandbox.run(&["-q", "--json", "list", "BAD-1"]);
    assert_eq!(serde_json::from_str::<Value>(&listed.stdout).unwrap()[0]["state"], "dead_letter");
}

#[test]
fn serve_says_nothing_where_nothing_is_wrong() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let serve = sandbox.serve_with(&["-q"]);
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.wait_for_finals("SPEC-1", 1);
    assert_eq!(serve.terminate(), (0, String::new()));
}

#[test]
fn serve_says_where_in_json() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), ""), ("off", &endpoint.url(), "active = false")]);
    let serve = sandbox.serve_with(&["--json", "-q"]);
    let line = wait_for("its word", || serve.log().lines().next().map(str::to_owned));
    let said: Value = serde_json::from_str(&line).unwrap();
    let runtime = runtime(&sandbox);
    assert_eq!((&said["pid"], &said["address"]), (&runtime["pid"], &runtime["address"]));
    assert_eq!((&said["standby"], &said["subscriptions"]), (&json!(false), &json!(["one"])));
    assert!(said["spool_dir"].as_str().unwrap().ends_with("webhooks"), "{said}");
}

#[track_caller]
fn error_of(ran: &Ran) -> Value {
    let last = ran.stdout.lines().last().unwrap_or_else(|| panic!("nothing on stdout: {ran:?}"));
    let value: Value = serde_json::from_str(last).unwrap();
    assert_eq!(value["error"]["exit"], ran.code, "{ran:?}");
    assert!(!ran.stderr.is_empty(), "people are told too: {ran:?}");
    value["error"].clone()
}

#[test]
fn json_has_an_object_for_every_failure() {
    let sandbox = Sandbox::new(&[("one", "http://127.0.0.1:9/x", "")]);
    let bad = sandbox.write("bad.toml", "[spec_ops.webhooks]\nenabled = true\nmax_concurency = 4\n");
    let bad = bad.to_str().unwrap();
    let id = "00000000-0000-4000-8000-000000000001";
    for (arguments, code, words) in [
        (&["--json"][..], 2, "a command is missing"),
        (&["--json", "lst"], 2, "unrecognized subcommand 'lst'"),
        (&["lst", "--format=json"], 2, "unrecognized subcommand 'lst'"),
        (&["list", "--format", "json", "--stat", "x"], 2, "similar argument exists: '--state'"),
        (&["list", "--json", "--repo", "nowhere"], 2, "nowhere"),
        (&["status", "--json", "--config", "nowhere.toml"], 2, "the config has 1 error"),
        (&["emit", "--json"], 2, "nothing to emit"),
        (&["emit", "--json", "--event", "nowhere.json"], 2, "cannot read nowhere.json"),
        (&["explain", "--json", "--event", "nowhere.json"], 2, "cannot read nowhere.json"),
        (&["preview", "--json", "--event", "x.json"], 2, "--format"),
        (&["test", "--json", "S", "--subscription", "two"], 2, "no subscription `two`"),
        (&["replay", "--json", "S", "--delivery-id", id], 1, id),
        (&["reload", "--json"], 3, "start spec-notify serve"),
        (&["receive", "--json", "--secret-env", "NOT_THERE"], 2, "NOT_THERE"),
        (&["serve", "--json", "--port", "x"], 2, "invalid value 'x'"),
        (&["drain", "--json", "--timeout", "-1"], 2, "'-1'"),
        (&["man", "--json", "--out", "bad.toml"], 1, "cannot write into bad.toml"),
    ] {
        let ran = sandbox.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        let error = error_of(&ran);
        assert!(error["message"].as_str().unwrap().contains(words), "{arguments:?}: {error}");
    }
    for command in ["serve", "drain", "baseline", "explain --event x", "test S --subscription one"] {
        let arguments: Vec<&str> = command.split(' ').chain(["--json", "--config", bad]).collect();
        let error = error_of(&sandbox.run(&arguments));
        let problem = &error["errors"][0];
        assert_eq!((&problem["line"], &problem["column"]), (&json!(3), &json!(1)), "{command}: {error}");
        assert_eq!(problem["message"], "unknown key `max_concurency`", "{command}: {error}");
    }
}
