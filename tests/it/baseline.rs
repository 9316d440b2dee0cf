//! `baseline`: what the sources hold is known from then on, whoever owns the spool, and only what
//! ends after it is told.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};

use serde_json::{Value, json};

use crate::harness::{EVIDENCE, Endpoint, Ran, STRANGER, Sandbox, plan_telemetry, wait_for};

fn stage(sandbox: &Sandbox, session: &str) {
    write_stage(sandbox, session, "passed");
}

fn write_stage(sandbox: &Sandbox, session: &str, baseline: &str) {
    let mut telemetry = plan_telemetry("SPEC-1", session);
    telemetry["baseline"]["status"] = baseline.into();
    let path = format!("{EVIDENCE}/commands/SPEC-1/spec-plan_{session}.json");
    sandbox.write(&path, &telemetry.to_string());
}

fn tasks(sandbox: &Sandbox, statuses: &[&str]) {
    let rows = (1..).zip(statuses).map(|(n, status)| format!("| T{n} | {status} |\n"));
    let table = format!("| Task ID | Status |\n| --- | --- |\n{}", rows.collect::<String>());
    sandbox.write("SPEC.md", &table);
}

fn baseline(sandbox: &Sandbox) -> Value {
    let ran = sandbox.run(&["--json", "baseline"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

fn drain(sandbox: &Sandbox) -> Ran {
    let ran = sandbox.run(&["drain", "--timeout", "30"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    ran
}

fn told(endpoint: &Endpoint) -> Vec<String> {
    let key = |body: Value| body["event"]["idempotency_key"].as_str().unwrap().to_owned();
    let mut keys: Vec<String> = endpoint.requests().iter().map(|request| key(request.json())).collect();
    keys.sort();
    keys
}

fn repo() -> (Endpoint, Sandbox) {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    (endpoint, sandbox)
}

#[test]
fn what_is_there_is_known_and_what_comes_after_it_is_told() {
    let (endpoint, sandbox) = repo();
    stage(&sandbox, "before-1");
    stage(&sandbox, "before-2");
    tasks(&sandbox, &["Done", "Open", "Open"]);
    let emitted = sandbox.emit("SPEC-1", "Plan", "emitted");
    assert_eq!(emitted["outcome"], "queued");
    let first = json!({"outcome": "taken", "stages": 2, "tasks": 1, "first": true, "unread": []});
    assert_eq!(baseline(&sandbox), first);
    assert_eq!(sandbox.inbox().len(), 1, "the inbox is left alone");
    assert!(endpoint.requests().is_empty());
    let again = json!({"outcome": "taken", "stages": 0, "tasks": 0, "first": false, "unread": []});
    assert_eq!(baseline(&sandbox), again);
    stage(&sandbox, "after");
    tasks(&sandbox, &["Done", "Done", "Open"]);
    let ran = drain(&sandbox);
    assert!(!ran.stderr.contains("nothing was watched here before"), "{ran:?}");
    let expected = ["SPEC-1:plan:attempt-1:after", "SPEC-TRACKER:SPEC.md#T2:done-1", "emitted"];
    assert_eq!(told(&endpoint), expected);
    // Later too: what was not told by now is known, and what was told stays told.
    stage(&sandbox, "meanwhile");
    write_stage(&sandbox, "after", "failed");
    tasks(&sandbox, &["Done", "Done", "Done"]);
    let known = json!({"outcome": "taken", "stages": 2, "tasks": 1, "first": false, "unread": []});
    assert_eq!(baseline(&sandbox), known);
    let people = sandbox.run(&["baseline"]);
    assert!(people.stdout.contains("baseline taken: the repo holds nothing new"), "{people:?}");
    drain(&sandbox);
    assert_eq!(told(&endpoint), expected);
    // A file that was known as it was is told once it says something else.
    write_stage(&sandbox, "meanwhile", "failed");
    drain(&sandbox);
    let failed = endpoint.requests()[3].json();
    assert_eq!(failed["event"]["idempotency_key"], "SPEC-1:plan:attempt-1:meanwhile");
    assert_eq!(failed["event"]["status"], "failure");
}

#[test]
fn it_is_the_baseline_that_a_first_serve_takes() {
    let memories = ["serve", "baseline"].map(|command| {
        let (_endpoint, sandbox) = repo();
        stage(&sandbox, "one");
        tasks(&sandbox, &["Done", "Open"]);
        let synthesis = json!({"status": "ok", "agreements": [], "conflicts": []});
        sandbox.write(
            &format!("{EVIDENCE}/consensus/SPEC-1/spec-plan_s_synthesis.json"),
            &synthesis.to_string(),
        );
        if command == "serve" {
            let serve = sandbox.serve();
            wait_for("the baseline", || sandbox.spool().join("watch.jsonl").exists().then_some(()));
            serve.terminate();
        } else {
            baseline(&sandbox);
        }
        let text = fs::read_to_string(sandbox.spool().join("watch.jsonl")).unwrap();
        let mut lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &mut lines {
            // When the file was written, and when its tasks were seen.
            line["telemetry"]["version"].take();
            line["telemetry"]["reached"].take();
            for state in
                line["tasks"]["states"].as_object_mut().into_iter().flat_map(|states| states.values_mut())
            {
                state["told"].take();
            }
        }
        lines.sort_by_key(ToString::to_string);
        lines
    });
    assert!(memories[0].len() >= 5, "{memories:?}");
    assert_eq!(memories[0], memories[1]);
}

#[test]
fn a_runtime_that_watches_has_its_baseline_and_one_that_does_not_is_in_the_way() {
    let (endpoint, sandbox) = repo();
    stage(&sandbox, "before");
    let serve = sandbox.serve();
    assert_eq!(baseline(&sandbox)["outcome"], "watched");
    stage(&sandbox, "after");
    endpoint.wait_for(1);
    assert_eq!(told(&endpoint), ["SPEC-1:plan:attempt-1:after"]);
    serve.terminate();
    let serve = sandbox.serve_with(&["--no-watch"]);
    let ran = sandbox.run(&["baseline"]);
    assert!(ran.code == 1 && ran.stderr.contains("does not watch the repo"), "{ran:?}");
    serve.terminate();
    assert_eq!(baseline(&sandbox)["outcome"], "taken");
}

#[test]
fn where_webhooks_are_off_nothing_is_done_and_where_the_config_is_wrong_that_is_said() {
    let sandbox = Sandbox::empty();
    assert_eq!(baseline(&sandbox)["outcome"], "disabled");
    let ran = sandbox.run(&["baseline"]);
    assert!(ran.code == 0 && ran.stderr.contains("no baseline taken: webhooks are off"), "{ran:?}");
    assert_eq!(fs::read_dir(sandbox.path()).unwrap().count(), 0);
    sandbox.write(".spec-kit/config.toml", "[spec_ops.webhooks]\nenabled = true\nspool_di = \"x\"\n");
    assert_eq!(sandbox.run(&["baseline"]).code, 2);
    sandbox.write(".spec-kit/config.toml", "[spec_ops.webhooks]\nenabled = true\nspool_dir = \"file/x\"\n");
    sandbox.write("file", "");
    let ran = sandbox.run(&["baseline"]);
    assert!(ran.code == 1 && ran.stderr.contains("file"), "{ran:?}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let (_endpoint, sandbox) = repo();
    for n in 0..5 {
        stage(&sandbox, &format!("s-{n}"));
    }
    tasks(&sandbox, &["Done"]);
    // Another user owns the spool and the config, and may not read these files.
    for file in ["SPEC.md", &format!("{EVIDENCE}/commands/SPEC-1/spec-plan_s-0.json")] {
        fs::set_permissions(sandbox.path().join(file), fs::Permissions::from_mode(0o600)).unwrap();
    }
    fs::create_dir_all(sandbox.spool()).unwrap();
    if chown(sandbox.spool(), Some(STRANGER), Some(STRANGER)).is_err() {
        eprintln!("skipped: only root can become another user");
        return;
    }
    let ran = sandbox.run_as_stranger(&["--json", "baseline"]).unwrap();
    assert_eq!(ran.code, 1, "{ran:?}");
    let answer: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&answer["stages"], &answer["tasks"]), (&4.into(), &0.into()));
    assert_eq!(answer["unread"].as_array().unwrap().len(), 2);
    assert!(ran.stderr.contains("SPEC.md cannot be read"), "{ran:?}");
}
