//! Who emitted an event, and hears what became of it.

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

    /// Gets the event back with the answer.
    pub(crate) fn with(self, event: Box<Event>) -> Self {
        Self { event: Some(event), ..self }
    }

    pub(crate) fn hears(self, result: Result<Receipt, EmitError>) {
        let Self { key, reply, event } = self;
        if reply.send(Emission { key, result, _event: event }).is_err() {
            log::debug!("an emitter no longer waits for its answer");
        }
    }
}
