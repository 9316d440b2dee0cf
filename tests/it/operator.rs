//! What an operator does from a terminal: list, status, replay, explain, reload, drain, with and
//! without a runtime.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use crate::harness::{Answer, Endpoint, Ran, RequestExt as _, Sandbox, wait_for};

/// One attempt, and it is a dead letter.
const ONCE: &str = "max_attempts = 1";

#[track_caller]
fn json(sandbox: &Sandbox, code: i32, arguments: &[&str]) -> Value {
    let ran = sandbox.run(&[&["--json"], arguments].concat());
    assert_eq!(ran.code, code, "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn column<'a>(rows: &'a Value, name: &str) -> Vec<&'a str> {
    rows.as_array().unwrap().iter().map(|row| row[name].as_str().unwrap()).collect()
}

#[track_caller]
fn assert_says(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    let said = format!("{}{}", ran.stdout, ran.stderr);
    for word in words {
        assert!(said.contains(word), "{word:?} is not in {ran:?}");
    }
}

#[test]
fn a_failure_is_seen_understood_mended_and_replayed_and_then_there_is_nothing_left_to_do() {
    let down = Endpoint::down();
    let healthy = Endpoint::answering([200]);
    let url = down.url();
    let sandbox = Sandbox::new(&[("tracker", &url, ONCE), ("audit", &healthy.url(), "")]);
    let _serve = sandbox.serve();
    assert_says(&sandbox.run(&["status", "--banner"]), 0, &[]);
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.wait_for_finals("SPEC-1", 2);

    let banner = sandbox.run(&["status", "--banner"]);
    assert_says(&banner, 1, &["tracker failing for", "1 dead letter"]);
    assert_eq!(banner.stdout.lines().count(), 1);
    assert_says(
        &sandbox.run(&["status"]),
        1,
        &["tracker", "failing", "connection refused", "replay --all --subscription tracker"],
    );
    let dead = json(&sandbox, 0, &["--list", "SPEC-1", "--state", "dead_letter"]);
    assert_eq!(column(&dead, "subscription"), ["tracker"]);
    assert!(
        dead[0]["last_error"].as_str().unwrap().contains("its only attempt failed; connection"),
        "{dead}"
    );
    assert_says(
        &sandbox.run(&["list", "SPEC-1"]),
        0,
        &["dead_letter", "delivered", dead[0]["id"].as_str().unwrap()],
    );

    down.repair([200]);
    let mended = down;
    let id = dead[0]["id"].as_str().unwrap();
    let replayed = json(&sandbox, 0, &["replay", "SPEC-1", "--delivery-id", id]);
    assert_eq!((&replayed[0]["outcome"], &replayed[0]["status"]), (&json!("delivered"), &json!(200)));
    assert_eq!(mended.requests()[0].text_of("x-speckit-id"), id);
    assert!(sandbox.dead_letters("SPEC-1").is_empty());
    let ends: Vec<Value> = sandbox.wait_for_finals("SPEC-1", 3);
    assert_eq!((&ends[2]["delivery"], &ends[2]["state"]), (&json!(id), &json!("delivered")));
    assert_eq!(json(&sandbox, 0, &["list", "SPEC-1", "--state", "delivered"]).as_array().unwrap().len(), 2);
    assert_says(&sandbox.run(&["status", "--banner"]), 0, &[]);
    assert_eq!(sandbox.run(&["status", "--banner"]).stdout, "");
}

#[test]
fn every_state_is_listed_alike_with_and_without_a_runtime() {
    let (slow, good) = (Endpoint::answering([Answer::hang()]), Endpoint::answering([200]));
    let failing = Endpoint::answering([503]);
    let dead = Endpoint::down();
    let sandbox = Sandbox::new(&[
        ("slow", &slow.url(), "per_request_timeout_ms = 60000"),
        ("good", &good.url(), ""),
        ("dead", &dead.url(), ONCE),
        ("dry", &good.url(), "dry_run = true"),
        ("failing", &failing.url(), "initial_backoff_ms = 3600000\nmax_backoff_ms = 3600000"),
    ]);
    assert_eq!(json(&sandbox, 0, &["list"]), json!([]));
    assert_says(&sandbox.run(&["list"]), 0, &["no deliveries yet"]);
    let serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.wait_for_finals("SPEC-1", 3);
    slow.wait_for(1);
    let state = |rows: &Value, subscription: &str| {
        let row = rows.as_array().unwrap().iter().find(|row| row["subscription"] == subscription).unwrap();
        (row["state"].as_str().unwrap().to_owned(), row["attempts"].clone(), row["last_status"].clone())
    };
    let rows = wait_for("the failure to be recorded", || {
        let rows = json(&sandbox, 0, &["list", "SPEC-1"]);
        (state(&rows, "failing").1 == 1).then_some(rows)
    });
    assert_eq!(rows.as_array().unwrap().len(), 5);
    let expected = [
        ("slow", "in_flight", 0, Value::Null),
        ("good", "delivered", 1, json!(200)),
        ("dead", "dead_letter", 1, Value::Null),
        ("dry", "dry_run", 0, Value::Null),
        ("failing", "pending", 1, json!(503)),
    ];
    for (subscription, wanted, attempts, status) in &expected {
        let wanted = ((*wanted).to_owned(), json!(attempts), status.clone());
        assert_eq!(state(&rows, subscription), wanted, "{subscription}");
    }
    let failing_row = json(&sandbox, 0, &["list", "--subscription", "failing"]);
    assert!(failing_row[0]["next_attempt_at"].is_string() && failing_row[0]["last_error"] == "status 503");
    serve.kill();
    let at_rest = json(&sandbox, 0, &["list", "SPEC-1"]);
    for (subscription, wanted, attempts, status) in &expected {
        let wanted = if *wanted == "in_flight" { "pending" } else { wanted };
        assert_eq!(state(&at_rest, subscription), (wanted.to_owned(), json!(attempts), status.clone()));
    }
    for filter in [
        &["--state", "dropped"][..],
        &["SPEC-2"],
        &["--subscription", "other"],
        &["--since", "2030-01-01T00:00:00Z"],
    ] {
        assert_says(&sandbox.run(&[&["list"], filter].concat()), 1, &["no delivery matches"]);
    }
    assert_says(&sandbox.run(&["list", "--state", "lost"]), 2, &["unknown state `lost`", "dead_letter"]);
    assert_says(&sandbox.run(&["list", "--since", "soon"]), 2, &["30m, 2h or 3d"]);
    slow.release();
}

#[test]
fn a_listing_longer_than_a_page_is_whole_and_in_order() {
    let sandbox = Sandbox::new(&[("dry", "http://127.0.0.1:9/", "dry_run = true")]);
    let lines: String = (0..1100)
        .map(|n| format!("{{\"event\":{{\"type\":\"spec-auto.stage.completed\",\"idempotency_key\":\"k{n}\"}},\"spec\":{{\"id\":\"SPEC-{}\"}}}}\n", n % 3))
        .collect();
    let file = sandbox.write("events.jsonl", &lines);
    let serve = sandbox.serve();
    let emitted = sandbox.run(&["emit", "--event", file.to_str().unwrap(), "--deadline", "60000"]);
    assert_eq!(emitted.code, 0, "{}", emitted.stderr);
    let ended = || {
        (0..3)
            .map(|n| {
                sandbox.evidence(&format!("SPEC-{n}")).iter().filter(|line| line["record"] == "final").count()
            })
            .sum::<usize>()
    };
    wait_for("all to end", || (ended() == 1100).then_some(()));
    let all = json(&sandbox, 0, &["list", "--limit", "5000"]);
    let keys: BTreeSet<&str> = column(&all, "idempotency_key").into_iter().collect();
    assert_eq!((all.as_array().unwrap().len(), keys.len()), (1100, 1100));
    let times = column(&all, "accepted_at");
    assert!(times.windows(2).all(|pair| pair[0] >= pair[1]), "newest first");
    assert_says(&sandbox.run(&["list"]), 0, &["the newest 20, and there are more: --limit N"]);
    serve.terminate();
    assert_eq!(json(&sandbox, 0, &["list", "--limit", "5000"]), all, "the disk says the same");
}

#[test]
fn many_dead_letters_are_replayed_oldest_first_and_a_dead_endpoint_is_left_alone() {
    let (down, other) = (Endpoint::down(), Endpoint::down());
    let sandbox = Sandbox::new(&[("mended", &down.url(), ONCE), ("broken", &other.url(), ONCE)]);
    let serve = sandbox.serve();
    assert_says(&sandbox.run(&["replay", "--all"]), 0, &["nothing to replay"]);
    for n in 0..8 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    sandbox.wait_for_finals("SPEC-1", 16);
    let would = json(&sandbox, 0, &["replay", "--all", "--dry-run"]);
    assert_eq!(would.as_array().unwrap().len(), 16);
    assert!(column(&would, "outcome").iter().all(|outcome| *outcome == "dry_run"));
    assert_eq!(sandbox.dead_letters("SPEC-1").len(), 16, "nothing was sent");
    assert_says(
        &sandbox.run(&["replay", "SPEC-1", "--all", "--since", "2030-01-01T00:00:00Z"]),
        0,
        &["nothing to replay"],
    );

    down.repair([200]);
    let endpoint = down;
    let all = json(&sandbox, 1, &["replay", "--all", "--rate", "1000"]);
    let outcomes = |subscription: &str| -> Vec<&str> {
        let rows = all.as_array().unwrap().iter().filter(|row| row["subscription"] == subscription);
        rows.map(|row| row["outcome"].as_str().unwrap()).collect()
    };
    assert_eq!(outcomes("mended"), ["delivered"; 8]);
    assert_eq!(outcomes("broken"), [["failed"; 5].as_slice(), &["not_tried"; 3]].concat());
    let order: Vec<Value> = endpoint
        .requests()
        .iter()
        .map(|request| request.told()["event"]["idempotency_key"].clone())
        .collect();
    assert_eq!(order, (0..8).map(|n| json!(format!("k{n}"))).collect::<Vec<_>>());
    assert_eq!(endpoint.most_waiting(), 1);
    let mut attempts: Vec<usize> = sandbox
        .dead_letters("SPEC-1")
        .iter()
        .map(|letter| letter["attempts"].as_array().unwrap().len())
        .collect();
    attempts.sort_unstable();
    assert_eq!(attempts, [1, 1, 1, 2, 2, 2, 2, 2], "a failure adds to the dead letter");
    // Without a runtime too, by owning the spool for the moment.
    serve.terminate();
    other.repair([200]);
    let _mended = other;
    let replay =
        sandbox.run(&["replay", "--all", "--subscription", "broken", "--since", "1h", "--rate", "1000"]);
    assert_says(&replay, 0, &["8 dead letters replayed: 8 delivered"]);
    assert!(sandbox.dead_letters("SPEC-1").is_empty());
}

#[test]
fn status_tells_of_damage_of_the_inbox_and_of_subscriptions_that_left() {
    let endpoint = Endpoint::answering([503]);
    let sandbox = Sandbox::new(&[
        ("kept", &endpoint.url(), ""),
        ("away", &endpoint.url(), "initial_backoff_ms = 60000"),
    ]);
    let serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    wait_for("both to be tried", || (sandbox.evidence("SPEC-1").len() >= 2).then_some(()));
    serve.kill();
    let spool = sandbox.spool().join("SPEC-1/spool-00000001.jsonl");
    let text = fs::read_to_string(&spool).unwrap();
    fs::write(&spool, text + "00000000 00000002 {}\n").unwrap();
    let config = fs::read_to_string(sandbox.path().join(".spec-kit/config.toml")).unwrap();
    let without = sandbox.write("other.toml", &config[..config.rfind("[[spec_ops").unwrap()]);
    let without = without.to_str().unwrap();

    // No runtime: pending deliveries of both, one of which is nobody's now.
    let at_rest = json(&sandbox, 1, &["status", "--config", without]);
    assert_eq!(at_rest["runtime"], Value::Null);
    assert_eq!(at_rest["subscriptions"][1]["health"], "inactive");
    assert_eq!(
        (&at_rest["subscriptions"][0]["pending"], &at_rest["subscriptions"][1]["pending"]),
        (&json!(1), &json!(1))
    );
    assert!(at_rest["warnings"][0].as_str().unwrap().contains("no runtime is running"), "{at_rest}");
    let listed = json(&sandbox, 0, &["list", "--subscription", "away", "--config", without]);
    assert_eq!(listed[0]["state"], "pending");

    let serve = sandbox.serve_with(&["--config", without]);
    let report = wait_for("the next failure", || {
        let report = json(&sandbox, 1, &["status", "--config", without]);
        (report["subscriptions"][0]["health"] == "failing").then_some(report)
    });
    assert_eq!(report["subscriptions"][1]["pending"], 1);
    let warnings = report["warnings"].to_string();
    for words in [
        "damaged records were set aside in SPEC-1/damaged-",
        "away: 1 pending delivery waits and it is not an active subscription",
        "× status 503 ",
        ": kept; a gateway answered",
    ] {
        assert!(warnings.contains(words), "{words}: {warnings}");
    }
    let listed = json(&sandbox, 0, &["list", "--subscription", "away", "--config", without]);
    assert_eq!((&listed[0]["state"], &listed[0]["last_status"]), (&json!("pending"), &json!(503)));
    serve.terminate();
    // Health is remembered across restarts.
    let report = json(&sandbox, 1, &["status"]);
    assert_eq!(report["subscriptions"][0]["health"], "failing");
    assert_eq!(report["subscriptions"][0]["last_error"], "status 503");
}

#[test]
fn a_runtime_that_hangs_is_named_and_what_needs_it_fails_with_3() {
    let endpoint = Endpoint::answering([500]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), ONCE)]);
    assert_says(&sandbox.run(&["reload"]), 3, &["no runtime is reachable", "start spec-notify serve"]);
    let serve = sandbox.serve();
    let id = sandbox.emit("SPEC-1", "Plan", "k1")["deliveries"][0]["id"].as_str().unwrap().to_owned();
    sandbox.wait_for_finals("SPEC-1", 1);
    serve.signal("STOP");
    assert_says(&sandbox.run(&["status"]), 1, &["owns the spool and does not answer"]);
    let listed = sandbox.run(&["list"]);
    assert_says(&listed, 0, &["owns the spool and does not answer", "dead_letter"]);
    for command in [
        &["replay", "SPEC-1", "--delivery-id", &id][..],
        &["test", "SPEC-1", "--subscription", "one"],
        &["replay", "--all"],
        &["drain"],
        &["reload"],
    ] {
        assert_says(&sandbox.run(command), 3, &["no runtime is reachable"]);
    }
    serve.signal("CONT");
    assert_says(&sandbox.run(&["replay", "SPEC-1", "--delivery-id", &id]), 1, &["status 500"]);
}

