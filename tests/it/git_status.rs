//! What `git status` says of a repo that we work in: nothing, ever.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::harness::{EVIDENCE, Endpoint, Sandbox, wait_for};

const TELEMETRY: &str = "spec-plan_20251014T100000Z-1.json";

fn status(sandbox: &Sandbox) -> String {
    sandbox.git(&["status", "--porcelain", "--untracked-files=all"])
}

fn is_clean(sandbox: &Sandbox, after: &str) {
    assert_eq!(status(sandbox), "", "after {after}");
}

/// Everything so far is the host's.
fn commit(sandbox: &Sandbox) {
    sandbox.git(&["init", "-q"]);
    // The tests' own.
    fs::write(sandbox.path().join(".git/info/exclude"), "/serve.log\n").unwrap();
    sandbox.git(&["add", "-A"]);
    sandbox.git(&["commit", "-qm", "the repo"]);
    is_clean(sandbox, "the commit");
}

/// Runs commands, each as it stands on a command line, and looks after each.
fn run_all(sandbox: &Sandbox, commands: &[&str]) {
    for command in commands {
        let arguments: Vec<&str> = command.split(' ').collect();
        let ran = sandbox.run(&arguments);
        // Nothing here is a usage error; what it finds may be a failure.
        assert_ne!(ran.code, 2, "{command}: {ran:?}");
        is_clean(sandbox, command);
    }
}

/// A repo with one endpoint that takes deliveries and one that refuses them.
struct Scene {
    sandbox: Sandbox,
    _takes: Endpoint,
    _refuses: Endpoint,
}

fn scene(settings: &str) -> Scene {
    let (takes, refuses) = (Endpoint::answering([200]), Endpoint::answering([400]));
    let subscriptions =
        [("good", &*takes.url(), ""), ("bad", &*refuses.url(), ""), ("dry", &*takes.url(), "dry_run = true")];
    let sandbox = Sandbox::with_settings(settings, &subscriptions);
    Scene { sandbox, _takes: takes, _refuses: refuses }
}

fn ends_with_runs_of_every_command(scene: &Scene, evidence: &str) {
    let sandbox = &scene.sandbox;
    let telemetry = format!("{evidence}/commands/SPEC-1/{TELEMETRY}");
    sandbox.write(&telemetry, &crate::harness::plan_telemetry("SPEC-1", "s-1").to_string());
    commit(sandbox);
    let event = "--type spec-auto.stage.completed --spec SPEC-1 --stage Plan --status failure";
    let look = ["status", "status --banner", "list", "list SPEC-1 --json", "check"];
    run_all(sandbox, &look);
    let explain = format!("explain --telemetry {telemetry}");
    run_all(sandbox, &[&format!("emit {event} --key 1"), &explain]);
    assert_eq!(sandbox.inbox().len(), 1);
    run_all(sandbox, &look);
    run_all(
        sandbox,
        &[
            "test SPEC-1 --subscription good",
            "test SPEC-2 --subscription good --dry-run",
            "test SPEC-2 --subscription bad",
            "drain",
            "baseline",
            "init",
            "replay --all",
            "secret new",
            "completions bash",
            "reload",
        ],
    );
    run_all(sandbox, &look);
    assert_eq!(sandbox.dead_letters("SPEC-1").len(), 1);
    let serve = sandbox.serve();
    is_clean(sandbox, "the start");
    run_all(sandbox, &[&format!("emit {event} --key 2"), &format!("emit --telemetry {telemetry}")]);
    sandbox.wait_until_nothing_is_pending();
    is_clean(sandbox, "deliveries");
    assert_eq!(sandbox.dead_letters("SPEC-1").len(), 3);
    run_all(sandbox, &["test SPEC-1 --subscription good", "replay --all", "reload", &explain, "drain"]);
    run_all(sandbox, &look);
    wait_for("the spool to be gone", || fs::remove_dir_all(sandbox.spool()).ok());
    wait_for("the spool to be there again", || {
        // While it is made too.
        is_clean(sandbox, "the removal of the spool");
        sandbox.spool().join("runtime.json").exists().then_some(())
    });
    run_all(sandbox, &[&format!("emit {event} --key 3")]);
    sandbox.wait_until_nothing_is_pending();
    is_clean(sandbox, "deliveries");
    let (code, log) = serve.terminate();
    assert_eq!(code, 0, "{log}");
    is_clean(sandbox, "the end");
    receives(sandbox);
    sandbox.git(&["clean", "-fdxq", "-e", "*.log"]);
    run_all(sandbox, &[&format!("emit {event} --key 4"), "status"]);
}

