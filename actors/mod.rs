//! The three actors: Router, Subscription and Ledger. With `runtime`, the only code that names actix.

mod attempt;
mod ledger;
mod router;
mod subscription;

pub use attempt::Attempt;
pub(crate) use ledger::{Close as CloseLedger, Ledger};
pub(crate) use router::{Close, Emit, Replay, Router, Sample, Target, WaitIdle};
pub use router::{EmitError, Receipt};
pub(crate) use subscription::{Lanes, Sender, Subscription};
pub use subscription::{SendError, Sent};