#[test]
fn explain_says_who_gets_an_event_and_which_filter_refuses_it() {
    let sandbox = Sandbox::new(&[
        ("all", "http://127.0.0.1:9/", ""),
        ("late", "http://127.0.0.1:9/", "include_stages = [\"Validate\", \"Unlock\"]"),
        ("failures", "http://127.0.0.1:9/", "include_status = [\"failure\"]"),
        ("off", "http://127.0.0.1:9/", "active = false"),
        ("dry", "http://127.0.0.1:9/", "dry_run = true"),
        ("held", "http://127.0.0.1:9/", ""),
    ]);
    let event = sandbox.write("event.json", r#"{"event":{"type":"spec-auto.stage.completed","stage":"Plan","status":"success"},"spec":{"id":"SPEC-1"}}"#);
    let event = event.to_str().unwrap();
    let answers = json(&sandbox, 0, &["explain", "--event", event]);
    let refused: Vec<(Value, Value)> = answers
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["matches"].clone(), row["refused_by"].clone()))
        .collect();
    assert_eq!(refused[0], (json!(true), Value::Null));
    let words = [
        "include_stages has no Plan, only Validate, Unlock",
        "include_status has no success, only failure",
        "active = false",
    ];
    for (at, words) in words.iter().enumerate() {
        assert!(refused[at + 1].1.as_str().unwrap().contains(words), "{refused:?}");
    }
    assert_eq!((&answers[0]["dry_run"], &answers[4]["dry_run"]), (&Value::Null, &json!(true)));
    let human = sandbox.run(&["explain", "--event", event]);
    assert_says(&human, 0, &["all   ", "gets it", "refused", words[0], "recorded and not sent"]);
    let verdict = |id: &str| human.stdout.lines().find_map(|line| line.strip_prefix(id)).unwrap().trim();
    assert_eq!((verdict("dry "), verdict("held ")), ("dry run", "gets it"));
    let nobody = sandbox.write(
        "nobody.json",
        r#"{"event":{"type":"spec-auto.anomaly.cost_threshold"},"spec":{"id":"SPEC-1"}}"#,
    );
    assert_eq!(sandbox.run(&["explain", "--event", nobody.to_str().unwrap()]).code, 1);
    let none = sandbox.write("none.json", "{\"event\":{}}");
    assert_says(&sandbox.run(&["explain", "--event", none.to_str().unwrap()]), 2, &["none.json"]);
    assert_says(&sandbox.run(&["explain"]), 2, &["--event"]);
    assert!(!sandbox.spool().exists(), "nothing is written");
    assert_says(&sandbox.run(&["pause", "held"]), 0, &[]);
    let answers = json(&sandbox, 0, &["explain", "--event", event]);
    assert!(answers[5]["matches"] == true && answers[5]["paused_by"].is_string(), "{answers:#}");
    let human = sandbox.run(&["explain", "--event", event]);
    assert_says(&human, 0, &["the event waits until spec-notify resume held"]);
}

