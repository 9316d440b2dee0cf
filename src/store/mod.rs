//! Everything on disk: the spool, the evidence and the dead letters. One owner at a time, the Ledger.

mod dead_letter;
mod evidence;
mod files;
mod spool;

use std::collections::HashMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use dead_letter::DeadLetter;
pub use evidence::{AttemptLine, AttemptSummary, ErrorLine, FinalLine, RequestLine, ResponseLine};
pub use files::{private_file, write_atomic};
pub use spool::{Accepted, AcceptedDelivery, FinalState, Record, Recovered};

use crate::delivery::{Delivery, DeliveryId};
use crate::event::SpecId;

/// Open spool and evidence files kept at a time; beyond it all are closed and reopened as needed.
const MAX_OPEN_FILES: usize = 64;

/// A file operation that failed, and on which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct StoreError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl StoreError {
    fn on<'a>(doing: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self { doing, path: path.to_owned(), source }
    }
}

/// Why the spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns it.
    #[error("another runtime owns the spool {}: stop it, or send events through it", .0.display())]
    Locked(PathBuf),
    /// A spool written by a later version.
    #[error("{} was written by a later version (format {version}): it is left untouched; use that version of spec-notify", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The format it says it has.
        version: u32,
    },
    /// The disk said no.
    #[error("{0}; check that the spool and evidence directories exist and can be written")]
    Io(#[from] StoreError),
}

/// The owner's view of the disk. Dropping it gives the spool up.
#[derive(Debug)]
pub struct Store {
    spool_dir: PathBuf,
    evidence_dir: PathBuf,
    spools: HashMap<SpecId, spool::SpoolFile>,
    evidence: HashMap<SpecId, evidence::EvidenceFile>,
    attempts: HashMap<DeliveryId, Vec<AttemptSummary>>,
    _lock: File,
}

