//! Consensus that comes before, with and after its guardrail, and costs.

use std::time::UNIX_EPOCH;

use jiff::SignedDuration;
use serde_json::{Value, json};

use super::*;

/// The seconds by which a synthesis was seen to follow its guardrail.
const LAGS: [i64; 6] = [0, 0, 184, 555, 1048, 3217];

const STAGES: [&str; 6] = ["plan", "tasks", "implement", "validate", "audit", "unlock"];

/// A host, by how its guardrails write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Host {
    Bash,
    Native,
}

fn at(seconds: i64) -> Timestamp {
    let start: Timestamp = "2025-12-26T13:00:00Z".parse().unwrap();
    start.checked_add(SignedDuration::from_secs(seconds)).unwrap()
}

impl Repo {
    /// Writes a file as a host did at a time.
    fn write_at(&self, path: &str, content: &Value, second: i64) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Elsewhere first, so that nobody sees it at another time.
        let aside = self.dir.path().join("aside");
        fs::write(&aside, content.to_string()).unwrap();
        let modified = UNIX_EPOCH + Duration::from_secs(at(second).as_second().unsigned_abs());
        fs::File::options().write(true).open(&aside).unwrap().set_modified(modified).unwrap();
        fs::rename(aside, path).unwrap();
    }

    /// A guardrail that passed; its key.
    fn guardrail(&self, host: Host, stage: &str, second: i64) -> String {
        self.guardrail_that(host, stage, second, true)
    }

    fn guardrail_that(&self, host: Host, stage: &str, second: i64, passed: bool) -> String {
        let time = format!("{:.0}", at(second));
        let (session, path, content) = match host {
            Host::Bash => {
                let session = format!("{time}-77");
                let word = |yes: &str, no: &str| if passed { yes.to_owned() } else { no.to_owned() };
                let content = json!({"command": format!("spec-ops-{stage}"), "specId": "SPEC-1",
                    "sessionId": session, "timestamp": time,
                    "baseline": {"status": word("passed", "failed")},
                    "tool": {"status": word("ok", "failed")},
                    "lock_status": word("locked", "no"), "hook_status": "ok",
                    "scenarios": [{"name": "a", "status": word("passed", "failed")}],
                    "unlock_status": word("unlocked", "locked")});
                let path = format!("evidence/commands/SPEC-1/spec-{stage}_{session}.json");
                (session, path, content)
            }
            Host::Native => {
                let session = format!("{}_77", time.replace(':', "-"));
                let content = json!({"schemaVersion": 1, "command": format!("guardrail.{stage}"),
                    "specId": "SPEC-1", "sessionId": "77", "timestamp": time, "success": passed,
                    "checks": [{"name": "a", "status": if passed { "passed" } else { "failed" }}]});
                let path = format!("docs/SPEC-1/evidence/guardrail-{stage}-{session}.json");
                (session, path, content)
            }
        };
        self.write_at(&path, &content, second);
        format!("SPEC-1:{stage}:attempt-1:{session}")
    }

    /// What the stage's agents came to; what tells it from others.
    fn synthesis(&self, host: Host, stage: &str, status: &str, second: i64) -> String {
        let time = format!("{:.0}", at(second));
        let conflicts = if status == "conflict" { json!(["a or b"]) } else { json!(null) };
        match host {
            Host::Bash => {
                let content = json!({"stage": stage, "timestamp": time, "status": status,
                    "consensus": {"conflicts": conflicts}});
                let path = format!("evidence/consensus/SPEC-1/spec-{stage}_{time}_synthesis.json");
                self.write_at(&path, &content, second);
                time
            }
            Host::Native => {
                let run = format!("run_SPEC-1_{second}");
                let verdict = json!({"spec_id": "SPEC-1", "stage": stage, "proposals": [], "run_id": run,
                    "exported_at": time});
                let content = json!({"spec_id": "SPEC-1", "stage": format!("spec-{stage}"), "status": status,
                    "output_markdown": "### gemini\n\n**model**:\ng-2.5\n", "agreements": null,
                    "conflicts": conflicts});
                self.write_at(&format!("evidence/consensus/SPEC-1/{stage}_verdict.json"), &verdict, second);
                self.write_at(&format!("evidence/consensus/SPEC-1/{stage}_synthesis.json"), &content, second);
                run
            }
        }
    }

    fn statuses(&self) -> Vec<Option<Status>> {
        self.sent.lock().unwrap().iter().map(|event| event.event.status).collect()
    }
}

