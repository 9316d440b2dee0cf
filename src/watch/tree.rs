//! Which files of a repo are watched, where they can be, and how the operating system is asked to tell of changes.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::config::Config;
use crate::event::SpecId;

/// What a file is to the watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `<evidence>/commands/<SPEC>/spec-<stage>_<session>.json`, or what is named like it.
    Telemetry,
    /// `SPEC.md` or `docs/SPEC-*/tasks.md`.
    Tasks,
}

/// The watched part of a repo.
pub(super) struct Tree {
    repo: PathBuf,
    docs: PathBuf,
    commands: PathBuf,
    consensus: PathBuf,
}

impl Tree {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            repo: config.repo.clone(),
            docs: config.repo.join("docs"),
            commands: config.evidence_dir.join("commands"),
            consensus: config.evidence_dir.join("consensus"),
        }
    }

    /// What a path is to us.
    pub(super) fn kind(&self, path: &Path) -> Option<Kind> {
        let name = path.file_name()?.to_str()?;
        let folder = path.parent()?;
        if folder == self.repo {
            return (name == "SPEC.md").then_some(Kind::Tasks);
        }
        let folder_name = folder.file_name()?.to_str()?;
        let above = folder.parent()?;
        if above == self.commands {
            let is_telemetry = name.starts_with("spec-") && name.ends_with(".json");
            return (is_telemetry && folder_name.parse::<SpecId>().is_ok()).then_some(Kind::Telemetry);
        }
        let is_tasks = above == self.docs && name == "tasks.md" && folder_name.starts_with("SPEC-");
        is_tasks.then_some(Kind::Tasks)
    }

    /// Every file there is now. Symbolic links are not followed.
    pub(super) fn files(&self) -> Vec<(Kind, PathBuf)> {
        let folders = folders(&self.commands).into_iter().chain(folders(&self.docs));
        let in_folders = folders.flat_map(|folder| entries(&folder));
        let all = in_folders.chain(std::iter::once(self.repo.join("SPEC.md")));
        all.filter_map(|path| self.kind(&path).map(|kind| (kind, path))).collect()
    }

    /// Every folder in which a change can matter, those above included: what is not there yet may come.
    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        let specs = folders(&self.docs).into_iter().filter(|folder| {
            folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("SPEC-"))
        });
        let above = [&self.commands, &self.consensus].into_iter().flat_map(|dir| {
            let inside = dir.ancestors().take_while(|dir| dir.starts_with(&self.repo));
            inside.chain(dir.parent()).chain([dir.as_path()]).map(Path::to_owned)
        });
        let roots = [self.repo.clone(), self.docs.clone()].into_iter().chain(above);
        let all = roots.chain(specs).chain(folders(&self.commands)).chain(folders(&self.consensus));
        let mut all: Vec<PathBuf> = all.filter(|dir| is_dir(dir)).collect();
        all.sort();
        all.dedup();
        all
    }
}

fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// The operating system's notifications, folder by folder: the folders below, such as our own evidence, stay untold of.
pub(super) struct Notifier {
    watcher: Option<RecommendedWatcher>,
    watched: HashSet<PathBuf>,
}

impl Notifier {
    pub(super) fn new(changed: impl Fn(PathBuf) + Send + 'static) -> Self {
        let watcher = notify::recommended_watcher(move |told: notify::Result<notify::Event>| match told {
            Ok(event) if event.kind.is_access() => {}
            Ok(event) => event.paths.into_iter().for_each(&changed),
            Err(error) => log::warn!("a change was not told of: {error}; it is found at the next look"),
        });
        let watcher = watcher.map_err(|error| {
            log::warn!(
                "the operating system does not tell of changes ({error}): looking every few seconds instead"
            );
        });
        Self { watcher: watcher.ok(), watched: HashSet::new() }
    }

    /// Whether the operating system tells of changes.
    pub(super) fn is_told(&self) -> bool {
        self.watcher.is_some()
    }

    /// Asks to be told of these folders, and no others; whether one is new.
    pub(super) fn watch(&mut self, dirs: &[PathBuf]) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        self.watched.retain(|dir| dirs.binary_search(dir).is_ok());
        let before = self.watched.len();
        for dir in dirs {
            if self.watched.contains(dir) {
                continue;
            }
            match watcher.watch(dir, RecursiveMode::NonRecursive) {
                Ok(()) => drop(self.watched.insert(dir.clone())),
                Err(error) => {
                    log::warn!(
                        "changes in {} are not told of ({error}): they are found within a minute; more watches may have to be \
                         allowed (fs.inotify.max_user_watches)",
                        dir.display()
                    );
                    break;
                }
            }
        }
        self.watched.len() > before
    }
}
