//! The order of the modules, and the rules that every file of code keeps.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::{files_named, root, text};

pub(super) fn sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    files_named(&root().join("src"), "rs", &mut files);
    files_named(&root().join("actors"), "rs", &mut files);
    let name = |path: &Path| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// The modules, each of which uses only those before it: see `docs/ARCHITECTURE.md`.
const ORDER: [&str; 35] = [
    "clock",
    "transient",
    "decode",
    "names",
    "glob",
    "digest",
    "event",
    "files",
    "secret",
    "env",
    "run",
    "filter",
    "payload",
    "delivery",
    "answer",
    "sign",
    "receiver",
    "http",
    "spool",
    "archive",
    "figures",
    "store",
    "config",
    "fleet",
    "sources",
    "rehearsal",
    "watch",
    "inspect",
    "ask",
    "feed",
    "actors",
    "control",
    "runtime",
    "testing",
    "cli",
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
fn a_host_without_the_kit_compiles_none_of_it() {
    let lib = text("src/lib.rs");
    for (module, features) in [
        ("mod receiver;", r#"any(feature = "cli", feature = "testing")"#),
        ("mod rehearsal;", r#"any(feature = "cli", feature = "testing")"#),
        ("pub mod testing;", r#"feature = "testing""#),
    ] {
        assert!(lib.contains(&format!("\n#[cfg({features})]\n{module}\n")), "{module}");
    }
    let manifest: toml::Table = text("Cargo.toml").parse().unwrap();
    let features = manifest["features"].as_table().unwrap();
    let turns_it_on = |(_, others): &(&String, &toml::Value)| {
        others.as_array().unwrap().iter().any(|other| other.as_str() == Some("testing"))
    };
    assert!(features.contains_key("testing") && !features.iter().any(|feature| turns_it_on(&feature)));
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

/// The lines of a file, its tests apart.
fn length(text: &str) -> usize {
    text.split("#[cfg(test)]\nmod tests {").next().unwrap().lines().count()
}

/// One that is longer is about more than one thing.
#[test]
fn no_file_is_longer_than_450_lines() {
    let files = sources();
    let of_code = files.iter().filter(|(file, _)| !file.contains("tests"));
    let long: Vec<String> = of_code
        .map(|(file, text)| (file, length(text)))
        .filter(|(_, lines)| *lines > 450)
        .map(|(file, lines)| format!("{file}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "{long:#?}");
    let with_tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", "a\n".repeat(451), "b\n".repeat(9));
    assert_eq!(length(&with_tests), 451, "its tests do not count, and all else does");
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

/// The lines of a file's code: comments and its tests apart.
pub(super) fn code(text: &str) -> impl Iterator<Item = &str> {
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
