//! Tells the runtime that an actor panicked: actix only ends the actor's task, and nobody would notice.

use tokio::sync::mpsc;

/// Held by every actor and every task that must not end half done; goes off when it is dropped by a panic.
#[derive(Clone, Debug)]
pub(crate) struct Alarm(mpsc::Sender<()>);

/// Where the runtime waits for an alarm.
pub(crate) struct AlarmBell(mpsc::Receiver<()>);

impl Alarm {
    /// An alarm that is not installed yet, and its bell.
    pub(crate) fn new() -> (Self, AlarmBell) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), AlarmBell(receiver))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // Where it rings already, once is enough.
        if std::thread::panicking() && self.0.try_send(()).is_err() {
            log::debug!("another panic while the runtime restarts");
        }
    }
}

impl AlarmBell {
    /// Resolves when an actor has panicked; never while all are well.
    pub(crate) async fn rings(&mut self) {
        if self.0.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }
}
