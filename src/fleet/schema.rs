//! The tables in the cluster: made by `fleet init` alone, refused by name where they are of
//! another version.

use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::error::{EngineError, Kind};
use super::link::{Connected, Line, Link};

/// The statements that lead from each version to the next.
const STEPS: [&str; 4] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
];

/// The version that this program makes and uses.
pub(crate) const VERSION: i32 = 4;

/// How long the schema may take.
const WITHIN: Duration = Duration::from_secs(30);

/// The statements that make the tables of this version out of those of `from`, all or nothing; 0
/// has none.
pub(crate) fn in_one_transaction(from: i32) -> String {
    let steps = STEPS.iter().skip(usize::try_from(from).unwrap_or_default()).copied();
    let lock = if from == 0 { "" } else { "LOCK TABLE spec_notify.meta;\n" };
    // Whoever waits for a lock on a table holds up all that come after it: not for long.
    format!(
        "BEGIN;\nSET LOCAL lock_timeout = '3s';\n{lock}{}\nCOMMIT;\n",
        steps.collect::<Vec<_>>().join("\n")
    )
}

/// The roles, which are made once.
pub(crate) fn roles() -> &'static str {
    "\
-- Roles, once: name them as you like, and give each a password.
CREATE ROLE spec_notify_emitter LOGIN;
CREATE ROLE spec_notify_deliverer LOGIN;
CREATE ROLE spec_notify_reader LOGIN;

"
}

/// What each role needs, again after each upgrade; an emitter reads no event.
pub(crate) fn grants() -> &'static str {
    "\
-- What they need, again after each upgrade.
GRANT USAGE ON SCHEMA spec_notify TO spec_notify_emitter;
GRANT SELECT ON spec_notify.meta TO spec_notify_emitter;
GRANT INSERT (ns, key, spec, event), UPDATE (seen), SELECT (ns, key, seen)
    ON spec_notify.event TO spec_notify_emitter;

GRANT USAGE ON SCHEMA spec_notify TO spec_notify_deliverer;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA spec_notify TO spec_notify_deliverer;
GRANT pg_monitor TO spec_notify_deliverer;

GRANT USAGE ON SCHEMA spec_notify TO spec_notify_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA spec_notify TO spec_notify_reader;
GRANT pg_monitor TO spec_notify_reader;
"
}

/// How the cluster's schema stands to this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// There is none.
    Missing,
    /// It fits.
    Fits { version: i32 },
    /// An older one, which `fleet init` upgrades.
    Older { version: i32 },
    /// One of a later program that this one must not use.
    Newer { version: i32, oldest: i32 },
}

impl Standing {
    fn of(version: i32, oldest: i32) -> Self {
        if oldest > VERSION {
            Self::Newer { version, oldest }
        } else if version < VERSION {
            Self::Older { version }
        } else {
            Self::Fits { version }
        }
    }
}

/// Why a schema that does not fit is not used.
pub(crate) fn misfit(standing: Standing) -> EngineError {
    let (what, hint) = match standing {
        Standing::Missing | Standing::Fits { .. } => {
            ("the schema spec_notify is missing in this database".to_owned(), "spec-notify fleet init")
        }
        Standing::Older { version } => {
            let what = format!("the schema is of version {version}, and this program needs {VERSION}");
            (what, "spec-notify fleet init upgrades it")
        }
        Standing::Newer { version, oldest } => {
            let what = format!(
                "the schema is of version {version}, which a later program made and only programs from \
                 schema version {oldest} on may use"
            );
            (what, "upgrade spec-notify on this machine")
        }
    };
    EngineError::new(Kind::Refused, what, hint)
}

/// Looks which schema is there.
///
/// # Errors
/// The cluster could not be asked.
pub(crate) fn look(link: &Link) -> Result<Standing, EngineError> {
    link.ask_blocking(Line::Read, WITHIN, |connected| async move { standing(&connected).await })
}

/// How the schema at a connection stands to this program.
pub(super) async fn standing(connected: &Connected) -> Result<Standing, tokio_postgres::Error> {
    match connected.client.query_typed("SELECT version, oldest FROM spec_notify.meta", &[]).await {
        Ok(rows) => rows
            .first()
            .map_or(Ok(Standing::Missing), |row| Ok(Standing::of(row.try_get(0)?, row.try_get(1)?))),
        Err(error) if is_missing(error.code()) => Ok(Standing::Missing),
        Err(error) => Err(error),
    }
}

fn is_missing(code: Option<&SqlState>) -> bool {
    code.is_some_and(|code| *code == SqlState::UNDEFINED_TABLE || *code == SqlState::INVALID_SCHEMA_NAME)
}

/// Makes the tables, or makes those of an older version this program's; all or none.
///
/// # Errors
/// The cluster refused, or gave no answer.
pub(crate) fn apply(link: &Link, from: i32) -> Result<(), EngineError> {
    let statements = in_one_transaction(from);
    let applied = link.ask_blocking(Line::Read, WITHIN, |connected| async move {
        connected.client.batch_execute(&statements).await
    });
    applied.map_err(|error| match error.kind {
        Kind::Denied if from > 0 => {
            EngineError { hint: "use the role that made the schema".to_owned(), ..error }
        }
        _ => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_program_refuses_a_newer_schema_unless_that_lets_it() {
        assert_eq!(Standing::of(VERSION, VERSION), Standing::Fits { version: VERSION });
        assert_eq!(Standing::of(VERSION - 1, 0), Standing::Older { version: VERSION - 1 });
        // A neighbour's that is made to be used side by side.
        assert_eq!(Standing::of(VERSION + 1, VERSION), Standing::Fits { version: VERSION + 1 });
        let (version, oldest) = (VERSION + 2, VERSION + 1);
        assert_eq!(Standing::of(version, oldest), Standing::Newer { version, oldest });
    }
}
