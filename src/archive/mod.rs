//! The archive: what happened to deliveries, for people. Evidence has its own folder in the repo;
//! dead letters and health are files in the spool's folder.

mod attempt;
mod backwards;
mod census;
mod dead_letter;
mod evidence;
mod health;
mod pauses;
mod reader;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

pub(crate) use attempt::{Attempt, Effect, Finished, RequestLine, Unsent};
#[cfg(feature = "fleet")]
pub(crate) use census::DeadLetterCause;
pub(crate) use census::{Census, DeadLetterCount};
pub(crate) use dead_letter::DeadLetter;
pub(crate) use dead_letter::{by_age as dead_letters_by_age, read as read_dead_letter};
pub(crate) use evidence::{
    End, add_attempt_line, add_final_line, burial_line, discard_letter_line, discard_line, is_record,
};
pub(crate) use health::{AtRest, Healths, left_at_rest, read_healths, write_healths};
pub(crate) use pauses::{Pauses, is_paused, read_pauses, remove_pause, write_pause};
pub(crate) use reader::{Part, evidence_files, evidence_parts, lines_of};

use crate::delivery::DeliveryId;
use crate::event::SpecId;
use crate::files::{self, FileError, git_ignore, known_specs, share_of_open_files};
use dead_letter::DeadLetters;
use evidence::EvidenceFile;

/// Most evidence files kept open at a time, if the limit of open files allows it. Beyond it all are
/// closed, and opened again as needed.
const MAX_OPEN_EVIDENCE: usize = 64;

/// The folders of the archive, and the bounds of its size.
#[derive(Clone, Debug)]
pub(crate) struct ArchiveOptions {
    /// Absolute path of the spool, whose SPEC folders hold the dead letters.
    pub spool_dir: PathBuf,
    /// Absolute path of the evidence tree's root.
    pub evidence_dir: PathBuf,
    /// Most bytes of evidence per SPEC.
    pub max_evidence_bytes: u64,
    /// Most bytes of dead letters per SPEC.
    pub max_dead_letter_bytes: u64,
    /// Whether evidence gets a `.gitignore`; the spool always has one.
    pub git_ignore: bool,
}

/// The writer's view of the archive.
#[derive(Debug)]
pub(crate) struct Archive {
    options: ArchiveOptions,
    evidence: HashMap<SpecId, EvidenceFile>,
    dead_letters: HashMap<SpecId, DeadLetters>,
}

/// The folder of a SPEC's dead letters.
pub(crate) fn dead_letter_dir(spool_dir: &Path, spec: &SpecId) -> PathBuf {
    spool_dir.join(spec.as_str()).join("dead-letter")
}

impl Archive {
    /// The archive in these folders. Nothing is created before something is written.
    pub(crate) fn new(options: ArchiveOptions) -> Self {
        let archive = Self { options, evidence: HashMap::new(), dead_letters: HashMap::new() };
        // An earlier version may have created evidence folders without a `.gitignore`.
        archive.ignore_evidence();
        archive
    }

    /// Sets other bounds; the folders stay the same. Returns what could not be written, as
    /// [`close`](Self::close).
    pub(crate) fn configure(&mut self, options: &ArchiveOptions) -> Vec<FileError> {
        let ArchiveOptions { spool_dir, evidence_dir, .. } = self.options.clone();
        self.options = ArchiveOptions { spool_dir, evidence_dir, ..options.clone() };
        let failed = self.close();
        self.ignore_evidence();
        self.dead_letters.clear();
        failed
    }

    /// Writes a `.gitignore` into the existing evidence folders.
    fn ignore_evidence(&self) {
        if self.options.git_ignore {
            reader::evidence_dirs(&self.options.evidence_dir).iter().for_each(|dir| git_ignore::ensure(dir));
        }
    }

    /// Adds lines to the SPEC's evidence; they are on disk after [`flush`](Self::flush). Returns
    /// what could not be written of other SPECs' evidence that had to be closed.
    pub(crate) fn add_evidence(&mut self, spec: &SpecId, lines: &[u8]) -> Vec<FileError> {
        let most = || MAX_OPEN_EVIDENCE.min(share_of_open_files(8));
        let is_too_many = !self.evidence.contains_key(spec) && self.evidence.len() >= most();
        let failed = if is_too_many { self.close() } else { Vec::new() };
        let options = &self.options;
        let file = self.evidence.entry(spec.clone()).or_insert_with(|| {
            let dir = options.evidence_dir.join("commands").join(spec.as_str()).join("webhooks");
            EvidenceFile::new(dir, options.max_evidence_bytes, options.git_ignore)
        });
        file.append(lines);
        failed
    }

