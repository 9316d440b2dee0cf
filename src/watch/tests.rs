//! The watcher against real files: what it sends, and what it does not.

mod branches;
mod consensus;
mod folders;
mod lists;
#[cfg(feature = "cli")]
mod opinions;
mod samples;
mod workflow_runs;

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Instant;

use jiff::Timestamp;

use super::*;
use crate::config::{LoadOptions, load};
use crate::env::Environment;
use crate::event::{EventKind, KeyOrigin, Status};

/// Far above what any step needs.
const PATIENCE: Duration = Duration::from_secs(20);

struct Repo {
    dir: tempfile::TempDir,
    sent: Arc<Mutex<Vec<Event>>>,
    /// What events meet with.
    fate: Arc<Mutex<Fate>>,
    /// How long a disk takes for one.
    cost: Duration,
}

impl Repo {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("spool")).unwrap();
        let sent = Arc::default();
        Self { dir, sent, fate: Arc::new(Mutex::new(Fate::Taken)), cost: Duration::ZERO }
    }

    fn config(&self) -> Arc<Config> {
        let file = self.dir.path().join("config.toml");
        let options = LoadOptions {
            config: Some(file),
            repo: Some(self.dir.path().to_owned()),
            working_dir: self.dir.path().to_owned(),
            secrets: false,
            role: None,
        };
        Arc::new(load(&options, &Environment::fixed([])).config.unwrap())
    }

    fn watch_with(&self, from_start: bool, settings: &str) -> Watch {
        let text =
            format!("[spec_ops.webhooks]\nspool_dir = \"spool\"\nevidence_dir = \"evidence\"\n{settings}\n");
        self.write("config.toml", &text);
        self.watch_as_configured(from_start)
    }

    fn watch_as_configured(&self, from_start: bool) -> Watch {
        let config = self.config();
        let (sent, fate, cost) = (self.sent.clone(), self.fate.clone(), self.cost);
        let emit = move |event| {
            if !cost.is_zero() {
                thread::park_timeout(cost);
            }
            let fate = fate.lock().unwrap().clone();
            if fate == Fate::Taken {
                sent.lock().unwrap().push(event);
            }
            fate
        };
        Watch::start(move || config.clone(), from_start, emit, |_| {}).unwrap()
    }

    /// Starts, and waits until the baseline is taken or everything was looked at.
    fn watch(&self) -> Watch {
        let watch = self.watch_with(false, "");
        self.wait("the memory", || self.dir.path().join("spool/watch.jsonl").exists().then_some(()));
        watch
    }

    fn write(&self, path: &str, content: &str) {
        let path = self.dir.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    fn remove(&self, path: &str) {
        fs::remove_file(self.dir.path().join(path)).unwrap();
    }

    fn plan(&self, spec: &str, session: &str) -> String {
        self.plan_in("evidence", spec, session)
    }

    fn plan_in(&self, evidence: &str, spec: &str, session: &str) -> String {
        self.write(&plan_file(evidence, spec, session), &plan_telemetry(spec, session));
        format!("{spec}:plan:attempt-1:{session}")
    }

    fn wait<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = condition() {
                return found;
            }
            assert!(Instant::now() < end, "{what}: sent so far {:?}", self.keys());
            thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn keys(&self) -> Vec<String> {
        self.sent.lock().unwrap().iter().map(|event| event.event.idempotency_key.to_string()).collect()
    }

    #[track_caller]
    fn expect(&self, keys: &[&str]) {
        self.wait("events", || (self.keys().len() >= keys.len()).then_some(()));
        assert_eq!(self.keys(), keys);
    }

    /// Everything that happened before is dealt with once this is: the file of the marker stays
    /// open, so that it rests as long as any other before it is read.
    fn expect_nothing_but(&self, keys: &[&str], marker: &str) {
        let path = self.dir.path().join(plan_file("evidence", "SPEC-9", marker));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let mut open = fs::File::create(path).unwrap();
        open.write_all(plan_telemetry("SPEC-9", marker).as_bytes()).unwrap();
        self.expect(&[keys, &[&format!("SPEC-9:plan:attempt-1:{marker}")]].concat());
        self.sent.lock().unwrap().pop();
    }
}

fn plan_file(evidence: &str, spec: &str, session: &str) -> String {
    format!("{evidence}/commands/{spec}/spec-plan_{session}.json")
}

