//! Runs as their events come: what is told of them, in which order, and once.

use super::*;
use crate::event::{Event, EventKind, Pipeline, SpecId};
use proptest::prelude::*;
use serde_json::{Value, json};

const POLICY: RunPolicy =
    RunPolicy { max_stage_attempts: 3, cost_threshold_usd: Some(5.0), stall_after: None };

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn spec() -> SpecId {
    "SPEC-KIT-065-x".parse().unwrap()
}

fn stage(stage: Stage, status: Status, minute: u32, telemetry: &Value) -> Event {
    let session = format!("s{minute}");
    let key = IdempotencyKey::of_step(&spec(), &stage.slug(), 1, Some(&session));
    let mut event = Event::new(EventKind::StageCompleted, spec(), key);
    (event.event.stage, event.event.status) = (Some(stage), Some(status));
    if status != Status::Success {
        event.event.reasons = vec!["scenario `a` is failed".to_owned()];
    }
    let at = format!("2025-10-14T10:{minute:02}:00Z");
    event.pipeline = Some(Pipeline { completed_at: Some(at), ..Pipeline::default() });
    let mut fields = telemetry.as_object().cloned().unwrap_or_default();
    fields.insert("sessionId".to_owned(), session.into());
    event.telemetry = Some(fields.into());
    event
}

#[test]
fn a_workflow_run_is_none_of_these() {
    let mut run = Run::default();
    let mut plan = stage(Stage::Plan, Status::Failure, 1, &Value::Null);
    let step = run.plan(&mut plan, &POLICY, NOW).unwrap();
    run.take(&step);
    let before = run.clone();
    for (kind, of) in [
        (EventKind::StageCompleted, Some(Stage::Unlock)),
        (EventKind::StageCompleted, Some(Stage::Plan)),
        (EventKind::PipelineWaiting, None),
        (EventKind::PipelineCompleted, None),
    ] {
        let mut event = Event::new(kind, spec(), "k".parse().unwrap());
        (event.event.stage, event.event.status) = (of, Some(Status::Halt));
        let mut pipeline = Pipeline { attempt: Some(9), ..Pipeline::default() };
        pipeline.extra.insert("run".to_owned(), json!({"id": "6f9a3c73"}));
        event.pipeline = Some(pipeline);
        assert_eq!(run.plan(&mut event, &POLICY, NOW), None);
        assert_eq!(event.pipeline.unwrap().max_attempts, None);
    }
    assert_eq!(run, before);
}

#[test]
fn a_cost_that_was_not_told_yet_is_told_after_the_next_run_has_begun() {
    let mut run = Run::default();
    let take =
        |run: &mut Run, mut event: Event| run.plan(&mut event, &POLICY, NOW).inspect(|step| run.take(step));
    take(&mut run, stage(Stage::Plan, Status::Success, 1, &json!({"cost_usd": 6.0})));
    take(&mut run, stage(Stage::Tasks, Status::Success, 2, &json!({})));
    take(&mut run, stage(Stage::Plan, Status::Success, 3, &json!({"cost_usd": 7.0})));
    for (number, total) in [(1, 6.0), (2, 7.0)] {
        let anomaly = run.owed_anomaly(&spec()).unwrap();
        assert_eq!(
            (&anomaly.extra["anomaly"]["run"], &anomaly.extra["cost"]["totalUsd"]),
            (&json!(number), &json!(total))
        );
        take(&mut run, anomaly);
    }
    assert_eq!((run.owed_anomaly(&spec()), run.untold.len()), (None, 0));
}

#[test]
fn a_run_ends_under_the_session_that_its_last_stage_has_in_its_key() {
    let ends_as = |key: &str| {
        let mut event = stage(Stage::Unlock, Status::Success, 1, &json!({}));
        event.event.idempotency_key = key.parse().unwrap();
        let mut run = Run::default();
        let step = run.plan(&mut event, &POLICY, NOW).unwrap();
        run.take(&step);
        let now = "2025-10-14T11:00:00Z".parse().unwrap();
        run.owed_ends(&spec(), &[], None, now)[0].event.idempotency_key.to_string()
    };
    for (key, session) in [
        ("SPEC-KIT-065:unlock:attempt-1:s1", "s1"),
        ("SPEC-KIT-065:unlock:attempt-1:2025-10-14T10-01-00Z_s1", "2025-10-14T10-01-00Z_s1"),
        ("SPEC-KIT-065:unlock:attempt-1:s1:2025-10-14T10:01:00Z", "s1"),
        ("SPEC-KIT-065:unlock:attempt-1", "s1"),
        ("a key of the host's own", "s1"),
    ] {
        assert_eq!(ends_as(key), format!("SPEC-KIT-065:pipeline:attempt-1:{session}"), "{key}");
    }
}

