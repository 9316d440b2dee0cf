//! When a file that is being written may be read: a plain decision over what was seen of it and
//! when.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Unchanged for this long, a file is read.
pub(super) const QUIET: Duration = Duration::from_millis(150);

/// The same of a file that its writer has closed or renamed into place: most write it at once, and
/// those that write it twice do so before this.
pub(super) const CLOSED: Duration = Duration::from_millis(40);

/// Unchanged for this long, a file is taken as it is, whether it can be read or not; and one that
/// is changed all the time is looked at after this long all the same.
pub(super) const LONG: Duration = Duration::from_secs(2);

/// What tells one version of a file from another: its length and when it was written, in
/// nanoseconds.
pub(super) type Stamp = (u64, u64);

/// What is known of a file that changed.
#[derive(Clone, Debug)]
struct Unsettled {
    /// What it is read in order with.
    group: PathBuf,
    stamp: Stamp,
    /// When this version was first seen.
    changed: Instant,
    /// When the first version was seen that was not read yet.
    first: Instant,
    /// Not before this.
    look: Instant,
    /// This version was looked at and is not whole: it holds nobody up.
    is_torn: bool,
}

/// Files that changed and were not read yet.
#[derive(Debug, Default)]
pub(super) struct Settler {
    files: BTreeMap<PathBuf, Unsettled>,
    /// Those that wait for another file of their group, however long that takes.
    held: BTreeMap<PathBuf, Unsettled>,
}

/// A file that is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) path: PathBuf,
    pub(super) stamp: Stamp,
    /// When its stage ended, in nanoseconds.
    pub(super) ended_at: i128,
    /// It has not changed for so long that it is what it is.
    pub(super) is_final: bool,
}

/// Unread files of a folder from which on it is a crowd: far above what a run, or a night of them,
/// leaves.
const CROWD: usize = 1000;

/// Files of a crowd that are looked at before it is heard what else came: those that came last
/// first, behind the first few of them some that came first, and in the end some that turned out
/// not to be whole: those become events, and cost most.
const NEWEST: usize = 8192;
const AT_ONCE: usize = 64;
const OLDEST: usize = 16;

/// What is due of the files that are read in order with each other.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// What they have in common.
    pub(super) of: PathBuf,
    /// Of a crowd some, in the order in which they are to be read.
    pub(super) due: Vec<Due>,
    /// When the first stage ended that is not due yet and may be read.
    pub(super) first_waiting: Option<i128>,
    /// Its files wait for none of it: whoever floods a folder holds nobody up.
    pub(super) is_a_crowd: bool,
}

type File<'a> = (&'a PathBuf, &'a Unsettled);

