//! Everything on disk: the spool, the inbox, the evidence and the dead letters. One owner at a
//! time, the Ledger.

mod backwards;
#[cfg(test)]
mod crash_tests;
mod dead_letter;
mod evidence;
mod files;
mod git_ignore;
mod health;
mod inbox;
mod journal;
mod leftovers;
mod listing;
mod lock;
mod place;
mod presence;
#[cfg(test)]
mod presence_tests;
mod record;
mod recovery;
mod reserve;
mod settle;
mod survey;
mod user;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

pub use dead_letter::DeadLetter;
pub use evidence::{
    AttemptLine, ErrorLine, FinalLine, RequestLine, ResponseLine, add_line as add_evidence_line,
};
pub(crate) use files::max_open;
#[cfg(feature = "cli")]
pub(crate) use files::raise_max_open;
pub(crate) use files::read_small;
pub use files::write_atomic;
pub use health::{AtRest, Healths, left_at_rest, read_healths};
pub use inbox::{Aside, Cause, Content, Inbox, InboxName, Settled, Taken, put as put_in_inbox};
pub use journal::LastAttempt;
pub use listing::{
    Cursor, DeliveryState, Listed, Listing, MAX_LISTED, MAX_TRIED, Page, Query, Tried, TriedQuery, tried,
    unfinished,
};
pub use record::{Accepted, AcceptedDelivery, FinalState, Record};
pub(crate) use settle::{Attempt, Effect, Finished};
pub use survey::{DeadLetterCount, Survey, Surveyor};
pub use user::{check_owner, check_readable};

use crate::clock;
use crate::delivery::{AttemptSummary, Delivery, DeliveryId, SubscriptionId, Told};
use crate::event::{IdempotencyKey, SpecId};
use crate::run::Run;
use dead_letter::DeadLetters;
use evidence::EvidenceFile;
use journal::{Broken, Compact, Journal};
use lock::Lock;
use presence::Announced;
use reserve::Reserve;

/// Evidence files kept open at a time, where the limit of open files allows; beyond it all are
/// closed and reopened as needed.
const MAX_OPEN_EVIDENCE: usize = 64;

/// Spool files kept open at a time, where the limit of open files allows.
const MAX_OPEN_SPOOL: usize = 4096;

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

    /// The same error for somebody else.
    fn again(&self) -> Self {
        let source = io::Error::new(self.source.kind(), self.source.to_string());
        Self { doing: self.doing, path: self.path.clone(), source }
    }

    /// Whether what was wanted is gone or damaged: it will not be there later.
    pub(crate) fn is_gone(&self) -> bool {
        is_gone(&self.source)
    }

    /// Whether it is simply not there.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// Why something of the spool was not read.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is gone or damaged: no other attempt mends that.
    #[error("{0}")]
    Gone(StoreError),
    /// The disk said no: it may say yes later.
    #[error("{0}")]
    NotNow(StoreError),
}

/// Whether an error says that what was to be read is gone or damaged, which no other attempt
/// mends.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotADirectory, NotFound, UnexpectedEof};
    matches!(error.kind(), NotFound | NotADirectory | InvalidData | UnexpectedEof)
}

/// Why the spool could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns it.
    #[error("another runtime owns the spool {}: stop it, or send events through it", .0.display())]
    Locked(PathBuf),
    /// A spool written by a later version.
    #[error("{} was written by a later version (format {version}): it is left untouched; \
             use that version of spec-notify", path.display())]
    Newer {
        /// Which file.
        path: PathBuf,
        /// The format it says it has.
        version: u32,
    },
    /// A spool of another user.
    #[error("cannot use the spool {}: {}", .0.display(), .1)]
    Foreign(PathBuf, io::Error),
    /// The disk said no.
    #[error("{0}; check that the spool and evidence directories exist and can be written")]
    Io(#[from] StoreError),
}

/// Where everything is, and how much of it there may be.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Absolute path of the repo; without it nothing is made anew.
    pub repo: PathBuf,
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
    /// Whether git is kept from seeing evidence; it never sees the spool.
    pub git_ignore: bool,
}

