//! At which commit a working tree stands, and whether git is at work in it: from git's own files,
//! or from git where only it can say.

use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::git;
use super::git_dir::{GitDir, read_small};
use crate::clock;
use crate::digest::sha256;

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
    git: GitDir,
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
        let git = folder.ancestors().find_map(GitDir::of)?;
        let tables = match git.is_in_reftables() {
            true => [&git.own, &git.shared].map(|dir| read_small(&dir.join("reftable/tables.list"))),
            false => [None, None],
        };
        let loose = [git.reference().and_then(|reference| git.loose(reference)), git.loose(STASH)];
        let packed = std::fs::metadata(git.shared.join("packed-refs")).ok().and_then(|found| {
            let written = found.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
            Some((found.len(), written))
        });
        let is_in_the_middle =
            IN_THE_MIDDLE.iter().any(|name| std::fs::symlink_metadata(git.own.join(name)).is_ok());
        Some(Self { git, loose, packed, tables, is_in_the_middle })
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
        let loose = |at: usize| self.loose[at].as_deref().map(|id| id.trim().to_owned());
        let head = match self.git.reference() {
            None => Some(self.git.head.trim().to_owned()),
            Some(reference) => loose(0).or_else(|| self.git.packed(reference)),
        };
        Ok(Standpoint { head, stash: loose(1).or_else(|| self.git.packed(STASH)) })
    }

    /// What stands for the commits where git cannot be asked for them: it differs when anything
    /// does.
    pub(crate) fn stand_in(&self) -> Standpoint {
        let tables = format!("{:?}", self.tables);
        Standpoint { head: Some(hex::encode(sha256(tables.as_bytes()))), stash: None }
    }

    /// The git folder of the working tree itself.
    pub(crate) fn git_dir(&self) -> &Path {
        &self.git.own
    }

    /// Whether only git can say what HEAD and the stash are.
    pub(crate) fn is_in_reftables(&self) -> bool {
        self.git.is_in_reftables()
    }

    /// Whether git is writing the working tree: its index is locked, or was written less than
    /// `lull` ago, and HEAD may follow.
    pub(crate) fn is_being_written(&self, lull: Duration) -> bool {
        let is_younger = |name: &str, than: Duration| {
            let written = std::fs::metadata(self.git.own.join(name)).and_then(|found| found.modified());
            written.ok().and_then(clock::age).is_some_and(|age| age < than)
        };
        is_younger("index.lock", LOCK_HOLDS) || is_younger("index", lull)
    }
}

const STASH: &str = "refs/stash";

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

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
