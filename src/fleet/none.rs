//! What stands for the fleet in a program that was not built for it: nothing that could exist.

use std::io;
use std::sync::mpsc;
use std::time::Duration;

use crate::answer::{EmitError, Receipt};
use crate::config::FleetConfig;
use crate::env::Environment;
use crate::event::Event;

/// See the module's first line.
#[derive(Clone, Debug)]
pub(crate) enum Link {}

impl Link {
    /// # Errors
    /// Always; a checked config has no fleet here.
    pub(crate) fn new(_: FleetConfig, _: Environment) -> io::Result<Self> {
        Err(io::Error::other("this program was not built for a fleet: build with --features fleet"))
    }

    #[allow(clippy::unused_async, reason = "as that of the fleet")]
    pub(crate) async fn accept(&self, _: &Event, _: Duration) -> Result<Receipt, EmitError> {
        match *self {}
    }

    pub(crate) fn begin_to_accept(
        &self,
        _: &Event,
        _: Duration,
    ) -> mpsc::Receiver<Result<Receipt, EmitError>> {
        match *self {}
    }
}
