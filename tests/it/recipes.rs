//! The recipes as they stand in `docs/how-to/`, and the CI job of `docs/start/ci.md`, each against
//! a stand-in that holds its service's documented rules.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde_json::{Value, json};

use crate::harness::page::{block, page};
use crate::harness::{Answer, EVIDENCE, Endpoint, RequestExt as _, Sandbox, plan_telemetry, wait_for};

fn recipe(name: &str) -> String {
    page(&format!("docs/how-to/{name}"))
}

/// A sandbox whose config is a recipe's, with every event admitted, and its URL in the
/// environment.
fn sandbox(name: &str, endpoint: &Endpoint) -> Sandbox {
    let entry = block(&recipe(name), "toml");
    let sandbox = Sandbox::new(&[])
        .env("SLACK_WEBHOOK_URL", &endpoint.url())
        .env("DISCORD_WEBHOOK_URL", &endpoint.url())
        .env("TEAMS_WEBHOOK_URL", &endpoint.url())
        .env("MATTERMOST_WEBHOOK_URL", &endpoint.url())
        .env("SPECKIT_WEBHOOK_SECRET_SLACK", "any-secret-will-do-here")
        .env("SPECKIT_WEBHOOK_SECRET_DISCORD", "any-secret-will-do-here")
        .env("SPECKIT_WEBHOOK_SECRET_TEAMS", "any-secret-will-do-here")
        .env("SPECKIT_WEBHOOK_SECRET_MATTERMOST", "any-secret-will-do-here");
    let check = format!("[spec_ops.webhooks]\nenabled = true\n{entry}");
    sandbox.write(".spec-kit/config.toml", &check);
    let ran = sandbox.run(&["check"]);
    assert!(ran.code == 0 && !ran.stderr.contains("warning"), "the recipe's own config: {ran:?}");
    let is_filter = |line: &&str| line.starts_with("include_") || line.starts_with("notify");
    let all: String = check.lines().filter(|line| !is_filter(line)).map(|line| format!("{line}\n")).collect();
    sandbox
        .write(".spec-kit/config.toml", &format!("{all}include_events = [\"*\"]\nrate_limit_per_s = 1000\n"));
    sandbox
}

/// One event of each kind, once as a guardrail would write it and once as someone who means harm
/// would.
fn events() -> String {
    let hostile = format!("<!channel> @everyone <@U1> `**x** [a](http://b) {}", "é😀".repeat(6_000));
    let mut lines = String::new();
    for text in ["an ordinary reason", &hostile] {
        for (kind, stage, status) in [
            ("spec-auto.stage.completed", Some("Validate"), "success"),
            ("spec-auto.stage.completed", Some("Audit"), "failure"),
            ("spec-auto.stage.completed", Some("Plan"), "halt"),
            ("spec-auto.pipeline.completed", None, "failure"),
            ("spec-kit.task.completed", None, "success"),
            ("spec-kit.tasklist.completed", None, "success"),
            ("spec-auto.anomaly.consensus_conflict", Some("Plan"), "halt"),
            ("spec-auto.anomaly.cost_threshold", None, "success"),
        ] {
            let key = format!("{kind}-{status}-{}", text.len());
            let short: String = text.chars().take(1_200).collect();
            let event = json!({
                "event": {"type": kind, "stage": stage, "status": status, "idempotency_key": key, "reasons": vec![text; 2]},
                "spec": {"id": "SPEC-KIT-065", "branch": short},
                "pipeline": {"attempt": 1, "stages": [{"stage": "Plan", "status": "success", "attempt": 1}]},
                "task": {"id": "T1", "title": short, "status": "Done"},
                "tasks": {"done": 12, "total": 12},
                "followUps": vec![short.clone(); 40],
                "anomaly": {"disagreements": [short], "hint": "look"},
                "cost": {"totalUsd": 3.5},
                "evidence": {"paths": vec!["docs/a.md"; 60]},
            });
            lines += &format!("{event}\n");
        }
    }
    lines
}

