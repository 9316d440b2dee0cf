//! What `workflow.yml` and `state.json` say of a run that its log leaves out: the commands of its
//! steps, what its gates ask, its errors.

use std::cell::RefCell;

use serde_json::{Map, Value};

use super::line::Step;
use super::yaml;
use crate::decode;
use crate::event::Stage;

/// Deepest nesting of steps that is looked through.
const MAX_DEPTH: usize = 32;

/// Where a step has steps of its own, beside `cases`.
const STEPS_INSIDE: [&str; 5] = ["steps", "then", "else", "default", "step"];

/// What a gate asks without saying so itself.
const MESSAGE: &str = "Review required.";
const OPTIONS: [&str; 2] = ["approve", "reject"];

/// See the module's first lines. Either file may be missing or behind the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    workflow: Option<Value>,
    state: Option<Value>,
    /// A workflow that this one calls makes a SPEC.
    called_specifies: bool,
}

/// What a gate asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gate {
    pub(super) message: Option<String>,
    pub(super) options: Vec<String>,
    pub(super) show_file: Option<String>,
    /// Nothing of it is still to be filled in.
    pub(super) is_whole: bool,
}

impl Facts {
    /// Takes `workflow.yml` as known; false where it cannot be read as one.
    pub(crate) fn read_workflow(&mut self, bytes: &[u8]) -> bool {
        self.workflow = yaml::read(&decode::text(bytes)).filter(Value::is_object);
        self.has_workflow()
    }

    /// The same with `state.json`. One that is being written leaves what is known.
    pub(crate) fn read_state(&mut self, bytes: &[u8]) -> bool {
        let Ok(state @ Value::Object(_)) = serde_json::from_slice(bytes) else { return false };
        self.state = Some(state);
        true
    }

    pub(crate) fn forget_state(&mut self) {
        self.state = None;
    }

    pub(crate) fn has_workflow(&self) -> bool {
        self.workflow.is_some()
    }

    /// Which workflow runs.
    pub(super) fn workflow_id(&self) -> Option<&str> {
        let in_workflow = || self.workflow.as_ref()?.get("workflow")?.get("id")?.as_str();
        let in_state = || self.state.as_ref()?.get("workflow_id")?.as_str();
        in_workflow().or_else(in_state)
    }

    /// Whether the run makes a SPEC, in its own workflow or in one that it calls.
    pub(super) fn specifies(&self) -> bool {
        self.called_specifies || self.workflow.as_ref().is_some_and(specifies)
    }

