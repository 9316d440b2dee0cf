//! The messages of the control port after the handshake: one JSON object per line.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::handshake::Token;
use crate::actors::Sent;
use crate::answer::{EmitError, Receipt};
use crate::delivery::{DeliveryId, SubscriptionId};
use crate::event::{Event, EventKind, IdempotencyKey, SpecId};
use crate::files::read_small;
use crate::files::user::check_owner;
use crate::inspect::{Query, TriedQuery};
use crate::names::named;

/// Longest line, in bytes, its newline included.
pub(super) const MAX_LINE: usize = 1024 * 1024;

/// `<spool_dir>/runtime.json`: where the runtime is, and the token to reach it. Readable by its
/// owner alone.
#[derive(Clone, Serialize, Deserialize)]
pub struct RuntimeFile {
    /// The runtime's process.
    pub pid: u32,
    /// `127.0.0.1:<port>`.
    pub address: String,
    /// The secret that both ends prove to know; never sent.
    pub token: Token,
    /// The program's version.
    pub version: String,
    /// The [protocol's version](super::VERSION).
    #[serde(default = "first_protocol")]
    pub protocol: u32,
}

/// The version of a runtime that does not state one.
fn first_protocol() -> u32 {
    1
}

impl fmt::Debug for RuntimeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RuntimeFile({}, {})", self.pid, self.address)
    }
}

/// Where a spool's `runtime.json` is.
pub fn runtime_file(spool_dir: &Path) -> PathBuf {
    spool_dir.join("runtime.json")
}

impl RuntimeFile {
    /// Reads the `runtime.json` of a spool.
    ///
    /// # Errors
    /// There is none, it is not one, or another user made it.
    pub fn read(spool_dir: &Path) -> io::Result<Self> {
        let path = runtime_file(spool_dir);
        check_owner(&path)?;
        Ok(serde_json::from_slice(&read_small(&path)?)?)
    }
}

/// The names of all [`Request`]s.
pub const COMMANDS: [&str; 7] = ["emit", "test", "replay", "list", "attempts", "status", "reload"];

/// Every line after the handshake.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Accept an event. Answered with [`Emitted`].
    Emit {
        /// In the payload's shape.
        event: Map<String, Value>,
    },
    /// Send a sample now. Answered with [`SentReport`].
    Test {
        /// Of which SPEC.
        spec: SpecId,
        /// To whom.
        subscription: SubscriptionId,
        /// Show the request, send nothing.
        #[serde(default)]
        dry_run: bool,
    },
    /// Deliveries, newest first. Answered with [`Listing`](crate::inspect::Listing).
    List(Query),
    /// Attempts, newest first. Answered with [`Tried`](crate::inspect::Tried), several.
    Attempts(TriedQuery),
    /// How the runtime and its subscriptions fare. Answered with
    /// [`StatusReport`](super::StatusReport).
    Status {},
    /// Take the config over as it is now. Answered with [`Report`](crate::config::Report).
    Reload {},
    /// Send a dead letter again now. Answered with [`SentReport`].
    Replay {
        /// Of which SPEC.
        spec: SpecId,
        /// Which.
        delivery_id: DeliveryId,
    },
}

/// Every answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply<T> {
    /// What was asked for.
    Ok(T),
    /// Why it was not done.
    Error(String),
}

named! {
    /// What became of an emitted event.
    Outcome, "outcome" {
        /// On disk, to be delivered.
        Accepted = "accepted",
        /// Known already.
        Duplicate = "duplicate",
        /// On disk, in the inbox: the next runtime takes it in.
        Queued = "queued",
        /// On its way into the inbox: the disk did not confirm it within the deadline.
        Unconfirmed = "unconfirmed",
        /// Webhooks are off.
        Disabled = "disabled",
        /// Not taken: it is not a valid event, or could not be stored.
        Refused = "refused",
    }
}

/// The outcome of one `emit`, as `--json` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Emitted {
    /// What became of it.
    pub outcome: Outcome,
    /// Which event; absent where the input was no event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<EmittedEvent>,
    /// One for each subscription that wants it.
    pub deliveries: Vec<EmittedDelivery>,
    /// Why it was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Which event was emitted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EmittedEvent {
    /// Its type.
    #[serde(rename = "type")]
    pub kind: EventKind,
    /// Its key.
    pub idempotency_key: IdempotencyKey,
}

/// One delivery of an accepted event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct EmittedDelivery {
    /// The `X-SpecKit-Id`.
    pub id: DeliveryId,
    /// To whom.
    pub subscription: SubscriptionId,
}

