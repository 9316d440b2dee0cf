//! The help of the program and its commands: a command's own options before those that all have,
//! prose wrapped to the terminal, examples as they are written.

use std::io::{self, IsTerminal as _};
use std::mem;

use clap::Command;
use clap::builder::styling::Styles;
use ratatui::crossterm::terminal::size;
use textwrap::core::display_width;

use super::render::wrap;

/// The heading of the options that every command has.
pub(super) const GLOBAL: &str = "Global options";

/// The widest that prose becomes: longer lines are hard to read.
const WIDEST: usize = 100;

/// The width where there is no terminal, or one that does not say how wide it is.
const USUAL: usize = 80;

/// What is said of a command after its options.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part {
    Prose(String),
    /// Lines that stand as they are, below a heading.
    Examples {
        heading: String,
        lines: Vec<String>,
    },
}

impl Told {
    /// Reads the text that the definition of a command has: a line that begins with two spaces is
    /// an example, its heading stands before it; other lines are prose, in paragraphs.
    pub(super) fn of(command: &Command) -> Self {
        let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let mut told = Self::default();
        let mut prose = String::new();
        let mut is_after_gap = false;
        for line in text.lines() {
            if line.starts_with("  ") {
                match told.parts.last_mut() {
                    Some(Part::Examples { lines, .. }) if prose.is_empty() => {
                        lines.extend(is_after_gap.then(String::new));
                        lines.push(line.to_owned());
                    }
                    _ => {
                        let heading = mem::take(&mut prose);
                        told.parts.push(Part::Examples { heading, lines: vec![line.to_owned()] });
                    }
                }
                is_after_gap = false;
                continue;
            }
            is_after_gap = line.is_empty();
            // An exit code is a matter of its own.
            if line.is_empty() || line.starts_with("Exit code") {
                told.end_of(&mut prose);
            }
            if !(line.is_empty() || prose.is_empty()) {
                prose.push(' ');
            }
            prose += line;
        }
        told.end_of(&mut prose);
        told
    }

    fn end_of(&mut self, prose: &mut String) {
        if !prose.is_empty() {
            self.parts.push(Part::Prose(mem::take(prose)));
        }
    }

    /// The paragraphs.
    pub(super) fn prose(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Prose(text) => Some(text.as_str()),
            Part::Examples { .. } => None,
        })
    }

    fn text(&self, width: usize) -> String {
        let heading = Styles::default().get_header().to_owned();
        let part = |part: &Part| match part {
            Part::Prose(text) => wrap(text, "", width).join("\n"),
            Part::Examples { heading: of, lines } => {
                let lines: Vec<String> = lines.iter().flat_map(|line| example(line, width)).collect();
                format!("{heading}{of}{heading:#}\n{}", lines.join("\n"))
            }
        };
        self.parts.iter().map(part).collect::<Vec<_>>().join("\n\n")
    }
}

/// An example as it stands; what is said beside it goes below where there is no room.
fn example(line: &str, width: usize) -> Vec<String> {
    let (typed, said) = parts_of(line);
    match said.filter(|_| display_width(line) > width) {
        None => vec![line.to_owned()],
        Some(said) => std::iter::once(typed.to_owned()).chain(wrap(said, "      ", width)).collect(),
    }
}

/// What is typed, and what is said of it after a gap.
pub(super) fn parts_of(line: &str) -> (&str, Option<&str>) {
    let start = line.len() - line.trim_start().len();
    match line[start..].split_once("  ") {
        Some((typed, said)) => (&line[..start + typed.len()], Some(said.trim_start())),
        None => (line, None),
    }
}

/// The command and those below it, with help for this terminal.
pub(super) fn dressed(command: Command) -> Command {
    dressed_for(command, width())
}

fn dressed_for(command: Command, width: usize) -> Command {
    let told = Told::of(&command).text(width);
    let rest = if told.is_empty() { String::new() } else { format!("\n\n{told}") };
    command
        .term_width(width)
        .help_template(format!("{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{{all-args}}{rest}"))
        .mut_subcommands(|one| dressed_for(one, width))
}

fn width() -> usize {
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    let looked = || size().ok().map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0);
    let width = if io::stdout().is_terminal() { looked().or_else(told) } else { told() };
    width.unwrap_or(USUAL).clamp(40, WIDEST)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::super::Cli;
    use super::*;

    fn all(command: &Command, found: &mut Vec<Command>) {
        found.push(command.clone());
        let shown = command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help");
        shown.for_each(|one| all(one, found));
    }

    fn every(mut root: Command) -> Vec<(String, Command)> {
        root.build();
        let mut found = Vec::new();
        all(&root, &mut found);
        let name = |command: &Command| command.get_display_name().unwrap_or("spec-notify").to_owned();
        found.into_iter().map(|command| (name(&command), command)).collect()
    }

    fn helps(width: usize) -> impl Iterator<Item = (String, String)> {
        let dressed = every(dressed_for(Cli::command(), width));
        dressed.into_iter().map(|(name, mut command)| (name, command.render_help().to_string()))
    }

    #[test]
    fn the_help_of_every_command_at_80_columns() {
        for (name, help) in helps(80) {
            insta::assert_snapshot!(format!("help_{name}"), help);
        }
    }

    #[test]
    fn nothing_but_an_example_is_wider_than_the_terminal() {
        for width in [60, 80, 100] {
            for ((name, help), (_, command)) in helps(width).zip(every(Cli::command())) {
                let told = Told::of(&command);
                let lines = |part: &Part| match part {
                    Part::Examples { lines, .. } => lines.clone(),
                    Part::Prose(_) => Vec::new(),
                };
                let examples: Vec<String> = told.parts.iter().flat_map(lines).collect();
                let is_wide = |line: &str| display_width(line) > width;
                for example in &examples {
                    let whole = if is_wide(example) { parts_of(example).0 } else { example.as_str() };
                    assert!(help.lines().any(|line| line == whole), "{name}: {example}");
                }
                for line in help.lines().filter(|line| is_wide(line)) {
                    assert!(examples.iter().any(|example| parts_of(example).0 == line), "{name}: {line}");
                }
                let at = |heading: &str| help.find(heading);
                assert!(at("\nOptions:") < at("\nGlobal options:"), "{name}: {help}");
            }
        }
    }

    #[test]
    fn examples_prose_and_exit_codes_are_told_apart() {
        let text = "Example, there:\n  a {b}\n\n  c\n\nOne\ntwo.\nExit code 1 where.\n\nMore:\n  d";
        let told = Told::of(&Command::new("x").after_help(text));
        let examples = |heading: &str, lines: &[&str]| Part::Examples {
            heading: heading.to_owned(),
            lines: lines.iter().map(|line| (*line).to_owned()).collect(),
        };
        let prose = |text: &str| Part::Prose(text.to_owned());
        let expected = vec![
            examples("Example, there:", &["  a {b}", "", "  c"]),
            prose("One two."),
            prose("Exit code 1 where."),
            examples("More:", &["  d"]),
        ];
        assert_eq!(told, Told { parts: expected });
    }
}
