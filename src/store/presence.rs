//! Files that no longer have a name: what `git clean`, a checkout or `rm -r` took away under a running runtime is noticed
//! before anything more is acknowledged, and written anew from what is still open.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::io;
use std::path::PathBuf;

use super::files::FileId;
use super::inbox;
use super::journal;
use super::lock::Lock;
use super::{OpenError, Standing, Store, StoreError, files, write_atomic};
use crate::delivery::DeliveryId;
use crate::event::{Event, SpecId};

impl Store {
    /// Whether the spool is ours, and all of it was taken in.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Refuses what only the owner may do.
    pub(super) fn check_standing(&self) -> Result<(), StoreError> {
        match self.standing {
            Standing::Owner | Standing::Outdated => Ok(()),
            Standing::Deposed => {
                let taken = io::Error::other("it was removed, and another runtime owns the one in its place");
                Err(StoreError::on("write to the spool", &self.options.spool_dir)(taken))
            }
        }
    }

    /// Makes sure of the names of all that is open; what was taken away is written anew. Cheap: to be called often.
    pub fn look(&mut self) {
        if self.standing == Standing::Deposed {
            return;
        }
        let mut troubles = BTreeSet::new();
        match self.verify_lock() {
            Err(error) => drop(troubles.insert(format!("{error}; nothing is accepted until that is mended"))),
            Ok(()) => {
                let all = self.journals.keys().chain(self.broken.keys()).cloned().collect::<Vec<SpecId>>();
                for spec in all {
                    if let Err(error) = self.verify_all_of(&spec) {
                        let until = "nothing of it is accepted until that is mended";
                        troubles.insert(format!("the spool of {spec} is not whole: {error}; {until}"));
                    }
                }
                if self.reserve.is_full() {
                    self.make_room();
                }
                self.reserve.look();
                self.announce_again();
                self.look_aside();
            }
        }
        if self.reserve.is_full() {
            troubles.insert(format!(
                "the disk of {} is full: nothing is accepted until there is room; what is pending is delivered",
                self.options.spool_dir.display()
            ));
        }
        for new in troubles.difference(&self.troubles) {
            log::error!("{new}");
        }
        self.troubles = troubles;
    }

    /// What keeps events from being accepted, as of the last look.
    pub fn troubles(&self) -> impl Iterator<Item = &str> {
        self.troubles.iter().map(String::as_str)
    }

    /// Makes sure that all files of a SPEC have their names.
    fn verify_all_of(&mut self, spec: &SpecId) -> Result<(), StoreError> {
        match self.journal(spec)?.is_in_place()? {
            true => Ok(()),
            false => self.rescue(spec),
        }
    }

    /// Deliveries whose payload was taken away, each told once.
    pub fn take_lost(&mut self) -> Vec<DeliveryId> {
        std::mem::take(&mut self.lost)
    }

    /// Makes sure that these SPECs' batches, which were just written, have their names; adds to what `failed`.
    pub(super) fn verify(&mut self, written: &[SpecId], failed: &mut HashMap<SpecId, StoreError>) {
        self.verify_owner(written, failed);
        if !failed.is_empty() && written.iter().all(|spec| failed.contains_key(spec)) {
            return;
        }
        for spec in written {
            let is_in_place = self.journals.get(spec).map_or(Ok(true), journal::Journal::is_last_in_place);
            let verified = match is_in_place {
                Ok(true) => Ok(()),
                Ok(false) => self.rescue(spec),
                Err(error) => Err(error),
            };
            if let Err(error) = verified {
                failed.insert(spec.clone(), error);
            }
        }
    }

    /// Makes sure that the spool is ours; where it is not, all of these SPECs have `failed`.
    pub(super) fn verify_owner(&mut self, specs: &[SpecId], failed: &mut HashMap<SpecId, StoreError>) {
        if let Err(error) = self.check_standing().and_then(|()| self.verify_lock()) {
            failed.extend(specs.iter().map(|spec| (spec.clone(), error.again())));
        }
    }

