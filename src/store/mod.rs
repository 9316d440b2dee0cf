//! The store: the order of writes over spool and archive (evidence first, then dead letters, then
//! records). One owner at a time, the Ledger.

#[cfg(test)]
mod crash_tests;
mod discard;
#[cfg(test)]
mod order_tests;
#[cfg(test)]
mod presence_tests;
mod settle;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use bytes::Bytes;
use jiff::SignedDuration;

use crate::archive::{
    Archive, ArchiveOptions, AtRest, Census, DeadLetter, Healths, Pauses, is_paused, left_at_rest,
    read_healths, read_pauses, remove_pause, write_healths, write_pause,
};
use crate::clock;
use crate::delivery::{AttemptSummary, DeliveryId, Pause, SubscriptionId};
use crate::event::SpecId;
use crate::files::FileError;
use crate::run::Run;
use crate::spool::{
    InboxName, LastAttempt, OpenError, Record, Recovered, Settled, Spool, Standing, Unreadable,
};
use discard::Resolved;
pub(crate) use discard::{MAX_DISCARDED, NotDiscarded};

/// The folders of the store, and the bounds of its size.
#[derive(Clone, Debug)]
pub(crate) struct StoreOptions {
    /// Absolute path of the repo. Nothing is created again if the repo is gone.
    pub repo: PathBuf,
    /// Absolute path of the spool.
    pub spool_dir: PathBuf,
    /// Absolute path of the evidence tree's root.
    pub evidence_dir: PathBuf,
    /// Most bytes of evidence per SPEC.
    pub max_evidence_bytes: u64,
    /// Most bytes of dead letters per SPEC.
    pub max_dead_letter_bytes: u64,
    /// How long an event stays known after it was accepted.
    pub dedupe_window: SignedDuration,
    /// Whether evidence gets a `.gitignore`; the spool always has one.
    pub git_ignore: bool,
}

