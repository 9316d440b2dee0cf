//! The way to the actors of one run, from any thread and any executor.

mod emit;
mod send;
mod status;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::admission::Admission;
use super::ledger::{DiscardLetters, FindLastAttempts, Ledger};
use super::notices::Notices;
use super::reading::Reading;
use super::router::{
    DiscardWaiting, FindAny, FindUnfinished, ListAllUnfinished, ReadQueues, Router, WaitIdle,
};
use super::subscription::{HoldAs, SetPause};
use crate::answer::RequestError;
use crate::archive::evidence_parts;
use crate::ask::{
    Answer, DeliveryOfSpec, DiscardDeliveries, Discarded, EmitEvent, MAX_ASKED_TO_DISCARD, OfFleet,
    PauseReport, PauseSubscription, ReadMetrics, ReadStatus, ReloadConfig, Request, ResumeSubscription,
    ShowDelivery,
};
use crate::clock;
use crate::config::{Config, Report};
use crate::delivery::{Pause, SubscriptionId};
use crate::feed::Feed;
use crate::files::user;
use crate::fleet::Link;
use crate::inspect::{Listing, Metrics, Page, Query, Shown, StatusReport, Tried, TriedQuery, tried};
use crate::sources::checkout::Checkout;
use crate::store::{MAX_DISCARDED, NotDiscarded};

/// How long a request of an operator waits for admission.
const ADMISSION: Duration = Duration::from_secs(10);

/// See the module's first line. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    router: Addr<Router>,
    ledger: Addr<Ledger>,
    admission: Admission,
    checkout: Checkout,
    /// Where events go that this machine does not keep itself.
    fleet: Option<Link>,
    /// What is asked of that fleet as a whole.
    of_fleet: Option<OfFleet>,
    /// Whether it delivers for that fleet.
    delivers: bool,
    /// Whether events name this machine.
    show_host: bool,
    reading: Reading,
    notices: Notices,
    reloads: mpsc::Sender<ReloadReply>,
    started: Instant,
    started_at: Timestamp,
}

/// Who waits for a reload to end.
pub(crate) type ReloadReply = oneshot::Sender<Report>;

impl Door {
    /// To be called on the actors' own arbiter.
    pub(crate) fn new(
        router: Addr<Router>,
        ledger: Addr<Ledger>,
        config: &Config,
        checkout: Checkout,
        fleet: Option<Link>,
        feed: Feed,
    ) -> (Self, mpsc::Receiver<ReloadReply>) {
        let (reloads, reload) = mpsc::channel(1);
        let door = Self {
            router,
            ledger,
            admission: Admission::new(),
            checkout,
            // Its own subscriptions are known there, as those of any member.
            of_fleet: fleet.clone().map(|link| OfFleet::new(link, [])),
            fleet,
            delivers: config.delivers_for_a_fleet(),
            show_host: config.show_host,
            reading: Reading::new(config.store_options()),
            notices: Notices::new(config.origin.clone(), feed),
            reloads,
            started: Instant::now(),
            started_at: clock::now(),
        };
        (door, reload)
    }

    /// The Router, for the end of a run.
    pub(crate) fn router(&self) -> &Addr<Router> {
        &self.router
    }

    /// Resolves when every actor has started with its recovered deliveries. Events emitted before
    /// that wait.
    pub(crate) async fn began(&self) {
        if self.router.send(ReadQueues).await.is_err() {
            log::debug!("an actor has ended before it began");
        }
    }

    /// Answers any request of an operator.
    pub(crate) async fn answer(&self, request: Request) -> Result<Answer, RequestError> {
        if let Some(of_fleet) = &self.of_fleet
            && let Some(answered) = of_fleet.answer(&request).await
        {
            if let Ok(Answer::Pause(report)) = &answered {
                self.hold_as_in_cluster(report).await;
            }
            return answered;
        }
        Ok(match request {
            Request::Emit(EmitEvent { event }) => Answer::Emit(self.emit_json(event.get()).await?),
            Request::Test(sample) => Answer::Test(self.test(sample).await?),
            Request::Replay(letter) => Answer::Replay(self.replay(letter).await?),
            Request::List(query) => Answer::List(self.list(query).await?),
            Request::Show(delivery) => Answer::Show(self.show(delivery).await?),
            Request::Attempts(query) => Answer::Attempts(self.tried(query).await?),
            Request::Status(ReadStatus {}) => Answer::Status(self.status().await?),
            Request::Metrics(ReadMetrics {}) => {
                let facts = self.facts().await?;
                let status = StatusReport::of(&facts, self.reading.spool_dir());
                Answer::Metrics(Metrics::of(&status, &facts.condition.totals, Some(self.started_at)))
            }
            Request::Discard(DiscardDeliveries { deliveries }) => {
                Answer::Discard(self.discard(deliveries).await?)
            }
            Request::Pause(PauseSubscription { subscription }) => {
                Answer::Pause(self.set_pause(subscription, Some(Pause::now(user::name()))).await?)
            }
            Request::Resume(ResumeSubscription { subscription }) => {
                Answer::Resume(self.set_pause(subscription, None).await?)
            }
            Request::Reload(ReloadConfig {}) => Answer::Reload(self.reload().await?),
        })
    }

