//! Slips of the keyboard that would switch webhooks off, or lose an event, in silence: each is
//! said.

use std::fs;

use serde_json::Value;

use crate::harness::{Endpoint, Ran, Sandbox};

const EMIT: [&str; 5] = ["emit", "--type", "spec-auto.stage.completed", "--spec", "SPEC-1"];

/// What acts on deliveries, and so needs a config without errors.
const ACTING: [&[&str]; 6] = [
    &["check"],
    &["serve"],
    &["test", "SPEC-1", "--subscription", "one"],
    &["replay", "--all"],
    &["drain"],
    &["reload"],
];

#[track_caller]
fn assert_said(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    for word in words {
        assert!(ran.stderr.contains(word), "{word:?} is not in {ran:?}");
    }
}

fn config(sandbox: &Sandbox, text: &str) {
    sandbox.write(".spec-kit/config.toml", text);
}

fn subscription(name: &str) -> String {
    format!("[[{name}]]\nid = \"one\"\nurl = \"http://127.0.0.1:9/x\"\nsecret_env = \"TEST_SECRET\"\n")
}

#[test]
fn a_repo_that_is_not_there_is_an_error_for_every_command() {
    let endpoint = Endpoint::replying(&[200]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "")]);
    let file = sandbox.write("file", "");
    let others: [&[&str]; 9] = [
        &EMIT,
        &["status"],
        &["status", "--banner"],
        &["list"],
        &["explain", "--event", "file"],
        &["top"],
        &["secret", "new"],
        &["completions", "bash"],
        &["demo"],
    ];
    for command in ACTING.iter().chain(&others) {
        for (repo, why) in [("nowhere", "there is no such folder"), ("file", "it is a file, not a folder")] {
            let ran = sandbox.run(&[&["--repo", repo], *command].concat());
            assert_said(&ran, 2, &["the repo", repo, why, "--repo"]);
            let absolute = file.with_file_name(repo);
            let ran = sandbox.run(&[*command, &["--repo", absolute.to_str().unwrap()]].concat());
            assert_said(&ran, 2, &[why]);
        }
    }
    assert!(!sandbox.path().join("nowhere").exists());
    let report = sandbox.run(&["--json", "check", "--repo", "nowhere"]);
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!((&report["ok"], &report["enabled"]), (&false.into(), &Value::Null), "{report:#}");
    assert!(report["errors"][0]["message"].as_str().unwrap().contains("nowhere"));
}

#[test]
fn a_table_whose_name_is_only_near_ours_is_said_and_fails_no_script() {
    let sandbox = Sandbox::new(&[]);
    for (name, place) in [
        ("spec_ops.webhook", "config.toml:1:11: [spec_ops.webhook] is not read"),
        ("spec-ops.webhooks", "config.toml:1:2: [spec-ops.webhooks] is not read"),
        ("spec_op.webhooks", "config.toml:1:2: [spec_op.webhooks] is not read"),
        ("specops.webhooks", "config.toml:1:2: [specops.webhooks] is not read"),
        ("spec_ops.web_hooks", "config.toml:1:11: [spec_ops.web_hooks] is not read"),
    ] {
        let list = subscription(&format!("{name}.subscriptions"));
        config(&sandbox, &format!("[{name}]\nenabled = true\n{list}"));
        for command in ACTING {
            let ran = sandbox.run(command);
            assert_said(&ran, 2, &[place, "did you mean `[spec_ops.webhooks]`?"]);
        }
        let ran = sandbox.run(&EMIT);
        assert_said(&ran, 0, &["warning", place, "nothing emitted: webhooks are off"]);
        let ran = sandbox.run(&[&["--json"], &EMIT[..]].concat());
        assert_said(&ran, 0, &[place]);
        assert!(ran.stdout.contains("\"disabled\""), "{ran:?}");
        assert_eq!(sandbox.inbox().len(), 0);
    }
}

#[test]
fn beside_the_real_table_a_slip_costs_no_event() {
    let sandbox = Sandbox::new(&[]);
    let real = subscription("spec_ops.webhooks.subscriptions");
    let slips = [
        (subscription("spec_ops.webhook.subscriptions"), "config.toml:7:12: [spec_ops.webhook] is not read"),
        (
            "[spec-ops.webhooks]\nspool_dir = \"x\"\n".to_owned(),
            "config.toml:7:2: [spec-ops.webhooks] is not read",
        ),
        (subscription("spec_ops.webhooks.subscription"), "config.toml:7:21: unknown key `subscription`"),
    ];
    for (n, (slip, place)) in slips.iter().enumerate() {
        config(&sandbox, &format!("[spec_ops.webhooks]\nenabled = true\n{real}{slip}"));
        for command in ACTING {
            assert_said(&sandbox.run(command), 2, &[place]);
        }
        let ran = sandbox.run(&[&EMIT[..], &["--key", &format!("k{n}")]].concat());
        assert_said(&ran, 0, &["warning"]);
        assert_eq!(sandbox.inbox().len(), n + 1, "{ran:?}");
    }
}

