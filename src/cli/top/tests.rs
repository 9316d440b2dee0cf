//! Tests: the drawn screen of `top`, and the effect of its keys.

use jiff::{SignedDuration, Timestamp};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::{Value, json};

use super::model::{Input, Pane, View};
use super::*;
use crate::inspect::Listed;

fn now() -> Timestamp {
    "2025-10-14T10:00:00Z".parse().unwrap()
}

fn id(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

fn delivery(n: usize, state: &str, error: Option<&str>) -> Value {
    json!({
        "id": id(n), "subscription": if n.is_multiple_of(2) { "audit" } else { "chatops-slack" },
        "spec": "SPEC-KIT-065",
        "event": "spec-auto.stage.completed",
        "idempotency_key": format!("SPEC-KIT-065:validate:attempt-{n}:2025-10-14"),
        "state": state, "attempts": if error.is_some() { 3 } else { 0 },
        "last_status": null, "last_error": error,
        "accepted_at": now() - SignedDuration::from_secs(n as i64 * 100),
        "next_attempt_at": (state == "pending").then(|| now() + SignedDuration::from_secs(90)),
    })
}

fn tried(n: usize, status: Option<u16>) -> Value {
    let mut tried = json!({
        "time": now() - SignedDuration::from_secs(n as i64), "delivery": id(1),
        "subscription": "chatops-slack",
        "idempotency_key": "SPEC-KIT-065:validate:attempt-1:2025-10-14",
        "attempt": 3 - n, "latency_ms": 12.345,
        "outcome": "retry",
    });
    match status {
        Some(status) => {
            tried["response"] = json!({"status": status, "body": "upstream is\nbeing deployed\u{1b}[31m"})
        }
        None => {
            tried["error"] = json!({"class": "connection", "message": "cannot connect: connection refused"})
        }
    }
    tried
}

fn window(delivered: u64, failed: u64) -> Value {
    json!({"attempts": delivered + failed, "delivered": delivered, "failed": failed, "failures": {},
           "given_up": 0, "accepted": 0, "p50_ms": 12.0, "p95_ms": 40.0, "max_ms": 50.0,
           "first_bad_at": null, "last_good_at": null, "delivered_per_s": 0.0})
}

fn subscription(id: &str, health: &str, dead: usize) -> Value {
    let failed = if dead > 0 { 60 } else { 0 };
    let (ok, bad): (Vec<u64>, Vec<u64>) = (0..60).map(|n| (n % 3, if dead > 0 { n / 20 } else { 0 })).unzip();
    let hour = window(59, failed);
    json!({"id": id, "health": health, "pending": dead, "in_flight": 0, "dead_letters": dead,
           "unresolved": dead > 0, "consecutive_failures": dead, "since": (dead > 0).then(now),
           "failing_since": (dead > 0).then(now), "last_success_at": null,
           "last_error": (dead > 0).then_some("connection: cannot connect: connection refused"),
           "last_hint": "start it", "last_spec": "SPEC-KIT-065", "oldest_pending_at": null,
           "figures": {"minute": window(2, failed / 20), "ten_minutes": hour, "hour": hour, "day": hour,
                       "minutes": {"delivered": ok, "failed": bad}}})
}

fn trouble(kind: &str, what: &str, count: usize, whose: &[&str]) -> Value {
    json!({"kind": kind, "what": what, "count": count, "since": now(), "last": now(),
           "hint": "start the endpoint", "subscriptions": whose,
           "command": format!("spec-notify replay --all --subscription {}", whose[0])})
}

fn snapshot(status: Value, deliveries: Value) -> Snapshot {
    let attempts = json!([tried(0, None), tried(1, Some(503)), tried(2, Some(503))]);
    Snapshot {
        at: now(),
        status: serde_json::from_value(status).unwrap(),
        deliveries: serde_json::from_value(deliveries).unwrap(),
        attempts: serde_json::from_value(attempts).unwrap(),
        silent: None,
    }
}

const REFUSED: &str = "cannot connect: connection refused";

fn model() -> Model {
    let status = json!({
        "runtime": {"pid": 4711, "address": "127.0.0.1:40123", "version": "0.1.0", "uptime_s": 60},
        "subscriptions": [subscription("audit", "healthy", 0), subscription("chatops-slack", "failing", 2)],
        "troubles": [trouble("attempts", "status 503", 60, &["chatops-slack"]),
                     trouble("dead_letters", REFUSED, 1, &["chatops-slack"])],
        "pending": 2, "inbox": 0,
        "warnings": ["chatops-slack: 2 dead letters; spec-notify replay --all --subscription chatops-slack"],
    });
    let deliveries = json!([
        delivery(1, "dead_letter", Some(&format!("all 3 attempts failed; connection: {REFUSED}"))),
        delivery(3, "dead_letter", Some("the endpoint refused it with status 404")),
        delivery(0, "in_flight", None),
        delivery(2, "pending", Some("status 503")),
    ]);
    let mut model = Model::new();
    model.learn(snapshot(status, deliveries));
    model
}

/// Fifteen subscriptions, half of them failing, and more dead letters than are read.
fn crowd() -> Model {
    let healths = ["healthy", "open", "degraded", "failing", "paused"];
    let many: Vec<Value> = (0..15)
        .map(|n| subscription(&format!("team-{n:02}"), healths[n % 5], if n % 2 == 1 { 500 + n } else { 0 }))
        .collect();
    let names: Vec<String> = (0..15).map(|n| format!("team-{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let whats = ["status 500", REFUSED, "status 503", "no answer within 5000 ms", "status 401", "status 404"];
    let troubles: Vec<Value> = whats
        .iter()
        .enumerate()
        .map(|(n, what)| {
            let kind = if n % 2 == 0 { "attempts" } else { "dead_letters" };
            trouble(kind, what, 1000 * (6 - n), &names[n..=2 * n])
        })
        .collect();
    let status = json!({
        "runtime": {"pid": 4711, "address": "127.0.0.1:40123", "version": "0.1.0", "uptime_s": 60},
        "subscriptions": many, "troubles": troubles, "pending": 6000, "inbox": 0, "warnings": ["x"],
    });
    let deliveries =
        (0..200).map(|n| delivery(n, if n < 100 { "dead_letter" } else { "pending" }, Some("status 500")));
    let mut model = Model::new();
    model.learn(snapshot(status, deliveries.collect()));
    model
}

fn drawn(model: &Model, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| view::draw(model, now(), frame)).unwrap();
    terminal.backend().to_string()
}

fn press(model: &mut Model, keys: &str) -> Action {
    let mut action = Action::Nothing;
    for key in keys.split(' ') {
        let code = match key {
            "Enter" => KeyCode::Enter,
            "Esc" => KeyCode::Esc,
            "Tab" => KeyCode::Tab,
            "BackTab" => KeyCode::BackTab,
            "Down" => KeyCode::Down,
            "End" => KeyCode::End,
            "Back" => KeyCode::Backspace,
            other => KeyCode::Char(other.chars().next().unwrap()),
        };
        action = model.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
    action
}

fn is_panes(model: &Model) -> bool {
    matches!(model.view, View::Panes)
}

#[test]
fn it_fits_a_small_terminal_and_uses_a_large_one() {
    let mut down = model();
    insta::assert_snapshot!("down_80", drawn(&down, 80, 24));
    insta::assert_snapshot!("down_120", drawn(&down, 120, 40));
    insta::assert_snapshot!("crowd_80", drawn(&crowd(), 80, 24));
    insta::assert_snapshot!("crowd_160", drawn(&crowd(), 160, 50));
    insta::assert_snapshot!("asking_80", drawn(&Model::new(), 80, 24));
    down.trouble = Some("process 4711 owns the spool and does not answer".to_owned());
    assert!(drawn(&down, 80, 24).contains("as of 0s ago: process 4711 owns the spool and does not answer"));
    // Whole, also before anything was known.
    let mut none = Model::new();
    none.trouble = Some(format!("the cluster: no node is read-write: {} is a standby", "x".repeat(70)));
    none.view = View::Warnings;
    assert!(drawn(&none, 80, 24).contains("standby"), "{}", drawn(&none, 80, 24));
    let mut well = model();
    let snapshot = well.snapshot.as_mut().unwrap();
    snapshot.deliveries.clear();
    snapshot.attempts.clear();
    snapshot.status.subscriptions.truncate(1);
    snapshot.status.subscriptions[0] = serde_json::from_value(subscription("audit", "healthy", 0)).unwrap();
    snapshot.status.troubles.clear();
    snapshot.status.warnings.clear();
    snapshot.status.pending = 0;
    insta::assert_snapshot!("well_80", drawn(&well, 80, 24));
    for one in &mut well.snapshot.as_mut().unwrap().status.subscriptions {
        one.health = crate::delivery::HealthState::Untried;
    }
    let untried = drawn(&well, 80, 24);
    assert!(untried.contains("spec-notify: ready; nothing has been sent yet (process 4711)"), "{untried}");
    // Smaller than supported: cut, but no panic.
    for (width, height) in [(20, 5), (1, 1), (300, 2), (40, 12), (80, 9)] {
        drawn(&crowd(), width, height);
    }
}

#[test]
fn the_worst_is_first_and_a_pane_that_cuts_says_so() {
    let model = crowd();
    let names: Vec<&str> = model.subscriptions().iter().map(|one| one.id.as_str()).collect();
    let dead: Vec<usize> = model.subscriptions().iter().map(|one| one.dead_letters).collect();
    assert_eq!(names[..3], ["team-01", "team-11", "team-06"], "open ones, then failing, then degraded");
    assert!(dead[..8].iter().filter(|count| **count > 0).count() >= 6, "{dead:?}");
    let kinds: Vec<String> =
        model.causes().iter().map(|cause| format!("{} {}", cause.kind, cause.count)).collect();
    assert_eq!(kinds[..3], ["dead_letters 5000", "dead_letters 3000", "dead_letters 1000"]);
    let shown = drawn(&model, 80, 24);
    for title in ["(5 of 15)", "(3 of 6)", "3,549 dead, 6,000 wait (4 of 9,549)", "(2 of 3)"] {
        assert!(shown.contains(title), "{title}: {shown}");
    }
    let shown = drawn(&model, 160, 50);
    assert!(shown.contains("the worst first (15)") && shown.contains("What fails (6)"), "{shown}");
}

#[test]
fn the_selection_stays_on_what_it_is_on_when_rows_move() {
    let mut model = model();
    press(&mut model, "Down");
    let on = |model: &Model| model.deliveries()[model.selected(Pane::Deliveries).unwrap()].id.to_string();
    assert_eq!(on(&model), id(3));
    let mut next = model.snapshot.clone().unwrap();
    let new: Listed = serde_json::from_value(delivery(5, "dead_letter", Some("status 500"))).unwrap();
    next.deliveries.insert(0, new);
    model.learn(next);
    assert_eq!(on(&model), id(3));
    assert_eq!(model.selected(Pane::Deliveries), Some(2));
}

#[test]
fn what_is_selected_opens_and_esc_closes_it_and_quits_only_at_the_top() {
    let mut model = model();
    assert_eq!(
        press(&mut model, "Enter"),
        Action::Open("SPEC-KIT-065".parse().unwrap(), id(1).parse().unwrap())
    );
    assert!(drawn(&model, 80, 24).contains("reading its attempts"));
    let shown = json!({
        "delivery": delivery(1, "dead_letter", Some(&format!("connection: {REFUSED}"))),
        "stage": "Validate", "status": "failure", "format": "spec-kit", "ended_at": now(), "user": null,
        "waits": [], "command": format!("spec-notify replay {}", id(1)), "earlier": 0,
        "attempts": [{"attempt": 1, "time": now(), "replay": false, "latency_ms": 1.0, "resent": false,
                      "response": {"status": 503, "headers": {}, "body": "being\ndeployed\u{1b}[31m"},
                      "outcome": "failed"}],
    });
    let shown: Shown = serde_json::from_value(shown).unwrap();
    model.opened(id(2).parse().unwrap(), None);
    model.opened(id(1).parse().unwrap(), Some(shown));
    let screen = drawn(&model, 80, 24);
    assert!(!screen.contains('\u{1b}'), "what an endpoint says is made printable");
    insta::assert_snapshot!("delivery_80", screen);
    press(&mut model, "Down Down");
    assert!(!drawn(&model, 80, 24).contains(&format!("delivery  {}", id(1))), "scrolled away");
    press(&mut model, "End");
    assert!(drawn(&model, 80, 24).contains("R all that failed alike"), "something stays");
    assert_eq!((press(&mut model, "Esc"), is_panes(&model)), (Action::Nothing, true));
    press(&mut model, "Tab Tab Enter");
    insta::assert_snapshot!("subscription_80", drawn(&model, 80, 24));
    press(&mut model, "Esc Tab Enter");
    insta::assert_snapshot!("cause_80", drawn(&model, 80, 24));
    press(&mut model, "? ?");
    assert!(is_panes(&model), "? toggles");
    press(&mut model, "?");
    insta::assert_snapshot!("help_80", drawn(&model, 80, 24));
    press(&mut model, "w");
    assert!(drawn(&model, 80, 24).contains("2 dead letters; spec-notify replay --all"));
    press(&mut model, "Esc / x Enter");
    assert_eq!((press(&mut model, "Esc"), &*model.filter), (Action::Refresh, ""));
    assert_eq!(press(&mut model, "Esc"), Action::Quit);
    assert_eq!(press(&mut model, "q"), Action::Quit);
    let with_control = |key| KeyEvent::new(KeyCode::Char(key), KeyModifiers::CONTROL);
    assert_eq!(model.press(with_control('c')), Action::Quit);
    assert_eq!(model.press(with_control('z')), Action::Suspend);
}

#[test]
fn only_a_dead_letter_is_replayed_and_only_after_a_yes() {
    let mut model = model();
    // Dead letters come first.
    press(&mut model, "Down r");
    assert!(drawn(&model, 80, 24).contains(&format!("replay {}? y/n", id(3))));
    assert_eq!(press(&mut model, "n"), Action::Nothing);
    assert_eq!(
        press(&mut model, "r y"),
        Action::Replay("SPEC-KIT-065".parse().unwrap(), id(3).parse().unwrap())
    );
    press(&mut model, "End r");
    assert_eq!(model.input, Input::Keys);
    assert!(model.note.contains("only a dead letter can be replayed"), "{}", model.note);
    // An attempt leads to its delivery.
    press(&mut model, "Tab Enter r");
    assert_eq!(model.input, Input::Confirm("SPEC-KIT-065".parse().unwrap(), id(1).parse().unwrap()));
}

#[test]
fn all_of_a_cause_are_replayed_after_a_yes_and_esc_stops_it() {
    let mut model = model();
    let letters = model.causes()[0].clone();
    assert_eq!(letters.count, 1);
    // That of the selected dead letter.
    press(&mut model, "R");
    let asked = "replay 1 dead letter of chatops-slack (cannot connect: connection refused)? y/n";
    assert!(drawn(&model, 80, 24).contains(asked), "{}", drawn(&model, 80, 24));
    assert_eq!(press(&mut model, "n R y"), Action::ReplayAll(Box::new(letters)));
    model.note.clear();
    model.replaying = Some("replaying 1 of 9, 0 failed (Esc stops)".to_owned());
    assert!(drawn(&model, 80, 24).contains("replaying 1 of 9"));
    assert_eq!(press(&mut model, "R"), Action::Nothing);
    assert_eq!(model.input, Input::Keys);
    assert_eq!(press(&mut model, "Esc"), Action::StopReplaying);
    model.replaying = None;
    // The other dead letter failed in another way, of which no cause tells.
    press(&mut model, "Down R");
    assert_eq!(model.input, Input::Keys);
    // What is tried again by itself is not replayed.
    press(&mut model, "BackTab Down R");
    assert_eq!((&model.input, model.pane), (&Input::Keys, Pane::Causes));
    assert!(model.note.contains("tried again by themselves"), "{}", model.note);
}

#[test]
fn the_filter_narrows_every_pane_and_the_selection_stays_within() {
    let mut model = model();
    press(&mut model, "End / A u x Back d i t Enter");
    assert_eq!(model.deliveries().len(), 2, "audit, whatever its case");
    assert_eq!((model.subscriptions().len(), model.causes().len()), (1, 0));
    assert_eq!(model.selected(Pane::Deliveries), Some(1));
    assert_eq!(model.wanted().subscription.unwrap().as_str(), "audit", "all that it has is asked for");
    press(&mut model, "/ z z");
    assert_eq!((model.deliveries().len(), model.selected(Pane::Deliveries)), (0, None));
    assert!(drawn(&model, 80, 24).contains("none of the newest matches"));
    assert_eq!(press(&mut model, "Esc Enter r"), Action::Nothing);
    assert_eq!((model.deliveries().len(), model.wanted().subscription), (4, None));
    assert_eq!(press(&mut model, "Esc a"), Action::Refresh);
    assert!(model.wanted().all);
}