/// The stage of `of` told again, as a `halt`.
fn correction(of: &Event) -> Event {
    let mut again = of.clone();
    let key = &of.event.idempotency_key;
    again.event.amends = Some(key.clone());
    again.event.idempotency_key = format!("{key}:consensus-run_1").parse().unwrap();
    again.event.status = Some(Status::Halt);
    again.event.reasons = vec!["the consensus is a conflict".to_owned()];
    again
}

#[test]
fn a_correction_ends_the_run_while_nothing_came_after_its_stage_and_is_no_attempt() {
    let plan = stage(Plan, Success, 0, &json!({}));
    let mut run = Run::default();
    apply(&mut run, plan.clone());
    let (attempt, owed) = apply(&mut run, correction(&plan));
    assert_eq!((attempt, owed[0].event.status), (1, Some(Halt)));
    assert_eq!(owed[0].event.idempotency_key.as_str(), "SPEC-KIT-065:pipeline:attempt-1:s0");
    assert_eq!(told(&owed[0]), named(&[(Plan, 1)]));
    assert_eq!(owed[0].extra["followUps"], json!(["Plan: the consensus is a conflict"]));
    // A later stage has begun: the run goes on, and its end says what is left to do.
    let mut run = Run::default();
    apply(&mut run, plan.clone());
    apply(&mut run, stage(Tasks, Success, 1, &json!({})));
    assert_eq!(apply(&mut run, correction(&plan)), (1, vec![]));
    let (_, owed) = apply(&mut run, stage(Unlock, Success, 2, &json!({})));
    assert_eq!(owed[0].event.status, Some(Success));
    assert_eq!(owed[0].pipeline.as_ref().unwrap().extra["stages"][0]["status"], "halt");
    assert_eq!(owed[0].extra["followUps"], json!(["Plan: the consensus is a conflict"]));
    // The end was told: it stays what it was.
    let unlock = stage(Unlock, Success, 2, &json!({}));
    assert_eq!(apply(&mut run, correction(&unlock)).1, vec![]);
    // Of a stage that no run has.
    let mut none = Run::default();
    assert_eq!(none.plan(&mut correction(&plan), &POLICY, NOW), None);
    assert_eq!(apply(&mut none, stage(Plan, Success, 3, &json!({}))), (1, vec![]));
}

#[test]
fn a_correction_of_the_last_stage_turns_an_end_that_is_not_told_yet() {
    let unlock = stage(Unlock, Success, 2, &json!({}));
    let mut run = Run::default();
    for event in [unlock.clone(), correction(&unlock)] {
        let step = run.plan(&mut event.clone(), &POLICY, NOW).unwrap();
        run.take(&step);
    }
    let owed = run.owed_ends(&spec(), &[], None, Timestamp::UNIX_EPOCH);
    let keys: Vec<_> = owed.iter().map(|event| event.event.idempotency_key.to_string()).collect();
    assert_eq!(
        (keys, owed[0].event.status),
        (vec!["SPEC-KIT-065:pipeline:attempt-1:s2".to_owned()], Some(Halt))
    );
}

fn spent(total_usd: f64, at: &str) -> Spent {
    let per_stage = [("Plan".to_owned(), total_usd.into())].into_iter().collect();
    Spent { total_usd, budget_usd: Some(2.0), per_stage, at: at.parse().unwrap() }
}

#[test]
fn the_end_has_what_the_host_says_that_was_spent_since_the_run_before() {
    let mut run = Run::default();
    let end = |run: &mut Run, of: Event, spent: &Spent| {
        let step = run.plan(&mut of.clone(), &POLICY, NOW).unwrap();
        run.take(&step);
        let mut owed = run.owed_ends(&spec(), &[], Some(spent), Timestamp::UNIX_EPOCH);
        let step = run.plan(&mut owed[0], &POLICY, NOW).unwrap();
        run.take(&step);
        owed[0].extra.get("cost").cloned()
    };
    let first = spent(3.5, "2025-10-14T10:20:00Z");
    let cost = end(&mut run, stage(Unlock, Success, 10, &json!({"cost_usd": 1.0})), &first);
    assert_eq!(cost, Some(json!({"totalUsd": 3.5, "budgetUsd": 2.0, "perStage": {"Plan": 3.5}})));
    // The file is that of the run before.
    let old = spent(3.5, "2025-10-14T10:09:00Z");
    let cost = end(&mut run, stage(Unlock, Success, 40, &json!({"cost_usd": 1.0})), &old);
    assert_eq!(cost, Some(json!({"totalUsd": 1.0})));
    let cost = end(&mut run, stage(Unlock, Success, 50, &json!({})), &old);
    assert_eq!(cost, None);
}

