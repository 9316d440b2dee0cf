//! The logs of workflow runs, written as the engine does.

use std::io::Write as _;

use serde_json::{Value, json};

use super::*;

const WORKFLOW: &str = "workflow:\n  id: w\nsteps:\n- {id: plan, command: speckit.plan}\n\
    - {id: ask, type: gate, message: 'Is {{ steps.plan.output.file | upper }} right?'}\n\
    - {id: tasks, command: speckit.tasks}\n";

/// What an engine writes for a run.
struct Engine<'a> {
    repo: &'a Repo,
    run: &'a str,
    /// That which holds its `.specify`, with a slash.
    folder: &'a str,
}

impl Engine<'_> {
    fn begin<'a>(repo: &'a Repo, run: &'a str) -> Engine<'a> {
        Self::begin_in("", repo, run)
    }

    fn begin_in<'a>(folder: &'a str, repo: &'a Repo, run: &'a str) -> Engine<'a> {
        let feature = "{\"feature_directory\": \"specs/002-kanban\"}";
        repo.write(&format!("{folder}.specify/feature.json"), feature);
        let engine = Engine { repo, run, folder };
        repo.write(&engine.path("workflow.yml"), WORKFLOW);
        engine
    }

    fn path(&self, name: &str) -> String {
        format!("{}.specify/workflows/runs/{}/{name}", self.folder, self.run)
    }

    fn log(&self) -> PathBuf {
        self.repo.dir.path().join(self.path("log.jsonl"))
    }

    fn append(&self, text: &str) {
        let log = self.log();
        fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(log)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
    }

    fn line(event: &str, step: &str, with: &Value) -> String {
        let mut line = json!({"event": event, "step_id": step, "timestamp": Timestamp::now().to_string()});
        line.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        format!("{line}\n")
    }

    fn starts(&self, step: &str, kind: &str) {
        self.append(&Self::line("step_started", step, &json!({"type": kind})));
    }

    fn completes(&self, step: &str, status: &str) {
        self.append(&Self::line("step_completed", step, &json!({"status": status})));
    }

    fn finishes(&self, status: &str) {
        self.append(&Self::line("workflow_finished", "", &json!({"status": status})));
    }

    fn stage(&self, step: &str) -> String {
        self.starts(step, "command");
        self.completes(step, "completed");
        self.key(&format!("{step}:attempt-1"))
    }

    fn key(&self, what: &str) -> String {
        let folder = self.folder.strip_suffix('/').map(|folder| format!("@{folder}")).unwrap_or_default();
        format!("002-kanban:{what}:{}{folder}", self.run)
    }
}

