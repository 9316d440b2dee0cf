//! The spool of one SPEC: an append-only journal of what was accepted and what became of it.
//!
//! One record a line: eight hex digits of CRC-32 over the JSON, a space, the JSON, a newline. The first line says
//! the format's version. `docs/files.md` has it byte by byte.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::evidence::AttemptSummary;
use super::{OpenError, StoreError, Unfinished, files};
use crate::clock;
use crate::delivery::{Delivery, DeliveryId, SubscriptionId};
use crate::event::{EventKind, IdempotencyKey, SpecId, named};
use serde::{Deserializer, Serializer, de};
use std::fmt;
use std::str::FromStr;

use crate::event::UnknownName;

/// The journal's format.
const VERSION: u32 = 1;

named! {
    /// How a delivery ended.
    FinalState, "final state" {
        /// The endpoint has it.
        Delivered = "delivered",
        /// Given up; a dead letter has it.
        DeadLetter = "dead_letter",
        /// Recorded, not sent.
        DryRun = "dry_run",
    }
}

/// One line of the journal.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The first line of every journal.
    Spool {
        /// The format's version.
        version: u32,
        /// Whose journal this is.
        spec: SpecId,
    },
    /// An event was accepted. Synced before the emitter hears of it.
    Accepted(Accepted),
    /// An attempt failed and another follows.
    Attempted {
        /// Of which delivery.
        id: DeliveryId,
        /// What came of it.
        attempt: AttemptSummary,
        /// When the next one is due.
        #[serde(with = "clock::millis")]
        next_attempt_at: Timestamp,
    },
    /// A delivery ended.
    Finished {
        /// Which.
        id: DeliveryId,
        /// How.
        state: FinalState,
        /// When.
        #[serde(with = "clock::millis")]
        at: Timestamp,
    },
}

/// An accepted event: its body, and a delivery for each subscription that wants it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Accepted {
    /// When.
    #[serde(with = "clock::millis")]
    pub at: Timestamp,
    /// Which event.
    pub idempotency_key: IdempotencyKey,
    /// Its type.
    pub event: EventKind,
    /// Delivery by delivery; none where no subscription wants it.
    pub deliveries: Vec<AcceptedDelivery>,
    /// The payload, byte for byte.
    pub body: Box<RawValue>,
}

/// One delivery of an accepted event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AcceptedDelivery {
    /// The `X-SpecKit-Id`.
    pub id: DeliveryId,
    /// To whom.
    pub subscription: SubscriptionId,
}

/// Writes a record as its line.
pub(super) fn encode(record: &Record, line: &mut Vec<u8>) {
    // A record holds only types whose serialisation cannot fail: strings, numbers, and JSON that was parsed.
    let json = serde_json::to_vec(record).unwrap_or_default();
    line.extend_from_slice(format!("{:08x} ", crc32fast::hash(&json)).as_bytes());
    line.extend_from_slice(&json);
    line.push(b'\n');
}

/// Reads one line, without its newline; `None` for one that was damaged.
pub(super) fn decode(line: &[u8]) -> Option<Record> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = std::str::from_utf8(sum).ok()?.strip_suffix(' ')?;
    if u32::from_str_radix(sum, 16).ok()? != crc32fast::hash(json) {
        return None;
    }
    serde_json::from_slice(json).ok()
}

/// What the journals say is not finished, and which events are known.
#[derive(Debug, Default)]
pub struct Recovered {
    /// In the order they were accepted, SPEC by SPEC.
    pub unfinished: Vec<Unfinished>,
    /// Every event in the journals and when it was accepted.
    pub known: Vec<(IdempotencyKey, Timestamp)>,
    attempts: HashMap<DeliveryId, Vec<AttemptSummary>>,
}

impl Recovered {
    pub(super) fn absorb(&mut self, other: Self) {
        self.unfinished.extend(other.unfinished);
        self.known.extend(other.known);
        self.attempts.extend(other.attempts);
    }

    pub(super) fn take_attempts(&mut self) -> HashMap<DeliveryId, Vec<AttemptSummary>> {
        std::mem::take(&mut self.attempts)
    }

