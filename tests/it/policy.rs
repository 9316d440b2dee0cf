//! What an endpoint may ask for and what it cannot: pauses, rates, fairness, the breaker, secrets
//! that change, formats, proxies.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use spec_notify::testing::Secret;
use spec_notify::testing::sign;

use crate::harness::{Answer, Endpoint, Request, Sandbox, wait_for};

fn answer(status: u16, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{headers}connection: close\r\n\r\n");
    Answer::Raw((head + body).into_bytes())
}

fn seconds_between(requests: &[Request], first: usize, last: usize) -> f64 {
    requests[last].at.duration_since(requests[first].at).as_secs_f64()
}

#[test]
fn retry_after_pauses_the_whole_subscription_also_over_a_restart_and_no_other() {
    let busy = Endpoint::answering(vec![answer(429, "retry-after: 2\r\n", ""), Answer::Status(200)]);
    let other = Endpoint::replying(&[200]);
    let fast = "initial_backoff_ms = 1\njitter_ms = 0";
    let sandbox = Sandbox::new(&[("busy", &busy.url(), fast), ("other", &other.url(), "")]);
    let serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    busy.wait_for(1);
    wait_for("the pause to be kept", || {
        let health = std::fs::read_to_string(sandbox.spool().join("health.json")).ok()?;
        health.contains("paused_until").then_some(())
    });
    let report: Value = serde_json::from_str(&sandbox.run(&["--json", "status"]).stdout).unwrap();
    assert!(report["warnings"].to_string().contains("asked for a pause"), "{report}");
    serve.kill();
    let _serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k2");
    other.wait_for(2);
    let requests = busy.wait_for(3);
    assert!(seconds_between(&requests, 0, 1) > 1.9, "nothing came while it wanted to be left alone");
}

#[test]
fn a_rate_is_held_by_a_burst_and_evenly() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("slow", &endpoint.url(), "rate_limit_per_s = 20")]);
    let _serve = sandbox.serve();
    let event = |n: u32| json!({"event": {"type": "spec-kit.task.completed", "idempotency_key": n.to_string()}, "spec": {"id": "SPEC-1"}});
    let lines: String = (0..30).map(|n| format!("{}\n", event(n))).collect();
    let file = sandbox.write("events.jsonl", &lines);
    assert_eq!(sandbox.run(&["emit", "--deadline", "20000", "--event", file.to_str().unwrap()]).code, 0);
    let requests = endpoint.wait_for(30);
    // 29 intervals of 50 ms; the requests' own jitter is far below an interval.
    assert!(seconds_between(&requests, 0, 29) > 1.4, "{}", seconds_between(&requests, 0, 29));
    assert!(seconds_between(&requests, 0, 10) > 0.45, "no burst at the beginning");
}

#[test]
fn a_rate_is_held_by_replays_too_beside_what_is_new() {
    let endpoint = Endpoint::replying(&[&[404; 10][..], &[200]].concat());
    let sandbox = Sandbox::new(&[("slow", &endpoint.url(), "rate_limit_per_s = 20")]);
    let _serve = sandbox.serve();
    let event = |n: u32| json!({"event": {"type": "spec-kit.task.completed", "idempotency_key": n.to_string()}, "spec": {"id": "SPEC-1"}});
    let emit = |numbers: std::ops::Range<u32>| {
        let lines: String = numbers.map(|n| format!("{}\n", event(n))).collect();
        let file = sandbox.write("events.jsonl", &lines);
        assert_eq!(sandbox.run(&["emit", "--deadline", "20000", "--event", file.to_str().unwrap()]).code, 0);
    };
    emit(0..10);
    sandbox.wait_for_finals("SPEC-1", 10);
    emit(10..20);
    assert_eq!(sandbox.run(&["replay", "--all", "--rate", "1000"]).code, 0);
    let requests = endpoint.wait_for(30);
    // 19 intervals of 50 ms.
    assert!(seconds_between(&requests, 10, 29) > 0.9, "{}", seconds_between(&requests, 10, 29));
}

