//! Which tasks, and lists of tasks, became Done by work: a plain decision over what is remembered
//! of a list, its rows now, and what git says. A task is told as Done once over all branches until
//! work reopens it; that git puts another version of the list there is no work.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;

use serde::{Deserialize, Serialize};

use super::git::Version;
use super::standpoint::Standpoint;
use super::tasks::TaskRow;

/// Tasks of one file that are remembered; beyond it those are forgotten that are not in it.
const MAX_STATES: usize = 10_000;

/// What is remembered of one task.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub(crate) struct TaskState {
    /// Whether it was Done when it was last seen.
    done: bool,
    /// How often it became Done by work.
    times: u32,
    /// When it was told for the last time, in seconds since the epoch.
    #[serde(skip_serializing_if = "is_zero")]
    told: i64,
    /// When work reopened it, if it was not told since.
    #[serde(skip_serializing_if = "Option::is_none")]
    reopened: Option<i64>,
}

/// The same as it is written. An earlier version wrote no times.
#[derive(Deserialize)]
struct Stored {
    done: bool,
    times: u32,
    #[serde(default)]
    told: i64,
    #[serde(default)]
    reopened: Option<i64>,
}

impl From<Stored> for TaskState {
    fn from(Stored { done, times, told, reopened }: Stored) -> Self {
        // To an earlier version whatever was not Done any more had been reopened.
        let was_reopened = !done && times > 0 && told == 0;
        Self { done, times, told, reopened: reopened.or(was_reopened.then_some(0)) }
    }
}

fn is_zero(seconds: &i64) -> bool {
    *seconds == 0
}

/// What is remembered of a file's tasks: also of those that are not in it now, so that a file half
/// written, or a branch that is switched to and fro, invents nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TaskStates {
    states: BTreeMap<String, TaskState>,
    /// Where the repo stood when this was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen_at: Option<Standpoint>,
    /// Of the list as a whole. An earlier version, which read no boxes either, wrote nothing here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    list: Option<ListState>,
}

/// What is remembered of a list as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct ListState {
    /// How often its last open task became Done.
    times: u32,
    /// Whether that was told, and no work is left since.
    told: bool,
}

impl Default for TaskStates {
    fn default() -> Self {
        Self { states: BTreeMap::new(), seen_at: None, list: Some(ListState::default()) }
    }
}

/// Which tasks of a version are Done.
pub(crate) type DoneRows = BTreeMap<String, bool>;

/// HEAD's first parents with the list's rows in each, newest first.
pub(crate) type History = Vec<Version<DoneRows>>;

/// What is known of the repo that a list is in.
#[derive(Clone, Debug)]
pub(crate) enum View {
    /// There is none.
    Outside,
    /// Git is in the middle of a merge, a rebase or the like: it is not known yet what is work.
    Busy,
    /// It stands there. The history is missing where nothing asks for it, and where git cannot be
    /// asked.
    At(Standpoint, Option<History>),
}

/// What happened to one task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    /// None that counts.
    None,
    /// It became Done by work.
    Done,
    /// Work reopened it.
    Reopened,
    /// It is looked at again, as if it had not been seen: a merge may show for a while what it
    /// takes back.
    Undecided,
}

/// What differs from the last look.
#[derive(Clone, Copy, Debug)]
struct Moved {
    head: bool,
    stash: bool,
}

impl Moved {
    /// Where an earlier version looked, or the list was in no repo, nothing is known to differ.
    fn between(before: Option<&Standpoint>, now: &Standpoint) -> Self {
        before.map_or(Self { head: false, stash: false }, |before| Self {
            head: before.head != now.head,
            stash: before.stash != now.stash,
        })
    }
}

impl TaskState {
    /// Since when commits count that change it to what the row is now; `None` where the row cannot
    /// be a change.
    fn counts_since(&self, is_done: bool) -> Option<i64> {
        match (is_done, self.times, self.reopened) {
            (_, 0, _) => None,
            (true, _, since) => since,
            (false, _, None) => Some(self.told),
            (false, _, Some(_)) => None,
        }
    }

