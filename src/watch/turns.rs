//! In which order files that are due are read: those of a group by when their stages ended, unless
//! it is a crowd, and groups in turn. A plain decision, with no I/O.

use std::collections::VecDeque;

use super::settle::{Due, Group};

/// One file whose turn it is.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) due: Due,
    /// It waits for none of its group.
    pub(super) is_of_a_crowd: bool,
}

/// See the module's first lines.
#[derive(Debug)]
pub(super) struct Turns(VecDeque<(VecDeque<Due>, bool)>);

impl Turns {
    pub(super) fn of(groups: Vec<Group>) -> Self {
        let ordered = groups.into_iter().map(|Group { mut due, is_a_crowd, .. }| {
            if !is_a_crowd {
                due.sort_by_key(|due| due.ended_at);
            }
            (due.into(), is_a_crowd)
        });
        Self(ordered.collect())
    }
}

impl Iterator for Turns {
    type Item = Turn;

    fn next(&mut self) -> Option<Turn> {
        let (mut files, is_of_a_crowd) = self.0.pop_front()?;
        let due = files.pop_front()?;
        if !files.is_empty() {
            self.0.push_back((files, is_of_a_crowd));
        }
        Some(Turn { due, is_of_a_crowd })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_folder_is_read_in_the_order_of_its_stages_a_crowd_as_it_comes_and_folders_in_turn() {
        let folder = |path: &str, count: u64, is_a_crowd| {
            let due = |n: u64| Due {
                path: Path::new(path).join(n.to_string()),
                stamp: (0, 0),
                // They ended in another order than they came.
                ended_at: -i128::from(n),
                is_final: false,
            };
            Group { of: path.into(), due: (0..count).map(due).collect(), first_waiting: None, is_a_crowd }
        };
        let turns = Turns::of(vec![folder("a", 3, false), folder("b", 1, false), folder("c", 2, true)]);
        let told: Vec<String> = turns.map(|turn| turn.due.path.display().to_string()).collect();
        assert_eq!(told, ["a/2", "b/0", "c/0", "a/1", "c/1", "a/0"]);
    }
}