/// The keys of a stage that is told again, and of its conflict.
fn corrected(key: &str, which: &str) -> [String; 2] {
    let again = format!("{key}:consensus-{which}");
    [again.clone(), format!("{again}:consensus-conflict")]
}

fn halted(key: &str) -> [String; 2] {
    [key.to_owned(), format!("{key}:consensus-conflict")]
}

/// A whole run: the synthesis of each stage follows its guardrail by the lags that were seen; that
/// of `conflicts_at` is a conflict. What is told, in order.
fn play(host: Host, ends_with: &str, conflicts_at: usize) {
    let repo = Repo::new();
    let _watch = repo.watch_with(false, &format!("stage_ends_with = \"{ends_with}\"\nconsensus_wait_ms = 0"));
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    let mut expected: Vec<String> = Vec::new();
    let mut second = 0;
    for (place, (stage, lag)) in STAGES.iter().zip(LAGS).enumerate() {
        let status = if place == conflicts_at { "conflict" } else { "ok" };
        let key = if lag == 0 {
            // Both within one second: the guardrail's file is not read before the other is there.
            repo.synthesis(host, stage, status, second);
            repo.guardrail(host, stage, second)
        } else {
            repo.guardrail(host, stage, second)
        };
        let is_conflict = status == "conflict";
        if lag == 0 {
            expected.extend(if is_conflict { halted(&key).to_vec() } else { vec![key] });
        } else if ends_with == "guardrail" {
            expected.push(key.clone());
            repo.expect_in_order(&expected, host, stage);
            let which = repo.synthesis(host, stage, status, second + lag);
            expected.extend(corrected(&key, &which).into_iter().filter(|_| is_conflict));
        } else {
            repo.synthesis(host, stage, status, second + lag);
            expected.extend(if is_conflict { halted(&key).to_vec() } else { vec![key] });
        }
        repo.expect_in_order(&expected, host, stage);
        second += lag + 10;
    }
    let halts = repo.statuses().iter().filter(|status| **status == Some(Status::Halt)).count();
    assert_eq!(halts, 1, "{host:?} {ends_with} {conflicts_at}");
    repo.expect_only(&expected.iter().map(String::as_str).collect::<Vec<_>>(), "m");
}

impl Repo {
    /// As [`Repo::expect_nothing_but`], by a guardrail that failed: it waits for nothing.
    fn expect_only(&self, keys: &[&str], marker: &str) {
        let telemetry = json!({"command": "spec-ops-plan", "specId": "SPEC-9", "sessionId": marker,
            "timestamp": "2025-10-14T10:00:00Z", "baseline": {"status": "failed"}});
        self.write(&format!("evidence/commands/SPEC-9/spec-plan_{marker}.json"), &telemetry.to_string());
        self.expect(&[keys, &[&format!("SPEC-9:plan:attempt-1:{marker}")]].concat());
        self.sent.lock().unwrap().pop();
    }

    fn expect_in_order(&self, keys: &[String], host: Host, stage: &str) {
        self.wait(&format!("{host:?} {stage}"), || (self.keys().len() >= keys.len()).then_some(()));
        assert_eq!(self.keys(), keys, "{host:?} {stage}");
    }
}

#[test]
fn whatever_the_lag_a_conflict_is_told_with_its_stage_or_after_it() {
    for host in [Host::Bash, Host::Native] {
        for ends_with in ["guardrail", "consensus"] {
            for conflicts_at in [0, 3] {
                play(host, ends_with, conflicts_at);
            }
        }
    }
}

