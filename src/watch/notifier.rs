//! How the operating system is asked to tell of changes, folder by folder: the folders below, such
//! as our own evidence, stay untold of. It watches folders, not paths: a folder that is made again
//! where another one was is asked for anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::ops::Bound;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{ErrorKind, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::names::counted;

/// What the operating system tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// Something is with this path.
    Changed(PathBuf),
    /// The same, and whoever wrote it has closed it or renamed it into place.
    Closed(PathBuf),
    /// What was at this path was removed or renamed; something else may be there already.
    Gone(PathBuf),
    /// More happened than could be told.
    Missed,
}

/// Which folder it is that stands at a path: device, inode, and when it was made, because the
/// inode of one that was removed is soon given to another.
type Identity = (u64, u64, Option<SystemTime>);

/// See the module's first lines.
pub(super) struct Notifier {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, Identity>,
    /// What the operating system refuses to watch: said once, and tried again at each look.
    refused: BTreeSet<PathBuf>,
    /// Up to which folder the last check came, where that was not all of them.
    checked: Option<PathBuf>,
}

/// Folders that are checked at a time.
const MOST_CHECKED: usize = 1000;

impl Notifier {
    pub(super) fn new(tell: impl Fn(Told) + Send + 'static) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| match event {
            Ok(event) => told(event).into_iter().for_each(&tell),
            Err(error) => {
                log::warn!("a change was not reported: {error}; spec-notify looks at everything again");
                tell(Told::Missed);
            }
        });
        let watcher = watcher.map_err(|error| {
            log::warn!(
                "the operating system does not report changes ({error}): spec-notify looks every few seconds"
            );
        });
        Self { watcher: watcher.ok(), watched: BTreeMap::new(), refused: BTreeSet::new(), checked: None }
    }

    /// Whether the operating system tells of changes.
    pub(super) fn is_told(&self) -> bool {
        self.watcher.is_some()
    }

    /// Asks to be told of these folders, and no others; whether one is new.
    pub(super) fn watch(&mut self, dirs: &[PathBuf]) -> bool {
        // Before it is asked for: one that is replaced in between is seen to be another at the
        // next check.
        let found: BTreeMap<&PathBuf, Identity> =
            dirs.iter().filter_map(|dir| Some((dir, identity(dir)?))).collect();
        self.forget_all_but(|dir, identity| found.get(dir) == Some(identity));
        self.refused.retain(|dir| found.contains_key(dir));
        self.ask_for(found)
    }

    /// Asks to be told of this folder too; `None` where it cannot be had, else whether it is new.
    pub(super) fn watch_also(&mut self, dir: &PathBuf) -> Option<bool> {
        let identity = identity(dir)?;
        if self.watched.get(dir).is_some_and(|known| *known != identity) {
            self.gone(dir);
        }
        let is_new = self.ask_for([(dir, identity)].into());
        self.watched.contains_key(dir).then_some(is_new)
    }

    /// Whether one of these folders, as they were found, was not watched.
    fn ask_for(&mut self, found: BTreeMap<&PathBuf, Identity>) -> bool {
        let Some(watcher) = &mut self.watcher else { return false };
        let (mut is_new, mut refused) = (false, None);
        for (dir, identity) in found {
            if self.watched.contains_key(dir) {
                continue;
            }
            match watcher.watch(dir, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.watched.insert(dir.clone(), identity);
                    self.refused.remove(dir);
                    is_new = true;
                }
                // It went meanwhile, and is told of or seen when it comes back.
                Err(error) if is_not_found(&error) => {}
                Err(error) if self.refused.insert(dir.clone()) => refused = Some((dir, error)),
                Err(_) => {}
            }
        }
        if let Some((dir, error)) = refused {
            log::warn!(
                "changes in {} ({}) are not reported ({error}): spec-notify finds them within a minute; to \
                 hear of them at once, raise fs.inotify.max_user_watches",
                dir.display(),
                counted(self.refused.len(), "such folder", "such folders")
            );
        }
        is_new
    }

    /// What was at `path` is not there any more: neither it nor what was below it is watched.
    /// Whether any of it was.
    pub(super) fn gone(&mut self, path: &Path) -> bool {
        // In order, what is below a path comes right after it: most that goes is a file, and costs
        // one look-up.
        let first = self.watched.range::<Path, _>((Bound::Included(path), Bound::Unbounded)).next();
        let is_watched = first.is_some_and(|(dir, _)| dir.starts_with(path));
        if is_watched {
            self.forget_all_but(|dir, _| !dir.starts_with(path));
        }
        is_watched
    }

    /// Nothing that was told can be relied on any more: all is to be asked for anew.
    pub(super) fn forget_all(&mut self) {
        self.forget_all_but(|_, _| false);
    }

    /// Whether one of `roots` came, went or is another one, or another folder that is watched went:
    /// what costs too little to wait for being told. Of very many folders each has its turn.
    pub(super) fn is_behind(&mut self, roots: &[PathBuf]) -> bool {
        if !self.is_told() {
            return false;
        }
        let is_other = |dir: &PathBuf, known: &Identity| identity(dir).as_ref() != Some(known);
        let differs = |root: &PathBuf| match self.watched.get(root) {
            Some(known) => is_other(root, known),
            None => !self.refused.contains(root) && identity(root).is_some(),
        };
        if roots.iter().any(differs) {
            return true;
        }
        let from = self.checked.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut is_behind = false;
        let mut last = None;
        let turn = self.watched.range::<PathBuf, _>((from, Bound::Unbounded)).take(MOST_CHECKED);
        let mut count = 0;
        for (dir, known) in turn {
            is_behind |= is_other(dir, known);
            last = Some(dir.clone());
            count += 1;
        }
        self.checked = last.filter(|_| count == MOST_CHECKED);
        is_behind
    }

    /// One that was moved away is watched where it is now until this is said.
    fn forget_all_but(&mut self, keep: impl Fn(&PathBuf, &Identity) -> bool) {
        let Some(watcher) = &mut self.watcher else { return };
        self.watched.retain(|dir, identity| {
            let stays = keep(dir, identity);
            if !stays {
                // An error says that it is not watched any more, as it should be.
                drop(watcher.unwatch(dir));
            }
            stays
        });
    }
}

