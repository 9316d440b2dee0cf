//! Sends events and requests to a runtime, from any thread or executor.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::block::block_on;
use super::{Current, Mode};
use crate::answer::{EmitError, Receipt, RequestError};
use crate::ask::{
    Ask, PauseReport, PauseSubscription, ReadMetrics, ReadStatus, ReplayDeadLetter, ResumeSubscription,
    SendSample, SentReport, ShowDelivery,
};
use crate::config::Report;
use crate::control::{CHANGE_OF_OWNER, ClientError, LOOK_AGAIN};
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::{Event, SpecId};
use crate::inspect::{Listing, Metrics, Query, Shown, StatusReport};
use crate::sources::checkout::Checkout;
use crate::spool::put_in_inbox;

/// How long [`Handle::emit`] waits for the spool before the event goes to the inbox.
const EMIT_WITHIN: Duration = Duration::from_secs(2);

/// Sends events and requests to a runtime, from any thread or executor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle(Option<Arc<On>>);

#[derive(Debug)]
struct On {
    mode: watch::Receiver<Mode>,
    current: Arc<Current>,
}

impl Handle {
    pub(super) fn off() -> Self {
        Self(None)
    }

    pub(super) fn on(mode: watch::Receiver<Mode>, current: Arc<Current>) -> Self {
        Self(Some(Arc::new(On { mode, current })))
    }

    /// Whether webhooks are switched on.
    pub fn is_on(&self) -> bool {
        self.0.is_some()
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
    ///     Err(error) => eprintln!("emit it again: {error}"),
    /// }
    /// # }
    /// ```
    pub async fn emit(&self, event: Event) -> Result<Receipt, EmitError> {
        let Some(on) = &self.0 else { return Ok(Receipt::Off) };
        within_limits(&event)?;
        match on.emit(event.clone(), EMIT_WITHIN).await {
            Err(EmitError::Unavailable(reason)) => {
                // Writing blocks, which the caller's executor must not; this is rare, so a thread
                // is cheap enough.
                let (done, queued) = oneshot::channel();
                let on = on.clone();
                thread::spawn(move || {
                    if done.send(on.queue(event, &reason)).is_err() {
                        log::debug!("an emitter no longer waits for the inbox");
                    }
                });
                let no_thread = || EmitError::Unavailable("no thread for the inbox".to_owned());
                queued.await.unwrap_or_else(|_| Err(no_thread()))
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
        let Some(on) = &self.0 else { return Ok(Receipt::Off) };
        within_limits(&event)?;
        let within = deadline.mul_f64(0.75);
        let emitted = block_on(on.emit(event.clone(), within), within).unwrap_or_else(|| {
            Err(EmitError::Unavailable(format!("no answer within {} ms", within.as_millis())))
        });
        match emitted {
            Err(EmitError::Unavailable(reason)) => on.queue(event, &reason),
            result => result,
        }
    }

    /// Sends one signed sample of `spec` to an active subscription now and says what came of it.
    ///
    /// # Errors
    /// No such subscription, webhooks are off, or the runtime has stopped.
    ///
    /// ```no_run
    /// # async fn try_it(handle: &spec_notify::Handle) -> Result<(), Box<dyn std::error::Error>> {
    /// let sent = handle.test("SPEC-KIT-065".parse()?, "chatops".parse()?).await?;
    /// println!("{}: {:?}", sent.outcome, sent.hint);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn test(&self, spec: SpecId, subscription: SubscriptionId) -> Result<SentReport, RequestError> {
        self.sample(SendSample { spec, subscription, dry_run: false, event: None }).await
    }

    /// As [`test`](Self::test), with all that can be asked of it.
    pub(crate) async fn sample(&self, sample: SendSample) -> Result<SentReport, RequestError> {
        self.ask(sample).await
    }

    /// Sends a dead letter again now, under its own id, signed anew. Success removes it; failure
    /// adds to it.
    ///
    /// # Errors
    /// No such dead letter, its subscription is gone, webhooks are off, or the runtime has stopped.
    ///
    /// ```no_run
    /// # async fn again(handle: &spec_notify::Handle) -> Result<(), Box<dyn std::error::Error>> {
    /// use spec_notify::{DeliveryState, Query};
    ///
    /// let dead = Query { states: vec![DeliveryState::DeadLetter], ..Query::newest(1) };
    /// for letter in handle.list(dead).await?.deliveries {
    ///     println!("{}", handle.replay(letter.spec, letter.id).await?.outcome);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn replay(&self, spec: SpecId, id: DeliveryId) -> Result<SentReport, RequestError> {
        self.ask(ReplayDeadLetter { spec, delivery_id: id }).await
    }

    /// Holds a subscription's deliveries back until it is resumed, over restarts and reloads.
    /// Events are accepted as before, and a request under way ends.
    ///
    /// # Errors
    /// No such subscription, webhooks are off, the runtime has stopped, or the disk refused.
    ///
    /// ```no_run
    /// # async fn migrate(handle: &spec_notify::Handle) -> Result<(), Box<dyn std::error::Error>> {
    /// handle.pause("audit".parse()?).await?;
    /// // What happens meanwhile is kept.
    /// handle.resume("audit".parse()?).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn pause(&self, subscription: SubscriptionId) -> Result<PauseReport, RequestError> {
        self.ask(PauseSubscription { subscription }).await
    }

