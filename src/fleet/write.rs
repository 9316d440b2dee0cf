//! Writes what became of events and deliveries, one transaction for a batch. Evidence and what
//! arrived are true whoever says it; all else counts only from whoever has the lease.

mod outcome;
mod route;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join;
use tokio_postgres::types::{ToSql, Type};

use super::accept::survives_at;
use super::error::EngineError;
use super::lease::{Duty, MemberId};
use super::link::{Connected, Line, Link};
use super::work::{Routed, Write};
use crate::archive::Finished;
use crate::config::{Durability, Namespace};
use crate::delivery::{AttemptSummary, DeliveryId, Health, SubscriptionId};
use crate::event::SpecId;
use crate::spool::Accepted;

/// How long a batch may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Who writes, and for whom.
#[derive(Clone)]
struct Writer {
    namespace: Namespace,
    member: MemberId,
    durability: Durability,
}

impl Link {
    /// Writes a batch; for each, whether it counted: not where another member has the lease.
    ///
    /// # Errors
    /// Nothing is known of the batch: it may have been written all the same, and writing it again
    /// does no harm.
    pub(crate) async fn write(&self, writes: Arc<Vec<Write>>) -> Result<Vec<bool>, EngineError> {
        let writer = Writer {
            namespace: self.config().namespace.clone(),
            member: self.member().clone(),
            durability: self.config().durability,
        };
        self.transact(Line::Write, WITHIN, move |connected| async move {
            Batch::of(&writer, &writes).write(&connected, &writer).await
        })
        .await
    }
}

/// A column of values, as a parameter.
type Texts = Vec<String>;

/// A query's parameters with their types.
type Parameters<'a> = [(&'a (dyn ToSql + Sync), Type)];

async fn run(connected: &Connected, sql: &str, parameters: &Parameters<'_>) -> Result<Texts, EngineError> {
    let rows = connected.client.query_typed(sql, parameters).await?;
    Ok(rows.iter().filter_map(|row| row.try_get::<_, String>(0).ok()).collect())
}

/// A batch, taken apart by what it touches.
struct Batch<'a> {
    all: &'a [Write],
    namespace: String,
    /// The leases that it needs.
    duties: BTreeSet<String>,
}

/// What is known once the leases are held.
struct Fenced {
    epochs: HashMap<String, i64>,
    /// The attempts so far of what becomes a dead letter.
    histories: HashMap<DeliveryId, Vec<AttemptSummary>>,
}

impl Fenced {
    fn has(&self, duty: &Duty, epoch: i64) -> bool {
        self.epochs.get(&duty.to_string()) == Some(&epoch)
    }

    fn owns(&self, subscription: &SubscriptionId, epoch: Option<i64>) -> bool {
        epoch.is_some_and(|epoch| self.has(&Duty::Deliver(subscription.clone()), epoch))
    }
}

impl<'a> Batch<'a> {
    fn of(writer: &Writer, all: &'a [Write]) -> Self {
        let of = |subscription: &SubscriptionId| Duty::Deliver(subscription.clone()).to_string();
        let duties = all.iter().filter_map(|write| match write {
            Write::Route { .. } | Write::Pass { .. } => Some(Duty::Route.to_string()),
            Write::Attempt { epoch: None, .. } | Write::GiveUp { epoch: None, .. } => None,
            Write::Attempt { finished, .. } => Some(of(&finished.delivery.subscription)),
            Write::GiveUp { delivery, .. } => Some(of(&delivery.subscription)),
            Write::Health { subscription, .. } => Some(of(subscription)),
        });
        Self { all, namespace: writer.namespace.to_string(), duties: duties.collect() }
    }

    async fn write(&self, connected: &Connected, writer: &Writer) -> Result<Vec<bool>, EngineError> {
        let fenced = self.fence(connected, writer).await?;
        let (routed, ended) = join(self.routed(connected, &fenced), self.ended(connected)).await;
        let (routed, ended) = (routed?, ended?);
        let route = async {
            self.insert_deliveries(connected, writer, &routed).await?;
            self.keep_runs(connected, &fenced).await
        };
        let settle = async {
            self.keep_evidence(connected, &fenced, &ended).await?;
            self.retry(connected, &fenced).await?;
            self.bury(connected, &fenced).await?;
            self.replay_failed(connected).await?;
            self.keep_health(connected, &fenced).await
        };
        let (route, settle) = join(route, settle).await;
        route.and(settle)?;
        Ok(self.all.iter().map(|write| self.counts(write, &fenced)).collect())
    }

    fn counts(&self, write: &Write, fenced: &Fenced) -> bool {
        match write {
            Write::Route { routed: Routed { term, .. }, .. } | Write::Pass { term, .. } => {
                fenced.has(&Duty::Route, term.epoch)
            }
            // What became of them is somebody else's by now.
            Write::Attempt { .. } | Write::GiveUp { .. } | Write::Health { .. } => true,
        }
    }

    /// Holds the leases until the end of the transaction: nobody takes them over meanwhile, and who
    /// routes does so in one order.
    async fn fence(&self, connected: &Connected, writer: &Writer) -> Result<Fenced, EngineError> {
        let duties: Texts = self.duties.iter().cloned().collect();
        let member = writer.member.to_string();
        let dead: Texts = self.burials().map(|burial| burial.delivery.id.to_string()).collect();
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&self.namespace, Type::TEXT), (&member, Type::TEXT), (&duties, Type::TEXT_ARRAY)];
        let leases = connected.client.query_typed(
            "SELECT name, epoch FROM spec_notify.lease \
             WHERE ns = $1 AND holder = $2 AND name = ANY($3) AND until > clock_timestamp() \
             ORDER BY name FOR NO KEY UPDATE",
            &parameters,
        );
        let is_durable = survives_at(connected, writer.durability);
        let of_dead: [(&(dyn ToSql + Sync), Type); 1] = [(&dead, Type::TEXT_ARRAY)];
        let histories = async {
            if dead.is_empty() {
                return Ok(Vec::new());
            }
            let sql = "SELECT id::text, history::text FROM spec_notify.delivery \
                       WHERE id = ANY($1::text[]::uuid[]) AND ended_at IS NULL ORDER BY id FOR UPDATE";
            connected.client.query_typed(sql, &of_dead).await
        };
        let (leases, (is_durable, histories)) = join(leases, join(is_durable, histories)).await;
        is_durable?;
        let mut epochs = HashMap::new();
        for row in &leases? {
            epochs.insert(row.try_get(0)?, row.try_get(1)?);
        }
        let mut read = HashMap::new();
        for row in &histories? {
            let (id, history): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            if let Ok(id) = id.parse() {
                read.insert(id, serde_json::from_str(&history).unwrap_or_default());
            }
        }
        Ok(Fenced { epochs, histories: read })
    }

    fn routes(&self) -> impl Iterator<Item = (&SpecId, &Accepted, &Routed)> {
        self.all.iter().filter_map(|write| match write {
            Write::Route { spec, record, routed } => Some((spec, &**record, routed)),
            _ => None,
        })
    }

    fn attempts(&self) -> impl Iterator<Item = (&Finished, Option<&Health>, Option<i64>)> {
        self.all.iter().filter_map(|write| match write {
            Write::Attempt { finished, health, epoch } => Some((&**finished, health.as_ref(), *epoch)),
            _ => None,
        })
    }
}
