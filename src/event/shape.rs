//! The types of published fields that an event carries without knowing them as its own. What the
//! schema says of them holds for every event that is accepted, whoever made it.

use serde_json::{Map, Value};

use super::{Event, EventError, EventKind};

/// What a field holds.
enum Shape {
    Text,
    Number,
    /// From 0.
    Integer,
    /// Of anything.
    List,
    Texts,
    Object(Fields),
    Objects(Fields),
}

type Fields = &'static [(&'static str, Shape)];

const EVENT: Fields = &[
    (
        "cost",
        Shape::Object(&[
            ("totalUsd", Shape::Number),
            ("budgetUsd", Shape::Number),
            ("perStage", Shape::Object(&[])),
        ]),
    ),
    ("followUps", Shape::Texts),
    (
        "anomaly",
        Shape::Object(&[
            ("disagreements", Shape::List),
            ("thresholdUsd", Shape::Number),
            ("totalUsd", Shape::Number),
            ("run", Shape::Integer),
            ("since", Shape::Text),
            ("hint", Shape::Text),
        ]),
    ),
];

/// Of other events, a `message` is the emitter's own.
const SAMPLE: Fields = &[("message", Shape::Text)];

/// Of other events, `tasks` are the emitter's own.
const TASK_LIST: Fields = &[("tasks", Shape::Object(&[("done", Shape::Integer), ("total", Shape::Integer)]))];

const PIPELINE: Fields = &[
    (
        "run",
        Shape::Object(&[
            ("id", Shape::Text),
            ("folder", Shape::Text),
            ("workflow", Shape::Text),
            ("step", Shape::Text),
        ]),
    ),
    (
        "gate",
        Shape::Object(&[
            ("step", Shape::Text),
            ("message", Shape::Text),
            ("options", Shape::Texts),
            ("showFile", Shape::Text),
        ]),
    ),
    ("durationMs", Shape::Integer),
    (
        "stages",
        Shape::Objects(&[
            ("stage", Shape::Text),
            ("status", Shape::Text),
            ("attempt", Shape::Integer),
            ("startedAt", Shape::Text),
            ("completedAt", Shape::Text),
            ("durationMs", Shape::Integer),
        ]),
    ),
];

const CONSENSUS: Fields =
    &[("agreements", Shape::List), ("conflicts", Shape::List), ("omitted", Shape::Text)];

const AGENT: Fields = &[
    ("agent", Shape::Text),
    ("model", Shape::Text),
    ("model_release", Shape::Text),
    ("reasoning_mode", Shape::Text),
];

impl Event {
    pub(super) fn check_shape(&self) -> Result<(), EventError> {
        check("", &self.extra, EVENT)?;
        if self.event.kind == EventKind::Test {
            check("", &self.extra, SAMPLE)?;
        }
        if self.event.kind == EventKind::TaskListCompleted {
            check("", &self.extra, TASK_LIST)?;
        }
        if let Some(pipeline) = &self.pipeline {
            check("pipeline.", &pipeline.extra, PIPELINE)?;
        }
        if let Some(consensus) = &self.consensus {
            check("consensus.", &consensus.extra, CONSENSUS)?;
            consensus.agents.iter().try_for_each(|agent| check("consensus.agents.", agent, AGENT))?;
        }
        Ok(())
    }
}

/// Takes away published fields that are `null`, which says the same as leaving them out.
pub(super) fn without_nulls(document: &mut Map<String, Value>) {
    prune(document, EVENT);
    let kind = document.get("event").and_then(|event| event.get("type"));
    if kind.and_then(Value::as_str) == Some(EventKind::TaskListCompleted.as_str()) {
        prune(document, TASK_LIST);
    }
    if let Some(task) = document.get_mut("task").and_then(Value::as_object_mut) {
        task.retain(|name, value| !value.is_null() || name != "markers");
    }
    for (part, fields) in [("pipeline", PIPELINE), ("consensus", CONSENSUS)] {
        document
            .get_mut(part)
            .and_then(Value::as_object_mut)
            .into_iter()
            .for_each(|part| prune(part, fields));
    }
    let consensus = document.get_mut("consensus").and_then(|part| part.get_mut("agents"));
    for agent in consensus.and_then(Value::as_array_mut).into_iter().flatten() {
        agent.as_object_mut().into_iter().for_each(|agent| prune(agent, AGENT));
    }
}

fn prune(object: &mut Map<String, Value>, fields: Fields) {
    object.retain(|name, value| !value.is_null() || fields.iter().all(|(known, _)| known != name));
    for (name, shape) in fields {
        match (object.get_mut(*name), shape) {
            (Some(Value::Object(inner)), Shape::Object(fields)) => prune(inner, fields),
            (Some(Value::Array(items)), Shape::Objects(fields)) => {
                items.iter_mut().filter_map(Value::as_object_mut).for_each(|item| prune(item, fields));
            }
            _ => {}
        }
    }
}