impl Repo {
    #[track_caller]
    fn expect_runs(&self, keys: &[String]) {
        self.expect(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    }

    fn gate(&self, place: usize) -> Value {
        self.sent.lock().unwrap()[place].pipeline.as_ref().unwrap().extra["gate"].clone()
    }
}

#[test]
fn lines_are_told_as_they_come_and_once_over_restarts_of_two_runs_at_once() {
    let repo = Repo::new();
    let watch = repo.watch();
    let (one, other) = (Engine::begin(&repo, "one"), Engine::begin(&repo, "two_2"));
    let mut keys = vec![one.stage("plan")];
    repo.expect_runs(&keys);
    keys.push(other.stage("plan"));
    repo.expect_runs(&keys);
    watch.stop();
    keys.push(one.stage("tasks"));
    one.starts("tasks", "command");
    let watch = repo.watch();
    repo.expect_runs(&keys);
    one.completes("tasks", "completed");
    keys.push(one.key("tasks:attempt-2"));
    repo.expect_runs(&keys);
    one.finishes("completed");
    keys.push(one.key("pipeline:attempt-1"));
    repo.expect_runs(&keys);
    let pipeline = repo.sent.lock().unwrap()[4].pipeline.clone().unwrap();
    assert_eq!(pipeline.extra["stages"].as_array().unwrap().len(), 3);
    // In the middle of the other one its folder goes; what comes back is known.
    let folder = other.log().parent().unwrap().to_owned();
    fs::rename(&folder, repo.dir.path().join("away")).unwrap();
    repo.expect_nothing_but(&keys.iter().map(String::as_str).collect::<Vec<_>>(), "gone");
    fs::rename(repo.dir.path().join("away"), &folder).unwrap();
    other.finishes("failed");
    keys.push(other.key("pipeline:attempt-1"));
    repo.expect_runs(&keys);
    watch.stop();
}

#[test]
fn what_is_there_at_the_first_start_is_known_and_what_comes_later_is_told() {
    let repo = Repo::new();
    for n in 0..300 {
        let name = format!("old-{n}");
        let engine = Engine::begin(&repo, &name);
        engine.stage("plan");
        engine.finishes("completed");
    }
    let middle = Engine::begin(&repo, "middle");
    middle.stage("plan");
    middle.starts("ask", "gate");
    let last_line = Engine::line("step_completed", "ask", &json!({"status": "paused"}));
    middle.append(&last_line[..20]);
    let watch = repo.watch_with(false, "gate_notice_s = 0");
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    middle.append(&last_line[20..]);
    let mut keys = vec![middle.key("gate-ask-1")];
    repo.expect_runs(&keys);
    middle.starts("plan", "command");
    middle.completes("plan", "completed");
    keys.push(middle.key("plan:attempt-2"));
    repo.expect_runs(&keys);
    watch.stop();
    repo.watch_with(true, "").stop();
    assert_eq!(repo.keys(), keys);
}

#[test]
fn a_spec_that_is_made_in_a_workflow_that_is_called_is_not_the_one_before() {
    let repo = Repo::new();
    let call = |id: &str| format!("steps:\n- {{id: call, type: workflow, workflow: {id}}}\n");
    repo.write(".specify/workflows/outer/workflow.yml", &call("inner"));
    // Workflows that call each other in a circle end nothing here.
    let specify = format!("{}- {{id: specify, command: speckit.specify}}\n", call("outer"));
    repo.write(".specify/workflows/inner/workflow.yml", &specify);
    let watch = repo.watch();
    let engine = Engine::begin(&repo, "one");
    let own = format!("{}- {{id: plan, command: speckit.plan}}\n", call("outer"));
    repo.write(&engine.path("workflow.yml"), &own);
    engine.stage("plan");
    repo.expect(&["run-one:plan:attempt-1:one"]);
    let path = json!([0, "workflow", 0]);
    let state = json!({"execution": {"sequence": {"nodes": [{"binding": {"definition": specify},
        "children": [{"nodes": [{}]}]}]}}});
    repo.write(&engine.path("state.json"), &state.to_string());
    engine.append(&Engine::line(
        "step_started",
        "specify",
        &json!({"type": "command", "execution_path": path}),
    ));
    repo.write(".specify/feature.json", "{\"feature_directory\": \"specs/003-new\"}");
    let status = json!({"status": "completed", "execution_path": path});
    engine.append(&Engine::line("step_completed", "specify", &status));
    repo.expect(&["run-one:plan:attempt-1:one", "003-new:specify:attempt-1:one"]);
    watch.stop();
}

#[test]
fn a_gate_that_is_paused_is_told_with_what_it_asks_also_where_the_state_comes_later() {
    let repo = Repo::new();
    let _watch = repo.watch();
    let engine = Engine::begin(&repo, "r");
    engine.starts("ask", "gate");
    engine.completes("ask", "paused");
    // In place, as before 1.0, and torn at first.
    repo.write(&engine.path("state.json"), "{\"step_results\": {");
    let output = json!({"message": "Is A right?", "options": ["yes", "no"], "show_file": "specs/a.md"});
    repo.write(&engine.path("state.json"), &json!({"step_results": {"ask": {"output": output}}}).to_string());
    repo.expect_runs(&[engine.key("gate-ask-1")]);
    let expected =
        json!({"step": "ask", "message": "Is A right?", "options": ["yes", "no"], "showFile": "specs/a.md"});
    assert_eq!(repo.gate(0), expected);
    // One whose state never comes is told without.
    let lonely = Engine::begin(&repo, "lonely");
    lonely.starts("ask", "gate");
    lonely.completes("ask", "paused");
    repo.expect_runs(&[engine.key("gate-ask-1"), lonely.key("gate-ask-1")]);
    assert_eq!(repo.gate(1), json!({"step": "ask", "options": ["approve", "reject"]}));
}

#[test]
fn a_gate_at_a_terminal_is_told_unless_it_is_answered_sooner_also_over_a_restart() {
    let repo = Repo::new();
    let watch = repo.watch_with(false, "gate_notice_s = 1");
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    let engine = Engine::begin(&repo, "r");
    engine.starts("ask", "gate");
    engine.completes("ask", "completed");
    let mut keys = vec![engine.stage("plan")];
    repo.expect_runs(&keys);
    engine.starts("ask", "gate");
    keys.push(engine.stage("tasks"));
    repo.expect_runs(&keys);
    watch.stop();
    assert_eq!(repo.keys(), keys);
    let watch = repo.watch_with(false, "gate_notice_s = 1");
    // What came after the gate is read once more with it, and known by its key.
    let told = |key: &String| repo.keys().contains(key);
    repo.wait("the gate", || told(&engine.key("gate-ask-2")).then_some(()));
    watch.stop();
    let count = repo.keys().len();
    repo.watch_with(false, "gate_notice_s = 1").stop();
    assert_eq!(repo.keys().len(), count);
    assert!(!told(&engine.key("gate-ask-1")));
}

#[test]
fn a_log_that_is_cut_off_or_replaced_is_read_from_its_start_under_the_same_keys() {
    let repo = Repo::new();
    let _watch = repo.watch();
    let engine = Engine::begin(&repo, "r");
    let key = engine.stage("plan");
    repo.expect(&[&key]);
    let text = fs::read_to_string(engine.log()).unwrap();
    // The same again, in another file: nothing is new.
    repo.write("copy", &text);
    fs::rename(repo.dir.path().join("copy"), engine.log()).unwrap();
    let tasks = engine.stage("tasks");
    repo.expect(&[&key, &tasks]);
    // Written anew in place, and longer at once.
    let other = text.replace("2026", "2027") + &"\n".repeat(2000);
    repo.write(&engine.path("log.jsonl"), &other.replace("\"plan\"", "\"plan\" "));
    repo.wait("the key again", || (repo.keys().len() >= 3).then_some(()));
    assert_eq!(repo.keys()[2], key);
    fs::write(engine.log(), "").unwrap();
    engine.append(&text);
    repo.wait("the key again", || (repo.keys().len() >= 4).then_some(()));
    assert_eq!(repo.keys()[3], key);
}

#[test]
fn what_is_no_log_is_passed_over_and_a_broken_line_costs_nothing_else() {
    let repo = Repo::new();
    let _watch = repo.watch();
    let path = |path: &str| repo.dir.path().join(".specify/workflows/runs").join(path);
    for folder in ["folder/log.jsonl", "fifo", "link", "not a run!"] {
        fs::create_dir_all(path(folder)).unwrap();
    }
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, path("fifo/log.jsonl"), rustix::fs::FileType::Fifo, mode, 0)
        .unwrap();
    let engine = Engine::begin(&repo, "r");
    std::os::unix::fs::symlink(engine.log(), path("link/log.jsonl")).unwrap();
    fs::write(
        path("not a run!/log.jsonl"),
        Engine::line("workflow_finished", "", &json!({"status": "failed"})),
    )
    .unwrap();
    engine.append("{\"event\": \"step_sta\n\u{0}\u{1}\nnull\n");
    engine.append(&format!("{}\n", "x".repeat(2_000_000)));
    let key = engine.stage("plan");
    repo.expect_nothing_but(&[&key], "m");
    // A line that is still being written is waited for.
    let line = Engine::line("workflow_finished", "", &json!({"status": "aborted"}));
    engine.append(&line[..30]);
    repo.expect_nothing_but(&[&key], "n");
    engine.append(&line[30..]);
    repo.expect_runs(&[key, engine.key("pipeline:attempt-1")]);
}

