//! Which tasks, and lists of tasks, became Done by work: a plain decision over what is remembered
//! of a list, its rows now, and what git says. A task is told as Done once over all branches until
//! work reopens it; that git puts another version of the list there is no work.

#[cfg(test)]
mod tests;

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
