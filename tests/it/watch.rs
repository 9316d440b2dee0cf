//! A repo that is watched: nothing in it calls us, and its stages and tasks are told of.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::harness::{EVIDENCE, Endpoint, Sandbox, plan_telemetry, wait_for};

fn write_plan(sandbox: &Sandbox, spec: &str, session: &str) -> String {
    write_plan_in(sandbox, EVIDENCE, spec, session)
}

fn write_plan_in(sandbox: &Sandbox, evidence: &str, spec: &str, session: &str) -> String {
    let path = format!("{evidence}/commands/{spec}/spec-plan_{session}.json");
    sandbox.write(&path, &plan_telemetry(spec, session).to_string());
    path
}

fn sessions(endpoint: &Endpoint) -> Vec<String> {
    let session = |body: Value| body["telemetry"]["sessionId"].as_str().unwrap().to_owned();
    endpoint.requests().iter().map(|request| session(request.json())).collect()
}

fn watched() -> (Endpoint, Sandbox) {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    (endpoint, sandbox)
}

fn wait_for_baseline(sandbox: &Sandbox) {
    wait_for("the baseline", || sandbox.spool().join("watch.jsonl").exists().then_some(()));
}

#[test]
fn a_stage_that_ends_is_told_of_without_any_script_and_once_whoever_sees_it() {
    let (endpoint, sandbox) = watched();
    write_plan(&sandbox, "SPEC-KIT-001", "before");
    let serve = sandbox.serve();
    wait_for_baseline(&sandbox);
    let path = write_plan(&sandbox, "SPEC-KIT-001", "now");
    let first = endpoint.wait_for(1);
    assert_eq!(first[0].json()["event"]["status"], "success");
    let again = sandbox.run(&["--json", "emit", "--telemetry", &path]);
    assert!(again.stdout.contains("\"duplicate\""), "{again:?}");
    serve.kill();
    // While nothing runs: a file, and one that a script emits as well.
    write_plan(&sandbox, "SPEC-KIT-001", "meanwhile");
    let both = write_plan(&sandbox, "SPEC-KIT-002", "both");
    assert!(sandbox.run(&["emit", "--telemetry", &both]).stdout.contains("queued"));
    let serve = sandbox.serve();
    endpoint.wait_for(3);
    write_plan(&sandbox, "SPEC-KIT-003", "marker");
    endpoint.wait_for(4);
    let seen: BTreeSet<String> = sessions(&endpoint).into_iter().collect();
    assert_eq!(seen, ["now", "meanwhile", "both", "marker"].map(str::to_owned).into());
    assert_eq!(endpoint.requests().len(), 4, "each once");
    let (code, log) = serve.terminate();
    assert_eq!(code, 0, "{log}");
}

#[test]
fn from_the_start_or_not_at_all() {
    let (endpoint, sandbox) = watched();
    write_plan(&sandbox, "SPEC-KIT-001", "before");
    let serve = sandbox.serve_with(&["--no-watch"]);
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.wait_for_finals("SPEC-1", 1);
    assert!(!sandbox.spool().join("watch.jsonl").exists());
    serve.kill();
    let _serve = sandbox.serve_with(&["--from-start"]);
    let requests = endpoint.wait_for(2);
    assert_eq!(requests[1].json()["telemetry"]["sessionId"], "before");
    let refused = sandbox.run(&["serve", "--no-watch", "--from-start"]);
    assert_eq!(refused.code, 2, "{refused:?}");
}

#[test]
fn killed_at_any_moment_the_watcher_forgets_nothing_and_sends_nothing_twice() {
    let (endpoint, sandbox) = watched();
    let mut serve = sandbox.serve();
    wait_for_baseline(&sandbox);
    let mut written = BTreeSet::new();
    for round in 0..12 {
        for n in 0..5 {
            let session = format!("r{round}-{n}");
            write_plan(&sandbox, &format!("SPEC-KIT-00{n}"), &session);
            written.insert(session);
        }
        // From before anything is read to after everything is sent.
        let deadline = std::time::Instant::now() + std::time::Duration::from_millis(round * 40);
        while std::time::Instant::now() < deadline {
            std::thread::park_timeout(deadline - std::time::Instant::now());
        }
        serve.kill();
        serve = sandbox.serve();
    }
    wait_for("all to arrive", || {
        let arrived: BTreeSet<String> = sessions(&endpoint).into_iter().collect();
        written.is_subset(&arrived).then_some(())
    });
    // A kill between an answer and its record sends a request again, under its id; the watcher
    // adds none.
    let ids: BTreeSet<String> =
        endpoint.requests().iter().map(|request| request.header("x-speckit-id").to_owned()).collect();
    assert_eq!(ids.len(), written.len());
    drop(serve);
}