#[test]
fn what_is_not_taken_now_is_told_later_in_order() {
    let repo = Repo::new();
    let _watch = repo.watch();
    *repo.fate.lock().unwrap() = Fate::NotNow("full".to_owned());
    let engine = Engine::begin(&repo, "r");
    let keys = [engine.stage("plan"), engine.stage("tasks"), engine.key("pipeline:attempt-1")];
    engine.finishes("completed");
    repo.expect_only_later();
    *repo.fate.lock().unwrap() = Fate::Taken;
    repo.expect_runs(&keys);
}

impl Repo {
    /// Waits until the watcher has come to the log and could tell nothing.
    fn expect_only_later(&self) {
        self.wait("the source in the memory", || {
            let memory = fs::read_to_string(self.dir.path().join("spool/watch.jsonl")).ok()?;
            (memory.contains("workflow runs") && self.keys().is_empty()).then_some(())
        });
    }
}

#[test]
fn a_run_that_goes_silent_is_told_once_for_each_sign_of_life() {
    let repo = Repo::new();
    let settings = "[spec_ops.webhooks.alerts]\nstall_after_s = 1";
    let watch = repo.watch_with(false, settings);
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    let engine = Engine::begin(&repo, "one");
    let plan = engine.stage("plan");
    engine.starts("tasks", "command");
    let stalls = || {
        let sent = repo.sent.lock().unwrap();
        sent.iter().filter(|event| event.event.kind == EventKind::Stalled).cloned().collect::<Vec<_>>()
    };
    let nth = |count: usize| repo.wait("a stall", || stalls().into_iter().nth(count - 1));
    let first = nth(1);
    assert_eq!(first.event.stage.map(|stage| stage.to_string()).as_deref(), Some("Tasks"));
    assert_eq!(first.pipeline.as_ref().unwrap().extra["run"]["step"], "tasks");
    let since = |event: &Event| event.extra["anomaly"]["since"].as_str().unwrap().to_owned();
    assert_eq!(first.event.idempotency_key.as_str(), engine.key(&format!("stalled-{}", since(&first))));
    // A task is ticked; then nobody watches for a while.
    repo.write("specs/002-kanban/tasks.md", "- [x] T001 a\n- [ ] T002 b\n");
    let second = nth(2);
    assert!(since(&second) > since(&first));
    watch.stop();
    let _watch = repo.watch_with(false, settings);
    // As of the same sign, it is known by its key.
    let again = nth(3);
    assert_eq!(again.event.idempotency_key, second.event.idempotency_key);
    // One that stands at a gate, or has ended, is not silent.
    engine.completes("tasks", "completed");
    engine.starts("ask", "gate");
    engine.completes("ask", "paused");
    engine.finishes("paused");
    repo.wait("the gate", || repo.keys().iter().any(|key| key.contains(":gate-ask-1:")).then_some(()));
    repo.wait("both stages", || repo.keys().contains(&plan).then_some(()));
    let other = Engine::begin(&repo, "two");
    other.starts("plan", "command");
    let keys = nth(4).event.idempotency_key;
    assert!(keys.as_str().ends_with(":two"), "{keys}");
}