/// Some of the files of a crowd, in the order in which they are to be looked at.
fn some_of(due: Vec<File<'_>>) -> Vec<File<'_>> {
    // Of those that were found together, what was written last came last.
    let came = |(_, file): &File<'_>| (file.first, file.stamp.1);
    let (torn, whole): (Vec<_>, Vec<_>) = due.into_iter().partition(|(_, file)| file.is_torn);
    let (mut newest, older) = part(whole, NEWEST, |file| Reverse(came(file)));
    newest.sort_unstable_by_key(|file| Reverse(came(file)));
    let later = newest.split_off(AT_ONCE.min(newest.len()));
    let (oldest, _) = part(older, OLDEST, came);
    let (torn, _) = part(torn, OLDEST, came);
    [newest, oldest, later, torn].concat()
}

/// The first `most` by a key, in no order, and the rest.
fn part<'a, K: Ord>(
    mut files: Vec<File<'a>>,
    most: usize,
    key: impl Fn(&File<'a>) -> K,
) -> (Vec<File<'a>>, Vec<File<'a>>) {
    if files.len() > most {
        files.select_nth_unstable_by_key(most, key);
    }
    let rest = files.split_off(most.min(files.len()));
    (files, rest)
}

impl Settler {
    /// A file of this group was seen with this stamp; whether that is new.
    pub(super) fn seen(&mut self, path: &Path, group: PathBuf, stamp: Stamp, now: Instant) -> bool {
        if let Some(held) = self.held.get(path) {
            if held.stamp == stamp {
                return false;
            }
            self.held.remove(path);
        }
        let new = Unsettled { group, stamp, changed: now, first: now, look: now + QUIET, is_torn: false };
        let Some(file) = self.files.get_mut(path) else {
            self.files.insert(path.to_owned(), new);
            return true;
        };
        let is_new = file.stamp != stamp;
        if is_new {
            // One that never rests is looked at now and then all the same.
            let look = new.look.min(file.first + LONG).max(file.look);
            *file = Unsettled { first: file.first, look, ..new };
        }
        is_new
    }

    /// Its writer has closed it.
    pub(super) fn closed(&mut self, path: &Path, now: Instant) {
        if let Some(file) = self.files.get_mut(path).filter(|file| !file.is_torn) {
            file.look = file.look.min(now + CLOSED);
        }
    }

    /// What may be looked at now, by group, those first that wait longest: where not all can be
    /// read before more comes, each has its turn. Each is to be answered with [`done`](Self::done),
    /// [`seen`](Self::seen), [`torn`](Self::torn), [`hold`](Self::hold) or [`later`](Self::later),
    /// or comes again. `ended_at` says when the stage of a file ended.
    pub(super) fn due(&self, now: Instant, ended_at: impl Fn(&Path, Stamp) -> i128) -> Vec<Group> {
        let mut groups: BTreeMap<&Path, Vec<(&PathBuf, &Unsettled)>> = BTreeMap::new();
        for (path, file) in &self.files {
            groups.entry(&file.group).or_default().push((path, file));
        }
        let groups = groups.into_iter().filter_map(|(of, files)| {
            let is_a_crowd = files.len() > CROWD;
            let (mut due, waiting): (Vec<_>, Vec<_>) =
                files.into_iter().partition(|(_, file)| file.look <= now);
            let since = due.iter().map(|(_, file)| file.look).min()?;
            if is_a_crowd {
                due = some_of(due);
            }
            let due = due.into_iter().map(|(path, file)| Due {
                path: path.clone(),
                stamp: file.stamp,
                ended_at: ended_at(path, file.stamp),
                is_final: now >= file.changed + LONG,
            });
            let waiting = waiting.into_iter().filter(|(_, file)| !is_a_crowd && !file.is_torn);
            let group = Group {
                of: of.to_owned(),
                due: due.collect(),
                first_waiting: waiting.map(|(path, file)| ended_at(path, file.stamp)).min(),
                is_a_crowd,
            };
            Some((since, group))
        });
        let mut groups: Vec<(Instant, Group)> = groups.collect();
        groups.sort_by_key(|(since, _)| *since);
        groups.into_iter().map(|(_, group)| group).collect()
    }

    /// It is not whole: it may change at any time, else it is looked at once it is final.
    pub(super) fn torn(&mut self, path: &Path) {
        if let Some(file) = self.files.get_mut(path) {
            file.is_torn = true;
            file.look = file.changed + LONG;
        }
    }

    /// It waits for another file of its group: [`wake`](Self::wake).
    pub(super) fn hold(&mut self, path: &Path) {
        if let Some((path, file)) = self.files.remove_entry(path) {
            self.held.insert(path, file);
        }
    }

    /// Something came of a group: what waits for that is looked at again.
    pub(super) fn wake(&mut self, group: &Path, now: Instant) {
        self.wake_those(now, |file| file.group == group);
    }

    /// The same of all groups.
    pub(super) fn wake_all(&mut self, now: Instant) {
        self.wake_those(now, |_| true);
    }

    fn wake_those(&mut self, now: Instant, are: impl Fn(&Unsettled) -> bool) {
        let (woken, held): (BTreeMap<_, _>, _) =
            std::mem::take(&mut self.held).into_iter().partition(|(_, file)| are(file));
        self.held = held;
        self.files.extend(woken.into_iter().map(|(path, file)| (path, Unsettled { look: now, ..file })));
    }

    /// It was read, or is gone.
    pub(super) fn done(&mut self, path: &Path) {
        self.files.remove(path);
        self.held.remove(path);
    }

    /// It could not be used yet: look again after `wait`.
    pub(super) fn later(&mut self, path: &Path, now: Instant, wait: Duration) {
        if let Some(file) = self.files.get_mut(path) {
            file.look = now + wait;
        }
    }

    /// How long until something may be looked at.
    pub(super) fn next(&self, now: Instant) -> Option<Duration> {
        self.files.values().map(|file| file.look.saturating_duration_since(now)).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn see(settler: &mut Settler, path: &str, stamp: Stamp, now: Instant) {
        let path = Path::new(path);
        settler.seen(path, path.parent().unwrap().to_owned(), stamp, now);
    }

    fn due(settler: &Settler, now: Instant) -> Vec<Due> {
        let groups = settler.due(now, |_, (_, written)| written.into());
        groups.into_iter().flat_map(|group| group.due).collect()
    }

    #[test]
    fn of_a_crowd_those_that_came_last_and_first_are_due_and_all_in_the_end() {
        let start = Instant::now();
        let mut settler = Settler::default();
        let count = NEWEST as u64 + 500;
        for n in 0..count {
            see(&mut settler, &format!("crowd/{n}"), (1, n), start + Duration::from_millis(n));
        }
        see(&mut settler, "a/1", (1, 7), start);
        see(&mut settler, "a/2", (1, 9), start + Duration::from_secs(60));
        let now = start + Duration::from_secs(30);
        let folders = settler.due(now, |_, (_, written)| written.into());
        assert!(
            (folders[0].due.len(), folders[0].first_waiting, folders[0].is_a_crowd) == (1, Some(9), false)
        );
        let mut first: Vec<i128> = folders[1].due.iter().map(|due| due.ended_at).collect();
        assert_eq!(first[..2], [i128::from(count) - 1, i128::from(count) - 2]);
        assert!(first[AT_ONCE] < OLDEST as i128);
        first.sort_unstable();
        let wanted = (0..OLDEST as i128).chain(i128::from(count) - NEWEST as i128..count.into());
        assert_eq!(first, wanted.collect::<Vec<_>>());
        let mut looked_at = 0;
        while let Some(folder) = settler.due(now, |_, _| 0).into_iter().find(|folder| folder.is_a_crowd) {
            looked_at += folder.due.len();
            folder.due.iter().for_each(|due| settler.done(&due.path));
        }
        assert!(looked_at >= 500, "{looked_at}");
    }

    proptest! {
        /// A file is written in steps; it is looked at whenever the settler says so. It is never
        /// looked at within QUIET of its last change but when it never rests, and always in the
        /// end, as the last version.
        #[test]
        fn a_file_is_read_at_rest_and_always_in_the_end(
            gaps in proptest::collection::vec(1u64..1000, 1..40),
        ) {
            let start = Instant::now();
            let path = Path::new("file");
            let mut settler = Settler::default();
            let mut now = start;
            let mut changed = start;
            let mut unread = None;
            let mut read = 0;
            for (version, gap) in (1..).zip(&gaps) {
                settler.seen(path, PathBuf::new(), (version, 0), now);
                changed = now;
                unread.get_or_insert(now);
                let next = now + Duration::from_millis(*gap);
                while now < next {
                    now += Duration::from_millis(1);
                    if let Some(due) = due(&settler, now).pop() {
                        prop_assert!(now >= changed + QUIET || now >= unread.unwrap() + LONG);
                        prop_assert_eq!(due.is_final, now >= changed + LONG);
                        read = due.stamp.0;
                        unread = None;
                        settler.done(path);
                    }
                }
            }
            now += LONG;
            if let Some(due) = due(&settler, now).pop() {
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
        see(&mut settler, "a", (1, 1), now);
        assert_eq!(settler.next(now), Some(QUIET));
        assert!(due(&settler, now).is_empty());
        settler.later(Path::new("a"), now + QUIET, LONG);
        assert!(due(&settler, now + QUIET).is_empty());
        assert!(due(&settler, now + QUIET + LONG)[0].is_final);
        settler.done(Path::new("a"));
        assert_eq!(settler.next(now), None);
    }

    #[test]
    fn what_was_closed_rests_for_less_unless_it_changes_or_is_not_whole() {
        let (now, path) = (Instant::now(), Path::new("a"));
        let mut settler = Settler::default();
        settler.closed(path, now);
        assert_eq!(settler.next(now), None, "it is not known");
        see(&mut settler, "a", (1, 1), now);
        settler.closed(path, now);
        assert_eq!(settler.next(now), Some(CLOSED));
        settler.closed(path, now + CLOSED);
        assert_eq!(settler.next(now), Some(CLOSED), "closed once more, with nothing new");
        see(&mut settler, "a", (2, 2), now);
        assert_eq!(settler.next(now), Some(QUIET), "somebody opened it again");
        settler.torn(path);
        settler.closed(path, now);
        assert_eq!(settler.next(now), Some(LONG));
    }

    #[test]
    fn groups_come_in_the_order_in_which_they_came_to_rest() {
        let start = Instant::now();
        let mut settler = Settler::default();
        for (name, at) in [("c/1", 1), ("a/1", 3), ("b/1", 2), ("a/2", 0), ("d/1", 500)] {
            see(&mut settler, name, (1, 1), start + Duration::from_millis(at));
        }
        let order = |settler: &Settler| -> Vec<PathBuf> {
            let groups = settler.due(start + QUIET + Duration::from_millis(10), |_, _| 0);
            groups.into_iter().map(|group| group.of).collect()
        };
        assert_eq!(order(&settler), ["a", "c", "b"].map(PathBuf::from));
        // What changes again goes behind what did not have its turn yet.
        settler.done(Path::new("a/2"));
        see(&mut settler, "c/1", (1, 2), start + Duration::from_millis(5));
        assert_eq!(order(&settler), ["b", "a", "c"].map(PathBuf::from));
    }

    #[test]
    fn what_waits_for_another_file_holds_nobody_up_and_is_woken_by_its_group() {
        let now = Instant::now();
        let mut settler = Settler::default();
        see(&mut settler, "a/1", (1, 1), now);
        settler.hold(Path::new("a/1"));
        let later = now + LONG;
        assert_eq!((settler.next(later), due(&settler, later)), (None, vec![]));
        assert!(!settler.seen(Path::new("a/1"), "a".into(), (1, 1), later), "it is known");
        settler.wake(Path::new("b"), later);
        assert_eq!(settler.next(later), None);
        settler.wake(Path::new("a"), later);
        assert_eq!(due(&settler, later).len(), 1);
        settler.hold(Path::new("a/1"));
        see(&mut settler, "a/1", (2, 2), later);
        assert_eq!(settler.next(later), Some(QUIET));
    }
}
