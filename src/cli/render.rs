//! The only module that prints: results on stdout, messages on stderr, coloured on a terminal.

use std::fmt::{self, Display};
use std::io::{self, IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use log::Level;
use ratatui::crossterm::terminal::size;
use serde::Serialize;
use textwrap::core::display_width;

pub(super) use super::log_line::harmless;
use super::log_line::{LogFormat, LogLine};
use super::outlet::{STDERR, STDOUT, coloured};
use crate::clock;
use crate::names::harmless_json;

/// The output, in the requested form.
#[derive(Default)]
pub(super) struct Screen {
    json: bool,
    /// Whether results for people, and all words but errors, are left out.
    is_quiet: bool,
    /// The form of words on stderr.
    words_as: LogFormat,
    /// Whether output must never wait for a reader.
    is_unread: bool,
    /// Why a result could not be written.
    lost: Option<io::Error>,
}

/// The meaning of a line, shown as its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Warning,
    Bad,
    Faint,
    Heading,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Self::Plain => Style::new(),
            Self::Good => AnsiColor::Green.on_default(),
            Self::Warning => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Faint => Style::new().dimmed(),
            Self::Heading => Style::new().bold(),
        }
    }
}

/// Width without a terminal: nothing is cut.
const UNBOUNDED: usize = 10_000;

/// Width of a terminal of size 0.
const USUAL: usize = 80;

/// Least width that is used; narrower terminals wrap lines themselves.
const NARROWEST: usize = 40;

/// One line for people, composed and not printed yet.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) tone: Tone,
    pub(super) text: String,
}

impl Line {
    pub(super) fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self { tone, text: text.into() }
    }
}

/// Columns between two columns.
const GAP: usize = 2;

/// How wide a column is.
fn wide(rows: &[Vec<String>], at: usize) -> usize {
    rows.iter().filter_map(|row| row.get(at)).map(|cell| display_width(cell)).max().unwrap_or(0)
}

/// Formats rows as lines of aligned columns.
pub(super) fn columns<R: IntoIterator<Item = String>>(rows: impl IntoIterator<Item = R>) -> Vec<String> {
    let rows: Vec<Vec<String>> = rows.into_iter().map(|row| row.into_iter().collect()).collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count).map(|at| wide(&rows, at) + GAP).collect();
    // `format!` counts characters, of which some take two columns and some none.
    let padded = |(cell, width): (&String, &usize)| cell.clone() + &" ".repeat(width - display_width(cell));
    let line =
        |row: &Vec<String>| row.iter().zip(&widths).map(padded).collect::<String>().trim_end().to_owned();
    rows.iter().map(line).collect()
}

/// As [`columns`], within a width: columns go in the order of `dropped` until the rest fits, and
/// only then the column `name` is cut.
pub(super) fn fitted(
    mut rows: Vec<Vec<String>>,
    width: usize,
    dropped: &[usize],
    name: usize,
) -> Vec<String> {
    let count = rows.first().map_or(0, Vec::len);
    let mut kept: Vec<usize> = (0..count).collect();
    let total = |kept: &[usize], rows: &[Vec<String>]| {
        kept.iter().map(|at| wide(rows, *at) + GAP).sum::<usize>().saturating_sub(GAP)
    };
    for at in dropped {
        if total(&kept, &rows) <= width {
            break;
        }
        kept.retain(|kept| kept != at);
    }
    let over = total(&kept, &rows).saturating_sub(width);
    if over > 0 {
        let room = wide(&rows, name).saturating_sub(over).max(1);
        rows.iter_mut().for_each(|row| row[name] = cut(&row[name], room));
    }
    columns(rows.iter().map(|row| kept.iter().map(|at| row[*at].clone())))
}

