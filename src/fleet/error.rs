//! Why the cluster did not do what was asked, in words, with what to do. Never says the URL.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::http::TlsError;
use crate::names::printable;

/// Longest text of the cluster's that is repeated, in characters.
const LONGEST: usize = 200;

/// See the module's first line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}; {hint}")]
pub(crate) struct EngineError {
    pub(crate) kind: Kind,
    pub(crate) what: String,
    pub(crate) hint: String,
}

/// What an error means for what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The settings of this machine are wrong.
    Settings,
    /// Nobody could be asked, or nobody said whether it was done: ask again.
    Silent,
    /// The cluster refused: asking again is of no use before somebody has mended it.
    Refused,
    /// The role of this machine may not: no fault where it hands over only.
    Denied,
    /// Somebody holds a lock on it: nothing was done.
    Locked,
    /// It was done, and would not survive what `durability` promises.
    NotDurable,
}

impl EngineError {
    pub(super) fn new(kind: Kind, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { kind, what: what.into(), hint: hint.into() }
    }

    pub(super) fn of_tls(error: &TlsError) -> Self {
        Self::new(Kind::Settings, error.to_string(), error.help())
    }

    pub(super) fn late(within: Duration) -> Self {
        let what = format!("the cluster gave no answer within {} ms", within.as_millis());
        Self::new(Kind::Silent, what, "see that a primary runs and that its standbys confirm")
    }

    /// The answer to a COMMIT may be lost.
    pub(super) fn unconfirmed() -> Self {
        Self::new(
            Kind::Silent,
            "the cluster stopped waiting for a standby, so nothing says that a second node has it",
            "it is asked again by itself; see that a standby streams",
        )
    }

    /// An error of one statement.
    pub(super) fn of(error: &tokio_postgres::Error) -> Self {
        let Some(db) = error.as_db_error() else {
            // Its text names what failed; its source, such as a refused connection, why.
            let source = std::error::Error::source(error).map(|source| format!(": {source}"));
            let what = printable(&format!("{error}{}", source.unwrap_or_default()), LONGEST);
            return Self::new(Kind::Silent, what, "see that the node runs and can be reached from here");
        };
        let message = printable(db.message(), LONGEST);
        let code = db.code();
        let (kind, hint) = if *code == SqlState::INVALID_PASSWORD
            || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
        {
            (Kind::Refused, "correct the user and the password in the URL")
        } else if *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME {
            (Kind::Refused, "the schema is missing in this database: spec-notify fleet init")
        } else if *code == SqlState::UNDEFINED_COLUMN {
            (Kind::Refused, "the schema is of another version: spec-notify fleet check")
        } else if *code == SqlState::INVALID_CATALOG_NAME {
            (Kind::Refused, "make the database, or correct its name in the URL")
        } else if *code == SqlState::INSUFFICIENT_PRIVILEGE {
            (Kind::Denied, "grant the role what it needs: spec-notify fleet init --print says what")
        } else if *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            (Kind::Silent, "the node is a standby: the primary is looked for again")
        } else if *code == SqlState::TOO_MANY_CONNECTIONS {
            (Kind::Silent, "raise max_connections, or put pgbouncer before the cluster")
        } else if *code == SqlState::LOCK_NOT_AVAILABLE {
            (Kind::Locked, "somebody holds a lock on it: see pg_stat_activity")
        } else if *code == SqlState::DISK_FULL {
            (Kind::Silent, "make room on the node's disk")
        } else {
            (Kind::Silent, "see the log of the node")
        };
        Self::new(kind, format!("{message} ({})", code.code()), hint)
    }
}

impl From<tokio_postgres::Error> for EngineError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::of(&error)
    }
}
