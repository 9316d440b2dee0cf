//! Task lists that `task_files` names and those of features, lists that are not as they should be,
//! and lists that are complete.

use std::time::SystemTime;

use super::*;

fn table(rows: &[(&str, &str)]) -> String {
    let rows = rows.iter().map(|(id, status)| format!("| {id} | {status} |\n"));
    // One stays open: no list is complete.
    format!("| ID | Status |\n|---|---|\n| Z | Open |\n{}", rows.collect::<String>())
}

fn keys(list: &str, ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| format!("SPEC-TRACKER:{list}#{id}:done-1")).collect()
}

impl Repo {
    /// Waits for these, in any order.
    #[track_caller]
    fn expect_all(&self, keys: &[Vec<String>]) {
        let mut expected = keys.concat();
        expected.sort();
        self.wait("all", || (self.keys().len() >= expected.len()).then_some(()));
        let mut told = self.keys();
        told.sort();
        assert_eq!(told, expected);
    }
}

#[test]
fn further_lists_are_watched_wherever_their_globs_lead() {
    let repo = Repo::new();
    let done = table(&[("A", "Done")]);
    repo.write("services/one/board.md", &table(&[("A", "Open"), ("B", "Done")]));
    for elsewhere in ["services/one/other.md", "services/board.md", "services/one/deep/board.md"] {
        repo.write(elsewhere, &done);
    }
    let settings = "task_files = [\"SPEC.md\", \"services/*/board.md\", \"**/todo-?.md\"]";
    let watch = repo.watch_with(false, settings);
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    repo.write("services/one/board.md", &table(&[("A", "Done"), ("B", "Done")]));
    let first = keys("services/one/board.md", &["A"]);
    repo.expect_all(std::slice::from_ref(&first));
    // In folders that are made now; one that two globs name is told once.
    repo.write("services/two/board.md", &done);
    repo.write("plans/2026/q1/todo-1.md", &done);
    repo.write("SPEC.md", &done);
    let second = [
        first,
        keys("services/two/board.md", &["A"]),
        keys("plans/2026/q1/todo-1.md", &["A"]),
        keys("SPEC.md", &["A"]),
    ];
    repo.expect_all(&second);
    for elsewhere in [
        ".git",
        "target",
        "node_modules",
        "a/node_modules/b",
        "evidence/commands/SPEC-1",
        "spool/SPEC-1",
        "plans",
    ] {
        repo.write(
            &format!("{elsewhere}/{}", if elsewhere == "plans" { "todo-12.md" } else { "todo-1.md" }),
            &done,
        );
    }
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("todo-1.md"), &done).unwrap();
    std::os::unix::fs::symlink(outside.path(), repo.dir.path().join("linked")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("todo-1.md"), repo.dir.path().join("todo-2.md")).unwrap();
    repo.write("todo-3.md", &done);
    let third = [second.concat(), keys("todo-3.md", &["A"])];
    repo.expect_all(&third);
    watch.stop();
    // While nobody watches, and what is looked at then finds nothing of what lies elsewhere.
    repo.write("plans/todo-9.md", &done);
    let _watch = repo.watch_with(false, settings);
    repo.expect_all(&[third.concat(), keys("plans/todo-9.md", &["A"])]);
    repo.sent.lock().unwrap().clear();
    repo.expect_nothing_but(&[], "m-1");
}

