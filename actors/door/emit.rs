//! Emitting through the door: an event of this process, of an operator, or of a fleet's cluster.

use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::oneshot;

use super::Door;
use crate::actors::emitter::Emission;
use crate::actors::router::{Emit, From};
use crate::actors::tell::tell;
use crate::answer::{EmitError, Receipt, RequestError};
use crate::ask::{Emitted, EmittedEvent};
use crate::event::Event;
use crate::sources::host;
use crate::spool::InboxName;

/// How long an event of an operator may take to be accepted; whoever sent it has put it into the
/// inbox long before.
const EMIT_WITHIN: Duration = Duration::from_secs(10);

impl Door {
    /// Routes an event that lies in the cluster; answered when it is routed there.
    pub(crate) async fn route(
        &self,
        event: Box<Event>,
        seq: i64,
        accepted_at: Timestamp,
    ) -> Result<Receipt, EmitError> {
        let stopped = || EmitError::Unavailable("the runtime has stopped".to_owned());
        let published = self.checkout.published(&event);
        let (reply, answer) = oneshot::channel();
        let emit =
            Emit { event, published, from: From::Cluster { seq, accepted_at }, admission: None, reply };
        if !tell(&self.router, emit).await {
            return Err(stopped());
        }
        answer.await.map_err(|_| stopped())?.result
    }

    /// Whether an accepted event is a record of the Ledger's, which then removes the inbox file
    /// that the event came from.
    pub(in crate::actors) fn keeps_events(&self) -> bool {
        self.fleet.is_none()
    }

    /// Accepts an event: when this says `Accepted`, it is synced to disk. Waits `within`, or
    /// 250 ms longer, for admission, and again for the disk; an event for which it no longer waits
    /// may be accepted all the same.
    pub(crate) async fn emit(
        &self,
        event: Box<Event>,
        inbox: Option<InboxName>,
        within: Duration,
    ) -> Result<Receipt, EmitError> {
        self.emit_and_name(event, inbox, within).await.result
    }

    /// As [`emit`](Self::emit), and says which event it was.
    pub(crate) async fn emit_and_name(
        &self,
        event: Box<Event>,
        inbox: Option<InboxName>,
        within: Duration,
    ) -> Emission {
        let key = event.event.idempotency_key.clone();
        let emitted = self.try_to_emit(event, inbox, within).await;
        emitted.unwrap_or_else(|error| Emission { key, result: Err(error), _event: None })
    }

    async fn try_to_emit(
        &self,
        mut event: Box<Event>,
        inbox: Option<InboxName>,
        within: Duration,
    ) -> Result<Emission, EmitError> {
        let stopped = || EmitError::Unavailable("the runtime has stopped".to_owned());
        let admission = self.admission.admit(within).await.ok_or_else(|| {
            EmitError::Unavailable("the runtime is stopped, or busy with too many events".to_owned())
        })?;
        self.checkout.add_to(&mut event);
        if let Some(fleet) = &self.fleet {
            let key = event.event.idempotency_key.clone();
            // Whoever delivers it is on another machine.
            event.name_host(host::name(self.show_host));
            return fleet.accept(&event, within).await.map(|receipt| Emission {
                key,
                result: Ok(receipt),
                _event: None,
            });
        }
        let published = self.checkout.published(&event);
        let (reply, answer) = oneshot::channel();
        let from = inbox.map_or(From::Emitter, From::Inbox);
        let emit = Emit { event, published, from, admission: Some(admission), reply };
        let answered = async {
            if !tell(&self.router, emit).await {
                return Err(stopped());
            }
            answer.await.map_err(|_| stopped())
        };
        self.admission.patiently(within, answered).await.unwrap_or_else(|| {
            let waited = format!("no answer from the disk within {} ms", within.as_millis());
            Err(EmitError::Unavailable(waited))
        })
    }

    /// Accepts an event given as JSON. An error says that it was not taken now; what is no event
    /// is an answer.
    pub(crate) async fn emit_json(&self, text: &str) -> Result<Emitted, RequestError> {
        let event = match Event::from_json(text) {
            Ok(event) => Box::new(event),
            Err(error) => return Ok(Emitted::refused(error.to_string())),
        };
        let kind = event.event.kind;
        let Emission { key: idempotency_key, result, _event } =
            self.emit_and_name(event, None, EMIT_WITHIN).await;
        match result {
            Err(EmitError::Unavailable(error)) => Err(RequestError::Refused(error)),
            result => Ok(Emitted::new(EmittedEvent { kind, idempotency_key }, result)),
        }
    }
}
