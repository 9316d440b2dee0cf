//! What runs of every shape tell, and that it does not matter in which pieces their logs are read.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::{Event, EventKind, SpecId};

const NOTICE: Duration = Duration::from_secs(5);

fn at(second: i64) -> Timestamp {
    let start: Timestamp = "2026-11-28T09:30:00Z".parse().unwrap();
    start.checked_add(SignedDuration::from_secs(second)).unwrap()
}

/// One line a second, from words: `started plan command`, `completed plan failed`, `failed plan:
/// why`, `continued plan: why`, `aborted gate: why`, `interrupted`, `finished paused`, `broken:
/// why`.
/// A step in a workflow that is called is written with its path: `ask@[2,"workflow",0]`.
fn log(lines: &[&str]) -> String {
    let line = |(second, words): (i64, &&str)| {
        let (words, error) = words.split_once(": ").map_or((*words, None), |(words, why)| (words, Some(why)));
        let mut words = words.split(' ');
        let (what, step, how) = (words.next().unwrap(), words.next().unwrap_or_default(), words.next());
        let (id, path) = step.split_once('@').map_or((step, None), |(id, path)| (id, Some(path)));
        let mut line = match what {
            "started" => json!({"event": "step_started", "step_id": id, "type": how}),
            "completed" => json!({"event": "step_completed", "step_id": id, "status": how}),
            "failed" => json!({"event": "step_failed", "step_id": id, "error": error}),
            "continued" => json!({"event": "step_continue_on_error", "step_id": id, "error": error}),
            "aborted" => json!({"event": "workflow_aborted", "step_id": id, "error": error}),
            "interrupted" => json!({"event": "workflow_interrupted"}),
            "finished" => json!({"event": "workflow_finished", "status": step}),
            "broken" => json!({"event": "workflow_failed", "error": error}),
            other => panic!("{other}"),
        };
        if let Some(path) = path {
            line["execution_path"] = serde_json::from_str(path).unwrap();
            line["workflow_id"] = "inner".into();
        }
        line["timestamp"] = at(second).to_string().replace('Z', "+00:00").into();
        format!("{line}\n")
    };
    (0..).zip(lines).map(line).collect()
}

const WORKFLOW: &str = "\
workflow:
  id: speckit
steps:
- {id: specify, command: speckit.specify}
- {id: ask, type: gate, message: Is the spec right?, options: [approve, reject]}
- {id: plan, command: speckit.plan}
- id: loop
  type: while
  steps:
  - {id: implement, command: speckit.implement}
- {id: each, type: fan-out, step: {id: one, command: speckit.analyze}}
- {id: sh, type: shell, run: ls}
";

const SHELL: &str = "\
workflow:
  id: shell-demo
steps:
- {id: specify, type: shell, run: ls}
- {id: ask, type: gate, message: Review the spec}
- {id: implement, type: shell, run: ls}
";

fn facts(workflow: &str, state: &Value) -> Facts {
    let mut facts = Facts::default();
    facts.read_workflow(workflow.as_bytes());
    facts.read_state(state.to_string().as_bytes());
    facts
}

fn spec_now() -> Option<SpecId> {
    Some("002-kanban".parse().unwrap())
}

/// Reads what is there; whether it was replaced.
fn read(log: &mut Log, text: &[u8], facts: &Facts, now: Timestamp, events: &mut Vec<Event>) -> bool {
    let world = World { facts, spec_now: &spec_now, is_final: true, is_fresh: true, now };
    loop {
        let position = usize::try_from(log.position()).unwrap();
        match log.next(&text[position.min(text.len())..], &world) {
            Next::Taken(told) => events.extend(told),
            Next::Torn => break,
            Next::Replaced => return true,
            Next::Wants => panic!("it is final"),
        }
    }
    events.extend(log.due(NOTICE, &world));
    false
}

/// A run of the repo's root.
fn name(id: &str) -> Name {
    Name { id: id.to_owned(), folder: String::new() }
}

/// What a whole log tells when it is read at its end, `later` seconds after its last line.
fn told(lines: &[&str], facts: &Facts, later: i64) -> Vec<Event> {
    let (mut events, text) = (Vec::new(), log(lines));
    let now = at(lines.len() as i64 - 1 + later);
    read(&mut Log::new(name("6f9a3c73"), None, None), text.as_bytes(), facts, now, &mut events);
    events
}

