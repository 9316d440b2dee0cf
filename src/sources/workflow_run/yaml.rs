//! Reads a YAML document as JSON, within bounds: an alias may not make a small file large.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

/// Most values in a document, aliases written out.
const MAX_VALUES: usize = 100_000;

/// Deepest nesting.
const MAX_DEPTH: usize = 64;

/// A value that is not whole yet.
enum Open {
    List(Vec<Value>),
    /// With the key whose value is still to come.
    Object(Map<String, Value>, Option<String>),
}

/// The same, its anchor, and how many values it has so far.
struct Frame {
    open: Open,
    anchor: usize,
    weight: usize,
}

/// The first document of a text; `None` where it is no YAML or beyond the bounds.
pub(super) fn read(text: &str) -> Option<Value> {
    let mut frames: Vec<Frame> = Vec::new();
    let mut anchors: HashMap<usize, (Value, usize)> = HashMap::new();
    let mut count = 0;
    for event in Parser::new_from_str(text) {
        let (value, anchor, weight) = match event.ok()?.0 {
            Event::SequenceStart(anchor, _) => {
                frames.push(Frame { open: Open::List(Vec::new()), anchor, weight: 1 });
                (frames.len() <= MAX_DEPTH).then_some(())?;
                continue;
            }
            Event::MappingStart(anchor, _) => {
                frames.push(Frame { open: Open::Object(Map::new(), None), anchor, weight: 1 });
                (frames.len() <= MAX_DEPTH).then_some(())?;
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match frames.pop()? {
                Frame { open: Open::List(list), anchor, weight } => (Value::Array(list), anchor, weight),
                Frame { open: Open::Object(map, _), anchor, weight } => (Value::Object(map), anchor, weight),
            },
            Event::Scalar(text, style, anchor, _) => {
                count += 1;
                (scalar(&text, style), anchor, 1)
            }
            Event::Alias(anchor) => {
                let (value, weight) = anchors.get(&anchor)?;
                // Before it is written out.
                count += weight;
                (count <= MAX_VALUES).then_some(())?;
                (value.clone(), 0, *weight)
            }
            Event::DocumentEnd | Event::StreamEnd => return None,
            Event::Nothing | Event::StreamStart | Event::DocumentStart(_) => continue,
        };
        (count <= MAX_VALUES).then_some(())?;
        if anchor > 0 {
            anchors.insert(anchor, (value.clone(), weight));
        }
        let Some(frame) = frames.last_mut() else { return Some(value) };
        frame.weight += weight;
        match &mut frame.open {
            Open::List(list) => list.push(value),
            Open::Object(_, key @ None) => *key = Some(as_key(&value)?),
            Open::Object(map, key) => drop(map.insert(key.take()?, value)),
        }
    }
    None
}

/// A scalar that is written plainly may be no text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return text.into();
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => true.into(),
        "false" | "False" | "FALSE" => false.into(),
        _ => match text.parse::<i64>() {
            Ok(number) => number.into(),
            Err(_) => text.into(),
        },
    }
}

/// A key as JSON has them. Lists and maps are none: each that is written out in the key of another
/// would double its length.
fn as_key(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(_) | Value::Object(_) => None,
        Value::Null | Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_a_workflow_is_written_in_is_read() {
        let text = "schema_version: '1.0'\nworkflow:\n  id: a\nsteps:\n- id: one\n  type: gate\n  \
                    message: Look\n    at it\n  options: &o\n  - approve\n  - \"re\\u006aect\"\n\
                    - id: two\n  options: *o\n  run: |\n    a\n    b\n  n: 7\n  on: true\n  none:\n  \
                    flow: {a: [1, 'x']}\n";
        let expected = json!({"schema_version": "1.0", "workflow": {"id": "a"}, "steps": [
            {"id": "one", "type": "gate", "message": "Look at it", "options": ["approve", "reject"]},
            {"id": "two", "options": ["approve", "reject"], "run": "a\nb\n", "n": 7, "on": true, "none": null,
             "flow": {"a": [1, "x"]}},
        ]});
        assert_eq!(read(text), Some(expected));
    }

    #[test]
    fn what_is_no_yaml_or_too_much_of_it_is_none() {
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (name, before) in ('b'..='k').zip('a'..) {
            let of: Vec<String> = (0..10).map(|_| format!("*{before}")).collect();
            bomb += &format!("{name}: &{name} [{}]\n", of.join(", "));
        }
        let deep = "[".repeat(5000) + &"]".repeat(5000);
        let keys = "? ".repeat(41);
        for text in ["", "a: [", "a: *nobody", "\t- a: b: c", "[a, b]: c", "{a: b}: c", &keys, &bomb, &deep] {
            assert_eq!(read(text), None, "{}", &text[..text.len().min(20)]);
        }
    }
}