#[test]
fn a_late_conflict_says_which_stage_it_corrects_and_of_agents_what_stands_in_the_text() {
    let repo = Repo::new();
    let _watch = repo.watch();
    let key = repo.guardrail(Host::Native, "plan", 0);
    repo.expect(&[&key]);
    let run = repo.synthesis(Host::Native, "plan", "conflict", 700);
    let [again, anomaly] = corrected(&key, &run);
    repo.expect(&[&key, &again, &anomaly]);
    let sent = repo.sent.lock().unwrap().clone();
    let (told, conflict) = (&sent[1], &sent[2]);
    assert_eq!(told.event.amends.as_ref().unwrap().as_str(), key);
    assert_eq!(told.event.status, Some(Status::Halt));
    assert_eq!(told.event.reasons, ["the consensus is a conflict: 1 point of disagreement"]);
    assert_eq!(
        json!(told.consensus.as_ref().unwrap().agents),
        json!([{"agent": "gemini", "model": "g-2.5"}])
    );
    assert_eq!(conflict.event.kind, EventKind::ConsensusConflict);
    assert_eq!(conflict.extra["anomaly"]["disagreements"], json!(["a or b"]));
}

#[test]
fn each_run_of_the_agents_that_ends_in_a_conflict_is_told_once() {
    let repo = Repo::new();
    let watch = repo.watch();
    let key = repo.guardrail(Host::Native, "plan", 0);
    repo.expect(&[&key]);
    let mut expected = vec![key.clone()];
    for second in [100, 200] {
        let run = repo.synthesis(Host::Native, "plan", "conflict", second);
        expected.extend(corrected(&key, &run));
        repo.expect_in_order(&expected, Host::Native, "plan");
    }
    // Written once more as it is, and seen again at the next start.
    repo.synthesis(Host::Native, "plan", "conflict", 200);
    repo.synthesis(Host::Native, "plan", "ok", 300);
    repo.expect_only(&expected.iter().map(String::as_str).collect::<Vec<_>>(), "m-1");
    watch.stop();
    // While nobody watches.
    let run = repo.synthesis(Host::Native, "plan", "conflict", 400);
    let _watch = repo.watch();
    expected.extend(corrected(&key, &run));
    repo.expect_in_order(&expected, Host::Native, "plan");
}

#[test]
fn a_stage_that_runs_again_is_not_judged_by_the_consensus_of_the_run_before() {
    for host in [Host::Bash, Host::Native] {
        let repo = Repo::new();
        let _watch = repo.watch_with(false, "consensus_wait_ms = 0");
        repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
        let first = repo.guardrail(host, "plan", 0);
        repo.expect(&[&first]);
        let which = repo.synthesis(host, "plan", "conflict", 500);
        let [again, anomaly] = corrected(&first, &which);
        repo.expect(&[&first, &again, &anomaly]);
        let second = repo.guardrail(host, "plan", 900);
        repo.expect(&[&first, &again, &anomaly, &second]);
        assert_eq!(repo.statuses().last().unwrap(), &Some(Status::Success), "{host:?}");
        // Nor is the run before by what comes of this one.
        let which = repo.synthesis(host, "plan", "conflict", 1500);
        let [again_2, anomaly_2] = corrected(&second, &which);
        repo.expect(&[&first, &again, &anomaly, &second, &again_2, &anomaly_2]);
    }
}

#[test]
fn where_agents_come_first_a_consensus_is_of_the_guardrail_that_follows() {
    let repo = Repo::new();
    let _watch = repo.watch_with(false, "consensus_wait_ms = 0");
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    let mut expected = Vec::new();
    for (second, status) in [(0, "ok"), (1000, "conflict"), (2000, "ok")] {
        // Under one name, as some hosts write it: the one before is gone.
        let content = json!({"timestamp": format!("{:.0}", at(second)), "status": status});
        repo.write_at("evidence/consensus/SPEC-1/spec-plan_synthesis.json", &content, second);
        repo.expect_only(&expected.iter().map(String::as_str).collect::<Vec<_>>(), &format!("m-{second}"));
        let key = repo.guardrail(Host::Bash, "plan", second + 300);
        expected.extend(if status == "conflict" { halted(&key).to_vec() } else { vec![key] });
        repo.expect_in_order(&expected, Host::Bash, "plan");
    }
}

