//! The line of a lane: the deliveries that wait, by their place, which a retry keeps, and when each
//! is due.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;

use super::block::{Block, Time};
use super::{Compact, Compactor, Pending, Queued};

/// See the module's first line.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Those with their body in memory, which are few, and when each is due.
    whole: BTreeMap<NonZeroU64, (Time, Pending)>,
    /// The others, by the numbers of their blocks. None of these is empty.
    blocks: BTreeMap<u64, Block>,
    /// When each of the whole ones is due, and the first of each block.
    due: BTreeSet<(Time, NonZeroU64)>,
    in_blocks: usize,
    compactor: Compactor,
}

impl Line {
    /// Number of deliveries.
    pub(super) fn len(&self) -> usize {
        self.whole.len() + self.in_blocks
    }

    /// Puts a delivery into its place, where none is.
    pub(super) fn insert(&mut self, place: NonZeroU64, due: Time, pending: Pending) {
        let pending = Pending { arrival: Some(place), ..pending };
        if pending.body.is_some() {
            return self.insert_whole(place, due, pending);
        }
        let delivery = self.compactor.compact(&pending.delivery);
        self.insert_compact(place, due, &delivery, pending.attempts_made);
    }

    fn insert_whole(&mut self, place: NonZeroU64, due: Time, pending: Pending) {
        self.due.insert((due, place));
        self.whole.insert(place, (due, pending));
    }

    fn insert_compact(&mut self, place: NonZeroU64, due: Time, delivery: &Compact<&str>, attempts_made: u32) {
        match self.in_block(place, |block| block.insert(place, due, delivery, attempts_made)) {
            true => self.in_blocks += 1,
            false => {
                let delivery = Arc::new(delivery.whole());
                let pending = Pending { delivery, attempts_made, arrival: Some(place), body: None };
                self.insert_whole(place, due, pending);
            }
        }
    }

    /// Changes the block that has this place.
    fn in_block<T>(&mut self, place: NonZeroU64, change: impl FnOnce(&mut Block) -> T) -> T {
        let number = Block::number_of(place);
        let block = self.blocks.entry(number).or_insert_with(|| Block::new(number));
        let before = block.first_due();
        let result = change(block);
        let after = block.first_due();
        if before != after {
            if let Some(before) = before {
                self.due.remove(&before);
            }
            self.due.extend(after);
        }
        if after.is_none() {
            self.blocks.remove(&number);
        }
        result
    }

    /// Takes in the deliveries that waited at the last stop, each with its place, when it is due,
    /// and the number of its attempts.
    pub(super) fn restore(&mut self, waited: impl Iterator<Item = (NonZeroU64, Time, Compact, u32)>) {
        for (place, due, delivery, attempts_made) in waited {
            self.insert_compact(place, due, &delivery.borrowed(), attempts_made);
        }
        // Trees filled in order keep their nodes half empty; built of all at once they are full.
        self.blocks = std::mem::take(&mut self.blocks).into_iter().collect();
    }

    /// Takes a delivery out of its place, with the time that it is due.
    pub(super) fn remove(&mut self, place: NonZeroU64) -> Option<(Time, Pending)> {
        if let Some((due, pending)) = self.whole.remove(&place) {
            self.due.remove(&(due, place));
            return Some((due, pending));
        }
        let (due, delivery, attempts_made) = self.in_block(place, |block| block.remove(place))?;
        self.in_blocks -= 1;
        let delivery = Arc::new(delivery);
        Some((due, Pending { delivery, attempts_made, arrival: Some(place), body: None }))
    }

    /// The first that is due, and of those that are due at the same time the first in line: when,
    /// and its place.
    pub(super) fn first_due(&self) -> Option<(Time, NonZeroU64)> {
        self.due.first().copied()
    }

    /// The first in line.
    pub(super) fn oldest(&self) -> Option<(NonZeroU64, Queued<'_>)> {
        let whole =
            self.whole.first_key_value().map(|(place, (_, pending))| (*place, Queued::Whole(pending)));
        let block = self.blocks.first_key_value().and_then(|(_, block)| block.oldest());
        whole.into_iter().chain(block).min_by_key(|(place, _)| *place)
    }

