//! What operators ask of a Subscription: one attempt now, what waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_rt::time::sleep;
use bytes::Bytes;

use super::Subscription;
use super::records::{record, written};
use super::sender::{Sender, UnderWay};
use crate::actors::ledger::{Ledger, ReadDeadLetter};
use crate::answer::RequestError;
use crate::archive::{Attempt, DeadLetter, Effect, Finished};
use crate::ask::SentReport;
use crate::clock;
use crate::delivery::{Delivery, DeliveryId, Judgement, Pause, Payload, Queued, SubscriptionId};
use crate::event::SpecId;
use crate::inspect::{Cursor, DeliveryState, Listed, Query, Queue, Unended, Wait, WaitKind};

/// The longest that a request of an operator waits for its turn within the rate limit.
const LONGEST_TURN: Duration = Duration::from_secs(60);

/// From the door, on an operator's request: one attempt now, outside the lane but under the same
/// permits and the same rate limit. Bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "Result<SentReport, RequestError>")]
pub(crate) struct SendNow(pub(crate) Asked);

/// What is to be sent now.
pub(crate) enum Asked {
    /// To try the subscription out, or to show what would be sent.
    Sample { delivery: Arc<Delivery>, body: Bytes, dry_run: bool },
    /// To resolve a dead letter, which is read when its turn has come.
    Replay { spec: SpecId, id: DeliveryId, unless_paused: bool },
}

/// One attempt that an operator asked for, whose turn has come.
struct ToSend {
    delivery: Arc<Delivery>,
    body: Bytes,
    /// The dead letter that it is to resolve.
    letter: Option<DeadLetter>,
}

impl Asked {
    async fn read(self, ledger: &Addr<Ledger>) -> Result<ToSend, RequestError> {
        match self {
            Self::Sample { delivery, body, .. } => Ok(ToSend { delivery, body, letter: None }),
            Self::Replay { spec, id, .. } => {
                let stopped = |_| RequestError::Unreachable("the ledger has stopped".to_owned());
                let read = ledger.send(ReadDeadLetter { spec, id }).await.map_err(stopped)?;
                let letter = sendable(read?)?;
                let (delivery, body) = (Arc::new(letter.delivery()), letter.payload());
                Ok(ToSend { delivery, body, letter: Some(letter) })
            }
        }
    }
}

/// This dead letter, if it can be sent again.
pub(crate) fn sendable(letter: DeadLetter) -> Result<DeadLetter, RequestError> {
    match letter.has_payload() {
        true => Ok(letter),
        false => Err(RequestError::Refused(format!(
            "the dead letter {} cannot be sent again: {}; {}",
            letter.id, letter.message, letter.hint
        ))),
    }
}

/// That a subscription is paused, so that none of many is sent.
pub(crate) fn held(id: &SubscriptionId, Pause { by, .. }: &Pause) -> RequestError {
    RequestError::Refused(format!("{id} is paused by {by}: spec-notify resume {id}, or replay it by its id"))
}

/// From the Router, for `status` and at the end of a run. One per request.
#[derive(Message)]
#[rtype(result = "Queue")]
pub(crate) struct ReadQueue;

/// From the Router, for `list`: what is under way, and the newest waiting deliveries that match,
/// one more than the limit. One per listing.
#[derive(Message)]
#[rtype(result = "Vec<Listed>")]
pub(crate) struct ListUnfinished {
    pub(crate) query: Arc<Query>,
}

/// From the Router, for `show`: an unfinished delivery and what it waits for. One per request.
#[derive(Message)]
#[rtype(result = "Option<Unended>")]
pub(crate) struct ShowUnfinished(pub(crate) DeliveryId);

impl Subscription {
    /// Takes a turn within the rate limit for a request of an operator; how long it is until then.
    fn turn(&mut self, dry_run: bool, now: Instant) -> Result<Duration, RequestError> {
        let wait = self.lane.next_turn_in(now);
        match (dry_run, wait > LONGEST_TURN) {
            (true, _) => Ok(Duration::ZERO),
            (false, false) => Ok(self.lane.take_turn(now)),
            (false, true) => Err(RequestError::Refused(format!(
                "rate_limit_per_s lets the next request to {} go in {} s: try again then",
                self.id,
                wait.as_secs()
            ))),
        }
    }

