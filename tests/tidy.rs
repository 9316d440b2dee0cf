//! Keeps the house in order: imports run downwards only, and the docs name everything a user can meet.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests; clippy exempts only the test functions themselves"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("actors"), &mut files);
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The floor of a module: see `docs/ARCHITECTURE.md`.
fn floor(module: &str) -> Option<usize> {
    const FLOORS: [&[&str]; 6] = [
        &["clock", "decode", "event", "filter", "sign", "secret", "delivery", "payload"],
        &["open", "env", "http", "config", "store", "intake", "watch"],
        &["actors"],
        &["control"],
        &["runtime"],
        &["cli"],
    ];
    FLOORS.iter().position(|modules| modules.contains(&module))
}

#[test]
fn imports_run_downwards_only() {
    for (file, text) in sources() {
        let module = match file.strip_prefix("src/") {
            None => "actors",
            Some(rest) => rest.split(['/', '.']).next().unwrap(),
        };
        let Some(own) = floor(module) else { continue };
        for used in text.split("crate::").skip(1) {
            let used = used.split(|c: char| !c.is_ascii_lowercase() && c != '_').next().unwrap();
            if let Some(other) = floor(used) {
                assert!(other <= own, "{file} (floor {own}) uses crate::{used} (floor {other})");
            }
        }
    }
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

/// The words in double quotes between two markers of a source file.
fn quoted(file: &str, from: &str, to: &str) -> BTreeSet<String> {
    let text = text(file);
    let part =
        text.split_once(from).unwrap_or_else(|| panic!("{from} in {file}")).1.split_once(to).unwrap().0;
    part.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_docs_name_every_config_key() {
    let docs = text("docs/config.md");
    let settings = quoted("src/config/check.rs", "const SETTINGS", "];");
    let keys = quoted("src/config/check.rs", "const SUBSCRIPTION", "];");
    assert!(settings.len() > 5 && keys.len() > 15);
    for key in settings.union(&keys) {
        assert!(docs.contains(&format!("`{key}`")), "docs/config.md does not have `{key}`");
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
    for file in ["src/store/evidence.rs", "src/store/dead_letter.rs", "src/store/record.rs"] {
        let fields = fields(file);
        assert!(!fields.is_empty(), "{file}");
        for field in fields {
            let known = docs.contains(&format!("`{field}`"));
            assert!(known, "docs/files.md does not have `{field}` of {file}");
        }
    }
}

#[test]
fn the_docs_name_every_field_that_machines_read() {
    let docs = text("docs/commands.md") + &text("docs/control-port.md") + &text("docs/files.md");
    for file in
        ["src/control/status.rs", "src/control/protocol.rs", "src/store/listing.rs", "src/delivery/health.rs"]
    {
        for field in fields(file).iter().map(|field| if field == "kind" { "type" } else { field }) {
            assert!(docs.contains(&format!("`{field}`")), "no page has `{field}` of {file}");
        }
    }
}

#[test]
fn the_schema_names_every_field_of_the_payload() {
    let schema = text("docs/payload.schema.json");
    let camel = |name: &str| {
        let mut parts = name.split('_');
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |name, part| name + &part[..1].to_uppercase() + &part[1..])
    };
    for field in fields("src/event.rs") {
        let names = match field.as_str() {
            // The second is for the Router alone, which takes it out.
            "extra" | "key_origin" => continue,
            "kind" => vec!["type".to_owned()],
            name => vec![name.to_owned(), camel(name)],
        };
        assert!(
            names.iter().any(|name| schema.contains(&format!("\"{name}\":"))),
            "the schema does not have {names:?}"
        );
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

/// One that is opened elsewhere could be a FIFO or have no end.
#[test]
fn every_file_that_is_read_is_opened_in_one_place() {
    let opens = ["File::open(", "fs::read(", "fs::read_to_string(", "OpenOptions::new()"];
    for (file, text) in sources() {
        let may = ["src/open.rs", "src/store/files.rs", "src/cli/demo.rs"].contains(&file.as_str());
        if may || file.contains("tests") {
            continue;
        }
        let code = text.split("#[cfg(test)]").next().unwrap();
        for line in code.lines().filter(|line| opens.iter().any(|open| line.contains(open))) {
            let is_ours = line.contains("open::") || line.contains("/etc/passwd");
            assert!(is_ours, "{file}: {line}: open it through crate::open");
        }
    }
}
