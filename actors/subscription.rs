//! A Subscription: one config entry's mailbox, its lane of deliveries, and its one timer. One that
//! is inactive, or no longer in the config, holds what waits for it until it returns.

mod records;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::alarm::Alarm;
use super::attempt::{self, Settings};
use super::ledger::{KeepHealth, Ledger, NoBody, ReadBody, RecordAttempt};
use super::permits::{Asked, Permit, Seat};
use super::tell::tell;
use crate::clock;
use crate::delivery::{
    Body, Delivery, DeliveryId, Health, HealthState, InFlight, Jitter, Judgement, Lane, LocalFault,
    MAX_RETRY_AFTER, OPEN_AFTER, Outcome, Payload, Pending, Reason, RetryPolicy, SubscriptionId, Turn,
    Verdict, retry_at,
};
use crate::event::SpecId;
use crate::http::{Client, Target};
use crate::store::{Attempt, Cursor, DeadLetter, DeliveryState, Effect, Finished, Listed, Query, Unfinished};
use records::{Gathered, hand, written};

/// Finished attempts whose record the Ledger has not written yet; no new attempt starts beyond it,
/// and so a full disk pauses the subscription.
const MAX_UNRECORDED: usize = 64;

/// Messages that may wait: more than admission lets in.
const MAILBOX: usize = 4 * 1024;

/// How long a delivery waits whose payload could not be read.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// From the Router, for each accepted event. What is lost on the way is found in the spool by the
/// next start.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Enqueue {
    pub(crate) pending: Pending,
    /// Of its event: until this is handled, and so the bound of these messages.
    pub(crate) _admission: Option<Arc<OwnedSemaphorePermit>>,
}

/// From a task of its own: an attempt ended, or could not be made. Bounded by `max_in_flight`.
#[derive(Message)]
#[rtype(result = "()")]
struct Ended {
    in_flight: InFlight,
    attempt: Result<Attempt, NoBody>,
    /// Given back once the next attempt has asked for its own: who is quick has its turn then.
    permit: Option<Permit>,
}

/// From the Router, on an operator's request: one attempt now, outside the lane but under the same
/// permits. Bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "Result<Sent, RequestError>")]
pub(crate) struct SendNow {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) body: Bytes,
    pub(crate) purpose: Purpose,
}

/// Why one attempt is made now.
pub(crate) enum Purpose {
    /// To try the subscription out, or only to see what would be sent.
    Sample { dry_run: bool },
    /// To resolve a dead letter.
    Replay(Box<DeadLetter>),
}

/// One attempt made on request, and whether the endpoint took it.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    /// Its payload.
    pub(crate) body: Bytes,
    /// What was sent, and what came of it.
    pub(crate) finished: Arc<Finished>,
    /// Whether it arrived (or, for a dry run, would have been sent).
    pub(crate) succeeded: bool,
}

/// Why a runtime did not do what was asked of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It would not.
    #[error("{0}")]
    Refused(String),
    /// It could not be asked, or gave no answer.
    #[error("no runtime is reachable: {0}")]
    Unreachable(String),
}

/// From the Router: answered when nothing is under way and nothing is due. With `close`, nothing
/// starts any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Settle {
    pub(crate) close: bool,
    pub(crate) reply: oneshot::Sender<()>,
}

/// From the Router, at a reload: other settings from now on, or none. What is under way ends as it
/// began.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Configure(pub(crate) Option<Settings>);

/// From the Router, for `status` and at the end of a run.
#[derive(Message)]
#[rtype(result = "Queue")]
pub(crate) struct ReadQueue;

/// From the Router: these deliveries' payloads were taken away; whichever of them wait here are
/// given up.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct GiveUpLost(pub(crate) Arc<HashSet<DeliveryId>>);

