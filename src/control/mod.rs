//! The control port: how other processes of this machine reach a running `serve`.

mod client;
mod protocol;
mod server;

pub use client::{Client, ClientError};
pub use protocol::{
    Emitted, EmittedDelivery, EmittedEvent, Hello, Outcome, Reply, Request, RuntimeFile, SentReport,
    SentRequest, VERSION, runtime_file,
};
pub(crate) use server::Server;
