//! Lengths of time, moments and amounts, as people read them.

use jiff::{SignedDuration, Timestamp};

/// What happened this much before it is told is told as something of then.
const LATE: SignedDuration = SignedDuration::from_mins(10);

/// Longest time that anything took, in seconds: ten years. More is somebody's mistake.
const LONGEST: u64 = 10 * 366 * 86_400;

/// A length of time: `45 min`, `2 min 30 s`. None where it is no second, or no length at all.
pub(super) fn length(milliseconds: u64) -> Option<String> {
    let seconds = Some(milliseconds / 1000).filter(|seconds| *seconds <= LONGEST)?;
    let two = |first: String, more: u64, unit: &str| match more {
        0 => first,
        more => format!("{first} {more} {unit}"),
    };
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => None,
        (0, 0, seconds) => Some(format!("{seconds} s")),
        (0, minutes, seconds) => Some(two(format!("{minutes} min"), seconds, "s")),
        (hours, minutes, _) if hours < 48 => Some(two(format!("{hours} h"), minutes, "min")),
        (hours, ..) => Some(two(format!("{} d", hours / 24), hours % 24, "h")),
    }
}

/// The same where many stand in a row: `2m30`.
pub(super) fn brief(milliseconds: u64) -> Option<String> {
    let seconds = Some(milliseconds / 1000).filter(|seconds| *seconds <= LONGEST)?;
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => None,
        (0, 0, seconds) => Some(format!("{seconds}s")),
        (0, minutes, 0) => Some(format!("{minutes}m")),
        (0, minutes, seconds) => Some(format!("{minutes}m{seconds:02}")),
        (hours, minutes, _) => Some(format!("{hours}h{minutes:02}")),
    }
}

/// The time between two moments, in milliseconds; none where the second is the earlier one.
pub(super) fn between(from: Timestamp, to: Timestamp) -> Option<u64> {
    u64::try_from(to.duration_since(from).as_millis()).ok()
}

/// An amount of US dollars.
pub(super) fn money(usd: f64) -> String {
    let sign = if usd <= -0.005 { "-" } else { "" };
    let usd = usd.abs();
    // Nobody spends this much: it is told so that it stays short.
    if usd >= 1e9 { format!("{sign}${usd:.2e}") } else { format!("{sign}${usd:.2}") }
}

/// When it was, as of `told`: the time, and the day where it was another one.
pub(super) fn moment(at: Timestamp, told: Timestamp) -> String {
    let is_today = at.strftime("%F").to_string() == told.strftime("%F").to_string();
    if is_today { unbroken(&at.strftime("%H:%M UTC").to_string()) } else { day(at, told) }
}

/// The same with its day always: what says it may be read, or sent again, on another one.
pub(super) fn day(at: Timestamp, told: Timestamp) -> String {
    let is_of_the_year = at.strftime("%Y").to_string() == told.strftime("%Y").to_string();
    let form = if is_of_the_year { "%-d %b %H:%M UTC" } else { "%-d %b %Y %H:%M UTC" };
    unbroken(&at.strftime(form).to_string())
}

/// With spaces at which no line ends.
fn unbroken(text: &str) -> String {
    text.replace(' ', "\u{a0}")
}

/// When it happened, if that was so long before it is told that it has to be said.
pub(super) fn late(happened: Option<Timestamp>, told: Timestamp) -> Option<Timestamp> {
    happened.filter(|at| told.duration_since(*at) > LATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_told_in_two_parts_at_most() {
        for (milliseconds, told, in_a_row) in [
            (999, None, None),
            (59_999, Some("59 s"), Some("59s")),
            (62_000, Some("1 min 2 s"), Some("1m02")),
            (2_700_000, Some("45 min"), Some("45m")),
            (3_720_000, Some("1 h 2 min"), Some("1h02")),
            (7_200_000, Some("2 h"), Some("2h00")),
            (259_200_000, Some("3 d"), Some("72h00")),
            (316_224_000_000, Some("3660 d"), Some("87840h00")),
            (316_224_001_000, None, None),
            (u64::MAX, None, None),
        ] {
            assert_eq!(length(milliseconds).as_deref(), told);
            assert_eq!(brief(milliseconds).as_deref(), in_a_row);
        }
    }

    #[test]
    fn what_is_told_late_says_when_it_happened() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let told = at("2026-01-02T10:12:30.5Z");
        let said = [day(told, told), moment(told, told)];
        assert_eq!(said, ["2 Jan 10:12 UTC", "10:12 UTC"].map(unbroken));
        for (happened, words) in [
            ("2026-01-02T10:05:00Z", None),
            ("2026-01-02T10:20:00Z", None),
            ("2026-01-02T09:01:59Z", Some(["2 Jan 09:01 UTC", "09:01 UTC"])),
            ("2026-01-01T00:00:00Z", Some(["1 Jan 00:00 UTC"; 2])),
            ("2025-12-31T23:59:00Z", Some(["31 Dec 2025 23:59 UTC"; 2])),
        ] {
            let said = late(Some(at(happened)), told).map(|at| [day(at, told), moment(at, told)]);
            assert_eq!(said, words.map(|words| words.map(unbroken)), "{happened}");
        }
        assert_eq!(late(None, told), None);
    }

    #[test]
    fn amounts_have_cents_and_stay_short() {
        assert_eq!([money(4.366), money(6.0), money(1e308)], ["$4.37", "$6.00", "$1.00e308"]);
        assert_eq!([money(-5.0), money(-1e30), money(-0.001)], ["-$5.00", "-$1.00e30", "$0.00"]);
    }
}