#[test]
fn each_source_root_has_runs_and_lists_of_its_own_whatever_they_are_called() {
    let repo = Repo::new();
    let settings = "source_roots = [\".\", \"packages/a\", \"packages/b\"]\ngate_notice_s = 0";
    let list = |folder: &str, text: &str| repo.write(&format!("{folder}specs/002-kanban/tasks.md"), text);
    list("packages/b/", "- [ ] T001 Other\n");
    let watch = repo.watch_with(false, settings);
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    // The same id of the same SPEC, in three folders.
    let mut keys = Vec::new();
    let engines = ["", "packages/a/", "packages/b/"].map(|folder| Engine::begin_in(folder, &repo, "one"));
    for engine in &engines {
        keys.push(engine.stage("plan"));
        repo.expect_runs(&keys);
    }
    // Of its own feature alone a run's end says what is open.
    list("packages/a/", "- [x] T001 Write\n- [ ] T002 Read\n");
    keys.push("002-kanban:packages/a/specs/002-kanban/tasks.md#T001:done-1".to_owned());
    repo.expect_runs(&keys);
    engines[1].finishes("completed");
    keys.push(engines[1].key("pipeline:attempt-1"));
    repo.expect_runs(&keys);
    let end = repo.sent.lock().unwrap().last().cloned().unwrap();
    assert_eq!(end.evidence.unwrap().paths, ["packages/a/.specify/workflows/runs/one/log.jsonl"]);
    let pipeline = end.pipeline.unwrap();
    assert_eq!(pipeline.extra["run"], json!({"id": "one", "folder": "packages/a", "workflow": "w"}));
    assert_eq!(end.extra["followUps"], json!(["task T002 (Read) is Open, not Done"]));
    list("packages/b/", "- [x] T001 Other\n");
    keys.push("002-kanban:packages/b/specs/002-kanban/tasks.md#T001:done-1".to_owned());
    keys.push("002-kanban:packages/b/specs/002-kanban/tasks.md:tasklist-done-1".to_owned());
    repo.expect_runs(&keys);
    watch.stop();
    // What a root holds that is named later is its baseline.
    let engine = Engine::begin_in("packages/c/", &repo, "one");
    engine.stage("plan");
    list("packages/c/", "- [x] T001 Old\n");
    let native = |time: &str| {
        let telemetry = json!({"command": "guardrail.plan", "specId": "SPEC-1", "sessionId": "7",
            "success": true, "timestamp": time, "checks": []});
        let name = format!("guardrail-plan-{}_7.json", time.replace(':', "-"));
        repo.write(&format!("packages/c/docs/SPEC-1/evidence/{name}"), &telemetry.to_string());
    };
    native("2025-12-26T13:50:08Z");
    let settings = settings.replace("packages/b\"", "packages/b\", \"packages/c\"");
    let watch = repo.watch_with(false, &settings);
    repo.expect_nothing_but(&keys.iter().map(String::as_str).collect::<Vec<_>>(), "later");
    engine.finishes("completed");
    keys.push(engine.key("pipeline:attempt-1"));
    repo.expect_runs(&keys);
    native("2025-12-26T13:59:08Z");
    keys.push("SPEC-1:plan:attempt-1:2025-12-26T13-59-08Z_7".to_owned());
    repo.expect_runs(&keys);
    watch.stop();
}

