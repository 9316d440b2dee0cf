//! Every command's answers: exit codes, words, and what a person is told when something is wrong.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::port::{ask, greeted, runtime};
use crate::harness::{Endpoint, Ran, Sandbox, plan_telemetry};

fn good() -> (Endpoint, Sandbox) {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    (endpoint, sandbox)
}

#[track_caller]
fn assert_fails(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    for word in words {
        assert!(ran.stderr.contains(word), "{word:?} is not in {ran:?}");
    }
}

#[test]
fn check_tells_every_error_at_once_with_its_place() {
    let (_endpoint, sandbox) = good();
    assert_eq!(sandbox.run(&["check"]).code, 0);
    let file = sandbox.write(
        "bad.toml",
        "[spec_ops.webhooks]\nenabled = true\nmax_concurency = 4\nmax_concurrency = 0\n\n\
         [[spec_ops.webhooks.subscriptions]]\nid = \"a b\"\nurl = \"http://example.com/canary\"\nsecret_env = \"NOT_THERE\"\n\
         include_stages = [\"Deploy\"]\nformat = \"slak\"\n",
    );
    let ran = sandbox.run(&["--json", "check", "--config", file.to_str().unwrap()]);
    assert_eq!(ran.code, 2, "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let places: Vec<(u64, u64)> = report["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| (error["line"].as_u64().unwrap(), error["column"].as_u64().unwrap()))
        .collect();
    assert_eq!(places, [(3, 1), (4, 19), (7, 6), (8, 7), (9, 14), (10, 19), (11, 10)], "{report:#}");
    let human = sandbox.run(&["check", "--config", file.to_str().unwrap()]);
    assert_fails(
        &human,
        2,
        &[
            "bad.toml:3:1: unknown key `max_concurency`",
            "did you mean `max_concurrency`?",
            "`max_concurrency` is 0",
            "a subscription id has 1 to 64",
            "http:// sends the payload in the clear",
            "the environment variable NOT_THERE is not set",
            "unknown stage `Deploy`",
            "did you mean `slack`?",
        ],
    );
    assert!(!human.stderr.contains("canary"), "{human:?}");
}

#[test]
fn config_errors_stop_every_command_with_exit_2() {
    let sandbox = Sandbox::new(&[("one", "https://127.0.0.1:1/x", "secret_env = \"NOT_THERE\"")]);
    for command in [&["serve"][..], &["test", "SPEC-1", "--subscription", "one"], &["check"]] {
        assert_fails(&sandbox.run(command), 2, &["NOT_THERE is not set", "export NOT_THERE=…"]);
    }
    let missing = sandbox.run(&["check", "--config", "nowhere.toml"]);
    assert_fails(&missing, 2, &["nowhere.toml: cannot be read"]);
    let broken = sandbox.write("broken.toml", "[spec_ops.webhooks]\nenabled = maybe\nmax_concurrency = \n");
    let ran = sandbox.run(&["check", "--config", broken.to_str().unwrap()]);
    assert_fails(&ran, 2, &["broken.toml:2:11: ", "broken.toml:3:"]);
}

