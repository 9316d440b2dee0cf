//! A dead letter: a delivery that was given up, in one file with all that is needed to understand
//! it and to send it again.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::clock;
use crate::delivery::{AttemptSummary, Delivery, DeliveryId, Reason, SubscriptionId};
use crate::event::{EventKind, IdempotencyKey, SpecId, Stage, Status};
use crate::files::{self, FileError, FileId};
use crate::payload::Format;

const VERSION: u32 = 1;

/// The content of `dead-letter/<delivery-id>.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct DeadLetter {
    /// Format version.
    pub v: u32,
    /// The delivery's id, sent as `X-SpecKit-Id`.
    pub id: DeliveryId,
    /// The subscription it was to go to.
    pub subscription: SubscriptionId,
    /// The SPEC of the event.
    pub spec: SpecId,
    /// The event's key.
    pub idempotency_key: IdempotencyKey,
    /// The event's type.
    pub event: EventKind,
    /// The stage that it tells of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// How that ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// When the event was accepted.
    #[serde(with = "clock::millis")]
    pub accepted_at: Timestamp,
    /// When the delivery was given up.
    #[serde(with = "clock::millis")]
    pub dead_at: Timestamp,
    /// The reason, for machines.
    pub reason: Reason,
    /// The reason, as a sentence.
    pub message: String,
    /// What to do about it.
    pub hint: String,
    /// The command that sends it again.
    pub replay: String,
    /// The format of the body, if it is not the payload itself.
    #[serde(default, skip_serializing_if = "Format::is_spec_kit")]
    pub format: Format,
    /// Every attempt, oldest first.
    pub attempts: Vec<AttemptSummary>,
    /// The payload, byte for byte.
    pub body: Box<RawValue>,
}

impl DeadLetter {
    /// The dead letter of `delivery`; `advice` is that of its last attempt.
    ///
    /// # Errors
    /// The body is not JSON; an accepted event's body always is.
    pub(crate) fn new(
        delivery: &Delivery,
        body: &Bytes,
        reason: Reason,
        attempts: Vec<AttemptSummary>,
        dead_at: Timestamp,
        advice: Option<&str>,
    ) -> serde_json::Result<Self> {
        Ok(Self {
            v: VERSION,
            id: delivery.id,
            subscription: delivery.subscription.clone(),
            spec: delivery.spec.clone(),
            idempotency_key: delivery.key.clone(),
            event: delivery.kind,
            stage: delivery.stage,
            status: delivery.status,
            accepted_at: delivery.accepted_at,
            format: delivery.format,
            dead_at,
            message: reason.to_string(),
            hint: reason.hint(advice),
            replay: format!("spec-notify replay {} --delivery-id {}", delivery.spec, delivery.id),
            reason,
            attempts,
            body: RawValue::from_string(String::from_utf8_lossy(body).into_owned())?,
        })
    }

    /// The delivery, ready to be sent again with the same id.
    pub(crate) fn delivery(&self) -> Delivery {
        Delivery {
            id: self.id,
            subscription: self.subscription.clone(),
            spec: self.spec.clone(),
            key: self.idempotency_key.clone(),
            kind: self.event,
            stage: self.stage,
            status: self.status,
            accepted_at: self.accepted_at,
            format: self.format,
        }
    }

    /// The reason, and the result of the last attempt.
    pub(crate) fn failure(&self) -> String {
        match (&self.reason, self.attempts.last()) {
            (Reason::SpoolSaturated | Reason::SpoolRemoved, _) | (_, None) => self.message.clone(),
            // The message already has its status.
            (Reason::Refused { .. } | Reason::Redirected { .. }, Some(last)) if last.response.is_none() => {
                self.message.clone()
            }
            (_, Some(last)) => format!("{}; {}", self.message, last.in_words()),
        }
    }

    /// Whether there is a payload to send again; `false` if it was lost with the spool's files.
    pub(crate) fn has_payload(&self) -> bool {
        self.body.get() != "null"
    }

