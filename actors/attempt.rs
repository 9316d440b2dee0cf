//! One attempt: secrets read, headers made and signed, the request sent, and what came of it.

use bytes::Bytes;
use jiff::Timestamp;
use openssl::sha::sha256;
use serde_json::Map;
use std::time::{Duration, Instant};

use crate::clock;
use crate::config::{SecretNames, SubscriptionConfig};
use crate::delivery::{Delivery, Failure, FailureClass, Outcome};
use crate::env::Environment;
use crate::http::{Client, Request};
use crate::secret::{Endpoint, Secret};
use crate::sign::{self, Secrets};
use crate::store::{AttemptSummary, RequestLine};

/// An attempt that ended, or would have been made but for `dry_run`.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    /// From 1.
    pub(crate) number: u32,
    /// When it began.
    pub(crate) at: Timestamp,
    /// What was sent, without secrets.
    pub(crate) request: RequestLine,
    /// What came of it; `None` for a dry run.
    pub(crate) outcome: Option<Outcome>,
}

impl Attempt {
    /// In few bytes, for the spool and the dead letter.
    pub(crate) fn summary(&self) -> AttemptSummary {
        const KEPT: usize = 256;
        let outcome = self.outcome.as_ref();
        let response = outcome.and_then(|outcome| outcome.result.as_ref().ok());
        let kept = response.map(|response| crate::event::printable(&response.body, KEPT));
        AttemptSummary {
            attempt: self.number,
            at: self.at,
            status: response.map(|response| response.status),
            error: outcome.and_then(|outcome| outcome.result.as_ref().err()).map(Failure::to_string),
            response: kept.filter(|body| !body.is_empty()),
            latency_ms: self.latency_ms(),
        }
    }

    /// How long it took; 0 for a dry run.
    pub(crate) fn latency_ms(&self) -> f64 {
        let latency = self.outcome.as_ref().map_or(Duration::ZERO, |outcome| outcome.latency);
        (latency.as_secs_f64() * 1e6).round() / 1e3
    }
}

/// Makes one attempt, start to end, and never takes longer than the subscription's deadline.
pub(super) async fn make(
    client: &Client,
    environment: &Environment,
    config: &SubscriptionConfig,
    endpoint: &Endpoint,
    delivery: &Delivery,
    body: Bytes,
    number: u32,
) -> Attempt {
    let at = clock::now();
    let started = Instant::now();
    let secrets = read_secrets(environment, &config.secrets);
    let headers = secrets.and_then(|secrets| {
        sign::headers(delivery, &body, number, at.as_second(), &secrets).map_err(|error| Failure {
            class: FailureClass::Secret,
            message: format!("OpenSSL could not sign: {error}"),
        })
    });
    let shown = headers.as_deref().unwrap_or_default();
    let request = request_line(endpoint, shown, &body);
    let outcome = match headers {
        _ if config.dry_run => None,
        Err(failure) => Some(Outcome { result: Err(failure), latency: started.elapsed(), resent: false }),
        Ok(headers) => Some(
            client.attempt(&Request { endpoint, headers: &headers, body, timeout: config.timeout }).await,
        ),
    };
    Attempt { number, at, request, outcome }
}

/// Reads the secrets anew, so that a rotation counts from the next attempt on.
fn read_secrets(environment: &Environment, names: &SecretNames) -> Result<Secrets, Failure> {
    let read = |name: &str| {
        let problem = |what: &str| Failure {
            class: FailureClass::Secret,
            message: format!("the environment variable {name} {what}; nothing is sent unsigned"),
        };
        let text = environment.get(name).ok_or_else(|| problem("is not set"))?;
        Secret::parse(&text).map_err(|error| problem(&format!("is no secret: {error}")))
    };
    let previous = names.previous.as_deref().map(read).transpose()?;
    Ok(Secrets { current: read(&names.current)?, previous })
}

/// What the evidence says of a request. Signatures are left out: with the body, one could be sent again by
/// whoever reads the file.
fn request_line(endpoint: &Endpoint, headers: &[(&'static str, String)], body: &Bytes) -> RequestLine {
    let mut shown = Map::new();
    for (name, value) in headers {
        let value = match *name {
            "x-speckit-signature" => "sha256=…",
            "webhook-signature" => "v1,…",
            _ => value,
        };
        shown.insert((*name).to_owned(), value.into());
    }
    RequestLine {
        method: "POST",
        url: endpoint.to_string(),
        headers: shown,
        body_sha256: hex::encode(sha256(body)),
        body_bytes: body.len(),
    }
}
