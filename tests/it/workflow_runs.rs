//! Workflow runs of GitHub Spec Kit under a real `serve`, written as the engine writes them.

use std::fs::OpenOptions;
use std::io::Write as _;

use serde_json::{Value, json};

use crate::harness::{Endpoint, RequestExt as _, Sandbox, wait_for};

const WORKFLOW: &str = "schema_version: '1.0'\nworkflow:\n  id: speckit\nsteps:\n- id: specify\n  command: speckit.specify\n\
    - id: review-spec\n  type: gate\n  message: Review the generated spec before planning.\n  options:\n  - approve\n  - reject\n  \
    on_reject: abort\n- id: plan\n  command: speckit.plan\n- id: check\n  type: shell\n  run: make check\n";

/// The engine, as far as its files show it.
struct Engine<'a> {
    sandbox: &'a Sandbox,
    /// That which holds its `.specify`, with a slash.
    folder: &'a str,
    run: &'a str,
    second: u32,
    state: Value,
}

impl Engine<'_> {
    fn begin<'a>(sandbox: &'a Sandbox, run: &'a str) -> Engine<'a> {
        Self::begin_in("", sandbox, run)
    }

    fn begin_in<'a>(folder: &'a str, sandbox: &'a Sandbox, run: &'a str) -> Engine<'a> {
        let state = json!({"run_id": run, "status": "running"});
        let engine = Engine { sandbox, folder, run, second: 0, state };
        sandbox.write(&engine.path("workflow.yml"), WORKFLOW);
        engine.save();
        engine
    }

    fn path(&self, name: &str) -> String {
        format!("{}.specify/workflows/runs/{}/{name}", self.folder, self.run)
    }

    /// `state.json` is replaced before the line is written that tells of it.
    fn save(&self) {
        let new = self.sandbox.write(&self.path(".state.json.new"), &self.state.to_string());
        std::fs::rename(new, self.sandbox.path().join(self.path("state.json"))).unwrap();
    }

    fn log(&mut self, line: Value) {
        self.logs([line]);
    }

    /// Several lines with one write: nobody sees some of them alone.
    fn logs(&mut self, lines: impl IntoIterator<Item = Value>) {
        let mut text = String::new();
        for mut line in lines {
            self.second += 1;
            let (minute, second) = (self.second / 60, self.second % 60);
            line["timestamp"] = format!("2026-11-28T09:{minute:02}:{second:02}.020786+00:00").into();
            text += &format!("{line}\n");
        }
        let log = self.sandbox.path().join(self.path("log.jsonl"));
        let mut log = OpenOptions::new().append(true).create(true).open(log).unwrap();
        log.write_all(text.as_bytes()).unwrap();
    }

    fn starts(&mut self, step: &str, kind: &str) {
        self.log(json!({"event": "step_started", "step_id": step, "type": kind}));
    }

    fn completes(&mut self, step: &str, status: &str, output: &Value) {
        self.state["step_results"][step] = json!({"output": output, "status": status, "error": null});
        self.save();
        self.log(json!({"event": "step_completed", "step_id": step, "status": status}));
    }

    fn fails(&mut self, step: &str, error: &str) {
        self.completes(step, "failed", &Value::Null);
        self.log(json!({"event": "step_failed", "step_id": step, "error": error}));
    }

    fn finishes(&mut self, status: &str) {
        self.log(json!({"event": "workflow_finished", "status": status}));
        self.state["status"] = status.into();
        self.save();
    }
}

fn watched() -> (Endpoint, Sandbox) {
    let endpoint = Endpoint::answering([200]);
    // One at a time, so that they arrive in the order in which they were told.
    let one = ("one", &*endpoint.url(), "max_in_flight = 1");
    let sandbox = Sandbox::with_settings("gate_notice_s = 1", &[one]);
    (endpoint, sandbox)
}

fn keys(endpoint: &Endpoint) -> Vec<String> {
    let key = |body: Value| body["event"]["idempotency_key"].as_str().unwrap().to_owned();
    endpoint.requests().iter().map(|request| key(request.told())).collect()
}

