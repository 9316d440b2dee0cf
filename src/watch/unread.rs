//! Sources that are there and that nobody reads: what a person who waits for notifications has to
//! be told.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::event::SpecId;
use crate::sources::lists::TaskLists;
use crate::sources::place::{entries, folders};
use crate::sources::workflow_run;

/// A sentence for each, with what to do.
pub(super) fn sources(config: &Config) -> Vec<String> {
    let mut found: Vec<String> = other_trees(config)
        .into_iter()
        .map(|tree| {
            format!(
                "{} has telemetry and is not watched, because evidence_dir is {}: \
                 to send its stages, set evidence_dir to it",
                tree.display(),
                config.evidence_dir.display()
            )
        })
        .collect();
    found.extend(runs_without_a_log(config));
    let lists = TaskLists::of(config);
    let (folders, is_all) = lists.folders();
    if !is_all {
        found.push(format!(
            "task_files leads through more than {} folders: lists deeper down are not watched; \
             name the folders they are in more closely",
            folders.len()
        ));
    }
    found.extend(lists.files().iter().filter_map(|list| {
        let kind = fs::symlink_metadata(list).ok()?.file_type();
        // What a glob names may be a folder.
        let is_a_list = kind.is_file() || kind.is_dir();
        let what = "is no file of its own: its tasks are not watched; links are not followed, \
                    put the list itself there";
        (!is_a_list).then(|| format!("{} {what}", list.display()))
    }));
    found
}

/// Runs that are links, or whose log cannot be read as one, whatever is in it.
fn runs_without_a_log(config: &Config) -> Option<String> {
    let runs = config.source_roots.iter().flat_map(|root| entries(&workflow_run::place(root).root));
    let in_its_way = |run: PathBuf| {
        let log = run.join(workflow_run::LOG);
        let found = fs::symlink_metadata(&log).ok()?;
        match (run.is_symlink(), found.is_file()) {
            (true, _) => Some(run),
            (false, true) => None,
            (false, false) => Some(log),
        }
    };
    let found: Vec<PathBuf> = runs.filter_map(in_its_way).collect();
    let first = found.iter().min()?;
    let more = match found.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    Some(format!(
        "{}{more} is not the run's own: nothing of it is sent; links are not followed: put the folder and \
         its log.jsonl themselves there",
        first.display()
    ))
}

/// How far below the repo's root a `.specify` is looked for, and in how many folders.
const LEVELS: usize = 3;
const MOST_FOLDERS: usize = 2_000;

/// Folders that are named in the sentence.
const MOST_NAMED: usize = 5;

/// Whether parts of the repo have sources of GitHub Spec Kit and are no `source_roots`: a sentence,
/// with what to do.
pub(crate) fn elsewhere(config: &Config) -> Option<String> {
    let found = uncovered(config);
    if found.is_empty() {
        return None;
    }
    let inside = |folder: &Path| match folder.strip_prefix(&config.repo).unwrap_or(folder) {
        inside if inside.as_os_str().is_empty() => ".".to_owned(),
        inside => inside.display().to_string(),
    };
    let named = found.iter().take(MOST_NAMED);
    let more = match found.len().saturating_sub(MOST_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let names: Vec<String> = named.clone().map(|folder| format!("{}/.specify", inside(folder))).collect();
    let roots = config.source_roots.iter().chain(named).map(|folder| format!("{:?}", inside(folder)));
    let roots: Vec<String> = roots.collect();
    Some(format!(
        "spec-notify does not read {}{more}, because source_roots names no such folder: to send their runs \
         and tasks, set source_roots = [{}]",
        names.join(", "),
        roots.join(", ")
    ))
}

/// The folders that hold a `.specify` and are no source roots, those nearest the repo's root first.
/// Another checkout, such as a worktree, is served for itself.
fn uncovered(config: &Config) -> Vec<PathBuf> {
    let lists = TaskLists::of(config);
    let is_dir = |path: PathBuf| fs::symlink_metadata(path).is_ok_and(|found| found.is_dir());
    let mut level = vec![config.repo.clone()];
    let (mut found, mut left) = (Vec::new(), MOST_FOLDERS);
    for depth in 0..=LEVELS {
        level.sort_unstable();
        level.truncate(left);
        left -= level.len();
        found.extend(level.iter().filter(|folder| is_dir(folder.join(".specify"))).cloned());
        if depth == LEVELS {
            break;
        }
        let is_ours = |folder: &PathBuf| {
            let is_hidden = folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
            !is_hidden && lists.may_be_entered(folder) && !folder.join(".git").exists()
        };
        level = level.iter().flat_map(|folder| folders(folder)).filter(is_ours).take(left).collect();
    }
    found.retain(|folder| !config.source_roots.contains(folder));
    found
}

/// Evidence trees with guardrail telemetry in the places where hosts keep them, but for the one
/// that is watched.
pub(crate) fn other_trees(config: &Config) -> Vec<PathBuf> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let watched = real(&config.evidence_dir);
    let above = config.source_roots.iter().flat_map(|root| {
        let docs = root.join("docs");
        folders(&docs).into_iter().chain([root.clone(), docs])
    });
    let trees = above.map(|folder| folder.join("evidence")).filter(|tree| real(tree) != watched);
    trees.filter(|tree| has_telemetry(tree)).collect()
}

fn has_telemetry(tree: &Path) -> bool {
    let is_spec = |folder: &PathBuf| {
        folder.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<SpecId>().is_ok())
    };
    let specs = folders(&tree.join("commands")).into_iter().filter(is_spec);
    specs.flat_map(|folder| entries(&folder)).any(|path| is_named(&path, "spec-"))
}

fn is_named(path: &Path, prefix: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| name.starts_with(prefix) && name.ends_with(".json"))
}