#[test]
fn what_should_hold_one_event_is_not_read_to_its_end() {
    let sandbox = Sandbox::new(&[("one", "http://127.0.0.1:9/", "")]);
    let file = sandbox.write("huge.json", "");
    fs::File::options().write(true).open(&file).unwrap().set_len(2 << 30).unwrap();
    for command in
        [&["explain"][..], &["preview", "--format", "slack"], &["test", "SPEC-1", "--subscription", "one"]]
    {
        let ran = sandbox.run(&[command, &["--event", "huge.json"]].concat());
        assert_says(&ran, 2, &["huge.json has more than 2097152 bytes"]);
    }
}

#[test]
fn explain_shows_the_branch_that_an_event_would_get() {
    let sandbox = Sandbox::new(&[("one", "http://127.0.0.1:9/", "")]);
    let unsaid = r#"{"event":{"type":"spec-auto.stage.completed","stage":"Plan"},"spec":{"id":"SPEC-1"}}"#;
    let said = unsaid.replace("SPEC-1\"", "SPEC-1\",\"branch\":\"feat/own\"");
    let unsaid = sandbox.write("unsaid.json", unsaid);
    let said = sandbox.write("said.json", &said);
    sandbox.write(".git/HEAD", "ref: refs/heads/feat/x\n");
    for (event, branch) in [(unsaid, "feat/x"), (said, "feat/own")] {
        let arguments = ["explain", "--event", event.to_str().unwrap()];
        assert_says(&sandbox.run(&arguments), 0, &[&format!("branch: {branch}\n")]);
        assert_eq!(json(&sandbox, 0, &arguments)[0]["branch"], branch);
    }
}

