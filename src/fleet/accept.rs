//! Accepting an event: one upsert, answered after the quorum has it.

use std::sync::mpsc;
use std::time::Duration;

use tokio_postgres::types::Type;

use super::error::{EngineError, Kind};
use super::link::{Connected, Line, Link};
use crate::answer::{EmitError, Receipt};
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
struct Offered {
    key: [u8; 32],
    spec: String,
    event: String,
}

impl Offered {
    fn new(event: &Event) -> Result<Self, EmitError> {
        let key = sha256(event.event.idempotency_key.as_str().as_bytes());
        let json = serde_json::to_string(event).map_err(|error| EmitError::Refused(error.to_string()))?;
        Ok(Self { key, spec: event.spec.id.to_string(), event: json })
    }
}

impl Link {
    /// Offers an event to the cluster: `Accepted`, with deliveries that nobody knows yet, once the
    /// quorum has it.
    ///
    /// # Errors
    /// `Unavailable`, and it may be there all the same: offered again, it is known by its key.
    pub(crate) async fn accept(&self, event: &Event, within: Duration) -> Result<Receipt, EmitError> {
        let offered = Offered::new(event)?;
        let offered = self.offer(offered, within).await;
        offered.map_err(|error| EmitError::Unavailable(error.to_string()))
    }

    /// The same for a thread that waits for the answer, and may have several under way.
    pub(crate) fn begin_to_accept(
        &self,
        event: &Event,
        within: Duration,
    ) -> mpsc::Receiver<Result<Receipt, EmitError>> {
        let (link, event) = (self.clone(), event.clone());
        self.begin(async move { link.accept(&event, within).await })
    }

    async fn offer(&self, offered: Offered, within: Duration) -> Result<Receipt, EngineError> {
        let (ns, durability) = (self.config().namespace.to_string(), self.config().durability);
        let asked = self.ask(Line::Accept, within, move |connected| async move {
            let Offered { key, spec, event } = offered;
            let key = &key[..];
            let rows = connected
                .client
                .query_typed(
                    UPSERT,
                    &[(&ns, Type::TEXT), (&key, Type::BYTEA), (&spec, Type::TEXT), (&event, Type::TEXT)],
                )
                .await?;
            let Some(row) = rows.first() else { return Ok(None) };
            let setting = |at: usize| row.try_get::<_, String>(at);
            Ok(Some((row.try_get::<_, i32>(0)?, setting(1)?, setting(2)?, setting(3)?)))
        });
        let Some((seen, standbys, fsync, commit)) = asked.await? else {
            return Err(EngineError::late(within));
        };
        survives(durability, &standbys, &fsync, &commit)?;
        Ok(if seen == 1 { Receipt::Accepted(Vec::new()) } else { Receipt::Duplicate })
    }
}

/// Whether what the node of a connection acknowledges at present is what `durability` promises.
pub(super) async fn survives_at(connected: &Connected, durability: Durability) -> Result<(), EngineError> {
    let sql = "SELECT current_setting('synchronous_standby_names'), current_setting('fsync'), \
               current_setting('synchronous_commit')";
    let rows = connected.client.query_typed(sql, &[]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let text = |at: usize| row.try_get::<_, String>(at);
    survives(durability, &text(0)?, &text(1)?, &text(2)?)
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
            "set it, such as 'ANY 1 (n1, n2, n3)', on every node; or durability = \"managed\" if the storage \
            of the service replicates, \"single\" if one machine is meant",
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
