//! A Subscription: one config entry's mailbox, its lane of deliveries, and its one timer. One that
//! is inactive, or no longer in the config, holds what waits for it until it returns.

mod attempts;
mod discard;
mod operator;
mod outcome;
mod pause;
mod records;
mod right;
mod sender;
mod workers;

use std::cell::Cell;
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use futures_util::FutureExt as _;
use hashbrown::HashMap;
use tokio::sync::oneshot;

use super::acceptance::Enqueue;
use super::alarm::Alarm;
use super::attempt::Settings;
use super::ledger::Ledger;
use super::permits::Permit;
use super::tell::tell;
use crate::clock;
use crate::delivery::{
    Delivery, DeliveryId, Health, HealthState, Hold, Lane, MAX_RETRY_AFTER, Pause, Pending, Reason,
    RetryPolicy, SubscriptionId,
};
use crate::feed::Feed;
use crate::spool::Unfinished;
pub(crate) use discard::DiscardWaiting;
pub(crate) use operator::{Asked, ListUnfinished, ReadQueue, SendNow, ShowUnfinished, held, sendable};
pub(crate) use pause::SetPause;
use records::Gathered;
pub(crate) use right::{Follow, HoldAs, Right, Take, Yield};
use sender::{Requests, Sender};
use workers::Workers;

/// Results that a disk has refused and deliveries given up that are not written yet: at this many
/// no more are given up, and beside what is under way nothing starts.
const MAX_HELD_UP: usize = 64;

/// Messages that may wait: more than admission lets in.
const MAILBOX: usize = 4 * 1024;

/// From the Router: answered when nothing is under way and nothing is due. With `close`, no attempt
/// starts any more. One per `WaitIdle` or `Close`.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Settle {
    pub(crate) close: bool,
    pub(crate) reply: oneshot::Sender<()>,
}

/// From the Router, at a reload: new settings, or none. Attempts under way end with the old ones.
/// One at a time, as reloads are.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Configure(pub(crate) Option<Settings>);

/// From the Router: these deliveries' payloads were removed; those that wait here are given up. One
/// at a time.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GiveUpLost(pub(crate) Arc<HashSet<DeliveryId>>);

/// Said when what came of an attempt finds nobody.
const STOPPED: &str = "a subscription has stopped: its running attempts are made again at the next start";

/// A delivery that waits for its next attempt, and when that is due.
type Due = (Pending, Instant);

/// See the module's first line.
pub(crate) struct Subscription {
    id: SubscriptionId,
    /// Absent while it is not active.
    sender: Option<Rc<Sender>>,
    ledger: Addr<Ledger>,
    right: Right,
    lane: Lane,
    /// Deliveries whose attempt waits for a permit, is under way, or is not recorded yet, and which
    /// attempt it is.
    under_way: HashMap<DeliveryId, (Arc<Delivery>, u32)>,
    /// The requests that the endpoint sees.
    requests: Requests,
    /// Dead letters that are being sent again.
    replays: Requests,
    /// Attempts that operators asked for, from their turn until they are recorded.
    asked: Requests,
    /// Attempts that ended and that the Ledger has not answered yet.
    unwritten: usize,
    /// Results that the disk has refused and that are tried again, and deliveries given up unsent.
    held_up: usize,
    gathered: Gathered,
    workers: Workers,
    /// The permit of the attempt that has just ended, while the next ones ask for theirs.
    spare: Option<Permit>,
    /// Deliveries that are to be given up because their payload is gone.
    gone: VecDeque<Pending>,
    /// Deliveries whose payload could not be read when it was their turn, and the last reason.
    unread: HashSet<DeliveryId>,
    why_unread: String,
    /// The endpoint's health; the Ledger keeps it for the next start.
    health: Health,
    /// The health that the log said last.
    said: HealthState,
    /// While it is open: when that was said last, and how many attempts have failed since.
    failed_since_said: (Instant, u32),
    timer: Option<(Instant, SpawnHandle)>,
    settling: Vec<oneshot::Sender<()>>,
    hold: Hold,
    /// Of a fleet's: when the cluster had the pause in force.
    hold_as_of: Option<Instant>,
    /// Whether a person's pause is in force, for the attempts that wait for their turn.
    is_held: Rc<Cell<bool>>,
    alarm: Alarm,
    feed: Feed,
}

impl Actor for Subscription {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.set_mailbox_capacity(MAILBOX);
        self.pump(context);
    }
}

impl Subscription {
    /// A subscription that goes on with what the spool says is unfinished.
    pub(crate) fn new(
        id: SubscriptionId,
        settings: Option<Settings>,
        ledger: Addr<Ledger>,
        unfinished: impl IntoIterator<Item = Unfinished>,
        (health, pause): (Health, Option<Pause>),
        right: Right,
        (alarm, feed): (Alarm, Feed),
    ) -> Self {
        let mut subscription = Self {
            id,
            sender: None,
            ledger,
            right,
            lane: Lane::new(RetryPolicy::default(), 0, usize::MAX),
            under_way: HashMap::new(),
            requests: Requests::default(),
            replays: Requests::default(),
            asked: Requests::default(),
            unwritten: 0,
            held_up: 0,
            gathered: Gathered::default(),
            workers: Workers::default(),
            spare: None,
            gone: VecDeque::new(),
            unread: HashSet::new(),
            why_unread: String::new(),
            health: Health::default(),
            said: HealthState::Untried,
            failed_since_said: (Instant::now(), 0),
            timer: None,
            settling: Vec::new(),
            is_held: Rc::default(),
            hold: Hold::new(pause),
            hold_as_of: None,
            alarm,
            feed,
        };
        subscription.hold();
        subscription.configure(settings);
        subscription.recover(health);
        subscription.restore(unfinished);
        subscription
    }