fn plan_telemetry(spec: &str, session: &str) -> String {
    let telemetry = serde_json::json!({
        "command": "spec-ops-plan", "specId": spec, "sessionId": session,
        "timestamp": "2025-10-14T10:00:00Z",
        "baseline": {"status": "passed"},
    });
    telemetry.to_string()
}

#[test]
fn native_guardrails_are_told_from_both_places_once_and_in_order() {
    let repo = Repo::new();
    let watch = repo.watch();
    let native = |stage: &str, time: &str| {
        serde_json::json!({"command": format!("guardrail.{stage}"), "specId": "SPEC-1",
            "sessionId": "7", "success": true,
            "timestamp": time, "checks": []})
        .to_string()
    };
    repo.write(
        "docs/SPEC-1/evidence/guardrail-plan-2025-12-26T13-50-08Z_7.json",
        &native("plan", "2025-12-26T13:50:08Z"),
    );
    repo.write(
        "docs/SPEC-1/evidence/guardrail-tasks-2025-12-26T13-50-23Z_7.json",
        &native("tasks", "2025-12-26T13:50:23Z"),
    );
    repo.wait("two", || (repo.keys().len() >= 2).then_some(()));
    let earlier = "evidence/commands/SPEC-1/guardrail-audit-2025-12-26T13-54-50Z_7.json";
    repo.write(earlier, &native("audit", "2025-12-26T13:54:50Z"));
    repo.write("docs/SPEC-1/evidence/guardrail-later.json", "{}");
    repo.write("docs/SPEC-1/evidence/inner/guardrail-plan-2025-12-26T13-59-08Z_7.json", "{}");
    repo.wait("three", || (repo.keys().len() >= 3).then_some(()));
    watch.stop();
    let keys = [
        "plan:attempt-1:2025-12-26T13-50-08Z_7",
        "tasks:attempt-1:2025-12-26T13-50-23Z_7",
        "audit:attempt-1:2025-12-26T13-54-50Z_7",
    ];
    assert_eq!(repo.keys(), keys.map(|key| format!("SPEC-1:{key}")));
}

#[test]
fn what_is_there_at_the_first_start_is_not_sent_and_what_appears_is_once() {
    let repo = Repo::new();
    repo.plan("SPEC-1", "old-1");
    let watch = repo.watch();
    let first = repo.plan("SPEC-1", "s-2");
    repo.expect(&[&first]);
    // A folder that did not exist, and a file that is touched and one that was there.
    let second = repo.plan("SPEC-2", "s-3");
    repo.expect(&[&first, &second]);
    repo.plan("SPEC-1", "s-2");
    repo.plan("SPEC-1", "old-1");
    repo.expect_nothing_but(&[&first, &second], "m-1");
    watch.stop();
    // What appears while nobody watches is sent at the next start, once; and so on from start to
    // start.
    let third = repo.plan("SPEC-3", "s-4");
    let watch = repo.watch();
    let marker = "SPEC-9:plan:attempt-1:m-1";
    repo.expect(&[&first, &second, &third]);
    watch.stop();
    let _watch = repo.watch();
    repo.expect_nothing_but(&[&first, &second, &third], "m-2");
    assert!(!repo.keys().contains(&marker.to_owned()));
}

#[test]
fn from_the_start_everything_is_sent() {
    let repo = Repo::new();
    let key = repo.plan("SPEC-1", "old-1");
    repo.write("evidence/commands/SPEC-1/spec-plan_claude_old-1.json", "{\"agent\": \"claude\"}");
    repo.write("SPEC.md", "| ID | Status |\n|---|---|\n| T1 | Done |\n| T2 | Backlog |\n");
    let _watch = repo.watch_with(true, "");
    repo.wait("two events", || (repo.keys().len() == 2).then_some(()));
    let mut keys = repo.keys();
    keys.sort();
    assert_eq!(keys, ["SPEC-1:plan:attempt-1:old-1", "SPEC-TRACKER:SPEC.md#T1:done-1"]);
    assert!(keys.contains(&key));
}