    /// Lets the deliveries of a paused subscription go on.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub async fn resume(&self, subscription: SubscriptionId) -> Result<PauseReport, RequestError> {
        self.ask(ResumeSubscription { subscription }).await
    }

    /// How the runtime and its subscriptions fare.
    ///
    /// # Errors
    /// Webhooks are off, or the runtime has stopped.
    ///
    /// ```no_run
    /// # async fn look(handle: &spec_notify::Handle) -> Result<(), spec_notify::RequestError> {
    /// for warning in handle.status().await?.warnings {
    ///     eprintln!("{warning}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn status(&self) -> Result<StatusReport, RequestError> {
        self.ask(ReadStatus {}).await
    }

    /// Counters since the start of the runtime and gauges of now, for an exporter of the host's.
    ///
    /// # Errors
    /// Webhooks are off, or the runtime has stopped.
    ///
    /// ```no_run
    /// # async fn scrape(handle: &spec_notify::Handle) -> Result<(), spec_notify::RequestError> {
    /// use spec_notify::Exposition;
    ///
    /// print!("{}", handle.metrics().await?.text(Exposition::Prometheus));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn metrics(&self) -> Result<Metrics, RequestError> {
        self.ask(ReadMetrics {}).await
    }

    /// One page of deliveries, newest first, whatever their state.
    ///
    /// # Errors
    /// Webhooks are off, the runtime has stopped, or the files cannot be read.
    pub async fn list(&self, query: Query) -> Result<Listing, RequestError> {
        self.ask(query).await
    }

    /// One delivery whole: its event, every attempt, why it waits or failed. `None` if nothing
    /// knows it any more.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub async fn show(&self, spec: SpecId, id: DeliveryId) -> Result<Option<Shown>, RequestError> {
        self.ask(ShowDelivery { spec, id, body: true }).await
    }

    /// Asks the owner of the spool: our own actors or another process. While the owner changes it
    /// asks again for a while: a request that reached nobody is safe to repeat.
    async fn ask<A: Ask>(&self, ask: A) -> Result<A::Answer, RequestError> {
        let until = Instant::now() + CHANGE_OF_OWNER;
        loop {
            let error = match self.mode()? {
                Mode::Owner(door) => {
                    let answer = A::answer_in(door.answer(ask.into()).await?);
                    return answer.ok_or_else(|| {
                        RequestError::Refused(
                            "the answer does not fit the \
                                                              request"
                                .to_owned(),
                        )
                    });
                }
                Mode::Standby(link) => match link.ask(ask.clone()).await {
                    Err(ClientError::Absent(why)) => RequestError::Unreachable(why),
                    asked => return asked.map_err(RequestError::from),
                },
                Mode::Starting => stopped(),
                Mode::Stopped | Mode::Failed(_) => return Err(stopped()),
            };
            if Instant::now() >= until {
                return Err(error);
            }
            pause(LOOK_AGAIN).await;
        }
    }

    /// Reads the config again as it was read at the start and, where it is good, takes it over:
    /// what is under way ends as it began. One that is refused changes nothing. On standby it
    /// counts once this runtime takes over.
    ///
    /// # Errors
    /// Webhooks are off, or the runtime has stopped. What is wrong with the config is in the
    /// report.
    pub async fn reload(&self) -> Result<Report, RequestError> {
        match self.mode()? {
            Mode::Owner(door) => door.reload().await,
            Mode::Standby(_) => {
                let (done, report) = oneshot::channel();
                let current = self.0.as_ref().map(|on| on.current.clone());
                thread::spawn(move || {
                    let loaded = current.map(|current| {
                        let loaded = current.read_again();
                        loaded.config.clone().into_iter().for_each(|config| current.set(config));
                        loaded.report()
                    });
                    loaded.map(|report| done.send(report))
                });
                report.await.map_err(|_| stopped())
            }
            Mode::Starting | Mode::Stopped | Mode::Failed(_) => Err(stopped()),
        }
    }

    /// Waits until nothing of ours is under way and nothing is due; what waits for a later retry
    /// does not count. On standby there is nothing to wait for.
    pub async fn idle(&self) {
        if let Ok(Mode::Owner(door)) = self.mode() {
            door.idle().await;
        }
    }

    /// Whether another process owns the spool, and this runtime waits for it to end.
    #[cfg(feature = "cli")]
    pub(crate) fn is_standing_by(&self) -> bool {
        matches!(self.mode(), Ok(Mode::Standby(_)))
    }

    /// Waits until the runtime has given up after too many panics, and says so.
    pub async fn failed(&self) -> String {
        if let Some(on) = &self.0 {
            let mut mode = on.mode.clone();
            if let Ok(mode) = mode.wait_for(|mode| matches!(mode, Mode::Failed(_))).await
                && let Mode::Failed(reason) = &*mode
            {
                return reason.to_string();
            }
        }
        std::future::pending().await
    }

    #[cfg(test)]
    pub(super) fn modes(&self) -> watch::Receiver<Mode> {
        self.0.as_ref().unwrap().mode.clone()
    }

    /// Runs one of the calls above on a plain thread, for at most `deadline`; `None` after it.
    pub fn block<T>(&self, deadline: Duration, call: impl Future<Output = T>) -> Option<T> {
        block_on(call, deadline)
    }

    pub(super) fn mode(&self) -> Result<Mode, RequestError> {
        let off = "webhooks are off: set enabled = true, or SPECKIT_WEBHOOKS_ENABLED=1";
        let on = self.0.as_ref().ok_or_else(|| RequestError::Refused(off.to_owned()))?;
        Ok(on.mode.borrow().clone())
    }
}

