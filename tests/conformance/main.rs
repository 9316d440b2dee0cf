//! What the program sends, verified by the official Rust library of Standard Webhooks. `run` in
//! this folder does the same with the libraries of other languages, which it installs.
#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy exempts only the test functions themselves")]

use http::{HeaderMap, HeaderName, HeaderValue};
use spec_notify::testing::{Endpoint, Sandbox};
use standardwebhooks::{
    HEADER_WEBHOOK_ID, HEADER_WEBHOOK_SIGNATURE, HEADER_WEBHOOK_TIMESTAMP, Webhook, WebhookError,
};

const CURRENT: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const PREVIOUS: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_plJ3nmyCDGBKInavdOK15jsl7w0kJjGZ";

/// A request as it came.
struct Request {
    headers: HeaderMap,
    body: Vec<u8>,
}

/// What `spec-notify test` sends to a subscription with these further lines.
fn sent(lines: &str) -> Request {
    let endpoint = Endpoint::start();
    let lines = format!("secret_env = \"CURRENT\"\n{lines}");
    let sandbox = Sandbox::new().subscribe_with("endpoint", &endpoint.url(), &lines);
    let sandbox = sandbox.env("CURRENT", CURRENT).env("PREVIOUS", PREVIOUS);
    let test = ["test", "SPEC-KIT-065", "--subscription", "endpoint"];
    let output = sandbox.command(env!("CARGO_BIN_EXE_spec-notify"), &test).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let request = endpoint.wait_for(1).remove(0);
    let header = |(name, value): (&str, &str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap())
    };
    Request { headers: request.headers().into_iter().map(header).collect(), body: request.body().to_vec() }
}

fn verify(secret: &str, body: &[u8], headers: &HeaderMap) -> Result<(), WebhookError> {
    Webhook::new(secret).unwrap().verify(body, headers)
}

/// The request verifies with each of `secrets`, and with none once anything of it is changed.
fn assert_conforms(request: &Request, secrets: &[&str]) {
    let Request { headers, body } = request;
    let value = |name: &str| headers[name].to_str().unwrap();
    assert_eq!(value(HEADER_WEBHOOK_SIGNATURE).split(' ').count(), secrets.len());
    let timestamp: i64 = value(HEADER_WEBHOOK_TIMESTAMP).parse().unwrap();
    let id = value(HEADER_WEBHOOK_ID);
    let body_changed = String::from_utf8(body.clone()).unwrap().replace("SPEC-KIT-065", "SPEC-KIT-066");
    assert_ne!(body_changed.as_bytes(), body);
    let changed = |name: &'static str, value: &str| {
        let mut headers = headers.clone();
        assert_ne!(headers.insert(name, value.parse().unwrap()).unwrap(), value);
        headers
    };
    // Not the end of a signature: there, two texts can be the same bytes.
    let forge = |token: &str| {
        let (version, signature) = token.split_once(',').unwrap();
        format!("{version},{}{}", if signature.starts_with('A') { 'B' } else { 'A' }, &signature[1..])
    };
    let forged: Vec<String> = value(HEADER_WEBHOOK_SIGNATURE).split(' ').map(forge).collect();

    for secret in secrets {
        verify(secret, body, headers).unwrap();
        let refused = |what: &str, body: &[u8], headers: &HeaderMap| {
            let result = verify(secret, body, headers);
            assert!(matches!(result, Err(WebhookError::InvalidSignature)), "{what}: {result:?}");
        };
        refused("body", body_changed.as_bytes(), headers);
        refused("id", body, &changed(HEADER_WEBHOOK_ID, &format!("{id}0")));
        refused("time", body, &changed(HEADER_WEBHOOK_TIMESTAMP, &(timestamp - 1).to_string()));
        refused("signature", body, &changed(HEADER_WEBHOOK_SIGNATURE, &forged.join(" ")));
        let old = changed(HEADER_WEBHOOK_TIMESTAMP, &(timestamp - 600).to_string());
        assert!(matches!(verify(secret, body, &old), Err(WebhookError::TimestampTooOldError)));
    }
    assert!(matches!(verify(OTHER, body, headers), Err(WebhookError::InvalidSignature)));
}

#[test]
fn a_delivery_verifies() {
    assert_conforms(&sent(""), &[CURRENT]);
}

#[test]
fn a_delivery_during_a_rotation_verifies_with_both_secrets() {
    assert_conforms(&sent("previous_secret_env = \"PREVIOUS\""), &[CURRENT, PREVIOUS]);
}

#[test]
fn a_cloud_event_verifies() {
    assert_conforms(&sent("format = \"cloudevents\""), &[CURRENT]);
}