#[test]
fn what_would_wait_for_minutes_is_refused_with_the_time() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("slow", &endpoint.url(), "rate_limit_per_s = 0.001")]);
    let _serve = sandbox.serve();
    let test = ["test", "SPEC-1", "--subscription", "slow"];
    assert_eq!(sandbox.run(&test).code, 0);
    let ran = sandbox.run(&test);
    assert!(ran.code == 1 && ran.stderr.contains("rate_limit_per_s lets the next request"), "{ran:?}");
    assert_eq!(sandbox.run(&[&test[..], &["--dry-run"]].concat()).code, 0, "it sends nothing");
    assert_eq!(endpoint.requests().len(), 1);
}

#[test]
fn ten_endpoints_that_never_answer_leave_a_proven_one_its_share() {
    let healthy = Endpoint::replying(&[200]);
    let dead: Vec<Endpoint> = (0..10).map(|_| Endpoint::answering(vec![Answer::Hang])).collect();
    let names: Vec<String> = (0..10).map(|n| format!("dead-{n}")).collect();
    let urls: Vec<String> = dead.iter().map(Endpoint::url).collect();
    let healthy_url = healthy.url();
    let mut entries: Vec<(&str, &str, &str)> = vec![("healthy", &healthy_url, "")];
    for (name, url) in names.iter().zip(&urls) {
        entries.push((name, url, "per_request_timeout_ms = 60000"));
    }
    let sandbox = Sandbox::with_settings("max_concurrency = 4", &entries);
    let _serve = sandbox.serve();
    assert_eq!(sandbox.run(&["test", "SPEC-1", "--subscription", "healthy"]).code, 0);
    for n in 0..20 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    // All of its own, while those that hang hold two permits for a minute.
    healthy.wait_for(21);
    let held: usize = dead.iter().map(Endpoint::most_in_flight).sum();
    assert_eq!(held, 2, "half of max_concurrency");
}

#[test]
fn slow_endpoints_that_answer_leave_one_permit_for_who_holds_none() {
    let fast = Endpoint::replying(&[200]);
    // Each has taken something before, and so is proven; then it takes its time.
    let slow: Vec<Endpoint> =
        (0..3).map(|_| Endpoint::answering(vec![Answer::Status(200), Answer::Hang])).collect();
    let urls: Vec<String> = slow.iter().map(Endpoint::url).collect();
    let (fast_url, patient) = (fast.url(), "per_request_timeout_ms = 60000");
    let entries = [
        ("fast", &*fast_url, ""),
        ("slow-0", &*urls[0], patient),
        ("slow-1", &*urls[1], patient),
        ("slow-2", &*urls[2], patient),
    ];
    let sandbox = Sandbox::with_settings("max_concurrency = 4", &entries);
    let _serve = sandbox.serve();
    for n in 0..6 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    // All permits but one are held for as long as the test likes.
    slow.iter().for_each(|one| drop(one.wait_for(2)));
    fast.wait_for(6);
    sandbox.emit("SPEC-1", "Plan", "k6");
    fast.wait_for(7);
    assert!(slow.iter().all(|one| one.requests().len() == 2), "the last permit is kept for who holds none");
    slow.iter().for_each(Endpoint::release);
    slow.iter().for_each(|one| drop(one.wait_for(7)));
}

