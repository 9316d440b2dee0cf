//! Giving deliveries up for good: what a person confirmed does not come back, and nothing else
//! goes.

use std::fs;
use std::process::Stdio;
use std::thread;

use serde_json::{Value, json};

use crate::harness::{Answer, Endpoint, Sandbox, Terminal, wait_for, wait_for_end};

const ONCE: &str = "max_attempts = 1";

fn json_of(sandbox: &Sandbox, code: i32, arguments: &[&str]) -> Value {
    let ran = sandbox.run(&[&["--json"], arguments].concat());
    assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
    serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {ran:?}"))
}

fn ids(rows: &Value) -> Vec<String> {
    rows.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
}

/// The finals of this state in the evidence.
fn finals(sandbox: &Sandbox, state: &str) -> Vec<Value> {
    let lines = sandbox.evidence("SPEC-1").into_iter();
    lines.filter(|line| line["record"] == "final" && line["state"] == state).collect()
}

/// Switches the subscription off, or on again.
fn switch(sandbox: &Sandbox, from: &str, to: &str) {
    let config = sandbox.path().join(".spec-kit/config.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&config, text.replace(from, to)).unwrap();
}

#[test]
fn dead_letters_are_given_up_for_good_with_and_without_a_runtime() {
    let dead = Endpoint::down();
    let sandbox = Sandbox::new(&[("one", &dead.url(), ONCE), ("two", &dead.url(), ONCE)]);
    assert!(sandbox.run(&["discard", "--all", "--yes"]).stderr.contains("nothing to discard"));
    let serve = sandbox.serve();
    for n in 0..3 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    sandbox.wait_for_finals("SPEC-1", 6);
    let letters = ids(&json_of(&sandbox, 0, &["list", "--state", "dead_letter"]));

    let slip = sandbox.run(&["discard", "--all", "--subscription", "slip", "--yes"]);
    assert!(slip.code == 1 && slip.stderr.contains("no subscription `slip`"), "{slip:?}");
    let unasked = sandbox.run(&["discard", "--all"]);
    assert!(unasked.code == 2 && unasked.stderr.contains("--yes"), "{unasked:?}");
    let none = sandbox.run(&["discard", "00000000-0000", "--yes"]);
    assert!(none.code == 1 && none.stderr.contains("begins with 00000000-0000"), "{none:?}");

    let start = &letters[0][..13];
    let gone = json_of(&sandbox, 0, &["discard", start, "--yes"]);
    assert_eq!((ids(&gone), &gone[0]["outcome"]), (vec![letters[0].clone()], &json!("discarded")));
    let line = &finals(&sandbox, "discarded")[0];
    assert!(line["delivery"] == letters[0].as_str() && line["user"].is_string(), "{line}");
    assert_eq!(line["reason"]["kind"], "exhausted", "why it had been given up stays");
    let gone = json_of(&sandbox, 0, &["discard", "--all", "--subscription", "two", "--yes"]);
    assert!(gone.as_array().unwrap().len() >= 2, "{gone}");
    serve.kill();
    let left = ids(&json_of(&sandbox, 0, &["list", "--state", "dead_letter"]));
    let gone = ids(&json_of(&sandbox, 0, &["discard", "--all", "--yes"]));
    assert_eq!(gone, left);
    let _serve = sandbox.serve();
    assert_eq!(ids(&json_of(&sandbox, 0, &["list", "--state", "discarded"])).len(), 6);
    assert_eq!(finals(&sandbox, "discarded").len(), 6);
    assert!(sandbox.dead_letters("SPEC-1").is_empty());
    assert_eq!(json_of(&sandbox, 0, &["discard", "--all", "--yes"]), json!([]));
}

#[test]
fn what_waits_for_a_retired_subscription_goes_and_for_an_active_one_stays() {
    let dead = Endpoint::down();
    let often = "initial_backoff_ms = 3600000\nmax_backoff_ms = 3600000";
    let retired = format!("{often}\nactive = true # of one");
    let sandbox = Sandbox::new(&[("one", &dead.url(), &retired), ("two", &dead.url(), often)]);
    let serve = sandbox.serve();
    for n in 0..3 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    let pending = |subscription: &str| {
        ids(&json_of(&sandbox, 0, &["list", "--state", "pending", "--subscription", subscription]))
    };
    wait_for("a first attempt of each", || {
        let rows = json_of(&sandbox, 0, &["list", "--state", "pending"]);
        rows.as_array().unwrap().iter().all(|row| row["attempts"] == 1).then_some(())
    });
    let (one, two) = (pending("one"), pending("two"));
    // Active: nothing may go, by name or all.
    let refused = json_of(&sandbox, 1, &["discard", &one[0], "--yes"]);
    assert_eq!(refused[0]["outcome"], "refused");
    assert!(refused[0]["error"].as_str().unwrap().contains("active subscription one"), "{refused}");
    assert_eq!(json_of(&sandbox, 0, &["discard", "--all", "--yes"]), json!([]));

    switch(&sandbox, "active = true # of one", "active = false # of one");
    assert_eq!(sandbox.run(&["reload"]).code, 0);
    assert_eq!(ids(&json_of(&sandbox, 0, &["discard", &one[0][..18], "--yes"])), [one[0].clone()]);
    serve.kill();
    // Killed right after the answer, it stays gone; without a runtime the same rules count.
    assert_eq!(pending("one"), one[1..]);
    assert_eq!(json_of(&sandbox, 1, &["discard", &two[0], "--yes"])[0]["outcome"], "refused");
    assert_eq!(ids(&json_of(&sandbox, 0, &["discard", &one[1], "--yes"])), [one[1].clone()]);
    let serve = sandbox.serve();
    assert_eq!(ids(&json_of(&sandbox, 0, &["discard", "--all", "--yes"])), [one[2].clone()]);
    serve.kill();
    // Back again, there is nothing to go on with.
    switch(&sandbox, "active = false # of one", "active = true # of one");
    dead.repair([200]);
    let endpoint = dead;
    let _serve = sandbox.serve();
    assert_eq!(json_of(&sandbox, 1, &["list", "--subscription", "one", "--state", "pending"]), json!([]));
    assert_eq!(pending("two"), two);
    assert_eq!((endpoint.requests().len(), finals(&sandbox, "discarded").len()), (0, 3));
    assert_eq!(finals(&sandbox, "discarded")[0]["attempts"], 1);
}

#[test]
fn a_person_is_asked_and_no_is_no() {
    let dead = Endpoint::down();
    let sandbox = Sandbox::new(&[("one", &dead.url(), ONCE)]);
    let _serve = sandbox.serve();
    sandbox.emit("SPEC-1", "Plan", "k1");
    sandbox.wait_for_finals("SPEC-1", 1);
    for (answer, code, left) in [("\n", 1, 1), ("no\n", 1, 1), ("y\n", 0, 0)] {
        let mut terminal = Terminal::open();
        let mut discard = terminal.start(&mut sandbox.command(&["discard", "--all"]));
        terminal.wait_for_text("Discard 1 delivery for good?");
        assert!(terminal.shown().contains("dead_letter"), "{}", terminal.shown());
        terminal.type_in(answer);
        assert_eq!(wait_for_end("discard", &mut discard), Some(code));
        assert_eq!(sandbox.dead_letters("SPEC-1").len(), left, "{answer:?}");
    }
}

/// A replay that fails writes its letter anew: not that of one that was discarded meanwhile.
#[test]
fn a_letter_that_is_discarded_while_its_replay_is_under_way_does_not_come_back() {
    let endpoint = Endpoint::answering([Answer::status(404), Answer::hang()]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "per_request_timeout_ms = 2000")]);
    let _serve = sandbox.serve();
    let id = sandbox.emit("SPEC-1", "Plan", "k1")["deliveries"][0]["id"].as_str().unwrap().to_owned();
    sandbox.wait_for_finals("SPEC-1", 1);
    thread::scope(|scope| {
        let replaying = scope.spawn(|| sandbox.run(&["replay", "SPEC-1", "--delivery-id", &id]));
        endpoint.wait_for(2);
        json_of(&sandbox, 0, &["discard", &id, "--yes"]);
        // Its deadline passes.
        assert_eq!(replaying.join().unwrap().code, 1);
    });
    assert!(sandbox.dead_letters("SPEC-1").is_empty());
    assert_eq!(json_of(&sandbox, 0, &["list"])[0]["state"], "discarded");
}

