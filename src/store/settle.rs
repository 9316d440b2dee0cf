//! What became of a delivery, and the order in which it is written: first the evidence, then the
//! dead letter, then the record. A stop in between leaves a delivery that is made again, and
//! nothing that happened without evidence.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use super::Store;
use crate::archive::{
    AttemptLine, DeadLetter, EVIDENCE_VERSION as VERSION, ErrorLine, FinalLine, RequestLine, ResponseLine,
    add_evidence_line as add_line,
};
use crate::clock;
use crate::delivery::{AttemptSummary, Delivery, FinalState, Outcome, Reason};
use crate::files::{FileError, user};
use crate::spool::{Record, Unreadable};

/// Bytes that the lines of one attempt and of its delivery's end take at most, as a rule.
const USUAL_EVIDENCE: usize = 2 * 1024;

/// An attempt that ended, or would have been made but for `dry_run`.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// From 1.
    pub(crate) number: u32,
    /// When it began.
    pub(crate) at: Timestamp,
    /// What was sent, without secrets.
    pub(crate) request: RequestLine,
    /// What came of it; `None` for a dry run.
    pub(crate) outcome: Option<Outcome>,
    /// What a dry run would have sent.
    pub(crate) unsent: Option<Bytes>,
}

impl Attempt {
    /// In few bytes, for the spool and the dead letter.
    pub(crate) fn summary(&self) -> AttemptSummary {
        const KEPT: usize = 256;
        let outcome = self.outcome.as_ref();
        let response = outcome.and_then(|outcome| outcome.result.as_ref().ok());
        let kept = response.map(|response| crate::names::printable(&response.body, KEPT));
        AttemptSummary {
            attempt: self.number,
            at: self.at,
            status: self.status(),
            error: outcome.and_then(|outcome| match &outcome.result {
                Err(failure) => Some(failure.to_string()),
                Ok(response) => response.rejection.as_ref().map(|_| outcome.summary()),
            }),
            response: kept.filter(|body| !body.is_empty()),
            latency_ms: self.latency_ms(),
        }
    }

    /// The answer's status, where there was one.
    pub(crate) fn status(&self) -> Option<u16> {
        self.outcome.as_ref().and_then(|outcome| outcome.result.as_ref().ok()).map(|response| response.status)
    }

    /// How long it took; 0 for a dry run.
    pub(crate) fn latency_ms(&self) -> f64 {
        let latency = self.outcome.as_ref().map_or(Duration::ZERO, |outcome| outcome.latency);
        (latency.as_secs_f64() * 1e6).round() / 1e3
    }
}

/// An attempt that ended. Shared, and not sent: whoever made it drops it last, on the thread that
/// allocated it, where no lock of the allocator is in the way.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) attempt: Attempt,
    pub(crate) effect: Effect,
}

/// What an attempt leads to on disk.
#[derive(Debug)]
pub(crate) enum Effect {
    /// It stays pending.
    Retry { next_attempt_at: Timestamp },
    /// It is finished.
    Delivered,
    /// It moves to the dead letters.
    DeadLetter(Reason),
    /// It is finished, unsent.
    DryRun,
    /// A sample, of which only the evidence remains.
    Sample,
    /// The dead letter is resolved.
    Replayed,
    /// The dead letter stays, with one attempt more.
    ReplayFailed(Box<DeadLetter>),
}

impl Effect {
    fn is_replay(&self) -> bool {
        matches!(self, Self::Replayed | Self::ReplayFailed(_))
    }

    fn outcome(&self) -> &'static str {
        match self {
            Self::Retry { .. } => "retry",
            Self::Delivered | Self::Replayed => "delivered",
            Self::DeadLetter(_) | Self::ReplayFailed(_) => "failed",
            Self::DryRun => "dry_run",
            Self::Sample => "sample",
        }
    }
}

