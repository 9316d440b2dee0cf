//! The id of a SPEC, which names folders.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize};

use crate::names::{self, printable};

/// The id of a SPEC. It names folders, so only `[A-Za-z0-9][A-Za-z0-9._-]{0,127}` is one.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SpecId(Arc<str>);

/// Names of the spool's own files and folders, which are no SPEC's in any case of letters: some
/// file systems do not tell them apart.
const RESERVED: [&str; 5] = ["inbox", "health.json", "lock", "runtime.json", "watch.jsonl"];

/// A text that is no SPEC id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpecId {
    /// It cannot name a folder.
    #[error(
        "`{}` is not a SPEC id: it must start with a letter or digit and have at most 128 of letters, \
         digits, `.`, `_` and `-` (it becomes a folder name)",
        printable(.0, 140)
    )]
    Malformed(String),
    /// It names something else in the spool.
    #[error(
        "`{0}` is not a SPEC id: the spool has a file or folder of its own by that name, and a SPEC's id \
         becomes the name of a folder beside it; rename the SPEC"
    )]
    Reserved(String),
}

impl SpecId {
    /// Whose tasks those of the repo's tracker are that name no SPEC.
    pub(crate) fn tracker() -> Self {
        Self("SPEC-TRACKER".into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id up to its number: `SPEC-KIT-065` of `SPEC-KIT-065-add-webhooks`; the whole id where
    /// it has none, or begins with it as in `002-kanban`: a number alone names no SPEC.
    pub fn short(&self) -> &str {
        let mut end = 0;
        for segment in self.0.split('-') {
            end += segment.len();
            if end > segment.len() && !segment.is_empty() && segment.bytes().all(|b| b.is_ascii_digit()) {
                return &self.0[..end];
            }
            end += 1;
        }
        &self.0
    }
}

impl FromStr for SpecId {
    type Err = InvalidSpecId;

    fn from_str(text: &str) -> Result<Self, InvalidSpecId> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let starts_well = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
        if !(starts_well && text.len() <= 128 && text.bytes().all(allowed)) {
            return Err(InvalidSpecId::Malformed(text.to_owned()));
        }
        if RESERVED.iter().any(|name| name.eq_ignore_ascii_case(text)) {
            return Err(InvalidSpecId::Reserved(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for SpecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<'de> Deserialize<'de> for SpecId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        names::parsed(deserializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spec_ids_become_folder_names() {
        for good in ["SPEC-KIT-065", "a", "A.b_c-1", "inbox-1", "health", "lock-1", &"x".repeat(128)] {
            assert!(good.parse::<SpecId>().is_ok(), "{good}");
        }
        for reserved in RESERVED.iter().flat_map(|name| [(*name).to_owned(), name.to_uppercase()]) {
            let error = reserved.parse::<SpecId>().unwrap_err().to_string();
            assert!(error.contains("a file or folder of its own"), "{reserved}: {error}");
        }
        for bad in ["", ".", "..", "../x", "a/b", "-a", ".a", "a b", "é", "a\n", &"x".repeat(129)] {
            assert!(bad.parse::<SpecId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn short_id_ends_with_the_first_number() {
        for (full, short) in [
            ("SPEC-KIT-065-add-webhook-for-9", "SPEC-KIT-065"),
            ("SPEC-KIT-045-mini", "SPEC-KIT-045"),
            ("SPEC-KIT-DEMO", "SPEC-KIT-DEMO"),
            ("065", "065"),
            ("002-kanban", "002-kanban"),
            ("002-kanban-3-more", "002-kanban-3"),
        ] {
            assert_eq!(full.parse::<SpecId>().unwrap().short(), short);
        }
    }
}
