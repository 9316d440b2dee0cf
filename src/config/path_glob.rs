//! A glob over paths of files in the repo, as `task_files` has them.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::glob::Glob;

/// See the module's first lines.
#[derive(Clone, Debug)]
pub(crate) struct PathGlob {
    /// As it is written.
    text: String,
    file: Glob,
    /// The folders on the way to its files.
    folders: Vec<Glob>,
    /// The folder below which its files are, relative to the repo.
    root: PathBuf,
}

/// Why a text is no such glob.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidPath {
    #[error("it is empty")]
    Empty,
    #[error("`{0}` is not relative to the repo")]
    Absolute(String),
    #[error("`{0}` leads out of a folder with `..`")]
    Climbs(String),
    #[error("`{0}` has `{1}` in it: only `*`, `?` and `**` are signs here")]
    Sign(String, char),
    #[error("`{0}` has `**` beside other letters: it stands for whole folders, as in `specs/**/tasks.md`")]
    NotAFolder(String),
    #[error("`{0}` names folders and no files")]
    NoFile(String),
}

/// The signs that make a part of a path a pattern.
const SIGNS: [char; 2] = ['*', '?'];

impl FromStr for PathGlob {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        let given = || text.to_owned();
        if text.trim().is_empty() {
            return Err(InvalidPath::Empty);
        }
        if text.starts_with(['/', '~']) {
            return Err(InvalidPath::Absolute(given()));
        }
        // Of a glob with these the folders on the way could not be told.
        if let Some(sign) = text.chars().find(|c| matches!(c, '[' | ']' | '{' | '}' | '\\')) {
            return Err(InvalidPath::Sign(given(), sign));
        }
        let parts: Vec<&str> = text.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.contains(&"..") {
            return Err(InvalidPath::Climbs(given()));
        }
        if parts.iter().any(|part| part.contains("**") && *part != "**") {
            return Err(InvalidPath::NotAFolder(given()));
        }
        let above = match parts.split_last() {
            Some((last, above)) if *last != "**" && !text.ends_with('/') => above,
            _ => return Err(InvalidPath::NoFile(given())),
        };
        let folders = (1..=above.len()).map(|count| Glob::of_path(&above[..count])).collect();
        let root = above.iter().take_while(|part| !part.contains(SIGNS)).collect();
        Ok(Self { text: given(), file: Glob::of_path(&parts), folders, root })
    }
}

impl PathGlob {
    /// As it is written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a file, by its path relative to the repo, is meant.
    pub(crate) fn is_match(&self, file: &Path) -> bool {
        self.file.is_match(&file.to_string_lossy())
    }

    /// Whether files that are meant can be in a folder or below it.
    pub(crate) fn leads_through(&self, folder: &Path) -> bool {
        let folder = folder.to_string_lossy();
        folder.is_empty() || self.folders.iter().any(|glob| glob.is_match(&folder))
    }

    /// The folder below which all its files are, relative to the repo.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_the_folders_on_the_way_to_them() {
        let check = |glob: &str, root: &str, files: &[&str], folders: &[&str], others: &[&str]| {
            let glob: PathGlob = glob.parse().unwrap();
            assert_eq!(glob.root(), Path::new(root));
            for file in files {
                assert!(glob.is_match(Path::new(file)), "{glob:?} {file}");
                let mut above = Path::new(file).ancestors().skip(1);
                assert!(above.all(|folder| glob.leads_through(folder)), "{glob:?} {file}");
            }
            for folder in folders {
                assert!(glob.leads_through(Path::new(folder)), "{glob:?} {folder}");
            }
            for other in others {
                let other = Path::new(other);
                assert!(!glob.is_match(other) && !glob.leads_through(other), "{glob:?} {other:?}");
            }
        };
        check("TODO.md", "", &["TODO.md"], &[""], &["a", "a/TODO.md", "TODO.md.bak"]);
        check("./a//b/x.md", "a/b", &["a/b/x.md"], &["a", "a/b"], &["b", "a/c", "a/b/c"]);
        check("a/*/x?.md", "a", &["a/b/x1.md"], &["a", "a/b"], &["a/b/c", "b", "a/b/c/x1.md"]);
        check("**/x.md", "", &["x.md", "a/b/x.md"], &["a", "a/b/c"], &[]);
        check("a/**/b/*.md", "a", &["a/b/x.md", "a/c/d/b/x.md"], &["a", "a/c", "a/b/c"], &["b", "c/b"]);
    }

    #[test]
    fn what_is_no_path_in_the_repo_is_refused() {
        for (text, why) in [
            ("", "empty"),
            ("/etc/passwd", "not relative"),
            ("~/tasks.md", "not relative"),
            ("../other/tasks.md", "leads out"),
            ("a/../../tasks.md", "leads out"),
            ("a/[bc].md", "`[` in it"),
            ("a/{b,c}.md", "`{` in it"),
            ("a/**b/x.md", "beside other letters"),
            ("docs/**", "no files"),
            ("docs/", "no files"),
            (".", "no files"),
        ] {
            let error = text.parse::<PathGlob>().unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
