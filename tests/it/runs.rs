//! What a SPEC's stages add up to: attempts, the end of a run told as a whole, its cost.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::{EVIDENCE, Endpoint, RequestExt as _, Sandbox, wait_for};

const SPEC: &str = "SPEC-KIT-065-x";

/// Writes a stage's telemetry as its guardrail does.
fn write_stage(sandbox: &Sandbox, stage: &str, minute: u32, more: &Value) {
    let session = format!("2025-10-14T10:{minute:02}:00Z-{minute}");
    let mut telemetry = json!({
        "command": format!("spec-ops-{stage}"), "specId": SPEC, "sessionId": session,
        "timestamp": format!("2025-10-14T10:{minute:02}:00Z"),
    });
    let good = match stage {
        "plan" => json!({"baseline": {"status": "passed"}}),
        "tasks" => json!({"tool": {"status": "ok"}}),
        "implement" => json!({"lock_status": "locked", "hook_status": "ok"}),
        "unlock" => json!({"unlock_status": "unlocked"}),
        _ => json!({"scenarios": [{"name": "unit", "status": "passed"}]}),
    };
    for fields in [&good, more] {
        telemetry.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    }
    sandbox.write(&format!("{EVIDENCE}/commands/{SPEC}/spec-{stage}_{session}.json"), &telemetry.to_string());
}

/// A kill between an answer and its record sends a request again, under the same id: that counts
/// once.
fn of_type(endpoint: &Endpoint, kind: &str) -> Vec<Value> {
    let mut seen = HashSet::new();
    let requests = endpoint.requests().into_iter();
    let first = requests.filter(|request| seen.insert(request.text_of("x-speckit-id").to_owned()));
    let bodies = first.map(|request| request.told());
    bodies.filter(|body| body["event"]["type"] == kind).collect()
}

fn stages(endpoint: &Endpoint) -> Vec<Value> {
    of_type(endpoint, "spec-auto.stage.completed")
}

fn ends(endpoint: &Endpoint) -> Vec<Value> {
    of_type(endpoint, "spec-auto.pipeline.completed")
}

