//! The result of a request that was sent at once for an operator (`test`, `replay`).

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::archive::Finished;
use crate::delivery::{DeliveryId, Judgement, SubscriptionId};
use crate::names::named;

named! {
    /// The result of a request that was sent at once.
    SentOutcome, "outcome" {
        /// The endpoint accepted it.
        Delivered = "delivered",
        /// The attempt failed.
        Failed = "failed",
        /// Nothing was sent: it is a dry run.
        DryRun = "dry_run",
        /// Nothing was sent; the error says why.
        NotTried = "not_tried",
    }
}

/// The outcome of one `test` or `replay`, as `--json` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SentReport {
    /// The delivery's id, sent as `X-SpecKit-Id`.
    pub id: DeliveryId,
    /// The subscription it goes to.
    pub subscription: SubscriptionId,
    /// The result.
    pub outcome: SentOutcome,
    /// HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// Duration of the attempt, in milliseconds.
    pub latency_ms: f64,
    /// Why it failed.
    pub error: Option<String>,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The start of the response's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// What else is to be known: it was sent although its subscription is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Of a sample: which filter of the subscription refuses this event, which is sent all the
    /// same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_by: Option<String>,
    /// What was sent.
    pub request: SentRequest,
}

/// What was sent, without secrets.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SentRequest {
    /// Scheme, host, port and a short hash of the URL.
    pub url: String,
    /// Names and values.
    pub headers: Map<String, Value>,
    /// The body.
    pub body: Value,
}

impl SentReport {
    /// The report of an attempt with this payload. `succeeded`: it was delivered, or a dry run
    /// would have been sent.
    pub(crate) fn of(finished: &Finished, payload: &[u8], succeeded: bool) -> Self {
        let outcome = finished.attempt.outcome.as_ref();
        let headers = &finished.attempt.request.headers;
        let response = outcome.and_then(|outcome| outcome.result.as_ref().ok());
        let error = outcome.filter(|_| !succeeded).map(|outcome| match outcome.judge() {
            Judgement::Terminal(reason) => reason.to_string(),
            _ => outcome.summary(),
        });
        let hint = outcome.filter(|_| !succeeded).and_then(|outcome| outcome.advice()).map(Cow::into_owned);
        Self {
            id: finished.delivery.id,
            subscription: finished.delivery.subscription.clone(),
            outcome: match (outcome, succeeded) {
                (None, _) => SentOutcome::DryRun,
                (Some(_), true) => SentOutcome::Delivered,
                (Some(_), false) => SentOutcome::Failed,
            },
            status: response.map(|response| response.status),
            latency_ms: finished.attempt.latency_ms(),
            error,
            hint,
            response: response.map(|response| response.body.clone()).filter(|body| !body.is_empty()),
            note: None,
            refused_by: None,
            request: SentRequest {
                url: finished.attempt.request.url.clone(),
                headers: headers
                    .iter()
                    .map(|(name, value)| (name.to_string(), value.to_string().into()))
                    .collect(),
                body: serde_json::from_slice(payload).unwrap_or_default(),
            },
        }
    }
}
