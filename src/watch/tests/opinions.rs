//! What the watcher says that it makes of a file is what it does with it.

use super::*;
use crate::watch::opinion::State;

fn opinion(repo: &Repo, path: &str) -> Opinion {
    Opinion::of(&repo.dir.path().join(path), &repo.config())
}

#[test]
fn a_file_is_told_or_of_the_baseline_or_waits() {
    let repo = Repo::new();
    repo.plan("SPEC-1", "old-1");
    repo.write("config.toml", "[spec_ops.webhooks]\nspool_dir = \"spool\"\nevidence_dir = \"evidence\"\n");
    let old = "evidence/commands/SPEC-1/spec-plan_old-1.json";
    let before = opinion(&repo, old);
    assert!(before.state == State::Waits && before.why.contains("--from-start"), "{before:?}");
    let watch = repo.watch();
    let key = repo.plan("SPEC-1", "s-2");
    repo.expect(&[&key]);
    watch.stop();
    repo.plan("SPEC-1", "s-3");
    let new = "evidence/commands/SPEC-1/spec-plan_s-2.json";
    for (path, state, words) in [
        (old, State::Baseline, "part of the baseline"),
        (new, State::Told, "told already"),
        ("evidence/commands/../commands/SPEC-1/spec-plan_s-2.json", State::Told, "told already"),
        ("evidence/commands/SPEC-1/spec-plan_s-3.json", State::Waits, "is to be told"),
    ] {
        let opinion = opinion(&repo, path);
        assert_eq!((opinion.source, opinion.state), (Some("bash guardrails"), state), "{path} {opinion:?}");
        assert!(opinion.why.contains(words), "{opinion:?}");
    }
    let event = opinion(&repo, new).event.unwrap();
    assert_eq!((event.idempotency_key.as_str(), event.status), (key.as_str(), Some(Status::Success)));
    repo.write(new, "{\"command\": \"spec-ops-plan\"");
    let broken = opinion(&repo, new);
    let event = broken.event.unwrap();
    assert!(event.status == Some(Status::Halt) && event.reasons[0].contains("not valid JSON"), "{event:?}");
}

#[test]
fn what_is_passed_over_has_a_reason() {
    let repo = Repo::new();
    repo.watch().stop();
    let agents = "evidence/commands/SPEC-1/spec-plan_gemini_s-1.json";
    repo.write(agents, "{\"text\": 1}");
    repo.write("evidence/commands/SPEC-1/spec-plan_cut.json", "{\"command\"");
    repo.write("SPEC.md", "# tasks\n");
    let link = repo.dir.path().join("evidence/commands/SPEC-1/spec-plan_link.json");
    std::os::unix::fs::symlink(repo.dir.path().join(agents), link).unwrap();
    let (passed, waits) = (State::PassedOver, State::Waits);
    for (path, state, words) in [
        (agents, passed, "an agent's output"),
        ("evidence/commands/SPEC-1/plan.json", passed, "not named as telemetry is"),
        ("evidence/commands/spec-plan_s.json", passed, "not in the folder of a SPEC"),
        ("evidence/commands/SPEC-1/more/spec-plan_s.json", passed, "not in the folder of a SPEC"),
        ("evidence/commands/-x/spec-plan_s.json", passed, "named after no SPEC"),
        ("elsewhere/commands/SPEC-1/spec-plan_s.json", passed, "outside the evidence tree"),
        ("evidence/commands/SPEC-1/spec-plan_link.json", passed, "a symbolic link"),
        ("evidence/commands/SPEC-1/spec-plan_gone.json", passed, "it is no file"),
        ("evidence/commands/SPEC-1/spec-plan_cut.json", waits, "may still be being written"),
        ("SPEC.md", waits, "its tasks are told"),
    ] {
        let opinion = opinion(&repo, path);
        assert!(opinion.state == state && opinion.why.contains(words), "{path}: {opinion:?}");
    }
}

#[test]
fn sources_that_nobody_reads_are_found() {
    let repo = Repo::new();
    repo.watch().stop();
    let unread = || unread::sources(&repo.config());
    repo.plan("SPEC-1", "s-1");
    assert_eq!(unread(), Vec::<String>::new());
    repo.plan_in("docs/SPEC-OPS-004-integrated-coder-hooks/evidence", "SPEC-1", "s-1");
    repo.write(".specify/feature.json", "{}");
    repo.write("docs/SPEC-2/evidence/guardrail-plan-2025_1.json", "{}");
    let found = unread();
    for (found, words) in found.iter().zip(["evidence_dir", ".specify", "guardrail-plan-2025_1.json"]) {
        assert!(found.contains(words), "{found}");
    }
    assert_eq!(found.len(), 3);
}
