//! `docs/how-to/guardrail-host.md` and `docs/integrations/`, as they stand there: a guardrail host
//! in shell and in Rust, and the extension for GitHub Spec Kit.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use spec_notify::Stage;

use crate::harness::{EVIDENCE, Endpoint, Ran, RequestExt as _, Sandbox, plan_telemetry, wait_for};
use crate::hosts::command;

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)).unwrap()
}

/// What stands between fences of this kind.
fn block(text: &str, kind: &str) -> String {
    let after = text.split_once(&format!("```{kind}\n")).unwrap().1;
    after.split_once("```").unwrap().0.to_owned()
}

const TELEMETRY: &str = "spec-plan_s-1.json";

/// Runs a script of the host's, which sources the functions of the page and goes on after each.
fn host(sandbox: &Sandbox, script: &str) -> Ran {
    sandbox.write("notify.sh", &block(&page("how-to/guardrail-host.md"), "sh"));
    Ran::from(sandbox.shell(&format!(". ./notify.sh\n{script}\necho went on")).output().unwrap())
}

fn repo(endpoint: &str) -> (Sandbox, String) {
    let sandbox = Sandbox::new(&[("one", endpoint, "max_attempts = 1")]);
    let file = format!("{EVIDENCE}/commands/SPEC-1/{TELEMETRY}");
    sandbox.write(&file, &plan_telemetry("SPEC-1", "s-1").to_string());
    (sandbox, file)
}

#[test]
fn a_guardrail_goes_on_whatever_becomes_of_its_webhooks() {
    let (sandbox, file) = repo("http://127.0.0.1:9/");
    let guardrail = |file: &str| {
        let ran = host(&sandbox, &format!("notify_stage '{file}'"));
        assert_eq!((ran.code, &*ran.stdout), (0, "went on\n"), "{ran:?}");
        ran.stderr
    };
    // No runtime runs.
    guardrail(&file);
    assert_eq!(sandbox.inbox().len(), 1);
    // One that hangs.
    let serve = sandbox.serve_with(&["--no-watch"]);
    wait_for("the inbox to be taken in", || sandbox.inbox().is_empty().then_some(()));
    serve.signal("STOP");
    guardrail(&file);
    assert_eq!(sandbox.inbox().len(), 1);
    serve.kill();
    // What is no telemetry.
    sandbox.write("other.txt", "x");
    for file in ["none.json", "other.txt", ""] {
        assert!(guardrail(file).contains("error"), "{file}");
    }
    // An error in the config, and webhooks that are off.
    let config = fs::read_to_string(sandbox.path().join(".spec-kit/config.toml")).unwrap();
    sandbox.write(".spec-kit/config.toml", &format!("{config}\nmax_attempt = 1\n"));
    assert!(guardrail(&file).contains("see spec-notify check"));
    sandbox.write(".spec-kit/config.toml", &config.replace("enabled = true", "enabled = false"));
    assert!(guardrail(&file).contains("nothing emitted: webhooks are off"));
    sandbox.write(".spec-kit/config.toml", "[spec_ops.webhooks");
    assert!(guardrail(&file).contains("error"));
}

#[test]
fn without_the_program_the_host_is_as_it_was() {
    let sandbox = Sandbox::empty();
    sandbox.write("notify.sh", &block(&page("how-to/guardrail-host.md"), "sh"));
    let without = |script: &str| {
        let mut shell = Command::new("/bin/sh");
        shell.args(["-euc", &format!(". ./notify.sh\n{script}\necho went on")]).current_dir(sandbox.path());
        Ran::from(shell.env_clear().env("PATH", sandbox.path()).output().unwrap())
    };
    for script in ["notify_stage none.json", "notify_status SPEC-1"] {
        let ran = without(script);
        assert_eq!((ran.code, &*ran.stdout, &*ran.stderr), (0, "went on\n", ""), "{script}");
    }
    let ran = without("notify_flags --list");
    assert!(ran.code == 127 && ran.stderr.contains("spec-notify is not installed"), "{ran:?}");
}

