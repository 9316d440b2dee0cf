//! Counters from the start of the runtime on, for metrics: they only ever grow, and a restart
//! begins them at 0, which is what those who read them expect. Bounded memory.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Counted, MAX_SUBSCRIPTIONS, Way};
use crate::delivery::{FinalState, SubscriptionId};

/// The upper bounds of the buckets of latencies, in seconds; a last one has no bound.
pub(crate) const BOUNDS_S: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// See the module's first lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    events: u64,
    each: BTreeMap<SubscriptionId, Total>,
    changes: u64,
}

#[derive(Clone, Debug, Default)]
struct Total {
    counters: Counters,
    /// The number of its last change: the one that changed longest ago makes room.
    changed: u64,
}

/// What one subscription's counters say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counters {
    /// Deliveries that were accepted.
    pub accepted: u64,
    /// Attempts that succeeded.
    pub delivered: u64,
    /// Attempts that failed.
    pub failed: u64,
    /// The same by the class of the status (`5xx`; `2xx` where a chat service refused in its
    /// answer) or of the failure (`timeout`).
    pub failures: BTreeMap<String, u64>,
    /// Ends of deliveries by their state, as the evidence has them: a replay that arrives is one
    /// more.
    pub ended: BTreeMap<String, u64>,
    /// Attempts by their latency, each bucket without those below it; the last one has no bound.
    pub latencies: Vec<u64>,
    /// The sum of all latencies, in seconds.
    pub latency_s: f64,
}

impl Totals {
    /// An event was accepted.
    pub(crate) fn event(&mut self) {
        self.events = self.events.saturating_add(1);
    }

    /// Number of events that were accepted.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// A delivery was accepted.
    pub(crate) fn accepted(&mut self, of: &SubscriptionId) {
        self.counters(of).accepted += 1;
    }

    /// An attempt ended.
    pub(crate) fn attempted(&mut self, of: &SubscriptionId, counted: &Counted) {
        let counters = self.counters(of);
        let latency_s = counted.latency_ms / 1e3;
        let bucket = BOUNDS_S.iter().position(|bound| latency_s <= *bound).unwrap_or(BOUNDS_S.len());
        counters.latencies[bucket] += 1;
        counters.latency_s += latency_s;
        match counted.failed {
            None => counters.delivered += 1,
            Some(way) => {
                counters.failed += 1;
                *counters.failures.entry(class(way)).or_default() += 1;
            }
        }
    }

    /// A delivery ended.
    pub(crate) fn ended(&mut self, of: &SubscriptionId, state: FinalState) {
        *self.counters(of).ended.entry(state.as_str().to_owned()).or_default() += 1;
    }

    /// What is known of a subscription.
    pub(crate) fn of(&self, id: &SubscriptionId) -> Counters {
        self.each.get(id).map_or_else(Counters::none, |total| total.counters.clone())
    }

    fn counters(&mut self, of: &SubscriptionId) -> &mut Counters {
        self.changes += 1;
        if !self.each.contains_key(of) {
            if self.each.len() >= MAX_SUBSCRIPTIONS {
                let quietest = self.each.iter().min_by_key(|(_, total)| total.changed);
                let quietest = quietest.map(|(id, _)| id.clone());
                quietest.iter().for_each(|id| drop(self.each.remove(id)));
            }
            self.each.insert(of.clone(), Total { counters: Counters::none(), changed: 0 });
        }
        let total = self.each.entry(of.clone()).or_default();
        total.changed = self.changes;
        &mut total.counters
    }
}

impl Counters {
    /// Those of a subscription of which nothing was seen.
    fn none() -> Self {
        Self { latencies: vec![0; BOUNDS_S.len() + 1], ..Self::default() }
    }
}

/// How an attempt failed, in one of few words: endpoints choose their statuses.
fn class(way: Way) -> String {
    match way {
        Way::Status(status @ 200..600) => format!("{}xx", status / 100),
        Way::Status(_) => "other".to_owned(),
        Way::Class(class) => class.as_str().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::delivery::FailureClass;

    fn attempt(latency_ms: f64, failed: Option<Way>) -> Counted {
        Counted { at: Timestamp::UNIX_EPOCH, latency_ms, failed, gave_up: false }
    }

    #[test]
    fn whatever_endpoints_answer_there_are_few_words_for_it() {
        let (mut totals, id) = (Totals::default(), "s".parse().unwrap());
        for status in 0..u16::MAX {
            totals.attempted(&id, &attempt(1.0, Some(Way::Status(status))));
        }
        for class in FailureClass::ALL {
            totals.attempted(&id, &attempt(f64::MAX, Some(Way::Class(*class))));
        }
        let of = totals.of(&id);
        assert!(of.failures.len() <= 5 + FailureClass::ALL.len(), "{:?}", of.failures);
        assert_eq!(of.failures.values().sum::<u64>(), of.failed);
        assert_eq!(of.latencies.iter().sum::<u64>(), of.failed);
        assert_eq!((of.latencies[0], of.latencies[12]), (65_535, FailureClass::ALL.len() as u64));
    }

    #[test]
    fn those_that_left_the_config_make_room() {
        let mut totals = Totals::default();
        for n in 0..400 {
            totals.accepted(&format!("s{n}").parse().unwrap());
            totals.accepted(&"kept".parse().unwrap());
        }
        assert_eq!(totals.each.len(), MAX_SUBSCRIPTIONS);
        assert_eq!(totals.of(&"kept".parse().unwrap()).accepted, 400);
        assert_eq!(totals.of(&"s0".parse().unwrap()), Counters::none());
    }
}
