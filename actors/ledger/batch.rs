//! Group commit: the first record of a batch schedules one flush. actix drains the mailbox before
//! that flush runs, so one write and one sync serve all records that arrived meanwhile, and then
//! everyone is answered. Ended attempts wait for a few more, or a moment: their lane goes on without
//! an answer, and an event does not wait for their evidence. Compaction waits until all are written.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;

use super::{Ledger, NotWritten, Reply};
use crate::actors::mailbox::after_mailbox;
use crate::archive::Finished;
use crate::event::SpecId;
use crate::feed::Ended;
use crate::files::FileError;

/// Records after which a batch is flushed even if more wait: bounds an emitter's wait.
pub(super) const MAX_BATCH: usize = 256;

/// The pause before each step of compaction, in which emitters are served.
const COMPACT_AFTER: Duration = Duration::from_secs(1);

/// Ended attempts that are written at once: a lane with as many unwritten starts nothing more.
const ENDED_AT_ONCE: usize = 4;

/// How long fewer of them wait.
const ENDED_AFTER: Duration = Duration::from_millis(1);

/// How long nothing is written before the runtime is at rest.
const AT_REST_AFTER: Duration = Duration::from_secs(5);

/// One that is answered when the batch is on disk.
pub(super) struct Waiting {
    pub(super) spec: SpecId,
    pub(super) reply: Reply,
    /// The end of a delivery, for those who watch.
    pub(super) end: Option<Box<Ended>>,
}

impl Ledger {
    /// Answers once the batch is on disk, or at once if nothing could be added to it.
    pub(super) fn answer_for(
        &mut self,
        added: Result<(), FileError>,
        waiting: Waiting,
        context: &mut Context<Self>,
    ) {
        self.add(added, waiting);
        // In both cases: even a refused record may have left evidence to flush.
        self.compact_later(context);
        if self.waiting.len() >= MAX_BATCH {
            self.flush_then_compact(context);
        } else if !self.flush_scheduled {
            self.flush_scheduled = true;
            after_mailbox(context, Self::flush_then_compact);
        }
    }

    fn add(&mut self, added: Result<(), FileError>, waiting: Waiting) {
        match added {
            Ok(()) => self.waiting.push(waiting),
            Err(error) => answer(waiting.reply, Err(NotWritten::Failed(error.to_string()))),
        }
    }

    /// Answers once what became of this attempt is on disk.
    pub(super) fn record(
        &mut self,
        finished: Arc<Finished>,
        again: bool,
        reply: Reply,
        context: &mut Context<Self>,
    ) {
        self.ended.push((finished, again, reply));
        self.compact_later(context);
        if self.ended.len() >= ENDED_AT_ONCE {
            if !self.flush_scheduled {
                self.flush_scheduled = true;
                after_mailbox(context, Self::flush_then_compact);
            }
        } else if !self.flush_awaited {
            self.flush_awaited = true;
            context.run_later(ENDED_AFTER, |ledger, context| {
                ledger.flush_awaited = false;
                ledger.settle();
                ledger.flush_then_compact(context);
            });
        }
    }

    /// Adds the attempts that have ended to the batch.
    fn settle(&mut self) {
        for (finished, again, reply) in std::mem::take(&mut self.ended) {
            let added = self.store.settle(&finished, again);
            let end = self.watched(|| Ended::by(&finished));
            self.add(added, Waiting { spec: finished.delivery.spec.clone(), reply, end });
        }
    }

    /// The end of a delivery, if somebody watches.
    pub(super) fn watched(&self, end: impl FnOnce() -> Option<Ended>) -> Option<Box<Ended>> {
        if self.feed.is_watched() { end().map(Box::new) } else { None }
    }

    /// Writes all that there is to write and answers those who wait for it.
    pub(super) fn flush(&mut self) {
        self.settle();
        self.write_batch();
    }

    fn write_batch(&mut self) {
        self.flush_scheduled = false;
        #[cfg(test)]
        {
            self.flushes += 1;
        }
        let failed = self.store.commit();
        for error in failed.values() {
            log::error!("{error}; nothing of this batch is acknowledged");
        }
        let mut ends = Vec::new();
        for Waiting { spec, reply, end } in std::mem::take(&mut self.waiting) {
            let written =
                failed.get(&spec).map_or(Ok(()), |error| Err(NotWritten::Failed(error.to_string())));
            ends.extend(end.filter(|_| written.is_ok()).map(|end| *end));
            answer(reply, written);
        }
        self.feed.tell(ends);
        self.feed.touch();
        self.ring_if_not_owner();
    }

