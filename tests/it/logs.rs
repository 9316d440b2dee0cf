//! The log: lines for people, JSON for machines.

use serde_json::{Value, json};

use crate::harness::{EVIDENCE, Endpoint, SECRET, Sandbox, Terminal, wait_for, wait_for_end};

/// The lines, each of which must be a JSON object with a time, a level and a message.
#[track_caller]
fn parsed(text: &str) -> Vec<Value> {
    let parse = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        let time = value["time"].as_str().unwrap();
        assert!(time.len() == "2025-10-14T10:00:00.000Z".len() && time.ends_with('Z'), "{line}");
        assert!(
            ["error", "warn", "info", "debug", "trace"].contains(&value["level"].as_str().unwrap()),
            "{line}"
        );
        assert!(!value["message"].as_str().unwrap().is_empty(), "{line}");
        value
    };
    text.lines().map(parse).collect()
}

fn says<'a>(lines: &'a [Value], words: &str) -> Option<&'a Value> {
    lines.iter().find(|line| line["message"].as_str().unwrap().contains(words))
}

#[test]
fn all_that_serve_says_is_json_where_that_is_asked_for() {
    let endpoint = Endpoint::replying(&[500, 200]);
    let url = format!("{}canary-of-the-path", endpoint.url());
    let sandbox = Sandbox::new(&[
        ("one", &url, "initial_backoff_ms = 1\nheaders = { \"X-Team\" = \"env:TEAM_SECRET\" }"),
        ("dry", &url, "dry_run = true"),
    ])
    .env("TEAM_SECRET", "canary-of-the-header")
    .env("RUST_LOG", "trace");
    // What is no telemetry is named in the log, whatever its name holds.
    let hostile = "\u{1b}]0;ti\"tle\u{7}\u{202e}\n";
    sandbox.write(&format!("{EVIDENCE}/commands/SPEC-1/plan_{hostile}.json"), "{}");
    let serve = sandbox.serve_with(&["--log-format", "json"]);
    let emitted = sandbox.emit("SPEC-1", "Plan", "k1");
    let of = |name: &str| {
        let all = emitted["deliveries"].as_array().unwrap();
        all.iter().find(|delivery| delivery["subscription"] == name).unwrap()["id"].clone()
    };
    sandbox.wait_for_finals("SPEC-1", 2);
    wait_for("the file to be ignored", || serve.log().contains("ignored: plan_").then_some(()));
    let (code, log) = serve.terminate();
    assert_eq!(code, 0, "{log}");
    let lines = parsed(&log);
    for (words, level, subscription) in [
        ("attempt 1 of k1", "warn", "one"),
        ("delivered k1", "info", "one"),
        ("is recorded and not sent", "info", "dry"),
    ] {
        let line = says(&lines, words).unwrap_or_else(|| panic!("{words}: {log}"));
        let about = [&line["level"], &line["subscription"], &line["spec"], &line["delivery"]];
        assert_eq!(
            about,
            [&json!(level), &json!(subscription), &json!("SPEC-1"), &of(subscription)],
            "{line}"
        );
    }
    for words in ["serving ", "stopping: ", "stopped; 0 deliveries pending"] {
        assert!(says(&lines, words).is_some_and(|line| line["level"] == "info"), "{words}: {log}");
    }
    let hostile = says(&lines, "ignored: plan_").unwrap()["message"].as_str().unwrap();
    assert!(hostile.contains("ti\"tle"), "{hostile}");
    for secret in [SECRET, "canary"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    for deceiving in ["\u{1b}", "\u{7}", "\u{202e}"] {
        assert!(!log.contains(deceiving), "{log}");
    }
}

#[test]
fn words_and_errors_are_json_too() {
    let sandbox = Sandbox::new(&[("one", "http://127.0.0.1:9/x", "")]);
    let bad = sandbox.write("bad.toml", "[spec_ops.webhooks]\nenabled = true\nmax_concurency = 4\n");
    let bad = bad.to_str().unwrap();
    for (arguments, code, level, words) in [
        (&["--log-format", "json", "lst"][..], 2, "error", "unrecognized subcommand 'lst'"),
        (&["--log-format=json"], 2, "error", "a command is missing"),
        (&["list", "--log-format=json", "--state", "a\u{1b}b"], 2, "error", "unknown state"),
        (&["list", "--log-format", "json"], 0, "info", "no deliveries yet"),
        (&["list", "--log-format", "json", "--config", bad], 0, "warn", "bad.toml has 1 error"),
        (
            &["test", "S", "--subscription", "two", "--log-format", "json"],
            2,
            "error",
            "no subscription `two`",
        ),
        (&["serve", "--log-format", "json", "--config", bad], 2, "error", "unknown key `max_concurency`"),
        (&["check", "--log-format", "json", "--config", bad], 2, "error", "unknown key `max_concurency`"),
    ] {
        let ran = sandbox.run(arguments);
        assert_eq!(ran.code, code, "{ran:?}");
        let lines = parsed(&ran.stderr);
        assert!(says(&lines, words).is_some_and(|line| line["level"] == level), "{words}: {ran:?}");
    }
}

#[test]
fn people_read_plain_lines_with_colour_on_a_terminal_alone() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]).env("TERM", "xterm");
    let serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.wait_for_finals("SPEC-1", 1);
    let (_, log) = serve.terminate();
    let line = log.lines().find(|line| line.contains("delivered k1")).unwrap();
    let (time, rest) = line.split_once(' ').unwrap();
    assert!(time.len() == "2025-10-14T10:00:00Z".len() && time.ends_with('Z'), "{line}");
    assert!(rest.starts_with("info: delivered k1 ("), "{line}");
    assert!(!log.contains("spec_notify::") && !log.contains('\u{1b}'), "{log}");

    let mut terminal = Terminal::open();
    let mut child = terminal.start(&mut sandbox.command(&[
        "-v",
        "emit",
        "--type",
        "spec-kit.webhook.test",
        "--spec",
        "S",
    ]));
    terminal.wait_for_text("queued");
    assert!(wait_for_end("emit", &mut child).is_some());
    assert!(
        terminal.shown().contains("\u{1b}[2mdebug:\u{1b}[0m") || terminal.shown().contains("info:\u{1b}[0m"),
        "{:?}",
        terminal.shown()
    );

    // What is over at once needs no time of its own.
    let odd = sandbox.command(&["list"]).env("RUST_LOG", "spec_notify=loud").output().unwrap();
    let said = String::from_utf8(odd.stderr).unwrap();
    assert!(said.starts_with("warning: RUST_LOG does not count: "), "{said}");
}
