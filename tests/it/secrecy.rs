//! Canaries in every secret: none may be found anywhere but on the wire.

use std::fs;
use std::path::Path;

use crate::harness::{Answer, DeadEndpoint, Endpoint, Sandbox};

const CANARIES: [&str; 6] =
    ["canary-secret", "canary-previous", "canary-path", "canary-query", "canary-user", "canary-password"];

fn find_in(dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find_in(&path, found);
        } else if !path.ends_with(".spec-kit/config.toml") {
            let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
            found.extend(leaks(&path.display().to_string(), &text));
        }
    }
}

fn leaks(place: &str, text: &str) -> Vec<String> {
    CANARIES
        .iter()
        .filter(|canary| text.contains(**canary))
        .map(|canary| format!("{canary} in {place}"))
        .collect()
}

#[test]
fn no_secret_is_ever_written() {
    let answers = vec![
        Answer::Status(500),
        Answer::Close,
        Answer::Raw(b"HTTP/1.1 302 Found\r\nlocation: /canary-path\r\ncontent-length: 0\r\n\r\n".to_vec()),
        Answer::Status(200),
    ];
    let endpoint = Endpoint::answering(answers);
    let secret_url = |base: &str| {
        base.replace("http://", "http://canary-user:canary-password@") + "/canary-path?token=canary-query"
    };
    let closed = DeadEndpoint::new();
    let lines = "secret_env = \"CANARY\"\nprevious_secret_env = \"CANARY_PREVIOUS\"\ninitial_backoff_ms = 1\njitter_ms = 0\nmax_attempts = 2";
    let sandbox = Sandbox::new(&[
        ("answers", &secret_url(&endpoint.url()), lines),
        ("refuses", &secret_url(&closed.url()), lines),
        ("garbles", &secret_url(&endpoint.url()).replace("http://", "https://"), lines),
    ])
    .env("CANARY", "canary-secret-0123456789")
    .env("CANARY_PREVIOUS", "canary-previous-0123456789")
    .env("RUST_LOG", "trace,awc=trace,awc::client=trace,actix_http=trace,actix_http::h1=trace,mio=trace");
    let mut found = Vec::new();
    let serve = sandbox.serve();
    for n in 0..4 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    sandbox.wait_for_finals("SPEC-1", 12);
    for subscription in ["answers", "refuses", "garbles"] {
        let ran = sandbox.run(&["-vv", "test", "SPEC-1", "--subscription", subscription]);
        found.extend(leaks("test", &format!("{ran:?}")));
    }
    for letter in sandbox.dead_letters("SPEC-1") {
        let ran = sandbox.run(&["replay", "SPEC-1", "--delivery-id", letter["id"].as_str().unwrap()]);
        found.extend(leaks("replay", &format!("{ran:?}")));
    }
    let (_, log) = serve.terminate();
    assert!(log.contains(" DEBUG "), "the log tells all it may: {log}");
    found.extend(leaks("check", &format!("{:?}", sandbox.run(&["check"]))));
    found.extend(leaks(
        "emit",
        &format!("{:?}", sandbox.run(&["emit", "--type", "spec-kit.task.completed", "--spec", "SPEC-1"])),
    ));
    find_in(sandbox.path(), &mut found);
    assert!(found.is_empty(), "{found:#?}");
    let wire = &endpoint.requests()[0];
    assert!(
        wire.line.contains("canary-path") && wire.line.contains("canary-query"),
        "the endpoint does get them"
    );
    assert!(
        !wire.line.contains("canary-user") && wire.header("authorization").starts_with("Basic "),
        "{}",
        wire.line
    );
    assert_eq!(wire.header("webhook-signature").split(' ').count(), 2, "one for each secret");
}

#[test]
fn a_secret_that_is_missing_at_an_attempt_sends_nothing() {
    use spec_notify::config::{LoadOptions, load};
    use spec_notify::{Environment, Event, Runtime};
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let repo = sandbox.path().to_owned();
    let complete = Environment::fixed([("TEST_SECRET", "a-secret-of-the-tests")]);
    let options = LoadOptions { config: None, repo: Some(repo.clone()), working_dir: repo, secrets: true };
    let config = load(&options, &complete).config.unwrap();
    let runtime = Runtime::start(config, Environment::fixed([])).unwrap();
    let event = r#"{"event":{"type":"spec-auto.pipeline.completed"},"spec":{"id":"SPEC-1"}}"#;
    runtime
        .handle()
        .emit_blocking(Event::from_json(event).unwrap(), std::time::Duration::from_secs(10))
        .unwrap();
    let first =
        crate::harness::wait_for("the first attempt", || sandbox.evidence("SPEC-1").into_iter().next());
    assert_eq!((&first["error"]["class"], &first["outcome"]), (&"secret".into(), &"retry".into()), "{first}");
    assert_eq!(endpoint.requests().len(), 0);
}