    /// The workflows that this one calls, as far as it names them without a template.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.workflow.as_ref().map(calls).unwrap_or_default()
    }

    /// Takes a workflow that is called as known; those that it calls itself.
    pub(crate) fn read_called(&mut self, bytes: &[u8]) -> Vec<String> {
        let Some(called) = yaml::read(&decode::text(bytes)) else { return Vec::new() };
        self.called_specifies |= specifies(&called);
        calls(&called)
    }

    /// The stage that a step's command runs: none where it is another one's; `None` where the
    /// command is not known.
    pub(super) fn stage(&self, step: &Step) -> Option<Option<Stage>> {
        let binding = self.binding(step);
        let config = self.config(step, binding.as_ref());
        let written = config.and_then(|config| config.get("command")).and_then(Value::as_str);
        let result = || self.result(step)?.get("output")?.get("command")?.as_str();
        match (written, config) {
            (Some(command), _) => Some(stage_of(command)),
            (None, Some(_)) => Some(None),
            (None, None) => result().map(stage_of),
        }
    }

    /// What a gate asks. Once it is paused, the state has it with everything filled in.
    pub(super) fn gate(&self, step: &Step, is_paused: bool) -> Gate {
        let output = self.result(step).and_then(|result| result.get("output")).filter(|_| is_paused);
        if let Some(output) = output.filter(|output| output.get("message").is_some()) {
            let text = |name: &str| output.get(name).and_then(as_text);
            let options = strings(output.get("options"));
            return Gate { message: text("message"), options, show_file: text("show_file"), is_whole: true };
        }
        let binding = self.binding(step);
        let Some(config) = self.config(step, binding.as_ref()) else { return Gate::default() };
        let mut is_whole = true;
        let mut filled = |name: &str, default: Option<&str>| {
            let given = config.get(name).and_then(as_text).or(default.map(str::to_owned))?;
            let filled = self.fill_in(&given);
            is_whole &= filled.is_some();
            filled
        };
        let (message, show_file) = (filled("message", Some(MESSAGE)), filled("show_file", None));
        let options = match config.get("options") {
            None => OPTIONS.map(str::to_owned).to_vec(),
            options => strings(options),
        };
        Gate { message, options, show_file, is_whole }
    }

    /// The error of a step, of the run itself for `None`.
    pub(super) fn error(&self, step: Option<&Step>) -> Option<String> {
        let of = match step {
            Some(step) => self.result(step),
            None => self.state.as_ref(),
        };
        of?.get("error")?.as_str().map(str::to_owned)
    }

    /// A text without templates; `None` where one cannot be filled in: what is not a plain path of
    /// the state is the engine's to work out.
    fn fill_in(&self, text: &str) -> Option<String> {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            let (path, after) = after.split_once("}}")?;
            filled += before;
            filled += &self.value_at(path.trim())?;
            rest = after;
        }
        Some(filled + rest)
    }

    fn value_at(&self, path: &str) -> Option<String> {
        let mut parts = path.split('.');
        let within = match parts.next()? {
            "inputs" => "inputs",
            "steps" => "step_results",
            _ => return None,
        };
        let of = self.state.as_ref()?.get(within)?;
        as_text(parts.try_fold(of, |value, part| value.get(part))?)
    }

    /// A step of the workflow in which it runs, as written.
    fn config<'a>(&'a self, step: &Step, binding: Option<&'a Value>) -> Option<&'a Map<String, Value>> {
        let workflow = if step.path.is_empty() { self.workflow.as_ref() } else { binding };
        let (steps, id) = (workflow?.get("steps")?, step.base());
        let is_it = |config: &Map<String, Value>| config.get("id").and_then(Value::as_str) == Some(id);
        find(steps, MAX_DEPTH, &is_it).or_else(|| {
            // One without an id has its place.
            let place: usize = id.strip_prefix("step-")?.parse().ok()?;
            steps.get(place)?.as_object().filter(|config| !config.contains_key("id"))
        })
    }

    /// What came of a step.
    fn result(&self, step: &Step) -> Option<&Value> {
        if step.path.is_empty() {
            return self.state.as_ref()?.get("step_results")?.get(&step.id);
        }
        self.node(step).last()?.get("result")
    }

    /// The workflow that another one calls and in which a step runs, as that was written then.
    fn binding(&self, step: &Step) -> Option<Value> {
        let nodes = self.node(step).into_iter().rev();
        let mut definitions = nodes.filter_map(|node| node.get("binding")?.get("definition")?.as_str());
        yaml::read(definitions.next()?)
    }

    /// The root of the state's execution tree.
    fn sequence(&self) -> Option<&Value> {
        self.state.as_ref()?.get("execution")?.get("sequence")
    }

    /// The nodes of the state's execution tree down to a step.
    fn node(&self, step: &Step) -> Vec<&Value> {
        let mut nodes = Vec::new();
        let Ok(path) = serde_json::from_str::<Vec<Value>>(&step.path) else { return nodes };
        let mut within = self.sequence();
        let mut parts = path.iter();
        while let Some(place) = parts.next().and_then(Value::as_u64) {
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            let node = within.and_then(|sequence| sequence.get("nodes")?.get(place));
            let Some(node) = node else { break };
            nodes.push(node);
            let child = match parts.next() {
                Some(Value::String(word)) if word == "item" => parts.next().and_then(Value::as_u64),
                Some(Value::String(_)) => Some(0),
                Some(iteration) => iteration.as_u64(),
                None => break,
            };
            let child = child.and_then(|child| usize::try_from(child).ok());
            within = child.and_then(|child| node.get("children")?.get(child));
        }
        nodes
    }
}

/// Where a run stands just now.
#[cfg(feature = "cli")]
impl Facts {
    /// Takes the steps that the state holds as the workflow, for a run without `workflow.yml`.
    pub(super) fn read_workflow_in_state(&mut self) -> bool {
        let source = self.sequence().and_then(|sequence| sequence.get("source")?.as_str());
        let workflow = source.map(|steps| format!("steps:\n{steps}")).unwrap_or_default();
        self.read_workflow(workflow.as_bytes())
    }

    /// The step of the run's own workflow at which it stands; `None` for a run that does not run.
    pub(super) fn current_step(&self) -> Option<Step> {
        let text = |name: &str| self.state.as_ref()?.get(name)?.as_str();
        let id = text("current_step_id").filter(|_| text("status") == Some("running"))?;
        Some(Step { id: id.to_owned(), path: String::new() })
    }