#[test]
fn a_breaker_opens_and_closes_with_a_line_each_however_many_attempts_fail() {
    let lines = "initial_backoff_ms = 20\nbackoff_factor = 1.0\njitter_ms = 0";
    let log_of = |statuses: &[u16]| {
        let endpoint = Endpoint::replying(statuses);
        let sandbox = Sandbox::new(&[("one", &endpoint.url(), lines)]);
        let serve = sandbox.serve();
        for n in 0..4 {
            sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
        }
        sandbox.wait_for_finals("SPEC-1", 4);
        let (code, log) = serve.terminate();
        assert_eq!(code, 0);
        log
    };
    let said = |log: &str, words: &str| assert_eq!(log.matches(words).count(), 1, "{words}: {log}");
    let log = log_of(&[vec![500; 12], vec![200]].concat());
    said(&log, "one is open: 5 attempts in a row failed, the last with status 500: one request at a time");
    said(&log, "one takes deliveries again");
    // While it is open no attempt has a line of its own.
    assert_eq!(log.matches("to one failed, next in").count(), 4, "{log}");
    // One that took something a moment ago may take the next one.
    let log = log_of(&[vec![200], vec![500; 12], vec![200]].concat());
    said(&log, "one is degraded: 1 of the last 2 attempts failed, the last with status 500");
    assert!(!log.contains("is open"), "{log}");
}

#[test]
fn an_env_file_is_read_anew_and_a_secret_that_vanishes_sends_nothing_unsigned() {
    let endpoint = Endpoint::replying(&[500, 200]);
    let lines = "secret_env = \"OF_FILE\"\ninitial_backoff_ms = 300\nbackoff_factor = 1.0\njitter_ms = 0";
    let sandbox = Sandbox::with_settings("env_file = \".env\"", &[("one", &endpoint.url(), lines)]);
    let [old, new] = ["the-first-secret-of-all", "the-second-secret-of-all"];
    sandbox.write(".env", &format!("OF_FILE={old}\n"));
    let serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    endpoint.wait_for(1);
    sandbox.write(".env", &format!("# rotated\nOF_FILE={new}\n"));
    let requests = endpoint.wait_for(2);
    for (request, secret) in requests.iter().zip([old, new]) {
        let expected = sign::spec_kit(&Secret::parse(secret).unwrap(), &request.body);
        assert_eq!(
            request.header("x-speckit-signature"),
            expected,
            "the retry is signed with the new secret"
        );
    }
    sandbox.write(".env", "# nothing left\n");
    sandbox.emit("SPEC-1", "Plan", "k2");
    wait_for("the failure to be told", || serve.log().contains("OF_FILE is not set").then_some(()));
    assert_eq!(endpoint.requests().len(), 2);
    sandbox.write(".env", &format!("OF_FILE={new}\n"));
    endpoint.wait_for(3);
}

#[test]
fn extra_headers_are_sent_and_those_of_the_environment_shown_nowhere() {
    let endpoint = Endpoint::replying(&[200]);
    let lines = "headers = { \"X-Team\" = \"platform\", \"X-Api-Key\" = \"env:API_KEY\", Authorization = \"env:BEARER\" }";
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), lines)])
        .env("API_KEY", "canary-key")
        .env("BEARER", "Bearer canary-token");
    let ran = sandbox.run(&["test", "SPEC-1", "--subscription", "one"]);
    assert!(
        ran.code == 0 && ran.stdout.contains("x-team: platform") && !ran.stdout.contains("canary"),
        "{ran:?}"
    );
    let request = endpoint.wait_for(1).remove(0);
    assert_eq!((request.header("x-team"), request.header("x-api-key")), ("platform", "canary-key"));
    assert_eq!(request.header("authorization"), "Bearer canary-token");
    assert!(!format!("{:?}", sandbox.evidence("SPEC-1")).contains("canary"));
    let clear =
        Sandbox::new(&[("one", &endpoint.url(), "headers = { Authorization = \"Bearer canary-token\" }")]);
    let ran = clear.run(&["check"]);
    assert!(ran.code == 2 && ran.stderr.contains("env:NAME") && !ran.stderr.contains("canary"), "{ran:?}");
    let user = endpoint.url().replace("http://", "http://user:word@");
    let both =
        Sandbox::new(&[("one", &user, "headers = { Authorization = \"env:BEARER\" }")]).env("BEARER", "x");
    let ran = both.run(&["check"]);
    assert!(ran.code == 2 && ran.stderr.contains("given twice"), "{ran:?}");
    for ours in ["Host", "X-SpecKit-Id", "webhook-signature", "Content-Type", "a b"] {
        let bad = Sandbox::new(&[("one", &endpoint.url(), &format!("headers = {{ \"{ours}\" = \"x\" }}"))]);
        let ran = bad.run(&["check"]);
        assert!(ran.code == 2 && ran.stderr.contains("cannot be set"), "{ours}: {ran:?}");
    }
    let twice = Sandbox::new(&[("one", &endpoint.url(), "headers = { \"X-A\" = \"1\", x-a = \"2\" }")]);
    let ran = twice.run(&["check"]);
    assert!(ran.code == 2 && ran.stderr.contains("`x-a` is given twice"), "{ran:?}");
}

