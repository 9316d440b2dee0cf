//! The workflow runs of GitHub Spec Kit: `.specify/workflows/runs/<run>/log.jsonl`, which grows
//! line by line, with `state.json` and `workflow.yml` beside it. What a run tells is folded from
//! its log; the other two say what the log leaves out. No I/O but in [`spec`] and [`now`].

mod facts;
mod fold;
mod line;
mod log;
#[cfg(feature = "cli")]
pub(crate) mod now;
pub(crate) mod spec;
#[cfg(test)]
mod tests;
mod yaml;

use std::path::Path;

pub(crate) use facts::Facts;
pub(crate) use fold::{Mark, World};
pub(crate) use log::{Log, MAX_LINE, Next, PATIENCE};

use super::place::{Level, Place};
use crate::digest::sha256;

/// The name of a run's log.
pub(crate) const LOG: &str = "log.jsonl";

/// Where the logs of the runs of a folder lie: the repo's root, or another one that holds sources.
pub(crate) fn place(folder: &Path) -> Place {
    Place { root: folder.join(".specify").join("workflows").join("runs"), levels: &[Level::Run] }
}

/// The folder whose run a file is of, or whose [`place`] a path leads to.
pub(crate) fn folder_of(path: &Path) -> Option<&Path> {
    path.ancestors().find(|above| above.file_name().is_some_and(|name| name == ".specify"))?.parent()
}

/// Whether a file in the folder of a run is its log.
pub(crate) fn is_log(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == LOG)
}

/// Which run it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name {
    /// As the engine gave it.
    pub(crate) id: String,
    /// The folder that holds its `.specify`, relative to the repo; empty for the repo's root.
    pub(crate) folder: String,
}

/// Longest folder that stands in a key as it is.
const MAX_FOLDER: usize = 60;

impl Name {
    /// Of the run whose log this is.
    pub(crate) fn of(log: &Path, repo: &Path) -> Self {
        let id = log.parent().and_then(|run| run.file_name()?.to_str()).unwrap_or_default();
        let folder = folder_of(log).and_then(|folder| folder.strip_prefix(repo).ok());
        let folder = folder.map(|folder| folder.to_string_lossy().into_owned()).unwrap_or_default();
        Self { id: id.to_owned(), folder }
    }

    /// What tells it from every other run of the repo. Its id does not: a folder is copied with its
    /// runs, and an id can be chosen.
    fn in_key(&self) -> String {
        match (self.folder.len(), &self.id) {
            (0, id) => id.clone(),
            (..=MAX_FOLDER, id) => format!("{id}@{}", self.folder),
            (_, id) => format!("{id}@{}", &hex::encode(sha256(self.folder.as_bytes()))[..16]),
        }
    }

    /// Its log, relative to the repo.
    fn log(&self) -> String {
        let log = format!(".specify/workflows/runs/{}/{LOG}", self.id);
        if self.folder.is_empty() { log } else { format!("{}/{log}", self.folder) }
    }
}
