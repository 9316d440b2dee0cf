//! Which tasks of a SPEC are not Done: read from the repo's tracker, the SPEC's own list and those
//! of `task_files` when a run ends. Blocks.

use std::path::{Path, PathBuf};

use super::lists::TaskLists;
use super::tasks::TaskFile;
use crate::config::Config;
use crate::decode;
use crate::event::SpecId;
use crate::files::open::{self, Links};

/// Largest file of tasks that is read.
pub(crate) const MAX_TASKS_BYTES: u64 = 8 * 1024 * 1024;

/// The tasks of `spec` that are not Done, one sentence each. A file that is not there has none.
pub(crate) fn tasks(config: &Config, spec: &SpecId) -> Vec<String> {
    let own = Path::new("docs").join(spec.as_str()).join("tasks.md");
    let mut lists = vec![PathBuf::from("SPEC.md"), own];
    for list in TaskLists::of(config).further() {
        let inside = list.strip_prefix(&config.repo).unwrap_or(&list).to_owned();
        if !lists.contains(&inside) {
            lists.push(inside);
        }
    }
    lists[2..].sort_unstable();
    lists.iter().flat_map(|list| open_tasks(config, list, spec)).collect()
}

fn open_tasks(config: &Config, list: &Path, spec: &SpecId) -> Vec<String> {
    let Ok(bytes) = open::start(&config.repo.join(list), Links::Refused, MAX_TASKS_BYTES) else {
        return Vec::new();
    };
    let (text, file) = (decode::text(&bytes), TaskFile::of(list, config));
    let open = file.rows(&text).into_iter().filter(|row| !row.is_done && row.spec == *spec);
    open.map(|row| {
        let title = row.title.map(|title| format!(" ({title})")).unwrap_or_default();
        format!("task {}{title} is {}, not Done", row.id, row.status)
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{LoadOptions, load};
    use crate::env::Environment;
    use std::fs;

    #[test]
    fn what_is_not_done_of_the_spec_and_of_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let options =
            LoadOptions { config: None, repo: None, working_dir: dir.path().to_owned(), secrets: false };
        let config = load(&options, &Environment::fixed([])).config.unwrap();
        let spec: SpecId = "SPEC-KIT-065-x".parse().unwrap();
        assert_eq!(tasks(&config, &spec), Vec::<String>::new());
        fs::create_dir_all(dir.path().join("docs/SPEC-KIT-065-x")).unwrap();
        let tracker = "| Task ID | Title | Status | PRD |\n|---|---|---|---|\n\
                       | T1 | Write | In Progress | docs/SPEC-KIT-065-x/PRD.md |\n\
                       | T2 | Read | Done | docs/SPEC-KIT-065-x/PRD.md |\n\
                       | T3 | Other | Backlog | docs/SPEC-KIT-066-y/PRD.md |\n";
        fs::write(dir.path().join("SPEC.md"), tracker).unwrap();
        let own = "| Order | Task | Status |\n|---|---|---|\n| 1 | a | Done |\n| 2 | b | Backlog |\n";
        fs::write(dir.path().join("docs/SPEC-KIT-065-x/tasks.md"), own).unwrap();
        let expected = ["task T1 (Write) is In Progress, not Done", "task 2 (b) is Backlog, not Done"];
        assert_eq!(tasks(&config, &spec), expected);
        // One that is named twice is asked once.
        let config = |globs: &[&str]| {
            let globs = globs.iter().map(|glob| glob.parse().unwrap()).collect();
            Config { task_files: globs, ..config.clone() }
        };
        let further = "| ID | Status | PRD |\n|---|---|---|\n| F1 | Open | docs/SPEC-KIT-065-x/PRD.md |\n";
        fs::create_dir(dir.path().join("plans")).unwrap();
        fs::write(dir.path().join("plans/b.md"), further).unwrap();
        let found = tasks(&config(&["plans/*.md", "**/b.md", "SPEC.md"]), &spec);
        assert_eq!(found, [&expected[..], &["task F1 is Open, not Done"]].concat());
    }
}
