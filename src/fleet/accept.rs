//! Accepting an event: one upsert, answered after the quorum has it.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::error::{EngineError, Kind};
use super::link::{Line, Link};
use crate::config::Durability;
use crate::digest::sha256;
use crate::event::Event;

/// A duplicate writes too: it has to be as durable as what it is a duplicate of.
const UPSERT: &str = "\
    INSERT INTO spec_notify.event (ns, key, spec, event) VALUES ($1, $2, $3, $4) \
    ON CONFLICT (ns, key) DO UPDATE SET seen = spec_notify.event.seen + 1 \
    RETURNING seen, current_setting('synchronous_standby_names'), current_setting('fsync'), \
    current_setting('synchronous_commit')";

/// An event as it lies in the cluster.
#[derive(Clone, Debug)]
pub(crate) struct Offered {
    key: [u8; 32],
    spec: String,
    event: String,
}

impl Offered {
    /// # Errors
    /// It cannot be written as JSON.
    pub(crate) fn new(event: &Event) -> serde_json::Result<Self> {
        let key = sha256(event.event.idempotency_key.as_str().as_bytes());
        Ok(Self { key, spec: event.spec.id.to_string(), event: serde_json::to_string(event)? })
    }
}

/// What became of an event that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    New,
    /// One with the same key is there.
    Known,
}

/// Offers an event to the cluster.
///
/// # Errors
/// It may be there all the same where nobody answered; offered again, it is known by its key.
pub(crate) async fn accept(link: &Link, offered: Offered, within: Duration) -> Result<Taken, EngineError> {
    let (ns, durability) = (link.config().namespace.to_string(), link.config().durability);
    let row = link
        .ask(Line::Accept, within, move |connected| async move {
            let Offered { key, spec, event } = offered;
            let key = &key[..];
            let rows = connected
                .client
                .query_typed(
                    UPSERT,
                    &[(&ns, Type::TEXT), (&key, Type::BYTEA), (&spec, Type::TEXT), (&event, Type::TEXT)],
                )
                .await?;
            match rows.first() {
                Some(row) => {
                    let setting = |at: usize| row.try_get::<_, String>(at);
                    Ok(Some((row.try_get::<_, i32>(0)?, setting(1)?, setting(2)?, setting(3)?)))
                }
                None => Ok(None),
            }
        })
        .await?;
    let Some((seen, standbys, fsync, commit)) = row else {
        return Err(EngineError::new(
            Kind::Silent,
            "the cluster did not say whether it took the event",
            "it is offered again",
        ));
    };
    survives(durability, &standbys, &fsync, &commit)?;
    Ok(if seen == 1 { Taken::New } else { Taken::Known })
}

/// Whether what a node acknowledges outlives what `durability` promises.
pub(super) fn survives(
    durability: Durability,
    standbys: &str,
    fsync: &str,
    commit: &str,
) -> Result<(), EngineError> {
    let lack = |what: &str, hint: &str| Err(EngineError::new(Kind::NotDurable, what, hint));
    if fsync != "on" {
        return lack(
            "the node runs with fsync = off: what it takes may be gone after a power loss",
            "set fsync = on",
        );
    }
    match (durability, commit) {
        (Durability::Replicated, _) if standbys.trim().is_empty() => lack(
            "the node acknowledges alone: synchronous_standby_names is empty",
            "set it, such as 'ANY 1 (n1, n2, n3)', on every node; or durability = \"managed\" where the \
             service's storage replicates, \"single\" where one machine is meant",
        ),
        (Durability::Replicated, "on" | "remote_apply") => Ok(()),
        (Durability::Managed | Durability::Single, "on" | "remote_apply" | "remote_write" | "local") => {
            Ok(())
        }
        (_, commit) => lack(
            &format!(
                "synchronous_commit is {commit} for this role: a commit is acknowledged before it is safe"
            ),
            "set synchronous_commit = on",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Durability::{Managed, Replicated, Single};

    #[test]
    fn what_is_acknowledged_too_early_is_refused() {
        let any = "ANY 1 (n1,n2,n3)";
        for (durability, standbys, fsync, commit, is_well) in [
            (Replicated, any, "on", "on", true),
            (Replicated, any, "on", "remote_apply", true),
            (Replicated, " ", "on", "on", false),
            (Replicated, any, "on", "local", false),
            (Replicated, any, "on", "remote_write", false),
            (Replicated, any, "off", "on", false),
            (Managed, "", "on", "on", true),
            (Managed, "", "on", "off", false),
            (Single, "", "on", "local", true),
            (Single, "", "off", "on", false),
        ] {
            let found = survives(durability, standbys, fsync, commit);
            assert_eq!(found.is_ok(), is_well, "{durability} {standbys:?} {fsync} {commit}: {found:?}");
        }
    }
}
