//! Everything on disk: the spool, the inbox, the evidence and the dead letters. One owner at a time, the Ledger.

mod backwards;
#[cfg(test)]
mod crash_tests;
mod dead_letter;
mod evidence;
mod files;
mod health;
mod inbox;
mod journal;
mod listing;
mod record;
mod recovery;
mod survey;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

pub use dead_letter::DeadLetter;
pub use evidence::{
    AttemptLine, AttemptSummary, ErrorLine, FinalLine, RequestLine, ResponseLine,
    add_line as add_evidence_line,
};
pub use files::{check_owner, write_atomic};
pub use health::{AtRest, Healths, left_at_rest, read_healths};
pub use inbox::{Aside, Cause, Content, Inbox, InboxName, Settled, Taken, put as put_in_inbox};
pub use journal::LastAttempt;
pub use listing::{
    Cursor, DeliveryState, Listed, Listing, MAX_LISTED, MAX_TRIED, Page, Query, Tried, TriedQuery, tried,
    unfinished,
};
pub use record::{Accepted, AcceptedDelivery, FinalState, Record};
pub use survey::{DeadLetterCount, Survey, Surveyor};

use crate::clock;
use crate::delivery::{Delivery, DeliveryId, SubscriptionId};
use crate::event::{IdempotencyKey, SpecId};
use crate::intake::run::Run;
use dead_letter::DeadLetters;
use evidence::EvidenceFile;
use journal::{Broken, Compact, Journal};

/// Open spool and evidence files kept at a time, each; beyond it all are closed and reopened as needed.
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

    /// Whether it is simply not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
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

/// Where everything is, and how much of it there may be.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Absolute path of the spool.
    pub spool_dir: PathBuf,
    /// Absolute path of the evidence tree's root.
    pub evidence_dir: PathBuf,
    /// Evidence of one SPEC, in bytes.
    pub max_evidence_bytes: u64,
    /// Dead letters of one SPEC, in bytes.
    pub max_dead_letter_bytes: u64,
    /// How long an event is known after it was accepted.
    pub dedupe_window: SignedDuration,
}

#[cfg(test)]
impl StoreOptions {
    /// Everything in one directory, with the default bounds.
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self {
            spool_dir: dir.join("spool"),
            evidence_dir: dir.join("evidence"),
            max_evidence_bytes: 5 << 20,
            max_dead_letter_bytes: 5 << 20,
            dedupe_window: SignedDuration::from_hours(24),
        }
    }
}

/// What the disk says is not finished, and which events are known.
#[derive(Debug, Default)]
pub struct Recovered {
    /// Each subscription's, in the order they were accepted.
    pub unfinished: BTreeMap<SubscriptionId, Vec<Unfinished>>,
    /// Every event that is still known and when it was accepted, oldest first.
    pub known: Vec<(IdempotencyKey, Timestamp)>,
    /// How the subscriptions fared so far.
    pub healths: Healths,
    /// Each SPEC's run so far, where there is one.
    pub runs: HashMap<SpecId, Run>,
}

/// What recovery found of one unfinished delivery.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// What is delivered.
    pub delivery: Arc<Delivery>,
    /// Attempts that ended without success.
    pub attempts: u32,
    /// When the next one was to be; `None` for at once.
    pub next_attempt_at: Option<Timestamp>,
}

/// The owner's view of the disk. Dropping it gives the spool up.
#[derive(Debug)]
pub struct Store {
    options: StoreOptions,
    journals: HashMap<SpecId, Journal>,
    /// Journals whose last write failed, until they could be read anew.
    broken: HashMap<SpecId, Broken>,
    evidence: HashMap<SpecId, EvidenceFile>,
    dead_letters: HashMap<SpecId, DeadLetters>,
    inbox: Inbox,
    /// Inbox files whose events are in the batch.
    taken: Vec<(SpecId, InboxName)>,
    _lock: File,
}