#[test]
fn tasks_and_consensus_are_told_of_with_what_they_say() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::with_settings(
        "task_done_statuses = [\"In Review\"]\ntask_tracker_spec = \"SPEC-BOARD\"",
        &[("all", &endpoint.url(), "include_events = [\"*\"]"), ("no-anomalies", &endpoint.url(), "")],
    );
    let table = |status: &str| {
        let heading =
            "| Order | Task ID | Title | Status |\n|---|---|---|---|\n| 2 | T2 | Read it | Open |\n";
        format!("{heading}| 1 | T1 | Write it | {status} |\n")
    };
    sandbox.write("SPEC.md", &table("Backlog"));
    let _serve = sandbox.serve();
    wait_for_baseline(&sandbox);
    sandbox.write("SPEC.md", &table("_In review_ 👀"));
    let task = endpoint.wait_for(2)[0].json();
    assert_eq!(
        (&task["event"]["type"], &task["spec"]["id"]),
        (&"spec-kit.task.completed".into(), &"SPEC-BOARD".into())
    );
    assert_eq!((&task["task"]["id"], &task["task"]["title"]), (&"T1".into(), &"Write it".into()));
    let synthesis = r#"{"stage": "spec-plan", "timestamp": "2025-10-14T10:00:30Z", "status": "conflict", "agents": [{"agent": "claude", "model": "m"}], "consensus": {"conflicts": ["a or b"]}}"#;
    sandbox.write(&format!("{EVIDENCE}/consensus/SPEC-KIT-001/spec-plan_synthesis.json"), synthesis);
    write_plan(&sandbox, "SPEC-KIT-001", "2025-10-14T10:00:00Z-1");
    let requests = endpoint.wait_for(5);
    let types: Vec<Value> =
        requests[2..].iter().map(|request| request.json()["event"]["type"].clone()).collect();
    let anomalies = types.iter().filter(|kind| **kind == "spec-auto.anomaly.consensus_conflict").count();
    assert_eq!((types.len(), anomalies), (3, 1), "an anomaly goes only where it is named");
    // The anomaly has a stage too, and may arrive first.
    let is_stage = |body: &Value| body["event"]["type"] == "spec-auto.stage.completed";
    let stage = requests[2..].iter().map(|request| request.json()).find(is_stage);
    let stage = stage.unwrap();
    assert_eq!(
        (&stage["event"]["status"], &stage["consensus"]["status"]),
        (&"halt".into(), &"conflict".into())
    );
    assert_eq!(stage["consensus"]["agents"][0]["agent"], "claude");
    let conflict =
        requests.iter().map(|request| request.json()).find(|body| body["anomaly"].is_object()).unwrap();
    assert_eq!(conflict["anomaly"]["disagreements"][0], "a or b");
    assert!(fs::read_dir(sandbox.spool().join("SPEC-BOARD")).is_ok());
}