#[cfg(any(test, fuzzing))]
impl StoreOptions {
    /// All folders in one directory, with fixed bounds.
    pub(crate) fn in_dir(dir: &std::path::Path) -> Self {
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

impl StoreOptions {
    pub(crate) fn of_archive(&self) -> ArchiveOptions {
        ArchiveOptions {
            spool_dir: self.spool_dir.clone(),
            evidence_dir: self.evidence_dir.clone(),
            max_evidence_bytes: self.max_evidence_bytes,
            max_dead_letter_bytes: self.max_dead_letter_bytes,
            git_ignore: self.git_ignore,
        }
    }
}

/// The owner's view of the disk. Dropping it releases the spool.
#[derive(Debug)]
pub(crate) struct Store {
    spool_dir: PathBuf,
    spool: Spool,
    archive: Archive,
    /// The health of the subscriptions.
    healths: Healths,
    /// The paused subscriptions, as the disk has them, or will have them.
    pauses: Pauses,
    /// Deliveries whose end stands in the evidence and is not recorded yet: it is told once.
    ends_told: HashSet<DeliveryId>,
    /// Those of them whose record is in the batch.
    ending: Vec<(SpecId, DeliveryId)>,
    resolved: Resolved,
    /// Lines of evidence on their way to the archive.
    lines: Vec<u8>,
}

impl Store {
    /// Takes the spool's lock and reads what is pending.
    ///
    /// # Errors
    /// The spool is owned by another process, was written by a later version, or cannot be written.
    pub(crate) fn open(options: StoreOptions) -> Result<(Self, Recovered), OpenError> {
        let (spool, mut recovered) = Spool::open(&options.repo, &options.spool_dir, options.dedupe_window)?;
        let archive = Archive::new(options.of_archive());
        let healths = read_healths(&options.spool_dir);
        let pauses = read_pauses(&options.spool_dir)?;
        let mut store = Self {
            spool_dir: options.spool_dir,
            spool,
            archive,
            healths,
            pauses,
            ends_told: HashSet::new(),
            ending: Vec::new(),
            resolved: Resolved::default(),
            lines: Vec::new(),
        };
        store.finish_buried(&mut recovered);
        for error in store.commit().into_values() {
            log::error!("{error}");
        }
        store.spool.compact_all();
        if left_at_rest(&store.spool_dir).is_some() {
            store.keep_healths(false);
        }
        Ok((store, recovered))
    }

    /// Ends the deliveries that have a dead letter: a crash came between the letter and the record
    /// that ends the delivery. Their evidence was written before the letter.
    fn finish_buried(&mut self, recovered: &mut Recovered) {
        let mut dead: HashMap<SpecId, _> = HashMap::new();
        let mut buried = Vec::new();
        for unfinished in recovered.unfinished.values_mut() {
            unfinished.retain(|unfinished| {
                let (spec, id) = (&unfinished.delivery.common().spec, unfinished.delivery.id());
                if !dead.contains_key(spec) {
                    dead.insert(spec.clone(), self.archive.dead_letters_of(spec));
                }
                let has_letter = dead.get(spec).is_some_and(|dead| dead.contains(&id));
                let letter = has_letter.then(|| self.archive.read_dead_letter(spec, id));
                let Some(Ok(letter)) = letter else { return true };
                buried.push(letter);
                false
            });
        }
        recovered.unfinished.retain(|_, unfinished| !unfinished.is_empty());
        for DeadLetter { id, spec, reason, .. } in buried {
            let finished = Record::finished(id, (&reason).into(), clock::now());
            if let Err(error) = self.append(&spec, &finished) {
                log::error!("{id} has a dead letter and is still in the spool: {error}");
            }
        }
    }

    /// Sets other bounds and another window; the folders stay the same.
    pub(crate) fn configure(&mut self, options: &StoreOptions) {
        self.spool.set_dedupe_window(options.dedupe_window);
        let failed = self.archive.configure(&options.of_archive());
        self.note_failures(&failed);
    }

    /// The health of the subscriptions.
    pub(crate) fn healths(&self) -> &Healths {
        &self.healths
    }

    /// The health of the subscriptions, to be changed; on disk after
    /// [`keep_healths`](Self::keep_healths).
    pub(crate) fn healths_mut(&mut self) -> &mut Healths {
        &mut self.healths
    }

    /// Writes the health of the subscriptions for the next start and, at the end of a run, how much
    /// is left. A failure is only logged.
    pub(crate) fn keep_healths(&self, at_end: bool) {
        if self.standing() == Standing::Deposed {
            return;
        }
        let pending = if at_end { self.spool.pending() } else { None };
        let rest = pending.map(|pending| {
            let (dead_letters, _) = Census::default().take(&self.spool_dir);
            AtRest { pending, dead_letters }
        });
        if let Err(error) = write_healths(&self.spool_dir, &self.healths, rest) {
            log::warn!("health.json not written: {error}; deliveries go on");
        }
    }

    /// The paused subscriptions.
    pub(crate) fn pauses(&self) -> &Pauses {
        &self.pauses
    }

    /// Pauses a subscription, or ends its pause; synced when this returns.
    ///
    /// # Errors
    /// It could not be written: all stays as it was.
    pub(crate) fn set_pause(&mut self, id: &SubscriptionId, pause: Option<&Pause>) -> Result<(), FileError> {
        self.spool.verify_owner()?;
        match pause {
            Some(pause) => {
                if let Err(error) = write_pause(&self.spool_dir, id, pause) {
                    // It may be there, unsynced.
                    drop(remove_pause(&self.spool_dir, id));
                    return Err(error);
                }
                self.pauses.insert(id.clone(), pause.clone());
            }
            None => {
                remove_pause(&self.spool_dir, id)?;
                self.pauses.remove(id);
            }
        }
        Ok(())
    }

    /// Writes the pauses anew whose files were removed.
    fn keep_pauses(&self) {
        for (id, pause) in self.pauses.iter().filter(|(id, _)| !is_paused(&self.spool_dir, id)) {
            match write_pause(&self.spool_dir, id, pause) {
                Ok(()) => log::warn!("the pause of {id} was removed under this runtime: it is written again"),
                Err(error) => log::error!("the pause of {id} is not on disk: {error}"),
            }
        }
    }

    fn note_failures(&mut self, failed: &[FileError]) {
        failed.iter().for_each(|error| self.spool.note_failure(error));
    }

    /// Adds a record to its SPEC's batch; it is on disk after [`commit`](Self::commit), which also
    /// removes the inbox file the record came from.
    ///
    /// # Errors
    /// The SPEC's spool cannot be opened, the disk is full, or another process owns the spool.
    pub(crate) fn append(&mut self, spec: &SpecId, record: &Record) -> Result<(), FileError> {
        match self.spool.append(spec, record) {
            // The segment was removed while it was closed: write it anew, then try once more.
            Err(error) if error.is_gone() => {
                self.look();
                self.spool.append(spec, record)
            }
            appended => appended,
        }
    }

    /// Writes the evidence, then the batch of every SPEC, synced if it has an accepted event, and
    /// verifies that the written files still have their names. Returns the SPECs that failed:
    /// nothing of their batches is accepted.
    pub(crate) fn commit(&mut self) -> HashMap<SpecId, FileError> {
        self.flush_evidence();
        let failed = self.spool.commit();
        for (spec, id) in std::mem::take(&mut self.ending) {
            if !failed.contains_key(&spec) {
                self.ends_told.remove(&id);
            }
        }
        failed
    }

    /// Writes the batched evidence. Not on a full disk: the remaining room is for deliveries that
    /// end.
    pub(crate) fn flush_evidence(&mut self) {
        if !self.spool.is_full() {
            let failed = self.archive.flush();
            self.note_failures(&failed);
        }
    }

    /// Like [`flush_evidence`](Self::flush_evidence), then syncs one SPEC's evidence, before the
    /// step that it records is made.
    fn sync_evidence(&mut self, spec: &SpecId) {
        self.flush_evidence();
        self.archive.sync(spec);
    }

    /// Adds lines to the SPEC's evidence; they are on disk after
    /// [`flush_evidence`](Self::flush_evidence).
    pub(crate) fn add_evidence(&mut self, spec: &SpecId, lines: &[u8]) {
        let failed = self.archive.add_evidence(spec, lines);
        self.note_failures(&failed);
    }

    /// Verifies that all open files still have their names, and writes anew what was removed. Cheap
    /// enough to be called often.
    pub(crate) fn look(&mut self) {
        if self.standing() != Standing::Deposed {
            self.flush_evidence();
            self.spool.look();
        }
        if self.standing() != Standing::Deposed {
            self.keep_pauses();
        }
    }

    /// Whether this process owns the spool, and has taken in all of it.
    pub(crate) fn standing(&self) -> Standing {
        self.spool.standing()
    }

    /// What keeps events from being accepted, as of the last [`look`](Self::look).
    pub(crate) fn troubles(&self) -> impl Iterator<Item = &str> {
        self.spool.troubles()
    }

    /// For each SPEC whose evidence cannot be written at present, the reason.
    pub(crate) fn evidence_troubles(&self) -> impl Iterator<Item = String> {
        self.archive.troubles()
    }

    /// A warning for each SPEC whose spool holds records that only a later version understands.
    pub(crate) fn later_records(&self) -> impl Iterator<Item = String> {
        self.spool.later_records()
    }

    /// Deliveries whose payload was removed and that have not ended yet.
    pub(crate) fn lost(&self) -> Vec<DeliveryId> {
        self.spool.lost()
    }

    /// Writes `runtime.json` with this content from now on; `None` removes it.
    pub(crate) fn announce(&mut self, content: Option<Vec<u8>>) {
        self.spool.announce(content);
    }

    /// Whether the next event might have to make room in a file first.
    pub(crate) fn is_short_of_room(&self) -> bool {
        self.spool.is_short_of_room()
    }

    /// Makes room in the file of one SPEC that is short of it, synced. Call when nothing waits.
    pub(crate) fn make_room_ahead(&mut self) {
        self.spool.make_room_ahead();
    }

    /// Whether a compaction step cannot wait any longer.
    pub(crate) fn must_compact(&self) -> bool {
        self.spool.must_compact()
    }

    /// Does one bounded compaction step if one cannot wait any longer. Call after
    /// [`commit`](Self::commit).
    pub(crate) fn compact_what_must(&mut self) {
        self.spool.compact_what_must();
    }

    /// Does one bounded compaction step if one is worth it; returns whether there was one. Call
    /// after [`commit`](Self::commit).
    pub(crate) fn compact_some(&mut self) -> bool {
        self.spool.compact_some()
    }

    /// Notes what the sealed files of one SPEC hold, for the next start; returns whether to ask
    /// again. Call at rest.
    pub(crate) fn seal_one(&mut self) -> bool {
        self.spool.seal_one()
    }

    /// Writes and syncs everything at the end of a run.
    ///
    /// # Errors
    /// What is not on disk and is lost when this process ends.
    pub(crate) fn close(&mut self) -> Result<(), String> {
        self.look();
        let mut failed: Vec<String> = self.commit().values().map(FileError::to_string).collect();
        let unwritten = self.archive.close();
        self.note_failures(&unwritten);
        failed.extend(self.spool.close().err().into_iter().flatten());
        if failed.is_empty() { Ok(()) } else { Err(failed.join("; ")) }
    }

    /// The run so far of a SPEC, batch included.
    ///
    /// # Errors
    /// The SPEC's spool cannot be opened.
    pub(crate) fn run(&mut self, spec: &SpecId) -> Result<Run, FileError> {
        self.spool.run(spec)
    }

    /// The payload of an unfinished delivery.
    ///
    /// # Errors
    /// It is not pending, or cannot be read.
    pub(crate) fn body(&mut self, spec: &SpecId, id: DeliveryId) -> Result<Bytes, Unreadable> {
        self.read(|spool| spool.body(spec, id))
    }

    /// The recorded attempts of an unfinished delivery, oldest first, and its payload.
    ///
    /// # Errors
    /// It is not pending, or cannot be read.
    pub(crate) fn attempts_and_body(
        &mut self,
        spec: &SpecId,
        id: DeliveryId,
    ) -> Result<(Vec<AttemptSummary>, Bytes), Unreadable> {
        self.read(|spool| spool.attempts_and_body(spec, id))
    }

    /// Reads from the spool. If the data is gone, the files are verified (and written again where
    /// possible) and it is read once more.
    fn read<T>(&mut self, read: impl Fn(&mut Spool) -> Result<T, FileError>) -> Result<T, Unreadable> {
        match read(&mut self.spool) {
            Err(error) if error.is_gone() => {
                self.look();
                read(&mut self.spool).map_err(|error| match error.is_gone() {
                    true => Unreadable::Gone(error),
                    false => Unreadable::NotNow(error),
                })
            }
            read => read.map_err(Unreadable::NotNow),
        }
    }

    /// Where the last attempts of these unfinished deliveries are recorded.
    pub(crate) fn last_attempts(&self, ids: &[(SpecId, DeliveryId)]) -> Vec<LastAttempt> {
        self.spool.last_attempts(ids)
    }

    /// Reads a dead letter.
    ///
    /// # Errors
    /// There is no such letter, or it cannot be read.
    pub(crate) fn read_dead_letter(&self, spec: &SpecId, id: DeliveryId) -> Result<DeadLetter, FileError> {
        self.archive.read_dead_letter(spec, id)
    }

    /// The SPEC of a dead letter.
    pub(crate) fn spec_of_dead_letter(&self, id: DeliveryId) -> Option<SpecId> {
        self.archive.spec_of_dead_letter(id)
    }

    /// Settles an inbox file. Returns the name that its remaining events are kept under, if any
    /// remain.
    pub(crate) fn settle_inbox(&self, name: &InboxName, settled: Settled) -> Option<InboxName> {
        self.spool.settle_inbox(name, settled)
    }
}
