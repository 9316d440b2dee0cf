//! `receive` from outside: what it answers, and what a person sees of a request.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use crate::harness::{Ran, Sandbox};

/// Runs `receive` for one request, and `test` against it with this format: what each printed.
fn exchange(format: &str, arguments: &[&str]) -> (Ran, String) {
    let sandbox = Sandbox::empty().env("TEST_SECRET", "a-secret-of-more-than-24-bytes");
    let all = [&["receive", "--count", "1"], arguments].concat();
    let mut child = sandbox.command(&all).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut said).unwrap();
    let url = said.split(' ').find(|word| word.starts_with("http://")).unwrap();
    sandbox.write(
        ".spec-kit/config.toml",
        &format!(
            "[spec_ops.webhooks]\nenabled = true\n[[spec_ops.webhooks.subscriptions]]\nid = \"one\"\n\
             url = \"{url}\"\nsecret_env = \"TEST_SECRET\"\nformat = \"{format}\"\n"
        ),
    );
    let sent = sandbox.run(&["test", "SPEC-KIT-065", "--subscription", "one"]);
    let mut printed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
    child.wait().unwrap();
    (sent, printed)
}

#[test]
fn every_format_takes_its_answer_for_a_success() {
    for format in ["spec-kit", "slack", "mattermost", "cloudevents"] {
        let (sent, _) = exchange(format, &[]);
        assert_eq!(sent.code, 0, "{format}: {sent:?}");
    }
}

#[test]
fn the_body_is_shown_without_json_and_with_it_on_one_line() {
    let (_, printed) = exchange("slack", &[]);
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0].contains(" answered 200, not verified: spec-kit.webhook.test"), "{printed}");
    assert!(lines[1..].iter().any(|line| line.starts_with("    \"text\": ")), "{printed}");
    let (_, printed) = exchange("slack", &["--json"]);
    assert_eq!(printed.lines().count(), 1, "{printed}");
    let received: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert!(received["body"]["text"].is_string(), "{printed}");
}

#[test]
fn the_answer_has_the_body_that_is_asked_for() {
    let (sent, _) = exchange("slack", &["--answer-body", "no_service"]);
    assert!(sent.code == 1 && sent.stdout.contains("no_service"), "{sent:?}");
    let (sent, _) = exchange("spec-kit", &["--answer", "503", "--answer-body", "at lunch"]);
    assert!(sent.code == 1 && sent.stdout.contains("at lunch"), "{sent:?}");
    let (sent, _) = exchange("spec-kit", &["--answer", "204", "--answer-body", "none may be sent"]);
    assert!(sent.code == 0 && !sent.stdout.contains("none may be sent"), "{sent:?}");
}
