//! One of a fleet's deliverers: keeps its leases, routes while it has that of the Router, and gives
//! each Subscription what is its own.

mod follow;
mod route;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_rt::time::{sleep, timeout};
use tokio::sync::{Notify, oneshot};

use super::door::Door;
use super::ledger::Ledger;
use super::router::{FindDeliverable, Router, StandDown};
use super::subscription::{HoldAs, Subscription, Take, Yield};
use crate::archive::Pauses;
use crate::clock;
use crate::config::Config;
use crate::delivery::SubscriptionId;
use crate::digest::sha256;
use crate::fleet::{
    Board, Duty, EngineError, Link, MemberInfo, Tenure, Waiting, is_locked, needs_a_person, plan,
};
use crate::sources::host;

/// How often work is looked for.
const POLL: Duration = Duration::from_millis(250);

/// The pause after something that the cluster did not answer.
const AGAIN: Duration = Duration::from_secs(1);

/// Leases handed on at one look: work moves step by step.
const GIVEN_AT_ONCE: usize = 2;

/// Leases that are looked for in a cycle of renewals: a quarter of a lease.
const RENEWALS: u32 = 4;

/// See the module's first lines. Cheap to clone; its tasks end with the runtime's thread.
#[derive(Clone)]
pub(crate) struct Member {
    link: Link,
    door: Door,
    router: Addr<Router>,
    ledger: Addr<Ledger>,
    config: Rc<dyn Fn() -> Arc<Config>>,
    work: Rc<RefCell<Work>>,
    /// Told when deliveries were routed from here.
    routed: Arc<Notify>,
    /// Told when somebody gave a lease up, or what this member may do has changed.
    look: Rc<Notify>,
}

/// What this member does.
#[derive(Default)]
struct Work {
    held: BTreeMap<Duty, Holding>,
    pauses: Pauses,
    deliverable: BTreeMap<SubscriptionId, Addr<Subscription>>,
    /// Whether a batch of events is being routed.
    is_routing: bool,
    /// How many leases of its wishes nobody had at the last look.
    free: i64,
    /// What the log said last.
    said: Option<String>,
    is_leaving: bool,
}

struct Holding {
    tenure: Tenure,
    /// Who does it; the Router's own task where it is none. Kept for as long as the lease is: a
    /// reload may take a subscription from what this member delivers.
    subscription: Option<Addr<Subscription>>,
    /// The last delivery that its Subscription was given; none before the first.
    cursor: Option<i64>,
    /// Whether it is handed on, or was lost, and something is still under way.
    is_ending: bool,
}

impl Member {
    pub(crate) fn new(
        link: Link,
        door: Door,
        ledger: Addr<Ledger>,
        config: impl Fn() -> Arc<Config> + 'static,
        routed: Arc<Notify>,
    ) -> Self {
        let router = door.router().clone();
        let (config, work) = (Rc::new(config), Rc::default());
        Self { link, door, router, ledger, config, work, routed, look: Rc::default() }
    }

    /// Whether the cluster can be delivered from. One that gives no answer may later.
    ///
    /// # Errors
    /// Why a person has to mend something first.
    pub(crate) async fn may_begin(&self) -> Result<(), String> {
        match self.link.renew(&self.info().await).await {
            Err(error) if needs_a_person(&error) => Err(error.to_string()),
            Err(error) => {
                self.say(&error);
                Ok(())
            }
            Ok(_) => Ok(()),
        }
    }

    /// Begins to deliver, as far as this member's share goes.
    pub(crate) fn begin(&self) {
        let (looks, routes, follows) = (self.clone(), self.clone(), self.clone());
        actix_rt::spawn(async move { looks.keep_leases().await });
        actix_rt::spawn(async move { routes.route().await });
        actix_rt::spawn(async move { follows.follow().await });
    }

    /// Gives all leases up, once what was under way has been written: others take them at once.
    pub(crate) async fn leave(&self, within: Duration) {
        self.work.borrow_mut().is_leaving = true;
        let (written, answer) = oneshot::channel();
        let left = async {
            if self.ledger.send(super::Written(written)).await.is_ok() {
                // An error means that the Ledger has ended.
                drop(answer.await);
            }
            if let Err(error) = self.link.release(None).await {
                log::warn!("this member's leases run out by themselves: {error}");
            }
        };
        if timeout(within, left).await.is_err() {
            log::warn!("the cluster gave no answer: this member's leases run out by themselves");
        }
    }

