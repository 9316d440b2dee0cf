//! Whether webhooks are on and, if they are off, why: a silent repo must be able to explain itself.

use std::fmt;
use std::path::PathBuf;

/// What decides whether webhooks are on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    /// They are on.
    On,
    /// Off: none of these files exists.
    NoFile(Vec<PathBuf>),
    /// Off: the file has no `[spec_ops.webhooks]`.
    NoTable(PathBuf),
    /// Off: the file has the table, without `enabled`.
    NotSaid(PathBuf),
    /// Off: the file says `enabled = false`.
    SaidOff(PathBuf),
    /// Off: the environment says so and takes precedence over the file.
    Environment,
    /// Unknown: nothing was read.
    Unknown,
}

impl Switch {
    /// Whether webhooks are on; `None` if nothing was read.
    pub(crate) fn enabled(&self) -> Option<bool> {
        match self {
            Self::On => Some(true),
            Self::Unknown => None,
            _ => Some(false),
        }
    }
}

/// Displays that webhooks are on, or why they are off and what to do.
impl fmt::Display for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const TABLE: &str = "[spec_ops.webhooks]";
        match self {
            Self::On => f.write_str("webhooks are on"),
            Self::NoFile(looked_at) => {
                let files: Vec<String> = looked_at.iter().map(|file| file.display().to_string()).collect();
                let files = files.join(", ");
                write!(
                    f,
                    "webhooks are off: there is no config file (looked for {files}): \
                     spec-notify init makes one, or write it, with enabled = true under {TABLE}"
                )
            }
            Self::NoTable(file) => {
                let file = file.display();
                write!(f, "webhooks are off: {file} has no {TABLE}: add it, with enabled = true")
            }
            Self::NotSaid(file) => {
                let file = file.display();
                write!(
                    f,
                    "webhooks are off: `enabled` is missing under {TABLE} in {file}: set enabled = true there"
                )
            }
            Self::SaidOff(file) => {
                let file = file.display();
                write!(f, "webhooks are off: {file} says enabled = false: set enabled = true under {TABLE}")
            }
            Self::Environment => f.write_str(
                "webhooks are off: SPECKIT_WEBHOOKS_ENABLED says so: set it to 1, or unset it and set \
                 enabled = true in the config file",
            ),
            Self::Unknown => f.write_str("whether webhooks are on is not known: the config was not read"),
        }
    }
}