impl Store {
    /// Takes the spool's lock and reads what is pending.
    ///
    /// # Errors
    /// Owned by another process, written by a later version, or not writable.
    pub fn open(options: StoreOptions) -> Result<(Self, Recovered), OpenError> {
        let dir = &options.spool_dir;
        files::ensure_dir(dir)?;
        check_owner(dir).map_err(StoreError::on("use the spool", dir))?;
        let lock = lock(dir)?;
        let specs = specs(dir)?;
        for spec in &specs {
            journal::check_version(&dir.join(spec.as_str()))?;
        }
        let mut store = Self {
            inbox: Inbox::new(dir),
            options,
            journals: HashMap::new(),
            broken: HashMap::new(),
            evidence: HashMap::new(),
            dead_letters: HashMap::new(),
            taken: Vec::new(),
            _lock: lock,
        };
        let recovered = store.recover(specs)?;
        if left_at_rest(&store.options.spool_dir).is_some() {
            store.keep_healths(&recovered.healths, false);
        }
        Ok((store, recovered))
    }

    /// The bounds and the window from now on. The directories stay what they are.
    pub fn configure(&mut self, options: &StoreOptions) {
        let StoreOptions { spool_dir, evidence_dir, .. } = self.options.clone();
        self.options = StoreOptions { spool_dir, evidence_dir, ..options.clone() };
        self.flush_evidence();
        self.evidence.clear();
        self.dead_letters.clear();
    }

    /// Keeps how the subscriptions fare for the next start; at the end of a run, also how much is left. A failure is
    /// logged and matters to nobody else.
    pub fn keep_healths(&self, healths: &Healths, at_end: bool) {
        let is_whole = at_end && self.broken.is_empty();
        let rest = is_whole.then(|| AtRest {
            pending: self.journals.values().map(Journal::pending).sum(),
            dead_letters: Survey::of(&self.options.spool_dir).dead_letters,
        });
        if let Err(error) = health::write(&self.options.spool_dir, healths, rest) {
            log::warn!("health.json not written: {error}; deliveries go on");
        }
    }

    /// Whether nobody owns the spool; asks by taking its lock for a moment.
    pub fn is_free(spool_dir: &Path) -> bool {
        !matches!(lock(spool_dir), Err(OpenError::Locked(_)))
    }

    fn recover(&mut self, specs: Vec<SpecId>) -> Result<Recovered, StoreError> {
        let mut recovered =
            Recovered { healths: read_healths(&self.options.spool_dir), ..Recovered::default() };
        for spec in specs {
            let (mut journal, mut found) = Journal::open(&self.spec_dir(&spec), &spec)?;
            for name in found.inbox.iter().filter_map(|name| name.parse().ok()) {
                self.inbox.remove(&name);
            }
            match recovered.known.is_empty() {
                // There may be many, and most repos have one SPEC at work.
                true => std::mem::swap(&mut recovered.known, &mut found.known),
                false => recovered.known.append(&mut found.known),
            }
            let dead = dead_letter::ids(&self.dead_letter_dir(&spec));
            let mut buried = Vec::new();
            for (unfinished, _) in found.unfinished() {
                let id = unfinished.delivery.id;
                let letter = dead.contains(&id).then(|| self.read_dead_letter(&spec, id));
                match letter {
                    // A crash came between the dead letter and the record that it ends the delivery.
                    Some(Ok(letter)) => buried.push(letter),
                    Some(Err(_)) | None => {
                        let of = recovered.unfinished.entry(unfinished.delivery.subscription.clone());
                        of.or_default().push(unfinished);
                    }
                }
            }
            for letter in &buried {
                journal.append(&Record::Finished {
                    id: letter.id,
                    state: (&letter.reason).into(),
                    at: clock::now(),
                })?;
                let mut line = Vec::new();
                add_evidence_line(&FinalLine::of_dead_letter(letter), &mut line);
                self.add_evidence(&spec, &line);
            }
            if !journal.run().is_empty() {
                recovered.runs.insert(spec.clone(), journal.run().clone());
            }
            self.keep_journal(spec, journal);
        }
        for error in self.flush().into_values() {
            log::error!("{error}");
        }
        self.flush_evidence();
        self.compact_all();
        let since = self.known_since();
        recovered.known.retain(|(_, at)| *at >= since);
        recovered.known.sort_unstable_by_key(|(_, at)| *at);
        for unfinished in recovered.unfinished.values_mut() {
            // Stable: what one SPEC accepted within a millisecond keeps its order.
            unfinished.sort_by_key(|unfinished| unfinished.delivery.accepted_at);
        }
        Ok(recovered)
    }

