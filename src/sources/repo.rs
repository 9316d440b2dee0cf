//! What git's own files say of a repo: its branch, which commit it is at, and whether git is at
//! work in it. Git itself is asked where only it can say.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::git;
use crate::clock;
use crate::digest::sha256;
use crate::env::Environment;
use crate::files::open::{self, Links};
use crate::names::printable;

/// Where a CI service says which branch it checked out, where the checkout itself has none.
const OF_CI: [&str; 2] = ["GITHUB_HEAD_REF", "CI_COMMIT_REF_NAME"];

/// The current branch; where it is detached the one that a CI service names, else `HEAD`; `None`
/// outside a repo.
pub(crate) fn current_branch(root: &Path, environment: &Environment) -> Option<String> {
    let head = read_small(&git_dir(root)?.join("HEAD"))?;
    let detached = || {
        let named = OF_CI.iter().find_map(|name| environment.get(name));
        Some(named.map_or("HEAD".to_owned(), |name| printable(&name, LONGEST)))
    };
    let Some(reference) = reference_in(&head) else { return detached() };
    if reference == ELSEWHERE {
        return match git::branch(root, git::PATIENCE) {
            Ok(Some(branch)) => Some(printable(&branch, LONGEST)),
            Ok(None) => detached(),
            Err(error) => {
                log::debug!("the branch is not known: {error}");
                None
            }
        };
    }
    Some(printable(reference.strip_prefix("refs/heads/").unwrap_or(reference), LONGEST))
}

/// What stands in HEAD where references are kept in reftables (git-init(1), `--ref-format`).
const ELSEWHERE: &str = "refs/heads/.invalid";

/// Longest name of a branch that is kept, in characters.
const LONGEST: usize = 255;

/// Largest `packed-refs` that is read: some 500,000 references.
const MAX_PACKED_BYTES: u64 = 32 * 1024 * 1024;

/// What stands in the git folder while git is in the middle of something.
const IN_THE_MIDDLE: [&str; 5] =
    ["MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "rebase-merge", "rebase-apply"];

/// A lock of the index that is older is one that a killed git left, or that waits for a person.
const LOCK_HOLDS: Duration = Duration::from_secs(10);

/// The commits that HEAD and the newest stash are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Standpoint {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) head: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) stash: Option<String>,
}

/// A look at the git folder of a working tree. As long as it is equal, HEAD and the stash are the
/// same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Glance {
    git_dir: PathBuf,
    /// The same, but in a linked working tree the folder of the repo it is linked to.
    common_dir: PathBuf,
    /// The file HEAD.
    head: String,
    /// The files of HEAD's branch and of the stash, where they have one of their own.
    loose: [Option<String>; 2],
    /// Version of the file that has the other references.
    packed: Option<(u64, Duration)>,
    /// Both lists of reftables, where references are kept in them.
    tables: [Option<String>; 2],
    /// Git is in the middle of a merge, a rebase or the like.
    pub(crate) is_in_the_middle: bool,
}

impl Glance {
    /// At the working tree that a folder is in; `None` where it is in none.
    pub(crate) fn at(folder: &Path) -> Option<Self> {
        let git_dir = folder.ancestors().find_map(git_dir)?;
        let head = read_small(&git_dir.join("HEAD"))?;
        let common = read_small(&git_dir.join("commondir"));
        let common_dir = common.map_or_else(|| git_dir.clone(), |common| git_dir.join(common.trim()));
        let mut loose = [None, read_small(&common_dir.join(STASH))];
        let mut tables = [None, None];
        match reference_in(&head) {
            Some(ELSEWHERE) => {
                tables = [&git_dir, &common_dir].map(|dir| read_small(&dir.join("reftable/tables.list")));
            }
            // A reference of this working tree alone lies in its own folder.
            Some(reference) if is_inside(reference) => {
                loose[0] =
                    [&git_dir, &common_dir].into_iter().find_map(|dir| read_small(&dir.join(reference)));
            }
            _ => {}
        }
        let packed = std::fs::metadata(common_dir.join("packed-refs")).ok().and_then(|found| {
            let written = found.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            Some((found.len(), written))
        });
        let is_in_the_middle =
            IN_THE_MIDDLE.iter().any(|name| std::fs::symlink_metadata(git_dir.join(name)).is_ok());
        Some(Self { git_dir, common_dir, head, loose, packed, tables, is_in_the_middle })
    }

