//! What the watcher says that it makes of a file is what it does with it.

use super::*;
use crate::watch::opinion::State;
use crate::watch::watcher::LOOK;

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
        (new, State::Told, "sent already"),
        ("evidence/commands/../commands/SPEC-1/spec-plan_s-2.json", State::Told, "sent already"),
        ("evidence/commands/SPEC-1/spec-plan_s-3.json", State::Waits, "is not sent yet"),
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
        ("SPEC.md", waits, "each task that becomes Done is sent"),
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
    let found = unread();
    assert!(found.len() == 1 && found[0].contains("evidence_dir"), "{found:?}");
}

#[test]
fn what_waits_is_what_the_next_start_tells() {
    let repo = Repo::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/repo"), repo.dir.path());
    let settings = "[spec_ops.webhooks]\nspool_dir = \"spool\"\nevidence_dir = \"evidence\"\n";
    repo.write("config.toml", settings);
    let waiting = || Waiting::of(&repo.config(), None);
    let counts = |waiting: &Waiting| (waiting.stages, waiting.tasks);
    let first = waiting();
    assert!(first.is_first && !repo.dir.path().join("spool/watch.jsonl").exists());
    assert_eq!((counts(&first), &first.troubles), ((21, 5), &vec![]));
    let watch = repo.watch_with(true, "");
    repo.wait("all of it", || (!waiting().is_something()).then_some(()));
    watch.stop();
    repo.sent.lock().unwrap().clear();
    // New, rewritten with another verdict, touched, rewritten with the same one, no telemetry.
    repo.plan("SPEC-1", "s-1");
    let told = "evidence/commands/SPEC-FIX-201-one-run";
    let mut files: Vec<_> =
        fs::read_dir(repo.dir.path().join(told)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for (file, verdict) in files.iter().zip([None, Some("{\"command\"")]) {
        let content = verdict.map_or_else(|| fs::read_to_string(file).unwrap(), str::to_owned);
        fs::write(file, content).unwrap();
    }
    repo.write("evidence/commands/SPEC-1/spec-plan_claude_s-1.json", "{}");
    repo.write("docs/SPEC-9-x/tasks.md", "| ID | Status |\n|---|---|\n| 1 | Done |\n| 2 | Open |\n");
    assert_eq!(counts(&waiting()), (2, 1));
    assert!(Waiting::of(&repo.config(), Some(Instant::now() - LOOK)).is_partial, "it says that it stopped");
    let watch = repo.watch_as_configured(false);
    repo.wait("three events", || (repo.keys().len() >= 3).then_some(()));
    repo.wait("nothing to wait", || (!waiting().is_something()).then_some(()));
    assert_eq!(repo.keys().len(), 3);
    watch.stop();
    repo.write("spool/watch.jsonl", "{\"watch\":{\"version\":9}}\n");
    let later = waiting();
    assert!(!later.is_something() && later.troubles[0].contains("later version"), "{later:?}");
}