/// The start of a text that fits `width`, with `…` where it is cut.
pub(super) fn cut(text: &str, width: usize) -> String {
    if display_width(text) <= width {
        return text.to_owned();
    }
    let mut kept = String::new();
    for character in text.chars() {
        kept.push(character);
        if display_width(&kept) >= width {
            kept.pop();
            break;
        }
    }
    kept + "…"
}

/// Wraps a text into lines of `width`, each after `indent`.
pub(super) fn wrap(text: &str, indent: &str, width: usize) -> Vec<String> {
    // Only at spaces, so that a command or an address can be copied whole.
    let options = textwrap::Options::new(width)
        .initial_indent(indent)
        .subsequent_indent(indent)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::wrap(text, options).into_iter().map(|line| line.into_owned()).collect()
}

/// Composed lines as one text.
#[cfg(test)]
pub(super) fn text(lines: &[Line]) -> String {
    lines.iter().map(|line| format!("{}\n", line.text)).collect()
}

impl Screen {
    pub(super) fn new(json: bool) -> Self {
        Self { json, ..Self::default() }
    }

    /// Leaves out results for people, and all words but errors.
    pub(super) fn quiet(self, is_quiet: bool) -> Self {
        Self { is_quiet, ..self }
    }

    /// Gives the words on stderr the form of the log.
    pub(super) fn words_as(self, words_as: LogFormat) -> Self {
        Self { words_as, ..self }
    }

    /// Makes all further output independent of readers.
    pub(super) fn goes_on_unread(&mut self) {
        self.is_unread = true;
    }

    /// Why a result could not be written, once. A closed reader (a broken pipe) does not count.
    pub(super) fn lost(&mut self) -> Option<io::Error> {
        self.lost.take().filter(|error| error.kind() != io::ErrorKind::BrokenPipe)
    }

    /// Whether nobody reads any more: a pipe was closed, or a result could not be written.
    pub(super) fn is_closed(&self) -> bool {
        self.lost.is_some()
    }

    /// Whether results are JSON.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints one line of a result for people.
    pub(super) fn line(&mut self, tone: Tone, text: impl Display) {
        if !self.is_quiet {
            let style = tone.style();
            self.result(format_args!("{style}{}{style:#}\n", harmless(text)));
        }
    }

    /// Prints the line of a result that says how it went. Where results are left out, a bad one is
    /// an error, so that nobody has to guess at an exit code.
    pub(super) fn verdict(&mut self, tone: Tone, text: impl Display) {
        if self.is_quiet && tone == Tone::Bad {
            return self.error(text);
        }
        self.line(tone, text);
    }

    /// Prints what a command that runs for long does: a result for people, a line of a log for
    /// machines.
    pub(super) fn announce(&mut self, text: impl Display) {
        match self.words_as {
            LogFormat::Human => self.line(Tone::Plain, text),
            LogFormat::Json => self.note(text),
        }
    }

    /// Prints one value of a result as JSON, on a line of its own.
    pub(super) fn value(&mut self, value: &impl Serialize) {
        match serde_json::to_string(value) {
            Ok(json) => self.result(format_args!("{}\n", harmless_json(&json))),
            Err(error) => self.error(error),
        }
    }

    /// Prints an error on stderr.
    pub(super) fn error(&mut self, text: impl Display) {
        self.say(Level::Error, text);
    }

    /// Prints a warning on stderr.
    pub(super) fn warning(&mut self, text: impl Display) {
        self.say(Level::Warn, text);
    }

    /// Prints a note for the user, on stderr.
    pub(super) fn note(&mut self, text: impl Display) {
        self.say(Level::Info, text);
    }

    fn say(&mut self, level: Level, text: impl Display) {
        if self.is_quiet && level > Level::Error {
            return;
        }
        let text = text.to_string();
        let line = LogLine::new(level, &text);
        match self.words_as {
            LogFormat::Json => self.word(format_args!("{}", line.json(clock::now()))),
            // A note is a sentence of its own.
            LogFormat::Human if level == Level::Info => self.word(format_args!("{}\n", harmless(text))),
            LogFormat::Human => self.word(format_args!("{}", line.human(None, true))),
        }
    }