    fn lease(&self) -> Duration {
        self.link.config().lease
    }

    async fn keep_leases(&self) {
        while !self.work.borrow().is_leaving {
            let sent = (Instant::now(), clock::now().as_millisecond());
            let info = self.info().await;
            match self.link.renew(&info).await {
                Ok(board) => {
                    self.said_nothing();
                    self.hold(&board, sent);
                    self.hold_paused().await;
                    self.divide(&board, &info).await;
                }
                Err(error) => {
                    self.say(&error);
                    // What is wrong stays so: others may do better.
                    if needs_a_person(&error) {
                        let all: Vec<Duty> = self.work.borrow().held.keys().cloned().collect();
                        all.iter().for_each(|duty| self.end(duty, false));
                    }
                }
            }
            // Dropped without an answer only.
            drop(timeout(self.lease() / RENEWALS, self.look.notified()).await);
        }
    }

    /// Says once what keeps this member from its work.
    fn say(&self, error: &EngineError) {
        let what = error.to_string();
        let mut work = self.work.borrow_mut();
        if work.said.as_ref() != Some(&what) {
            log::error!("this machine does not deliver at present: {what}");
            work.said = Some(what.clone());
        }
        self.door.tell_of_fleet(Some(what));
    }

    fn said_nothing(&self) {
        if self.work.borrow_mut().said.take().is_some() {
            log::info!("the cluster answers again");
        }
        self.door.tell_of_fleet(None);
    }

    /// What this member says of itself.
    async fn info(&self) -> MemberInfo {
        let found = self.router.send(FindDeliverable).await.unwrap_or_default();
        let wants = found.iter().map(|(id, _)| id.clone()).collect();
        self.work.borrow_mut().deliverable = found.into_iter().collect();
        let config = (self.config)();
        MemberInfo {
            host: host::name(true).unwrap_or_default(),
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            config: hex::encode(&sha256(config.fingerprint().as_bytes())[..6]),
            wants,
        }
    }

    /// Goes on with the leases that were renewed, and ends those that were not.
    fn hold(&self, board: &Board, sent: (Instant, i64)) {
        let mut lost = Vec::new();
        for (duty, holding) in &self.work.borrow().held {
            match board.renewed.get(duty) {
                Some(epoch) if *epoch == holding.tenure.epoch => holding.tenure.renewed(sent, self.lease()),
                _ => lost.push(duty.clone()),
            }
        }
        for duty in lost {
            self.end(&duty, true);
        }
    }

    /// Tells the Subscriptions whom a person has paused, on any machine.
    async fn hold_paused(&self) {
        let at = Instant::now();
        let Ok(pauses) = self.link.pauses().await else { return };
        self.work.borrow_mut().pauses.clone_from(&pauses);
        // All of them: one may hold as a person asked here, and have been let go elsewhere since.
        let all = self.work.borrow().deliverable.clone();
        for (id, address) in all {
            if address.send(HoldAs { pause: pauses.get(&id).cloned(), at }).await.is_err() {
                log::error!("{id} has stopped: another member takes it over");
            }
        }
    }

