//! The way to the actors of one run, from any thread and any executor.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Addr;
use jiff::Timestamp;
use serde_json::{Map, Value};
use tokio::sync::{mpsc, oneshot};

use super::admission::Admission;
use super::ledger::{DiscardLetters, FindLastAttempts, Ledger, ReadCondition, ReadDeadLetter};
use super::notices::{Notices, Told};
use super::reading::Reading;
use super::router::{
    Await, DiscardWaiting, Emission, Emit, FindActive, FindAny, FindUnfinished, Found, From,
    ListAllUnfinished, ReadQueues, Router, WaitIdle,
};
use super::subscription::{HoldAs, Purpose, SendNow, SetPause};
use super::tell::tell;
use crate::answer::{EmitError, Receipt, RequestError};
use crate::archive::evidence_parts;
use crate::ask::{
    Answer, DeliveryOfSpec, DiscardDeliveries, Discarded, EmitEvent, Emitted, EmittedEvent,
    MAX_ASKED_TO_DISCARD, OfFleet, PauseReport, PauseSubscription, ReadMetrics, ReadStatus, ReloadConfig,
    ReplayDeadLetter, Request, ResumeSubscription, SendSample, SentReport, ShowDelivery,
};
use crate::clock;
use crate::config::{Config, Origin, Report};
use crate::delivery::{Delivery, DeliveryId, Pause, SubscriptionId};
use crate::event::{Event, IdempotencyKey, SpecId, sequence_at};
use crate::feed::Feed;
use crate::files::user;
use crate::fleet::Link;
use crate::inspect::{
    Facts, Listing, Metrics, Page, Query, Shown, StatusReport, Tried, TriedQuery, Watching, tried,
};
use crate::payload::{self, Reader};
use crate::run::AwaitedStage;
use crate::sources::checkout::Checkout;
use crate::sources::host;
use crate::spool::InboxName;
use crate::store::{MAX_DISCARDED, NotDiscarded};

/// How long an event of an operator may take to be accepted; whoever sent it has put it into the
/// inbox long before.
const EMIT_WITHIN: Duration = Duration::from_secs(10);