fn in_words(events: &[Event]) -> Vec<String> {
    let words = |event: &Event| {
        let envelope = &event.event;
        let status = envelope.status.map(|status| status.to_string()).unwrap_or_default();
        format!("{} {status} {}", envelope.idempotency_key, envelope.reasons.join("; ")).trim_end().to_owned()
    };
    events.iter().map(words).collect()
}

#[test]
fn every_shape_of_a_run_tells_its_stages_its_gates_and_its_end() {
    let with_stages = facts(WORKFLOW, &Value::Null);
    let shell = facts(SHELL, &Value::Null);
    let waits = "halt the run waits for a person at gate ask";
    for (name, facts, lines, expected) in [
        (
            "the built-in workflow, its gate answered at once",
            &with_stages,
            &[
                "started specify command",
                "completed specify completed",
                "started ask gate",
                "completed ask completed",
                "started plan command",
                "completed plan completed",
                "finished completed",
            ][..],
            &[
                "002-kanban:specify:attempt-1:6f9a3c73 success",
                "002-kanban:plan:attempt-1:6f9a3c73 success",
                "002-kanban:pipeline:attempt-1:6f9a3c73 success",
            ][..],
        ),
        (
            "shell steps, paused at a gate, resumed",
            &shell,
            &[
                "started specify shell",
                "completed specify completed",
                "started ask gate",
                "completed ask paused",
                "finished paused",
                "started ask gate",
                "completed ask completed",
                "finished completed",
            ],
            &[
                &format!("002-kanban:gate-ask-1:6f9a3c73 {waits}"),
                "002-kanban:pipeline:attempt-1:6f9a3c73 success",
            ],
        ),
        (
            "paused once more",
            &shell,
            &[
                "started ask gate",
                "completed ask paused",
                "finished paused",
                "started ask gate",
                "completed ask paused",
            ],
            &[
                &format!("002-kanban:gate-ask-1:6f9a3c73 {waits}"),
                &format!("002-kanban:gate-ask-2:6f9a3c73 {waits}"),
            ],
        ),
        (
            "a shell step fails the run, which is resumed and fails again",
            &shell,
            &[
                "started implement shell",
                "completed implement failed",
                "failed implement: Shell exited with 1.",
                "finished failed",
                "started implement shell",
                "completed implement failed",
                "failed implement: Once more.",
                "finished failed",
            ],
            &[
                "002-kanban:pipeline:attempt-1:6f9a3c73 failure step implement: Shell exited with 1.",
                "002-kanban:pipeline:attempt-2:6f9a3c73 failure step implement: Once more.",
            ],
        ),
        (
            "the gate is rejected",
            &shell,
            &["started ask gate", "completed ask failed", "aborted ask: Gate rejected", "finished aborted"],
            &["002-kanban:pipeline:attempt-1:6f9a3c73 halt step ask: Gate rejected"],
        ),
        (
            "a rejection by a version that gives no error",
            &shell,
            &["started ask gate", "completed ask failed", "aborted ask", "finished aborted"],
            &["002-kanban:pipeline:attempt-1:6f9a3c73 halt step ask: a person rejected it"],
        ),
        (
            "continue_on_error, a branch, a fan-out and a fan-in",
            &shell,
            &[
                "started flaky shell",
                "completed flaky failed",
                "continued flaky: exited with 3",
                "started branch if",
                "completed branch completed",
                "started repair shell",
                "completed repair completed",
                "started each fan-out",
                "completed each completed",
                "started each:one:0 shell",
                "started each:one:1 shell",
                "completed each:one:1 completed",
                "completed each:one:0 completed",
                "started join fan-in",
                "completed join completed",
                "finished completed",
            ],
            &["002-kanban:pipeline:attempt-1:6f9a3c73 success"],
        ),
        (
            "a stage that fails and does not fail the run, and one that runs in a loop",
            &with_stages,
            &[
                "started specify command",
                "completed specify completed",
                "started plan command",
                "completed plan failed",
                "continued plan: no room",
                "started loop while",
                "completed loop completed",
                "started implement command",
                "completed implement failed",
                "continued implement: red",
                "started loop:implement:1 command",
                "completed loop:implement:1 completed",
                "finished completed",
            ],
            &[
                "002-kanban:specify:attempt-1:6f9a3c73 success",
                "002-kanban:plan:attempt-1:6f9a3c73 failure no room",
                "002-kanban:implement:attempt-1:6f9a3c73 failure red",
                "002-kanban:implement:attempt-2:6f9a3c73 success",
                "002-kanban:pipeline:attempt-1:6f9a3c73 success",
            ],
        ),
        (
            "a stage in a fan-out whose lines are mixed",
            &with_stages,
            &[
                "started each fan-out",
                "completed each completed",
                "started each:one:0 command",
                "started each:one:1 command",
                "completed each:one:1 failed",
                "completed each:one:0 completed",
                "failed each:one:1: boom",
                "finished failed",
            ],
            &[
                "run-6f9a3c73:analyze:attempt-1:6f9a3c73 success",
                "run-6f9a3c73:analyze:attempt-2:6f9a3c73 failure boom",
                "run-6f9a3c73:pipeline:attempt-1:6f9a3c73 failure step each:one:1: boom",
            ],
        ),
        (
            "interrupted, and resumed",
            &with_stages,
            &[
                "started specify command",
                "completed specify completed",
                "started plan command",
                "interrupted",
                "started plan command",
                "completed plan completed",
                "finished completed",
            ],
            &[
                "002-kanban:specify:attempt-1:6f9a3c73 success",
                "002-kanban:interrupted-1:6f9a3c73 halt the run was interrupted, and waits to be resumed",
                "002-kanban:plan:attempt-1:6f9a3c73 success",
                "002-kanban:pipeline:attempt-1:6f9a3c73 success",
            ],
        ),
        (
            "the engine fails",
            &shell,
            &["started specify shell", "broken: no space left"],
            &["002-kanban:pipeline:attempt-1:6f9a3c73 failure no space left"],
        ),
        (
            "a step of its own pauses the run",
            &shell,
            &["started own custom", "completed own paused", "finished paused"],
            &["002-kanban:interrupted-1:6f9a3c73 halt the run is paused, and waits to be resumed"],
        ),
        (
            "a gate before the SPEC is made, and a specify that fails without making one",
            &with_stages,
            &[
                "started ask gate",
                "completed ask paused",
                "finished paused",
                "started specify command",
                "completed specify failed",
                "failed specify: no agent",
                "finished failed",
            ],
            &[
                &format!("run-6f9a3c73:gate-ask-1:6f9a3c73 {waits}"),
                "run-6f9a3c73:specify:attempt-1:6f9a3c73 failure no agent",
                "run-6f9a3c73:pipeline:attempt-1:6f9a3c73 failure step specify: no agent",
            ],
        ),
        (
            "a step of no known kind",
            &shell,
            &["started x new", "failed x: Unknown step type: 'new'", "finished failed"],
            &["002-kanban:pipeline:attempt-1:6f9a3c73 failure step x: Unknown step type: 'new'"],
        ),
        ("killed in the middle", &with_stages, &["started specify command"], &[]),
    ] {
        assert_eq!(in_words(&told(lines, facts, 3600)), expected, "{name}");
    }
}