    /// The stages of the commands at which it stands: of several in a fan-out.
    pub(super) fn stages_now(&self) -> Vec<Stage> {
        let Some(current) = self.current_step() else { return Vec::new() };
        let mut found = Vec::new();
        if let Some(sequence) = self.sequence() {
            active(sequence, None, MAX_DEPTH, &mut found);
        }
        // Earlier versions have no tree.
        found.extend(self.stage(&current).flatten().filter(|_| found.is_empty()));
        found
    }
}

/// Adds the stages of the commands that are under way in a sequence of the state's tree; `shared`
/// are its steps where it does not say them itself.
#[cfg(feature = "cli")]
fn active(sequence: &Value, shared: Option<&Value>, depth: usize, found: &mut Vec<Stage>) {
    let own = sequence.get("source").and_then(Value::as_str);
    let own = own.and_then(|steps| yaml::read(&format!("steps:\n{steps}")));
    let own = own.as_ref().and_then(|own| own.get("steps")).or(shared);
    let list = |value: Option<&Value>| value.and_then(Value::as_array).cloned().unwrap_or_default();
    let (Some(depth), steps, nodes) = (depth.checked_sub(1), list(own), list(sequence.get("nodes"))) else {
        return;
    };
    let is_active = |node: &Value| node.get("active").and_then(Value::as_bool) == Some(true);
    for (step, node) in steps.iter().zip(&nodes).filter(|(_, node)| is_active(node)) {
        found.extend(step.get("command").and_then(Value::as_str).and_then(stage_of));
        let inside = |of: &str| node.get(of)?.get("definition")?.as_str().and_then(yaml::read);
        let template = node.get("template").and_then(Value::as_str).and_then(yaml::read);
        let of_call = inside("binding").and_then(|workflow| workflow.get("steps").cloned());
        let children = list(node.get("children"));
        // Later turns of a loop have the steps of its first one.
        let first = children.first().and_then(|child| child.get("source")?.as_str());
        let first = first.and_then(|steps| yaml::read(&format!("steps:\n{steps}"))?.get("steps").cloned());
        let shared = of_call.or_else(|| template.map(|step| Value::Array(vec![step]))).or(first);
        children.iter().for_each(|child| active(child, shared.as_ref(), depth, found));
    }
}

/// Whether a workflow has a step that makes a SPEC.
fn specifies(workflow: &Value) -> bool {
    let is_specify = |step: &Map<String, Value>| {
        let command = step.get("command").and_then(Value::as_str);
        command.and_then(stage_of) == Some(Stage::Specify)
    };
    workflow.get("steps").is_some_and(|steps| find(steps, MAX_DEPTH, &is_specify).is_some())
}

/// The installed workflows that a workflow calls.
fn calls(workflow: &Value) -> Vec<String> {
    let found = RefCell::new(Vec::new());
    let note = |step: &Map<String, Value>| {
        let is_call = step.get("type").and_then(Value::as_str) == Some("workflow");
        let called = step.get("workflow").and_then(Value::as_str).filter(|_| is_call);
        let is_id = |id: &&str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        found.borrow_mut().extend(called.filter(|id| !id.is_empty()).filter(is_id).map(str::to_owned));
        false
    };
    if let Some(steps) = workflow.get("steps") {
        find(steps, MAX_DEPTH, &note);
    }
    found.into_inner()
}

/// The first step for which something holds.
fn find<'a>(
    value: &'a Value,
    depth: usize,
    is_it: &dyn Fn(&Map<String, Value>) -> bool,
) -> Option<&'a Map<String, Value>> {
    let depth = depth.checked_sub(1)?;
    match value {
        Value::Array(list) => list.iter().find_map(|value| find(value, depth, is_it)),
        Value::Object(map) if is_it(map) => Some(map),
        Value::Object(map) => {
            let cases = map.get("cases").and_then(Value::as_object).into_iter().flat_map(Map::values);
            // What else a step has is its own: its `input` may have an `id` too.
            let mut inside = STEPS_INSIDE.iter().filter_map(|key| map.get(*key)).chain(cases);
            inside.find_map(|value| find(value, depth, is_it))
        }
        _ => None,
    }
}

/// The stage of `speckit.plan`, `/speckit.plan` or `speckit-plan`.
fn stage_of(command: &str) -> Option<Stage> {
    let command = command.trim().strip_prefix('/').unwrap_or(command.trim());
    let name = command.strip_prefix("speckit.").or_else(|| command.strip_prefix("speckit-"))?;
    name.parse().ok()
}

fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