#[test]
fn a_conflict_that_comes_late_is_told_and_a_cost_above_the_threshold_at_once() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::with_settings(
        "evidence_dir = \"evidence\"\n[spec_ops.webhooks.alerts]\ncost_threshold_usd = 2.0",
        &[("all", &endpoint.url(), "include_events = [\"*\"]")],
    );
    let serve = sandbox.serve();
    wait_for_baseline(&sandbox);
    let of_type = |kind: &str| {
        let bodies = endpoint.requests().into_iter().map(|request| request.json());
        bodies.filter(|body| body["event"]["type"] == kind).collect::<Vec<Value>>()
    };
    let guardrail = r#"{"schemaVersion": 1, "command": "guardrail.plan", "specId": "SPEC-1", "sessionId": "77",
        "timestamp": "2025-12-26T13:50:08Z", "success": true, "checks": []}"#;
    let path = "docs/SPEC-1/evidence/guardrail-plan-2025-12-26T13-50-08Z_77.json";
    sandbox.write(path, guardrail);
    endpoint.wait_for(1);
    let costs = |total: f64| {
        let summary =
            format!(r#"{{"total_spent": {total}, "budget": 2.0, "per_stage": {{"spec-plan": {total}}}}}"#);
        sandbox.write("evidence/costs/SPEC-1_cost_summary.json", &summary);
    };
    costs(2.5);
    let alert = "spec-auto.anomaly.cost_threshold";
    wait_for("the alert", || (of_type(alert).len() == 1).then_some(()));
    costs(2.75);
    sandbox.write(
        "evidence/consensus/SPEC-1/plan_verdict.json",
        r#"{"spec_id": "SPEC-1", "stage": "plan", "run_id": "run_7", "exported_at": "2025-12-26T14:30:00Z"}"#,
    );
    sandbox.write(
        "evidence/consensus/SPEC-1/plan_synthesis.json",
        r#"{"status": "conflict", "conflicts": ["a or b"], "output_markdown": ""}"#,
    );
    let ends = || of_type("spec-auto.pipeline.completed");
    wait_for("the end of the run", || (ends().len() == 1).then_some(()));
    let key = "SPEC-1:plan:attempt-1:2025-12-26T13-50-08Z_77";
    let stages = of_type("spec-auto.stage.completed");
    let keys: Vec<&Value> = stages.iter().map(|body| &body["event"]["idempotency_key"]).collect();
    assert_eq!(keys, [&key.into(), &format!("{key}:consensus-run_7").into()] as [&Value; 2]);
    assert_eq!((&stages[1]["event"]["status"], &stages[1]["event"]["amends"]), (&"halt".into(), &key.into()));
    assert_eq!(
        (&stages[0]["pipeline"]["attempt"], &stages[1]["pipeline"]["attempt"]),
        (&1.into(), &1.into())
    );
    assert_eq!(of_type("spec-auto.anomaly.consensus_conflict").len(), 1);
    let end = &ends()[0];
    assert_eq!((&end["event"]["status"], &end["cost"]["totalUsd"]), (&"halt".into(), &2.75.into()));
    assert_eq!(end["cost"]["perStage"], serde_json::json!({"Plan": 2.75}));
    assert_eq!(of_type(alert).len(), 1, "once a run, however often the file is written");
    // Killed and looked at again: nothing is told twice.
    serve.kill();
    let _serve = sandbox.serve();
    write_plan_in(&sandbox, "evidence", "SPEC-2", "marker");
    endpoint.wait_for(6);
    assert_eq!(endpoint.requests().len(), 6);
}

#[test]
fn folders_that_go_and_come_back_are_told_of_and_nothing_twice() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::with_settings(
        "evidence_dir = \"evidence\"",
        &[("all", &endpoint.url(), "include_events = [\"spec-auto.stage.completed\"]")],
    );
    let path = |path: &str| sandbox.path().join(path);
    let plan = |session: &str| {
        let telemetry = plan_telemetry("SPEC-KIT-001", session).to_string();
        sandbox.write(&format!("evidence/commands/SPEC-KIT-001/spec-plan_{session}.json"), &telemetry);
    };
    let serve = sandbox.serve();
    wait_for_baseline(&sandbox);
    plan("a");
    endpoint.wait_for(1);
    // As a branch that has it not, `git stash -u` and `git clean` do it.
    for (n, folder) in ["evidence", "evidence/commands", "evidence/commands/SPEC-KIT-001"].iter().enumerate()
    {
        // What is delivered still has its evidence to be written there.
        sandbox.wait_until_nothing_is_pending();
        // What runs in there makes files all the time.
        wait_for("a folder to be removed", || fs::remove_dir_all(path(folder)).ok());
        plan(&format!("removed-{n}"));
        endpoint.wait_for(2 * n + 2);
        sandbox.wait_until_nothing_is_pending();
        // Moved away, and what was there moved back in with one file more.
        fs::rename(path(folder), path("away")).unwrap();
        fs::rename(path("away"), path(folder)).unwrap();
        plan(&format!("moved-{n}"));
        endpoint.wait_for(2 * n + 3);
        // One that is back as it was is known.
        plan("a");
    }
    plan("last");
    endpoint.wait_for(8);
    let expected = ["a", "removed-0", "moved-0", "removed-1", "moved-1", "removed-2", "moved-2", "last"];
    assert_eq!(sessions(&endpoint), expected);
    let (_, log) = serve.terminate();
    // Only the evidence that went with its folder is worth a word.
    let told = |line: &&str| line.contains("WARN") || line.contains("ERROR");
    let is_trouble = |line: &str| !line.contains("deliveries.jsonl was removed or moved away");
    assert!(!log.lines().filter(told).any(is_trouble), "a folder that goes is no trouble: {log}");
}

