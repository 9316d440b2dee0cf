//! Task lists that `task_files` names, and lists that are not as they should be.

use std::time::SystemTime;

use super::*;

fn table(rows: &[(&str, &str)]) -> String {
    let rows = rows.iter().map(|(id, status)| format!("| {id} | {status} |\n"));
    format!("| ID | Status |\n|---|---|\n{}", rows.collect::<String>())
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
    let watch = repo.watch_with(false, "task_files = [\"one/board.md\"]");
    repo.wait("the memory", || repo.dir.path().join("spool/watch.jsonl").exists().then_some(()));
    watch.stop();
    let _watch = repo.watch_with(false, "task_files = [\"one/board.md\", \"*/board.md\"]");
    // Of one that is named already, what became Done meanwhile is told.
    repo.write("one/board.md", &table(&[("A", "Done"), ("B", "Done")]));
    let first = keys("one/board.md", &["B"]);
    repo.expect_all(std::slice::from_ref(&first));
    repo.write("two/board.md", &table(&[("A", "Done"), ("B", "Done")]));
    repo.expect_all(&[first, keys("two/board.md", &["B"])]);
}