#[cfg(test)]
impl StoreOptions {
    /// Everything in one directory, with the default bounds.
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self {
            repo: dir.to_owned(),
            spool_dir: dir.join("spool"),
            evidence_dir: dir.join("evidence"),
            max_evidence_bytes: 3_000_000,
            max_dead_letter_bytes: 2_000_000,
            dedupe_window: SignedDuration::from_hours(24),
            git_ignore: true,
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
    /// What was told lately, in the order of each SPEC.
    pub told: Vec<(SpecId, IdempotencyKey, Told)>,
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
    /// SPECs whose spool could not be read at the start, and why: their trouble is theirs alone.
    aside: BTreeMap<SpecId, StoreError>,
    evidence: HashMap<SpecId, EvidenceFile>,
    dead_letters: HashMap<SpecId, DeadLetters>,
    inbox: Inbox,
    /// Inbox files whose events are in the batch.
    taken: Vec<(SpecId, InboxName)>,
    reserve: Reserve,
    /// What keeps events from being accepted, as of the last look.
    troubles: BTreeSet<String>,
    /// SPECs of which a batch could not be written, until those who wait for it have heard.
    unanswered: HashMap<SpecId, StoreError>,
    /// When each SPEC's folder had last changed, as far as it was looked through for files of
    /// others.
    looked_through: HashMap<SpecId, SystemTime>,
    /// Deliveries that were taken away with their files, until they end.
    lost: BTreeSet<DeliveryId>,
    /// `runtime.json`, while there is to be one.
    announced: Option<Announced>,
    standing: Standing,
    lock: Lock,
}

/// Whether we are the owner still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The spool is ours.
    Owner,
    /// Another process took a spool that was removed under us.
    Deposed,
    /// The spool of a SPEC that was set aside can be read by now: a start would take it in.
    Outdated,
}

impl Store {
    /// Takes the spool's lock and reads what is pending.
    ///
    /// # Errors
    /// Owned by another process, written by a later version, or not writable.
    pub fn open(options: StoreOptions) -> Result<(Self, Recovered), OpenError> {
        let dir = &options.spool_dir;
        git_ignore::ensure_dir(dir)?;
        check_owner(dir).map_err(|error| OpenError::Foreign(dir.clone(), error))?;
        git_ignore::ensure(dir);
        let lock = Lock::take(dir)?;
        let (mut specs, mut aside) = specs(dir)?;
        leftovers::sweep(dir, &specs);
        for spec in std::mem::take(&mut specs) {
            match journal::check_version(&dir.join(spec.as_str())) {
                Ok(()) => specs.push(spec),
                Err(OpenError::Io(error)) => drop(aside.insert(spec, error)),
                Err(error) => return Err(error),
            }
        }
        let mut store = Self {
            inbox: Inbox::new(dir),
            reserve: Reserve::open(dir),
            options,
            journals: HashMap::new(),
            broken: HashMap::new(),
            aside,
            evidence: HashMap::new(),
            dead_letters: HashMap::new(),
            taken: Vec::new(),
            troubles: BTreeSet::new(),
            unanswered: HashMap::new(),
            looked_through: HashMap::new(),
            lost: BTreeSet::new(),
            announced: None,
            standing: Standing::Owner,
            lock,
        };
        // An earlier version may have made them.
        store.ignore_evidence();
        let recovered = store.recover(specs);
        if left_at_rest(&store.options.spool_dir).is_some() {
            store.keep_healths(&recovered.healths, false);
        }
        Ok((store, recovered))
    }

    /// The bounds and the window from now on. The directories stay what they are.
    pub fn configure(&mut self, options: &StoreOptions) {
        let StoreOptions { repo, spool_dir, evidence_dir, .. } = self.options.clone();
        self.options = StoreOptions { repo, spool_dir, evidence_dir, ..options.clone() };
        self.close_evidence();
        self.ignore_evidence();
        self.dead_letters.clear();
    }

