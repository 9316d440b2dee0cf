//! Reads what operators look at: who does what, what waits, what was given up.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::types::Type;

use super::board::{Present, seen};
use super::error::EngineError;
use super::health::of_node;
use super::link::{Line, Link};
use super::overview::Overview;
use super::read::{health_of, json, pauses};
use crate::archive::{DeadLetterCause, DeadLetterCount};
use crate::delivery::{Reason, SubscriptionId};

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
        let nodes = self.nodes();
        self.ask(Line::Read, WITHIN, move |connected| async move {
            let mut view = Overview::default();
            let node = of_node(&connected, durability).await?;
            (view.confirming, view.problem) = (node.streaming, node.problem);
            (view.attached, view.nodes) = (count(node.attached), nodes);
            view.standbys_unseen = !node.sees_standbys;
            let of: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 1] = [(&ns, Type::TEXT)];
            let client = &connected.client;
            let Present { members, gone, leases } = seen(&connected, &ns).await?;
            (view.members, view.gone, view.leases) = (members, gone, leases);
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
}