#[test]
fn the_status_command_has_a_banner_and_rows_and_the_flags_do_their_work() {
    let endpoint = Endpoint::answering([200, 400, 200]);
    let (sandbox, file) = repo(&endpoint.url());
    let nothing = host(&sandbox, "notify_status SPEC-2");
    assert_eq!(nothing.code, 0, "{nothing:?}");
    let _serve = sandbox.serve_with(&["--no-watch"]);
    host(&sandbox, &format!("notify_stage {file}"));
    sandbox.wait_for_finals("SPEC-1", 1);
    let well = host(&sandbox, "notify_status SPEC-1");
    assert!(well.code == 0 && well.stdout.contains("delivered"), "{well:?}");
    assert!(!well.stdout.contains("dead letter"), "no banner: {well:?}");
    sandbox.emit("SPEC-1", "Tasks", "k-2");
    sandbox.wait_for_finals("SPEC-1", 2);
    let ill = host(&sandbox, "notify_status SPEC-1");
    assert!(ill.code == 0 && ill.stdout.lines().next().unwrap().contains("1 dead letter"), "{ill:?}");
    let id = sandbox.dead_letters("SPEC-1")[0]["id"].as_str().unwrap().to_owned();
    for (flags, said) in [
        ("--list SPEC-1".to_owned(), "dead_letter"),
        ("--test SPEC-1 --subscription one".to_owned(), "delivered"),
        (format!("--replay SPEC-1 --delivery-id {id}"), "delivered"),
    ] {
        let ran = host(&sandbox, &format!("notify_flags {flags}"));
        assert!(ran.code == 0 && ran.stdout.contains(said), "{flags}: {ran:?}");
    }
    let none = host(&sandbox, "notify_flags --test SPEC-1 --subscription none");
    assert_eq!((none.code, none.stdout.contains("went on")), (2, false), "a flag's exit code is the host's");
}

#[test]
fn the_host_in_rust_is_the_one_of_the_page_and_works() {
    let source = include_str!("../../examples/guardrail_host.rs");
    assert_eq!(
        block(&page("how-to/guardrail-host.md"), "rust"),
        source,
        "the page and the example are the same"
    );
    let endpoint = Endpoint::answering([200]);
    let (sandbox, _) = repo(&endpoint.url());
    let host = |sandbox: &Sandbox, arguments: &[&str]| {
        Ran::from(command(sandbox, "guardrail_host").args(arguments).output().unwrap())
    };
    let ran = host(&sandbox, &[]);
    assert!(ran.code == 0 && ran.stdout.contains(" one "), "{ran:?}");
    let body = endpoint.wait_for(1)[0].told();
    assert_eq!(body["event"]["idempotency_key"], "SPEC-KIT-065:plan:attempt-1:host-session-7");
    let listed = host(&sandbox, &["--list", "SPEC-KIT-065"]);
    assert!(listed.code == 0 && listed.stdout.contains("delivered"), "{listed:?}");
    let tested = host(&sandbox, &["--test", "SPEC-1", "--subscription", "none"]);
    assert_eq!(tested.code, 2, "{tested:?}");
    // Webhooks that are off, that are wrong, or that cannot be kept change nothing for the host.
    for config in
        ["", "[spec_ops.webhooks\n", "[spec_ops.webhooks]\nenabled = true\nspool_dir = \"file/x\"\n"]
    {
        sandbox.write(".spec-kit/config.toml", config);
        sandbox.write("file", "");
        let ran = host(&sandbox, &[]);
        assert_eq!(ran.code, 0, "{ran:?}");
    }
    let dead = Endpoint::down();
    let (sandbox, _) = repo(&dead.url());
    assert_eq!(host(&sandbox, &[]).code, 0);
}

const EXTENSION: &str = ".specify/extensions/spec-notify";

/// A project with the extension, as Spec Kit installs it.
fn project(endpoint: &str) -> Sandbox {
    let sandbox = Sandbox::new(&[("one", endpoint, "")]);
    for file in ["extension.yml", "scripts/stage-ended.sh"] {
        sandbox.write(&format!("{EXTENSION}/{file}"), &page(&format!("integrations/spec-kit/{file}")));
    }
    sandbox
}

/// The hooks of the extension, and what the command of each has the agent run.
fn hooks() -> Vec<(String, String)> {
    let manifest = page("integrations/spec-kit/extension.yml");
    let (provided, hooks) = manifest.split_once("\nhooks:\n").unwrap();
    let hooks = hooks.split("\n  after_").map(|hook| hook.strip_prefix("  after_").unwrap_or(hook));
    let value = |text: &str, key: &str| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(key)).unwrap().trim().to_owned();
        line.trim_matches('"').to_owned()
    };
    let of = |hook: &str| {
        let name = hook.split_once(':').unwrap().0.to_owned();
        let command = value(hook, "command:");
        assert_eq!(value(hook, "optional:"), "false");
        let entry = provided.split("- name: ").find(|entry| entry.starts_with(&*command)).unwrap();
        (name, block(&page(&format!("integrations/spec-kit/{}", value(entry, "file:"))), "sh"))
    };
    hooks.map(of).collect()
}

