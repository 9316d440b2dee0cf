//! Events that are routed: each once, with its deliveries and its SPEC's run.

use std::collections::{BTreeMap, HashSet};

use futures_util::future::join;
use serde_json::json;
use tokio_postgres::types::{ToSql, Type};

use super::{Batch, Fenced, Texts, Writer, run};
use crate::delivery::DeliveryId;
use crate::digest::sha256;
use crate::fleet::error::EngineError;
use crate::fleet::lease::Duty;
use crate::fleet::link::Connected;
use crate::fleet::work::{Routed, Write, body_id};
use crate::names::printable;

/// Longest reason that is kept for an event that was refused, in characters.
const LONGEST: usize = 500;

impl Batch<'_> {
    /// Marks events as routed. Answers with the places in the batch of those that were not before.
    pub(super) async fn routed(
        &self,
        connected: &Connected,
        fenced: &Fenced,
    ) -> Result<HashSet<usize>, EngineError> {
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

    pub(super) async fn insert_deliveries(
        &self,
        connected: &Connected,
        writer: &Writer,
        routed: &HashSet<usize>,
    ) -> Result<(), EngineError> {
        let mut bodies: BTreeMap<DeliveryId, Vec<u8>> = BTreeMap::new();
        let mut columns: [Texts; 9] = Default::default();
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
                    record.stage.map_or_else(String::new, |stage| stage.to_string()),
                    record.status.map_or_else(String::new, |status| status.to_string()),
                ];
                columns.iter_mut().zip(row).for_each(|(column, value)| column.push(value));
                accepted.push(record.at.as_millisecond());
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
        let [id, subscription, of, body, format, kind, key, stage, status] = &columns;
        let text = |column| (column as &(dyn ToSql + Sync), Type::TEXT_ARRAY);
        let parameters: [(&(dyn ToSql + Sync), Type); 11] = [
            (&self.namespace, Type::TEXT),
            text(id),
            text(subscription),
            text(of),
            text(body),
            text(format),
            text(kind),
            text(key),
            text(stage),
            text(status),
            (&accepted, Type::INT8_ARRAY),
        ];
        // In their order, which `seq` keeps.
        let insert = run(
            connected,
            "INSERT INTO spec_notify.delivery \
                 (id, ns, subscription, spec, body, format, kind, key, stage, status, accepted_at) \
             SELECT new.id::uuid, $1, new.subscription, new.spec, new.body::uuid, new.format, new.kind, \
                 new.key, nullif(new.stage, ''), nullif(new.status, ''), to_timestamp(new.at / 1000.0) \
             FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::text[], \
                 $8::text[], $9::text[], $10::text[], $11::int8[]) WITH ORDINALITY \
                 AS new(id, subscription, spec, body, format, kind, key, stage, status, at, place) \
             ORDER BY new.place ON CONFLICT (id) DO NOTHING",
            &parameters,
        );
        let (bodies, deliveries) = join(insert_bodies, insert).await;
        bodies.and(deliveries).map(drop)
    }

    pub(super) async fn keep_runs(&self, connected: &Connected, fenced: &Fenced) -> Result<(), EngineError> {
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
}
