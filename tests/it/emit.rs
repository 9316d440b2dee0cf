//! `emit` with much to say: batches, pipes without end, a disk that stands still, a runtime that
//! does not answer.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::harness::{EVIDENCE, Endpoint, Ran, RequestExt as _, Sandbox, plan_telemetry, wait_for};

/// Wants nothing: what is tested here is how events get into the spool.
const NOTHING: &str = "include_events = [\"spec-auto.anomaly.cost_threshold\"]";

fn line(n: usize) -> String {
    let event = json!({"event": {"type": "spec-kit.task.completed", "idempotency_key": format!("k{n}")},
                       "spec": {"id": format!("SPEC-{}", n % 5)}});
    format!("{event}\n")
}

fn lines(count: usize) -> String {
    (0..count).map(line).collect()
}

fn outcomes(stdout: &str) -> BTreeSet<String> {
    let outcome = |line: &str| {
        let emitted: Value = serde_json::from_str(line).unwrap();
        emitted["outcome"].as_str().unwrap().to_owned()
    };
    stdout.lines().map(outcome).collect()
}

/// Waits until the runtime has taken the inbox in.
fn wait_for_empty_inbox(sandbox: &Sandbox) {
    wait_for("the inbox to be taken in", || sandbox.inbox().is_empty().then_some(()));
}

#[test]
fn a_batch_that_takes_longer_than_the_deadline_is_kept_whole() {
    let sandbox = Sandbox::new(&[("one", &Endpoint::down().url(), NOTHING)]);
    let _serve = sandbox.serve();
    let file = sandbox.write("events.jsonl", &lines(8000));
    let file = file.to_str().unwrap();
    let ran = sandbox.run(&["--json", "emit", "--deadline", "100", "--event", file]);
    assert_eq!((ran.code, ran.stdout.lines().count()), (0, 8000), "{}", ran.stderr);
    let kept = ["accepted", "duplicate", "queued", "unconfirmed"].map(str::to_owned).into();
    assert!(outcomes(&ran.stdout).is_subset(&kept), "{:?}", outcomes(&ran.stdout));
    let again = || {
        wait_for_empty_inbox(&sandbox);
        let again = sandbox.run(&["emit", "--deadline", "60000", "--event", file]);
        assert_eq!(again.code, 0, "{again:?}");
        again.stdout
    };
    // What was unconfirmed may be accepted only now. From then on all of it is known.
    again();
    assert_eq!(again(), "duplicate 8000 events (accepted before, not sent again)\n");
}

#[test]
fn a_batch_without_a_runtime_waits_in_few_files_in_order_and_is_taken_in() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "max_in_flight = 1")]);
    let text = lines(300) + "{broken\n" + &line(300) + "[]\n";
    let file = sandbox.write("events.jsonl", &text);
    let ran = sandbox.run(&["emit", "--deadline", "60000", "--event", file.to_str().unwrap()]);
    assert_eq!(ran.code, 2, "{ran:?}");
    assert!(ran.stdout.starts_with("queued 301 events (no runtime took them now"), "{ran:?}");
    let why = format!("error: 2 refused: {} line 301: not an event: key must be", file.display());
    assert!(ran.stderr.starts_with(&why) && ran.stderr.lines().count() == 1, "{ran:?}");
    assert!(sandbox.inbox().len() <= 2, "{:?}", sandbox.inbox());
    let report: Value = serde_json::from_str(&sandbox.run(&["--json", "status"]).stdout).unwrap();
    assert_eq!(report["inbox"], 301);
    let _serve = sandbox.serve();
    let requests = endpoint.wait_for(301);
    wait_for_empty_inbox(&sandbox);
    for spec in 0..5 {
        let keys: Vec<String> = requests
            .iter()
            .map(|request| request.told())
            .filter(|body| body["spec"]["id"] == format!("SPEC-{spec}"))
            .map(|body| body["event"]["idempotency_key"].as_str().unwrap().to_owned())
            .collect();
        let expected: Vec<String> = (0..301).filter(|n| n % 5 == spec).map(|n| format!("k{n}")).collect();
        assert_eq!(keys, expected);
    }
}

#[test]
fn what_a_runtime_that_is_stopped_does_not_take_is_queued_at_once() {
    let sandbox = Sandbox::new(&[("one", &Endpoint::down().url(), NOTHING)]);
    let serve = sandbox.serve();
    serve.signal("STOP");
    let file = sandbox.write("events.jsonl", &lines(1000));
    let file = file.to_str().unwrap();
    let ran = sandbox.run(&["--json", "emit", "--deadline", "4000", "--event", file]);
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(outcomes(&ran.stdout), ["queued".to_owned()].into());
    serve.signal("CONT");
    wait_for_empty_inbox(&sandbox);
    let again = sandbox.run(&["emit", "--deadline", "60000", "--event", file]);
    assert_eq!(again.stdout, "duplicate 1000 events (accepted before, not sent again)\n");
}

