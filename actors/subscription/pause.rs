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

impl Subscription {
    /// Has what is in force hold, or let go.
    pub(super) fn hold(&mut self) {
        self.lane.set_held(self.hold.holds());
        self.is_held.set(self.hold.holds());
    }

    fn pause_report(&self, changed: bool) -> PauseReport {
        PauseReport {
            subscription: self.id.clone(),
            paused: self.hold.pause().cloned(),
            changed,
            pending: self.lane.waiting() + self.gone.len() + self.under_way.len(),
        }
    }
}

impl Handler<SetPause> for Subscription {
    type Result = ResponseActFuture<Self, Result<PauseReport, RequestError>>;

    fn handle(&mut self, SetPause(pause): SetPause, _: &mut Self::Context) -> Self::Result {
        let Some(change) = self.hold.ask(pause) else {
            return Box::pin(actix::fut::ready(Ok(self.pause_report(false))));
        };
        self.hold();
        // `send` takes the message at once, so the disk has changes in the order of the requests.
        let kept = KeepPause { subscription: self.id.clone(), pause: change.pause.clone() };
        let kept = self.ledger.send(kept);
        Box::pin(kept.into_actor(self).map(move |kept, subscription, context| {
            let kept = kept.unwrap_or_else(|_| Err("the ledger has stopped".to_owned()));
            let is_news = change.is_news;
            subscription.hold.answered(change, kept.is_ok());
            subscription.hold();
            subscription.pump(context);
            let what = |error| RequestError::Files(format!("nothing was changed: {error}"));
            kept.map(|()| subscription.pause_report(is_news)).map_err(what)
        }))
    }
}
