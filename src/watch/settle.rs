//! When a file that is being written may be read: a plain decision over what was seen of it and when.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Unchanged for this long, a file is read.
pub(super) const QUIET: Duration = Duration::from_millis(150);

/// Unchanged for this long, a file is taken as it is, whether it can be read or not; and one that is changed all the time
/// is looked at after this long all the same.
pub(super) const LONG: Duration = Duration::from_secs(2);

/// What tells one version of a file from another: its length and when it was written, in nanoseconds.
pub(super) type Stamp = (u64, u64);

/// What is known of a file that changed.
#[derive(Clone, Copy, Debug)]
struct Unsettled {
    stamp: Stamp,
    /// When this version was first seen.
    changed: Instant,
    /// When the first version was seen that was not read yet.
    first: Instant,
    /// Not before this.
    look: Instant,
}

/// Files that changed and were not read yet.
#[derive(Debug, Default)]
pub(super) struct Settler(BTreeMap<PathBuf, Unsettled>);

/// A file that is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
    /// It has not changed for so long that it is what it is.
    pub(super) is_final: bool,
}

impl Settler {
    /// A file was seen with this stamp.
    pub(super) fn seen(&mut self, path: &Path, stamp: Stamp, now: Instant) {
        let new = Unsettled { stamp, changed: now, first: now, look: now + QUIET };
        let file = self.0.entry(path.to_owned()).or_insert(new);
        if file.stamp != stamp {
            // One that never rests is looked at now and then all the same.
            let look = (now + QUIET).min(file.first + LONG).max(file.look);
            *file = Unsettled { stamp, changed: now, look, ..*file };
        }
    }

    /// What may be looked at now. Each is to be answered with [`done`](Self::done), [`seen`](Self::seen) or
    /// [`later`](Self::later).
    pub(super) fn due(&self, now: Instant) -> Vec<Due> {
        let due = self.0.iter().filter(|(_, file)| file.look <= now);
        let due = due.map(|(path, file)| Due {
            path: path.clone(),
            stamp: file.stamp,
            is_final: now >= file.changed + LONG,
        });
        due.collect()
    }

    /// Every file that was not read yet.
    pub(super) fn unread(&self) -> impl Iterator<Item = (&Path, Stamp)> {
        self.0.iter().map(|(path, file)| (path.as_path(), file.stamp))
    }

    /// It was read, or is gone.
    pub(super) fn done(&mut self, path: &Path) {
        self.0.remove(path);
    }

    /// It could not be used yet: look again after `wait`.
    pub(super) fn later(&mut self, path: &Path, now: Instant, wait: Duration) {
        if let Some(file) = self.0.get_mut(path) {
            file.look = now + wait;
        }
    }

    /// How long until something may be looked at.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        self.0.values().map(|file| file.look.saturating_duration_since(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A file is written in steps; it is looked at whenever the settler says so. It is never looked at within QUIET of
        /// its last change but when it never rests, and always in the end, as the last version.
        #[test]
        fn a_file_is_read_at_rest_and_always_in_the_end(gaps in proptest::collection::vec(1u64..1000, 1..40)) {
            let start = Instant::now();
            let path = Path::new("file");
            let mut settler = Settler::default();
            let mut now = start;
            let mut changed = start;
            let mut unread = None;
            let mut read = 0;
            for (version, gap) in (1..).zip(&gaps) {
                settler.seen(path, (version, 0), now);
                changed = now;
                unread.get_or_insert(now);
                let next = now + Duration::from_millis(*gap);
                while now < next {
                    now += Duration::from_millis(1);
                    if let Some(due) = settler.due(now).pop() {
                        prop_assert!(now >= changed + QUIET || now >= unread.unwrap() + LONG);
                        prop_assert_eq!(due.is_final, now >= changed + LONG);
                        read = due.stamp.0;
                        unread = None;
                        settler.done(path);
                    }
                }
            }
            now += LONG;
            if let Some(due) = settler.due(now).pop() {
                prop_assert!(due.is_final);
                read = due.stamp.0;
            }
            prop_assert_eq!(read, gaps.len() as u64);
            prop_assert!(changed <= now);
        }
    }

    #[test]
    fn what_cannot_be_used_yet_is_looked_at_again() {
        let now = Instant::now();
        let mut settler = Settler::default();
        settler.seen(Path::new("a"), (1, 1), now);
        assert_eq!(settler.next(now), Some(QUIET));
        assert!(settler.due(now).is_empty());
        settler.later(Path::new("a"), now + QUIET, LONG);
        assert!(settler.due(now + QUIET).is_empty());
        assert!(settler.due(now + QUIET + LONG)[0].is_final);
        settler.done(Path::new("a"));
        assert_eq!(settler.next(now), None);
    }
}
