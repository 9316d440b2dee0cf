//! The spool: accepted events with unfinished deliveries, per SPEC, and the inbox. Callers see
//! records, ids and SPECs only; the layout on disk is private to this folder.

mod ahead;
mod error;
#[cfg(fuzzing)]
#[path = "../../fuzz/targets/spool.rs"]
pub(crate) mod fuzzing;
mod inbox;
mod index;
mod journal;
mod leftovers;
mod lock;
mod peek;
mod place;
mod presence;
mod record;
mod recovery;
mod reserve;
mod room;
mod segment;
mod start;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};

pub use error::OpenError;
pub(crate) use error::Unreadable;
pub(crate) use inbox::{Aside, Cause, Content, Inbox, InboxName, Settled, Taken, put as put_in_inbox};
pub(crate) use peek::{
    Kept, LastAttempt, Peeked, bytes as bytes_of, damaged, events_in_inbox, is_owned, kept, specs,
    unfinished, unfinished_of, unusable,
};
#[cfg(feature = "cli")]
pub(crate) use peek::{Seen, seen};
#[cfg(test)]
pub(crate) use record::encode;
pub(crate) use record::{Accepted, AcceptedDelivery, Record};
pub(crate) use recovery::Unfinished;

use crate::clock;
use crate::delivery::{AttemptSummary, DeliveryId};
use crate::event::SpecId;
use crate::files::{FileError, git_ignore};
use crate::names::counted;
use crate::run::Run;
use journal::{Broken, Journal, Sealing};
pub(crate) use lock::Lock;
use presence::Announced;
use reserve::Reserve;
pub(crate) use start::Recovered;
use start::with_journal;

/// Whether this process still owns the spool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// This process owns the spool.
    Owner,
    /// The spool was removed, and another process owns the one in its place.
    Deposed,
    /// The disk has more than this run took in, such as a SPEC that was set aside and is readable
    /// again: only a new start takes it in.
    Outdated,
}

/// The owner's view of the spool. Dropping it releases the lock.
#[derive(Debug)]
pub(crate) struct Spool {
    /// The repo. The spool is not created again if the repo is gone.
    repo: PathBuf,
    dir: PathBuf,
    /// How long an event stays known after it was accepted.
    dedupe_window: SignedDuration,
    journals: HashMap<SpecId, Journal>,
    /// Journals whose last write failed, until they are repaired.
    broken: HashMap<SpecId, Broken>,
    /// SPECs whose spool could not be read at the start, and why. The other SPECs go on.
    aside: BTreeMap<SpecId, FileError>,
    inbox: Inbox,
    /// Inbox files whose events are in the batch; removed at commit.
    taken: Vec<(SpecId, InboxName)>,
    reserve: Reserve,
    /// SPECs whose next event might have to make room in a file first.
    short_of_room: BTreeSet<SpecId>,
    /// What keeps events from being accepted, as of the last [`look`](Self::look).
    troubles: BTreeSet<String>,
    /// SPECs whose batch could not be written, until the waiting emitters are told.
    unanswered: HashMap<SpecId, FileError>,
    /// When each SPEC's folder had last changed when it was checked for segments of other
    /// processes.
    looked_through: HashMap<SpecId, SystemTime>,
    /// Deliveries whose files were removed, until they end as dead letters.
    lost: BTreeSet<DeliveryId>,
    /// `runtime.json`, while it is to exist.
    announced: Option<Announced>,
    standing: Standing,
    lock: Lock,
    /// Spool files that may be open.
    max_open: usize,
    /// A thread that notes what sealed files hold.
    sealing: Option<Sealing>,
}

impl Spool {
    /// Takes the lock of the spool in `dir` and reads what is pending. Events stay known for
    /// `dedupe_window` after they were accepted.
    ///
    /// # Errors
    /// The spool is owned by another process, was written by a later version, or cannot be written.
    pub(crate) fn open(
        repo: &Path,
        dir: &Path,
        dedupe_window: SignedDuration,
    ) -> Result<(Self, Recovered), OpenError> {
        let lock = Lock::own(dir)?;
        let (mut specs, mut aside) = with_journal(dir)?;
        leftovers::sweep(dir, &specs);
        for spec in std::mem::take(&mut specs) {
            match peek::check_version(&dir.join(spec.as_str())) {
                Ok(()) => specs.push(spec),
                Err(OpenError::Io(error)) => drop(aside.insert(spec, error)),
                Err(error) => return Err(error),
            }
        }
        let mut spool = Self {
            repo: repo.to_owned(),
            inbox: Inbox::new(dir),
            reserve: Reserve::open(dir),
            dir: dir.to_owned(),
            dedupe_window,
            journals: HashMap::new(),
            broken: HashMap::new(),
            aside,
            taken: Vec::new(),
            short_of_room: BTreeSet::new(),
            troubles: BTreeSet::new(),
            unanswered: HashMap::new(),
            looked_through: HashMap::new(),
            lost: BTreeSet::new(),
            announced: None,
            standing: Standing::Owner,
            lock,
            max_open: room::max_open(),
            sealing: None,
        };
        let recovered = spool.recover(specs);
        Ok((spool, recovered))
    }

