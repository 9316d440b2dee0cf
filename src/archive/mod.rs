//! The archive: what happened to deliveries, for people. Evidence, dead letters and health are
//! files of the repo, whatever holds the spool.

mod attempt;
mod backwards;
mod census;
mod dead_letter;
mod evidence;
mod health;
mod reader;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

pub(crate) use attempt::{Attempt, Effect, Finished, RequestLine};
pub(crate) use census::{Census, DeadLetterCount};
pub(crate) use dead_letter::DeadLetter;
pub(crate) use dead_letter::{by_age as dead_letters_by_age, read as read_dead_letter};
pub(crate) use evidence::{attempt_lines, burial_lines, final_lines, is_record};
pub(crate) use health::{AtRest, Healths, left_at_rest, read_healths, write_healths};
pub(crate) use reader::{evidence_files, lines_of};

use crate::delivery::DeliveryId;
use crate::event::SpecId;
use crate::files::{self, FileError, git_ignore, known_specs, share_of_open_files};
use dead_letter::DeadLetters;
use evidence::EvidenceFile;

/// Evidence files kept open at a time, where the limit of open files allows; beyond it all are
/// closed and reopened as needed.
const MAX_OPEN_EVIDENCE: usize = 64;

/// Where the archive is, and how much of it there may be.
#[derive(Clone, Debug)]
pub(crate) struct ArchiveOptions {
    /// Absolute path of the spool, whose SPEC folders hold the dead letters.
    pub spool_dir: PathBuf,
    /// Absolute path of the evidence tree's root.
    pub evidence_dir: PathBuf,
    /// Evidence of one SPEC, in bytes.
    pub max_evidence_bytes: u64,
    /// Dead letters of one SPEC, in bytes.
    pub max_dead_letter_bytes: u64,
    /// Whether git is kept from seeing evidence; it never sees the spool.
    pub git_ignore: bool,
}

/// The writer's view of the archive.
#[derive(Debug)]
pub(crate) struct Archive {
    options: ArchiveOptions,
    evidence: HashMap<SpecId, EvidenceFile>,
    dead_letters: HashMap<SpecId, DeadLetters>,
}

/// Where the dead letters of a SPEC are.
pub(crate) fn dead_letter_dir(spool_dir: &Path, spec: &SpecId) -> PathBuf {
    spool_dir.join(spec.as_str()).join("dead-letter")
}

impl Archive {
    /// The archive there; nothing is made before something is written.
    pub(crate) fn new(options: ArchiveOptions) -> Self {
        let archive = Self { options, evidence: HashMap::new(), dead_letters: HashMap::new() };
        // An earlier version may have made them.
        archive.ignore_evidence();
        archive
    }

    /// Other bounds from now on; the directories stay what they are. Returns what could not be
    /// written, as [`close`](Self::close).
    pub(crate) fn configure(&mut self, options: &ArchiveOptions) -> Vec<FileError> {
        let ArchiveOptions { spool_dir, evidence_dir, .. } = self.options.clone();
        self.options = ArchiveOptions { spool_dir, evidence_dir, ..options.clone() };
        let failed = self.close();
        self.ignore_evidence();
        self.dead_letters.clear();
        failed
    }

    /// Keeps git from seeing the evidence that is there.
    fn ignore_evidence(&self) {
        if self.options.git_ignore {
            reader::evidence_dirs(&self.options.evidence_dir).iter().for_each(|dir| git_ignore::ensure(dir));
        }
    }

    /// Adds lines to the SPEC's evidence; on disk after [`flush`](Self::flush). Returns what could
    /// not be written of others that had to be closed.
    pub(crate) fn add_evidence(&mut self, spec: &SpecId, lines: &[u8]) -> Vec<FileError> {
        let most = MAX_OPEN_EVIDENCE.min(share_of_open_files(8));
        let is_too_many = !self.evidence.contains_key(spec) && self.evidence.len() >= most;
        let failed = if is_too_many { self.close() } else { Vec::new() };
        let options = &self.options;
        let file = self.evidence.entry(spec.clone()).or_insert_with(|| {
            let dir = options.evidence_dir.join("commands").join(spec.as_str()).join("webhooks");
            EvidenceFile::new(dir, options.max_evidence_bytes, options.git_ignore)
        });
        file.append(lines);
        failed
    }

