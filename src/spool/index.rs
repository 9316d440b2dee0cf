//! Where each delivery is in a list that has its id: a number takes less memory than the id again.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::delivery::DeliveryId;

/// See the module's first line. The list is the caller's: `id_of` is the id that it has at a place.
#[derive(Debug, Default)]
pub(super) struct Index {
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Index {
    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize, id_of: impl Fn(usize) -> Option<DeliveryId>) {
        let hasher = &self.hasher;
        self.places.reserve(more, |at| hasher.hash_one(id_of(*at as usize)));
    }

    /// The place of a delivery.
    pub(super) fn get(&self, id: DeliveryId, id_of: impl Fn(usize) -> Option<DeliveryId>) -> Option<usize> {
        let id = Some(id);
        let at = self.places.find(self.hasher.hash_one(id), |at| id_of(*at as usize) == id);
        at.map(|at| *at as usize)
    }

    /// Notes the place of a delivery that has none yet. The list has it there already.
    pub(super) fn insert(&mut self, id: DeliveryId, at: usize, id_of: impl Fn(usize) -> Option<DeliveryId>) {
        // A list of so many would not fit into memory.
        let at = u32::try_from(at).unwrap_or(u32::MAX);
        let hasher = &self.hasher;
        let hash = hasher.hash_one(Some(id));
        self.places.insert_unique(hash, at, |at| hasher.hash_one(id_of(*at as usize)));
    }

    /// Forgets a delivery, and returns its place.
    pub(super) fn remove(
        &mut self,
        id: DeliveryId,
        id_of: impl Fn(usize) -> Option<DeliveryId>,
    ) -> Option<usize> {
        let id = Some(id);
        let found = self.places.find_entry(self.hasher.hash_one(id), |at| id_of(*at as usize) == id);
        found.ok().map(|place| place.remove().0 as usize)
    }
}
