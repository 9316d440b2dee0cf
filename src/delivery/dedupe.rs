//! Knows which events were accepted, so that a repeated event is delivered once.

use std::collections::VecDeque;
use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};
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
        known.shrink_to_fit();
        known
    }
}

/// The idempotency keys accepted within a window.
#[derive(Debug)]
pub(crate) struct Dedupe {
    window: SignedDuration,
    /// Oldest first.
    order: VecDeque<KnownEvent>,
    /// The number of the first in `order`; each after it has the next.
    first: u32,
    /// The number of the last event with each key: a number takes less memory than the key again.
    last: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Dedupe {
    /// Knows nothing yet, and remembers events for `window`.
    pub(crate) fn new(window: SignedDuration) -> Self {
        Self {
            window,
            order: VecDeque::new(),
            first: 0,
            last: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }

    /// Sets how long events are remembered.
    pub(crate) fn set_window(&mut self, window: SignedDuration) {
        self.window = window;
    }

    /// Knows what was known at the last stop, given oldest first and at most as many as are
    /// remembered, and nothing else.
    pub(crate) fn restore(&mut self, known: Vec<KnownEvent>) {
        (self.order, self.first) = (known.into(), 0);
        self.last = HashTable::with_capacity(self.order.len());
        (0..self.order.len()).for_each(|at| self.index(at));
        let Some(newest) = self.order.back().map(|newest| newest.at_ms) else { return };
        while self.order.front().is_some_and(|oldest| self.is_over(oldest.at_ms, newest)) {
            self.forget_oldest();
        }
    }

    /// Whether an event with this key was accepted within the window.
    pub(crate) fn knows(&self, key: KeyDigest, now: Timestamp) -> bool {
        let (order, first) = (&self.order, self.first);
        let known = self.last.find(self.hasher.hash_one(key), |number| of(order, first, *number).key == key);
        known.is_some_and(|number| !self.is_over(of(order, first, *number).at_ms, now.as_millisecond()))
    }

    fn is_over(&self, at: i64, now: i64) -> bool {
        i128::from(now.saturating_sub(at)) >= self.window.as_millis()
    }

    /// Remembers an accepted event. Must be called in the order of acceptance.
    pub(crate) fn remember(&mut self, key: KeyDigest, at: Timestamp) {
        self.add(KnownEvent { key, at_ms: at.as_millisecond() });
    }

    fn add(&mut self, event: KnownEvent) {
        while self.order.len() >= MAX_KNOWN
            || self.order.front().is_some_and(|oldest| self.is_over(oldest.at_ms, event.at_ms))
        {
            self.forget_oldest();
        }
        self.order.push_back(event);
        self.index(self.order.len() - 1);
    }

    /// Notes that the event at this place of `order` is the last with its key.
    fn index(&mut self, at: usize) {
        let (order, first, hasher) = (&self.order, self.first, &self.hasher);
        let number = first.wrapping_add(u32::try_from(at).unwrap_or(u32::MAX));
        let (key, key_of) = (order[at].key, |number: &u32| of(order, first, *number).key);
        let place = self.last.entry(
            hasher.hash_one(key),
            |other| key_of(other) == key,
            |other| hasher.hash_one(key_of(other)),
        );
        *place.insert(number).get_mut() = number;
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.order.front() else { return };
        let first = self.first;
        // A later event with its key stays known.
        if let Ok(place) = self.last.find_entry(self.hasher.hash_one(oldest.key), |number| *number == first) {
            place.remove();
        }
        self.order.pop_front();
        self.first = first.wrapping_add(1);
    }
}

/// The event with this number, where the first of `order` has the number `first`.
fn of(order: &VecDeque<KnownEvent>, first: u32, number: u32) -> KnownEvent {
    order[number.wrapping_sub(first) as usize]
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
        assert_eq!((dedupe.last.len(), dedupe.order.len()), (MAX_KNOWN, MAX_KNOWN));
        assert!(!dedupe.knows(key(0), start));
        dedupe.remember(key(0), start + SignedDuration::from_hours(24));
        assert_eq!((dedupe.last.len(), dedupe.order.len()), (1, 1));
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
        dedupe.restore(newest);
        assert_eq!((dedupe.last.len(), dedupe.order.len()), (MAX_KNOWN, MAX_KNOWN));
        assert!(!dedupe.knows(event(0).key, start) && dedupe.knows(event(1).key, start));
    }
}
