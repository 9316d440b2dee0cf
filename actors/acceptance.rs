//! What begins once an event is written: its emitter hears, and its deliveries start. The Ledger
//! begins it as soon as it has written, for the Router has others to take by then.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use actix::Addr;
use futures_util::FutureExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::emitter::Emitter;
use super::subscription::{Enqueue, Subscription};
use super::tell::tell;
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
    pub(crate) deliveries: Vec<(Addr<Subscription>, Pending)>,
    /// Held until each subscription has its delivery.
    pub(crate) admission: Option<Arc<OwnedSemaphorePermit>>,
}

impl Acceptance {
    /// Nothing begins: the event is not accepted.
    pub(crate) fn fails(self, error: EmitError) {
        self.emitter.hears(Err(error));
    }

    /// Answers the emitters of accepted events, and hands the deliveries to their subscriptions. To be
    /// called on the Router's thread: whoever hears that an event is accepted and asks the Router for
    /// its deliveries finds them.
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
    let mut starting: HashMap<SubscriptionId, (Addr<Subscription>, Enqueue)> = HashMap::new();
    for Outgoing { deliveries, admission } in outgoing {
        for (address, pending) in deliveries {
            let of = pending.delivery().subscription.clone();
            let (_, enqueue) = starting.entry(of).or_insert_with(|| (address, Enqueue::default()));
            enqueue.pending.push(pending);
            enqueue.admissions.extend(admission.clone());
        }
    }
    for (address, enqueue) in starting.into_values() {
        let mut told = Box::pin(tell(&address, enqueue).map(|is_told| {
            if !is_told {
                log::error!("a subscription has stopped: its deliveries wait on disk for the next start");
            }
        }));
        // Its mailbox may be full.
        if told.as_mut().now_or_never().is_none() {
            actix_rt::spawn(told);
        }
    }
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