#[test]
fn a_run_is_told_step_by_step_and_its_end_once() {
    let (endpoint, sandbox) = watched();
    let serve = sandbox.serve();
    wait_for("the baseline", || sandbox.spool().join("watch.jsonl").exists().then_some(()));
    let mut engine = Engine::begin(&sandbox, "324c7cc6");
    engine.starts("specify", "command");
    sandbox.write(".specify/feature.json", "{\"feature_directory\": \"specs/002-kanban\"}");
    engine.completes("specify", "completed", &json!({"command": "speckit.specify"}));
    endpoint.wait_for(1);
    // At a terminal: nobody answers.
    engine.starts("review-spec", "gate");
    let waiting = endpoint.wait_for(2).pop().unwrap();
    assert_eq!(waiting.text_of("x-speckit-event"), "spec-auto.pipeline.waiting");
    let body = waiting.told();
    assert_eq!((&body["event"]["status"], &body["spec"]["id"]), (&json!("halt"), &json!("002-kanban")));
    let gate = json!({"step": "review-spec", "message": "Review the generated spec before planning.",
        "options": ["approve", "reject"]});
    assert_eq!(body["pipeline"]["gate"], gate);
    engine.completes("review-spec", "completed", &json!({"choice": "approve"}));
    // As often as a guardrail's stage may fail: no run is made of it.
    for _ in 0..3 {
        engine.starts("plan", "command");
        engine.fails("plan", "no room");
        engine.finishes("failed");
    }
    endpoint.wait_for(8);
    // Paused without a terminal, and rejected.
    engine.starts("review-spec", "gate");
    let output = json!({"message": "Review it.", "options": ["approve", "reject"], "show_file": null});
    engine.completes("review-spec", "paused", &output);
    engine.finishes("paused");
    endpoint.wait_for(9);
    // At once: a machine that is busy must not make a gate of it that waits for a second.
    engine.state["step_results"]["review-spec"] =
        json!({"output": output, "status": "failed", "error": null});
    engine.state["status"] = "aborted".into();
    engine.save();
    engine.logs([
        json!({"event": "step_started", "step_id": "review-spec", "type": "gate"}),
        json!({"event": "step_completed", "step_id": "review-spec", "status": "failed"}),
        json!({"event": "workflow_aborted", "step_id": "review-spec", "error": "Gate rejected by user"}),
        json!({"event": "workflow_finished", "status": "aborted"}),
    ]);
    let end = endpoint.wait_for(10).pop().unwrap().told();
    assert_eq!(end["event"]["reasons"], json!(["step review-spec: Gate rejected by user"]));
    assert_eq!(end["pipeline"]["stages"].as_array().unwrap().len(), 4);
    let (code, log) = serve.terminate();
    assert_eq!(code, 0, "{log}");
    assert!(!log.contains(".specify"), "nothing is wrong with it: {log}");
    // Whatever a run of the guardrails' would owe is told by this.
    assert_eq!(sandbox.run(&["drain"]).code, 0);
    let expected = [
        "specify:attempt-1",
        "gate-review-spec-1",
        "plan:attempt-1",
        "pipeline:attempt-1",
        "plan:attempt-2",
        "pipeline:attempt-2",
        "plan:attempt-3",
        "pipeline:attempt-3",
        "gate-review-spec-2",
        "pipeline:attempt-4",
    ];
    assert_eq!(keys(&endpoint), expected.map(|what| format!("002-kanban:{what}:324c7cc6")));
}