    /// Keeps how the subscriptions fare for the next start; at the end of a run, also how much is
    /// left. A failure is logged and matters to nobody else.
    pub fn keep_healths(&self, healths: &Healths, at_end: bool) {
        if self.standing == Standing::Deposed {
            return;
        }
        let is_whole = at_end && self.broken.is_empty() && self.aside.is_empty();
        let rest = is_whole.then(|| AtRest {
            pending: self.journals.values().map(Journal::pending).sum(),
            dead_letters: Survey::of(&self.options.spool_dir).dead_letters,
        });
        if let Err(error) = health::write(&self.options.spool_dir, healths, rest) {
            log::warn!("health.json not written: {error}; deliveries go on");
        }
    }

    /// Whether somebody owns the spool. Creates nothing.
    pub fn is_owned(spool_dir: &Path) -> bool {
        Lock::is_held(spool_dir)
    }

    fn recover(&mut self, specs: Vec<SpecId>) -> Recovered {
        let mut recovered =
            Recovered { healths: read_healths(&self.options.spool_dir), ..Recovered::default() };
        for spec in specs {
            let (journal, mut found) = match Journal::open(&self.spec_dir(&spec), &spec, self.max_open()) {
                Ok(opened) => opened,
                Err(error) => {
                    self.aside.insert(spec, error);
                    continue;
                }
            };
            for name in found.inbox.iter().filter_map(|name| name.parse().ok()) {
                self.inbox.remove(&name);
            }
            match recovered.known.is_empty() {
                // There may be many, and most repos have one SPEC at work.
                true => std::mem::swap(&mut recovered.known, &mut found.known),
                false => recovered.known.append(&mut found.known),
            }
            recovered.told.extend(found.take_told().map(|(key, told)| (spec.clone(), key, told)));
            let dead = dead_letter::ids(&self.dead_letter_dir(&spec));
            let mut buried = Vec::new();
            for (unfinished, _) in found.unfinished() {
                let id = unfinished.delivery.id;
                let letter = dead.contains(&id).then(|| self.read_dead_letter(&spec, id));
                match letter {
                    // A crash came between the dead letter and the record that it ends the
                    // delivery.
                    Some(Ok(letter)) => buried.push(letter),
                    Some(Err(_)) | None => {
                        let of = recovered.unfinished.entry(unfinished.delivery.subscription.clone());
                        of.or_default().push(unfinished);
                    }
                }
            }
            if !journal.run().is_empty() {
                recovered.runs.insert(spec.clone(), journal.run().clone());
            }
            self.keep_journal(spec.clone(), journal);
            for DeadLetter { id, reason, .. } in buried {
                // Its evidence was written before it.
                let finished = Record::Finished { id, state: (&reason).into(), at: clock::now() };
                if let Err(error) = self.append(&spec, &finished) {
                    log::error!("{id} has a dead letter and is still in the spool: {error}");
                }
            }
        }
        for error in self.commit().into_values() {
            log::error!("{error}");
        }
        self.compact_all();
        let since = self.known_since();
        recovered.known.retain(|(_, at)| *at >= since);
        recovered.known.sort_unstable_by_key(|(_, at)| *at);
        for unfinished in recovered.unfinished.values_mut() {
            // Stable: what one SPEC accepted within a millisecond keeps its order.
            unfinished.sort_by_key(|unfinished| unfinished.delivery.accepted_at);
        }
        recovered
    }

    fn compact_all(&mut self) {
        let specs: Vec<SpecId> = self.journals.keys().cloned().collect();
        for spec in specs {
            while self.journals.get(&spec).is_some_and(|journal| journal.is_wasteful(Compact::AtLeisure)) {
                self.compact(&spec);
            }
        }
    }

    /// Keeps git from seeing the evidence that is there.
    fn ignore_evidence(&self) {
        if self.options.git_ignore {
            listing::evidence_dirs(&self.options.evidence_dir).iter().for_each(|dir| git_ignore::ensure(dir));
        }
    }

