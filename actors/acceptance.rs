//! What begins once an event is written: its emitter hears, and its deliveries start. The Ledger
//! begins it as soon as it has written, for the Router has others to take by then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use actix::prelude::*;
use tokio::sync::OwnedSemaphorePermit;

use super::emitter::Emitter;
use crate::answer::{EmitError, Receipt};
use crate::delivery::{Pending, SubscriptionId};

/// See the module's first line.
pub(crate) struct Acceptance {
    pub(crate) emitter: Emitter,
    /// What its emitter hears.
    pub(crate) receipt: Receipt,
    pub(crate) outgoing: Outgoing,
}

/// The deliveries of one event.
#[derive(Default)]
pub(crate) struct Outgoing {
    pub(crate) deliveries: Vec<(Recipient<Enqueue>, Pending)>,
    /// Held until each subscription has its delivery.
    pub(crate) admission: Option<Arc<OwnedSemaphorePermit>>,
}

/// To a Subscription, for events that were accepted together. What is lost on the way is recovered
/// from the spool at the next start.
#[derive(Default, Message)]
#[rtype(result = "()")]
pub(crate) struct Enqueue {
    pub(crate) pending: Vec<Pending>,
    /// The permits of their events, held until this is handled: the bound of these messages.
    pub(crate) admissions: Vec<Arc<OwnedSemaphorePermit>>,
}

impl Acceptance {
    /// Nothing begins: the event is not accepted.
    pub(crate) fn fails(self, error: EmitError) {
        self.emitter.hears(Err(error));
    }

    /// Answers the emitters of accepted events, and hands the deliveries to their subscriptions.
    /// Call it on the Router's thread: whoever hears that an event is accepted and asks the Router
    /// for its deliveries finds them then.
    pub(crate) fn begin(accepted: Vec<Self>) {
        let parts = accepted.into_iter().map(|one| ((one.emitter, one.receipt), one.outgoing));
        let (emitters, outgoing): (Vec<_>, Vec<_>) = parts.unzip();
        let hear = || emitters.into_iter().for_each(|(emitter, receipt)| emitter.hears(Ok(receipt)));
        // Many emitters come back with their next events while the rest is done; a single one that
        // wakes may take this thread's core, and its deliveries would wait.
        if outgoing.len() > 1 {
            hear();
            hand_over(outgoing);
        } else {
            hand_over(outgoing);
            hear();
        }
    }
}

/// One message for each subscription.
fn hand_over(outgoing: Vec<Outgoing>) {
    let mut starting: HashMap<SubscriptionId, (Recipient<Enqueue>, Enqueue)> = HashMap::new();
    for Outgoing { deliveries, admission } in outgoing {
        for (address, pending) in deliveries {
            let of = pending.delivery().subscription.clone();
            let (_, enqueue) = starting.entry(of).or_insert_with(|| (address, Enqueue::default()));
            enqueue.pending.push(pending);
            enqueue.admissions.extend(admission.clone());
        }
    }
    for (address, enqueue) in starting.into_values() {
        match address.try_send(enqueue) {
            Ok(()) => {}
            Err(SendError::Closed(_)) => log_stopped(),
            // The mailbox's capacity is not its bound.
            Err(SendError::Full(enqueue)) => drop(actix_rt::spawn(async move {
                if address.send(enqueue).await.is_err() {
                    log_stopped();
                }
            })),
        }
    }
}

fn log_stopped() {
    log::error!("a subscription has stopped: its deliveries wait on disk for the next start");
}

/// An acceptance under way. Clones are the same one: whoever takes it first brings it to an end.
#[derive(Clone)]
pub(crate) struct Accepting(Arc<Mutex<Option<Acceptance>>>);

impl Accepting {
    pub(crate) fn new(acceptance: Acceptance) -> Self {
        Self(Arc::new(Mutex::new(Some(acceptance))))
    }

    pub(crate) fn take(&self) -> Option<Acceptance> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
