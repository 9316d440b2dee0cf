//! The control port: how other processes of this machine reach a running `serve`.

mod client;
mod handshake;
mod protocol;
mod server;
mod status;

pub(crate) use client::{CHANGE_OF_OWNER, LOOK_AGAIN};
pub use client::{Client, ClientError};
pub use handshake::{Hello, Proof, Token, VERSION, Welcome};
pub use protocol::{
    COMMANDS, Emitted, EmittedDelivery, EmittedEvent, Outcome, Reply, Request, RuntimeFile, SentOutcome,
    SentReport, SentRequest, runtime_file,
};
pub(crate) use server::Server;
pub use status::{RuntimeStatus, SourcesStatus, StatusReport, SubscriptionStatus, Unfinished};
#[cfg(feature = "cli")]
pub(crate) use status::{ago, counted, short};
