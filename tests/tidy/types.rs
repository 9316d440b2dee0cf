//! The types in `docs/reference/types` are made from the published schema, and the samples fit
//! them. `INSTA_UPDATE=always cargo test --test tidy types` writes them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::schema::schema;
use super::{files_named, root, text};

/// An object of the schema, under the name that it has as a type.
struct Shape<'a> {
    name: String,
    description: &'a str,
    fields: Vec<Field<'a>>,
}

struct Field<'a> {
    name: &'a str,
    description: &'a str,
    is_required: bool,
    kind: Kind<'a>,
}

enum Kind<'a> {
    Text,
    Number,
    Whole,
    /// This text alone.
    Only(&'a str),
    /// One of these texts, or another one of a later version.
    OneOf(Vec<&'a str>),
    Shape(String),
    List(Box<Kind<'a>>),
    /// An object, or a value, of which the schema says no more.
    Object,
    Anything,
}

/// `pipeline` and `stages` give `PipelineStage`.
fn type_name(parent: &str, field: &str, is_item: bool) -> String {
    let field = if is_item { field.trim_end_matches('s') } else { field };
    let parent = if parent == "Payload" { "" } else { parent };
    format!("{parent}{}{}", &field[..1].to_uppercase(), &field[1..])
}

fn kind<'a>(part: &'a Value, name: String, shapes: &mut Vec<Shape<'a>>) -> Kind<'a> {
    let texts =
        |values: &'a Value| values.as_array().unwrap().iter().map(|it| it.as_str().unwrap()).collect();
    match part["type"].as_str().unwrap_or_default() {
        "string" if part["enum"].is_array() => Kind::OneOf(texts(&part["enum"])),
        "string" if part["const"].is_string() => Kind::Only(part["const"].as_str().unwrap()),
        "string" => Kind::Text,
        "integer" => Kind::Whole,
        "number" => Kind::Number,
        "array" if part["items"].is_object() => Kind::List(Box::new(kind(&part["items"], name, shapes))),
        "array" => Kind::List(Box::new(Kind::Anything)),
        "object" if part["properties"].is_object() => {
            shape(part, &name, shapes);
            Kind::Shape(name)
        }
        _ => Kind::Object,
    }
}

/// Adds the type of an object, after those that it is made of.
fn shape<'a>(part: &'a Value, name: &str, shapes: &mut Vec<Shape<'a>>) {
    let required: Vec<&str> =
        part["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let rules = part["allOf"].as_array().into_iter().flatten();
    // What stands in events of one type alone is optional in the type of all.
    let more = rules.filter_map(|rule| rule["then"]["properties"].as_object()).flatten();
    let own = part["properties"].as_object().unwrap();
    let more = more.filter(|(field, _)| !own.contains_key(*field));
    let fields = own.iter().chain(more).map(|(field, property)| Field {
        name: field,
        description: property["description"].as_str().unwrap_or_default(),
        is_required: required.contains(&field.as_str()),
        kind: kind(property, type_name(name, field, property["type"] == "array"), shapes),
    });
    let fields = fields.collect();
    let description = part["description"].as_str().unwrap_or_default();
    shapes.push(Shape { name: name.to_owned(), description, fields });
}

/// Lines of a comment, each of at most 92 characters.
fn wrapped(text: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        if lines.last().is_some_and(|line| line.len() + word.len() > 91) {
            lines.push(String::new());
        }
        let line = lines.last_mut().unwrap();
        line.push_str(if line.is_empty() { "" } else { " " });
        line.push_str(word);
    }
    lines
}

impl Kind<'_> {
    fn typescript(&self) -> String {
        match self {
            Self::Text => "string".to_owned(),
            Self::Number | Self::Whole => "number".to_owned(),
            Self::Only(text) => format!("\"{text}\""),
            Self::OneOf(texts) => {
                let texts: Vec<String> = texts.iter().map(|it| format!("\"{it}\"")).collect();
                // A later version may have more of them, and editors still offer these.
                let texts = [texts, vec!["(string & {})".to_owned()]].concat();
                let on_a_line = texts.join(" | ");
                if on_a_line.len() < 80 { on_a_line } else { format!("\n    | {}", texts.join("\n    | ")) }
            }
            Self::Shape(name) => name.clone(),
            Self::List(kind) => format!("{}[]", kind.typescript()),
            Self::Object => "Record<string, unknown>".to_owned(),
            Self::Anything => "unknown".to_owned(),
        }
    }

    fn python(&self) -> String {
        match self {
            Self::Text => "str".to_owned(),
            Self::Number => "float".to_owned(),
            Self::Whole => "int".to_owned(),
            Self::Only(text) => format!("Literal[\"{text}\"]"),
            Self::OneOf(texts) => {
                let texts: Vec<String> = texts.iter().map(|it| format!("\"{it}\"")).collect();
                let on_a_line = format!("Literal[{}] | str", texts.join(", "));
                let lines = || format!("Literal[\n        {},\n    ] | str", texts.join(",\n        "));
                if on_a_line.len() < 80 { on_a_line } else { lines() }
            }
            Self::Shape(name) => name.clone(),
            Self::List(kind) => format!("list[{}]", kind.python()),
            Self::Object => "dict[str, Any]".to_owned(),
            Self::Anything => "Any".to_owned(),
        }
    }

    fn go(&self) -> String {
        match self {
            Self::Text | Self::Only(_) | Self::OneOf(_) => "string".to_owned(),
            Self::Number => "float64".to_owned(),
            Self::Whole => "int64".to_owned(),
            Self::Shape(name) => name.clone(),
            Self::List(kind) => format!("[]{}", kind.go()),
            Self::Object => "map[string]any".to_owned(),
            Self::Anything => "any".to_owned(),
        }
    }
}