#[test]
fn a_step_that_fails_its_run_is_told_by_the_runs_end_alone_to_those_who_want_failures_and_runs() {
    let (all, noteworthy, of_stages) =
        (Endpoint::answering([200]), Endpoint::answering([200]), Endpoint::answering([200]));
    let stages = "notify = \"failures+runs\"\ninclude_events = [\"spec-auto.stage.*\"]\nmax_in_flight = 1";
    let sandbox = Sandbox::new(&[
        ("all", &all.url(), "max_in_flight = 1"),
        ("noteworthy", &noteworthy.url(), "notify = \"failures+runs\"\nmax_in_flight = 1"),
        ("stages", &of_stages.url(), stages),
    ]);
    let _serve = sandbox.serve();
    wait_for("the baseline", || sandbox.spool().join("watch.jsonl").exists().then_some(()));
    let mut engine = Engine::begin(&sandbox, "bdc8dbf3");
    engine.starts("specify", "command");
    // One that its workflow does without ends no run.
    engine.completes("specify", "failed", &json!({"command": "speckit.specify"}));
    engine.log(json!({"event": "step_continue_on_error", "step_id": "specify", "error": "no room"}));
    engine.starts("plan", "command");
    engine.fails("plan", "no plan");
    engine.finishes("failed");
    let kinds = |endpoint: &Endpoint| -> Vec<String> {
        let of = |body: Value| {
            let text = |name: &str| body["event"][name].as_str().unwrap_or_default().to_owned();
            text("stage") + "/" + text("type").rsplit_once("spec-auto.").unwrap().1
        };
        endpoint.requests().iter().map(|request| of(request.told())).collect()
    };
    all.wait_for(3);
    sandbox.wait_until_nothing_is_pending();
    let (specify, plan, end) = ("Specify/stage.completed", "Plan/stage.completed", "/pipeline.completed");
    assert_eq!(kinds(&all), [specify, plan, end]);
    assert_eq!(kinds(&noteworthy), [specify, end]);
    assert_eq!(kinds(&of_stages), [specify, plan], "it hears of no run's end");
}

#[test]
fn what_a_run_does_while_nothing_runs_is_said_and_told_at_the_next_start() {
    let (endpoint, sandbox) = watched();
    let mut engine = Engine::begin(&sandbox, "r-1");
    engine.starts("specify", "command");
    assert_eq!(sandbox.run(&["drain"]).code, 0);
    sandbox.write(".specify/feature.json", "{\"feature_directory\": \"specs/003-pay\"}");
    engine.completes("specify", "completed", &json!({}));
    engine.starts("check", "shell");
    engine.fails("check", "exited with 2");
    engine.finishes("failed");
    let status = sandbox.run(&["status"]);
    assert!(status.code == 1 && status.stdout.contains("1 workflow run "), "{status:?}");
    let log = engine.path("log.jsonl");
    let explained = sandbox.run(&["explain", "--telemetry", &log]);
    // It is no telemetry, and the watcher's word is said all the same.
    assert!(
        explained.code == 2 && explained.stderr.contains("(workflow runs): it was sent up to byte"),
        "{explained:?}"
    );
    assert_eq!(sandbox.run(&["drain"]).code, 0);
    let end = endpoint.wait_for(2).pop().unwrap().told();
    assert_eq!(keys(&endpoint), ["003-pay:specify:attempt-1:r-1", "003-pay:pipeline:attempt-1:r-1"]);
    assert_eq!(end["event"]["reasons"], json!(["step check: exited with 2"]));
    assert_eq!(sandbox.run(&["status"]).code, 0);
}

