//! Gives a message to an actor and does not wait for it to be handled: an answer from another
//! thread would wake this one for nothing.

use actix::dev::ToEnvelope;
use actix::prelude::*;

/// Whether the actor is there to take it. Bounds nothing: what a message carries must.
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