    /// Takes the lock anew where its file was taken away; where another process was faster, the spool is its own.
    fn verify_lock(&mut self) -> Result<(), StoreError> {
        if self.lock.is_in_place()? {
            return Ok(());
        }
        let dir = self.options.spool_dir.clone();
        if !self.options.repo.is_dir() {
            let gone = io::Error::new(io::ErrorKind::NotFound, "the whole repo is gone");
            return Err(StoreError::on("make anew", &dir)(gone));
        }
        files::ensure_dir(&dir)?;
        match Lock::take(&dir) {
            Ok(lock) => {
                self.lock = lock;
                log::warn!(
                    "{} or its lock was removed or moved away under this runtime: it is made anew, with all that is held",
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
            Err(OpenError::Locked(_) | OpenError::Newer { .. }) => {
                self.hand_over();
                self.standing = Standing::Deposed;
                self.check_standing()
            }
        }
    }

    /// Writes a SPEC's spool anew.
    fn rescue(&mut self, spec: &SpecId) -> Result<(), StoreError> {
        let Some(journal) = self.journals.get(spec) else { return Ok(()) };
        if !self.options.repo.is_dir() {
            let gone = io::Error::new(io::ErrorKind::NotFound, "the whole repo is gone");
            return Err(StoreError::on("make anew", &self.options.spool_dir)(gone));
        }
        let (fresh, lost) = journal.rescue(self.known_since(), self.max_open())?;
        log::warn!(
            "files of {} were removed or moved away under this runtime: {} pending deliveries are written anew",
            self.spec_dir(spec).display(),
            fresh.pending()
        );
        if !lost.is_empty() {
            log::error!(
                "{} deliveries of {spec} can no longer be read: they become dead letters",
                lost.len()
            );
        }
        self.lost.extend(lost);
        self.dead_letters.remove(spec);
        self.keep_journal(spec.clone(), fresh);
        Ok(())
    }

    /// Gives what only we hold to the one who owns the spool now: their events are put into its inbox.
    fn hand_over(&mut self) {
        let all: Vec<SpecId> = self.journals.keys().cloned().collect();
        for spec in all {
            let Some(journal) = self.journals.get(&spec) else { continue };
            if journal.is_in_place().is_ok_and(|is_in_place| is_in_place) {
                continue;
            }
            // What was not acknowledged is its emitter's to hand over.
            self.break_journal(&spec);
            let Some(journal) = self.broken.get(&spec) else { continue };
            for body in journal.unfinished_bodies() {
                let event = Event::from_json(&String::from_utf8_lossy(&body));
                let put = event.map_err(|error| error.to_string()).and_then(|event| {
                    inbox::put(&self.options.spool_dir, &[event]).map_err(|error| error.to_string())
                });
                match put {
                    Ok(()) => log::warn!("an event of {spec} is handed over to the spool's new owner"),
                    Err(error) => log::error!("an event of {spec} could not be handed over: {error}"),
                }
            }
        }
    }

    /// A SPEC that was set aside and is mended: one that is gone begins anew, one that can be read is for a start to read.
    fn look_aside(&mut self) {
        let specs: Vec<SpecId> = self.aside.keys().cloned().collect();
        for spec in specs {
            let dir = self.spec_dir(&spec);
            match fs::symlink_metadata(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.aside.remove(&spec);
                }
                Ok(found) if found.is_dir() && journal::probe(&dir).is_ok() => {
                    self.standing = Standing::Outdated;
                }
                _ => {}
            }
        }
    }

    /// Says in `runtime.json` where the runtime is, from now on; with `None` not any more.
    pub fn announce(&mut self, content: Option<Vec<u8>>) {
        self.announced = None;
        if let Some(content) = content {
            let path = self.options.spool_dir.join("runtime.json");
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
            // On a disk that is full there is room once the reserve is given up.
            self.reserve.give_up_for(&error);
            if let Err(error) = announced.write() {
                announced.say(&error);
            }
        }
    }
}

/// A `runtime.json` of ours, removed when it is dropped.
#[derive(Debug)]
pub(super) struct Announced {
    path: PathBuf,
    content: Vec<u8>,
    /// Which file it is, once it could be written.
    id: Option<FileId>,
    /// Why it could not, as far as that was said.
    said: String,
}

impl Announced {
    /// Writes it where it is not, or not any more.
    fn write(&mut self) -> io::Result<()> {
        if self.is_there() {
            return Ok(());
        }
        write_atomic(&self.path, &self.content)?;
        self.id = Some(FileId::of(&files::open_to_read(&self.path)?)?);
        Ok(())
    }

    /// Says once that it cannot be written.
    fn say(&mut self, error: &io::Error) {
        let why = format!("cannot write {}: {error}; events go to the inbox meanwhile", self.path.display());
        if self.said != why {
            log::error!("{why}");
            self.said = why;
        }
    }

    fn is_there(&self) -> bool {
        self.id.is_some_and(|id| id.is_at(&self.path).is_ok_and(|is_there| is_there))
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        // What another owner wrote there is not ours to remove.
        if self.is_there()
            && let Err(error) = fs::remove_file(&self.path)
        {
            log::debug!("{} was gone already: {error}", self.path.display());
        }
    }
}
