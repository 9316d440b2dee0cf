//! `spec-notify man`: manual pages, from the definition of the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use serde_json::json;

use super::help::{Part, Told};
use super::render::{Screen, Tone};
use super::{Cli, Exit, Failure};
use crate::names::{counted, nearest};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify man | man -l -
  spec-notify man list | man -l -
  spec-notify man --out ~/.local/share/man/man1      then: man spec-notify-list")]
pub(super) struct Options {
    /// Command whose page to print, instead of the page of the program
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Option<String>,
    /// Directory to write a page for each command into
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// What the exit codes mean, for every command.
pub(super) const EXITS: [(&str, &str); 4] = [
    ("0", "Done."),
    (
        "1",
        "The command failed: a delivery did not arrive, nothing matches, something is unresolved, or the \
         result could not be written.",
    ),
    ("2", "The usage or the config is wrong."),
    ("3", "The command needs a runtime, and none can be reached."),
];

const FILES: [(&str, &str); 7] = [
    (
        ".spec-kit/config.toml",
        "The config, in the repo: the table [spec_ops.webhooks]. Else config.toml in $CODE_HOME (~/.code) or \
         $CODEX_HOME (~/.codex).",
    ),
    (
        ".spec-kit/webhooks/secrets.env",
        "The secret that spec-notify init makes. Its mode is 0600, and git ignores it.",
    ),
    (
        "docs/SPEC-OPS-004-integrated-coder-hooks/evidence/webhooks/",
        "The spool, unless you set spool_dir: events that are accepted and not delivered yet.",
    ),
    ("<spool>/runtime.json", "The address of the running runtime, and the token to reach it."),
    ("<spool>/inbox/", "Events that came while no runtime could be reached. The next runtime takes them in."),
    ("<spool>/<SPEC-ID>/dead-letter/<id>.json", "A dead letter: its body, attempts, reason and hint."),
    (
        "<evidence>/commands/<SPEC-ID>/webhooks/deliveries.jsonl",
        "The evidence: one line for each attempt and for each end of a delivery.",
    ),
];

const ENVIRONMENT: [(&str, &str); 5] = [
    ("SPECKIT_WEBHOOKS_CONFIG", "The config file, unless you give --config."),
    ("SPECKIT_WEBHOOKS_ENABLED", "1 or 0; wins over enabled in the config."),
    (
        "HTTPS_PROXY, HTTP_PROXY, NO_PROXY",
        "The proxy for subscriptions without one, and the hosts that need none.",
    ),
    ("RUST_LOG", "The level of the log, such as spec_notify=debug; wins over -q and -v."),
    ("NO_COLOR", "If set, output has no colours."),
];

pub(super) fn run(options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let pages = pages();
    if let Some(dir) = &options.out {
        write(dir, &pages)
            .map_err(|error| Failure::failed(format!("cannot write into {}: {error}", dir.display())))?;
        if screen.is_json() {
            screen.value(&json!({"dir": dir, "pages": pages.len()}));
        } else {
            let written = counted(pages.len(), "page", "pages");
            screen.line(Tone::Plain, format_args!("{written} in {}", dir.display()));
        }
        return Ok(Exit::Done);
    }
    let wanted =
        options.command.as_ref().map_or("spec-notify".to_owned(), |name| format!("spec-notify-{name}"));
    let page = pages.iter().find(|page| page.name == wanted).ok_or_else(|| {
        let known = pages.iter().map(|page| page.name.as_str());
        let hint = nearest(&wanted, known).map_or(String::new(), |name| format!(": is it {name}?"));
        Failure::usage(format!("there is no page {wanted}{hint}"))
    })?;
    screen.raw(&page.text().map_err(Failure::failed)?);
    Ok(Exit::Done)
}

fn write(dir: &Path, pages: &[Page]) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    pages.iter().try_for_each(|page| fs::write(dir.join(format!("{}.1", page.name)), page.text()?))
}

struct Page {
    name: String,
    command: Command,
    see_also: Vec<String>,
}

/// The page of the program, and one of each command.
fn pages() -> Vec<Page> {
    let mut root = Cli::command();
    root.build();
    let shown = |one: &&Command| !one.is_hide_set() && one.get_name() != "help";
    let of = |one: &Command| format!("spec-notify-{}", one.get_name());
    let names: Vec<String> = root.get_subcommands().filter(shown).map(of).collect();
    let commands = root.get_subcommands().filter(shown).map(|one| Page {
        name: of(one),
        command: one.clone(),
        see_also: vec!["spec-notify".to_owned()],
    });
    let first = Page { name: "spec-notify".to_owned(), command: root.clone(), see_also: names };
    std::iter::once(first).chain(commands).collect()
}

