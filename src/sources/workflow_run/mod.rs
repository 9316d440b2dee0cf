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

/// The name of a run's log.
pub(crate) const LOG: &str = "log.jsonl";

/// Where the logs of a repo's runs lie.
pub(crate) fn places(repo: &Path) -> [Place; 1] {
    [Place { root: repo.join(".specify").join("workflows").join("runs"), levels: &[Level::Run] }]
}

/// Whether a file in the folder of a run is its log.
pub(crate) fn is_log(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == LOG)
}

/// The id of the run in whose folder a file lies.
pub(crate) fn run_of(log: &Path) -> Option<&str> {
    log.parent()?.file_name()?.to_str()
}