impl EmittedEvent {
    /// Which event this is.
    pub fn of(event: &Event) -> Self {
        Self { kind: event.event.kind, idempotency_key: event.event.idempotency_key.clone() }
    }
}

impl Emitted {
    /// For an event that was given to a runtime.
    pub fn new(event: EmittedEvent, result: Result<Receipt, EmitError>) -> Self {
        let (outcome, deliveries, error) = match result {
            Ok(Receipt::Accepted(deliveries)) => (Outcome::Accepted, deliveries, None),
            Ok(Receipt::Duplicate) => (Outcome::Duplicate, Vec::new(), None),
            Ok(Receipt::Queued) => (Outcome::Queued, Vec::new(), None),
            Ok(Receipt::Off) => (Outcome::Disabled, Vec::new(), None),
            Err(error) => (Outcome::Refused, Vec::new(), Some(error.to_string())),
        };
        let deliveries =
            deliveries.into_iter().map(|(id, subscription)| EmittedDelivery { id, subscription }).collect();
        Self { outcome, event: Some(event), deliveries, error }
    }

    /// The same, as the emitter's result.
    pub(crate) fn into_receipt(self) -> Result<Receipt, EmitError> {
        match self.outcome {
            Outcome::Accepted => {
                let deliveries =
                    self.deliveries.into_iter().map(|delivery| (delivery.id, delivery.subscription));
                Ok(Receipt::Accepted(deliveries.collect()))
            }
            Outcome::Duplicate => Ok(Receipt::Duplicate),
            Outcome::Queued => Ok(Receipt::Queued),
            Outcome::Disabled => Ok(Receipt::Off),
            Outcome::Unconfirmed => {
                Err(EmitError::Unavailable("the disk did not confirm it within the deadline".to_owned()))
            }
            Outcome::Refused => {
                Err(EmitError::Refused(self.error.unwrap_or_else(|| "it is no event".to_owned())))
            }
        }
    }

    /// For a text that is no event.
    pub fn refused(error: String) -> Self {
        Self { outcome: Outcome::Refused, event: None, deliveries: Vec::new(), error: Some(error) }
    }
}

named! {
    /// What became of a request that was made at once.
    SentOutcome, "outcome" {
        /// The endpoint has it.
        Delivered = "delivered",
        /// The attempt failed.
        Failed = "failed",
        /// Nothing was sent: it is a dry run.
        DryRun = "dry_run",
        /// Nothing was sent: too many others of this subscription failed before.
        NotTried = "not_tried",
    }
}

/// The outcome of one `test` or `replay`, as `--json` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SentReport {
    /// The `X-SpecKit-Id`.
    pub id: DeliveryId,
    /// To whom.
    pub subscription: SubscriptionId,
    /// What became of it.
    pub outcome: SentOutcome,
    /// HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// How long it took.
    pub latency_ms: f64,
    /// Why it failed.
    pub error: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The start of the response's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// What was sent.
    pub request: SentRequest,
}

/// What was sent: nothing in it is a secret.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SentRequest {
    /// Scheme, host, port and a short hash.
    pub url: String,
    /// Names and values.
    pub headers: Map<String, Value>,
    /// The body.
    pub body: Value,
}

impl From<&Sent> for SentReport {
    fn from(sent: &Sent) -> Self {
        let outcome = sent.finished.attempt.outcome.as_ref();
        let headers = &sent.finished.attempt.request.headers;
        let response = outcome.and_then(|outcome| outcome.result.as_ref().ok());
        let error = outcome.filter(|_| !sent.succeeded).map(|outcome| match outcome.judge() {
            crate::delivery::Judgement::Terminal(reason) => reason.to_string(),
            _ => outcome.summary(),
        });
        let hint =
            outcome.filter(|_| !sent.succeeded).and_then(|outcome| outcome.advice()).map(Cow::into_owned);
        Self {
            id: sent.finished.delivery.id,
            subscription: sent.finished.delivery.subscription.clone(),
            outcome: match (outcome, sent.succeeded) {
                (None, _) => SentOutcome::DryRun,
                (Some(_), true) => SentOutcome::Delivered,
                (Some(_), false) => SentOutcome::Failed,
            },
            status: response.map(|response| response.status),
            latency_ms: sent.finished.attempt.latency_ms(),
            error,
            hint,
            response: response.map(|response| response.body.clone()).filter(|body| !body.is_empty()),
            request: SentRequest {
                url: sent.finished.attempt.request.url.clone(),
                headers: headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_string().into()))
                    .collect(),
                body: serde_json::from_slice(&sent.body).unwrap_or_default(),
            },
        }
    }
}