    /// Makes the spool's folder where somebody removed it.
    fn ensure_spool(&self) -> Result<(), StoreError> {
        git_ignore::ensure_dir(&self.options.spool_dir)?;
        git_ignore::ensure(&self.options.spool_dir);
        Ok(())
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
        self.bound_open_files();
    }

    /// Spool files that may be open: at most a quarter of what the process may have.
    fn max_open(&self) -> usize {
        share_of_open_files(4).min(MAX_OPEN_SPOOL)
    }

    /// Closes files beyond the bound, those first of which nothing is unfinished: what is open can
    /// be read even when somebody removes it.
    fn bound_open_files(&mut self) {
        let most = self.max_open();
        let broken: usize = self.broken.values().map(Broken::open_files).sum();
        let mut open = broken + self.journals.values().map(Journal::open_files).sum::<usize>();
        for (is_idle, newest) in [(true, 0), (false, 1), (false, 0)] {
            for journal in self.journals.values_mut() {
                if open <= most {
                    return;
                }
                if !is_idle || journal.pending() == 0 {
                    let before = journal.open_files();
                    journal.close_files(newest);
                    open -= before - journal.open_files();
                }
            }
        }
    }

    /// The SPEC's journal; one whose last write failed is read anew first.
    fn journal(&mut self, spec: &SpecId) -> Result<&mut Journal, StoreError> {
        if let Some(why) = self.aside.get(spec) {
            return Err(why.again());
        }
        if !self.journals.contains_key(spec) {
            // What follows changes files: they must be ours.
            self.check_standing()?;
            self.verify_lock()?;
        }
        if let Some(broken) = self.broken.get(spec) {
            let rescued = broken.repair(self.known_since(), self.max_open())?;
            self.broken.remove(spec);
            log::info!("the spool of {spec} could be read anew and takes events again");
            self.keep_rescued(spec, rescued);
        }
        if !self.journals.contains_key(spec) {
            let (journal, _) = Journal::open(&self.spec_dir(spec), spec, self.max_open())?;
            if !journal.is_empty() {
                self.is_outdated(spec);
            }
            self.keep_journal(spec.clone(), journal);
        }
        self.journals.get_mut(spec).ok_or_else(|| {
            StoreError::on("open", &self.options.spool_dir)(io::Error::from(io::ErrorKind::NotFound))
        })
    }

    /// Writes nothing more through a journal until it was made whole again. Who waits for its
    /// batch hears why.
    fn break_journal(&mut self, spec: &SpecId, why: &StoreError) {
        if self.journals.get(spec).is_some_and(Journal::has_batch) {
            self.unanswered.insert(spec.clone(), why.again());
        }
        self.set_broken(spec);
    }

    fn set_broken(&mut self, spec: &SpecId) {
        if let Some(journal) = self.journals.remove(spec) {
            self.broken.insert(spec.clone(), journal.into_broken());
        }
    }

    /// Adds a record to its SPEC's batch; on disk after [`commit`](Self::commit). An inbox file it
    /// came from is removed then.
    ///
    /// # Errors
    /// The SPEC's spool cannot be opened, the disk is full, or the spool is not ours any more.
    pub fn append(&mut self, spec: &SpecId, record: &Record) -> Result<(), StoreError> {
        self.check_standing()?;
        match record {
            Record::Accepted(_) => self.check_room()?,
            // What room is left on a full disk is for deliveries that end; after a kill these
            // attempts are not counted.
            Record::Attempted { .. } if self.reserve.is_full() => return Ok(()),
            _ => {}
        }
        let appended = match self.journal(spec).and_then(|journal| journal.append(record)) {
            // Its file was removed while it was closed.
            Err(error) if error.is_gone() => {
                self.look();
                self.check_standing()?;
                self.journal(spec).and_then(|journal| journal.append(record))
            }
            appended => appended,
        };
        if let Err(error) = appended {
            self.reserve.give_up_for(&error.source);
            return Err(error);
        }
        if let Record::Accepted(Accepted { inbox: Some(name), .. }) = record
            && let Ok(name) = name.parse()
        {
            self.taken.push((spec.clone(), name));
        }
        Ok(())
    }

