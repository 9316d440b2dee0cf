//! What is known of the repo that a task list is in: whether git is at work there, and, where a
//! task changed, what its commits say. Blocks, for as long as git may take.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock;
use crate::decode;
use crate::sources::done::{TaskStates, View};
use crate::sources::git;
use crate::sources::standpoint::{Glance, Standpoint};
use crate::sources::tasks::{TaskFile, TaskRow};

/// How long git must have left its index alone: HEAD and the stash are written after it.
const LULL: Duration = Duration::from_millis(200);

/// See the module's first lines.
pub(super) struct Lists {
    /// Where each repo stands, as long as a glance at it is the same.
    standpoints: HashMap<PathBuf, (Glance, Standpoint)>,
    /// It was said that git cannot be asked.
    has_said: bool,
    pub(super) patience: Duration,
    pub(super) lull: Duration,
    /// Seconds since the epoch.
    pub(super) now: Box<dyn Fn() -> i64 + Send>,
}

impl Lists {
    pub(super) fn new() -> Self {
        Self {
            standpoints: HashMap::new(),
            has_said: false,
            patience: git::PATIENCE,
            lull: LULL,
            now: Box::new(|| clock::now().as_second()),
        }
    }

    /// What is known of the repo at a glance; `None` while git is writing there: the list is to be
    /// looked at later.
    pub(super) fn view(
        &mut self,
        path: &Path,
        file: &TaskFile<'_>,
        text: &str,
        rows: &[TaskRow],
        states: &TaskStates,
        glance: Option<&Glance>,
    ) -> Option<View> {
        let (Some(glance), Some(folder), Some(name)) = (glance, path.parent(), path.file_name()) else {
            return Some(View::Outside);
        };
        if glance.is_in_the_middle || has_conflicts(text) {
            return Some(View::Busy);
        }
        let standpoint = self.standpoint(folder, glance);
        let Some(since) = states.asks(rows, &standpoint) else { return Some(View::At(standpoint, None)) };
        if glance.is_being_written(self.lull) {
            return None;
        }
        let done_rows = |bytes: &[u8]| {
            file.rows(&decode::text(bytes)).into_iter().map(|row| (row.id, row.is_done)).collect()
        };
        let history = git::history(folder, name, since, self.patience, done_rows);
        // It moved while git looked.
        if Glance::at(folder).as_ref() != Some(glance) {
            return None;
        }
        let history = history.map_err(|error| self.say(&error)).ok();
        Some(View::At(standpoint, history))
    }

    fn standpoint(&mut self, folder: &Path, glance: &Glance) -> Standpoint {
        if let Some((seen, standpoint)) = self.standpoints.get(glance.git_dir())
            && seen == glance
        {
            return standpoint.clone();
        }
        let standpoint = glance.standpoint(folder, self.patience).unwrap_or_else(|error| {
            self.say(&error);
            glance.stand_in()
        });
        self.standpoints.insert(glance.git_dir().to_owned(), (glance.clone(), standpoint.clone()));
        standpoint
    }

    fn say(&mut self, error: &io::Error) {
        if std::mem::replace(&mut self.has_said, true) {
            return;
        }
        log::warn!(
            "git cannot be asked ({error}): while that is so, a task that changes together with HEAD \
             counts as neither reopened nor done again; install git, or let it read this repo"
        );
    }
}

/// Whether a merge left its marks in a text: which side counts is not decided yet.
fn has_conflicts(text: &str) -> bool {
    let mut marks = ["<<<<<<< ", "=======", ">>>>>>> "].into_iter().peekable();
    for line in text.lines() {
        if marks.peek().is_some_and(|mark| line.starts_with(mark)) {
            marks.next();
        }
    }
    marks.peek().is_none()
}
