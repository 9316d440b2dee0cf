//! Reads the evidence: which files there are, and their lines, newest first.

use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use jiff::Timestamp;

use super::backwards::Backwards;
use super::evidence::{CURRENT, PREVIOUS};
use crate::event::SpecId;
use crate::files::{self, absent_is_empty, spec_dirs};

/// The evidence files, most recently written first: a page fills early, and the remaining files are
/// then too old for it.
pub(crate) fn evidence_files(
    evidence_dir: &Path,
    spec: Option<&SpecId>,
) -> io::Result<Vec<(SpecId, PathBuf)>> {
    let commands = evidence_dir.join("commands");
    let specs = match spec {
        Some(spec) => vec![spec.clone()],
        None => absent_is_empty(spec_dirs(&commands))?,
    };
    let mut files: Vec<(SystemTime, SpecId, PathBuf)> = Vec::new();
    for spec in specs {
        for name in [CURRENT, PREVIOUS] {
            let path = commands.join(spec.as_str()).join("webhooks").join(name);
            if let Ok(written) = fs::metadata(&path).and_then(|found| found.modified()) {
                files.push((written, spec.clone(), path));
            }
        }
    }
    files.sort_by_key(|(written, ..)| std::cmp::Reverse(*written));
    Ok(files.into_iter().map(|(_, spec, path)| (spec, path)).collect())
}

/// Whether lines older than those of this file may have been rotated away.
fn was_rotated(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name == PREVIOUS)
}

/// The folders that hold evidence, links excluded.
pub(super) fn evidence_dirs(evidence_dir: &Path) -> Vec<PathBuf> {
    let commands = evidence_dir.join("commands");
    let specs = spec_dirs(&commands).unwrap_or_default().into_iter();
    let dirs = specs.map(|spec| commands.join(spec.as_str()).join("webhooks"));
    let is_ours = |dir: &PathBuf| {
        fs::symlink_metadata(dir).is_ok_and(|found| found.is_dir())
            && [CURRENT, PREVIOUS].iter().any(|name| dir.join(name).exists())
    };
    dirs.filter(is_ours).collect()
}

/// The lines of an evidence file, last line first, as far as it can be read.
pub(crate) fn lines_of(path: &Path) -> impl Iterator<Item = Vec<u8>> + '_ {
    let lines = files::open_to_read(path).and_then(Backwards::new);
    let said = |error: &io::Error| match error.kind() {
        // It was rotated away.
        io::ErrorKind::NotFound => {}
        _ => log::warn!("{}: {error}", path.display()),
    };
    let lines = lines.inspect_err(said).into_iter().flatten();
    lines.map_while(move |line| line.inspect_err(said).ok())
}

/// Evidence that is read newest line first: a file, or what a fleet's cluster has.
pub(crate) enum Part {
    File(PathBuf),
    Pages(Pages),
}

/// Reads the next page of lines, newest first; an empty one is the last.
type NextPage = Box<dyn FnMut() -> Result<Vec<String>, Box<dyn Display>>>;

/// Lines that are asked for page by page; see [`Part`].
pub(crate) struct Pages {
    next: RefCell<NextPage>,
    is_cut: Cell<bool>,
}

impl Part {
    /// Lines that are read already, newest first.
    pub(crate) fn read(lines: Vec<String>) -> Self {
        let mut lines = lines;
        Self::pages(move || Ok(std::mem::take(&mut lines)))
    }

    /// Lines that `next` reads page by page. Where a page cannot be read, older lines are missing.
    pub(crate) fn pages(next: impl FnMut() -> Result<Vec<String>, Box<dyn Display>> + 'static) -> Self {
        Self::Pages(Pages { next: RefCell::new(Box::new(next)), is_cut: Cell::new(false) })
    }

    /// The lines, newest first; pages can be read once.
    pub(crate) fn lines(&self) -> Box<dyn Iterator<Item = Vec<u8>> + '_> {
        match self {
            Self::File(path) => Box::new(lines_of(path)),
            Self::Pages(pages) => Box::new(pages.lines()),
        }
    }

    /// Whether lines older than its last one may be missing; to be asked after they were read.
    pub(crate) fn is_cut(&self) -> bool {
        match self {
            Self::File(path) => was_rotated(path),
            Self::Pages(pages) => pages.is_cut.get(),
        }
    }

    /// When its newest line was written, if a file says so.
    pub(crate) fn written(&self) -> Option<Timestamp> {
        match self {
            Self::File(path) => Timestamp::try_from(path.metadata().ok()?.modified().ok()?).ok(),
            Self::Pages(_) => None,
        }
    }
}

impl Pages {
    fn lines(&self) -> impl Iterator<Item = Vec<u8>> + '_ {
        let page = || match (self.next.borrow_mut())() {
            Ok(page) => Some(page).filter(|page| !page.is_empty()),
            Err(error) => {
                log::warn!("older evidence is missing: {error}");
                self.is_cut.set(true);
                None
            }
        };
        std::iter::from_fn(page).flatten().map(String::into_bytes)
    }
}

/// The evidence of a repo, or of one of its SPECs.
///
/// # Errors
/// The files cannot be listed.
pub(crate) fn evidence_parts(evidence_dir: &Path, spec: Option<&SpecId>) -> io::Result<Vec<Part>> {
    Ok(evidence_files(evidence_dir, spec)?.into_iter().map(|(_, path)| Part::File(path)).collect())
}
