//! A person's pause: what waits is held back until it ends, over restarts.

use std::time::Instant;

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
    /// The pause that was asked for last.
    wanted: Option<Pause>,
    /// The pause that the disk confirmed last.
    kept: Option<Pause>,
    /// Number of changes that the disk has not answered yet.
    unanswered: usize,
    /// Of a fleet's: when the cluster had the pause in force.
    pub(super) as_of: Option<Instant>,
}

impl Hold {
    pub(super) fn new(pause: Option<Pause>) -> Self {
        Self { wanted: pause.clone(), kept: pause.clone(), pause, unanswered: 0, as_of: None }
    }
}

impl Subscription {
    pub(super) fn hold(&mut self, pause: Option<Pause>, context: &mut Context<Self>) {
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
        // One that is paused already stays paused since then.
        let pause = pause.map(|new| self.hold.wanted.clone().unwrap_or(new));
        let changed = self.hold.wanted.is_some() != pause.is_some();
        if !changed && self.hold.unanswered == 0 {
            return Box::pin(actix::fut::ready(Ok(self.pause_report(false))));
        }
        self.hold.wanted.clone_from(&pause);
        self.hold.unanswered += 1;
        if pause.is_some() {
            self.hold(pause.clone(), context);
        }
        // `send` takes the message at once, so the disk has changes in the order of the requests.
        let kept = self.ledger.send(KeepPause { subscription: self.id.clone(), pause: pause.clone() });
        Box::pin(kept.into_actor(self).map(move |kept, subscription, context| {
            let kept = kept.unwrap_or_else(|_| Err("the ledger has stopped".to_owned()));
            if kept.is_ok() {
                subscription.hold.kept = pause;
            }
            subscription.hold.unanswered -= 1;
            // While another change is under way, what is held stays held.
            if subscription.hold.unanswered == 0 {
                let kept = subscription.hold.kept.clone();
                subscription.hold.wanted.clone_from(&kept);
                subscription.hold(kept, context);
            }
            let what = |error| RequestError::Files(format!("nothing was changed: {error}"));
            kept.map(|()| subscription.pause_report(changed)).map_err(what)
        }))
    }
}