/// Of two replays of one letter the later answer would decide, whatever the earlier was.
#[test]
fn a_letter_is_sent_again_by_one_replay_at_a_time() {
    let held = Answer::status(500).held();
    let endpoint = Endpoint::answering([Answer::status(404), held, Answer::status(200)]);
    let sandbox = Sandbox::new(&[("one", &endpoint.url(), "per_request_timeout_ms = 30000")]);
    let _serve = sandbox.serve();
    let id = sandbox.emit("SPEC-1", "Plan", "k1")["deliveries"][0]["id"].as_str().unwrap().to_owned();
    sandbox.wait_for_finals("SPEC-1", 1);
    thread::scope(|scope| {
        let replaying = scope.spawn(|| sandbox.run(&["replay", &id]));
        endpoint.wait_for(2);
        let second = sandbox.run(&["replay", &id]);
        assert!(second.code == 1 && second.stderr.contains("is being sent again already"), "{second:?}");
        // The first fails then, and the letter stays.
        endpoint.release();
        assert_eq!(replaying.join().unwrap().code, 1);
    });
    assert_eq!(sandbox.dead_letters("SPEC-1").len(), 1);
    assert_eq!(sandbox.run(&["replay", &id]).code, 0);
    assert!(sandbox.dead_letters("SPEC-1").is_empty());
    assert_eq!(endpoint.requests().len(), 3);
}