#[test]
fn what_was_seen_outlives_the_removal_of_its_file_under_a_running_serve() {
    let (endpoint, sandbox) = watched();
    write_plan(&sandbox, "SPEC-KIT-001", "before");
    let serve = sandbox.serve();
    wait_for_baseline(&sandbox);
    write_plan(&sandbox, "SPEC-KIT-001", "now");
    // A kill between an answer and its record would send it again.
    sandbox.wait_for_finals("SPEC-KIT-001", 1);
    fs::remove_file(sandbox.spool().join("watch.jsonl")).unwrap();
    wait_for_baseline(&sandbox);
    serve.kill();
    write_plan(&sandbox, "SPEC-KIT-001", "meanwhile");
    let _serve = sandbox.serve();
    endpoint.wait_for(2);
    write_plan(&sandbox, "SPEC-KIT-002", "marker");
    endpoint.wait_for(3);
    assert_eq!(sessions(&endpoint), ["now", "meanwhile", "marker"]);
}

#[test]
fn explain_and_the_log_say_what_the_watcher_makes_of_what_is_there() {
    let (_endpoint, sandbox) = watched();
    let path = write_plan(&sandbox, "SPEC-1", "before");
    let agents = sandbox.write(&format!("{EVIDENCE}/commands/SPEC-1/spec-plan_gemini_s.json"), "{}");
    let misnamed = sandbox.write(&format!("{EVIDENCE}/commands/SPEC-1/plan.json"), "{}");
    write_plan_in(&sandbox, "evidence", "SPEC-1", "elsewhere");
    let serve = sandbox.serve_with(&["-v"]);
    wait_for("the log", || {
        let log = serve.log();
        let passed = format!("{}: ignored: plan.json is not named", misnamed.display());
        (log.contains(&passed) && log.contains("evidence has telemetry and is not watched")).then_some(())
    });
    let (_, log) = serve.terminate();
    assert_eq!(log.matches("has telemetry and is not watched").count(), 1, "{log}");
    let ran = sandbox.run(&["--json", "explain", "--telemetry", &path]);
    let answers: Value = serde_json::from_str(&ran.stdout).unwrap();
    let row = &answers[0];
    assert_eq!((ran.code, &row["subscription"], &row["matches"]), (0, &"one".into(), &true.into()), "{row}");
    let watcher = &row["watcher"];
    assert_eq!((&watcher["source"], &watcher["state"]), (&"bash guardrails".into(), &"baseline".into()));
    assert_eq!(watcher["event"]["status"], "success");
    let ran = sandbox.run(&["explain", "--telemetry", &path]);
    assert!(ran.stdout.contains("the watcher reads it (bash guardrails): it existed"), "{ran:?}");
    let ran = sandbox.run(&["explain", "--telemetry", agents.to_str().unwrap()]);
    assert!(ran.code == 2 && ran.stderr.contains("the watcher ignores it: by its name"), "{ran:?}");
}

