//! Work that is put off until what waits in an actor's mailbox is handled, so that one run of it
//! serves all of that.

use actix::prelude::*;

/// Does `work` once after the messages that wait by now: actix drains the mailbox before it polls
/// an actor's own futures. A test of the Ledger's batches pins that order.
pub(super) fn after_mailbox<A: Actor<Context = Context<A>>>(
    context: &mut Context<A>,
    work: impl FnOnce(&mut A, &mut Context<A>) + 'static,
) {
    context.spawn(actix::fut::ready(()).map(|(), actor, context| work(actor, context)));
}

/// As [`after_mailbox`], and after all that other actors of this thread can do by now.
pub(super) fn after_others<A: Actor<Context = Context<A>>>(
    context: &mut Context<A>,
    work: impl FnOnce(&mut A, &mut Context<A>) + 'static,
) {
    let others = actix::fut::wrap_future::<_, A>(tokio::task::yield_now());
    context.spawn(others.map(|(), actor, context| work(actor, context)));
}
