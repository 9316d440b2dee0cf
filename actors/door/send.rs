//! Sending one delivery now, for an operator: a sample to try a subscription with, or a dead letter
//! again.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{ADMISSION, Door, gone, refused};
use crate::actors::ledger::ReadDeadLetter;
use crate::actors::router::{FindActive, Found};
use crate::actors::subscription::{Asked, SendNow, held, sendable};
use crate::answer::RequestError;
use crate::ask::{ReplayDeadLetter, SendSample, SentReport};
use crate::clock;
use crate::delivery::{Delivery, DeliveryId, SubscriptionId};
use crate::event::{Event, IdempotencyKey, SpecId, sequence_at};
use crate::payload::{self, Reader};

impl Door {
    pub(super) async fn test(&self, sample: SendSample) -> Result<SentReport, RequestError> {
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
        let what = Asked::Sample { delivery, body, dry_run };
        let sent = address.send(SendNow(what)).await.map_err(|_| gone())?;
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

    pub(super) async fn replay(&self, letter: ReplayDeadLetter) -> Result<SentReport, RequestError> {
        let ReplayDeadLetter { spec, delivery_id: id, unless_paused } = letter;
        if self.fleet.is_some() && !self.delivers {
            let what = "this machine hands over only (role = \"emit\"): a dead letter of the fleet is sent \
                        again by a machine that delivers, which has the subscription and its secret";
            return Err(RequestError::Refused(what.to_owned()));
        }
        let _admission = self.admission.admit(ADMISSION).await.ok_or_else(gone)?;
        let read = self.ledger.send(ReadDeadLetter { spec: spec.clone(), id });
        let letter = sendable(read.await.map_err(|_| gone())??)?;
        // Whoever owns a fleet's subscription knows that it is paused; this member may not.
        if unless_paused && let Some(link) = &self.fleet {
            let pauses = link.pauses().await.map_err(|error| RequestError::Files(error.to_string()))?;
            if let Some(pause) = pauses.get(&letter.subscription) {
                return Err(held(&letter.subscription, pause));
            }
        }
        let Found { address, .. } = self.find(letter.subscription).await?;
        let what = Asked::Replay { spec, id, unless_paused };
        address.send(SendNow(what)).await.map_err(|_| gone())?
    }

    /// A subscription that is active, for what is asked of it alone.
    async fn find(&self, id: SubscriptionId) -> Result<Found, RequestError> {
        self.router.send(FindActive(id)).await.map_err(|_| gone())?
    }
}
