//! Which event this is: its idempotency key, and where that comes from.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::SpecId;
use crate::clock;
use crate::digest::sha256;
use crate::names::{self, printable};

/// Says which event this is, so that the same one seen twice is delivered once: 1 to 512 printable
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct IdempotencyKey(Arc<str>);

/// A text that is no idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not an idempotency key: it must have 1 to 512 printable characters", printable(.0, 80))]
pub struct InvalidKey(String);

impl IdempotencyKey {
    /// The key of a stage or pipeline event: `<SPEC>:<step>:attempt-<n>`, and `:<session>` where
    /// there is one.
    ///
    /// With a session the SPEC is its short id, without one the full id, because short ids are
    /// shared.
    pub fn of_step(spec: &SpecId, step: &str, attempt: u32, session: Option<&str>) -> Self {
        let session = session.map(|text| distinct(text, 200)).filter(|text| !text.is_empty());
        let key = match session {
            Some(session) => format!("{}:{step}:attempt-{attempt}:{session}", spec.short()),
            None => format!("{spec}:{step}:attempt-{attempt}"),
        };
        Self(key.into())
    }

    /// The key of a task that became Done for the `times`th time. Several lists of a SPEC may have
    /// the same id: `list` says which one it is.
    pub(crate) fn of_task(spec: &SpecId, list: &str, id: &str, times: u32) -> Self {
        let (list, id) = (distinct(list, 160), distinct(id, 160));
        Self(format!("{spec}:{list}#{id}:done-{times}").into())
    }

    /// The key of a list whose last open task became Done for the `times`th time.
    pub(crate) fn of_task_list(spec: &SpecId, list: &str, times: u32) -> Self {
        Self(format!("{spec}:{}:tasklist-done-{times}", distinct(list, 160)).into())
    }

    /// The key of the `n`th time that a workflow run waits for a person:
    /// `<SPEC>:<what>-<n>:<run>`.
    pub(crate) fn of_wait(spec: &SpecId, what: &str, n: u32, run: &str) -> Self {
        Self(format!("{}:{}-{n}:{}", spec.short(), distinct(what, 160), distinct(run, 200)).into())
    }

    /// The key of a workflow run that is silent since a time: `<SPEC>:stalled-<since>:<run>`.
    pub(crate) fn of_stall(spec: &SpecId, since: &str, run: &str) -> Self {
        Self(format!("{}:stalled-{}:{}", spec.short(), printable(since, 64), distinct(run, 200)).into())
    }

    /// The key of a further version of a session, which the source rewrote with another verdict.
    pub(crate) fn of_version(&self, stamp: &str) -> Self {
        Self(format!("{self}:{}", printable(stamp, 64)).into())
    }

    /// A key no other event has: for events that have no natural identity, such as a test.
    pub fn unique(spec: &SpecId, what: &str) -> Self {
        Self(format!("{spec}:{}:{}", printable(what, 200), clock::uuid()).into())
    }

    /// Whether a text is a key.
    pub(crate) fn is_one(text: &str) -> bool {
        (1..=512).contains(&text.chars().count()) && !text.chars().any(char::is_control)
    }

    /// The key of which this is the text.
    pub(crate) fn of_known(text: &str) -> Self {
        Self(text.into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// `text` as it stands in a key: no two are cut, or made printable, to the same.
fn distinct(text: &str, limit: usize) -> String {
    const DIGITS: usize = 16;
    let shown = printable(text, limit);
    if shown == text {
        return shown;
    }
    let start: String = text.chars().take(limit.saturating_sub(DIGITS + 1)).collect();
    let digest = hex::encode(sha256(text.as_bytes()));
    format!("{}~{}", printable(&start, limit), &digest[..DIGITS])
}

impl FromStr for IdempotencyKey {
    type Err = InvalidKey;

    fn from_str(text: &str) -> Result<Self, InvalidKey> {
        match Self::is_one(text) {
            true => Ok(Self(text.into())),
            false => Err(InvalidKey(text.to_owned())),
        }
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for IdempotencyKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        names::parsed(deserializer)
    }
}

/// Where the key of an event comes from, and when the event was made; never in a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyOrigin {
    /// Whoever emitted it gave one: it is this event and no other.
    #[default]
    Given,
    /// From the session that the event tells of, or the task list it stands in.
    Source(#[serde(with = "clock::millis")] Timestamp),
    /// The same, of a session of which something else was told already.
    Rewritten(#[serde(with = "clock::millis")] Timestamp),
    /// The event had neither a key nor a session: the Router finds out which one it is.
    Made {
        /// When, to the nanosecond.
        at: Timestamp,
        /// So that it is known when it is handed over a second time.
        nonce: u64,
    },
}

impl KeyOrigin {
    pub(super) fn is_given(&self) -> bool {
        *self == Self::Given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_spec_step_attempt_and_session() {
        let spec: SpecId = "SPEC-KIT-065-add-webhook".parse().unwrap();
        assert_eq!(
            IdempotencyKey::of_step(&spec, "plan", 1, Some("abcd-1234")).as_str(),
            "SPEC-KIT-065:plan:attempt-1:abcd-1234"
        );
        assert_eq!(
            IdempotencyKey::of_step(&spec, "plan", 2, None).as_str(),
            "SPEC-KIT-065-add-webhook:plan:attempt-2"
        );
    }

    #[test]
    fn what_differs_only_far_from_its_start_has_keys_of_its_own() {
        let spec: SpecId = "s".repeat(128).parse().unwrap();
        let long = |end: &str| format!("{}{end}", "packages/".repeat(60));
        let keys = |end: &str| {
            let long = long(end);
            [
                IdempotencyKey::of_step(&spec, "plan", 1, Some(&long)),
                IdempotencyKey::of_task(&spec, &long, "T1", 1),
                IdempotencyKey::of_task(&spec, "tasks.md", &long, 1),
                IdempotencyKey::of_task_list(&spec, &long, 1),
                IdempotencyKey::of_wait(&spec, &long, u32::MAX, &long),
                IdempotencyKey::of_stall(&spec, "2026-01-02T03:04:05.678Z", &long),
            ]
        };
        for (one, other) in keys("a").iter().zip(keys("b")) {
            assert_ne!(*one, other);
            assert_eq!(one.as_str().parse().as_ref(), Ok(one));
        }
        assert_ne!(distinct("a\u{202e}", 9), distinct("a\u{202d}", 9));
    }
}
