//! Detects that files of the spool were removed or replaced under a running runtime (`git clean`, a
//! checkout, `rm -r`) before anything more is acknowledged, and writes them anew from the files
//! that are still open.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::inbox;
use super::journal::{Journal, Rescued};
use super::lock::Lock;
use super::peek;
use super::{OpenError, Spool, Standing};
use crate::delivery::DeliveryId;
use crate::event::{Event, SpecId};
use crate::files::{self, FileError, FileId, git_ignore, write_atomic};
use crate::names::counted;

/// Events per inbox file when a spool is handed over.
const HANDED_OVER_AT_A_TIME: usize = 8;

impl Spool {
    /// Whether this process owns the spool, and has taken in all of it.
    pub(crate) fn standing(&self) -> Standing {
        self.standing
    }

    /// Refuses what only the owner may do.
    ///
    /// # Errors
    /// Another process owns the spool by now.
    pub(crate) fn check_standing(&self) -> Result<(), FileError> {
        match self.standing {
            Standing::Owner | Standing::Outdated => Ok(()),
            Standing::Deposed => {
                let taken = io::Error::other("it was removed, and another runtime owns the one in its place");
                Err(FileError::on("write to the spool", &self.dir)(taken))
            }
        }
    }

    /// Verifies that all open files still have their names, and writes anew what was removed. Cheap
    /// enough to be called often.
    pub(crate) fn look(&mut self) {
        if self.standing == Standing::Deposed {
            return;
        }
        let mut troubles = BTreeSet::new();
        match self.verify_lock() {
            Err(error) => drop(troubles.insert(format!("{error}; nothing is accepted until that is fixed"))),
            Ok(()) => {
                git_ignore::ensure(&self.dir);
                let all = self.journals.keys().chain(self.broken.keys()).cloned().collect::<Vec<SpecId>>();
                for spec in all {
                    if let Err(error) = self.verify_all_of(&spec) {
                        let until = "nothing of it is accepted until that is fixed";
                        troubles.insert(format!("the spool of {spec} is not whole: {error}; {until}"));
                    }
                }
                if self.reserve.is_full() {
                    self.make_room();
                }
                self.reserve.look();
                self.announce_again();
                self.look_aside();
                self.look_for_strangers();
            }
        }
        for (spec, error) in &self.aside {
            troubles.insert(format!(
                "the spool of {spec} is set aside: {error}; all other SPECs go on; move it away or fix it"
            ));
        }
        if self.reserve.is_full() {
            troubles.insert(format!(
                "the disk of {} is full: nothing is accepted until there is room; \
                 what is pending is delivered",
                self.dir.display()
            ));
        }
        for new in troubles.difference(&self.troubles) {
            log::error!("{new}");
        }
        self.troubles = troubles;
    }

    /// What keeps events from being accepted, as of the last [`look`](Self::look).
    pub(crate) fn troubles(&self) -> impl Iterator<Item = &str> {
        self.troubles.iter().map(String::as_str)
    }

    /// Verifies that all files of a SPEC have their names.
    fn verify_all_of(&mut self, spec: &SpecId) -> Result<(), FileError> {
        match self.journal(spec)?.is_in_place()? {
            true => Ok(()),
            false => self.rescue(spec),
        }
    }

    /// Deliveries whose payload was removed and that have not ended yet.
    pub(crate) fn lost(&self) -> Vec<DeliveryId> {
        self.lost.iter().copied().collect()
    }

    /// Notes that a delivery has ended. Returns whether it was a lost one.
    pub(crate) fn is_lost_no_more(&mut self, id: DeliveryId) -> bool {
        self.lost.remove(&id)
    }

    /// Verifies that the file with a SPEC's batch, which was just written, has its name.
    pub(super) fn verify_last_of(&mut self, spec: &SpecId) -> Result<(), FileError> {
        let is_in_place = self.journals.get(spec).map_or(Ok(true), Journal::is_last_in_place);
        if is_in_place? { Ok(()) } else { self.rescue(spec) }
    }

    /// Verifies that this process owns the spool.
    pub(crate) fn verify_owner(&mut self) -> Result<(), FileError> {
        self.check_standing()?;
        self.verify_lock()
    }