#[test]
fn a_workflow_that_calls_another_one_tells_of_its_steps_once() {
    let definition =
        "steps:\n- {id: plan, command: speckit.tasks}\n- {id: ask, type: gate, message: Go on?}\n";
    let state = json!({"execution": {"sequence": {"nodes": [{"binding": {"definition": definition},
        "children": [{"nodes": [{}, {"result": {"error": "boom"}}]}]}]}}});
    let facts =
        facts("workflow: {id: outer}\nsteps:\n- {id: plan, type: workflow, workflow: inner}\n", &state);
    let inner = r#"plan@[0,"workflow",0]"#;
    let ask = r#"ask@[0,"workflow",1]"#;
    let lines = [
        "started plan workflow",
        &format!("started {inner} command"),
        &format!("completed {inner} completed"),
        &format!("started {ask} gate"),
        &format!("completed {ask} failed"),
        &format!("failed {ask}: boom"),
        "completed plan failed",
        "failed plan: boom",
        "finished failed",
    ];
    let events = told(&lines, &facts, 0);
    let expected = [
        "002-kanban:tasks:attempt-1:6f9a3c73 success",
        "002-kanban:pipeline:attempt-1:6f9a3c73 failure step ask: boom",
    ];
    assert_eq!(in_words(&events), expected);
    let events = told(&lines[..4], &facts, 60);
    assert_eq!(events[1].pipeline.as_ref().unwrap().extra["gate"]["message"], "Go on?");
}

