//! Signed, retried, evidenced webhooks for Spec-Kit pipelines, from inside the repo.
//!
//! A [`Runtime`] runs three actors on a thread of its own: a Router takes events in and fans out
//! to one Subscription for each config entry, and these hand finished attempts to the Ledger, the
//! only writer of files. A host embeds it through [`Runtime::start`] and emits through a
//! [`Handle`]; the `spec-notify` program does the same. `docs/ARCHITECTURE.md` has the map.
#![forbid(unsafe_code)]

#[path = "../actors/mod.rs"]
mod actors;
mod answer;
pub mod archive;
pub mod ask;
#[cfg(feature = "cli")]
pub mod cli;
mod clock;
pub mod config;
pub mod control;
mod decode;
pub mod delivery;
mod digest;
pub mod env;
pub mod event;
mod files;
pub mod filter;
pub mod http;
pub mod inspect;
pub mod intake;
mod names;
pub mod payload;
pub mod run;
pub mod runtime;
pub mod secret;
pub mod sign;
pub mod spool;
pub mod store;
mod watch;

pub use answer::{EmitError, Receipt, RequestError};
pub use config::Config;
pub use env::Environment;
pub use event::Event;
pub use runtime::{Handle, Runtime, StartError};
