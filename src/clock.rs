//! The wall clock, read in one place, and its one way of being written: RFC 3339 UTC with milliseconds.

use jiff::Timestamp;

/// Now.
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
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

#[cfg(test)]
mod tests {
    #[test]
    fn times_have_milliseconds() {
        let at = "2025-10-14T10:00:00Z".parse().unwrap();
        assert_eq!(super::rfc3339(at), "2025-10-14T10:00:00.000Z");
    }
}