fn strings(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(as_text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn facts(workflow: &str, state: &Value) -> Facts {
        let mut facts = Facts::default();
        assert!(workflow.is_empty() || facts.read_workflow(workflow.as_bytes()));
        facts.read_state(state.to_string().as_bytes());
        facts
    }

    fn step(id: &str, path: &str) -> Step {
        Step { id: id.to_owned(), path: path.to_owned() }
    }

    #[test]
    fn the_stage_of_a_command() {
        for (command, stage) in [
            ("speckit.plan", Some(Stage::Plan)),
            ("/speckit.specify", Some(Stage::Specify)),
            ("speckit-converge", Some(Stage::Converge)),
            ("/speckit-analyze ", Some(Stage::Analyze)),
            ("speckit.git.feature", None),
            ("plan", None),
            ("", None),
        ] {
            assert_eq!(stage_of(command), stage, "{command}");
        }
    }

    #[test]
    fn a_step_is_found_in_loops_in_branches_and_in_the_workflows_that_are_called() {
        let workflow = "workflow: {id: w}\nsteps:\n- id: loop\n  type: while\n  steps:\n  \
                        - {id: plan, command: speckit.plan}\n- command: speckit.tasks\n\
                        - {id: call, type: workflow, workflow: inner}\n\
                        - {id: in, input: {id: sh, command: speckit.plan}}\n- {id: sh, run: ls}\n";
        let definition = "steps:\n- {id: plan, command: speckit.analyze}\n\
                          - {id: ask, type: gate, message: 'Go?'}\n";
        let call = json!({"binding": {"workflow": "inner", "definition": definition},
            "children": [{"nodes": [{}, {"result": {"error": "no"}}]}]});
        let state = json!({"execution": {"sequence": {"nodes": [{}, {}, call]}},
            "step_results": {"made": {"output": {"command": "speckit.converge"}}}});
        let facts = facts(workflow, &state);
        for (id, path, stage) in [
            ("plan", "", Some(Some(Stage::Plan))),
            ("loop:plan:2", "", Some(Some(Stage::Plan))),
            ("step-1", "", Some(Some(Stage::Tasks))),
            ("plan", r#"[2,"workflow",0]"#, Some(Some(Stage::Analyze))),
            ("sh", "", Some(None)),
            ("made", "", Some(Some(Stage::Converge))),
            ("unknown", "", None),
            ("plan", "[7]", None),
        ] {
            assert_eq!(facts.stage(&step(id, path)), stage, "{id} {path}");
        }
        let asked = facts.gate(&step("ask", r#"[2,"workflow",1]"#), false);
        assert_eq!((asked.message.as_deref(), asked.options.len(), asked.is_whole), (Some("Go?"), 2, true));
        assert_eq!(facts.error(Some(&step("ask", r#"[2,"workflow",1]"#))), Some("no".to_owned()));
        assert!(!facts.specifies() && facts.workflow_id() == Some("w"));
    }

    #[test]
    fn what_a_gate_asks_is_filled_in_or_left_out() {
        let workflow = "steps:\n- id: a\n  type: gate\n  \
                        message: 'Ship {{ inputs.what }} of {{steps.s.output.n}}?'\n  \
                        options: [yes, reject]\n\
                        - {id: b, message: '{{ inputs.what | upper }}', show_file: '{{ inputs.file }}'}\n\
                        - {id: c, type: gate}\n";
        let output = json!({"message": "IT", "options": ["ok"], "show_file": "spec.md"});
        let state = json!({"inputs": {"what": "it", "file": "spec.md"},
            "step_results": {"s": {"output": {"n": 3}}, "b": {"output": output}}});
        let facts = facts(workflow, &state);
        let gate = |message: Option<&str>, options: &[&str], show_file: Option<&str>, is_whole| Gate {
            message: message.map(str::to_owned),
            options: options.iter().map(|&option| option.to_owned()).collect(),
            show_file: show_file.map(str::to_owned),
            is_whole,
        };
        let default = &OPTIONS;
        for (id, is_paused, expected) in [
            ("a", false, gate(Some("Ship it of 3?"), &["yes", "reject"], None, true)),
            ("b", false, gate(None, default, Some("spec.md"), false)),
            ("b", true, gate(Some("IT"), &["ok"], Some("spec.md"), true)),
            ("c", true, gate(Some(MESSAGE), default, None, true)),
            ("d", true, Gate::default()),
        ] {
            assert_eq!(facts.gate(&step(id, ""), is_paused), expected, "{id} {is_paused}");
        }
    }
}
