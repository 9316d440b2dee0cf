//! `Retry-After`: how long an endpoint asks to wait (RFC 9110, section 10.2.3).

use std::time::Duration;

use jiff::Timestamp;

/// Longest pause that an endpoint may ask for.
pub(crate) const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The pause that a header's value asks for at `now`: seconds, also fractional, or an HTTP date in
/// one of its three forms. At most [`MAX_RETRY_AFTER`]; zero for a time in the past; `None` for any
/// other text.
pub(crate) fn retry_after(value: &str, now: Timestamp) -> Option<Duration> {
    let value = value.trim();
    if value.bytes().next().is_some_and(|first| first.is_ascii_digit() || first == b'.') {
        let seconds: f64 = value.parse().ok()?;
        // Absurd values, infinity included, count as the longest pause.
        let capped = seconds.min(MAX_RETRY_AFTER.as_secs_f64());
        return Duration::try_from_secs_f64(capped).ok();
    }
    Some(until(value, now)?.min(MAX_RETRY_AFTER))
}

/// The difference between a `Date` header and `now` in seconds; positive if the header is ahead.
/// `None` if it is not an HTTP date.
pub(crate) fn clock_skew(value: &str, now: Timestamp) -> Option<i64> {
    let date = Timestamp::try_from(httpdate::parse_http_date(value.trim()).ok()?).ok()?;
    Some(date.as_second() - now.as_second())
}

fn until(date: &str, now: Timestamp) -> Option<Duration> {
    let date = Timestamp::try_from(httpdate::parse_http_date(date).ok()?).ok()?;
    Some(Duration::try_from(date.duration_since(now)).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "1994-11-06T08:49:07Z".parse().unwrap()
    }

    #[test]
    fn seconds_fractions_and_the_three_dates() {
        let seconds = |value: &str| retry_after(value, now()).map(|pause| pause.as_secs_f64());
        for (value, expected) in [
            ("120", Some(120.0)),
            (" 1.5 ", Some(1.5)),
            (".25", Some(0.25)),
            ("0", Some(0.0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(30.0)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(30.0)),
            ("Sun Nov  6 08:49:37 1994", Some(30.0)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0.0)),
            ("Sun, 06 Nov 2044 08:49:37 GMT", Some(3600.0)),
            ("99999999999999999999", Some(3600.0)),
            ("1e300", Some(3600.0)),
            ("-5", None),
            ("inf", None),
            ("nan", None),
            ("5 seconds", None),
            ("soon", None),
            ("", None),
            ("Sun, 99 Nov 1994 08:49:37 GMT", None),
        ] {
            assert_eq!(seconds(value), expected, "{value:?}");
        }
    }

    #[test]
    fn how_far_a_date_is_off() {
        assert_eq!(clock_skew("Sun, 06 Nov 1994 08:50:37 GMT", now()), Some(90));
        assert_eq!(clock_skew("Sun, 06 Nov 1994 08:48:07 GMT", now()), Some(-60));
        assert_eq!(clock_skew("yesterday", now()), None);
    }

    proptest! {
        #[test]
        fn whatever_it_says_the_pause_is_bounded(value in "[ -~]{0,60}", digits in "[0-9.eE+-]{0,30}") {
            for value in [value, digits] {
                prop_assert!(retry_after(&value, now()).is_none_or(|pause| pause <= MAX_RETRY_AFTER));
                let _ = clock_skew(&value, now());
            }
        }
    }
}
