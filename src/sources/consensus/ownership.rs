//! Which run of a stage a consensus belongs to: a plain decision over the times at which the runs'
//! guardrails ended and the consensus was reached.

use jiff::{SignedDuration, Timestamp};

/// How far two clocks of one machine, or a time without its fraction, may be apart.
const SKEW: SignedDuration = SignedDuration::from_secs(2);

/// What ends first in a host: a stage's guardrail, or its agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    GuardrailFirst,
    AgentsFirst,
}

impl Order {
    /// As far as a stage's times tell: where agents agreed before its guardrail ended for the
    /// first time, they come first. `runs` are in order.
    pub(super) fn of(runs: &[Timestamp], reached: impl Iterator<Item = Timestamp>) -> Self {
        let first = runs.first().and_then(|first| first.checked_sub(SKEW).ok());
        match (first, reached.min()) {
            (Some(first), Some(reached)) if reached < first => Self::AgentsFirst,
            _ => Self::GuardrailFirst,
        }
    }

    /// The run, by its place in `runs`, that a consensus reached `at` belongs to; `None` where it
    /// is none of these.
    pub(super) fn owner(self, runs: &[Timestamp], at: Timestamp) -> Option<usize> {
        let later = at.checked_add(SKEW).unwrap_or(Timestamp::MAX);
        let earlier = at.checked_sub(SKEW).unwrap_or(Timestamp::MIN);
        match self {
            Self::GuardrailFirst => runs.iter().rposition(|run| *run <= later),
            Self::AgentsFirst => runs.iter().position(|run| *run >= earlier),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn times(seconds: &[i64]) -> Vec<Timestamp> {
        seconds.iter().map(|second| Timestamp::from_second(*second).unwrap()).collect()
    }

    #[test]
    fn a_consensus_belongs_to_the_guardrail_before_it_or_after_it() {
        use Order::{AgentsFirst, GuardrailFirst};
        let runs = times(&[100, 200, 300]);
        for (order, at, owner) in [
            (GuardrailFirst, 100, Some(0)),
            (GuardrailFirst, 199 - 2, Some(0)),
            (GuardrailFirst, 199, Some(1)),
            (GuardrailFirst, 3600, Some(2)),
            (GuardrailFirst, 99, Some(0)),
            (GuardrailFirst, 90, None),
            (AgentsFirst, 90, Some(0)),
            (AgentsFirst, 150, Some(1)),
            (AgentsFirst, 301, Some(2)),
            (AgentsFirst, 310, None),
        ] {
            assert_eq!(order.owner(&runs, times(&[at])[0]), owner, "{order:?} {at}");
        }
        for (reached, order) in
            [(vec![90, 150], AgentsFirst), (vec![99, 150], GuardrailFirst), (vec![], GuardrailFirst)]
        {
            assert_eq!(Order::of(&runs, times(&reached).into_iter()), order, "{reached:?}");
        }
        assert_eq!(Order::of(&[], times(&[1]).into_iter()), GuardrailFirst);
    }

    proptest! {
        /// Whatever the lag up to the next run, a consensus that follows its guardrail is that
        /// run's; one that precedes it, too, where the first one does.
        #[test]
        fn lags_do_not_matter(
            gaps in prop::collection::vec(10i64..4000, 1..20),
            lags in prop::collection::vec(0i64..4000, 20),
            agents_first: bool,
        ) {
            let mut at = 0;
            let (mut runs, mut reached) = (Vec::new(), Vec::new());
            for (gap, lag) in gaps.iter().zip(lags) {
                // Within the gap before the guardrail, or after it.
                let lag = 3 + lag % (gap - 6).max(1);
                if agents_first {
                    reached.push(at + gap - lag);
                    runs.push(at + gap);
                } else {
                    runs.push(at);
                    reached.push(at + lag);
                }
                at += gap;
            }
            let (runs, reached) = (times(&runs), times(&reached));
            let order = Order::of(&runs, reached.iter().copied());
            for (place, at) in reached.iter().enumerate() {
                prop_assert_eq!(order.owner(&runs, *at), Some(place));
            }
        }
    }
}
