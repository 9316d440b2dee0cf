//! Where lists of tasks lie: in each folder that holds sources `SPEC.md`, each SPEC's `tasks.md`
//! and the features' lists below `specs`; and what `task_files` names.

use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::place::{Level, Place, entries, folders};
use crate::config::{Config, PathGlob};
use crate::event::SpecId;

/// Folders that are looked into for what `task_files` names; those near the repo's root come
/// first.
const MAX_FOLDERS: usize = 2_000;

/// Folders of other programs, which hold very many files and no lists.
const OF_OTHERS: [&str; 3] = [".git", "target", "node_modules"];

/// What a list is, for people and for the memory.
const SOURCE: &str = "task list";

/// The folder of GitHub Spec Kit's features, each with its `tasks.md`.
const SPECS: &str = "specs";

/// A folder that holds sources of its own.
struct Root {
    folder: PathBuf,
    /// The last three are below `specs`.
    places: [Place; 5],
}

impl Root {
    fn new(folder: PathBuf) -> Self {
        let below_specs = |levels| Place { root: folder.join(SPECS), levels };
        let places = [
            Place { root: folder.clone(), levels: &[] },
            Place { root: folder.join("docs"), levels: &[Level::SpecNamed] },
            below_specs(&[]),
            below_specs(&[Level::Any]),
            below_specs(&[Level::Any, Level::Any]),
        ];
        Self { folder, places }
    }

    /// Whether a path is that of one of its lists.
    fn is_list(&self, path: &Path) -> bool {
        let Some(folder) = path.parent() else { return false };
        let wanted = if folder == self.folder { "SPEC.md" } else { "tasks.md" };
        let is_named = path.file_name().is_some_and(|name| name == wanted);
        is_named && self.places.iter().any(|place| place.holds(folder))
    }

    /// Its two sources: the tracker with the SPECs' own lists, and the features' lists, as if a
    /// glob named them.
    fn sources(&self, repo: &Path) -> [String; 2] {
        match self.folder.strip_prefix(repo) {
            Ok(inside) if !inside.as_os_str().is_empty() => {
                let inside = inside.display();
                [format!("{SOURCE} in {inside}"), format!("{SOURCE} {inside}/{SPECS}/**/tasks.md")]
            }
            _ => [SOURCE.to_owned(), format!("{SOURCE} {SPECS}/**/tasks.md")],
        }
    }
}

/// See the module's first lines.
pub(crate) struct TaskLists {
    repo: PathBuf,
    roots: Vec<Root>,
    further: Arc<[PathGlob]>,
    /// What is written there is ours, or a guardrail's.
    not_in: [PathBuf; 2],
}

impl TaskLists {
    pub(crate) fn of(config: &Config) -> Self {
        let roots = config.source_roots.iter().cloned().map(Root::new).collect();
        let not_in = [config.evidence_dir.clone(), config.spool_dir.clone()];
        Self { repo: config.repo.clone(), roots, further: config.task_files.clone(), not_in }
    }

    /// The places where lists lie whatever `task_files` says.
    pub(crate) fn places(&self) -> impl Iterator<Item = &Place> {
        self.roots.iter().flat_map(|root| &root.places)
    }

    /// Whether a path is a list's.
    pub(crate) fn is_list(&self, path: &Path) -> bool {
        self.roots.iter().any(|root| root.is_list(path)) || self.is_further(path)
    }

    /// The sources that lists are of: those of each folder, and each glob of `task_files`. The
    /// lists of a new one are a baseline.
    pub(crate) fn sources(&self) -> Vec<String> {
        let own = self.roots.iter().flat_map(|root| root.sources(&self.repo));
        own.chain(self.further.iter().map(|glob| format!("{SOURCE} {}", glob.as_str()))).collect()
    }

    /// Which of them a list is of.
    pub(crate) fn source_of(&self, path: &Path) -> String {
        if let Some(root) = self.roots.iter().find(|root| root.is_list(path)) {
            let [own, of_features] = root.sources(&self.repo);
            return if path.starts_with(root.folder.join(SPECS)) { of_features } else { own };
        }
        let inside = path.strip_prefix(&self.repo).unwrap_or(path);
        let glob = self.further.iter().find(|glob| glob.is_match(inside));
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

    /// Whether a folder is neither ours nor another program's.
    pub(crate) fn may_be_entered(&self, folder: &Path) -> bool {
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

    /// Where the lists of a feature of one folder can be, whether they are there or not.
    pub(crate) fn of_feature(&self, folder: &Path, spec: &SpecId) -> Vec<PathBuf> {
        let feature = folder.join(SPECS).join(spec.as_str());
        let folders = folders(&feature).into_iter().chain([feature]);
        folders.map(|folder| folder.join("tasks.md")).filter(|list| self.is_list(list)).collect()
    }

    /// Every list there is.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        let own = self.roots.iter().flat_map(|root| {
            let holders = root.places[1..].iter().flat_map(Place::holders);
            holders.map(|folder| folder.join("tasks.md")).chain([root.folder.join("SPEC.md")])
        });
        let own = own.filter(|path| fs::symlink_metadata(path).is_ok());
        own.chain(self.further()).collect()
    }
}