#[test]
fn a_list_that_is_not_as_it_should_be_invents_and_loses_nothing() {
    let repo = Repo::new();
    repo.write("SPEC.md", &table(&[("T1", "Open"), ("T2", "Done")]));
    let _watch = repo.watch();
    let path = repo.dir.path().join("SPEC.md");
    let list = |id: &str| {
        let rest = [("T1", "Open"), ("T2", "Done"), ("T9", "[~]")];
        table(&[&rest[..], &[(id, "Done")]].concat())
    };
    let mut number = 10;
    let mut told = Vec::new();
    let mut check = |what: &str, at: SystemTime| {
        // What is in the list's place is looked at, and then it is a list again.
        repo.expect_nothing_but(&told.iter().map(String::as_str).collect::<Vec<_>>(), &format!("m-{number}"));
        number += 1;
        let id = format!("N{number}");
        if path.is_dir() {
            fs::remove_dir(&path).unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        fs::write(repo.dir.path().join("new"), list(&id)).unwrap();
        fs::File::open(repo.dir.path().join("new")).unwrap().set_modified(at).unwrap();
        fs::rename(repo.dir.path().join("new"), &path).unwrap();
        told.extend(keys("SPEC.md", &[&id]));
        repo.wait(what, || (repo.keys().len() >= told.len()).then_some(()));
        assert_eq!(repo.keys(), told, "{what}");
    };
    let now = SystemTime::now();
    fs::write(&path, "").unwrap();
    check("empty", now);
    fs::write(&path, list("X").trim_end_matches(" Done |\n")).unwrap();
    check("half a row", now);
    fs::write(&path, [&[0, 0xff, 0xfe, b'|'][..], &[7; 5000]].concat()).unwrap();
    check("binary", now + Duration::from_secs(100 * 365 * 86_400));
    fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
    check("huge", std::time::UNIX_EPOCH);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    check("a folder", now);
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    check("a link", now);
    fs::remove_file(&path).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    let unread = unread::sources(&repo.config());
    assert!(unread.iter().any(|line| line.contains("SPEC.md is no file of its own")), "{unread:?}");
    check("a FIFO", now);
}

#[test]
fn what_a_glob_names_is_known_when_it_is_new() {
    let repo = Repo::new();
    let done = table(&[("A", "Done"), ("B", "Open")]);
    repo.write("one/board.md", &done);
    repo.write("two/board.md", &done);
    repo.write("TODO.md", &done);
    let watch = repo.watch_with(false, "task_files = [\"one/board.md\"]");
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    watch.stop();
    let _watch = repo.watch_with(false, "task_files = [\"one/board.md\", \"*/board.md\", \"TODO*.md\"]");
    // Of one that is named already, what became Done meanwhile is told.
    repo.write("one/board.md", &table(&[("A", "Done"), ("B", "Done")]));
    let first = keys("one/board.md", &["B"]);
    repo.expect_all(std::slice::from_ref(&first));
    repo.write("two/board.md", &table(&[("A", "Done"), ("B", "Done")]));
    repo.expect_all(&[first, keys("two/board.md", &["B"])]);
}

impl Repo {
    #[track_caller]
    fn expect_of(&self, list: &str, told: &[&str]) {
        let told: Vec<String> = told.iter().map(|key| format!("{list}{key}")).collect();
        self.expect(&told.iter().map(String::as_str).collect::<Vec<_>>());
    }
}

#[test]
fn the_boxes_of_features_are_watched_and_a_complete_list_is_told_after_its_last_task() {
    let repo = Repo::new();
    repo.write("specs/001-old/tasks.md", "- [x] T001 Old\n");
    repo.write("specs/002-kanban/tasks.md", "# Tasks\n\n- [x] T001 Create\n- [ ] T002 [P] [US1] Write\n");
    let _watch = repo.watch();
    repo.write("specs/002-kanban/tasks.md", "# Tasks\n\n- [x] T001 Create\n- [X] T002 [P] [US1] Write\n");
    let list = "002-kanban:specs/002-kanban/tasks.md";
    repo.expect_of(list, &["#T002:done-1", ":tasklist-done-1"]);
    let sent = repo.sent.lock().unwrap().clone();
    let task = serde_json::to_value(sent[0].task.as_ref().unwrap()).unwrap();
    let expected =
        serde_json::json!({"id": "T002", "title": "Write", "status": "Done", "markers": ["P", "US1"]});
    assert_eq!(task, expected);
    assert_eq!(sent[1].extra["tasks"], serde_json::json!({"done": 2, "total": 2}));
    assert_eq!(sent[1].evidence.as_ref().unwrap().paths, ["specs/002-kanban/tasks.md"]);
    assert_eq!(sent[1].spec.id.as_str(), "002-kanban");
    // A new feature, one with phases, and a folder that is named as no SPEC can be.
    repo.sent.lock().unwrap().clear();
    for (folder, spec) in
        [("003-x", "003-x"), ("003-x/phase-2", "003-x"), ("a b", "SPEC-TRACKER"), (".", "SPEC-TRACKER")]
    {
        let path = format!("specs/{folder}/tasks.md").replace("/./", "/");
        repo.write(&path, "- [ ] T1 a\n- [x] T2 b\n");
        repo.expect_of(&format!("{spec}:{path}"), &["#T2:done-1"]);
        repo.sent.lock().unwrap().clear();
    }
    // Those are no lists.
    for path in ["specs/004/a/b/tasks.md", "specs/004/spec.md", "specs/.x/tasks.md", "other/004/tasks.md"] {
        repo.write(path, "- [x] T1 a\n");
    }
    repo.expect_nothing_but(&[], "m-1");
    assert_eq!(unread::sources(&repo.config()), Vec::<String>::new());
}

#[test]
fn what_an_earlier_version_did_not_read_is_a_baseline() {
    let repo = Repo::new();
    let memory = "{\"watch\":{\"version\":1}}\n{\"sources\":[\"bash guardrails\",\"task list\"]}\n\
                  {\"tasks\":{\"path\":\"SPEC.md\",\"states\":{\"T1\":{\"done\":false,\"times\":0}}}}\n";
    repo.write("spool/watch.jsonl", memory);
    let boxes: String = (0..500).map(|n| format!("- [x] B{n} a\n")).collect();
    repo.write("SPEC.md", &format!("| ID | Status |\n|---|---|\n| T1 | Done |\n\n{boxes}- [ ] C1 b\n"));
    repo.write("specs/001-a/tasks.md", &boxes);
    let watch = repo.watch_with(false, "");
    repo.expect(&["SPEC-TRACKER:SPEC.md#T1:done-1"]);
    repo.expect_nothing_but(&["SPEC-TRACKER:SPEC.md#T1:done-1"], "m-1");
    watch.stop();
    repo.sent.lock().unwrap().clear();
    // While nobody watches.
    repo.write("SPEC.md", &format!("{boxes}- [x] C1 b\n"));
    repo.write("specs/001-a/tasks.md", &format!("{boxes}- [x] C1 b\n"));
    let waiting = Waiting::of(&repo.config(), None);
    assert_eq!((waiting.tasks, waiting.troubles), (2, Vec::new()));
    let _watch = repo.watch_with(false, "");
    // The feature's list was complete, and no task of it was open since.
    let mut all =
        [keys("SPEC.md", &["C1"]), vec!["SPEC-TRACKER:SPEC.md:tasklist-done-1".to_owned()]].concat();
    all.push("001-a:specs/001-a/tasks.md#C1:done-1".to_owned());
    repo.expect_all(&[all]);
}

#[test]
fn a_list_that_is_cut_off_tells_nothing_that_it_does_not_say() {
    let repo = Repo::new();
    let list = "specs/001-a/tasks.md";
    let whole = "- [x] T001 a\n- [x] T002 b\n- [ ] T003 c\n- [ ] T004 d\n";
    repo.write(list, whole);
    let _watch = repo.watch();
    // Each is overwritten before it has rested for long.
    for cut in ["- [x] T001 a\n- [x] T002 b\n- [x", "- [x] T001 a\n- [x] T00", "- [x] T001 a\n- [x]"] {
        repo.write(list, cut);
        thread::park_timeout(2 * QUIET_FOR_TESTS);
    }
    repo.write(list, whole);
    repo.expect_nothing_but(&[], "m-1");
    // One whose writer died within an id is read once it rests, and has no task of half a name.
    repo.write(list, "- [x] T001 a\n- [x] T00");
    thread::park_timeout(super::settle::LONG + 2 * QUIET_FOR_TESTS);
    repo.expect_nothing_but(&[], "m-0");
    repo.write(list, whole);
    // Cut off between two lines, it looks complete: that counts once it rests.
    repo.write(list, "- [x] T001 a\n- [x] T002 b\n- [x] T003 c\n");
    thread::park_timeout(2 * QUIET_FOR_TESTS);
    let whole = whole.replace("[ ] T003", "[x] T003");
    repo.write(list, &whole);
    repo.expect_of(list_key(), &["#T003:done-1"]);
    repo.expect_nothing_but(&["001-a:specs/001-a/tasks.md#T003:done-1"], "m-2");
    // One that ends without a line break is whole as well.
    repo.write(list, whole.replace("[ ] T004", "[x] T004").trim_end());
    repo.expect_of(list_key(), &["#T003:done-1", "#T004:done-1", ":tasklist-done-1"]);
    // The last open one is dropped while another one becomes Done.
    repo.write(list, &format!("{whole}- [ ] T005 e\n- [ ] T006 f\n"));
    repo.expect_nothing_but(
        &[
            "001-a:specs/001-a/tasks.md#T003:done-1",
            "001-a:specs/001-a/tasks.md#T004:done-1",
            "001-a:specs/001-a/tasks.md:tasklist-done-1",
        ],
        "m-3",
    );
    repo.sent.lock().unwrap().clear();
    repo.write(list, "- [x] T001 a\n- [x] T005 e\n");
    repo.expect_of(list_key(), &["#T005:done-1", ":tasklist-done-2"]);
}

fn list_key() -> &'static str {
    "001-a:specs/001-a/tasks.md"
}