    /// Takes the lock again if its file was removed. If another process has taken it first, the
    /// spool belongs to that process.
    pub(super) fn verify_lock(&mut self) -> Result<(), FileError> {
        if self.lock.is_in_place()? {
            return Ok(());
        }
        let dir = self.dir.clone();
        if !self.repo.is_dir() {
            let gone = io::Error::new(io::ErrorKind::NotFound, "the whole repo is gone");
            return Err(FileError::on("make again", &dir)(gone));
        }
        self.ensure_dir()?;
        match Lock::take(&dir) {
            Ok(lock) => {
                self.lock = lock;
                log::warn!(
                    "{} or its lock was removed or moved away under this runtime: \
                     it is made again, with all that is held",
                    dir.display()
                );
                let all: Vec<SpecId> = self.journals.keys().cloned().collect();
                for spec in &all {
                    if let Err(error) = self.verify_all_of(spec) {
                        log::error!("the spool of {spec} is not whole: {error}");
                    }
                }
                Ok(())
            }
            Err(OpenError::Io(error)) => Err(error),
            Err(OpenError::Locked(_) | OpenError::Newer { .. } | OpenError::Foreign(..)) => {
                self.hand_over()?;
                self.standing = Standing::Deposed;
                self.check_standing()
            }
        }
    }

    /// Writes a SPEC's journal anew.
    fn rescue(&mut self, spec: &SpecId) -> Result<(), FileError> {
        let Some(journal) = self.journals.get(spec) else { return Ok(()) };
        if !self.repo.is_dir() {
            let gone = io::Error::new(io::ErrorKind::NotFound, "the whole repo is gone");
            return Err(FileError::on("make again", &self.dir)(gone));
        }
        self.ensure_dir()?;
        let rescued = journal.rescue(self.known_since(), self.max_open)?;
        log::warn!(
            "files of {} were removed or moved away under this runtime: {} written again",
            self.spec_dir(spec).display(),
            counted(rescued.journal.pending(), "pending delivery is", "pending deliveries are")
        );
        self.keep_rescued(spec, rescued);
        Ok(())
    }

    /// Goes on with a repaired journal.
    pub(super) fn keep_rescued(&mut self, spec: &SpecId, rescued: Rescued) {
        let Rescued { journal, lost, has_strangers } = rescued;
        if !lost.is_empty() {
            log::error!(
                "{} of {spec} that can no longer be read: each becomes a dead letter",
                counted(lost.len(), "delivery", "deliveries")
            );
        }
        if has_strangers {
            self.is_outdated(spec);
        }
        self.lost.extend(lost);
        self.keep_journal(spec.clone(), journal);
    }

    /// Hands over to the new owner of the spool what only this process holds: puts the events into
    /// the new owner's inbox.
    ///
    /// # Errors
    /// An event could not be put there. The whole hand-over has to be repeated; the idempotency
    /// keys reveal the duplicates.
    fn hand_over(&mut self) -> Result<(), FileError> {
        let taken = io::Error::other("another runtime owns the one in its place");
        let taken = FileError::on("write to the spool", &self.dir)(taken);
        let away: Vec<SpecId> = self
            .journals
            .iter()
            .filter(|(_, journal)| !journal.is_in_place().is_ok_and(|is_in_place| is_in_place))
            .map(|(spec, _)| spec.clone())
            .collect();
        // What was not acknowledged stays with its emitter, who hands it over.
        away.iter().for_each(|spec| self.break_journal(spec, &taken));
        for (spec, journal) in self.broken.iter().filter(|(_, journal)| !journal.has_its_names()) {
            let mut events = Vec::new();
            for body in journal.unfinished_bodies() {
                match Event::from_kept(&String::from_utf8_lossy(&body)) {
                    Ok(event) => events.push(event),
                    Err(error) => log::error!("an event of {spec} cannot be handed over: {error}"),
                }
            }
            for some in events.chunks(HANDED_OVER_AT_A_TIME) {
                inbox::put(&self.dir, some)?;
            }
            let events = counted(events.len(), "pending event", "pending events");
            log::warn!("handed over to the spool's new owner: {events} of {spec}");
        }
        Ok(())
    }