#[test]
fn what_ended_while_nothing_ran_is_said_and_drain_tells_it() {
    let (endpoint, sandbox) = watched();
    let status = |code: i32| {
        let ran = sandbox.run(&["--json", "status"]);
        assert_eq!(ran.code, code, "{ran:?}");
        serde_json::from_str::<Value>(&ran.stdout).unwrap()
    };
    let banner = || sandbox.run(&["status", "--banner"]);
    let drain = |arguments: &[&str], code: i32| {
        let ran = sandbox.run(&[&["--json", "drain"], arguments].concat());
        assert_eq!(ran.code, code, "{ran:?}");
        (serde_json::from_str::<Value>(&ran.stdout).unwrap(), ran.stderr)
    };
    status(0);
    assert!(banner().stdout.is_empty());
    // Nothing was watched yet.
    write_plan(&sandbox, "SPEC-KIT-001", "old");
    let first = status(1);
    assert_eq!(first["sources"], serde_json::json!({"stages": 1, "tasks": 0, "baseline": true}));
    assert!(first["warnings"][0].as_str().unwrap().contains("--from-start"), "{first}");
    assert!(!sandbox.spool().exists(), "looking makes nothing");
    let (drained, said) = drain(&[], 0);
    assert_eq!(drained["baseline"], serde_json::json!({"stages": 1, "tasks": 0, "baseline": true}));
    assert!(
        said.contains("is taken as known and not sent: 1 stage") && said.contains("--from-start"),
        "{said}"
    );
    status(0);
    // A stage ends, and a task, and nothing runs.
    let path = write_plan(&sandbox, "SPEC-KIT-001", "new");
    sandbox.write("SPEC.md", &task_table("Done"));
    let waits = status(1);
    assert_eq!(waits["sources"], serde_json::json!({"stages": 1, "tasks": 1, "baseline": false}));
    assert!(waits["warnings"][0].as_str().unwrap().contains("spec-notify drain"), "{waits}");
    let line = banner();
    assert!(line.code == 1 && line.stdout.contains("1 stage and 1 task not sent"), "{line:?}");
    assert!(drain(&["--no-watch"], 0).0.get("sources").is_none());
    assert!(endpoint.requests().is_empty());
    let (drained, said) = drain(&[], 0);
    assert_eq!(drained["sources"], serde_json::json!({"stages": 0, "tasks": 0, "baseline": false}));
    assert!(drained.get("baseline").is_none() && said.is_empty(), "{said}");
    assert_eq!(endpoint.requests().len(), 2);
    status(0);
    assert!(banner().stdout.is_empty());
    // Through a serve that watches, at once; a script told of it too.
    let serve = sandbox.serve();
    write_plan(&sandbox, "SPEC-KIT-001", "watched");
    assert_eq!(sandbox.run(&["emit", "--telemetry", &path]).code, 0);
    drain(&[], 0);
    assert_eq!(endpoint.requests().len(), 3);
    assert_eq!(status(0)["runtime"]["watches"], true);
    serve.kill();
    // One that does not watch: nobody would ever tell.
    let serve = sandbox.serve_with(&["--no-watch"]);
    write_plan(&sandbox, "SPEC-KIT-001", "unwatched");
    assert_eq!(status(0)["runtime"]["watches"], false);
    let left = sandbox.run(&["drain"]);
    assert!(left.code == 1 && left.stdout.contains("1 stage not sent"), "{left:?}");
    assert!(left.stderr.contains("does not watch"), "{left:?}");
    drain(&["--no-watch"], 0);
    serve.kill();
    assert_eq!(sandbox.run(&["drain", "--no-watch", "--from-start"]).code, 2);
}

#[test]
fn drain_from_the_start_sends_what_is_there() {
    let (endpoint, sandbox) = watched();
    write_plan(&sandbox, "SPEC-KIT-001", "before");
    assert_eq!(sandbox.run(&["drain", "--from-start"]).code, 0);
    assert_eq!(sessions(&endpoint), ["before"]);
}

