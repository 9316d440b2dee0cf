//! Which files of a repo are watched, and in which folders they can be.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::event::SpecId;
use crate::intake::telemetry;

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
            let is_telemetry = telemetry::is_named_so(path) && folder_name.parse::<SpecId>().is_ok();
            return is_telemetry.then_some(Kind::Telemetry);
        }
        let is_tasks = above == self.docs && name == "tasks.md" && folder_name.starts_with("SPEC-");
        is_tasks.then_some(Kind::Tasks)
    }

    /// Why a path is nothing to us.
    pub(super) fn why_not(&self, path: &Path) -> String {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new(""));
        if !path.starts_with(&self.commands) {
            return format!("it is outside the evidence tree that is watched, {}", self.commands.display());
        }
        if folder.parent() != Some(&self.commands) {
            return format!("it is not in the folder of a SPEC, {}/<SPEC-ID>", self.commands.display());
        }
        let spec = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match spec.parse::<SpecId>() {
            Err(error) => format!("its folder is named after no SPEC: {error}"),
            Ok(_) => format!("{name} is not named as telemetry is, spec-<stage>_<session>.json"),
        }
    }

    /// Whether a path is a file where telemetry could be, and is none.
    pub(super) fn is_beside_telemetry(&self, path: &Path) -> bool {
        path.starts_with(&self.commands) && path.is_file() && self.kind(path).is_none()
    }

    /// Every file that is passed over beside telemetry.
    pub(super) fn passed_over(&self) -> Vec<PathBuf> {
        let inside = folders(&self.commands).into_iter().flat_map(|folder| entries(&folder));
        inside.chain(entries(&self.commands)).filter(|path| self.is_beside_telemetry(path)).collect()
    }

    /// Every file there is now. Symbolic links are not followed.
    pub(super) fn files(&self) -> Vec<(Kind, PathBuf)> {
        let telemetry = folders(&self.commands).into_iter().flat_map(|folder| entries(&folder));
        let specs = folders(&self.docs).into_iter().filter(|folder| is_named_spec(folder));
        let tasks = specs.map(|folder| folder.join("tasks.md")).chain([self.repo.join("SPEC.md")]);
        let all = telemetry.chain(tasks.filter(|path| fs::symlink_metadata(path).is_ok()));
        all.filter_map(|path| self.kind(&path).map(|kind| (kind, path))).collect()
    }

    /// The folders under which everything else is, whether they are there or not: what is not
    /// there yet may come.
    pub(super) fn roots(&self) -> Vec<PathBuf> {
        let above = [&self.commands, &self.consensus].into_iter().flat_map(|dir| {
            let inside = dir.ancestors().take_while(|dir| dir.starts_with(&self.repo));
            inside.chain(dir.parent()).chain([dir.as_path()]).map(Path::to_owned)
        });
        let mut roots: Vec<PathBuf> =
            [self.repo.clone(), self.docs.clone()].into_iter().chain(above).collect();
        roots.sort();
        roots.dedup();
        roots
    }

    /// Whether a folder with this path is one in which a change can matter.
    pub(super) fn is_folder(&self, path: &Path) -> bool {
        let above = path.parent();
        let is_of_a_spec = above.is_some_and(|above| above == self.commands || above == self.consensus);
        is_of_a_spec
            || (above == Some(&self.docs) && is_named_spec(path))
            || self.roots().iter().any(|root| root == path)
    }

    /// Every folder in which a change can matter that is there now.
    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        let specs = folders(&self.docs).into_iter().filter(|folder| is_named_spec(folder));
        let inside = specs.chain(folders(&self.commands)).chain(folders(&self.consensus));
        let mut all: Vec<PathBuf> =
            self.roots().into_iter().filter(|dir| is_dir(dir)).chain(inside).collect();
        all.sort();
        all.dedup();
        all
    }
}

fn is_named_spec(folder: &Path) -> bool {
    folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("SPEC-"))
}

fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

pub(super) fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

pub(super) fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}
