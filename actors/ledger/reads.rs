//! What is read through the Ledger: payloads, dead letters, runs, last attempts, conditions.

use actix::prelude::*;
use bytes::Bytes;

use super::Ledger;
use crate::answer::RequestError;
use crate::archive::DeadLetter;
use crate::delivery::DeliveryId;
use crate::event::SpecId;
use crate::inspect::Condition;
use crate::run::Run;
use crate::spool::{LastAttempt, Unreadable};

/// Why something was not read.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotRead(pub(super) String);

/// Why a payload was not read.
#[derive(Clone, Debug)]
pub(crate) enum NoBody {
    /// It is gone for good.
    Gone(String),
    /// It may be readable later.
    NotNow(String),
    /// Another member has ended its delivery: nothing is to be done.
    Ended,
}

/// From a Subscription, for an attempt of a delivery that waited without its body. Bounded by the
/// attempts in flight.
#[derive(Message)]
#[rtype(result = "Result<Bytes, NoBody>")]
pub(crate) struct ReadBody {
    pub(crate) spec: SpecId,
    pub(crate) id: DeliveryId,
}

/// From the door, for a replay. Bounded by the admission permits.
#[derive(Message)]
#[rtype(result = "Result<DeadLetter, RequestError>")]
pub(crate) struct ReadDeadLetter {
    pub(crate) spec: SpecId,
    pub(crate) id: DeliveryId,
}

/// From the Router, after an event could not be accepted: the SPEC's run as the disk has it,
/// or will with what it was given by now. One at a time.
#[derive(Message)]
#[rtype(result = "Result<Run, NotRead>")]
pub(crate) struct ReadRun(pub(crate) SpecId);

/// From the door, for `list`: these deliveries' last attempts. One per listing.
#[derive(Message)]
#[rtype(result = "Vec<LastAttempt>")]
pub(crate) struct FindLastAttempts(pub(crate) Vec<(SpecId, DeliveryId)>);

/// From the door, for `status`: the health of subscriptions and files. One per request.
#[derive(Message)]
#[rtype(result = "Condition")]
pub(crate) struct ReadCondition;

impl Handler<ReadBody> for Ledger {
    type Result = Response<Result<Bytes, NoBody>>;

    fn handle(&mut self, ReadBody { spec, id }: ReadBody, context: &mut Self::Context) -> Self::Result {
        if self.shared.is_some() {
            let payload = self.read_shared(id, context);
            return Response::fut(async move {
                payload.await.unwrap_or_else(|_| Err(NoBody::NotNow("the ledger has stopped".to_owned())))
            });
        }
        Response::reply(self.store.body(&spec, id).map_err(|error| match error {
            Unreadable::Gone(error) => NoBody::Gone(error.to_string()),
            Unreadable::NotNow(error) => NoBody::NotNow(error.to_string()),
        }))
    }
}

impl Handler<ReadDeadLetter> for Ledger {
    type Result = Response<Result<DeadLetter, RequestError>>;

    fn handle(&mut self, message: ReadDeadLetter, _: &mut Self::Context) -> Self::Result {
        let ReadDeadLetter { spec, id } = message;
        let Some(shared) = &self.shared else {
            let read = self.store.read_dead_letter(&spec, id).map_err(|error| match error.is_not_found() {
                true => self
                    .store
                    .spec_of_dead_letter(id)
                    .map_or(RequestError::NoDeadLetter(id), |other| elsewhere(id, &spec, &other)),
                false => RequestError::Files(format!("the dead letter {id} of {spec}: {error}")),
            });
            return Response::reply(read);
        };
        let link = shared.link.clone();
        Response::fut(async move {
            let read = link.dead_letter(id).await;
            let unread = |error| RequestError::Files(format!("the dead letter {id} of {spec}: {error}"));
            let letter = read.map_err(unread)?.ok_or(RequestError::NoDeadLetter(id))?;
            if letter.spec == spec { Ok(letter) } else { Err(elsewhere(id, &spec, &letter.spec)) }
        })
    }
}

fn elsewhere(id: DeliveryId, spec: &SpecId, other: &SpecId) -> RequestError {
    RequestError::Refused(format!(
        "the dead letter {id} is not of {spec}: spec-notify replay {other} --delivery-id {id}"
    ))
}

impl Handler<ReadRun> for Ledger {
    type Result = Result<Run, NotRead>;

    fn handle(&mut self, ReadRun(spec): ReadRun, _: &mut Self::Context) -> Self::Result {
        self.store.run(&spec).map_err(|error| NotRead(error.to_string()))
    }
}

impl Handler<FindLastAttempts> for Ledger {
    type Result = MessageResult<FindLastAttempts>;

    fn handle(&mut self, FindLastAttempts(ids): FindLastAttempts, _: &mut Self::Context) -> Self::Result {
        MessageResult(self.store.last_attempts(&ids))
    }
}

impl Handler<ReadCondition> for Ledger {
    type Result = MessageResult<ReadCondition>;

    fn handle(&mut self, _: ReadCondition, _: &mut Self::Context) -> Self::Result {
        self.store.look();
        MessageResult(Condition {
            healths: self.store.healths().clone(),
            counts: self.counts.clone(),
            totals: self.totals.clone(),
            troubles: self.store.troubles().map(str::to_owned).collect(),
            evidence: self.store.evidence_troubles().collect(),
            later: self.store.later_records().collect(),
        })
    }
}