    fn compact_all(&mut self) {
        let specs: Vec<SpecId> = self.journals.keys().cloned().collect();
        for spec in specs {
            while self.journals.get(&spec).is_some_and(|journal| journal.is_wasteful(Compact::AtLeisure)) {
                self.compact(&spec);
            }
        }
    }

    fn spec_dir(&self, spec: &SpecId) -> PathBuf {
        self.options.spool_dir.join(spec.as_str())
    }

    fn dead_letter_dir(&self, spec: &SpecId) -> PathBuf {
        self.spec_dir(spec).join("dead-letter")
    }

    fn known_since(&self) -> Timestamp {
        clock::now().checked_sub(self.options.dedupe_window).unwrap_or(Timestamp::MIN)
    }

    fn keep_journal(&mut self, spec: SpecId, journal: Journal) {
        self.journals.insert(spec, journal);
        if self.journals.values().filter(|journal| journal.is_open()).count() > MAX_OPEN_FILES {
            self.journals.values_mut().for_each(Journal::close_file);
        }
    }

    /// The SPEC's journal; one whose last write failed is read anew first.
    fn journal(&mut self, spec: &SpecId) -> Result<&mut Journal, StoreError> {
        if let Some(broken) = self.broken.get(spec) {
            let journal = broken.repair()?;
            self.broken.remove(spec);
            log::info!("the spool of {spec} could be read anew and takes events again");
            self.keep_journal(spec.clone(), journal);
        }
        if !self.journals.contains_key(spec) {
            let (journal, _) = Journal::open(&self.spec_dir(spec), spec)?;
            self.keep_journal(spec.clone(), journal);
        }
        self.journals.get_mut(spec).ok_or_else(|| {
            StoreError::on("open", &self.options.spool_dir)(io::Error::from(io::ErrorKind::NotFound))
        })
    }

    fn break_journal(&mut self, spec: &SpecId) {
        if let Some(journal) = self.journals.remove(spec) {
            self.broken.insert(spec.clone(), journal.into_broken());
        }
    }

    /// Adds a record to its SPEC's batch; on disk after [`flush`](Self::flush). An inbox file it came from is removed
    /// then.
    ///
    /// # Errors
    /// The SPEC's spool cannot be opened.
    pub fn append(&mut self, spec: &SpecId, record: &Record) -> Result<(), StoreError> {
        self.journal(spec)?.append(record)?;
        if let Record::Accepted(Accepted { inbox: Some(name), .. }) = record
            && let Ok(name) = name.parse()
        {
            self.taken.push((spec.clone(), name));
        }
        Ok(())
    }

    /// Writes every batch of records, and syncs those to which an accepted event was added. Returns what failed: of those
    /// SPECs nothing of the batch is accepted.
    pub fn flush(&mut self) -> HashMap<SpecId, StoreError> {
        let mut failed = HashMap::new();
        for (spec, journal) in &mut self.journals {
            if let Err(error) = journal.flush() {
                failed.insert(spec.clone(), error);
            }
        }
        for spec in failed.keys() {
            self.break_journal(spec);
        }
        for (spec, name) in std::mem::take(&mut self.taken) {
            if !failed.contains_key(&spec) {
                self.inbox.remove(&name);
            }
        }
        failed
    }

    /// Writes what was added to the evidence. A failure is logged and changes no delivery's fate.
    pub fn flush_evidence(&mut self) {
        self.evidence.retain(|_, file| {
            let written = file.flush();
            if let Err(error) = &written {
                log::error!("evidence not written: {error}; deliveries go on");
            }
            written.is_ok()
        });
    }