    /// Writes the batch, and attempts that have ended if they are to be written by now; a
    /// compaction that cannot wait follows, after everyone was answered.
    fn flush_then_compact(&mut self, context: &mut Context<Self>) {
        if self.ended.len() >= ENDED_AT_ONCE {
            self.settle();
        }
        self.write_batch();
        if self.store.must_compact() && !self.must_compact {
            self.must_compact = true;
            context.run_later(Duration::from_millis(1), |ledger, _| {
                ledger.must_compact = false;
                ledger.flush();
                ledger.store.compact_what_must();
            });
        }
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
        self.sealing = Some(context.run_later(AT_REST_AFTER, |ledger, _| {
            ledger.sealing = None;
            ledger.store.seal_one();
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
    use crate::actors::alarm::Alarm;
    use crate::actors::ledger::{Accept, RecordAttempts};
    use crate::archive::{Attempt, Effect, RequestLine};
    use crate::delivery::{Delivery, DeliveryId};
    use crate::event::EventKind;
    use crate::feed::{Feed, RuntimeState};
    use crate::spool::{Accepted, AcceptedDelivery};
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

    /// An attempt of a dry run that has ended, of an event that was accepted.
    fn ended(event: &Accepted) -> Arc<Finished> {
        let delivery = Delivery {
            id: event.deliveries[0].id,
            key: event.idempotency_key.clone(),
            ..Delivery::sample(DeliveryId::random(), "k")
        };
        let request = RequestLine {
            url: String::new(),
            headers: Vec::new(),
            body_sha256: String::new(),
            body_bytes: 0,
        };
        let attempt = Attempt { number: 1, at: crate::clock::now(), request, outcome: None, unsent: None };
        Arc::new(Finished { delivery: Arc::new(delivery), attempt, effect: Effect::DryRun })
    }

    fn event(n: usize) -> Accepted {
        let to = AcceptedDelivery::new(DeliveryId::random(), "s".parse().unwrap());
        let key = format!("k{n}").parse().unwrap();
        Accepted::new(crate::clock::now(), key, EventKind::Test, vec![to], &"{}".into()).unwrap()
    }

    /// A few ended attempts wait, and are written soon; as many as a lane waits for are written with
    /// the event that comes with them.
    #[test]
    fn an_event_is_not_written_with_few_ended_attempts_and_they_are_written_all_the_same() {
        for (ended_before, flushes) in [(1, 2), (ENDED_AT_ONCE, 1)] {
            let dir = tempfile::tempdir().unwrap();
            let (store, _) = Store::open(StoreOptions::in_dir(dir.path())).unwrap();
            actix::System::new().block_on(async move {
                let ledger = Ledger::new(store, Alarm::new().0, Feed::new(RuntimeState::Running)).start();
                let mut before = ledger.send(Flushes).await.unwrap();
                let mut answers = Vec::new();
                let mut accept = |record| {
                    let (reply, answer) = oneshot::channel();
                    let accept = Accept { spec: "SPEC-1".parse().unwrap(), record, routed: None, reply };
                    ledger.try_send(accept).unwrap();
                    answers.push(answer);
                };
                let events: Vec<Accepted> = (0..ended_before).map(event).collect();
                events.iter().cloned().for_each(&mut accept);
                // The first of them are written before any attempt ends.
                before += 1;
                while ledger.send(Flushes).await.unwrap() < before {}
                let mut attempts = Vec::new();
                for event in &events {
                    let (reply, answer) = oneshot::channel();
                    attempts.push((ended(event), reply));
                    answers.push(answer);
                }
                let record = RecordAttempts { attempts, again: false, health: None, epoch: None };
                ledger.try_send(record).unwrap();
                let (reply, answer) = oneshot::channel();
                let record = event(ended_before);
                let accept = Accept { spec: "SPEC-1".parse().unwrap(), record, routed: None, reply };
                ledger.try_send(accept).unwrap();
                answer.await.unwrap().unwrap();
                for answer in answers {
                    answer.await.unwrap().unwrap();
                }
                assert_eq!(ledger.send(Flushes).await.unwrap() - before, flushes);
            });
        }
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
                let (reply, answer) = oneshot::channel();
                let key = format!("k{n}").parse().unwrap();
                let record =
                    Accepted::new(crate::clock::now(), key, EventKind::Test, vec![], &"{}".into()).unwrap();
                let accept = Accept { spec: "SPEC-1".parse().unwrap(), record, routed: None, reply };
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