/// How many deliveries of a subscription are not finished.
#[derive(Clone, Debug, Default, PartialEq, Eq, MessageResponse)]
pub(crate) struct Queue {
    pub(crate) waiting: usize,
    pub(crate) in_flight: usize,
    /// When the oldest of them was accepted.
    pub(crate) oldest: Option<Timestamp>,
    /// How many of them cannot be read at the moment, and why.
    pub(crate) unread: Option<(usize, String)>,
}

/// From the Router, for `list`: what is under way, and the newest that wait and are wanted, one
/// more than the limit.
#[derive(Message)]
#[rtype(result = "Vec<Listed>")]
pub(crate) struct ListUnfinished {
    pub(crate) query: Arc<Query>,
}

/// A delivery that waits for its next attempt, and when that is due.
type Due = (Pending, Instant);

/// What an attempt needs; shared with the tasks that make them.
struct Sender {
    settings: Settings,
    client: Client,
    target: Target,
    /// Among those that share the permits; none where nothing is ever sent.
    seat: Option<Rc<Seat>>,
}

impl Sender {
    /// Asks for a permit, where one is needed.
    fn ask(&self, is_proven: bool, dry_run: bool) -> Option<Asked> {
        self.seat.as_ref().filter(|_| !dry_run).map(|seat| seat.ask(is_proven))
    }

    /// Makes the attempt once it has its permit, which whoever gets it back drops when nothing is
    /// to be asked for first.
    async fn send(
        self: Rc<Self>,
        asked: Option<Asked>,
        delivery: Arc<Delivery>,
        payload: Payload,
        number: u32,
        dry_run: bool,
    ) -> (Attempt, Option<Permit>) {
        let settings = &self.settings;
        let dry_run = dry_run || settings.config.dry_run;
        let permit = match asked {
            Some(asked) => asked.permit().await,
            None => None,
        };
        let attempt =
            attempt::make(&self.client, &self.target, settings, &delivery, payload, number, dry_run).await;
        (attempt, permit)
    }
}

