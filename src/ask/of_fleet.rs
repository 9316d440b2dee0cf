//! What the whole fleet is asked: answered from its cluster, so that a runtime, its port and a
//! process without one say the same.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
#[cfg(feature = "cli")]
use std::time::Duration;

use super::{
    Answer, DeliveryOfSpec, DiscardDeliveries, Discarded, MAX_ASKED_TO_DISCARD, PauseReport,
    PauseSubscription, Request, ResumeSubscription, ShowDelivery,
};
use crate::answer::RequestError;
use crate::archive::Part;
use crate::clock;
use crate::config::FleetRole;
use crate::delivery::{DeliveryId, HealthState, IdPrefix, Pause, SubscriptionId};
use crate::event::SpecId;
use crate::figures::{Counts, from_evidence};
use crate::files::user;
use crate::fleet::{
    Duty, EngineError, Given, Link, Overview, PAGE, Place, WantedLines, is_denied, is_silent,
};
use crate::inspect::{
    FleetFacts, Listing, Page, Query, Shown, Traces, Tried, TriedQuery, Unended, Unseen, Wait, WaitKind,
    pending, tried,
};

/// How long a process that waits lets the cluster take for an answer of several questions.
#[cfg(feature = "cli")]
const PATIENCE: Duration = Duration::from_secs(60);

/// Lines of evidence that are read at a time.
const LINES: usize = 2_000;

/// Most lines of one delivery that are looked at.
const LINES_OF_ONE: usize = 1_000;

/// See the module's first lines. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct OfFleet {
    link: Link,
    /// The subscriptions that this process's config has, and whether they are active.
    subscriptions: Arc<[(SubscriptionId, bool)]>,
    counted: Arc<Mutex<CountedSoFar>>,
}

/// What was read of the evidence so far.
#[derive(Debug, Default)]
struct CountedSoFar {
    counts: Counts,
    place: Option<Place>,
}

impl OfFleet {
    /// Asks by this link. `subscriptions` are those of a config that nobody else knows: a member's
    /// are in the cluster.
    pub(crate) fn new(link: Link, subscriptions: impl IntoIterator<Item = (SubscriptionId, bool)>) -> Self {
        Self { link, subscriptions: subscriptions.into_iter().collect(), counted: Arc::default() }
    }

    /// The answer to a request that concerns the whole fleet; `None` for one that does not.
    pub(crate) async fn answer(&self, request: &Request) -> Option<Result<Answer, RequestError>> {
        Some(match request {
            Request::List(query) => self.list(query).await.map(Answer::List),
            Request::Show(ask) => self.show(ask).await.map(Answer::Show),
            Request::Attempts(query) => self.tried(query).await.map(Answer::Attempts),
            Request::Discard(ask) => self.discard(ask).await.map(Answer::Discard),
            Request::Pause(PauseSubscription { subscription }) => {
                self.set_pause(subscription, Some(Pause::now(user::name()))).await.map(Answer::Pause)
            }
            Request::Resume(ResumeSubscription { subscription }) => {
                self.set_pause(subscription, None).await.map(Answer::Resume)
            }
            // A machine answers these; what `status` and `metrics` say of the fleet is in `facts`.
            Request::Emit(_)
            | Request::Test(_)
            | Request::Replay(_)
            | Request::Status(_)
            | Request::Metrics(_)
            | Request::Reload(_) => return None,
        })
    }

    /// As [`answer`](Self::answer), for a thread that waits.
    #[cfg(feature = "cli")]
    pub(crate) fn answer_now(&self, request: Request) -> Option<Result<Answer, RequestError>> {
        let of_fleet = self.clone();
        let answered = self.link.wait(PATIENCE, async move { Ok(of_fleet.answer(&request).await) });
        answered.unwrap_or_else(|error| Some(Err(self.refused(&error))))
    }

    /// How many of these events nobody has fanned out yet, for a thread that waits.
    ///
    /// # Errors
    /// The cluster gave no answer, or does not let this role read.
    #[cfg(feature = "cli")]
    pub(crate) fn unrouted_now(&self, keys: Vec<String>) -> Result<usize, RequestError> {
        let link = self.link.clone();
        let asked = self.link.wait(PATIENCE, async move { link.unrouted_of(keys).await });
        asked.map_err(|error| self.refused(&error))
    }

    /// What `status` shows of the fleet. `member` is the runtime that asks, `trouble` what keeps it
    /// from its work.
    pub(crate) async fn facts(&self, member: Option<String>, trouble: Option<String>) -> FleetFacts {
        let config = self.link.config();
        let overview = self
            .link
            .overview()
            .await
            .map_err(|error| Unseen { is_calm: self.may_not_look(&error), why: error.to_string() });
        let (namespace, durability) = (config.namespace.to_string(), config.durability);
        FleetFacts { namespace, durability, member, overview, trouble }
    }

