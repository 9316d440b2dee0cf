//! The unfinished deliveries of a journal and where their records are: a map that takes little
//! memory, because there may be a hundred thousand.

use slab::Slab;

use crate::delivery::DeliveryId;
use crate::spool::index::Index;
use crate::spool::place::Place;

/// Where the records of an unfinished delivery are.
#[derive(Clone, Copy, Debug)]
pub(super) struct LiveDelivery {
    pub(super) event: Place,
    /// The last attempt recorded after the event. Those before it are kept apart, or are in the
    /// event's own record.
    pub(super) last_attempt: Option<Place>,
}

/// See the module's first line.
#[derive(Debug, Default)]
pub(super) struct LiveDeliveries {
    rows: Slab<(DeliveryId, LiveDelivery)>,
    index: Index,
}

impl LiveDeliveries {
    /// Makes room for so many more.
    pub(super) fn reserve(&mut self, more: usize) {
        self.rows.reserve(more);
        let rows = &self.rows;
        self.index.reserve(more, |at| id_of(rows, at));
    }

    /// Number of deliveries.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    fn place(&self, id: DeliveryId) -> Option<usize> {
        self.index.get(id, |at| id_of(&self.rows, at))
    }

    /// A delivery.
    pub(super) fn get(&self, id: DeliveryId) -> Option<&LiveDelivery> {
        self.rows.get(self.place(id)?).map(|(_, live)| live)
    }

    /// The same, to change it.
    pub(super) fn get_mut(&mut self, id: DeliveryId) -> Option<&mut LiveDelivery> {
        let at = self.place(id)?;
        self.rows.get_mut(at).map(|(_, live)| live)
    }

    /// Takes in a delivery, and returns the one with its id that it takes the place of.
    pub(super) fn insert(&mut self, id: DeliveryId, live: LiveDelivery) -> Option<LiveDelivery> {
        if let Some(same) = self.get_mut(id) {
            return Some(std::mem::replace(same, live));
        }
        let at = self.rows.insert((id, live));
        self.index.insert(id, at, |at| id_of(&self.rows, at));
        None
    }

    /// Takes out a delivery.
    pub(super) fn remove(&mut self, id: DeliveryId) -> Option<LiveDelivery> {
        let at = self.index.remove(id, |at| id_of(&self.rows, at))?;
        self.rows.try_remove(at).map(|(_, live)| live)
    }

    /// All of them, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (DeliveryId, &LiveDelivery)> {
        self.rows.iter().map(|(_, (id, live))| (*id, live))
    }
}

fn id_of(rows: &Slab<(DeliveryId, LiveDelivery)>, at: usize) -> Option<DeliveryId> {
    rows.get(at).map(|(id, _)| *id)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn live(n: u64) -> LiveDelivery {
        LiveDelivery { event: Place::at(1, n, 10), last_attempt: None }
    }

    #[test]
    fn it_takes_no_more_than_an_id_and_two_places() {
        assert_eq!(size_of::<(DeliveryId, LiveDelivery)>(), 16 + 2 * size_of::<Place>());
    }

    proptest! {
        #[test]
        fn it_is_a_map(steps in proptest::collection::vec((0..60_usize, 0..4_u8), 1..300)) {
            let ids: Vec<DeliveryId> = (0..60).map(|_| DeliveryId::random()).collect();
            let (mut map, mut model) = (LiveDeliveries::default(), HashMap::new());
            for (n, (which, what)) in (0_u64..).zip(steps) {
                let (id, event) = (ids[which], |live: &LiveDelivery| live.event);
                match what {
                    0 => prop_assert_eq!(map.remove(id).as_ref().map(event), model.remove(&id)),
                    1 => {
                        let changed = map.get_mut(id).map(|found| found.event = live(n).event);
                        prop_assert_eq!(changed.is_some(), model.contains_key(&id));
                        model.entry(id).and_modify(|place| *place = live(n).event);
                    }
                    _ => {
                        let before = map.insert(id, live(n)).as_ref().map(event);
                        prop_assert_eq!(before, model.insert(id, live(n).event));
                    }
                }
                prop_assert_eq!(map.len(), model.len());
                for id in &ids {
                    prop_assert_eq!(map.get(*id).map(event), model.get(id).copied());
                }
                let all: HashMap<_, _> = map.iter().map(|(id, live)| (id, live.event)).collect();
                prop_assert_eq!(&all, &model);
            }
        }
    }
}