#[test]
fn what_cannot_be_looked_at_is_said() {
    let (_endpoint, sandbox) = watched();
    assert_eq!(sandbox.run(&["drain"]).code, 0);
    let memory = sandbox.spool().join("watch.jsonl");
    fs::write(&memory, "{\"watch\":{\"version\":9}}\n").unwrap();
    for command in [&["status"][..], &["drain"]] {
        let ran = sandbox.run(command);
        assert!(ran.code == 1, "{ran:?}");
        assert!(format!("{}{}", ran.stdout, ran.stderr).contains("later version"), "{ran:?}");
    }
    let serve = sandbox.serve();
    let ran = sandbox.run(&["status"]);
    assert!(ran.code == 1 && ran.stdout.contains("the repo is not watched"), "{ran:?}");
    serve.kill();
}

/// Runs git in the sandbox; `None` where git is not installed.
fn git(sandbox: &Sandbox, arguments: &[&str]) -> Option<()> {
    let mut git = std::process::Command::new("git");
    git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-C"]).arg(sandbox.path()).args(arguments);
    let ran = git.output().ok()?;
    assert!(ran.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&ran.stderr));
    Some(())
}

fn task_table(status: &str) -> String {
    format!("| ID | Status |\n|---|---|\n| T1 | {status} |\n| T2 | Open |\n")
}

/// A repo whose list is committed with this status; `None` where git is not installed.
fn repo_with_a_task(status: &str) -> Option<(Endpoint, Sandbox)> {
    let (endpoint, sandbox) = watched();
    sandbox.write(".gitignore", "docs/\n.spec-kit/\n");
    sandbox.write("SPEC.md", &task_table(status));
    if git(&sandbox, &["init", "-q", "-b", "main"]).is_none() {
        eprintln!("skipped: git is not installed");
        return None;
    }
    git(&sandbox, &["add", "-A"]);
    git(&sandbox, &["commit", "-q", "-m", "one"]);
    Some((endpoint, sandbox))
}

/// Waits until the watcher has read the list as it is now. What it reads is remembered, and its
/// memory written, whether or not anything is told.
fn wait_until_seen(sandbox: &Sandbox, is_done: bool) {
    let head = fs::read_to_string(sandbox.path().join(".git/HEAD")).unwrap();
    let head = head.trim().strip_prefix("ref: ").unwrap();
    let head = fs::read_to_string(sandbox.path().join(".git").join(head)).unwrap();
    wait_for("the list to be seen", || {
        let memory = fs::read_to_string(sandbox.spool().join("watch.jsonl")).ok()?;
        let last = memory.lines().rfind(|line| line.starts_with("{\"tasks\""))?;
        let last: Value = serde_json::from_str(last).ok()?;
        let seen = &last["tasks"];
        (seen["seen_at"]["head"] == head.trim() && seen["states"]["T1"]["done"] == is_done).then_some(())
    });
}

fn task_keys(endpoint: &Endpoint) -> Vec<String> {
    let key = |body: Value| body["event"]["idempotency_key"].as_str().unwrap().to_owned();
    endpoint.requests().iter().map(|request| key(request.json())).collect()
}

#[test]
fn a_task_is_told_once_over_all_branches_until_work_reopens_it() {
    let Some((endpoint, sandbox)) = repo_with_a_task("Backlog") else { return };
    let git = |arguments: &[&str]| git(&sandbox, arguments).unwrap();
    git(&["checkout", "-q", "-b", "feature"]);
    sandbox.write("SPEC.md", &task_table("Done"));
    git(&["commit", "-q", "-a", "-m", "two"]);
    git(&["checkout", "-q", "main"]);
    let serve = sandbox.serve();
    wait_for_baseline(&sandbox);
    for _ in 0..2 {
        git(&["checkout", "-q", "feature"]);
        wait_until_seen(&sandbox, true);
        git(&["checkout", "-q", "main"]);
        wait_until_seen(&sandbox, false);
    }
    git(&["merge", "-q", "feature"]);
    wait_until_seen(&sandbox, true);
    let first = "SPEC-TRACKER:SPEC.md#T1:done-1";
    endpoint.wait_for(1);
    // Reopened by an edit, which a stash puts away and brings back.
    sandbox.write("SPEC.md", &task_table("In Progress"));
    wait_until_seen(&sandbox, false);
    git(&["stash", "-q"]);
    wait_until_seen(&sandbox, true);
    git(&["stash", "pop", "-q"]);
    wait_until_seen(&sandbox, false);
    git(&["commit", "-q", "-a", "-m", "three"]);
    wait_until_seen(&sandbox, false);
    git(&["checkout", "-q", "feature"]);
    wait_until_seen(&sandbox, true);
    git(&["checkout", "-q", "main"]);
    wait_until_seen(&sandbox, false);
    sandbox.write("SPEC.md", &task_table("Done"));
    endpoint.wait_for(2);
    assert_eq!(task_keys(&endpoint), [first, "SPEC-TRACKER:SPEC.md#T1:done-2"]);
    let (_, log) = serve.terminate();
    assert!(!log.contains("git cannot be asked"), "{log}");
}

