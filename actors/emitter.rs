//! Who emitted an event, and hears once what became of it: from the Ledger as soon as it is written,
//! from the Router whatever else becomes of it.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use crate::answer::{EmitError, Receipt};
use crate::event::{Event, IdempotencyKey};

/// What became of an event, and its key: its own, or the one of the known event that it turned
/// out to be.
#[derive(Clone, Debug)]
pub(crate) struct Emission {
    pub(crate) key: IdempotencyKey,
    pub(crate) result: Result<Receipt, EmitError>,
    /// The event, dropped by the thread that made it: glibc locks for what another thread frees.
    pub(crate) _event: Option<Box<Event>>,
}

/// Answers an emit.
pub(crate) type EmitReply = oneshot::Sender<Emission>;

/// Where an event's answer goes.
pub(crate) struct Emitter {
    key: IdempotencyKey,
    reply: EmitReply,
    event: Option<Box<Event>>,
}

impl Emitter {
    pub(crate) fn new(key: IdempotencyKey, reply: EmitReply) -> Self {
        Self { key, reply, event: None }
    }

    pub(crate) fn hears(self, result: Result<Receipt, EmitError>) {
        let Self { key, reply, event } = self;
        if reply.send(Emission { key, result, _event: event }).is_err() {
            log::debug!("an emitter no longer waits for its answer");
        }
    }

    /// Waits until the event is written, to hear `receipt` then.
    pub(crate) fn awaits(mut self, receipt: Receipt, event: Box<Event>) -> AwaitingEmitter {
        self.event = Some(event);
        AwaitingEmitter(Arc::new(Mutex::new(Some((self, receipt)))))
    }
}

/// An emitter whose event is being written. Clones are the same one: it hears what it is told
/// first.
#[derive(Clone)]
pub(crate) struct AwaitingEmitter(Arc<Mutex<Option<(Emitter, Receipt)>>>);

impl AwaitingEmitter {
    pub(crate) fn hears(&self, written: Result<(), EmitError>) {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((emitter, receipt)) = waiting {
            emitter.hears(written.map(|()| receipt));
        }
    }
}
