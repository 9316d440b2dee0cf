//! Tests: `event.sequence` over any clock, restarts, compactions and records of earlier versions.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::delivery::FinalState;
use crate::event::{EventKind, sequence_after, sequence_at};
use crate::spool::{Accepted, AcceptedDelivery};

const SPECS: [&str; 2] = ["SPEC-1", "SPEC-1-other"];

#[derive(Clone, Debug)]
enum Op {
    /// Accepts an event of a SPEC at a time.
    Accept(usize, i64),
    /// The same by an earlier version of the program, and a start of this one.
    AcceptBefore(usize, i64),
    /// Ends the deliveries of a SPEC: its events are only known from then on.
    Finish(usize),
    Compact(usize),
    /// As by `kill -9`.
    Restart,
    /// An event that is not accepted: nothing of it is written.
    Fail(usize, i64),
}

fn op() -> impl Strategy<Value = Op> {
    let time =
        || prop_oneof![0..10_i64, 1_700_000_000_000..1_700_000_000_009_i64, Just(4_000_000_000_000_i64)];
    prop_oneof![
        6 => (0..2usize, time()).prop_map(|(spec, at)| Op::Accept(spec, at)),
        1 => (0..2usize, time()).prop_map(|(spec, at)| Op::AcceptBefore(spec, at)),
        2 => (0..2usize).prop_map(Op::Finish),
        3 => (0..2usize).prop_map(Op::Compact),
        2 => Just(Op::Restart),
        1 => (0..2usize, time()).prop_map(|(spec, at)| Op::Fail(spec, at)),
    ]
}

/// The disk, and what a Router keeps in memory.
struct Runtime {
    store: Store,
    sequences: HashMap<SpecId, u64>,
}

impl Runtime {
    fn start(dir: &Path) -> Self {
        // A compaction forgets all known events but those of a clock that was ahead.
        let options = StoreOptions { dedupe_window: SignedDuration::ZERO, ..StoreOptions::in_dir(dir) };
        let (store, recovered) = Store::open(options).unwrap();
        Self { store, sequences: recovered.sequences }
    }

    /// As the Router does.
    fn next(&mut self, spec: &SpecId, at: Timestamp) -> u64 {
        let last = self.sequences.entry(spec.clone()).or_default();
        *last = sequence_after(*last, at);
        *last
    }

    fn accept(&mut self, spec: &SpecId, at: Timestamp, sequence: Option<u64>) -> DeliveryId {
        let id = DeliveryId::random();
        let (key, to) = (id.to_string().parse().unwrap(), AcceptedDelivery::new(id, "s".parse().unwrap()));
        let accepted = Accepted::of_bytes(at, key, EventKind::Test, vec![to], &"{}".into()).unwrap();
        self.store.append(spec, &Record::Accepted(Accepted { sequence, ..accepted })).unwrap();
        assert!(self.store.commit().is_empty());
        id
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn it_increases_strictly_and_by_the_rule(ops in prop::collection::vec(op(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let specs = SPECS.map(|spec| spec.parse::<SpecId>().unwrap());
        let at = |ms: i64| Timestamp::from_millisecond(ms).unwrap();
        let mut runtime = Runtime::start(dir.path());
        // By the rule: the last one, and whether a later one was given away for nothing.
        let mut last: BTreeMap<&SpecId, (u64, u64)> = BTreeMap::new();
        let mut pending: Vec<(&SpecId, DeliveryId)> = Vec::new();
        for op in ops {
            match op {
                Op::Accept(spec, ms) => {
                    let spec = &specs[spec];
                    let sequence = runtime.next(spec, at(ms));
                    let (before, failed) = last.get(spec).copied().unwrap_or_default();
                    prop_assert!(sequence > before, "{} after {}", sequence, before);
                    prop_assert_eq!(sequence, sequence_after(before.max(failed), at(ms)));
                    pending.push((spec, runtime.accept(spec, at(ms), Some(sequence))));
                    last.insert(spec, (sequence, 0));
                }
                Op::Fail(spec, ms) => {
                    let failed = runtime.next(&specs[spec], at(ms));
                    last.entry(&specs[spec]).or_default().1 = failed;
                }
                Op::AcceptBefore(spec, ms) => {
                    let spec = &specs[spec];
                    pending.push((spec, runtime.accept(spec, at(ms), None)));
                    let (before, _) = last.get(spec).copied().unwrap_or_default();
                    last.insert(spec, (before.max(sequence_at(at(ms))), 0));
                    drop(runtime);
                    runtime = Runtime::start(dir.path());
                    last.values_mut().for_each(|(_, failed)| *failed = 0);
                }
                Op::Finish(spec) => {
                    for (spec, id) in pending.extract_if(.., |(of, _)| *of == &specs[spec]) {
                        let finished = Record::finished(id, FinalState::Delivered, at(0));
                        runtime.store.append(spec, &finished).unwrap();
                    }
                    prop_assert!(runtime.store.commit().is_empty());
                }
                Op::Compact(spec) => drop(runtime.store.spool.compact(&specs[spec])),
                Op::Restart => {
                    drop(runtime);
                    runtime = Runtime::start(dir.path());
                    last.values_mut().for_each(|(_, failed)| *failed = 0);
                }
            }
        }
    }
}
