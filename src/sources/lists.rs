//! Where lists of tasks lie: the repo's `SPEC.md`, each SPEC's `tasks.md`, and what `task_files`
//! names.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::place::{Level, Place, entries, folders};
use crate::config::{Config, PathGlob};

/// Folders that are looked into for what `task_files` names; those near the repo's root come
/// first.
const MAX_FOLDERS: usize = 2_000;

/// Folders of other programs, which hold very many files and no lists.
const OF_OTHERS: [&str; 3] = [".git", "target", "node_modules"];

/// What a list is, for people and for the memory.
const SOURCE: &str = "task list";

/// See the module's first lines.
pub(crate) struct TaskLists {
    repo: PathBuf,
    places: [Place; 2],
    further: Arc<[PathGlob]>,
    /// What is written there is ours, or a guardrail's.
    not_in: [PathBuf; 2],
}

impl TaskLists {
    pub(crate) fn of(config: &Config) -> Self {
        let repo = config.repo.clone();
        let places = [
            Place { root: repo.clone(), levels: &[] },
            Place { root: repo.join("docs"), levels: &[Level::SpecNamed] },
        ];
        let not_in = [config.evidence_dir.clone(), config.spool_dir.clone()];
        Self { repo, places, further: config.task_files.clone(), not_in }
    }

    /// The places where lists lie whatever the config says.
    pub(crate) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Whether a path is a list's.
    pub(crate) fn is_list(&self, path: &Path) -> bool {
        let Some(folder) = path.parent() else { return false };
        let wanted = if folder == self.repo { "SPEC.md" } else { "tasks.md" };
        let is_named = path.file_name().is_some_and(|name| name == wanted);
        is_named && self.places.iter().any(|place| place.holds(folder)) || self.is_further(path)
    }

    /// The sources that lists are of: those that are there whatever the config says, and each glob
    /// of `task_files`, whose lists are a baseline when it is new.
    pub(crate) fn sources(&self) -> Vec<String> {
        let further = self.further.iter().map(|glob| format!("{SOURCE} {}", glob.as_str()));
        std::iter::once(SOURCE.to_owned()).chain(further).collect()
    }

    /// Which of them a list is of.
    pub(crate) fn source_of(&self, path: &Path) -> String {
        let own = path.parent().is_some_and(|folder| self.places.iter().any(|place| place.holds(folder)));
        let inside = path.strip_prefix(&self.repo).unwrap_or(path);
        let glob = self.further.iter().find(|glob| glob.is_match(inside)).filter(|_| !own);
        glob.map_or(SOURCE.to_owned(), |glob| format!("{SOURCE} {}", glob.as_str()))
    }

    fn is_further(&self, path: &Path) -> bool {
        let inside = path.strip_prefix(&self.repo).ok();
        inside.is_some_and(|inside| {
            self.further.iter().any(|glob| glob.is_match(inside))
                && path.parent().is_some_and(|folder| self.may_be_entered(folder))
        })
    }

    /// Whether lists that `task_files` names can be in a folder or below it.
    pub(crate) fn leads_through(&self, folder: &Path) -> bool {
        let inside = folder.strip_prefix(&self.repo).ok();
        inside.is_some_and(|inside| {
            self.further.iter().any(|glob| glob.leads_through(inside)) && self.may_be_entered(folder)
        })
    }

    fn may_be_entered(&self, folder: &Path) -> bool {
        let inside = folder.strip_prefix(&self.repo).unwrap_or(folder);
        let is_of_others = |name: &std::ffi::OsStr| OF_OTHERS.iter().any(|other| name == *other);
        !inside.iter().any(is_of_others) && !self.not_in.iter().any(|not| folder.starts_with(not))
    }

    /// The folders below which the lists of `task_files` are, whether they are there or not.
    pub(crate) fn roots(&self) -> impl Iterator<Item = PathBuf> {
        self.further.iter().map(|glob| self.repo.join(glob.root())).filter(|root| self.may_be_entered(root))
    }

    /// The folders that are there in which lists of `task_files` can be, and whether that is all
    /// of them. Symbolic links are not followed.
    pub(crate) fn folders(&self) -> (Vec<PathBuf>, bool) {
        let mut found = Vec::new();
        let mut left: VecDeque<PathBuf> = VecDeque::new();
        if !self.further.is_empty() {
            left.push_back(self.repo.clone());
        }
        while let Some(folder) = left.pop_front() {
            if found.len() == MAX_FOLDERS {
                return (found, false);
            }
            left.extend(folders(&folder).into_iter().filter(|inner| self.leads_through(inner)));
            found.push(folder);
        }
        (found, true)
    }

    /// The lists that `task_files` names and that are there.
    pub(crate) fn further(&self) -> impl Iterator<Item = PathBuf> {
        let inside = self.folders().0.into_iter().flat_map(|folder| entries(&folder));
        inside.filter(|path| self.is_further(path))
    }

    /// Every list there is.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        let own = self.places[1].holders().into_iter().map(|folder| folder.join("tasks.md"));
        let own = own.chain([self.repo.join("SPEC.md")]).filter(|path| fs::symlink_metadata(path).is_ok());
        own.chain(self.further()).collect()
    }
}
