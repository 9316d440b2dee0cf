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

struct Git {
    repo: Repo,
    config: Arc<Config>,
    reader: Option<Reader>,
    /// Seconds since the epoch: what is done takes one, what is seen another.
    clock: Arc<AtomicI64>,
    known: BTreeMap<&'static str, Known>,
    expected: Vec<String>,
}

type Rows = BTreeMap<String, bool>;

impl Git {
    /// A repo with a list on its only branch; `None` where git is not installed.
    fn new() -> Option<Self> {
        let repo = Repo::new();
        if Command::new("git").args(["init", "-q", "-b", "main"]).arg(repo.dir.path()).output().is_err() {
            eprintln!("skipped: git is not installed");
            return None;
        }
        repo.write(
            "config.toml",
            "[spec_ops.webhooks]\nspool_dir = \"spool\"\nevidence_dir = \"evidence\"\n",
        );
        repo.write(".gitignore", "spool\nconfig.toml\n");
        let config = repo.config();
        let known = TASKS.map(|task| (task, Known::Untold)).into();
        let clock = Arc::new(AtomicI64::new(1_700_000_000));
        let mut git = Self { repo, config, reader: None, clock, known, expected: Vec::new() };
        git.write_rows(&[false, false]);
        assert!(git.run(&["add", "-A"]) && git.run(&["commit", "-q", "-m", "begin"]));
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
        git.arg("-C").arg(self.repo.dir.path()).args(arguments);
        let ran = git.env("GIT_AUTHOR_DATE", &at).env("GIT_COMMITTER_DATE", &at).output().unwrap();
        ran.status.success().then(|| String::from_utf8(ran.stdout).unwrap())
    }

    /// Rows between those of the tasks keep changes of both from touching.
    fn write_rows(&self, done: &[bool]) {
        let mut text = "| ID | Status |\n|---|---|\n".to_owned();
        for (task, done) in TASKS.iter().zip(done) {
            text += &format!("| {task} | {} |\n", if *done { "Done" } else { "Open" });
            text += &(0..4).map(|n| format!("| {task}-{n} | Open |\n")).collect::<String>();
        }
        self.repo.write("SPEC.md", &text);
    }

    fn rows_in(&self, text: &str) -> Rows {
        let rows = TaskFile::of(Path::new("SPEC.md"), &self.config).rows(text);
        rows.into_iter().map(|row| (row.id, row.is_done)).collect()
    }

    fn rows(&self) -> Rows {
        self.rows_in(&fs::read_to_string(self.repo.dir.path().join("SPEC.md")).unwrap())
    }

    fn rows_in_head(&self) -> Rows {
        self.rows_in(&self.output(&["show", "HEAD:SPEC.md"]).unwrap())
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
        let path = self.repo.dir.path().join("SPEC.md");
        let reader = self.reader.as_mut().unwrap();
        let version = stamp(&path).unwrap();
        let looked = reader.read(Kind::Tasks, &path, version, &self.config, true);
        assert!(matches!(looked, Looked::Done));
        let mut told = self.repo.keys();
        told.sort();
        self.expected.sort();
        assert_eq!(told, self.expected);
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
                self.repo.write("other", &self.clock.load(Ordering::Relaxed).to_string());
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
    fn a_task_is_told_when_it_became_done_by_work_and_once(steps in steps()) {
        let Some(mut git) = Git::new() else { return Ok(()) };
        for step in steps {
            git.step(step);
        }
    }
}
