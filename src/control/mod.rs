//! The control port: how other processes of this machine reach a running `serve`.

mod client;
mod handshake;
mod protocol;
mod server;

pub(crate) use client::{CHANGE_OF_OWNER, LOOK_AGAIN};
pub use client::{Client, ClientError};
pub use handshake::{Hello, Proof, Token, VERSION, Welcome};
pub use protocol::{Reply, RuntimeFile, runtime_file};
pub(crate) use server::Server;