    /// The commits themselves. `None` for one that there is not, or that cannot be read.
    ///
    /// # Errors
    /// Only git can say it (reftables), and it cannot be asked.
    pub(crate) fn standpoint(&self, folder: &Path, patience: Duration) -> io::Result<Standpoint> {
        if self.is_in_reftables() {
            let [head, stash] = git::ids(folder, ["HEAD", STASH], patience)?;
            return Ok(Standpoint { head, stash });
        }
        let packed = self.packed.and_then(|_| {
            open::whole(&self.common_dir.join("packed-refs"), Links::Followed, MAX_PACKED_BYTES).ok()
        });
        let in_packed = |reference: &str| {
            let text = String::from_utf8_lossy(packed.as_deref()?);
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            lines.find(|(_, name)| *name == reference).map(|(id, _)| id.to_owned())
        };
        let loose = |at: usize| self.loose[at].as_deref().map(|id| id.trim().to_owned());
        let head = match reference_in(&self.head) {
            None => Some(self.head.trim().to_owned()),
            Some(reference) => loose(0).or_else(|| in_packed(reference)),
        };
        Ok(Standpoint { head, stash: loose(1).or_else(|| in_packed(STASH)) })
    }

    /// What stands for the commits where git cannot be asked for them: it differs when anything
    /// does.
    pub(crate) fn stand_in(&self) -> Standpoint {
        let tables = format!("{:?}", self.tables);
        Standpoint { head: Some(hex::encode(sha256(tables.as_bytes()))), stash: None }
    }

    /// The git folder of the working tree itself.
    pub(crate) fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// Whether only git can say what HEAD and the stash are.
    pub(crate) fn is_in_reftables(&self) -> bool {
        reference_in(&self.head) == Some(ELSEWHERE)
    }

    /// Whether git is writing the working tree: its index is locked, or was written less than
    /// `lull` ago, and HEAD may follow.
    pub(crate) fn is_being_written(&self, lull: Duration) -> bool {
        let is_younger = |name: &str, than: Duration| {
            let written = std::fs::metadata(self.git_dir.join(name)).and_then(|found| found.modified());
            written.ok().and_then(clock::age).is_some_and(|age| age < than)
        };
        is_younger("index.lock", LOCK_HOLDS) || is_younger("index", lull)
    }
}

const STASH: &str = "refs/stash";

fn reference_in(head: &str) -> Option<&str> {
    head.trim().strip_prefix("ref: ")
}

/// Whether a reference is named as git names them: no path out of the git folder.
fn is_inside(reference: &str) -> bool {
    reference.starts_with("refs/") && !reference.split('/').any(|part| part == "..")
}

/// `.git` itself, or where the file of that name in a worktree or submodule points.
fn git_dir(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let text = read_small(&git)?;
    Some(root.join(text.trim().strip_prefix("gitdir: ")?))
}

