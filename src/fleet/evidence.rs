//! Reads the evidence in the cluster: for operators the newest lines first, for a repo that pulls
//! it what is final, in its order.

use std::time::Duration;

use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::error::EngineError;
use super::link::{Line, Link};
use super::overview::{Place, PlacedLine, WantedLines};
use crate::archive::Part;
use crate::event::SpecId;

/// How long a page may take.
const WITHIN: Duration = Duration::from_secs(5);

/// Lines of a page where all are read.
const PAGE: usize = 2_000;

impl Link {
    /// Lines of evidence, newest first.
    ///
    /// # Errors
    /// The cluster gave no answer, or does not let this role read.
    pub(crate) async fn lines(&self, wanted: WantedLines) -> Result<Vec<PlacedLine>, EngineError> {
        let ns = self.config().namespace.to_string();
        let spec = wanted.spec.map_or(String::new(), |spec| spec.to_string());
        let of = wanted.subscription.map_or(String::new(), |id| format!("\"subscription\":\"{id}\""));
        let (first, last) = wanted.id.map_or_else(|| ("0".repeat(32), "f".repeat(32)), |id| id.range());
        let (ends, attempts) = (wanted.is_end != Some(false), wanted.is_end != Some(true));
        let before = wanted.before.unwrap_or(Place { tx: i64::MAX, seq: i64::MAX });
        let after = wanted.after.unwrap_or_default();
        let (is_final, limit) = (wanted.is_final, i64::try_from(wanted.limit).unwrap_or(i64::MAX));
        self.ask(Line::Read, WITHIN, move |connected| async move {
            let (before_tx, after_tx) = (before.tx.to_string(), after.tx.to_string());
            let parameters: [(&(dyn ToSql + Sync), Type); 13] = [
                (&ns, Type::TEXT),
                (&spec, Type::TEXT),
                (&of, Type::TEXT),
                (&first, Type::TEXT),
                (&last, Type::TEXT),
                (&ends, Type::BOOL),
                (&attempts, Type::BOOL),
                (&before_tx, Type::TEXT),
                (&before.seq, Type::INT8),
                (&after_tx, Type::TEXT),
                (&after.seq, Type::INT8),
                (&limit, Type::INT8),
                (&is_final, Type::BOOL),
            ];
            let sql = "SELECT tx::text::int8, seq, spec, line FROM spec_notify.evidence WHERE ns = $1 \
                       AND ($2 = '' OR spec = $2) AND ($3 = '' OR strpos(line, $3) > 0) \
                       AND delivery BETWEEN $4::text::uuid AND $5::text::uuid \
                       AND ((is_end AND $6) OR (NOT is_end AND $7)) \
                       AND (tx, seq) < ($8::text::xid8, $9) AND (tx, seq) > ($10::text::xid8, $11) \
                       AND (NOT $13 OR tx < pg_snapshot_xmin(pg_current_snapshot())) \
                       ORDER BY tx DESC, seq DESC LIMIT $12";
            let rows = connected.client.query_typed(sql, &parameters).await?;
            let lines: Result<Vec<_>, _> = rows.iter().map(placed).collect();
            Ok(lines?.into_iter().flatten().collect())
        })
        .await
    }

    /// All final lines after a place, newest first, read page by page by a thread that may block;
    /// and the place of the newest.
    ///
    /// # Errors
    /// As [`lines`](Self::lines), of the first page.
    pub(crate) fn part(&self, after: Option<Place>) -> Result<(Part, Option<Place>), EngineError> {
        let all = WantedLines { after, is_final: true, limit: PAGE, ..WantedLines::default() };
        let read = |link: &Self, wanted: WantedLines| {
            let asked = link.clone();
            link.wait(2 * WITHIN, async move { asked.lines(wanted).await })
        };
        let mut first = Some(read(self, all.clone())?);
        let newest = first.iter().flatten().next().map(|line| line.place);
        let (link, mut before) = (self.clone(), None);
        let part = Part::pages(move || {
            let page = match first.take() {
                Some(first) => first,
                None => read(&link, WantedLines { before, ..all.clone() })
                    .map_err(|error| Box::new(error) as Box<dyn std::fmt::Display>)?,
            };
            before = page.last().map(|line| line.place).or(before);
            Ok(page.into_iter().map(|line| line.line).collect())
        });
        Ok((part, newest))
    }

    /// The SPECs that the cluster has evidence of.
    ///
    /// # Errors
    /// As [`lines`](Self::lines).
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
    /// As [`lines`](Self::lines).
    pub(crate) fn evidence(&self, spec: &SpecId, from: Place) -> Result<Vec<PlacedLine>, EngineError> {
        let (ns, spec) = (self.config().namespace.to_string(), spec.to_string());
        self.ask_blocking(Line::Read, WITHIN, move |connected| async move {
            let sql = "SELECT tx::text::int8, seq, spec, line FROM spec_notify.evidence \
                       WHERE ns = $1 AND spec = $2 AND (tx, seq) > ($3::text::xid8, $4) \
                           AND tx < pg_snapshot_xmin(pg_current_snapshot()) ORDER BY tx, seq LIMIT 500";
            let tx = from.tx.to_string();
            let parameters: [(&(dyn ToSql + Sync), Type); 4] =
                [(&ns, Type::TEXT), (&spec, Type::TEXT), (&tx, Type::TEXT), (&from.seq, Type::INT8)];
            let rows = connected.client.query_typed(sql, &parameters).await?;
            let lines: Result<Vec<_>, _> = rows.iter().map(placed).collect();
            Ok(lines?.into_iter().flatten().collect())
        })
    }
}

/// A line; `None` of a SPEC that only a later version of the program knows.
fn placed(row: &Row) -> Result<Option<PlacedLine>, tokio_postgres::Error> {
    let place = Place { tx: row.try_get(0)?, seq: row.try_get(1)? };
    let (spec, line): (String, String) = (row.try_get(2)?, row.try_get(3)?);
    Ok(spec.parse().ok().map(|spec| PlacedLine { place, spec, line }))
}