/// `tail -f log | spec-notify emit --event -`
#[test]
fn each_line_of_a_pipe_is_emitted_when_it_comes() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    let mut child = sandbox
        .command(&["--json", "emit", "--event", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    for n in 0..5 {
        pipe.write_all(line(n).as_bytes()).unwrap();
        let mut result = String::new();
        said.read_line(&mut result).unwrap();
        assert_eq!(outcomes(&result), ["accepted".to_owned()].into());
        endpoint.wait_for(n + 1);
    }
    drop(pipe);
    assert!(child.wait().unwrap().success());
}

/// The most memory a process had so far, in KiB.
fn most_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

#[test]
fn a_pipe_of_two_hundred_thousand_lines_runs_in_bounded_memory() {
    if !cfg!(target_os = "linux") {
        eprintln!("skipped: /proc is Linux's");
        return;
    }
    let sandbox = Sandbox::new(&[("one", &Endpoint::down().url(), NOTHING)]);
    let mut child = sandbox
        .command(&["emit", "--deadline", "60000", "--event", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let writer = thread::spawn(move || {
        for thousand in 0..200 {
            let text: String = (0..1000).map(|n| line(thousand * 1000 + n)).collect();
            pipe.write_all(text.as_bytes()).unwrap();
        }
    });
    let mut most = 0;
    let mut ended = None;
    while ended.is_none() {
        most = most.max(most_memory(child.id()).unwrap_or(0));
        thread::park_timeout(std::time::Duration::from_millis(20));
        ended = child.try_wait().unwrap();
    }
    writer.join().unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    assert!(ran.code == 0 && ran.stdout.starts_with("queued 200000 events"), "{ran:?}");
    assert!((1..96 * 1024).contains(&most), "{most} KiB");
    assert!(sandbox.inbox().len() <= 60, "{}", sandbox.inbox().len());
}

/// A disk of which a test says when it stands still; `None` where no library can be built that
/// stands for it.
struct Disk {
    sandbox: Sandbox,
    stalled: PathBuf,
}

impl Disk {
    fn new(url: &str) -> Option<Self> {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/stalled_disk.c");
        static BUILT: std::sync::OnceLock<Option<PathBuf>> = std::sync::OnceLock::new();
        let library = BUILT.get_or_init(|| {
            let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stalled_disk.so");
            let built =
                Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(source).status();
            built.is_ok_and(|status| status.success() && cfg!(target_os = "linux")).then_some(library)
        });
        let Some(library) = library else {
            eprintln!("skipped: no C compiler that builds a library to preload");
            return None;
        };
        let sandbox = Sandbox::new(&[("one", url, "")]);
        let stalled = sandbox.path().join("stalled");
        let sandbox = sandbox
            .env("LD_PRELOAD", library.to_str().unwrap())
            .env("STALLED_DISK", stalled.to_str().unwrap());
        Some(Self { sandbox, stalled })
    }

    fn stall(&self) {
        fs::write(&self.stalled, "").unwrap();
    }

    fn go_on(&self) {
        fs::remove_file(&self.stalled).unwrap();
    }

    /// Waits until something waits for the disk.
    fn wait_until_noticed(&self) {
        wait_for("a write that waits", || self.stalled.with_extension("seen").exists().then_some(()));
    }

    fn wait_for_events(&self, count: usize) {
        wait_for("the events in the inbox", || {
            let report: Value =
                serde_json::from_str(&self.sandbox.run(&["--json", "status"]).stdout).unwrap();
            (report["inbox"] == count).then_some(())
        });
    }
}

const EMIT: [&str; 6] = ["emit", "--type", "spec-kit.task.completed", "--spec", "SPEC-1", "--key"];

#[test]
fn on_a_disk_that_stands_still_emit_ends_at_its_deadline_and_the_write_goes_on() {
    let Some(disk) = Disk::new(&Endpoint::down().url()) else { return };
    disk.stall();
    // As a script does that takes what it says: the end of its output is the end of the program.
    let ran = disk.sandbox.run(&[&EMIT[..], &["k1", "--deadline", "1500", "--json"]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    let said: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&said["outcome"], &said["deliveries"]), (&json!("unconfirmed"), &json!([])));
    let ran = disk.sandbox.run(&[&EMIT[..], &["k2", "--deadline", "1500"]].concat());
    assert!(ran.code == 0 && ran.stdout.starts_with("unconfirmed: spec-kit.task.completed k2 ("), "{ran:?}");
    disk.go_on();
    disk.wait_for_events(2);
}

#[test]
fn whoever_ends_emit_does_not_end_its_write() {
    let Some(disk) = Disk::new(&Endpoint::down().url()) else { return };
    disk.stall();
    let mut command = disk.sandbox.command(&[&EMIT[..], &["k1", "--deadline", "600000"]].concat());
    let mut emitting = command.process_group(0).stdout(Stdio::null()).spawn().unwrap();
    disk.wait_until_noticed();
    // Ctrl-C, and a terminal that closes, reach the whole group.
    for signal in ["INT", "HUP"] {
        let group = format!("-{}", emitting.id());
        assert!(Command::new("kill").args(["-s", signal, "--", &group]).status().unwrap().success());
    }
    assert!(!emitting.wait().unwrap().success());
    disk.go_on();
    disk.wait_for_events(1);
}

#[test]
fn what_cannot_be_kept_at_all_is_refused_and_writes_that_hang_are_few() {
    let Some(disk) = Disk::new(&Endpoint::down().url()) else { return };
    // One line after the other: each is a write of its own, as its result is awaited.
    disk.stall();
    let mut child = disk
        .sandbox
        .command(&["--json", "emit", "--deadline", "1000", "--event", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let mut said = BufReader::new(child.stdout.take().unwrap());
    let mut results = Vec::new();
    for n in 0..5 {
        pipe.write_all(line(n).as_bytes()).unwrap();
        let mut result = String::new();
        said.read_line(&mut result).unwrap();
        results.push(serde_json::from_str::<Value>(&result).unwrap());
    }
    drop(pipe);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(results[..4].iter().all(|result| result["outcome"] == "unconfirmed"), "{results:?}");
    let error = results[4]["error"].as_str().unwrap();
    assert!(error.contains("has not confirmed the last 4 writes"), "{error}");
    disk.go_on();
    disk.wait_for_events(4);
}

#[test]
fn what_is_over_a_limit_is_refused_on_every_way_and_before_it_is_kept() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    let event = |key: &str, x: String| {
        format!(
            "{{\"event\":{{\"type\":\"spec-kit.webhook.test\",\"idempotency_key\":\"{key}\"}},\"spec\":{{\"id\":\"SPEC-1\"}},\"x\":{x}}}\n"
        )
    };
    let limits = [
        (event("deep", nested(100)), "nested 101 levels deep; at most 100"),
        (event("deeper", nested(125)), "nested 126 levels deep; at most 100"),
        (event("large", format!("\"{}\"", "x".repeat(512 * 1024))), "bytes; at most 524288"),
    ];
    let refused = || {
        for (text, why) in &limits {
            let file = sandbox.write("over.json", text);
            let ran = sandbox.run(&["emit", "--event", file.to_str().unwrap()]);
            assert!(ran.code == 2 && ran.stderr.contains(why), "{why}: {ran:?}");
        }
    };
    let just = |key: &str| {
        let file = sandbox.write("just.json", &event(key, nested(99)));
        sandbox.run(&["emit", "--event", file.to_str().unwrap()])
    };
    refused();
    assert!(sandbox.inbox().is_empty());
    assert!(just("queued").stdout.starts_with("queued"));
    let telemetry = |session: &str, levels: usize| {
        let text = format!(
            "{{\"command\":\"spec-ops-plan\",\"specId\":\"SPEC-1\",\"sessionId\":\"{session}\",\"timestamp\":\"2025-10-14T10:00:00Z\",\"baseline\":{{\"status\":\"passed\"}},\"x\":{}}}",
            nested(levels)
        );
        sandbox.write(&format!("evidence/commands/SPEC-1/spec-plan_{session}.json"), &text)
    };
    for levels in [90, 120, 126] {
        let file = telemetry(&format!("s{levels}"), levels);
        let ran = sandbox.run(&["emit", "--telemetry", file.to_str().unwrap()]);
        assert!(ran.code == 0 && ran.stdout.starts_with("queued"), "{ran:?}");
    }
    let _serve = sandbox.serve();
    assert!(just("accepted").stdout.starts_with("accepted"));
    refused();
    wait_for("the stages", || {
        let told: Vec<Value> = endpoint.requests().iter().map(|request| request.told()).collect();
        let stages = told.iter().filter(|body| body["event"]["type"] == "spec-auto.stage.completed");
        let halts = stages.clone().filter(|body| body["event"]["status"] == "halt").count();
        // Deep telemetry is told, and not judged.
        (stages.count() == 3 && halts == 2).then_some(())
    });
    for id in ["inbox", "Watch.jsonl", "runtime.json", "HEALTH.JSON", "lock"] {
        let ran = sandbox.run(&["emit", "--type", "spec-kit.webhook.test", "--spec", id]);
        assert!(ran.code == 2 && ran.stderr.contains("a file or folder of its own"), "{ran:?}");
    }
    wait_for_empty_inbox(&sandbox);
}

#[test]
fn a_spec_whose_folder_is_a_link_waits_alone_and_status_says_why() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let serve = sandbox.serve();
    let link = sandbox.spool().join("STUCK");
    std::os::unix::fs::symlink(sandbox.path(), &link).unwrap();
    for key in ["stuck-1", "stuck-2"] {
        assert_eq!(sandbox.emit("STUCK", "Plan", key)["outcome"], "queued");
    }
    fs::create_dir(sandbox.spool().join("inbox/00-1.event.json")).unwrap();
    serve.signal("STOP");
    let arguments = ["--json", "emit", "--type", "spec-kit.webhook.test", "--spec", "GOES-ON", "--key", "k"];
    let ran = sandbox.run(&[&arguments[..], &["--deadline", "4000"]].concat());
    assert!(ran.stdout.contains("\"queued\""), "{ran:?}");
    serve.signal("CONT");
    let key = |request: &crate::harness::Request| request.told()["event"]["idempotency_key"].clone();
    assert_eq!(key(&endpoint.wait_for(1)[0]), "k");
    let said = wait_for("status to say so", || {
        let said = sandbox.run(&["status"]).stdout;
        said.contains("inbox: 2 events of STUCK wait: ").then_some(said)
    });
    assert!(said.contains("inbox: 1 file waits that cannot be read: it is not a file"), "{said}");
    fs::remove_file(link).unwrap();
    let keys: Vec<Value> = endpoint.wait_for(3).iter().map(key).collect();
    assert_eq!(keys.len(), 3);
    wait_for("the status to be good again", || {
        (!sandbox.run(&["status"]).stdout.contains("STUCK wait")).then_some(())
    });
    let log = serve.log();
    assert_eq!(log.matches("events of STUCK wait in the inbox").count(), 1, "{log}");
    assert_eq!(log.matches("00-1.event.json").count(), 1, "{log}");
}

#[test]
fn numbers_of_telemetry_arrive_as_they_were_written() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let mut telemetry = plan_telemetry("SPEC-1", "s1");
    telemetry["note"] = "a \"quoted\"  text".into();
    let text = serde_json::to_string_pretty(&telemetry).unwrap();
    let text = text.replacen(
        '{',
        "{ \"tokens\": 123456789012345678901234567890,\n\"ratio\": 0.12345678901234567891,",
        1,
    );
    let path = format!("{EVIDENCE}/commands/SPEC-1/spec-plan_s1.json");
    let file = sandbox.write(&path, &text);
    // Through the inbox and the spool, as nothing runs yet.
    assert_eq!(sandbox.run(&["emit", "--telemetry", file.to_str().unwrap()]).code, 0);
    let _serve = sandbox.serve_with(&["--no-watch"]);
    let body = String::from_utf8(endpoint.wait_for(1)[0].body().to_vec()).unwrap();
    assert!(
        body.contains("\"tokens\":123456789012345678901234567890,\"ratio\":0.12345678901234567891,"),
        "{body}"
    );
    assert!(body.contains(r#""note":"a \"quoted\"  text""#), "{body}");
}

#[test]
fn an_event_on_standard_input_is_read_as_tools_write_it() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve_with(&["--no-watch"]);
    let event = |key: &str| {
        let event = json!({"event": {"type": "spec-kit.task.completed", "idempotency_key": key}, "spec": {"id": "SPEC-1"}});
        serde_json::to_string_pretty(&event).unwrap()
    };
    let utf16 =
        |text: &str| format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for text in [
        utf16(&event("k1")),
        event("k2").replacen("{\n", "{ \"score\": NaN,\n", 1).into_bytes(),
        format!("\u{feff}{}", event("k3").replace('\n', "\r\n")).into_bytes(),
    ] {
        let mut child = sandbox.command(&["emit", "--event", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&text).unwrap();
        assert!(child.wait().unwrap().success(), "{}", String::from_utf8_lossy(&text));
    }
    endpoint.wait_for(3);
}