    /// Refuses what a full disk has no room for.
    fn check_room(&mut self) -> Result<(), StoreError> {
        if self.reserve.is_full() {
            // There may be room by now.
            self.reserve.look();
        }
        if !self.reserve.is_full() {
            return Ok(());
        }
        let full = io::Error::new(io::ErrorKind::StorageFull, "the disk is full: make room on it");
        Err(StoreError::on("write to the spool", &self.options.spool_dir)(full))
    }

    /// Writes the evidence and then every batch of records, synced where an accepted event is
    /// among them, and makes sure that what was written has its names still. Returns what failed:
    /// of those SPECs nothing of the batch is accepted.
    pub fn commit(&mut self) -> HashMap<SpecId, StoreError> {
        self.flush_evidence();
        let batches = self.journals.iter().filter(|(_, journal)| journal.has_batch());
        let batches: Vec<SpecId> = batches.map(|(spec, _)| spec.clone()).collect();
        if !batches.is_empty() {
            self.write_batches(&batches);
        }
        let failed = std::mem::take(&mut self.unanswered);
        for error in failed.values() {
            self.reserve.give_up_for(&error.source);
        }
        for (spec, name) in std::mem::take(&mut self.taken) {
            if !failed.contains_key(&spec) {
                self.inbox.remove(&name);
            }
        }
        failed
    }

    fn write_batches(&mut self, batches: &[SpecId]) {
        // What belongs to another owner by now is not written to.
        if let Err(error) = self.verify_owner() {
            batches.iter().for_each(|spec| self.break_journal(spec, &error));
            return;
        }
        for spec in batches {
            let written = self.journals.get_mut(spec).map_or(Ok(()), Journal::write);
            // At once: should the spool be made anew in a moment, what failed is not part of it.
            written.unwrap_or_else(|error| self.break_journal(spec, &error));
        }
        let owner = self.verify_owner();
        for spec in batches {
            let verified = match &owner {
                Ok(()) => self.verify_last_of(spec),
                Err(error) => Err(error.again()),
            };
            match verified {
                Ok(()) => self.journals.get_mut(spec).into_iter().for_each(Journal::confirm),
                Err(error) => self.break_journal(spec, &error),
            }
        }
    }

    /// Writes what was added to the evidence. What cannot be written waits for the next time,
    /// changes no delivery's fate, and is said once.
    pub fn flush_evidence(&mut self) {
        // What room is left on a full disk is for deliveries that end.
        if !self.reserve.is_full() {
            self.write_evidence();
        }
    }

    fn write_evidence(&mut self) {
        for file in self.evidence.values_mut() {
            if let Err((error, was_failing)) = file.flush() {
                self.reserve.give_up_for(&error.source);
                if !was_failing {
                    log::error!("evidence not written: {error}; deliveries go on, and it is tried again");
                }
            }
        }
    }

    /// Of each SPEC whose spool holds what only a later version of the program knows, that it does.
    pub fn later_records(&self) -> impl Iterator<Item = String> {
        self.journals.iter().filter(|(_, journal)| journal.later() > 0).map(|(spec, journal)| {
            let count = journal.later();
            format!(
                "the spool of {spec} holds {count} records of a later version of this program: \
                 they are kept, and only that version delivers them"
            )
        })
    }

    /// Of each SPEC whose evidence cannot be written at the moment, why.
    pub fn evidence_troubles(&self) -> impl Iterator<Item = String> {
        self.evidence.iter().filter_map(|(spec, file)| {
            Some(format!("the evidence of {spec} is not written, deliveries go on: {}", file.trouble()?))
        })
    }

    /// As [`flush_evidence`](Self::flush_evidence), and syncs one SPEC's: what it tells of is
    /// about to happen.
    fn sync_evidence(&mut self, spec: &SpecId) {
        self.flush_evidence();
        if let Some(Err(error)) = self.evidence.get_mut(spec).map(EvidenceFile::sync) {
            log::error!("{error}");
        }
    }