#[test]
fn no_program_that_a_repo_names_is_run_when_git_is_asked() {
    let Some((endpoint, sandbox)) = repo_with_a_task("Done") else { return };
    let mark = sandbox.path().join("ran");
    let program = sandbox.write("program", &format!("#!/bin/sh\necho \"$0 $*\" >> {}\n", mark.display()));
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&program, mode).unwrap();
    fs::create_dir(sandbox.path().join("hooks")).unwrap();
    for hook in
        ["post-checkout", "pre-commit", "post-index-change", "reference-transaction", "fsmonitor-watchman"]
    {
        fs::copy(&program, sandbox.path().join("hooks").join(hook)).unwrap();
    }
    sandbox.write(".gitattributes", "* diff=own filter=own\n");
    let program = program.to_str().unwrap();
    let hooks = sandbox.path().join("hooks");
    let serve = sandbox.serve();
    wait_for_baseline(&sandbox);
    // From here on git is run by nobody else.
    let mut config = fs::read_to_string(sandbox.path().join(".git/config")).unwrap();
    config += &format!(
        "[core]\nfsmonitor = {program}\nhooksPath = {}\npager = {program}\nsshCommand = {program}\n\
         editor = {program}\naskPass = {program}\nalternateRefsCommand = {program}\n\
         [alias]\ncat-file = !{program}\n[pager]\ncat-file = true\n[credential]\nhelper = {program}\n\
         [diff \"own\"]\ntextconv = {program}\ncommand = {program}\n\
         [filter \"own\"]\nsmudge = {program}\nclean = {program}\nprocess = {program}\n\
         [gpg]\nprogram = {program}\n[log]\nshowSignature = true\n[uploadpack]\npackObjectsHook = {program}\n",
        hooks.display()
    );
    sandbox.write(".git/config", &config);
    sandbox.write("SPEC.md", &task_table("In Progress"));
    wait_until_seen(&sandbox, false);
    sandbox.write("SPEC.md", &task_table("Done"));
    endpoint.wait_for(1);
    assert_eq!(task_keys(&endpoint), ["SPEC-TRACKER:SPEC.md#T1:done-2"]);
    let (_, log) = serve.terminate();
    assert!(!log.contains("git cannot be asked"), "{log}");
    assert!(!mark.exists(), "{:?}", fs::read_to_string(&mark));
}

#[test]
fn lists_that_a_reload_names_are_looked_at_at_once() {
    let (endpoint, sandbox) = watched();
    sandbox.write("q1-board.md", &task_table("Done"));
    let _serve = sandbox.serve();
    wait_for_baseline(&sandbox);
    let config = fs::read_to_string(sandbox.path().join(".spec-kit/config.toml")).unwrap();
    let named = config.replace("enabled = true", "enabled = true\ntask_files = [\"*-board.md\"]");
    sandbox.write(".spec-kit/config.toml", &named);
    assert_eq!(sandbox.run(&["reload"]).code, 0);
    // What was there is the new glob's baseline.
    let memory = sandbox.spool().join("watch.jsonl");
    wait_for("the list", || fs::read_to_string(&memory).unwrap().contains("q1-board.md").then_some(()));
    sandbox.write("q2-board.md", &task_table("Done"));
    endpoint.wait_for(1);
    assert_eq!(task_keys(&endpoint), ["SPEC-TRACKER:q2-board.md#T1:done-1"]);
}