#[test]
fn each_service_gets_its_format_once_made_and_its_own_word_is_believed() {
    let slack = Endpoint::answering(vec![answer(200, "", "invalid_payload"), answer(200, "", "ok")]);
    let (discord, teams, events) =
        (Endpoint::replying(&[204]), Endpoint::replying(&[500, 202]), Endpoint::replying(&[200]));
    let fast = |format: &str| format!("format = \"{format}\"\ninitial_backoff_ms = 1\njitter_ms = 0");
    let lines = ["slack", "discord", "teams", "cloudevents"].map(fast);
    let sandbox = Sandbox::new(&[
        ("slack", &slack.url(), &lines[0]),
        ("discord", &discord.url(), &lines[1]),
        ("teams", &teams.url(), &lines[2]),
        ("events", &events.url(), &lines[3]),
    ]);
    let serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.wait_for_finals("SPEC-1", 4);
    let body = |endpoint: &Endpoint| endpoint.requests()[0].json();
    assert!(body(&slack)["text"].is_string() && body(&discord)["embeds"].is_array());
    assert_eq!(body(&teams)["type"], "message");
    assert_eq!(teams.requests()[0].body, teams.requests()[1].body, "the same bytes at every attempt");
    let event = events.requests().remove(0);
    assert!(event.header("content-type").starts_with("application/cloudevents+json"));
    let event = event.json();
    assert_eq!((&event["specversion"], &event["data"]["spec"]["id"]), (&"1.0".into(), &"SPEC-1".into()));
    // Slack's 200 was none: a dead letter in Slack's format, whose replay is accepted.
    let letter = sandbox.dead_letters("SPEC-1").remove(0);
    assert_eq!((&letter["format"], &letter["reason"]["word"]), (&"slack".into(), &"invalid_payload".into()));
    let id = letter["id"].as_str().unwrap();
    let replayed = sandbox.run(&["replay", "SPEC-1", "--delivery-id", id]);
    assert_eq!(replayed.code, 0, "{replayed:?}");
    assert_eq!(slack.requests()[0].body, slack.requests()[1].body);
    serve.kill();
    // What waits keeps its format over a restart, and a dry run shows it.
    let shown = sandbox.run(&["test", "SPEC-1", "--subscription", "teams", "--dry-run"]);
    assert!(shown.code == 0 && shown.stdout.contains("AdaptiveCard"), "{shown:?}");
    assert_eq!(teams.requests().len(), 2, "nothing was sent");
}

/// A proxy that connects where it is told to, or says no.
fn proxy(refuses_with: Option<u16>) -> (u16, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (asked, heard) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).is_ok_and(|read| read > 0) {}
            let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
            if asked.send(head).is_err() {
                return;
            }
            let mut stream = stream;
            if let Some(status) = refuses_with {
                let _ = stream.write_all(format!("HTTP/1.1 {status} No\r\n\r\n").as_bytes());
                continue;
            }
            let Ok(upstream) = TcpStream::connect(target) else { continue };
            let _ = stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n");
            for (mut from, mut to) in
                [(stream.try_clone().unwrap(), upstream.try_clone().unwrap()), (upstream, stream)]
            {
                thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });
    (port, heard)
}

