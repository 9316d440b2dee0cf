//! Reads what whoever takes work over has to know, and what comes after.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::error::{EngineError, Kind};
use super::link::{Connected, Line, Link};
use super::work::{Known, Unrouted, Waiting};
use crate::archive::{DeadLetter, Pauses};
use crate::clock;
use crate::delivery::{
    AttemptSummary, Compactor, Delivery, DeliveryId, Health, KeyDigest, Pause, Reason, SubscriptionId, Told,
};
use crate::event::{IdempotencyKey, SpecId};
use crate::run::Run;
use crate::spool::Unfinished;

/// How long a look may take.
const WITHIN: Duration = Duration::from_secs(5);

/// How long reading all that waits may take.
const ALL_WITHIN: Duration = Duration::from_secs(60);

/// Deliveries read at a time.
const PAGE: i64 = 5_000;

/// Events routed at a time.
const EVENTS: i64 = 64;

/// The columns of a delivery that waits.
pub(super) const COLUMNS: &str = "d.id::text, d.subscription, d.spec, d.format, d.kind, d.key, \
    (extract(epoch from d.accepted_at) * 1000)::int8, d.attempts, \
    (extract(epoch from d.next_attempt_at - clock_timestamp()) * 1000)::int8, d.seq, d.stage, d.status";

/// What a row says, in the program's types; `None` where a later program wrote what this one does
/// not know.
pub(super) fn unfinished(
    row: &Row,
    compactor: &mut Compactor,
) -> Result<Option<(Unfinished, i64)>, tokio_postgres::Error> {
    let Some(delivery) = delivery(row)? else { return Ok(None) };
    let attempts: i32 = row.try_get(7)?;
    let unfinished = Unfinished {
        delivery: compactor.compact(&delivery).with_own_key(),
        attempts: u32::try_from(attempts).unwrap_or_default(),
        next_attempt_at: next_attempt_at(row)?,
    };
    Ok(Some((unfinished, row.try_get(9)?)))
}

/// When its next attempt is due; `None` for at once.
pub(super) fn next_attempt_at(row: &Row) -> Result<Option<Timestamp>, tokio_postgres::Error> {
    let wait: Option<i64> = row.try_get(8)?;
    Ok(wait.and_then(|wait| clock::now().checked_add(SignedDuration::from_millis(wait)).ok()))
}

pub(super) fn delivery(row: &Row) -> Result<Option<Delivery>, tokio_postgres::Error> {
    let text = |at: usize| row.try_get::<_, String>(at);
    let accepted_at = Timestamp::from_millisecond(row.try_get(6)?).unwrap_or_default();
    let (id, subscription, spec) = (text(0)?, text(1)?, text(2)?);
    let (format, kind, key) = (text(3)?, text(4)?, text(5)?);
    let (stage, status): (Option<String>, Option<String>) = (row.try_get(10)?, row.try_get(11)?);
    let parsed = || {
        Some(Delivery {
            id: id.parse().ok()?,
            subscription: subscription.parse().ok()?,
            spec: spec.parse().ok()?,
            format: format.parse().ok()?,
            kind: kind.parse().ok()?,
            // One that a later version knows is shown there, and sent from here.
            stage: stage.and_then(|stage| stage.parse().ok()),
            status: status.and_then(|status| status.parse().ok()),
            key: key.parse().ok()?,
            accepted_at,
        })
    };
    let parsed = parsed();
    if parsed.is_none() {
        log::warn!(
            "the delivery {id} in the cluster is of a later version of the program: it waits for that"
        );
    }
    Ok(parsed)
}

pub(super) fn json<T: for<'de> Deserialize<'de>>(text: &str) -> Option<T> {
    serde_json::from_str(text).ok()
}

impl Link {
    fn namespace(&self) -> String {
        self.config().namespace.to_string()
    }

