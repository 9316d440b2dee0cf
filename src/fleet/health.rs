//! Whether what the cluster acknowledges would survive: its settings, and who streams.

use std::time::Duration;

use super::accept::survives;
use super::error::EngineError;
use super::link::{Connected, Line, Link};
use crate::config::Durability;

const WITHIN: Duration = Duration::from_secs(5);

/// What the read-write node says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// Host and port.
    pub(crate) node: String,
    pub(crate) version: String,
    /// `synchronous_standby_names`.
    pub(crate) standbys: String,
    /// Standbys that a commit may wait for and that stream at present, by their names.
    pub(crate) streaming: Vec<String>,
    /// Standbys that stream at present; where a quorum is asked for, those that count to it.
    pub(crate) attached: i64,
    /// Whether this role may look who streams.
    pub(crate) sees_standbys: bool,
    /// Why what it acknowledges would not survive.
    pub(crate) problem: Option<String>,
}

/// Asks the read-write node.
///
/// # Errors
/// There is none, or it gave no answer.
pub(crate) fn health(link: &Link) -> Result<Health, EngineError> {
    let durability = link.config().durability;
    link.ask_blocking(
        Line::Read,
        WITHIN,
        move |connected| async move { of_node(&connected, durability).await },
    )
}

/// What the node of this connection says of itself.
pub(super) async fn of_node(
    connected: &Connected,
    durability: Durability,
) -> Result<Health, tokio_postgres::Error> {
    let rows = connected
        .client
        .query_typed(
            "SELECT current_setting('server_version'), current_setting('synchronous_standby_names'), \
             current_setting('fsync'), current_setting('synchronous_commit'), \
             ARRAY(SELECT application_name::text FROM pg_stat_replication \
              WHERE state = 'streaming' AND sync_state IN ('sync', 'quorum') ORDER BY 1), \
             (SELECT coalesce(nullif(count(*) FILTER (WHERE sync_state = 'quorum'), 0), count(*)) \
              FROM pg_stat_replication WHERE state = 'streaming'), \
             pg_has_role('pg_read_all_stats', 'USAGE')",
            &[],
        )
        .await?;
    let mut health = Health { node: connected.node.clone(), ..Health::default() };
    let Some(row) = rows.first() else { return Ok(health) };
    let text = |at: usize| row.try_get::<_, String>(at);
    (health.version, health.standbys) = (text(0)?, text(1)?);
    (health.streaming, health.attached) = (row.try_get(4)?, row.try_get(5)?);
    health.sees_standbys = row.try_get(6)?;
    let lacks = survives(durability, &health.standbys, &text(2)?, &text(3)?).err();
    let is_alone = health.sees_standbys && health.streaming.is_empty();
    let alone = (durability == Durability::Replicated && is_alone).then(|| {
        "no standby streams that a commit waits for: nothing is acknowledged until one does, and events wait \
         in the inboxes; see that one runs"
            .to_owned()
    });
    health.problem = lacks.map(|error| error.to_string()).or(alone);
    Ok(health)
}