/// How long the evidence of a fleet is read for its figures.
const COUNT_WITHIN: Duration = Duration::from_millis(500);

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

    /// Routes an event that lies in the cluster; answered when it is routed there.
    pub(crate) async fn route(
        &self,
        event: Event,
        seq: i64,
        accepted_at: Timestamp,
    ) -> Result<Receipt, EmitError> {
        let stopped = || EmitError::Unavailable("the runtime has stopped".to_owned());
        let published = self.checkout.published(&event);
        let (reply, answer) = oneshot::channel();
        let emit =
            Emit { event, published, from: From::Cluster { seq, accepted_at }, admission: None, reply };
        if !tell(&self.router, emit).await {
            return Err(stopped());
        }
        answer.await.map_err(|_| stopped())?.result
    }

    /// Whether an accepted event is a record of the Ledger's, which then removes the inbox file
    /// that the event came from.
    pub(super) fn keeps_events(&self) -> bool {
        self.fleet.is_none()
    }

    /// Resolves when every actor has started with its recovered deliveries. Events emitted before
    /// that wait.
    pub(crate) async fn began(&self) {
        if self.router.send(ReadQueues).await.is_err() {
            log::debug!("an actor has ended before it began");
        }
    }

    /// Accepts an event: when this says `Accepted`, it is synced to disk. Waits `within`, or
    /// 250 ms longer, for admission, and again for the disk; an event for which it no longer waits
    /// may be accepted all the same.
    pub(crate) async fn emit(
        &self,
        event: Event,
        inbox: Option<InboxName>,
        within: Duration,
    ) -> Result<Receipt, EmitError> {
        self.emit_and_name(event, inbox, within).await.result
    }

    /// As [`emit`](Self::emit), and says which event it was.
    pub(crate) async fn emit_and_name(
        &self,
        event: Event,
        inbox: Option<InboxName>,
        within: Duration,
    ) -> Emission {
        let key = event.event.idempotency_key.clone();
        let emitted = self.try_to_emit(event, inbox, within).await;
        emitted.unwrap_or_else(|error| Emission { key, result: Err(error) })
    }

    async fn try_to_emit(
        &self,
        mut event: Event,
        inbox: Option<InboxName>,
        within: Duration,
    ) -> Result<Emission, EmitError> {
        let stopped = || EmitError::Unavailable("the runtime has stopped".to_owned());
        let admission = self.admission.admit(within).await.ok_or_else(|| {
            EmitError::Unavailable("the runtime is stopped, or busy with too many events".to_owned())
        })?;
        self.checkout.add_to(&mut event);
        if let Some(fleet) = &self.fleet {
            let key = event.event.idempotency_key.clone();
            // Whoever delivers it is on another machine.
            event.name_host(host::name(self.show_host));
            return fleet.accept(&event, within).await.map(|receipt| Emission { key, result: Ok(receipt) });
        }
        let published = self.checkout.published(&event);
        let (reply, answer) = oneshot::channel();
        let from = inbox.map_or(From::Emitter, From::Inbox);
        let emit = Emit { event, published, from, admission: Some(admission), reply };
        let answered = async {
            if !tell(&self.router, emit).await {
                return Err(stopped());
            }
            answer.await.map_err(|_| stopped())
        };
        self.admission.patiently(within, answered).await.unwrap_or_else(|| {
            let waited = format!("no answer from the disk within {} ms", within.as_millis());
            Err(EmitError::Unavailable(waited))
        })
    }

    /// Answers any request of an operator.
    pub(crate) async fn answer(&self, request: Request) -> Result<Answer, RequestError> {
        if let Some(of_fleet) = &self.of_fleet
            && let Some(answered) = of_fleet.answer(&request).await
        {
            if let Ok(Answer::Pause(PauseReport { subscription, paused, .. })) = &answered {
                self.hold_as(subscription, paused.clone()).await;
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

    /// Accepts an event given as JSON. An error says that it was not taken now; what is no event
    /// is an answer.
    async fn emit_json(&self, text: &str) -> Result<Emitted, RequestError> {
        let event = match Event::from_json(text) {
            Ok(event) => event,
            Err(error) => return Ok(Emitted::refused(error.to_string())),
        };
        let kind = event.event.kind;
        let Emission { key: idempotency_key, result } = self.emit_and_name(event, None, EMIT_WITHIN).await;
        match result {
            Err(EmitError::Unavailable(error)) => Err(RequestError::Refused(error)),
            result => Ok(Emitted::new(EmittedEvent { kind, idempotency_key }, result)),
        }
    }

    async fn test(&self, sample: SendSample) -> Result<SentReport, RequestError> {
        let SendSample { spec, subscription, dry_run, event } = sample;
        let _admission = self.admission.admit(ADMISSION).await.ok_or_else(gone)?;
        let at = clock::now();
        let Found { address, config, pages, host } = self.find(subscription).await?;
        let mut event = match event {
            Some(event) => self.as_sample(&event, spec, at)?,
            None => payload::sample(spec, self.checkout.current(), at),
        };
        event.name_host(host);
        // A sample tries the way out: filters do not stop it.
        let refused_by = config.filter.admits(&event).err().map(|refusal| refusal.to_string());
        let gets = config.filter.gets();
        let reader = Reader {
            subscription: Some(config.id.as_str()),
            gets: Some(&gets),
            pages: Some(&pages),
            owner: config.owner.as_deref(),
        };
        let body = payload::body(&event).and_then(|body| config.format.render(&event, &body, &reader));
        let body = body.map_err(refused)?;
        let delivery = Arc::new(Delivery {
            id: DeliveryId::random(),
            subscription: config.id.clone(),
            spec: event.spec.id,
            key: event.event.idempotency_key,
            kind: event.event.kind,
            stage: event.event.stage,
            status: event.event.status,
            accepted_at: at,
            format: config.format,
        });
        let purpose = Purpose::Sample { dry_run };
        let sent = address.send(SendNow { delivery, body, purpose }).await.map_err(|_| gone())?;
        sent.map(|report| SentReport { refused_by, ..report })
    }

    /// An event of somebody's, as one of this SPEC that is told now and is none of its own.
    fn as_sample(
        &self,
        event: &Map<String, Value>,
        spec: SpecId,
        at: Timestamp,
    ) -> Result<Event, RequestError> {
        let text = serde_json::to_string(event).unwrap_or_default();
        let mut event = Event::from_json(&text).map_err(refused)?;
        event.event.idempotency_key = IdempotencyKey::unique(&spec, event.event.kind.as_str());
        event.spec.id = spec;
        event.come_from(self.checkout.current());
        event.accepted(at, sequence_at(at));
        Ok(event)
    }

    async fn replay(&self, letter: ReplayDeadLetter) -> Result<SentReport, RequestError> {
        let ReplayDeadLetter { spec, delivery_id: id } = letter;
        if self.fleet.is_some() && !self.delivers {
            let what = "this machine hands over only (role = \"emit\"): a dead letter of the fleet is sent \
                        again by a machine that delivers, which has the subscription and its secret";
            return Err(RequestError::Refused(what.to_owned()));
        }
        let _admission = self.admission.admit(ADMISSION).await.ok_or_else(gone)?;
        let letter = self.ledger.send(ReadDeadLetter { spec, id }).await.map_err(|_| gone())??;
        if !letter.has_payload() {
            return Err(RequestError::Refused(format!(
                "the dead letter {} cannot be sent again: {}; {}",
                letter.id, letter.message, letter.hint
            )));
        }
        let Found { address, .. } = self.find(letter.subscription.clone()).await?;
        let (delivery, body) = (Arc::new(letter.delivery()), letter.payload());
        let purpose = Purpose::Replay(Box::new(letter));
        address.send(SendNow { delivery, body, purpose }).await.map_err(|_| gone())?
    }

    /// A subscription that is active, for what is asked of it alone.
    async fn find(&self, id: SubscriptionId) -> Result<Found, RequestError> {
        self.router.send(FindActive(id)).await.map_err(|_| gone())?
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

    /// Has a fleet's pause hold here at once; other members see it with their next look.
    async fn hold_as(&self, id: &SubscriptionId, pause: Option<Pause>) {
        if let Ok(Ok(address)) = self.router.send(FindAny(id.clone())).await
            && address.send(HoldAs { pause, at: Instant::now() }).await.is_err()
        {
            log::debug!("{id} has stopped");
        }
    }

    /// The spool that this runtime owns.
    pub(super) fn spool_dir(&self) -> &Path {
        self.reading.spool_dir()
    }

    /// The state of the runtime and its subscriptions.
    pub(crate) async fn status(&self) -> Result<StatusReport, RequestError> {
        let facts = self.facts().await?;
        // The figures of many subscriptions take a moment, in which the caller's thread may have
        // deliveries to make.
        self.reading.read(move |files| StatusReport::of(&facts, &files.spool_dir)).await
    }

    /// Gathers what `status` shows.
    async fn facts(&self) -> Result<Facts, RequestError> {
        let mut queues = self.router.send(ReadQueues).await.map_err(|_| gone())?;
        let mut condition = self.ledger.send(ReadCondition).await.map_err(|_| gone())?;
        let origin = self.notices.told().origin;
        let (mut survey, edited) =
            self.reading.survey(move || origin.and_then(|origin| origin.edited())).await?;
        // Read last, so that what is told while the files are read is included.
        let Told { inbox, watching, awaited, fleet: trouble, .. } = self.notices.told();
        let mut fleet = None;
        if let Some(of_fleet) = &self.of_fleet {
            let member = self.fleet.as_ref().filter(|_| self.delivers).map(|link| link.member().to_string());
            let facts = of_fleet.facts(member, trouble).await;
            facts.fill(&mut queues, &mut condition.healths, &mut survey);
            if facts.overview.is_ok() {
                let (of_fleet, until) = (of_fleet.clone(), Instant::now() + COUNT_WITHIN);
                let counted = self.reading.read(move |_| of_fleet.counts(|| Instant::now() < until)).await?;
                match counted {
                    Ok(counts) => condition.counts = counts,
                    Err(error) => log::warn!("the figures are those of this runtime alone: {error}"),
                }
            }
            fleet = Some(facts);
        }
        let uptime = self.started.elapsed();
        Ok(Facts { queues, condition, survey, inbox, watching, awaited, edited, fleet, uptime })
    }

    /// Sets which inbox files `status` shows as set aside.
    pub(super) fn tell_of_inbox(&self, aside: Vec<String>) {
        self.notices.tell(|told| told.inbox = aside);
    }

    /// Sets what `status` says about the watcher.
    pub(crate) fn tell_of_watch(&self, watching: Watching) {
        self.notices.tell(|told| told.watching = watching);
    }

    /// Sets which stages wait for their agents.
    pub(crate) async fn tell_of_awaited(&self, awaited: Vec<AwaitedStage>) {
        self.notices.tell(|told| told.awaited.clone_from(&awaited));
        if !tell(&self.router, Await(awaited)).await {
            log::debug!("the runtime stopped");
        }
    }

    /// Sets why this member of a fleet does not do its part.
    pub(super) fn tell_of_fleet(&self, trouble: Option<String>) {
        self.notices.tell(|told| told.fleet = trouble);
    }

    /// Sets where the config in force came from: `status` says when that file was edited.
    pub(crate) fn tell_of_config(&self, origin: Option<Origin>) {
        self.notices.tell(|told| told.origin = origin);
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