    /// What waits for these subscriptions and comes after their cursors, in the order in which it
    /// was routed; at most some thousands.
    ///
    /// # Errors
    /// The cluster gave no answer.
    pub(crate) async fn tail(
        &self,
        cursors: Vec<(SubscriptionId, i64)>,
    ) -> Result<Vec<(SubscriptionId, Waiting)>, EngineError> {
        let ns = self.namespace();
        self.ask(Line::Read, ALL_WITHIN, move |connected| async move {
            let mut found: Vec<(SubscriptionId, Waiting)> = Vec::new();
            let ids: Vec<String> = cursors.iter().map(|(id, _)| id.to_string()).collect();
            let from: Vec<i64> = cursors.iter().map(|(_, cursor)| *cursor).collect();
            let sql = format!(
                "SELECT {COLUMNS} FROM unnest($2::text[], $3::int8[]) AS mine(subscription, cursor), \
                 LATERAL (SELECT * FROM spec_notify.delivery AS d WHERE d.ns = $1 \
                     AND d.subscription = mine.subscription AND d.ended_at IS NULL AND d.seq > mine.cursor \
                     ORDER BY d.seq LIMIT {PAGE}) AS d ORDER BY d.seq"
            );
            let rows = connected
                .client
                .query_typed(&sql, &[(&ns, Type::TEXT), (&ids, Type::TEXT_ARRAY), (&from, Type::INT8_ARRAY)])
                .await?;
            let mut compactor = Compactor::default();
            for row in &rows {
                let (subscription, seq): (String, i64) = (row.try_get(1)?, row.try_get(9)?);
                let Some(at) = cursors.iter().position(|(id, _)| id.as_str() == subscription) else {
                    continue;
                };
                let id = &cursors[at].0;
                let place = match found.iter().position(|(of, _)| of == id) {
                    Some(place) => place,
                    None => {
                        found.push((id.clone(), Waiting::default()));
                        found.len() - 1
                    }
                };
                let waiting = &mut found[place].1;
                waiting.cursor = seq;
                waiting.unfinished.extend(unfinished(row, &mut compactor)?.map(|(unfinished, _)| unfinished));
            }
            Ok(found)
        })
        .await
    }

    /// All that waits for a subscription, and its endpoint's health.
    ///
    /// # Errors
    /// The cluster gave no answer.
    pub(crate) async fn take(&self, id: &SubscriptionId) -> Result<(Waiting, Health), EngineError> {
        let (ns, of) = (self.namespace(), id.to_string());
        let health = self.ask(Line::Read, WITHIN, move |connected| async move {
            let sql = "SELECT health, (extract(epoch from paused_until - clock_timestamp()) * 1000)::int8 \
                       FROM spec_notify.health WHERE ns = $1 AND subscription = $2";
            let rows = connected.client.query_typed(sql, &[(&ns, Type::TEXT), (&of, Type::TEXT)]).await?;
            rows.first().map_or(Ok(Health::default()), health_of)
        });
        let health = health.await?;
        let mut all = Waiting::default();
        loop {
            let next = self.tail(vec![(id.clone(), all.cursor)]).await?;
            let Some((_, Waiting { unfinished, cursor })) = next.into_iter().next() else { break };
            all.cursor = cursor;
            all.unfinished.extend(unfinished);
        }
        Ok((all, health))
    }

    /// The subscriptions that a person has paused.
    ///
    /// # Errors
    /// The cluster gave no answer.
    pub(crate) async fn pauses(&self) -> Result<Pauses, EngineError> {
        let ns = self.namespace();
        self.ask(Line::Read, WITHIN, move |connected| async move { pauses(&connected, &ns).await }).await
    }

    /// Pauses a subscription, whoever owns it, or ends its pause.
    ///
    /// # Errors
    /// The cluster gave no answer: it may be so all the same.
    pub(crate) async fn set_pause(
        &self,
        id: &SubscriptionId,
        pause: Option<&Pause>,
    ) -> Result<(), EngineError> {
        let (ns, id) = (self.namespace(), id.to_string());
        let pause = pause.map(|pause| serde_json::to_string(pause).unwrap_or_default());
        self.ask(Line::Read, WITHIN, move |connected| async move {
            let (of, text) = ([(&ns as _, Type::TEXT), (&id as _, Type::TEXT)], pause.unwrap_or_default());
            match text.is_empty() {
                true => {
                    let sql = "DELETE FROM spec_notify.pause WHERE ns = $1 AND subscription = $2";
                    connected.client.query_typed(sql, &of).await.map(drop)
                }
                false => {
                    let sql = "INSERT INTO spec_notify.pause (ns, subscription, pause) VALUES ($1, $2, $3) \
                               ON CONFLICT (ns, subscription) DO NOTHING";
                    let [ns, id] = of;
                    connected.client.query_typed(sql, &[ns, id, (&text, Type::TEXT)]).await.map(drop)
                }
            }
        })
        .await
    }

