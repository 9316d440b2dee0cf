//! Sends a message without waiting until it is handled: an answer from another thread would wake
//! this one for nothing.

use actix::dev::ToEnvelope;
use actix::prelude::*;

/// True if the actor is alive. Ignores the mailbox's capacity: each message's own bound counts.
pub(super) async fn tell<A, M>(to: &Addr<A>, message: M) -> bool
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message<Result = ()> + Send + 'static,
{
    match to.try_send(message) {
        Err(SendError::Full(message)) => to.send(message).await.is_ok(),
        sent => sent.is_ok(),
    }
}