    /// Notes that a SPEC's spool has more than this run has taken in.
    pub(super) fn is_outdated(&mut self, spec: &SpecId) {
        if self.standing == Standing::Owner {
            log::warn!(
                "there is more in the spool of {spec} than was taken in: a start from disk takes it in"
            );
            self.standing = Standing::Outdated;
        }
    }

    /// Looks for segments that another program put beside those of this process, such as `git stash
    /// pop`.
    fn look_for_strangers(&mut self) {
        for spec in files::spec_dirs(&self.dir).unwrap_or_default() {
            let dir = self.spec_dir(&spec);
            let Ok(found) = fs::symlink_metadata(&dir) else { continue };
            let Ok(changed) = found.modified() else { continue };
            if !found.is_dir()
                || self.aside.contains_key(&spec)
                || self.looked_through.get(&spec) == Some(&changed)
            {
                continue;
            }
            let has_strangers = match (self.journals.get(&spec), self.broken.get(&spec)) {
                (Some(journal), _) => journal.has_strangers(),
                (None, Some(broken)) => broken.has_strangers(),
                (None, None) => peek::exists_in(&dir),
            };
            match has_strangers {
                Ok(true) => self.is_outdated(&spec),
                // A change within the last tick of the file system's clock is checked once more.
                Ok(false) if files::has_rested(changed) => {
                    self.looked_through.insert(spec, changed);
                }
                Ok(false) | Err(_) => {}
            }
        }
    }

    /// Checks the SPECs that were set aside: one whose folder is gone begins anew; one that can be
    /// read again needs a new start.
    fn look_aside(&mut self) {
        let specs: Vec<SpecId> = self.aside.keys().cloned().collect();
        for spec in specs {
            let dir = self.spec_dir(&spec);
            match fs::symlink_metadata(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.aside.remove(&spec);
                }
                Ok(found) if found.is_dir() && peek::probe(&dir).is_ok() => self.is_outdated(&spec),
                _ => {}
            }
        }
    }

    /// Writes `runtime.json` with this content from now on; `None` removes it.
    pub(crate) fn announce(&mut self, content: Option<Vec<u8>>) {
        self.announced = None;
        if let Some(content) = content {
            let path = self.dir.join("runtime.json");
            self.announced = Some(Announced { path, content, id: None, said: String::new() });
            self.announce_again();
        }
    }

    fn announce_again(&mut self) {
        if self.standing == Standing::Deposed {
            return;
        }
        let Some(announced) = &mut self.announced else { return };
        if let Err(error) = announced.write() {
            // On a full disk, giving up the reserve makes room for it.
            self.reserve.give_up_for(&error);
            if let Err(error) = announced.write() {
                announced.say(&error);
            }
        }
    }
}

/// A `runtime.json` written by this process; dropping it removes the file.
#[derive(Debug)]
pub(super) struct Announced {
    path: PathBuf,
    content: Vec<u8>,
    /// The identity of the file, once it is written.
    id: Option<FileId>,
    /// The last failure that was logged.
    said: String,
}

impl Announced {
    /// Writes the file if it does not exist.
    fn write(&mut self) -> io::Result<()> {
        if self.is_there() {
            return Ok(());
        }
        write_atomic(&self.path, &self.content)?;
        self.id = Some(FileId::of(&files::open_to_read(&self.path)?)?);
        Ok(())
    }

    /// Logs once that the file cannot be written.
    fn say(&mut self, error: &io::Error) {
        let why = format!("cannot write {}: {error}; events go to the inbox meanwhile", self.path.display());
        if self.said != why {
            log::error!("{why}");
            self.said = why;
        }
    }

    fn is_there(&self) -> bool {
        let is_ours = self.id.is_some_and(|id| id.is_at(&self.path).is_ok_and(|is_there| is_there));
        is_ours && files::read_small(&self.path).is_ok_and(|content| content == self.content)
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // Another owner may have written the file: remove it only if it is the one written here.
        if self.is_there()
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::debug!("{} was gone already: {error}", self.path.display());
        }
    }
}