    /// What waits, newest first: its place, when it is due, and the delivery.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = (NonZeroU64, Time, Queued<'_>)> {
        let whole = self.whole.iter().rev();
        let mut whole =
            whole.map(|(place, (due, pending))| (*place, *due, Queued::Whole(pending))).peekable();
        let mut in_blocks = self.blocks.values().rev().flat_map(Block::newest_first).peekable();
        std::iter::from_fn(move || {
            let is_whole =
                whole.peek().map(|(place, ..)| *place) > in_blocks.peek().map(|(place, ..)| *place);
            if is_whole { whole.next() } else { in_blocks.next() }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::delivery::{BodyBudget, Delivery, DeliveryId};
    use crate::event::{IdempotencyKey, Stage};

    /// What a line is to hold: when each delivery is due, and the delivery.
    type Model = BTreeMap<NonZeroU64, (Time, Pending)>;

    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// One that has not been in the line: how many places further, due when, with a body.
        New(u64, Time, bool),
        /// One that was taken out comes back with another time, and another attempt.
        Back(prop::sample::Index, Time),
        Remove(prop::sample::Index),
        RemoveFirstDue,
        RemoveOldest,
        /// So many from the last stop, due at times from this one on.
        Restore(u64, Time),
    }

    fn step() -> impl Strategy<Value = Step> {
        let (at, due) = (any::<prop::sample::Index>(), 0..20_u64);
        prop_oneof![
            6 => (1..40_u64, due.clone(), any::<bool>()).prop_map(|(on, due, body)| Step::New(on, due, body)),
            3 => (at.clone(), due.clone()).prop_map(|(at, due)| Step::Back(at, due)),
            2 => at.prop_map(Step::Remove),
            2 => Just(Step::RemoveFirstDue),
            1 => Just(Step::RemoveOldest),
            1 => (1..200_u64, due).prop_map(|(count, due)| Step::Restore(count, due)),
        ]
    }

    /// Deliveries with keys of many lengths, one of them longer than any can be.
    fn delivery(n: u64) -> Delivery {
        let key = match n % 50 {
            49 => "k".repeat(usize::from(u16::MAX) + 1),
            _ => format!("ä-{}", "x".repeat(usize::try_from(n % 7).unwrap())),
        };
        let stage = n.is_multiple_of(3).then_some(Stage::Plan);
        let sample = Delivery::sample(DeliveryId::random(), "k");
        Delivery { key: IdempotencyKey::of_known(&key), stage, ..sample }
    }

    /// A line beside its model.
    struct Both {
        line: Line,
        model: Model,
        /// What was taken out.
        out: Vec<Pending>,
        last: u64,
        compactor: Compactor,
        budget: BodyBudget,
    }

    impl Both {
        fn new() -> Self {
            let (line, compactor) = (Line::default(), Compactor::default());
            let budget = BodyBudget::new(usize::MAX);
            Self { line, model: Model::new(), out: Vec::new(), last: 0, compactor, budget }
        }

        fn insert(&mut self, place: NonZeroU64, due: Time, pending: Pending) {
            self.line.insert(place, due, pending.clone());
            self.model.insert(place, (due, pending));
        }

        /// Takes it out of both; the same comes out.
        fn remove(&mut self, place: NonZeroU64) -> Result<(), TestCaseError> {
            let (due, removed) = self.line.remove(place).unwrap();
            let (its_due, pending) = self.model.remove(&place).unwrap();
            prop_assert_eq!((due, removed.arrival), (its_due, Some(place)));
            prop_assert_eq!(removed.delivery(), pending.delivery());
            prop_assert_eq!(removed.attempts_made, pending.attempts_made);
            prop_assert_eq!(removed.body.is_some(), pending.body.is_some());
            prop_assert!(self.line.remove(place).is_none());
            self.out.push(removed);
            Ok(())
        }

        fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
            match step {
                Step::New(further, due, has_body) => {
                    self.last += further;
                    let body = has_body.then(|| self.budget.hold(&"{}".into()).unwrap());
                    let pending = Pending::new(Arc::new(delivery(self.last)), body);
                    self.insert(NonZeroU64::new(self.last).unwrap(), due, pending);
                }
                Step::Back(at, due) if !self.out.is_empty() => {
                    let pending = self.out.swap_remove(at.index(self.out.len()));
                    let attempts_made = pending.attempts_made + 1;
                    let place = pending.arrival.unwrap();
                    self.insert(place, due, Pending { attempts_made, body: None, ..pending });
                }
                Step::Remove(at) if !self.model.is_empty() => {
                    self.remove(*self.model.keys().nth(at.index(self.model.len())).unwrap())?;
                }
                Step::RemoveFirstDue if !self.model.is_empty() => {
                    self.remove(self.line.first_due().unwrap().1)?;
                }
                Step::RemoveOldest if !self.model.is_empty() => {
                    self.remove(self.line.oldest().unwrap().0)?;
                }
                Step::Restore(count, due) => self.restore(count, due),
                Step::Back(..) | Step::Remove(_) | Step::RemoveFirstDue | Step::RemoveOldest => {}
            }
            Ok(())
        }

        fn restore(&mut self, count: u64, due: Time) {
            let restored: Vec<(NonZeroU64, Time, Delivery)> = (self.last + 1..=self.last + count)
                .map(|n| (NonZeroU64::new(n).unwrap(), due + n % 5, delivery(n)))
                .collect();
            self.last += count;
            let compactor = &mut self.compactor;
            self.line.restore(
                restored.iter().map(|(place, due, delivery)| {
                    (*place, *due, compactor.compact(delivery).with_own_key(), 1)
                }),
            );
            for (place, due, delivery) in restored {
                let (delivery, arrival) = (Arc::new(delivery), Some(place));
                self.model.insert(place, (due, Pending { delivery, attempts_made: 1, arrival, body: None }));
            }
        }

        fn check(&self) -> Result<(), TestCaseError> {
            let Self { line, model, .. } = self;
            prop_assert_eq!(line.len(), model.len());
            let first = model.iter().map(|(place, (due, _))| (*due, *place)).min();
            prop_assert_eq!(line.first_due(), first);
            let oldest = model.first_key_value().map(|(place, (_, pending))| (*place, pending.delivery.id));
            prop_assert_eq!(line.oldest().map(|(place, queued)| (place, queued.id())), oldest);
            let mut expected = model.iter().rev();
            for (place, due, queued) in line.newest_first() {
                let (its_place, (its_due, pending)) = expected.next().unwrap();
                prop_assert_eq!((place, due), (*its_place, *its_due));
                prop_assert_eq!(&queued.delivery(), &pending.delivery);
                prop_assert_eq!(queued.id(), pending.delivery.id);
                prop_assert_eq!(queued.accepted_at(), pending.delivery.accepted_at);
                prop_assert_eq!(queued.attempts_made(), pending.attempts_made);
            }
            prop_assert!(expected.next().is_none());
            prop_assert!(line.blocks.values().all(|block| block.first_due().is_some()), "one is empty");
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn a_line_is_a_map_by_place_that_knows_what_is_due_first(
            steps in proptest::collection::vec(step(), 1..120),
        ) {
            let mut both = Both::new();
            for step in steps {
                both.apply(step)?;
                both.check()?;
            }
        }
    }
}
