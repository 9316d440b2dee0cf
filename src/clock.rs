//! Wall clock and random numbers: no other module reads or draws them. Also the one form in which
//! times are written: RFC 3339 in UTC with milliseconds.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
#[cfg(feature = "cli")]
use jiff::tz::TimeZone;
use openssl::error::ErrorStack;
use openssl::rand::rand_bytes;
use uuid::Uuid;

/// Now, in whole milliseconds, so that a time in memory equals its written form.
pub(crate) fn now() -> Timestamp {
    in_milliseconds(Timestamp::now())
}

/// A time in whole milliseconds.
pub(crate) fn in_milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// Now, with the system's full precision.
pub(crate) fn exactly() -> Timestamp {
    Timestamp::now()
}

/// Nanoseconds since the epoch: orders events within a millisecond.
pub(crate) fn nanoseconds() -> i128 {
    Timestamp::now().as_nanosecond()
}

/// Now, for comparison with the times of files.
pub(crate) fn as_files_have_it() -> SystemTime {
    SystemTime::now()
}

/// The age of a file's time; `None` if it is in the future.
pub(crate) fn age(of: SystemTime) -> Option<Duration> {
    of.elapsed().ok()
}

/// A UUID v4 from the system's randomness: unguessable and unique.
pub(crate) fn uuid() -> Uuid {
    Uuid::new_v4()
}

/// A number that distinguishes events of the same time. It can be guessed.
pub(crate) fn nonce() -> u64 {
    fastrand::u64(..)
}

/// A uniform random number from 0 (included) to 1 (excluded). It can be guessed.
pub(crate) fn fraction() -> f64 {
    fastrand::f64()
}

/// Fills `bytes` with randomness fit for a secret.
///
/// # Errors
/// OpenSSL has no randomness.
pub(crate) fn secret_bytes(bytes: &mut [u8]) -> Result<(), ErrorStack> {
    rand_bytes(bytes)
}

/// The time in the form `2025-10-14T10:00:00.123Z`.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// This machine's time zone, or that of `TZ`; UTC where neither can be read.
#[cfg(feature = "cli")]
fn zone() -> TimeZone {
    // What tests compare must not depend on where they run.
    if cfg!(test) { TimeZone::UTC } else { TimeZone::system() }
}

/// A time for people, in the zone of this machine: with its date where that is not today.
#[cfg(feature = "cli")]
pub(crate) fn local(at: Timestamp, now: Timestamp) -> String {
    local_in(&zone(), at, now)
}

#[cfg(feature = "cli")]
fn local_in(zone: &TimeZone, at: Timestamp, now: Timestamp) -> String {
    let (at, now) = (zone.to_datetime(at), zone.to_datetime(now));
    let form = if at.date() == now.date() { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" };
    at.strftime(form).to_string()
}

/// A time for people with its date and its zone, for a ticket.
#[cfg(feature = "cli")]
pub(crate) fn stamp(at: Timestamp) -> String {
    format!("{} {}", zone().to_datetime(at).strftime("%Y-%m-%d %H:%M:%S"), zone_name(at))
}

/// The zone of [`local`] in words: `UTC`, `Europe/Berlin (+02:00)`.
#[cfg(feature = "cli")]
pub(crate) fn zone_name(now: Timestamp) -> String {
    name_of(&zone(), now)
}

#[cfg(feature = "cli")]
fn name_of(zone: &TimeZone, now: Timestamp) -> String {
    let offset = zone.to_offset(now);
    let minutes = offset.seconds() / 60;
    let sign = if minutes < 0 { '-' } else { '+' };
    let offset = format!("{sign}{:02}:{:02}", minutes.abs() / 60, minutes.abs() % 60);
    match zone.iana_name() {
        Some("UTC" | "Etc/UTC" | "Etc/Unknown") => "UTC".to_owned(),
        Some(name) => format!("{name} ({offset})"),
        None if minutes == 0 => "UTC".to_owned(),
        None => format!("UTC{offset}"),
    }
}

/// A time in RFC 3339: unchanged if it is in that form, else converted. `None` if it is not a time.
/// Tools write `2025-10-14 10:00:00Z` and other forms of ISO 8601.
pub(crate) fn in_rfc3339(given: &str) -> Option<String> {
    let at: Timestamp = given.parse().ok()?;
    let digits = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text.bytes().zip(shape.bytes()).all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                _ => byte == wanted,
            })
    };
    let parts = given.split_at_checked("0000-00-00T00:00:00".len());
    let is_it = parts.is_some_and(|(clock, zone)| {
        let zone = match zone.strip_prefix('.') {
            Some(fraction) if fraction.starts_with(|c: char| c.is_ascii_digit()) => {
                fraction.trim_start_matches(|c: char| c.is_ascii_digit())
            }
            _ => zone,
        };
        let is_zone = zone == "Z" || digits(zone, "+00:00") || digits(zone, "-00:00");
        digits(clock, "0000-00-00T00:00:00") && is_zone
    });
    Some(if is_it { given.to_owned() } else { rfc3339(at) })
}

/// Serde for a [`Timestamp`] written by [`rfc3339`].
pub(crate) mod millis {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{at:.3}"))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }
}

/// Serde for an optional [`Timestamp`], written like [`millis`].
pub(crate) mod maybe_millis {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(at: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => super::millis::serialize(at, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Option::deserialize(deserializer)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_have_milliseconds() {
        let at = "2025-10-14T10:00:00Z".parse().unwrap();
        assert_eq!(super::rfc3339(at), "2025-10-14T10:00:00.000Z");
    }

    #[cfg(feature = "cli")]
    #[test]
    fn people_read_local_times_with_the_date_where_it_is_not_today() {
        use jiff::tz::TimeZone;
        let now = "2025-10-14T22:30:00Z".parse().unwrap();
        let at = "2025-10-14T21:59:00Z".parse().unwrap();
        let berlin = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        assert_eq!(super::local_in(&TimeZone::UTC, at, now), "21:59:00");
        // There it was yesterday.
        assert_eq!(super::local_in(&berlin, at, now), "2025-10-14 23:59:00");
        assert_eq!(
            (super::name_of(&TimeZone::UTC, now), super::name_of(&berlin, now)),
            ("UTC".into(), "UTC+02:00".into())
        );
    }

    #[test]
    fn other_forms_of_a_time_become_rfc_3339() {
        let in_rfc3339 = |given| super::in_rfc3339(given);
        for kept in ["2025-10-14T10:00:00Z", "2025-10-14T10:00:00.123456Z", "2025-10-14T12:00:00+02:00"] {
            assert_eq!(in_rfc3339(kept).as_deref(), Some(kept));
        }
        for other in
            ["2025-10-14 10:00:00Z", "2025-10-14T12:00:00+02", "20251014T100000Z", "2025-10-14T10:00Z"]
        {
            assert_eq!(in_rfc3339(other).as_deref(), Some("2025-10-14T10:00:00.000Z"), "{other}");
        }
        for none in ["", "yesterday", "2025-10-14T10:00:00", "2025-10-14", "é"] {
            assert_eq!(in_rfc3339(none), None, "{none}");
        }
    }
}
