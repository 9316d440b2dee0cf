//! Bounds and scarcity: too many pending, a full disk, a subscription that is gone for a while.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Answer, EVIDENCE, Endpoint, RequestExt as _, SECRET, Sandbox, wait_for};

fn keys(endpoint: &Endpoint) -> BTreeSet<String> {
    let key = |body: Value| body["event"]["idempotency_key"].as_str().unwrap().to_owned();
    endpoint.requests().iter().map(|request| key(request.told())).collect()
}

#[test]
fn above_max_pending_the_oldest_that_waits_is_dropped_with_a_dead_letter() {
    let endpoint = Endpoint::answering([Answer::hang()]);
    let sandbox = Sandbox::with_settings(
        "max_pending = 5\nmax_concurrency = 1",
        &[("slow", &endpoint.url(), "per_request_timeout_ms = 60000")],
    );
    let serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k0");
    endpoint.wait_for(1);
    for n in 1..10 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    let finals = sandbox.wait_for_finals("SPEC-1", 5);
    let ended =
        |line: &Value| (line["state"].to_string(), line["idempotency_key"].as_str().unwrap().to_owned());
    let dropped: Vec<_> = finals.iter().map(ended).collect();
    let expected: Vec<_> = (1..6).map(|n| ("\"dropped\"".to_owned(), format!("k{n}"))).collect();
    assert_eq!(dropped, expected, "the oldest, but never the one under way");
    let letters = sandbox.dead_letters("SPEC-1");
    assert_eq!(letters.len(), 5);
    assert!(letters.iter().all(|letter| letter["reason"]["kind"] == "spool_saturated"));
    assert!(serve.log().contains("more than max_pending deliveries of slow wait"), "{}", serve.log());
    endpoint.release();
    sandbox.wait_for_finals("SPEC-1", 10);
    assert_eq!(keys(&endpoint), ["k0", "k6", "k7", "k8", "k9"].map(str::to_owned).into());
    let id = letters[0]["id"].as_str().unwrap();
    assert_eq!(
        sandbox.run(&["replay", "SPEC-1", "--delivery-id", id]).code,
        0,
        "a dropped one can be replayed"
    );
}

#[test]
fn a_subscription_that_is_gone_for_a_while_finds_its_deliveries_again() {
    let down = Endpoint::down();
    let kept = Endpoint::answering([200]);
    let away = down.url();
    let sandbox = Sandbox::new(&[("kept", &kept.url(), ""), ("away", &away, "initial_backoff_ms = 200")]);
    let serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.wait_for_finals("SPEC-1", 1);
    serve.kill();
    let text = fs::read_to_string(sandbox.path().join(".spec-kit/config.toml")).unwrap();
    let without = &text[..text.rfind("[[spec_ops").unwrap()];
    let other = sandbox.write("other.toml", without);
    let serve = sandbox.serve_with(&["--config", other.to_str().unwrap()]);
    let warning = "1 pending delivery for `away`, which is not an active subscription: kept in the spool";
    wait_for("the warning", || serve.log().contains(warning).then_some(()));
    serve.kill();
    down.repair([200]);
    let endpoint = down;
    let _serve = sandbox.serve();
    endpoint.wait_for(1);
}

#[test]
fn killed_at_any_moment_of_its_drain_it_loses_nothing() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let mut kept = BTreeSet::new();
    for round in 0..15 {
        let serve = sandbox.serve();
        for n in 0..3 {
            let key = format!("k{round}-{n}");
            assert_eq!(sandbox.emit("SPEC-1", "Plan", &key)["outcome"], "accepted");
            kept.insert(key);
        }
        serve.signal("TERM");
        // Later with each round, from the signal to well after the end: the moment is what is
        // tested.
        std::thread::park_timeout(std::time::Duration::from_millis(round * 2));
        serve.kill();
    }
    let _serve = sandbox.serve();
    sandbox.wait_until_nothing_is_pending();
    assert_eq!(keys(&endpoint), kept);
}

/// A file system of its own in memory; unmounted when dropped.
struct Disk<'a>(&'a Path);