#[test]
fn a_valid_config_is_taken_over_and_an_invalid_one_changes_nothing() {
    let (old, new, slow) =
        (Endpoint::answering([200]), Endpoint::answering([200]), Endpoint::answering([Answer::hang()]));
    let lines = "per_request_timeout_ms = 60000";
    let sandbox = Sandbox::new(&[("moved", &old.url(), ""), ("slow", &slow.url(), lines)]);
    let serve = sandbox.serve();
    let config = sandbox.path().join(".spec-kit/config.toml");
    let first = fs::read_to_string(&config).unwrap();
    sandbox.emit("SPEC-1", "Plan", "k1");
    slow.wait_for(1);
    old.wait_for(1);

    fs::write(&config, format!("{first}\nmax_attempts = 0\nunknown_key = 1\n")).unwrap();
    let refused = json(&sandbox, 2, &["reload"]);
    assert_eq!((&refused["ok"], refused["errors"].as_array().unwrap().len()), (&json!(false), 2));
    assert_says(&sandbox.run(&["reload"]), 2, &["max_attempts", "unknown key `unknown_key`"]);
    assert_says(&sandbox.run(&["status"]), 1, &["was edited and is not in force yet", "spec-notify reload"]);
    serve.signal("HUP");
    wait_for("the refusal in the log", || serve.log().contains("the old one stays in force").then_some(()));
    sandbox.write("elsewhere", "");
    fs::write(&config, first.replace("enabled = true", "enabled = true\nspool_dir = \"elsewhere/spool\""))
        .unwrap();
    assert_says(&sandbox.run(&["reload"]), 3, &["no runtime is reachable"]);
    serve.signal("HUP");
    wait_for("the other refusal", || {
        serve.log().contains("another spool_dir cannot be taken over").then_some(())
    });
    fs::write(&config, &first).unwrap();

    // Another address, a new subscription, and the slow one gone while its request is under way.
    let second = first.replace(&old.url(), &new.url());
    let second = format!(
        "{}[[spec_ops.webhooks.subscriptions]]\nid = \"added\"\nurl = \"{}\"\nsecret_env = \"TEST_SECRET\"\n",
        &second[..second.rfind("[[spec_ops").unwrap()],
        new.url()
    );
    fs::write(&config, &second).unwrap();
    assert_eq!(json(&sandbox, 0, &["reload"])["ok"], true);
    sandbox.emit("SPEC-1", "Plan", "k2");
    new.wait_for(2);
    assert_eq!(old.requests().len(), 1);
    let status = json(&sandbox, 1, &["status"]);
    assert!(!status["warnings"].to_string().contains("was edited"), "{status}");
    assert_eq!(column(&status["subscriptions"], "id"), ["moved", "added", "slow"]);
    assert_eq!(status["subscriptions"][2]["in_flight"], 1, "what was under way goes on");
    slow.release();
    let finals = sandbox.wait_for_finals("SPEC-1", 4);
    assert!(finals.iter().all(|line| line["state"] == "delivered"), "{finals:?}");
    // And back, by signal: what is emitted for the one that returned reaches it.
    fs::write(&config, &first).unwrap();
    serve.signal("HUP");
    wait_for("the reload", || (serve.log().matches("is in force").count() >= 2).then_some(()));
    sandbox.emit("SPEC-1", "Plan", "k3");
    slow.wait_for(2);
    old.wait_for(2);
    assert_eq!(json(&sandbox, 0, &["status"])["subscriptions"].as_array().unwrap().len(), 3);
}

