//! Finds deliveries for operators: pages of those that wait and of dead letters, and one whole.

use std::time::Duration;

use bytes::Bytes;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::error::EngineError;
use super::link::{Line, Link};
use super::overview::{PAGE, Wanted};
use super::read::{COLUMNS, delivery, json, letter, next_attempt_at, unfinished};
use crate::archive::DeadLetter;
use crate::clock;
use crate::delivery::{AttemptSummary, Compactor, DeliveryId};
use crate::event::SpecId;
use crate::spool::{Kept, Unfinished};

/// How long a page may take.
const WITHIN: Duration = Duration::from_millis(1500);

/// Which rows a page has; the parameters are those of [`Chosen`].
const CHOSEN: &str = "d.ns = $1 AND ($2 = '' OR d.spec = $2) AND ($3 = '' OR d.subscription = $3) \
    AND d.accepted_at >= to_timestamp($4 / 1000.0) \
    AND (d.accepted_at, d.id) < (to_timestamp($5 / 1000.0), $6::text::uuid) \
    AND d.id BETWEEN $7::text::uuid AND $8::text::uuid \
    AND (d.ended_at IS NULL OR d.ended_at >= to_timestamp($9 / 1000.0)) \
    ORDER BY d.accepted_at DESC, d.id DESC";

/// The latest time that PostgreSQL and this program both have, in milliseconds.
const LATEST: i64 = 253_402_207_200_000;

/// The parameters of a page.
struct Chosen {
    ns: String,
    spec: String,
    subscription: String,
    since: i64,
    before: (i64, String),
    ids: (String, String),
    ended_since: i64,
}

impl Chosen {
    fn of(ns: String, wanted: &Wanted) -> Self {
        let all = || ("0".repeat(32), "f".repeat(32));
        let before = wanted.before.map(|(at, id)| (at.as_millisecond(), id.to_string()));
        Self {
            ns,
            spec: wanted.spec.as_ref().map_or(String::new(), ToString::to_string),
            subscription: wanted.subscription.as_ref().map_or(String::new(), ToString::to_string),
            since: wanted.since.map_or(0, |since| since.as_millisecond()),
            before: before.unwrap_or_else(|| (LATEST, all().1)),
            ids: wanted.id.as_ref().map_or_else(all, |id| id.range()),
            ended_since: wanted.ended_since.map_or(0, |since| since.as_millisecond()),
        }
    }

    fn parameters(&self) -> [(&(dyn ToSql + Sync), Type); 9] {
        [
            (&self.ns, Type::TEXT),
            (&self.spec, Type::TEXT),
            (&self.subscription, Type::TEXT),
            (&self.since, Type::INT8),
            (&self.before.0, Type::INT8),
            (&self.before.1, Type::TEXT),
            (&self.ids.0, Type::TEXT),
            (&self.ids.1, Type::TEXT),
            (&self.ended_since, Type::INT8),
        ]
    }
}

impl Link {
    /// The newest deliveries that wait, each with its last attempt; at most [`PAGE`].
    ///
    /// # Errors
    /// The cluster gave no answer, or does not let this role read.
    pub(crate) async fn waiting(
        &self,
        wanted: &Wanted,
    ) -> Result<Vec<(Unfinished, Option<AttemptSummary>)>, EngineError> {
        let chosen = Chosen::of(self.config().namespace.to_string(), wanted);
        self.ask(Line::Read, WITHIN, move |connected| async move {
            let sql = format!(
                "SELECT {COLUMNS}, (d.history -> -1)::text FROM spec_notify.delivery AS d \
                 WHERE d.ended_at IS NULL AND {CHOSEN} LIMIT {PAGE}"
            );
            let (mut waiting, mut compactor) = (Vec::new(), Compactor::default());
            for row in connected.client.query_typed(&sql, &chosen.parameters()).await? {
                let last = row.try_get::<_, Option<String>>(12)?.and_then(|last| json(&last));
                waiting.extend(unfinished(&row, &mut compactor)?.map(|(unfinished, _)| (unfinished, last)));
            }
            Ok(waiting)
        })
        .await
    }

