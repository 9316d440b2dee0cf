//! The wall clock, read in one place, and its one way of being written: RFC 3339 UTC with milliseconds.

use jiff::Timestamp;

/// Now, in whole milliseconds: what is in memory is what is written.
pub(crate) fn now() -> Timestamp {
    in_milliseconds(Timestamp::now())
}

/// A time in whole milliseconds.
pub(crate) fn in_milliseconds(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// Now, as exactly as the system knows it.
pub(crate) fn exactly() -> Timestamp {
    Timestamp::now()
}

/// Nanoseconds since the epoch: an order for what happens within a millisecond.
pub(crate) fn nanoseconds() -> i128 {
    Timestamp::now().as_nanosecond()
}

/// `2025-10-14T10:00:00.123Z`.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Serde for a [`Timestamp`] written by [`rfc3339`].
pub(crate) mod millis {
    use jiff::Timestamp;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::rfc3339(*at))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(deserializer)
    }
}

/// Serde for what [`millis`] is for, where there may be none.
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
}
