//! The start of a delivery's id, as people type it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::DeliveryId;
use crate::names;

/// The start of a delivery's id, or the whole of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdPrefix(String);

/// The text cannot be the start of a delivery's id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a delivery's id looks like 0193e5a1-7f00-4abc-8def-0123456789ab: give it, or enough of its start to be \
     unique"
)]
pub struct InvalidIdPrefix;

/// Where the hyphens of an id are.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// Length of a whole id.
const WHOLE: usize = 36;

impl IdPrefix {
    /// The prefix in the form that ids have.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether an id begins so.
    pub fn matches(&self, id: DeliveryId) -> bool {
        let mut text = [0; WHOLE];
        id.0.hyphenated().encode_lower(&mut text).as_bytes().starts_with(self.0.as_bytes())
    }

    /// The first and the last id that begin so, as hexadecimal digits.
    #[cfg(feature = "fleet")]
    pub(crate) fn range(&self) -> (String, String) {
        let digits = self.0.replace('-', "");
        (format!("{digits:0<32}"), format!("{digits:f<32}"))
    }

    /// The id, if it is a whole one.
    pub fn whole(&self) -> Option<DeliveryId> {
        if self.0.len() == WHOLE { self.0.parse().ok() } else { None }
    }
}

impl FromStr for IdPrefix {
    type Err = InvalidIdPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidIdPrefix> {
        let text = text.trim_end_matches('…').to_ascii_lowercase();
        let fits = |(at, byte): (usize, u8)| match HYPHENS.contains(&at) {
            true => byte == b'-',
            false => byte.is_ascii_hexdigit(),
        };
        let is_one = (1..=WHOLE).contains(&text.len()) && text.bytes().enumerate().all(fits);
        if is_one { Ok(Self(text)) } else { Err(InvalidIdPrefix) }
    }
}

impl From<DeliveryId> for IdPrefix {
    fn from(id: DeliveryId) -> Self {
        Self(id.to_string())
    }
}

impl fmt::Display for IdPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl Serialize for IdPrefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for IdPrefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        names::parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_start_of_an_id_is_refused() {
        for text in
            ["", "SPEC-1", "0193e5a17", "0193e5a1-7f00-", "-", "g", "0193e5a1-7f00-4abc-8def-0123456789ab0"]
        {
            let parsed = text.parse::<IdPrefix>();
            assert_eq!(parsed.is_ok(), text == "0193e5a1-7f00-", "{text}");
        }
        let whole: IdPrefix = "0193E5A1-7F00-4ABC-8DEF-0123456789AB".parse().unwrap();
        assert_eq!(whole.whole().unwrap().to_string(), "0193e5a1-7f00-4abc-8def-0123456789ab");
    }

    proptest! {
        #[test]
        fn an_id_is_found_by_each_of_its_starts(length in 1usize..=36, other in any::<u128>()) {
            let id = DeliveryId::random();
            let prefix: IdPrefix = id.to_string()[..length].parse().unwrap();
            prop_assert!(prefix.matches(id));
            prop_assert_eq!(prefix.whole(), (length == 36).then_some(id));
            let other = DeliveryId(uuid::Uuid::from_u128(other));
            prop_assert_eq!(prefix.matches(other), other.to_string().starts_with(prefix.as_str()));
        }
    }
}
