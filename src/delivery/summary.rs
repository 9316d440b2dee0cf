//! The summary of one attempt.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::FailureClass;
use crate::clock;
use crate::names::printable;

/// One attempt in a short form: listed in a dead letter, and kept in the spool between attempts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct AttemptSummary {
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// When it began.
    #[serde(with = "clock::millis")]
    pub at: Timestamp,
    /// HTTP status, if there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Why there was no answer, or why the service refused the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The start of the response's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<String>,
    /// Duration of the attempt, in milliseconds.
    pub latency_ms: f64,
}

impl AttemptSummary {
    /// The failure in words that are the same whenever it is the same failure.
    pub(crate) fn cause(&self) -> String {
        let of_class = |error: &str| {
            let (class, message) = error.split_once(": ")?;
            class.parse::<FailureClass>().ok().map(|_| message.to_owned())
        };
        match (&self.error, self.status) {
            (Some(error), _) => of_class(error).unwrap_or_else(|| error.clone()),
            (None, Some(status)) => format!("status {status}"),
            (None, None) => "not sent".to_owned(),
        }
    }

    /// The result in words: the error, or the status and the start of the answer.
    pub(crate) fn in_words(&self) -> String {
        const SHOWN: usize = 120;
        match (&self.error, self.status, &self.response) {
            (Some(error), ..) => error.clone(),
            (None, Some(status), Some(response)) => {
                format!("status {status}: {}", printable(response.trim(), SHOWN))
            }
            (None, Some(status), None) => format!("status {status}"),
            (None, None, _) => "not sent".to_owned(),
        }
    }
}
