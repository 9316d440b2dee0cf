//! The audit log of one SPEC: JSON Lines, one line an attempt and one a final state.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::spool::FinalState;
use super::{StoreError, files};
use crate::clock;
use crate::delivery::{DeliveryId, FailureClass, Reason, SubscriptionId};
use crate::event::{EventKind, IdempotencyKey};

/// One attempt.
#[derive(Debug, Serialize)]
pub struct AttemptLine<'a> {
    /// Format version: 1; grows by additions only.
    pub v: u32,
    /// Always `attempt`.
    pub record: &'static str,
    /// When the request began.
    #[serde(with = "clock::millis")]
    pub time: Timestamp,
    /// The `X-SpecKit-Id`.
    pub delivery: DeliveryId,
    /// Which event.
    pub idempotency_key: &'a IdempotencyKey,
    /// Its type.
    pub event: EventKind,
    /// To whom.
    pub subscription: &'a SubscriptionId,
    /// From 1; replays count on.
    pub attempt: u32,
    /// What was sent.
    pub request: &'a RequestLine,
    /// What came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponseLine<'a>>,
    /// Why nothing came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorLine<'a>>,
    /// From the start of the attempt to the last byte read.
    pub latency_ms: f64,
    /// Whether the request was sent a second time because a kept-alive connection had gone stale.
    pub resent: bool,
    /// `delivered`, `retry`, `failed` or `dry_run`.
    pub outcome: &'static str,
    /// When the next attempt is due, for `retry`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
}

/// What was sent: nothing in it is a secret.
#[derive(Clone, Debug, Serialize)]
pub struct RequestLine {
    /// Always `POST`.
    pub method: &'static str,
    /// Scheme, host, port and a short hash.
    pub url: String,
    /// Names and values; signatures are cut to their scheme.
    pub headers: Map<String, Value>,
    /// SHA-256 of the body, in hex.
    pub body_sha256: String,
    /// Its size.
    pub body_bytes: usize,
}

/// What came back.
#[derive(Debug, Serialize)]
pub struct ResponseLine<'a> {
    /// HTTP status.
    pub status: u16,
    /// Selected headers.
    pub headers: Map<String, Value>,
    /// The body's first KiB, made printable.
    pub body: &'a str,
}

/// Why nothing came back.
#[derive(Debug, Serialize)]
pub struct ErrorLine<'a> {
    /// What kind.
    pub class: FailureClass,
    /// For the reader.
    pub message: &'a str,
}

/// The end of a delivery.
#[derive(Debug, Serialize)]
pub struct FinalLine<'a> {
    /// Format version.
    pub v: u32,
    /// Always `final`.
    pub record: &'static str,
    /// When.
    #[serde(with = "clock::millis")]
    pub time: Timestamp,
    /// The `X-SpecKit-Id`.
    pub delivery: DeliveryId,
    /// Which event.
    pub idempotency_key: &'a IdempotencyKey,
    /// Its type.
    pub event: EventKind,
    /// To whom.
    pub subscription: &'a SubscriptionId,
    /// How many attempts it took.
    pub attempts: u32,
    /// How it ended.
    pub state: FinalState,
    /// Why, for a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a Reason>,
}

/// One attempt in few bytes: what a dead letter lists, and what the spool remembers between attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptSummary {
    /// From 1.
    pub attempt: u32,
    /// When it began.
    #[serde(with = "clock::millis")]
    pub at: Timestamp,
    /// HTTP status, where there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The start of the response's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// How long it took.
    pub latency_ms: f64,
}

/// A SPEC's evidence file, open for appending.
#[derive(Debug)]
pub(super) struct EvidenceFile {
    path: PathBuf,
    file: File,
    batch: Vec<u8>,
}

impl EvidenceFile {
    /// Opens or creates `deliveries.jsonl` in `dir`; cuts a torn last line.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        files::create_dir_durably(dir)?;
        let path = dir.join("deliveries.jsonl");
        let mut file = files::private_file(&path).map_err(StoreError::on("open", &path))?;
        files::cut_torn_line(&mut file).map_err(StoreError::on("repair", &path))?;
        Ok(Self { path, file, batch: Vec::new() })
    }

    pub(super) fn append(&mut self, line: &impl Serialize) {
        match serde_json::to_vec(line) {
            Ok(json) => {
                self.batch.extend_from_slice(&json);
                self.batch.push(b'\n');
            }
            Err(error) => log::error!("evidence line for {} not written: {error}", self.path.display()),
        }
    }

    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.batch).map_err(StoreError::on("write", &self.path));
        self.batch.clear();
        written
    }

    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::on("sync", &self.path))
    }
}
