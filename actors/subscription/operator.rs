//! What operators ask of a Subscription: one attempt now, what waits.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use actix_rt::time::sleep;
use bytes::Bytes;

use super::Subscription;
use super::records::{record, written};
use super::sender::Sender;
use crate::answer::RequestError;
use crate::archive::DeadLetter;
use crate::archive::{Effect, Finished};
use crate::ask::SentReport;
use crate::clock;
use crate::delivery::{Delivery, DeliveryId, Judgement, Payload, Queued};
use crate::inspect::{Cursor, DeliveryState, Listed, Query, Queue, Unended, Wait, WaitKind};

/// The longest that a request of an operator waits for its turn within the rate limit.
const LONGEST_TURN: Duration = Duration::from_secs(60);

/// From the door, on an operator's request: one attempt now, outside the lane but under the same
/// permits and the same rate limit. Bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "Result<SentReport, RequestError>")]
pub(crate) struct SendNow {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) body: Bytes,
    pub(crate) purpose: Purpose,
}

/// Why one attempt is made now.
pub(crate) enum Purpose {
    /// To try the subscription out, or to show what would be sent.
    Sample { dry_run: bool },
    /// To resolve a dead letter.
    Replay(Box<DeadLetter>),
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
        // Two answers to one letter could not both be right.
        let is_replay = matches!(purpose, Purpose::Replay(_));
        if is_replay && self.replays.has(delivery.id) {
            let error =
                RequestError::Refused(format!("the dead letter {} is being sent again already", delivery.id));
            return Box::pin(actix::fut::err(error));
        }
        let replay = is_replay.then(|| self.replays.begin(delivery.id));
        let dry_run = matches!(purpose, Purpose::Sample { dry_run: true });
        let turn = match self.turn(dry_run, Instant::now()) {
            Ok(turn) => turn,
            Err(error) => return Box::pin(actix::fut::err(error)),
        };
        let payload = Payload::new(body.clone());
        let is_proven = self.health.is_proven();
        let of = delivery.clone();
        let sending = async move {
            // What waits for its turn holds no permit.
            sleep(turn).await;
            let asked = if dry_run { None } else { sender.ask(is_proven, &mut None) };
            let permit = Sender::permit(asked).await;
            (sender.make(of, payload, number, dry_run).await, permit)
        };
        let note = self.hold.pause().map(|pause| {
            format!(
                "{} is paused by {}: this was sent because you asked for it; what waits keeps waiting",
                self.id, pause.by
            )
        });
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
            let of_owner = attempt.outcome.as_ref().filter(|_| subscription.right.keeps());
            let (health, epoch) = (of_owner.map(|_| subscription.health.clone()), subscription.right.epoch());
            async move {
                let _replay = replay;
                let finished = Arc::new(Finished { delivery, attempt, effect });
                // A failure of this machine is no attempt: nothing is recorded, a dead letter stays
                // unchanged.
                if !is_none {
                    for answer in record(&ledger, vec![finished.clone()], false, health, epoch) {
                        written(answer)
                            .await
                            .map_err(|error| RequestError::NotRecorded(error.to_string()))?;
                    }
                }
                Ok(SentReport { note, ..SentReport::of(&finished, &body, succeeded) })
            }
            .into_actor(subscription)
        }))
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
