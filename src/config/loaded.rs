//! A config as it was loaded: what is good of it, and what is wrong with it.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use super::{Config, Problem, Report, Switch};

/// What was found and what is wrong with it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Loaded {
    /// The file that was read; `None` where there is none, which means: off.
    pub file: Option<PathBuf>,
    /// Whether webhooks are on, and what makes them so.
    pub(crate) switch: Switch,
    /// Present when there are no errors, or only such as leave the rest good to run.
    pub config: Option<Config>,
    /// What could be read in spite of errors: good to find the spool with, and for nothing else.
    /// Absent where even that may be wrong.
    pub(crate) salvaged: Option<Config>,
    /// Every error is a table whose name is only near ours: as if it were not there, webhooks are
    /// what the rest says.
    pub(crate) only_misnamed: bool,
    /// Everything that must be mended.
    pub errors: Vec<Problem>,
    /// What may not be what was meant.
    pub warnings: Vec<Problem>,
}

/// A config that is not good to run: every [`Problem`] of it, each on lines of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(Vec<Problem>);

impl ConfigError {
    /// Everything that must be mended.
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let problems: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&problems.join("\n"))
    }
}

impl Error for ConfigError {}

impl Loaded {
    /// No config, for this one reason.
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

    /// The config, or what could be salvaged of one with errors, if webhooks are on in it: whoever
    /// hands events over, or asks the runtime, needs to know where the spool is and no more.
    pub(crate) fn good_enough(&self) -> Option<&Config> {
        self.config.as_ref().or_else(|| self.salvaged.as_ref().filter(|config| config.enabled))
    }

    /// The config, where it is good to run.
    ///
    /// # Errors
    /// Everything that must be mended, each with its place and what to do.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        self.config.ok_or(ConfigError(self.errors))
    }

    /// What was found out about it.
    pub fn report(&self) -> Report {
        Report {
            ok: self.config.is_some(),
            enabled: self.switch.enabled(),
            errors: self.errors.clone(),
            warnings: self.warnings.clone(),
        }
    }
}
