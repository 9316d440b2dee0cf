//! A config as it was loaded: what is good of it, and what is wrong with it.

use std::path::PathBuf;

use super::{Config, Problem, Report, Switch};

/// What was found and what is wrong with it.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The file that was read; `None` where there is none, which means: off.
    pub file: Option<PathBuf>,
    /// Whether webhooks are on, and what makes them so.
    pub switch: Switch,
    /// Present when there are no errors, or only such as leave the rest good to run.
    pub config: Option<Config>,
    /// What could be read in spite of errors: good to find the spool with, and for nothing else.
    /// Absent where even that may be wrong.
    pub salvaged: Option<Config>,
    /// Every error is a table whose name is only near ours: as if it were not there, webhooks are
    /// what the rest says.
    pub only_misnamed: bool,
    /// Everything that must be mended.
    pub errors: Vec<Problem>,
    /// What may not be what was meant.
    pub warnings: Vec<Problem>,
}

impl Loaded {
    /// No config, for this one reason.
    pub fn refused(message: &str, help: &str) -> Self {
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
    pub fn good_enough(&self) -> Option<&Config> {
        self.config.as_ref().or_else(|| self.salvaged.as_ref().filter(|config| config.enabled))
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
