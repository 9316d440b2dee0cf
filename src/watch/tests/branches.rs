//! Tasks over branches, against the real git: whatever is edited, committed, switched, merged,
//! stashed, rebased and looked at, a task is told when it became Done by work, and once.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicI64, Ordering};

use proptest::prelude::*;

use super::super::file::stamp;
use super::super::memory::Memory;
use super::super::reading::{Looked, Reader};
use super::super::tree::Kind;
use super::*;
use crate::sources::tasks::TaskFile;

/// What a person or a script does.
#[derive(Clone, Copy, Debug)]
enum Step {
    Edit {
        task: usize,
        done: bool,
    },
    Commit,
    /// Of another file.
    CommitOther,
    Switch(usize),
    Merge(usize),
    Rebase(usize),
    Stash,
    Pop,
    /// To a commit so far back.
    LookBack(u32),
    /// The watcher is started again.
    Restart,
}

const BRANCHES: [&str; 3] = ["main", "one", "two"];
const TASKS: [&str; 2] = ["T1", "T2"];

/// What is known of a task by what was done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Untold,
    Told(u32),
    Reopened(u32),
}

/// Where the repo lies that is watched.
#[derive(Clone, Copy, Debug)]
enum Lies {
    AtTheTop,
    BelowTheTop,
    InALinkedWorktree,
    InASubmodule,
}

const LIES: [Lies; 4] = [Lies::AtTheTop, Lies::BelowTheTop, Lies::InALinkedWorktree, Lies::InASubmodule];

struct Git {
    repo: Repo,
    /// The list's folder, where git is run.
    root: PathBuf,
    /// The form of references.
    form: &'static str,
    config: Arc<Config>,
    reader: Option<Reader>,
    /// Seconds since the epoch: what is done takes one, what is seen another.
    clock: Arc<AtomicI64>,
    known: BTreeMap<&'static str, Known>,
    expected: Vec<String>,
}

type Rows = BTreeMap<String, bool>;

impl Git {
    /// A repo with a list on the branch `main`; `None` where git is not installed.
    fn new(lies: Lies, form: &'static str) -> Option<Self> {
        let repo = Repo::new();
        if Command::new("git").arg("--version").output().is_err() {
            eprintln!("skipped: git is not installed");
            return None;
        }
        repo.write(
            "config.toml",
            "[spec_ops.webhooks]\nspool_dir = \"spool\"\nevidence_dir = \"evidence\"\n",
        );
        let root = repo.dir.path().join(match lies {
            Lies::AtTheTop => "repo",
            Lies::BelowTheTop => "repo/below",
            Lies::InALinkedWorktree => "linked",
            Lies::InASubmodule => "outer/inner",
        });
        let config = Arc::new(Config { repo: root.clone(), ..(*repo.config()).clone() });
        let known = TASKS.map(|task| (task, Known::Untold)).into();
        let clock = Arc::new(AtomicI64::new(1_700_000_000));
        let first = repo.dir.path().to_owned();
        let (reader, expected) = (None, Vec::new());
        let mut git = Self { repo, root: first, form, config, reader, clock, known, expected };
        let run = |git: &Self, all: &[&[&str]]| {
            for arguments in all {
                assert!(git.run(arguments), "{arguments:?}");
            }
        };
        run(&git, &[&["init", "-q", "-b", "main", "repo"]]);
        let begin: &[&str] = &["-C", "repo", "commit", "-q", "--allow-empty", "-m", "begin"];
        match lies {
            Lies::AtTheTop | Lies::BelowTheTop => fs::create_dir_all(&root).unwrap(),
            Lies::InALinkedWorktree => {
                let elsewhere: &[&str] = &["-C", "repo", "checkout", "-q", "-b", "elsewhere"];
                run(&git, &[begin, elsewhere, &["-C", "repo", "worktree", "add", "-q", "../linked", "main"]]);
            }
            Lies::InASubmodule => {
                let add: &[&str] = &["-C", "outer", "submodule", "--quiet", "add", "../repo", "inner"];
                run(&git, &[begin, &["init", "-q", "outer"], add]);
            }
        }
        git.root = root;
        git.write_rows(&[false, false]);
        // The list is there in every commit that can be looked at.
        assert!(git.run(&["add", "-A"]));
        let amends = git.run(&["rev-parse", "-q", "--verify", "HEAD"]);
        let amend: &[&str] = if amends { &["--amend"] } else { &[] };
        assert!(git.run(&[&["commit", "-q", "-m", "begin"][..], amend].concat()));
        git.start();
        git.look();
        Some(git)
    }

    /// Starts the watcher with what it remembers.
    fn start(&mut self) {
        if let Some(mut reader) = self.reader.take() {
            reader.flush(self.repo.dir.path()).unwrap();
        }
        let memory = Memory::open(&self.config.spool_dir).unwrap().0;
        let sent = self.repo.sent.clone();
        let emit = move |event| {
            sent.lock().unwrap().push(event);
            Fate::Taken
        };
        let mut reader = Reader::new(memory, Box::new(emit));
        let clock = self.clock.clone();
        reader.lists.now = Box::new(move || clock.load(Ordering::Relaxed));
        (reader.lists.patience, reader.lists.lull) = (PATIENCE, Duration::ZERO);
        self.reader = Some(reader);
    }

