//! Where in the command line the cursor is, by the definition of the command line.

use std::collections::HashMap;

use clap::builder::PossibleValue;
use clap::{Arg, ArgAction, Command};

use super::super::ALSO_FLAGS;
use super::super::help::GLOBAL;
use super::Candidate;
use super::values::{Kind, Known};

/// What the words before the cursor amount to.
pub(super) struct Place<'a> {
    command: &'a Command,
    /// The option whose value comes next.
    pending: Option<&'a Arg>,
    /// The values given so far, by the names of their arguments; flags have an empty one.
    given: HashMap<&'a str, String>,
    /// How many words stood where no option is.
    positionals: usize,
    /// Whether `--` was there.
    is_escaped: bool,
}

/// What could stand under the cursor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Offer {
    Words(Vec<Candidate>),
    Files,
    Folders,
}

impl<'a> Place<'a> {
    pub(super) fn after<'w>(root: &'a Command, words: impl IntoIterator<Item = &'w str>) -> Self {
        let mut place =
            Self { command: root, pending: None, given: HashMap::new(), positionals: 0, is_escaped: false };
        words.into_iter().for_each(|word| place.pass(word));
        place
    }

    fn pass(&mut self, word: &str) {
        if let Some(arg) = self.pending.take() {
            self.give(arg, word);
        } else if self.is_escaped {
            self.pass_positional(word);
        } else if word == "--" {
            self.is_escaped = true;
        } else if let Some(option) = word.strip_prefix("--") {
            let (name, value) = option.split_once('=').map_or((option, None), |(name, of)| (name, Some(of)));
            match (self.long(name), value) {
                (Some(arg), Some(value)) => self.give(arg, value),
                (Some(arg), None) => self.expect_value_of(arg),
                (None, _) if ALSO_FLAGS.contains(&name) => self.pass_positional(name),
                (None, _) => {}
            }
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            self.pass_letters(letters);
        } else {
            self.pass_positional(word);
        }
    }

    /// Passes `-qv`, or `-n5`.
    fn pass_letters(&mut self, letters: &str) {
        for (at, letter) in letters.char_indices() {
            let Some(arg) = self.command.get_arguments().find(|arg| arg.get_short() == Some(letter)) else {
                continue;
            };
            let rest = &letters[at + letter.len_utf8()..];
            if takes_value(arg) && !rest.is_empty() {
                return self.give(arg, rest);
            }
            self.expect_value_of(arg);
        }
    }

    fn pass_positional(&mut self, word: &str) {
        match self.command.find_subcommand(word).filter(|_| self.positionals == 0 && !self.is_escaped) {
            Some(command) => self.command = command,
            None => {
                if let Some(arg) = self.positional() {
                    self.give(arg, word);
                }
                self.positionals += 1;
            }
        }
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        self.command.get_arguments().find(|arg| arg.get_long() == Some(name))
    }

    fn positional(&self) -> Option<&'a Arg> {
        self.command.get_positionals().nth(self.positionals)
    }

    fn expect_value_of(&mut self, arg: &'a Arg) {
        match takes_value(arg) {
            true => self.pending = Some(arg),
            false => self.give(arg, ""),
        }
    }

    fn give(&mut self, arg: &'a Arg, value: &str) {
        self.given.insert(arg.get_id().as_str(), value.to_owned());
    }

    /// What could stand in place of `current`.
    pub(super) fn offer(&self, current: &str) -> Offer {
        if let Some(arg) = self.pending {
            return self.values(arg, current);
        }
        if !self.is_escaped && current.starts_with('-') {
            return match current.strip_prefix("--").and_then(|option| option.split_once('=')) {
                Some((name, value)) => match self.long(name).map(|arg| self.values(arg, value)) {
                    Some(Offer::Words(mut words)) => {
                        words.iter_mut().for_each(|one| one.word = format!("--{name}={}", one.word));
                        Offer::Words(words)
                    }
                    Some(paths) => paths,
                    None => Offer::Words(Vec::new()),
                },
                None => Offer::Words(starting_with(current, self.options())),
            };
        }
        let commands = starting_with(current, self.commands());
        match self.positional().map(|arg| self.values(arg, current)) {
            Some(Offer::Words(words)) if words.is_empty() && commands.is_empty() && current.is_empty() => {
                Offer::Words(self.options())
            }
            Some(Offer::Words(words)) => Offer::Words([commands, words].concat()),
            Some(paths) => paths,
            None if commands.is_empty() && current.is_empty() && !self.is_escaped => {
                Offer::Words(self.options())
            }
            None => Offer::Words(commands),
        }
    }

    fn commands(&self) -> Vec<Candidate> {
        let shown = self.command.get_subcommands().filter(|one| !one.is_hide_set() && self.positionals == 0);
        shown.map(|one| Candidate::new(one.get_name(), one.get_about().map(ToString::to_string))).collect()
    }

    /// The options that may still be given: the command's own first, and of these the required.
    fn options(&self) -> Vec<Candidate> {
        let is_given = |arg: &Arg| self.given.contains_key(arg.get_id().as_str());
        let is_open = |arg: &&Arg| {
            let may_repeat = matches!(arg.get_action(), ArgAction::Append | ArgAction::Count);
            let conflicts = self.command.get_arg_conflicts_with(arg).into_iter().any(is_given);
            let is_shown = !arg.is_positional() && !arg.is_hide_set();
            is_shown && !conflicts && (may_repeat || !is_given(arg))
        };
        let mut options: Vec<&Arg> = self.command.get_arguments().filter(is_open).collect();
        let is_of_all = |arg: &Arg| arg.get_help_heading() == Some(GLOBAL);
        options.sort_by_key(|arg| (is_of_all(arg), !arg.is_required_set()));
        let candidate = |arg: &Arg| {
            Some(Candidate::new(format!("--{}", arg.get_long()?), arg.get_help().map(ToString::to_string)))
        };
        options.into_iter().filter_map(candidate).collect()
    }

    fn values(&self, arg: &Arg, current: &str) -> Offer {
        if !takes_value(arg) {
            return Offer::Words(Vec::new());
        }
        let possible = arg.get_possible_values();
        if !possible.is_empty() {
            // Those of a body and of a report are hidden, but for the commands that take them.
            let is_of_report = |value: &PossibleValue| ["md", "html", "json"].contains(&value.get_name());
            let is_meant = |value: &&PossibleValue| match (self.command.get_name(), arg.get_id() == "format")
            {
                ("report", true) => is_of_report(value),
                ("preview", true) => value.is_hide_set() && !is_of_report(value),
                _ => !value.is_hide_set(),
            };
            let words = possible.iter().filter(is_meant);
            let words =
                words.map(|one| Candidate::new(one.get_name(), one.get_help().map(ToString::to_string)));
            return Offer::Words(starting_with(current, words));
        }
        match Kind::of(arg) {
            Some(Kind::File) => Offer::Files,
            Some(Kind::Folder) => Offer::Folders,
            Some(Kind::Named(names)) => {
                Offer::Words(starting_with(current, names.iter().map(|name| Candidate::new(*name, None))))
            }
            Some(Kind::Known(known)) => Offer::Words(starting_with(current, self.known(known))),
            None => Offer::Words(Vec::new()),
        }
    }

    fn known(&self, known: Known) -> Vec<Candidate> {
        let given = |name: &str| self.given.get(name).map(String::as_str);
        known.find(self.command.get_name(), &given)
    }
}

fn takes_value(arg: &Arg) -> bool {
    arg.is_positional() || arg.get_action().takes_values()
}

fn starting_with(current: &str, words: impl IntoIterator<Item = Candidate>) -> Vec<Candidate> {
    words.into_iter().filter(|one| one.word.starts_with(current)).collect()
}
