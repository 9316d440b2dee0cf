//! By what right a Subscription sends: of its own, or by a fleet's lease, which comes and goes.

use std::time::{Duration, Instant};

use actix::prelude::*;
use tokio::sync::oneshot;

use super::{MAX_HELD_UP, Subscription};
use crate::clock;
use crate::delivery::{Health, Pause};
use crate::fleet::Tenure;
use crate::spool::Unfinished;

/// How often a Subscription looks whether its lease was renewed, while it has run out.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// See the module's first line.
#[derive(Clone, Debug)]
pub(crate) enum Right {
    /// This machine's spool is the only one.
    Own,
    /// Another member of the fleet may have the lease.
    None,
    Lease {
        tenure: Tenure,
        /// Whether it is handed on: nothing starts any more, and nothing comes back.
        is_given_up: bool,
    },
}

impl Right {
    /// Whether an attempt may start now.
    pub(super) fn may_start(&self) -> bool {
        match self {
            Self::Own => true,
            Self::None | Self::Lease { is_given_up: true, .. } => false,
            Self::Lease { tenure, .. } => tenure.may_start(Instant::now(), clock::now().as_millisecond()),
        }
    }

    /// Attempts that may have ended and not be written, beyond `max_in_flight`: a kill has as many
    /// sent again. A cluster takes longer to write than a disk.
    pub(super) fn unwritten(&self) -> usize {
        match self {
            Self::Own => 4,
            Self::None | Self::Lease { .. } => MAX_HELD_UP,
        }
    }

    /// Ended attempts that are handed over to be written together.
    pub(super) fn at_a_time(&self) -> usize {
        match self {
            Self::Own => 4,
            Self::None | Self::Lease { .. } => 16,
        }
    }

    /// Whether what waits is kept here.
    pub(super) fn keeps(&self) -> bool {
        matches!(self, Self::Own | Self::Lease { is_given_up: false, .. })
    }

    /// The epoch under which what becomes of deliveries is written.
    pub(super) fn epoch(&self) -> Option<i64> {
        match self {
            Self::Own | Self::None => None,
            Self::Lease { tenure, .. } => Some(tenure.epoch),
        }
    }

    /// When to look again whether something may start, though nothing may now.
    pub(super) fn look_again(&self, now: Instant) -> Option<Instant> {
        self.keeps().then(|| now + LOOK_AGAIN)
    }
}

/// From the fleet's member, once it has the lease: what waits, how the endpoint fares. One at a
/// time, after the last [`Yield`] was answered.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Take {
    pub(crate) tenure: Tenure,
    pub(crate) unfinished: Vec<Unfinished>,
    pub(crate) health: Health,
    pub(crate) pause: Option<Pause>,
}

/// From the fleet's member: what was routed since. One at a time.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Follow(pub(crate) Vec<Unfinished>);

/// From the fleet's member, at each look, and from the door: whether a person has paused it, from
/// any machine. Bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct HoldAs {
    pub(crate) pause: Option<Pause>,
    /// When the cluster was asked, or had it: what is known since then is newer.
    pub(crate) at: Instant,
}

/// From the fleet's member: the lease is handed on, or was lost. Answered when nothing is under way
/// any more. One at a time.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Yield(pub(crate) oneshot::Sender<()>);

impl Handler<Take> for Subscription {
    type Result = ();

    fn handle(&mut self, message: Take, context: &mut Self::Context) {
        let Take { tenure, unfinished, health, pause } = message;
        self.right = Right::Lease { tenure, is_given_up: false };
        self.hold.is_known_to_be(pause);
        self.hold_as_of = None;
        self.hold();
        self.recover(health);
        self.lane.rest(Instant::now());
        // Whatever is left of an earlier lease is among what is read now.
        self.lane.clear();
        self.restore(unfinished);
        self.pump(context);
    }
}

impl Handler<Follow> for Subscription {
    type Result = ();

    fn handle(&mut self, Follow(unfinished): Follow, context: &mut Self::Context) {
        if self.right.keeps() {
            self.restore(unfinished);
            self.pump(context);
        }
    }
}

impl Handler<HoldAs> for Subscription {
    type Result = ();

    fn handle(&mut self, HoldAs { pause, at }: HoldAs, context: &mut Self::Context) {
        if !self.right.keeps() || self.hold_as_of.is_some_and(|as_of| at < as_of) {
            return;
        }
        if self.hold.pause() != pause.as_ref() {
            self.hold.is_known_to_be(pause);
            self.hold();
            self.pump(context);
        }
        self.hold_as_of = Some(at);
    }
}

impl Handler<Yield> for Subscription {
    type Result = ();

    fn handle(&mut self, Yield(reply): Yield, context: &mut Self::Context) {
        if let Right::Lease { is_given_up, .. } = &mut self.right {
            *is_given_up = true;
        }
        self.lane.clear();
        self.gone.clear();
        self.unread.clear();
        self.settling.push(reply);
        self.pump(context);
    }
}