    /// The payload.
    pub(crate) fn payload(&self) -> Bytes {
        self.body.get().to_owned().into()
    }
}

/// The dead letters of one SPEC, at most `max_bytes`: the oldest are removed beyond that.
#[derive(Debug)]
pub(super) struct DeadLetters {
    dir: PathBuf,
    /// The folder's identity: it may be removed or replaced at any time.
    id: FileId,
    max_bytes: u64,
    /// The size of each letter, by the time it was last written.
    sizes: BTreeMap<(SystemTime, DeliveryId), u64>,
}

impl DeadLetters {
    /// Opens or creates `dir`.
    pub(super) fn open(dir: PathBuf, max_bytes: u64) -> Result<Self, FileError> {
        files::create_dir_durably(&dir)?;
        let id = FileId::at(&dir).map_err(FileError::on("look at", &dir))?;
        let mut letters = Self { dir, id, max_bytes, sizes: BTreeMap::new() };
        letters.list().map_err(FileError::on("list", &letters.dir))?;
        Ok(letters)
    }

    /// Whether the folder is still the one that was listed.
    pub(super) fn is_in_place(&self) -> bool {
        self.id.is_at(&self.dir).is_ok_and(|is_there| is_there)
    }

    fn list(&mut self) -> io::Result<()> {
        self.sizes.clear();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if let Some(id) = id_of(&entry.file_name()) {
                let found = entry.metadata()?;
                self.sizes.insert((found.modified()?, id), found.len());
            }
        }
        Ok(())
    }

    /// Writes a letter, whole and synced, replacing an older one of the same delivery; then removes
    /// the oldest others while the total is above the bound.
    pub(super) fn write(&mut self, letter: &DeadLetter) -> Result<(), FileError> {
        let path = path(&self.dir, letter.id);
        // Not pretty-printed: that would change the body's bytes.
        let json = serde_json::to_vec(letter).map_err(|error| FileError::on("write", &path)(error.into()))?;
        files::write_atomic(&path, &json).map_err(FileError::on("write", &path))?;
        self.sizes.retain(|(_, id), _| *id != letter.id);
        // The file's own time is too coarse to order two letters.
        self.sizes.insert((clock::as_files_have_it(), letter.id), json.len() as u64);
        self.make_room(letter.id);
        Ok(())
    }

    fn make_room(&mut self, newest: DeliveryId) {
        let mut total: u64 = self.sizes.values().sum();
        while total > self.max_bytes
            && let Some((oldest, size)) =
                self.sizes.iter().find(|((_, id), _)| *id != newest).map(|(k, v)| (*k, *v))
        {
            self.sizes.remove(&oldest);
            total -= size;
            let path = path(&self.dir, oldest.1);
            match files::remove(&path) {
                Ok(()) => log::warn!(
                    "removed the dead letter {}, the oldest: together they are above max_dead_letter_bytes \
                     ({}); it can no longer be replayed",
                    path.display(),
                    self.max_bytes
                ),
                Err(error) => log::error!("cannot remove the dead letter {}: {error}", path.display()),
            }
        }
    }

    /// Removes a letter, if there is one.
    pub(super) fn remove(&mut self, id: DeliveryId) -> Result<(), FileError> {
        self.sizes.retain(|(_, other), _| *other != id);
        let path = path(&self.dir, id);
        match files::remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(FileError::on("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// The file of a delivery's dead letter.
pub(super) fn path(dir: &Path, id: DeliveryId) -> PathBuf {
    dir.join(format!("{id}.json"))
}

/// The deliveries that have a dead letter in `dir`.
pub(super) fn ids(dir: &Path) -> HashSet<DeliveryId> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| id_of(&entry.file_name())).collect()
}

fn id_of(name: &OsStr) -> Option<DeliveryId> {
    name.to_str()?.strip_suffix(".json")?.parse().ok()
}

/// The dead letters in `dir` with the time they were written, oldest first.
pub(crate) fn by_age(dir: &Path) -> Vec<(SystemTime, DeliveryId)> {
    let age = |id| Some((fs::metadata(path(dir, id)).ok()?.modified().ok()?, id));
    let mut found: Vec<_> = ids(dir).into_iter().filter_map(age).collect();
    found.sort_unstable();
    found
}

/// What a count of dead letters tells apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) subscription: SubscriptionId,
    pub(super) dead_at: Timestamp,
    /// What its last attempt came to, in words.
    pub(super) what: String,
    /// What to do about it.
    pub(super) hint: String,
}

