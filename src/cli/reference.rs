//! The page `docs/reference/cli.md`, written from the definition of the command line: for the tests
//! alone, which compare the two.
//!
//! `REFERENCE=write cargo test --features fleet --lib cli::reference` writes it again.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use clap::builder::StyledStr;
use clap::{Arg, Command, CommandFactory as _};

use super::help::{Part, Told, parts_of};
use super::man::EXITS;
use super::{ALSO_FLAGS, Cli};

const PAGE: &str = "docs/reference/cli.md";

const WRITTEN: &str = include_str!("../../docs/reference/cli.md");

/// The commands that only a program with the feature `fleet` has.
const OF_A_FLEET: [&str; 2] = ["evidence", "fleet"];

const HEAD: &str = "\
# Command line

`spec-notify [OPTIONS] <COMMAND>`. This page is generated from the program: every command, its arguments, \
options and defaults. What `--json` prints is on [JSON output](json-output.md).
";

/// The page for the commands that this build of the program has.
fn page() -> String {
    let mut root = Cli::command();
    root.build();
    let mut page = HEAD.to_owned();
    page += "\n## Commands\n| command | does |\n| --- | --- |\n";
    let mut sections = String::new();
    for command in shown(&root) {
        let name = command.get_name();
        let about = text(command.get_about());
        page += &format!("| [`{name}`](#{name}) | {} |\n", cell(&about));
        sections += &section(command, name);
        for inner in shown(command) {
            sections += &section(inner, &format!("{name} {}", inner.get_name()));
        }
    }
    let flags: Vec<String> = ALSO_FLAGS.iter().map(|name| format!("`--{name}`")).collect();
    let _ = writeln!(page, "\nThese commands are flags too: {}.", flags.join(", "));
    page += "\n## Exit codes\n| code | means |\n| --- | --- |\n";
    for (code, means) in EXITS {
        let _ = writeln!(page, "| {code} | {means} |");
    }
    page += "\n## Options of every command\n";
    page += &options(root.get_arguments());
    page + &sections
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help")
}

/// What a command is, how it is called, what can be given, what else there is to know, examples.
fn section(command: &Command, name: &str) -> String {
    let about = text(command.get_long_about().or(command.get_about()));
    let mut paragraphs = about.split("\n\n").map(|one| one.replace('\n', " "));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    let first = paragraphs.next().unwrap_or_default();
    let mut section = format!("\n## `{name}`\n{first}.\n\n```text\n{usage}\n```\n");
    for further in paragraphs {
        let _ = write!(section, "\n{further}\n");
    }
    let own: Vec<&Arg> =
        command.get_arguments().filter(|one| !one.is_global_set() && !one.is_hide_set()).collect();
    if !own.is_empty() {
        section += "\n";
        section += &options(own);
    }
    for part in Told::of(command).parts {
        match part {
            Part::Prose(text) => {
                let _ = write!(section, "\n{text}\n");
            }
            Part::Examples { heading, lines } => {
                let lines: Vec<String> = lines.iter().map(|line| example(line)).collect();
                let _ = write!(section, "\n{heading}\n```sh\n{}\n```\n", lines.join("\n"));
            }
        }
    }
    section
}

fn options<'a>(arguments: impl IntoIterator<Item = &'a Arg>) -> String {
    let mut table = "| option | default | meaning |\n| --- | --- | --- |\n".to_owned();
    for argument in arguments {
        let defaults: Vec<_> =
            argument.get_default_values().iter().map(|one| one.to_string_lossy()).collect();
        // A flag is off by default, which goes without saying.
        let takes_values = argument.get_action().takes_values();
        let default = match takes_values && !defaults.is_empty() {
            true => format!("`{}`", defaults.join(",")),
            false => String::new(),
        };
        let _ = writeln!(
            table,
            "| `{}` | {default} | {} |",
            cell(&written(argument)),
            cell(&text(argument.get_help()))
        );
    }
    table
}

/// An argument as it is typed: `-q, --quiet`, `--port <PORT>`, `<SPEC>`.
fn written(argument: &Arg) -> String {
    let names: Vec<String> =
        argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let value = format!("<{}>", names.join("> <"));
    if argument.is_positional() {
        return value;
    }
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let flags = short.into_iter().chain(long).collect::<Vec<_>>().join(", ");
    if argument.get_action().takes_values() { format!("{flags} {value}") } else { flags }
}

/// An example for a shell: what is said beside it becomes a comment.
fn example(line: &str) -> String {
    let line = line.strip_prefix("  ").unwrap_or(line);
    match parts_of(line) {
        (typed, Some(said)) => format!("{typed}   # {said}"),
        (typed, None) => typed.to_owned(),
    }
}

fn text(text: Option<&StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

/// The page without the commands that this build does not have.
fn of_this_build(page: &str) -> String {
    let is_of_a_fleet = |name: &str| OF_A_FLEET.contains(&name) && cfg!(not(feature = "fleet"));
    let mut kept = String::new();
    let mut is_left_out = false;
    for line in page.lines() {
        if let Some(heading) = line.strip_prefix("## ") {
            is_left_out = is_of_a_fleet(heading.trim_matches('`').split(' ').next().unwrap_or_default());
        }
        let row = line.strip_prefix("| [`").and_then(|row| row.split('`').next());
        if !is_left_out && !row.is_some_and(is_of_a_fleet) {
            kept += line;
            kept.push('\n');
        }
    }
    kept
}

#[test]
fn the_page_of_the_command_line_is_what_the_program_says() {
    if cfg!(feature = "fleet") && std::env::var_os("REFERENCE").is_some_and(|value| value == "write") {
        return fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE), page()).unwrap();
    }
    assert_eq!(
        of_this_build(WRITTEN),
        page(),
        "{PAGE} is old: the first lines of this file say how to write it"
    );
}

#[test]
fn every_command_has_an_example() {
    let mut root = Cli::command();
    root.build();
    let has_one =
        |command: &Command| Told::of(command).parts.iter().any(|part| matches!(part, Part::Examples { .. }));
    for command in shown(&root) {
        let inner: Vec<&Command> = shown(command).collect();
        let is_told = has_one(command) || !inner.is_empty() && inner.iter().all(|one| has_one(one));
        assert!(is_told, "{}", command.get_name());
    }
}