#[test]
fn a_run_is_told_as_a_whole_once_though_the_runtime_is_killed_in_its_middle() {
    let (all, anomalies) = (Endpoint::answering([200]), Endpoint::answering([200]));
    let named = "include_events = [\"spec-auto.anomaly.cost_threshold\"]";
    let sandbox = Sandbox::with_settings(
        "[spec_ops.webhooks.alerts]\ncost_threshold_usd = 2.5",
        &[("all", &all.url(), ""), ("anomalies", &anomalies.url(), named)],
    );
    let mut serve = sandbox.serve();
    wait_for("the baseline", || sandbox.spool().join("watch.jsonl").exists().then_some(()));
    let failed = json!({"scenarios": [{"name": "unit", "status": "failed"}], "cost_usd": 1.0});
    let none = json!({});
    let costly = json!({"cost_usd": 1.0});
    let run = [
        ("plan", &costly),
        ("tasks", &costly),
        ("implement", &none),
        ("validate", &failed),
        ("validate", &none),
        ("audit", &none),
        ("unlock", &none),
    ];
    for (minute, (stage, more)) in (1u32..).zip(run) {
        write_stage(&sandbox, stage, minute, more);
        wait_for("the stage", || (stages(&all).len() == minute as usize).then_some(()));
        // The last time between the Unlock and the moment at which the end of the run is told.
        if [2, 4, 7].contains(&minute) {
            serve.kill();
            serve = sandbox.serve();
        }
    }
    let end = wait_for("the end of the run", || ends(&all).pop());
    let told: Vec<String> = end["pipeline"]["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| format!("{} {} {}", one["stage"], one["status"], one["attempt"]).replace('"', ""))
        .collect();
    let expected = [
        "Plan success 1",
        "Tasks success 1",
        "Implement success 1",
        "Validate failure 1",
        "Validate success 2",
        "Audit success 1",
        "Unlock success 1",
    ];
    assert_eq!(told, expected);
    assert_eq!((&end["event"]["status"], &end["pipeline"]["attempt"]), (&"success".into(), &1.into()));
    assert_eq!(end["cost"]["totalUsd"], 3.0);
    assert_eq!(end["pipeline"]["durationMs"], 6 * 60 * 1000);
    let attempts: Vec<Value> = stages(&all).iter().map(|body| body["pipeline"]["attempt"].clone()).collect();
    assert_eq!(attempts, [1, 1, 1, 1, 2, 1, 1]);
    // Everything before this is dealt with once the next run's first stage has come.
    write_stage(&sandbox, "plan", 30, &json!({}));
    wait_for("the next run", || (stages(&all).len() == 8).then_some(()));
    assert_eq!(ends(&all).len(), 1, "told once");
    let told = of_type(&anomalies, "spec-auto.anomaly.cost_threshold");
    assert_eq!(told.len(), 1, "once a run");
    assert_eq!(of_type(&all, "spec-auto.anomaly.cost_threshold").len(), 0, "only where it is named");
    assert_eq!(told[0]["anomaly"]["totalUsd"], 3.0);
    drop(serve);
}

#[test]
fn a_halt_ends_a_run_with_what_is_to_be_done_and_a_hosts_own_word_wins() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("all", &endpoint.url(), "")]);
    let tracker = format!(
        "| Task ID | Title | Status | PRD |\n|---|---|---|---|\n| T7 | Write it | In Progress | docs/{SPEC}/PRD.md |\n"
    );
    sandbox.write("SPEC.md", &tracker);
    let _serve = sandbox.serve();
    let emit = |kind: &str, more: &[&str]| {
        let arguments: Vec<&str> =
            ["emit", "--type", kind, "--spec", SPEC].into_iter().chain(more.iter().copied()).collect();
        assert_eq!(sandbox.run(&arguments).code, 0);
    };
    let halted = ["--stage", "Plan", "--status", "halt", "--reason", "broken", "--session", "a"];
    emit("spec-auto.stage.completed", &halted);
    let end = wait_for("the end of the run", || ends(&endpoint).pop());
    assert_eq!((&end["event"]["status"], &end["event"]["reasons"][0]), (&"halt".into(), &"broken".into()));
    assert_eq!(end["followUps"], json!(["Plan: broken", "task T7 (Write it) is In Progress, not Done"]));
    emit("spec-auto.stage.completed", &["--stage", "Unlock", "--status", "success", "--session", "b"]);
    emit("spec-auto.pipeline.completed", &["--status", "failure", "--session", "own"]);
    wait_for("the host's own", || (ends(&endpoint).len() == 2).then_some(()));
    // A later run's end comes after any that were still owed.
    emit("spec-auto.stage.completed", &["--stage", "Plan", "--status", "halt", "--session", "c"]);
    wait_for("the next end", || (ends(&endpoint).len() == 3).then_some(()));
    let statuses: Vec<Value> = ends(&endpoint).iter().map(|body| body["event"]["status"].clone()).collect();
    assert_eq!(statuses, ["halt", "failure", "halt"]);
}

#[test]
fn a_drain_tells_of_a_run_that_has_just_ended() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("all", &endpoint.url(), "")]);
    sandbox.emit(SPEC, "Unlock", "k1");
    let drained = sandbox.run(&["drain"]);
    assert_eq!(drained.code, 0, "{drained:?}");
    assert_eq!((stages(&endpoint).len(), ends(&endpoint).len()), (1, 1));
}

#[test]
fn the_last_allowed_failure_ends_a_run() {
    let (endpoint, channel) = (Endpoint::answering([200]), Endpoint::answering([200]));
    let noteworthy = "notify = \"failures+runs\"";
    let sandbox = Sandbox::with_settings(
        "max_stage_attempts = 2",
        &[("all", &endpoint.url(), ""), ("channel", &channel.url(), noteworthy)],
    );
    let _serve = sandbox.serve();
    // What is there before is not sent.
    wait_for("the baseline", || sandbox.spool().join("watch.jsonl").exists().then_some(()));
    for minute in [1, 2] {
        assert_eq!(ends(&endpoint).len(), 0);
        let failed = json!({"scenarios": [{"name": "unit", "status": "failed"}]});
        write_stage(&sandbox, "audit", minute, &failed);
        wait_for("the stage", || (stages(&endpoint).len() == minute as usize).then_some(()));
    }
    let end = wait_for("the end of the run", || ends(&endpoint).pop());
    assert_eq!(end["event"]["status"], "failure");
    assert_eq!(end["followUps"], json!(["Audit: scenario `unit` is failed, not passed or skipped"]));
    assert_eq!(stages(&endpoint)[1]["pipeline"]["maxAttempts"], 2);
    wait_for("the end of the run", || ends(&channel).pop());
    assert_eq!(stages(&channel).len(), 1, "the failure that ends the run is told by the run alone");
}

