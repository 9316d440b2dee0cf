//! Sources that are there and that nobody reads: what a person who waits for notifications has to
//! be told.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::event::SpecId;
use crate::sources::lists::TaskLists;
use crate::sources::place::{entries, folders};

/// A sentence for each, with what to do.
pub(super) fn sources(config: &Config) -> Vec<String> {
    let mut found: Vec<String> = other_trees(config)
        .into_iter()
        .map(|tree| {
            format!(
                "{} has telemetry and is not watched, because evidence_dir is {}: \
                 if its stages are to be told, set evidence_dir to it",
                tree.display(),
                config.evidence_dir.display()
            )
        })
        .collect();
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

/// Evidence trees with guardrail telemetry in the places where hosts keep them, but for the one
/// that is watched.
pub(crate) fn other_trees(config: &Config) -> Vec<PathBuf> {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let watched = real(&config.evidence_dir);
    let above =
        folders(&config.repo.join("docs")).into_iter().chain([config.repo.clone(), config.repo.join("docs")]);
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
