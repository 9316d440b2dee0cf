//! A delivery in a lane's line, as whoever looks at it sees it.

use std::sync::Arc;

use jiff::Timestamp;

use super::block::Block;
use super::{Delivery, DeliveryId, Pending};

/// See the module's first line.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Queued<'a> {
    /// One whose body is in memory.
    Whole(&'a Pending),
    /// A row of a block.
    InBlock(&'a Block, usize),
}

impl Queued<'_> {
    /// The delivery.
    pub(crate) fn delivery(self) -> Arc<Delivery> {
        match self {
            Self::Whole(pending) => pending.delivery.clone(),
            Self::InBlock(block, at) => Arc::new(block.delivery(at).whole()),
        }
    }

    /// The delivery's id.
    pub(crate) fn id(self) -> DeliveryId {
        match self {
            Self::Whole(pending) => pending.delivery.id,
            Self::InBlock(block, at) => block.row(at).id,
        }
    }

    /// When its event was accepted.
    pub(crate) fn accepted_at(self) -> Timestamp {
        match self {
            Self::Whole(pending) => pending.delivery.accepted_at,
            Self::InBlock(block, at) => block.row(at).accepted_at(),
        }
    }

    /// Number of attempts that ended without success.
    pub(crate) fn attempts_made(self) -> u32 {
        match self {
            Self::Whole(pending) => pending.attempts_made,
            Self::InBlock(block, at) => block.row(at).attempts_made,
        }
    }
}
