//! Tests: the drawn screen of `top`, and the effect of its keys.

use jiff::{SignedDuration, Timestamp};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::json;

use super::model::{Input, Pane, View};
use super::*;

fn now() -> Timestamp {
    "2025-10-14T10:00:00Z".parse().unwrap()
}

fn id(n: usize) -> String {
    format!("00000000-0000-4000-8000-{n:012}")
}

fn delivery(n: usize, state: &str, error: Option<&str>) -> serde_json::Value {
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

fn tried(n: usize, status: Option<u16>) -> serde_json::Value {
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

fn model() -> Model {
    let subscription = |id: &str, health: &str, dead: usize| {
        json!({"id": id, "health": health, "pending": dead, "in_flight": 0, "dead_letters": dead,
               "consecutive_failures": dead, "since": (dead > 0).then(now),
               "failing_since": (dead > 0).then(now), "last_success_at": null,
               "last_error": null, "oldest_pending_at": null})
    };
    let status = json!({
        "runtime": {"pid": 4711, "address": "127.0.0.1:40123", "version": "0.1.0", "uptime_s": 60},
        "subscriptions": [subscription("audit", "healthy", 0), subscription("chatops-slack", "failing", 2)],
        "pending": 2, "inbox": 0,
        "warnings": ["chatops-slack: 2 dead letters; spec-notify replay --all --subscription chatops-slack"],
    });
    let deliveries = json!([
        delivery(0, "in_flight", None),
        delivery(
            1,
            "dead_letter",
            Some("all 3 attempts failed; connection: cannot connect: connection refused")
        ),
        delivery(2, "pending", Some("status 503")),
        delivery(3, "dead_letter", Some("the endpoint refused it with status 404")),
    ]);
    let attempts = json!([tried(0, None), tried(1, Some(503)), tried(2, Some(503))]);
    let mut model = Model::new();
    model.learn(Snapshot {
        at: now(),
        status: serde_json::from_value(status).unwrap(),
        deliveries: serde_json::from_value(deliveries).unwrap(),
        attempts: serde_json::from_value(attempts).unwrap(),
        silent: None,
    });
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
            "Down" => KeyCode::Down,
            "End" => KeyCode::End,
            "Back" => KeyCode::Backspace,
            other => KeyCode::Char(other.chars().next().unwrap()),
        };
        action = model.press(KeyEvent::new(code, KeyModifiers::NONE));
    }
    action
}

#[test]
fn it_fits_a_small_terminal_and_uses_a_large_one() {
    let mut down = model();
    insta::assert_snapshot!("down_80", drawn(&down, 80, 24));
    insta::assert_snapshot!("down_120", drawn(&down, 120, 40));
    insta::assert_snapshot!("asking_80", drawn(&Model::new(), 80, 24));
    down.trouble = Some("process 4711 owns the spool and does not answer".to_owned());
    assert!(drawn(&down, 80, 24).contains("as of 0s ago: process 4711 owns the spool and does not answer"));
    let mut well = model();
    let snapshot = well.snapshot.as_mut().unwrap();
    snapshot.deliveries.clear();
    snapshot.attempts.clear();
    snapshot.status.subscriptions.truncate(1);
    snapshot.status.warnings.clear();
    snapshot.status.pending = 0;
    insta::assert_snapshot!("well_80", drawn(&well, 80, 24));
    // Smaller than supported: cut, but no panic.
    drawn(&down, 20, 5);
    drawn(&down, 1, 1);
}

#[test]
fn a_delivery_opens_with_all_its_attempts() {
    let mut model = model();
    assert_eq!(
        press(&mut model, "Enter"),
        Action::Open("SPEC-KIT-065".parse().unwrap(), id(1).parse().unwrap())
    );
    assert!(drawn(&model, 80, 24).contains("reading its attempts"));
    let attempts = model.snapshot.as_ref().unwrap().attempts.clone();
    model.opened(id(2).parse().unwrap(), vec![]);
    model.opened(id(1).parse().unwrap(), attempts);
    let shown = drawn(&model, 80, 24);
    assert!(!shown.contains('\u{1b}'), "what an endpoint says is made printable");
    insta::assert_snapshot!("delivery_80", shown);
    press(&mut model, "Down Down");
    assert!(!drawn(&model, 80, 24).contains(&format!("{}  dead_letter", id(1))), "scrolled away");
    press(&mut model, "End");
    assert!(drawn(&model, 80, 24).contains("being deployed"), "something stays");
    assert_eq!(press(&mut model, "Esc"), Action::Nothing);
    assert_eq!(model.view, View::Panes);
    press(&mut model, "?");
    insta::assert_snapshot!("help_80", drawn(&model, 80, 24));
    press(&mut model, "w");
    assert!(drawn(&model, 80, 24).contains("2 dead letters; spec-notify replay --all"));
    assert_eq!(press(&mut model, "Esc Esc"), Action::Quit);
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
fn the_filter_narrows_and_the_selection_stays_within() {
    let mut model = model();
    press(&mut model, "End / A u x Back d i t Enter");
    assert_eq!(model.deliveries().len(), 2, "audit, whatever its case");
    assert_eq!(model.selected(Pane::Deliveries), Some(1));
    press(&mut model, "/ z z");
    assert_eq!((model.deliveries().len(), model.selected(Pane::Deliveries)), (0, None));
    assert_eq!(press(&mut model, "Esc Enter r"), Action::Nothing);
    assert_eq!(model.deliveries().len(), 4);
    assert_eq!(press(&mut model, "a"), Action::Refresh);
    assert_eq!(press(&mut model, "q"), Action::Quit);
    assert_eq!(model.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Action::Quit);
}
