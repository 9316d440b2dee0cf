//! Sends a message without waiting until it is handled: an answer from another thread would wake
//! this one for nothing.

use actix::dev::ToEnvelope;
use actix::prelude::*;
use futures_util::future::{Either, FutureExt as _, ready};

/// True if the actor is alive. Ignores the mailbox's capacity: each message's own bound counts.
///
/// Sends at once: a task that waits for this need not hold the message.
pub(super) fn tell<A, M>(to: &Addr<A>, message: M) -> impl Future<Output = bool> + use<A, M>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message<Result = ()> + Send + 'static,
{
    match to.try_send(message) {
        Ok(()) => Either::Left(ready(true)),
        Err(SendError::Closed(_)) => Either::Left(ready(false)),
        Err(SendError::Full(message)) => {
            Either::Right(Box::pin(to.send(message).map(|handled| handled.is_ok())))
        }
    }
}
