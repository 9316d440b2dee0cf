//! Whether a workflow run of GitHub Spec Kit stands at a command just now: then the run tells how
//! it ended, and who else saw it end does not.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Facts, place};
use crate::clock;
use crate::event::Stage;
use crate::files::open::{self, Links};

/// Runs that are looked at: those that moved last.
const MAX_RUNS: usize = 64;

/// Largest file of a run that is read.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// A run that has not moved for so long is none any more, whatever it says of itself.
const STALE: Duration = Duration::from_secs(24 * 60 * 60);

/// Whether a run in one of these folders is at the command of this stage. One that cannot be read
/// is at none.
pub(crate) fn stands_at(folders: &[PathBuf], stage: Stage) -> bool {
    let runs = folders.iter().flat_map(|folder| place(folder).folders());
    let mut runs: Vec<(SystemTime, PathBuf)> = runs.filter_map(|run| Some((moved_at(&run)?, run))).collect();
    runs.sort_unstable_by(|a, b| b.cmp(a));
    runs.iter().take(MAX_RUNS).any(|(_, run)| stages_of_run(run).contains(&stage))
}

/// When a run moved last, unless that is long ago.
fn moved_at(run: &Path) -> Option<SystemTime> {
    let at = fs::symlink_metadata(run.join("state.json")).ok()?.modified().ok()?;
    // One of the future is a clock's fault, and the run is young.
    clock::age(at).is_none_or(|age| age < STALE).then_some(at)
}

/// The stages of the commands that a run stands at.
fn stages_of_run(run: &Path) -> Vec<Stage> {
    let read = |name: &str| open::whole(&run.join(name), Links::Refused, MAX_BYTES).ok();
    let mut facts = Facts::default();
    let is_read = read("state.json").is_some_and(|state| facts.read_state(&state));
    // Most runs are over.
    if !is_read || facts.current_step().is_none() {
        return Vec::new();
    }
    match read("workflow.yml") {
        Some(workflow) => facts.read_workflow(&workflow),
        None => facts.read_workflow_in_state(),
    };
    facts.stages_now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

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

    fn state(status: &str, step: &str) -> String {
        json!({"status": status, "current_step_id": step}).to_string()
    }

    #[test]
    fn the_stage_of_a_run_is_that_of_the_command_beside_its_step_s_id() {
        let dir = tempfile::tempdir().unwrap();
        for (step, stage) in [
            ("plan", Some(Stage::Plan)),
            ("tasks", Some(Stage::Tasks)),
            ("repair", Some(Stage::Implement)),
            ("branch", None),
            ("each", None),
            ("one", Some(Stage::Analyze)),
            ("each:one:2", Some(Stage::Analyze)),
            ("sh", None),
            ("last", None),
            ("none", None),
            ("", None),
        ] {
            fs::write(dir.path().join("workflow.yml"), STEPS).unwrap();
            fs::write(dir.path().join("state.json"), state("running", step)).unwrap();
            assert_eq!(stages_of_run(dir.path()), Vec::from_iter(stage), "{step}");
            // As a run has them that took its steps into its state.
            fs::remove_file(dir.path().join("workflow.yml")).unwrap();
            let source = STEPS.split_once("steps:\n").unwrap().1;
            let held = json!({"status": "running", "current_step_id": step,
                "execution": {"sequence": {"source": source}}});
            fs::write(dir.path().join("state.json"), held.to_string()).unwrap();
            assert_eq!(stages_of_run(dir.path()), Vec::from_iter(stage), "{step}");
        }
    }

    #[test]
    fn a_run_stands_at_all_commands_of_its_tree_that_are_under_way() {
        let dir = tempfile::tempdir().unwrap();
        let active = |more: Value| {
            let mut node = json!({"phase": "children", "active": true});
            node.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            node
        };
        let leaf = || json!({"nodes": [active(json!({}))]});
        let done = json!({"nodes": [{"phase": "done", "active": false}]});
        let called = "steps:\n- {id: in, command: speckit.tasks}\n";
        for (step, node, stages) in [
            (
                "{id: call, type: workflow, workflow: inner}",
                active(json!({"binding": {"definition": called}, "children": [leaf()]})),
                vec![Stage::Tasks],
            ),
            (
                "{id: each, type: fan-out, step: {}}",
                active(
                    json!({"template": "{command: speckit.implement}", "children": [done, leaf(), leaf()]}),
                ),
                vec![Stage::Implement; 2],
            ),
            (
                "{id: loop, type: while, steps: []}",
                active(json!({"children": [{"source": "- {id: a, command: speckit.analyze}\n",
                    "nodes": [{"phase": "done", "active": false}]}, leaf()]})),
                vec![Stage::Analyze],
            ),
            ("{id: sh, type: shell}", active(json!({})), vec![]),
            ("{id: plan, command: speckit.plan}", json!({"phase": "done", "active": false}), vec![]),
        ] {
            let sequence = json!({"source": format!("- {step}\n"), "nodes": [node]});
            let held =
                json!({"status": "running", "current_step_id": "x", "execution": {"sequence": sequence}});
            fs::write(dir.path().join("state.json"), held.to_string()).unwrap();
            assert_eq!(stages_of_run(dir.path()), stages, "{step}");
        }
    }

    #[test]
    fn a_run_that_runs_stands_at_its_step_and_no_other_does() {
        let dir = tempfile::tempdir().unwrap();
        let runs = place(dir.path()).root;
        let put = |run: &str, file: &str, text: &str| {
            let run = runs.join(run);
            fs::create_dir_all(&run).unwrap();
            fs::write(run.join(file), text).unwrap();
        };
        let stands = || [Stage::Plan, Stage::Tasks].map(|stage| stands_at(&[dir.path().to_owned()], stage));
        assert_eq!(stands(), [false, false]);
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
        fs::create_dir_all(runs.join("e/state.json")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", runs.join("b/workflow.yml")).unwrap();
        assert_eq!(stands(), [false, false]);
        let source = json!({"sequence": {"source": "- id: now\n  command: speckit.tasks\n"}});
        let running = json!({"status": "running", "current_step_id": "now", "execution": source});
        put("f", "state.json", &running.to_string());
        assert_eq!(stands(), [false, true]);
        // What has not moved for a day is dead.
        let file = fs::File::open(runs.join("f/state.json")).unwrap();
        file.set_modified(SystemTime::now() - STALE - Duration::from_secs(60)).unwrap();
        assert_eq!(stands(), [false, false]);
    }
}
