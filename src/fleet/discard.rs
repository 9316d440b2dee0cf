//! Gives deliveries up for good, as a person asked: with their last line of evidence, or not at
//! all.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio_postgres::types::{ToSql, Type};

use super::accept::survives_at;
use super::board::seen;
use super::error::EngineError;
use super::find;
use super::lease::Duty;
use super::link::{Connected, Line, Link};
use super::overview::Given;
use super::read::{COLUMNS, letter};
use crate::archive::{discard_letter_line, discard_line};
use crate::delivery::{Delivery, DeliveryId, SubscriptionId};

/// How long it may take.
const WITHIN: Duration = Duration::from_secs(10);

/// A row that ends, and the line that tells of it.
struct Ending {
    id: DeliveryId,
    subscription: SubscriptionId,
    spec: String,
    attempts: i32,
    line: String,
}

impl Ending {
    fn of(delivery: &Delivery, attempts: usize, line: &[u8]) -> Self {
        Self {
            id: delivery.id,
            subscription: delivery.subscription.clone(),
            spec: delivery.spec.to_string(),
            attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
            line: String::from_utf8_lossy(line).trim_end().to_owned(),
        }
    }
}

impl Link {
    /// Gives up dead letters, and what waits for subscriptions that nobody delivers to: no member
    /// has it in its config, nobody has its lease, and it is not among `active`. All in one
    /// transaction.
    ///
    /// # Errors
    /// The cluster gave no answer, or this role may not: asked again, what is gone is not there.
    pub(crate) async fn give_up(
        &self,
        ids: Vec<DeliveryId>,
        by: String,
        active: BTreeSet<SubscriptionId>,
    ) -> Result<Vec<Given>, EngineError> {
        let (ns, durability) = (self.config().namespace.to_string(), self.config().durability);
        self.transact(Line::Write, WITHIN, move |connected| async move {
            survives_at(&connected, durability).await?;
            let present = seen(&connected, &ns).await?;
            let mut active = active;
            active.extend(present.members.into_values().flat_map(|info| info.wants));
            let letters = letters(&connected, &ns, &ids, &by).await?;
            let waiting = waiting(&connected, &ns, &ids, &by).await?;
            let mut given = HashMap::new();
            let mut endings = letters;
            for ending in waiting {
                let of = &ending.subscription;
                let is_free = !active.contains(of) && hold_free(&connected, &ns, of).await?;
                if is_free {
                    endings.push(ending);
                } else {
                    given.insert(ending.id, Given::Wanted(of.clone()));
                }
            }
            end(&connected, &ns, &endings).await?;
            given.extend(endings.into_iter().map(|ending| (ending.id, Given::Up(ending.subscription))));
            Ok(ids.iter().map(|id| given.remove(id).unwrap_or(Given::NotThere)).collect())
        })
        .await
    }
}

/// The dead letters among these, which nobody replays or removes until the end of the transaction.
async fn letters(
    connected: &Arc<Connected>,
    ns: &String,
    ids: &[DeliveryId],
    by: &str,
) -> Result<Vec<Ending>, EngineError> {
    let sql = format!(
        "SELECT {COLUMNS}, d.history::text, d.reason, d.hint, \
             (extract(epoch from d.ended_at) * 1000)::int8, NULL::bytea \
         FROM spec_notify.delivery AS d WHERE d.ns = $1 AND d.id = ANY($2::text[]::uuid[]) \
             AND d.ended_at IS NOT NULL ORDER BY d.id FOR UPDATE"
    );
    let mut endings = Vec::new();
    for row in connected.client.query_typed(&sql, &chosen(ns, &texts(ids))).await? {
        let Some(letter) = letter(&row)? else { continue };
        let line = discard_letter_line(&letter, by);
        endings.push(Ending::of(&letter.delivery(), letter.attempts.len(), &line));
    }
    Ok(endings)
}

/// What waits among these.
async fn waiting(
    connected: &Arc<Connected>,
    ns: &String,
    ids: &[DeliveryId],
    by: &str,
) -> Result<Vec<Ending>, EngineError> {
    let sql = format!(
        "SELECT {COLUMNS}, d.history::text, ''::bytea FROM spec_notify.delivery AS d \
         WHERE d.ns = $1 AND d.id = ANY($2::text[]::uuid[]) AND d.ended_at IS NULL \
         ORDER BY d.id FOR UPDATE"
    );
    let mut endings = Vec::new();
    for row in connected.client.query_typed(&sql, &chosen(ns, &texts(ids))).await? {
        let Some(kept) = find::kept(&row)? else { continue };
        let line = discard_line(&kept.delivery, &kept.attempts, by);
        endings.push(Ending::of(&kept.delivery, kept.attempts.len(), &line));
    }
    Ok(endings)
}

/// Holds a subscription's lease, which nobody has, until the end of the transaction: nobody takes
/// it over and sends what is given up. `false` where somebody has it.
async fn hold_free(
    connected: &Arc<Connected>,
    ns: &String,
    subscription: &SubscriptionId,
) -> Result<bool, EngineError> {
    let name = Duty::Deliver(subscription.clone()).to_string();
    let sql = "INSERT INTO spec_notify.lease AS l (ns, name, holder, until) VALUES ($1, $2, '', '-infinity') \
               ON CONFLICT (ns, name) DO UPDATE SET until = l.until WHERE l.until <= clock_timestamp() \
               RETURNING l.epoch";
    let parameters = [(ns as _, Type::TEXT), (&name as _, Type::TEXT)];
    Ok(!connected.client.query_typed(sql, &parameters).await?.is_empty())
}

async fn end(connected: &Arc<Connected>, ns: &String, endings: &[Ending]) -> Result<(), EngineError> {
    let ids = texts(&endings.iter().map(|ending| ending.id).collect::<Vec<_>>());
    let specs: Vec<&str> = endings.iter().map(|ending| ending.spec.as_str()).collect();
    let attempts: Vec<i32> = endings.iter().map(|ending| ending.attempts).collect();
    let lines: Vec<&str> = endings.iter().map(|ending| ending.line.as_str()).collect();
    let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
        (ns, Type::TEXT),
        (&ids, Type::TEXT_ARRAY),
        (&specs, Type::TEXT_ARRAY),
        (&attempts, Type::INT4_ARRAY),
        (&lines, Type::TEXT_ARRAY),
    ];
    let sql = "WITH gone AS (DELETE FROM spec_notify.delivery WHERE id = ANY($2::text[]::uuid[])) \
               INSERT INTO spec_notify.evidence (ns, spec, delivery, attempt, is_end, at, line) \
               SELECT $1, new.spec, new.id::uuid, new.attempts, true, clock_timestamp(), new.line \
               FROM unnest($2::text[], $3::text[], $4::int4[], $5::text[]) AS new(id, spec, attempts, line)";
    connected.client.query_typed(sql, &parameters).await.map(drop).map_err(EngineError::from)
}

fn chosen<'a>(ns: &'a String, ids: &'a Vec<String>) -> [(&'a (dyn ToSql + Sync), Type); 2] {
    [(ns, Type::TEXT), (ids, Type::TEXT_ARRAY)]
}

fn texts(ids: &[DeliveryId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