    /// Whether git did it.
    fn run(&self, arguments: &[&str]) -> bool {
        self.output(arguments).is_some()
    }

    fn output(&self, arguments: &[&str]) -> Option<String> {
        let at = format!("@{} +0000", self.clock.load(Ordering::Relaxed));
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "advice.detachedHead=false"]);
        git.args(["-c", "gc.auto=0", "-c", "rebase.autoStash=true", "-c", "core.editor=true"]);
        git.args(["-c", "protocol.file.allow=always", "-C"]).arg(&self.root).args(arguments);
        git.env("GIT_AUTHOR_DATE", &at).env("GIT_COMMITTER_DATE", &at);
        // Git 2.45 and later.
        let ran = git.env("GIT_DEFAULT_REF_FORMAT", self.form).output().unwrap();
        ran.status.success().then(|| String::from_utf8(ran.stdout).unwrap())
    }

    /// Rows between those of the tasks keep changes of both from touching.
    fn write_rows(&self, done: &[bool]) {
        let mut text = "| ID | Status |\n|---|---|\n".to_owned();
        for (task, done) in TASKS.iter().zip(done) {
            text += &format!("| {task} | {} |\n", if *done { "Done" } else { "Open" });
            text += &(0..4).map(|n| format!("| {task}-{n} | Open |\n")).collect::<String>();
        }
        fs::write(self.root.join("SPEC.md"), text).unwrap();
    }

    fn rows_in(&self, text: &str) -> Rows {
        let rows = TaskFile::of(Path::new("SPEC.md"), &self.config).rows(text);
        rows.into_iter().map(|row| (row.id, row.is_done)).collect()
    }

    fn rows(&self) -> Rows {
        self.rows_in(&fs::read_to_string(self.root.join("SPEC.md")).unwrap())
    }

    fn rows_in_head(&self) -> Rows {
        self.rows_in(&self.output(&["show", "HEAD:./SPEC.md"]).unwrap())
    }

    /// Work made a task Done, or reopened it.
    fn work(&mut self, task: &'static str, done: bool) {
        let known = self.known.get_mut(task).unwrap();
        *known = match (*known, done) {
            (Known::Reopened(times), true) => Known::Told(times + 1),
            (Known::Told(times), false) => Known::Reopened(times),
            _ => return,
        };
        if let Known::Told(times) = known {
            self.expected.push(format!("SPEC-TRACKER:SPEC.md#{task}:done-{times}"));
        }
    }

    /// The watcher looks, and has told of what became Done and of nothing else.
    fn look(&mut self) {
        self.clock.fetch_add(1, Ordering::Relaxed);
        for (task, done) in self.rows() {
            let Some((task, known)) = self.known.iter_mut().find(|(known, _)| **known == task) else {
                continue;
            };
            if done && *known == Known::Untold {
                *known = Known::Told(1);
                self.expected.push(format!("SPEC-TRACKER:SPEC.md#{task}:done-1"));
            }
        }
        assert!(matches!(self.read(), Looked::Done));
        let mut told = self.repo.keys();
        told.sort();
        self.expected.sort();
        assert_eq!(told, self.expected);
    }

    fn read(&mut self) -> Looked {
        let path = self.root.join("SPEC.md");
        let version = stamp(&path).unwrap();
        self.reader.as_mut().unwrap().read(Kind::Tasks, &path, version, &self.config, true)
    }

    fn step(&mut self, step: Step) {
        self.clock.fetch_add(1, Ordering::Relaxed);
        match step {
            Step::Edit { task, done } => {
                let rows = self.rows();
                if rows[TASKS[task]] == done {
                    return;
                }
                let mut all = TASKS.map(|task| rows[task]);
                all[task] = done;
                self.write_rows(&all);
                // An edit that makes the row what HEAD has takes an edit back.
                if done || self.rows_in_head()[TASKS[task]] {
                    self.work(TASKS[task], done);
                }
            }
            Step::Commit => {
                let (rows, before) = (self.rows(), self.rows_in_head());
                if self.run(&["commit", "-q", "-a", "-m", "work"]) {
                    for task in TASKS {
                        if rows[task] != before[task] {
                            self.work(task, rows[task]);
                        }
                    }
                }
            }
            Step::CommitOther => {
                fs::write(self.root.join("other"), self.clock.load(Ordering::Relaxed).to_string()).unwrap();
                assert!(self.run(&["add", "other"]) && self.run(&["commit", "-q", "-m", "other", "other"]));
            }
            Step::Switch(branch) => {
                let name = BRANCHES[branch];
                if !self.run(&["rev-parse", "-q", "--verify", name]) {
                    assert!(self.run(&["branch", name]));
                }
                self.run(&["checkout", "-q", name]);
            }
            Step::Merge(branch) => {
                if !self.run(&["merge", "-q", "--no-edit", BRANCHES[branch]]) {
                    self.look();
                    self.run(&["merge", "--abort"]);
                }
            }
            Step::Rebase(branch) => {
                if !self.run(&["rebase", "-q", BRANCHES[branch]]) {
                    self.look();
                    self.run(&["rebase", "--abort"]);
                }
                self.settle_conflicts();
            }
            Step::Stash => drop(self.run(&["stash", "-q"])),
            Step::Pop => {
                self.run(&["stash", "pop", "-q"]);
                self.settle_conflicts();
            }
            Step::LookBack(commits) => {
                self.run(&["checkout", "-q", "--detach", &format!("HEAD~{commits}")]);
            }
            Step::Restart => self.start(),
        }
        self.look();
    }

    /// A stash that does not fit stays where it is.
    fn settle_conflicts(&mut self) {
        if !self.output(&["ls-files", "--unmerged"]).unwrap().is_empty() {
            self.look();
            assert!(self.run(&["reset", "-q", "--hard"]));
        }
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..TASKS.len(), any::<bool>()).prop_map(|(task, done)| Step::Edit { task, done }),
        4 => Just(Step::Commit),
        1 => Just(Step::CommitOther),
        3 => (0..BRANCHES.len()).prop_map(Step::Switch),
        1 => (0..BRANCHES.len()).prop_map(Step::Merge),
        1 => (0..BRANCHES.len()).prop_map(Step::Rebase),
        1 => Just(Step::Stash),
        2 => Just(Step::Pop),
        1 => (1..4u32).prop_map(Step::LookBack),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..40)
}

