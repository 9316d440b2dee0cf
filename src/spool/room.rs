//! Bounds of the spool: files that stay open, what a full disk still has room for, and compaction.

use std::io;

use super::journal::{Broken, Compact, Journal, ROOM};
use super::{Spool, Standing};
use crate::event::SpecId;
use crate::files::{self, FileError, share_of_open_files};

/// Most spool files kept open at a time, if the limit of open files allows it.
const MAX_OPEN_SPOOL: usize = 4096;

/// Spool files that may be open: at most a quarter of what the process may open.
pub(super) fn max_open() -> usize {
    share_of_open_files(4).min(MAX_OPEN_SPOOL)
}

impl Spool {
    /// Closes files beyond the bound, those of SPECs without unfinished deliveries first: an open
    /// file can be read even after it is removed.
    pub(super) fn bound_open_files(&mut self) {
        let most = self.max_open;
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

    /// Whether the disk has no room for new events.
    pub(crate) fn is_full(&self) -> bool {
        self.reserve.is_full()
    }

    /// Notes a failed write: if the disk is full, the reserve is given up.
    pub(crate) fn note_failure(&mut self, error: &FileError) {
        self.reserve.give_up_for(&error.source);
    }

    /// Refuses what a full disk has no room for.
    ///
    /// # Errors
    /// The disk is full.
    pub(crate) fn check_room(&mut self) -> Result<(), FileError> {
        if self.reserve.is_full() {
            // There may be room by now.
            self.reserve.look();
        }
        if !self.reserve.is_full() {
            return Ok(());
        }
        let full = io::Error::new(io::ErrorKind::StorageFull, "the disk is full: make room on it");
        Err(FileError::on("write to the spool", &self.dir)(full))
    }

    /// Whether the next event of some SPEC might have to make room in a file first.
    pub(crate) fn is_short_of_room(&self) -> bool {
        !self.short_of_room.is_empty()
    }

    /// Makes room in the file of one of these, synced, unless the disk has little. Call when
    /// nothing waits.
    pub(crate) fn make_room_ahead(&mut self) {
        let Some(spec) = self.short_of_room.pop_first() else { return };
        let has_room = !self.reserve.is_full() && files::free_bytes(&self.dir) > 2 * ROOM;
        if !has_room || self.verify_owner().is_err() {
            return;
        }
        let Some(journal) = self.journals.get_mut(&spec) else { return };
        if !journal.is_last_in_place().is_ok_and(|is_in_place| is_in_place) {
            return;
        }
        if let Err(error) = journal.make_room_ahead() {
            log::error!("{error}; nothing of {spec} is lost, and its next event repairs that");
            self.note_failure(&error);
            self.set_broken(&spec);
        }
    }

    /// Compacts every journal as long as it is worth it, even if work waits: for a start.
    pub(crate) fn compact_all(&mut self) {
        let specs: Vec<SpecId> = self.journals.keys().cloned().collect();
        for spec in specs {
            let is_wasteful = |spool: &Self| {
                spool.journals.get(&spec).is_some_and(|journal| journal.is_wasteful(Compact::AtLeisure))
            };
            while is_wasteful(self) && self.compact(&spec) {}
        }
    }

    /// Closes all files that may be closed; they are opened by name when needed.
    #[cfg(test)]
    pub(crate) fn close_files(&mut self) {
        self.journals.values_mut().for_each(|journal| journal.close_files(0));
    }

    /// Whether a compaction step cannot wait any longer.
    pub(crate) fn must_compact(&self) -> bool {
        self.journals.values().any(|journal| journal.is_wasteful(Compact::AtOnce))
    }

    /// Does one bounded compaction step if one cannot wait any longer. Call after
    /// [`commit`](Self::commit).
    pub(crate) fn compact_what_must(&mut self) {
        self.compact_one(Compact::AtOnce);
    }

    /// Does one bounded compaction step if one is worth it; returns whether there was one. Call
    /// after [`commit`](Self::commit).
    pub(crate) fn compact_some(&mut self) -> bool {
        self.compact_one(Compact::AtLeisure)
    }

    fn compact_one(&mut self, compact: Compact) -> bool {
        let due = self.journals.iter().filter(|(_, journal)| journal.is_wasteful(compact));
        let due: Vec<SpecId> = due.map(|(spec, _)| spec.clone()).collect();
        // One that cannot be compacted now keeps no other from it.
        due.iter().any(|spec| self.compact(spec))
    }

    /// On a full disk: gives back the room for further records, and compacts whatever frees more.
    pub(super) fn make_room(&mut self) {
        self.journals.values_mut().for_each(Journal::give_back_room);
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

    /// Does one step of a SPEC's; returns whether it could.
    pub(crate) fn compact(&mut self, spec: &SpecId) -> bool {
        // This process must own the segment to be removed, and the others must have their names.
        if self.standing != Standing::Owner || !self.lock.is_in_place().is_ok_and(|is_ours| is_ours) {
            return false;
        }
        let since = self.known_since();
        let Some(journal) = self.journals.get_mut(spec) else { return false };
        // The emitters that wait for a batch are answered by a commit, which verifies more.
        if journal.has_batch() || !journal.is_in_place().is_ok_and(|is_in_place| is_in_place) {
            return false;
        }
        match journal.compact_oldest(since) {
            Ok(()) => true,
            Err(error) => {
                log::error!("the spool of {spec} could not be compacted: {error}; nothing of it is lost");
                // No emitter waits for the records that it was moving.
                self.set_broken(spec);
                false
            }
        }
    }
}
