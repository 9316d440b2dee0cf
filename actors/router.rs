//! The Router: takes events in, tells new from known, and fans out to the subscriptions that want
//! them (`router/emit.rs`).

mod emit;
mod fan_out;
mod lead;
mod lifecycle;
mod operator;
mod runs;
mod stalls;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use actix::prelude::*;
use actix_rt::ArbiterHandle;
use tokio::sync::oneshot;

use super::alarm::Alarm;
use super::attempt::Settings;
use super::ledger::Ledger;
use super::subscription::{self, Right, Subscription};
use crate::answer::EmitError;
use crate::archive::{Healths, Pauses};
use crate::config::{Config, FleetConfig, FleetRole, Role, SubscriptionConfig};
use crate::delivery::{BodyBudget, Dedupe, DeliveryId, Identities, KeyDigest, SubscriptionId};
use crate::event::SpecId;
use crate::feed::Feed;
use crate::fleet::Term;
use crate::names::counted;
use crate::run::{AwaitedStage, Run, Silences};
use crate::sources::checkout::Checkout;
use crate::spool::{Recovered, Unfinished};
use emit::stopped;
pub(crate) use emit::{Emit, From};
pub(crate) use lead::{FindDeliverable, Lead, StandDown};
pub(crate) use lifecycle::{Close, Reconfigure, WaitIdle};
pub(crate) use operator::{
    DiscardWaiting, FindActive, FindAny, FindUnfinished, Found, ListAllUnfinished, ReadQueues,
};
pub(crate) use stalls::Await;

/// Bytes of waiting bodies kept in memory, over all subscriptions; others are read back from the
/// spool when their turn comes.
const MAX_BODY_BYTES: usize = 8 * 1024 * 1024;

/// Messages that may wait: more than admission lets in.
const MAILBOX: usize = 4 * 1024;

/// From the task that looks after the files: these deliveries' payloads were removed. One at a
/// time.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GiveUpLost(pub(crate) Vec<DeliveryId>);

/// One subscription, as the Router sees it.
struct Subscriber {
    id: SubscriptionId,
    /// Absent while it is not active.
    config: Option<Arc<SubscriptionConfig>>,
    address: Addr<Subscription>,
}

impl Subscriber {
    fn role(&self) -> Role {
        self.config.as_ref().map_or(Role::Inactive, |config| config.role())
    }
}

/// See the module's first line.
pub(crate) struct Router {
    subscribers: Vec<Subscriber>,
    ledger: Addr<Ledger>,
    known: Dedupe,
    /// Tells which event it is where one comes without an identity.
    identities: Identities,
    bodies: BodyBudget,
    /// Events being accepted, and who else emitted the same ones meanwhile.
    accepting: HashMap<KeyDigest, Vec<oneshot::Sender<Result<(), EmitError>>>>,
    /// Events that the Ledger has just been asked to write.
    written_next: Vec<emit::Writing>,
    config: Arc<Config>,
    checkout: Checkout,
    runs: HashMap<SpecId, Run>,
    /// The last `event.sequence` that each SPEC was given. One whose event was not accepted after
    /// all is not given again in this run.
    sequences: HashMap<SpecId, u64>,
    /// The health and the pauses of subscriptions as recovered, for those not started yet.
    healths: Healths,
    pauses: Pauses,
    /// The thread of the subscriptions: this one may block on the disk, and requests must not.
    deliveries: ArbiterHandle,
    /// SPECs with an event that was not accepted: their runs have to be read from disk.
    unsure: HashSet<SpecId>,
    /// Timers of the runs whose end is to be told.
    ending: HashMap<SpecId, SpawnHandle>,
    /// When to look which run went silent, and the timer for the first of them.
    silences: Silences,
    silence_timer: Option<SpawnHandle>,
    /// Stages that wait for their agents: their runs may go silent too.
    awaited: Vec<AwaitedStage>,
    open: bool,
    /// By what right it routes, where it is one of a fleet.
    seat: Option<Seat>,
    alarm: Alarm,
    feed: Feed,
}

/// A Router's place in a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    /// Another member routes.
    Stands,
    Leads(Term),
}

impl Actor for Router {
    type Context = Context<Self>;

    /// Tells first what runs still owed at the last stop.
    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        let specs: Vec<SpecId> = self.runs.keys().cloned().collect();
        for spec in specs {
            self.tell_of_run(&spec, context);
            self.expect_life(&spec, None);
        }
        self.await_silence(context);
    }
}