#[test]
fn a_run_that_goes_silent_is_told_once_until_it_shows_life() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::with_settings(
        "[spec_ops.webhooks.alerts]\nstall_after_s = 2",
        &[("stalls", &endpoint.url(), "include_events = [\"spec-auto.anomaly.stalled\"]")],
    );
    let serve = sandbox.serve();
    wait_for("the baseline", || sandbox.spool().join("watch.jsonl").exists().then_some(()));
    write_stage(&sandbox, "plan", 1, &json!({}));
    let told = |count: usize| {
        wait_for("a stall", || of_type(&endpoint, "spec-auto.anomaly.stalled").into_iter().nth(count - 1))
    };
    let first = told(1);
    assert_eq!((&first["event"]["stage"], &first["anomaly"]["run"]), (&"Plan".into(), &1.into()));
    assert!(first["event"]["idempotency_key"].as_str().unwrap().contains(":pipeline:attempt-1:stalled-"));
    // Over a restart it stays told.
    serve.kill();
    let serve = sandbox.serve();
    write_stage(&sandbox, "tasks", 2, &json!({}));
    let second = told(2);
    assert_eq!(second["event"]["stage"], "Tasks", "the first one was not told again");
    // What only leaves files lives.
    sandbox.write(&format!("{EVIDENCE}/commands/{SPEC}/spec-tasks_claude_1.json"), "{}");
    let since = |body: &Value| body["anomaly"]["since"].as_str().unwrap().to_owned();
    assert!(since(&told(3)) > since(&second));
    drop(serve);
}

#[test]
fn a_stage_that_waits_for_its_agents_is_shown_and_its_silence_is_told() {
    let endpoint = Endpoint::answering([200]);
    let of = "include_events = [\"spec-auto.anomaly.stalled\", \"spec-auto.stage.completed\"]";
    let sandbox = Sandbox::with_settings(
        "stage_ends_with = \"consensus\"\n[spec_ops.webhooks.alerts]\nstall_after_s = 2",
        &[("all", &endpoint.url(), of)],
    );
    let serve = sandbox.serve();
    wait_for("the baseline", || sandbox.spool().join("watch.jsonl").exists().then_some(()));
    write_stage(&sandbox, "plan", 1, &json!({}));
    let awaited = || {
        let status = sandbox.run(&["status", "--json"]).stdout;
        serde_json::from_str::<Value>(&status).unwrap()["awaited"].clone()
    };
    let shown = wait_for("the stage in status", || Some(awaited()).filter(|awaited| !awaited.is_null()));
    assert_eq!(shown, json!([{"spec": SPEC, "stage": "Plan", "since": "2025-10-14T10:01:00.000Z"}]));
    let text = sandbox.run(&["status"]).stdout;
    assert!(text.contains(&format!("waits    Plan of {SPEC} for its agents, ")), "{text}");
    let stall = |count: usize| {
        wait_for("a stall", || of_type(&endpoint, "spec-auto.anomaly.stalled").into_iter().nth(count - 1))
    };
    assert_eq!(stall(1)["event"]["stage"], "Plan");
    // Over a restart it stays told, and the stage goes on waiting.
    serve.kill();
    let _serve = sandbox.serve();
    wait_for("the stage in status", || Some(awaited()).filter(|awaited| !awaited.is_null()));
    let synthesis = json!({"stage": "plan", "timestamp": "2025-10-14T10:09:00Z", "status": "ok"});
    let path = format!("{EVIDENCE}/consensus/{SPEC}/spec-plan_2025-10-14T10:09:00Z_synthesis.json");
    sandbox.write(&path, &synthesis.to_string());
    let told = wait_for("the stage", || stages(&endpoint).pop());
    assert_eq!((&told["event"]["status"], &told["pipeline"]["attempt"]), (&"success".into(), &1.into()));
    wait_for("nothing waits", || awaited().is_null().then_some(()));
    let second = stall(2);
    assert_eq!(second["anomaly"]["run"], 1);
    assert!(second["anomaly"]["since"].as_str() > stall(1)["anomaly"]["since"].as_str(), "not told again");
}
