//! The three actors: Router, Subscription and Ledger, and the door to them. With `runtime`, the only code that names
//! actix.

mod alarm;
mod attempt;
mod door;
mod ledger;
#[cfg(test)]
mod panics;
mod router;
mod subscription;

pub(crate) use alarm::{Alarm, AlarmBell};
pub(crate) use door::{Door, take_inbox_in};
pub(crate) use ledger::{Close as CloseLedger, Ledger};
#[cfg(test)]
pub(crate) use panics::Panic;
pub(crate) use router::{Close, Router, Target};
pub use router::{EmitError, Receipt};
pub use subscription::NotSent;
pub(crate) use subscription::{Lanes, Limits, Sender, Sent, Subscription};