fn check(path: &str, object: &Map<String, Value>, fields: Fields) -> Result<(), EventError> {
    for (name, value) in object {
        let Some((_, shape)) = fields.iter().find(|(known, _)| known == name) else { continue };
        let within = format!("{path}{name}.");
        let is = |is_it: bool, what: &str| match is_it {
            true => Ok(()),
            false => Err(EventError::Malformed(format!("`{path}{name}` must be {what}"))),
        };
        match shape {
            Shape::Text => is(value.is_string(), "a text")?,
            Shape::Number => is(value.is_number(), "a number")?,
            Shape::Integer => is(value.is_u64(), "a whole number from 0")?,
            Shape::List => is(value.is_array(), "a list")?,
            Shape::Texts => {
                let texts = value.as_array().is_some_and(|items| items.iter().all(Value::is_string));
                is(texts, "a list of texts")?;
            }
            Shape::Object(fields) => match value.as_object() {
                Some(inner) => check(&within, inner, fields)?,
                None => is(false, "an object")?,
            },
            Shape::Objects(fields) => {
                for item in value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice) {
                    match item.as_object().filter(|_| value.is_array()) {
                        Some(inner) => check(&within, inner, fields)?,
                        None => is(false, "a list of objects")?,
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(more: &Value) -> Result<Event, EventError> {
        let mut document =
            json!({"event": {"type": "spec-auto.pipeline.completed"}, "spec": {"id": "SPEC-1"}});
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        Event::from_json(&document.to_string())
    }

    #[test]
    fn a_published_field_of_another_type_is_refused_by_name() {
        for (more, reason) in [
            (json!({"cost": "cheap"}), "`cost` must be an object"),
            (json!({"cost": {"totalUsd": "1"}}), "`cost.totalUsd` must be a number"),
            (json!({"followUps": [1]}), "`followUps` must be a list of texts"),
            (json!({"anomaly": {"run": -1}}), "`anomaly.run` must be a whole number from 0"),
            (json!({"pipeline": {"stages": {}}}), "`pipeline.stages` must be a list of objects"),
            (json!({"pipeline": {"stages": [7]}}), "`pipeline.stages` must be a list of objects"),
            (json!({"pipeline": {"stages": [{"stage": 7}]}}), "`pipeline.stages.stage` must be a text"),
            (json!({"consensus": {"conflicts": {}}}), "`consensus.conflicts` must be a list"),
            (json!({"consensus": {"agents": [{"model": 5}]}}), "`consensus.agents.model` must be a text"),
            (json!({"task": {"id": "T1", "markers": [5]}}), "invalid type"),
        ] {
            let error = read(&more).unwrap_err().to_string();
            assert!(error.contains(reason), "{more}: {error}");
            let mut built = read(&json!({})).unwrap();
            if let Some((name, value)) = more
                .as_object()
                .unwrap()
                .iter()
                .next()
                .filter(|(name, _)| !["pipeline", "consensus", "task"].contains(&name.as_str()))
            {
                built.extra.insert(name.clone(), value.clone());
                assert!(built.check_limits().is_err(), "a host's own: {more}");
            }
        }
    }

    #[test]
    fn null_is_as_good_as_left_out_and_what_is_unknown_is_left_alone() {
        let given = json!({"cost": null, "followUps": [], "message": {"own": null}, "own": null,
            "tasks": "own", "task": {"id": "T1", "markers": null},
            "pipeline": {"stages": [{"stage": "Plan", "status": null, "own": null}], "durationMs": null},
            "consensus": {"agents": [{"agent": "a", "model": null, "cost_usd": null}]}});
        let told = serde_json::to_value(read(&given).unwrap()).unwrap();
        assert_eq!(told.get("cost"), None);
        assert_eq!((&told["message"], &told["tasks"]), (&json!({"own": null}), &json!("own")));
        assert_eq!(told["task"], json!({"id": "T1"}));
        assert!(told.get("own").is_some_and(Value::is_null));
        assert_eq!(told["pipeline"], json!({"stages": [{"stage": "Plan", "own": null}]}));
        assert_eq!(told["consensus"]["agents"], json!([{"agent": "a", "cost_usd": null}]));
    }

    #[test]
    fn tasks_are_typed_where_they_are_published() {
        let list = json!({"type": "spec-kit.tasklist.completed"});
        let of = |tasks: Value| read(&json!({"event": list, "tasks": tasks}));
        assert!(of(json!({"done": 2, "total": 2, "own": "x"})).is_ok());
        assert!(!of(Value::Null).unwrap().extra.contains_key("tasks"));
        let error = of(json!({"done": "all"})).unwrap_err().to_string();
        assert!(error.contains("`tasks.done` must be a whole number from 0"), "{error}");
    }
}