#[test]
fn a_file_half_written_is_waited_for_and_one_that_stays_broken_is_a_halt() {
    let repo = Repo::new();
    let _watch = repo.watch();
    let whole = fs::read_to_string(repo.dir.path().join({
        repo.plan("SPEC-1", "template");
        "evidence/commands/SPEC-1/spec-plan_template.json"
    }));
    repo.expect(&["SPEC-1:plan:attempt-1:template"]);
    let whole = whole.unwrap().replace("template", "slow");
    for cut in [10, whole.len() / 2, whole.len()] {
        repo.write("evidence/commands/SPEC-1/spec-plan_slow.json", &whole[..cut]);
        thread::park_timeout(2 * QUIET_FOR_TESTS);
    }
    repo.expect(&["SPEC-1:plan:attempt-1:template", "SPEC-1:plan:attempt-1:slow"]);
    repo.write("evidence/commands/SPEC-1/spec-plan_torn.json", &whole[..40]);
    repo.wait("the halt", || (repo.keys().len() == 3).then_some(()));
    let statuses: Vec<_> = repo.sent.lock().unwrap().iter().map(|event| event.event.status).collect();
    assert_eq!(statuses, [Some(Status::Success), Some(Status::Success), Some(Status::Halt)]);
}

const QUIET_FOR_TESTS: Duration = settle::QUIET;

#[test]
fn tasks_that_become_done_are_sent_once_a_transition() {
    let repo = Repo::new();
    let table = |rows: &str| format!("# Tracker\n\n| ID | Status |\n|---|---|\n{rows}");
    repo.write("SPEC.md", &table("| T1 | Done |\n| T2 | Backlog |\n"));
    let watch = repo.watch();
    repo.write("SPEC.md", &table("| T1 | Done |\n| T2 | **DONE** |\n| T3 | Backlog |\n"));
    repo.expect(&["SPEC-TRACKER:SPEC.md#T2:done-1"]);
    // Half written, gone and back: nothing new.
    repo.write("SPEC.md", &table("| T1 | Do"));
    repo.remove("SPEC.md");
    thread::park_timeout(2 * QUIET_FOR_TESTS);
    repo.write("SPEC.md", &table("| T1 | Done |\n| T2 | Done |\n| T3 | Backlog |\n"));
    repo.expect_nothing_but(&["SPEC-TRACKER:SPEC.md#T2:done-1"], "m-1");
    // Saved by an editor that writes UTF-16: the same tasks.
    let text = table("| T1 | Done |\n| T2 | Done |\n| T3 | Done |\n");
    let utf16: Vec<u8> = format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    fs::write(repo.dir.path().join("SPEC.md"), utf16).unwrap();
    repo.expect(&[
        "SPEC-TRACKER:SPEC.md#T2:done-1",
        "SPEC-TRACKER:SPEC.md#T3:done-1",
        "SPEC-TRACKER:SPEC.md:tasklist-done-1",
    ]);
    repo.sent.lock().unwrap().truncate(1);
    // Reopened, and Done again while nobody watches.
    repo.write("SPEC.md", &table("| T2 | In Progress |\n"));
    repo.expect_nothing_but(&["SPEC-TRACKER:SPEC.md#T2:done-1"], "m-2");
    watch.stop();
    repo.write("SPEC.md", &table("| T2 | Done |\n"));
    repo.write("docs/SPEC-7-x/tasks.md", "| Order | Task | Status |\n|---|---|---|\n| 1 | a | Done |\n");
    let _watch = repo.watch();
    let all = [
        "SPEC-TRACKER:SPEC.md#T2:done-1",
        "SPEC-TRACKER:SPEC.md#T2:done-2",
        "SPEC-TRACKER:SPEC.md:tasklist-done-2",
        "SPEC-7-x:docs/SPEC-7-x/tasks.md#1:done-1",
        "SPEC-7-x:docs/SPEC-7-x/tasks.md:tasklist-done-1",
    ];
    repo.wait("all", || (repo.keys().len() == all.len()).then_some(()));
    assert_eq!(
        repo.keys().into_iter().collect::<std::collections::BTreeSet<_>>(),
        all.map(str::to_owned).into()
    );
}