#[test]
fn a_stage_that_ends_with_its_consensus_is_told_without_one_when_the_next_guardrail_ends() {
    let repo = Repo::new();
    let watch = repo.watch_with(false, "stage_ends_with = \"consensus\"");
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    let plan = repo.guardrail(Host::Native, "plan", 0);
    repo.expect_only(&[], "m-1");
    // A stop in between forgets nothing.
    watch.stop();
    let _watch = repo.watch_as_configured(false);
    repo.expect_only(&[], "m-2");
    // A guardrail that failed has no agents to wait for.
    let failed = repo.guardrail_that(Host::Native, "tasks", 400, false);
    repo.expect(&[&plan, &failed]);
    assert_eq!(repo.statuses(), [Some(Status::Success), Some(Status::Failure)]);
    let tasks = repo.guardrail(Host::Native, "tasks", 500);
    repo.expect_only(&[&plan, &failed], "m-3");
    repo.synthesis(Host::Native, "tasks", "ok", 800);
    repo.expect(&[&plan, &failed, &tasks]);
    let sent = repo.sent.lock().unwrap().clone();
    assert_eq!(sent[2].consensus.as_ref().unwrap().status.as_deref(), Some("ok"));
}

#[test]
fn what_an_earlier_version_did_not_watch_is_known_at_an_upgrade() {
    let repo = Repo::new();
    let watch = repo.watch();
    let key = repo.guardrail(Host::Bash, "plan", 0);
    repo.expect(&[&key]);
    watch.stop();
    let memory = repo.dir.path().join("spool/watch.jsonl");
    let text = fs::read_to_string(&memory).unwrap();
    let of_old: String =
        text.lines().filter(|line| !line.contains("\"sources\"")).map(|line| format!("{line}\n")).collect();
    assert!(of_old.len() < text.len());
    fs::write(&memory, of_old).unwrap();
    repo.synthesis(Host::Bash, "plan", "conflict", 500);
    repo.guardrail(Host::Native, "tasks", 600);
    repo.write_at("evidence/costs/SPEC-1_cost_summary.json", &json!({"total_spent": 99}), 600);
    let watch = repo.watch();
    repo.expect_only(&[&key], "m-1");
    let which = repo.synthesis(Host::Bash, "plan", "conflict", 700);
    let [again, anomaly] = corrected(&key, &which);
    repo.expect(&[&key, &again, &anomaly]);
    watch.stop();
}

#[test]
fn a_cost_above_the_threshold_is_handed_over_as_often_as_it_is_written() {
    let repo = Repo::new();
    let _watch = repo.watch_with(false, "[spec_ops.webhooks.alerts]\ncost_threshold_usd = 5.0");
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    let cost = |usd: f64, second| {
        let summary = json!({"total_spent": usd, "budget": 2.0, "per_stage": {"spec-plan": usd}});
        repo.write_at("evidence/costs/SPEC-1_cost_summary.json", &summary, second);
    };
    cost(4.9, 1);
    repo.expect_only(&[], "m-1");
    cost(5.5, 2);
    repo.expect(&["SPEC-1:pipeline:attempt-1"]);
    let sent = repo.sent.lock().unwrap().clone();
    assert_eq!(sent[0].event.kind, EventKind::CostThreshold);
    assert_eq!(sent[0].extra["cost"], json!({"totalUsd": 5.5, "budgetUsd": 2.0, "perStage": {"Plan": 5.5}}));
    assert_eq!(sent[0].extra["anomaly"]["thresholdUsd"], 5.0);
}

#[test]
fn of_broken_consensus_and_costs_nothing_is_told_and_nothing_is_held_up() {
    let repo = Repo::new();
    let _watch =
        repo.watch_with(false, "consensus_wait_ms = 0\n[spec_ops.webhooks.alerts]\ncost_threshold_usd = 5.0");
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    let key = repo.guardrail(Host::Native, "plan", 0);
    repo.expect(&[&key]);
    for (folder, name, junk) in [
        ("evidence/consensus/SPEC-1", "plan_synthesis.json", true),
        ("docs/SPEC-1/evidence/consensus", "plan_verdict.json", true),
        ("evidence/costs", "SPEC-1_cost_summary.json", false),
    ] {
        let path = format!("{folder}/{name}");
        let full = repo.dir.path().join(&path);
        let remove = || {
            if full.is_dir() { fs::remove_dir(&full).unwrap() } else { fs::remove_file(&full).unwrap() }
        };
        for content in [&b""[..], b"{\"status\": \"confl", b"\x00\xff\xfe", b"[1]", &[b'x'; 2 * 1024 * 1024]]
        {
            fs::create_dir_all(full.parent().unwrap()).unwrap();
            fs::write(&full, content).unwrap();
        }
        remove();
        fs::create_dir(&full).unwrap();
        repo.expect_only(&[&key], &format!("m-1-{junk}-{}", name.len()));
        remove();
        std::os::unix::fs::symlink("/dev/zero", &full).unwrap();
        repo.expect_only(&[&key], &format!("m-2-{junk}-{}", name.len()));
        remove();
        let made = std::process::Command::new("mkfifo").arg(&full).status().unwrap();
        assert!(made.success());
        repo.expect_only(&[&key], &format!("m-3-{junk}-{}", name.len()));
        remove();
    }
    // Whole at last.
    let which = repo.synthesis(Host::Native, "plan", "conflict", 500);
    let [again, anomaly] = corrected(&key, &which);
    repo.expect(&[&key, &again, &anomaly]);
}