fn receives(sandbox: &Sandbox) {
    let mut receive = sandbox.command(&["receive", "--port", "0", "--count", "1"]);
    let mut child = receive.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    is_clean(sandbox, "receive");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn no_command_leaves_anything_that_git_shows() {
    ends_with_runs_of_every_command(&scene(""), EVIDENCE);
}

#[test]
fn nor_where_spool_and_evidence_are_elsewhere_in_the_repo() {
    let mut scene = scene("spool_dir = \"var/spool\"\nevidence_dir = \"audit/evidence\"");
    scene.sandbox = scene.sandbox.spool_at("var/spool");
    ends_with_runs_of_every_command(&scene, "audit/evidence");
}

/// Delivers one event.
fn deliver(sandbox: &Sandbox, key: &str) {
    sandbox.emit("SPEC-1", "Plan", key);
    let ran = sandbox.run(&["drain"]);
    assert!(ran.code <= 1, "{ran:?}");
}

#[test]
fn evidence_that_is_meant_to_be_committed_is_seen_and_the_spool_is_not() {
    let scene = scene("git_ignore = false");
    let sandbox = &scene.sandbox;
    commit(sandbox);
    deliver(sandbox, "1");
    let seen = format!("?? {EVIDENCE}/commands/SPEC-1/webhooks/deliveries.jsonl\n");
    assert_eq!(status(sandbox), seen);
}

#[test]
fn what_an_earlier_version_made_is_hidden_by_a_start_and_what_somebody_wrote_there_stays() {
    let scene = scene("");
    let sandbox = &scene.sandbox;
    commit(sandbox);
    deliver(sandbox, "1");
    let of_evidence = sandbox.path().join(EVIDENCE).join("commands/SPEC-1/webhooks/.gitignore");
    let of_spool = sandbox.spool().join(".gitignore");
    let both: [&Path; 2] = [&of_evidence, &of_spool];
    both.iter().for_each(|path| fs::remove_file(path).unwrap());
    assert_ne!(status(sandbox), "");
    // No delivery is made here: the start alone does it.
    assert_eq!(sandbox.run(&["drain"]).code, 0);
    is_clean(sandbox, "a start");
    both.iter().for_each(|path| fs::write(path, "# mine\n*\n").unwrap());
    deliver(sandbox, "2");
    both.iter().for_each(|path| assert_eq!(fs::read_to_string(path).unwrap(), "# mine\n*\n"));
}

#[test]
fn a_folder_that_holds_more_than_the_spool_is_refused_or_warned_of() {
    for (spool, code, word) in [
        (".", 2, "`spool_dir` is the repo itself"),
        ("docs/..", 2, "`spool_dir` is the repo itself"),
        (EVIDENCE, 0, "`spool_dir` holds `evidence_dir`"),
        ("var/spool", 0, ""),
    ] {
        let scene = scene(&format!("spool_dir = \"{spool}\""));
        let ran = scene.sandbox.run(&["check"]);
        assert!(
            ran.code == code && format!("{}{}", ran.stdout, ran.stderr).contains(word),
            "{spool}: {ran:?}"
        );
        scene.sandbox.run(&["emit", "--type", "spec-kit.task.completed", "--spec", "SPEC-1"]);
        assert!(!scene.sandbox.path().join(".gitignore").exists());
    }
}

#[test]
fn where_it_cannot_be_made_deliveries_go_on_and_that_is_said_once() {
    let scene = scene("");
    let sandbox = &scene.sandbox;
    let in_the_way = [
        sandbox.spool().join(".gitignore"),
        sandbox.path().join(EVIDENCE).join("commands/SPEC-1/webhooks/.gitignore"),
    ];
    in_the_way.iter().for_each(|path| fs::create_dir_all(path).unwrap());
    let serve = sandbox.serve();
    for key in ["1", "2"] {
        sandbox.emit("SPEC-1", "Plan", key);
    }
    sandbox.wait_for_finals("SPEC-1", 6);
    let (code, log) = serve.terminate();
    assert_eq!(code, 0, "{log}");
    for path in &in_the_way {
        let said = format!("{}: no file is in its place", path.display());
        assert_eq!(log.matches(&said).count(), 1, "{log}");
    }
}
