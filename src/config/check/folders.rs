//! The folders of spool and evidence. Git ignores the whole spool folder, so nothing else may be in
//! it.

use std::path::{Component, Path, PathBuf};

use super::Checker;
use crate::config::table::{At, Table};

impl Checker<'_, '_> {
    /// The absolute path of a folder of this program.
    pub(super) fn dir(&mut self, table: &Table<'_, '_>, key: &'static str, default: &str) -> PathBuf {
        match table.string(key, self.findings) {
            Some(At { value, span }) if value.is_empty() => {
                self.findings.error(
                    Some(span),
                    format_args!("`{key}` is empty"),
                    "name a directory, or remove the key",
                );
                self.repo.join(default)
            }
            Some(At { value, .. }) => self.repo.join(value),
            None => self.repo.join(default),
        }
    }

    /// Refuses a spool folder that contains the repo, and warns about one that contains the
    /// evidence.
    pub(super) fn has_its_own_folder(&mut self, table: &Table<'_, '_>, spool: &Path, evidence: &Path) {
        let Some(At { span, .. }) = table.string("spool_dir", self.findings) else { return };
        let help = "name a folder that holds nothing else: git sees nothing of what is in it";
        if is_in(self.repo, spool) {
            self.findings.error(Some(span), "`spool_dir` is the repo itself, or above it", help);
        } else if is_in(evidence, spool) {
            let holds = "`spool_dir` holds `evidence_dir`, whose files git no longer sees";
            self.findings.warn(Some(span), holds, help);
        }
    }
}

/// Whether a path is a folder or below it, compared as written, without following links.
pub(super) fn is_in(path: &Path, folder: &Path) -> bool {
    plain(path).starts_with(plain(folder))
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_a_folder_is_known_however_it_is_written() {
        for (path, folder, expected) in [
            ("/repo", "/repo", true),
            ("/repo", "/repo/.", true),
            ("/repo", "/repo/docs/..", true),
            ("/repo", "/repo/..", true),
            ("/repo", "/", true),
            ("/repo", "/repo/spool", false),
            ("/repo", "/rep", false),
            ("/repo/docs/evidence", "/repo/docs", true),
            ("/repo/docs/evidence", "/repo/docs/evidence/webhooks", false),
            ("/repo/docs/evidence", "/repo/docs/../spool", false),
        ] {
            assert_eq!(is_in(Path::new(path), Path::new(folder)), expected, "{path} in {folder}");
        }
    }
}
