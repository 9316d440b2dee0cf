//! What became of deliveries: evidence, ends, retries, dead letters, health.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use futures_util::future::join_all;
use jiff::Timestamp;
use tokio_postgres::types::{ToSql, Type};

use super::{Batch, Fenced, Texts, run};
use crate::archive::{DeadLetter, Effect, Finished, add_attempt_line, add_final_line, burial_line};
use crate::clock;
use crate::delivery::{
    AttemptSummary, Delivery, DeliveryId, FinalState, Health, Outcome, Reason, SubscriptionId,
};
use crate::fleet::error::{EngineError, Kind};
use crate::fleet::link::Connected;
use crate::fleet::work::Write;

fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
}

/// A line of evidence.
struct Written<'a> {
    delivery: &'a Delivery,
    attempt: u32,
    is_end: bool,
    at: Timestamp,
    line: Vec<u8>,
}

/// A delivery that becomes a dead letter.
pub(super) struct Burial<'a> {
    pub(super) delivery: &'a Delivery,
    reason: &'a Reason,
    last: Option<AttemptSummary>,
    advice: Option<Cow<'a, str>>,
}

impl Batch<'_> {
    /// Removes what arrived, and dead letters whose replay did. Answers with those that were there.
    pub(super) async fn ended(&self, connected: &Connected) -> Result<HashSet<DeliveryId>, EngineError> {
        let ended = |finished: &Finished| match finished.effect {
            Effect::Delivered | Effect::DryRun => Some(false),
            Effect::Replayed => Some(true),
            _ => None,
        };
        let (mut ids, mut letters) = (Texts::new(), Texts::new());
        for (finished, ..) in self.attempts() {
            match ended(finished) {
                Some(false) => ids.push(finished.delivery.id.to_string()),
                Some(true) => letters.push(finished.delivery.id.to_string()),
                None => {}
            }
        }
        if ids.is_empty() && letters.is_empty() {
            return Ok(HashSet::new());
        }
        let sql = "DELETE FROM spec_notify.delivery WHERE (id = ANY($1::text[]::uuid[]) AND ended_at IS \
            NULL) \
                   OR (id = ANY($2::text[]::uuid[]) AND ended_at IS NOT NULL) RETURNING id::text";
        let ended = run(connected, sql, &[(&ids, Type::TEXT_ARRAY), (&letters, Type::TEXT_ARRAY)]).await?;
        Ok(ended.iter().filter_map(|id| id.parse().ok()).collect())
    }

    pub(super) async fn keep_evidence(
        &self,
        connected: &Connected,
        fenced: &Fenced,
        ended: &HashSet<DeliveryId>,
    ) -> Result<(), EngineError> {
        let mut letters = Vec::new();
        for burial in self.burials_of(fenced) {
            letters.push((burial.delivery, burial.letter(fenced)?));
        }
        let mut buried: BTreeMap<DeliveryId, Written<'_>> = BTreeMap::new();
        for (delivery, letter) in &letters {
            let attempt = u32::try_from(letter.attempts.len()).unwrap_or(u32::MAX);
            let at = letter.attempts.last().map_or(letter.accepted_at, |last| last.at);
            buried.insert(
                delivery.id,
                Written { delivery, attempt, is_end: true, at, line: burial_line(letter) },
            );
        }
        let mut lines: Vec<Written<'_>> = Vec::new();
        for (finished, ..) in self.attempts() {
            let Finished { delivery, attempt, effect } = finished;
            let of = |is_end, add: &dyn Fn(&mut Vec<u8>)| {
                let mut line = Vec::new();
                add(&mut line);
                Written { delivery, attempt: attempt.number, is_end, at: attempt.at, line }
            };
            lines.push(of(false, &|line| add_attempt_line(finished, line)));
            let state = match effect {
                Effect::DryRun => FinalState::DryRun,
                _ => FinalState::Delivered,
            };
            if matches!(effect, Effect::Delivered | Effect::DryRun | Effect::Replayed)
                && ended.contains(&delivery.id)
            {
                lines.push(of(true, &|line| add_final_line(delivery, attempt, state, line)));
            }
            // A delivery's end stands right after the attempt that decided it.
            lines.extend(buried.remove(&delivery.id));
        }
        lines.extend(buried.into_values());
        if lines.is_empty() {
            return Ok(());
        }
        let column = |of: &dyn Fn(&Written<'_>) -> String| lines.iter().map(of).collect::<Texts>();
        let (specs, ids) =
            (column(&|line| line.delivery.spec.to_string()), column(&|line| line.delivery.id.to_string()));
        let texts = column(&|line| String::from_utf8_lossy(&line.line).trim_end().to_owned());
        let numbers: Vec<i32> = lines.iter().map(|line| i32::try_from(line.attempt).unwrap_or(0)).collect();
        let ends: Vec<bool> = lines.iter().map(|line| line.is_end).collect();
        let times: Vec<i64> = lines.iter().map(|line| millis(line.at)).collect();
        run(
            connected,
            "INSERT INTO spec_notify.evidence (ns, spec, delivery, attempt, is_end, at, line) \
             SELECT $1, new.spec, new.delivery::uuid, new.attempt, new.is_end, \
                 to_timestamp(new.at / 1000.0), new.line \
             FROM unnest($2::text[], $3::text[], $4::int4[], $5::bool[], $6::int8[], $7::text[]) \
                 WITH ORDINALITY AS new(spec, delivery, attempt, is_end, at, line, place) \
             ORDER BY new.place ON CONFLICT DO NOTHING",
            &[
                (&self.namespace, Type::TEXT),
                (&specs, Type::TEXT_ARRAY),
                (&ids, Type::TEXT_ARRAY),
                (&numbers, Type::INT4_ARRAY),
                (&ends, Type::BOOL_ARRAY),
                (&times, Type::INT8_ARRAY),
                (&texts, Type::TEXT_ARRAY),
            ],
        )
        .await
        .map(drop)
    }

    /// Notes failed attempts after which another follows. Waits are counted by the cluster's clock.
    pub(super) async fn retry(&self, connected: &Connected, fenced: &Fenced) -> Result<(), EngineError> {
        let (mut ids, mut numbers, mut waits, mut summaries) =
            (Texts::new(), Vec::new(), Vec::new(), Texts::new());
        for (Finished { delivery, attempt, effect }, _, epoch) in self.attempts() {
            let Effect::Retry { next_attempt_at } = effect else { continue };
            if fenced.owns(&delivery.subscription, epoch) {
                ids.push(delivery.id.to_string());
                numbers.push(i32::try_from(attempt.number).unwrap_or(i32::MAX));
                waits.push((millis(*next_attempt_at) - millis(clock::now())).max(0));
                summaries.push(serde_json::to_string(&[attempt.summary()]).unwrap_or_default());
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        run(
            connected,
            "UPDATE spec_notify.delivery SET attempts = new.attempts, history = history || \
             new.summary::jsonb, \
                 next_attempt_at = clock_timestamp() + new.wait * interval '1 millisecond' \
             FROM unnest($1::text[], $2::int4[], $3::int8[], $4::text[]) \
                 AS new(id, attempts, wait, summary) \
             WHERE spec_notify.delivery.id = new.id::uuid AND ended_at IS NULL \
                 AND spec_notify.delivery.attempts < new.attempts",
            &[
                (&ids, Type::TEXT_ARRAY),
                (&numbers, Type::INT4_ARRAY),
                (&waits, Type::INT8_ARRAY),
                (&summaries, Type::TEXT_ARRAY),
            ],
        )
        .await
        .map(drop)
    }

    pub(super) fn burials(&self) -> impl Iterator<Item = Burial<'_>> {
        self.all.iter().filter_map(|write| match write {
            Write::Attempt { finished, .. } => match &finished.effect {
                Effect::DeadLetter(reason) => Some(Burial {
                    delivery: &finished.delivery,
                    reason,
                    last: Some(finished.attempt.summary()),
                    advice: finished.attempt.outcome.as_ref().and_then(Outcome::advice),
                }),
                _ => None,
            },
            Write::GiveUp { delivery, reason, .. } => {
                Some(Burial { delivery, reason, last: None, advice: None })
            }
            _ => None,
        })
    }

    /// Those that this member may bury, and that wait.
    pub(super) fn burials_of<'f>(&'f self, fenced: &'f Fenced) -> impl Iterator<Item = Burial<'f>> {
        let owned = self.all.iter().filter_map(move |write| {
            let (delivery, epoch) = match write {
                Write::Attempt { finished, epoch, .. } => (&finished.delivery, epoch),
                Write::GiveUp { delivery, epoch, .. } => (delivery, epoch),
                _ => return None,
            };
            fenced.owns(&delivery.subscription, *epoch).then_some(delivery.id)
        });
        let owned: HashSet<DeliveryId> = owned.collect();
        self.burials().filter(move |burial| {
            owned.contains(&burial.delivery.id) && fenced.histories.contains_key(&burial.delivery.id)
        })
    }

    pub(super) async fn bury(&self, connected: &Connected, fenced: &Fenced) -> Result<(), EngineError> {
        let mut columns: [Texts; 4] = Default::default();
        for burial in self.burials_of(fenced) {
            let letter = burial.letter(fenced)?;
            let row = [
                letter.id.to_string(),
                serde_json::to_string(&letter.attempts).unwrap_or_default(),
                serde_json::to_string(&letter.reason).unwrap_or_default(),
                letter.hint.clone(),
            ];
            columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
        }
        let [ids, histories, reasons, hints] = &columns;
        if ids.is_empty() {
            return Ok(());
        }
        run(
            connected,
            "UPDATE spec_notify.delivery SET history = new.history::jsonb, reason = new.reason, \
                 hint = new.hint, ended_at = clock_timestamp() \
             FROM unnest($1::text[], $2::text[], $3::text[], $4::text[]) AS new(id, history, reason, hint) \
             WHERE spec_notify.delivery.id = new.id::uuid AND ended_at IS NULL",
            &[
                (ids, Type::TEXT_ARRAY),
                (histories, Type::TEXT_ARRAY),
                (reasons, Type::TEXT_ARRAY),
                (hints, Type::TEXT_ARRAY),
            ],
        )
        .await
        .map(drop)
    }

    pub(super) async fn replay_failed(&self, connected: &Connected) -> Result<(), EngineError> {
        let replays = self.attempts().filter_map(|(finished, ..)| match &finished.effect {
            Effect::ReplayFailed(letter) => Some((finished, letter)),
            _ => None,
        });
        let updates = replays.map(async |(finished, letter)| {
            let (id, number) = (letter.id.to_string(), i32::try_from(finished.attempt.number).unwrap_or(0));
            let summary = serde_json::to_string(&[finished.attempt.summary()]).unwrap_or_default();
            let advice = finished.attempt.outcome.as_ref().and_then(Outcome::advice);
            let hint = letter.reason.hint(advice.as_deref());
            let sql = "UPDATE spec_notify.delivery SET history = history || $3::jsonb, hint = $4 \
                       WHERE id = $1::uuid AND ended_at IS NOT NULL AND jsonb_array_length(history) < $2";
            let id = [(&id as &(dyn ToSql + Sync), Type::TEXT), (&number, Type::INT4)];
            let rest = [(&summary as &(dyn ToSql + Sync), Type::TEXT), (&hint, Type::TEXT)];
            run(connected, sql, &[&id[..], &rest[..]].concat()).await
        });
        join_all(updates).await.into_iter().collect::<Result<Vec<_>, _>>().map(drop)
    }

    pub(super) async fn keep_health(
        &self,
        connected: &Connected,
        fenced: &Fenced,
    ) -> Result<(), EngineError> {
        let mut healths: BTreeMap<&SubscriptionId, &Health> = BTreeMap::new();
        for write in self.all {
            let (subscription, health, epoch) = match write {
                Write::Attempt { finished, health: Some(health), epoch } => {
                    (&finished.delivery.subscription, health, *epoch)
                }
                Write::Health { subscription, health, epoch } => (subscription, health, Some(*epoch)),
                _ => continue,
            };
            if fenced.owns(subscription, epoch) {
                healths.insert(subscription, health);
            }
        }
        if healths.is_empty() {
            return Ok(());
        }
        let now = clock::now();
        let ids: Texts = healths.keys().map(ToString::to_string).collect();
        let texts: Texts =
            healths.values().map(|health| serde_json::to_string(health).unwrap_or_default()).collect();
        // No pause, or how long it is still to last.
        let pauses =
            healths.values().map(|health| health.paused_until.map_or(0, |until| millis(until) - millis(now)));
        let pauses: Vec<i64> = pauses.collect();
        run(
            connected,
            "INSERT INTO spec_notify.health (ns, subscription, health, paused_until) \
             SELECT $1, new.id, new.health, CASE WHEN new.pause > 0 \
                 THEN clock_timestamp() + new.pause * interval '1 millisecond' END \
             FROM unnest($2::text[], $3::text[], $4::int8[]) AS new(id, health, pause) \
             ON CONFLICT (ns, subscription) DO UPDATE SET health = excluded.health, \
                 paused_until = excluded.paused_until",
            &[
                (&self.namespace, Type::TEXT),
                (&ids, Type::TEXT_ARRAY),
                (&texts, Type::TEXT_ARRAY),
                (&pauses, Type::INT8_ARRAY),
            ],
        )
        .await
        .map(drop)
    }
}

impl Burial<'_> {
    /// The dead letter, without its payload, which stays where it is.
    fn letter(&self, fenced: &Fenced) -> Result<DeadLetter, EngineError> {
        let mut attempts = fenced.histories.get(&self.delivery.id).cloned().unwrap_or_default();
        attempts.extend(self.last.clone());
        let none = Bytes::from_static(b"null");
        let advice = self.advice.as_deref();
        DeadLetter::new(self.delivery, &none, self.reason.clone(), attempts, clock::now(), advice)
            .map_err(|error| EngineError::new(Kind::Refused, error.to_string(), "report this"))
    }
}
