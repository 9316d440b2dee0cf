//! Why a command could not do what was asked: its message, and the exit code that follows.

use serde::{Serialize, Serializer};
use serde_json::json;

use super::Exit;
use crate::answer::RequestError;
use crate::config::Problem;

/// Why a command could not do what was asked.
pub(super) struct Failure {
    pub(super) message: String,
    pub(super) exit: Exit,
    /// Of a config, what is wrong with it.
    pub(super) problems: Vec<Problem>,
}

/// What `--json` prints of a failure: `{"error": {"message", "exit"}}`, and of a config its
/// `errors`.
impl Serialize for Failure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut error = json!({"message": self.message, "exit": self.exit as u8});
        if !self.problems.is_empty() {
            error["errors"] = json!(self.problems);
        }
        json!({"error": error}).serialize(serializer)
    }
}

impl Failure {
    pub(super) fn new(exit: Exit, message: impl std::fmt::Display) -> Self {
        Self { message: message.to_string(), exit, problems: Vec::new() }
    }

    /// A failure at run time.
    pub(super) fn failed(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Wrong usage or a wrong config.
    pub(super) fn usage(message: impl std::fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        let exit = if error.is_unreachable() { Exit::NoRuntime } else { Exit::Failed };
        Self::new(exit, error)
    }
}