/// The folder at this path; `None` where there is none, and for a symbolic link.
fn identity(path: &Path) -> Option<Identity> {
    let found = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_dir)?;
    Some((found.dev(), found.ino(), found.created().ok()))
}

fn is_not_found(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => error.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// What an event says that concerns us.
fn told(event: notify::Event) -> Vec<Told> {
    if event.need_rescan() {
        return vec![Told::Missed];
    }
    let tell = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write))
        | EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Told::Closed,
        EventKind::Access(_) => return Vec::new(),
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)) => Told::Gone,
        _ => Told::Changed,
    };
    event.paths.into_iter().map(tell).collect()
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, DataChange, Flag, RemoveKind};

    use super::*;

    #[test]
    fn of_very_many_folders_one_that_was_replaced_untold_is_found_in_its_turn() {
        let dir = tempfile::tempdir().unwrap();
        let dirs: Vec<PathBuf> =
            (0..MOST_CHECKED + 500).map(|n| dir.path().join(format!("{n:05}"))).collect();
        dirs.iter().for_each(|dir| fs::create_dir(dir).unwrap());
        let roots = [dirs[0].clone(), dir.path().join("later")];
        let mut notifier = Notifier::new(|_| {});
        assert!(notifier.watch(&dirs));
        assert_eq!([(); 3].map(|()| notifier.is_behind(&roots)), [false; 3]);
        let replace = |dir: &PathBuf| {
            fs::rename(dir, dir.with_extension("away")).unwrap();
            fs::create_dir(dir).unwrap();
        };
        replace(&dirs[MOST_CHECKED + 400]);
        let found = [(); 4].map(|()| notifier.is_behind(&roots));
        assert!(found == [true, false, true, false] || found == [false, true, false, true], "{found:?}");
        // A root is looked at every time.
        replace(&roots[0]);
        assert_eq!([(); 2].map(|()| notifier.is_behind(&roots)), [true; 2]);
        assert!(!notifier.watch(&dirs[..0]));
        fs::create_dir(&roots[1]).unwrap();
        assert!(notifier.is_behind(&roots));
    }

    #[test]
    fn what_goes_and_what_was_lost_is_told_apart_from_what_changed() {
        let path = || Path::new("a").to_owned();
        let of = |kind| told(notify::Event::new(kind).add_path(path()));
        for kind in [
            EventKind::Remove(RemoveKind::Folder),
            EventKind::Modify(ModifyKind::Name(RenameMode::From)),
            EventKind::Modify(ModifyKind::Name(RenameMode::Any)),
        ] {
            assert_eq!(of(kind), [Told::Gone(path())]);
        }
        for kind in
            [EventKind::Create(CreateKind::Folder), EventKind::Modify(ModifyKind::Data(DataChange::Any))]
        {
            assert_eq!(of(kind), [Told::Changed(path())]);
        }
        for kind in [
            EventKind::Access(AccessKind::Close(AccessMode::Write)),
            EventKind::Modify(ModifyKind::Name(RenameMode::To)),
        ] {
            assert_eq!(of(kind), [Told::Closed(path())]);
        }
        assert_eq!(of(EventKind::Access(AccessKind::Close(AccessMode::Read))), []);
        // An overflow of the operating system's queue names no path.
        assert_eq!(told(notify::Event::new(EventKind::Other).set_flag(Flag::Rescan)), [Told::Missed]);
    }
}
