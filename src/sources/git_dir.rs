//! The folder in which git keeps what it knows of a working tree, and the few of its files that are
//! read: small ones, and packed references.

use std::path::{Path, PathBuf};

use crate::files::open::{self, Links};

/// What stands in HEAD where references are kept in reftables (git-init(1), `--ref-format`).
const ELSEWHERE: &str = "refs/heads/.invalid";

/// Largest `packed-refs` that is read: some 500,000 references.
const MAX_PACKED_BYTES: u64 = 32 * 1024 * 1024;

/// See the module's first lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GitDir {
    /// The working tree's own folder.
    pub(super) own: PathBuf,
    /// The same, but in a linked working tree the folder of the repo it is linked to.
    pub(super) shared: PathBuf,
    /// The file HEAD.
    pub(super) head: String,
}

impl GitDir {
    /// `.git` itself, or where the file of that name in a worktree or submodule points.
    pub(super) fn of(root: &Path) -> Option<Self> {
        let git = root.join(".git");
        let own = match git.is_dir() {
            true => git,
            false => root.join(read_small(&git)?.trim().strip_prefix("gitdir: ")?),
        };
        let head = read_small(&own.join("HEAD"))?;
        let shared = read_small(&own.join("commondir")).map_or(own.clone(), |path| own.join(path.trim()));
        Some(Self { own, shared, head })
    }

    /// The reference that HEAD names; `None` where it is detached, or names none.
    pub(super) fn reference(&self) -> Option<&str> {
        reference_in(&self.head)
    }

    /// Whether only git can say what a reference is.
    pub(super) fn is_in_reftables(&self) -> bool {
        self.reference() == Some(ELSEWHERE)
    }

    /// The text of a reference that has a file of its own. One of this working tree alone lies in
    /// its own folder.
    pub(super) fn loose(&self, reference: &str) -> Option<String> {
        is_inside(reference)
            .then(|| [&self.own, &self.shared].into_iter().find_map(|dir| read_small(&dir.join(reference))))
            .flatten()
    }

    /// The id that the file of packed references has for one.
    pub(super) fn packed(&self, reference: &str) -> Option<String> {
        let file = open::start(&self.shared.join("packed-refs"), Links::Followed, MAX_PACKED_BYTES).ok()?;
        let text = String::from_utf8_lossy(&file);
        text.lines().find_map(|line| {
            let (commit, name) = line.split_once(' ')?;
            (name.trim_end() == reference).then(|| id(commit))?
        })
    }
}

/// The reference that a file of git's leads to.
pub(super) fn reference_in(text: &str) -> Option<&str> {
    text.trim().strip_prefix("ref: ").map(str::trim)
}

/// Whether a reference is named as git names them: it becomes a path, which leads nowhere else.
fn is_inside(reference: &str) -> bool {
    reference.starts_with("refs/") && !reference.split('/').any(|part| part == "..")
}

/// A text that is a full id of an object, SHA-1 or SHA-256.
pub(super) fn id(text: &str) -> Option<String> {
    let is_id = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| text.to_owned())
}

pub(super) fn read_small(path: &Path) -> Option<String> {
    String::from_utf8(open::start(path, Links::Followed, 4096).ok()?).ok()
}
