//! The records of the spool: their encoding, and how much of a damaged file can still be read.
//!
//! A record is one line: eight hex digits of CRC-32 over the JSON, a space, eight hex digits of
//! the JSON's length in bytes, a space, the JSON, a newline. With the length, a damaged newline
//! loses nothing; with the newline, a damaged length loses one record.
//! `docs/contributing/spool-format.md` describes it byte by byte.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::ops::Range;

use bytes::Bytes;
use jiff::Timestamp;
use memchr::memmem;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::clock;
use crate::delivery::{AttemptSummary, DeliveryId, FinalState, SubscriptionId, Told};
use crate::event::{EventKind, IdempotencyKey, SpecId, Stage, Status, sequence_at};
use crate::payload::Format;
use crate::run::{Run, Step};
use crate::transient;

/// The version of the spool's format. The first line of a file has the same form in all versions.
pub(super) const VERSION: u32 = 1;

/// Bytes before the JSON: checksum, space, length, space.
const PREFIX: usize = 18;

/// One line of the spool. `B` is the type that a payload is read into: `IgnoredAny` skips it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record<B = Box<RawValue>> {
    /// The first line of every file.
    Spool {
        /// The format's version.
        version: u32,
        /// The SPEC that the spool belongs to.
        spec: SpecId,
        /// The greatest `event.sequence` before this file: a compaction removes the events of
        /// those before it. Absent in files of earlier versions.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sequence: Option<u64>,
    },
    /// An event was accepted. Synced before the emitter is answered.
    Accepted(Accepted<B>),
    /// An event that was accepted earlier and has nothing pending: kept so that a repeated one is
    /// recognised.
    Known {
        /// The event's key.
        idempotency_key: IdempotencyKey,
        /// When it was accepted.
        #[serde(with = "clock::millis")]
        at: Timestamp,
        /// The step it told of, kept while a counterpart may still come.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        told: Option<Told>,
    },
    /// A SPEC's run so far: written by a compaction that removes the events it was folded from.
    Run(Run),
    /// An attempt failed and another one follows.
    Attempted {
        /// The delivery.
        id: DeliveryId,
        /// The result of the attempt.
        attempt: AttemptSummary,
        /// When the next attempt is due.
        #[serde(with = "clock::millis")]
        next_attempt_at: Timestamp,
    },
    /// A delivery ended.
    Finished {
        /// The delivery.
        id: DeliveryId,
        /// The final state.
        state: FinalState,
        /// When it ended.
        #[serde(with = "clock::millis")]
        at: Timestamp,
        /// The user who gave it up for good. Its state is `dropped` then, which earlier versions
        /// know.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        discarded_by: Option<String>,
    },
    /// A whole record of a later version of the program: kept unchanged, for that version.
    #[serde(skip)]
    Later(Later),
}

impl<B> Record<B> {
    /// The end of a delivery.
    pub(crate) fn finished(id: DeliveryId, state: FinalState, at: Timestamp) -> Self {
        Self::Finished { id, state, at, discarded_by: None }
    }

    /// The greatest `event.sequence` that it tells of. Of an event that does not have it, which an
    /// earlier version accepted, it is the least that it could have.
    pub(super) fn sequence(&self) -> u64 {
        match self {
            Self::Spool { sequence, .. } => sequence.unwrap_or(0),
            Self::Accepted(Accepted { sequence, at, .. }) => sequence.unwrap_or_else(|| sequence_at(*at)),
            Self::Known { at, .. } => sequence_at(*at),
            Self::Later(later) => later.sequence,
            Self::Run(_) | Self::Attempted { .. } | Self::Finished { .. } => 0,
        }
    }
}

/// A record that this version does not understand.
#[derive(Clone, Debug)]
pub(crate) struct Later {
    text: Box<RawValue>,
    /// If it accepted an event: the event's key, and when it was accepted.
    pub(super) event: Option<(IdempotencyKey, Timestamp)>,
    sequence: u64,
}

