//! Knows which events were accepted, so that a repeated event is delivered once.

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::digest::sha256;
use crate::event::IdempotencyKey;

/// Most events remembered; beyond it the oldest is forgotten first.
const MAX_KNOWN: usize = 100_000;

/// The first 16 bytes of a key's SHA-256: compact, and without collisions in practice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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

/// An event that was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KnownEvent {
    pub(crate) key: KeyDigest,
    /// When, in milliseconds since the epoch, as the spool has it.
    pub(crate) at_ms: i64,
}

impl KnownEvent {
    /// The event with this key, accepted then.
    pub(crate) fn new(key: &IdempotencyKey, at: Timestamp) -> Self {
        Self { key: key.into(), at_ms: at.as_millisecond() }
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

    /// Restores what was known at the last stop, given oldest first.
    pub(crate) fn restore(&mut self, known: &[KnownEvent]) {
        let newest = &known[known.len().saturating_sub(MAX_KNOWN)..];
        self.known.reserve(newest.len());
        self.order.reserve_exact(newest.len());
        newest.iter().for_each(|event| self.add(*event));
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
        // A crash within a compaction leaves an event in two files.
        if self.known.insert(event.key, event.at_ms) == Some(event.at_ms) {
            return;
        }
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
}
