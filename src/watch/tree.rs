//! Which files of a repo are watched, and in which folders they can be: what its sources say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Config;
use crate::event::SpecId;
use crate::sources::lists::TaskLists;
use crate::sources::place::{Level, Place, RepoPaths, entries};
use crate::sources::telemetry::{self, Guardrail};
use crate::sources::{GUARDRAILS, consensus, costs, workflow_run};

/// What a file is to the watcher.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A guardrail's telemetry.
    Telemetry(&'static Guardrail),
    /// What a stage's agents agreed on.
    Consensus,
    /// What a SPEC cost.
    Costs,
    /// A list of tasks.
    Tasks,
    /// The log of a workflow run.
    WorkflowRun,
}

impl Kind {
    /// Whether a program writes it from beginning to end. People and agents save a list of tasks
    /// again and again.
    pub(super) fn is_written_once(self) -> bool {
        match self {
            Self::Telemetry(_) | Self::Consensus | Self::Costs => true,
            Self::Tasks | Self::WorkflowRun => false,
        }
    }

    /// The source it is of, for people.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::Telemetry(guardrail) => guardrail.name,
            Self::Consensus => "consensus",
            Self::Costs => "costs",
            Self::Tasks => "task list",
            Self::WorkflowRun => "workflow runs",
        }
    }
}

/// The watched part of a repo.
pub(super) struct Tree {
    repo: PathBuf,
    evidence: PathBuf,
    /// The folders that hold sources of their own.
    roots: Arc<[PathBuf]>,
    /// Where each guardrail's files lie.
    guardrails: Vec<(&'static Guardrail, Vec<Place>)>,
    /// The same places, each once.
    telemetry: Vec<Place>,
    consensus: Vec<Place>,
    costs: Vec<Place>,
    workflow_runs: Vec<Place>,
    lists: TaskLists,
}

impl Tree {
    pub(super) fn of(config: &Config) -> Self {
        let paths = RepoPaths::of(config);
        let guardrails: Vec<_> =
            GUARDRAILS.iter().map(|guardrail| (*guardrail, (guardrail.places)(&paths))).collect();
        let mut telemetry: Vec<Place> = Vec::new();
        for place in guardrails.iter().flat_map(|(_, places)| places) {
            if !telemetry.contains(place) {
                telemetry.push(place.clone());
            }
        }
        Self {
            repo: config.repo.clone(),
            evidence: config.evidence_dir.clone(),
            roots: config.source_roots.clone(),
            guardrails,
            telemetry,
            consensus: consensus::places(&paths),
            costs: costs::places(&paths),
            workflow_runs: config.source_roots.iter().map(|root| workflow_run::place(root)).collect(),
            lists: TaskLists::of(config),
        }
    }

    /// All sources, as the memory knows them. What a folder holds that is named later than others
    /// is a source of its own, whose baseline is taken then.
    pub(super) fn sources(&self) -> Vec<String> {
        let kinds = || GUARDRAILS.into_iter().map(Kind::Telemetry).chain([Kind::Consensus, Kind::Costs]);
        let runs = self.roots.contains(&self.repo).then_some(Kind::WorkflowRun);
        let in_repo = kinds().chain(runs).map(|kind| kind.source().to_owned());
        let folders = self.roots.iter().filter(|root| **root != self.repo);
        let in_folders = folders
            .flat_map(|folder| kinds().chain([Kind::WorkflowRun]).map(|kind| self.in_folder(kind, folder)));
        in_repo.chain(in_folders).chain(self.lists.sources()).collect()
    }

    fn in_folder(&self, kind: Kind, folder: &Path) -> String {
        let inside = folder.strip_prefix(&self.repo).unwrap_or(folder);
        format!("{} in {}", kind.source(), inside.display())
    }

    /// Which of them a file of this kind is of.
    pub(super) fn source_of(&self, kind: Kind, path: &Path) -> String {
        if matches!(kind, Kind::Tasks) {
            return self.lists.source_of(path);
        }
        let is_above = |root: &&PathBuf| {
            **root != self.repo && path.starts_with(root) && !path.starts_with(&self.evidence)
        };
        let inner = self.roots.iter().filter(is_above).max_by_key(|root| root.as_os_str().len());
        inner.map_or_else(|| kind.source().to_owned(), |folder| self.in_folder(kind, folder))
    }

    fn places(&self) -> impl Iterator<Item = &Place> {
        let beside = self.consensus.iter().chain(&self.costs).chain(&self.workflow_runs);
        self.telemetry.iter().chain(self.lists.places()).chain(beside)
    }

