//! The Ledger of a fleet: what became of events and deliveries goes to the cluster, one batch after
//! the other. It never blocks: what comes meanwhile is the next batch.

use std::sync::Arc;

use actix::prelude::*;
use tokio::sync::{Notify, oneshot};

use super::payloads::Payloads;
use super::{Ledger, MAX_BATCH, NotWritten, Reply, answer, count};
use crate::actors::mailbox::after_mailbox;
use crate::feed::Ended;
use crate::fleet::{Link, Routed, Term, Write};

/// See the module's first line.
pub(super) struct Shared {
    pub(super) link: Link,
    batch: Vec<(Write, Reply)>,
    pub(super) payloads: Payloads,
    is_scheduled: bool,
    /// Events of this term and those before it are not written any more: one before them was not.
    failed: Option<Term>,
    /// Told when deliveries were added.
    routed: Arc<Notify>,
    idle: Vec<oneshot::Sender<()>>,
}

/// From the take-in of a fleet: this event goes to nobody. Answered and bounded as
/// [`Accept`](super::Accept).
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Pass {
    pub(crate) seq: i64,
    pub(crate) term: Term,
    /// Why it can never be routed; `None` for one that was routed before.
    pub(crate) refused: Option<String>,
    pub(crate) reply: Reply,
}

/// From the runtime, at the end: answered when nothing waits to be written to the cluster. Once.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Written(pub(crate) oneshot::Sender<()>);

impl Shared {
    pub(super) fn new(link: Link, routed: Arc<Notify>) -> Self {
        Self {
            link,
            batch: Vec::new(),
            payloads: Payloads::default(),
            is_scheduled: false,
            failed: None,
            routed,
            idle: Vec::new(),
        }
    }

    /// The term of an event; `None` of what became of a delivery.
    fn term(write: &Write) -> Option<Term> {
        match write {
            Write::Route { routed: Routed { term, .. }, .. } | Write::Pass { term, .. } => Some(*term),
            Write::Attempt { .. } | Write::GiveUp { .. } | Write::Health { .. } => None,
        }
    }

    /// Writes no event of this term: the order of its SPEC, and its run, would not be those of the
    /// cluster.
    fn fail(&mut self, term: Term) {
        self.failed = self.failed.max(Some(term));
        let failed = self.failed;
        let is_left = |write: &Write| Self::term(write).is_none_or(|term| Some(term) > failed);
        let (left, out): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.batch).into_iter().partition(|(write, _)| is_left(write));
        self.batch = left;
        out.into_iter().for_each(|(_, reply)| answer(reply, Err(behind())));
    }
}

fn behind() -> NotWritten {
    NotWritten::Failed("an event before it is not in the cluster yet".to_owned())
}

/// Whoever waited may have given up.
fn tell_idle(idle: oneshot::Sender<()>) {
    if idle.send(()).is_err() {
        log::debug!("nobody waits any more for the cluster");
    }
}

impl Ledger {
    /// Adds to the next batch.
    pub(super) fn share(&mut self, write: Write, reply: Reply, context: &mut Context<Self>) {
        let Some(shared) = &mut self.shared else { return answer(reply, Err(NotWritten::Stopped)) };
        if Shared::term(&write).is_some_and(|term| Some(term) <= shared.failed) {
            return answer(reply, Err(behind()));
        }
        shared.batch.push((write, reply));
        if !shared.is_scheduled {
            shared.is_scheduled = true;
            after_mailbox(context, Self::write_shared);
        }
    }

    fn write_shared(&mut self, context: &mut Context<Self>) {
        let Some(shared) = &mut self.shared else { return };
        if shared.batch.is_empty() {
            shared.is_scheduled = false;
            for idle in shared.idle.drain(..) {
                tell_idle(idle);
            }
            return;
        }
        let rest = shared.batch.split_off(shared.batch.len().min(MAX_BATCH));
        let (writes, replies): (Vec<_>, Vec<_>) =
            std::mem::replace(&mut shared.batch, rest).into_iter().unzip();
        let (link, writes) = (shared.link.clone(), Arc::new(writes));
        let of = writes.clone();
        let writing = async move { link.write(of).await }.into_actor(self);
        context.spawn(writing.map(move |written, ledger, context| {
            let Some(shared) = &mut ledger.shared else { return };
            let terms: Vec<Option<Term>> = writes.iter().map(Shared::term).collect();
            match written {
                Ok(counted) => {
                    for (write, _) in writes.iter().zip(&counted).filter(|(_, counts)| **counts) {
                        if let Write::Route { record, .. } = write {
                            count(&mut ledger.counts, &mut ledger.totals, record);
                        }
                    }
                    if ledger.feed.is_watched() {
                        let written = writes.iter().zip(&counted).filter(|(_, counts)| **counts);
                        ledger.feed.tell(written.filter_map(|(write, _)| match write {
                            Write::Attempt { finished, .. } => Ended::by(finished),
                            Write::GiveUp { delivery, reason, attempts, .. } => {
                                Some(Ended::given_up(delivery, reason, *attempts))
                            }
                            Write::Route { .. } | Write::Pass { .. } | Write::Health { .. } => None,
                        }));
                        ledger.feed.touch();
                    }
                    for ((reply, counts), term) in replies.into_iter().zip(counted).zip(terms) {
                        if let Some(term) = term.filter(|_| !counts) {
                            shared.fail(term);
                        }
                        let other = || NotWritten::Failed("another member routes by now".to_owned());
                        answer(reply, if counts { Ok(()) } else { Err(other()) });
                    }
                    if writes.iter().any(|write| matches!(write, Write::Route { .. })) {
                        shared.routed.notify_one();
                    }
                }
                Err(error) => {
                    log::warn!("{error}; nothing of this batch is acknowledged");
                    terms.into_iter().flatten().for_each(|term| shared.fail(term));
                    for reply in replies {
                        answer(reply, Err(NotWritten::Failed(error.to_string())));
                    }
                }
            }
            ledger.write_shared(context);
        }));
    }
}

impl Handler<Pass> for Ledger {
    type Result = ();

    fn handle(&mut self, Pass { seq, term, refused, reply }: Pass, context: &mut Self::Context) {
        self.share(Write::Pass { seq, term, refused }, reply, context);
    }
}

impl Handler<Written> for Ledger {
    type Result = ();

    fn handle(&mut self, Written(idle): Written, _: &mut Self::Context) {
        match &mut self.shared {
            Some(shared) if shared.is_scheduled => shared.idle.push(idle),
            _ => tell_idle(idle),
        }
    }
}
