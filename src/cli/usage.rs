//! What is said when the arguments cannot be understood: in the form that they ask for, as far as
//! that can be seen without understanding them.

use std::ffi::OsString;

use clap::error::ErrorKind;

use super::log_line::LogFormat;
use super::render::{Screen, harmless};
use super::{Exit, Failure};

/// The forms that arguments ask for, right or wrong as the rest of them may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Forms {
    is_json: bool,
    words_as: LogFormat,
}

impl Forms {
    pub(super) fn of(arguments: &[OsString]) -> Self {
        let words: Vec<&str> = arguments
            .iter()
            .skip(1)
            .map_while(|word| word.to_str())
            .take_while(|word| *word != "--")
            .collect();
        let has = |option: &str| {
            words.windows(2).any(|two| two[0] == option && two[1] == "json")
                || words.iter().any(|word| word.strip_prefix(option) == Some("=json"))
        };
        let words_as = if has("--log-format") { LogFormat::Json } else { LogFormat::Human };
        Self { is_json: words.contains(&"--json") || has("--format"), words_as }
    }
}

/// Says what clap found, which may also be a wish for help or the version; returns the exit code.
pub(super) fn say(error: &clap::Error, forms: Forms) -> Exit {
    // Help and version are answers, not errors: clap prints them to stdout.
    if !error.use_stderr() {
        return error.print().map_or(Exit::Failed, |()| Exit::Done);
    }
    let mut screen = Screen::new(forms.is_json).words_as(forms.words_as);
    let text = error.to_string();
    let failure = failure(error.kind(), &text);
    if forms.is_json {
        screen.value(&failure);
    }
    // clap's own words for this name the commands that are hidden too.
    if forms.words_as == LogFormat::Json || error.kind() == ErrorKind::MissingSubcommand {
        screen.error(&failure.message);
    } else if harmless(&text) != text {
        // The error repeats the arguments, which a script may have taken from another user's text.
        screen.words(&text);
    } else if error.print().is_err() {
        return Exit::Failed;
    }
    Exit::Usage
}

/// The error without what surrounds it for people: the usage, and how to get help.
fn failure(kind: ErrorKind, text: &str) -> Failure {
    if matches!(kind, ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand) {
        return Failure::usage("a command is missing: see spec-notify --help");
    }
    let mut message = text.trim_start_matches("error: ");
    for end in ["\n\nUsage:", "\n\nFor more information"] {
        message = message.split_once(end).map_or(message, |(before, _)| before);
    }
    let sentences = message.lines().map(str::trim).filter(|line| !line.is_empty());
    Failure::usage(sentences.collect::<Vec<_>>().join("; ").replace(":; ", ": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_are_seen_whatever_else_is_wrong() {
        let forms = |line: &str| Forms::of(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        let json = LogFormat::Json;
        for (line, is_json, words_as) in [
            ("x list --wrong", false, LogFormat::Human),
            ("x list --wrong --json", true, LogFormat::Human),
            ("x --format json lst", true, LogFormat::Human),
            ("x --format=json --log-format=json", true, json),
            ("x serve --log-format json", false, json),
            ("x --format human list -- --json", false, LogFormat::Human),
        ] {
            assert_eq!(forms(line), Forms { is_json, words_as }, "{line}");
        }
    }

    #[test]
    fn the_message_is_a_sentence() {
        let said = |line: &str| {
            let error = super::super::command().try_get_matches_from(line.split(' ')).unwrap_err();
            failure(error.kind(), &error.to_string()).message
        };
        let lines = ["x", "x lst", "x list --stat x", "x list --state lost", "x replay", "x test SPEC-1"];
        insta::assert_snapshot!("usage", lines.map(said).join("\n"));
    }
}