/// `idempotency_key` gives `IdempotencyKey`, and `id` gives `ID`.
fn go_name(field: &str) -> String {
    if field == "id" {
        return "ID".to_owned();
    }
    field.split('_').map(|word| word[..1].to_uppercase() + &word[1..]).collect()
}

const ABOUT: &str = "The payload of spec-notify, made from payload.schema.json. \
    Later versions within 1.x add fields and values: ignore those that you do not know.";

fn typescript(shapes: &[Shape<'_>]) -> String {
    let mut out = wrapped(ABOUT).iter().map(|line| format!("// {line}\n")).collect::<String>();
    let comment = |indent: &str, text: &str| match &wrapped(text)[..] {
        [line] => format!("{indent}/** {line} */\n"),
        lines => {
            let lines: String = lines.iter().map(|line| format!("{indent} * {line}\n")).collect();
            format!("{indent}/**\n{lines}{indent} */\n")
        }
    };
    for shape in shapes {
        out += "\n";
        if !shape.description.is_empty() {
            out += &comment("", shape.description);
        }
        out += &format!("export interface {} {{\n", shape.name);
        for field in &shape.fields {
            let optional = if field.is_required { "" } else { "?" };
            out += &comment("  ", field.description);
            out += &format!("  {}{optional}: {};\n", field.name, field.kind.typescript());
        }
        out += "}\n";
    }
    out
}

fn python(shapes: &[Shape<'_>]) -> String {
    let about = wrapped(ABOUT).join("\n");
    let mut out = format!(
        "\"\"\"{about}\n\nNeeds Python 3.11 or later.\n\"\"\"\n\nfrom typing import Any, Literal, NotRequired, TypedDict\n"
    );
    for shape in shapes {
        out += &format!("\n\nclass {}(TypedDict):\n", shape.name);
        if !shape.description.is_empty() {
            out += &format!("    \"\"\"{}\"\"\"\n\n", wrapped(shape.description).join("\n    "));
        }
        for field in &shape.fields {
            out +=
                &wrapped(field.description).iter().map(|line| format!("    # {line}\n")).collect::<String>();
            let kind = field.kind.python();
            let kind = if field.is_required { kind } else { format!("NotRequired[{kind}]") };
            out += &format!("    {}: {kind}\n", field.name);
        }
    }
    out
}

fn go(shapes: &[Shape<'_>]) -> String {
    let comment = |indent: &str, text: &str| -> String {
        let lines = if text.is_empty() { Vec::new() } else { wrapped(text) };
        lines.iter().map(|line| format!("{indent}// {line}\n")).collect()
    };
    let mut out = comment("", &format!("Package specnotify has the types of a payload. {ABOUT}"));
    out += "package specnotify\n";
    for shape in shapes {
        out += &format!("\n{}type {} struct {{\n", comment("", shape.description), shape.name);
        for (number, field) in shape.fields.iter().enumerate() {
            let is_number_or_shape = matches!(field.kind, Kind::Number | Kind::Whole | Kind::Shape(_));
            // Absent is not 0.
            let (pointer, omit) = match (field.is_required, is_number_or_shape) {
                (true, _) => ("", ""),
                (false, true) => ("*", ",omitempty"),
                (false, false) => ("", ",omitempty"),
            };
            out += if number == 0 { "" } else { "\n" };
            out += &comment("\t", field.description);
            let (name, kind) = (go_name(field.name), field.kind.go());
            out += &format!("\t{name} {pointer}{kind} `json:\"{}{omit}\"`\n", field.name);
        }
        out += "}\n";
    }
    out
}

fn folder() -> PathBuf {
    root().join("docs/reference/types")
}

fn samples() -> Vec<PathBuf> {
    let mut samples = Vec::new();
    files_named(&root().join("docs/reference/samples"), "json", &mut samples);
    assert!(samples.len() >= 9, "{samples:?}");
    samples
}

#[test]
fn the_types_are_those_of_the_schema() {
    let schema = schema();
    let mut shapes = Vec::new();
    shape(&schema, "Payload", &mut shapes);
    for (file, made) in [
        ("spec_notify.ts", typescript(&shapes)),
        ("spec_notify.py", python(&shapes)),
        ("spec_notify.go", go(&shapes)),
    ] {
        if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
            fs::create_dir_all(folder()).unwrap();
            fs::write(folder().join(file), &made).unwrap();
        }
        assert_eq!(text(&format!("docs/reference/types/{file}")), made, "INSTA_UPDATE=always writes {file}");
    }
}

/// Runs a program that checks types; says so where there is none.
fn check(program: &str, arguments: &[&str], folder: &Path) {
    let Ok(output) = Command::new(program).args(arguments).current_dir(folder).output() else {
        eprintln!("skipped: {program} is not installed");
        return;
    };
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_samples_fit_the_types_of_typescript() {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(folder().join("spec_notify.ts"), dir.path().join("spec_notify.ts")).unwrap();
    let mut program = "import type { Payload } from \"./spec_notify\";\n".to_owned();
    for (number, sample) in samples().iter().enumerate() {
        let sample = fs::read_to_string(sample).unwrap();
        program += &format!("export const sample{number}: Payload = {sample};\n");
    }
    program += "// @ts-expect-error a payload without its parts is none\n\
                export const none: Payload = { schemaVersion: \"1.0\" };\n\
                export const later: Payload[\"event\"][\"status\"] = \"paused\";\n";
    fs::write(dir.path().join("samples.ts"), program).unwrap();
    check("tsc", &["--strict", "--noEmit", "--target", "es2022", "samples.ts"], dir.path());
}

#[test]
fn the_samples_fit_the_types_of_python() {
    const CHECK: &str = r#"
import json, sys, typing
if sys.version_info < (3, 11):
    sys.exit("skipped: Python is older than 3.11")
sys.path.insert(0, sys.argv[1])
import spec_notify

def fits(value, kind):
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if kind is typing.Any:
        return True
    if origin is typing.Literal:
        return value in inner
    if origin is typing.Union:
        return any(fits(value, it) for it in inner)
    if origin is list:
        return isinstance(value, list) and all(fits(it, inner[0]) for it in value)
    if origin is dict:
        return isinstance(value, dict)
    if typing.is_typeddict(kind):
        hints = typing.get_type_hints(kind)
        return isinstance(value, dict) and kind.__required_keys__ <= value.keys() and all(
            name in hints and fits(it, hints[name]) for name, it in value.items())
    return isinstance(value, (int, float) if kind is float else kind)

assert not fits({"schemaVersion": "1.0"}, spec_notify.Payload)
assert fits("paused", typing.get_type_hints(spec_notify.Event)["status"]), "a later version's"
for path in sys.argv[2:]:
    assert fits(json.load(open(path)), spec_notify.Payload), path
"#;
    let (folder, samples) = (folder(), samples());
    let mut arguments = vec!["-B", "-c", CHECK, folder.to_str().unwrap()];
    arguments.extend(samples.iter().map(|sample| sample.to_str().unwrap()));
    let Ok(output) = Command::new("python3").args(arguments).output() else {
        return eprintln!("skipped: python3 is not installed");
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || said.starts_with("skipped: "), "{said}");
}

#[test]
fn the_samples_fit_the_types_of_go() {
    const CHECK: &str = r#"package main

import (
	"encoding/json"
	"log"
	"os"

	"check/specnotify"
)

func main() {
	for _, path := range os.Args[1:] {
		file, err := os.Open(path)
		if err != nil {
			log.Fatal(err)
		}
		decoder := json.NewDecoder(file)
		decoder.DisallowUnknownFields()
		var payload specnotify.Payload
		if err := decoder.Decode(&payload); err != nil || payload.Event.Sequence == 0 {
			log.Fatal(path, err)
		}
	}
}
"#;
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("specnotify")).unwrap();
    fs::copy(folder().join("spec_notify.go"), dir.path().join("specnotify/spec_notify.go")).unwrap();
    fs::write(dir.path().join("go.mod"), "module check\n\ngo 1.18\n").unwrap();
    fs::write(dir.path().join("main.go"), CHECK).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let mut process = Command::new(program);
        process.args(arguments).current_dir(dir.path()).env("GOFLAGS", "");
        let output = process.env("GOCACHE", dir.path().join("cache")).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stdout.is_empty(), "not as gofmt has it: {}", String::from_utf8_lossy(&output.stdout));
    };
    if ["go", "gofmt"].iter().any(|program| Command::new(program).arg("-h").output().is_err()) {
        return eprintln!("skipped: go is not installed");
    }
    run("gofmt", &["-l", "specnotify"]);
    run("go", &["build", "-o", "check", "."]);
    let samples = samples();
    let samples: Vec<&str> = samples.iter().map(|sample| sample.to_str().unwrap()).collect();
    run(dir.path().join("check").to_str().unwrap(), &samples);
}