fn read_small(path: &Path) -> Option<String> {
    String::from_utf8(open::start(path, Links::Followed, 4096).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn branches_worktrees_detached_heads_and_no_repo() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let none = Environment::fixed([]);
        let branch = |root: &Path| current_branch(root, &none);
        assert_eq!(branch(root), None);
        fs::create_dir_all(root.join(".git/worktrees/w")).unwrap();
        fs::write(root.join(".git/HEAD"), "ref: refs/heads/feat/x\n").unwrap();
        assert_eq!(branch(root).as_deref(), Some("feat/x"));
        let of_ci = Environment::fixed([("GITHUB_HEAD_REF", ""), ("CI_COMMIT_REF_NAME", "feat/ci")]);
        assert_eq!(current_branch(root, &of_ci).as_deref(), Some("feat/x"), "the checkout's own word");
        fs::write(root.join(".git/HEAD"), "0123456789abcdef0123456789abcdef01234567\n").unwrap();
        assert_eq!(branch(root).as_deref(), Some("HEAD"));
        assert_eq!(current_branch(root, &of_ci).as_deref(), Some("feat/ci"));
        fs::write(root.join(".git/worktrees/w/HEAD"), "ref: refs/heads/w\n").unwrap();
        fs::create_dir(root.join("w")).unwrap();
        fs::write(root.join("w/.git"), "gitdir: ../.git/worktrees/w\n").unwrap();
        assert_eq!(branch(&root.join("w")).as_deref(), Some("w"));
        fs::write(root.join(".git/HEAD"), "ref: refs/heads/.invalid\n").unwrap();
        assert_eq!(branch(root), None, "git cannot say it either");
    }

    #[test]
    fn what_git_itself_makes_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let mut git = std::process::Command::new("git");
            git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-C"]).arg(dir.path()).args(arguments);
            git.output().is_ok_and(|ran| ran.status.success())
        };
        if !git(&["init", "-q", "-b", "main", "a"]) {
            eprintln!("skipped: git is not installed");
            return;
        }
        let none = Environment::fixed([]);
        let branch = |name: &str| current_branch(&dir.path().join(name), &none);
        assert_eq!(branch("a").as_deref(), Some("main"));
        assert!(git(&["-C", "a", "commit", "-q", "--allow-empty", "-m", "one"]));
        assert!(git(&["-C", "a", "worktree", "add", "-q", "-b", "feat/w", "../w"]));
        assert_eq!(branch("w").as_deref(), Some("feat/w"));
        assert!(git(&["-C", "a", "checkout", "-q", "--detach"]));
        assert_eq!(branch("a").as_deref(), Some("HEAD"));
        assert!(git(&[
            "-C",
            "a",
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            "../w",
            "sub"
        ]));
        assert_eq!(branch("a/sub").as_deref(), Some("feat/w"));
        // Git 2.45 and later.
        if git(&["init", "-q", "-b", "feat/r", "--ref-format=reftable", "r"]) {
            assert_eq!(branch("r").as_deref(), Some("feat/r"));
            assert!(git(&["-C", "r", "commit", "-q", "--allow-empty", "-m", "one"]));
            assert!(git(&["-C", "r", "checkout", "-q", "--detach"]));
            assert_eq!(branch("r").as_deref(), Some("HEAD"));
        }
    }

    /// Whatever form the references have, from any folder, in a linked working tree and in a
    /// submodule: the same as git says, and as long as a glance is the same.
    #[test]
    fn where_a_repo_stands_is_what_git_says() {
        for form in ["files", "reftable"] {
            let dir = tempfile::tempdir().unwrap();
            let repo = dir.path().join("repo");
            let git = |folder: &Path, arguments: &[&str]| {
                let mut git = std::process::Command::new("git");
                git.args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "protocol.file.allow=always"]);
                let ran = git.arg("-C").arg(folder).args(arguments).output().ok()?;
                ran.status.success().then(|| String::from_utf8(ran.stdout).unwrap().trim().to_owned())
            };
            let made = git(dir.path(), &["init", "-q", &format!("--ref-format={form}"), "repo"]);
            if made.or_else(|| git(dir.path(), &["init", "-q", "repo"])).is_none() {
                eprintln!("skipped: git is not installed");
                return;
            }
            let patience = Duration::from_secs(60);
            let check = |folder: &Path| {
                let glance = Glance::at(folder).unwrap();
                let id = |name| git(folder, &["rev-parse", "--verify", "--quiet", name]);
                let expected = Standpoint { head: id("HEAD"), stash: id("refs/stash") };
                assert_eq!(glance.standpoint(folder, patience).unwrap(), expected, "{form}");
                glance
            };
            let done = |arguments: &[&str]| {
                let before = check(&repo);
                assert!(git(&repo, arguments).is_some(), "{arguments:?}");
                assert_ne!(check(&repo), before, "{form} {arguments:?}");
            };
            fs::create_dir(repo.join("below")).unwrap();
            fs::write(repo.join("below/file"), "1").unwrap();
            assert!(git(&repo, &["add", "-A"]).is_some());
            done(&["commit", "-q", "-m", "one"]);
            fs::write(repo.join("below/file"), "2").unwrap();
            done(&["stash", "-q"]);
            assert!(git(&repo, &["pack-refs", "--all"]).is_some());
            check(&repo.join("below"));
            done(&["checkout", "-q", "--detach"]);
            done(&["commit", "-q", "--allow-empty", "-m", "two"]);
            done(&["stash", "drop", "-q"]);
            done(&["checkout", "-q", "-b", "other"]);
            assert!(git(&repo, &["worktree", "add", "-q", "../linked"]).is_some());
            let linked = check(&dir.path().join("linked"));
            assert!(git(&dir.path().join("linked"), &["commit", "-q", "--allow-empty", "-m", "3"]).is_some());
            assert_ne!(check(&dir.path().join("linked")), linked);
            assert!(git(&repo, &["submodule", "--quiet", "add", "../linked", "sub"]).is_some());
            check(&repo.join("sub"));
            assert_eq!(Glance::at(dir.path()), None);
        }
    }
}
