//! The only place that prints: results on stdout, words about them on stderr, coloured where a person looks.

use std::fmt::Display;
use std::io;

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

/// Where results go, and in which form.
pub(super) struct Screen {
    json: bool,
    lost: bool,
}

/// How a line is meant.
#[derive(Clone, Copy)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
    Faint,
    Heading,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Faint => Style::new().dimmed(),
            Self::Heading => Style::new().bold(),
        }
    }
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        Self { json, lost: false }
    }

    /// Whether results are for a machine.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// One line of a result for people.
    pub(super) fn line(&mut self, tone: Tone, text: impl Display) {
        let style = tone.style();
        self.write(&mut anstream::stdout(), format_args!("{style}{text}{style:#}\n"));
    }

    /// One value of a result for machines, on a line of its own.
    pub(super) fn value(&mut self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(json) => self.write(&mut anstream::stdout(), format_args!("{json}\n")),
            Err(error) => self.error(error),
        }
    }

    /// What went wrong, on stderr.
    pub(super) fn error(&mut self, text: impl Display) {
        let style = AnsiColor::Red.on_default().bold();
        self.write(&mut anstream::stderr(), format_args!("{style}error:{style:#} {text}\n"));
    }

    /// What may go wrong, on stderr.
    pub(super) fn warning(&mut self, text: impl Display) {
        let style = AnsiColor::Yellow.on_default().bold();
        self.write(&mut anstream::stderr(), format_args!("{style}warning:{style:#} {text}\n"));
    }

    /// A word to the person at the terminal, on stderr.
    pub(super) fn note(&mut self, text: impl Display) {
        self.write(&mut anstream::stderr(), format_args!("{text}\n"));
    }

    /// A table that fits the terminal.
    pub(super) fn table(&mut self, heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_header(heading.iter().copied());
        for row in rows {
            table.add_row(row);
        }
        self.write(&mut anstream::stdout(), format_args!("{table}\n"));
    }

    /// A reader that closed its end, such as `head`, ends the printing and not the program.
    fn write(&mut self, stream: &mut impl io::Write, text: std::fmt::Arguments<'_>) {
        if !self.lost && stream.write_fmt(text).and_then(|()| stream.flush()).is_err() {
            self.lost = true;
        }
    }
}