    /// How many of the events with these keys nobody has fanned out yet.
    ///
    /// # Errors
    /// As [`waiting`](Self::waiting).
    pub(crate) async fn unrouted_of(&self, keys: Vec<String>) -> Result<usize, EngineError> {
        let ns = self.config().namespace.to_string();
        self.ask(Line::Read, WITHIN, move |connected| async move {
            let sql = "SELECT count(*) FROM spec_notify.event WHERE ns = $1 AND NOT routed AND key IN \
                       (SELECT sha256(convert_to(offered.key, 'UTF8')) \
                           FROM unnest($2::text[]) AS offered(key))";
            let of = [(&ns as _, Type::TEXT), (&keys as _, Type::TEXT_ARRAY)];
            let rows = connected.client.query_typed(sql, &of).await?;
            let count: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
            Ok(usize::try_from(count).unwrap_or_default())
        })
        .await
    }

    /// The newest dead letters, without their payloads; at most [`PAGE`].
    ///
    /// # Errors
    /// As [`waiting`](Self::waiting).
    pub(crate) async fn letters(&self, wanted: &Wanted) -> Result<Vec<DeadLetter>, EngineError> {
        let chosen = Chosen::of(self.config().namespace.to_string(), wanted);
        self.ask(Line::Read, WITHIN, move |connected| async move {
            let sql = format!(
                "SELECT {COLUMNS}, d.history::text, d.reason, d.hint, \
                     (extract(epoch from d.ended_at) * 1000)::int8, NULL::bytea \
                 FROM spec_notify.delivery AS d WHERE d.ended_at IS NOT NULL AND {CHOSEN} LIMIT {PAGE}"
            );
            let rows = connected.client.query_typed(&sql, &chosen.parameters()).await?;
            let letters: Result<Vec<_>, _> = rows.iter().map(letter).collect();
            Ok(letters?.into_iter().flatten().collect())
        })
        .await
    }

    /// A delivery of a SPEC that waits, with its payload; `None` if none does.
    ///
    /// # Errors
    /// As [`waiting`](Self::waiting).
    pub(crate) async fn kept(&self, spec: &SpecId, id: DeliveryId) -> Result<Option<Kept>, EngineError> {
        let (ns, spec, id) = (self.config().namespace.to_string(), spec.to_string(), id.to_string());
        self.ask(Line::Read, WITHIN, move |connected| async move {
            let sql = format!(
                "SELECT {COLUMNS}, d.history::text, b.bytes FROM spec_notify.delivery AS d \
                 JOIN spec_notify.body AS b ON b.id = d.body \
                 WHERE d.ns = $1 AND d.spec = $2 AND d.id = $3::text::uuid AND d.ended_at IS NULL"
            );
            let of = [(&ns as _, Type::TEXT), (&spec as _, Type::TEXT), (&id as _, Type::TEXT)];
            let rows = connected.client.query_typed(&sql, &of).await?;
            rows.first().map(kept).transpose().map(Option::flatten)
        })
        .await
    }
}

/// A delivery that waits: [`COLUMNS`], its attempts, and its payload.
pub(super) fn kept(row: &Row) -> Result<Option<Kept>, tokio_postgres::Error> {
    let Some(delivery) = delivery(row)? else { return Ok(None) };
    let (history, body): (String, Vec<u8>) = (row.try_get(12)?, row.try_get(13)?);
    let body = Bytes::from(body);
    Ok(Some(Kept {
        delivery,
        // The event's own is not kept beside that of a chat service.
        payload: body.clone(),
        body,
        attempts: json(&history).unwrap_or_default(),
        next_attempt_at: next_attempt_at(row)?.filter(|at| *at > clock::now()),
        is_finished: false,
    }))
}