#[test]
fn drain_delivers_all_that_is_pending_or_says_what_is_left() {
    let flaky = Endpoint::answering([503, 503, 200]);
    let sandbox = Sandbox::new(&[("flaky", &flaky.url(), "initial_backoff_ms = 50\njitter_ms = 0")]);
    assert_says(&sandbox.run(&["drain"]), 0, &["drained: nothing is pending"]);
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "k1")["outcome"], "queued");
    let nothing = json!({"stages": 0, "tasks": 0, "baseline": false});
    assert_eq!(
        json(&sandbox, 0, &["drain"]),
        json!({"outcome": "drained", "pending": 0, "delivered": 1, "dead_letters": 0, "sources": nothing})
    );
    assert_eq!(flaky.requests().len(), 3, "retries included");

    let dead = Endpoint::down();
    let sandbox = Sandbox::new(&[("dead", &dead.url(), "max_attempts = 2\ninitial_backoff_ms = 10")]);
    let _serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.wait_for_finals("SPEC-1", 1);
    assert_says(&sandbox.run(&["drain"]), 0, &["nothing is pending"]);

    let failing = Endpoint::answering([503]);
    let sandbox = Sandbox::new(&[("failing", &failing.url(), "initial_backoff_ms = 60000")]);
    let _serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    let left = sandbox.run(&["drain", "--timeout", "1"]);
    assert_says(&left, 1, &["1 delivery is still pending after 1 s, and stay"]);
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let sandbox = Sandbox::new(&[]);
    for shell in ["bash", "zsh", "fish"] {
        assert_says(
            &sandbox.run(&["completions", shell]),
            0,
            &["spec-notify", &format!("complete {shell} --")],
        );
    }
    for shell in ["powershell", "elvish"] {
        let script = sandbox.run(&["completions", shell]);
        assert_says(&script, 0, &["replay", "delivery-id"]);
        // As each of the two shells has the name of a command.
        for hidden in ["'keep'", "cand keep ", "'complete'", "cand complete "] {
            assert!(!script.stdout.contains(hidden), "what is hidden is not offered: {hidden}");
        }
        assert!(script.stdout.contains("'replay'") || script.stdout.contains("cand replay "));
    }
    assert_says(&sandbox.run(&["man"]), 0, &[".TH", "spec\\-notify"]);
    let out = sandbox.path().join("man1");
    assert_eq!(sandbox.run(&["man", "--out", out.to_str().unwrap()]).code, 0);
    for page in ["spec-notify.1", "spec-notify-replay.1", "spec-notify-status.1"] {
        assert!(fs::read_to_string(out.join(page)).unwrap().contains(".TH"), "{page}");
    }
    let help = sandbox.run(&["--help"]).stdout;
    let listed = help.split_once("Commands:").unwrap().1.split_once("Global options:").unwrap().0;
    let command =
        |line: &'_ str| line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')).map(str::to_owned);
    let commands = listed.lines().filter_map(command);
    let commands: Vec<String> =
        commands.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
    assert!(commands.len() > 12, "{commands:?}");
    for command in commands.into_iter().filter(|command| command != "help") {
        assert_says(&sandbox.run(&[&command, "--help"]), 0, &["Example", "spec-notify"]);
    }
}

