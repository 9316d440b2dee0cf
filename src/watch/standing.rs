//! How what a telemetry file says now stands to what was seen of it: whether there is anything to
//! tell. A plain decision, with no I/O.

use std::path::Path;

use super::memory::Seen;
use crate::event::{IdempotencyKey, Status};

/// What is known of a file that says this now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    New,
    Told,
    Baseline,
    /// It tells of another session or attempt than what is known of it.
    Changed,
    /// It was told, with another verdict.
    Rewritten,
}

impl Standing {
    pub(super) fn of(seen: Option<&Seen>, key: &IdempotencyKey, status: Option<Status>, path: &Path) -> Self {
        let Some(seen) = seen else { return Self::New };
        // What an earlier version of this program saw has no verdict: whatever stands there is it.
        let is_same = seen.version.is_none() || seen.status == status;
        match &seen.key {
            Some(known) if known != key => Self::Changed,
            Some(_) => match (is_same, seen.baseline) {
                (true, true) => Self::Baseline,
                (true, false) => Self::Told,
                (false, true) => Self::Changed,
                (false, false) => Self::Rewritten,
            },
            // It was no telemetry.
            None if seen.version.is_some() => Self::Changed,
            // Known by its name alone.
            None => {
                let named = path.file_stem().and_then(|stem| stem.to_str()?.split_once('_'));
                let is_its = named.is_some_and(|(_, session)| key.as_str().ends_with(&format!(":{session}")));
                if is_its { Self::Baseline } else { Self::Changed }
            }
        }
    }

    /// Whether nothing is to be sent for it.
    pub(super) fn is_known(self) -> bool {
        matches!(self, Self::Told | Self::Baseline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_file() {
        use Status::{Failure, Success};
        let key: IdempotencyKey = serde_json::from_str("\"SPEC-1:plan:attempt-1:s-1\"").unwrap();
        let other: IdempotencyKey = serde_json::from_str("\"SPEC-1:plan:attempt-1:s-2\"").unwrap();
        let path = Path::new("ev/commands/SPEC-1/spec-plan_s-1.json");
        let seen = |key: Option<&IdempotencyKey>, status, version, baseline| {
            Some(Seen { key: key.cloned(), status, version, baseline, reached: None })
        };
        let now = Some((1, 1));
        for (seen, standing) in [
            (None, Standing::New),
            (seen(Some(&key), Some(Success), now, false), Standing::Told),
            (seen(Some(&key), Some(Failure), now, false), Standing::Rewritten),
            (seen(Some(&key), Some(Success), now, true), Standing::Baseline),
            (seen(Some(&key), Some(Failure), now, true), Standing::Changed),
            (seen(Some(&other), Some(Success), now, false), Standing::Changed),
            (seen(Some(&other), Some(Success), now, true), Standing::Changed),
            (seen(None, None, now, false), Standing::Changed),
            // Of an earlier version.
            (seen(Some(&key), None, None, false), Standing::Told),
            (seen(Some(&other), None, None, false), Standing::Changed),
            (seen(None, None, None, false), Standing::Baseline),
        ] {
            let found = Standing::of(seen.as_ref(), &key, Some(Success), path);
            assert_eq!(found, standing, "{seen:?}");
            assert_eq!(found.is_known(), matches!(standing, Standing::Told | Standing::Baseline));
        }
        let by_name = Standing::of(seen(None, None, None, false).as_ref(), &other, Some(Success), path);
        assert_eq!(by_name, Standing::Changed);
    }
}