impl Store {
    /// Writes what became of an attempt; on disk after [`commit`](Self::commit). With `again`, it
    /// was said before and could not be recorded: its evidence is written already.
    ///
    /// # Errors
    /// What could not be written: the delivery is where it was.
    pub(crate) fn settle(&mut self, finished: &Finished, again: bool) -> Result<(), FileError> {
        self.spool.check_standing()?;
        let Finished { delivery, attempt, effect } = finished;
        let (spec, id) = (&delivery.spec, delivery.id);
        if !matches!(effect, Effect::Retry { .. }) {
            self.spool.is_lost_no_more(id);
        }
        let spares_room = self.spool.is_full() && matches!(effect, Effect::Retry { .. });
        if !again && !spares_room {
            self.add_evidence(spec, &attempt_evidence(finished));
        }
        let state = match effect {
            Effect::Retry { next_attempt_at } => {
                let next_attempt_at = *next_attempt_at;
                return self
                    .append(spec, &Record::Attempted { id, attempt: attempt.summary(), next_attempt_at });
            }
            Effect::DeadLetter(reason) => {
                return self.bury(delivery, Some(attempt), reason.clone(), None, again);
            }
            Effect::Sample => return Ok(()),
            Effect::Replayed => {
                self.spool.check_room()?;
                if !again {
                    self.add_final_evidence(delivery, attempt, FinalState::Delivered);
                }
                self.sync_evidence(spec);
                return self.archive.remove_dead_letter(spec, id);
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
            self.add_final_evidence(delivery, attempt, state);
        }
        self.append(spec, &Record::Finished { id, state, at: clock::now() })
    }

    /// Gives a delivery up that no attempt decides: its dead letter, then the record that it
    /// ended. `held` is its payload where somebody has it in memory, for one that cannot be read
    /// any more. `again` as in [`settle`](Self::settle).
    ///
    /// # Errors
    /// It could not be written: the delivery stays pending.
    pub(crate) fn give_up(
        &mut self,
        delivery: &Delivery,
        reason: Reason,
        held: Option<&Bytes>,
        again: bool,
    ) -> Result<(), FileError> {
        self.spool.check_standing()?;
        self.bury(delivery, None, reason, held, again)
    }

    fn bury(
        &mut self,
        delivery: &Delivery,
        last: Option<&Attempt>,
        reason: Reason,
        held: Option<&Bytes>,
        again: bool,
    ) -> Result<(), FileError> {
        let (mut attempts, body) = match self.attempts_and_body(&delivery.spec, delivery.id) {
            Ok((attempts, body)) => (attempts, Ok(Some(body))),
            Err(Unreadable::Gone(_)) => (Vec::new(), Ok(held.cloned())),
            Err(Unreadable::NotNow(error)) => (Vec::new(), Err(error)),
        };
        attempts.extend(last.map(Attempt::summary));
        let reason = if matches!(body, Ok(None)) { Reason::SpoolRemoved } else { reason };
        let known = body.as_ref().ok().cloned().flatten().unwrap_or_else(|| Bytes::from_static(b"null"));
        let advice = last.and_then(|last| last.outcome.as_ref()?.advice());
        let letter = DeadLetter::new(delivery, &known, reason, attempts, clock::now(), advice.as_deref());
        let letter =
            letter.map_err(|error| FileError::on("write a dead letter in", &self.spool_dir)(error.into()))?;
        if !again {
            let mut line = Vec::new();
            add_line(&FinalLine::of_dead_letter(&letter), &mut line);
            self.add_evidence(&delivery.spec, &line);
        }
        self.spool.check_room()?;
        self.sync_evidence(&delivery.spec);
        // Nobody could read it now: somebody may later.
        body?;
        self.archive.write_dead_letter(&letter)?;
        self.spool.is_lost_no_more(delivery.id);
        let state = (&letter.reason).into();
        self.append(&delivery.spec, &Record::Finished { id: delivery.id, state, at: letter.dead_at })
    }

    fn add_final_evidence(&mut self, delivery: &Delivery, last: &Attempt, state: FinalState) {
        let attempts = if state == FinalState::DryRun { 0 } else { last.number };
        let line = FinalLine {
            v: VERSION,
            record: "final",
            time: clock::now(),
            delivery: delivery.id,
            idempotency_key: &delivery.key,
            event: delivery.kind,
            subscription: &delivery.subscription,
            attempts,
            state,
            reason: None,
            accepted_at: delivery.accepted_at,
            last_status: last.status(),
            last_error: None,
        };
        let mut lines = Vec::new();
        add_line(&line, &mut lines);
        self.add_evidence(&delivery.spec, &lines);
    }
}

fn attempt_evidence(Finished { delivery, attempt, effect }: &Finished) -> Vec<u8> {
    let result = attempt.outcome.as_ref().map(|outcome| outcome.result.as_ref());
    let next_attempt_at = match effect {
        Effect::Retry { next_attempt_at } => Some(clock::rfc3339(*next_attempt_at)),
        _ => None,
    };
    let line = AttemptLine {
        v: VERSION,
        record: "attempt",
        time: attempt.at,
        delivery: delivery.id,
        idempotency_key: &delivery.key,
        event: delivery.kind,
        subscription: &delivery.subscription,
        attempt: attempt.number,
        replay: effect.is_replay(),
        user: effect.is_replay().then(user::name),
        request: &attempt.request,
        response: result.and_then(Result::ok).map(|response| ResponseLine {
            status: response.status,
            headers: &response.headers,
            body: &response.body,
        }),
        error: result
            .and_then(Result::err)
            .map(|failure| ErrorLine { class: failure.class, message: &failure.message }),
        latency_ms: attempt.latency_ms(),
        resent: attempt.outcome.as_ref().is_some_and(|outcome| outcome.resent),
        outcome: effect.outcome(),
        next_attempt_at,
        // What was accepted is JSON, on one line.
        body: attempt.unsent.as_ref().and_then(|body| serde_json::from_slice(body).ok()),
    };
    let mut lines = Vec::with_capacity(USUAL_EVIDENCE);
    add_line(&line, &mut lines);
    lines
}
