//! Numbers and lengths of time in the form that people read.

use jiff::{SignedDuration, Timestamp};

pub(crate) use crate::names::counted;

/// The time since `then` in its largest unit: `12s`, `5m`, `3h`, `2d`.
pub(crate) fn ago(now: Timestamp, then: Timestamp) -> String {
    short(now.duration_since(then))
}

/// A length of time in one unit: seconds, minutes, hours up to two days, then days. A negative one
/// counts as zero.
pub(crate) fn short(time: SignedDuration) -> String {
    match time.as_secs().max(0) {
        seconds @ 0..60 => format!("{seconds}s"),
        seconds @ 60..3600 => format!("{}m", seconds / 60),
        seconds @ 3600..172_800 => format!("{}h", seconds / 3600),
        seconds => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_largest_unit() {
        for (seconds, told) in
            [(-5, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (7300, "2h"), (172_800, "2d")]
        {
            assert_eq!(short(SignedDuration::from_secs(seconds)), told);
        }
    }
}