#[test]
fn a_cost_that_the_host_sums_up_is_told_once_a_run() {
    let mut run = Run::default();
    let alert = |run: &mut Run| {
        let mut event = Event::new(EventKind::CostThreshold, spec(), "k".parse().unwrap());
        event.extra.insert("anomaly".to_owned(), json!({"thresholdUsd": 5.0}));
        let takes = run.takes_alert(&mut event, &POLICY, clock::now());
        if takes {
            let step = run.plan(&mut event, &POLICY, NOW).unwrap();
            run.take(&serde_json::from_str(&serde_json::to_string(&step).unwrap()).unwrap());
        }
        takes.then(|| (event.event.idempotency_key.to_string(), event.extra["anomaly"]["run"].clone()))
    };
    let key = |number| format!("SPEC-KIT-065-x:pipeline:attempt-{number}:cost-threshold-5");
    assert_eq!(alert(&mut run), Some((key(1), json!(1))));
    assert_eq!(alert(&mut run), None);
    // Its first stage is seen later, and costs as much.
    assert_eq!(apply(&mut run, stage(Plan, Success, 0, &json!({"cost_usd": 6.0}))).1, vec![]);
    assert_eq!(alert(&mut run), None);
    apply(&mut run, stage(Unlock, Success, 1, &json!({})));
    apply(&mut run, stage(Plan, Success, 2, &json!({})));
    assert_eq!(alert(&mut run), Some((key(2), json!(2))));
    assert!(!run.takes_alert(
        &mut Event::new(EventKind::CostThreshold, spec(), "k".parse().unwrap()),
        &RunPolicy { cost_threshold_usd: None, ..POLICY },
        clock::now()
    ));
}

#[test]
fn a_run_that_goes_on_and_is_silent_is_told_once_until_it_shows_life() {
    let at = |minute: i64| Timestamp::from_second(1_760_000_000 + 60 * minute).unwrap();
    let after = SignedDuration::from_mins(30);
    let mut run = Run::default();
    let take = |run: &mut Run, mut event: Event, minute| {
        let step = run.plan(&mut event, &POLICY, at(minute)).unwrap();
        run.take(&serde_json::from_str(&serde_json::to_string(&step).unwrap()).unwrap());
    };
    let stalled = |run: &Run, minute| run.stalled(&spec(), None, run.last_sign()?, after, at(minute));
    assert_eq!(stalled(&run, 1000), None, "nothing began");
    take(&mut run, stage(Plan, Success, 0, &json!({})), 0);
    assert_eq!((stalled(&run, 29), stalled(&run, 24 * 60 + 31)), (None, None), "not yet, and no news");
    let event = stalled(&run, 30).unwrap();
    let key = "SPEC-KIT-065-x:pipeline:attempt-1:stalled-2025-10-09T08:53:20.000Z";
    assert_eq!(event.event.idempotency_key.as_str(), key);
    assert_eq!((event.event.stage, &event.extra["anomaly"]["run"]), (Some(Plan), &json!(1)));
    take(&mut run, event, 30);
    assert_eq!(stalled(&run, 60), None, "told");
    // A task became Done, and it is silent again.
    let task = Event::new(EventKind::TaskCompleted, spec(), "t".parse().unwrap());
    take(&mut run, task.clone(), 70);
    assert_eq!((stalled(&run, 99), stalled(&run, 100).is_some()), (None, true));
    // A file that it left.
    assert!(run.stalled(&spec(), None, at(95), after, at(100)).is_none());
    take(&mut run, stage(Unlock, Success, 3, &json!({})), 101);
    assert_eq!(stalled(&run, 200), None, "it ended");
    assert_eq!(run.plan(&mut task.clone(), &POLICY, at(201)), None);
}