#[test]
fn a_gate_at_a_terminal_is_told_when_nobody_answers_it_for_so_long() {
    let facts = facts(SHELL, &Value::Null);
    let lines = ["started specify shell", "completed specify completed", "started ask gate"];
    let (text, mut log) = (log(&lines), Log::new(name("6f9a3c73"), None, None));
    let mut events = Vec::new();
    for (second, count, due_in) in [(2, 0, Some(5)), (6, 0, Some(1)), (7, 1, None), (100, 1, None)] {
        read(&mut log, text.as_bytes(), &facts, at(second), &mut events);
        assert_eq!(events.len(), count, "{second}");
        assert_eq!(log.due_in(NOTICE, at(second)), due_in.map(Duration::from_secs), "{second}");
        let is_told = log.told().at == text.len() as u64;
        assert_eq!(is_told, count == 1, "what is not told is looked at again after a restart: {second}");
    }
    let event = serde_json::to_value(&events[0]).unwrap();
    assert_eq!(event["event"]["type"], "spec-auto.pipeline.waiting");
    let expected = json!({"attempt": 1, "startedAt": "2026-11-28T09:30:02.000Z",
        "run": {"id": "6f9a3c73", "workflow": "shell-demo", "step": "ask"},
        "gate": {"step": "ask", "message": "Review the spec", "options": ["approve", "reject"]}});
    assert_eq!(event["pipeline"], expected);
    assert_eq!(told(&[&lines[..], &["completed ask completed"]].concat(), &facts, 100), []);
}

#[test]
fn the_end_has_all_stages_with_their_times() {
    let lines = [
        "started specify command",
        "completed specify completed",
        "started plan command",
        "completed plan failed",
        "failed plan: a\nb",
        "finished failed",
        "started plan command",
        "completed plan completed",
        "finished completed",
    ];
    let events = told(&lines, &facts(WORKFLOW, &Value::Null), 0);
    let stage = |stage: &str, status: &str, attempt: u32, from: i64| {
        json!({"stage": stage, "status": status, "attempt": attempt, "startedAt": format!("{:.3}", at(from)),
            "completedAt": format!("{:.3}", at(from + 1)), "durationMs": 1000})
    };
    let end = serde_json::to_value(&events[4]).unwrap();
    let stages =
        [stage("Specify", "success", 1, 0), stage("Plan", "failure", 1, 2), stage("Plan", "success", 2, 6)];
    let expected = json!({"attempt": 2, "startedAt": "2026-11-28T09:30:00.000Z",
        "completedAt": "2026-11-28T09:30:08.000Z", "durationMs": 8000, "stages": stages,
        "run": {"id": "6f9a3c73", "workflow": "speckit"}});
    assert_eq!((&end["pipeline"], end.get("followUps")), (&expected, None));
    let failed = serde_json::to_value(&events[2]).unwrap();
    assert_eq!(failed["pipeline"]["run"]["step"], "plan");
    assert_eq!(failed["followUps"].as_array().unwrap().len(), 1);
    assert_eq!(failed["evidence"]["paths"], json!([".specify/workflows/runs/6f9a3c73/log.jsonl"]));
}

