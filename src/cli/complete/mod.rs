//! `spec-notify complete`: what could stand where the cursor is, for the scripts of `completions`.
//! Reads the config and the files of the repo alone, within a bound of time: no runtime is asked
//! or started, and whatever goes wrong there is nothing to offer.

mod place;
mod values;

use std::ffi::OsString;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::Exit;
use super::render::{Screen, harmless};
use place::{Offer, Place};

/// How long a person waits for the answer of a key.
const PATIENCE: Duration = Duration::from_millis(700);

#[derive(Debug, Args)]
pub(super) struct Options {
    /// How the shell wants it
    shell: Asks,
    /// The words before the cursor, the program's name first; the last one is under it
    #[arg(last = true, value_name = "WORD")]
    words: Vec<OsString>,
}

/// A shell with a script that asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Asks {
    Bash,
    Zsh,
    Fish,
}

impl Asks {
    /// The script that makes the shell ask.
    pub(super) fn script(self) -> &'static str {
        match self {
            Self::Bash => include_str!("spec-notify.bash"),
            Self::Zsh => include_str!("_spec-notify"),
            Self::Fish => include_str!("spec-notify.fish"),
        }
    }
}

/// One word that could stand there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    word: String,
    help: Option<String>,
}

impl Candidate {
    fn new(word: impl Into<String>, help: Option<String>) -> Self {
        Self { word: word.into(), help }
    }

    /// A line of the answer.
    fn line(&self, shell: Asks) -> String {
        let help = self.help.as_deref().and_then(|help| help.lines().next()).map(harmless);
        match (shell, help) {
            (Asks::Bash, _) | (Asks::Fish, None) => self.word.clone(),
            (Asks::Zsh, help) => {
                let word = self.word.replace('\\', "\\\\").replace(':', "\\:");
                help.map_or(word.clone(), |help| format!("{word}:{help}"))
            }
            (Asks::Fish, Some(help)) => format!("{}\t{help}", self.word),
        }
    }
}

/// Prints what kind of thing could stand there, and what of it is known, each on a line.
pub(super) fn run(options: Options, screen: &mut Screen) -> Exit {
    let Options { shell, words } = options;
    let (answer, answered) = mpsc::sync_channel(1);
    let find = move || {
        let lines = match offer(shell, &words) {
            Offer::Files => "files\n".to_owned(),
            Offer::Folders => "folders\n".to_owned(),
            Offer::Words(words) => {
                let lines = words.iter().map(|word| word.line(shell) + "\n");
                std::iter::once("values\n".to_owned()).chain(lines).collect()
            }
        };
        // Nobody hears it any more if it took too long.
        drop(answer.send(lines));
    };
    let found = thread::Builder::new().spawn(find).ok().and_then(|_| answered.recv_timeout(PATIENCE).ok());
    screen.raw(found.unwrap_or_else(|| "values\n".to_owned()).as_bytes());
    Exit::Done
}

fn offer(shell: Asks, words: &[OsString]) -> Offer {
    let mut root = super::command();
    root.build();
    // A word that is no text is none of ours.
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let Some((current, before)) = words.get(1..).and_then(<[String]>::split_last) else {
        return Offer::Words(Vec::new());
    };
    // bash cuts `--option=value` in three.
    let before = before.iter().filter(|word| shell != Asks::Bash || *word != "=");
    Place::after(&root, before.map(String::as_str)).offer(current)
}