/// As an agent does it that implements a feature.
#[test]
fn boxes_are_ticked_one_by_one_and_the_last_one_completes_the_list() {
    let (endpoint, chat) = (Endpoint::replying(&[200]), Endpoint::replying(&[200]));
    let sandbox = Sandbox::with_settings(
        "",
        &[
            ("all", &endpoint.url(), "max_in_flight = 1"),
            (
                "chat",
                &chat.url(),
                "format = \"mattermost\"\ninclude_events = [\"spec-kit.tasklist.*\"]\ninclude_tasks = [\"none\"]",
            ),
        ],
    );
    let list = |done: usize| {
        let row = |n: usize| {
            let sign = if n <= done { "X" } else { " " };
            format!("- [{sign}] T00{n} [P] [US{n}] Write part {n}\n")
        };
        format!("# Tasks\n\n{}\n- [ ] Reviewed by a person\n", (1..=3).map(row).collect::<String>())
    };
    sandbox.write("specs/001-first/tasks.md", "- [x] T001 Long done\n");
    sandbox.write("specs/002-x/tasks.md", &list(0));
    let serve = sandbox.serve();
    wait_for_baseline(&sandbox);
    for done in 1..=3 {
        sandbox.write("specs/002-x/tasks.md", &list(done));
        endpoint.wait_for(done);
    }
    let bodies: Vec<Value> = endpoint.wait_for(4).iter().map(|request| request.json()).collect();
    let file = "002-x:specs/002-x/tasks.md";
    let expected = ["#T001:done-1", "#T002:done-1", "#T003:done-1", ":tasklist-done-1"];
    assert_eq!(task_keys(&endpoint), expected.map(|key| format!("{file}{key}")));
    let task = serde_json::json!(
        {"id": "T002", "title": "Write part 2", "status": "Done", "markers": ["P", "US2"]}
    );
    assert_eq!(bodies[1]["task"], task);
    let last = &bodies[3];
    assert_eq!(last["event"]["type"], "spec-kit.tasklist.completed");
    assert_eq!(last["tasks"], serde_json::json!({"done": 3, "total": 3}));
    assert_eq!(
        (&last["spec"]["id"], &last["evidence"]["paths"][0]),
        (&"002-x".into(), &"specs/002-x/tasks.md".into())
    );
    assert!(bodies[2]["event"]["sequence"].as_u64() < last["event"]["sequence"].as_u64());
    let said = chat.wait_for(1)[0].json().to_string();
    assert!(said.contains("002-x") && said.contains("all 3 tasks are done"), "{said}");
    // While nothing runs: a task is added, and ticked after the next start.
    serve.terminate();
    let more = |sign: &str| format!("{}- [{sign}] T004 Write more\n", list(3));
    sandbox.write("specs/002-x/tasks.md", &more(" "));
    let serve = sandbox.serve();
    wait_for("the new task to be seen", || {
        let memory = fs::read_to_string(sandbox.spool().join("watch.jsonl")).ok()?;
        memory.contains("\"T004\"").then_some(())
    });
    sandbox.write("specs/002-x/tasks.md", &more("x"));
    endpoint.wait_for(6);
    assert_eq!(task_keys(&endpoint)[4..], [format!("{file}#T004:done-1"), format!("{file}:tasklist-done-2")]);
    drop(serve);
}

#[test]
fn a_stage_that_waits_for_its_agents_keeps_no_drain_and_is_told_by_the_drain_that_ends_a_job() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::with_settings("stage_ends_with = \"consensus\"", &[("all", &endpoint.url(), "")]);
    let serve = sandbox.serve();
    wait_for_baseline(&sandbox);
    let path = write_plan(&sandbox, "SPEC-KIT-001", "held");
    let opinion = || sandbox.run(&["explain", "--telemetry", &path]).stdout;
    wait_for("the file to be at rest", || opinion().contains("waits for its synthesis").then_some(()));
    let drained = sandbox.run(&["drain", "--timeout", "20"]);
    assert_eq!((drained.code, endpoint.requests().len()), (0, 0), "{drained:?}");
    serve.kill();
    let drained = sandbox.run(&["drain", "--timeout", "20"]);
    assert_eq!((drained.code, sessions(&endpoint)), (0, vec!["held".to_owned()]), "{drained:?}");
}