    /// Goes on with the health that was known last.
    fn recover(&mut self, health: Health) {
        let (now, wall) = (Instant::now(), clock::now());
        self.health = health;
        self.lane.set_narrow(self.health.is_narrow());
        self.said = self.health.state(wall);
        if let Some(until) = self.health.paused_until {
            // The wall clock may have jumped: never wait longer than a pause may be.
            let left = Duration::try_from(until.duration_since(wall)).unwrap_or_default();
            self.lane.pause_until(now + left.min(MAX_RETRY_AFTER));
        }
    }

    /// Takes what waits, in its order.
    fn restore(&mut self, unfinished: impl IntoIterator<Item = Unfinished>) {
        let (now, wall) = (Instant::now(), clock::now());
        let policy = self.lane.policy().clone();
        self.lane.restore(unfinished.into_iter().map(|one| {
            let wait = one
                .next_attempt_at
                .map_or(Duration::ZERO, |at| policy.remaining_wait(one.attempts, at.duration_since(wall)));
            (one.delivery, one.attempts, now + wait)
        }));
    }

    /// Whether one more request may begin: so many are sent again after a kill, and what one SPEC's
    /// files refuse to take holds up the others' deliveries only once it is a lot.
    fn has_room(&self) -> bool {
        let (sent_again, most) = (self.unwritten + self.lane.in_flight(), self.lane.max_in_flight());
        sent_again < most + self.right.unwritten() && sent_again + self.held_up < most + MAX_HELD_UP
    }

    /// Starts what may start, arms the timer for the rest, and answers those who wait for quiet.
    fn pump(&mut self, context: &mut Context<Self>) {
        let now = Instant::now();
        while self.held_up < MAX_HELD_UP
            && let Some(dropped) = self.lane.shed()
        {
            self.drop_oldest(&dropped, context);
        }
        while self.held_up < MAX_HELD_UP
            && let Some(gone) = self.gone.pop_front()
        {
            self.give_up(&gone, Reason::SpoolRemoved, context);
        }
        while self.has_room()
            && self.right.may_start()
            && let Some(sender) = &self.sender
            && let Some((in_flight, body)) = self.lane.start_next(now)
        {
            let sender = sender.clone();
            self.launch(sender, in_flight, body, context);
        }
        self.hand_over(now, context);
        let due = self.has_room().then(|| self.lane.next_due_in(now)).flatten().map(|wait| now + wait);
        let due = match self.right.may_start() {
            true => due,
            false => due.and_then(|due| Some(due.max(self.right.look_again(now)?))),
        };
        self.set_timer(due.into_iter().chain(self.hand_over_by()).min(), now, context);
        self.feed.touch();
        if self.unwritten + self.held_up + self.asked.count() == 0
            && self.gone.is_empty()
            && !self.lane.is_busy(now)
        {
            for reply in self.settling.drain(..) {
                if reply.send(()).is_err() {
                    log::debug!("nobody waits any more for {} to settle", self.id);
                }
            }
        }
    }

    /// Sets the one timer to pump at this time; does nothing if it is set to it already.
    fn set_timer(&mut self, at: Option<Instant>, now: Instant, context: &mut Context<Self>) {
        if self.timer.as_ref().map(|(set, _)| *set) == at {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            context.cancel_future(timer);
        }
        self.timer = at.map(|at| {
            let timer = context.run_later(at.saturating_duration_since(now), |subscription, context| {
                subscription.timer = None;
                subscription.pump(context);
            });
            (at, timer)
        });
    }

    /// Runs `work` in its own task, which wakes no other future, and sends its result to this
    /// actor.
    fn spawn<M>(&self, context: &Context<Self>, work: impl Future<Output = M> + 'static)
    where
        Self: Handler<M>,
        M: Message<Result = ()> + Send + 'static,
    {
        let (alarm, address) = (self.alarm.clone(), context.address());
        // A block that awaits `work` would hold it twice: as what it was given, and as what it
        // waits for.
        actix_rt::spawn(work.then(move |message| {
            tell(&address, message).map(move |is_alive| {
                let _alarm = alarm;
                if !is_alive {
                    log::error!("{STOPPED}");
                }
            })
        }));
    }
}

impl Handler<Enqueue> for Subscription {
    type Result = ();

    fn handle(&mut self, Enqueue { pending, admissions }: Enqueue, context: &mut Self::Context) {
        let now = Instant::now();
        pending.into_iter().for_each(|pending| self.lane.enqueue(pending, now));
        self.pump(context);
        drop(admissions);
    }
}

impl Handler<GiveUpLost> for Subscription {
    type Result = ();

    fn handle(&mut self, GiveUpLost(lost): GiveUpLost, context: &mut Self::Context) {
        self.gone.extend(self.lane.take(&lost).into_iter().map(|(pending, _)| pending));
        self.pump(context);
    }
}

impl Handler<Settle> for Subscription {
    type Result = ();

    fn handle(&mut self, settle: Settle, context: &mut Self::Context) {
        if settle.close {
            self.lane.close();
        }
        self.settling.push(settle.reply);
        self.pump(context);
    }
}

impl Handler<Configure> for Subscription {
    type Result = ();

    fn handle(&mut self, Configure(settings): Configure, context: &mut Self::Context) {
        self.configure(settings);
        self.pump(context);
    }
}