#[test]
fn what_a_line_lacks_is_waited_for_and_then_done_without() {
    let text = log(&["started plan command", "completed plan failed"]);
    let world = |facts, second, is_final| World {
        facts,
        spec_now: &spec_now,
        is_final,
        is_fresh: true,
        now: at(second),
    };
    let (nothing, known) =
        (Facts::default(), facts(WORKFLOW, &json!({"step_results": {"plan": {"error": "why"}}})));
    let mut log = Log::new(name("r"), None, None);
    assert!(matches!(log.next(text.as_bytes(), &world(&nothing, 1, false)), Next::Wants));
    assert_eq!(log.position(), 0);
    let mut unknown = log.clone();
    for _ in 0..2 {
        let rest = &text.as_bytes()[usize::try_from(unknown.position()).unwrap()..];
        assert!(matches!(unknown.next(rest, &world(&nothing, 1, true)), Next::Taken(_)));
    }
    assert_eq!(unknown.due(NOTICE, &world(&nothing, 60, true)), []);
    for _ in 0..2 {
        let rest = &text.as_bytes()[usize::try_from(log.position()).unwrap()..];
        assert!(matches!(log.next(rest, &world(&known, 1, false)), Next::Taken(told) if told.is_empty()));
    }
    // The engine was killed between this line and the one that has the error.
    assert_eq!(log.due_in(NOTICE, at(1)), Some(Duration::from_secs(1)));
    let due = log.due(NOTICE, &world(&known, 2, true));
    assert_eq!(in_words(&due), ["run-r:plan:attempt-1:r failure why"]);
}

#[test]
fn lines_that_are_none_are_passed_over_with_one_word() {
    let facts = facts(SHELL, &Value::Null);
    let whole = log(&["started ask gate", "completed ask paused"]);
    let (first, second) = whole.split_once('\n').unwrap();
    let no_time = "{\"event\":\"workflow_finished\",\"status\":\"failed\"}\n";
    let mut text = Vec::new();
    for part in [
        first,
        "\n{\"event\":\"new\"}\n\r\n{\n",
        "[1]\n\u{0}\u{1}\n",
        &"x".repeat(MAX_LINE * 3),
        "\n",
        second,
        no_time,
    ] {
        text.extend_from_slice(part.as_bytes());
        if part.starts_with('x') {
            text.extend_from_slice(&[0xff, 0xfe]);
        }
    }
    let (mut events, mut log) = (Vec::new(), Log::new(name("r"), None, None));
    assert!(!read(&mut log, &text, &facts, at(1), &mut events));
    assert_eq!(in_words(&events).len(), 2, "{events:?}");
    assert_eq!(events[1].pipeline.as_ref().unwrap().completed_at, None);
    assert!(log.complaint().unwrap().contains("not known") && log.complaint().is_none());
    assert_eq!(log.told().at, text.len() as u64);
}

#[test]
fn a_log_that_is_another_one_is_seen_to_be_and_one_that_is_back_is_not_told_again() {
    let facts = facts(SHELL, &Value::Null);
    let one = log(&["started ask gate", "completed ask paused", "finished paused"]);
    let other = one.replace("ask", "own");
    let (mut events, mut log) = (Vec::new(), Log::new(name("r"), None, None));
    read(&mut log, one.as_bytes(), &facts, at(9), &mut events);
    assert_eq!(events.len(), 1);
    let told = log.told();
    assert!(!read(&mut Log::new(name("r"), None, Some(told)), one.as_bytes(), &facts, at(9), &mut events));
    assert!(read(&mut Log::new(name("r"), None, Some(told)), other.as_bytes(), &facts, at(9), &mut events));
    // Where the lines do not even end at the same places.
    let longer = other.replace("own", "another");
    assert!(read(&mut Log::new(name("r"), None, Some(told)), longer.as_bytes(), &facts, at(9), &mut events));
    assert_eq!(events.len(), 1);
    // What was never read is known by its length alone.
    let mark = Mark { at: longer.find("completed").unwrap() as u64, crc: None };
    read(&mut Log::new(name("r"), None, Some(mark)), longer.as_bytes(), &facts, at(9), &mut events);
    assert_eq!(events.len(), 1 + 1, "the line that it was cut off in, and those after it");
}

const WORDS: [&str; 16] = [
    "started specify command",
    "completed specify completed",
    "completed specify failed",
    "started plan command",
    "completed plan completed",
    "completed plan failed",
    "failed plan: why",
    "continued plan: why",
    "started ask gate",
    "completed ask paused",
    "completed ask completed",
    "aborted ask: no",
    "interrupted",
    "finished paused",
    "finished failed",
    "finished completed",
];