#[test]
fn two_packages_of_a_monorepo_run_at_once_and_neither_is_taken_for_the_other() {
    let endpoint = Endpoint::answering([200]);
    let one = ("one", &*endpoint.url(), "max_in_flight = 1");
    let sandbox = Sandbox::with_settings("source_roots = [\"web\", \"packages/api\"]", &[one]);
    let folders = ["web/", "packages/api/"];
    let list = |folder: &str, sign: &str| {
        sandbox.write(&format!("{folder}specs/001-login/tasks.md"), &format!("- [{sign}] T001 Write\n"));
    };
    for folder in folders {
        let feature = "{\"feature_directory\": \"specs/001-login\"}";
        sandbox.write(&format!("{folder}.specify/feature.json"), feature);
        list(folder, " ");
    }
    let serve = sandbox.serve();
    wait_for("the baseline", || sandbox.spool().join("watch.jsonl").exists().then_some(()));
    let mut engines = folders.map(|folder| Engine::begin_in(folder, &sandbox, "6f9a3c73"));
    for engine in &mut engines {
        engine.starts("specify", "command");
    }
    // A hook in one of them is no duplicate of what the other one is at.
    engines[0].state["current_step_id"] = "specify".into();
    engines[0].save();
    let hook = |folder: &str| {
        let stage = ["--type", "spec-auto.stage.completed", "--spec", "HOOK-1", "--stage", "Specify"];
        let arguments = ["--json", "emit", "--hook", "--status", "success"].iter().chain(&stage);
        let mut arguments: Vec<&str> = arguments.copied().collect();
        arguments.extend(["--repo", sandbox.path().to_str().unwrap()]);
        let emitted = sandbox.command(&arguments).current_dir(sandbox.path().join(folder)).output().unwrap();
        let emitted: Value = serde_json::from_slice(&emitted.stdout).unwrap();
        emitted["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(folders.map(hook), ["duplicate", "accepted"]);
    endpoint.wait_for(1);
    for engine in &mut engines {
        engine.completes("specify", "completed", &json!({}));
    }
    endpoint.wait_for(3);
    folders.iter().for_each(|folder| list(folder, "x"));
    endpoint.wait_for(7);
    engines.iter_mut().for_each(|engine| engine.finishes("completed"));
    let requests = endpoint.wait_for(9);
    let mut found = keys(&endpoint).split_off(1);
    found.sort();
    let of = |folder: &str| {
        [
            format!("001-login:{folder}/specs/001-login/tasks.md#T001:done-1"),
            format!("001-login:{folder}/specs/001-login/tasks.md:tasklist-done-1"),
            format!("001-login:pipeline:attempt-1:6f9a3c73@{folder}"),
            format!("001-login:specify:attempt-1:6f9a3c73@{folder}"),
        ]
    };
    let mut expected: Vec<String> = ["web", "packages/api"].iter().flat_map(|folder| of(folder)).collect();
    expected.sort();
    assert_eq!(found, expected);
    for request in requests.iter().skip(1) {
        let body = request.told();
        let key = body["event"]["idempotency_key"].as_str().unwrap();
        let path = body["evidence"]["paths"][0].as_str().unwrap();
        assert_eq!(key.contains("web"), path.starts_with("web/"), "{key}: {path}");
        assert!(sandbox.path().join(path).is_file(), "{path}");
    }
    // A third one that nobody reads is said, by whoever is asked.
    std::fs::create_dir_all(sandbox.path().join("packages/new/.specify")).unwrap();
    let said = "spec-notify does not read packages/new/.specify";
    let status = sandbox.run(&["status"]);
    assert!(status.code == 1 && status.stdout.contains(said), "{status:?}");
    let check = sandbox.run(&["check"]);
    assert!(check.code == 0 && check.stderr.contains(said), "{check:?}");
    let (code, log) = serve.terminate();
    assert!(code == 0 && !log.contains(" WARN "), "{log}");
    let (_, log) = {
        let serve = sandbox.serve();
        wait_for("the warning", || serve.log().contains(said).then_some(()));
        serve.terminate()
    };
    assert_eq!(log.matches(said).count(), 1, "{log}");
    // What they do while nothing runs.
    for engine in &mut engines {
        engine.starts("check", "shell");
        engine.fails("check", "exited with 2");
        engine.finishes("failed");
    }
    let status = sandbox.run(&["status"]);
    assert!(status.code == 1 && status.stdout.contains("2 workflow runs "), "{status:?}");
    assert_eq!(sandbox.run(&["drain"]).code, 0);
    endpoint.wait_for(11);
    let mut last = keys(&endpoint).split_off(9);
    last.sort();
    assert_eq!(
        last,
        ["packages/api", "web"].map(|folder| format!("001-login:pipeline:attempt-2:6f9a3c73@{folder}"))
    );
}