impl Later {
    /// The record with this JSON text.
    fn of(json: &[u8]) -> serde_json::Result<Self> {
        #[derive(Deserialize)]
        struct Accepted {
            idempotency_key: IdempotencyKey,
            at: Timestamp,
            #[serde(default)]
            sequence: Option<u64>,
        }
        #[derive(Deserialize)]
        struct Event {
            accepted: Accepted,
        }
        let event = serde_json::from_slice::<Event>(json).ok();
        let accepted = event.map(|Event { accepted }| accepted);
        let sequence = accepted.as_ref().map_or(0, |it| it.sequence.unwrap_or_else(|| sequence_at(it.at)));
        let event = accepted.map(|Accepted { idempotency_key, at, .. }| (idempotency_key, at));
        Ok(Self { text: serde_json::from_slice(json)?, event, sequence })
    }
}

/// An accepted event: its payload, and a delivery for each subscription that wants it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Accepted<B = Box<RawValue>> {
    /// When it was accepted.
    #[serde(with = "clock::millis")]
    pub at: Timestamp,
    /// The event's key.
    pub idempotency_key: IdempotencyKey,
    /// The event's type.
    pub event: EventKind,
    /// The stage that it tells of; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// How that ended; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Its `event.sequence`; absent in records of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<u64>,
    /// The inbox file it came from, which is removed once this record is synced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbox: Option<String>,
    /// What it adds to its SPEC's run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<Step>,
    /// The step it tells of, so that a counterpart without an identity of its own is recognised.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<Told>,
    /// Its deliveries; empty if no subscription wants it.
    pub deliveries: Vec<AcceptedDelivery>,
    /// The payload, byte for byte.
    pub body: B,
    /// The payload rendered in other formats, for the deliveries that use them.
    #[serde(default = "BTreeMap::new", skip_serializing_if = "BTreeMap::is_empty")]
    pub bodies: BTreeMap<Format, B>,
    /// The payloads of those deliveries that do not share theirs: they call somebody.
    #[serde(default = "BTreeMap::new", skip_serializing_if = "BTreeMap::is_empty")]
    pub own_bodies: BTreeMap<DeliveryId, B>,
}

/// One delivery of an accepted event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct AcceptedDelivery {
    /// The delivery's id, sent as `X-SpecKit-Id`.
    pub id: DeliveryId,
    /// The subscription it goes to.
    pub subscription: SubscriptionId,
    /// The format of its payload.
    #[serde(default, skip_serializing_if = "Format::is_spec_kit")]
    pub format: Format,
    /// Attempts made before the record was moved here by a compaction.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<AttemptSummary>,
    /// When the next attempt is due, as known when a compaction moved the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<Timestamp>,
}

impl AcceptedDelivery {
    /// A new delivery, not yet tried.
    pub(crate) fn new(id: DeliveryId, subscription: SubscriptionId) -> Self {
        let format = Format::default();
        Self { id, subscription, format, attempts: Vec::new(), next_attempt_at: None }
    }
}

fn raw(body: &Bytes) -> io::Result<Box<RawValue>> {
    let text = String::from_utf8(body.to_vec()).map_err(io::Error::other)?;
    RawValue::from_string(text).map_err(io::Error::other)
}

impl Accepted {
    /// The record of an event whose payload is `body`.
    pub(crate) fn new(
        at: Timestamp,
        idempotency_key: IdempotencyKey,
        event: EventKind,
        deliveries: Vec<AcceptedDelivery>,
        body: Box<RawValue>,
    ) -> Self {
        let (bodies, own_bodies) = (BTreeMap::new(), BTreeMap::new());
        let (sequence, inbox, run, told) = (None, None, None, None);
        let (stage, status) = (None, None);
        Self {
            at,
            idempotency_key,
            event,
            stage,
            status,
            sequence,
            inbox,
            run,
            told,
            deliveries,
            body,
            bodies,
            own_bodies,
        }
    }

