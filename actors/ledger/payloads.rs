//! Payloads of a fleet's deliveries: what is asked for while one read is under way is read at once
//! after it. One read for each would cost the cluster more than all else that a delivery does.

use actix::prelude::*;
use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Ledger, NoBody};
use crate::actors::mailbox::after_mailbox;
use crate::delivery::DeliveryId;

/// Payloads read at a time: bounds what one answer of the cluster holds.
const AT_A_TIME: usize = 64;

/// Where a payload goes.
type Reader = oneshot::Sender<Result<Bytes, NoBody>>;

/// The payloads that are asked for and not read yet. Bounded by the attempts in flight.
#[derive(Default)]
pub(super) struct Payloads {
    asked: Vec<(DeliveryId, Reader)>,
    is_scheduled: bool,
}

impl Ledger {
    /// Reads a payload from the cluster, with others if there are any.
    pub(super) fn read_shared(
        &mut self,
        id: DeliveryId,
        context: &mut Context<Self>,
    ) -> oneshot::Receiver<Result<Bytes, NoBody>> {
        let (reader, payload) = oneshot::channel();
        // Without a cluster the reader is dropped, which says that none can be had.
        if let Some(shared) = &mut self.shared {
            shared.payloads.asked.push((id, reader));
            if !shared.payloads.is_scheduled {
                shared.payloads.is_scheduled = true;
                after_mailbox(context, Self::read_payloads);
            }
        }
        payload
    }

    fn read_payloads(&mut self, context: &mut Context<Self>) {
        let Some(shared) = &mut self.shared else { return };
        let payloads = &mut shared.payloads;
        if payloads.asked.is_empty() {
            payloads.is_scheduled = false;
            return;
        }
        let rest = payloads.asked.split_off(payloads.asked.len().min(AT_A_TIME));
        let asked = std::mem::replace(&mut payloads.asked, rest);
        let (link, ids) = (shared.link.clone(), asked.iter().map(|(id, _)| *id).collect());
        let reading = async move { link.bodies(ids).await }.into_actor(self);
        context.spawn(reading.map(|read, ledger, context| {
            for (id, reader) in asked {
                let body = match &read {
                    Ok(bodies) => bodies.get(&id).cloned().ok_or(NoBody::Ended),
                    Err(error) => Err(NoBody::NotNow(error.to_string())),
                };
                if reader.send(body).is_err() {
                    log::debug!(delivery:% = id; "nobody waits any more for the payload of {id}");
                }
            }
            ledger.read_payloads(context);
        }));
    }
}