fn within_limits(event: &Event) -> Result<(), EmitError> {
    event.check_limits().map_err(|error| EmitError::Refused(error.to_string()))
}

/// Waits on any executor, which may have no timers.
async fn pause(time: Duration) {
    let (done, end) = oneshot::channel::<()>();
    thread::spawn(move || {
        thread::sleep(time);
        drop(done);
    });
    // Always an error: the sender is dropped without a value.
    drop(end.await);
}

fn stopped() -> RequestError {
    RequestError::Unreachable("the runtime has stopped, or is starting again".to_owned())
}

impl On {
    async fn emit(&self, event: Event, within: Duration) -> Result<Receipt, EmitError> {
        let mode = self.mode.borrow().clone();
        match mode {
            Mode::Owner(door) => door.emit(event, None, within).await,
            Mode::Standby(link) => link.emit(event, within).await,
            Mode::Starting => Err(EmitError::Unavailable("the runtime is starting again".to_owned())),
            Mode::Stopped => Err(EmitError::Unavailable("the runtime has stopped".to_owned())),
            Mode::Failed(reason) => Err(EmitError::Unavailable(reason.to_string())),
        }
    }

    /// Puts an event that the runtime could not take into the inbox. If the runtime took it after
    /// all, its key shows that it is a duplicate.
    fn queue(&self, mut event: Event, reason: &str) -> Result<Receipt, EmitError> {
        let config = self.current.config();
        Checkout::new(&config.repo, self.current.environment.clone()).add_to(&mut event);
        put_in_inbox(&config.spool_dir, &[event])
            .map_err(|error| EmitError::Unavailable(format!("{reason}; nor could it be queued: {error}")))?;
        log::debug!("queued in the inbox: {reason}");
        Ok(Receipt::Queued)
    }
}
