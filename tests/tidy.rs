//! Keeps the house in order: imports run downwards only, and the docs name everything a user can
//! meet.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests; clippy exempts only the test functions themselves"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use spec_notify::{Environment, EventKind, LoadOptions, Stage, Status};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The files below a folder whose names end so.
fn files_named(dir: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_named(&path, ending, found);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    files_named(&root().join("src"), "rs", &mut files);
    files_named(&root().join("actors"), "rs", &mut files);
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The modules, each of which uses only those before it: see `docs/ARCHITECTURE.md`.
const ORDER: [&str; 31] = [
    "clock", "decode", "names", "glob", "digest", "event", "files", "secret", "env", "run", "filter",
    "payload", "delivery", "answer", "sign", "http", "spool", "archive", "figures", "store", "config",
    "fleet", "sources", "watch", "inspect", "ask", "feed", "actors", "control", "runtime", "cli",
];

/// A module, as the parts of its path below the crate.
type Module = Vec<String>;

/// The module that a file is; `None` for a file of tests.
fn module_of(file: &str) -> Option<Module> {
    let path = file.strip_prefix("src/").unwrap_or(file).strip_suffix(".rs")?;
    let parts: Module = path.split('/').filter(|part| *part != "mod").map(str::to_owned).collect();
    let is_of_tests = parts.last()?.ends_with("tests");
    (!is_of_tests && !["lib", "main"].contains(&path)).then_some(parts)
}

/// The paths below the crate that a module's code names, its tests apart.
fn paths_named(module: &[String], text: &str) -> Vec<Module> {
    let code: String = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .map(|line| format!("{line}\n"))
        .collect();
    let code = code.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let mut found = Vec::new();
    for start in ["crate::", "super::"] {
        for (at, _) in code.match_indices(start) {
            // Not in the middle of a path: `super::super::` counts once.
            if at > 0 && code[..at].ends_with(|c: char| c.is_alphanumeric() || c == ':' || c == '_') {
                continue;
            }
            let end = code[at..].find([';', ')', '\'']).map_or(code.len(), |end| at + end);
            expand(&code[at..end], &mut Vec::new(), &mut found);
        }
    }
    let absolute = |path: Module| {
        let ups = path.iter().take_while(|part| *part == "super").count();
        let base = if path[0] == "crate" { &[][..] } else { &module[..module.len() - ups.min(module.len())] };
        let rest = path.iter().skip(if path[0] == "crate" { 1 } else { ups });
        base.iter().chain(rest).cloned().collect()
    };
    found.into_iter().map(absolute).collect()
}

/// The paths of `a::{b, c::d}`, as far as it is one.
fn expand(text: &str, before: &mut Module, found: &mut Vec<Module>) {
    let mut path = before.clone();
    let mut rest = text.trim_start();
    loop {
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            break;
        }
        rest = &rest[name.len()..];
        path.push(name);
        match rest.strip_prefix("::") {
            Some(after) => rest = after,
            None => break,
        }
    }
    let Some(inner) = rest.strip_prefix('{') else { return found.push(path) };
    let (mut depth, mut from) = (0, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                if !inner[from..at].trim().is_empty() {
                    expand(&inner[from..at], &mut path.clone(), found);
                }
                from = at + 1;
                if c == '}' {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// Which modules use which; the ancestors of a module, whose names it sees anyway, do not count.
fn uses() -> Vec<(String, Module, Vec<Module>)> {
    let files: Vec<(String, String, Module)> = sources()
        .into_iter()
        .filter_map(|(file, text)| module_of(&file).map(|module| (file, text, module)))
        .collect();
    let modules: BTreeSet<&Module> = files.iter().map(|(.., module)| module).collect();
    let used =
        |path: Module| (1..=path.len()).rev().map(|n| path[..n].to_vec()).find(|part| modules.contains(part));
    let of = |(file, text, module): &(String, String, Module)| {
        let mut found: Vec<Module> = paths_named(module, text).into_iter().filter_map(used).collect();
        found.retain(|other| !module.starts_with(other));
        found.sort();
        found.dedup();
        (file.clone(), module.clone(), found)
    };
    files.iter().map(of).collect()
}

#[test]
fn each_module_uses_only_those_before_it() {
    let place = |module: &str| ORDER.iter().position(|known| *known == module);
    let mut seen = 0;
    for (file, module, used) in uses() {
        let own = place(&module[0]).unwrap_or_else(|| panic!("{file}: where in the order is {}?", module[0]));
        for other in used.iter().filter(|other| other[0] != module[0]) {
            seen += 1;
            assert!(place(&other[0]).unwrap() < own, "{file} uses {}, which comes later", other.join("::"));
        }
    }
    assert!(seen > 200, "{seen}");
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let mut left: Vec<(Module, Vec<Module>)> =
        uses().into_iter().map(|(_, module, used)| (module, used)).collect();
    // Whoever uses nobody that is left is in no circle.
    loop {
        let names: BTreeSet<Module> = left.iter().map(|(module, _)| module.clone()).collect();
        let before = left.len();
        left.retain(|(_, used)| used.iter().any(|other| names.contains(other)));
        if left.len() == before {
            break;
        }
    }
    let circle: Vec<String> = left.iter().map(|(module, _)| module.join("::")).collect();
    assert!(circle.is_empty(), "in a circle, or above one: {circle:?}");
}

#[test]
fn the_reader_of_imports_sees_every_form() {
    let module = ["a".to_owned(), "b".to_owned()];
    let text = "use crate::x::{self, y::{Z, w}, v as u};\nuse super::c;\nfn f() { crate::d::e(); super::super::g() }\n\
                // crate::no\n#[cfg(test)]\nmod tests {\n use crate::no;\n}\n";
    let found: BTreeSet<String> = paths_named(&module, text).iter().map(|path| path.join("::")).collect();
    let expected = ["a::c", "d::e", "g", "x::self", "x::v", "x::y::Z", "x::y::w"];
    assert_eq!(found, expected.map(str::to_owned).into());
}

#[test]
fn only_the_actors_and_the_runtime_name_actix() {
    for (file, text) in sources() {
        let may = file.starts_with("actors/") || file.starts_with("src/runtime/");
        let names = text.lines().any(|line| !line.trim_start().starts_with("//") && line.contains("actix::"));
        assert!(may || !names, "{file} names actix");
    }
}

#[test]
fn every_file_says_what_it_is_about() {
    for (file, text) in sources() {
        assert!(text.starts_with("//! "), "{file}");
    }
}

#[test]
fn comments_end_by_column_100() {
    let mut files = Vec::new();
    for folder in ["src", "actors", "tests", "benches"] {
        files_named(&root().join(folder), "rs", &mut files);
    }
    let mut long = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let comments = (1..).zip(text.lines()).filter(|(_, line)| line.trim_start().starts_with("//"));
        let too_long = comments.filter(|(_, line)| line.chars().count() > 100 && line.contains(' '));
        long.extend(too_long.map(|(number, _)| format!("{}:{number}", path.display())));
    }
    assert!(long.is_empty(), "{long:#?}");
}

/// rustfmt leaves lines that are too long as they are where a literal or a macro makes them so.
#[test]
fn code_ends_by_column_110() {
    let mut long = Vec::new();
    for (file, text) in sources() {
        let lines = (1..).zip(text.lines()).filter(|(_, line)| line.chars().count() > 110);
        long.extend(lines.map(|(number, _)| format!("{file}:{number}")));
    }
    assert!(long.is_empty(), "break literals with a backslash: {long:#?}");
}

/// The keys that a table can have, as the program lists them where one is not known.
fn known_keys(table: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.toml"), format!("{table}\nzzzz = 1\n")).unwrap();
    let options = LoadOptions::in_dir(dir.path()).repo(dir.path()).config("config.toml").without_secrets();
    let errors = options.load(&Environment::fixed([])).errors;
    let unknown = errors.iter().find(|error| error.message == "unknown key `zzzz`").unwrap();
    unknown.help.strip_prefix("known keys are: ").unwrap().split(", ").map(str::to_owned).collect()
}

#[test]
fn the_docs_name_every_config_key_in_the_order_of_the_messages() {
    let docs = text("docs/config.md");
    for (table, least) in [("[spec_ops.webhooks]", 15), ("[[spec_ops.webhooks.subscriptions]]", 25)] {
        let page = docs.split_once(&format!("## `{table}`\n")).unwrap().1.split("\n#").next().unwrap();
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
        let (named, known): (Vec<&str>, Vec<String>) = (names.collect(), known_keys(table));
        assert_eq!(named, known, "docs/config.md and {table}");
        assert!(known.len() >= least, "{known:?}");
    }
    for key in known_keys("[spec_ops.webhooks.alerts]") {
        assert!(docs.contains(&format!("`{key}`")), "docs/config.md does not have `{key}`");
    }
}

/// A config can be made in code as well as in a file; a fleet's alone is a file's.
#[test]
fn the_builder_has_every_config_key() {
    for (table, file) in [
        ("[spec_ops.webhooks]", "src/config/builder.rs"),
        ("[spec_ops.webhooks.alerts]", "src/config/builder.rs"),
        ("[[spec_ops.webhooks.subscriptions]]", "src/config/builder/subscription.rs"),
    ] {
        let code = text(file);
        let of_a_file = ["alerts", "fleet", "subscriptions", "headers"];
        for key in known_keys(table).iter().filter(|key| !of_a_file.contains(&key.as_str())) {
            assert!(code.contains(&format!("\"{key}\"")), "{file} does not have {key} of {table}");
        }
    }
}

/// The commands of the program, as their variants are named.
fn commands() -> BTreeSet<String> {
    let text = text("src/cli/mod.rs");
    let variants = text.split_once("enum Command {").unwrap().1.split_once("\n}").unwrap().0;
    // What is hidden is not for people.
    let hidden = "#[command(hide = true)]\n";
    let shown: Vec<&str> = variants
        .split(hidden)
        .enumerate()
        .map(|(n, part)| match n {
            0 => part,
            _ => part.split_once('\n').unwrap().1,
        })
        .collect();
    let variants = shown.concat();
    let name = |line: &str| {
        let name = line.strip_prefix("    ")?.split(|c: char| !c.is_ascii_alphanumeric()).next()?;
        name.starts_with(|c: char| c.is_ascii_uppercase()).then(|| name.to_lowercase())
    };
    variants.lines().filter_map(name).collect()
}

#[test]
fn the_readme_and_the_commands_page_name_every_command() {
    let commands = commands();
    assert!(commands.len() > 12, "{commands:?}");
    for (page, exempt) in [("README.md", &[][..]), ("docs/commands.md", &["top", "completions", "man"])] {
        let page_text = text(page);
        for command in commands.iter().filter(|command| !exempt.contains(&command.as_str())) {
            assert!(page_text.contains(&format!("`{command}`")), "{page} does not have `{command}`");
        }
    }
}

/// The names of the fields of the structs in a file, as serde writes them.
fn fields(file: &str) -> BTreeSet<String> {
    let text = text(file);
    let code = text.split("#[cfg(test)]").next().unwrap();
    let field = |line: &str| {
        let (name, _) = line.strip_prefix("    pub ")?.split_once(':')?;
        // A method has a space in what stands before its first colon.
        (!name.contains(' ')).then(|| name.to_owned())
    };
    code.lines().filter_map(field).collect()
}

#[test]
fn the_docs_name_every_field_of_the_files() {
    let docs = text("docs/files.md");
    for file in ["src/archive/evidence.rs", "src/archive/dead_letter.rs", "src/spool/record.rs"] {
        let fields = fields(file);
        assert!(!fields.is_empty(), "{file}");
        for field in fields {
            let known = docs.contains(&format!("`{field}`"));
            assert!(known, "docs/files.md does not have `{field}` of {file}");
        }
    }
}

/// README, changelog and the pages in `docs/`, by their paths.
fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    files_named(&root().join("docs"), "md", &mut pages);
    pages
}

/// The lines of a page that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// What a heading is called in a link.
fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn every_link_of_the_docs_leads_somewhere() {
    let mut followed = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let targets = prose(&text).flat_map(|line| line.split("](").skip(1));
        for target in targets.filter_map(|rest| rest.split([')', ' ']).next()) {
            if target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let (path, section) = target.split_once('#').unwrap_or((target, ""));
            let led = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(led.exists(), "{}: there is no {target}", page.display());
            if !section.is_empty() {
                let text = fs::read_to_string(&led).unwrap();
                let mut headings = prose(&text).filter(|line| line.starts_with('#'));
                assert!(headings.any(|it| anchor(it) == section), "{}: no {target}", page.display());
            }
            followed += 1;
        }
    }
    assert!(followed > 100, "only {followed} links: is the pattern right?");
}