    /// As [`new`](Self::new), of a payload that is read.
    ///
    /// # Errors
    /// `body` is not JSON.
    #[cfg(test)]
    pub(crate) fn of_bytes(
        at: Timestamp,
        idempotency_key: IdempotencyKey,
        event: EventKind,
        deliveries: Vec<AcceptedDelivery>,
        body: &Bytes,
    ) -> io::Result<Self> {
        raw(body).map(|body| Self::new(at, idempotency_key, event, deliveries, body))
    }

    /// Adds the payload rendered in another format.
    ///
    /// # Errors
    /// `body` is not JSON.
    pub(crate) fn add_body(&mut self, format: Format, body: &Bytes) -> io::Result<()> {
        self.bodies.insert(format, raw(body)?);
        Ok(())
    }

    /// Adds the payload that one delivery alone sends.
    ///
    /// # Errors
    /// `body` is not JSON.
    pub(crate) fn add_own_body(&mut self, id: DeliveryId, body: &Bytes) -> io::Result<()> {
        self.own_bodies.insert(id, raw(body)?);
        Ok(())
    }

    /// The payload in its own format, not one rendered for a delivery.
    pub(super) fn into_payload(self) -> Bytes {
        Bytes::from(Box::<str>::from(self.body).into_string())
    }

    /// The payload that one of its deliveries sends.
    pub(super) fn into_body(mut self, id: DeliveryId) -> Bytes {
        let format =
            self.deliveries.iter().find(|delivery| delivery.id == id).map(|delivery| delivery.format);
        let shared = || format.and_then(|format| self.bodies.remove(&format));
        let other = self.own_bodies.remove(&id).or_else(shared);
        Bytes::from(Box::<str>::from(other.unwrap_or(self.body)).into_string())
    }
}

/// Appends a record as one line; returns the line's length.
pub(crate) fn encode(record: &Record, lines: &mut Vec<u8>) -> usize {
    let start = lines.len();
    lines.extend_from_slice(&[b' '; PREFIX]);
    // Serialising cannot fail: a record holds only strings, numbers, and JSON that was parsed.
    let written = match record {
        Record::Later(later) => serde_json::to_writer(&mut *lines, &later.text),
        record => serde_json::to_writer(&mut *lines, record),
    };
    if let Err(error) = written {
        log::error!("a record could not be written as JSON: {error}");
    }
    let (prefix, json) = lines[start..].split_at_mut(PREFIX);
    // Eight hex digits hold the checksum and any length below 4 GiB.
    let written = write!(&mut *prefix, "{:08x} {:08x} ", crc32fast::hash(json), json.len());
    if let Err(error) = written {
        log::error!("a record is too long: {error}");
    }
    lines.push(b'\n');
    lines.len() - start
}

/// The length of a [`Record::Known`] with these, without writing it.
pub(super) fn known_length(key: &IdempotencyKey, told: Option<&Told>) -> usize {
    // Keys hold no control characters, so JSON escapes only these two.
    let escapes = key.as_str().bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count();
    let told = told.and_then(|told| serde_json::to_vec(told).ok()).map_or(0, |json| TOLD.len() + json.len());
    PREFIX + KNOWN.len() + key.as_str().len() + escapes + told + 1
}

/// The text before what was told in a [`Record::Known`].
const TOLD: &str = r#","told":"#;

/// What surrounds the key in a [`Record::Known`] without `told`.
const KNOWN: &str = r#"{"known":{"idempotency_key":"","at":"2025-10-14T10:00:00.000Z"}}"#;

/// How payloads are read from a record.
pub(super) trait Payload: DeserializeOwned {
    /// The record with this JSON text.
    fn record_of(json: &[u8]) -> serde_json::Result<Record<Self>>;
}

impl Payload for Box<RawValue> {
    fn record_of(json: &[u8]) -> serde_json::Result<Record<Self>> {
        serde_json::from_slice(json)
    }
}

