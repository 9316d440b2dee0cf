//! Where the files of a source lie: folders below a root, level by level. Looks at names alone,
//! but for what lists them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::event::SpecId;

/// Where the repo is, to write paths relative to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RepoPaths<'a> {
    /// The repo's root, absolute.
    pub root: &'a Path,
    /// The evidence tree's root, absolute.
    pub evidence_dir: &'a Path,
    /// The folders that hold sources of their own, absolute.
    pub source_roots: &'a [PathBuf],
}

impl<'a> RepoPaths<'a> {
    /// Where a config says that they are.
    pub(crate) fn of(config: &'a Config) -> Self {
        Self { root: &config.repo, evidence_dir: &config.evidence_dir, source_roots: &config.source_roots }
    }

    /// A place in the evidence tree, and one below `docs` in each folder that holds sources.
    pub(crate) fn places(
        &self,
        (in_evidence, levels): (&str, &'static [Level]),
        below_docs: &'static [Level],
    ) -> Vec<Place> {
        let first = Place { root: self.evidence_dir.join(in_evidence), levels };
        let below = |root: &PathBuf| Place { root: root.join("docs"), levels: below_docs };
        std::iter::once(first).chain(self.source_roots.iter().map(below)).collect()
    }
}

/// What a folder's name has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// A SPEC's id.
    Spec,
    /// A SPEC's id that begins with `SPEC-`: beside other folders.
    SpecNamed,
    /// The id of a workflow run, as GitHub Spec Kit takes one.
    Run,
    /// This one.
    Named(&'static str),
    /// Any that is not hidden.
    Any,
}

/// Folders of a level that admits any that are looked into.
const MOST_OF_ANY: usize = 5_000;

/// The folders that hold a source's files: those at the last level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Above all levels, whether it is there or not.
    pub(crate) root: PathBuf,
    /// From the root down; none where the root itself holds the files.
    pub(crate) levels: &'static [Level],
}

impl Level {
    fn admits(self, name: &str) -> bool {
        match self {
            Self::Spec => name.parse::<SpecId>().is_ok(),
            Self::SpecNamed => name.starts_with("SPEC-") && name.parse::<SpecId>().is_ok(),
            Self::Run => {
                let is_allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
                // Where nothing says more, its SPEC's id is made of it.
                name.len() <= 120
                    && name.bytes().all(is_allowed)
                    && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            }
            Self::Named(wanted) => name == wanted,
            Self::Any => !name.starts_with('.'),
        }
    }
}

impl Place {
    /// How many levels down a folder is; `None` where it is not of this place.
    fn depth(&self, folder: &Path) -> Option<usize> {
        let inside = folder.strip_prefix(&self.root).ok()?;
        let mut depth = 0;
        for part in inside.components() {
            let level = self.levels.get(depth)?;
            if !level.admits(part.as_os_str().to_str()?) {
                return None;
            }
            depth += 1;
        }
        Some(depth)
    }

    /// The folder that holds the files of one SPEC, whether it is there or not.
    pub(crate) fn folder_of(&self, spec: &SpecId) -> PathBuf {
        let names = self.levels.iter().map(|level| match level {
            Level::Spec | Level::SpecNamed | Level::Run | Level::Any => spec.as_str(),
            Level::Named(name) => name,
        });
        names.fold(self.root.clone(), |folder, name| folder.join(name))
    }

    /// Whether a folder holds files of the source.
    pub(crate) fn holds(&self, folder: &Path) -> bool {
        self.depth(folder) == Some(self.levels.len())
    }

    /// Whether a folder is one of the place, at any level: a change in it can matter.
    pub(crate) fn leads_through(&self, folder: &Path) -> bool {
        self.depth(folder).is_some()
    }

    /// The folders of the place that are there now, at all levels but the root. Symbolic links are
    /// not followed.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let mut all = Vec::new();
        let mut above = vec![self.root.clone()];
        for level in self.levels {
            let inside = above.iter().flat_map(|folder| folders(folder));
            above = inside.filter(|folder| named(folder).is_some_and(|name| level.admits(name))).collect();
            if *level == Level::Any && above.len() > MOST_OF_ANY {
                // Features are numbered: the newest are the last ones.
                above.sort_unstable_by(|one, other| other.cmp(one));
                above.truncate(MOST_OF_ANY);
            }
            all.extend(above.iter().cloned());
        }
        all
    }

    /// The folders that hold files of the source, the root among them where it does.
    pub(crate) fn holders(&self) -> Vec<PathBuf> {
        let all = self.folders().into_iter().chain([self.root.clone()]);
        all.filter(|folder| self.holds(folder)).collect()
    }
}

fn named(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// What is in a folder; nothing where it cannot be listed.
pub(crate) fn entries(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// The folders in a folder, no links among them.
pub(crate) fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_belongs_to_a_place_by_the_names_from_its_root_down() {
        let place = Place { root: "/repo/docs".into(), levels: &[Level::Spec, Level::Named("evidence")] };
        for (folder, leads, holds) in [
            ("/repo/docs", true, false),
            ("/repo/docs/SPEC-1", true, false),
            ("/repo/docs/SPEC-1/evidence", true, true),
            ("/repo/docs/SPEC-1/evidence/inner", false, false),
            ("/repo/docs/SPEC-1/other", false, false),
            ("/repo/docs/.hidden", false, false),
            ("/repo", false, false),
            ("/repo/docs-2/SPEC-1/evidence", false, false),
        ] {
            let path = Path::new(folder);
            assert_eq!((place.leads_through(path), place.holds(path)), (leads, holds), "{folder}");
        }
        let any = Place { root: "/repo/specs".into(), levels: &[Level::Any, Level::Any] };
        assert!(any.holds(Path::new("/repo/specs/001 a/b")) && any.leads_through(Path::new("/repo/specs/é")));
        assert!(
            !any.leads_through(Path::new("/repo/specs/.git")) && !any.holds(Path::new("/repo/specs/a/b/c"))
        );
        let root = Place { root: "/repo".into(), levels: &[] };
        assert!(root.holds(Path::new("/repo")) && !root.holds(Path::new("/repo/docs")));
    }

    #[test]
    fn its_folders_are_those_that_are_there_and_no_links() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["docs/SPEC-1/evidence", "docs/SPEC-2", "docs/.x/evidence", "docs/SPEC-3/other"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        std::os::unix::fs::symlink(dir.path(), dir.path().join("docs/SPEC-4")).unwrap();
        let levels: &[Level] = &[Level::SpecNamed, Level::Named("evidence")];
        let mut found = Place { root: dir.path().join("docs"), levels }.folders();
        found.sort();
        let expected = ["SPEC-1", "SPEC-1/evidence", "SPEC-2", "SPEC-3"];
        assert_eq!(found, expected.map(|name| dir.path().join("docs").join(name)));
        let place = |levels| Place { root: dir.path().join("docs"), levels };
        assert_eq!(place(levels).holders(), [dir.path().join("docs/SPEC-1/evidence")]);
        assert_eq!(place(&[]).holders(), [dir.path().join("docs")]);
    }
}