/// See the module's first line.
pub(crate) struct Subscription {
    id: SubscriptionId,
    /// Absent while it is not active.
    sender: Option<Rc<Sender>>,
    ledger: Addr<Ledger>,
    lane: Lane,
    /// Deliveries whose attempt is under way or not recorded yet, and which attempt it is.
    under_way: HashMap<DeliveryId, (Arc<Delivery>, u32)>,
    unrecorded: usize,
    /// Attempts that ended and are not handed to the Ledger yet, oldest first.
    gathered: Vec<Gathered>,
    /// Deliveries that are to be given up because their payload is gone.
    gone: VecDeque<Pending>,
    /// Deliveries whose payload could not be read when it was their turn, and the last reason.
    unread: HashSet<DeliveryId>,
    why_unread: String,
    /// How its endpoint fares; the Ledger keeps it for the next start.
    health: Health,
    timer: Option<(Instant, SpawnHandle)>,
    settling: Vec<oneshot::Sender<()>>,
    alarm: Alarm,
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
        health: Health,
        alarm: Alarm,
    ) -> Self {
        let (now, wall) = (Instant::now(), clock::now());
        let mut subscription = Self {
            id,
            sender: None,
            ledger,
            lane: Lane::new(RetryPolicy::default(), 0, usize::MAX),
            under_way: HashMap::new(),
            unrecorded: 0,
            gathered: Vec::new(),
            gone: VecDeque::new(),
            unread: HashSet::new(),
            why_unread: String::new(),
            health,
            timer: None,
            settling: Vec::new(),
            alarm,
        };
        subscription.configure(settings);
        subscription.lane.set_narrow(subscription.health.state() == HealthState::Open);
        if let Some(until) = subscription.health.paused_until {
            // By a wall clock that may have jumped: at most as long as any pause may be.
            let left = Duration::try_from(until.duration_since(wall)).unwrap_or_default();
            subscription.lane.pause_until(now + left.min(MAX_RETRY_AFTER));
        }
        let policy = subscription.lane.policy().clone();
        subscription.lane.restore(unfinished.into_iter().map(
            |Unfinished { delivery, attempts, next_attempt_at }| {
                let wait = next_attempt_at
                    .map_or(Duration::ZERO, |at| policy.remaining_wait(attempts, at.duration_since(wall)));
                (Pending::recovered(delivery, attempts), now + wait)
            },
        ));
        subscription
    }

    fn configure(&mut self, settings: Option<Settings>) {
        let Some(settings) = settings else {
            // What waits is never dropped for want of a config entry.
            self.lane.configure(RetryPolicy::default(), 0, usize::MAX);
            self.lane.close();
            self.sender = None;
            return;
        };
        let config = &settings.config;
        self.lane.configure(config.retry.clone(), config.max_in_flight, settings.max_pending);
        self.lane.set_rate(config.rate_limit_per_s);
        let before = self.sender.take();
        let of_before = before.as_ref().and_then(|before| before.seat.clone());
        let seat = (!config.dry_run).then(|| {
            let kept = of_before.filter(|seat| seat.is_of(&settings.permits));
            kept.unwrap_or_else(|| Rc::new(Seat::new(&settings.permits)))
        });
        // Connections stay open where they can be used on.
        let is_usable =
            |before: &Rc<Sender>| before.client.is_with(settings.tls.as_ref(), config.proxy.as_ref());
        let client = before.filter(is_usable).map_or_else(
            || Client::new(settings.tls.clone(), config.proxy.clone(), settings.connections.clone()),
            |before| before.client.clone(),
        );
        let target = Target::new(&settings.endpoint);
        self.sender = Some(Rc::new(Sender { settings, client, target, seat }));
    }

    /// Starts what may start, arms the timer for the rest, and answers who waits for quiet.
    fn pump(&mut self, context: &mut Context<Self>) {
        let now = Instant::now();
        while self.unrecorded < MAX_UNRECORDED
            && let Some(dropped) = self.lane.shed()
        {
            self.drop_oldest(&dropped, context);
        }
        while self.unrecorded < MAX_UNRECORDED
            && let Some(gone) = self.gone.pop_front()
        {
            self.give_up(&gone, Reason::SpoolRemoved, context);
        }
        while self.unrecorded < MAX_UNRECORDED
            && let Some(sender) = &self.sender
            && let Some((in_flight, body)) = self.lane.start_next(now)
        {
            let sender = sender.clone();
            self.launch(sender, in_flight, body, context);
        }
        self.hand_over(now, context);
        let may_start = self.unrecorded < MAX_UNRECORDED;
        let due = may_start.then(|| self.lane.next_due_in(now)).flatten().map(|wait| now + wait);
        self.set_timer(due.into_iter().chain(self.hand_over_by()).min(), now, context);
        if self.unrecorded == 0 && self.gone.is_empty() && !self.lane.is_busy(now) {
            for reply in self.settling.drain(..) {
                if reply.send(()).is_err() {
                    log::debug!("nobody waits any more for {} to settle", self.id);
                }
            }
        }
    }

    /// Pumps again then; what is set already stays.
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

    fn launch(
        &mut self,
        sender: Rc<Sender>,
        in_flight: InFlight,
        body: Option<Body>,
        context: &mut Context<Self>,
    ) {
        let (delivery, number) = (in_flight.delivery().clone(), in_flight.attempt());
        log::debug!("attempt {number} of {} to {} begins", delivery.id, self.id);
        self.under_way.insert(delivery.id, (delivery.clone(), number));
        let (ledger, is_proven) = (self.ledger.clone(), self.health.is_proven());
        // What has its body asks at once; what has to read it holds no permit meanwhile.
        let asked = body.as_ref().and_then(|_| sender.ask(is_proven, false));
        let sending = async move {
            let payload = match &body {
                Some(body) => Payload::clone(body),
                None => Payload::new(read_body(&ledger, &delivery).await?),
            };
            let asked = asked.or_else(|| sender.ask(is_proven, false));
            let sent = sender.send(asked, delivery, payload, number, false).await;
            drop(body);
            Ok(sent)
        };
        self.spawn(context, async move {
            let (attempt, permit) = match sending.await {
                Ok((attempt, permit)) => (Ok(attempt), permit),
                Err(error) => (Err(error), None),
            };
            Ended { in_flight, attempt, permit }
        });
    }

    /// Runs `work` in a task of its own, which wakes nothing but itself, and takes what it comes
    /// to.
    fn spawn<M>(&self, context: &Context<Self>, work: impl Future<Output = M> + 'static)
    where
        Self: Handler<M>,
        M: Message<Result = ()> + Send + 'static,
    {
        let (alarm, address) = (self.alarm.clone(), context.address());
        actix_rt::spawn(async move {
            let _alarm = alarm;
            if !tell(&address, work.await).await {
                log::error!(
                    "a subscription has stopped: what it had under way is done again at the next start"
                );
            }
        });
    }

    /// Takes back an attempt that was none. What hindered it hinders those behind it too.
    fn put_back(&mut self, in_flight: InFlight, wait: Duration) {
        let now = Instant::now();
        self.lane.put_back(in_flight, now, wait);
        self.lane.pause_until(now + wait);
    }

    /// Whether this machine was not able to make an attempt, which is none then: its delivery
    /// waits, and so do all.
    fn was_held(&mut self, outcome: &Outcome) -> Option<Duration> {
        let before = self.health.local_fault.clone();
        let wait = self.health.note_local(outcome, clock::now())?;
        if self.health.local_fault != before
            && let Some(LocalFault { error, hint, .. }) = &self.health.local_fault
        {
            log::error!(
                "nothing can be sent to {}: {error}; {hint}. What waits is tried again by itself",
                self.id
            );
            let (ledger, subscription) = (self.ledger.clone(), self.id.clone());
            let health = self.health.clone();
            actix_rt::spawn(async move {
                if !tell(&ledger, KeepHealth { subscription, health }).await {
                    log::debug!("the ledger has stopped");
                }
            });
        }
        Some(wait)
    }

    fn finished(&mut self, in_flight: InFlight, attempt: Attempt, context: &mut Context<Self>) {
        let delivery = in_flight.delivery().clone();
        if let Some(wait) = attempt.outcome.as_ref().and_then(|outcome| self.was_held(outcome)) {
            self.under_way.remove(&delivery.id);
            self.put_back(in_flight, wait);
            return self.pump(context);
        }
        let number = in_flight.attempt();
        let jitter = Jitter(self.lane.policy().jitter.mul_f64(clock::fraction()));
        let (effect, retry) = match &attempt.outcome {
            None => {
                log::info!("dry run: {} to {} is recorded and not sent", delivery.id, self.id);
                self.lane.release();
                (Effect::DryRun, None)
            }
            Some(outcome) => {
                self.note_health(&attempt, outcome, &delivery.spec);
                let verdict = self.lane.finished(in_flight, outcome, jitter, Instant::now());
                log_verdict(&self.id, &delivery, number, outcome, &verdict);
                match verdict {
                    Verdict::Delivered => (Effect::Delivered, None),
                    Verdict::DeadLetter(reason) => (Effect::DeadLetter(reason), None),
                    Verdict::Retry { pending, wait } => {
                        let (now, wall) = (Instant::now(), clock::now());
                        let next_attempt_at = retry_at(wall, wait);
                        let wait = Duration::try_from(next_attempt_at.duration_since(wall)).unwrap_or(wait);
                        (Effect::Retry { next_attempt_at }, Some((pending, now + wait)))
                    }
                }
            }
        };
        self.gather(Finished { delivery, attempt, effect }, retry);
        self.pump(context);
    }

    /// Takes note of how an attempt ended; says so where the breaker turns, once and not for each
    /// delivery.
    fn note_health(&mut self, attempt: &Attempt, outcome: &Outcome, spec: &SpecId) {
        let turn = self.health.note(outcome, spec, clock::now(), || attempt.summary().in_words());
        match turn {
            None => return,
            Some(Turn::Opened) => log::error!(
                "{} failed {OPEN_AFTER} times in a row, the last with {}: from now on one request at a time, \
                 until one succeeds",
                self.id,
                outcome.summary()
            ),
            Some(Turn::Closed) => log::info!("{} takes deliveries again", self.id),
        }
        self.lane.set_narrow(turn == Some(Turn::Opened));
    }
}

