//! What a host asks of a runtime, beside emitting: what only looks is answered where webhooks are
//! off too.

use std::thread;
use std::time::{Duration, Instant};

use super::block::on_a_thread;
use super::{Handle, Mode};
use crate::answer::RequestError;
use crate::ask::{
    Ask, PauseReport, PauseSubscription, ReadMetrics, ReadStatus, ReplayDeadLetter, ResumeSubscription,
    SendSample, SentReport, ShowDelivery,
};
use crate::config::Report;
use crate::control::{CHANGE_OF_OWNER, ClientError, LOOK_AGAIN};
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::SpecId;
use crate::inspect::{Listing, Metrics, Query, Shown, StatusReport};

impl Handle {
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
        self.ask(ReplayDeadLetter { spec, delivery_id: id, unless_paused: false }).await
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

    /// How the runtime and its subscriptions fare; where webhooks are off, that they are. For a
    /// screen that is drawn again and again, [`watch`](Self::watch) costs less.
    ///
    /// # Errors
    /// The runtime has stopped.
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
        or_off(self.ask(ReadStatus {}).await, StatusReport::off)
    }

    /// Counters since the start of the runtime and gauges of now, for an exporter of the host's;
    /// none where webhooks are off.
    ///
    /// # Errors
    /// The runtime has stopped.
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
        or_off(self.ask(ReadMetrics {}).await, Metrics::off)
    }

    /// One page of deliveries, newest first, whatever their state; empty where webhooks are off.
    ///
    /// # Errors
    /// The runtime has stopped, or the files cannot be read.
    ///
    /// ```no_run
    /// # async fn show(handle: &spec_notify::Handle) -> Result<(), spec_notify::RequestError> {
    /// for row in handle.list(spec_notify::Query::newest(20)).await?.deliveries {
    ///     println!("{} {} {:?} {}", row.spec, row.event, row.stage, row.state);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn list(&self, query: Query) -> Result<Listing, RequestError> {
        or_off(self.ask(query).await, Listing::default)
    }

    /// One delivery whole: its event, every attempt, why it waits or failed. `None` if nothing
    /// knows it any more, or webhooks are off.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    ///
    /// ```no_run
    /// # use spec_notify::{DeliveryId, Handle, RequestError, SpecId};
    /// # async fn one(handle: &Handle, spec: SpecId, id: DeliveryId) -> Result<(), RequestError> {
    /// if let Some(shown) = handle.show(spec, id).await? {
    ///     println!("{} after {} attempts", shown.delivery.state, shown.attempts.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn show(&self, spec: SpecId, id: DeliveryId) -> Result<Option<Shown>, RequestError> {
        or_off(self.ask(ShowDelivery { spec, id, body: true }).await, || None)
    }

    /// Reads the config again as it was read at the start and, where it is good, takes it over:
    /// what is under way ends as it began. One that is refused changes nothing. On standby it
    /// counts once this runtime takes over. A runtime that is off stays off: the report says what
    /// the config would do at the next start.
    ///
    /// # Errors
    /// The runtime has stopped. What is wrong with the config is in the report.
    ///
    /// ```no_run
    /// # async fn edited(handle: &spec_notify::Handle) -> Result<(), spec_notify::RequestError> {
    /// let report = handle.reload().await?;
    /// for problem in &report.errors {
    ///     eprintln!("the old config stays in force: {problem}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn reload(&self) -> Result<Report, RequestError> {
        match self.mode() {
            Mode::Owner(door) => door.reload().await,
            mode @ (Mode::Standby(_) | Mode::Off) => {
                let (current, counts) = (self.current(), matches!(mode, Mode::Standby(_)));
                let read = on_a_thread(move || {
                    let loaded = current.read_again();
                    loaded.config.iter().filter(|_| counts).for_each(|config| current.set(config.clone()));
                    loaded.report()
                });
                read.await.map_err(|error| RequestError::Files(format!("the config was not read: {error}")))
            }
            Mode::Starting | Mode::Stopped | Mode::Failed(_) => Err(stopped()),
        }
    }

    /// Asks the owner of the spool: our own actors or another process. While the owner changes it
    /// asks again for a while: a request that reached nobody is safe to repeat.
    pub(crate) async fn ask<A: Ask>(&self, ask: A) -> Result<A::Answer, RequestError> {
        let until = Instant::now() + CHANGE_OF_OWNER;
        loop {
            let error = match self.mode() {
                Mode::Off => return Err(RequestError::Off),
                Mode::Owner(door) => {
                    let answer = A::answer_in(door.answer(ask.into()).await?);
                    return answer.ok_or_else(|| {
                        RequestError::Refused("the answer does not fit the request".to_owned())
                    });
                }
                Mode::Standby(link) => match link.ask(ask.clone()).await {
                    Err(ClientError::Absent(why)) => RequestError::Unreachable(why),
                    asked => return asked.map_err(ClientError::into_answer),
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
}

/// What a runtime answers that only looks; where webhooks are off, what there is to see then.
fn or_off<T>(answer: Result<T, RequestError>, off: impl FnOnce() -> T) -> Result<T, RequestError> {
    match answer {
        Err(RequestError::Off) => Ok(off()),
        answer => answer,
    }
}

/// Waits on any executor, which may have no timers.
async fn pause(time: Duration) {
    if let Err(error) = on_a_thread(move || thread::sleep(time)).await {
        log::debug!("asking again without a pause: {error}");
    }
}

fn stopped() -> RequestError {
    RequestError::Unreachable("the runtime has stopped, or is starting again".to_owned())
}
