//! The control port: how other processes of this machine reach a running `serve`.

mod client;
#[cfg(fuzzing)]
#[path = "../../fuzz/targets/control.rs"]
pub(crate) mod fuzzing;
mod handshake;
mod protocol;
mod server;

pub(crate) use client::{CHANGE_OF_OWNER, LOOK_AGAIN};
pub use client::{Client, ClientError};
pub use protocol::RuntimeFile;
pub(crate) use server::Server;