    /// Writes, syncs and closes all evidence but what could not be written.
    fn close_evidence(&mut self) {
        self.write_evidence();
        for error in self.evidence.values_mut().filter_map(|file| file.sync().err()) {
            log::error!("{error}");
        }
        self.evidence.retain(|_, file| file.has_batch());
    }

    /// Whether a step of compaction cannot wait any longer.
    pub fn must_compact(&self) -> bool {
        self.journals.values().any(|journal| journal.is_wasteful(Compact::AtOnce))
    }

    /// One bounded step of compaction, where one cannot wait any longer. Call after
    /// [`commit`](Self::commit).
    pub fn compact_what_must(&mut self) {
        self.compact_one(Compact::AtOnce);
    }

    /// One bounded step of compaction, where one is worth it; whether there was one. Call after
    /// [`commit`](Self::commit).
    pub fn compact_some(&mut self) -> bool {
        self.compact_one(Compact::AtLeisure)
    }

    fn compact_one(&mut self, compact: Compact) -> bool {
        let mut journals = self.journals.iter();
        let due = journals.find(|(_, journal)| journal.is_wasteful(compact)).map(|(spec, _)| spec.clone());
        due.inspect(|spec| self.compact(spec)).is_some()
    }

    /// Compacts whatever gives room, where the disk is full.
    fn make_room(&mut self) {
        let wasteful = |(spec, journal): (&SpecId, &Journal)| {
            let fits = || {
                journal.compaction_takes().is_ok_and(|takes| takes < files::free_bytes(&self.spec_dir(spec)))
            };
            (journal.is_wasteful(Compact::ForRoom) && fits()).then(|| spec.clone())
        };
        let specs: Vec<SpecId> = self.journals.iter().filter_map(wasteful).collect();
        for spec in specs {
            self.compact(&spec);
        }
    }

    fn compact(&mut self, spec: &SpecId) {
        // The file that goes must be ours, and those that stay must have their names.
        if self.standing != Standing::Owner || !self.lock.is_in_place().is_ok_and(|is_ours| is_ours) {
            return;
        }
        let since = self.known_since();
        let Some(journal) = self.journals.get_mut(spec) else { return };
        // Who waits for a batch is answered by a commit, which makes sure of more.
        if journal.has_batch() || !journal.is_in_place().is_ok_and(|is_in_place| is_in_place) {
            return;
        }
        if let Err(error) = journal.compact_oldest(since) {
            log::error!("the spool of {spec} could not be compacted: {error}; nothing of it is lost");
            // Nobody waits for the records that it was moving.
            self.set_broken(spec);
        }
    }

