//! `spec-notify secret new`: generates a signing secret.

use clap::{Args, Subcommand};
use serde_json::json;

use super::render::Screen;
use super::{Exit, Failure};
use crate::secret::Secret;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  export SPECKIT_WEBHOOK_SECRET=\"$(spec-notify secret new)\"")]
pub(super) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Print a new secret of 32 random bytes, in the form of Standard Webhooks
    New,
}

pub(super) fn run(options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let What::New = options.what;
    let secret = Secret::generate().map_err(Failure::failed)?;
    match screen.is_json() {
        true => screen.value(&json!({"secret": secret.as_str()})),
        // It is for another program, and no less so for one that wants no words.
        false => screen.raw(format!("{}\n", secret.as_str()).as_bytes()),
    }
    Ok(Exit::Done)
}
