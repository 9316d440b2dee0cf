//! The calls of a handle for plain threads: each waits at most its deadline. Not from within an
//! actor, nor on a thread of an executor that has other work.

use std::time::Duration;

use super::Handle;
use super::block::block_on;
use crate::answer::RequestError;
use crate::ask::{PauseReport, SentReport};
use crate::config::Report;
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::SpecId;
use crate::inspect::{Listing, Metrics, Query, Shown, StatusReport};

/// What a call comes to within its deadline.
fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, RequestError> {
    block_on(call, deadline).unwrap_or(Err(RequestError::TimedOut(deadline)))
}

impl Handle {
    /// As [`test`](Self::test), for plain threads.
    ///
    /// # Errors
    /// As `test`; or [`RequestError::TimedOut`], and the sample may still be sent.
    pub fn test_blocking(
        &self,
        spec: SpecId,
        subscription: SubscriptionId,
        deadline: Duration,
    ) -> Result<SentReport, RequestError> {
        within(deadline, self.test(spec, subscription))
    }

    /// As [`replay`](Self::replay), for plain threads.
    ///
    /// # Errors
    /// As `replay`; or [`RequestError::TimedOut`], and it may still be sent.
    pub fn replay_blocking(
        &self,
        spec: SpecId,
        id: DeliveryId,
        deadline: Duration,
    ) -> Result<SentReport, RequestError> {
        within(deadline, self.replay(spec, id))
    }

    /// As [`pause`](Self::pause), for plain threads.
    ///
    /// # Errors
    /// As `pause`; or [`RequestError::TimedOut`], and it may still be paused.
    pub fn pause_blocking(
        &self,
        subscription: SubscriptionId,
        deadline: Duration,
    ) -> Result<PauseReport, RequestError> {
        within(deadline, self.pause(subscription))
    }

    /// As [`resume`](Self::resume), for plain threads.
    ///
    /// # Errors
    /// As `resume`; or [`RequestError::TimedOut`], and it may still be resumed.
    pub fn resume_blocking(
        &self,
        subscription: SubscriptionId,
        deadline: Duration,
    ) -> Result<PauseReport, RequestError> {
        within(deadline, self.resume(subscription))
    }

    /// As [`status`](Self::status), for plain threads.
    ///
    /// # Errors
    /// As `status`; or [`RequestError::TimedOut`].
    ///
    /// ```no_run
    /// # fn status_command(handle: &spec_notify::Handle) -> Result<(), spec_notify::RequestError> {
    /// let status = handle.status_blocking(std::time::Duration::from_secs(2))?;
    /// status.headline().iter().for_each(|line| println!("{line}"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn status_blocking(&self, deadline: Duration) -> Result<StatusReport, RequestError> {
        within(deadline, self.status())
    }

    /// As [`metrics`](Self::metrics), for plain threads.
    ///
    /// # Errors
    /// As `metrics`; or [`RequestError::TimedOut`].
    pub fn metrics_blocking(&self, deadline: Duration) -> Result<Metrics, RequestError> {
        within(deadline, self.metrics())
    }

    /// As [`list`](Self::list), for plain threads.
    ///
    /// # Errors
    /// As `list`; or [`RequestError::TimedOut`].
    pub fn list_blocking(&self, query: Query, deadline: Duration) -> Result<Listing, RequestError> {
        within(deadline, self.list(query))
    }

    /// As [`show`](Self::show), for plain threads.
    ///
    /// # Errors
    /// As `show`; or [`RequestError::TimedOut`].
    pub fn show_blocking(
        &self,
        spec: SpecId,
        id: DeliveryId,
        deadline: Duration,
    ) -> Result<Option<Shown>, RequestError> {
        within(deadline, self.show(spec, id))
    }

    /// As [`reload`](Self::reload), for plain threads.
    ///
    /// # Errors
    /// As `reload`; or [`RequestError::TimedOut`], and the config may still be taken over.
    pub fn reload_blocking(&self, deadline: Duration) -> Result<Report, RequestError> {
        within(deadline, self.reload())
    }

    /// As [`idle`](Self::idle), for plain threads: whether it came to that before the deadline.
    pub fn idle_blocking(&self, deadline: Duration) -> bool {
        block_on(self.idle(), deadline).is_some()
    }
}