impl<'a> Disk<'a> {
    /// `None` where this process may not mount.
    fn mount(path: &'a Path, options: &str) -> Option<Self> {
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(path).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Self(path)),
            _ => {
                eprintln!("skipped: no file system can be mounted here");
                None
            }
        }
    }
}

impl Drop for Disk<'_> {
    fn drop(&mut self) {
        // Lazily: a process that was just killed may hold a file still.
        let _ = Command::new("umount").arg("-l").arg(self.0).output();
    }
}

#[test]
fn a_full_disk_refuses_clearly_loses_nothing_and_resumes() {
    let endpoint = Endpoint::answering([Answer::status(200), Answer::hang()]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "per_request_timeout_ms = 60000")]);
    let tree = sandbox.path().join(EVIDENCE);
    fs::create_dir_all(&tree).unwrap();
    let Some(_disk) = Disk::mount(&tree, "size=4m") else { return };
    let serve = sandbox.serve();
    let mut kept = BTreeSet::new();
    // Proven, it may have more than one request under way.
    sandbox.emit("SPEC-1", "Plan", "proven");
    sandbox.wait_for_finals("SPEC-1", 1);
    kept.insert("proven".to_owned());
    for n in 0..5 {
        let key = format!("before-{n}");
        assert_eq!(sandbox.emit("SPEC-1", "Plan", &key)["outcome"], "accepted");
        kept.insert(key);
    }
    endpoint.wait_for(5);
    let filler = tree.join("filler");
    let full = fs::write(&filler, vec![0; 8 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    // Requests under way are answered while nothing can be recorded.
    endpoint.release();
    let arguments = ["emit", "--type", "spec-auto.stage.completed", "--spec", "SPEC-1", "--key"];
    for n in 0..20 {
        let key = format!("full-{n}");
        let ran = sandbox.run(&[&arguments[..], &[&key]].concat());
        match ran.code {
            0 => drop(kept.insert(key)),
            _ => assert!(ran.code == 1 && ran.stderr.contains("nothing was kept"), "{ran:?}"),
        }
    }
    fs::remove_file(&filler).unwrap();
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "after")["outcome"], "accepted");
    kept.insert("after".to_owned());
    sandbox.wait_until_nothing_is_pending();
    assert!(keys(&endpoint).is_superset(&kept), "{:?}", keys(&endpoint));
    let (code, log) = serve.terminate();
    assert_eq!(code, 0, "one serve, from before to after: {log}");
    assert!(log.contains("No space left on device"), "{log}");
}

#[test]
fn a_start_on_a_full_disk_delivers_what_is_pending() {
    let down = Endpoint::down();
    let patient = "initial_backoff_ms = 50\nmax_backoff_ms = 200\nmax_attempts = 1000";
    let sandbox = Sandbox::new(&[("one", &down.url(), patient)]);
    let tree = sandbox.path().join(EVIDENCE);
    fs::create_dir_all(&tree).unwrap();
    let Some(_disk) = Disk::mount(&tree, "size=4m") else { return };
    let serve = sandbox.serve();
    let mut kept = BTreeSet::new();
    for n in 0..100 {
        let key = format!("k{n}");
        assert_eq!(sandbox.emit("SPEC-1", "Plan", &key)["outcome"], "accepted");
        kept.insert(key);
    }
    serve.kill();
    let full = fs::write(tree.join("filler"), vec![0; 8 << 20]).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    down.repair([200]);
    let endpoint = down;
    let serve = sandbox.serve();
    sandbox.wait_until_nothing_is_pending();
    assert_eq!(keys(&endpoint), kept);
    fs::remove_file(tree.join("filler")).unwrap();
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "after")["outcome"], "accepted");
    let (code, log) = serve.terminate();
    assert_eq!(code, 0, "{log}");
}

