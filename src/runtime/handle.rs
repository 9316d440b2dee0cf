//! Sends events to a runtime, from any thread or executor.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::block::{block_on, on_a_thread};
use super::{Current, Mode};
use crate::answer::{EmitError, Receipt};
use crate::event::Event;
use crate::feed::{Feed, RuntimeState};
use crate::sources::checkout::Checkout;
use crate::spool::put_in_inbox;

/// How long [`Handle::emit`] waits for the spool before the event goes to the inbox.
const EMIT_WITHIN: Duration = Duration::from_secs(2);

/// Sends events and requests to a runtime, from any thread or executor. Cheap to clone.
///
/// Each call that waits has two forms: `x` is for any executor, and `x_blocking` is for plain
/// threads and has a deadline. Where webhooks are off, a handle works all the same and says so.
#[derive(Clone, Debug)]
pub struct Handle(Arc<To>);

/// What a handle leads to.
#[derive(Debug)]
struct To {
    mode: watch::Receiver<Mode>,
    current: Arc<Current>,
}

impl Handle {
    pub(super) fn new(mode: watch::Receiver<Mode>, current: Arc<Current>) -> Self {
        Self(Arc::new(To { mode, current }))
    }

    /// Whether webhooks are switched on.
    pub fn is_on(&self) -> bool {
        self.state() != RuntimeState::Off
    }

    /// Accepts an event: when this returns `Accepted` or `Queued`, it is synced to disk. Waits for
    /// one write, never for the network, and at most about two seconds for the spool (as long
    /// again where a thousand others wait): then the event goes to the inbox. Works on any
    /// executor.
    ///
    /// The inbox is written on a thread of this process: on a disk that stands still for good that
    /// thread stays.
    ///
    /// # Errors
    /// [`EmitError`]: nothing of the event was kept. One above [`MAX_EVENT_BYTES`] or
    /// [`MAX_EVENT_DEPTH`] is refused before anything is done with it.
    ///
    /// [`MAX_EVENT_BYTES`]: crate::MAX_EVENT_BYTES
    /// [`MAX_EVENT_DEPTH`]: crate::MAX_EVENT_DEPTH
    ///
    /// ```no_run
    /// # async fn stage_ended(handle: &spec_notify::Handle, event: spec_notify::Event) {
    /// match handle.emit(event).await {
    ///     Ok(receipt) => println!("{receipt:?}"),
    ///     Err(error) if error.is_temporary() => eprintln!("emit it again: {error}"),
    ///     Err(error) => eprintln!("correct the event: {error}"),
    /// }
    /// # }
    /// ```
    pub async fn emit(&self, event: Event) -> Result<Receipt, EmitError> {
        if !self.is_on() {
            return Ok(Receipt::Off);
        }
        event.check_limits().map_err(EmitError::Invalid)?;
        match self.0.emit(Box::new(event.clone()), EMIT_WITHIN).await {
            Err(EmitError::Unavailable(reason)) => {
                // Writing blocks, which the caller's executor must not.
                let (to, why) = (self.0.clone(), reason.clone());
                let queued = on_a_thread(move || to.queue(event, why)).await;
                queued.unwrap_or_else(|error| {
                    Err(EmitError::Unavailable(format!("{reason}; no thread for the inbox: {error}")))
                })
            }
            result => result,
        }
    }

    /// As [`emit`](Self::emit), for plain threads; waits at most `deadline`, the disk's own
    /// slowness in writing an inbox file aside. Not from within an actor.
    ///
    /// # Errors
    /// As `emit`.
    ///
    /// ```no_run
    /// # use spec_notify::{EmitError, Event, Handle};
    /// # fn stage_ended(handle: &Handle, event: Event) -> Result<(), EmitError> {
    /// let receipt = handle.emit_blocking(event, std::time::Duration::from_secs(2))?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn emit_blocking(&self, event: Event, deadline: Duration) -> Result<Receipt, EmitError> {
        if !self.is_on() {
            return Ok(Receipt::Off);
        }
        event.check_limits().map_err(EmitError::Invalid)?;
        let within = super::bounded(deadline).mul_f64(0.75);
        let emitted = block_on(self.0.emit(Box::new(event.clone()), within), within).unwrap_or_else(|| {
            Err(EmitError::Unavailable(format!("no answer within {} ms", within.as_millis())))
        });
        match emitted {
            Err(EmitError::Unavailable(reason)) => self.0.queue(event, reason),
            result => result,
        }
    }

    /// Waits until nothing of ours is under way and nothing is due; what waits for a later retry
    /// does not count. On standby, and where webhooks are off, there is nothing to wait for.
    pub async fn idle(&self) {
        if let Mode::Owner(door) = self.mode() {
            door.idle().await;
        }
    }

    /// What the runtime does now.
    pub fn state(&self) -> RuntimeState {
        self.0.mode.borrow().state()
    }

    /// Waits until the runtime has given up after too many panics, and says so. One that is off,
    /// or that is stopped, never does.
    pub async fn failed(&self) -> String {
        let mut mode = self.0.mode.clone();
        if let Ok(mode) = mode.wait_for(|mode| matches!(mode, Mode::Failed(_))).await
            && let Mode::Failed(reason) = &*mode
        {
            return reason.to_string();
        }
        std::future::pending().await
    }

    /// Runs one of the calls above on a plain thread, for at most `deadline`; `None` after it.
    pub fn block<T>(&self, deadline: Duration, call: impl Future<Output = T>) -> Option<T> {
        block_on(call, deadline)
    }

    #[cfg(test)]
    pub(super) fn modes(&self) -> watch::Receiver<Mode> {
        self.0.mode.clone()
    }

    pub(super) fn mode(&self) -> Mode {
        self.0.mode.borrow().clone()
    }

    pub(super) fn feed(&self) -> &Feed {
        &self.0.current.feed
    }

    pub(super) fn current(&self) -> Arc<Current> {
        self.0.current.clone()
    }
}

impl To {
    async fn emit(&self, event: Box<Event>, within: Duration) -> Result<Receipt, EmitError> {
        let mode = self.mode.borrow().clone();
        match mode {
            Mode::Off => Ok(Receipt::Off),
            Mode::Owner(door) => door.emit(event, None, within).await,
            Mode::Standby(link) => link.emit(event, within).await,
            Mode::Starting => Err(EmitError::Unavailable("the runtime is starting again".to_owned())),
            Mode::Stopped => Err(EmitError::Unavailable("the runtime has stopped".to_owned())),
            Mode::Failed(reason) => Err(EmitError::Unavailable(reason.to_string())),
        }
    }

    /// Puts an event that the runtime could not take into the inbox. If the runtime took it after
    /// all, its key shows that it is a duplicate.
    fn queue(&self, mut event: Event, reason: String) -> Result<Receipt, EmitError> {
        let config = self.current.config();
        Checkout::new(&config.repo, self.current.environment.clone()).add_to(&mut event);
        match put_in_inbox(&config.spool_dir, &[event]) {
            Ok(()) => {
                log::debug!("queued in the inbox: {reason}");
                Ok(Receipt::Queued)
            }
            Err(source) => Err(EmitError::NotQueued { reason, source }),
        }
    }
}
