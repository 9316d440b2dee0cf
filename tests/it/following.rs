//! Commands that go on for a while: `list --follow`, `emit --wait`, and Ctrl-C in them.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;

use serde_json::{Value, json};

use crate::harness::{Answer, Endpoint, Ran, Sandbox, kill, wait_for, wait_for_end};

const ONCE: &str = "max_attempts = 1";

/// The lines of a command that goes on.
struct Going {
    child: Child,
    lines: Receiver<String>,
}

impl Going {
    fn new(sandbox: &Sandbox, arguments: &[&str]) -> Self {
        let mut command = sandbox.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (pass, lines) = mpsc::channel();
        let reader = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || reader.lines().map_while(Result::ok).for_each(|line| drop(pass.send(line))));
        Self { child, lines }
    }

    /// Waits for a line that fits.
    fn until(&self, what: &str, fits: impl Fn(&str) -> bool) -> String {
        wait_for(what, || self.lines.try_iter().find(|line| fits(line)))
    }

    /// Ends it by this signal; what it said at last, and how it ended.
    fn ends(mut self, signal: &str) -> (Option<i32>, String) {
        kill(signal, &self.child);
        let code = wait_for_end("it", &mut self.child);
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

#[test]
fn what_changes_is_followed_over_a_restart_until_ctrl_c() {
    let dead = Endpoint::down();
    let sandbox = Sandbox::new(&[("one", &dead.url(), ONCE)]);
    let serve = sandbox.serve();
    let id = |emitted: &Value| emitted["deliveries"][0]["id"].as_str().unwrap().to_owned();
    let old = id(&sandbox.emit("SPEC-1", "Plan", "k0"));
    sandbox.wait_for_finals("SPEC-1", 1);
    let for_people = Going::new(&sandbox, &["list", "--follow"]);
    let going = Going::new(&sandbox, &["--json", "list", "--follow"]);
    let is = |id: &str, state: &str| {
        let (id, state) = (id.to_owned(), state.to_owned());
        move |line: &str| {
            let row: Value = serde_json::from_str(line).unwrap();
            row["id"] == id.as_str() && row["state"] == state.as_str()
        }
    };
    going.until("what was there", is(&old, "dead_letter"));
    let new = id(&sandbox.emit("SPEC-1", "Plan", "k1"));
    going.until("a new one", is(&new, "dead_letter"));
    for_people.until("a line", |line| line.contains("dead_letter") && line.contains(&new[..8]));
    serve.kill();
    dead.repair([200]);
    let endpoint = dead;
    let _serve = sandbox.serve();
    let later = id(&sandbox.emit("SPEC-1", "Plan", "k2"));
    going.until("one after the restart", is(&later, "delivered"));
    assert_eq!(sandbox.run(&["replay", &old]).code, 0);
    going.until("a replay of an old one", is(&old, "delivered"));
    assert_eq!(endpoint.requests().len(), 2);
    for (going, signal) in [(going, "INT"), (for_people, "TERM")] {
        let (code, said) = going.ends(signal);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("followed for") && said.contains("0 pending now"), "{said}");
    }
}

fn emit(sandbox: &Sandbox, key: &str, more: &[&str]) -> Ran {
    let of =
        ["emit", "--type", "spec-auto.stage.completed", "--spec", "SPEC-1", "--stage", "Plan", "--key", key];
    sandbox.run(&[&of[..], more].concat())
}

