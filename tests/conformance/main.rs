//! What the program sends, verified by the official Rust library of Standard Webhooks. `run` in
//! this folder does the same with the libraries of other languages, which it installs.
#![allow(clippy::unwrap_used, reason = "helpers of tests; clippy exempts only the test functions themselves")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
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

/// Takes one request and answers it.
fn take(mut stream: &TcpStream) -> Request {
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut received = Vec::new();
    loop {
        let mut slots = [httparse::EMPTY_HEADER; 64];
        let mut head = httparse::Request::new(&mut slots);
        if let httparse::Status::Complete(start) = head.parse(&received).unwrap() {
            let header = |header: &httparse::Header<'_>| {
                (header.name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(header.value).unwrap())
            };
            let headers: HeaderMap = head.headers.iter().map(header).collect();
            let length: usize = headers["content-length"].to_str().unwrap().parse().unwrap();
            if let Some(body) = received.get(start..start + length) {
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                    .unwrap();
                return Request { headers, body: body.to_vec() };
            }
        }
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).unwrap();
        assert!(count > 0, "the request ended early");
        received.extend_from_slice(&chunk[..count]);
    }
}

/// What `spec-notify test` sends to a subscription with these further lines.
fn sent(lines: &str) -> Request {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(take(&listener.accept().unwrap().0)));

    let repo = tempfile::tempdir().unwrap();
    let config = repo.path().join("config.toml");
    let text = format!(
        "[spec_ops.webhooks]\nenabled = true\n[[spec_ops.webhooks.subscriptions]]\nid = \"endpoint\"\n\
         url = \"http://{address}/\"\nsecret_env = \"CURRENT\"\n{lines}\n"
    );
    fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_spec-notify"))
        .args(["test", "SPEC-KIT-065", "--subscription", "endpoint", "--repo"])
        .arg(repo.path())
        .arg("--config")
        .arg(&config)
        .env_clear()
        .envs([("CURRENT", CURRENT), ("PREVIOUS", PREVIOUS)])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    receiver.recv_timeout(Duration::from_secs(30)).unwrap()
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