#[test]
fn every_command_says_2_to_a_wrong_config_and_knows_when_webhooks_are_off() {
    let sandbox = Sandbox::new(&[("one", "http://127.0.0.1:9/", "")]);
    let config = sandbox.path().join(".spec-kit/config.toml");
    let good = fs::read_to_string(&config).unwrap();
    let event =
        sandbox.write("event.json", r#"{"event":{"type":"spec-kit.webhook.test"},"spec":{"id":"SPEC-1"}}"#);
    let event = event.to_str().unwrap();
    let id = "0193e5a1-7f00-4abc-8def-0123456789ab";
    let commands: [(&[&str], i32); 12] = [
        (&["serve"], 2),
        (&["emit", "--event", event], 0),
        (&["test", "SPEC-1", "--subscription", "one"], 2),
        (&["list"], 0),
        (&["replay", "SPEC-1", "--delivery-id", id], 2),
        (&["replay", "--all"], 2),
        (&["status"], 0),
        (&["status", "--banner"], 0),
        (&["check"], 0),
        (&["explain", "--event", event], 0),
        (&["reload"], 3),
        (&["drain"], 0),
    ];
    fs::write(&config, good.replace("enabled = true", "enabled = false")).unwrap();
    for (command, code) in commands {
        assert_says(&sandbox.run(command), code, &[]);
    }
    assert!(!sandbox.spool().exists(), "off: no file");
    fs::write(&config, good.replace("enabled = true", "enabled = true\nmax_pending = 0")).unwrap();
    // Who hands events over, or looks, needs to know where the spool is and no more.
    let lenient = ["emit", "list", "status"];
    for (command, _) in commands {
        match lenient.contains(&command[0]) {
            true => {
                let ran = sandbox.run(command);
                assert!(ran.code < 2 && ran.stderr.contains("has 1 error: see spec-notify check"), "{ran:?}");
            }
            false => assert_says(&sandbox.run(command), 2, &["`max_pending` is 0"]),
        }
    }
    for wrong in [
        &["list", "a/b"][..],
        &["replay", "SPEC-1"],
        &["replay", "SPEC-1", "--all", "--delivery-id", id],
        &["test"],
        &["drain", "--timeout", "soon"],
        &["top"],
        &["completions", "tcsh"],
        &["nonsense"],
    ] {
        assert_says(&sandbox.run(wrong), 2, &["error"]);
    }
}

#[test]
fn a_slip_in_the_config_costs_no_event_and_hides_nothing() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let serve = sandbox.serve();
    let config = ".spec-kit/config.toml";
    let good = std::fs::read_to_string(sandbox.path().join(config)).unwrap();
    for (key, slip) in [
        ("k1", "include_status = [\"failur\"]\n"),
        ("k2", "url_env = 7\n"),
        ("k3", "[[spec_ops.webhooks.subscriptions]]\nid = \"two\n"),
    ] {
        sandbox.write(config, &format!("{good}{slip}"));
        let emitted = sandbox.emit("SPEC-1", "Plan", key);
        assert_eq!(emitted["outcome"], "accepted", "{slip}");
        // What the runtime has is well; what was meant to be is not in force.
        let status = wait_for("the first delivery to end", || {
            Some(sandbox.run(&["status"])).filter(|ran| !ran.stdout.contains("untried"))
        });
        assert_says(&status, 1, &["process", "one", "healthy", "see spec-notify check", "not in force yet"]);
        assert_says(&sandbox.run(&["list"]), 0, &["SPEC-1"]);
    }
    endpoint.wait_for(3);
    serve.kill();
    let status = sandbox.run(&["status", "--json"]);
    assert_says(&status, 1, &["none starts while the config has errors"]);
    assert_eq!(sandbox.emit("SPEC-1", "Plan", "later")["outcome"], "queued");
    // Where even the spool may be another one, nothing is put anywhere.
    sandbox.write(config, &format!("{good}\n[spec_ops.webhooks.x]\nspool_dir = \"els"));
    let refused = sandbox.run(&["emit", "--type", "spec-kit.webhook.test", "--spec", "SPEC-1"]);
    assert_says(&refused, 2, &["error"]);
    // What is off in a config with errors is off.
    sandbox.write(config, &good.replace("enabled = true", "enabled = false\nmax_concurrency = 0"));
    assert_eq!(sandbox.run(&["emit", "--type", "spec-kit.webhook.test", "--spec", "SPEC-1"]).code, 2);
}

