//! Folds the records of a SPEC's spool, read in order, into what is unfinished and known. No I/O.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::index::Index;
use super::place::Place;
use super::record::{Accepted, AcceptedDelivery, Record};
use crate::delivery::{Compact, Compactor, Delivery, DeliveryId, KnownEvent, MAX_SESSIONS, SharedKey, Told};
use crate::event::{IdempotencyKey, SpecId};
use crate::transient;

/// An unfinished delivery, as recovery found it.
#[derive(Clone, Debug)]
pub(crate) struct Unfinished<K = SharedKey> {
    /// The delivery.
    pub delivery: Compact<K>,
    /// Number of attempts that ended without success.
    pub attempts: u32,
    /// When the next attempt is due; `None` for at once.
    pub next_attempt_at: Option<Timestamp>,
}

/// An unfinished delivery while records are read. Its key is in [`Recovery::keys`].
struct Found {
    unfinished: Unfinished<Range<usize>>,
    /// The place of the record with its last attempt.
    last_attempt: Option<Place>,
}

/// The state folded from the records read so far. Kept small, because there may be many records and
/// what is built from it exists beside it.
pub(super) struct Recovery {
    spec: SpecId,
    /// In the order of acceptance; `None` for a delivery that has ended.
    found: Vec<Option<Found>>,
    keys: String,
    /// Where in `found` each delivery is that has not ended.
    index: Index,
    compactor: Compactor,
    /// Known events.
    pub(super) known: Vec<KnownEvent>,
    /// Inbox files whose events are accepted.
    pub(super) inbox: Vec<String>,
    /// The steps told last, in order.
    pub(super) told: VecDeque<(Timestamp, IdempotencyKey, Told)>,
    /// Verdicts of sessions that were told before those in `told`, in order.
    pub(super) verdicts: VecDeque<(IdempotencyKey, Told)>,
}

/// Few keys are longer, in bytes.
const BYTES_OF_A_KEY: usize = 64;

/// Age before the last event, and number of later ones, after which what was told no longer waits
/// for a counterpart. Verdicts of sessions are kept beyond that.
pub(super) const TOLD_BEFORE: SignedDuration = SignedDuration::from_secs(120);
const MAX_TOLD: usize = 2_000;

impl Recovery {
    pub(super) fn of(spec: &SpecId) -> Self {
        Self {
            spec: spec.clone(),
            found: Vec::new(),
            keys: String::new(),
            index: Index::default(),
            compactor: Compactor::default(),
            known: Vec::new(),
            inbox: Vec::new(),
            told: VecDeque::new(),
            verdicts: VecDeque::new(),
        }
    }

    /// Takes the next record and its place.
    pub(super) fn read<B>(&mut self, record: &Record<B>, place: Place) {
        match record {
            Record::Spool { .. } | Record::Run(_) => {}
            // Its event is recognised when it comes again.
            Record::Later(later) => {
                self.known.extend(later.event.as_ref().map(|(key, at)| KnownEvent::new(key, *at)))
            }
            Record::Known { idempotency_key, at, told } => {
                self.known.push(KnownEvent::new(idempotency_key, *at));
                self.remember_told(idempotency_key, *at, told.as_ref());
            }
            Record::Accepted(accepted) => {
                self.known.push(KnownEvent::new(&accepted.idempotency_key, accepted.at));
                self.inbox.extend(accepted.inbox.clone());
                self.remember_told(&accepted.idempotency_key, accepted.at, accepted.told.as_ref());
                for delivery in &accepted.deliveries {
                    let found = self.found_in(accepted, delivery, place);
                    // A record that a compaction moved is the same acceptance.
                    match self.found_mut(delivery.id) {
                        Some(same) => *same = found,
                        None => self.add(found),
                    }
                }
            }
            Record::Attempted { id, attempt, next_attempt_at } => {
                if let Some(found) = self.found_mut(*id) {
                    found.unfinished.attempts = attempt.attempt;
                    found.unfinished.next_attempt_at = Some(*next_attempt_at);
                    found.last_attempt = Some(place);
                }
            }
            Record::Finished { id, .. } => {
                if let Some(at) = self.index.remove(*id, |at| id_of(&self.found, at)) {
                    self.found[at] = None;
                }
            }
        }
    }

    fn found_mut(&mut self, id: DeliveryId) -> Option<&mut Found> {
        let at = self.index.get(id, |at| id_of(&self.found, at))?;
        self.found.get_mut(at)?.as_mut()
    }

    fn remember_told(&mut self, key: &IdempotencyKey, now: Timestamp, told: Option<&Told>) {
        let Some(told) = told else { return };
        self.told.push_back((now, key.clone(), told.clone()));
        let is_old = |at: Timestamp| now.duration_since(at) > TOLD_BEFORE;
        while self.told.len() > MAX_TOLD || self.told.front().is_some_and(|(at, ..)| is_old(*at)) {
            let Some((_, key, told)) = self.told.pop_front() else { break };
            if told.is_of_a_session() {
                if self.verdicts.len() >= MAX_SESSIONS {
                    self.verdicts.pop_front();
                }
                self.verdicts.push_back((key, told));
            }
        }
    }

