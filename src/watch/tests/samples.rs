//! The bodies in `docs/reference/samples` are what the program makes of a repo, with the clock and
//! the ids of their own that some events draw held still.

use std::collections::HashMap;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;
use crate::delivery::Identities;
use crate::event::{SpecId, sequence_after};
use crate::payload;
use crate::run::Run;
use crate::sources::checkout::Checkout;
use crate::sources::outstanding;

const SPEC: &str = "SPEC-KIT-065-add-webhooks";
const IN_CONFLICT: &str = "SPEC-KIT-070-sync";
const FEATURE: &str = "002-kanban";

/// Writes a stage's telemetry as its guardrail does.
fn write_stage(repo: &Repo, spec: &str, stage: &str, minute: u32, more: &Value) {
    let at = format!("2026-01-02T03:{minute:02}:30Z");
    let mut telemetry = json!({
        "schemaVersion": 1, "command": format!("spec-ops-{stage}"), "specId": spec,
        "sessionId": format!("{at}-{minute}"), "startedAt": format!("2026-01-02T03:{minute:02}:00Z"),
        "timestamp": at,
    });
    telemetry.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let path = format!("evidence/commands/{spec}/spec-{stage}_{at}-{minute}.json");
    repo.write(&path, &telemetry.to_string());
}

fn write_consensus(repo: &Repo, spec: &str, minute: u32, status: &str, conflicts: &[&str]) {
    let at = format!("2026-01-02T03:{minute:02}:20Z");
    let synthesis = json!({
        "stage": "plan", "timestamp": at, "status": status,
        "agents": [
            {"agent": "claude", "model": "claude-4.5", "model_release": "2025-09-29",
                "reasoning_mode": "auto"},
            {"agent": "gpt", "model": "gpt-5"},
        ],
        "consensus": {"agreements": ["one journal a SPEC"], "conflicts": conflicts},
    });
    repo.write(&format!("evidence/consensus/{spec}/spec-plan_{at}_synthesis.json"), &synthesis.to_string());
}

fn write_all(repo: &Repo) {
    repo.write(".git/HEAD", "ref: refs/heads/feat/webhooks\n");
    repo.write(".git/refs/heads/feat/webhooks", "0123456789abcdef0123456789abcdef01234567\n");
    repo.write(".git/config", "[remote \"origin\"]\n\turl = git@github.com:owner/name.git\n");
    let tests = |status: &str| json!({"scenarios": [{"name": "unit", "status": status}], "cost_usd": 0.5});
    for (minute, (stage, more)) in (5u32..).step_by(5).zip([
        ("plan", json!({"baseline": {"status": "passed"}, "cost_usd": 1.25})),
        ("tasks", json!({"tool": {"status": "ok"}})),
        ("implement", json!({"lock_status": "locked", "hook_status": "ok", "cost_usd": 2.5})),
        ("validate", tests("failed")),
        ("validate", tests("passed")),
        ("audit", tests("passed")),
        ("unlock", json!({"unlock_status": "unlocked"})),
    ]) {
        write_stage(repo, SPEC, stage, minute, &more);
    }
    write_consensus(repo, SPEC, 5, "ok", &[]);
    write_stage(repo, IN_CONFLICT, "plan", 50, &json!({"baseline": {"status": "passed"}}));
    write_consensus(repo, IN_CONFLICT, 50, "conflict", &["queue or file", "who retries"]);
    let tasks = "| Task ID | Title | Status |\n| --- | --- | --- |\n| T1 | Sign the payload | Done |\n\
                 | T2 | Retries and back-off | In Progress |\n";
    repo.write(&format!("docs/{SPEC}/tasks.md"), tasks);
    let boxes = "- [x] T001 Set the project up\n- [x] T002 [P] [US1] Write the model\n";
    repo.write(&format!("specs/{FEATURE}/tasks.md"), boxes);
    let run = ".specify/workflows/runs/6f9a3c73";
    repo.write(".specify/feature.json", "{\"feature_directory\": \"specs/002-kanban\"}");
    let gate = "- {id: review-plan, type: gate, message: Review the plan before generating tasks.}";
    repo.write(&format!("{run}/workflow.yml"), &format!("workflow: {{id: speckit}}\nsteps:\n{gate}\n"));
    let output = json!({"message": "Review the plan before generating tasks.",
        "options": ["approve", "reject"], "show_file": "specs/002-kanban/plan.md"});
    let state = json!({"step_results": {"review-plan": {"output": output}}});
    repo.write(&format!("{run}/state.json"), &state.to_string());
    let log = [
        json!({"event": "step_started", "step_id": "review-plan", "type": "gate",
            "timestamp": "2026-01-02T03:55:00.173066+00:00"}),
        json!({"event": "step_completed", "step_id": "review-plan", "status": "paused",
            "timestamp": "2026-01-02T03:55:00.182066+00:00"}),
    ];
    repo.write(&format!("{run}/log.jsonl"), &log.map(|line| format!("{line}\n")).concat());
}

/// What the Router does with events, in this order.
#[derive(Default)]
struct Router {
    identities: Identities,
    runs: HashMap<SpecId, Run>,
    sequences: HashMap<SpecId, u64>,
    accepted: Vec<Event>,
}