    /// Writes and syncs everything; for the end of a run.
    ///
    /// # Errors
    /// What is not on disk: it is lost when this process ends.
    pub fn close(&mut self) -> Result<(), String> {
        self.look();
        let mut failed: Vec<String> = self.commit().values().map(StoreError::to_string).collect();
        self.close_evidence();
        failed
            .extend(self.journals.values().filter_map(|journal| journal.sync().err()).map(|e| e.to_string()));
        match self.check_standing() {
            Ok(()) => {
                let broken: Vec<SpecId> = self.broken.keys().cloned().collect();
                for spec in broken {
                    failed.extend(self.journal(&spec).err().map(|error| error.to_string()));
                }
            }
            Err(error) => failed.push(error.to_string()),
        }
        if !self.lost.is_empty() {
            failed.push(format!(
                "{} deliveries went with files that were removed, and have no dead letter yet",
                self.lost.len()
            ));
        }
        self.announce(None);
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
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
    pub fn body(&mut self, spec: &SpecId, id: DeliveryId) -> Result<Bytes, Unreadable> {
        self.read(spec, |journal| journal.body(id))
    }

    /// The recorded attempts of an unfinished delivery, oldest first, and its payload.
    ///
    /// # Errors
    /// It is not pending, or cannot be read.
    pub fn attempts_and_body(
        &mut self,
        spec: &SpecId,
        id: DeliveryId,
    ) -> Result<(Vec<AttemptSummary>, Bytes), Unreadable> {
        self.read(spec, |journal| journal.attempts_and_body(id))
    }

    /// Reads from a SPEC's journal; what is gone is looked for once more after its files were
    /// looked after.
    fn read<T>(
        &mut self,
        spec: &SpecId,
        read: impl Fn(&Journal) -> Result<T, StoreError>,
    ) -> Result<T, Unreadable> {
        match read(self.journal(spec).map_err(Unreadable::NotNow)?) {
            Err(error) if error.is_gone() => {
                self.look();
                let journal = self.journal(spec).map_err(Unreadable::NotNow)?;
                read(journal).map_err(|error| match error.is_gone() {
                    true => Unreadable::Gone(error),
                    false => Unreadable::NotNow(error),
                })
            }
            read => read.map_err(Unreadable::NotNow),
        }
    }

    /// Where the last attempts of these unfinished deliveries stand.
    pub fn last_attempts(&self, ids: &[(SpecId, DeliveryId)]) -> Vec<LastAttempt> {
        ids.iter().filter_map(|(spec, id)| self.journals.get(spec)?.last_attempt(*id)).collect()
    }

    /// Adds lines to the SPEC's evidence; on disk after [`flush_evidence`](Self::flush_evidence).
    pub fn add_evidence(&mut self, spec: &SpecId, lines: &[u8]) {
        if !self.evidence.contains_key(spec)
            && self.evidence.len() >= MAX_OPEN_EVIDENCE.min(share_of_open_files(8))
        {
            self.close_evidence();
        }
        let options = &self.options;
        let file = self.evidence.entry(spec.clone()).or_insert_with(|| {
            let dir = options.evidence_dir.join("commands").join(spec.as_str()).join("webhooks");
            EvidenceFile::new(dir, options.max_evidence_bytes, options.git_ignore)
        });
        file.append(lines);
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

    /// Writes a dead letter, whole and synced, in place of an older one of the same delivery. The
    /// oldest ones of its SPEC make room. The evidence of what it tells comes before it.
    ///
    /// # Errors
    /// It could not be written: the delivery must stay pending.
    fn write_dead_letter(&mut self, letter: &DeadLetter) -> Result<(), StoreError> {
        self.ensure_spool()?;
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
    fn remove_dead_letter(&mut self, spec: &SpecId, id: DeliveryId) -> Result<(), StoreError> {
        self.ensure_spool()?;
        self.dead_letters(spec)?.remove(id)
    }

    /// Does with an inbox file what is to be done; what is left of it is under the name that is
    /// returned.
    pub fn settle_inbox(&self, name: &InboxName, settled: Settled) -> Option<InboxName> {
        self.inbox.settle(name, settled)
    }
}

/// A share of the files that this process may have open, at least 8.
pub(crate) fn share_of_open_files(part: u64) -> usize {
    let share =
        files::max_open().map_or(usize::MAX, |most| usize::try_from(most / part).unwrap_or(usize::MAX));
    share.max(8)
}

/// The SPECs that have a journal, in order, and those whose folder cannot be used. Files of others
/// are left alone.
fn specs(spool_dir: &Path) -> Result<(Vec<SpecId>, BTreeMap<SpecId, StoreError>), StoreError> {
    let mut all = spec_dirs(spool_dir).map_err(StoreError::on("list", spool_dir))?;
    all.sort();
    let (mut specs, mut aside) = (Vec::new(), BTreeMap::new());
    for spec in all {
        let dir = spool_dir.join(spec.as_str());
        if fs::symlink_metadata(&dir).is_ok_and(|found| found.is_file()) {
            continue;
        }
        match files::create_dir_durably(&dir).and_then(|()| journal::exists_in(&dir)) {
            Ok(true) => specs.push(spec),
            Ok(false) => {}
            Err(error) => drop(aside.insert(spec, error)),
        }
    }
    Ok((specs, aside))
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
