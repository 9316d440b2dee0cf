//! For the tests: makes an actor panic, or its thread stand still.

use actix::prelude::*;

use super::ledger::Ledger;
use super::router::Router;
use super::subscription::Subscription;

/// Which actor is to panic.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) enum Panic {
    Router,
    Subscription,
    Ledger,
}

impl Handler<Panic> for Router {
    type Result = ();

    fn handle(&mut self, who: Panic, _: &mut Self::Context) {
        match who {
            Panic::Router => panic!("a test of the Router"),
            Panic::Subscription => self.first_subscriber().try_send(who).unwrap(),
            Panic::Ledger => self.ledger().try_send(who).unwrap(),
        }
    }
}

/// Blocks the intake thread, as a disk does that does not answer.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct StandStill(pub(crate) std::sync::mpsc::Receiver<()>);

impl Handler<StandStill> for Router {
    type Result = ();

    fn handle(&mut self, StandStill(until): StandStill, _: &mut Self::Context) {
        until.recv().unwrap_err();
    }
}

impl Handler<Panic> for Subscription {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("a test of a Subscription")
    }
}

impl Handler<Panic> for Ledger {
    type Result = ();

    fn handle(&mut self, _: Panic, _: &mut Self::Context) {
        panic!("a test of the Ledger")
    }
}