    /// Whether git has to be asked what a row is, and since when its commits count.
    fn asks(&self, is_done: bool, moved: Moved) -> Option<i64> {
        self.counts_since(is_done).filter(|_| self.done != is_done || moved.head)
    }

    fn change(&self, row: &TaskRow, view: &View, moved: Moved) -> Change {
        if row.is_done && self.times == 0 {
            return Change::Done;
        }
        if matches!(view, View::Busy) {
            return Change::Undecided;
        }
        let Some(since) = self.counts_since(row.is_done) else { return Change::None };
        let differs = self.done != row.is_done;
        let is_work = match view {
            View::Outside | View::Busy => differs,
            View::At(..) if !differs && !moved.head => false,
            // What a stash or a switch did cannot be told from an edit after it.
            View::At(_, None) => differs && !moved.head && !moved.stash,
            View::At(_, Some(history)) => {
                let in_head = history.first().and_then(|head| done_in(head, &row.id));
                let is_edit = differs && !moved.stash;
                match row.is_done {
                    true => {
                        is_edit && (!moved.head || in_head != Some(true))
                            || moved.head && a_commit_made(history, &row.id, true, since)
                    }
                    // What is as HEAD has it was put there by git, or an edit was taken back.
                    false if in_head == Some(false) => a_commit_made(history, &row.id, false, since),
                    false => is_edit,
                }
            }
        };
        match (is_work, row.is_done) {
            (false, _) => Change::None,
            (true, true) => Change::Done,
            (true, false) => Change::Reopened,
        }
    }
}

fn done_in(version: &Version<DoneRows>, id: &str) -> Option<bool> {
    version.file.as_ref()?.get(id).copied()
}

/// Whether a commit, authored at `since` or in the same second, changed a task to Done or from
/// Done. A merge does not count: it brings together what others did.
fn a_commit_made(history: &History, id: &str, done: bool, since: i64) -> bool {
    history.windows(2).any(|pair| {
        let [commit, parent] = pair else { return false };
        !commit.is_merge
            && commit.authored >= since
            && done_in(commit, id) == Some(done)
            && done_in(parent, id) == Some(!done)
    })
}

impl TaskStates {
    /// Whether git has to be asked about these rows, and since when commits count.
    pub(crate) fn asks(&self, rows: &[TaskRow], now: &Standpoint) -> Option<i64> {
        let moved = Moved::between(self.seen_at.as_ref(), now);
        rows.iter().filter_map(|row| self.states.get(&row.id)?.asks(row.is_done, moved)).min()
    }

