//! The files of one SPEC's evidence: appended to, synced, and rotated within their bound.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::files::{self, FileError, FileId, git_ignore};

/// The file that lines are appended to.
pub(in crate::archive) const CURRENT: &str = "deliveries.jsonl";

/// The file before it, renamed when it reached half the bound.
pub(in crate::archive) const PREVIOUS: &str = "deliveries.1.jsonl";

/// Most bytes of lines that wait while they cannot be written; further lines are lost. More than
/// one batch of the Ledger adds.
const MAX_WAITING: usize = 1024 * 1024;

/// A SPEC's evidence: `deliveries.jsonl`, and `deliveries.1.jsonl` with the lines before it.
#[derive(Debug)]
pub(in crate::archive) struct EvidenceFile {
    dir: PathBuf,
    max_bytes: u64,
    /// Whether the folder gets a `.gitignore`.
    git_ignore: bool,
    /// `None` until something is written, and after a failure: opening it again cuts an incomplete
    /// line.
    open: Option<Open>,
    batch: Vec<u8>,
    /// Why the last flush failed, if it did.
    trouble: Option<String>,
    /// Whether lines were lost since the last flush that succeeded.
    is_losing: bool,
}

#[derive(Debug)]
struct Open {
    file: File,
    id: FileId,
    length: u64,
    /// Whether all written lines are synced.
    is_synced: bool,
}

impl EvidenceFile {
    /// The evidence in `dir`, which is created by the first write. Both files together take at most
    /// `max_bytes`, plus or minus one batch.
    pub(in crate::archive) fn new(dir: PathBuf, max_bytes: u64, git_ignore: bool) -> Self {
        let (trouble, is_losing) = (None, false);
        Self { dir, max_bytes, git_ignore, open: None, batch: Vec::new(), trouble, is_losing }
    }

    /// Why nothing can be written at present.
    pub(in crate::archive) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Adds whole lines to the batch.
    pub(in crate::archive) fn append(&mut self, lines: &[u8]) {
        if self.batch.len() + lines.len() <= MAX_WAITING {
            return self.batch.extend_from_slice(lines);
        }
        if !self.is_losing {
            log::error!(
                "{} takes nothing: further evidence of this SPEC is lost until it does",
                self.dir.display()
            );
        }
        self.is_losing = true;
    }

    /// Writes the batch. Lines that cannot be written wait for the next flush, within a bound, and
    /// the file still ends with a whole line. The error says whether the flush before failed too,
    /// so that it is logged once.
    pub(in crate::archive) fn flush(&mut self) -> Result<(), (FileError, bool)> {
        if self.batch.is_empty() {
            return Ok(());
        }
        match self.write() {
            Ok(()) => {
                self.batch.clear();
                (self.trouble, self.is_losing) = (None, false);
                Ok(())
            }
            Err(error) => {
                // Earlier lines may not be synced yet.
                drop(self.sync());
                self.open = None;
                let was_failing = self.trouble.replace(error.to_string()).is_some();
                Err((error, was_failing))
            }
        }
    }

    fn write(&mut self) -> Result<(), FileError> {
        let path = self.dir.join(CURRENT);
        if let Some(open) = &self.open
            && !open.id.is_at(&path).map_err(FileError::on("look at", &path))?
        {
            log::warn!("{} was removed or moved away: it starts again", path.display());
            self.open = None;
        }
        if self.open.is_none() {
            self.open = Some(Open::new(&self.dir, self.git_ignore)?);
        }
        let Some(open) = &mut self.open else { return Ok(()) };
        if open.length > 0 && open.length + self.batch.len() as u64 > self.max_bytes / 2 {
            open.sync(&path)?;
            files::rename(&path, &self.dir.join(PREVIOUS)).map_err(FileError::on("rotate", &path))?;
            *open = Open::new(&self.dir, self.git_ignore)?;
        }
        open.is_synced = false;
        match files::append(&mut open.file, &self.batch) {
            Ok(()) => {
                open.length += self.batch.len() as u64;
                Ok(())
            }
            Err(error) => {
                if let Err(error) = files::cut(&open.file, open.length) {
                    log::error!("{} may end with a part of a line: {error}", path.display());
                }
                Err(FileError::on("write", &path)(error))
            }
        }
    }

    /// Whether lines wait to be written.
    pub(in crate::archive) fn has_batch(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Syncs all written lines.
    pub(in crate::archive) fn sync(&mut self) -> Result<(), FileError> {
        self.open.as_mut().map_or(Ok(()), |open| open.sync(&self.dir.join(CURRENT)))
    }
}

impl Open {
    /// Opens or creates the file; cuts a torn last line.
    fn new(dir: &Path, git_ignore: bool) -> Result<Self, FileError> {
        match git_ignore {
            true => {
                git_ignore::create_dir(dir)?;
                git_ignore::ensure(dir);
            }
            false => files::create_dir_durably(dir)?,
        }
        let path = dir.join(CURRENT);
        let mut file = files::private_file(&path).map_err(FileError::on("open", &path))?;
        files::cut_torn_line(&mut file).map_err(FileError::on("repair", &path))?;
        let length = file.metadata().map_err(FileError::on("read", &path))?.len();
        let id = FileId::of(&file).map_err(FileError::on("read", &path))?;
        Ok(Self { file, id, length, is_synced: true })
    }

    fn sync(&mut self, path: &Path) -> Result<(), FileError> {
        if !self.is_synced {
            files::sync(&self.file).map_err(FileError::on("sync", path))?;
            self.is_synced = true;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_stay_within_the_bound_and_hold_the_newest_lines() {
        let dir = tempfile::tempdir().unwrap();
        let mut evidence = EvidenceFile::new(dir.path().to_owned(), 1000, true);
        for n in 0..300 {
            evidence.append(format!("{{\"n\":{n}}}\n").as_bytes());
            evidence.flush().unwrap();
        }
        let read = |name| std::fs::read_to_string(dir.path().join(name)).unwrap();
        let (previous, current) = (read(PREVIOUS), read(CURRENT));
        assert!(previous.len() + current.len() <= 1000);
        assert!(previous.len() + current.len() >= 490);
        let numbers: Vec<i64> = (previous + &current)
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["n"].as_i64().unwrap())
            .collect();
        let first = numbers[0];
        assert_eq!(numbers, (first..300).collect::<Vec<_>>());
    }
}