    /// Gives dead letters up, and what waits for subscriptions that are not active.
    async fn discard(&self, deliveries: Vec<DeliveryOfSpec>) -> Result<Vec<Discarded>, RequestError> {
        let _admission = self.admission.admit(ADMISSION).await.ok_or_else(gone)?;
        if deliveries.len() > MAX_ASKED_TO_DISCARD {
            let most = format!("at most {MAX_ASKED_TO_DISCARD} deliveries in one request");
            return Err(RequestError::Refused(most));
        }
        let mut discarded = Vec::with_capacity(deliveries.len());
        for some in deliveries.chunks(MAX_DISCARDED) {
            let letters: Vec<_> = some.iter().map(|one| (one.spec.clone(), one.id)).collect();
            let by = user::name().to_owned();
            let tried = DiscardLetters { letters, by: by.clone() };
            let tried = self.ledger.send(tried).await.map_err(|_| gone())?;
            let mut others = HashSet::new();
            for (one, tried) in some.iter().zip(tried) {
                match tried {
                    Ok(subscription) => discarded.push(Discarded::done(one.id, subscription)),
                    Err(NotDiscarded::Stays(why)) => discarded.push(Discarded::refused(one.id, None, why)),
                    Err(NotDiscarded::NotThere) => drop(others.insert(one.id)),
                }
            }
            if others.is_empty() {
                continue;
            }
            let ids = Arc::new(others);
            let waiting = DiscardWaiting { ids: ids.clone(), by };
            let waiting = self.router.send(waiting).await.map_err(|_| gone())?;
            let known: HashSet<_> = waiting.iter().map(|one| one.id).collect();
            discarded.extend(waiting);
            discarded.extend(ids.difference(&known).map(|id| Discarded::not_found(*id)));
        }
        Ok(discarded)
    }

    /// Holds a subscription's deliveries back, or lets them go on.
    async fn set_pause(&self, id: SubscriptionId, pause: Option<Pause>) -> Result<PauseReport, RequestError> {
        let _admission = self.admission.admit(ADMISSION).await.ok_or_else(gone)?;
        let address = self.router.send(FindAny(id)).await.map_err(|_| gone())??;
        address.send(SetPause(pause)).await.map_err(|_| gone())?
    }

    /// Has a fleet's pause hold here at once; other members see it with their next look. What the
    /// cluster has by now, since another change may have been asked for meanwhile.
    async fn hold_as_in_cluster(&self, report: &PauseReport) {
        let (id, at) = (&report.subscription, Instant::now());
        let Some(link) = &self.fleet else { return };
        let pause = match link.pauses().await {
            Ok(mut pauses) => pauses.remove(id),
            Err(_) => report.paused.clone(),
        };
        if let Ok(Ok(address)) = self.router.send(FindAny(id.clone())).await
            && address.send(HoldAs { pause, at }).await.is_err()
        {
            log::debug!("{id} has stopped");
        }
    }

    /// The spool that this runtime owns.
    pub(super) fn spool_dir(&self) -> &Path {
        self.reading.spool_dir()
    }

    /// One page of deliveries, newest first.
    async fn list(&self, query: Query) -> Result<Listing, RequestError> {
        let mut page = Page::new(query);
        let query = Arc::new(page.query().clone());
        let unfinished = self.router.send(ListAllUnfinished(query)).await.map_err(|_| gone())?;
        unfinished.into_iter().for_each(|listed| page.add(listed));
        let last = self.ledger.send(FindLastAttempts(page.tried())).await.map_err(|_| gone())?;
        let listed = self.reading.read(move |files| {
            page.set_last(&last);
            page.add_finished(&files.spool_dir, &files.evidence_dir).map(|()| page.into_listing())
        });
        listed.await?.map_err(|error| RequestError::Files(format!("cannot read the evidence: {error}")))
    }

    /// One delivery whole.
    async fn show(&self, delivery: ShowDelivery) -> Result<Option<Shown>, RequestError> {
        let ShowDelivery { spec, id, body } = delivery;
        let unended = self.router.send(FindUnfinished(id)).await.map_err(|_| gone())?;
        let read = self.reading.read(move |files| {
            Shown::read((&files.spool_dir, &files.evidence_dir), (&spec, id), body, unended, false)
        });
        read.await?.map_err(|error| RequestError::Files(format!("cannot read the files: {error}")))
    }

    /// The newest attempts, newest first.
    async fn tried(&self, query: TriedQuery) -> Result<Vec<Tried>, RequestError> {
        let read = self.reading.read(move |files| {
            evidence_parts(&files.evidence_dir, query.spec.as_ref()).map(|parts| tried(&parts, &query))
        });
        read.await?.map_err(|error| RequestError::Files(format!("cannot read the evidence: {error}")))
    }

    /// Reads the config again and, if it is valid, puts it in force.
    pub(crate) async fn reload(&self) -> Result<Report, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.reloads.send(reply).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }

    /// Waits until nothing is under way and nothing is due.
    pub(crate) async fn idle(&self) {
        self.admission.all_back().await;
        if self.router.send(WaitIdle).await.is_err() {
            log::debug!("the runtime stopped while someone waited for it to be idle");
        }
    }
}

fn refused(error: impl std::fmt::Display) -> RequestError {
    RequestError::Refused(error.to_string())
}

fn gone() -> RequestError {
    RequestError::Unreachable("the runtime has stopped".to_owned())
}