#[test]
fn who_asks_the_runtime_needs_none_of_its_secrets() {
    let endpoint = Endpoint::answering([200, 404, 200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let _serve = sandbox.serve();
    let bare = |arguments: &[&str]| {
        Ran::from(sandbox.command(arguments).env_remove("TEST_SECRET").output().unwrap())
    };
    assert_says(&bare(&["test", "SPEC-1", "--subscription", "one"]), 0, &["delivered: one answered 200"]);
    sandbox.emit("SPEC-1", "Plan", "k1");
    let dead = sandbox.wait_for_finals("SPEC-1", 1).remove(0);
    // A SPEC that it is not of is corrected.
    let id = dead["delivery"].as_str().unwrap();
    let wrong = bare(&["replay", "SPEC-2", "--delivery-id", id]);
    assert_says(&wrong, 1, &[&format!("spec-notify replay SPEC-1 --delivery-id {id}")]);
    assert_says(&bare(&["replay", "--all"]), 0, &["1 dead letter replayed: 1 delivered"]);
    assert_says(&bare(&["drain"]), 0, &["nothing is pending"]);
}

#[test]
fn drain_with_webhooks_off_has_nothing_to_do_and_says_what_waits() {
    let sandbox = Sandbox::new(&[("one", "http://127.0.0.1:9/", "")]);
    let off = |arguments: &[&str]| {
        let mut command = sandbox.command(arguments);
        Ran::from(command.env("SPECKIT_WEBHOOKS_ENABLED", "0").output().unwrap())
    };
    let ran = off(&["drain"]);
    assert_says(&ran, 0, &["nothing to drain: webhooks are off"]);
    assert!(ran.stdout.is_empty() && !ran.stderr.contains("until webhooks are on"), "{ran:?}");
    assert!(!sandbox.spool().exists(), "no file is made");
    sandbox.emit("SPEC-1", "Plan", "k1");
    assert_says(&off(&["drain"]), 0, &["1 delivery waits in ", "until webhooks are on"]);
    let ran = off(&["drain", "--json"]);
    let drained: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&drained["outcome"], &drained["pending"]), (&json!("disabled"), &json!(1)));
}

