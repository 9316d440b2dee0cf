//! One attempt: secrets read, headers made and signed, the request sent, and what came of it.

use std::sync::Arc;
use std::time::Instant;

use super::permits::Permits;
use crate::archive::{Attempt, RequestLine, Unsent};
use crate::clock;
use crate::config::{ExtraHeader, HeaderValue, SecretNames, SubscriptionConfig};
use crate::delivery::{Delivery, Failure, FailureClass, Outcome, Payload};
use crate::digest::in_hex;
use crate::env::Environment;
use crate::http::{Client, Connections, Header, Request, Target, Tls};
use crate::secret::{Endpoint, Secret, shown_variable};
use crate::sign::{self, Secrets};

/// What an active subscription needs to send: its config and what it shares with others.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) config: Arc<SubscriptionConfig>,
    pub(crate) endpoint: Endpoint,
    pub(crate) environment: Environment,
    /// Present where the endpoint needs TLS.
    pub(crate) tls: Option<Tls>,
    pub(crate) permits: Arc<Permits>,
    pub(crate) connections: Connections,
    pub(crate) max_pending: usize,
}

/// The hint for an environment variable that is missing or malformed.
const SET_IT: &str = "set it for the process that sends (serve, or the host), or in the env_file, which is \
                      read again for each attempt";

/// Makes one attempt, start to end, and never takes longer than the subscription's deadline.
pub(super) async fn make(
    client: &Client,
    target: &Target,
    Settings { config, endpoint, environment, .. }: &Settings,
    delivery: &Delivery,
    payload: Payload,
    number: u32,
    dry_run: bool,
) -> Attempt {
    let at = clock::now();
    let started = Instant::now();
    refresh(environment).await;
    let headers = read_secrets(environment, &config.secrets).and_then(|secrets| {
        let signed = match dry_run {
            true => sign::hidden_headers(delivery, number, at.as_second()),
            false => {
                let sign = |body: &[u8]| sign::spec_kit(&secrets.current, body);
                let signature = payload.signature(secrets.current.text(), sign);
                let (body, timestamp) = (payload.bytes(), at.as_second());
                sign::signed_headers(delivery, body, signature, number, timestamp, &secrets)
            }
        };
        let mut headers: Vec<Header> = signed.into_iter().map(|(name, value)| (name.into(), value)).collect();
        for header in &config.headers {
            headers.push((header.name.clone().into(), extra_value(environment, header)?.into()));
        }
        Ok(headers)
    });
    let (headers, outcome) = match headers {
        headers if dry_run => (headers.unwrap_or_default(), None),
        Err(failure) => (Vec::new(), Some(Outcome::new(Err(failure), started.elapsed()))),
        Ok(headers) => {
            let body = payload.bytes().clone();
            let format = delivery.format;
            let request = Request { target, headers: &headers, body, format, timeout: config.timeout };
            let mut outcome = client.attempt(&request).await;
            if let Ok(response) = &mut outcome.result {
                response.is_in_retry_statuses = config.retry_statuses.contains(&response.status);
                response.redact(&secrets_of(target, &headers, &config.headers));
            }
            (headers, Some(outcome))
        }
    };
    let request = request_line(endpoint, headers, &config.headers, &payload);
    Attempt { number, at, request, outcome, unsent: dry_run.then(|| Unsent::of(payload.bytes())).flatten() }
}

/// Reads the `env_file` if it has changed, on a thread that may block.
async fn refresh(environment: &Environment) {
    if !environment.has_file() {
        return;
    }
    let reading = environment.clone();
    match actix_rt::task::spawn_blocking(move || reading.refresh()).await {
        Ok(Ok(())) => {}
        // The secret that it should hold may be in the environment; if not, the attempt fails.
        Ok(Err(error)) if error.is_absent() => log::debug!("env_file: {error}"),
        Ok(Err(error)) => log::warn!("env_file: {error}"),
        Err(error) => log::error!("env_file was not read: {error}"),
    }
}

/// The value of an extra header. One from the environment may be a credential, so its absence fails
/// the attempt as an absent secret does.
fn extra_value(environment: &Environment, header: &ExtraHeader) -> Result<String, Failure> {
    match &header.value {
        HeaderValue::Fixed(value) => Ok(value.clone()),
        HeaderValue::Environment(variable) => {
            let problem = |what: &str| Failure {
                class: FailureClass::Secret,
                message: format!(
                    "the environment variable {} of the header {} {what}",
                    shown_variable(variable),
                    header.name
                ),
                hint: SET_IT.into(),
            };
            let value = environment.get(variable).ok_or_else(|| problem("is not set"))?;
            match HeaderValue::is_sendable(&value) {
                true => Ok(value.to_string()),
                false => Err(problem("has control characters")),
            }
        }
    }
}

/// Reads the secrets for each attempt, so that a rotation takes effect with the next one.
fn read_secrets(environment: &Environment, names: &SecretNames) -> Result<Secrets, Failure> {
    let read = |name: &str| {
        let problem = |what: &str| Failure {
            class: FailureClass::Secret,
            message: format!(
                "the environment variable {} {what}; nothing is sent unsigned",
                shown_variable(name)
            ),
            hint: SET_IT.into(),
        };
        let text = environment.get(name).ok_or_else(|| problem("is not set"))?;
        Secret::parse(&text).map_err(|error| problem(&format!("is no secret: {error}")))
    };
    let previous = names.previous.as_deref().map(read).transpose()?;
    Ok(Secrets { current: read(&names.current)?, previous })
}

/// Whether a header's value comes from the environment.
fn is_secret(name: &str, extra: &[ExtraHeader]) -> bool {
    extra.iter().any(|one| one.name == name && matches!(one.value, HeaderValue::Environment(_)))
}

/// Request parts that only the recipient may see: credentials, signatures.
fn secrets_of<'a>(target: &'a Target, headers: &'a [Header], extra: &[ExtraHeader]) -> Vec<&'a str> {
    let mut secrets: Vec<&str> = target.credentials().iter().map(|part| part.as_str()).collect();
    for (name, value) in headers {
        match name.as_ref() {
            "x-speckit-signature" => secrets.extend(value.strip_prefix("sha256=")),
            "webhook-signature" => {
                secrets.extend(value.split(' ').filter_map(|token| token.strip_prefix("v1,")));
            }
            name if is_secret(name, extra) => secrets.push(value),
            _ => {}
        }
    }
    secrets
}

/// The request as the evidence shows it. Signatures are left out: whoever reads the file could
/// replay the request with them.
fn request_line(
    endpoint: &Endpoint,
    mut headers: Vec<Header>,
    extra: &[ExtraHeader],
    payload: &Payload,
) -> RequestLine {
    let [spec_kit, standard] = sign::HIDDEN;
    for (name, value) in &mut headers {
        match name.as_ref() {
            "x-speckit-signature" => *value = spec_kit.into(),
            "webhook-signature" => *value = standard.into(),
            name if is_secret(name, extra) => *value = "…".into(),
            _ => {}
        }
    }
    RequestLine {
        url: endpoint.to_string(),
        headers,
        body_sha256: in_hex(&payload.sha256()),
        body_bytes: payload.bytes().len(),
    }
}