#[test]
fn a_root_table_named_webhooks_only_warns() {
    let sandbox = Sandbox::new(&[]);
    config(&sandbox, &format!("[webhooks]\nenabled = true\n{}", subscription("webhooks.subscriptions")));
    let check = sandbox.run(&["check"]);
    assert_said(
        &check,
        0,
        &["warning", "config.toml:1:2: [webhooks] is not read", "rename it to [spec_ops.webhooks]"],
    );
    assert!(check.stdout.starts_with("webhooks are off: "), "{check:?}");
    assert_said(&sandbox.run(&EMIT), 0, &["[webhooks] is not read", "has no [spec_ops.webhooks]"]);
    assert_said(&sandbox.run(&["serve"]), 2, &["[webhooks] is not read", "webhooks are off"]);
}

#[test]
fn subscriptions_without_enabled_are_said_to_be_off() {
    let sandbox = Sandbox::new(&[]);
    let file = sandbox.path().join(".spec-kit/config.toml");
    let list = subscription("spec_ops.webhooks.subscriptions");
    let said = "and webhooks are off, because `enabled` is missing";
    for (text, what) in [
        (list.clone(), "subscriptions are configured"),
        (format!("[spec_ops.webhooks]\nmax_concurrency = 2\n{list}"), "subscriptions are configured"),
        ("[spec_ops.webhooks]\n".to_owned(), "[spec_ops.webhooks] exists"),
    ] {
        config(&sandbox, &text);
        let check = sandbox.run(&["check"]);
        assert_said(&check, 0, &["config.toml:1:", &format!("{what}, {said}")]);
        assert!(check.stdout.starts_with("webhooks are off: `enabled` is missing"), "{check:?}");
        let ran = sandbox.run(&EMIT);
        let why = format!(
            "nothing emitted: webhooks are off: `enabled` is missing under [spec_ops.webhooks] in {}",
            file.display()
        );
        assert_said(&ran, 0, &[&why, said]);
        let report: Value = serde_json::from_str(&sandbox.run(&["--json", "check"]).stdout).unwrap();
        assert_eq!((&report["ok"], &report["enabled"]), (&true.into(), &false.into()), "{report:#}");
    }
    // Whoever says it, says it: then there is nothing to warn of.
    config(&sandbox, &format!("[spec_ops.webhooks]\nenabled = false\n{list}"));
    let check = sandbox.run(&["check"]);
    assert!(check.code == 0 && check.stderr.is_empty(), "{check:?}");
    assert!(check.stdout.starts_with("webhooks are off: "), "{check:?}");
    assert!(check.stdout.contains("says enabled = false"), "{check:?}");
    config(&sandbox, &list);
    let on = Ran::from(sandbox.command(&["check"]).env("SPECKIT_WEBHOOKS_ENABLED", "1").output().unwrap());
    assert!(on.code == 0 && on.stderr.is_empty() && on.stdout.starts_with("webhooks are on\n"), "{on:?}");
    let off = sandbox.command(&EMIT).env("SPECKIT_WEBHOOKS_ENABLED", "0").output().unwrap();
    assert_said(&Ran::from(off), 0, &["SPECKIT_WEBHOOKS_ENABLED says so"]);
}

#[test]
fn without_a_config_file_it_is_said_where_it_was_looked_for() {
    let sandbox = Sandbox::new(&[]);
    fs::remove_dir_all(sandbox.path().join(".spec-kit")).unwrap();
    let files = [".spec-kit/config.toml", "home/.code/config.toml", "home/.codex/config.toml"];
    let files = files.map(|file| sandbox.path().join(file).display().to_string());
    let words =
        ["nothing emitted: webhooks are off: there is no config file", &files[0], &files[1], &files[2]];
    assert_said(&sandbox.run(&EMIT), 0, &words);
    let check = sandbox.run(&["check"]);
    assert_eq!(check.code, 0);
    assert!(check.stdout.starts_with("webhooks are off: there is no config file"), "{check:?}");
}

#[test]
fn a_chat_services_url_without_its_format_is_said_and_that_a_url_is_a_credential() {
    let sandbox = Sandbox::new(&[]).env("TEST_URL", "https://discord.com/api/webhooks/1/canary");
    for (line, format) in [
        ("url = \"https://hooks.slack.com/services/T0/B0/canary\"", "slack"),
        ("url = \"https://hooks.slack.com/triggers/T0/1/canary\"", "slack"),
        ("url = \"https://prod-1.eastus.logic.azure.com/workflows/canary?sig=canary\"", "teams"),
        ("url = \"https://x.1.environment.api.powerplatform.com/powerautomate/canary\"", "teams"),
        ("url = \"https://chat.example/hooks/canarycanarycanarycanary99\"", "mattermost"),
        ("url_env = \"TEST_URL\"", "discord"),
    ] {
        let entry = format!(
            "[spec_ops.webhooks]\nenabled = true\n[[spec_ops.webhooks.subscriptions]]\nid = \"one\"\n\
             {line}\nsecret_env = \"TEST_SECRET\"\n"
        );
        config(&sandbox, &entry);
        let ran = sandbox.run(&["check"]);
        let advice = format!("add format = \"{format}\"");
        assert_said(&ran, 0, &["does not understand the spec-kit payload", &advice]);
        assert_eq!(ran.stderr.contains("url_env = \"NAME\""), line.starts_with("url ="), "{ran:?}");
        assert!(!ran.stderr.contains("canary"), "{ran:?}");
        config(&sandbox, &format!("{entry}format = \"{format}\"\n"));
        let ran = sandbox.run(&["check"]);
        assert!(!ran.stderr.contains("does not understand"), "{ran:?}");
    }
}
