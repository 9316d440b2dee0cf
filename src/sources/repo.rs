//! What git says of the repo: its current branch, from two small files and without running git.

use std::path::{Path, PathBuf};

use crate::env::Environment;
use crate::files::open::{self, Links};
use crate::names::printable;

/// Where a CI service says which branch it checked out, where the checkout itself has none.
const OF_CI: [&str; 2] = ["GITHUB_HEAD_REF", "CI_COMMIT_REF_NAME"];

/// The current branch; where it is detached the one that a CI service names, else `HEAD`; `None`
/// outside a repo, and where only git itself could say it (a repository with reftables).
pub(crate) fn current_branch(root: &Path, environment: &Environment) -> Option<String> {
    let head = read_small(&git_dir(root)?.join("HEAD"))?;
    let Some(reference) = head.trim().strip_prefix("ref: ") else {
        let named = OF_CI.iter().find_map(|name| environment.get(name));
        return Some(named.map_or("HEAD".to_owned(), |name| printable(&name, LONGEST)));
    };
    let branch = reference.strip_prefix("refs/heads/").unwrap_or(reference);
    (branch != ELSEWHERE).then(|| printable(branch, LONGEST))
}

/// What stands in HEAD where references are kept in another form (git-init(1), `--ref-format`).
const ELSEWHERE: &str = ".invalid";

/// Longest name of a branch that is kept, in characters.
const LONGEST: usize = 255;

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
        assert_eq!(branch(root), None, "in a reftable");
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
        if git(&["init", "-q", "--ref-format=reftable", "r"]) {
            assert_eq!(branch("r"), None);
        }
    }
}
