//! One line of the log: for people `warning: …`, for machines one JSON object.

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use jiff::Timestamp;
use log::Level;
use serde::Serialize;

use crate::clock;
use crate::names::{harmless_json, is_deceiving};

/// The form of the log and of all other words on stderr: lines for people, or one JSON object a
/// line. (What is said of a variant would make the help of every command a long one.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    #[default]
    Human,
    Json,
}

/// What one line says.
#[derive(Debug)]
pub(super) struct LogLine<'a> {
    pub(super) level: Level,
    pub(super) message: &'a str,
    pub(super) about: About,
}

/// What a line is about, where that is known.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct About {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subscription: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) spec: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) delivery: Option<String>,
    /// The crate that says it, where that is not ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) library: Option<String>,
    /// Where a thread was when it panicked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backtrace: Option<String>,
}

#[derive(Serialize)]
struct Fields<'a> {
    #[serde(with = "clock::millis")]
    time: Timestamp,
    level: &'static str,
    message: &'a str,
    #[serde(flatten)]
    about: &'a About,
}

impl<'a> LogLine<'a> {
    pub(super) fn new(level: Level, message: &'a str) -> Self {
        Self { level, message, about: About::default() }
    }

    /// One JSON object, and the end of its line.
    pub(super) fn json(&self, time: Timestamp) -> String {
        let Self { level, message, about } = self;
        let fields = Fields { time, level: json_name(*level), message, about };
        // A struct of strings is always JSON.
        let json = serde_json::to_string(&fields).unwrap_or_default();
        format!("{}\n", harmless_json(&json))
    }

    /// A line for people, with colours or without; with its time where that is given.
    pub(super) fn human(&self, time: Option<Timestamp>, is_coloured: bool) -> String {
        let (name, style) = shown(self.level);
        let style = if is_coloured { style } else { Style::new() };
        let time = time.map(|time| format!("{time:.0} ")).unwrap_or_default();
        let library = self.about.library.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        let message = harmless(self.message);
        format!("{time}{style}{name}:{style:#} {library}{message}\n")
    }
}

/// A text, possibly of several lines, with every character replaced that would affect the terminal.
pub(super) fn harmless(text: impl std::fmt::Display) -> String {
    let text = text.to_string();
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) {
        return text;
    }
    text.chars().map(|c| if is_deceiving(c) && c != '\n' { '\u{fffd}' } else { c }).collect()
}

fn json_name(level: Level) -> &'static str {
    match level {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    }
}

fn shown(level: Level) -> (&'static str, Style) {
    match level {
        Level::Error => ("error", AnsiColor::Red.on_default().bold()),
        Level::Warn => ("warning", AnsiColor::Yellow.on_default().bold()),
        Level::Info => ("info", AnsiColor::Green.on_default()),
        Level::Debug => ("debug", Style::new().dimmed()),
        Level::Trace => ("trace", Style::new().dimmed()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_message_is_one_line_of_json(message in "(?s).{0,80}", spec in any::<Option<String>>()) {
            let about = About { spec: spec.clone(), ..About::default() };
            let line = LogLine { level: Level::Warn, message: &message, about }.json(clock::now());
            prop_assert_eq!(line.matches('\n').count(), 1);
            prop_assert!(!line.trim_end().chars().any(is_deceiving));
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read["message"].as_str().unwrap(), message);
            prop_assert_eq!(read["spec"].as_str().map(str::to_owned), spec);
        }
    }

    #[test]
    fn people_get_the_level_in_a_word_and_no_path() {
        let line = LogLine::new(Level::Warn, "env_file: \x1b]0;title\x07 is gone");
        let plain = |text: String| anstream::adapter::strip_str(&text).to_string();
        assert_eq!(plain(line.human(None, true)), line.human(None, false));
        assert_eq!(line.human(None, false), "warning: env_file: \u{fffd}]0;title\u{fffd} is gone\n");
        let about = About { library: Some("notify".to_owned()), ..About::default() };
        let line = LogLine { level: Level::Error, message: "no watch", about };
        let at: Timestamp = "2025-10-14T10:00:00.123Z".parse().unwrap();
        assert_eq!(plain(line.human(Some(at), true)), "2025-10-14T10:00:00Z error: notify: no watch\n");
    }
}