#[test]
fn a_run_whose_first_stage_waits_for_its_agents_may_go_silent_too() {
    let at = |minute: i64| Timestamp::from_second(1_760_000_000 + 60 * minute).unwrap();
    let after = SignedDuration::from_mins(30);
    let mut run = Run::default();
    let stalls = |run: &mut Run, stage, minute: i64| {
        let event = run.stalled(&spec(), Some(stage), at(minute - 30), after, at(minute));
        let event = event.map(|mut event| {
            let step = run.plan(&mut event, &POLICY, at(minute)).unwrap();
            run.take(&step);
            event
        });
        event.map(|event| (event.event.idempotency_key.to_string(), event.event.stage))
    };
    let key = |run: u32, since| format!("SPEC-KIT-065-x:pipeline:attempt-{run}:stalled-{since}");
    let first = Some((key(1, "2025-10-09T08:53:20.000Z"), Some(Plan)));
    assert_eq!((stalls(&mut run, Plan, 30), stalls(&mut run, Plan, 30)), (first, None));
    let mut event = stage(Plan, Success, 0, &json!({}));
    let step = run.plan(&mut event, &POLICY, at(31)).unwrap();
    run.take(&step);
    assert_eq!(event.pipeline.unwrap().attempt, Some(1));
    // The second of the same run, and the first of the next one.
    assert_eq!(stalls(&mut run, Tasks, 90), Some((key(1, "2025-10-09T09:53:20.000Z"), Some(Tasks))));
    let step = run.plan(&mut stage(Unlock, Success, 1, &json!({})), &POLICY, at(91)).unwrap();
    run.take(&step);
    assert_eq!(stalls(&mut run, Plan, 150), Some((key(2, "2025-10-09T10:53:20.000Z"), Some(Plan))));
}

#[test]
fn what_is_kept_of_a_stage_is_bounded_however_much_it_says() {
    let mut run = Run::default();
    for minute in 0..3 {
        let mut event = stage(Stage::Validate, Status::Failure, minute, &json!({}));
        event.event.reasons = vec!["x".repeat(2_000); 5_000];
        let step = run.plan(&mut event, &POLICY, NOW).unwrap();
        run.take(&step);
    }
    assert!(run.owes_its_end());
    let bytes = serde_json::to_vec(&run).unwrap().len();
    assert!(bytes < 128 * 1024, "{bytes}");
}

/// Applies an event as the Router and the spool do. Returns its attempt and the events owed
/// then, which are told at once.
fn apply(run: &mut Run, mut event: Event) -> (u32, Vec<Event>) {
    let step = run.plan(&mut event, &POLICY, NOW).unwrap();
    let attempt = event.pipeline.and_then(|pipeline| pipeline.attempt).unwrap_or(0);
    // As after a restart: only what the spool stores is left.
    run.take(&serde_json::from_str(&serde_json::to_string(&step).unwrap()).unwrap());
    *run = serde_json::from_str(&serde_json::to_string(run).unwrap()).unwrap();
    let ends = run.owed_ends(&spec(), &[], None, Timestamp::UNIX_EPOCH);
    let owed: Vec<Event> = run.owed_anomaly(&spec()).into_iter().chain(ends).collect();
    for mut event in owed.clone() {
        let step = run.plan(&mut event, &POLICY, NOW).unwrap();
        run.take(&step);
    }
    assert_eq!((run.owed_anomaly(&spec()), run.owes_its_end()), (None, false), "told once");
    (attempt, owed)
}

use Stage::{Audit, Implement, Plan, Tasks, Unlock, Validate};
use Status::{Failure, Halt, Success};

fn told(event: &Event) -> Vec<(String, u64)> {
    let stages = event.pipeline.as_ref().unwrap().extra["stages"].as_array().unwrap();
    let told = |one: &Value| (one["stage"].as_str().unwrap().to_owned(), one["attempt"].as_u64().unwrap());
    stages.iter().map(told).collect()
}

fn named(stages: &[(Stage, u64)]) -> Vec<(String, u64)> {
    stages.iter().map(|(stage, attempt)| (stage.to_string(), *attempt)).collect()
}

