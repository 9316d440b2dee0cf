//! Each command and flag that the docs show is one of the program's, and exits as they say.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::harness::Sandbox;
use crate::harness::page::{blocks, page};

/// The words of a help text that stand at the start of its lines between these two.
fn listed(help: &str, from: &str) -> Vec<String> {
    let part = help.split_once(from).map_or("", |(_, part)| part).split("\n\n").next().unwrap_or_default();
    let own = part.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    own.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// What the program takes: each command, as `fleet init` too, with its flags.
fn known(sandbox: &Sandbox) -> BTreeMap<String, BTreeSet<String>> {
    let help = |words: &[&str]| sandbox.run(&[words, &["--help"]].concat()).stdout;
    let mut known = BTreeMap::new();
    for command in listed(&help(&[]), "Commands:\n") {
        let text = help(&[&command]);
        for below in listed(&text, "Commands:\n") {
            known.insert(format!("{command} {below}"), flags(&help(&[&command, &below])));
        }
        known.insert(command, flags(&text));
    }
    known
}

/// The flags that a text names.
fn flags(text: &str) -> BTreeSet<String> {
    let is_of_flag = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let words = text.split(|c| !is_of_flag(c)).filter(|word| word.len() > 2 && word.starts_with("--"));
    words.map(str::to_owned).collect()
}

/// The pages, but for the changelog, which has what was.
fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join("docs")];
    let mut found = vec![root.join("README.md")];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// What a page would have a reader run: commands in a shell's blocks, in the steps of a job, and in
/// the text.
fn shown(page: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for block in blocks(page).iter().filter(|block| ["sh", "bash", "yaml"].contains(&&*block.kind)) {
        let of_job = |line: &&str| block.kind != "yaml" || line.contains("run: ");
        lines.extend(block.text.lines().filter(of_job).map(str::to_owned));
    }
    let prose: String = page.split("```").step_by(2).collect();
    lines.extend(prose.split('`').skip(1).step_by(2).map(str::to_owned));
    lines
}

/// The command and the flags of each call in a line.
fn calls<'a>(line: &'a str, known: &BTreeMap<String, BTreeSet<String>>) -> Vec<(String, Vec<&'a str>)> {
    let ends = [" | ", " && ", " || ", "; ", " > ", " >> ", " 2>", " #", "`", "$("];
    let mut found = Vec::new();
    let starts = line.match_indices("spec-notify ").map(|(at, name)| at + name.len());
    let whole = line.split(' ').next().is_some_and(|first| known.contains_key(first)).then_some(0);
    for start in whole.into_iter().chain(starts) {
        let rest = &line[start..];
        let end = ends.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
        let words: Vec<&str> = rest[..end].split_whitespace().collect();
        // What stands before the command is for all of them: `--repo DIR serve`.
        let at = words.iter().position(|word| known.contains_key(*word));
        let Some(at) = at.filter(|at| words[..*at].iter().all(|it| it.starts_with('-') || *at > 1)) else {
            continue;
        };
        let two = words.get(at + 1).map(|next| format!("{} {next}", words[at]));
        let command = two.filter(|two| known.contains_key(two)).unwrap_or_else(|| words[at].to_owned());
        let flag = |word: &&'a str| word.starts_with("--").then(|| word.split(['=', ',']).next().unwrap());
        found.push((command, words.iter().filter_map(flag).collect()));
    }
    found
}

#[test]
fn every_command_and_flag_of_the_docs_is_one_of_the_program() {
    let sandbox = Sandbox::empty();
    let known = known(&sandbox);
    assert!(known.len() > 24 && known["emit"].contains("--telemetry"), "{known:?}");
    let (mut commands, mut checked) = (BTreeSet::new(), 0);
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for line in shown(&text) {
            for (command, flags) in calls(&line, &known) {
                for flag in flags {
                    let is_known = known[&command].contains(flag);
                    assert!(is_known, "{}: {command} has no {flag}: {line}", page.display());
                    checked += 1;
                }
                commands.insert(command);
            }
        }
    }
    assert!(checked > 100, "only {checked} flags: is the pattern right?");
    let missing: Vec<&String> =
        known.keys().filter(|it| !commands.contains(*it) && !it.ends_with("help")).collect();
    assert!(missing.is_empty(), "no page shows {missing:?}");
}

/// The table of exit codes: of each command, which of 0 to 3 it can exit with.
fn exit_codes() -> BTreeMap<String, Vec<bool>> {
    let page = page("docs/reference/commands.md");
    let rows = page.lines().filter(|line| line.starts_with("| `") && line.matches(" |").count() == 5);
    let mut codes = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        for command in cells[0].split('`').skip(1).step_by(2) {
            codes.insert(command.to_owned(), cells[1..].iter().map(|cell| !cell.is_empty()).collect());
        }
    }
    codes
}

#[test]
fn a_command_exits_as_its_row_says() {
    let codes = exit_codes();
    let sandbox = Sandbox::new(&[("one", "http://127.0.0.1:9/", "max_attempts = 1")]);
    let event = json!({"event": {"type": "spec-kit.task.completed"}, "spec": {"id": "SPEC-1"}});
    let event = sandbox.write("event.json", &event.to_string());
    let event = event.to_str().unwrap();
    let wrong = sandbox.write("wrong.toml", "[spec_ops.webhooks]\nenabled = true\nzzz = 1\n");
    let wrong = wrong.to_str().unwrap();
    for (arguments, code) in [
        (&["check"][..], 0),
        (&["replay", "--all"], 0),
        (&["--config", wrong, "check"], 2),
        (&["--config", wrong, "serve"], 2),
        (&["emit", "--event", event], 0),
        (&["emit", "--event", "none.json"], 2),
        (&["list"], 0),
        (&["list", "SPEC-9"], 1),
        (&["show", "0000"], 1),
        (&["test", "SPEC-1", "--subscription", "one"], 1),
        (&["test", "SPEC-1", "--subscription", "none"], 2),
        (&["test", "SPEC-1", "--subscription", "one", "--dry-run"], 0),
        (&["replay", "0000"], 1),
        (&["discard", "--all", "--yes"], 0),
        (&["pause", "none"], 1),
        (&["pause", "one"], 0),
        (&["status"], 1),
        (&["resume", "one"], 0),
        (&["report"], 0),
        (&["metrics"], 0),
        (&["explain", "--event", event], 0),
        (&["explain", "--event", "none.json"], 2),
        (&["preview", "--event", event], 2),
        (&["preview", "--format", "slack", "--event", event], 0),
        (&["reload"], 3),
        (&["baseline"], 0),
        (&["secret", "new"], 0),
    ] {
        let ran = sandbox.run(arguments);
        assert_eq!(ran.code, code, "{arguments:?}: {ran:?}");
        let command = arguments.iter().find(|argument| codes.contains_key(**argument));
        let row = &codes[*command.unwrap_or_else(|| panic!("no row for {arguments:?}"))];
        assert!(row[usize::try_from(code).unwrap()], "{arguments:?}: its row has nothing for {code}");
    }
    for command in listed(&sandbox.run(&["--help"]).stdout, "Commands:\n") {
        let is_exempt = ["top", "completions", "man", "help"].contains(&&*command);
        assert!(is_exempt || codes.contains_key(&command), "no row for {command}");
    }
}
