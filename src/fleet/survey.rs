//! Reads what operators look at: who does what, what waits, what was given up.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::board::seen;
use super::error::EngineError;
use super::health::of_node;
use super::link::{Line, Link};
use super::overview::{Overview, Place, Rows, Wanted};
use super::read::{COLUMNS, health_of, json, letter, pauses, unfinished};
use crate::archive::{DeadLetterCause, DeadLetterCount};
use crate::delivery::{Reason, SubscriptionId};
use crate::event::SpecId;

/// Less than who asks a runtime for it waits for the answer.
const WITHIN: Duration = Duration::from_millis(1500);

/// The time of a column, in milliseconds.
fn time(ms: Option<i64>) -> Timestamp {
    ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
}

fn count(of: i64) -> usize {
    usize::try_from(of).unwrap_or_default()
}

impl Link {
    /// The state of the fleet.
    ///
    /// # Errors
    /// The cluster gave no answer, or does not let this role read.
    pub(crate) async fn overview(&self) -> Result<Overview, EngineError> {
        let (ns, durability) = (self.config().namespace.to_string(), self.config().durability);
        self.ask(Line::Read, WITHIN, move |connected| async move {
            let mut view = Overview::default();
            let node = of_node(&connected, durability).await?;
            (view.streaming, view.problem) = (count(node.streaming), node.problem);
            let of: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 1] = [(&ns, Type::TEXT)];
            let client = &connected.client;
            (view.members, view.leases) = seen(&connected, &ns).await?;
            let sql = "SELECT count(*) FILTER (WHERE NOT routed), count(refused), \
                       coalesce(extract(epoch from clock_timestamp() - min(at) FILTER (WHERE NOT routed)), \
                           0)::int8 \
                       FROM spec_notify.event WHERE ns = $1 AND (NOT routed OR refused IS NOT NULL)";
            if let Some(row) = client.query_typed(sql, &of).await?.first() {
                (view.unrouted, view.refused) = (count(row.try_get(0)?), count(row.try_get(1)?));
                view.oldest_unrouted_s = u64::try_from(row.try_get::<_, i64>(2)?).unwrap_or_default();
            }
            let sql = "SELECT subscription, count(*), (extract(epoch from min(accepted_at)) * 1000)::int8 \
                       FROM spec_notify.delivery WHERE ns = $1 AND ended_at IS NULL GROUP BY subscription";
            for row in client.query_typed(sql, &of).await? {
                let (id, waiting, oldest): (String, i64, Option<i64>) =
                    (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
                let waiting = (count(waiting), time(oldest));
                view.pending.extend(id.parse().ok().map(|id: SubscriptionId| (id, waiting)));
            }
            let sql = "SELECT subscription, coalesce(reason, ''), coalesce(hint, ''), count(*), \
                           (extract(epoch from min(ended_at)) * 1000)::int8, \
                           (extract(epoch from max(ended_at)) * 1000)::int8 \
                       FROM spec_notify.delivery WHERE ns = $1 AND ended_at IS NOT NULL \
                       GROUP BY subscription, reason, hint ORDER BY count(*) DESC";
            let mut letters: BTreeMap<SubscriptionId, DeadLetterCount> = BTreeMap::new();
            for row in client.query_typed(sql, &of).await? {
                let (id, reason): (String, String) = (row.try_get(0)?, row.try_get(1)?);
                let (oldest, newest) = (time(row.try_get(4)?), time(row.try_get(5)?));
                let what = json::<Reason>(&reason).map_or(String::new(), |reason| reason.to_string());
                let hint = row.try_get(2)?;
                let cause = DeadLetterCause { what, hint, count: count(row.try_get(3)?), oldest, newest };
                if let Ok(id) = id.parse() {
                    let none = DeadLetterCount { count: 0, oldest, causes: Vec::new() };
                    let all = letters.entry(id).or_insert(none);
                    (all.count, all.oldest) = (all.count + cause.count, all.oldest.min(oldest));
                    all.causes.push(cause);
                }
            }
            view.dead_letters = letters;
            let sql = "SELECT health, (extract(epoch from paused_until - clock_timestamp()) * 1000)::int8, \
                       subscription FROM spec_notify.health WHERE ns = $1";
            for row in client.query_typed(sql, &of).await? {
                let id: String = row.try_get(2)?;
                view.healths.extend(id.parse().ok().zip(Some(health_of(&row)?)));
            }
            view.pauses = pauses(&connected, &ns).await?;
            Ok(view)
        })
        .await
    }

    /// As [`overview`](Self::overview), for a thread that waits.
    ///
    /// # Errors
    /// As `overview`.
    #[cfg(feature = "cli")]
    pub(crate) fn overview_now(&self) -> Result<Overview, EngineError> {
        let link = self.clone();
        let asked = self.begin(async move { link.overview().await });
        asked.recv().unwrap_or_else(|_| Err(EngineError::late(WITHIN)))
    }

    /// As [`rows`](Self::rows), for a thread that waits.
    ///
    /// # Errors
    /// As `rows`.
    #[cfg(feature = "cli")]
    pub(crate) fn rows_now(&self, wanted: Wanted) -> Result<Rows, EngineError> {
        let link = self.clone();
        let asked = self.begin(async move { link.rows(wanted).await });
        asked.recv().unwrap_or_else(|_| Err(EngineError::late(WITHIN)))
    }