    /// Whether a step of compaction cannot wait any longer.
    pub fn must_compact(&self) -> bool {
        self.journals.values().any(|journal| journal.is_wasteful(Compact::AtOnce))
    }

    /// One bounded step of compaction, where one cannot wait any longer. Call after [`flush`](Self::flush).
    pub fn compact_what_must(&mut self) {
        self.compact_one(Compact::AtOnce);
    }

    /// One bounded step of compaction, where one is worth it; whether there was one. Call after [`flush`](Self::flush).
    pub fn compact_some(&mut self) -> bool {
        self.compact_one(Compact::AtLeisure)
    }

    fn compact_one(&mut self, compact: Compact) -> bool {
        let mut journals = self.journals.iter();
        let due = journals.find(|(_, journal)| journal.is_wasteful(compact)).map(|(spec, _)| spec.clone());
        due.inspect(|spec| self.compact(spec)).is_some()
    }

    fn compact(&mut self, spec: &SpecId) {
        let since = self.known_since();
        let Some(journal) = self.journals.get_mut(spec) else { return };
        if let Err(error) = journal.compact_oldest(since) {
            log::error!("the spool of {spec} could not be compacted: {error}; nothing of it is lost");
            self.break_journal(spec);
        }
    }

    /// Syncs everything written so far; for the end of a run.
    pub fn sync(&mut self) {
        for error in self.flush().into_values() {
            log::error!("{error}");
        }
        self.flush_evidence();
        let spools = self.journals.values_mut().filter_map(|journal| journal.sync().err());
        let evidence = self.evidence.values_mut().filter_map(|file| file.sync().err());
        for error in spools.chain(evidence) {
            log::error!("{error}");
        }
    }

    /// What a SPEC's events add up to, on disk.
    ///
    /// # Errors
    /// The SPEC's spool cannot be opened.
    pub fn run(&mut self, spec: &SpecId) -> Result<Run, StoreError> {
        self.journal(spec).map(|journal| journal.run().clone())
    }

    /// The payload of an unfinished delivery.
    ///
    /// # Errors
    /// It is not pending, or cannot be read.
    pub fn body(&mut self, spec: &SpecId, id: DeliveryId) -> Result<Bytes, StoreError> {
        self.journal(spec)?.body(id)
    }

    /// The recorded attempts of an unfinished delivery, oldest first, and its payload.
    ///
    /// # Errors
    /// It is not pending, or cannot be read.
    pub fn attempts_and_body(
        &mut self,
        spec: &SpecId,
        id: DeliveryId,
    ) -> Result<(Vec<AttemptSummary>, Bytes), StoreError> {
        self.journal(spec)?.attempts_and_body(id)
    }

    /// Where the last attempts of these unfinished deliveries stand.
    pub fn last_attempts(&self, ids: &[(SpecId, DeliveryId)]) -> Vec<LastAttempt> {
        ids.iter().filter_map(|(spec, id)| self.journals.get(spec)?.last_attempt(*id)).collect()
    }

    fn evidence_file(&mut self, spec: &SpecId) -> Result<&mut EvidenceFile, StoreError> {
        if !self.evidence.contains_key(spec) {
            if self.evidence.len() >= MAX_OPEN_FILES {
                self.evidence.retain(|_, file| file.flush().is_err());
            }
            let dir = self.options.evidence_dir.join("commands").join(spec.as_str()).join("webhooks");
            self.evidence.insert(spec.clone(), EvidenceFile::open(&dir, self.options.max_evidence_bytes)?);
        }
        self.evidence
            .get_mut(spec)
            .ok_or_else(|| StoreError::on("open", &self.options.evidence_dir)(io::ErrorKind::NotFound.into()))
    }

    /// Adds lines to the SPEC's evidence; on disk after [`flush_evidence`](Self::flush_evidence). A failure is logged
    /// and changes no delivery's fate.
    pub fn add_evidence(&mut self, spec: &SpecId, lines: &[u8]) {
        let added = self.evidence_file(spec).map(|file| file.append(lines));
        if let Err(error) = added {
            log::error!("evidence not written: {error}; deliveries go on");
        }
    }