/// Skips payloads. They are the last fields of an accepted event: all before them is a whole record
/// once it is closed, and the payloads, which can be long, need not be read to find where they end.
impl Payload for IgnoredAny {
    fn record_of(json: &[u8]) -> serde_json::Result<Record<Self>> {
        // JSON escapes quotation marks within a text, so this is a field. If it belongs to anything
        // within the event, what comes before it cannot be closed like this.
        let before_payloads = json.starts_with(ACCEPTED).then(|| memmem::find(json, BODY)).flatten();
        let skipped = before_payloads.map(|at| [&json[..at], NO_BODY].concat());
        skipped
            .and_then(|text| serde_json::from_slice(&text).ok())
            .map_or_else(|| serde_json::from_slice(json), Ok)
    }
}

const ACCEPTED: &[u8] = br#"{"accepted":{"#;
const BODY: &[u8] = br#","body":"#;
const NO_BODY: &[u8] = br#","body":null}}"#;

/// Reads the record at the start of a text. Returns it and its length without the newline; `None`
/// if there is no record.
pub(super) fn decode<B: Payload>(text: &[u8]) -> Option<(Record<B>, usize)> {
    let prefix = std::str::from_utf8(text.get(..PREFIX)?).ok()?;
    let (sum, length) = prefix.strip_suffix(' ')?.split_once(' ')?;
    let length = usize::from_str_radix(length, 16).ok()?;
    let json = text.get(PREFIX..PREFIX.checked_add(length)?)?;
    if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(json) {
        return None;
    }
    // A matching checksum means that the JSON is as it was written: if this version does not
    // understand it, a later one wrote it.
    let record = B::record_of(json).or_else(|_| Later::of(json).map(Record::Later)).ok()?;
    Some((record, PREFIX + length))
}

/// The record in a whole line.
pub(super) fn decode_whole<B: Payload>(line: &[u8]) -> io::Result<Record<B>> {
    let decoded = decode(line).map(|(record, _)| record);
    decoded.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the record is damaged"))
}

/// What a spool file holds.
#[derive(Debug)]
pub(super) struct Scan<B = Box<RawValue>> {
    /// Whole records and their ranges, newline included.
    pub(super) records: Vec<(Range<usize>, Record<B>)>,
    /// Ranges that are no record and are followed by a newline or a record.
    pub(super) damaged: Vec<Range<usize>>,
    /// Where an unfinished last line begins; the length of the content if there is none.
    pub(super) torn_at: usize,
}

/// Few records have fewer bytes.
const SMALL_RECORD: usize = 100;

/// Reads every record that can be read.
pub(super) fn scan<B: Payload>(content: &[u8]) -> Scan<B> {
    let records = transient::list(content.len() / SMALL_RECORD);
    let mut scan = Scan { records, damaged: Vec::new(), torn_at: content.len() };
    let mut at = 0;
    while at < content.len() {
        if let Some((record, length)) = decode(&content[at..]) {
            let end = at + length;
            match content.get(end) {
                Some(b'\n') => scan.records.push((at..end + 1, record)),
                // A damaged newline is one byte that belongs to this record.
                Some(_) => {
                    scan.damaged.push(end..end + 1);
                    scan.records.push((at..end + 1, record));
                }
                // A record without its newline was never acknowledged. It is whole, so it is kept.
                None => {
                    scan.records.push((at..end, record));
                    scan.torn_at = end;
                }
            }
            at = end + 1;
            continue;
        }
        match content[at..].iter().position(|byte| *byte == b'\n') {
            Some(newline) => {
                let end = at + newline + 1;
                match scan.damaged.last_mut() {
                    Some(last) if last.end == at => last.end = end,
                    _ => scan.damaged.push(at..end),
                }
                at = end;
            }
            None => {
                scan.torn_at = at;
                break;
            }
        }
    }
    scan
}