    /// The payloads of those of these deliveries that have not ended.
    ///
    /// # Errors
    /// The cluster gave no answer.
    pub(crate) async fn bodies(
        &self,
        ids: Vec<DeliveryId>,
    ) -> Result<HashMap<DeliveryId, Bytes>, EngineError> {
        let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
        self.ask(Line::Read, WITHIN, move |connected| async move {
            let sql = "SELECT d.id::text, b.bytes FROM spec_notify.delivery AS d \
                       JOIN spec_notify.body AS b ON b.id = d.body WHERE d.id = ANY($1::text[]::uuid[]) \
                           AND d.ended_at IS NULL";
            let rows = connected.client.query_typed(sql, &[(&ids, Type::TEXT_ARRAY)]).await?;
            let body = |row: &Row| {
                let id: String = row.try_get(0)?;
                Ok(id.parse().ok().zip(Some(Bytes::from(row.try_get::<_, Vec<u8>>(1)?))))
            };
            rows.iter().filter_map(|row| body(row).transpose()).collect()
        })
        .await
    }

    /// A dead letter; `None` if there is none.
    ///
    /// # Errors
    /// The cluster gave no answer.
    pub(crate) async fn dead_letter(&self, id: DeliveryId) -> Result<Option<DeadLetter>, EngineError> {
        let id = id.to_string();
        let found = self.ask(Line::Read, WITHIN, move |connected| async move {
            let sql = format!(
                "SELECT {COLUMNS}, d.history::text, d.reason, d.hint, \
                     (extract(epoch from d.ended_at) * 1000)::int8, b.bytes \
                 FROM spec_notify.delivery AS d LEFT JOIN spec_notify.body AS b ON b.id = d.body \
                 WHERE d.id = $1::text::uuid AND d.ended_at IS NOT NULL"
            );
            let rows = connected.client.query_typed(&sql, &[(&id, Type::TEXT)]).await?;
            rows.first().map(letter).transpose()
        });
        match found.await? {
            None => Ok(None),
            Some(Some(letter)) => Ok(Some(letter)),
            Some(None) => Err(EngineError::new(
                Kind::Refused,
                "the dead letter is of a later version of the program",
                "upgrade spec-notify on this machine",
            )),
        }
    }

    /// The next events that nobody routed, oldest first.
    ///
    /// # Errors
    /// The cluster gave no answer.
    pub(crate) async fn unrouted(&self) -> Result<Vec<Unrouted>, EngineError> {
        let ns = self.namespace();
        self.ask(Line::Read, WITHIN, move |connected| async move {
            let sql = format!(
                "SELECT seq, event, (extract(epoch from clock_timestamp() - at) * 1000)::int8 \
                 FROM spec_notify.event WHERE ns = $1 AND NOT routed ORDER BY seq LIMIT {EVENTS}"
            );
            let rows = connected.client.query_typed(&sql, &[(&ns, Type::TEXT)]).await?;
            let now = clock::now();
            let unrouted = |row: &Row| {
                let age = SignedDuration::from_millis(row.try_get(2)?);
                let accepted_at = now.checked_sub(age).unwrap_or(now);
                Ok(Unrouted { seq: row.try_get(0)?, event: row.try_get(1)?, accepted_at })
            };
            rows.iter().map(unrouted).collect()
        })
        .await
    }

    /// What whoever begins to route has to know of what was routed within the window.
    ///
    /// # Errors
    /// The cluster gave no answer.
    pub(crate) async fn known(&self, window: SignedDuration) -> Result<Known, EngineError> {
        let ns = self.namespace();
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        self.ask(Line::Read, ALL_WITHIN, move |connected| async move { known(&connected, &ns, window).await })
            .await
    }
}

