//! Keeps the tables in proportion to what is pending and kept; whoever routes does it, now and
//! then.

use std::time::Duration;

use tokio_postgres::types::Type;

use super::error::EngineError;
use super::link::{Line, Link};
use crate::store::StoreOptions;

const WITHIN: Duration = Duration::from_secs(30);

/// Rows removed at a time: no transaction is long.
const ROWS: i64 = 10_000;

impl Link {
    /// Forgets keys that are older than the window, payloads that nobody sends any more, and the
    /// oldest evidence and dead letters beyond their bounds.
    ///
    /// # Errors
    /// The cluster gave no answer: the rest goes the next time.
    pub(crate) async fn sweep(&self, options: &StoreOptions) -> Result<(), EngineError> {
        let ns = self.config().namespace.to_string();
        let window = i64::try_from(options.dedupe_window.as_millis()).unwrap_or(i64::MAX);
        let bytes = |most: u64| i64::try_from(most).unwrap_or(i64::MAX);
        let (evidence, letters) = (bytes(options.max_evidence_bytes), bytes(options.max_dead_letter_bytes));
        let steps = [
            (
                "DELETE FROM spec_notify.event WHERE ctid = ANY(ARRAY(SELECT ctid FROM spec_notify.event \
                 WHERE ns = $1 AND routed AND refused IS NULL \
                     AND at <= clock_timestamp() - $2 * interval '1 millisecond' LIMIT $3))",
                window,
            ),
            (
                "DELETE FROM spec_notify.body WHERE ctid = ANY(ARRAY(SELECT ctid FROM spec_notify.body AS b \
                 WHERE ns = $1 AND $2 = 0 \
                     AND NOT EXISTS (SELECT 1 FROM spec_notify.delivery AS d WHERE d.body = b.id) LIMIT $3))",
                0,
            ),
            (
                "DELETE FROM spec_notify.evidence WHERE ctid = ANY(ARRAY(SELECT e.ctid FROM ( \
                     SELECT seq, sum(octet_length(line) + 1) \
                         OVER (PARTITION BY spec ORDER BY seq DESC) AS total \
                     FROM spec_notify.evidence WHERE ns = $1 AND spec IN ( \
                         SELECT spec FROM spec_notify.evidence \
                         WHERE ns = $1 GROUP BY spec HAVING sum(octet_length(line) + 1) > $2)) AS all_of_it \
                 JOIN spec_notify.evidence AS e ON e.seq = all_of_it.seq AND e.ns = $1 \
                 WHERE total > $2 ORDER BY e.seq LIMIT $3))",
                evidence,
            ),
            (
                "DELETE FROM spec_notify.delivery WHERE id = ANY(ARRAY(SELECT id FROM ( \
                     SELECT d.id, d.ended_at, sum(octet_length(b.bytes) + octet_length(d.history::text)) \
                         OVER (PARTITION BY d.spec ORDER BY d.ended_at DESC, d.seq DESC) AS total \
                     FROM spec_notify.delivery AS d JOIN spec_notify.body AS b ON b.id = d.body \
                     WHERE d.ns = $1 AND d.ended_at IS NOT NULL) AS letters \
                 WHERE total > $2 ORDER BY ended_at LIMIT $3))",
                letters,
            ),
            (
                "DELETE FROM spec_notify.lease WHERE ctid = ANY(ARRAY(SELECT ctid FROM spec_notify.lease \
                 WHERE ns = $1 AND name LIKE 'member:%' \
                     AND until < clock_timestamp() - $2 * interval '1 millisecond' LIMIT $3))",
                3_600_000,
            ),
        ];
        for (sql, bound) in steps {
            let ns = ns.clone();
            self.ask(Line::Read, WITHIN, move |connected| async move {
                let parameters =
                    [(&ns as _, Type::TEXT), (&bound as _, Type::INT8), (&ROWS as _, Type::INT8)];
                connected.client.query_typed(sql, &parameters).await.map(drop)
            })
            .await?;
        }
        Ok(())
    }
}
