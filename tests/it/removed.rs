//! The spool, or parts of it, taken away under a running `serve`; and file descriptors that run
//! out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{EVIDENCE, Endpoint, RequestExt as _, Sandbox, wait_for};

const PATIENT: &str = "initial_backoff_ms = 50\nmax_backoff_ms = 200\nmax_attempts = 1000\njitter_ms = 0";

type TakeAway = fn(&Sandbox);

/// Every way in which something of the spool loses its name, or gets another.
const WAYS: [(&str, TakeAway); 8] = [
    ("git clean", git_clean),
    ("rm -r of the spool", |sandbox| remove(&sandbox.spool())),
    ("mv of the spool", |sandbox| {
        let away = sandbox.path().join(format!("moved-{}", fastrand::u32(..)));
        fs::rename(sandbox.spool(), away).unwrap();
    }),
    ("rm -r of docs", |sandbox| remove(&sandbox.path().join("docs"))),
    ("rm -r of a SPEC's folder", |sandbox| remove(&sandbox.spool().join("SPEC-1"))),
    ("rm of a spool file", |sandbox| {
        let files = fs::read_dir(sandbox.spool().join("SPEC-1")).unwrap().map(|file| file.unwrap().path());
        let is_spool = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "jsonl");
        fs::remove_file(files.filter(is_spool).min().unwrap()).unwrap();
    }),
    ("rm of .lock", |sandbox| fs::remove_file(sandbox.spool().join(".lock")).unwrap()),
    ("rm of runtime.json", |sandbox| fs::remove_file(sandbox.spool().join("runtime.json")).unwrap()),
];

/// Until it is done: what runs in there makes files all the time.
fn remove(dir: &Path) {
    wait_for("a folder to be removed", || fs::remove_dir_all(dir).ok());
}

fn git_clean(sandbox: &Sandbox) {
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.email=a@example.com", "-c", "user.name=a"]).args(arguments);
        git.current_dir(sandbox.path()).output().unwrap().status.success().then_some(())
    };
    if !sandbox.path().join(".git").exists() {
        assert!(git(&["init", "-q"]).and(git(&["add", ".spec-kit"])).is_some());
        assert!(git(&["commit", "-qm", "config"]).is_some());
    }
    // What runs in there makes files all the time.
    wait_for("git clean to be done", || git(&["clean", "-fdxq", "-e", "*.log"]));
}

fn keys(endpoint: &Endpoint) -> BTreeSet<String> {
    let key = |request: crate::harness::Request| request.told()["event"]["idempotency_key"].clone();
    endpoint.requests().into_iter().map(|request| key(request).as_str().unwrap().to_owned()).collect()
}

fn emit(sandbox: &Sandbox, key: &str, kept: &mut BTreeSet<String>) {
    let outcome = sandbox.emit("SPEC-1", "Plan", key)["outcome"].clone();
    assert!(outcome == "accepted" || outcome == "queued", "{outcome}");
    kept.insert(key.to_owned());
}

/// Takes something away between events; returns what was said yes to.
fn emit_around(sandbox: &Sandbox, take_away: TakeAway) -> BTreeSet<String> {
    let mut kept = BTreeSet::new();
    (0..3).for_each(|n| emit(sandbox, &format!("before-{n}"), &mut kept));
    wait_for("a first attempt", || sandbox.evidence("SPEC-1").first().cloned());
    take_away(sandbox);
    (0..3).for_each(|n| emit(sandbox, &format!("after-{n}"), &mut kept));
    kept
}

fn owner(sandbox: &Sandbox) -> Option<u64> {
    let text = fs::read(sandbox.spool().join("runtime.json")).ok()?;
    serde_json::from_slice::<serde_json::Value>(&text).ok()?["pid"].as_u64()
}

#[test]
fn whatever_is_taken_away_a_kill_loses_nothing_that_was_said_yes_to_and_there_is_one_owner() {
    for (way, take_away) in WAYS {
        let down = Endpoint::down();
        let sandbox = Sandbox::new(&[("one", &down.url(), PATIENT)]);
        let serve = sandbox.serve();
        let first = owner(&sandbox);
        let kept = emit_around(&sandbox, take_away);
        wait_for(way, || (owner(&sandbox) == first).then_some(()));
        let second = sandbox.standby();
        serve.kill();
        sandbox.wait_for_owner(&second);
        down.repair([200]);
        let endpoint = down;
        wait_for(way, || keys(&endpoint).is_superset(&kept).then_some(()));
        assert_eq!(sandbox.emit("SPEC-1", "Plan", "after-0")["outcome"], "duplicate", "{way}");
        let (code, log) = second.terminate();
        assert_eq!(code, 0, "{way}: {log}");
    }
}

