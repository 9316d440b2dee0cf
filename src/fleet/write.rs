//! Writes what became of events and deliveries, one transaction for a batch. Evidence and what
//! arrived are true whoever says it; all else counts only from whoever has the lease.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use jiff::Timestamp;
use serde_json::json;
use tokio_postgres::types::{ToSql, Type};

use super::accept::survives;
use super::error::{EngineError, Kind};
use super::lease::{Duty, MemberId};
use super::link::{Connected, Line, Link};
use super::work::{Routed, Write, body_id};
use crate::archive::{DeadLetter, Effect, Finished, attempt_line, burial_line, final_line};
use crate::clock;
use crate::config::{Durability, Namespace};
use crate::delivery::{
    AttemptSummary, Delivery, DeliveryId, FinalState, Health, Outcome, Reason, SubscriptionId,
};
use crate::digest::sha256;
use crate::event::SpecId;
use crate::names::printable;
use crate::spool::Accepted;

/// How long a batch may take.
const WITHIN: Duration = Duration::from_secs(10);

/// Longest reason that is kept for an event that was refused, in characters.
const LONGEST: usize = 500;

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

fn millis(at: Timestamp) -> i64 {
    at.as_millisecond()
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

/// A line of evidence.
struct Written<'a> {
    delivery: &'a Delivery,
    attempt: u32,
    is_end: bool,
    at: Timestamp,
    line: Vec<u8>,
}