    /// The steps told, in order, as far as they may still matter.
    pub(super) fn take_told(&mut self) -> impl Iterator<Item = (IdempotencyKey, Told)> + use<> {
        let told = std::mem::take(&mut self.told).into_iter().map(|(_, key, told)| (key, told));
        std::mem::take(&mut self.verdicts).into_iter().chain(told)
    }

    fn found_in<B>(&mut self, accepted: &Accepted<B>, delivery: &AcceptedDelivery, place: Place) -> Found {
        let of = Delivery {
            id: delivery.id,
            subscription: delivery.subscription.clone(),
            spec: self.spec.clone(),
            key: accepted.idempotency_key.clone(),
            kind: accepted.event,
            stage: accepted.stage,
            status: accepted.status,
            accepted_at: accepted.at,
            format: delivery.format,
        };
        let unfinished = Unfinished {
            delivery: self.compactor.compact(&of).with_key_in(&mut self.keys),
            attempts: delivery.attempts.last().map_or(0, |last| last.attempt),
            next_attempt_at: delivery.next_attempt_at,
        };
        Found { unfinished, last_attempt: (!delivery.attempts.is_empty()).then_some(place) }
    }

    /// Makes room for about so many deliveries and known events, before any is read.
    pub(super) fn make_room(&mut self, deliveries: usize, known: usize) {
        (self.found, self.known) = (transient::list(deliveries), transient::list(known));
        self.keys = transient::text(deliveries * BYTES_OF_A_KEY);
    }

    /// As [`make_room`](Self::make_room), where the numbers are known.
    pub(super) fn reserve(&mut self, deliveries: usize, known: usize) {
        self.make_room(deliveries, known);
        self.index.reserve(deliveries, |at| id_of(&self.found, at));
    }

    /// Takes a delivery that is unfinished as far as the records before the next one say, the place
    /// of whose last attempt is this.
    pub(super) fn restore(&mut self, unfinished: Unfinished<&str>, last_attempt: Option<Place>) {
        let Unfinished { delivery, attempts, next_attempt_at } = unfinished;
        let delivery = delivery.with_key_in(&mut self.keys);
        self.add(Found { unfinished: Unfinished { delivery, attempts, next_attempt_at }, last_attempt });
    }

    fn add(&mut self, found: Found) {
        let (id, at) = (found.unfinished.delivery.id(), self.found.len());
        self.found.push(Some(found));
        self.index.insert(id, at, |at| id_of(&self.found, at));
    }

    /// What is unfinished as far as the records say that were read, in the order of acceptance, and
    /// the key of each.
    pub(super) fn live(&self) -> impl Iterator<Item = (&Unfinished<Range<usize>>, &str)> {
        let live = self.found.iter().flatten().map(|found| &found.unfinished);
        live.map(|unfinished| (unfinished, unfinished.delivery.key_in(&self.keys)))
    }

    /// What is unfinished, in the order of acceptance, and the place of each last attempt.
    pub(super) fn unfinished(self) -> impl Iterator<Item = (Unfinished, Option<Place>)> {
        let keys = Arc::new(self.keys);
        self.found.into_iter().flatten().map(move |Found { unfinished, last_attempt }| {
            let Unfinished { delivery, attempts, next_attempt_at } = unfinished;
            let delivery = delivery.with_key_of(&keys);
            (Unfinished { delivery, attempts, next_attempt_at }, last_attempt)
        })
    }
}

fn id_of(found: &[Option<Found>], at: usize) -> Option<DeliveryId> {
    found.get(at)?.as_ref().map(|found| found.unfinished.delivery.id())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use crate::delivery::{Identities, Identity};
    use crate::event::{Event, EventKind, Stage, Status};

    #[test]
    fn the_verdict_of_a_session_is_known_however_long_ago_it_was_told() {
        let spec: SpecId = "SPEC-1".parse().unwrap();
        let now = clock::now();
        let told = |session: Option<&str>, at: Timestamp| {
            let key = IdempotencyKey::of_step(&spec, "plan", 1, session);
            let mut event = Event::of_source(EventKind::StageCompleted, spec.clone(), key, at);
            (event.event.stage, event.event.status) = (Some(Stage::Plan), Some(Status::Failure));
            if session.is_none() {
                event.event.key_origin = Default::default();
            }
            match Identities::default().resolve(&mut event, at, |_| false) {
                Identity::Own(Some(told)) => (event.event.idempotency_key, told),
                other => panic!("{other:?}"),
            }
        };
        let mut recovery = Recovery::of(&spec);
        let long_ago = now - 10 * TOLD_BEFORE;
        for (n, (session, at)) in
            [(Some("s-1"), long_ago), (None, long_ago), (Some("s-2"), now)].into_iter().enumerate()
        {
            let (idempotency_key, told) = told(session, at);
            let record = Record::<()>::Known { idempotency_key, at, told: Some(told) };
            recovery.read(&record, Place::new(1, &(n..n + 1)));
        }
        let keys: Vec<String> = recovery.take_told().map(|(key, _)| key.to_string()).collect();
        assert_eq!(keys, ["SPEC-1:plan:attempt-1:s-1", "SPEC-1:plan:attempt-1:s-2"]);
    }
}
