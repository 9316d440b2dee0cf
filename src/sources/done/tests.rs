//! What counts as work on a task, over every order of looks.

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
    let told: Vec<_> =
        states.apply(&now, &View::Outside, 5).iter().map(|(row, times)| (row.id.clone(), *times)).collect();
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