    /// As [`facts`](Self::facts), of a process that is no member, for a thread that waits so long.
    #[cfg(feature = "cli")]
    pub(crate) fn facts_now(&self, within: Duration) -> FleetFacts {
        let (of_fleet, config) = (self.clone(), self.link.config());
        let facts = self.link.wait(within, async move { Ok(of_fleet.facts(None, None).await) });
        facts.unwrap_or_else(|error| FleetFacts {
            namespace: config.namespace.to_string(),
            durability: config.durability,
            member: None,
            overview: Err(Unseen { why: error.to_string(), is_calm: false }),
            trouble: None,
        })
    }

    /// The attempts of the last day, whoever made them. Blocks; what was read once is not read
    /// again. `goes_on` is asked from time to time, as in [`from_evidence`].
    ///
    /// # Errors
    /// The cluster gave no answer, or does not let this role read.
    pub(crate) fn counts(&self, goes_on: impl Fn() -> bool) -> Result<Counts, EngineError> {
        let mut so_far = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let (part, newest) = self.link.part(so_far.place)?;
        so_far.counts.merge(from_evidence(&[part], clock::now(), goes_on));
        so_far.place = newest.or(so_far.place);
        Ok(so_far.counts.clone())
    }

    /// The evidence of all, newest first, for a thread that may block.
    ///
    /// # Errors
    /// As [`counts`](Self::counts).
    #[cfg(feature = "cli")]
    pub(crate) fn evidence(&self) -> Result<Vec<Part>, RequestError> {
        self.link.part(None).map(|(part, _)| vec![part]).map_err(|error| self.refused(&error))
    }

    /// Whether this machine is not meant to look: it hands over, and its role lets it do no more.
    fn may_not_look(&self, error: &EngineError) -> bool {
        is_denied(error) && self.link.config().role == FleetRole::Emit
    }

    fn refused(&self, error: &EngineError) -> RequestError {
        if self.may_not_look(error) {
            let what = "this machine hands over, and its role may not look at what becomes of it: ask on a \
                        machine that delivers, or with a reader's URL";
            return RequestError::Refused(what.to_owned());
        }
        RequestError::Refused(error.to_string())
    }

    /// Why a change has no answer: it may have been made all the same, or be made yet.
    fn maybe_done(&self, error: &EngineError, look: &str) -> RequestError {
        match is_silent(error) {
            true => RequestError::Refused(format!(
                "it is not known whether this was done, and it may be done yet: {error}; then look with \
                 spec-notify {look}"
            )),
            false => RequestError::Refused(error.to_string()),
        }
    }

    async fn list(&self, query: &Query) -> Result<Listing, RequestError> {
        let mut page = Page::new(query.clone());
        // What ends meanwhile is found once more, and counts as it was found first.
        let mut next = page.wants_waiting().then(|| page.wanted());
        let pauses = match &next {
            Some(_) => self.link.pauses().await.map_err(|error| self.refused(&error))?,
            None => Default::default(),
        };
        while let Some(wanted) = next {
            let waiting = self.link.waiting(&wanted).await.map_err(|error| self.refused(&error))?;
            let is_last = waiting.len() < PAGE;
            next = page.add_waiting(waiting, &pauses).filter(|_| !is_last);
        }
        let mut next = (page.wants_letters() || page.wants_ends()).then(|| page.wanted());
        while let Some(wanted) = next {
            let letters = self.link.letters(&wanted).await.map_err(|error| self.refused(&error))?;
            let is_last = letters.len() < PAGE;
            next = page.add_letters(&letters).filter(|_| !is_last);
        }
        let mut next = page.wants_ends().then(|| page.wanted_ends(LINES));
        while let Some(wanted) = next {
            let ends = self.link.lines(wanted).await.map_err(|error| self.refused(&error))?;
            let before = ends.last().map(|end| end.place);
            let goes_on = page.add_ends_of_fleet(&ends) && ends.len() == LINES;
            next = goes_on.then(|| WantedLines { before, ..page.wanted_ends(LINES) });
        }
        Ok(page.into_listing())
    }

    async fn show(&self, ask: &ShowDelivery) -> Result<Option<Shown>, RequestError> {
        let ShowDelivery { spec, id, body } = ask;
        self.traces(spec, *id, *body).await.map_err(|error| self.refused(&error))
    }

