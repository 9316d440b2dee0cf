//! Metrics: what is printed, what a scrape gets, and that they are what the endpoint counted.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::harness::{Endpoint, PATIENCE, SECRET, Sandbox, Serve, wait_for};

fn address_in(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("metrics at http://")?;
    Some(rest.split_once("/metrics")?.0.to_owned())
}

/// The address in what `serve` said.
fn address(serve: &Serve) -> String {
    wait_for("the address of scrapes", || address_in(&serve.log()))
}

/// The whole answer to these bytes.
fn answer(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn scrape(address: &str, accept: &str) -> String {
    answer(address, format!("GET /metrics HTTP/1.1\r\nHost: a\r\nAccept: {accept}\r\n\r\n").as_bytes())
}

/// The samples of a text, each of which must belong to the family whose head stands above it.
#[track_caller]
fn samples(text: &str) -> BTreeMap<String, f64> {
    let (mut family, mut families, mut samples) = (String::new(), BTreeSet::new(), BTreeMap::new());
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram", "info"].contains(&kind), "{line}");
            assert!(families.insert(name.to_owned()), "told twice: {line}");
            family = name.to_owned();
        } else if !line.starts_with("# HELP ") {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(sample.starts_with(&family), "{line} of {family}");
            let value = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
            assert_eq!(samples.insert(sample.to_owned(), value), None, "told twice: {line}");
        }
    }
    samples
}

