//! Ctrl-C and SIGTERM for commands that end in order: the first one is noted, a second one ends the
//! process at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_shutdown;
use signal_hook::iterator::Signals;

use super::Exit;

/// Signals that come this close together are one: some programs signal a process and its group.
const SAME_SIGNAL: Duration = Duration::from_millis(100);

/// How often a pause looks for a signal.
const LOOK: Duration = Duration::from_millis(50);

/// Whether the command was asked to end.
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Notes signals from now on. Where that fails they end the process, as ever.
    pub(super) fn listen() -> Self {
        let (came, is_second) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let noted = came.clone();
        let listening = || {
            let kinds = [SIGINT, SIGTERM];
            for kind in kinds {
                register_conditional_shutdown(kind, Exit::Failed as i32, is_second.clone())?;
            }
            let mut signals = Signals::new(kinds)?;
            thread::Builder::new().name("spec-notify-signal".to_owned()).spawn(move || {
                if signals.forever().next().is_some() {
                    noted.store(true, Ordering::SeqCst);
                    thread::sleep(SAME_SIGNAL);
                    is_second.store(true, Ordering::SeqCst);
                }
            })
        };
        if let Err(error) = listening() {
            log::debug!("signals end this command at once: {error}");
        }
        Self(came)
    }

    /// Whether one came.
    pub(super) fn came(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Waits, but not once a signal came. Returns whether one did.
    pub(super) fn pause(&self, length: Duration) -> bool {
        let until = Instant::now() + length;
        while !self.came() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            thread::park_timeout(left.min(LOOK));
        }
        true
    }
}
