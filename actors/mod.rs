//! The three actors: Router, Subscription and Ledger, and the door to them. With `runtime`, the
//! only code that names actix.

mod acceptance;
mod admission;
mod alarm;
mod attempt;
mod door;
mod emitter;
mod inbox;
mod ledger;
mod mailbox;
mod member;
mod notices;
#[cfg(test)]
mod panics;
mod permits;
mod presence;
mod reading;
mod router;
mod subscription;
mod tell;

pub(crate) use alarm::{Alarm, AlarmBell, Ring};
pub(crate) use attempt::Settings;
pub(crate) use door::{Door, ReloadReply};
pub(crate) use inbox::take_inbox_in;
pub(crate) use ledger::{Announce, Close as CloseLedger, ConfigureStore, Ledger, Remember, Written};
pub(crate) use member::Member;
#[cfg(test)]
pub(crate) use panics::{Panic, StandStill};
pub(crate) use permits::Permits;
pub(crate) use presence::{look_after_files, look_once};
pub(crate) use router::{Close, Reconfigure, Router};