#[test]
fn a_script_that_waits_learns_what_became_of_it() {
    let good = Endpoint::answering([200]);
    let bad = Endpoint::answering([Answer::status(404)]);
    let sandbox = Sandbox::new(&[
        ("good", &good.url(), "include_specs = [\"SPEC-1\"]"),
        ("dry", &good.url(), "dry_run = true\ninclude_specs = [\"SPEC-1\"]"),
        ("bad", &bad.url(), "include_specs = [\"SPEC-1\"]\ninclude_status = [\"failure\"]"),
        ("none", &good.url(), "active = false"),
    ]);
    // No runtime takes it in: the deadline is the end. Nothing is lost.
    let late = emit(&sandbox, "k0", &["--status", "success", "--wait", "--timeout", "0"]);
    assert!(late.code == 1 && late.stdout.contains("1 event in the inbox"), "{late:?}");
    let _serve = sandbox.serve();
    let done = emit(&sandbox, "k1", &["--status", "success", "--wait", "--timeout", "30"]);
    assert!(done.code == 0 && done.stdout.contains("1 delivered, 1 dry_run"), "{done:?}");
    let given_up = emit(&sandbox, "k2", &["--status", "failure", "--wait", "--timeout", "30"]);
    assert!(given_up.code == 1 && given_up.stdout.contains("1 dead_letter"), "{given_up:?}");
    // Known already: what became of it then still counts.
    let again = emit(&sandbox, "k2", &["--status", "failure", "--wait", "--timeout", "30"]);
    assert!(again.code == 1 && again.stdout.contains("1 dead_letter"), "{again:?}");
    let again = emit(&sandbox, "k1", &["--wait", "--timeout", "30"]);
    assert!(again.code == 0 && again.stdout.contains("duplicate"), "{again:?}");
    let json_told = emit(&sandbox, "k0", &["--json", "--wait", "--timeout", "30"]);
    let last: Value = serde_json::from_str(json_told.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(
        (json_told.code, &last["ended"], &last["queued"]),
        (0, &json!(true), &json!(0)),
        "{json_told:?}"
    );
    assert!(last["deliveries"][0]["id"].is_string());
    // Without --wait nothing of this counts.
    assert_eq!(emit(&sandbox, "k3", &["--status", "failure"]).code, 0);
    let nobody = ["--json", "emit", "--type", "spec-auto.pipeline.completed", "--spec", "SPEC-9", "--wait"];
    assert_eq!(sandbox.run(&nobody).code, 0);
    let paused = sandbox.run(&["pause", "good"]);
    assert_eq!(paused.code, 0);
    let held = emit(&sandbox, "k4", &["--status", "success", "--wait", "--timeout", "0"]);
    assert!(held.code == 1 && held.stdout.contains("its subscription is paused"), "{held:?}");
}

#[test]
fn webhooks_that_are_off_hold_no_script_up() {
    let sandbox = Sandbox::empty();
    sandbox.write(".spec-kit/config.toml", "[spec_ops.webhooks]\nenabled = false\n");
    assert_eq!(emit(&sandbox, "k", &["--wait"]).code, 0);
}

#[test]
fn ctrl_c_in_a_replay_of_all_ends_with_what_was_done_and_what_is_left() {
    let endpoint = Endpoint::answering(vec![
        Answer::status(404),
        Answer::status(404),
        Answer::status(200),
        Answer::hang(),
    ]);
    let sandbox =
        Sandbox::new(&[("one", &endpoint.url(), "max_in_flight = 1\nper_request_timeout_ms = 60000")]);
    let _serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k0");
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.wait_for_finals("SPEC-1", 2);
    sandbox.emit("SPEC-1", "Plan", "k2");
    sandbox.wait_for_finals("SPEC-1", 3);
    let mut command = sandbox.command(&["replay", "--all"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    endpoint.wait_for(4);
    kill("INT", &child);
    // The request under way ends, and then it does.
    endpoint.release();
    assert_eq!(wait_for_end("replay", &mut child), Some(1));
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("1 dead letter replayed: 1 delivered"), "{said}");
    assert!(said.contains("1 not tried: interrupted before"), "{said}");
    assert_eq!(sandbox.dead_letters("SPEC-1").len(), 1);
}

#[test]
fn ctrl_c_in_a_drain_ends_with_what_was_done_and_what_is_left() {
    let good = Endpoint::answering([200]);
    let dead = Endpoint::down();
    let often = "max_attempts = 1000\ninitial_backoff_ms = 50\nmax_backoff_ms = 50";
    let sandbox = Sandbox::new(&[("good", &good.url(), ""), ("dead", &dead.url(), often)]);
    sandbox.emit("SPEC-1", "Plan", "k0");
    let mut command = sandbox.command(&["drain", "--no-watch", "--timeout", "600"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    good.wait_for(1);
    sandbox.wait_for_finals("SPEC-1", 1);
    kill("INT", &child);
    assert_eq!(wait_for_end("drain", &mut child), Some(1));
    let (mut said, mut words) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
    assert!(said.contains("interrupted: 1 delivery is still pending, and stays on disk"), "{said} {words}");
    assert!(words.contains("1 delivered"), "{said} {words}");
}