    /// Sets how long events stay known.
    pub(crate) fn set_dedupe_window(&mut self, window: SignedDuration) {
        self.dedupe_window = window;
    }

    /// Number of unfinished deliveries; `None` if some journal cannot be read.
    pub(crate) fn pending(&self) -> Option<usize> {
        let is_whole = self.broken.is_empty() && self.aside.is_empty();
        is_whole.then(|| self.journals.values().map(Journal::pending).sum())
    }

    /// Creates the spool's folder again if it was removed.
    fn ensure_dir(&self) -> Result<(), FileError> {
        git_ignore::ensure_dir(&self.dir)?;
        git_ignore::ensure(&self.dir);
        Ok(())
    }

    fn spec_dir(&self, spec: &SpecId) -> PathBuf {
        self.dir.join(spec.as_str())
    }

    fn known_since(&self) -> Timestamp {
        clock::now().checked_sub(self.dedupe_window).unwrap_or(Timestamp::MIN)
    }

    fn keep_journal(&mut self, spec: SpecId, journal: Journal) {
        self.journals.insert(spec, journal);
        self.bound_open_files();
    }

    /// The SPEC's journal, opened or repaired first where needed.
    fn journal(&mut self, spec: &SpecId) -> Result<&mut Journal, FileError> {
        if let Some(why) = self.aside.get(spec) {
            return Err(why.clone());
        }
        if !self.journals.contains_key(spec) {
            // Opening and repairing change files, so this process must own the spool.
            self.check_standing()?;
            self.verify_lock()?;
        }
        if let Some(broken) = self.broken.get(spec) {
            let rescued = broken.repair(self.known_since(), self.max_open)?;
            self.broken.remove(spec);
            log::info!("the spool of {spec} could be read again and takes events");
            self.keep_rescued(spec, rescued);
        }
        if !self.journals.contains_key(spec) {
            let (journal, _) = Journal::open(&self.spec_dir(spec), spec, self.max_open)?;
            if !journal.is_empty() {
                self.is_outdated(spec);
            }
            self.keep_journal(spec.clone(), journal);
        }
        self.journals
            .get_mut(spec)
            .ok_or_else(|| FileError::on("open", &self.dir)(io::Error::from(io::ErrorKind::NotFound)))
    }

    /// Stops writing through a journal until it is repaired. Emitters that wait for its batch are
    /// told why.
    fn break_journal(&mut self, spec: &SpecId, why: &FileError) {
        if self.journals.get(spec).is_some_and(Journal::has_batch) {
            self.unanswered.insert(spec.clone(), why.clone());
        }
        self.set_broken(spec);
    }

    fn set_broken(&mut self, spec: &SpecId) {
        if let Some(journal) = self.journals.remove(spec) {
            self.broken.insert(spec.clone(), journal.into_broken());
        }
    }

    /// Adds a record to its SPEC's batch; it is on disk after [`commit`](Self::commit), which also
    /// removes the inbox file the record came from.
    ///
    /// # Errors
    /// The SPEC's spool cannot be opened, the disk is full, or another process owns the spool.
    pub(crate) fn append(&mut self, spec: &SpecId, record: &Record) -> Result<(), FileError> {
        self.check_standing()?;
        match record {
            Record::Accepted(_) => self.check_room()?,
            // On a full disk the remaining room is for records of deliveries that end. An attempt
            // that is not recorded is not counted after a kill.
            Record::Attempted { .. } if self.reserve.is_full() => return Ok(()),
            _ => {}
        }
        let appended = self.journal(spec).and_then(|journal| journal.append(record));
        if let Err(error) = appended {
            self.note_failure(&error);
            return Err(error);
        }
        if let Record::Accepted(Accepted { inbox: Some(name), .. }) = record
            && let Ok(name) = name.parse()
        {
            self.taken.push((spec.clone(), name));
        }
        Ok(())
    }

    /// Writes the batch of every SPEC, synced if it has an accepted event, and verifies that the
    /// written files still have their names. Returns the SPECs that failed: nothing of their
    /// batches is accepted.
    pub(crate) fn commit(&mut self) -> HashMap<SpecId, FileError> {
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
        // If another process owns the spool by now, nothing may be written to it.
        if let Err(error) = self.verify_owner() {
            batches.iter().for_each(|spec| self.break_journal(spec, &error));
            return;
        }
        for spec in batches {
            let written = self.journals.get_mut(spec).map_or(Ok(()), Journal::write);
            // Set it aside at once: if the spool is created again in the next step, the failed
            // batch must not be part of it.
            written.unwrap_or_else(|error| self.break_journal(spec, &error));
        }
        let owner = self.verify_owner();
        for spec in batches {
            let verified = match &owner {
                Ok(()) => self.verify_last_of(spec),
                Err(error) => Err(error.clone()),
            };
            match verified {
                Ok(()) => self.confirm(spec),
                Err(error) => self.break_journal(spec, &error),
            }
        }
    }

