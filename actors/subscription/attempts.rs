//! Makes attempts: each is a task of its own, from its turn to what came of it.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;

use super::sender::Sender;
use super::{Right, Subscription};
use crate::actors::ledger::{Ledger, NoBody, ReadBody};
use crate::actors::permits::{Asked, Permit};
use crate::archive::Attempt;
use crate::delivery::{Body, Delivery, InFlight, Payload};

/// How long a delivery waits after its payload could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// From a task of its own: an attempt ended, or could not be made. Bounded by `max_in_flight`.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct AttemptEnded {
    in_flight: InFlight,
    attempt: Result<Attempt, NotMade>,
    /// Given back only after the next attempt has asked for one, so that a fast endpoint keeps its
    /// turn.
    permit: Option<Permit>,
}

/// Why an attempt was not made.
enum NotMade {
    /// Before its turn came a person paused the subscription, its config was read again, or its
    /// lease ran out.
    Held,
    /// There was no payload to send.
    NoBody(NoBody),
}

/// An attempt that is to be made.
pub(super) struct Job {
    sender: Rc<Sender>,
    in_flight: InFlight,
    body: Option<Body>,
    is_proven: bool,
    asked: Option<Asked>,
    is_held: Rc<Cell<bool>>,
    right: Right,
}

impl Job {
    pub(super) async fn make(self, ledger: &Addr<Ledger>) -> AttemptEnded {
        let Self { sender, in_flight, body, is_proven, asked, is_held, right } = self;
        let delivery = in_flight.delivery();
        let payload = match &body {
            Some(body) => Payload::clone(body),
            None => match read_body(ledger, delivery).await {
                Ok(body) => Payload::new(body),
                Err(error) => return AttemptEnded::not_made(in_flight, NotMade::NoBody(error)),
            },
        };
        let asked = asked.or_else(|| sender.ask(is_proven, &mut None));
        let permit = Sender::permit(asked).await;
        if is_held.get() || !sender.is_in_force() || !right.may_start() {
            return AttemptEnded::not_made(in_flight, NotMade::Held);
        }
        let attempt = sender.make(delivery.clone(), payload, in_flight.attempt(), false).await;
        AttemptEnded { in_flight, attempt: Ok(attempt), permit }
    }
}

impl AttemptEnded {
    fn not_made(in_flight: InFlight, why: NotMade) -> Self {
        Self { in_flight, attempt: Err(why), permit: None }
    }
}

impl Subscription {
    pub(super) fn launch(
        &mut self,
        sender: Rc<Sender>,
        in_flight: InFlight,
        body: Option<Body>,
        context: &Context<Self>,
    ) {
        let (delivery, number) = (in_flight.delivery().clone(), in_flight.attempt());
        log::debug!(
            subscription:% = self.id, spec:% = delivery.spec, delivery:% = delivery.id;
            "attempt {number} of {} to {} begins", delivery.id, self.id
        );
        self.under_way.insert(delivery.id, (delivery.clone(), number));
        let is_proven = self.health.is_proven();
        // Asks for the permit at once if the body is in memory. Else after reading it: a slow disk
        // must not hold a permit.
        let asked = body.as_ref().and_then(|_| sender.ask(is_proven, &mut self.spare));
        let (is_held, right) = (self.is_held.clone(), self.right.clone());
        let job = Job { sender, in_flight, body, is_proven, asked, is_held, right };
        self.workers.make(job, &self.ledger, context, &self.alarm);
    }

    /// Takes back an attempt that could not be made. The whole lane pauses: the others would meet
    /// the same obstacle.
    pub(super) fn put_back(&mut self, in_flight: InFlight, wait: Duration) {
        if !self.right.keeps() {
            return self.lane.release();
        }
        let now = Instant::now();
        self.lane.put_back(in_flight, now, wait);
        self.lane.pause_until(now + wait);
    }
}

async fn read_body(ledger: &Addr<Ledger>, delivery: &Delivery) -> Result<Bytes, NoBody> {
    let read = ledger.send(ReadBody { spec: delivery.spec.clone(), id: delivery.id }).await;
    read.unwrap_or_else(|_| Err(NoBody::NotNow("the ledger has stopped".to_owned())))
}

impl Handler<AttemptEnded> for Subscription {
    type Result = ();

    fn handle(&mut self, ended: AttemptEnded, context: &mut Self::Context) {
        let AttemptEnded { in_flight, attempt, permit } = ended;
        self.spare = permit;
        let id = in_flight.delivery().id;
        match attempt {
            Ok(attempt) => {
                self.unread.remove(&id);
                self.finished(in_flight, attempt, context);
            }
            Err(NotMade::Held) => {
                self.under_way.remove(&id);
                match self.right.keeps() {
                    true => self.lane.put_back(in_flight, Instant::now(), Duration::ZERO),
                    false => self.lane.release(),
                }
                self.pump(context);
            }
            Err(NotMade::NoBody(NoBody::Ended)) => {
                log::info!(subscription:% = self.id, delivery:% = id; "{id} has ended on another machine");
                self.under_way.remove(&id);
                self.unread.remove(&id);
                self.lane.release();
                self.pump(context);
            }
            Err(NotMade::NoBody(NoBody::NotNow(error))) => {
                if self.unread.is_empty() {
                    log::warn!(
                        subscription:% = self.id, delivery:% = id;
                        "{id} cannot be read from the spool and is tried again each second: {error}"
                    );
                }
                self.under_way.remove(&id);
                self.unread.insert(id);
                self.why_unread = error;
                self.put_back(in_flight, READ_AGAIN);
                self.pump(context);
            }
            Err(NotMade::NoBody(NoBody::Gone(error))) => {
                log::error!(
                    subscription:% = self.id, delivery:% = id;
                    "the payload of {id} is gone: {error}; it becomes a dead letter"
                );
                self.under_way.remove(&id);
                self.lane.release();
                self.gone.extend(self.right.keeps().then(|| in_flight.put_back()));
                self.pump(context);
            }
        }
        // Only now: the attempts started above have asked for theirs.
        self.spare = None;
    }
}