proptest! {
    /// Whatever stands in a log, in whichever pieces it is read and whenever the reader starts anew
    /// from what it remembers: the same events, none lost. What comes twice has the same key.
    #[test]
    fn it_does_not_matter_in_which_pieces_a_log_is_read(
        words in proptest::collection::vec(0..WORDS.len(), 0..30),
        cuts in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..12),
    ) {
        let facts = facts(WORKFLOW, &Value::Null);
        let lines: Vec<&str> = words.into_iter().map(|word| WORDS[word]).collect();
        let text = log(&lines);
        // Nothing is due before the end.
        let (now, end) = (at(-1000), at(1000));
        let mut whole = Vec::new();
        let mut reader = Log::new(name("r"), None, None);
        for now in [now, end] {
            prop_assert!(!read(&mut reader, text.as_bytes(), &facts, now, &mut whole));
        }
        let mut cuts: Vec<(usize, bool)> =
            cuts.into_iter().map(|(cut, restarts)| (cut.index(text.len() + 1), restarts)).collect();
        cuts.sort_unstable();
        let (mut pieces, mut reader) = (Vec::new(), Log::new(name("r"), None, None));
        for (cut, restarts) in cuts {
            prop_assert!(!read(&mut reader, &text.as_bytes()[..cut], &facts, now, &mut pieces));
            if restarts {
                reader = Log::new(name("r"), reader.spec().cloned(), Some(reader.told()));
            }
        }
        for now in [now, end] {
            prop_assert!(!read(&mut reader, text.as_bytes(), &facts, now, &mut pieces));
        }
        let mut once: Vec<Event> = Vec::new();
        for event in pieces {
            let same = once.iter().find(|known| known.event.idempotency_key == event.event.idempotency_key);
            match same {
                None => once.push(event),
                Some(known) => prop_assert_eq!(known.event.kind, event.event.kind),
            }
        }
        let (mut once, mut whole) = (in_words(&once), in_words(&whole));
        once.sort();
        whole.sort();
        prop_assert_eq!(once, whole);
    }
}

#[test]
fn the_events_are_of_the_kinds_and_in_the_form_that_the_docs_have() {
    let events = told(
        &[
            "started specify command",
            "completed specify completed",
            "started ask gate",
            "completed ask paused",
            "finished paused",
            "finished completed",
        ],
        &facts(WORKFLOW, &Value::Null),
        0,
    );
    let kinds: Vec<EventKind> = events.iter().map(|event| event.event.kind).collect();
    assert_eq!(kinds, [EventKind::StageCompleted, EventKind::PipelineWaiting, EventKind::PipelineCompleted]);
    assert!(events.iter().all(Event::is_of_a_workflow_run));
    insta::assert_snapshot!(serde_json::to_string_pretty(&events).unwrap());
    let text = serde_json::to_string(&events[0]).unwrap();
    assert!(Event::from_json(&text).unwrap().is_of_a_workflow_run());
}

#[test]
fn runs_with_one_id_in_two_folders_have_keys_of_their_own() {
    let repo = std::path::Path::new("/repo");
    let name = |folder: &str| {
        let log = repo.join(folder).join(".specify/workflows/runs/one/log.jsonl");
        Name::of(&log, repo)
    };
    assert_eq!(name(""), super::tests::name("one"));
    assert_eq!(name("").in_key(), "one");
    assert_eq!(name("").log(), ".specify/workflows/runs/one/log.jsonl");
    assert_eq!(name("packages/a").in_key(), "one@packages/a");
    assert_eq!(name("packages/a").log(), "packages/a/.specify/workflows/runs/one/log.jsonl");
    // However long a folder is, no two are cut to the same.
    let long = |last: &str| name(&format!("{}/{last}", "deep/".repeat(60))).in_key();
    assert!(long("a") != long("b") && long("a").len() < 30, "{}", long("a"));
    let events = {
        let (mut events, text) = (Vec::new(), log(&["started plan command", "completed plan completed"]));
        let mut log = Log::new(name("packages/a"), None, None);
        read(&mut log, text.as_bytes(), &Facts::default(), at(9), &mut events);
        events
    };
    for event in events {
        let run = &event.pipeline.unwrap().extra["run"];
        assert_eq!((&run["id"], &run["folder"]), (&json!("one"), &json!("packages/a")));
    }
}