/// Processes are slow.
fn few_cases() -> ProptestConfig {
    let cases = ProptestConfig::default().cases;
    ProptestConfig { cases: if cases == 256 { 12 } else { cases }, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(few_cases())]

    #[test]
    fn a_task_is_told_when_it_became_done_by_work_and_once(
        lies in proptest::sample::select(&LIES[..]),
        form in proptest::sample::select(&["files", "reftable"][..]),
        steps in steps(),
    ) {
        let Some(mut git) = Git::new(lies, form) else { return Ok(()) };
        for step in steps {
            git.step(step);
        }
    }
}

#[test]
fn while_git_writes_the_list_waits() {
    let Some(mut git) = Git::new(Lies::AtTheTop, "files") else { return };
    git.step(Step::Edit { task: 0, done: true });
    git.step(Step::Commit);
    let lock = git.root.join(".git/index.lock");
    let lock = |age: u64| {
        let file = fs::File::create(&lock).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(age)).unwrap();
    };
    lock(0);
    // There is no question yet.
    assert!(matches!(git.read(), Looked::Done));
    git.write_rows(&[false, false]);
    assert!(matches!(git.read(), Looked::Later(_)));
    // One that a killed git left.
    lock(60);
    assert!(matches!(git.read(), Looked::Done));
    git.write_rows(&[true, false]);
    git.reader.as_mut().unwrap().lists.lull = PATIENCE;
    fs::remove_file(git.root.join(".git/index.lock")).unwrap();
    assert!(git.run(&["add", "-A"]));
    assert!(matches!(git.read(), Looked::Later(_)));
    git.reader.as_mut().unwrap().lists.lull = Duration::ZERO;
    assert!(matches!(git.read(), Looked::Done));
    assert_eq!(git.repo.keys(), ["SPEC-TRACKER:SPEC.md#T1:done-1", "SPEC-TRACKER:SPEC.md#T1:done-2"]);
}

#[test]
fn where_git_cannot_be_asked_an_edit_counts_and_what_comes_with_another_head_does_not() {
    for form in ["files", "reftable"] {
        let Some(mut git) = Git::new(Lies::AtTheTop, form) else { return };
        git.reader.as_mut().unwrap().lists.patience = Duration::ZERO;
        git.step(Step::Switch(1));
        git.step(Step::Edit { task: 0, done: true });
        git.step(Step::Commit);
        git.step(Step::Switch(0));
        git.step(Step::Switch(1));
        git.step(Step::Edit { task: 0, done: false });
        git.step(Step::Edit { task: 0, done: true });
        assert_eq!(git.repo.keys(), ["SPEC-TRACKER:SPEC.md#T1:done-1", "SPEC-TRACKER:SPEC.md#T1:done-2"]);
    }
}

/// As a branch that is switched while files are still being read does it: a list is read again
/// when HEAD moves, also where nothing in it changed.
#[test]
fn a_list_counts_as_read_until_head_moves() {
    let Some(mut git) = Git::new(Lies::AtTheTop, "files") else { return };
    let path = git.root.join("SPEC.md");
    let (version, config) = (stamp(&path).unwrap(), git.config.clone());
    let has_read = |git: &Git| git.reader.as_ref().unwrap().has_read(Kind::Tasks, &path, version, &config);
    assert!(has_read(&git));
    assert!(git.reader.as_mut().unwrap().has_moved(&config));
    assert!(!git.reader.as_mut().unwrap().has_moved(&config));
    assert!(git.run(&["commit", "-q", "--allow-empty", "-m", "one"]));
    assert!(!has_read(&git) && git.reader.as_mut().unwrap().has_moved(&config));
    git.look();
    assert!(has_read(&git));
}