    /// Writes what was added to the evidence. What cannot be written waits for the next time,
    /// changes no delivery's fate, and is said once; it is returned as often as it happens.
    pub(crate) fn flush(&mut self) -> Vec<FileError> {
        let mut failed = Vec::new();
        for file in self.evidence.values_mut() {
            if let Err((error, was_failing)) = file.flush() {
                if !was_failing {
                    log::error!("evidence not written: {error}; deliveries go on, and it is tried again");
                }
                failed.push(error);
            }
        }
        failed
    }

    /// Syncs one SPEC's evidence: what it tells of is about to happen.
    pub(crate) fn sync(&mut self, spec: &SpecId) {
        if let Some(Err(error)) = self.evidence.get_mut(spec).map(EvidenceFile::sync) {
            log::error!("{error}");
        }
    }

    /// Writes, syncs and closes all evidence but what could not be written, which is returned.
    pub(crate) fn close(&mut self) -> Vec<FileError> {
        let failed = self.flush();
        for error in self.evidence.values_mut().filter_map(|file| file.sync().err()) {
            log::error!("{error}");
        }
        self.evidence.retain(|_, file| file.has_batch());
        failed
    }

    /// Of each SPEC whose evidence cannot be written at the moment, why.
    pub(crate) fn troubles(&self) -> impl Iterator<Item = String> {
        self.evidence.iter().filter_map(|(spec, file)| {
            Some(format!("the evidence of {spec} is not written, deliveries go on: {}", file.trouble()?))
        })
    }

    fn dead_letters(&mut self, spec: &SpecId) -> Result<&mut DeadLetters, FileError> {
        let dir = dead_letter_dir(&self.options.spool_dir, spec);
        // Somebody may have removed them, or the whole spool.
        if !self.dead_letters.get(spec).is_some_and(DeadLetters::is_in_place) {
            git_ignore::ensure_dir(&self.options.spool_dir)?;
            git_ignore::ensure(&self.options.spool_dir);
            files::create_dir_durably(&self.options.spool_dir.join(spec.as_str()))?;
            let letters = DeadLetters::open(dir.clone(), self.options.max_dead_letter_bytes)?;
            self.dead_letters.insert(spec.clone(), letters);
        }
        let missing = || FileError::on("open", &dir)(std::io::ErrorKind::NotFound.into());
        self.dead_letters.get_mut(spec).ok_or_else(missing)
    }

    /// Writes a dead letter, whole and synced, in place of an older one of the same delivery. The
    /// oldest ones of its SPEC make room. The evidence of what it tells comes before it.
    ///
    /// # Errors
    /// It could not be written: the delivery must stay pending.
    pub(crate) fn write_dead_letter(&mut self, letter: &DeadLetter) -> Result<(), FileError> {
        self.dead_letters(&letter.spec)?.write(letter)
    }

    /// Removes a dead letter whose replay arrived.
    ///
    /// # Errors
    /// It could not be removed.
    pub(crate) fn remove_dead_letter(&mut self, spec: &SpecId, id: DeliveryId) -> Result<(), FileError> {
        self.dead_letters(spec)?.remove(id)
    }

    /// Reads a dead letter.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub(crate) fn read_dead_letter(&self, spec: &SpecId, id: DeliveryId) -> Result<DeadLetter, FileError> {
        dead_letter::read(&dead_letter_dir(&self.options.spool_dir, spec), id)
    }

    /// The deliveries of a SPEC that have a dead letter.
    pub(crate) fn dead_letters_of(&self, spec: &SpecId) -> HashSet<DeliveryId> {
        dead_letter::ids(&dead_letter_dir(&self.options.spool_dir, spec))
    }

    /// Of which SPEC a dead letter is.
    pub(crate) fn spec_of_dead_letter(&self, id: DeliveryId) -> Option<SpecId> {
        let dir = &self.options.spool_dir;
        let has = |spec: &SpecId| dead_letter::path(&dead_letter_dir(dir, spec), id).exists();
        known_specs(dir).into_iter().find(has)
    }
}
