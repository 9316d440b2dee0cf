//! Tells the runtime that this run is over: an actor panicked, which actix takes for the end of a
//! task and nobody would notice, or the spool is not what it was taken for.

use tokio::sync::mpsc;

/// Why a run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ring {
    /// A part of it panicked.
    Panicked,
    /// Another process owns the spool now.
    Deposed,
    /// There is more in the spool than this run has taken in.
    Outdated,
}

/// Held by every actor and every task that must not end half done; goes off when it is dropped by
/// a panic.
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
        // Where it rings already, once is enough.
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