/// Kills at any moment: what was confirmed is gone, what was not is there or gone, and all of it
/// is told.
#[test]
fn kills_in_the_middle_bring_nothing_back_and_lose_nothing_else() {
    let dead = Endpoint::down();
    let sandbox = Sandbox::new(&[("one", &dead.url(), ONCE), ("two", &dead.url(), ONCE)]);
    let serve = sandbox.serve();
    for n in 0..40 {
        sandbox.emit("SPEC-1", "Plan", &format!("k{n}"));
    }
    sandbox.wait_for_finals("SPEC-1", 80);
    let (one, two) = ("one", "two");
    let of = |subscription: &str| {
        let found = ["list", "--limit", "500", "--state", "dead_letter", "--subscription", subscription];
        let ran = sandbox.run(&[&["--json"], &found[..]].concat());
        ids(&serde_json::from_str(&ran.stdout).unwrap())
    };
    let kept = of(two);
    let mut serve = Some(serve);
    let mut confirmed: Vec<String> = Vec::new();
    for round in 0.. {
        let left = of(one);
        if left.is_empty() {
            break;
        }
        let mut discarding =
            sandbox.command(&["--json", "discard", "--yes", &left[0]]).stdout(Stdio::null()).spawn().unwrap();
        // Sooner and sooner after it began.
        thread::park_timeout(std::time::Duration::from_millis(40 - (round * 3 % 41)));
        serve.take().unwrap().kill();
        if discarding.wait().unwrap().code() == Some(0) {
            confirmed.push(left[0].clone());
        }
        serve = Some(sandbox.serve());
        let now = of(one);
        assert!(confirmed.iter().all(|id| !now.contains(id)), "{confirmed:?} {now:?}");
        assert_eq!(of(two), kept);
        let told = finals(&sandbox, "discarded");
        assert!(confirmed.iter().all(|id| told.iter().any(|line| line["delivery"] == id.as_str())));
        if round == 12 {
            json_of(&sandbox, 0, &["discard", "--all", "--subscription", one, "--yes"]);
        }
    }
}