    async fn traces(&self, spec: &SpecId, id: DeliveryId, body: bool) -> Result<Option<Shown>, EngineError> {
        let kept = self.link.kept(spec, id).await?;
        let letter = match &kept {
            Some(_) => None,
            None => self.link.dead_letter(id).await?.filter(|letter| letter.spec == *spec),
        };
        let of_it = WantedLines {
            id: Some(IdPrefix::from(id)),
            spec: Some(spec.clone()),
            limit: LINES_OF_ONE,
            ..WantedLines::default()
        };
        let lines = self.link.lines(of_it).await?.into_iter().map(|line| line.line).collect();
        let unended = match &kept {
            Some(kept) => {
                let of = &kept.delivery.subscription;
                let overview = self.link.overview().await?;
                let (listed, mut waits) = pending(kept, sender(&overview, of), overview.pauses.get(of));
                waits.extend(waits_of_endpoint(&overview, of));
                Some((listed, waits)) as Option<Unended>
            }
            None => None,
        };
        let traces = Traces { kept, letter, evidence: vec![Part::read(lines)] };
        Ok(Shown::of((spec, id), traces, body, unended))
    }

    async fn tried(&self, query: &TriedQuery) -> Result<Vec<Tried>, RequestError> {
        let wanted = WantedLines {
            id: query.delivery_id.map(IdPrefix::from),
            spec: query.spec.clone(),
            is_end: Some(false),
            // Those that took long stand behind others that began after them.
            limit: 2 * query.most(),
            ..WantedLines::default()
        };
        let lines = self.link.lines(wanted).await.map_err(|error| self.refused(&error))?;
        let part = Part::read(lines.into_iter().map(|line| line.line).collect());
        Ok(tried(&[part], query))
    }

    async fn discard(&self, ask: &DiscardDeliveries) -> Result<Vec<Discarded>, RequestError> {
        if ask.deliveries.len() > MAX_ASKED_TO_DISCARD {
            let most = format!("at most {MAX_ASKED_TO_DISCARD} deliveries in one request");
            return Err(RequestError::Refused(most));
        }
        let ids: Vec<DeliveryId> = ask.deliveries.iter().map(|DeliveryOfSpec { id, .. }| *id).collect();
        let active: BTreeSet<SubscriptionId> =
            self.subscriptions.iter().filter(|(_, is_active)| *is_active).map(|(id, _)| id.clone()).collect();
        let given = self.link.give_up(ids.clone(), user::name().to_owned(), active).await;
        let given = given.map_err(|error| self.maybe_done(&error, "show ID"))?;
        let discarded = ids.into_iter().zip(given).map(|(id, given)| match given {
            Given::Up(subscription) => Discarded::done(id, subscription),
            Given::Wanted(subscription) => Discarded::is_wanted(id, subscription),
            Given::NotThere => Discarded::not_found(id),
        });
        Ok(discarded.collect())
    }

    async fn set_pause(
        &self,
        id: &SubscriptionId,
        pause: Option<Pause>,
    ) -> Result<PauseReport, RequestError> {
        let before = self.link.overview().await.map_err(|error| self.refused(&error))?;
        let paused = before.pauses.get(id);
        let is_known =
            self.subscriptions.iter().any(|(known, _)| known == id) || before.subscriptions().contains(id);
        if !is_known {
            let known: Vec<String> = before.subscriptions().iter().map(ToString::to_string).collect();
            let what = format!("no subscription `{id}`; there are: {}", known.join(", "));
            return Err(RequestError::Refused(what));
        }
        let changed = paused.is_some() != pause.is_some();
        if changed {
            let set = self.link.set_pause(id, pause.as_ref()).await;
            set.map_err(|error| self.maybe_done(&error, "status"))?;
        }
        Ok(PauseReport {
            subscription: id.clone(),
            // One that is paused already stays paused since then.
            paused: pause.map(|new| paused.cloned().unwrap_or(new)),
            changed,
            pending: before.pending.get(id).map_or(0, |(waiting, _)| *waiting),
        })
    }
}

/// Who sends what waits for a subscription.
fn sender(overview: &Overview, subscription: &SubscriptionId) -> Wait {
    let seen = overview.leases.get(&Duty::Deliver(subscription.clone())).filter(|seen| seen.is_live);
    let owner = seen.and_then(|seen| overview.members.get(&seen.holder));
    match owner {
        Some(owner) => Wait::noted(WaitKind::Owner, format!("{} (process {})", owner.host, owner.pid)),
        None => Wait::of(WaitKind::NoOwner),
    }
}

fn waits_of_endpoint(overview: &Overview, subscription: &SubscriptionId) -> Vec<Wait> {
    let Some(health) = overview.healths.get(subscription) else { return Vec::new() };
    let now = clock::now();
    let pause = health.paused_until.filter(|until| *until > now);
    let is_open = health.state(now) == HealthState::Open;
    pause
        .map(|until| Wait::until(WaitKind::EndpointPause, until))
        .into_iter()
        .chain(is_open.then(|| Wait::of(WaitKind::Breaker)))
        .collect()
}
