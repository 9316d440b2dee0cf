//! Writes what became of a delivery, in this order: evidence, dead letter, record. A crash in
//! between repeats the delivery; nothing has happened without evidence.

use bytes::Bytes;

use super::Store;
use crate::archive::{Attempt, DeadLetter, Effect, Finished, add_attempt_line, add_final_line, burial_line};
use crate::clock;
use crate::delivery::{Delivery, FinalState, Outcome, Reason};
use crate::event::SpecId;
use crate::files::FileError;
use crate::spool::{Record, Unreadable};

impl Store {
    /// Adds the lines that `add` adds to the SPEC's evidence, by way of memory that is there
    /// already: a delivery's lines are too long for the allocator's fast lists.
    fn add_lines(&mut self, spec: &SpecId, add: impl FnOnce(&mut Vec<u8>)) {
        let mut lines = std::mem::take(&mut self.lines);
        lines.clear();
        add(&mut lines);
        self.add_evidence(spec, &lines);
        self.lines = lines;
    }

    /// Writes the result of an attempt; it is on disk after [`commit`](Self::commit). `again`: an
    /// earlier call failed, so the evidence is already written.
    ///
    /// # Errors
    /// What could not be written: the delivery stays as it was.
    pub(crate) fn settle(&mut self, finished: &Finished, again: bool) -> Result<(), FileError> {
        self.spool.check_standing()?;
        let Finished { delivery, attempt, effect } = finished;
        let (spec, id) = (&delivery.spec, delivery.id);
        let spares_room = self.spool.is_full() && matches!(effect, Effect::Retry { .. });
        if !again && !spares_room {
            self.add_lines(spec, |lines| add_attempt_line(finished, lines));
        }
        let state = match effect {
            Effect::Retry { next_attempt_at } => {
                let next_attempt_at = *next_attempt_at;
                return self
                    .append(spec, &Record::Attempted { id, attempt: attempt.summary(), next_attempt_at });
            }
            Effect::DeadLetter(reason) => {
                return self.bury(delivery, Some(attempt), reason.clone(), None);
            }
            Effect::Sample => return Ok(()),
            // It was discarded or taken while this one was under way.
            Effect::Replayed | Effect::ReplayFailed(_) if self.resolved.has(id) => return Ok(()),
            Effect::Replayed => {
                self.spool.check_room()?;
                if !again {
                    let state = FinalState::Delivered;
                    self.add_lines(spec, |lines| add_final_line(delivery, attempt, state, lines));
                }
                self.sync_evidence(spec);
                self.archive.remove_dead_letter(spec, id)?;
                self.resolved.remember(id);
                return Ok(());
            }
            Effect::ReplayFailed(letter) => {
                self.spool.check_room()?;
                let mut letter = letter.clone();
                letter.attempts.push(attempt.summary());
                let advice = attempt.outcome.as_ref().and_then(Outcome::advice);
                letter.hint = letter.reason.hint(advice.as_deref());
                self.sync_evidence(spec);
                return self.archive.write_dead_letter(&letter);
            }
            Effect::Delivered => FinalState::Delivered,
            Effect::DryRun => FinalState::DryRun,
        };
        if !again {
            self.add_lines(spec, |lines| add_final_line(delivery, attempt, state, lines));
        }
        self.append(spec, &Record::finished(id, state, clock::now()))?;
        self.spool.is_lost_no_more(id);
        Ok(())
    }

    /// Gives up a delivery without a deciding attempt: writes its dead letter, then the record that
    /// ends it. `held` is its payload if a caller has it in memory, used when it cannot be read any
    /// more.
    ///
    /// # Errors
    /// It could not be written: the delivery stays pending.
    pub(crate) fn give_up(
        &mut self,
        delivery: &Delivery,
        reason: Reason,
        held: Option<&Bytes>,
    ) -> Result<(), FileError> {
        self.spool.check_standing()?;
        self.bury(delivery, None, reason, held)
    }

    fn bury(
        &mut self,
        delivery: &Delivery,
        last: Option<&Attempt>,
        reason: Reason,
        held: Option<&Bytes>,
    ) -> Result<(), FileError> {
        let (mut attempts, body) = match self.attempts_and_body(&delivery.spec, delivery.id) {
            Ok((attempts, body)) => (attempts, Ok(Some(body))),
            Err(Unreadable::Gone(_)) => (Vec::new(), Ok(held.cloned())),
            Err(Unreadable::NotNow(error)) => (Vec::new(), Err(error)),
        };
        attempts.extend(last.map(Attempt::summary));
        let reason = if matches!(body, Ok(None)) { Reason::SpoolRemoved } else { reason };
        // A payload that cannot be read now may be later: the delivery stays pending, untold.
        let known = body?.unwrap_or_else(|| Bytes::from_static(b"null"));
        let advice = last.and_then(|last| last.outcome.as_ref()?.advice());
        let letter = DeadLetter::new(delivery, &known, reason, attempts, clock::now(), advice.as_deref());
        let letter =
            letter.map_err(|error| FileError::on("write a dead letter in", &self.spool_dir)(error.into()))?;
        self.spool.check_room()?;
        if self.ends_told.insert(delivery.id) {
            self.add_evidence(&delivery.spec, &burial_line(&letter));
        }
        self.sync_evidence(&delivery.spec);
        self.archive.write_dead_letter(&letter)?;
        let state = (&letter.reason).into();
        self.append(&delivery.spec, &Record::finished(delivery.id, state, letter.dead_at))?;
        self.ending.push((delivery.spec.clone(), delivery.id));
        self.spool.is_lost_no_more(delivery.id);
        Ok(())
    }
}
