//! What the runtime asks of the Ledger while it runs: other bounds, a look at the files, the end.

use std::time::Duration;

use actix::prelude::*;

use super::Ledger;
use crate::actors::alarm::Ring;
use crate::delivery::DeliveryId;
use crate::spool::Standing;
use crate::store::StoreOptions;

/// The shortest run that may end because a restart would take in more: without it, a file that
/// stays damaged would cause one restart after another.
const OUTDATED_AFTER: Duration = Duration::from_secs(10);

/// From the runtime, at a reload: the store's new bounds. One at a time, as reloads are.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct ConfigureStore(pub(crate) StoreOptions);

/// From the runtime, twice a second: check that all files are still there. Answered with the
/// deliveries whose payload was removed. One at a time.
#[derive(Message)]
#[rtype(result = "Vec<DeliveryId>")]
pub(crate) struct Look;

/// From the runtime, at its start and its end: the new content of `runtime.json`, or its removal.
/// Answered when it is written. Two a run.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Announce(pub(crate) Option<Vec<u8>>);

/// From the runtime, once, at the end. Answered when everything is written and synced; the error
/// says what is not.
#[derive(Message)]
#[rtype(result = "Result<(), String>")]
pub(crate) struct Close;

impl Ledger {
    /// Ends this run if another process owns the spool, or if a restart would take in more.
    pub(super) fn ring_if_not_owner(&self) {
        match self.store.standing() {
            Standing::Owner => {}
            Standing::Deposed => self.alarm.ring(Ring::Deposed),
            Standing::Outdated if self.started.elapsed() < OUTDATED_AFTER => {}
            Standing::Outdated => self.alarm.ring(Ring::Outdated),
        }
    }
}

impl Handler<ConfigureStore> for Ledger {
    type Result = ();

    fn handle(&mut self, ConfigureStore(options): ConfigureStore, _: &mut Self::Context) {
        self.store.configure(&options);
        self.feed.touch();
    }
}

impl Handler<Look> for Ledger {
    type Result = MessageResult<Look>;

    fn handle(&mut self, _: Look, _: &mut Self::Context) -> Self::Result {
        self.store.look();
        self.ring_if_not_owner();
        MessageResult(self.store.lost())
    }
}

impl Handler<Announce> for Ledger {
    type Result = ();

    fn handle(&mut self, Announce(content): Announce, _: &mut Self::Context) {
        self.store.announce(content);
    }
}

impl Handler<Close> for Ledger {
    type Result = Result<(), String>;

    fn handle(&mut self, _: Close, context: &mut Self::Context) -> Self::Result {
        self.flush();
        let closed = self.store.close();
        self.store.keep_healths(closed.is_ok());
        context.stop();
        closed
    }
}