    fn dead_letters(&mut self, spec: &SpecId) -> Result<&mut DeadLetters, StoreError> {
        if !self.dead_letters.contains_key(spec) {
            let dir = self.dead_letter_dir(spec);
            files::create_dir_durably(&self.spec_dir(spec))?;
            let letters = DeadLetters::open(dir, self.options.max_dead_letter_bytes)?;
            self.dead_letters.insert(spec.clone(), letters);
        }
        self.dead_letters.get_mut(spec).ok_or_else(|| {
            StoreError::on("open", &self.options.spool_dir)(io::Error::from(io::ErrorKind::NotFound))
        })
    }

    /// Writes a dead letter, whole and synced, in place of an older one of the same delivery. The oldest ones of its
    /// SPEC make room.
    ///
    /// # Errors
    /// It could not be written: the delivery must stay pending.
    pub fn write_dead_letter(&mut self, letter: &DeadLetter) -> Result<(), StoreError> {
        self.dead_letters(&letter.spec)?.write(letter)
    }

    /// Reads a dead letter.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn read_dead_letter(&self, spec: &SpecId, id: DeliveryId) -> Result<DeadLetter, StoreError> {
        dead_letter::read(&self.dead_letter_dir(spec), id)
    }

    /// Of which SPEC a dead letter is.
    pub fn spec_of_dead_letter(&self, id: DeliveryId) -> Option<SpecId> {
        let has = |spec: &SpecId| dead_letter::path(&self.dead_letter_dir(spec), id).exists();
        known_specs(&self.options.spool_dir).into_iter().find(has)
    }

    /// Removes a dead letter whose replay arrived.
    ///
    /// # Errors
    /// It could not be removed.
    pub fn remove_dead_letter(&mut self, spec: &SpecId, id: DeliveryId) -> Result<(), StoreError> {
        self.dead_letters(spec)?.remove(id)
    }

    /// Does with an inbox file what is to be done; what is left of it is under the name that is returned.
    pub fn settle_inbox(&self, name: &InboxName, settled: Settled) -> Option<InboxName> {
        self.inbox.settle(name, settled)
    }
}

/// Takes the lock that makes this process the owner. The system gives it up when the process ends.
fn lock(spool_dir: &Path) -> Result<File, OpenError> {
    let path = spool_dir.join(".lock");
    let lock = files::private_file(&path).map_err(StoreError::on("open", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(spool_dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(StoreError::on("lock", &path)(source).into()),
    }
}

/// The SPECs that have a journal, in order. Files of others are left alone.
fn specs(spool_dir: &Path) -> Result<Vec<SpecId>, StoreError> {
    let mut specs = spec_dirs(spool_dir).map_err(StoreError::on("list", spool_dir))?;
    specs.retain(|spec| journal::is_in(&spool_dir.join(spec.as_str())));
    specs.sort();
    Ok(specs)
}

/// The SPECs that have a folder in a spool; none where it cannot be listed.
pub fn known_specs(spool_dir: &Path) -> Vec<SpecId> {
    let mut specs = spec_dirs(spool_dir).unwrap_or_default();
    specs.retain(|spec| spool_dir.join(spec.as_str()).is_dir());
    specs.sort();
    specs
}

/// Bytes of all journals in a spool, without what cannot be listed.
pub fn spool_bytes(spool_dir: &Path) -> u64 {
    let dirs = known_specs(spool_dir).into_iter().map(|spec| spool_dir.join(spec.as_str()));
    dirs.map(|dir| journal::bytes_in(&dir)).sum()
}

/// Entries of a directory that are named as a SPEC is.
fn spec_dirs(dir: &Path) -> io::Result<Vec<SpecId>> {
    let mut specs = Vec::new();
    for entry in fs::read_dir(dir)? {
        specs.extend(entry?.file_name().to_str().and_then(|name| name.parse::<SpecId>().ok()));
    }
    Ok(specs)
}
