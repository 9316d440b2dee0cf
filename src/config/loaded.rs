//! The result of loading a config: the usable part, and what is wrong with it.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use super::{Config, Problem, Report, Switch};

/// The result of loading a config.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The file that was read; `None` if there is none, which means that webhooks are off.
    pub file: Option<PathBuf>,
    /// Whether webhooks are on, and why or why not.
    pub(crate) switch: Switch,
    /// The config, if there are no errors, or only errors that leave the rest safe to run.
    pub config: Option<Config>,
    /// What could be read despite errors: only for finding the spool. `None` if even the spool may
    /// be wrong.
    pub(crate) salvaged: Option<Config>,
    /// Whether every error is a table with a misspelled name. Without those tables, the rest of the
    /// file still decides whether webhooks are on.
    pub(crate) only_misnamed: bool,
    /// Everything that must be corrected.
    pub errors: Vec<Problem>,
    /// What may not be as intended.
    pub warnings: Vec<Problem>,
}

/// Why there is no config that can be run. Displayed with every [`Problem`] on lines of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file, or the repo's folder, cannot be read: check its path and its permissions.
    Unreadable(Problem),
    /// What it says must be corrected, all of this.
    Invalid(Vec<Problem>),
}

impl ConfigError {
    /// Everything that must be corrected.
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Unreadable(problem) => std::slice::from_ref(problem),
            Self::Invalid(problems) => problems,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems: Vec<String> = self.problems().iter().map(ToString::to_string).collect();
        f.write_str(&problems.join("\n"))
    }
}

impl Error for ConfigError {}

impl Loaded {
    /// A result without a config, for this one reason.
    pub(crate) fn refused(message: &str, help: &str) -> Self {
        Self::unread(None, Problem::general(message, help))
    }

    pub(super) fn unread(file: Option<PathBuf>, problem: Problem) -> Self {
        Self {
            file,
            switch: Switch::Unknown,
            config: None,
            salvaged: None,
            only_misnamed: false,
            errors: vec![problem],
            warnings: Vec::new(),
        }
    }

    /// The config, or the salvaged part of one with errors if webhooks are on in it. Enough for
    /// handing over events or asking the runtime, which need only the spool's path.
    pub(crate) fn good_enough(&self) -> Option<&Config> {
        self.config.as_ref().or_else(|| self.salvaged.as_ref().filter(|config| config.enabled))
    }

    /// The config, if it can be run.
    ///
    /// # Errors
    /// Everything that must be corrected, each with its place and what to do.
    pub fn into_config(mut self) -> Result<Config, ConfigError> {
        match self.config {
            Some(config) => Ok(config),
            None if self.switch == Switch::Unknown && self.errors.len() == 1 => {
                Err(ConfigError::Unreadable(self.errors.remove(0)))
            }
            None => Err(ConfigError::Invalid(self.errors)),
        }
    }

    /// The problems, in the form that is printed.
    pub fn report(&self) -> Report {
        Report {
            ok: self.config.is_some(),
            enabled: self.switch.enabled(),
            errors: self.errors.clone(),
            warnings: self.warnings.clone(),
        }
    }
}