#[test]
fn every_config_in_the_docs_has_known_keys() {
    let mut read = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            if !block.contains("spec_ops.webhooks") {
                continue;
            }
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("config.toml"), block).unwrap();
            let options =
                LoadOptions::in_dir(dir.path()).repo(dir.path()).config("config.toml").without_secrets();
            let errors = options.load(&Environment::fixed([])).errors;
            let unknown: Vec<_> = errors.iter().filter(|it| it.message.starts_with("unknown key")).collect();
            assert!(unknown.is_empty(), "{}: {unknown:?}", page.display());
            read += 1;
        }
    }
    assert!(read > 3, "only {read} configs: is the pattern right?");
}

#[test]
fn every_file_of_code_that_the_docs_name_is_there() {
    let is_of_code = |path: &&str| {
        path.ends_with(".rs")
            && ["src/", "actors/", "tests/", "benches/"].iter().any(|dir| path.starts_with(dir))
    };
    let mut named = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for path in text.split(['`', '(', ')']).filter(is_of_code) {
            assert!(root().join(path).is_file(), "{}: there is no {path}", page.display());
            named += 1;
        }
    }
    assert!(named > 50, "only {named} files of code are named: is the pattern right?");
}

#[test]
fn the_docs_name_every_field_that_machines_read() {
    let docs = ["commands", "control-port", "files", "metrics"];
    let docs: String = docs.iter().map(|page| text(&format!("docs/{page}.md"))).collect();
    for file in [
        "src/inspect/status.rs",
        "src/inspect/causes.rs",
        "src/figures/window.rs",
        "src/delivery/trouble.rs",
        "src/ask/emitted.rs",
        "src/ask/sent.rs",
        "src/control/protocol.rs",
        "src/inspect/listing.rs",
        "src/inspect/attempts.rs",
        "src/inspect/metrics.rs",
        "src/inspect/report/mod.rs",
        "src/inspect/report/attempts.rs",
        "src/inspect/report/runs.rs",
        "src/figures/totals.rs",
        "src/delivery/health.rs",
    ] {
        for field in fields(file).iter().map(|field| if field == "kind" { "type" } else { field }) {
            assert!(docs.contains(&format!("`{field}`")), "no page has `{field}` of {file}");
        }
    }
}