#[test]
fn a_read_only_file_system_is_said_so_and_emit_does_not_hang() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let tree = sandbox.path().join(EVIDENCE);
    fs::create_dir_all(&tree).unwrap();
    let Some(_disk) = Disk::mount(&tree, "size=1m,ro") else { return };
    let serve = sandbox.run(&["serve"]);
    assert!(serve.code == 1 && serve.stderr.contains("Read-only file system"), "{serve:?}");
    let emit = sandbox.run(&["emit", "--type", "spec-auto.stage.completed", "--spec", "SPEC-1"]);
    assert!(emit.code == 1 && emit.stderr.contains("nothing was kept"), "{emit:?}");
    assert!(emit.stderr.contains("Read-only file system"), "{emit:?}");
}

#[test]
fn what_only_looks_says_the_same_where_nothing_can_be_written() {
    let sandbox = Sandbox::new(&[("one", &Endpoint::down().url(), "max_attempts = 1")]);
    let tree = sandbox.path().join(EVIDENCE);
    fs::create_dir_all(&tree).unwrap();
    let Some(_disk) = Disk::mount(&tree, "size=4m") else { return };
    let telemetry = tree.join("commands/SPEC-1/spec-plan_2025-10-14T10:00:00Z-1.json");
    fs::create_dir_all(telemetry.parent().unwrap()).unwrap();
    fs::write(&telemetry, "{}").unwrap();
    sandbox.emit("SPEC-1", "Plan", "k1");
    assert_eq!(sandbox.run(&["drain"]).code, 1);
    sandbox.emit("SPEC-1", "Plan", "k2");
    let explain = ["explain", "--telemetry", telemetry.to_str().unwrap(), "--json"];
    let look = || {
        [&["status", "--json"][..], &["list", "--json"], &["check"], &explain].map(|command| {
            let ran = sandbox.run(command);
            (ran.code, ran.stdout, ran.stderr)
        })
    };
    let before = look();
    assert_eq!(before.each_ref().map(|(code, ..)| *code), [1, 0, 0, 0], "{before:?}");
    let remounted = Command::new("mount").args(["-o", "remount,ro"]).arg(&tree).status().unwrap();
    assert!(remounted.success() && fs::write(&telemetry, "").is_err());
    assert_eq!(look(), before);
    assert_eq!(sandbox.run(&["status", "--banner"]).code, 1);
}

/// Not a test: what the ten hosts below run. Emits through a runtime of its own and prints what
/// was kept.
#[test]
#[ignore = "run by ten_hosts_share_one_spool, as a process"]
fn host_process() {
    let Some(repo) = std::env::var_os("TEST_HOST_REPO") else { return };
    let name = std::env::var("TEST_HOST_NAME").unwrap();
    let (config, environment) = crate::embed::setting(Path::new(&repo));
    let runtime = spec_notify::Runtime::start_blocking(config, environment).unwrap();
    for n in 0..30 {
        let key = format!("{name}-{n}");
        let receipt = runtime.handle().emit_blocking(crate::embed::event(&key), crate::harness::PATIENCE);
        receipt.unwrap();
    }
    runtime.drain_blocking(std::time::Duration::from_secs(10));
}

#[test]
fn ten_hosts_share_one_spool() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let hosts: Vec<_> = (0..10)
        .map(|n| {
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "bounds::host_process", "--ignored", "--nocapture"]);
            command.env("TEST_HOST_REPO", sandbox.path()).env("TEST_HOST_NAME", format!("host-{n}"));
            command.env("TEST_SECRET", SECRET).stdout(std::process::Stdio::null());
            command.stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut host in hosts {
        assert!(host.wait().unwrap().success());
    }
    // What came while one host handed over to the next waits in the inbox.
    let _serve = sandbox.serve();
    sandbox.wait_until_nothing_is_pending();
    let expected: BTreeSet<String> =
        (0..10).flat_map(|h| (0..30).map(move |n| format!("host-{h}-{n}"))).collect();
    assert_eq!(keys(&endpoint), expected);
    let ids: BTreeSet<String> =
        endpoint.requests().iter().map(|request| request.text_of("x-speckit-id").to_owned()).collect();
    assert_eq!(ids.len(), 300, "each under one id");
}
