//! Gives deliveries up for good, because a person asked for it: first the evidence, synced, then
//! the end. Without evidence on disk nothing is given up.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::Store;
use crate::archive::{DeadLetter, discard_letter_line, discard_line};
use crate::clock;
use crate::delivery::{Delivery, DeliveryId, FinalState, SubscriptionId};
use crate::event::SpecId;
use crate::files::FileError;
use crate::spool::Record;

/// Most deliveries in one call: their lines fit what may wait for the disk.
pub(crate) const MAX_DISCARDED: usize = 100;

/// Ids of dead letters that are remembered after they are gone: a replay of one may be under way.
const REMEMBERED: usize = 65_536;

/// Why a dead letter was not discarded.
#[derive(Debug)]
pub(crate) enum NotDiscarded {
    /// There is no such dead letter.
    NotThere,
    /// It stays, for this reason.
    Stays(String),
}

/// The dead letters that were discarded, or sent again and taken, last.
#[derive(Debug, Default)]
pub(super) struct Resolved(VecDeque<DeliveryId>);

impl Resolved {
    pub(super) fn remember(&mut self, id: DeliveryId) {
        if self.0.len() >= REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back(id);
    }

    /// Whether a dead letter was resolved in this run: it must not be written again, nor end twice.
    pub(super) fn has(&self, id: DeliveryId) -> bool {
        self.0.contains(&id)
    }
}

/// Those of this SPEC stay, for this reason.
fn stay(found: &mut [Result<DeadLetter, NotDiscarded>], spec: &SpecId, why: &str) {
    for one in found.iter_mut().filter(|one| one.as_ref().is_ok_and(|letter| letter.spec == *spec)) {
        *one = Err(NotDiscarded::Stays(why.to_owned()));
    }
}

impl Store {
    /// Gives dead letters up for good; those that are [`Ok`] do not come back. At most
    /// [`MAX_DISCARDED`] at a time.
    pub(crate) fn discard_letters(
        &mut self,
        wanted: &[(SpecId, DeliveryId)],
        by: &str,
    ) -> Vec<Result<SubscriptionId, NotDiscarded>> {
        let mut found: Vec<Result<DeadLetter, NotDiscarded>> =
            wanted.iter().map(|(spec, id)| self.letter_to_discard(spec, *id)).collect();
        let lines = found.iter().flatten();
        let lines: Vec<_> =
            lines.map(|letter| (letter.spec.clone(), discard_letter_line(letter, by))).collect();
        let unwritten = self.evidence_before_a_discard(&lines);
        for (spec, why) in &unwritten {
            stay(&mut found, spec, why);
        }
        let specs: BTreeSet<SpecId> = found.iter().flatten().map(|letter| letter.spec.clone()).collect();
        for spec in &specs {
            // The record that a delivery became a dead letter may not be synced: without it and
            // without the letter, a power loss would have the delivery pending again.
            if let Err(error) = self.spool.sync(spec) {
                stay(&mut found, spec, &error.to_string());
            }
        }
        for one in &mut found {
            if let Ok(letter) = one {
                match self.archive.remove_dead_letter(&letter.spec, letter.id) {
                    Ok(()) => self.resolved.remember(letter.id),
                    Err(error) => *one = Err(NotDiscarded::Stays(error.to_string())),
                }
            }
        }
        for spec in specs {
            if let Err(error) = self.archive.sync_dead_letters(&spec) {
                stay(&mut found, &spec, &error.to_string());
            }
        }
        found.into_iter().map(|one| one.map(|letter| letter.subscription)).collect()
    }

    fn letter_to_discard(&mut self, spec: &SpecId, id: DeliveryId) -> Result<DeadLetter, NotDiscarded> {
        let stays = |error: FileError| NotDiscarded::Stays(error.to_string());
        self.spool.verify_owner().map_err(stays)?;
        self.spool.check_room().map_err(stays)?;
        if self.ends_told.contains(&id) {
            return Err(NotDiscarded::Stays("its end is being written: try again".to_owned()));
        }
        self.archive.read_dead_letter(spec, id).map_err(|error| match error.is_not_found() {
            true => NotDiscarded::NotThere,
            false => stays(error),
        })
    }

    /// Writes and syncs these lines. Returns the SPECs whose evidence did not get to the disk, and
    /// why.
    fn evidence_before_a_discard(&mut self, lines: &[(SpecId, Vec<u8>)]) -> Vec<(SpecId, String)> {
        for (spec, line) in lines {
            self.add_evidence(spec, line);
        }
        self.flush_evidence();
        let specs: BTreeSet<&SpecId> = lines.iter().map(|(spec, _)| spec).collect();
        let mut unwritten = Vec::new();
        for spec in specs {
            if let Err(error) = self.archive.sync_written(spec) {
                unwritten.push((spec.clone(), format!("its evidence cannot be written: {error}")));
            }
        }
        unwritten
    }

    /// Gives waiting deliveries up for good: adds the records that end them, which are on disk,
    /// synced, after [`commit`](Self::commit). At most [`MAX_DISCARDED`] at a time.
    pub(crate) fn discard_waiting(
        &mut self,
        deliveries: &[Arc<Delivery>],
        by: &str,
    ) -> Vec<Result<(), FileError>> {
        let mut checked: Vec<Result<(), FileError>> = Vec::with_capacity(deliveries.len());
        let mut lines = Vec::new();
        for delivery in deliveries {
            let may = self.spool.verify_owner().and_then(|()| self.spool.check_room());
            if may.is_ok() {
                // What can no longer be read had attempts too, but nobody knows which.
                let read = self.attempts_and_body(&delivery.spec, delivery.id);
                let attempts = read.map(|(attempts, _)| attempts).unwrap_or_default();
                lines.push((delivery.spec.clone(), discard_line(delivery, &attempts, by)));
            }
            checked.push(may);
        }
        let unwritten = self.evidence_before_a_discard(&lines);
        let dir = self.spool_dir.clone();
        for (delivery, checked) in deliveries.iter().zip(&mut checked) {
            if checked.is_err() {
                continue;
            }
            *checked = match unwritten.iter().find(|(spec, _)| *spec == delivery.spec) {
                Some((_, why)) => {
                    Err(FileError::on("discard a delivery in", &dir)(std::io::Error::other(why.clone())))
                }
                None => {
                    let (id, discarded_by) = (delivery.id, Some(by.to_owned()));
                    let state = FinalState::Dropped;
                    self.append(
                        &delivery.spec,
                        &Record::Finished { id, state, at: clock::now(), discarded_by },
                    )
                }
            };
            if checked.is_ok() {
                self.spool.is_lost_no_more(delivery.id);
            }
        }
        checked
    }
}
