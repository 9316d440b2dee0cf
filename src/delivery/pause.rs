//! A pause that a person asked for: deliveries of a subscription wait until it is resumed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::clock;

/// Who holds a subscription's deliveries back, and since when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Pause {
    /// When it was paused.
    #[serde(with = "clock::millis")]
    pub since: Timestamp,
    /// The user who asked for it.
    pub by: String,
}

impl Pause {
    /// A pause that begins now.
    pub(crate) fn now(by: &str) -> Self {
        Self { since: clock::now(), by: by.to_owned() }
    }
}
