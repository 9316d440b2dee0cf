//! Knows which events were accepted, so that a repeated event is delivered once.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::sha256;
use crate::event::IdempotencyKey;

/// Most events remembered; beyond it the oldest is forgotten first.
const MAX_KNOWN: usize = 100_000;

/// The first 16 bytes of a key's SHA-256: compact, and without collisions in practice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct KeyDigest([u8; 16]);

impl KeyDigest {
    /// The digest of any bytes.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let mut digest = [0; 16];
        digest.copy_from_slice(&sha256(bytes)[..16]);
        Self(digest)
    }
}

#[cfg(feature = "fleet")]
impl KeyDigest {
    /// The digest of a key of which the SHA-256 is known; of less than 16 bytes, of nothing else.
    pub(crate) fn of_sha256(sha256: &[u8]) -> Option<Self> {
        sha256.first_chunk().map(|digest| Self(*digest))
    }
}

impl From<&IdempotencyKey> for KeyDigest {
    fn from(key: &IdempotencyKey) -> Self {
        Self::of(key.as_str().as_bytes())
    }
}

/// Serialised in hex, in formats for people.
impl Serialize for KeyDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serializer.is_human_readable() {
            true => serializer.serialize_str(&hex::encode(self.0)),
            false => self.0.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for KeyDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return Deserialize::deserialize(deserializer).map(Self);
        }
        let mut digest = [0; 16];
        let text = String::deserialize(deserializer)?;
        hex::decode_to_slice(text, &mut digest).map_err(de::Error::custom)?;
        Ok(Self(digest))
    }
}

/// An event that was accepted; in order of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct KnownEvent {
    /// When, in milliseconds since the epoch, as the spool has it.
    pub(crate) at_ms: i64,
    pub(crate) key: KeyDigest,
}

impl KnownEvent {
    /// The event with this key, accepted then.
    pub(crate) fn new(key: &IdempotencyKey, at: Timestamp) -> Self {
        Self { key: key.into(), at_ms: at.as_millisecond() }
    }

    /// As many of these as are remembered, each once, oldest first: a compaction that a crash or a
    /// note of sealed files comes across leaves some in two places.
    pub(crate) fn newest(mut known: Vec<Self>) -> Vec<Self> {
        known.sort_unstable();
        known.dedup();
        known.drain(..known.len().saturating_sub(MAX_KNOWN));
        known
    }
}

/// The idempotency keys accepted within a window.
#[derive(Debug)]
pub(crate) struct Dedupe {
    window: SignedDuration,
    known: HashMap<KeyDigest, i64>,
    order: VecDeque<KnownEvent>,
}

impl Dedupe {
    /// Knows nothing yet, and remembers events for `window`.
    pub(crate) fn new(window: SignedDuration) -> Self {
        Self { window, known: HashMap::new(), order: VecDeque::new() }
    }

    /// Sets how long events are remembered.
    pub(crate) fn set_window(&mut self, window: SignedDuration) {
        self.window = window;
    }

    /// Restores what was known at the last stop, given oldest first and at most as many as are
    /// remembered.
    pub(crate) fn restore(&mut self, known: &[KnownEvent]) {
        self.known.reserve(known.len());
        self.order.reserve_exact(known.len());
        known.iter().for_each(|event| self.add(*event));
    }

    /// Whether an event with this key was accepted within the window.
    pub(crate) fn knows(&self, key: KeyDigest, now: Timestamp) -> bool {
        self.known.get(&key).is_some_and(|at| !self.is_over(*at, now.as_millisecond()))
    }

    fn is_over(&self, at: i64, now: i64) -> bool {
        i128::from(now.saturating_sub(at)) >= self.window.as_millis()
    }

    /// Remembers an accepted event. Must be called in the order of acceptance.
    pub(crate) fn remember(&mut self, key: KeyDigest, at: Timestamp) {
        self.add(KnownEvent { key, at_ms: at.as_millisecond() });
    }

    fn add(&mut self, event: KnownEvent) {
        self.known.insert(event.key, event.at_ms);
        self.order.push_back(event);
        while self.order.len() > MAX_KNOWN
            || self.order.front().is_some_and(|oldest| self.is_over(oldest.at_ms, event.at_ms))
        {
            let Some(oldest) = self.order.pop_front() else { break };
            if self.known.get(&oldest.key) == Some(&oldest.at_ms) {
                self.known.remove(&oldest.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_known_for_a_day_and_never_more_than_the_bound() {
        let start: Timestamp = "2025-10-14T10:00:00Z".parse().unwrap();
        let key = |n: usize| KeyDigest::from(&format!("k{n}").parse().unwrap());
        let mut dedupe = Dedupe::new(SignedDuration::from_hours(24));
        dedupe.remember(key(0), start);
        assert!(dedupe.knows(key(0), start + SignedDuration::from_hours(23)));
        assert!(!dedupe.knows(key(0), start + SignedDuration::from_hours(24)));
        assert!(!dedupe.knows(key(1), start));
        for n in 1..=MAX_KNOWN + 10 {
            dedupe.remember(key(n), start);
        }
        assert_eq!(dedupe.known.len(), MAX_KNOWN);
        assert!(!dedupe.knows(key(0), start));
        dedupe.remember(key(0), start + SignedDuration::from_hours(24));
        assert_eq!(dedupe.known.len(), 1);
    }

    #[test]
    fn what_is_restored_are_as_many_events_as_are_remembered_and_not_as_many_copies() {
        let start: Timestamp = "2025-10-14T10:00:00Z".parse().unwrap();
        let event = |n: usize| {
            KnownEvent::new(
                &format!("k{n}").parse().unwrap(),
                start + SignedDuration::from_millis(i64::try_from(n).unwrap()),
            )
        };
        let twice: Vec<KnownEvent> = (0..=MAX_KNOWN).rev().chain(0..=MAX_KNOWN).map(event).collect();
        let newest = KnownEvent::newest(twice);
        let mut dedupe = Dedupe::new(SignedDuration::from_hours(24));
        dedupe.restore(&newest);
        assert_eq!((dedupe.known.len(), dedupe.order.len()), (MAX_KNOWN, MAX_KNOWN));
        assert!(!dedupe.knows(event(0).key, start) && dedupe.knows(event(1).key, start));
    }
}