    /// Takes the file's rows in, as seen at `now` (seconds since the epoch); returns those that
    /// became Done by work, and how often each has by now.
    pub(crate) fn apply<'a>(
        &mut self,
        rows: &'a [TaskRow],
        view: &View,
        now: i64,
    ) -> Vec<(&'a TaskRow, u32)> {
        let moved = match view {
            View::At(standpoint, _) => Moved::between(self.seen_at.as_ref(), standpoint),
            View::Outside | View::Busy => Moved { head: false, stash: false },
        };
        if self.list.is_none() {
            self.upgrade(rows, now);
        }
        let mut became_done = Vec::new();
        for row in rows {
            let state = self.states.entry(row.id.clone()).or_default();
            match state.change(row, view, moved) {
                Change::Undecided => continue,
                Change::Done => {
                    state.times += 1;
                    (state.told, state.reopened) = (now, None);
                    became_done.push((row, state.times));
                }
                Change::Reopened => state.reopened = Some(now),
                Change::None => {}
            }
            state.done = row.is_done;
        }
        match view {
            View::At(standpoint, _) => self.seen_at = Some(standpoint.clone()),
            View::Outside => self.seen_at = None,
            View::Busy => {}
        }
        if self.states.len() > MAX_STATES {
            let there: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
            self.states.retain(|id, _| there.contains(id.as_str()));
        }
        became_done
    }

    /// Whether the list's last open task became Done with those that [`apply`](Self::apply) gave,
    /// and how often that was by now. Once it did, it can only do so again after a task was there
    /// that work left open: one that was never Done, or that was reopened.
    pub(crate) fn completes(&mut self, rows: &[TaskRow], became_done: &[(&TaskRow, u32)]) -> Option<u32> {
        let list = self.list.get_or_insert_default();
        let is_left = |state: &TaskState| state.times == 0 || state.reopened.is_some();
        let mut open = rows.iter().filter(|row| !row.is_done).peekable();
        if open.peek().is_some() {
            list.told &= !open.any(|row| self.states.get(&row.id).is_none_or(is_left));
            return None;
        }
        if became_done.is_empty() || std::mem::replace(&mut list.told, true) {
            return None;
        }
        list.times += 1;
        Some(list.times)
    }

    /// The rows of a text that may be cut off: an id at its very end that is the beginning of a
    /// known one, which is missing, is no task.
    pub(crate) fn whole(&self, mut rows: Vec<TaskRow>, text: &str) -> Vec<TaskRow> {
        let Some(last) = rows.last().filter(|last| text.ends_with(&last.id)) else { return rows };
        let longer = self.states.range::<str, _>((Bound::Excluded(&*last.id), Bound::Unbounded));
        let mut longer = longer.take_while(|(id, _)| id.starts_with(&last.id));
        if longer.any(|(id, _)| rows.iter().all(|row| row.id != *id)) {
            rows.pop();
        }
        rows
    }

    /// Whether a task that is not among these rows was open when it was last seen: the list may be
    /// half written.
    pub(crate) fn has_open_beside(&self, rows: &[TaskRow]) -> bool {
        let there: HashSet<&str> = rows.iter().map(|row| row.id.as_str()).collect();
        self.states.iter().any(|(id, state)| !state.done && !there.contains(id.as_str()))
    }

    /// What an earlier version remembered: the boxes that it did not read are known as they are.
    fn upgrade(&mut self, rows: &[TaskRow], now: i64) {
        for row in rows.iter().filter(|row| row.is_box) {
            let known =
                TaskState { done: row.is_done, times: u32::from(row.is_done), told: now, reopened: None };
            self.states.entry(row.id.clone()).or_insert(known);
        }
        let told = !self.states.is_empty() && self.states.values().all(|state| state.done);
        self.list = Some(ListState { times: u32::from(told), told });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    fn rows(states: &[(u8, Option<bool>)]) -> Vec<TaskRow> {
        let row = |(id, done): &(u8, Option<bool>)| {
            let is_done = (*done)?;
            Some(TaskRow {
                id: format!("T{id}"),
                title: None,
                markers: Vec::new(),
                status: String::new(),
                is_done,
                is_box: false,
                spec: "S".parse().unwrap(),
            })
        };
        states.iter().filter_map(row).collect()
    }

    fn task(id: u8, done: bool) -> Vec<TaskRow> {
        rows(&[(id, Some(done))])
    }

    fn at(head: &str, stash: &str, history: Option<History>) -> View {
        let id = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        View::At(Standpoint { head: id(head), stash: id(stash) }, history)
    }

    /// Commits from HEAD back: when each was authored, and whether the task is Done in it.
    fn history(commits: &[(i64, Option<bool>)]) -> Option<History> {
        let version = |(authored, done): &(i64, Option<bool>)| Version {
            authored: *authored,
            is_merge: false,
            file: Some(done.iter().map(|done| ("T1".to_owned(), *done)).collect()),
        };
        Some(commits.iter().map(version).collect())
    }

    /// A task that was told at 100 and seen so at `A`; reopened at 200, if it is.
    fn told(done: bool, reopened: bool) -> TaskStates {
        let state = TaskState { done, times: 1, told: 100, reopened: reopened.then_some(200) };
        let seen_at = Some(Standpoint { head: Some("A".to_owned()), stash: None });
        TaskStates { states: [("T1".to_owned(), state)].into(), seen_at, ..TaskStates::default() }
    }

    #[test]
    fn what_counts_as_work_and_what_does_not() {
        let view = |(head, stash, commits): (&str, &str, &str)| match (head, commits) {
            ("outside", _) => View::Outside,
            ("busy", _) => View::Busy,
            (_, "unknown") => at(head, stash, None),
            _ => {
                let commit = |commit: &str| {
                    let (authored, row) = commit.split_once(':').unwrap();
                    (authored.parse().unwrap(), (row != "none").then_some(row == "done"))
                };
                at(head, stash, history(&commits.split_whitespace().map(commit).collect::<Vec<_>>()))
            }
        };
        // Whether the row was Done when it was last seen and is now; HEAD, the newest stash and
        // the commits from HEAD back; whether it counts as work.
        #[rustfmt::skip]
        let told_at_100 = [
            ("an edit", true, false, ("A", "", "90:done"), true),
            ("an edit of a list that git does not have", true, false, ("A", "", "90:none"), true),
            ("an edit where nothing is committed", true, false, ("", "", ""), true),
            ("an edit that is taken back", true, false, ("A", "", "90:open 80:open"), false),
            ("a switch to a branch where it is open", true, false, ("B", "", "90:open 80:open"), false),
            ("a commit that comes with a pull", true, false, ("B", "", "300:open 90:done"), true),
            ("one that was authored in the same second", true, false, ("B", "", "100:open 90:done"), true),
            ("an old commit that reopened it", true, false, ("B", "", "99:open 90:done"), false),
            ("a later commit upon an older one", true, false, ("B", "", "300:open 99:open 90:done"), false),
            ("a commit of what a stash brought", false, false, ("B", "", "300:open 90:done"), true),
            ("a stash that is popped", true, false, ("A", "s", "90:done"), false),
            ("git cannot be asked, HEAD is the same", true, false, ("A", "", "unknown"), true),
            ("git cannot be asked, HEAD moved", true, false, ("B", "", "unknown"), false),
            ("no repo", true, false, ("outside", "", ""), true),
            ("a merge that has not ended", true, false, ("busy", "", ""), false),
        ];
        for (what, seen, is_done, repo, is_work) in told_at_100 {
            let (mut states, rows) = (told(seen, false), task(1, is_done));
            assert!(states.apply(&rows, &view(repo), 400).is_empty(), "{what}");
            assert_eq!(states.states["T1"].reopened.is_some(), is_work, "{what}: {repo:?}");
        }
        #[rustfmt::skip]
        let reopened_at_200 = [
            ("an edit back by hand", false, true, ("A", "", "90:done"), true),
            ("an edit", false, true, ("A", "", "90:open"), true),
            ("an edit after a switch", false, true, ("B", "", "90:open"), true),
            ("a stash took the edit back", false, true, ("A", "s", "90:done"), false),
            ("a stash brought an old edit", false, true, ("A", "s", "90:open"), false),
            ("a switch to a branch where it is Done", false, true, ("B", "", "90:done 80:open"), false),
            ("a commit that comes with a pull", false, true, ("B", "", "300:done 90:open"), true),
            ("a commit of what a stash brought", true, true, ("B", "", "300:done 90:open"), true),
            ("git cannot be asked, HEAD is the same", false, true, ("A", "", "unknown"), true),
            ("git cannot be asked, HEAD moved", false, true, ("B", "", "unknown"), false),
            ("no repo", false, true, ("outside", "", ""), true),
            ("a merge that has not ended", false, true, ("busy", "", ""), false),
        ];
        for (what, seen, is_done, repo, is_work) in reopened_at_200 {
            let (mut states, rows) = (told(seen, true), task(1, is_done));
            assert_eq!(states.apply(&rows, &view(repo), 400).len(), usize::from(is_work), "{what}: {repo:?}");
            assert_eq!(states.states["T1"].reopened.is_some(), !is_work, "{what}: {repo:?}");
        }
    }

    #[test]
    fn a_merge_commit_reopens_nothing_and_what_is_undecided_is_decided_afterwards() {
        let mut merged = history(&[(300, Some(false)), (90, Some(true))]).unwrap();
        merged[0].is_merge = true;
        let mut states = told(true, false);
        let open = task(1, false);
        assert!(states.apply(&open, &View::Busy, 400).is_empty());
        assert_eq!(states, told(true, false));
        states.apply(&open, &at("M", "", Some(merged)), 400);
        assert_eq!(states.states["T1"].reopened, None);
        // A rebase that shows it open for a while and is given up: the row is what it was.
        let mut states = told(true, true);
        states.apply(&open, &View::Busy, 400);
        assert!(states.apply(&task(1, true), &at("A", "", history(&[(90, Some(true))])), 400).is_empty());
        // Never told: whatever brought it.
        for view in [View::Outside, View::Busy, at("A", "", None)] {
            assert_eq!(TaskStates::default().apply(&task(1, true), &view, 1).len(), 1);
        }
    }

    #[test]
    fn git_is_asked_only_where_a_task_may_have_changed() {
        let stands = |head: &str| Standpoint { head: Some(head.to_owned()), stash: None };
        for (state, is_done, head, asks) in [
            (told(true, false), true, "A", None),
            (told(true, false), true, "B", None),
            (told(true, false), false, "A", Some(100)),
            (told(false, false), false, "A", None),
            (told(false, false), false, "B", Some(100)),
            (told(false, true), false, "B", None),
            (told(false, true), true, "A", Some(200)),
            (told(true, true), true, "A", None),
            (told(true, true), true, "B", Some(200)),
            (TaskStates::default(), true, "B", None),
        ] {
            assert_eq!(state.asks(&task(1, is_done), &stands(head)), asks, "{state:?} {is_done} {head}");
        }
    }

    #[test]
    fn what_an_earlier_version_remembered_is_read() {
        let text = r#"{"states": {"T1": {"done": true, "times": 1}, "T2": {"done": false, "times": 1},
            "T3": {"done": false, "times": 0}}}"#;
        let mut states: TaskStates = serde_json::from_str(text).unwrap();
        let all = |done: [bool; 3]| rows(&(1..).zip(done.map(Some)).collect::<Vec<_>>());
        let now = all([true, true, true]);
        let told: Vec<_> = states
            .apply(&now, &View::Outside, 5)
            .iter()
            .map(|(row, times)| (row.id.clone(), *times))
            .collect();
        assert_eq!(told, [("T2".to_owned(), 2), ("T3".to_owned(), 1)]);
        let told = states.apply(&now, &View::Outside, 5);
        assert_eq!(states.completes(&now, &told), None, "none became Done");
        let again: TaskStates = serde_json::from_value(serde_json::to_value(&states).unwrap()).unwrap();
        assert_eq!(again, states);
    }

    #[test]
    fn boxes_that_an_earlier_version_did_not_read_are_known_as_they_are() {
        let text = r#"{"states": {"T1": {"done": false, "times": 0}}}"#;
        let mut states: TaskStates = serde_json::from_str(text).unwrap();
        let mut now = rows(&[(1, Some(true)), (2, Some(true)), (3, Some(false)), (4, Some(true))]);
        now[1].is_box = true;
        now[2].is_box = true;
        let ids = |told: Vec<(&TaskRow, u32)>| told.iter().map(|(row, _)| row.id.clone()).collect::<Vec<_>>();
        // Rows of tables are told as ever.
        assert_eq!(ids(states.apply(&now, &View::Outside, 5)), ["T1", "T4"]);
        now[2].is_done = true;
        let told = states.apply(&now, &View::Outside, 6);
        assert_eq!(states.completes(&now, &told), Some(1));
        assert_eq!(ids(told), ["T3"]);
        // One that was complete is known to be.
        let text = r#"{"states": {"T1": {"done": true, "times": 1}}}"#;
        let mut states: TaskStates = serde_json::from_str(text).unwrap();
        let now = rows(&[(1, Some(true)), (2, Some(true))]);
        let told = states.apply(&now, &View::Outside, 5);
        assert_eq!((told.len(), states.completes(&now, &told)), (1, None));
    }

    #[test]
    fn a_list_completes_with_its_last_open_task_and_again_after_work_left_one_open() {
        let (mut states, mut told) = (TaskStates::default(), Vec::new());
        let mut look = |what: &str, now: &[(u8, Option<bool>)], view: &View| {
            let now = rows(now);
            let became_done = states.apply(&now, view, 100);
            if let Some(times) = states.completes(&now, &became_done) {
                told.push((what.to_owned(), times));
            }
        };
        let (done, open, gone) = (Some(true), Some(false), None);
        let out = &View::Outside;
        look("nothing", &[], out);
        look("open ones", &[(1, open), (2, open)], out);
        look("one of two", &[(1, done), (2, open)], out);
        look("the last", &[(1, done), (2, done)], out);
        look("the same again", &[(1, done), (2, done)], out);
        look("a further one that is Done already", &[(1, done), (2, done), (3, done)], out);
        look("a new one", &[(1, done), (2, done), (3, done), (4, open)], out);
        look("the new one", &[(1, done), (2, done), (3, done), (4, done)], out);
        look("one is reopened", &[(1, open), (2, done)], out);
        look("it is Done again", &[(1, done), (2, done)], out);
        look("a new one", &[(1, done), (5, open)], out);
        look("the last open one is deleted", &[(1, done)], out);
        look("one is reopened", &[(1, open)], out);
        look("it is Done again, and it is the only one", &[(1, done)], out);
        look("two new ones", &[(1, done), (6, open), (7, open)], out);
        look("one Done, the other deleted", &[(1, done), (6, done), (7, gone)], out);
        // In a repo: an older commit has one open, and it is looked at and left again.
        let view = |head| at(head, "", history(&[(90, Some(true))]));
        look("a repo", &[(1, done), (6, done)], &view("A"));
        look("a switch", &[(1, open), (6, done)], &at("B", "", history(&[(80, Some(false))])));
        look("and back", &[(1, done), (6, done)], &view("A"));
        let expected = [
            ("the last", 1),
            ("the new one", 2),
            ("it is Done again", 3),
            ("it is Done again, and it is the only one", 4),
            ("one Done, the other deleted", 5),
        ];
        assert_eq!(told, expected.map(|(what, times)| (what.to_owned(), times)));
    }

    proptest! {
        /// Whatever versions there are, a list is told when a task was told and none is open, and
        /// in between one was open.
        #[test]
        fn a_list_is_told_with_a_task_and_once_until_one_is_open(
            versions in proptest::collection::vec(
                proptest::collection::vec(proptest::option::of(any::<bool>()), 3),
                1..20,
            ),
        ) {
            let (mut states, mut was_open, mut count) = (TaskStates::default(), true, 0);
            for version in versions {
                let now = rows(&(0..).zip(version).collect::<Vec<_>>());
                let became_done = states.apply(&now, &View::Outside, 1);
                let is_open = now.iter().any(|row| !row.is_done);
                was_open |= is_open;
                let times = states.completes(&now, &became_done);
                prop_assert_eq!(times.is_some(), !became_done.is_empty() && !is_open && was_open);
                if let Some(times) = times {
                    (count, was_open) = (count + 1, false);
                    prop_assert_eq!(times, count);
                }
                let text = serde_json::to_string(&states).unwrap();
                prop_assert_eq!(&serde_json::from_str::<TaskStates>(&text).unwrap(), &states);
            }
        }

        /// Versions of a file: each task absent, open or Done. Whatever versions are skipped, no
        /// transition is found that is not found when none is, and a task that is Done in the end
        /// and was seen open is found at least once.
        #[test]
        fn skipping_versions_never_invents_a_transition(
            versions in proptest::collection::vec(
                proptest::collection::vec(proptest::option::of(any::<bool>()), 4),
                1..12,
            ),
            kept in proptest::collection::vec(any::<bool>(), 12),
        ) {
            let versions: Vec<Vec<(u8, Option<bool>)>> =
                versions.into_iter().map(|states| (0..).zip(states).collect()).collect();
            let count = |versions: &mut dyn Iterator<Item = &Vec<(u8, Option<bool>)>>| {
                let mut states = TaskStates::default();
                let mut found: BTreeMap<String, u32> = BTreeMap::new();
                for version in versions {
                    for (row, times) in states.apply(&rows(version), &View::Outside, 1) {
                        let so_far = found.entry(row.id.clone()).or_default();
                        *so_far += 1;
                        assert_eq!(*so_far, times);
                    }
                }
                found
            };
            let all = count(&mut versions.iter());
            let seen = versions.iter().zip(&kept).filter(|(_, kept)| **kept);
            let some = count(&mut seen.map(|(version, _)| version));
            for (id, times) in some {
                prop_assert!(times <= all.get(&id).copied().unwrap_or(0), "{}", id);
            }
        }
    }
}