impl Router {
    fn accept(&mut self, mut event: Event, config: &Config, checkout: &Checkout) {
        checkout.add_to(&mut event);
        let first: Timestamp = "2026-01-02T04:00:00.678Z".parse().unwrap();
        let at = first + SignedDuration::from_secs(self.accepted.len() as i64);
        self.identities.resolve(&mut event, at, |_| false);
        let run = self.runs.entry(event.spec.id.clone()).or_default();
        let step = run.plan(&mut event, &config.runs, at);
        step.iter().for_each(|step| run.take(step));
        let last = self.sequences.entry(event.spec.id.clone()).or_default();
        *last = sequence_after(*last, at);
        event.accepted(at, *last);
        self.accepted.push(event);
    }
}

#[test]
fn the_samples_of_the_docs_are_what_the_program_makes() {
    let repo = Repo::new();
    write_all(&repo);
    let settings = "consensus_wait_ms = 1\n[spec_ops.webhooks.alerts]\ncost_threshold_usd = 4";
    let watch = repo.watch_with(true, settings);
    repo.wait("all", || (repo.keys().len() >= 14).then_some(()));
    watch.stop();
    let mut events = repo.sent.lock().unwrap().clone();
    // Of different SPECs and kinds, the watcher may tell either first.
    let is_of_a_run = |event: &Event| event.event.kind == EventKind::PipelineWaiting;
    events.sort_by_key(|event| (is_of_a_run(event), event.spec.id.to_string(), event.event.kind));
    let (feature, events): (Vec<_>, Vec<_>) =
        events.into_iter().partition(|event| event.spec.id.as_str() == FEATURE);
    let (config, spec): (_, SpecId) = (repo.config(), SPEC.parse().unwrap());
    let checkout = Checkout::new(repo.dir.path(), Environment::fixed([]));
    let mut router = Router::default();
    events.into_iter().for_each(|event| router.accept(event, &config, &checkout));
    let run = router.runs[&spec].clone();
    let owed = run.owed_ends(
        &spec,
        &outstanding::tasks(&config, &config.source_roots, &spec),
        None,
        Timestamp::UNIX_EPOCH,
    );
    run.owed_anomaly(&spec).into_iter().chain(owed).for_each(|event| {
        router.accept(event, &config, &checkout);
    });
    let first = router.accepted.iter().find(|event| event.event.kind == EventKind::StageCompleted);
    let (mut begun, mut first) = (Run::default(), first.unwrap().clone());
    let step = begun.plan(&mut first, &config.runs, "2026-01-02T03:00:31Z".parse().unwrap());
    step.iter().for_each(|step| begun.take(step));
    let (sign, after) = (begun.last_sign().unwrap(), SignedDuration::from_mins(30));
    let stalled = begun.stalled(&first.spec.id, None, sign, after, sign + after).unwrap();
    router.accept(stalled, &config, &checkout);
    feature.into_iter().for_each(|event| router.accept(event, &config, &checkout));
    let at = "2026-01-02T04:05:00.678Z".parse().unwrap();
    let mut sample = payload::sample(spec, checkout.current(), at);
    sample.event.idempotency_key = "SPEC-KIT-065-add-webhooks:spec-kit.webhook.test:1".parse().unwrap();
    router.accepted.push(sample);

    // As docs/reference/receiving.md says of the program's own sources.
    for event in &router.accepted {
        let body: Value = serde_json::from_slice(&payload::body(event).unwrap()).unwrap();
        let gives: &[&str] = match event.event.kind {
            EventKind::StageCompleted => &["/event/stage", "/event/status", "/telemetry", "/evidence"],
            EventKind::PipelineCompleted => {
                &["/event/status", "/pipeline/attempt", "/pipeline/completedAt", "/pipeline/stages"]
            }
            EventKind::PipelineWaiting => &["/event/status", "/pipeline/run", "/evidence"],
            EventKind::TaskCompleted => &["/task", "/evidence"],
            EventKind::TaskListCompleted => &["/tasks/done", "/tasks/total", "/evidence"],
            EventKind::ConsensusConflict | EventKind::CostThreshold | EventKind::Stalled => {
                &["/event/stage", "/anomaly"]
            }
            EventKind::Test => &["/message"],
        };
        assert!(gives.iter().all(|path| body.pointer(path).is_some()), "{gives:?} in {body:#}");
        let reasons = body.pointer("/event/reasons").is_some();
        assert_eq!(reasons, !matches!(event.event.status, Some(Status::Success) | None), "{body:#}");
    }

    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference");
    let schema = fs::read(docs.join("payload.schema.json")).unwrap();
    let schema = jsonschema::validator_for(&serde_json::from_slice(&schema).unwrap()).unwrap();
    let file = |kind: &EventKind| docs.join(format!("samples/{kind}.json"));
    for kind in EventKind::ALL {
        let event = router.accepted.iter().find(|event| event.event.kind == *kind).unwrap();
        let body: Value = serde_json::from_slice(&payload::body(event).unwrap()).unwrap();
        assert!(schema.is_valid(&body), "{:?}", schema.iter_errors(&body).collect::<Vec<_>>());
        let text = serde_json::to_string_pretty(&body).unwrap() + "\n";
        if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
            fs::create_dir_all(docs.join("samples")).unwrap();
            fs::write(file(kind), text).unwrap();
        } else {
            assert_eq!(
                fs::read_to_string(file(kind)).unwrap_or_default(),
                text,
                "INSTA_UPDATE=always: {kind}"
            );
        }
    }
    let mut there: Vec<PathBuf> =
        fs::read_dir(docs.join("samples")).unwrap().map(|entry| entry.unwrap().path()).collect();
    let mut expected: Vec<PathBuf> = EventKind::ALL.iter().map(file).collect();
    there.sort();
    expected.sort();
    assert_eq!(there, expected, "a sample of each type, and of nothing else");
}