/// Sends every event, and holds each body that came against the service's rules.
fn hold(name: &str, status: u16, body: &str, rules: fn(&[u8], &Value)) {
    let endpoint = Endpoint::answering([Answer::status(status).body(body)]);
    let sandbox = sandbox(name, &endpoint);
    let _serve = sandbox.serve_with(&["--no-watch"]);
    let file = sandbox.write("events.jsonl", &events());
    let ran = sandbox.run(&["emit", "--deadline", "20000", "--event", file.to_str().unwrap()]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let finals = sandbox.wait_for_finals("SPEC-KIT-065", 14);
    assert!(finals.iter().all(|line| line["state"] == "delivered"), "{finals:#?}");
    for request in endpoint.requests() {
        let content_type = request.text_of("content-type");
        assert!(content_type.starts_with("application/json"), "{content_type}");
        rules(request.body(), &serde_json::from_slice(request.body()).unwrap());
    }
}

/// Every text of a JSON value.
fn texts<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => found.push(text),
        Value::Array(items) => items.iter().for_each(|item| texts(item, found)),
        Value::Object(fields) => fields.values().for_each(|field| texts(field, found)),
        _ => {}
    }
}

fn units(text: &Value) -> usize {
    text.as_str().unwrap_or_default().encode_utf16().count()
}

#[test]
fn slack_takes_every_event() {
    hold("slack.md", 200, "ok", |bytes, message| {
        assert!((1..=4_000).contains(&units(&message["text"])), "text is always there");
        let blocks = message["blocks"].as_array().unwrap();
        assert!((1..=2).contains(&blocks.len()) && blocks[0]["type"] == "section");
        assert!((1..=3_000).contains(&units(&blocks[0]["text"]["text"])));
        assert!(blocks[1..].iter().all(|block| block["type"] == "context"));
        assert!(message.get("attachments").is_none(), "attachments are Slack's old form");
        assert!(bytes.len() < 12_000, "Slack refuses what is larger as a whole");
        let mut all = Vec::new();
        texts(message, &mut all);
        assert!(all.iter().all(|text| !text.contains("<!") && !text.contains("<@")), "nobody is mentioned");
    });
}

#[test]
fn discord_takes_every_event() {
    hold("discord.md", 204, "", |_, message| {
        assert_eq!(message["allowed_mentions"]["parse"], json!([]), "nobody is mentioned");
        let embeds = message["embeds"].as_array().unwrap();
        // An embed alone has no preview on a phone.
        assert!((1..=2_000).contains(&units(&message["content"])) && (1..=10).contains(&embeds.len()));
        let mut total = 0;
        for embed in embeds {
            assert!(units(&embed["title"]) <= 256 && units(&embed["description"]) <= 4_096);
            assert!(embed.get("fields").is_none(), "they stand in narrow columns");
            total += units(&embed["title"]) + units(&embed["description"]) + units(&embed["footer"]["text"]);
        }
        assert!(total <= 6_000, "{total}");
    });
}

#[test]
fn teams_takes_every_event() {
    hold("teams.md", 202, "", |bytes, message| {
        assert!(bytes.len() <= 28 * 1024, "{}", bytes.len());
        assert_eq!(message["type"], "message");
        let card = &message["attachments"][0];
        assert_eq!(card["contentType"], "application/vnd.microsoft.card.adaptive");
        assert_eq!(
            (&card["content"]["type"], &card["content"]["version"]),
            (&"AdaptiveCard".into(), &"1.4".into())
        );
        assert!(!card["content"]["body"].as_array().unwrap().is_empty());
        assert!(units(&card["content"]["fallbackText"]) >= 1, "a phone's preview says \"Card\" without it");
    });
}

#[test]
fn mattermost_takes_every_event() {
    hold("mattermost.md", 200, "ok", |_, message| {
        assert!(units(&message["text"]) >= 1, "text is always there");
        let mut all = Vec::new();
        texts(message, &mut all);
        assert!(all.iter().map(|text| text.chars().count()).sum::<usize>() <= 5_000);
        for name in ["all", "channel", "here", "everyone"] {
            assert!(all.iter().all(|text| !text.contains(&format!("@{name}"))), "nobody is mentioned");
        }
    });
}