    /// The SPECs that the cluster has evidence of.
    ///
    /// # Errors
    /// As [`overview`](Self::overview).
    pub(crate) fn specs_with_evidence(&self) -> Result<Vec<SpecId>, EngineError> {
        let ns = self.config().namespace.to_string();
        self.ask_blocking(Line::Read, WITHIN, |connected| async move {
            let sql = "SELECT DISTINCT spec FROM spec_notify.evidence WHERE ns = $1 ORDER BY spec";
            let rows = connected.client.query_typed(sql, &[(&ns, Type::TEXT)]).await?;
            let specs: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
            Ok(specs?.iter().filter_map(|spec| spec.parse().ok()).collect())
        })
    }

    /// The next lines of a SPEC's evidence that are final: none that comes later has its place
    /// before them.
    ///
    /// # Errors
    /// As [`overview`](Self::overview).
    pub(crate) fn evidence(&self, spec: &SpecId, from: Place) -> Result<Vec<(Place, String)>, EngineError> {
        let (ns, spec) = (self.config().namespace.to_string(), spec.to_string());
        self.ask_blocking(Line::Read, WITHIN, move |connected| async move {
            let sql = "SELECT tx::text::int8, seq, line FROM spec_notify.evidence \
                       WHERE ns = $1 AND spec = $2 AND (tx, seq) > ($3::text::xid8, $4) \
                           AND tx < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY tx, seq LIMIT 500";
            let tx = from.tx.to_string();
            let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 4] =
                [(&ns, Type::TEXT), (&spec, Type::TEXT), (&tx, Type::TEXT), (&from.seq, Type::INT8)];
            let rows = connected.client.query_typed(sql, &parameters).await?;
            let line = |row: &tokio_postgres::Row| {
                Ok((Place { tx: row.try_get(0)?, seq: row.try_get(1)? }, row.try_get(2)?))
            };
            rows.iter().map(line).collect()
        })
    }

    /// The newest deliveries of each kind, a few more than wanted.
    ///
    /// # Errors
    /// As [`overview`](Self::overview).
    pub(crate) async fn rows(&self, wanted: Wanted) -> Result<Rows, EngineError> {
        let ns = self.config().namespace.to_string();
        self.ask(Line::Read, WITHIN, move |connected| async move {
            let Wanted { spec, subscription, since, before, limit } = wanted;
            let spec = spec.map_or(String::new(), |spec| spec.to_string());
            let subscription = subscription.map_or(String::new(), |id| id.to_string());
            let since = since.map_or(0, Timestamp::as_millisecond);
            // The cursor itself, and others of its moment, are left out by who asks.
            let before = before.map_or(i64::MAX / 1_000_000, |at| at.as_millisecond() + 1);
            let limit = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(64);
            let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 6] = [
                (&ns, Type::TEXT),
                (&spec, Type::TEXT),
                (&subscription, Type::TEXT),
                (&since, Type::INT8),
                (&before, Type::INT8),
                (&limit, Type::INT8),
            ];
            let chosen = "d.ns = $1 AND ($2 = '' OR d.spec = $2) AND ($3 = '' OR d.subscription = $3) \
                          AND d.accepted_at >= to_timestamp($4 / 1000.0) \
                          AND d.accepted_at < to_timestamp($5 / 1000.0) \
                          ORDER BY d.accepted_at DESC, d.id LIMIT $6";
            let client = &connected.client;
            let mut rows = Rows::default();
            let sql = format!(
                "SELECT {COLUMNS}, (d.history -> -1)::text FROM spec_notify.delivery AS d \
                 WHERE d.ended_at IS NULL AND {chosen}"
            );
            for row in client.query_typed(&sql, &parameters).await? {
                let last = row.try_get::<_, Option<String>>(10)?.and_then(|last| json(&last));
                rows.waiting.extend(unfinished(&row)?.map(|(unfinished, _)| (unfinished, last)));
            }
            let sql = format!(
                "SELECT {COLUMNS}, d.history::text, d.reason, d.hint, \
                     (extract(epoch from d.ended_at) * 1000)::int8, NULL::bytea \
                 FROM spec_notify.delivery AS d WHERE d.ended_at IS NOT NULL AND {chosen}"
            );
            for row in client.query_typed(&sql, &parameters).await? {
                rows.letters.extend(letter(&row)?);
            }
            let sql = "SELECT spec, line FROM (SELECT spec, line, line::jsonb AS said FROM \
                spec_notify.evidence \
                           WHERE ns = $1 AND is_end AND ($2 = '' OR spec = $2)) AS ends \
                       WHERE ($3 = '' OR said ->> 'subscription' = $3) \
                           AND (said ->> 'accepted_at')::timestamptz >= to_timestamp($4 / 1000.0) \
                           AND (said ->> 'accepted_at')::timestamptz < to_timestamp($5 / 1000.0) \
                       ORDER BY said ->> 'accepted_at' DESC LIMIT $6";
            for row in client.query_typed(sql, &parameters).await? {
                let spec: String = row.try_get(0)?;
                rows.ends.extend(spec.parse().ok().zip(Some(row.try_get(1)?)));
            }
            Ok(rows)
        })
        .await
    }
}
