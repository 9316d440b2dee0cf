//! Some neighbouring places of a line, and the deliveries without a body that wait in them. They
//! take little memory, because there may be a hundred thousand.

use std::num::NonZeroU64;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Common, Compact, Delivery, DeliveryId, Queued};

/// A time that takes less memory than an [`Instant`](std::time::Instant): nanoseconds since a lane
/// was made.
pub(super) type Time = u64;

/// Deliveries that wait. Each takes 40 bytes and its key.
#[derive(Debug)]
pub(crate) struct Block {
    /// The first place.
    start: u64,
    /// Which places are taken, from the lowest bit on.
    taken: u64,
    /// The first that is due: when, and its place.
    first_due: Option<(Time, NonZeroU64)>,
    /// In the order of their places.
    rows: Vec<Row>,
    /// The keys of the rows, one after the other.
    keys: String,
    /// What rows have in common.
    common: Vec<Arc<Common>>,
}

/// A delivery of a block.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) id: DeliveryId,
    pub(super) due: Time,
    accepted_at_ms: i64,
    pub(super) attempts_made: u32,
    key_bytes: u16,
    /// The index in [`Block::common`].
    common: u16,
}

impl Row {
    pub(super) fn accepted_at(&self) -> Timestamp {
        Timestamp::from_millisecond(self.accepted_at_ms).unwrap_or_default()
    }
}

impl Block {
    /// How many places a block has.
    const PLACES: u64 = u64::BITS as u64;

    /// The number of the block that has this place.
    pub(super) fn number_of(place: NonZeroU64) -> u64 {
        place.get() / Self::PLACES
    }

    /// The block with this number; nothing waits in it.
    pub(super) fn new(number: u64) -> Self {
        Self {
            start: number * Self::PLACES,
            taken: 0,
            first_due: None,
            rows: Vec::new(),
            keys: String::new(),
            common: Vec::new(),
        }
    }

    /// The row of a place, or else the row before which its own would be.
    fn row_of(&self, place: NonZeroU64) -> Result<usize, usize> {
        let bit = bit_of(place);
        let at = (self.taken & (bit - 1)).count_ones() as usize;
        if self.taken & bit == 0 { Err(at) } else { Ok(at) }
    }

    /// Puts a delivery into a place, and returns whether it could: not where the place is taken, or
    /// something of the delivery is larger than a row has room for, which no key is.
    #[must_use]
    pub(super) fn insert(
        &mut self,
        place: NonZeroU64,
        due: Time,
        delivery: &Compact<&str>,
        attempts_made: u32,
    ) -> bool {
        let Compact { id, ref common, key, accepted_at_ms } = *delivery;
        let known = self.common.iter().position(|known| known == common);
        let sizes = (u16::try_from(key.len()), u16::try_from(known.unwrap_or(self.common.len())));
        let (Err(at), (Ok(key_bytes), Ok(at_common))) = (self.row_of(place), sizes) else { return false };
        if known.is_none() {
            self.common.push(common.clone());
        }
        self.keys.insert_str(self.key_start(at), key);
        self.rows.insert(at, Row { id, due, accepted_at_ms, attempts_made, key_bytes, common: at_common });
        self.taken |= bit_of(place);
        self.first_due = self.first_due.into_iter().chain([(due, place)]).min();
        if self.taken == u64::MAX {
            self.keys.shrink_to_fit();
        }
        true
    }

    /// Takes a delivery out of its place: when it is due, and the number of its attempts.
    pub(super) fn remove(&mut self, place: NonZeroU64) -> Option<(Time, Delivery, u32)> {
        let at = self.row_of(place).ok()?;
        let (delivery, start) = (self.delivery(at).whole(), self.key_start(at));
        let Row { due, attempts_made, key_bytes, .. } = self.rows.remove(at);
        self.keys.drain(start..start + usize::from(key_bytes));
        if self.rows.len() <= self.rows.capacity() / 4 {
            self.rows.shrink_to(2 * self.rows.len());
            self.keys.shrink_to(2 * self.keys.len());
        }
        self.taken &= !bit_of(place);
        if self.first_due.is_some_and(|(_, first)| first == place) {
            self.first_due = self.places().zip(&self.rows).map(|(place, row)| (row.due, place)).min();
        }
        Some((due, delivery, attempts_made))
    }

    /// The first that is due, and of those that are due at the same time the first in line: when,
    /// and its place.
    pub(super) fn first_due(&self) -> Option<(Time, NonZeroU64)> {
        self.first_due
    }

    /// The places that are taken, in order.
    fn places(&self) -> impl DoubleEndedIterator<Item = NonZeroU64> {
        let all = (0..Self::PLACES).filter_map(|n| NonZeroU64::new(self.start + n));
        all.filter(|place| self.taken & bit_of(*place) != 0)
    }

    /// The first in line.
    pub(super) fn oldest(&self) -> Option<(NonZeroU64, Queued<'_>)> {
        self.places().next().map(|place| (place, Queued::InBlock(self, 0)))
    }

    /// What waits, newest first: its place, when it is due, and the delivery.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = (NonZeroU64, Time, Queued<'_>)> {
        let rows = self.places().rev().zip((0..self.rows.len()).rev());
        rows.map(|(place, at)| (place, self.rows[at].due, Queued::InBlock(self, at)))
    }

    /// A row of this block.
    pub(super) fn row(&self, at: usize) -> &Row {
        &self.rows[at]
    }

    /// The delivery of a row.
    pub(super) fn delivery(&self, at: usize) -> Compact<&str> {
        let (row, start) = (&self.rows[at], self.key_start(at));
        let key = &self.keys[start..start + usize::from(row.key_bytes)];
        let common = self.common[usize::from(row.common)].clone();
        Compact { id: row.id, common, key, accepted_at_ms: row.accepted_at_ms }
    }

    /// Where in `keys` the key of this row begins.
    fn key_start(&self, at: usize) -> usize {
        self.rows[..at].iter().map(|row| usize::from(row.key_bytes)).sum()
    }
}

/// The bit of [`Block::taken`] for this place.
fn bit_of(place: NonZeroU64) -> u64 {
    1 << (place.get() % Block::PLACES)
}

/// What the struct's own doc says.
const _: () = assert!(size_of::<Row>() == 40);