#[test]
fn a_message_is_shown_and_sent_as_that_of_a_real_event() {
    let endpoint = Endpoint::answering([200]);
    let chat = "format = \"mattermost\"\nowner = \"lead\"\nnotify = \"failures+runs\"";
    let sandbox = Sandbox::new(&[("chat", &endpoint.url(), chat)]);
    let failed = json!({
        "event": {"type": "spec-auto.stage.completed", "stage": "Plan", "status": "failure",
            "reasons": ["baseline.status is failed, not passed or skipped"]},
        "spec": {"id": "SPEC-1-x"}, "source": {"repo": "acme/checkout"},
        "pipeline": {"attempt": 2, "maxAttempts": 3},
    });
    let file = sandbox.write("event.json", &failed.to_string());
    let file = file.to_str().unwrap();
    let headline = "❌ Plan failed (2 of 3): SPEC-1 x · the baseline failed";
    let shown = sandbox.run(&["preview", "--format", "mattermost", "--event", file]);
    assert_eq!(shown.code, 0, "{shown:?}");
    let reads = shown.stdout.split_once("how it reads (mattermost):\n").unwrap().1;
    assert!(reads.starts_with(headline) && reads.contains("Owner: lead"), "{reads}");
    let shown = sandbox.run(&["preview", "--format", "slack", "--json", "--event", file]);
    let preview: Value = serde_json::from_str(&shown.stdout).unwrap();
    assert_eq!((&preview["format"], &preview["body"]["text"]), (&"slack".into(), &headline.into()));
    for wrong in [&["preview", "--event", file][..], &["--format", "slack", "status"]] {
        let ran = sandbox.run(wrong);
        assert!(ran.code == 2 && ran.stderr.contains("--format"), "{ran:?}");
    }
    assert!(endpoint.requests().is_empty(), "a preview sends nothing");

    let test = |more: &[&str]| {
        let arguments = [&["test", "SPEC-2", "--subscription", "chat"], more].concat();
        let ran = sandbox.run(&arguments);
        assert_eq!(ran.code, 0, "{ran:?}");
        endpoint.requests().last().unwrap().told()["text"].as_str().unwrap().to_owned()
    };
    let text = test(&[]);
    assert!(text.starts_with("🔔 **Test**: subscription \"chat\""), "{text}");
    assert!(text.contains("Gets: failures, halts, gates, stalls and run ends. No stage ran."), "{text}");
    let text = test(&["--event", file]);
    assert!(text.starts_with("❌ **Plan failed** (2 of 3): SPEC-2 · the baseline failed"), "{text}");
    assert!(text.ends_with("Owner: @lead"), "{text}");
    let text = test(&["--sample", "stage-halt"]);
    assert!(text.starts_with("⚠️ **Audit halted**"), "{text}");
}

/// A Python program of a recipe at work; killed when dropped.
pub(crate) struct Program(Child);