/// Reads what a count needs, and passes over the payload: a count may open thousands.
pub(super) fn head(dir: &Path, id: DeliveryId) -> Result<Head, FileError> {
    #[derive(Deserialize)]
    struct Start {
        subscription: SubscriptionId,
        dead_at: Timestamp,
        reason: Reason,
        message: String,
        hint: String,
        #[serde(default)]
        attempts: Vec<AttemptSummary>,
    }
    let path = path(dir, id);
    let json = files::read_small(&path).map_err(FileError::on("read", &path))?;
    let start: Start =
        serde_json::from_slice(&json).map_err(|error| FileError::on("read", &path)(error.into()))?;
    let Start { subscription, dead_at, reason, message, hint, attempts } = start;
    let what = match (reason, attempts.last()) {
        (Reason::SpoolSaturated | Reason::SpoolRemoved, _) | (_, None) => message,
        (_, Some(last)) => last.cause(),
    };
    Ok(Head { subscription, dead_at, what, hint })
}

/// Reads the dead letter of a delivery.
pub(crate) fn read(dir: &Path, id: DeliveryId) -> Result<DeadLetter, FileError> {
    let path = path(dir, id);
    let json = files::read_small(&path).map_err(FileError::on("read", &path))?;
    serde_json::from_slice(&json).map_err(|error| FileError::on("read", &path)(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(body: &str) -> DeadLetter {
        let delivery = Delivery::sample(DeliveryId::random(), "k");
        let reason = Reason::Exhausted { attempts: 3 };
        let body = Bytes::from(body.to_owned());
        let letter = DeadLetter::new(&delivery, &body, reason, vec![], delivery.accepted_at, None).unwrap();
        assert_eq!(letter.delivery(), delivery);
        letter
    }

    #[test]
    fn a_dead_letter_keeps_the_body_byte_for_byte() {
        let dir = tempfile::tempdir().unwrap();
        let body = r#"{"n":1.10,"u":"\u00fc"}"#;
        let letter = letter(body);
        DeadLetters::open(dir.path().to_owned(), 10_000).unwrap().write(&letter).unwrap();
        let read = read(dir.path(), letter.id).unwrap();
        assert_eq!(read.payload(), body.as_bytes());
        let head = head(dir.path(), letter.id).unwrap();
        assert_eq!((head.subscription, head.dead_at), (letter.subscription, letter.dead_at));
        assert_eq!(read.replay, format!("spec-notify replay SPEC-1 --delivery-id {}", letter.id));
    }

    #[test]
    fn the_oldest_make_room_and_the_newest_always_stays() {
        let dir = tempfile::tempdir().unwrap();
        let size = serde_json::to_vec(&letter("{}")).unwrap().len() as u64;
        let mut letters = DeadLetters::open(dir.path().to_owned(), 3 * size + 10).unwrap();
        let written: Vec<DeadLetter> = (0..5).map(|_| letter("{}")).collect();
        for letter in &written {
            letters.write(letter).unwrap();
        }
        let left = |n: usize| read(dir.path(), written[n].id).is_ok();
        assert_eq!([0, 1, 2, 3, 4].map(left), [false, false, true, true, true]);
        // A new start lists them again.
        let mut letters = DeadLetters::open(dir.path().to_owned(), 1).unwrap();
        let large = letter("{}");
        letters.write(&large).unwrap();
        assert_eq!([2, 3, 4].map(left), [false; 3]);
        assert!(read(dir.path(), large.id).is_ok());
        letters.remove(large.id).unwrap();
        letters.remove(large.id).unwrap();
        assert!(letters.sizes.is_empty());
    }
}
