//! Group commit: the first record of a batch schedules one flush. actix drains the mailbox before
//! that flush runs, so one write and one sync serve all records that arrived meanwhile, and then
//! everyone is answered. Compaction waits until they are.

use std::time::{Duration, Instant};

use actix::prelude::*;

use super::{Ledger, NotWritten, Reply};
use crate::actors::acceptance::{Acceptance, Accepting};
use crate::actors::mailbox::{after_mailbox, after_others};
use crate::delivery::Delivery;
use crate::event::SpecId;
use crate::feed::Ended;
use crate::files::FileError;

/// Records after which a batch is flushed even if more wait: bounds an emitter's wait.
pub(super) const MAX_BATCH: usize = 256;

/// The pause before each step of compaction, in which emitters are served.
const COMPACT_AFTER: Duration = Duration::from_secs(1);

/// How long no batch is written before room is made for the next events: while they come one after
/// the other, the batch that needs it makes it, with a sync less.
const MAKE_ROOM_AFTER: Duration = Duration::from_millis(5);

/// How long nothing is written before the runtime is at rest.
const AT_REST_AFTER: Duration = Duration::from_secs(5);

/// One that is answered when the batch is on disk.
pub(super) struct Waiting {
    spec: SpecId,
    reply: Reply,
    /// What begins then, for an event.
    accepting: Option<Accepting>,
    /// The end of a delivery, for those who watch.
    end: Option<Box<Ended>>,
}

impl Waiting {
    /// The Router, for an event.
    pub(super) fn for_event(spec: SpecId, accepting: Accepting, reply: Reply) -> Self {
        Self { spec, reply, accepting: Some(accepting), end: None }
    }

    /// Who hears what became of a delivery.
    pub(super) fn for_delivery(delivery: &Delivery, reply: Reply, end: Option<Box<Ended>>) -> Self {
        Self { spec: delivery.spec.clone(), reply, accepting: None, end }
    }
}

impl Ledger {
    /// Answers once the batch is on disk, or at once if nothing could be added to it.
    pub(super) fn answer_for(
        &mut self,
        added: Result<(), FileError>,
        waiting: Waiting,
        context: &mut Context<Self>,
    ) {
        let is_event = waiting.accepting.is_some();
        match added {
            Ok(()) => self.waiting.push(waiting),
            Err(error) => answer(waiting.reply, Err(NotWritten::Failed(error.to_string()))),
        }
        // In both cases: even a refused record may have left evidence to flush.
        self.compact_later(context);
        if self.waiting.len() >= MAX_BATCH {
            self.flush_then_compact(context);
        } else if !self.flush_scheduled {
            self.flush_scheduled = true;
            match is_event {
                true => after_mailbox(context, Self::flush_then_compact),
                // An event that has come by now is part of the same batch.
                false => after_others(context, Self::flush_then_compact),
            }
        }
    }

    /// The end of a delivery, if somebody watches.
    pub(super) fn watched(&self, end: impl FnOnce() -> Option<Ended>) -> Option<Box<Ended>> {
        if self.feed.is_watched() { end().map(Box::new) } else { None }
    }

    /// Writes the batch and answers those who wait for it.
    pub(super) fn flush(&mut self) {
        self.flush_scheduled = false;
        self.flushed = Instant::now();
        #[cfg(test)]
        {
            self.flushes += 1;
        }
        let failed = self.store.commit();
        for error in failed.values() {
            log::error!("{error}; nothing of this batch is acknowledged");
        }
        let waiting = std::mem::take(&mut self.waiting);
        // The Router hears of it behind the events that have come by now. A failure changes what it
        // knows of the run, so it brings that to an end itself.
        let written = waiting.iter().filter(|waiting| !failed.contains_key(&waiting.spec));
        Acceptance::begin(written.filter_map(|waiting| waiting.accepting.as_ref()?.take()).collect());
        let mut ends = Vec::new();
        for Waiting { spec, reply, end, .. } in waiting {
            let written =
                failed.get(&spec).map_or(Ok(()), |error| Err(NotWritten::Failed(error.to_string())));
            ends.extend(end.filter(|_| written.is_ok()).map(|end| *end));
            answer(reply, written);
        }
        self.feed.tell(ends);
        self.feed.touch();
        self.ring_if_not_owner();
    }

    /// As [`flush`](Self::flush); a compaction that cannot wait follows, after everyone was
    /// answered.
    fn flush_then_compact(&mut self, context: &mut Context<Self>) {
        self.flush();
        self.make_room_when_quiet(context);
        if self.store.must_compact() && !self.must_compact {
            self.must_compact = true;
            context.run_later(Duration::from_millis(1), |ledger, _| {
                ledger.must_compact = false;
                ledger.flush();
                ledger.store.compact_what_must();
            });
        }
    }

    /// Makes room in the spool's files between batches, so that no emitter waits for that.
    fn make_room_when_quiet(&mut self, context: &mut Context<Self>) {
        if self.room_scheduled || !self.store.is_short_of_room() {
            return;
        }
        self.room_scheduled = true;
        let flushed = self.flushed;
        context.run_later(MAKE_ROOM_AFTER, move |ledger, context| {
            ledger.room_scheduled = false;
            if ledger.waiting.is_empty() && ledger.flushed == flushed {
                // One at a time: an event may have come by now.
                ledger.store.make_room_ahead();
            }
            ledger.make_room_when_quiet(context);
        });
    }