impl Program {
    pub(crate) fn start(file: &PathBuf, port: &str, more: &[(&str, &str)]) -> Option<Self> {
        if Command::new("python3").arg("--version").output().is_err() {
            eprintln!("skipped: python3 is not installed");
            return None;
        }
        let mut command = Command::new("python3");
        command.arg(file).env("PORT", port).env("SPECKIT_WEBHOOK_SECRET", "the-secret-of-the-recipe");
        command.envs(more.iter().copied()).stdout(Stdio::null()).stderr(Stdio::null());
        Some(Self(command.spawn().unwrap()))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a recipe's receiver and sends it a sample, with the right secret and a wrong one.
fn receive(name: &str, more: &[(&str, &str)], status: u16) {
    let text = recipe(name);
    let entry = block(&text, "toml");
    let old = entry.split_once("127.0.0.1:").unwrap().1.split('/').next().unwrap();
    // Free a moment ago, and nobody is told of it but the program.
    let port = Endpoint::down().address().port().to_string();
    let config = format!("[spec_ops.webhooks]\nenabled = true\n{}", entry.replace(old, &port));
    let sandbox = Sandbox::new(&[]);
    sandbox.write(".spec-kit/config.toml", &config);
    let program = sandbox.write("receiver.py", &block(&text, "python"));
    let Some(_program) = Program::start(&program, &port, more) else { return };
    let test = |secret: &str| {
        let id = entry.split('"').nth(1).unwrap();
        let mut command = sandbox.command(&["--json", "test", "SPEC-KIT-065", "--subscription", id]);
        let output = command.env("SPECKIT_WEBHOOK_SECRET", secret).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        report[0]["status"].as_u64()
    };
    let answered = wait_for("the receiver", || test("the-secret-of-the-recipe"));
    assert_eq!(answered, u64::from(status));
    assert_eq!(test("another-secret-altogether"), Some(401));
}

#[test]
fn the_receiver_for_github_hands_on_what_github_takes() {
    let github = Endpoint::answering([204]);
    let base = github.url().trim_end_matches("/hook").to_owned();
    let environment =
        [("GITHUB_TOKEN", "a-token"), ("GITHUB_REPOSITORY", "owner/name"), ("GITHUB_API_URL", base.as_str())];
    receive("github-actions.md", &environment, 204);
    if let Some(request) = github.requests().first() {
        assert_eq!((request.method(), request.target()), ("POST", "/repos/owner/name/dispatches"));
        let sent: Value = serde_json::from_slice(request.body()).unwrap();
        assert_eq!(sent["event_type"], "spec-kit.webhook.test");
        assert!(sent["client_payload"].as_object().unwrap().len() <= 10 && request.body().len() < 64_000);
    }
}

#[test]
fn a_job_tells_what_its_pipeline_did_and_nothing_of_what_it_checked_out() {
    let endpoint = Endpoint::answering([200]);
    let job = block(&page("docs/start/ci.md"), "yaml");
    let steps: Vec<&str> = job.lines().filter_map(|line| line.trim().strip_prefix("run: ")).collect();
    let (install, steps) = steps.split_first().unwrap();
    assert!(install.starts_with("cargo install ") && steps.len() == 4, "{steps:?}");
    let lines = "secret_env = \"SPECKIT_WEBHOOK_SECRET\"";
    let sandbox = Sandbox::with_settings("env_file = \"none.env\"", &[("one", &endpoint.url(), lines)])
        .env("SPECKIT_WEBHOOK_SECRET", "the-secret-of-the-repository")
        .env("GITHUB_STEP_SUMMARY", "summary.md");
    let telemetry = |session: &str| format!("{EVIDENCE}/commands/SPEC-1/spec-plan_{session}.json");
    sandbox.write(&telemetry("before"), &plan_telemetry("SPEC-1", "before").to_string());
    sandbox.write("after.json", &plan_telemetry("SPEC-1", "after").to_string());
    let pipeline = format!(
        "#!/bin/sh\ncp after.json {}\nspec-notify emit --type spec-auto.stage.completed --spec SPEC-1 \
         --stage Tasks --status failure\n",
        telemetry("after")
    );
    let script = sandbox.write("scripts/pipeline.sh", &pipeline);
    fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    for step in steps {
        let output = sandbox.shell(step).output().unwrap();
        assert!(output.status.success(), "{step}: {output:?}");
    }
    let stages: BTreeSet<String> =
        endpoint.requests().iter().map(|request| request.told()["event"]["stage"].to_string()).collect();
    assert_eq!(stages, ["\"Plan\"", "\"Tasks\""].map(str::to_owned).into());
    assert_eq!(endpoint.requests().len(), 2);
    let summary = fs::read_to_string(sandbox.path().join("summary.md")).unwrap();
    assert!(summary.contains("**2** arrived") && summary.contains(" Tasks | ❌ failure |"), "{summary}");
}

/// What the footprint's script says of a SPEC, and its exit code.
fn footprint(sandbox: &Sandbox, arguments: &[&str], limit: &str) -> (Option<i32>, Vec<u64>) {
    let script = sandbox.write("footprint.sh", &block(&recipe("footprint.md"), "sh"));
    let mut command = Command::new("sh");
    command.arg(script).args(arguments).env("LIMIT", limit).current_dir(sandbox.path());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let number = |line: &str| line.rsplit(' ').next().unwrap().parse().unwrap();
    (output.status.code(), text.lines().map(number).collect())
}

#[test]
fn the_footprints_script_sums_what_a_spec_has_and_says_what_it_cannot_look_at() {
    let sandbox = Sandbox::new(&[]);
    for (path, bytes) in [
        ("commands/SPEC-1/webhooks/deliveries.jsonl", 2_000),
        ("commands/SPEC-1/webhooks/deliveries.1.jsonl", 100_000),
        ("commands/SPEC-1/webhooks/.gitignore", 2),
        ("commands/SPEC-1/spec-plan_s-1.json", 7_777),
        ("commands/SPEC-10/webhooks/deliveries.jsonl", 5_555),
        ("webhooks/SPEC-1/spool-00000001.jsonl", 300),
        ("webhooks/SPEC-1/spool-00000002.jsonl", 40),
        ("webhooks/SPEC-1/dead-letter/one with a space.json", 5_000),
        ("webhooks/SPEC-1/dead-letter/two.json", 1),
        ("webhooks/SPEC-10/spool-00000001.jsonl", 6_666),
        ("webhooks/inbox/1-a.event.json", 8_888),
    ] {
        sandbox.write(&format!("{EVIDENCE}/{path}"), &"x".repeat(bytes));
    }
    let sums = vec![102_002, 5_001, 340, 107_343];
    assert_eq!(footprint(&sandbox, &["SPEC-1"], "107003"), (Some(0), sums.clone()));
    assert_eq!(footprint(&sandbox, &["SPEC-1"], "107002"), (Some(1), sums.clone()));
    assert_eq!(footprint(&sandbox, &["SPEC-2"], "0"), (Some(0), vec![0; 4]));
    fs::rename(sandbox.path().join(EVIDENCE), sandbox.path().join("audit")).unwrap();
    assert_eq!(footprint(&sandbox, &["SPEC-1", "audit", "audit/webhooks"], "9999999"), (Some(0), sums));
    for nothing_there in [&["SPEC-1"][..], &["SPEC-1", "audit", "elsewhere"], &[]] {
        let (code, sums) = footprint(&sandbox, nothing_there, "9999999");
        assert!(code.is_some_and(|code| code > 0) && sums.is_empty(), "{code:?} {sums:?}");
    }
}

/// The relay as it stands on its page; what it hands on to whom.
fn relay(more: &[(&str, &str)]) {
    receive("email-jira-pagerduty.md", more, 204);
}

/// What a service got from the relay: one request, for two deliveries of which one was forged.
fn relayed(target: &str, variables: &[&str], url: &str, path: &str) -> Option<Value> {
    let service = Endpoint::start();
    let base = service.url().replace("/hook", path);
    let mut more = vec![("TARGET", target), (url, base.as_str())];
    more.extend(variables.iter().map(|name| (*name, "x")));
    relay(&more);
    let requests = service.requests();
    assert!(requests.len() <= 1, "what is forged is not handed on");
    requests.first().map(|request| request.told())
}

#[test]
fn the_relay_opens_an_incident_or_an_issue() {
    let routing = relayed("pagerduty", &["PAGERDUTY_ROUTING_KEY"], "PAGERDUTY_URL", "/v2/enqueue");
    if let Some(incident) = routing {
        assert_eq!(incident["payload"]["summary"], "spec-kit.webhook SPEC-KIT-065");
        assert!(incident["dedup_key"].as_str().unwrap().contains(":SPEC-KIT-065:"));
    }
    let issue = relayed("jira", &["JIRA_USER", "JIRA_TOKEN", "JIRA_PROJECT"], "JIRA_URL", "");
    if let Some(issue) = issue {
        assert_eq!(issue["fields"]["project"]["key"], "x");
    }
    let issue = relayed("linear", &["LINEAR_API_KEY", "LINEAR_TEAM_ID"], "LINEAR_URL", "/graphql");
    if let Some(issue) = issue {
        assert_eq!(issue["variables"]["input"]["teamId"], "x");
    }
}

#[test]
fn the_relay_writes_a_mail() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let server = thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let say = |words: &str| (&stream).write_all(format!("{words}\r\n").as_bytes()).unwrap();
        say("220 stand-in");
        let mut mail = String::new();
        while let Some(Ok(line)) = lines.next() {
            match &*line.to_lowercase() {
                "quit" => say("221 bye"),
                "data" => {
                    say("354 go on");
                    let text = lines.by_ref().map(Result::unwrap).take_while(|line| line != ".");
                    text.for_each(|line| mail += &format!("{line}\n"));
                    say("250 ok");
                }
                _ => say("250 ok"),
            }
        }
        mail
    });
    if !crate::harness::has_tool("python3") {
        return;
    }
    let addresses = [("MAIL_FROM", "a@example.com"), ("MAIL_TO", "b@example.com"), ("TARGET", "email")];
    relay(&[&addresses[..], &[("SMTP_PORT", &port)]].concat());
    let mail = server.join().unwrap();
    assert!(mail.contains("Subject: spec-kit.webhook SPEC-KIT-065"), "{mail}");
}

#[test]
fn the_agent_of_launchd_is_a_property_list_that_serves() {
    if !crate::harness::has_tool("python3") {
        return;
    }
    let sandbox = Sandbox::empty();
    let file = sandbox.write("agent.plist", &block(&recipe("systemd.md"), "xml"));
    let read = "import json, plistlib, sys\nprint(json.dumps(plistlib.load(open(sys.argv[1], 'rb'))))";
    let output = Command::new("python3").args(["-c", read]).arg(file).output().unwrap();
    let agent: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(agent["ProgramArguments"].as_array().unwrap().last().unwrap(), "serve");
    assert_eq!((&agent["RunAtLoad"], &agent["KeepAlive"]), (&true.into(), &true.into()));
}