async fn read_body(ledger: &Addr<Ledger>, delivery: &Delivery) -> Result<Bytes, NoBody> {
    let read = ledger.send(ReadBody { spec: delivery.spec.clone(), id: delivery.id }).await;
    read.unwrap_or_else(|_| Err(NoBody::NotNow("the ledger has stopped".to_owned())))
}

fn log_verdict(
    subscription: &SubscriptionId,
    delivery: &Delivery,
    number: u32,
    outcome: &Outcome,
    verdict: &Verdict,
) {
    let summary = outcome.summary();
    let what = format!("{} ({})", delivery.key, delivery.id);
    match verdict {
        Verdict::Delivered => log::info!("delivered {what} to {subscription} at attempt {number}: {summary}"),
        Verdict::Retry { wait, .. } => {
            let seconds = wait.as_secs_f64();
            log::warn!(
                "attempt {number} of {what} to {subscription} failed, next in {seconds:.1} s: {summary}"
            );
        }
        Verdict::DeadLetter(reason) => {
            let hint = reason.hint(outcome.advice().as_deref());
            log::error!(
                "gave {what} to {subscription} up after attempt {number}, {reason}: {summary}; {hint}"
            );
        }
    }
}

impl Handler<Enqueue> for Subscription {
    type Result = ();