#[test]
fn a_stage_waits_a_moment_for_its_consensus_and_a_conflict_halts_it() {
    let repo = Repo::new();
    fs::create_dir_all(repo.dir.path().join("evidence/consensus/SPEC-1")).unwrap();
    let _watch = repo.watch_with(false, "consensus_wait_ms = 60000");
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    let key = repo.plan("SPEC-1", "2025-10-14T10:00:00Z-1");
    thread::park_timeout(3 * QUIET_FOR_TESTS);
    assert_eq!(repo.keys(), Vec::<String>::new(), "it waits");
    let synthesis = r#"{"stage": "plan", "timestamp": "2025-10-14T10:01:00Z", "status": "conflict",
        "consensus": {"conflicts": ["a or b"]}}"#;
    repo.write("evidence/consensus/SPEC-1/spec-plan_synthesis.json", synthesis);
    repo.expect(&[&key, &format!("{key}:consensus-conflict")]);
    let sent = repo.sent.lock().unwrap().clone();
    assert_eq!(
        (sent[0].event.status, sent[1].event.kind),
        (Some(Status::Halt), EventKind::ConsensusConflict)
    );
}

#[test]
fn an_event_that_is_not_taken_now_is_sent_later_and_never_forgotten() {
    let repo = Repo::new();
    *repo.fate.lock().unwrap() = Fate::NotNow("a test".to_owned());
    let watch = repo.watch();
    let first = repo.plan("SPEC-1", "s-1");
    thread::park_timeout(3 * QUIET_FOR_TESTS);
    watch.stop();
    *repo.fate.lock().unwrap() = Fate::Taken;
    let _watch = repo.watch();
    repo.expect(&[&first]);
}

/// A stage's file of one session, as a retry under that session writes it again.
fn validate(repo: &Repo, stamp: &str, verdict: &str) {
    let telemetry = serde_json::json!({
        "command": "spec-ops-validate", "specId": "SPEC-1", "sessionId": "s", "timestamp": stamp,
        "scenarios": [{"name": "a", "status": verdict}],
    });
    repo.write("evidence/commands/SPEC-1/spec-validate_s.json", &telemetry.to_string());
}

#[test]
fn a_file_that_is_rewritten_with_another_verdict_is_told_again() {
    let repo = Repo::new();
    let key = "SPEC-1:validate:attempt-1:s";
    let told = |status, origin: fn(Timestamp) -> KeyOrigin| {
        let event = repo.sent.lock().unwrap().last().unwrap().event.clone();
        let at = match event.key_origin {
            KeyOrigin::Source(at) | KeyOrigin::Rewritten(at) => at,
            other => panic!("{other:?}"),
        };
        assert_eq!((event.status, event.key_origin), (Some(status), origin(at)));
    };
    // What is there at the very first start and says something else later.
    validate(&repo, "2025-10-14T10:00:00Z", "failed");
    let watch = repo.watch();
    validate(&repo, "2025-10-14T10:01:00Z", "failed");
    repo.expect_nothing_but(&[], "m-1");
    validate(&repo, "2025-10-14T10:02:00Z", "passed");
    repo.expect(&[key]);
    told(Status::Success, KeyOrigin::Source);
    validate(&repo, "2025-10-14T10:03:00Z", "passed");
    repo.expect_nothing_but(&[key], "m-2");
    validate(&repo, "2025-10-14T10:04:00Z", "failed");
    repo.expect(&[key, key]);
    told(Status::Failure, KeyOrigin::Rewritten);
    watch.stop();
    // While nobody watches.
    validate(&repo, "2025-10-14T10:05:00Z", "passed");
    let watch = repo.watch();
    repo.expect(&[key, key, key]);
    told(Status::Success, KeyOrigin::Rewritten);
    watch.stop();
    let _watch = repo.watch();
    repo.expect_nothing_but(&[key, key, key], "m-3");
}

#[test]
fn what_an_earlier_version_of_the_program_saw_is_known_still() {
    let repo = Repo::new();
    repo.plan("SPEC-1", "old");
    repo.plan("SPEC-1", "told");
    let folder = "evidence/commands/SPEC-1/spec-plan";
    repo.write(
        "spool/watch.jsonl",
        &format!(
            "{{\"watch\":{{\"version\":1}}}}\n{{\"telemetry\":{{\"path\":\"{folder}_old.json\"}}}}\n\
             {{\"telemetry\":{{\"path\":\"{folder}_told.json\",\"key\":\"SPEC-1:plan:attempt-1:told\"}}}}\n"
        ),
    );
    let watch = repo.watch_with(false, "");
    repo.expect_nothing_but(&[], "m-1");
    watch.stop();
    // From now on their verdicts are known.
    for session in ["old", "told"] {
        repo.write(&format!("{folder}_{session}.json"), "{\"command\": \"spec-ops-plan\"}");
    }
    let _watch = repo.watch();
    repo.wait("both", || (repo.keys().len() == 2).then_some(()));
}

