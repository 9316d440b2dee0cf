//! Numbers and lengths of time in the form that people read.

use jiff::{SignedDuration, Timestamp};

pub(crate) use crate::names::counted;

/// A count with a comma at each thousand: `3,229`.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A latency: `40 ms`, `1.2 s`.
pub(crate) fn latency(ms: f64) -> String {
    match ms {
        0.0..10.0 => format!("{ms:.1} ms"),
        10.0..1000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1000.0),
    }
}

/// Names, and of many the first ones and how many more: `a, b`, or `a, b and 13 more of 15 hosts`.
pub(crate) fn listed(names: &[&str], most: usize, of_what: &str) -> String {
    match names.len().checked_sub(most) {
        None | Some(0 | 1) => names.join(", "),
        Some(more) => {
            format!("{} and {more} more of {} {of_what}", names[..most].join(", "), names.len())
        }
    }
}

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
    fn numbers_are_told_as_people_read_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.34, 40.4, 1234.0].map(latency), ["0.3 ms", "40 ms", "1.2 s"]);
        let names = ["a", "b", "c", "d", "e"];
        assert_eq!(listed(&names[..4], 3, "x"), "a, b, c, d", "one more takes no more room");
        assert_eq!(listed(&names, 3, "x"), "a, b, c and 2 more of 5 x");
    }

    #[test]
    fn times_are_told_in_their_largest_unit() {
        for (seconds, told) in
            [(-5, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (7300, "2h"), (172_800, "2d")]
        {
            assert_eq!(short(SignedDuration::from_secs(seconds)), told);
        }
    }
}