    /// Writes the batched evidence and returns the failures. Lines that cannot be written wait for
    /// the next flush; no delivery's outcome depends on it. A lasting failure is logged once.
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

    /// Syncs one SPEC's evidence, before the step that it records is made.
    pub(crate) fn sync(&mut self, spec: &SpecId) {
        if let Some(Err(error)) = self.evidence.get_mut(spec).map(EvidenceFile::sync) {
            log::error!("{error}");
        }
    }

    /// Syncs one SPEC's evidence.
    ///
    /// # Errors
    /// Not all of its lines are on disk.
    pub(crate) fn sync_written(&mut self, spec: &SpecId) -> Result<(), String> {
        let Some(file) = self.evidence.get_mut(spec) else { return Ok(()) };
        if file.has_batch() {
            return Err(file.trouble().unwrap_or("the disk is full").to_owned());
        }
        file.sync().map_err(|error| error.to_string())
    }

    /// Writes, syncs and closes all evidence files. Returns the failures; those files stay open.
    pub(crate) fn close(&mut self) -> Vec<FileError> {
        let failed = self.flush();
        for error in self.evidence.values_mut().filter_map(|file| file.sync().err()) {
            log::error!("{error}");
        }
        self.evidence.retain(|_, file| file.has_batch());
        failed
    }

    /// For each SPEC whose evidence cannot be written at present, the reason.
    pub(crate) fn troubles(&self) -> impl Iterator<Item = String> {
        self.evidence.iter().filter_map(|(spec, file)| {
            Some(format!("the evidence of {spec} is not written, deliveries go on: {}", file.trouble()?))
        })
    }

    fn dead_letters(&mut self, spec: &SpecId) -> Result<&mut DeadLetters, FileError> {
        let dir = dead_letter_dir(&self.options.spool_dir, spec);
        // The folder, or the whole spool, may have been removed.
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

    /// Writes a dead letter, whole and synced, replacing an older one of the same delivery. The
    /// oldest ones of its SPEC are removed to stay within the bound. Its evidence must be written
    /// before.
    ///
    /// # Errors
    /// The letter could not be written: the delivery must stay pending.
    pub(crate) fn write_dead_letter(&mut self, letter: &DeadLetter) -> Result<(), FileError> {
        self.dead_letters(&letter.spec)?.write(letter)
    }

    /// Removes a dead letter whose replay was delivered.
    ///
    /// # Errors
    /// The file could not be removed.
    pub(crate) fn remove_dead_letter(&mut self, spec: &SpecId, id: DeliveryId) -> Result<(), FileError> {
        self.dead_letters(spec)?.remove(id)
    }

    /// Makes the removal of dead letters of a SPEC outlive a power loss.
    ///
    /// # Errors
    /// The folder could not be synced.
    pub(crate) fn sync_dead_letters(&self, spec: &SpecId) -> Result<(), FileError> {
        let dir = dead_letter_dir(&self.options.spool_dir, spec);
        files::sync_dir(&dir).map_err(FileError::on("sync", &dir))
    }

    /// Reads a dead letter.
    ///
    /// # Errors
    /// There is no such letter, or it cannot be read.
    pub(crate) fn read_dead_letter(&self, spec: &SpecId, id: DeliveryId) -> Result<DeadLetter, FileError> {
        dead_letter::read(&dead_letter_dir(&self.options.spool_dir, spec), id)
    }

    /// The deliveries of a SPEC that have a dead letter.
    pub(crate) fn dead_letters_of(&self, spec: &SpecId) -> HashSet<DeliveryId> {
        dead_letter::ids(&dead_letter_dir(&self.options.spool_dir, spec))
    }

    /// The SPEC of a dead letter.
    pub(crate) fn spec_of_dead_letter(&self, id: DeliveryId) -> Option<SpecId> {
        let dir = &self.options.spool_dir;
        let has = |spec: &SpecId| dead_letter::path(&dead_letter_dir(dir, spec), id).exists();
        known_specs(dir).unwrap_or_default().into_iter().find(has)
    }
}