#[test]
fn a_specify_that_no_root_covers_is_said() {
    let repo = Repo::new();
    let config = |roots: &str| {
        repo.write(
            "config.toml",
            &format!("[spec_ops.webhooks]\nspool_dir = \"spool\"\nsource_roots = {roots}\n"),
        );
        repo.config()
    };
    assert_eq!(unread::elsewhere(&config("[\".\"]")), None);
    for folder in [
        "packages/a",
        "apps/x/web",
        // Too deep, another program's, hidden, ours, and another checkout.
        "a/b/c/d",
        "node_modules/x",
        "a/target/x",
        ".worktrees/x",
        "spool/x",
        "other",
    ] {
        fs::create_dir_all(repo.dir.path().join(folder).join(".specify")).unwrap();
    }
    repo.write("other/.git", "gitdir: elsewhere\n");
    std::os::unix::fs::symlink("packages/a", repo.dir.path().join("linked")).unwrap();
    repo.write("file/.specify", "no folder\n");
    assert_eq!(
        unread::elsewhere(&config("[\".\"]")).unwrap(),
        "spec-notify does not read packages/a/.specify, apps/x/web/.specify, because source_roots names no \
         such folder: to send their runs and tasks, set source_roots = [\".\", \"packages/a\", \
         \"apps/x/web\"]"
    );
    assert_eq!(unread::elsewhere(&config("[\"packages/a\", \"apps/x/web\"]")), None);
    fs::create_dir(repo.dir.path().join(".specify")).unwrap();
    let said = unread::elsewhere(&config("[\"packages/a\", \"apps/x/web\"]")).unwrap();
    assert!(said.starts_with("spec-notify does not read ./.specify, "), "{said}");
}

