//! What a user can meet stands in the docs, and what stands there is so.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use spec_notify::{Environment, EventKind, LoadOptions};

use super::house::{code, sources};
use super::{files_named, root, text};

/// The keys that a table can have, as the program lists them where one is not known.
fn known_keys(table: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.toml"), format!("{table}\nzzzz = 1\n")).unwrap();
    let options = LoadOptions::in_dir(dir.path()).repo(dir.path()).config("config.toml").without_secrets();
    let errors = options.load(&Environment::fixed([])).errors;
    let unknown = errors.iter().find(|error| error.message == "unknown key `zzzz`").unwrap();
    unknown.help.strip_prefix("known keys are: ").unwrap().split(", ").map(str::to_owned).collect()
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

#[test]
fn the_docs_name_every_config_key_in_the_order_of_the_messages() {
    let docs = text("docs/reference/config.md");
    for (table, least) in [("[spec_ops.webhooks]", 15), ("[[spec_ops.webhooks.subscriptions]]", 25)] {
        let page = docs.split_once(&format!("## `{table}`\n")).unwrap().1.split("\n#").next().unwrap();
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        let names = rows.flat_map(|row| row.split('|').nth(1).unwrap().split('`').skip(1).step_by(2));
        let (named, known): (Vec<&str>, Vec<String>) = (names.collect(), known_keys(table));
        assert_eq!(named, known, "docs/reference/config.md and {table}");
        assert!(known.len() >= least, "{known:?}");
    }
    for key in known_keys("[spec_ops.webhooks.alerts]") {
        assert!(docs.contains(&format!("`{key}`")), "docs/reference/config.md does not have `{key}`");
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
    for (page, exempt) in
        [("README.md", &[][..]), ("docs/reference/commands.md", &["top", "completions", "man"])]
    {
        let page_text = text(page);
        for command in commands.iter().filter(|command| !exempt.contains(&command.as_str())) {
            assert!(page_text.contains(&format!("`{command}`")), "{page} does not have `{command}`");
        }
    }
}

/// The names of the fields of the structs in a file, as serde writes them.
fn fields(file: &str) -> BTreeSet<String> {
    let text = text(file);
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let field = |line: &str| {
        let (name, _) = line.strip_prefix("    pub ")?.split_once(':')?;
        // A method has a space in what stands before its first colon.
        (!name.contains(' ')).then(|| name.to_owned())
    };
    code.lines().filter_map(field).collect()
}

#[test]
fn the_docs_name_every_field_of_the_files() {
    let pages = ["reference/evidence", "reference/dead-letter", "contributing/spool-format"];
    let docs: String = pages.iter().map(|page| text(&format!("docs/{page}.md"))).collect();
    for file in ["src/archive/evidence.rs", "src/archive/dead_letter.rs", "src/spool/record.rs"] {
        let fields = fields(file);
        assert!(!fields.is_empty(), "{file}");
        for field in fields {
            let known = docs.contains(&format!("`{field}`"));
            assert!(known, "none of {pages:?} has `{field}` of {file}");
        }
    }
}

/// README, changelog and the pages in `docs/`, by their paths.
pub(super) fn pages() -> Vec<PathBuf> {
    let mut pages = vec![root().join("README.md"), root().join("CHANGELOG.md")];
    files_named(&root().join("docs"), "md", &mut pages);
    pages
}

/// The lines of a page that are no code.
pub(super) fn prose(text: &str) -> impl Iterator<Item = &str> {
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
    let mut pages = Vec::new();
    files_named(&root().join("docs/reference"), "md", &mut pages);
    let docs: String = pages.iter().map(|page| fs::read_to_string(page).unwrap()).collect();
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

/// The names in capitals in the code that are variables of the environment which a person can set.
#[test]
fn the_docs_name_every_variable_of_the_environment() {
    let page = text("docs/reference/environment.md");
    let is_part = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let is_name = |word: &str| {
        word.contains('_') && word.chars().all(is_part) && word.starts_with(|c: char| c.is_ascii_uppercase())
    };
    // What git is given, what the demo and the kit make up, the examples that `init` writes, and
    // what is no variable.
    let others =
        ["GIT_", "LC_", "DEMO_", "SANDBOX_", "CARGO_", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD"];
    let examples = ["SLACK_WEBHOOK_URL", "SPECKIT_WEBHOOK_SECRET_TRACKER"];
    let mut named = BTreeSet::new();
    for (file, text) in sources().iter().filter(|(file, _)| !file.contains("tests")) {
        let code: Vec<&str> = code(text).collect();
        for word in code.join("\n").split('"').skip(1).step_by(2).filter(|word| is_name(word)) {
            if others.iter().any(|other| word.starts_with(other)) || examples.contains(&word) {
                continue;
            }
            assert!(page.contains(&format!("`{word}`")), "environment.md does not have {word} of {file}");
            named.insert(word.to_owned());
        }
    }
    assert!(named.len() > 12, "{named:?}");
}

#[test]
fn each_type_of_event_has_its_sample_on_the_page() {
    let page = text("docs/reference/event-types.md");
    for kind in EventKind::ALL {
        let sample = text(&format!("docs/reference/samples/{kind}.json"));
        assert!(page.contains(&format!("```json\n{sample}```\n")), "the sample of {kind}");
        assert!(page.split_once("\n## ").unwrap().0.contains(&format!("[`{kind}`](#")), "{kind}");
    }
}

#[test]
fn every_payload_in_the_docs_fits_the_schema() {
    let validator = jsonschema::validator_for(&super::schema::schema()).unwrap();
    let mut read = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for block in text.split("```json\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            let body: Value = serde_json::from_str(block).unwrap();
            if body.get("schemaVersion").is_some() {
                let errors: Vec<_> = validator.iter_errors(&body).map(|error| error.to_string()).collect();
                assert!(errors.is_empty(), "{}: {errors:?}", page.display());
                read += 1;
            }
        }
    }
    assert!(read > 9, "only {read} payloads: is the pattern right?");
}

/// A page that the index does not lead to is read by nobody.
#[test]
fn the_index_leads_to_every_page() {
    let index = text("docs/README.md");
    let folder = root().join("docs");
    let exempt = ["docs/README.md", "docs/integrations/spec-kit/commands"];
    for page in pages().iter().filter(|page| page.starts_with(&folder)) {
        let path = page.strip_prefix(&folder).unwrap().to_str().unwrap();
        let is_exempt = exempt.iter().any(|exempt| format!("docs/{path}").starts_with(exempt));
        assert!(is_exempt || index.contains(&format!("({path})")), "docs/README.md does not lead to {path}");
    }
}

#[test]
fn the_map_of_tests_has_every_file() {
    let map = text("docs/contributing/test-map.md");
    for entry in fs::read_dir(root().join("tests/it")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".rs") && name != "main.rs" {
            assert!(map.contains(&format!("`{name}`")), "docs/contributing/test-map.md does not have {name}");
        }
    }
}

/// Pages, scripts and comments name pages by their paths.
#[test]
fn every_page_that_is_named_is_there() {
    let mut files = pages();
    for (folder, ending) in
        [("src", "rs"), ("actors", "rs"), ("tests", "rs"), ("benches", "rs"), ("examples", "rs")]
    {
        files_named(&root().join(folder), ending, &mut files);
    }
    let folders = ["start", "how-to", "reference", "explain", "contributing", "integrations"];
    let is_of_path = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let mut named = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for folder in folders {
            let start = format!("docs/{folder}/");
            for (at, _) in text.match_indices(&start) {
                let path = text[at..].split(|c| !is_of_path(c)).next().unwrap().trim_end_matches('.');
                assert!(root().join(path).exists(), "{}: there is no {path}", file.display());
                named += 1;
            }
        }
    }
    assert!(named > 50, "only {named} pages are named: is the pattern right?");
}
