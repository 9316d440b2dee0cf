//! `source_roots`: the folders of a monorepo that hold sources of their own.

use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{Checker, shown};
use crate::config::table::{At, Table};

/// Most folders that are named.
const MOST: usize = 64;

/// One folder that was named well.
struct Root {
    /// As it is written.
    text: String,
    /// Relative to the repo, which itself is the empty path.
    inside: PathBuf,
    /// Where it is, links followed; none where it is not there.
    real: Option<PathBuf>,
}

impl Checker<'_, '_> {
    /// The folders, absolute: the repo's root alone where none is named.
    pub(super) fn source_roots(&mut self, table: &Table<'_, '_>) -> Arc<[PathBuf]> {
        let given = table.strings("source_roots", self.findings).unwrap_or_default();
        if let Some(At { span, .. }) = given.get(MOST) {
            let what = format_args!("`source_roots` names more than {MOST} folders");
            self.findings.error(Some(span.clone()), what, "name those that hold a .specify or a SPEC.md");
        }
        let mut roots: Vec<Root> = Vec::new();
        for At { value, span } in given.into_iter().take(MOST) {
            match self.root(value, &roots) {
                Ok(root) => {
                    self.say_what_it_is(&root, &roots, span);
                    roots.push(root);
                }
                Err((why, help)) => self.findings.error(Some(span), format!("`source_roots`: {why}"), help),
            }
        }
        if roots.is_empty() {
            return [self.repo.to_owned()].into();
        }
        // Joined with nothing, a path would end with a slash.
        let absolute = |root: Root| match root.inside.as_os_str().is_empty() {
            true => self.repo.to_owned(),
            false => self.repo.join(root.inside),
        };
        roots.into_iter().map(absolute).collect()
    }

    fn root(&self, text: String, others: &[Root]) -> Result<Root, (String, &'static str)> {
        let name = shown(&text);
        let relative = "name a folder relative to the repo root, such as \"packages/web\"; \".\" is the root";
        let inside = inside(&text).map_err(|why| (format!("`{name}` {why}"), relative))?;
        let path = self.repo.join(&inside);
        let real = path.canonicalize().ok();
        if let Some(real) = &real {
            if !real.is_dir() {
                return Err((format!("`{name}` is no folder"), relative));
            }
            let repo = self.repo.canonicalize().unwrap_or_else(|_| self.repo.to_owned());
            if !real.starts_with(repo) {
                return Err((format!("`{name}` leads out of the repo over a link"), relative));
            }
        }
        let is_same = |other: &&Root| other.inside == inside || (real.is_some() && other.real == real);
        if let Some(other) = others.iter().find(is_same) {
            let what = format!("`{name}` is the same folder as `{}`", shown(&other.text));
            return Err((what, "name each folder once"));
        }
        Ok(Root { text, inside, real })
    }

    fn say_what_it_is(&mut self, root: &Root, others: &[Root], span: Range<usize>) {
        let name = shown(&root.text);
        if root.real.is_none() {
            self.findings.warn(
                Some(span.clone()),
                format_args!("`source_roots`: there is no folder `{name}` in the repo"),
                "it is watched once it exists; if it never will, remove it",
            );
        }
        // The repo's own root holds all the others.
        let is_in = |one: &Root, other: &Root| {
            !other.inside.as_os_str().is_empty() && one.inside.starts_with(&other.inside)
        };
        for other in others {
            let (inner, outer) = match (is_in(root, other), is_in(other, root)) {
                (true, _) => (&name, shown(&other.text)),
                (_, true) => (&shown(&other.text), name.clone()),
                (false, false) => continue,
            };
            self.findings.warn(
                Some(span.clone()),
                format_args!("`source_roots`: `{inner}` lies in `{outer}`"),
                "if that is meant, do nothing: files in both belong to the inner one",
            );
        }
    }
}

/// The path without what says nothing, or what is wrong with it.
fn inside(text: &str) -> Result<PathBuf, &'static str> {
    if text.trim().is_empty() {
        return Err("is empty");
    }
    if text.starts_with(['/', '~']) {
        return Err("is not relative to the repo");
    }
    let mut inside = PathBuf::new();
    for part in Path::new(text).components() {
        match part {
            Component::Normal(name) if name == ".specify" || name == ".git" => {
                return Err("leads into a folder of a tool: the folder that holds it is meant");
            }
            Component::Normal(name) => inside.push(name),
            Component::ParentDir => return Err("leads out of a folder with `..`"),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    Ok(inside)
}
