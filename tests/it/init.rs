//! `init` in the repos that it is for: what it makes works at once, and what is there stays.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Child;

use serde_json::{Value, json};

use crate::harness::{EVIDENCE, Endpoint, Ran, RequestExt as _, STRANGER, Sandbox, plan_telemetry, wait_for};

const CONFIG: &str = ".spec-kit/config.toml";
const SECRETS: &str = ".spec-kit/webhooks/secrets.env";

/// Every file of a repo with its mode and content, but for git's own.
fn files(root: &Path) -> BTreeMap<PathBuf, (u32, String)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let about = fs::symlink_metadata(&path).unwrap();
            if about.is_dir() && !path.ends_with(".git") {
                folders.push(path.clone());
            }
            let content = if about.is_file() { fs::read_to_string(&path).unwrap() } else { String::new() };
            found.insert(path.strip_prefix(root).unwrap().to_owned(), (about.mode_bits(), content));
        }
    }
    found
}

trait Mode {
    fn mode_bits(&self) -> u32;
}

impl Mode for fs::Metadata {
    fn mode_bits(&self) -> u32 {
        self.permissions().mode() & 0o7777
    }
}

fn init(sandbox: &Sandbox) -> Ran {
    let ran = sandbox.run(&["init"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.stdout.contains("whsec_") && !ran.stderr.contains("whsec_"), "the secret is not said");
    ran
}

/// Makes the config send to this port in the place of its own.
fn send_to(sandbox: &Sandbox, port: &str) {
    let text = fs::read_to_string(sandbox.path().join(CONFIG)).unwrap();
    assert_eq!(text.matches("127.0.0.1:9000").count(), 1, "{text}");
    sandbox.write(CONFIG, &text.replace("9000", port));
}

fn port_of(url: &str) -> String {
    url.rsplit(':').next().unwrap().split('/').next().unwrap().to_owned()
}

/// A kind of repo: what it holds, and something that happens in it.
struct Layout {
    name: &'static str,
    holds: &'static [(&'static str, &'static str)],
    happens: fn(&Sandbox),
    /// What arrives then.
    tells: (&'static str, &'static str),
    spool: &'static str,
}

const STAGE: &str = "spec-auto.stage.completed";

fn bash_guardrail(sandbox: &Sandbox, evidence: &str) {
    let path = format!("{evidence}/commands/SPEC-KIT-065/spec-plan_s-2.json");
    sandbox.write(&path, &plan_telemetry("SPEC-KIT-065", "s-2").to_string());
}

fn native_guardrail(sandbox: &Sandbox) {
    let telemetry = json!({
        "schemaVersion": 1, "command": "guardrail.plan", "specId": "SPEC-KIT-065", "sessionId": "317224",
        "timestamp": "2025-12-26T13:50:08Z", "success": true, "checks": [], "warnings": [], "errors": [],
    });
    let path = "docs/SPEC-KIT-065/evidence/guardrail-plan-2025-12-26T13-50-08Z_317224.json";
    sandbox.write(path, &telemetry.to_string());
}

fn emits(sandbox: &Sandbox) {
    let ran = sandbox.run(&[
        "emit",
        "--type",
        STAGE,
        "--spec",
        "SPEC-KIT-065",
        "--stage",
        "Plan",
        "--status",
        "success",
    ]);
    assert_eq!(ran.code, 0, "{ran:?}");
}

/// Each kind of repo is a line here.
const LAYOUTS: [Layout; 5] = [
    Layout {
        name: "bash guardrails",
        holds: &[("SPEC.md", "| Task ID | Status |\n| --- | --- |\n| T1 | Done |\n")],
        happens: |sandbox| bash_guardrail(sandbox, EVIDENCE),
        tells: (STAGE, "SPEC-KIT-065"),
        spool: "docs/SPEC-OPS-004-integrated-coder-hooks/evidence/webhooks",
    },
    Layout {
        name: "bash guardrails with an evidence tree elsewhere",
        holds: &[("docs/audit/evidence/commands/SPEC-KIT-064/spec-plan_s-1.json", "{}")],
        happens: |sandbox| bash_guardrail(sandbox, "docs/audit/evidence"),
        tells: (STAGE, "SPEC-KIT-065"),
        spool: "docs/audit/evidence/webhooks",
    },
    Layout {
        name: "native guardrails",
        holds: &[("docs/SPEC-KIT-064/evidence/guardrail-plan-2025-12-26T13-50-08Z_1.json", "{}")],
        happens: native_guardrail,
        tells: (STAGE, "SPEC-KIT-065"),
        spool: "docs/SPEC-OPS-004-integrated-coder-hooks/evidence/webhooks",
    },
    Layout {
        name: "GitHub Spec Kit",
        holds: &[
            (".specify/feature.json", "{\"feature_directory\": \"specs/002-kanban\"}"),
            ("specs/002-kanban/tasks.md", "- [ ] T001 a\n- [ ] T002 b\n"),
        ],
        happens: |sandbox| {
            sandbox.write("specs/002-kanban/tasks.md", "- [x] T001 a\n- [ ] T002 b\n");
        },
        tells: ("spec-kit.task.completed", "002-kanban"),
        spool: "docs/SPEC-OPS-004-integrated-coder-hooks/evidence/webhooks",
    },
    Layout {
        name: "an empty repo",
        holds: &[],
        happens: emits,
        tells: (STAGE, "SPEC-KIT-065"),
        spool: "docs/SPEC-OPS-004-integrated-coder-hooks/evidence/webhooks",
    },
];

#[test]
fn in_every_kind_of_repo_one_thing_happens_and_one_request_arrives() {
    for is_git in [true, false] {
        for Layout { name, holds, happens, tells, spool } in LAYOUTS {
            let endpoint = Endpoint::answering([200]);
            let sandbox = Sandbox::empty().spool_at(spool);
            for (path, content) in holds {
                sandbox.write(path, content);
            }
            if is_git {
                sandbox.git(&["init", "-q"]);
                sandbox.git(&["add", "-A"]);
                sandbox.git(&["commit", "-q", "--allow-empty", "-m", "the repo"]);
            }
            let before = files(sandbox.path());
            init(&sandbox);
            let after = files(sandbox.path());
            assert!(
                before.iter().all(|(path, file)| path.ends_with(".git") || after[path] == *file),
                "{name}"
            );
            let usual = fs::metadata(sandbox.write("usual", "")).unwrap().mode_bits();
            fs::remove_file(sandbox.path().join("usual")).unwrap();
            assert_eq!(after[Path::new(CONFIG)].0, usual, "the config is for everybody");
            assert_eq!(after[Path::new(SECRETS)].0, 0o600);
            let secret = after[Path::new(SECRETS)].1.split("SECRET=").nth(1).unwrap().trim().to_owned();
            assert!(secret.starts_with("whsec_") && !after[Path::new(CONFIG)].1.contains(&secret));
            if is_git {
                let status = sandbox.git(&["status", "--porcelain", "--untracked-files=all"]);
                assert_eq!(status, format!("?? {CONFIG}\n"), "{name}");
            }
            let check = sandbox.run(&["check"]);
            assert!(check.code == 0 && check.stderr.is_empty(), "{name}: {check:?}");
            send_to(&sandbox, &port_of(&endpoint.url()));
            let serve = sandbox.serve();
            wait_for("the baseline", || sandbox.spool().join("watch.jsonl").exists().then_some(()));
            happens(&sandbox);
            let request = endpoint.wait_for(1).remove(0);
            let body = request.told();
            assert_eq!(
                (&body["event"]["type"], &body["spec"]["id"]),
                (&tells.0.into(), &tells.1.into()),
                "{name}"
            );
            assert!(request.text_of("x-speckit-signature").starts_with("sha256="));
            drop(serve);
            assert_eq!(endpoint.requests().len(), 1, "{name}: what was there is not sent");
        }
    }
}

/// A program at work in a shell; killed when dropped.
struct Work(Child);

impl Drop for Work {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a command that goes on, and waits for what it says when it is ready.
fn start(sandbox: &Sandbox, command: &str, ready: &str) -> (Work, PathBuf) {
    let log = sandbox.path().join(format!("{}.out", command.split(' ').nth(1).unwrap()));
    let file = fs::File::create(&log).unwrap();
    let mut shell = sandbox.shell(&format!("exec {command}"));
    let work = Work(shell.stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap());
    wait_for(ready, || fs::read_to_string(&log).unwrap().contains(ready).then_some(()));
    (work, log)
}

/// Runs commands as they stand: one that goes on is left to.
fn run_all(sandbox: &Sandbox, blocks: &[String]) -> Vec<(Work, PathBuf)> {
    let mut at_work = Vec::new();
    for block in blocks {
        let ready = [("spec-notify receive", "listening on"), ("spec-notify serve", "serving ")];
        match ready.iter().find(|(command, _)| block.starts_with(command)) {
            Some((_, ready)) => at_work.push(start(sandbox, block.trim(), ready)),
            None => {
                let ran = Ran::from(sandbox.shell(block).output().unwrap());
                assert_eq!(ran.code, 0, "{block}: {ran:?}");
            }
        }
    }
    at_work
}

#[test]
fn the_commands_that_it_says_come_next_work_word_for_word() {
    for (repo, more) in [(".", &[][..]), ("it's a repo", &["--repo", "it's a repo"][..])] {
        let sandbox = Sandbox::empty();
        fs::create_dir_all(sandbox.path().join(repo)).unwrap();
        let ran = sandbox.run(&[&["--json", "init"], more].concat());
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((report["enabled"].clone(), report["sources"]["stages"].clone()), (true.into(), 0.into()));
        assert_eq!(report["made"].as_array().unwrap().len(), 2);
        let dead = Endpoint::down();
        let port = port_of(&dead.url());
        drop(dead);
        let config = sandbox.path().join(repo).join(CONFIG);
        fs::write(&config, fs::read_to_string(&config).unwrap().replace("9000", &port)).unwrap();
        let next = |report: &Value| -> Vec<String> {
            report["next"].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
        };
        let said: Vec<String> = next(&report).iter().map(|one| one.replace("9000", &port)).collect();
        assert_eq!(said.len(), 3);
        // Said again, it is what the config says by now.
        let again = sandbox.run(&[&["--json", "init"], more].concat());
        assert_eq!(next(&serde_json::from_str(&again.stdout).unwrap()), said);
        let at_work = run_all(&sandbox, &said);
        let received = fs::read_to_string(&at_work[0].1).unwrap();
        assert!(received.contains("signatures ok: spec-kit.webhook.test"), "{received}");
        let people = sandbox.run(&[&["init"], more].concat()).stdout;
        assert!(said.iter().all(|command| people.contains(&format!("  {command}\n"))), "{people}");
    }
}

#[test]
fn a_second_time_it_says_what_is_there_and_changes_nothing() {
    let sandbox = Sandbox::empty();
    assert!(init(&sandbox).stdout.contains("made .spec-kit/config.toml"));
    let before = files(sandbox.path());
    let again = init(&sandbox);
    assert!(again.stdout.contains("exists and is used"), "{again:?}");
    assert!(again.stdout.contains("spec-notify serve"), "{again:?}");
    let json: Value = serde_json::from_str(&sandbox.run(&["init", "--json"]).stdout).unwrap();
    assert_eq!(json["made"], json!([]));
    for (text, code, said) in [
        ("[spec_ops.webhooks]\nenabled = false\n", 0, "set enabled = true"),
        ("[host]\nx = 1\n", 0, "has no [spec_ops.webhooks]: add it"),
        ("[spec_ops.webhooks]\nenabled = true\nenv_fil = 1\n", 2, "unknown key `env_fil`"),
        ("[spec_ops.webhooks\n", 2, "correct them, then run spec-notify check"),
    ] {
        sandbox.write(CONFIG, text);
        let ran = sandbox.run(&["init"]);
        assert!(ran.code == code && format!("{}{}", ran.stdout, ran.stderr).contains(said), "{ran:?}");
        assert!(!ran.stdout.contains("next, "), "{ran:?}");
        let mut now = files(sandbox.path());
        assert_eq!(now.remove(Path::new(CONFIG)).unwrap().1, text);
        assert!(now.iter().all(|(path, file)| before[path] == *file));
    }
}

#[test]
fn a_clone_has_the_config_and_gets_a_secret_of_its_own() {
    let sandbox = Sandbox::empty();
    init(&sandbox);
    fs::remove_dir_all(sandbox.path().join(".spec-kit/webhooks")).unwrap();
    assert_eq!(sandbox.run(&["check"]).code, 2);
    let ran = init(&sandbox);
    assert!(ran.stdout.contains("made .spec-kit/webhooks/secrets.env"), "{ran:?}");
    assert!(!ran.stdout.contains("made .spec-kit/config.toml"), "{ran:?}");
    assert_eq!(sandbox.run(&["check"]).code, 0);
    // As does one whose init was stopped between the two.
    let secrets = fs::read(sandbox.path().join(SECRETS)).unwrap();
    fs::remove_file(sandbox.path().join(CONFIG)).unwrap();
    init(&sandbox);
    assert_eq!(fs::read(sandbox.path().join(SECRETS)).unwrap(), secrets);
    // Where the environment has it, nothing is missing.
    fs::remove_dir_all(sandbox.path().join(".spec-kit/webhooks")).unwrap();
    let sandbox = sandbox.env("SPECKIT_WEBHOOK_SECRET", "a-secret-of-sixteen");
    init(&sandbox);
    assert!(!sandbox.path().join(SECRETS).exists());
    let check = sandbox.run(&["check"]);
    assert!(check.code == 0 && check.stderr.contains("the environment has every variable"), "{check:?}");
}

#[test]
fn a_config_of_the_home_that_is_used_stays_in_use_and_that_is_said() {
    let ours = "[spec_ops.webhooks]\nenabled = true\n";
    for (text, is_made, said) in [
        ("[host]\nmodel = 1\n".to_owned(), true, "does not switch webhooks on"),
        (ours.replace("true", "false"), true, "does not switch webhooks on"),
        (ours.to_owned(), false, "exists and is used"),
        ("[spec_ops.webhooks\n".to_owned(), false, "exists and is used"),
    ] {
        let sandbox = Sandbox::empty();
        let home = sandbox.write("home/.code/config.toml", &text);
        let ran = sandbox.run(&["init"]);
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(all.contains(said) && all.contains("home/.code/config.toml"), "{ran:?}");
        assert_eq!(sandbox.path().join(CONFIG).exists(), is_made, "{ran:?}");
        assert_eq!(sandbox.path().join(".spec-kit").exists(), is_made);
        assert_eq!(fs::read_to_string(home).unwrap(), text);
    }
    let named = Sandbox::empty();
    let file = named.write("elsewhere.toml", ours);
    let named = named.env("SPECKIT_WEBHOOKS_CONFIG", file.to_str().unwrap());
    assert!(init(&named).stdout.contains("elsewhere.toml exists and is used"));
    let none = named.env("SPECKIT_WEBHOOKS_CONFIG", "none.toml");
    assert_eq!(none.run(&["init"]).code, 2);
    assert!(!none.path().join(".spec-kit").exists());
}

#[test]
fn what_is_in_the_way_is_said_and_nothing_is_half_made() {
    type Put = fn(&Sandbox);
    let in_the_way: [(&str, Put); 9] = [
        (".spec-kit: a file is in its place", |sandbox| drop(sandbox.write(".spec-kit", ""))),
        (".spec-kit: a symbolic link is in its place", |sandbox| {
            fs::create_dir(sandbox.path().join("other")).unwrap();
            symlink("other", sandbox.path().join(".spec-kit")).unwrap();
        }),
        (".spec-kit: a symbolic link is in its place", |sandbox| {
            symlink("nowhere", sandbox.path().join(".spec-kit")).unwrap();
        }),
        ("webhooks: a file is in its place", |sandbox| drop(sandbox.write(".spec-kit/webhooks", ""))),
        ("git would see a secret in it", |sandbox| drop(sandbox.write(".spec-kit/webhooks/mine", ""))),
        ("without SPECKIT_WEBHOOK_SECRET", |sandbox| {
            sandbox.write(".spec-kit/webhooks/.gitignore", "*\n");
            sandbox.write(SECRETS, "OTHER=1\n");
        }),
        ("config.toml is in the way", |sandbox| {
            fs::create_dir_all(sandbox.path().join(".spec-kit")).unwrap();
            symlink("nowhere", sandbox.path().join(CONFIG)).unwrap();
        }),
        ("cannot be read", |sandbox| fs::create_dir_all(sandbox.path().join(CONFIG)).unwrap()),
        ("cannot be read", |sandbox| {
            sandbox.write(".spec-kit/elsewhere", "x");
            symlink("config.toml", sandbox.path().join(CONFIG)).unwrap();
        }),
    ];
    for (said, put) in in_the_way {
        let sandbox = Sandbox::empty();
        put(&sandbox);
        let before = files(sandbox.path());
        let ran = sandbox.run(&["init"]);
        assert!(ran.code > 0 && ran.stderr.contains(said), "{said}: {ran:?}");
        assert_eq!(files(sandbox.path()), before, "{said}");
    }
    let sandbox = Sandbox::empty();
    for folder in ["", ".spec-kit", ".spec-kit/webhooks"] {
        // Each time one folder further: what can be made is taken away again.
        let folder = sandbox.path().join(folder);
        fs::create_dir_all(&folder).unwrap();
        let before = files(sandbox.path());
        let Some(ran) = sandbox.run_as_stranger(&["init"]) else { return };
        assert!(ran.code == 1 && ran.stderr.contains("Permission denied"), "{ran:?}");
        assert_eq!(files(sandbox.path()), before);
        chown(&folder, Some(STRANGER), Some(STRANGER)).unwrap();
    }
    fs::set_permissions(sandbox.path().join(".spec-kit"), fs::Permissions::from_mode(0o555)).unwrap();
    let before = files(sandbox.path());
    let ran = sandbox.run_as_stranger(&["init"]).unwrap();
    assert!(ran.code == 1 && ran.stderr.contains("config.toml"), "{ran:?}");
    let after = files(sandbox.path());
    assert!(!after.contains_key(Path::new(SECRETS)), "{ran:?}");
    assert_eq!(after.keys().filter(|path| !path.ends_with(".gitignore")).count(), before.len());
}

#[test]
fn a_receiver_has_its_secret_from_the_env_file_and_says_where_it_looked() {
    let sandbox = Sandbox::empty();
    let none = sandbox.run(&["receive", "--secret-env", "SPECKIT_WEBHOOK_SECRET"]);
    assert!(
        none.code == 2 && none.stderr.contains("is not set: export it, or run spec-notify init"),
        "{none:?}"
    );
    init(&sandbox);
    let other = sandbox.run(&["receive", "--secret-env", "OTHER_SECRET"]);
    assert!(other.code == 2 && other.stderr.contains("nor in "), "{other:?}");
    fs::remove_file(sandbox.path().join(SECRETS)).unwrap();
    let gone = sandbox.run(&["receive", "--secret-env", "SPECKIT_WEBHOOK_SECRET"]);
    assert!(gone.code == 2 && gone.stderr.contains("cannot be read from"), "{gone:?}");
}