/// A dead letter with the columns of the end after the others; `None` as for a delivery.
pub(super) fn letter(row: &Row) -> Result<Option<DeadLetter>, tokio_postgres::Error> {
    let Some(delivery) = delivery(row)? else { return Ok(None) };
    let (history, reason): (String, Option<String>) = (row.try_get(12)?, row.try_get(13)?);
    let (hint, dead_at): (Option<String>, Option<i64>) = (row.try_get(14)?, row.try_get(15)?);
    let body: Option<Vec<u8>> = row.try_get(16)?;
    let attempts: Vec<AttemptSummary> = json(&history).unwrap_or_default();
    let Some(reason) = reason.and_then(|reason| json::<Reason>(&reason)) else { return Ok(None) };
    let dead_at = dead_at.and_then(|at| Timestamp::from_millisecond(at).ok()).unwrap_or_default();
    let body = body.map_or(Bytes::from_static(b"null"), Bytes::from);
    let letter = DeadLetter::new(&delivery, &body, reason, attempts, dead_at, None).ok();
    Ok(letter.map(|letter| DeadLetter { hint: hint.unwrap_or_default(), ..letter }))
}

/// Whom a person has paused.
pub(super) async fn pauses(connected: &Connected, ns: &String) -> Result<Pauses, tokio_postgres::Error> {
    let sql = "SELECT subscription, pause FROM spec_notify.pause WHERE ns = $1";
    let mut pauses = Pauses::new();
    for row in connected.client.query_typed(sql, &[(ns, Type::TEXT)]).await? {
        let (id, pause): (String, String) = (row.try_get(0)?, row.try_get(1)?);
        pauses.extend(id.parse().ok().zip(json(&pause)));
    }
    Ok(pauses)
}

/// An endpoint's health, and how long it asked for a pause.
pub(super) fn health_of(row: &Row) -> Result<Health, tokio_postgres::Error> {
    let mut health: Health = json(&row.try_get::<_, String>(0)?).unwrap_or_default();
    // By the clock of this machine, which may be another than that of the last owner.
    let left: Option<i64> = row.try_get(1)?;
    let left = left.filter(|left| *left > 0).map(SignedDuration::from_millis);
    health.paused_until = left.and_then(|left| clock::now().checked_add(left).ok());
    Ok(health)
}

async fn known(connected: &Connected, ns: &String, window: i64) -> Result<Known, tokio_postgres::Error> {
    #[derive(Deserialize)]
    struct Says {
        key: IdempotencyKey,
        told: Told,
    }
    let mut known = Known::default();
    let sql = "SELECT spec, run, sequence FROM spec_notify.run WHERE ns = $1";
    for row in connected.client.query_typed(sql, &[(ns, Type::TEXT)]).await? {
        let (spec, run, sequence): (String, String, i64) =
            (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let Ok(spec) = spec.parse::<SpecId>() else { continue };
        known.runs.extend(json::<Run>(&run).map(|run| (spec.clone(), run)));
        known.sequences.push((spec, u64::try_from(sequence).unwrap_or_default()));
    }
    let sql = "SELECT spec, key, (extract(epoch from clock_timestamp() - at) * 1000)::int8, told \
               FROM spec_notify.event WHERE ns = $1 AND routed \
               AND at > clock_timestamp() - $2 * interval '1 millisecond' ORDER BY seq";
    let now = clock::now();
    for row in connected.client.query_typed(sql, &[(ns, Type::TEXT), (&window, Type::INT8)]).await? {
        let (spec, key, age): (String, Vec<u8>, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let at = now.checked_sub(SignedDuration::from_millis(age)).unwrap_or(now);
        known.keys.extend(KeyDigest::of_sha256(&key).map(|key| (key, at)));
        let told: Option<String> = row.try_get(3)?;
        if let (Ok(spec), Some(Says { key, told })) = (spec.parse(), told.and_then(|told| json(&told))) {
            known.told.push((spec, key, told));
        }
    }
    Ok(known)
}