    /// What a journal's records add up to.
    fn from_records(spec: &SpecId, records: impl IntoIterator<Item = Record>) -> Self {
        let mut recovered = Self::default();
        let mut open: BTreeMap<usize, Unfinished> = BTreeMap::new();
        let mut place: HashMap<DeliveryId, usize> = HashMap::new();
        for record in records {
            match record {
                Record::Spool { .. } => {}
                Record::Accepted(accepted) => {
                    let body = Bytes::from(accepted.body.get().to_owned());
                    for AcceptedDelivery { id, subscription } in accepted.deliveries {
                        let delivery = Delivery {
                            id,
                            subscription,
                            spec: spec.clone(),
                            key: accepted.idempotency_key.clone(),
                            kind: accepted.event,
                            body: body.clone(),
                            accepted_at: accepted.at,
                        };
                        let at = place.len();
                        place.insert(id, at);
                        open.insert(
                            at,
                            Unfinished { delivery: Arc::new(delivery), attempts: 0, next_attempt_at: None },
                        );
                    }
                    recovered.known.push((accepted.idempotency_key, accepted.at));
                }
                Record::Attempted { id, attempt, next_attempt_at } => {
                    if let Some(unfinished) = place.get(&id).and_then(|at| open.get_mut(at)) {
                        unfinished.attempts = attempt.attempt;
                        unfinished.next_attempt_at = Some(next_attempt_at);
                        recovered.attempts.entry(id).or_default().push(attempt);
                    }
                }
                Record::Finished { id, .. } => {
                    place.get(&id).and_then(|at| open.remove(at));
                    recovered.attempts.remove(&id);
                }
            }
        }
        recovered.unfinished = open.into_values().collect();
        recovered
    }
}

/// One SPEC's journal, open for appending.
#[derive(Debug)]
pub(super) struct SpoolFile {
    path: PathBuf,
    file: File,
    /// Length up to which the file is known to hold whole records.
    length: u64,
    batch: Vec<u8>,
    must_sync: bool,
}

impl SpoolFile {
    /// Opens or creates a journal; repairs a torn tail; reads what it holds.
    pub(super) fn open(path: &Path, spec: &SpecId) -> Result<(Self, Recovered), OpenError> {
        let failed = |doing| StoreError::on(doing, path);
        let is_new = !path.exists();
        let mut file = files::private_file(path).map_err(failed("open"))?;
        let content = fs::read(path).map_err(failed("read"))?;
        if let Some(Record::Spool { version, .. }) = content.split(|b| *b == b'\n').next().and_then(decode)
            && version > VERSION
        {
            return Err(OpenError::Newer { path: path.to_owned(), version });
        }
        let (length, cut) = files::cut_torn_line(&mut file).map_err(failed("repair"))?;
        if cut > 0 {
            log::warn!(
                "{}: cut {cut} bytes of a record that a crash left unfinished; it was never acknowledged",
                path.display()
            );
        }
        let whole = content.get(..usize::try_from(length).unwrap_or(usize::MAX)).unwrap_or_default();
        let lines = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).enumerate();
        let records = lines.filter_map(|(number, line)| {
            decode(line).or_else(|| {
                log::error!(
                    "{}: record {} is damaged and left where it is; all others are recovered",
                    path.display(),
                    number + 1
                );
                None
            })
        });
        let recovered = Recovered::from_records(spec, records);
        let mut spool = Self { path: path.to_owned(), file, length, batch: Vec::new(), must_sync: false };
        if length == 0 {
            encode(&Record::Spool { version: VERSION, spec: spec.clone() }, &mut spool.batch);
            spool.must_sync = true;
            spool.flush()?;
        }
        if is_new && let Some(dir) = path.parent() {
            files::sync_dir(dir)?;
        }
        Ok((spool, recovered))
    }

    pub(super) fn append(&mut self, record: &Record) {
        encode(record, &mut self.batch);
        self.must_sync |= matches!(record, Record::Accepted(_));
    }

    pub(super) fn has_unwritten(&self) -> bool {
        !self.batch.is_empty()
    }

    /// One write, and one sync where an emitter waits for it. On failure the file is cut back to what it was.
    pub(super) fn flush(&mut self) -> Result<(), StoreError> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let written = self.file.write_all(&self.batch).and_then(|()| match self.must_sync {
            true => self.file.sync_data(),
            false => Ok(()),
        });
        match written {
            Ok(()) => {
                self.length += self.batch.len() as u64;
                self.batch.clear();
                self.must_sync = false;
                Ok(())
            }
            Err(error) => {
                if let Err(error) = self.file.set_len(self.length) {
                    log::error!("cannot cut {} back to its last whole record: {error}", self.path.display());
                }
                Err(StoreError::on("write", &self.path)(error))
            }
        }
    }

    pub(super) fn sync(&mut self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(StoreError::on("sync", &self.path))
    }
}