    /// Prints several lines for the user, on stderr.
    pub(super) fn words(&mut self, text: &str) {
        self.word(format_args!("{}", harmless(text)));
    }

    /// Prints text for another program, unchanged.
    pub(super) fn raw(&mut self, text: &[u8]) {
        let mut stream = io::stdout();
        if self.lost.is_none() {
            self.lost = stream.write_all(text).and_then(|()| stream.flush()).err();
        }
    }

    /// Prints a composed line of a result for people.
    pub(super) fn print(&mut self, line: &Line) {
        self.line(line.tone, &line.text);
    }

    /// Prints the progress of work, replacing the line before; only on a terminal.
    pub(super) fn progress(&mut self, text: impl Display) {
        let is_shown = !self.json && !self.is_quiet && self.words_as == LogFormat::Human;
        if is_shown && io::stderr().is_terminal() {
            self.word(format_args!("\r\x1b[2K{}", harmless(text)));
        }
    }

    /// Removes the last line of [`progress`](Self::progress).
    pub(super) fn progress_ends(&mut self) {
        self.progress("");
    }

    /// Width of a line in columns: the terminal's, `COLUMNS`, or unbounded without either.
    pub(super) fn width(&self) -> usize {
        let told = || std::env::var("COLUMNS").ok()?.parse().ok();
        // A terminal that does not say how wide it is says 0.
        let looked =
            || size().ok().map(|(columns, _)| if columns == 0 { USUAL } else { usize::from(columns) });
        let width = if io::stdout().is_terminal() { looked().or_else(told) } else { told() };
        width.unwrap_or(UNBOUNDED).max(NARROWEST)
    }

    fn result(&mut self, text: fmt::Arguments<'_>) {
        if self.is_unread {
            return STDOUT.write(coloured(text, &io::stdout()));
        }
        self.write(&mut anstream::stdout(), text);
    }

    fn word(&mut self, text: fmt::Arguments<'_>) {
        if self.is_unread {
            return STDERR.write(coloured(text, &io::stderr()));
        }
        // The log's earlier lines must come first.
        STDERR.flush();
        self.write(&mut anstream::stderr(), text);
    }

    /// If a reader such as `head` closes its end, only the printing ends, not the program.
    fn write(&mut self, stream: &mut impl io::Write, text: fmt::Arguments<'_>) {
        if self.lost.is_none() {
            self.lost = stream.write_fmt(text).and_then(|()| stream.flush()).err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::is_deceiving;

    #[test]
    fn names_are_the_last_to_shrink() {
        let row = |cells: [&str; 4]| cells.map(str::to_owned).to_vec();
        let rows = vec![
            row(["STATE", "NAME", "TRIES", "AGE"]),
            row(["pending", "chatops-of-the-platform", "3", "12m"]),
        ];
        let at = |width| fitted(rows.clone(), width, &[3, 2], 1);
        assert_eq!(at(80)[1], "pending  chatops-of-the-platform  3      12m");
        assert_eq!(at(40)[1], "pending  chatops-of-the-platform  3");
        assert_eq!(at(33)[1], "pending  chatops-of-the-platform");
        assert_eq!(at(20)[1], "pending  chatops-of…");
    }

    #[test]
    fn what_others_wrote_does_nothing_to_a_terminal() {
        let hostile = "a\x1b]0;title\x07\u{9b}31m\u{202e}\u{2066}\r\nb";
        let shown = harmless(hostile);
        assert_eq!(shown, "a\u{fffd}]0;title\u{fffd}\u{fffd}31m\u{fffd}\u{fffd}\u{fffd}\nb");
        let json = harmless_json(&serde_json::to_string(hostile).unwrap()).into_owned();
        assert!(!json.chars().any(is_deceiving), "{json:?}");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hostile);
    }
}