#[test]
fn a_run_ends_with_its_unlock_and_is_told_as_a_whole() {
    let mut run = Run::default();
    assert_eq!(apply(&mut run, stage(Plan, Success, 0, &json!({"cost_usd": 1.5}))), (1, vec![]));
    assert_eq!(apply(&mut run, stage(Validate, Failure, 10, &json!({"cost": {"totalUsd": 0.25}}))).0, 1);
    assert_eq!(apply(&mut run, stage(Validate, Success, 20, &json!({}))), (2, vec![]));
    let (_, mut owed) = apply(&mut run, stage(Unlock, Success, 45, &json!({})));
    let event = owed.pop().unwrap();
    assert!(owed.is_empty());
    assert_eq!(event.event.status, Some(Success));
    assert_eq!(event.event.idempotency_key.as_str(), "SPEC-KIT-065:pipeline:attempt-1:s45");
    assert_eq!(event.pipeline.as_ref().unwrap().extra["durationMs"], 45 * 60 * 1000);
    assert_eq!(told(&event), named(&[(Plan, 1), (Validate, 1), (Validate, 2), (Unlock, 1)]));
    assert_eq!(event.extra["cost"], json!({"totalUsd": 1.75}));
    assert!(!event.extra.contains_key("followUps"), "what failed was mended");
    // The next Plan begins the next run.
    assert_eq!(apply(&mut run, stage(Plan, Success, 50, &json!({}))).0, 1);
    let (_, owed) = apply(&mut run, stage(Unlock, Success, 55, &json!({})));
    assert_eq!(owed[0].event.idempotency_key.as_str(), "SPEC-KIT-065:pipeline:attempt-2:s55");
    assert_eq!(told(&owed[0]), named(&[(Plan, 1), (Unlock, 1)]));
}

#[test]
fn the_end_comes_from_where_the_stage_that_ended_the_run_does() {
    let mut unlock = stage(Stage::Unlock, Status::Success, 1, &json!({}));
    let source = json!({"repo": "acme/payments", "branch": "feat/x", "commit": "c".repeat(40), "host": "ci-7",
                        "runner": "x".repeat(5000)});
    unlock.source = serde_json::from_value(source.clone()).unwrap();
    unlock.spec.branch = Some("feat/x".to_owned());
    let mut run = Run::default();
    let step = run.plan(&mut unlock, &POLICY, NOW).unwrap();
    run.take(&serde_json::from_value(json!(step)).unwrap());
    let end = run.owed_ends(&spec(), &[], None, NOW).pop().unwrap();
    let mut known = source;
    known.as_object_mut().unwrap().remove("runner");
    assert_eq!((end.spec.branch.as_deref(), json!(end.source)), (Some("feat/x"), known));
    // What a name may be is bounded, as all that a run keeps.
    unlock.source.as_mut().unwrap().repo = Some("x".repeat(5000));
    let mut run = Run::default();
    run.take(&run.plan(&mut unlock, &POLICY, NOW).unwrap());
    assert!(json!(run).to_string().len() < 2500, "{run:?}");
}

#[test]
fn a_run_ends_with_a_halt_or_the_last_allowed_failure_and_the_next_may_go_on_from_there() {
    let mut run = Run::default();
    apply(&mut run, stage(Plan, Success, 0, &json!({})));
    for minute in [1, 2] {
        assert!(apply(&mut run, stage(Tasks, Failure, minute, &json!({}))).1.is_empty());
    }
    let (attempt, owed) = apply(&mut run, stage(Tasks, Failure, 3, &json!({})));
    assert_eq!((attempt, owed[0].event.status), (3, Some(Failure)));
    assert_eq!(owed[0].extra["followUps"], json!(["Tasks: scenario `a` is failed"]));
    let (attempt, owed) = apply(&mut run, stage(Tasks, Halt, 4, &json!({})));
    assert_eq!((attempt, owed[0].event.status), (1, Some(Halt)), "a new run, which halts");
    for (minute, of) in (5..).zip([Tasks, Implement, Validate, Audit]) {
        assert_eq!(apply(&mut run, stage(of, Success, minute, &json!({}))), (1, vec![]));
    }
    let (_, owed) = apply(&mut run, stage(Unlock, Success, 9, &json!({})));
    let all = [Plan, Tasks, Implement, Validate, Audit, Unlock].map(|stage| (stage, 1));
    assert_eq!(told(&owed[0]), named(&all), "it stands on the plan of the run before");
    assert_eq!(owed[0].pipeline.as_ref().unwrap().attempt, Some(3));
}

