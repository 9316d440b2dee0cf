//! Whether a workflow run of GitHub Spec Kit stands at a command just now: then the run tells how
//! it ended, and who else saw it end does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Deserialize;

use super::place::folders;
use crate::clock;
use crate::event::Stage;
use crate::files::open::{self, Links};

/// Where the runs lie, in a repo.
const RUNS: &str = ".specify/workflows/runs";

/// Runs that are looked at: those that moved last.
const MAX_RUNS: usize = 64;

/// Largest file of a run that is read.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A run that has not moved for so long is none any more, whatever it says of itself.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// What matters of `state.json`.
#[derive(Deserialize)]
struct State {
    status: String,
    current_step_id: String,
    #[serde(default)]
    execution: Option<Execution>,
}

#[derive(Deserialize)]
struct Execution {
    sequence: Sequence,
}

/// The steps as they were when the run began.
#[derive(Deserialize)]
struct Sequence {
    source: String,
}

/// Whether a run in this repo is at the command of this stage. One that cannot be read is at none.
pub(crate) fn stands_at(repo: &Path, stage: Stage) -> bool {
    let runs = folders(&repo.join(RUNS)).into_iter().filter_map(|run| Some((moved_at(&run)?, run)));
    let mut runs: Vec<(SystemTime, PathBuf)> = runs.collect();
    runs.sort_unstable_by(|a, b| b.cmp(a));
    runs.iter().take(MAX_RUNS).any(|(_, run)| stage_of_run(run).is_some_and(|name| name == stage.slug()))
}

/// When a run moved last, unless that is long ago.
fn moved_at(run: &Path) -> Option<SystemTime> {
    let at = fs::symlink_metadata(run.join("state.json")).ok()?.modified().ok()?;
    // One of the future is a clock's fault, and the run is young.
    clock::age(at).is_none_or(|age| age < STALE).then_some(at)
}

/// The name of the `speckit` command that a run stands at.
fn stage_of_run(run: &Path) -> Option<String> {
    let read = |name: &str| open::whole(&run.join(name), Links::Refused, MAX_BYTES).ok();
    let state: State = serde_json::from_slice(&read("state.json")?).ok()?;
    if state.status != "running" {
        return None;
    }
    let steps = match state.execution {
        Some(execution) => execution.sequence.source,
        None => String::from_utf8(read("workflow.yml")?).ok()?,
    };
    let command = command_of(&steps, &state.current_step_id)?;
    let command = command.strip_prefix('/').unwrap_or(command);
    Some(command.strip_prefix("speckit.")?.to_owned())
}

/// The command of a step, in the YAML that Spec Kit writes: a step is an item of a list with its
/// keys on lines of their own. A step of a later round of a loop is `<loop>:<step>:<round>`.
fn command_of<'a>(steps: &'a str, step: &str) -> Option<&'a str> {
    let in_a_loop = step.rsplit(':').nth(1);
    // The keys of the mappings that are open: how far they are indented, and what was seen of each.
    let mut open: Vec<(usize, bool, Option<&str>)> = Vec::new();
    for line in steps.lines() {
        let mut rest = line.trim_start_matches(' ');
        let mut indent = line.len() - rest.len();
        while let Some(item) = rest.strip_prefix("- ") {
            open.retain(|(at, ..)| *at <= indent);
            (rest, indent) = (item, indent + 2);
            open.push((indent, false, None));
        }
        open.retain(|(at, ..)| *at <= indent);
        let Some((key, value)) = rest.split_once(':') else { continue };
        if open.last().is_none_or(|(at, ..)| *at < indent) {
            open.push((indent, false, None));
        }
        let Some((_, is_it, command)) = open.last_mut() else { continue };
        let value = value.trim().trim_matches(['\'', '"']);
        match key {
            "id" => *is_it |= value == step || Some(value) == in_a_loop,
            "command" => *command = Some(value),
            _ => {}
        }
        if let (true, Some(command)) = (*is_it, *command) {
            return Some(command);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const STEPS: &str = "\
workflow:
  id: tasks
  command: speckit.tasks
steps:
- id: plan
  command: /speckit.plan
  input:
    id: tasks
- command: speckit.tasks
  id: tasks
- id: branch
  type: if
  then:
  - id: repair
    command: 'speckit.implement'
- id: each
  type: fan-out
  step:
    id: one
    command: \"speckit.analyze\"
- id: sh
  run: echo command
- id: last
  command: other.thing
";

    #[test]
    fn the_command_of_a_step_is_the_one_beside_its_id() {
        for (step, command) in [
            ("plan", Some("/speckit.plan")),
            ("repair", Some("speckit.implement")),
            ("branch", None),
            ("each", None),
            ("one", Some("speckit.analyze")),
            ("each:one:2", Some("speckit.analyze")),
            ("sh", None),
            ("last", Some("other.thing")),
            ("none", None),
            ("", None),
        ] {
            assert_eq!(command_of(STEPS.split_once("steps:\n").unwrap().1, step), command, "{step}");
        }
    }

    #[test]
    fn a_run_that_runs_stands_at_its_step_and_no_other_does() {
        let dir = tempfile::tempdir().unwrap();
        let put = |run: &str, file: &str, text: &str| {
            let run = dir.path().join(RUNS).join(run);
            fs::create_dir_all(&run).unwrap();
            fs::write(run.join(file), text).unwrap();
        };
        let stands = || [Stage::Plan, Stage::Tasks].map(|stage| stands_at(dir.path(), stage));
        assert_eq!(stands(), [false, false]);
        let state = |status: &str, step: &str| json!({"status": status, "current_step_id": step}).to_string();
        put("a", "workflow.yml", STEPS);
        for status in ["paused", "completed", "failed", "aborted", "created"] {
            put("a", "state.json", &state(status, "plan"));
            assert_eq!(stands(), [false, false], "{status}");
        }
        put("a", "state.json", &state("running", "plan"));
        assert_eq!(stands(), [true, false]);
        put("a", "state.json", &state("running", "sh"));
        assert_eq!(stands(), [false, false]);
        // Beside runs that are over, and broken ones.
        put("b", "state.json", "{\"status\": \"running\", \"current_step_id\"");
        put("c", "state.json", &state("running", "plan"));
        put("d", "state.json", &json!({"status": "running", "current_step_id": null}).to_string());
        fs::create_dir_all(dir.path().join(RUNS).join("e/state.json")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", dir.path().join(RUNS).join("b/workflow.yml")).unwrap();
        assert_eq!(stands(), [false, false]);
        let source = json!({"sequence": {"source": "- id: now\n  command: speckit.tasks\n"}});
        let running = json!({"status": "running", "current_step_id": "now", "execution": source});
        put("f", "state.json", &running.to_string());
        assert_eq!(stands(), [false, true]);
        // What has not moved for a day is dead.
        let file = fs::File::open(dir.path().join(RUNS).join("f/state.json")).unwrap();
        file.set_modified(SystemTime::now() - STALE - Duration::from_secs(60)).unwrap();
        assert_eq!(stands(), [false, false]);
    }
}