    /// Compacts step by step, with a pause before each, until nothing is left to do.
    fn compact_later(&mut self, context: &mut Context<Self>) {
        if self.compaction_scheduled {
            return;
        }
        self.compaction_scheduled = true;
        context.run_later(COMPACT_AFTER, |ledger, context| {
            ledger.compaction_scheduled = false;
            ledger.flush();
            if ledger.store.compact_some() {
                ledger.compact_later(context);
            } else {
                ledger.seal_at_rest(context);
            }
        });
    }

    /// Notes what sealed files hold once nothing was written for a while.
    fn seal_at_rest(&mut self, context: &mut Context<Self>) {
        if let Some(earlier) = self.sealing.take() {
            context.cancel_future(earlier);
        }
        self.sealing = Some(context.run_later(AT_REST_AFTER, |ledger, context| {
            ledger.sealing = None;
            if ledger.store.seal_one() {
                ledger.seal_at_rest(context);
            }
        }));
    }
}

/// Answers. An emitter that gave up waiting is no error: its record is written all the same.
pub(super) fn answer(reply: Reply, result: Result<(), NotWritten>) {
    if reply.send(result).is_err() {
        log::debug!("a record was written for an emitter that no longer waits");
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::actors::acceptance::Outgoing;
    use crate::actors::alarm::Alarm;
    use crate::actors::emitter::{Emission, Emitter};
    use crate::actors::ledger::Accept;
    use crate::answer::Receipt;
    use crate::event::{EventKind, IdempotencyKey};
    use crate::feed::{Feed, RuntimeState};
    use crate::files::fault;
    use crate::spool::Accepted;
    use crate::store::{Store, StoreOptions};

    #[derive(Message)]
    #[rtype(result = "usize")]
    struct Flushes;

    impl Handler<Flushes> for Ledger {
        type Result = usize;

        fn handle(&mut self, _: Flushes, _: &mut Self::Context) -> usize {
            self.flushes
        }
    }

    #[derive(Message)]
    #[rtype(result = "bool")]
    struct IsShortOfRoom;

    impl Handler<IsShortOfRoom> for Ledger {
        type Result = bool;

        fn handle(&mut self, _: IsShortOfRoom, _: &mut Self::Context) -> bool {
            self.store.is_short_of_room()
        }
    }

    /// What the Ledger is asked, its answer, and what the emitter hears.
    fn accept_of(
        spec: &str,
        key: &str,
    ) -> (Accept, oneshot::Receiver<Result<(), NotWritten>>, oneshot::Receiver<Emission>) {
        let ((reply, answer), (hears, heard)) = (oneshot::channel(), oneshot::channel());
        let (key, spec): (IdempotencyKey, SpecId) = (key.parse().unwrap(), spec.parse().unwrap());
        let acceptance = Acceptance {
            emitter: Emitter::new(key.clone(), hears),
            receipt: Receipt::Accepted(vec![]),
            outgoing: Outgoing::default(),
        };
        let record =
            Accepted::of_bytes(crate::clock::now(), key, EventKind::Test, vec![], &"{}".into()).unwrap();
        let accepting = Accepting::new(acceptance);
        (Accept { spec, record, routed: None, accepting, reply }, answer, heard)
    }

    #[test]
    fn an_emitter_hears_from_the_ledger_that_its_event_is_written_and_not_that_it_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
        let system = actix::System::new();
        let ledger = system
            .block_on(async { Ledger::new(store, Alarm::new().0, Feed::new(RuntimeState::Running)).start() });
        let accept = |key| {
            let (accept, answer, mut heard) = accept_of("SPEC-1", key);
            let of_router = accept.accepting.clone();
            let written = system.block_on(async {
                ledger.send(accept).await.unwrap();
                answer.await.unwrap()
            });
            (written.is_ok(), heard.try_recv().map(|heard| heard.result), of_router.take().is_some())
        };
        assert_eq!(accept("k1"), (true, Ok(Ok(Receipt::Accepted(vec![]))), false));
        let mut failed = None;
        assert!(fault::full_after(0, usize::MAX, || failed = Some(accept("k2"))));
        assert_eq!(failed, Some((false, Err(oneshot::error::TryRecvError::Empty), true)));
    }

    #[test]
    fn room_for_further_records_is_made_between_batches() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
        actix::System::new().block_on(async move {
            let ledger = Ledger::new(store, Alarm::new().0, Feed::new(RuntimeState::Running)).start();
            let mut was_short = 0;
            for n in 0..20 {
                for spec in ["SPEC-1", "SPEC-2"] {
                    let (accept, answer, _) = accept_of(spec, &format!("k{n}"));
                    ledger.send(accept).await.unwrap();
                    answer.await.unwrap().unwrap();
                }
                while ledger.send(IsShortOfRoom).await.unwrap() {
                    was_short += 1;
                    actix_rt::time::sleep(Duration::from_millis(1)).await;
                }
            }
            assert!(was_short > 0);
        });
    }

    /// Group commit stands on actix draining the mailbox before it polls an actor's own futures.
    #[test]
    fn what_waits_in_the_mailbox_is_one_batch() {
        let dir = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
        actix::System::new().block_on(async move {
            let ledger = Ledger::new(store, Alarm::new().0, Feed::new(RuntimeState::Running)).start();
            // The first message also starts the actor, which sets the mailbox's capacity.
            assert_eq!(ledger.send(Flushes).await.unwrap(), 0);
            let mut replies = Vec::new();
            for n in 0..MAX_BATCH - 1 {
                let (accept, answer, _) = accept_of("SPEC-1", &format!("k{n}"));
                ledger.try_send(accept).unwrap();
                replies.push(answer);
            }
            for answer in replies {
                answer.await.unwrap().unwrap();
            }
            assert_eq!(ledger.send(Flushes).await.unwrap(), 1);
        });
    }
}
