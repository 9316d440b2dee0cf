//! What git says of the repo: its current branch, from two small files and without running git.

use std::path::{Path, PathBuf};

use crate::open::{self, Links};

/// The current branch; `HEAD` where it is detached; `None` outside a repo.
pub fn current_branch(root: &Path) -> Option<String> {
    let head = read_small(&git_dir(root)?.join("HEAD"))?;
    match head.trim().strip_prefix("ref: ") {
        Some(reference) => Some(reference.strip_prefix("refs/heads/").unwrap_or(reference).to_owned()),
        None => Some("HEAD".to_owned()),
    }
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
        assert_eq!(current_branch(root), None);
        fs::create_dir_all(root.join(".git/worktrees/w")).unwrap();
        fs::write(root.join(".git/HEAD"), "ref: refs/heads/feat/x\n").unwrap();
        assert_eq!(current_branch(root).as_deref(), Some("feat/x"));
        fs::write(root.join(".git/HEAD"), "0123456789abcdef0123456789abcdef01234567\n").unwrap();
        assert_eq!(current_branch(root).as_deref(), Some("HEAD"));
        fs::write(root.join(".git/worktrees/w/HEAD"), "ref: refs/heads/w\n").unwrap();
        fs::create_dir(root.join("w")).unwrap();
        fs::write(root.join("w/.git"), "gitdir: ../.git/worktrees/w\n").unwrap();
        assert_eq!(current_branch(&root.join("w")).as_deref(), Some("w"));
    }
}