    /// Why a waiting delivery is not sent now.
    fn waits(&self, due: Instant, ahead: usize) -> Vec<Wait> {
        let (now, wall) = (Instant::now(), clock::now());
        let at = |until: Instant| wall + until.saturating_duration_since(now);
        let mut waits = Vec::new();
        if self.sender.is_none() {
            waits.push(Wait::of(WaitKind::Inactive));
        }
        if let Some(pause) = self.hold.pause() {
            waits.push(Wait::noted(WaitKind::Paused, pause.by.clone()));
        }
        if due > now {
            waits.push(Wait::until(WaitKind::Backoff, at(due)));
        }
        let (paused, limited) = self.lane.stands_still_until();
        match (&self.health.local_fault, paused.filter(|until| *until > now)) {
            (Some(fault), _) => waits.push(Wait::noted(WaitKind::LocalFault, fault.error.clone())),
            (None, Some(until)) => waits.push(Wait::until(WaitKind::EndpointPause, at(until))),
            (None, None) => {}
        }
        if let Some(until) = limited.filter(|until| *until > now) {
            waits.push(Wait::until(WaitKind::RateLimit, at(until)));
        }
        if self.health.is_narrow() {
            waits.push(Wait::of(WaitKind::Breaker));
        }
        if due <= now && (ahead > 0 || waits.is_empty()) {
            let ahead = ahead + self.under_way.len();
            waits.push(Wait { ahead: Some(ahead), ..Wait::of(WaitKind::Behind) });
        }
        waits
    }
}

impl Handler<ShowUnfinished> for Subscription {
    type Result = MessageResult<ShowUnfinished>;

    fn handle(&mut self, ShowUnfinished(id): ShowUnfinished, _: &mut Self::Context) -> Self::Result {
        if let Some((delivery, number)) = self.under_way.get(&id) {
            let made = number.saturating_sub(1);
            return MessageResult(Some(match self.requests.has(id) {
                true => (Listed::unfinished(delivery, DeliveryState::InFlight, made, None), Vec::new()),
                false => {
                    let listed =
                        Listed::unfinished(delivery, DeliveryState::Pending, made, Some(clock::now()));
                    (listed, vec![Wait::of(WaitKind::Turn)])
                }
            }));
        }
        let found = self.lane.find(id).map(|(queued, due, ahead)| {
            let at = clock::now() + due.saturating_duration_since(Instant::now());
            let (state, made) = (DeliveryState::Pending, queued.attempts_made());
            let listed = Listed::unfinished(&queued.delivery(), state, made, Some(at));
            (Listed { paused: self.hold.holds(), ..listed }, self.waits(due, ahead))
        });
        MessageResult(found)
    }
}

impl Handler<SendNow> for Subscription {
    type Result = ResponseActFuture<Self, Result<SentReport, RequestError>>;

    fn handle(&mut self, SendNow(what): SendNow, _: &mut Self::Context) -> Self::Result {
        let Some(sender) = self.sender.clone() else {
            let error = RequestError::Refused(format!(
                "the subscription `{}` is not active: set active = true, or give it an entry in the config",
                self.id
            ));
            return Box::pin(actix::fut::err(error));
        };
        let (replays, unless_paused, dry_run) = match &what {
            Asked::Sample { dry_run, .. } => (None, false, *dry_run),
            Asked::Replay { id, unless_paused, .. } => (Some(*id), *unless_paused, false),
        };
        // Two answers to one letter could not both be right.
        if let Some(id) = replays.filter(|id| self.replays.has(*id)) {
            let error = RequestError::Refused(format!("the dead letter {id} is being sent again already"));
            return Box::pin(actix::fut::err(error));
        }
        let replay = replays.map(|id| self.replays.begin(id));
        let turn = match self.turn(dry_run, Instant::now()) {
            Ok(turn) => turn,
            Err(error) => return Box::pin(actix::fut::err(error)),
        };
        let is_proven = self.health.is_proven();
        let waiting = async move {
            // What waits for its turn holds no permit.
            sleep(turn).await;
            let asked = if dry_run { None } else { sender.ask(is_proven, &mut None) };
            (Sender::permit(asked).await, sender)
        };
        let sending = waiting.into_actor(self).then(move |(permit, sender), subscription, _| {
            let begun = subscription.begin_asked(&sender, unless_paused);
            let note = subscription.hold.pause().map(|pause| {
                format!(
                    "{} is paused by {}: this was sent because you asked for it; what waits keeps waiting",
                    subscription.id, pause.by
                )
            });
            let ledger = subscription.ledger.clone();
            async move {
                let begun = begun?;
                let to_send = what.read(&ledger).await?;
                let ToSend { delivery, body, letter } = &to_send;
                let made = letter.as_ref().map_or(0, |letter| letter.attempts.len());
                let number = u32::try_from(made).unwrap_or(u32::MAX).saturating_add(1);
                let payload = Payload::new(body.clone());
                let attempt = sender.make(delivery.clone(), payload, number, dry_run).await;
                Ok((to_send, attempt, permit, begun, note))
            }
            .into_actor(subscription)
        });
        let sent = sending.then(move |sent, subscription, context| {
            let recording = sent.map(|(to_send, attempt, permit, begun, note)| {
                let recording = subscription.record_asked(to_send, attempt, note, context);
                drop(permit);
                (recording, begun)
            });
            async move {
                let _replay = replay;
                match recording {
                    Ok((recording, begun)) => (recording.await, Some(begun)),
                    Err(error) => (Err(error), None),
                }
            }
            .into_actor(subscription)
        });
        Box::pin(sent.map(|(report, begun), subscription, context| {
            // Who waits for quiet waits for it too.
            drop(begun);
            subscription.pump(context);
            report
        }))
    }
}

