//! Tells the runtime that this run is over: an actor panicked, or the spool has another owner or
//! more in it. actix itself treats a panic as the end of one task and tells nobody.

use tokio::sync::mpsc;

/// Why a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    /// An actor or one of its tasks panicked.
    Panicked,
    /// Another process owns the spool now.
    Deposed,
    /// There is more in the spool than this run has taken in.
    Outdated,
}

/// Held by every actor and by every task that must run to its end: rings when a panic drops it.
#[derive(Clone, Debug)]
pub(crate) struct Alarm(mpsc::Sender<Ring>);

/// Where the runtime waits for an alarm.
pub(crate) struct AlarmBell(mpsc::Receiver<Ring>);

impl Alarm {
    /// An alarm that is not installed yet, and its bell.
    pub(crate) fn new() -> (Self, AlarmBell) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), AlarmBell(receiver))
    }

    /// Ends the run.
    pub(crate) fn ring(&self, why: Ring) {
        // The bell holds one ring: the first says enough.
        if self.0.try_send(why).is_err() {
            log::debug!("the run ends already: {why:?}");
        }
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.ring(Ring::Panicked);
        }
    }
}

impl AlarmBell {
    /// Resolves when the run is over; never while all is well.
    pub(crate) async fn rings(&mut self) -> Ring {
        match self.0.recv().await {
            Some(why) => why,
            None => std::future::pending().await,
        }
    }
}
