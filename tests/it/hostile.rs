//! Something else in the place of every file that we read: a link, a FIFO, a folder, a file
//! without end. Under a limit of memory nothing hangs, nothing grows, whoever is not concerned is
//! served, and what a link points to stays as it was.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::{
    Answer, EVIDENCE, Endpoint, Ran, Sandbox, kill, plan_telemetry, wait_for, wait_for_end,
};

/// Kilobytes of address space that the program may have: below the length of what has no end.
const MEMORY: &str = "700000";

/// Files in the spool. `SPEC-1` is concerned, `SPEC-2` never is.
const IN_SPOOL: [&str; 11] = [
    "inbox/0000000000000000001-0000-0001.event.json",
    "inbox",
    "health.json",
    "watch.jsonl",
    "runtime.json",
    ".reserve",
    ".gitignore",
    "SPEC-1",
    "SPEC-1/spool-00000001.jsonl",
    "SPEC-1/dead-letter",
    "SPEC-1/dead-letter/00000000-0000-4000-8000-000000000001.json",
];

/// Files in the repo.
const IN_REPO: [&str; 10] = [
    ".git/HEAD",
    ".git",
    "SPEC.md",
    "docs/SPEC-1-x/tasks.md",
    "EVIDENCE/commands/SPEC-1/webhooks",
    "EVIDENCE/commands/SPEC-1/webhooks/deliveries.jsonl",
    "EVIDENCE/commands/SPEC-1/webhooks/deliveries.1.jsonl",
    "EVIDENCE/commands/SPEC-1/spec-plan_s.json",
    "EVIDENCE/consensus/SPEC-2/spec-plan_synthesis.json",
    "EVIDENCE/consensus/SPEC-2",
];

/// Runs the program with little memory, and says what came of it; panics where it hangs.
fn limited(sandbox: &Sandbox, arguments: &[&str]) -> Ran {
    let mut command = limited_command(sandbox, arguments);
    let mut child = Guarded(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    wait_for_end(&format!("{arguments:?} to end"), &mut child.0);
    // What a command says fits into a pipe.
    let mut said = [String::new(), String::new()];
    child.0.stdout.take().unwrap().read_to_string(&mut said[0]).unwrap();
    child.0.stderr.take().unwrap().read_to_string(&mut said[1]).unwrap();
    let [stdout, stderr] = said;
    Ran { code: child.0.wait().unwrap().code().unwrap_or(-1), stdout, stderr }
}

fn limited_command(sandbox: &Sandbox, arguments: &[&str]) -> Command {
    let program = sandbox.command(arguments);
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("ulimit -v {MEMORY}; exec \"$0\" \"$@\"")])
        .arg(program.get_program())
        .args(arguments);
    shell.current_dir(sandbox.path()).env_clear().stdin(Stdio::null());
    shell.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    shell
}

/// A process that does not outlive its test.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn place_in_turn(make: impl Fn(&Path)) {
    let in_spool = IN_SPOOL.map(|place| format!("{EVIDENCE}/webhooks/{place}"));
    let in_repo = IN_REPO.map(|place| place.replace("EVIDENCE", EVIDENCE));
    for place in in_spool.iter().chain(&in_repo) {
        let endpoint = Endpoint::answering([200]);
        let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
        let path = sandbox.path().join(place);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        make(&path);
        let victim = sandbox.write("victim", "as it was");
        let looks = |commands: &[&[&str]]| {
            for command in commands {
                let ran = limited(&sandbox, command);
                assert!((0..=1).contains(&ran.code), "{place}: {command:?}: {ran:?}");
                assert!(!ran.stderr.contains("panicked"), "{place}: {ran:?}");
            }
        };
        looks(&[&["status"], &["status", "--banner"], &["list"], &["check"]]);
        let log = sandbox.path().join("serve.log");
        let opened = fs::File::create(&log).unwrap();
        let mut command = limited_command(&sandbox, &["serve"]);
        let mut serve = Guarded(command.stdout(opened.try_clone().unwrap()).stderr(opened).spawn().unwrap());
        let said = || fs::read_to_string(&log).unwrap();
        wait_for(&format!("{place}: serve"), || {
            assert!(serve.0.try_wait().unwrap().is_none(), "{place}: {}", said());
            said().contains("serving ").then_some(())
        });
        // Where it cannot say where it is, it is not found, and takes the inbox in.
        let outcome = sandbox.emit("SPEC-2", "Plan", "k")["outcome"].clone();
        let is_found = !(place.ends_with("runtime.json") && path.is_dir());
        assert_eq!(outcome, if is_found { "accepted" } else { "queued" }, "{place}: {}", said());
        endpoint.wait_for(1);
        let telemetry = plan_telemetry("SPEC-2", "s").to_string();
        let honest = sandbox.path().join(EVIDENCE).join("commands/SPEC-2/spec-plan_s.json");
        fs::create_dir_all(honest.parent().unwrap()).unwrap();
        fs::write(&honest, telemetry).unwrap();
        // What was seen must be known; everything else in the way of watching must not be.
        if !place.ends_with("watch.jsonl") {
            endpoint.wait_for(2);
        }
        looks(&[&["status"], &["list"]]);
        assert!(!said().contains("panicked") && !said().contains("memory"), "{place}: {}", said());
        let peak = fs::read_to_string(format!("/proc/{}/status", serve.0.id())).unwrap_or_default();
        let peak = peak
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        assert!(peak.is_none_or(|kilobytes| kilobytes < 120_000), "{place}: {peak:?} kB");
        kill("TERM", &serve.0);
        assert_eq!(wait_for_end(&format!("{place}: the end"), &mut serve.0), Some(0), "{place}: {}", said());
        assert_eq!(fs::read_to_string(victim).unwrap(), "as it was", "{place}");
    }
}

