//! Whether what the cluster acknowledges would survive: its settings, and who streams.

use std::time::Duration;

use super::accept::survives;
use super::error::EngineError;
use super::link::{Line, Link};
use crate::config::Durability;

const WITHIN: Duration = Duration::from_secs(5);

/// What the read-write node says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    /// Host and port.
    pub(crate) node: String,
    pub(crate) version: String,
    /// `synchronous_standby_names`.
    pub(crate) standbys: String,
    /// Standbys that a commit may wait for and that stream at present.
    pub(crate) streaming: i64,
    /// Why what it acknowledges would not survive.
    pub(crate) problem: Option<String>,
}

/// Asks the read-write node.
///
/// # Errors
/// There is none, or it gave no answer.
pub(crate) fn health(link: &Link) -> Result<Health, EngineError> {
    let durability = link.config().durability;
    let asked = link.ask_blocking(Line::Read, WITHIN, |connected| async move {
        let rows = connected
            .client
            .query_typed(
                "SELECT current_setting('server_version'), current_setting('synchronous_standby_names'), \
                 current_setting('fsync'), current_setting('synchronous_commit'), \
                 (SELECT count(*) FROM pg_stat_replication \
                  WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum'))",
                &[],
            )
            .await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let text = |at: usize| row.try_get::<_, String>(at);
        Ok(Some((connected.node.clone(), text(0)?, text(1)?, text(2)?, text(3)?, row.try_get::<_, i64>(4)?)))
    });
    let Some((node, version, standbys, fsync, commit, streaming)) = asked? else {
        return Err(EngineError::late(WITHIN));
    };
    let lacks = survives(durability, &standbys, &fsync, &commit).err().map(|error| error.to_string());
    let alone = (durability == Durability::Replicated && streaming == 0).then(|| {
        "no standby streams that a commit waits for: nothing is acknowledged until one does, and events wait \
         in the inboxes; see that one runs, and that this role may read pg_stat_replication (pg_monitor)"
            .to_owned()
    });
    Ok(Health { node, version, standbys, streaming, problem: lacks.or(alone) })
}