impl Store {
    /// Takes the spool's lock and reads what is pending.
    ///
    /// # Errors
    /// Owned by another process, written by a later version, or not writable.
    pub fn open(spool_dir: &Path, evidence_dir: &Path) -> Result<(Self, Recovered), OpenError> {
        files::create_dir_durably(spool_dir)?;
        let lock_path = spool_dir.join("lock");
        let lock = private_file(&lock_path).map_err(StoreError::on("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(spool_dir.to_owned())),
            Err(TryLockError::Error(source)) => return Err(StoreError::on("lock", &lock_path)(source).into()),
        }
        let mut store = Self {
            spool_dir: spool_dir.to_owned(),
            evidence_dir: evidence_dir.to_owned(),
            spools: HashMap::new(),
            evidence: HashMap::new(),
            attempts: HashMap::new(),
            _lock: lock,
        };
        let mut recovered = Recovered::default();
        for spec in store.specs()? {
            let path = store.spool_path(&spec);
            let (file, found) = spool::SpoolFile::open(&path, &spec)?;
            recovered.absorb(found);
            store.keep_spool(spec, file);
        }
        store.attempts = recovered.take_attempts();
        Ok((store, recovered))
    }

    fn specs(&self) -> Result<Vec<SpecId>, StoreError> {
        let failed = |source| StoreError::on("list", &self.spool_dir)(source);
        let mut specs = Vec::new();
        for entry in fs::read_dir(&self.spool_dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if let Some(spec) = name.to_str().and_then(|name| name.parse::<SpecId>().ok())
                && self.spool_path(&spec).is_file()
            {
                specs.push(spec);
            }
        }
        specs.sort();
        Ok(specs)
    }

    fn spool_path(&self, spec: &SpecId) -> PathBuf {
        self.spool_dir.join(spec.as_str()).join("spool.jsonl")
    }

    fn dead_letter_path(&self, spec: &SpecId, id: DeliveryId) -> PathBuf {
        self.spool_dir.join(spec.as_str()).join("dead-letter").join(format!("{id}.json"))
    }

    fn keep_spool(&mut self, spec: SpecId, file: spool::SpoolFile) {
        if self.spools.len() >= MAX_OPEN_FILES {
            self.spools.retain(|_, file| file.has_unwritten());
        }
        self.spools.insert(spec, file);
    }

    fn spool(&mut self, spec: &SpecId) -> Result<&mut spool::SpoolFile, OpenError> {
        if !self.spools.contains_key(spec) {
            let path = self.spool_path(spec);
            if let Some(dir) = path.parent() {
                files::create_dir_durably(dir)?;
            }
            let (file, _) = spool::SpoolFile::open(&path, spec)?;
            self.keep_spool(spec.clone(), file);
        }
        self.spools.get_mut(spec).ok_or_else(|| {
            StoreError::on("open", &self.spool_dir)(io::Error::from(io::ErrorKind::NotFound)).into()
        })
    }

    /// Adds a record to its SPEC's batch; on disk after [`flush`](Self::flush).
    ///
    /// # Errors
    /// The SPEC's spool cannot be opened.
    pub fn append(&mut self, spec: &SpecId, record: &Record) -> Result<(), OpenError> {
        self.spool(spec)?.append(record);
        Ok(())
    }

    /// Writes every batch, and syncs those to which an accepted event was added. Returns what failed: of those
    /// SPECs nothing of the batch is on disk.
    pub fn flush(&mut self) -> HashMap<SpecId, StoreError> {
        let mut failed = HashMap::new();
        for (spec, file) in &mut self.spools {
            if let Err(error) = file.flush() {
                failed.insert(spec.clone(), error);
            }
        }
        self.spools.retain(|spec, _| !failed.contains_key(spec));
        for file in self.evidence.values_mut() {
            if let Err(error) = file.flush() {
                log::error!("evidence not written: {error}; deliveries go on");
            }
        }
        failed
    }

    /// Syncs everything written so far; for the end of a run.
    pub fn sync(&mut self) {
        for error in self.flush().into_values() {
            log::error!("{error}");
        }
        let spools = self.spools.values_mut().filter_map(|file| file.sync().err());
        let evidence = self.evidence.values_mut().filter_map(|file| file.sync().err());
        for error in spools.chain(evidence) {
            log::error!("{error}");
        }
    }

    fn evidence_file(&mut self, spec: &SpecId) -> Result<&mut evidence::EvidenceFile, StoreError> {
        if !self.evidence.contains_key(spec) {
            if self.evidence.len() >= MAX_OPEN_FILES {
                self.evidence.retain(|_, file| file.flush().is_err());
            }
            let dir = self.evidence_dir.join("commands").join(spec.as_str()).join("webhooks");
            self.evidence.insert(spec.clone(), evidence::EvidenceFile::open(&dir)?);
        }
        self.evidence
            .get_mut(spec)
            .ok_or_else(|| StoreError::on("open", &self.evidence_dir)(io::ErrorKind::NotFound.into()))
    }

    /// Adds a line to the SPEC's evidence. A failure is logged and changes no delivery's fate.
    pub fn add_evidence(&mut self, spec: &SpecId, line: &impl serde::Serialize) {
        let added = self.evidence_file(spec).map(|file| file.append(line));
        if let Err(error) = added {
            log::error!("evidence not written: {error}; deliveries go on");
        }
    }

    /// Remembers an attempt of a delivery that goes on.
    pub fn remember_attempt(&mut self, id: DeliveryId, summary: AttemptSummary) {
        self.attempts.entry(id).or_default().push(summary);
    }

    /// Forgets and returns the attempts of a delivery that ended.
    pub fn take_attempts(&mut self, id: DeliveryId) -> Vec<AttemptSummary> {
        self.attempts.remove(&id).unwrap_or_default()
    }

    /// Writes a dead letter, whole and synced, in place of an older one of the same delivery.
    ///
    /// # Errors
    /// It could not be written: the delivery must stay pending.
    pub fn write_dead_letter(&self, letter: &DeadLetter) -> Result<(), StoreError> {
        let path = self.dead_letter_path(&letter.spec, letter.id);
        if let Some(dir) = path.parent() {
            files::create_dir_durably(dir)?;
        }
        letter.write(&path)
    }

    /// Reads a dead letter.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn read_dead_letter(&self, spec: &SpecId, id: DeliveryId) -> Result<DeadLetter, StoreError> {
        DeadLetter::read(&self.dead_letter_path(spec, id))
    }

    /// Removes a dead letter whose replay arrived.
    ///
    /// # Errors
    /// It could not be removed.
    pub fn remove_dead_letter(&self, spec: &SpecId, id: DeliveryId) -> Result<(), StoreError> {
        let path = self.dead_letter_path(spec, id);
        fs::remove_file(&path).map_err(StoreError::on("remove", &path))
    }
}

/// What recovery found of one unfinished delivery.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// What is delivered.
    pub delivery: Arc<Delivery>,
    /// Attempts that ended without success.
    pub attempts: u32,
    /// When the next one was to be; `None` for at once.
    pub next_attempt_at: Option<jiff::Timestamp>,
}