/// Puts what is no such file at a path.
fn spoil(path: &Path, how: &str) {
    let outside = tempfile::NamedTempFile::new().unwrap().keep().unwrap().1;
    match how {
        "half-written" => fs::write(path, "{\"status\": \"run").unwrap(),
        "empty" => fs::write(path, "").unwrap(),
        "huge" => fs::File::create(path).unwrap().set_len(100 << 20).unwrap(),
        "binary" => fs::write(path, [0, 159, 146, 150, 255, 10, 0, 7]).unwrap(),
        "a folder" => fs::create_dir(path).unwrap(),
        "a link out of the repo" => {
            fs::write(&outside, "{\"feature_directory\": \"specs/666-else\"}").unwrap();
            std::os::unix::fs::symlink(&outside, path).unwrap();
        }
        "a link to nothing" => std::os::unix::fs::symlink("nowhere", path).unwrap(),
        "a FIFO" => {
            let mode = rustix::fs::Mode::from_raw_mode(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        }
        other => panic!("{other}"),
    }
    fs::remove_file(outside).unwrap();
}

const SPOILT: [&str; 8] = [
    "half-written",
    "empty",
    "huge",
    "binary",
    "a folder",
    "a link out of the repo",
    "a link to nothing",
    "a FIFO",
];

#[test]
fn whatever_stands_beside_a_log_what_the_log_says_is_told_and_nothing_else() {
    let repo = Repo::new();
    let _watch = repo.watch();
    let mut keys = Vec::new();
    for (n, how) in SPOILT.into_iter().enumerate() {
        for file in ["state.json", "workflow.yml"] {
            let name = format!("{}-{n}", &file[..5]);
            let engine = Engine::begin(&repo, &name);
            let path = repo.dir.path().join(engine.path(file));
            let _ = fs::remove_file(&path);
            spoil(&path, how);
            if file == "workflow.yml" {
                // As a run has it that took its steps into its state.
                let step = json!({"output": {"command": "speckit.plan"}, "status": "completed"});
                let state = json!({"run_id": name, "step_results": {"plan": step}});
                repo.write(&engine.path("state.json"), &state.to_string());
            }
            keys.push(engine.stage("plan"));
            repo.expect_runs(&keys);
            engine.starts("ask", "gate");
            engine.completes("ask", "paused");
            keys.push(engine.key("gate-ask-1"));
            repo.expect_runs(&keys);
            engine.finishes("failed");
            keys.push(engine.key("pipeline:attempt-1"));
            repo.expect_runs(&keys);
        }
    }
    let status = |event: &Event| event.event.status;
    let told: Vec<_> = repo.sent.lock().unwrap().iter().map(status).collect();
    let each = [Some(Status::Success), Some(Status::Halt), Some(Status::Failure)];
    assert_eq!(told, each.repeat(2 * SPOILT.len()));
    // What is to name the SPEC names none, and no link is asked.
    for (n, how) in SPOILT.into_iter().enumerate() {
        let name = format!("feature-{n}");
        let engine = Engine::begin(&repo, &name);
        let path = repo.dir.path().join(".specify/feature.json");
        fs::remove_file(&path).unwrap();
        spoil(&path, how);
        engine.stage("plan");
        keys.push(format!("run-{name}:plan:attempt-1:{name}"));
        repo.expect_runs(&keys);
        let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
    }
}

#[test]
fn a_log_that_is_none_at_first_is_told_from_when_it_is_one() {
    let repo = Repo::new();
    let _watch = repo.watch();
    let mut keys = Vec::new();
    for (n, how) in SPOILT.into_iter().enumerate() {
        let name = format!("log-{n}");
        let engine = Engine::begin(&repo, &name);
        let log = engine.log();
        spoil(&log, how);
        let is_file = fs::symlink_metadata(&log).unwrap().is_file();
        let said = unread::sources(&repo.config());
        assert_eq!(
            said.iter().any(|said| said.contains("log.jsonl is not the run's own")),
            !is_file,
            "{how}: {said:?}"
        );
        if is_file {
            // What stands there is a line, or the start of one.
            engine.append("\n");
        } else {
            fs::remove_file(&log).or_else(|_| fs::remove_dir(&log)).unwrap();
        }
        keys.push(engine.stage("plan"));
        repo.expect_runs(&keys);
    }
    // A run whose lines have no times, times of any kind, or tell of what nobody knows.
    let engine = Engine::begin(&repo, "odd");
    let (past, future) = ("1970-01-01T00:00:00Z", "2999-01-01T00:00:00Z");
    for line in [
        json!({"event": "workflow_teleported", "step_id": "plan", "status": "completed"}),
        json!({"event": "step_started", "step_id": "plan", "type": "command"}),
        json!({"event": "step_completed", "step_id": "plan", "status": "transcended", "timestamp": 7}),
        json!({"event": "step_completed", "step_id": "plan", "status": "completed", "timestamp": "now"}),
        json!({"step_id": "plan"}),
        json!({"event": 1}),
        json!({"event": "workflow_finished", "status": "vanished"}),
        json!({"event": "step_started", "step_id": "tasks", "type": "command", "timestamp": future}),
        json!({"event": "step_completed", "step_id": "tasks", "status": "completed", "timestamp": past}),
        json!({"event": "workflow_finished", "status": "completed"}),
    ] {
        engine.append(&format!("{line}\n"));
    }
    keys.extend(["plan:attempt-1", "tasks:attempt-1", "pipeline:attempt-1"].map(|what| engine.key(what)));
    repo.expect_runs(&keys);
    repo.expect_nothing_but(&keys.iter().map(String::as_str).collect::<Vec<_>>(), "end");
}
