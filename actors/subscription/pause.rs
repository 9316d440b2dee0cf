//! A person's pause: what waits is held back until it ends, over restarts.

use actix::prelude::*;

use super::Subscription;
use crate::actors::ledger::KeepPause;
use crate::answer::RequestError;
use crate::ask::PauseReport;
use crate::delivery::Pause;

/// From the door, for an operator: hold deliveries back, or let them go on. Bounded by the
/// admission permits.
#[derive(Message)]
#[rtype(result = "Result<PauseReport, RequestError>")]
pub(crate) struct SetPause(pub(crate) Option<Pause>);

/// Whether deliveries are held back.
#[derive(Default)]
pub(super) struct Hold {
    /// The pause in force.
    pub(super) pause: Option<Pause>,
    /// The pause that was asked for last; it differs while the disk has not confirmed it.
    wanted: Option<Pause>,
    /// Number of changes asked for: only the last one decides.
    changes: u64,
}

impl Hold {
    pub(super) fn new(pause: Option<Pause>) -> Self {
        Self { wanted: pause.clone(), pause, changes: 0 }
    }
}

impl Subscription {
    fn hold(&mut self, pause: Option<Pause>, context: &mut Context<Self>) {
        self.lane.set_held(pause.is_some());
        self.is_held.set(pause.is_some());
        self.hold.pause = pause;
        self.pump(context);
    }

    fn pause_report(&self, changed: bool) -> PauseReport {
        PauseReport {
            subscription: self.id.clone(),
            paused: self.hold.pause.clone(),
            changed,
            pending: self.lane.waiting() + self.gone.len() + self.under_way.len(),
        }
    }
}

impl Handler<SetPause> for Subscription {
    type Result = ResponseActFuture<Self, Result<PauseReport, RequestError>>;

    /// A pause holds before it is written, an end counts after it is written: in between, and
    /// after a failure, nothing goes out that should not.
    fn handle(&mut self, SetPause(pause): SetPause, context: &mut Self::Context) -> Self::Result {
        let before = self.hold.pause.clone();
        let is_same = self.hold.wanted.is_some() == pause.is_some();
        if is_same && self.hold.wanted == before {
            return Box::pin(actix::fut::ready(Ok(self.pause_report(false))));
        }
        self.hold.changes += 1;
        self.hold.wanted.clone_from(&pause);
        let change = self.hold.changes;
        if pause.is_some() {
            self.hold(pause.clone(), context);
        }
        // `send` takes the message at once, so the disk has changes in the order of the requests.
        let kept = self.ledger.send(KeepPause { subscription: self.id.clone(), pause: pause.clone() });
        Box::pin(kept.into_actor(self).map(move |kept, subscription, context| {
            let kept = kept.unwrap_or_else(|_| Err("the ledger has stopped".to_owned()));
            let is_last = subscription.hold.changes == change;
            match kept {
                Ok(()) if is_last => subscription.hold(pause, context),
                Err(_) if is_last => {
                    subscription.hold.wanted.clone_from(&before);
                    subscription.hold(before, context);
                }
                _ => {}
            }
            let what = |error| RequestError::Refused(format!("nothing was changed: {error}"));
            kept.map(|()| subscription.pause_report(true)).map_err(what)
        }))
    }
}
