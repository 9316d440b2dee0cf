//! The least that a process can do to have an event accepted: the reference of `spec-notify emit`.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use spec_notify::internals::Client;
use spec_notify::internals::{EmitEvent, EmitOutcome};

/// The argument that makes this program the client; the spool and a file with the event's JSON
/// follow.
pub(super) const ARGUMENT: &str = "ask-for-the-bench";

/// Hands the event over as it stands in the file, and prints the answer.
pub(super) fn ask(spool: &str, event: &str) -> io::Result<()> {
    let within = Duration::from_secs(10);
    let event = serde_json::from_str(&fs::read_to_string(event)?)?;
    let mut client = Client::connect(Path::new(spool), within).map_err(io::Error::other)?;
    let emitted = client.request(&EmitEvent { event }, within).map_err(io::Error::other)?;
    println!("{}", serde_json::to_string(&emitted)?);
    if emitted.outcome == EmitOutcome::Accepted { Ok(()) } else { Err(io::Error::other("not accepted")) }
}