#[test]
fn whatever_is_taken_away_an_end_in_order_says_the_truth_and_the_next_start_goes_on() {
    for (way, take_away) in WAYS {
        let down = Endpoint::down();
        let sandbox = Sandbox::new(&[("one", &down.url(), PATIENT)]);
        let serve = sandbox.serve();
        let mut kept = emit_around(&sandbox, take_away);
        wait_for(way, || sandbox.inbox().is_empty().then_some(()));
        // Once more, and nothing is emitted after it.
        wait_for(way, || sandbox.spool().join("SPEC-1").exists().then_some(()));
        wait_for(way, || sandbox.spool().join("runtime.json").exists().then_some(()));
        take_away(&sandbox);
        let (code, log) = serve.terminate();
        assert_eq!(code, 0, "{way}: {log}");
        assert!(log.contains("stopped; 6 deliveries pending on disk"), "{way}: {log}");
        let _serve = sandbox.serve();
        emit(&sandbox, "last", &mut kept);
        down.repair([200]);
        let endpoint = down;
        wait_for(way, || keys(&endpoint).is_superset(&kept).then_some(()));
    }
}

#[test]
fn evidence_that_is_taken_away_begins_anew() {
    let endpoint = Endpoint::answering([200]);
    let spool = tempfile::tempdir().unwrap();
    let settings = format!("spool_dir = \"{}\"", spool.path().join("spool").display());
    let sandbox = Sandbox::with_settings(&settings, &[("one", &endpoint.url(), "")]);
    let mut serve = sandbox.command(&["serve"]).stdout(std::process::Stdio::null()).spawn().unwrap();
    wait_for("serve to be ready", || spool.path().join("spool/runtime.json").exists().then_some(()));
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.wait_for_finals("SPEC-1", 1);
    remove(&sandbox.path().join("docs"));
    sandbox.emit("SPEC-1", "Plan", "k2");
    let finals = sandbox.wait_for_finals("SPEC-1", 1);
    assert_eq!(finals[0]["idempotency_key"], "k2");
    serve.kill().unwrap();
    serve.wait().unwrap();
}

/// The program raises its soft limit, so this sets the hard one.
#[test]
fn with_few_file_descriptors_all_arrives_and_what_waits_is_pending() {
    let endpoint = Endpoint::answering([200]);
    let url = endpoint.url();
    let ids: Vec<String> = (0..60).map(|n| format!("s{n}")).collect();
    let subscriptions: Vec<(&str, &str, &str)> =
        ids.iter().map(|id| (id.as_str(), url.as_str(), PATIENT)).collect();
    let sandbox = Sandbox::with_settings("max_concurrency = 512", &subscriptions);
    let log = sandbox.path().join("serve.log");
    let open = || fs::OpenOptions::new().create(true).append(true).open(&log).unwrap();
    let program = sandbox.command(&["serve", "--no-watch"]);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 96; exec \"$0\" \"$@\""]).arg(program.get_program());
    command.args(program.get_args()).current_dir(sandbox.path());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut serve = command.stdout(open()).stderr(open()).spawn().unwrap();
    wait_for("serve to be ready", || owner(&sandbox));
    // Bodies of more than 8 MiB in all: most are read back from the spool when it is their turn.
    let mut kept = BTreeSet::new();
    for n in 0..6 {
        let key = format!("k{n}");
        let event = format!(
            r#"{{"event":{{"type":"spec-kit.task.completed","idempotency_key":"{key}"}},"spec":{{"id":"SPEC-{n}"}},"pad":"{}"}}"#,
            "x".repeat(400_000)
        );
        let file = sandbox.write("event.json", &event);
        let ran = sandbox.run(&["emit", "--event", file.to_str().unwrap()]);
        assert_eq!(ran.code, 0, "{ran:?}");
        kept.insert(key);
    }
    wait_for("all to arrive", || (endpoint.requests().len() >= 360).then_some(()));
    assert_eq!(keys(&endpoint), kept);
    let said = fs::read_to_string(&log).unwrap();
    assert!(said.contains("requests at a time instead of max_concurrency (512)"), "{said}");
    serve.kill().unwrap();
    serve.wait().unwrap();
}

#[test]
fn one_specs_folder_that_cannot_be_used_stops_neither_the_start_nor_the_others() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let elsewhere = tempfile::tempdir().unwrap();
    fs::create_dir_all(sandbox.spool()).unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), sandbox.spool().join("SPEC-2")).unwrap();
    let serve = sandbox.serve();
    assert_eq!(sandbox.emit("SPEC-2", "Plan", "stuck")["outcome"], "queued");
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "good")["outcome"], "accepted");
    sandbox.wait_for_finals("SPEC-1", 1);
    let status = sandbox.run(&["status"]);
    assert!(status.code == 1 && status.stdout.contains("a symbolic link is in its place"), "{status:?}");
    fs::remove_file(sandbox.spool().join("SPEC-2")).unwrap();
    sandbox.wait_for_finals("SPEC-2", 1);
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "nothing is written through the link");
    serve.terminate();
    assert!(Path::new(&sandbox.path().join(EVIDENCE)).exists());
}
