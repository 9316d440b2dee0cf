//! What `docs/integrations/` shows, as it stands there: a guardrail host in shell and in Rust.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{DeadEndpoint, EVIDENCE, Endpoint, Ran, Sandbox, plan_telemetry, wait_for};

fn page(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/integrations").join(name)).unwrap()
}

/// What stands between fences of this kind.
fn block(text: &str, kind: &str) -> String {
    let after = text.split_once(&format!("```{kind}\n")).unwrap().1;
    after.split_once("```").unwrap().0.to_owned()
}

const TELEMETRY: &str = "spec-plan_s-1.json";

/// Runs a script of the host's, which sources the functions of the page and goes on after each.
fn host(sandbox: &Sandbox, script: &str) -> Ran {
    sandbox.write("notify.sh", &block(&page("host.md"), "sh"));
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
    sandbox.write("notify.sh", &block(&page("host.md"), "sh"));
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
    let endpoint = Endpoint::replying(&[200, 400, 200]);
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

/// The example as a program, built as it stands.
fn example() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_spec-notify")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--offline", "--example", "guardrail_host"]);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
    assert!(cargo.status().unwrap().success());
    folder.join("examples/guardrail_host")
}

#[test]
fn the_host_in_rust_is_the_one_of_the_page_and_works() {
    let source = include_str!("../../examples/guardrail_host.rs");
    assert_eq!(block(&page("host.md"), "rust"), source, "the page and the example are the same");
    let endpoint = Endpoint::replying(&[200]);
    let (sandbox, _) = repo(&endpoint.url());
    let host = |sandbox: &Sandbox, arguments: &[&str]| {
        let like = sandbox.command(&[]);
        let mut command = Command::new(example());
        command.args(arguments).current_dir(sandbox.path()).env_clear();
        command.envs(like.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Ran::from(command.output().unwrap())
    };
    let ran = host(&sandbox, &[]);
    assert!(ran.code == 0 && ran.stdout.contains(" one "), "{ran:?}");
    let body = endpoint.wait_for(1)[0].json();
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
    let dead = DeadEndpoint::new();
    let (sandbox, _) = repo(&dead.url());
    assert_eq!(host(&sandbox, &[]).code, 0);
}