#[test]
fn off_means_off() {
    let dir = tempfile::tempdir().unwrap();
    let (_endpoint, sandbox) = good();
    let off = sandbox.write("off.toml", "[spec_ops.webhooks]\nenabled = false\n");
    let off = off.to_str().unwrap();
    let repo = dir.path().to_str().unwrap();
    let event = ["--type", "spec-auto.stage.completed", "--spec", "SPEC-1"];
    let ran = sandbox.run(&[&["emit", "--repo", repo, "--config", off][..], &event].concat());
    assert_eq!((ran.code, ran.stdout.as_str()), (0, ""));
    assert!(ran.stderr.contains("webhooks are off"), "{ran:?}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "no file is made");
    assert_fails(&sandbox.run(&["serve", "--config", off]), 2, &["webhooks are off"]);
    let on =
        sandbox.command(&["check", "--config", off]).env("SPECKIT_WEBHOOKS_ENABLED", "1").output().unwrap();
    assert!(String::from_utf8_lossy(&on.stdout).contains("webhooks are on"), "{on:?}");
    let odd = sandbox.command(&["check"]).env("SPECKIT_WEBHOOKS_ENABLED", "maybe").output().unwrap();
    assert_fails(&Ran::from(odd), 2, &["SPECKIT_WEBHOOKS_ENABLED is `maybe`"]);
}

#[test]
fn what_is_no_event_is_refused_with_exit_2_and_the_rest_goes_on() {
    let (endpoint, sandbox) = good();
    let emit = |arguments: &[&str]| sandbox.run(&[&["emit"], arguments].concat());
    let kind = ["--type", "spec-auto.stage.completed"];
    for (arguments, words) in [
        (vec![], "nothing to emit"),
        ([&kind[..], &["--spec", "../etc"]].concat(), "is not a SPEC id"),
        ([&kind[..], &["--spec", "a/b"]].concat(), "is not a SPEC id"),
        ([&kind[..], &["--spec", "A", "--stage", "Deploy"]].concat(), "unknown stage `Deploy`"),
        (vec!["--type", "spec-auto.stage.complete", "--spec", "A"], "did you mean"),
        (vec!["--telemetry", "nowhere.json"], "cannot read nowhere.json"),
        (vec!["--event", "nowhere.json"], "cannot read nowhere.json"),
    ] {
        assert_fails(&emit(&arguments), 2, &[words]);
    }
    let agent = sandbox.write(
        "evidence/commands/SPEC-1/spec-audit_claude_2025-10-14T17:16:20Z-1.json",
        r#"{"agent": "claude", "stage": "spec-audit"}"#,
    );
    assert_fails(
        &emit(&["--telemetry", agent.to_str().unwrap()]),
        2,
        &["is not guardrail telemetry", "agent's output"],
    );
    let good =
        json!({"event": {"type": "spec-auto.stage.completed", "stage": "Plan"}, "spec": {"id": "SPEC-1"}});
    let mixed = sandbox.write("mixed.jsonl", &format!("{good}\n{{broken\n"));
    let ran = emit(&["--event", mixed.to_str().unwrap()]);
    assert_fails(&ran, 2, &["mixed.jsonl line 2: not an event"]);
    assert!(ran.stdout.starts_with("queued 1 event (no runtime"), "{ran:?}");
    assert!(ran.stderr.contains("1 refused: "), "{ran:?}");
    let _serve = sandbox.serve();
    assert_eq!(endpoint.wait_for(1).len(), 1);
}

#[test]
fn emit_reads_standard_input_and_shapes_of_json() {
    let (endpoint, sandbox) = good();
    let _serve = sandbox.serve();
    let one =
        json!({"event": {"type": "spec-auto.stage.completed", "stage": "Plan"}, "spec": {"id": "SPEC-1"}});
    for text in
        [serde_json::to_string_pretty(&one).unwrap(), one.to_string().replace("Plan", "Tasks") + "\n\n"]
    {
        let mut child = sandbox
            .command(&["emit", "--event", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let ran = Ran::from(child.wait_with_output().unwrap());
        assert!(ran.code == 0 && ran.stdout.starts_with("accepted 1 delivery"), "{ran:?}");
    }
    endpoint.wait_for(2);
}

#[test]
fn broken_telemetry_arrives_as_halt() {
    let (endpoint, sandbox) = good();
    let _serve = sandbox.serve();
    let text = plan_telemetry("SPEC-7", "s1").to_string().replace("\"full\"", "\"a \"quoted\" word\"");
    let file = sandbox.write("evidence/commands/SPEC-7/spec-plan_s1.json", &text);
    let ran = sandbox.run(&["emit", "--telemetry", file.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let payload = endpoint.wait_for(1)[0].json();
    assert_eq!(payload["event"]["status"], "halt");
    assert_eq!(payload["spec"]["id"], "SPEC-7");
    assert!(
        payload["telemetry"]["error"].as_str().unwrap().starts_with("the file is not valid JSON"),
        "{payload}"
    );
}

#[test]
fn test_shows_request_and_answer_and_tells_by_its_exit_code() {
    let endpoint = Endpoint::replying(&[200, 500]);
    let url = endpoint.url();
    let sandbox =
        Sandbox::new(&[("one", &url, ""), ("dry", &url, "dry_run = true"), ("off", &url, "active = false")]);
    let _serve = sandbox.serve();
    let ran = sandbox.run(&["--test", "SPEC-1", "--subscription", "one"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for words in [
        "POST http://127.0.0.1:",
        "x-speckit-event: spec-kit.webhook.test",
        "\"idempotency_key\"",
        "delivered: one answered 200",
    ] {
        assert!(ran.stdout.contains(words), "{words}: {ran:?}");
    }
    assert_eq!(endpoint.requests()[0].json()["event"]["type"], "spec-kit.webhook.test");
    let failed = sandbox.run(&["--json", "test", "SPEC-1", "--subscription", "one"]);
    let report: Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!(
        (failed.code, &report[0]["outcome"], &report[0]["status"]),
        (1, &json!("failed"), &json!(500))
    );
    let dry = sandbox.run(&["test", "SPEC-1", "--subscription", "dry"]);
    assert!(dry.code == 0 && dry.stdout.contains("nothing was sent"), "{dry:?}");
    assert_eq!(endpoint.requests().len(), 2);
    assert_fails(&sandbox.run(&["test", "SPEC-1", "--subscription", "off"]), 2, &["is inactive"]);
    assert_fails(
        &sandbox.run(&["test", "SPEC-1", "--subscription", "two"]),
        2,
        &["no subscription `two`", "one, dry, off"],
    );
    assert_fails(&sandbox.run(&["test", "a/b", "--subscription", "one"]), 2, &["is not a SPEC id"]);
}

#[test]
fn a_port_in_use_is_said_so() {
    let (_endpoint, sandbox) = good();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    assert_fails(
        &sandbox.run(&["serve", "--port", &port]),
        1,
        &["cannot listen on 127.0.0.1:", "choose another port"],
    );
    assert_fails(&sandbox.run(&["receive", "--port", &port]), 1, &["cannot listen on 127.0.0.1:"]);
}

#[test]
fn a_spool_that_cannot_be_written_loses_nothing_in_silence() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::with_settings("spool_dir = \"blocked/spool\"", &[("one", &endpoint.url(), "")]);
    sandbox.write("blocked", "a file where a directory should be");
    let event = ["emit", "--type", "spec-auto.stage.completed", "--spec", "SPEC-1"];
    assert_fails(&sandbox.run(&event), 1, &["nothing was kept", "blocked"]);
    assert_fails(&sandbox.run(&["serve"]), 1, &["cannot use the directory", "can be written"]);
}

#[test]
fn emit_needs_no_secret_where_a_runtime_has_it() {
    let (endpoint, sandbox) = good();
    let _serve = sandbox.serve();
    let ran = sandbox
        .command(&["emit", "--type", "spec-auto.stage.completed", "--spec", "SPEC-1"])
        .env_remove("TEST_SECRET")
        .output()
        .unwrap();
    assert_eq!(Ran::from(ran).code, 0);
    endpoint.wait_for(1);
}

#[test]
fn receive_verifies_what_it_gets() {
    let receive = "--json receive --port 0 --secret-env TEST_SECRET --count 4 --answer 201,202";
    let receive: Vec<&str> = receive.split(' ').collect();
    let elsewhere = Sandbox::new(&[]);
    let mut child =
        elsewhere.command(&receive).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    let url = said.split_whitespace().find(|word| word.starts_with("http://")).unwrap();
    let sandbox = Sandbox::new(&[("right", url, ""), ("wrong", url, "secret_env = \"OTHER\"")])
        .env("OTHER", "another-secret-of-the-tests");
    let test = |subscription| sandbox.run(&["--json", "test", "SPEC-1", "--subscription", subscription]);
    let right: Value = serde_json::from_str(&test("right").stdout).unwrap();
    assert_eq!(right[0]["status"], 201);
    let wrong = test("wrong");
    assert_eq!(wrong.code, 1, "{wrong:?}");
    let wrong: Value = serde_json::from_str(&wrong.stdout).unwrap();
    assert_eq!((&wrong[0]["outcome"], &wrong[0]["status"]), (&json!("failed"), &json!(401)));
    let hint = wrong[0]["hint"].as_str().unwrap();
    assert!(hint.contains("compare the secret and any Authorization header on both sides"), "{hint}");
    let response = wrong[0]["response"].as_str().unwrap();
    assert!(response.contains("X-SpecKit-Signature does not match"), "{response}");
    let address = url.strip_prefix("http://").unwrap().trim_end_matches('/');
    let mut unsigned = std::net::TcpStream::connect(address).unwrap();
    unsigned
        .write_all(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
        .unwrap();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut unsigned, &mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("not signed"), "{answer}");
    // A refused request uses up none of the answers that were asked for.
    let again: Value = serde_json::from_str(&test("right").stdout).unwrap();
    assert_eq!(again[0]["status"], 202);
    let ran = Ran::from(child.wait_with_output().unwrap());
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let verified: Vec<_> = lines.iter().map(|line| line["verified"].as_str().unwrap()).collect();
    assert_eq!(verified, ["ok", "bad", "unsigned", "ok"], "{ran:?}");
    assert_eq!(lines[1]["status"], 401);
    assert_eq!(lines[0]["id"], right[0]["id"]);
    assert_eq!((&lines[0]["attempt"], &lines[0]["body"]["spec"]["id"]), (&json!(1), &json!("SPEC-1")));
    assert_eq!(ran.code, 1, "a bad signature is a failure");
}

#[test]
fn the_demo_holds_what_it_claims() {
    let (_endpoint, sandbox) = good();
    let ran = sandbox.run(&["demo"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    for words in ["answered 500", "all 3 attempts failed", "replay SPEC-DEMO-001", "nothing lost"] {
        assert!(ran.stdout.contains(words), "{words}: {ran:?}");
    }
}

#[test]
fn the_port_obeys_only_who_has_the_token() {
    use std::io::Read as _;
    let (endpoint, sandbox) = good();
    let _serve = sandbox.serve();
    let file = runtime(&sandbox);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(sandbox.spool().join("runtime.json")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    let say = |text: &str| {
        let mut stream = std::net::TcpStream::connect(file["address"].as_str().unwrap()).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map(|_| answer).unwrap_or_default()
    };
    let emit =
        r#"{"command":"emit","event":{"event":{"type":"spec-auto.stage.completed"},"spec":{"id":"SPEC-1"}}}"#;
    assert_eq!(say("GET / HTTP/1.1\r\nhost: x\r\n\r\n"), "");
    assert_eq!(say(&format!("{emit}\n")), "");
    let hello = format!("{{\"version\":2,\"nonce\":\"{}\"}}\n", "0".repeat(64));
    let wrong = say(&format!("{hello}{{\"proof\":\"{}\"}}\n{emit}\n", "0".repeat(64)));
    assert!(wrong.contains("wrong proof") && !wrong.contains("accepted"), "{wrong}");
    assert_eq!(endpoint.requests().len(), 0);
    let mut stream = greeted(&file);
    assert!(
        ask(&mut stream, &json!({"command": "lost"}))["error"]
            .as_str()
            .unwrap()
            .contains("unknown command `lost`")
    );
    let emitted = ask(&mut stream, &serde_json::from_str(emit).unwrap());
    assert_eq!(emitted["ok"]["outcome"], "accepted");
    endpoint.wait_for(1);
}