impl Repo {
    /// Writes a file again as it is, as a checkout does.
    fn touch(&self, path: &str) {
        let path = self.dir.path().join(path);
        let content = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, content).unwrap();
    }
}

#[test]
fn what_is_checked_out_again_tells_nothing_of_its_consensus_again() {
    for host in [Host::Bash, Host::Native] {
        let repo = Repo::new();
        let watch = repo.watch_with(false, "consensus_wait_ms = 0");
        repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
        let key = repo.guardrail(host, "plan", 0);
        repo.expect(&[&key]);
        let which = repo.synthesis(host, "plan", "conflict", 500);
        let [again, anomaly] = corrected(&key, &which);
        let second = repo.guardrail(host, "plan", 900);
        let mut all = vec![key.clone(), again, anomaly, second.clone()];
        repo.wait("both", || (repo.keys().len() == 4).then_some(()));
        all.sort();
        let told = || {
            let mut told = repo.keys();
            told.sort();
            told
        };
        assert_eq!(told(), all);
        let mut files = Vec::new();
        for folder in ["evidence/commands/SPEC-1", "docs/SPEC-1/evidence", "evidence/consensus/SPEC-1"] {
            let inside = fs::read_dir(repo.dir.path().join(folder)).into_iter().flatten();
            files.extend(inside.map(|entry| {
                let path = entry.unwrap().path();
                path.strip_prefix(repo.dir.path()).unwrap().to_str().unwrap().to_owned()
            }));
        }
        assert!(files.len() >= 3, "{files:?}");
        for round in 0..2 {
            files.iter().filter(|file| file.ends_with(".json")).for_each(|file| repo.touch(file));
            let marker = repo.plan("SPEC-9", &format!("m-{round}"));
            repo.wait("the marker", || repo.keys().contains(&marker).then_some(()));
            repo.sent.lock().unwrap().retain(|event| event.spec.id.as_str() != "SPEC-9");
            assert_eq!(told(), all, "{host:?}");
        }
        watch.stop();
        files.iter().filter(|file| file.ends_with(".json")).for_each(|file| repo.touch(file));
        let _watch = repo.watch_as_configured(false);
        let marker = repo.plan("SPEC-9", "m-3");
        repo.wait("the marker", || repo.keys().contains(&marker).then_some(()));
        repo.sent.lock().unwrap().retain(|event| event.spec.id.as_str() != "SPEC-9");
        assert_eq!(told(), all, "{host:?}");
    }
}

#[test]
fn a_consensus_without_a_time_or_a_run_is_known_by_what_it_says() {
    let repo = Repo::new();
    let _watch = repo.watch_with(false, "consensus_wait_ms = 0");
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    let path = "evidence/consensus/SPEC-1/plan_synthesis.json";
    let conflict = json!({"status": "conflict", "conflicts": ["a or b"]});
    let first = repo.guardrail(Host::Native, "plan", 0);
    repo.expect(&[&first]);
    repo.write_at(path, &conflict, 500);
    let [again, anomaly] = corrected(&first, &format!("{:.3}", at(500)));
    repo.expect(&[&first, &again, &anomaly]);
    let second = repo.guardrail(Host::Native, "plan", 900);
    repo.expect(&[&first, &again, &anomaly, &second]);
    repo.write_at(path, &json!({"status": "ok"}), 1200);
    // The one before is checked out again.
    repo.write_at(path, &conflict, 5000);
    repo.expect_only(&[&first, &again, &anomaly, &second], "m-1");
}