impl Router {
    /// A Router with what was recovered from disk, and one Subscription for each config entry and
    /// for each other id with unfinished deliveries.
    pub(crate) fn new(
        entries: Vec<(SubscriptionId, Option<Settings>)>,
        (recovered, healths, pauses): (Recovered, Healths, Pauses),
        ledger: Addr<Ledger>,
        deliveries: ArbiterHandle,
        config: Arc<Config>,
        checkout: Checkout,
        (alarm, feed): (Alarm, Feed),
    ) -> Self {
        let mut unfinished = recovered.unfinished;
        let mut router = Self {
            subscribers: Vec::new(),
            ledger,
            known: Dedupe::new(config.dedupe_window),
            identities: Identities::default(),
            bodies: BodyBudget::new(MAX_BODY_BYTES),
            accepting: HashMap::new(),
            written_next: Vec::new(),
            config,
            checkout,
            runs: recovered.runs,
            sequences: recovered.sequences,
            healths,
            pauses,
            deliveries,
            unsure: HashSet::new(),
            ending: HashMap::new(),
            silences: Silences::default(),
            silence_timer: None,
            awaited: Vec::new(),
            open: true,
            seat: None,
            alarm,
            feed,
        };
        let delivers = |fleet: &FleetConfig| fleet.role == FleetRole::Deliver;
        router.seat = router.config.fleet.as_ref().filter(|fleet| delivers(fleet)).map(|_| Seat::Stands);
        for (id, settings) in entries {
            let waiting = unfinished.remove(&id).unwrap_or_default();
            router.add(id, settings, waiting);
        }
        for (id, waiting) in unfinished {
            router.add(id, None, waiting);
        }
        // One that is not in the config now stays paused when it returns.
        for id in router.pauses.keys().cloned().collect::<Vec<_>>() {
            router.add(id, None, Vec::new());
        }
        for (spec, key, told) in recovered.told {
            router.identities.restore(&spec, key, told);
        }
        // Last, because it takes long: the subscriptions start meanwhile on their own thread.
        router.known.restore(recovered.known);
        router
    }

    fn add(&mut self, id: SubscriptionId, settings: Option<Settings>, waiting: Vec<Unfinished>) {
        let pending = counted(waiting.len(), "pending delivery", "pending deliveries");
        match (waiting.len(), &settings) {
            (0, _) => {}
            (_, None) => log::warn!(
                subscription:% = id;
                "{pending} for `{id}`, which is not an active subscription: \
                 kept in the spool until it returns"
            ),
            (_, Some(_)) => {
                log::info!(subscription:% = id; "{pending} of {id} recovered from the spool");
            }
        }
        let (ledger, told) = (self.ledger.clone(), (self.alarm.clone(), self.feed.clone()));
        let health = self.healths.remove(&id).unwrap_or_default();
        let pause = self.pauses.remove(&id);
        if let Some(pause) = &pause {
            log::warn!("{id} is paused by {}: what waits for it is held back", pause.by);
        }
        let (of, config) = (id.clone(), settings.as_ref().map(|settings| settings.config.clone()));
        let right = if self.seat.is_some() { Right::None } else { Right::Own };
        let address = Subscription::start_in_arbiter(&self.deliveries, move |_| {
            Subscription::new(of, settings, ledger, waiting, (health, pause), right, told)
        });
        self.subscribers.push(Subscriber { id, config, address });
    }

    #[cfg(test)]
    pub(super) fn first_subscriber(&self) -> &Addr<Subscription> {
        &self.subscribers[0].address
    }

    #[cfg(test)]
    pub(super) fn ledger(&self) -> &Addr<Ledger> {
        &self.ledger
    }

    fn active_ones(&self) -> impl Iterator<Item = (&Arc<SubscriptionConfig>, &Addr<Subscription>)> {
        self.subscribers.iter().filter_map(|one| Some((one.config.as_ref()?, &one.address)))
    }
}

impl Handler<GiveUpLost> for Router {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, GiveUpLost(lost): GiveUpLost, _: &mut Self::Context) -> Self::Result {
        let lost = Arc::new(lost.into_iter().collect::<HashSet<_>>());
        let tell = |one: &Subscriber| one.address.send(subscription::GiveUpLost(lost.clone()));
        let told: Vec<_> = self.subscribers.iter().map(tell).collect();
        Box::pin(async move {
            for told in told {
                if told.await.is_err() {
                    log::error!(
                        "a subscription has stopped: its deliveries are looked for at the next start"
                    );
                }
            }
        })
    }
}