#[test]
fn they_are_what_the_endpoint_counted_and_begin_at_zero_with_each_runtime() {
    let flaky = Endpoint::answering([503, 503, 200]);
    let down = Endpoint::down();
    let quick = "max_attempts = 5\ninitial_backoff_ms = 1\njitter_ms = 0";
    let sandbox = Sandbox::new(&[
        ("flaky", &flaky.url(), quick),
        ("down", &down.url(), "max_attempts = 1"),
        ("dry", "https://example.com/canary-of-the-path", "dry_run = true"),
    ]);
    let at_rest = samples(&sandbox.run(&["metrics"]).stdout);
    assert_eq!(at_rest["spec_notify_up"], 0.0);
    assert!(!at_rest.keys().any(|name| name.contains("_total")), "{at_rest:?}");
    let serve = sandbox.serve_with(&["--metrics", "127.0.0.1:0"]);
    let address = address(&serve);
    for n in 0..3 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    sandbox.emit("SPEC-1", "Plan", "k0");
    sandbox.wait_for_finals("SPEC-1", 9);

    let printed = sandbox.run(&["metrics"]);
    assert_eq!((printed.code, &*printed.stderr), (0, ""), "{printed:?}");
    let of = samples(&printed.stdout);
    let requests = flaky.requests().len();
    assert_eq!(requests, 5);
    for (sample, value) in [
        ("up", 1.0),
        ("owner", 1.0),
        ("events_accepted_total", 3.0),
        (r#"deliveries_accepted_total{subscription="flaky"}"#, 3.0),
        (r#"attempts_total{subscription="flaky",outcome="delivered"}"#, 3.0),
        (r#"attempts_total{subscription="flaky",outcome="failed"}"#, 2.0),
        (r#"attempt_failures_total{subscription="flaky",reason="5xx"}"#, 2.0),
        (r#"attempt_failures_total{subscription="down",reason="connection"}"#, 3.0),
        (r#"attempt_duration_seconds_bucket{subscription="flaky",le="+Inf"}"#, 5.0),
        (r#"attempt_duration_seconds_count{subscription="flaky"}"#, 5.0),
        (r#"attempt_duration_seconds_count{subscription="dry"}"#, 0.0),
        (r#"deliveries_ended_total{subscription="flaky",state="delivered"}"#, 3.0),
        (r#"deliveries_ended_total{subscription="down",state="dead_letter"}"#, 3.0),
        (r#"deliveries_ended_total{subscription="dry",state="dry_run"}"#, 3.0),
        (r#"dead_letters{subscription="down"}"#, 3.0),
        (r#"pending_deliveries{subscription="flaky"}"#, 0.0),
        (r#"health{subscription="dry",health="dry_run"}"#, 1.0),
        (r#"health{subscription="dry",health="healthy"}"#, 0.0),
    ] {
        assert_eq!(of.get(&format!("spec_notify_{sample}")), Some(&value), "{sample}");
    }
    for secret in [SECRET, "canary", "example.com", &flaky.url()] {
        assert!(!printed.stdout.contains(secret), "{secret}");
    }

    let plain = scrape(&address, "text/plain");
    assert!(plain.contains("\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{plain}");
    assert!(plain.contains("# TYPE spec_notify_attempts_total counter\n"), "{plain}");
    let open = scrape(&address, "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3");
    assert!(open.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0;"), "{open}");
    assert!(open.contains("# TYPE spec_notify_attempts counter\n") && open.ends_with("\n# EOF\n"), "{open}");
    let body = |answer: &str| samples(answer.split_once("\r\n\r\n").unwrap().1);
    assert_eq!((&body(&plain), &body(&open)), (&of, &of));

    // A discard is an end; what is replayed has another.
    down.repair([200]);
    let endpoint = down;
    let id = sandbox.dead_letters("SPEC-1")[0]["id"].as_str().unwrap().to_owned();
    assert_eq!(sandbox.run(&["discard", &id, "--yes"]).code, 0);
    assert_eq!(sandbox.run(&["replay", "--all", "--rate", "1000"]).code, 0);
    assert_eq!(endpoint.requests().len(), 2);
    let of = body(&scrape(&address, ""));
    for (state, count) in [("dead_letter", 3.0), ("discarded", 1.0), ("delivered", 2.0)] {
        let sample = format!(r#"spec_notify_deliveries_ended_total{{subscription="down",state="{state}"}}"#);
        assert_eq!(of[&sample], count, "{state}");
    }
    let finals = sandbox.evidence("SPEC-1").iter().filter(|line| line["record"] == "final").count();
    let ended = of.iter().filter(|(name, _)| name.starts_with("spec_notify_deliveries_ended_total"));
    assert_eq!(ended.map(|(_, count)| *count as usize).sum::<usize>(), finals, "as the evidence has them");

    // On standby another one's are not repeated; the next runtime begins anew.
    serve.terminate();
    let serve = sandbox.serve_with(&["--metrics", "127.0.0.1:0"]);
    let again = samples(&sandbox.run(&["metrics"]).stdout);
    assert_eq!(again["spec_notify_events_accepted_total"], 0.0);
    assert_eq!(again[r#"spec_notify_attempts_total{subscription="flaky",outcome="failed"}"#], 0.0);
    let json: serde_json::Value = serde_json::from_str(&sandbox.run(&["--json", "metrics"]).stdout).unwrap();
    assert_eq!(json["subscriptions"][0]["counters"]["failed"], 0, "{json}");
    serve.terminate();
}

#[test]
fn clients_that_are_slow_or_ask_for_something_else_keep_no_scrape_from_its_answer() {
    let sandbox = Sandbox::new(&[("one", "https://example.com/", "")]);
    let serve = sandbox.serve_with(&["--metrics", "127.0.0.1:0"]);
    let address = address(&serve);
    for (request, status) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "405 Method Not Allowed"),
        (b"nonsense\r\n\r\n", "400 Bad Request"),
        (&[b'a'; 20_000], "400 Bad Request"),
    ] {
        // It may be closed before all of it was sent.
        let mut stream = TcpStream::connect(&address).unwrap();
        let mut answer = String::new();
        let sent = stream.write_all(request).and_then(|()| stream.read_to_string(&mut answer).map(drop));
        assert!(answer.contains(status) || sent.is_err(), "{answer}");
    }
    let head = answer(&address, b"HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.contains("\r\nContent-Length: ") && head.ends_with("\r\n\r\n"), "{head}");
    // More than are served at a time say nothing.
    let idle: Vec<TcpStream> = (0..20).map(|_| TcpStream::connect(&address).unwrap()).collect();
    let scraped = scrape(&address, "");
    assert!(scraped.contains("spec_notify_up 1\n"), "{scraped}");
    drop(idle);

    let taken = sandbox.run(&["serve", "--metrics", &address]);
    assert_eq!(taken.code, 1, "{taken:?}");
    assert!(taken.stderr.contains("for --metrics: "), "{taken:?}");
    let log = sandbox.path().join("standby.log");
    let file = std::fs::File::create(&log).unwrap();
    let mut standby = sandbox
        .command(&["serve", "--metrics", "127.0.0.1:0"])
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .spawn()
        .unwrap();
    let at = wait_for("the standby to say where", || {
        let log = std::fs::read_to_string(&log).unwrap();
        address_in(&log).filter(|_| log.contains("standing by"))
    });
    let scraped = scrape(&at, "");
    assert!(scraped.contains("spec_notify_owner 0\n") && !scraped.contains("subscription="), "{scraped}");
    standby.kill().unwrap();
    standby.wait().unwrap();
}