#[test]
fn strange_files_are_neither_sent_nor_followed_and_hold_nothing_up() {
    let repo = Repo::new();
    let _watch = repo.watch();
    let dir = repo.dir.path().join("evidence/commands/SPEC-1");
    fs::create_dir_all(dir.join("spec-plan_directory.json")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", dir.join("spec-plan_link.json")).unwrap();
    std::os::unix::fs::symlink("spec-plan_self.json", dir.join("spec-plan_self.json")).unwrap();
    std::os::unix::fs::symlink("/", repo.dir.path().join("evidence/commands/SPEC-LINK")).unwrap();
    repo.write("evidence/commands/SPEC-1/notes.json", "{}");
    repo.write("evidence/commands/SPEC-1/webhooks/spec-plan_inside.json", "{}");
    repo.write("evidence/commands/.hidden/spec-plan_1.json", "{}");
    repo.write("evidence/commands/spec-plan_1.json", "{}");
    repo.expect_nothing_but(&[], "m-1");
    // Names with colons, spaces and newlines, content of any bytes and nesting: each is a halt.
    let odd = dir.join("spec-plan_odd name\nwith: all.json");
    fs::write(odd, [0xff, 0x00, b'{']).unwrap();
    repo.write("evidence/commands/SPEC-1/spec-plan_deep.json", &"[".repeat(100_000));
    repo.write("evidence/commands/SPEC-1/spec-plan_empty.json", "");
    repo.wait("three halts", || (repo.keys().len() == 3).then_some(()));
    let huge = fs::File::create(dir.join("spec-plan_huge.json")).unwrap();
    huge.set_len(100 << 20).unwrap();
    repo.wait("the fourth", || (repo.keys().len() == 4).then_some(()));
    let sent = repo.sent.lock().unwrap();
    assert!(sent.iter().all(|event| event.event.status == Some(Status::Halt)), "{sent:?}");
}

#[test]
fn ten_thousand_files_at_once_and_a_branch_that_comes_and_goes() {
    let repo = Repo::new();
    let _watch = repo.watch();
    let keys: std::collections::BTreeSet<String> =
        (0..10_000).map(|n| repo.plan(&format!("SPEC-{}", n % 10), &format!("s-{n}"))).collect();
    let end = Instant::now() + 6 * PATIENCE;
    while repo.keys().len() < keys.len() && Instant::now() < end {
        thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(repo.keys().into_iter().collect::<std::collections::BTreeSet<_>>(), keys);
    assert_eq!(repo.keys().len(), keys.len(), "each once");
    // Half of the tree goes and comes back with new times.
    let gone = Path::new("evidence/commands");
    for n in 0..5 {
        let folder = repo.dir.path().join(gone).join(format!("SPEC-{n}"));
        fs::rename(&folder, repo.dir.path().join(format!("away-{n}"))).unwrap();
    }
    thread::park_timeout(QUIET_FOR_TESTS);
    for n in (0..10_000).filter(|n| n % 10 < 5) {
        repo.plan(&format!("SPEC-{}", n % 10), &format!("s-{n}"));
    }
    let marker = repo.plan("SPEC-99", "marker");
    let last = repo.wait("the marker", || repo.keys().into_iter().nth(keys.len()));
    assert_eq!(last, marker);
    assert_eq!(repo.keys().len(), keys.len() + 1);
}

#[test]
fn a_flood_of_junk_holds_no_honest_file_up() {
    let repo = Repo { cost: Duration::from_millis(2), ..Repo::new() };
    let _watch = repo.watch();
    const FLOOD: usize = 4_000;
    for n in 0..FLOOD {
        // Named as telemetry is, named as an agent's output is, and named as nothing.
        for (spec, name) in [("SPEC-1", "spec-plan_"), ("SPEC-2", "spec-plan_claude_"), ("SPEC-2", "notes-")]
        {
            repo.write(&format!("evidence/commands/{spec}/{name}junk-{n}.json"), "{");
        }
    }
    repo.wait("the flood", || (repo.keys().len() > 50).then_some(()));
    let honest =
        [repo.plan("SPEC-1", "honest"), repo.plan("SPEC-2", "honest"), repo.plan("SPEC-3", "honest")];
    let before = repo.wait("the honest ones", || {
        let keys = repo.keys();
        honest.iter().all(|key| keys.contains(key)).then_some(keys.len())
    });
    assert!(before < FLOOD / 2, "{before} were told before");
    // It is told all the same: each is a halt.
    let patience = Instant::now() + 4 * PATIENCE;
    while repo.keys().len() < FLOOD + 3 && Instant::now() < patience {
        thread::park_timeout(Duration::from_millis(20));
    }
    assert_eq!(repo.keys().len(), FLOOD + 3);
}

/// A repo with every shape of what is watched, good and broken, and every event that it gives.
#[test]
fn every_shape_gives_the_events_that_were_looked_at() {
    let repo = Repo::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/repo"), repo.dir.path());
    let _watch = repo.watch_with(true, "");
    // 7 + 9 + 5 stages, a conflict, 4 + 1 tasks.
    repo.wait("every event", || (repo.keys().len() >= 27).then_some(()));
    repo.plan("SPEC-9", "m-1");
    repo.wait("the marker", || repo.keys().last()?.ends_with(":m-1").then_some(()));
    let mut sent = repo.sent.lock().unwrap().clone();
    sent.pop();
    for spec in ["SPEC-FIX-201", "SPEC-FIX-202", "SPEC-FIX-203"] {
        let stages = sent.iter().filter(|event| event.event.kind == EventKind::StageCompleted);
        let keys: Vec<_> = stages.map(|event| event.event.idempotency_key.to_string()).collect();
        let times: Vec<_> =
            keys.iter().filter_map(|key| key.strip_prefix(spec)?.split("2025-").nth(1)).collect();
        assert!(times.is_sorted() && times.len() >= 5, "{times:?}");
    }
    sent.sort_by_key(|event| event.event.idempotency_key.clone());
    // As the Router takes it out.
    sent.iter_mut().for_each(|event| event.event.key_origin = KeyOrigin::Given);
    let shown: Vec<String> = sent.iter().map(|event| serde_json::to_string_pretty(event).unwrap()).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let target = to.join(entry.file_name().unwrap());
        if entry.is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy(&entry, &target);
        } else {
            fs::copy(&entry, &target).unwrap();
        }
    }
}