impl Page {
    fn text(&self) -> io::Result<Vec<u8>> {
        let told = Told::of(&self.command);
        let usage = self.command.clone().render_usage().to_string();
        let usage = usage.trim_start_matches("Usage:").trim().to_owned();
        let man = Man::new(self.command.clone().override_usage(usage));
        // No date: the same version has the same pages. Neither are words broken at their ends, of
        // which commands have too many, nor lines stretched.
        let mut page = format!(
            ".TH {} 1 \"\" \"spec-notify {}\" \"spec-notify\"\n.nh\n.ad l\n",
            self.name.to_uppercase(),
            env!("CARGO_PKG_VERSION")
        )
        .into_bytes();
        man.render_name_section(&mut page)?;
        man.render_synopsis_section(&mut page)?;
        self.description(&told).to_writer(&mut page)?;
        man.render_options_section(&mut page)?;
        if self.command.get_subcommands().any(|one| one.get_name() != "help") {
            self.commands().to_writer(&mut page)?;
        }
        self.end(&told).to_writer(&mut page)?;
        Ok(in_ascii(&String::from_utf8_lossy(&page)).into_bytes())
    }

    fn is_of_all(&self) -> bool {
        self.name == "spec-notify"
    }

    fn description(&self, told: &Told) -> Roff {
        let mut roff = Roff::new();
        roff.control("SH", ["DESCRIPTION"]);
        let about = self.command.get_about().map(ToString::to_string).unwrap_or_default();
        roff.text([roman(format!("{about}."))]);
        for text in told.prose().filter(|text| !is_of_exits(text)) {
            roff.control("PP", []);
            roff.text([roman(text)]);
        }
        roff
    }

    fn commands(&self) -> Roff {
        let mut roff = Roff::new();
        roff.control("SH", ["COMMANDS"]);
        let shown =
            self.command.get_subcommands().filter(|one| !one.is_hide_set() && one.get_name() != "help");
        for one in shown {
            let name = match self.see_also.contains(&format!("spec-notify-{}", one.get_name())) {
                true => vec![bold(format!("spec-notify-{}", one.get_name())), roman("(1)")],
                false => vec![bold(one.get_name())],
            };
            let about = one.get_about().map(ToString::to_string).unwrap_or_default();
            entry(&mut roff, name, &about);
        }
        roff
    }

    /// What stands after the options.
    fn end(&self, told: &Told) -> Roff {
        let mut roff = Roff::new();
        roff.control("SH", ["EXIT STATUS"]);
        EXITS.iter().for_each(|(code, means)| entry(&mut roff, vec![bold(*code)], means));
        // The program's own text about them is the list above.
        for text in told.prose().filter(|text| is_of_exits(text) && !self.is_of_all()) {
            roff.control("PP", []);
            roff.text([roman(text)]);
        }
        if self.is_of_all() {
            for (heading, rows) in [("FILES", &FILES[..]), ("ENVIRONMENT", &ENVIRONMENT)] {
                roff.control("SH", [heading]);
                rows.iter().for_each(|(name, means)| entry(&mut roff, vec![italic(*name)], means));
            }
        }
        let examples = told.parts.iter().filter_map(|part| match part {
            Part::Examples { heading, lines } => Some((heading, lines)),
            Part::Prose(_) => None,
        });
        for (n, (heading, lines)) in examples.enumerate() {
            match n {
                0 => roff.control("SH", ["EXAMPLES"]),
                _ => roff.control("PP", []),
            };
            if !matches!(heading.as_str(), "Example:" | "Examples:") {
                roff.text([roman(heading.as_str())]);
            }
            roff.control("nf", []);
            for line in lines {
                roff.text([roman(line.as_str())]);
            }
            roff.control("fi", []);
        }
        roff.control("SH", ["SEE ALSO"]);
        let last = self.see_also.len().saturating_sub(1);
        let names = self.see_also.iter().enumerate();
        let mut names: Vec<Inline> = names
            .flat_map(|(n, name)| [bold(name.as_str()), roman(if n < last { "(1), " } else { "(1)" })])
            .collect();
        if !self.is_of_all() {
            names.push(roman(", which has the files and the environment of all commands"));
        }
        roff.text(names);
        roff
    }
}

fn is_of_exits(prose: &str) -> bool {
    prose.starts_with("Exit code")
}

/// Other characters by their numbers: what formats a page may not know that it is UTF-8.
fn in_ascii(page: &str) -> String {
    let escaped = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\[u{:04X}]", u32::from(c)) };
    page.chars().map(escaped).collect()
}

fn entry(roff: &mut Roff, name: Vec<Inline>, means: &str) {
    roff.control("TP", []);
    roff.text(name);
    roff.text([roman(means)]);
}