#[test]
fn requests_go_through_a_proxy_whose_failures_are_its_own() {
    let endpoint = Endpoint::replying(&[200]);
    let (good, heard) = proxy(None);
    let (asks, _asked) = proxy(Some(407));
    let (broken, _broken) = proxy(Some(502));
    let settings = |port: u16| format!("proxy = \"http://user:canary@127.0.0.1:{port}\"");
    let lines = [good, asks, broken, 1].map(settings);
    let sandbox = Sandbox::new(&[
        ("good", &endpoint.url(), &lines[0]),
        ("asks", &endpoint.url(), &lines[1]),
        ("broken", &endpoint.url(), &lines[2]),
        ("gone", &endpoint.url(), &lines[3]),
    ]);
    let test = |id: &str| {
        let ran = sandbox.run(&["--json", "test", "SPEC-1", "--subscription", id]);
        assert!(!format!("{ran:?}").contains("canary"), "{ran:?}");
        serde_json::from_str::<Value>(&ran.stdout).unwrap()[0].clone()
    };
    assert_eq!(test("good")["outcome"], "delivered");
    let head = heard.recv_timeout(Duration::from_secs(10)).unwrap();
    let [connect, credentials] = [
        format!("CONNECT 127.0.0.1:{} HTTP/1.1", port_of(&endpoint)),
        "Proxy-Authorization: Basic dXNlcjpjYW5hcnk=".to_owned(),
    ];
    assert!(head.starts_with(&connect) && head.contains(&credentials), "{head}");
    for (id, words) in [
        ("asks", "asks for credentials"),
        ("broken", "answered 502 to CONNECT"),
        ("gone", "cannot be reached"),
    ] {
        let error = test(id)["error"].as_str().unwrap().to_owned();
        assert!(error.starts_with("proxy: ") && error.contains(words), "{id}: {error}");
    }
    assert_eq!(endpoint.requests().len(), 1);
}

fn port_of(endpoint: &Endpoint) -> String {
    endpoint.url().rsplit(':').next().unwrap().split('/').next().unwrap().to_owned()
}

#[test]
fn an_endpoints_clock_that_is_off_is_a_warning() {
    let endpoint = Endpoint::answering(vec![answer(200, "date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", "")]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.wait_for_finals("SPEC-1", 1);
    let report: Value = serde_json::from_str(&sandbox.run(&["--json", "status"]).stdout).unwrap();
    assert!(report["subscriptions"][0]["clock_skew_s"].as_i64().unwrap() < -900_000_000, "{report}");
    assert!(report["warnings"].to_string().contains("behind this machine's"), "{report}");
}

#[test]
fn a_new_secret_is_one_that_verifiers_take() {
    let sandbox = Sandbox::new(&[]);
    let [one, other] = [(), ()].map(|()| sandbox.run(&["secret", "new"]).stdout);
    assert_ne!(one, other);
    assert!(one.starts_with("whsec_") && Secret::parse(one.trim()).is_ok(), "{one}");
}

#[test]
fn statuses_that_the_config_names_are_tried_again() {
    let endpoint = Endpoint::replying(&[423, 425, 200]);
    let lines = "retry_statuses = [423, 425]\ninitial_backoff_ms = 1\njitter_ms = 0";
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), lines)]);
    let _serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k");
    assert_eq!(sandbox.wait_for_finals("SPEC-1", 1)[0]["state"], "delivered");
    assert_eq!(endpoint.requests().len(), 3);
    for wrong in ["[500]", "[200]", "408", "[\"408\"]"] {
        let bad = Sandbox::new(&[("one", &endpoint.url(), &format!("retry_statuses = {wrong}"))]);
        let ran = bad.run(&["check"]);
        assert!(ran.code == 2 && ran.stderr.contains("retry_statuses"), "{wrong}: {ran:?}");
    }
}