impl Accepted {
    /// The record of an event whose payload is `body`.
    ///
    /// # Errors
    /// `body` is not JSON.
    pub fn new(
        at: Timestamp,
        idempotency_key: IdempotencyKey,
        event: EventKind,
        deliveries: Vec<AcceptedDelivery>,
        body: &Bytes,
    ) -> io::Result<Self> {
        let text = String::from_utf8(body.to_vec()).map_err(io::Error::other)?;
        let body = RawValue::from_string(text).map_err(io::Error::other)?;
        Ok(Self { at, idempotency_key, event, deliveries, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec() -> SpecId {
        "SPEC-1".parse().unwrap()
    }

    fn accepted(key: &str, body: &str, ids: &[DeliveryId]) -> Record {
        let deliveries =
            ids.iter().map(|id| AcceptedDelivery { id: *id, subscription: "s".parse().unwrap() }).collect();
        let at = "2025-10-14T10:00:00.123Z".parse().unwrap();
        let body = Bytes::from(body.to_owned());
        Record::Accepted(
            Accepted::new(at, key.parse().unwrap(), EventKind::StageCompleted, deliveries, &body).unwrap(),
        )
    }

    fn attempted(id: DeliveryId, attempt: u32) -> Record {
        let at = "2025-10-14T10:00:01Z".parse().unwrap();
        let attempt =
            AttemptSummary { attempt, at, status: Some(500), error: None, response: None, latency_ms: 1.0 };
        Record::Attempted { id, attempt, next_attempt_at: at }
    }

    fn finished(id: DeliveryId) -> Record {
        Record::Finished { id, state: FinalState::Delivered, at: "2025-10-14T10:00:02Z".parse().unwrap() }
    }

    fn open(dir: &Path) -> (SpoolFile, Recovered) {
        SpoolFile::open(&dir.join("spool.jsonl"), &spec()).unwrap()
    }

    #[test]
    fn what_is_not_finished_comes_back_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = [(); 3].map(|()| DeliveryId::random());
        let body = r#"{"n":1.10,"text":"ü\u00fc\n"}"#;
        let (mut spool, _) = open(dir.path());
        for record in [
            accepted("k1", body, &[a, b]),
            attempted(b, 1),
            attempted(b, 2),
            accepted("k2", "{}", &[c]),
            finished(a),
        ] {
            spool.append(&record);
        }
        spool.flush().unwrap();
        let (_, recovered) = open(dir.path());
        let ids: Vec<_> = recovered.unfinished.iter().map(|u| (u.delivery.id, u.attempts)).collect();
        assert_eq!(ids, [(b, 2), (c, 0)]);
        assert_eq!(recovered.unfinished[0].delivery.body, body.as_bytes());
        assert_eq!(recovered.known.len(), 2);
        assert_eq!(recovered.attempts[&b].len(), 2);
    }

    #[test]
    fn every_cut_keeps_every_whole_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool.jsonl");
        let ids: Vec<_> = (0..4).map(|_| DeliveryId::random()).collect();
        let (mut spool, _) = open(dir.path());
        for (n, id) in ids.iter().enumerate() {
            spool.append(&accepted(&format!("k{n}"), "{}", &[*id]));
        }
        spool.flush().unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in 0..=whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let complete = whole[..cut].iter().filter(|b| **b == b'\n').count().saturating_sub(1);
            let (mut spool, recovered) = open(dir.path());
            assert_eq!(recovered.unfinished.len(), complete, "cut at {cut}");
            let next = DeliveryId::random();
            spool.append(&accepted("next", "{}", &[next]));
            spool.flush().unwrap();
            assert_eq!(open(dir.path()).1.unfinished.len(), complete + 1, "cut at {cut}");
        }
    }

    #[test]
    fn a_damaged_record_costs_only_itself() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool.jsonl");
        let (mut spool, _) = open(dir.path());
        for n in 0..3 {
            spool.append(&accepted(&format!("k{n}"), "{}", &[DeliveryId::random()]));
        }
        spool.flush().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let second = bytes.windows(4).position(|w| w == b"\"k1\"").unwrap();
        bytes[second + 1] = b'x';
        fs::write(&path, bytes).unwrap();
        assert_eq!(open(dir.path()).1.unfinished.len(), 2);
    }

    #[test]
    fn a_later_version_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool.jsonl");
        let mut line = Vec::new();
        encode(&Record::Spool { version: 2, spec: spec() }, &mut line);
        line.extend_from_slice(b"whatever comes then, unfinished");
        fs::write(&path, &line).unwrap();
        let error = SpoolFile::open(&path, &spec()).unwrap_err().to_string();
        assert!(error.contains("format 2"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), line);
    }

    proptest! {
        #[test]
        fn decode_reads_what_encode_wrote_and_never_panics(key in "[ -~]{1,40}", garbage in proptest::collection::vec(any::<u8>(), 0..200)) {
            let record = accepted(&key, r#"{"a":[1,2]}"#, &[DeliveryId::random()]);
            let mut line = Vec::new();
            encode(&record, &mut line);
            prop_assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
            let Some(Record::Accepted(read)) = decode(&line[..line.len() - 1]) else { panic!("not read") };
            prop_assert_eq!(read.idempotency_key.as_str(), key.as_str());
            prop_assert!(decode(&garbage).is_none());
        }
    }
}