fn schema() -> Value {
    serde_json::from_str(&text("docs/payload.schema.json")).unwrap()
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
    assert_eq!(others, checked, "docs/payload.schema.json and src/event/shape.rs");
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
    let (docs, schema) = (text("docs/events.md"), schema());
    let table = docs.split_once("## Where each payload field comes from").unwrap().1;
    let table = table.split("\n## ").next().unwrap();
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words: BTreeSet<&str> = table.split(|c| !is_of_name(c)).collect();
    for path in all_properties(&schema).keys() {
        let name = path.rsplit('.').next().unwrap();
        assert!(words.contains(name), "docs/events.md does not say where {path} comes from");
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let manifest = text("Cargo.toml");
    let docs = text("docs/dependencies.md");
    let tables = ["[dependencies]", "[dev-dependencies]"];
    for table in tables {
        let part = manifest.split_once(table).unwrap().1.split("\n[").next().unwrap();
        for name in part.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name) {
            assert!(docs.contains(&format!("| {name} |")), "docs/dependencies.md does not have {name}");
        }
    }
}

/// The lines of a file's code: comments and its tests apart.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// What reads them elsewhere cannot be given a time or a number by a test.
#[test]
fn the_clock_and_the_dice_are_in_one_place() {
    let reads = [
        "new_v4",
        "fastrand::",
        "rand_bytes",
        "Timestamp::now",
        "SystemTime::now",
        "Zoned::now",
        "EPOCH.elapsed",
    ];
    for (file, text) in sources() {
        if file == "src/clock.rs" || file.contains("tests") {
            continue;
        }
        let line = code(&text).find(|line| reads.iter().any(|read| line.contains(read)));
        assert!(line.is_none(), "{file}: {line:?}: ask crate::clock");
    }
}

/// One that is opened elsewhere could be a FIFO or have no end.
#[test]
fn every_file_that_is_read_is_opened_in_one_place() {
    let opens = ["File::open(", "fs::read(", "fs::read_to_string(", "OpenOptions::new()"];
    for (file, text) in sources() {
        let may = ["src/files/open.rs", "src/files/mod.rs", "src/cli/demo.rs"].contains(&file.as_str());
        if may || file.contains("tests") {
            continue;
        }
        for line in code(&text).filter(|line| opens.iter().any(|open| line.contains(open))) {
            let is_ours = line.contains("open::") || line.contains("/etc/passwd");
            assert!(is_ours, "{file}: {line}: open it through crate::files::open");
        }
    }
}
