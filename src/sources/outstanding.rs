//! Which tasks of a SPEC are not Done: read when a run ends from the tracker and the SPEC's own
//! lists in the folder that the run is of, and from those of `task_files`. Blocks.

use std::path::{Path, PathBuf};

use super::lists::TaskLists;
use super::tasks::TaskFile;
use crate::config::Config;
use crate::decode;
use crate::event::SpecId;
use crate::files::open::{self, Links};

/// Largest file of tasks that is read.
pub(crate) const MAX_TASKS_BYTES: u64 = 8 * 1024 * 1024;

/// The tasks of `spec` that are not Done in these folders, which hold sources: one sentence each. A
/// file that is not there has none.
pub(crate) fn tasks(config: &Config, folders: &[PathBuf], spec: &SpecId) -> Vec<String> {
    let all = TaskLists::of(config);
    let mut further: Vec<PathBuf> = all.further().collect();
    let mut lists: Vec<PathBuf> = Vec::new();
    for folder in folders {
        lists.extend([folder.join("SPEC.md"), folder.join("docs").join(spec.as_str()).join("tasks.md")]);
        further.extend(all.of_feature(folder, spec));
    }
    further.sort_unstable();
    further.dedup();
    further.retain(|list| !lists.contains(list));
    lists.iter().chain(&further).flat_map(|list| open_tasks(config, list, spec)).collect()
}

fn open_tasks(config: &Config, list: &Path, spec: &SpecId) -> Vec<String> {
    let Ok(bytes) = open::start(list, Links::Refused, MAX_TASKS_BYTES) else {
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
        let options = LoadOptions {
            config: None,
            repo: None,
            working_dir: dir.path().to_owned(),
            secrets: false,
            role: None,
        };
        let config = load(&options, &Environment::fixed([])).config.unwrap();
        let spec: SpecId = "SPEC-KIT-065-x".parse().unwrap();
        assert_eq!(tasks(&config, &config.source_roots, &spec), Vec::<String>::new());
        fs::create_dir_all(dir.path().join("docs/SPEC-KIT-065-x")).unwrap();
        let tracker = "| Task ID | Title | Status | PRD |\n|---|---|---|---|\n\
                       | T1 | Write | In Progress | docs/SPEC-KIT-065-x/PRD.md |\n\
                       | T2 | Read | Done | docs/SPEC-KIT-065-x/PRD.md |\n\
                       | T3 | Other | Backlog | docs/SPEC-KIT-066-y/PRD.md |\n";
        fs::write(dir.path().join("SPEC.md"), tracker).unwrap();
        let own = "| Order | Task | Status |\n|---|---|---|\n| 1 | a | Done |\n| 2 | b | Backlog |\n";
        fs::write(dir.path().join("docs/SPEC-KIT-065-x/tasks.md"), own).unwrap();
        let expected = ["task T1 (Write) is In Progress, not Done", "task 2 (b) is Backlog, not Done"];
        assert_eq!(tasks(&config, &config.source_roots, &spec), expected);
        // One that is named twice is asked once.
        let config = |globs: &[&str]| {
            let globs = globs.iter().map(|glob| glob.parse().unwrap()).collect();
            Config { task_files: globs, ..config.clone() }
        };
        let further = "| ID | Status | PRD |\n|---|---|---|\n| F1 | Open | docs/SPEC-KIT-065-x/PRD.md |\n";
        fs::create_dir(dir.path().join("plans")).unwrap();
        fs::write(dir.path().join("plans/b.md"), further).unwrap();
        let of = |config: &Config, spec: &SpecId| tasks(config, &config.source_roots, spec);
        let found = of(&config(&["plans/*.md", "**/b.md", "SPEC.md"]), &spec);
        assert_eq!(found, [&expected[..], &["task F1 is Open, not Done"]].concat());
        // The feature's own, and no other's.
        let boxes = "- [x] T001 Read\n- [ ] T002 [P] Write\n- [~] T003\n- [ ] no task\n";
        for folder in ["specs/002-x/phase-2", "specs/003-y"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            fs::write(dir.path().join(folder).join("tasks.md"), "- [ ] P1 Later\n").unwrap();
        }
        fs::write(dir.path().join("specs/002-x/tasks.md"), boxes).unwrap();
        let expected = [
            "task P1 (Later) is Open, not Done",
            "task T002 (Write) is Open, not Done",
            "task T003 is [~], not Done",
        ];
        let feature = "002-x".parse().unwrap();
        assert_eq!(of(&config(&[]), &feature), expected);
        assert_eq!(of(&config(&["specs/**/tasks.md"]), &feature), expected);
    }
}