impl Subscription {
    /// Begins what an operator asked for, if nothing has come in its way since.
    fn begin_asked(&self, sender: &Sender, unless_paused: bool) -> Result<UnderWay, RequestError> {
        if !self.lane.is_open() && self.sender.is_some() {
            return Err(RequestError::Unreachable("the runtime is stopping: nothing was sent".to_owned()));
        }
        if !sender.is_in_force() {
            let what = "the config was read again before its turn came: nothing was sent; ask again";
            return Err(RequestError::Refused(what.to_owned()));
        }
        match self.hold.pause().filter(|_| unless_paused) {
            Some(pause) => Err(held(&self.id, pause)),
            None => Ok(self.asked.begin(DeliveryId::random())),
        }
    }

    /// Has the Ledger write what came of it.
    fn record_asked(
        &mut self,
        to_send: ToSend,
        attempt: Attempt,
        note: Option<String>,
        context: &mut Context<Self>,
    ) -> impl Future<Output = Result<SentReport, RequestError>> + use<> {
        let ToSend { delivery, body, letter } = to_send;
        let mut is_none = false;
        if let Some(outcome) = &attempt.outcome {
            is_none = self.was_held(outcome).is_some();
            if !is_none {
                self.note_health(&attempt, outcome, &delivery.spec);
            }
            self.pump(context);
        }
        let is_sent = attempt.outcome.is_some();
        let arrived = attempt.outcome.as_ref().is_some_and(|outcome| outcome.judge() == Judgement::Delivered);
        let effect = match letter {
            Some(_) if arrived => Effect::Replayed,
            Some(letter) if is_sent => Effect::ReplayFailed(Box::new(letter)),
            // Of what was not sent a dead letter says nothing.
            Some(_) | None => Effect::Sample,
        };
        let ledger = self.ledger.clone();
        let of_owner = is_sent && self.right.keeps();
        let (health, epoch) = (of_owner.then(|| self.health.clone()), self.right.epoch());
        async move {
            let finished = Arc::new(Finished { delivery, attempt, effect });
            // A failure of this machine is no attempt: nothing is recorded, a dead letter stays
            // unchanged.
            if !is_none {
                for answer in record(&ledger, vec![finished.clone()], false, health, epoch) {
                    written(answer).await.map_err(|error| RequestError::NotRecorded(error.to_string()))?;
                }
            }
            Ok(SentReport { note, ..SentReport::of(&finished, &body, arrived || !is_sent) })
        }
    }
}

impl Handler<ReadQueue> for Subscription {
    type Result = MessageResult<ReadQueue>;

    fn handle(&mut self, _: ReadQueue, _: &mut Self::Context) -> Self::Result {
        let waits = self.lane.oldest().map(Queued::accepted_at);
        let under_way = self.under_way.values().map(|(delivery, _)| delivery.accepted_at).min();
        let unread = (!self.unread.is_empty()).then(|| (self.unread.len(), self.why_unread.clone()));
        let in_flight = self.under_way.keys().filter(|id| self.requests.has(**id)).count();
        MessageResult(Queue {
            waiting: self.lane.waiting() + self.gone.len() + self.under_way.len() - in_flight,
            in_flight,
            of_operators: self.requests.count().saturating_sub(in_flight),
            paused: self.hold.pause().cloned(),
            oldest: waits.into_iter().chain(under_way).min(),
            unread,
        })
    }
}

impl Handler<ListUnfinished> for Subscription {
    type Result = MessageResult<ListUnfinished>;

    fn handle(&mut self, wanted: ListUnfinished, _: &mut Self::Context) -> Self::Result {
        let (now, wall) = (Instant::now(), clock::now());
        let is_paused = self.hold.holds();
        let under_way = self.under_way.values().map(|(delivery, number)| {
            // One that waits for a permit, or is not recorded yet, is no request.
            let (state, due) = match self.requests.has(delivery.id) {
                true => (DeliveryState::InFlight, None),
                false => (DeliveryState::Pending, Some(wall)),
            };
            let listed = Listed::unfinished(delivery, state, number.saturating_sub(1), due);
            Listed { paused: is_paused && state == DeliveryState::Pending, ..listed }
        });
        // The lane is almost in order of acceptance: only deliveries accepted in the same moment
        // can be out of order, so all are compared.
        let mut newest: BTreeMap<Cursor, Listed> = BTreeMap::new();
        for (due, queued) in self.lane.newest_first() {
            let cursor = Cursor { accepted_at: queued.accepted_at(), id: queued.id() };
            let is_full = newest.len() > wanted.query.limit;
            if is_full && newest.first_key_value().is_some_and(|(oldest, _)| cursor < *oldest) {
                continue;
            }
            let due = wall + due.saturating_duration_since(now);
            let (delivery, made) = (queued.delivery(), queued.attempts_made());
            let listed = Listed::unfinished(&delivery, DeliveryState::Pending, made, Some(due));
            let listed = Listed { paused: is_paused, ..listed };
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
