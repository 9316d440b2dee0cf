//! The published schema, the code and the page about payloads name the same fields and values.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use spec_notify::{EventKind, Stage, Status};

use super::text;

pub(super) fn schema() -> Value {
    serde_json::from_str(&text("docs/reference/payload.schema.json")).unwrap()
}

/// The properties below a part of the schema, each with its path in a payload.
fn properties<'a>(part: &'a Value, path: &str, found: &mut BTreeMap<String, &'a Value>) {
    for (name, property) in part["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}{name}");
        properties(property, &format!("{path}."), found);
        properties(&property["items"], &format!("{path}."), found);
        found.insert(path, property);
    }
}

/// All properties of a payload, those of a single type of event too.
fn all_properties(schema: &Value) -> BTreeMap<String, &Value> {
    let mut found = BTreeMap::new();
    properties(schema, "", &mut found);
    for rule in schema["allOf"].as_array().unwrap() {
        let mut more = BTreeMap::new();
        properties(&rule["then"], "", &mut more);
        for (path, property) in more {
            found.entry(path).or_insert(property);
        }
    }
    found
}

#[test]
fn every_property_of_the_schema_has_a_type_a_description_and_examples_that_fit() {
    let schema = schema();
    assert!(schema["$id"].as_str().unwrap().starts_with("https://") && schema["title"].is_string());
    let all = all_properties(&schema);
    assert!(all.len() > 50, "{}", all.len());
    for (path, property) in all {
        assert!(property["type"].is_string(), "{path} has no type");
        let description = property["description"].as_str().unwrap_or_default();
        assert!(description.ends_with('.'), "{path} is not described by a sentence");
        let examples = property["examples"].as_array().map_or(&[][..], Vec::as_slice);
        assert!(!examples.is_empty(), "{path} has no example");
        let validator = jsonschema::validator_for(property).unwrap();
        assert!(
            examples.iter().all(|example| validator.is_valid(example)),
            "an example of {path} does not fit"
        );
        // A consumer that ignores what it does not know keeps working.
        assert!(property.get("additionalProperties").is_none(), "{path} is closed");
    }
}

/// The structs of a file and their fields, as serde writes them.
fn structs(file: &str) -> BTreeMap<String, Vec<String>> {
    let text = text(file);
    let code = text.split("#[cfg(test)]").next().unwrap();
    let camel = |name: &str| {
        let mut parts = name.split('_');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |name, part| name + &part[..1].to_uppercase() + &part[1..])
    };
    let mut found = BTreeMap::new();
    for (before, after) in code.match_indices("\npub struct ").map(|(at, _)| code.split_at(at)) {
        let after = after.strip_prefix("\npub struct ").unwrap();
        let attributes = before.rsplit("\n\n").next().unwrap();
        let Some((name, body)) = after.split_once(" {\n") else { continue };
        let body = body.split("\n}").next().unwrap();
        let mut renamed = None;
        let mut names = Vec::new();
        for line in body.lines() {
            if let Some((_, rest)) = line.split_once("rename = \"") {
                renamed = rest.split('"').next().map(str::to_owned);
            }
            let Some((field, _)) = line.trim_start_matches("    pub ").trim().split_once(':') else {
                continue;
            };
            if line.trim_start().starts_with("//") || field.contains(['(', ' ']) {
                continue;
            }
            let given = match attributes.contains("camelCase") {
                true => camel(field),
                false => field.to_owned(),
            };
            names.push(renamed.take().unwrap_or(given));
        }
        found.insert(name.to_owned(), names);
    }
    found
}

#[test]
fn the_schema_and_the_code_name_the_same_fields_and_values() {
    let schema = schema();
    let all = all_properties(&schema);
    let parts = [
        ("Event", ""),
        ("Envelope", "event."),
        ("Spec", "spec."),
        ("Source", "source."),
        ("Pipeline", "pipeline."),
        ("Consensus", "consensus."),
        ("Task", "task."),
        ("EvidencePaths", "evidence."),
    ];
    let mut known = structs("src/event.rs");
    known.extend(structs("src/event/source.rs"));
    let names: BTreeSet<&str> = known.keys().map(String::as_str).collect();
    assert_eq!(names, parts.iter().map(|(name, _)| *name).collect(), "each is a part of the payload");
    let mut own = BTreeSet::new();
    for (name, path) in parts {
        // The second is for the Router alone, which takes it out.
        let told = known[name].iter().filter(|field| !["extra", "key_origin"].contains(&field.as_str()));
        own.extend(told.map(|field| format!("{path}{field}")));
    }
    let missing: Vec<&String> = own.iter().filter(|path| !all.contains_key(*path)).collect();
    assert!(missing.is_empty(), "the schema does not have {missing:?}");
    // The others are checked by name and type as they are taken in.
    let shapes = text("src/event/shape.rs");
    let shapes = shapes.split("#[cfg(test)]").next().unwrap().split("fn without_nulls").next().unwrap();
    let after_quote = shapes.split('"').skip(1).step_by(2);
    let checked: BTreeSet<&str> =
        after_quote.filter(|name| !name.is_empty() && !name.ends_with('.')).collect();
    let others = all.keys().filter(|path| !own.contains(*path));
    let others: BTreeSet<&str> = others.map(|path| path.rsplit('.').next().unwrap()).collect();
    assert_eq!(others, checked, "docs/reference/payload.schema.json and src/event/shape.rs");
    fn values<T: ToString>(all: &[T]) -> Vec<Value> {
        all.iter().map(|value| value.to_string().into()).collect()
    }
    for (path, values) in [
        ("event.type", values(EventKind::ALL)),
        ("event.status", values(Status::ALL)),
        ("event.stage", values(Stage::ALL)),
    ] {
        assert_eq!(all[path]["enum"], Value::from(values), "{path}");
    }
}

#[test]
fn the_docs_say_of_every_payload_field_where_it_comes_from() {
    let (docs, schema) = (text("docs/reference/event-types.md"), schema());
    let table = docs.split_once("## Where each payload field comes from").unwrap().1;
    let table = table.split("\n## ").next().unwrap();
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = table.split(|c| !is_of_name(c)).collect();
    for path in all_properties(&schema).keys() {
        let name = path.rsplit('.').next().unwrap();
        assert!(words.contains(name), "docs/reference/event-types.md does not say where {path} comes from");
    }
}