#[test]
fn a_run_of_the_agents_that_is_exported_again_stays_with_its_stage() {
    let repo = Repo::new();
    let _watch = repo.watch_with(false, "consensus_wait_ms = 0");
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    let export = |second: i64| {
        let verdict = json!({"run_id": "run_1", "exported_at": format!("{:.0}", at(second))});
        repo.write_at("evidence/consensus/SPEC-1/plan_verdict.json", &verdict, second);
        let synthesis = json!({"status": "conflict", "conflicts": ["a or b"], "exported": second});
        repo.write_at("evidence/consensus/SPEC-1/plan_synthesis.json", &synthesis, second);
    };
    let first = repo.guardrail(Host::Native, "plan", 0);
    repo.expect(&[&first]);
    export(500);
    let [again, anomaly] = corrected(&first, "run_1");
    repo.expect(&[&first, &again, &anomaly]);
    let second = repo.guardrail(Host::Native, "plan", 900);
    repo.expect(&[&first, &again, &anomaly, &second]);
    export(1500);
    repo.expect_only(&[&first, &again, &anomaly, &second], "m-1");
}

#[test]
fn a_guardrail_that_waits_has_begun_and_a_conflict_before_it_ends_no_run() {
    let repo = Repo::new();
    let _watch = repo.watch_with(false, "stage_ends_with = \"consensus\"");
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    let plan = repo.guardrail(Host::Native, "plan", 0);
    let _tasks = repo.guardrail(Host::Native, "tasks", 400);
    repo.expect(&[&plan]);
    let run = repo.synthesis(Host::Native, "plan", "conflict", 300);
    let [again, anomaly] = corrected(&plan, &run);
    repo.expect(&[&plan, &again, &anomaly]);
    assert!(repo.sent.lock().unwrap()[1].event.is_followed);
}

#[test]
fn agents_that_come_first_are_waited_for_by_no_setting_and_another_setting_lets_go() {
    let repo = Repo::new();
    let watch = repo.watch_with(false, "stage_ends_with = \"consensus\"");
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    repo.synthesis(Host::Bash, "plan", "conflict", 0);
    let key = repo.guardrail(Host::Bash, "plan", 15);
    let halted = halted(&key);
    repo.expect(&[&halted[0], &halted[1]]);
    watch.stop();
}

#[test]
fn a_cost_of_the_baseline_is_no_news_and_a_lower_threshold_is_looked_at_anew() {
    let repo = Repo::new();
    let threshold = |usd: f64| format!("[spec_ops.webhooks.alerts]\ncost_threshold_usd = {usd:.1}");
    let summary = "evidence/costs/SPEC-1_cost_summary.json";
    repo.write(summary, r#"{"total_spent": 6.0}"#);
    let watch = repo.watch_with(false, &threshold(5.0));
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    repo.touch(summary);
    repo.expect_only(&[], "m-1");
    repo.write(summary, r#"{"total_spent": 4.0}"#);
    repo.expect_only(&[], "m-2");
    watch.stop();
    let _watch = repo.watch_with(false, &threshold(3.0));
    repo.expect(&["SPEC-1:pipeline:attempt-1"]);
}

#[test]
fn a_conflict_that_is_written_in_two_name_forms_is_told_once() {
    for second_form in [
        "docs/SPEC-1/evidence/consensus/plan_synthesis.json",
        "evidence/consensus/SPEC-1/SPEC-1_plan_synthesis_20251226_130820.json",
        "evidence/consensus/SPEC-1/spec-plan_2025-12-26T13:08:20Z_synthesis.json",
    ] {
        for lag in [0, 700] {
            let repo = Repo::new();
            let _watch = repo.watch_with(false, "consensus_wait_ms = 0");
            repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
            let key = repo.guardrail(Host::Native, "plan", 0);
            repo.expect(&[&key]);
            let run = repo.synthesis(Host::Native, "plan", "conflict", 500);
            let [again, anomaly] = corrected(&key, &run);
            repo.expect(&[&key, &again, &anomaly]);
            let same =
                json!({"spec_id": "SPEC-1", "stage": "plan", "status": "conflict", "conflicts": ["a or b"]});
            repo.write_at(second_form, &same, 500 + lag);
            repo.expect_only(&[&key, &again, &anomaly], "m-1");
        }
    }
}