    fn handle(&mut self, Enqueue { pending, .. }: Enqueue, context: &mut Self::Context) {
        self.lane.enqueue(pending, Instant::now());
        self.pump(context);
    }
}

impl Handler<Ended> for Subscription {
    type Result = ();

    fn handle(&mut self, ended: Ended, context: &mut Self::Context) {
        let Ended { in_flight, attempt, permit } = ended;
        let id = in_flight.delivery().id;
        match attempt {
            Ok(attempt) => {
                self.unread.remove(&id);
                self.finished(in_flight, attempt, context);
            }
            Err(NoBody::NotNow(error)) => {
                if self.unread.is_empty() {
                    log::warn!("{id} cannot be read from the spool and is tried again each second: {error}");
                }
                self.under_way.remove(&id);
                self.unread.insert(id);
                self.why_unread = error;
                self.put_back(in_flight, READ_AGAIN);
                self.pump(context);
            }
            Err(NoBody::Gone(error)) => {
                log::error!("the payload of {id} is gone: {error}; it becomes a dead letter");
                self.under_way.remove(&id);
                self.lane.release();
                self.gone.push_back(in_flight.put_back());
                self.pump(context);
            }
        }
        // By now whatever may start has asked.
        drop(permit);
    }
}

impl Handler<GiveUpLost> for Subscription {
    type Result = ();

    fn handle(&mut self, GiveUpLost(lost): GiveUpLost, context: &mut Self::Context) {
        self.gone.extend(self.lane.take(&lost));
        self.pump(context);
    }
}

impl Handler<SendNow> for Subscription {
    type Result = ResponseActFuture<Self, Result<Sent, RequestError>>;