    /// Takes what is this member's share, and hands on what is another's.
    async fn divide(&self, board: &Board, info: &MemberInfo) {
        let held: BTreeSet<Duty> = self.work.borrow().held.keys().cloned().collect();
        let plan = plan(self.link.member(), &board.members, &board.leases, &held);
        for duty in plan.give.iter().filter(|duty| self.epoch_of(duty).is_some()).take(GIVEN_AT_ONCE) {
            self.end(duty, false);
        }
        let wished = info.wants.iter().cloned().map(Duty::Deliver).chain([Duty::Route]);
        let is_free = |duty: &Duty| board.leases.get(duty).is_some_and(|seen| !seen.is_live);
        let free = wished.filter(is_free).count() - plan.take.iter().filter(|duty| is_free(duty)).count();
        self.work.borrow_mut().free = i64::try_from(free).unwrap_or_default();
        if plan.take.is_empty() {
            return;
        }
        let sent = (Instant::now(), clock::now().as_millisecond());
        match self.link.acquire(&plan.take).await {
            Ok(got) => got.into_iter().for_each(|(duty, epoch)| {
                log::info!("{duty} is this member's now (epoch {epoch})");
                let tenure = Tenure::new(epoch, sent, self.lease());
                let mut work = self.work.borrow_mut();
                let subscription = match &duty {
                    Duty::Deliver(id) => work.deliverable.get(id).cloned(),
                    Duty::Route => None,
                };
                if let (Duty::Deliver(id), Some(address)) = (&duty, subscription.clone()) {
                    let (member, id, tenure) = (self.clone(), id.clone(), tenure.clone());
                    actix_rt::spawn(async move { member.take(&id, address, tenure).await });
                }
                let holding = Holding { tenure, subscription, cursor: None, is_ending: false };
                work.held.insert(duty, holding);
            }),
            Err(error) if is_locked(&error) => {
                log::warn!("a member whose leases ran out still holds them by a transaction: it is ended");
                if let Err(error) = self.link.end_sessions(&plan.take).await {
                    log::warn!("{error}");
                }
                self.look.notify_one();
            }
            Err(error) => self.say(&error),
        }
    }

    /// Gives a Subscription what waits for it.
    async fn take(&self, id: &SubscriptionId, address: Addr<Subscription>, tenure: Tenure) {
        let duty = Duty::Deliver(id.clone());
        while self.has(&duty, tenure.epoch) {
            match self.link.take(id).await {
                Ok((Waiting { unfinished, cursor }, health)) => {
                    if !self.has(&duty, tenure.epoch) {
                        return;
                    }
                    let pause = self.work.borrow().pauses.get(id).cloned();
                    let epoch = tenure.epoch;
                    let take = Take { tenure, unfinished, health, pause };
                    if address.send(take).await.is_err() {
                        return log::error!("{id} has stopped: another member takes it over");
                    }
                    if let Some(holding) = self.work.borrow_mut().held.get_mut(&duty)
                        && holding.tenure.epoch == epoch
                    {
                        holding.cursor = Some(cursor);
                    }
                    return;
                }
                Err(error) => {
                    log::warn!("what waits for {id} cannot be read yet: {error}");
                    sleep(AGAIN).await;
                }
            }
        }
    }

    /// The epoch of a lease that it has and keeps.
    fn epoch_of(&self, duty: &Duty) -> Option<i64> {
        let work = self.work.borrow();
        work.held.get(duty).filter(|holding| !holding.is_ending).map(|holding| holding.tenure.epoch)
    }

    /// Whether it has this lease and keeps it.
    fn has(&self, duty: &Duty, epoch: i64) -> bool {
        self.epoch_of(duty) == Some(epoch)
    }

    /// Ends a duty: when nothing of it is under way any more, the lease is given up, unless it was
    /// lost.
    fn end(&self, duty: &Duty, is_lost: bool) {
        let (epoch, subscription) = match self.work.borrow_mut().held.get_mut(duty) {
            Some(holding) if !holding.is_ending => {
                holding.is_ending = true;
                match is_lost {
                    true => log::warn!("the lease of {duty} ran out: another member may have it"),
                    false => log::info!("{duty} is handed on to another member"),
                }
                (holding.tenure.epoch, holding.subscription.clone())
            }
            _ => return,
        };
        let (member, duty) = (self.clone(), duty.clone());
        actix_rt::spawn(async move {
            match &duty {
                Duty::Route => {
                    while member.work.borrow().is_routing {
                        sleep(POLL / 10).await;
                    }
                    if member.router.send(StandDown).await.is_err() {
                        log::debug!("the router has stopped");
                    }
                }
                Duty::Deliver(_) => {
                    let (quiet, answer) = oneshot::channel();
                    if let Some(address) = subscription
                        && address.send(Yield(quiet)).await.is_ok()
                    {
                        // An error means that it has ended.
                        drop(answer.await);
                    }
                }
            }
            if !is_lost && let Err(error) = member.link.release(Some((&duty, epoch))).await {
                log::warn!("the lease of {duty} runs out by itself: {error}");
            }
            member.work.borrow_mut().held.remove(&duty);
            member.look.notify_one();
        });
    }
}