    /// What a path is to us.
    pub(super) fn kind(&self, path: &Path) -> Option<Kind> {
        let folder = path.parent()?;
        let is_in = |places: &[Place]| places.iter().any(|place| place.holds(folder));
        let (by_name, _) = telemetry::named(path).unzip();
        let guardrail = self.guardrails.iter().find(|(guardrail, places)| {
            by_name.is_some_and(|by_name| std::ptr::eq(*guardrail, by_name)) && is_in(places)
        });
        if let Some((guardrail, _)) = guardrail {
            Some(Kind::Telemetry(guardrail))
        } else if consensus::Named::of(path).is_some() && is_in(&self.consensus) {
            Some(Kind::Consensus)
        } else if costs::spec_of(path).is_some() && is_in(&self.costs) {
            Some(Kind::Costs)
        } else if workflow_run::is_log(path) && is_in(&self.workflow_runs) {
            Some(Kind::WorkflowRun)
        } else {
            self.lists.is_list(path).then_some(Kind::Tasks)
        }
    }

    /// Why a path is nothing to us.
    pub(super) fn why_not(&self, path: &Path) -> String {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let folder = path.parent().unwrap_or(Path::new(""));
        if self.telemetry.iter().any(|place| place.holds(folder)) {
            return format!("{name} is not named as telemetry is, {}", telemetry::patterns());
        }
        let commands = self.telemetry.first().map_or(Path::new(""), |place| &place.root);
        if !path.starts_with(commands) {
            return format!("it is outside the evidence tree that is watched, {}", commands.display());
        }
        if folder.parent() != Some(commands) {
            return format!("it is not in the folder of a SPEC, {}/<SPEC-ID>", commands.display());
        }
        let spec = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        match spec.parse::<SpecId>() {
            Err(error) => format!("its folder is named after no SPEC: {error}"),
            Ok(_) => format!("{name} is not in a folder that is watched"),
        }
    }

    /// Whether a path is a file where telemetry could be, and is none.
    pub(super) fn is_beside_telemetry(&self, path: &Path) -> bool {
        let is_below = |place: &Place| path.starts_with(&place.root) && place.levels == [Level::Spec];
        self.telemetry.iter().any(is_below) && path.is_file() && self.kind(path).is_none()
    }

    /// Every file that is passed over beside telemetry.
    pub(super) fn passed_over(&self) -> Vec<PathBuf> {
        let of = |place: &Place| place.folders().into_iter().chain([place.root.clone()]);
        let inside = self.telemetry.iter().flat_map(of).flat_map(|folder| entries(&folder));
        inside.filter(|path| self.is_beside_telemetry(path)).collect()
    }

    /// Every file there is now. Symbolic links are not followed.
    pub(super) fn files(&self) -> impl Iterator<Item = (Kind, PathBuf)> {
        let others = self.telemetry.iter().chain(&self.consensus).chain(&self.costs);
        let inside = others.flat_map(Place::holders).flat_map(|folder| entries(&folder));
        let runs = self.workflow_runs.iter().flat_map(Place::holders);
        let logs = runs.map(|folder| folder.join(workflow_run::LOG)).filter(|path| path.exists());
        let all = inside.chain(self.lists.files()).chain(logs);
        all.filter_map(|path| self.kind(&path).map(|kind| (kind, path)))
    }

    /// The folders under which everything else is, whether they are there or not: what is not
    /// there yet may come.
    pub(super) fn roots(&self) -> Vec<PathBuf> {
        let above = self.places().flat_map(|place| {
            let inside = place.root.ancestors().take_while(|dir| dir.starts_with(&self.repo));
            let outside = place.root.parent().filter(|_| !place.root.starts_with(&self.repo));
            inside.chain(outside).chain([place.root.as_path()]).map(Path::to_owned)
        });
        let of_lists = self.lists.roots().flat_map(|root| {
            let inside = root.ancestors().take_while(|dir| dir.starts_with(&self.repo));
            inside.map(Path::to_owned).collect::<Vec<_>>()
        });
        once(above.chain(of_lists))
    }

    /// Whether a folder with this path is one in which a change can matter.
    pub(super) fn is_folder(&self, path: &Path) -> bool {
        self.places().any(|place| place.leads_through(path))
            || self.lists.leads_through(path)
            || self.roots().iter().any(|root| root == path)
    }

    /// Every folder in which a change can matter that is there now.
    pub(super) fn dirs(&self) -> Vec<PathBuf> {
        let inside = self.places().flat_map(Place::folders).chain(self.lists.folders().0);
        once(self.roots().into_iter().filter(|dir| is_dir(dir)).chain(inside))
    }
}

/// Each path once, in order.
fn once(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    paths.collect::<BTreeSet<_>>().into_iter().collect()
}

fn is_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}