#[test]
fn each_hook_of_the_extension_tells_its_stage() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = project(&endpoint.url());
    sandbox.write(".specify/feature.json", "{\r\n  \"feature_directory\": \"specs/001-first/\"\r\n}");
    let _serve = sandbox.serve_with(&["--no-watch"]);
    let names: Vec<String> = hooks().into_iter().map(|(name, _)| name).collect();
    let all = ["specify", "clarify", "plan", "tasks", "analyze", "checklist", "implement"];
    assert_eq!(names, all);
    let mut told = 0;
    for (name, script) in hooks() {
        let ran = Ran::from(sandbox.shell(&script).output().unwrap());
        assert_eq!(ran.code, 0, "{name}: {ran:?}");
        let stage = script.trim().rsplit(' ').next().unwrap();
        assert_eq!(stage.to_ascii_lowercase(), name);
        if stage.parse::<Stage>().is_err() {
            // A hook never fails, whatever this version knows.
            assert!(ran.stderr.contains(&format!("{stage} of 001-first is not told")), "{ran:?}");
            continue;
        }
        told += 1;
        let body = endpoint.wait_for(told).pop().unwrap().told();
        assert_eq!((&body["event"]["stage"], &body["event"]["status"]), (&stage.into(), &"success".into()));
        assert_eq!(body["spec"]["id"], "001-first");
    }
    assert!(told >= 3);
}

#[test]
fn the_spec_is_the_feature_else_the_branch_else_that_is_said() {
    let sandbox = project("http://127.0.0.1:9/");
    let hook = &hooks().into_iter().find(|(name, _)| name == "plan").unwrap().1;
    let run = || Ran::from(sandbox.shell(hook).output().unwrap());
    let none = run();
    assert!(none.code == 0 && none.stderr.contains("which feature it is of"), "{none:?}");
    for command in ["git init -q", "git checkout -q -b feature/002-kanban"] {
        assert!(sandbox.shell(command).status().unwrap().success());
    }
    assert!(run().stdout.contains(" feature-002-kanban:plan:"));
    for (feature, spec) in [("specs/003-x", "003-x"), ("/elsewhere/004-y/", "004-y")] {
        sandbox.write(".specify/feature.json", &json!({"feature_directory": feature}).to_string());
        assert!(run().stdout.contains(&format!(" {spec}:plan:")), "{feature}");
    }
    // Nothing that a file says is a command.
    let evil = json!({"feature_directory": "specs/$(touch made)`touch made`; touch made"});
    sandbox.write(".specify/feature.json", &evil.to_string());
    let ran = run();
    assert!(ran.code == 0 && ran.stderr.contains("is not told"), "{ran:?}");
    assert!(!sandbox.path().join("made").exists());
    // Without the program.
    let mut shell = Command::new("/bin/sh");
    shell.args([&format!("{EXTENSION}/scripts/stage-ended.sh"), "Plan"]).current_dir(sandbox.path());
    let ran = Ran::from(shell.env_clear().env("PATH", sandbox.path()).output().unwrap());
    assert!(ran.code == 0 && ran.stderr.contains("not installed, so Plan is not told"), "{ran:?}");
}

#[test]
fn a_hook_is_a_duplicate_while_a_workflow_run_is_at_its_command() {
    let sandbox = project("http://127.0.0.1:9/");
    let emit = |stage: &str, more: &[&str]| -> Value {
        let mut arguments = vec!["--json", "emit", "--type", "spec-auto.stage.completed", "--spec", "SPEC-1"];
        arguments.extend(["--stage", stage, "--status", "success"]);
        arguments.extend(more);
        let ran = sandbox.run(&arguments);
        assert_eq!(ran.code, 0, "{ran:?}");
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let run = ".specify/workflows/runs/324c7cc6";
    sandbox.write(&format!("{run}/workflow.yml"), "steps:\n- id: write-plan\n  command: speckit.plan\n");
    let state = |status: &str| {
        let state = json!({"status": status, "current_step_id": "write-plan", "step_results": {}});
        sandbox.write(&format!("{run}/state.json"), &state.to_string());
    };
    state("running");
    let answer = emit("Plan", &["--hook"]);
    let event = json!({"type": "spec-auto.stage.completed", "idempotency_key": "SPEC-1:plan:attempt-1"});
    assert_eq!(answer, json!({"outcome": "duplicate", "event": event, "deliveries": []}));
    assert!(sandbox.inbox().is_empty());
    // Of another stage, without the flag, or once the run is over, it is an event.
    for (stage, more, status) in [
        ("Tasks", &["--hook"][..], "running"),
        ("Plan", &[], "running"),
        ("Plan", &["--hook"], "completed"),
        ("Plan", &["--hook"], "paused"),
    ] {
        state(status);
        assert_eq!(emit(stage, more)["outcome"], "queued", "{stage} {status}");
    }
    sandbox.write(&format!("{run}/state.json"), "{\"status\": \"running\"");
    assert_eq!(emit("Plan", &["--hook"])["outcome"], "queued");
    let wrong = sandbox.run(&["emit", "--hook", "--event", "-"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
}
