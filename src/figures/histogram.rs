//! Latencies in fixed logarithmic buckets: four a doubling, from a quarter of a millisecond to
//! fourteen seconds. What is read from it is at most a fifth off.

/// Number of buckets; the last is for all that is above the range.
const BUCKETS: usize = 65;

/// The upper bound of the first bucket, in milliseconds.
const FIRST_MS: f64 = 0.25;

/// See the module's first lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Histogram([u32; BUCKETS]);

impl Default for Histogram {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl Histogram {
    pub(super) fn add(&mut self, latency_ms: f64) {
        let count = &mut self.0[bucket_of(latency_ms)];
        *count = count.saturating_add(1);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(count, more)| *count = count.saturating_add(more));
    }

    /// The latency below which this share lies, in milliseconds: within its bucket as if they lay
    /// evenly, and never above `max_ms`. `None` where there is nothing.
    pub(super) fn quantile(&self, share: f64, max_ms: f64) -> Option<f64> {
        let count: u64 = self.0.iter().copied().map(u64::from).sum();
        if count == 0 {
            return None;
        }
        #[allow(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
        let rank = (share * count as f64).ceil().max(1.0);
        let mut below = 0.0;
        for (bucket, within) in self.0.iter().enumerate() {
            let within = f64::from(*within);
            if within > 0.0 && below + within >= rank {
                let from = if bucket == 0 { 0.0 } else { upper_bound(bucket - 1) };
                let to = if bucket + 1 == BUCKETS { max_ms } else { upper_bound(bucket).min(max_ms) };
                return Some(((to - from) * (rank - below) / within + from).min(max_ms));
            }
            below += within;
        }
        Some(max_ms)
    }
}

fn bucket_of(latency_ms: f64) -> usize {
    let quarters = ((latency_ms / FIRST_MS).log2() * 4.0).ceil();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped; NaN is 0")]
    let bucket = quarters.clamp(0.0, 64.0) as usize;
    bucket
}

/// The largest latency that counts to a bucket.
fn upper_bound(bucket: usize) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "at most 65")]
    let quarters = bucket as f64;
    FIRST_MS * (quarters / 4.0).exp2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Beside the exact ones of the same numbers.
        #[test]
        fn quantiles_are_a_fifth_off_at_most(
            mut latencies in prop::collection::vec(0.3_f64..20_000.0, 1..300)
        ) {
            let mut histogram = Histogram::default();
            latencies.iter().for_each(|latency| histogram.add(*latency));
            latencies.sort_by(f64::total_cmp);
            let max = *latencies.last().unwrap();
            for share in [0.5, 0.95, 1.0] {
                let exact = latencies[((share * latencies.len() as f64).ceil() as usize).max(1) - 1];
                let told = histogram.quantile(share, max).unwrap();
                let is_near = (exact / 1.2..=exact * 1.2).contains(&told);
                prop_assert!(is_near || exact > 13_000.0, "{share}: {told} for {exact}");
                prop_assert!(told <= max);
            }
        }
    }

    /// The last bucket of the range is no wider than the others, whatever lies above it.
    #[test]
    fn what_is_above_the_range_draws_nothing_within_it_along() {
        let mut histogram = Histogram::default();
        [11_760.0, 19_696.0].iter().for_each(|latency| histogram.add(*latency));
        let told = histogram.quantile(0.5, 19_696.0).unwrap();
        assert!((9_800.0..=14_112.0).contains(&told), "{told}");
    }

    #[test]
    fn nothing_has_none_and_what_is_out_of_range_counts_to_the_ends() {
        assert_eq!(Histogram::default().quantile(0.5, 0.0), None);
        let mut histogram = Histogram::default();
        [0.0, 1e9, f64::NAN].iter().for_each(|latency| histogram.add(*latency));
        assert_eq!(histogram.0.iter().sum::<u32>(), 3);
        assert_eq!(histogram.quantile(1.0, 1e9), Some(1e9));
    }
}