#[test]
fn a_tracker_that_never_rests_is_read_all_the_same() {
    let repo = Repo::new();
    let table = |status: &str, note: u32| {
        format!("| ID | Status | Note |\n|---|---|---|\n| T1 | {status} | {note} |\n| T2 | Backlog | |\n")
    };
    repo.write("SPEC.md", &table("Backlog", 0));
    let _watch = repo.watch();
    let end = Instant::now() + PATIENCE;
    let mut note = 0;
    while repo.keys().is_empty() && Instant::now() < end {
        note += 1;
        // As an editor or a script does it: cut to nothing, then written.
        repo.write("SPEC.md", &table(if note > 5 { "Done" } else { "Backlog" }, note));
        thread::park_timeout(QUIET_FOR_TESTS * 2 / 3);
    }
    repo.expect_nothing_but(&["SPEC-TRACKER:SPEC.md#T1:done-1"], "m-1");
}

#[test]
fn a_file_that_becomes_something_else_is_left_alone() {
    let repo = Repo::new();
    let _watch = repo.watch();
    let key = repo.plan("SPEC-1", "s-1");
    repo.expect(&[&key]);
    let path = "evidence/commands/SPEC-1/spec-plan_s-1.json";
    for make in [0, 1, 2] {
        let path = repo.dir.path().join(path);
        if path.is_dir() {
            fs::remove_dir(&path).unwrap()
        } else {
            fs::remove_file(&path).unwrap()
        }
        match make {
            0 => fs::create_dir(&path).unwrap(),
            1 => std::os::unix::fs::symlink("/etc/passwd", &path).unwrap(),
            _ => std::os::unix::fs::symlink(path.file_name().unwrap(), &path).unwrap(),
        }
        repo.expect_nothing_but(&[&key], &format!("m-{make}"));
    }
}
