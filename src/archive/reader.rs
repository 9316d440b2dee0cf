//! Reads the evidence: which files there are, and their lines, newest first.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

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
pub(crate) fn was_rotated(path: &Path) -> bool {
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