    fn handle(&mut self, message: SendNow, _: &mut Self::Context) -> Self::Result {
        let SendNow { delivery, body, purpose } = message;
        let number = match &purpose {
            Purpose::Sample { .. } => 1,
            Purpose::Replay(letter) => {
                u32::try_from(letter.attempts.len()).unwrap_or(u32::MAX).saturating_add(1)
            }
        };
        let Some(sender) = self.sender.clone() else {
            let error = RequestError::Refused(format!(
                "the subscription `{}` is not active: set active = true, or give it an entry in the config",
                self.id
            ));
            return Box::pin(actix::fut::err(error));
        };
        let dry_run = matches!(purpose, Purpose::Sample { dry_run: true });
        let payload = Payload::new(body.clone());
        let asked = sender.ask(self.health.is_proven(), dry_run);
        let sending = sender.send(asked, delivery.clone(), payload, number, dry_run);
        Box::pin(sending.into_actor(self).then(move |(attempt, permit), subscription, context| {
            let mut is_none = false;
            if let Some(outcome) = &attempt.outcome {
                is_none = subscription.was_held(outcome).is_some();
                if !is_none {
                    subscription.note_health(&attempt, outcome, &delivery.spec);
                }
                subscription.pump(context);
            }
            drop(permit);
            let arrived =
                attempt.outcome.as_ref().is_some_and(|outcome| outcome.judge() == Judgement::Delivered);
            let effect = match purpose {
                Purpose::Sample { .. } => Effect::Sample,
                Purpose::Replay(_) if arrived => Effect::Replayed,
                Purpose::Replay(letter) => Effect::ReplayFailed(letter),
            };
            let succeeded = arrived || attempt.outcome.is_none();
            let ledger = subscription.ledger.clone();
            let health = attempt.outcome.as_ref().map(|_| subscription.health.clone());
            async move {
                let finished = Arc::new(Finished { delivery, attempt, effect });
                // What this machine could not send was no attempt, and a dead letter is as it was.
                if !is_none {
                    let of = finished.clone();
                    let record = |reply| RecordAttempt { finished: of, again: false, health, reply };
                    let answer = hand(&ledger, record);
                    written(answer)
                        .await
                        .map_err(|error| RequestError::Refused(format!("sent, but not recorded: {error}")))?;
                }
                Ok(Sent { body, finished, succeeded })
            }
            .into_actor(subscription)
        }))
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

impl Handler<ReadQueue> for Subscription {
    type Result = Queue;

    fn handle(&mut self, _: ReadQueue, _: &mut Self::Context) -> Queue {
        let waits = self.lane.oldest().map(|pending| pending.delivery().accepted_at);
        let under_way = self.under_way.values().map(|(delivery, _)| delivery.accepted_at).min();
        let unread = (!self.unread.is_empty()).then(|| (self.unread.len(), self.why_unread.clone()));
        Queue {
            waiting: self.lane.waiting() + self.gone.len(),
            in_flight: self.under_way.len(),
            oldest: waits.into_iter().chain(under_way).min(),
            unread,
        }
    }
}

impl Handler<ListUnfinished> for Subscription {
    type Result = MessageResult<ListUnfinished>;

    fn handle(&mut self, wanted: ListUnfinished, _: &mut Self::Context) -> Self::Result {
        let (now, wall) = (Instant::now(), clock::now());
        let under_way = self.under_way.values().map(|(delivery, number)| {
            Listed::unfinished(delivery, DeliveryState::InFlight, number.saturating_sub(1), None)
        });
        // The lane's order is nearly that of acceptance: those accepted at the same moment may
        // have come in any order.
        let mut newest: BTreeMap<Cursor, Listed> = BTreeMap::new();
        for (due, pending) in self.lane.newest_first() {
            let delivery = pending.delivery();
            let cursor = Cursor { accepted_at: delivery.accepted_at, id: delivery.id };
            let is_full = newest.len() > wanted.query.limit;
            if is_full && newest.first_key_value().is_some_and(|(oldest, _)| cursor < *oldest) {
                continue;
            }
            let due = wall + due.saturating_duration_since(now);
            let listed =
                Listed::unfinished(delivery, DeliveryState::Pending, pending.attempts_made(), Some(due));
            if wanted.query.wants(&listed) {
                newest.insert(cursor, listed);
                if is_full {
                    newest.pop_first();
                }
            }
        }
        MessageResult(under_way.chain(newest.into_values()).collect())
    }
}