#[test]
fn a_link_to_what_has_no_end_or_to_somebody_elses_file() {
    for target in ["/dev/zero", "victim"] {
        place_in_turn(|path| {
            let target = match target {
                "victim" => path.ancestors().find(|dir| dir.join(".spec-kit").is_dir()).unwrap().join(target),
                device => device.into(),
            };
            symlink(target, path).unwrap();
        });
    }
}

#[test]
fn a_fifo() {
    place_in_turn(make_fifo);
}

#[test]
fn a_folder() {
    place_in_turn(|path| fs::create_dir(path).unwrap());
}

#[test]
fn a_file_of_two_gibibytes() {
    place_in_turn(|path| fs::File::create(path).unwrap().set_len(2 << 30).unwrap());
}

#[test]
fn a_file_that_a_person_names_is_an_error_and_never_waited_for() {
    let endpoint = Endpoint::answering([200]);
    type Make = fn(&Path);
    let kinds: [(&str, Make); 4] = [
        ("device", |path| symlink("/dev/zero", path).unwrap()),
        ("fifo", make_fifo),
        ("folder", |path| fs::create_dir(path).unwrap()),
        ("endless", |path| fs::File::create(path).unwrap().set_len(2 << 30).unwrap()),
    ];
    for (kind, make) in kinds {
        let settings = "env_file = \".env\"";
        let subscription = "ca_file = \"ca.pem\"\nsecret_env = \"FROM_FILE\"";
        let sandbox = Sandbox::with_settings(settings, &[("one", &endpoint.url(), subscription)]);
        for name in [".env", "ca.pem", "events", "named.toml"] {
            make(&sandbox.path().join(name));
        }
        for (arguments, code) in [
            (&["check"][..], 2),
            (&["serve"], 2),
            (&["check", "--config", "named.toml"], 2),
            (&["emit", "--config", "named.toml", "--type", "spec-kit.webhook.test", "--spec", "S"], 2),
            (&["emit", "--telemetry", "events"], 2),
            (&["explain", "--telemetry", "events"], 2),
            (&["explain", "--event", "events"], 2),
            (&["emit", "--event", "events"], 2),
        ] {
            let ran = limited(&sandbox, arguments);
            assert_eq!(ran.code, code, "{kind}: {arguments:?}: {ran:?}");
            assert!(!ran.stderr.contains("memory") && !ran.stderr.contains("panicked"), "{kind}: {ran:?}");
        }
    }
}

/// More of them than a kill may have sent again.
#[test]
fn a_spec_whose_dead_letters_cannot_be_written_holds_up_no_other() {
    let endpoint = Endpoint::deciding(|request| match request.json()["spec"]["id"] == "SPEC-1" {
        true => Answer::status(400),
        false => Answer::status(200),
    });
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "max_in_flight = 1")]);
    let place = sandbox.spool().join("SPEC-1/dead-letter");
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(&place, "somebody else's").unwrap();
    let _serve = sandbox.serve();
    for n in 0..10 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
        endpoint.wait_for(n + 1);
    }
    sandbox.emit("SPEC-2", "Plan", "k");
    sandbox.wait_for_finals("SPEC-2", 1);
    fs::remove_file(&place).unwrap();
    sandbox.wait_for_finals("SPEC-1", 10);
    assert_eq!((sandbox.dead_letters("SPEC-1").len(), endpoint.requests().len()), (10, 11));
}