    fn confirm(&mut self, spec: &SpecId) {
        let Some(journal) = self.journals.get_mut(spec) else { return };
        journal.confirm();
        if journal.is_short_of_room() {
            self.short_of_room.insert(spec.clone());
        }
    }

    /// A warning for each SPEC whose spool holds records that only a later version understands.
    pub(crate) fn later_records(&self) -> impl Iterator<Item = String> {
        self.journals.iter().filter(|(_, journal)| journal.later() > 0).map(|(spec, journal)| {
            let records = counted(journal.later(), "record", "records");
            format!(
                "the spool of {spec} holds {records} of a later version of this program: \
                 only that version delivers what is kept there"
            )
        })
    }

    /// Syncs all journals at the end of a run, after a [`commit`](Self::commit).
    ///
    /// # Errors
    /// What is not on disk and is lost when this process ends.
    pub(crate) fn close(&mut self) -> Result<(), Vec<String>> {
        self.short_of_room.clear();
        let synced = self.journals.values_mut().filter_map(|journal| journal.finish().err());
        let mut failed: Vec<String> = synced.map(|error| error.to_string()).collect();
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
                "{} no dead letter yet",
                counted(
                    self.lost.len(),
                    "delivery went with a file that was removed, and has",
                    "deliveries went with files that were removed, and have"
                )
            ));
        }
        self.announce(None);
        self.sealing.iter().for_each(Sealing::stop);
        self.wait_for_sealing();
        if failed.is_empty() { Ok(()) } else { Err(failed) }
    }

    /// Notes what the sealed files of one SPEC hold, on another thread, where the next start would
    /// read much of them; returns whether to ask again. To be called when there is little else to
    /// do.
    pub(crate) fn seal_one(&mut self) -> bool {
        if self.sealing.as_ref().is_some_and(|sealing| !sealing.is_finished()) {
            return true;
        }
        self.wait_for_sealing();
        if self.standing != Standing::Owner {
            return false;
        }
        let mut journals = self.journals.values_mut();
        let Some(journal) = journals.find(|journal| journal.is_worth_sealing_aside()) else { return false };
        match journal.seal_aside() {
            Ok(sealing) => self.sealing = Some(sealing),
            Err(error) => log::debug!("no thread to note what full files hold: {error}"),
        }
        true
    }

    /// Waits until no other thread reads or writes the spool's files.
    fn wait_for_sealing(&mut self) {
        let Some(sealing) = self.sealing.take() else { return };
        let spec = sealing.spec.clone();
        if let (Some(known), Some(journal)) = (sealing.end(), self.journals.get_mut(&spec)) {
            journal.has_sealed(known);
        }
    }

    /// Syncs all written records of a SPEC.
    ///
    /// # Errors
    /// Its spool cannot be opened or synced.
    pub(crate) fn sync(&mut self, spec: &SpecId) -> Result<(), FileError> {
        let is_known = self.journals.contains_key(spec) || self.broken.contains_key(spec);
        match is_known || self.aside.contains_key(spec) || peek::exists_in(&self.spec_dir(spec))? {
            true => self.journal(spec)?.sync_all(),
            false => Ok(()),
        }
    }

    /// The run so far of a SPEC, batch included.
    ///
    /// # Errors
    /// The SPEC's spool cannot be opened.
    pub(crate) fn run(&mut self, spec: &SpecId) -> Result<Run, FileError> {
        self.journal(spec).map(|journal| journal.run().clone())
    }

    /// The payload of an unfinished delivery.
    ///
    /// # Errors
    /// It is not pending, or cannot be read.
    pub(crate) fn body(&mut self, spec: &SpecId, id: DeliveryId) -> Result<Bytes, FileError> {
        self.journal(spec).and_then(|journal| journal.body(id))
    }

    /// The recorded attempts of an unfinished delivery, oldest first, and its payload.
    ///
    /// # Errors
    /// It is not pending, or cannot be read.
    pub(crate) fn attempts_and_body(
        &mut self,
        spec: &SpecId,
        id: DeliveryId,
    ) -> Result<(Vec<AttemptSummary>, Bytes), FileError> {
        self.journal(spec).and_then(|journal| journal.attempts_and_body(id))
    }

    /// Where the last attempts of these unfinished deliveries are recorded.
    pub(crate) fn last_attempts(&self, ids: &[(SpecId, DeliveryId)]) -> Vec<LastAttempt> {
        ids.iter().filter_map(|(spec, id)| self.journals.get(spec)?.last_attempt(*id)).collect()
    }

    /// Settles an inbox file. Returns the name that its remaining events are kept under, if any
    /// remain.
    pub(crate) fn settle_inbox(&self, name: &InboxName, settled: Settled) -> Option<InboxName> {
        self.inbox.settle(name, settled)
    }
}