#[test]
fn the_hosts_own_pipeline_event_ends_the_run_and_its_last_stage_may_come_late() {
    let own = || Event::new(EventKind::PipelineCompleted, spec(), "own".parse().unwrap());
    let mut run = Run::default();
    apply(&mut run, stage(Plan, Success, 0, &json!({})));
    assert!(apply(&mut run, own()).1.is_empty());
    assert_eq!(apply(&mut run, stage(Unlock, Success, 45, &json!({}))), (1, vec![]), "it is told already");
    // If ours is still owed, the host's takes precedence.
    let mut run = Run::default();
    let step = run.plan(&mut stage(Unlock, Success, 45, &json!({})), &POLICY, NOW).unwrap();
    run.take(&step);
    assert!(run.owes_its_end());
    let step = run.plan(&mut own(), &POLICY, NOW).unwrap();
    run.take(&step);
    assert!(!run.owes_its_end());
}

#[test]
fn the_next_run_may_begin_before_an_end_is_told() {
    let mut run = Run::default();
    for minute in 0..3 {
        let step = run.plan(&mut stage(Unlock, Success, minute, &json!({})), &POLICY, NOW).unwrap();
        run.take(&step);
    }
    let owed = run.owed_ends(&spec(), &[], None, Timestamp::UNIX_EPOCH);
    let numbers: Vec<_> = owed.iter().map(|event| event.pipeline.as_ref().unwrap().attempt).collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    for mut event in owed {
        let step = run.plan(&mut event, &POLICY, NOW).unwrap();
        run.take(&step);
    }
    assert!(!run.owes_its_end() && !run.owes_earlier_ends());
}

#[test]
fn a_cost_above_the_threshold_is_told_once_a_run() {
    let mut run = Run::default();
    let agents = json!({"consensus": {"agents": [{"cost_usd": 2.0}, {"cost_usd": 1.0}, {"cost_usd": null}]}});
    assert!(apply(&mut run, stage(Plan, Success, 0, &agents)).1.is_empty());
    let (_, owed) = apply(&mut run, stage(Tasks, Success, 1, &agents));
    assert_eq!(owed[0].event.kind, EventKind::CostThreshold);
    assert_eq!(owed[0].extra["anomaly"]["totalUsd"], 6.0);
    assert_eq!(owed[0].event.idempotency_key.as_str(), "SPEC-KIT-065:tasks:attempt-1:s1:cost-threshold-5");
    assert!(apply(&mut run, stage(Implement, Success, 2, &agents)).1.is_empty());
    assert!(apply(&mut run, stage(Plan, Success, 3, &agents)).1.is_empty(), "a new run");
    assert_eq!(apply(&mut run, stage(Tasks, Success, 4, &agents)).1.len(), 1);
}

#[test]
fn an_attempt_that_is_told_is_believed() {
    let mut run = Run::default();
    let mut given = stage(Plan, Failure, 0, &json!({}));
    given.pipeline.as_mut().unwrap().attempt = Some(3);
    let (attempt, owed) = apply(&mut run, given);
    assert_eq!((attempt, owed[0].event.status), (3, Some(Failure)));
}

proptest! {
    /// Whatever stages come in whatever order: memory is bounded, and each run's end is told
    /// exactly once, with a key of its own.
    #[test]
    fn every_end_is_told_once(
        events in proptest::collection::vec((0usize..6, 0usize..3, 0usize..4), 1..300),
    ) {
        let mut run = Run::default();
        let mut keys = std::collections::HashSet::new();
        for (minute, (of, status, corrected)) in (0u32..).zip(events) {
            let mut event = stage(Stage::ALL[of], Status::ALL[status], minute % 60, &json!({}));
            let telemetry = event.telemetry.as_mut().unwrap().fields_mut();
            telemetry.insert("sessionId".to_owned(), minute.to_string().into());
            let ends = Stage::ALL[of] == Unlock && status == 0 || status == 2;
            let later = correction(&event);
            let (attempt, owed) = apply(&mut run, event);
            prop_assert!(attempt >= 1 && attempt as usize <= MAX_STAGES + 1);
            prop_assert!(!ends || owed.len() == 1);
            if corrected == 0 {
                let before = run.stages.len();
                let (again, owed) = apply(&mut run, later);
                prop_assert_eq!((again, run.stages.len()), (attempt, before));
                prop_assert!(owed.iter().all(|event| keys.insert(event.event.idempotency_key.clone())));
            }
            prop_assert!(owed.iter().all(|event| keys.insert(event.event.idempotency_key.clone())));
            prop_assert!(run.stages.len() <= MAX_STAGES);
        }
    }
}