#[test]
fn test_says_that_filters_would_have_refused_its_sample() {
    let endpoint = Endpoint::answering([200]);
    let sandbox = Sandbox::new(&[
        ("late", &endpoint.url(), "include_stages = [\"Unlock\"]"),
        ("runs", &endpoint.url(), "include_events = [\"spec-auto.pipeline.*\"]"),
    ]);
    let to = |id: &str, sample: &[&str]| {
        json(&sandbox, 0, &[&["test", "SPEC-1", "--subscription", id], sample].concat())[0].take()
    };
    let plan = ["--sample", "stage-success"];
    assert_eq!(to("late", &plan)["refused_by"], "include_stages has no Plan, only Unlock");
    assert_eq!(to("late", &[])["refused_by"], Value::Null, "it has no stage");
    assert!(to("runs", &[])["refused_by"].as_str().unwrap().contains("spec-kit.webhook.test"));
    let human = sandbox.run(&[&["test", "SPEC-1", "--subscription", "late"], &plan[..]].concat());
    assert_says(&human, 0, &["delivered: late", "include_stages has no Plan", "sends it all the same"]);
    endpoint.wait_for(4);
}

#[test]
fn a_listing_that_the_limit_cuts_says_so_to_machines_too() {
    let sandbox = Sandbox::new(&[("one", "http://127.0.0.1:9/", "dry_run = true")]);
    for n in 0..3 {
        sandbox.emit(&format!("SPEC-{n}"), "Plan", &format!("k{n}"));
    }
    assert_says(&sandbox.run(&["drain"]), 0, &[]);
    for (limit, more) in [("2", json!(true)), ("3", Value::Null)] {
        let ran = sandbox.run(&["--json", "list", "--limit", limit]);
        let rows: Vec<Value> = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(rows.len().to_string(), limit);
        let (last, others) = rows.split_last().unwrap();
        assert_eq!(last["more"], more);
        assert!(others.iter().all(|row| row["more"].is_null()), "{rows:#?}");
        assert_eq!(ran.stderr.contains("--limit N shows up to N"), more == true, "{ran:?}");
    }
}

#[test]
fn what_is_off_says_so_to_machines_too() {
    let sandbox = Sandbox::new(&[]);
    sandbox.write(".spec-kit/config.toml", "");
    let report = json(&sandbox, 0, &["status"]);
    assert_eq!((&report["runtime"], &report["subscriptions"]), (&Value::Null, &json!([])));
    let file = sandbox.write("two.jsonl", &"{\"event\":{\"type\":\"spec-kit.webhook.test\",\"idempotency_key\":\"k\"},\"spec\":{\"id\":\"S\"}}\n".repeat(2));
    let ran = sandbox.run(&["--json", "emit", "--event", file.to_str().unwrap()]);
    let lines: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert!(
        lines.iter().all(|line| line["outcome"] == "disabled" && line["event"]["idempotency_key"] == "k")
    );
}