/// A delivery that becomes a dead letter.
struct Burial<'a> {
    delivery: &'a Delivery,
    reason: &'a Reason,
    last: Option<AttemptSummary>,
    advice: Option<Cow<'a, str>>,
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
        let settings = connected.client.query_typed(
            "SELECT current_setting('synchronous_standby_names'), current_setting('fsync'), \
             current_setting('synchronous_commit')",
            &[],
        );
        let of_dead: [(&(dyn ToSql + Sync), Type); 1] = [(&dead, Type::TEXT_ARRAY)];
        let histories = async {
            if dead.is_empty() {
                return Ok(Vec::new());
            }
            let sql = "SELECT id::text, history::text FROM spec_notify.delivery \
                       WHERE id = ANY($1::text[]::uuid[]) AND ended_at IS NULL ORDER BY id FOR UPDATE";
            connected.client.query_typed(sql, &of_dead).await
        };
        let (leases, (settings, histories)) = join(leases, join(settings, histories)).await;
        if let Some(row) = settings?.first() {
            let text = |at: usize| row.try_get::<_, String>(at);
            survives(writer.durability, &text(0)?, &text(1)?, &text(2)?)?;
        }
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

    /// Marks events as routed. Answers with the places in the batch of those that were not before.
    async fn routed(&self, connected: &Connected, fenced: &Fenced) -> Result<HashSet<usize>, EngineError> {
        let (mut seqs, mut told, mut refused) = (Vec::new(), Vec::new(), Vec::new());
        let (mut at, mut keys, mut specs, mut told_of_keys) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (place, write) in self.all.iter().enumerate() {
            match write {
                Write::Route { spec, record, routed: Routed { term, seq, .. } }
                    if fenced.has(&Duty::Route, term.epoch) =>
                {
                    let key = &record.idempotency_key;
                    let says = record.told.as_ref();
                    let says =
                        says.map_or(String::new(), |told| json!({"key": key, "told": told}).to_string());
                    if let Some(seq) = seq {
                        seqs.push(*seq);
                        told.push(says.clone());
                        refused.push(String::new());
                    }
                    at.push(place);
                    keys.push(sha256(key.as_str().as_bytes()).to_vec());
                    specs.push(spec.to_string());
                    told_of_keys.push(if seq.is_some() { String::new() } else { says });
                }
                Write::Pass { seq, term, refused: why } if fenced.has(&Duty::Route, term.epoch) => {
                    seqs.push(*seq);
                    told.push(String::new());
                    refused.push(why.as_deref().map_or(String::new(), |why| printable(why, LONGEST)));
                }
                _ => {}
            }
        }
        if seqs.is_empty() && keys.is_empty() {
            return Ok(HashSet::new());
        }
        // One that was refused keeps its event, for a person to look at.
        let mark = "UPDATE spec_notify.event SET routed = true, told = nullif(new.told, ''), \
                    refused = nullif(new.refused, ''), \
                    event = CASE WHEN new.refused = '' THEN '' ELSE spec_notify.event.event END \
                    FROM unnest($2::int8[], $3::text[], $4::text[]) AS new(seq, told, refused) \
                    WHERE ns = $1 AND spec_notify.event.seq = new.seq AND NOT routed \
                    RETURNING spec_notify.event.seq::text";
        let of_seqs: [(&(dyn ToSql + Sync), Type); 4] = [
            (&self.namespace, Type::TEXT),
            (&seqs, Type::INT8_ARRAY),
            (&told, Type::TEXT_ARRAY),
            (&refused, Type::TEXT_ARRAY),
        ];
        let marked = run(connected, mark, &of_seqs);
        // The key that an event turned out to have, where that is another one than it came with.
        let know = "INSERT INTO spec_notify.event (ns, key, spec, event, routed, told) \
                    SELECT DISTINCT ON (new.key) $1, new.key, new.spec, '', true, nullif(new.told, '') \
                    FROM unnest($2::bytea[], $3::text[], $4::text[]) AS new(key, spec, told) \
                    ON CONFLICT (ns, key) DO UPDATE SET routed = true, event = '', told = excluded.told \
                    WHERE NOT spec_notify.event.routed RETURNING key";
        let parameters: [(&(dyn ToSql + Sync), Type); 4] = [
            (&self.namespace, Type::TEXT),
            (&keys, Type::BYTEA_ARRAY),
            (&specs, Type::TEXT_ARRAY),
            (&told_of_keys, Type::TEXT_ARRAY),
        ];
        let known = connected.client.query_typed(know, &parameters);
        let (marked, known) = join(marked, known).await;
        let marked: HashSet<i64> = marked?.iter().filter_map(|seq| seq.parse().ok()).collect();
        let known: HashSet<Vec<u8>> = known?.iter().filter_map(|row| row.try_get(0).ok()).collect();
        let is_new = |(place, key): (usize, &Vec<u8>)| {
            let Write::Route { routed, .. } = &self.all[place] else { return None };
            let is_new = match routed.seq {
                Some(seq) => marked.contains(&seq),
                None => known.contains(key),
            };
            is_new.then_some(place)
        };
        Ok(at.into_iter().zip(&keys).filter_map(is_new).collect())
    }

    async fn insert_deliveries(
        &self,
        connected: &Connected,
        writer: &Writer,
        routed: &HashSet<usize>,
    ) -> Result<(), EngineError> {
        let mut bodies: BTreeMap<DeliveryId, Vec<u8>> = BTreeMap::new();
        let mut columns: [Texts; 7] = Default::default();
        let mut accepted: Vec<i64> = Vec::new();
        let mut places: Vec<usize> = routed.iter().copied().collect();
        places.sort_unstable();
        for place in places {
            let Write::Route { spec, record, routed } = &self.all[place] else { continue };
            let key = &record.idempotency_key;
            for delivery in &record.deliveries {
                let own = record.own_bodies.get(&delivery.id);
                let (body, text) = match own {
                    Some(own) => (delivery.id, own),
                    None => {
                        let id = body_id(&writer.namespace, routed.seq, key, delivery.format.as_str());
                        (id, record.bodies.get(&delivery.format).unwrap_or(&record.body))
                    }
                };
                bodies.entry(body).or_insert_with(|| text.get().as_bytes().to_vec());
                let row = [
                    delivery.id.to_string(),
                    delivery.subscription.to_string(),
                    spec.to_string(),
                    body.to_string(),
                    delivery.format.as_str().to_owned(),
                    record.event.as_str().to_owned(),
                    key.to_string(),
                ];
                columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
                accepted.push(millis(record.at));
            }
        }
        if accepted.is_empty() {
            return Ok(());
        }
        let ids: Texts = bodies.keys().map(ToString::to_string).collect();
        let bytes: Vec<Vec<u8>> = bodies.into_values().collect();
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&self.namespace, Type::TEXT), (&ids, Type::TEXT_ARRAY), (&bytes, Type::BYTEA_ARRAY)];
        let insert_bodies = run(
            connected,
            "INSERT INTO spec_notify.body (id, ns, bytes) \
             SELECT new.id::uuid, $1, new.bytes FROM unnest($2::text[], $3::bytea[]) AS new(id, bytes) \
             ON CONFLICT (id) DO NOTHING",
            &parameters,
        );
        let [id, subscription, of, body, format, kind, key] = &columns;
        let text = |column| (column as &(dyn ToSql + Sync), Type::TEXT_ARRAY);
        let parameters: [(&(dyn ToSql + Sync), Type); 9] = [
            (&self.namespace, Type::TEXT),
            text(id),
            text(subscription),
            text(of),
            text(body),
            text(format),
            text(kind),
            text(key),
            (&accepted, Type::INT8_ARRAY),
        ];
        // In their order, which `seq` keeps.
        let insert = run(
            connected,
            "INSERT INTO spec_notify.delivery \
                 (id, ns, subscription, spec, body, format, kind, key, accepted_at) \
             SELECT new.id::uuid, $1, new.subscription, new.spec, new.body::uuid, new.format, new.kind, \
                 new.key, to_timestamp(new.at / 1000.0) \
             FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
                 $8::text[], $9::int8[]) WITH ORDINALITY \
                 AS new(id, subscription, spec, body, format, kind, key, at, place) \
             ORDER BY new.place ON CONFLICT (id) DO NOTHING",
            &parameters,
        );
        let (bodies, deliveries) = join(insert_bodies, insert).await;
        bodies.and(deliveries).map(drop)
    }

    async fn keep_runs(&self, connected: &Connected, fenced: &Fenced) -> Result<(), EngineError> {
        let mut runs: BTreeMap<String, (String, i64)> = BTreeMap::new();
        for (spec, record, Routed { term, run, .. }) in self.routes() {
            if !fenced.has(&Duty::Route, term.epoch) {
                continue;
            }
            let sequence = record.sequence.and_then(|sequence| i64::try_from(sequence).ok()).unwrap_or(0);
            let place = runs.entry(spec.to_string()).or_default();
            place.1 = sequence;
            if let Some(run) = run {
                place.0 = serde_json::to_string(run).unwrap_or_default();
            }
        }
        if runs.is_empty() {
            return Ok(());
        }
        let specs: Texts = runs.keys().cloned().collect();
        let (runs, sequences): (Texts, Vec<i64>) = runs.into_values().unzip();
        run(
            connected,
            "INSERT INTO spec_notify.run (ns, spec, run, sequence) \
             SELECT $1, * FROM unnest($2::text[], $3::text[], $4::int8[]) \
             ON CONFLICT (ns, spec) DO UPDATE SET sequence = excluded.sequence, \
             run = CASE WHEN excluded.run = '' THEN spec_notify.run.run ELSE excluded.run END",
            &[
                (&self.namespace, Type::TEXT),
                (&specs, Type::TEXT_ARRAY),
                (&runs, Type::TEXT_ARRAY),
                (&sequences, Type::INT8_ARRAY),
            ],
        )
        .await
        .map(drop)
    }

    /// Removes what arrived, and dead letters whose replay did. Answers with those that were there.
    async fn ended(&self, connected: &Connected) -> Result<HashSet<DeliveryId>, EngineError> {
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

    async fn keep_evidence(
        &self,
        connected: &Connected,
        fenced: &Fenced,
        ended: &HashSet<DeliveryId>,
    ) -> Result<(), EngineError> {
        let mut lines: Vec<Written<'_>> = Vec::new();
        for (finished, ..) in self.attempts() {
            let Finished { delivery, attempt, effect } = finished;
            let of =
                |is_end, line| Written { delivery, attempt: attempt.number, is_end, at: attempt.at, line };
            lines.push(of(false, attempt_line(finished)));
            let state = match effect {
                Effect::DryRun => FinalState::DryRun,
                _ => FinalState::Delivered,
            };
            if matches!(effect, Effect::Delivered | Effect::DryRun | Effect::Replayed)
                && ended.contains(&delivery.id)
            {
                lines.push(of(true, final_line(delivery, attempt, state)));
            }
        }
        let mut letters = Vec::new();
        for burial in self.burials_of(fenced) {
            letters.push((burial.delivery, burial.letter(fenced)?));
        }
        lines.extend(letters.iter().map(|(delivery, letter)| Written {
            delivery,
            attempt: u32::try_from(letter.attempts.len()).unwrap_or(u32::MAX),
            is_end: true,
            at: letter.attempts.last().map_or(letter.accepted_at, |last| last.at),
            line: burial_line(letter),
        }));
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
    async fn retry(&self, connected: &Connected, fenced: &Fenced) -> Result<(), EngineError> {
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

    fn burials(&self) -> impl Iterator<Item = Burial<'_>> {
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
    fn burials_of<'f>(&'f self, fenced: &'f Fenced) -> impl Iterator<Item = Burial<'f>> {
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

    async fn bury(&self, connected: &Connected, fenced: &Fenced) -> Result<(), EngineError> {
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

    async fn replay_failed(&self, connected: &Connected) -> Result<(), EngineError> {
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

    async fn keep_health(&self, connected: &Connected, fenced: &Fenced) -> Result<(), EngineError> {
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
