//! The listing of deliveries for `list`, newest first, in any state. Reads no more of the files
//! than the page needs.

mod cluster;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::ending::End;
use crate::archive::{
    DeadLetter, dead_letter_dir, dead_letters_by_age, evidence_files, is_record, lines_of, read_dead_letter,
    read_pauses,
};
use crate::clock;
use crate::delivery::{AttemptSummary, Delivery, DeliveryId, FinalState, IdPrefix, SubscriptionId};
use crate::event::{EventKind, IdempotencyKey, SpecId, Stage, Status};
use crate::files::{absent_is_empty, spec_dirs};
use crate::names::named;
use crate::spool::{self, LastAttempt, Peeked};

/// Most deliveries in one listing; for more, ask again with [`Query::before`].
pub const MAX_LISTED: usize = 500;

named! {
    /// The state of a delivery.
    DeliveryState, "state" {
        /// It waits: for its next attempt, or for its turn to make one.
        Pending = "pending",
        /// Its request is under way at the endpoint.
        InFlight = "in_flight",
        /// The endpoint accepted it.
        Delivered = "delivered",
        /// It was given up; it can be replayed while its dead letter exists.
        DeadLetter = "dead_letter",
        /// It was dropped in favour of newer ones; it can be replayed while its dead letter exists.
        Dropped = "dropped",
        /// A person gave it up for good.
        Discarded = "discarded",
        /// It was recorded and not sent.
        DryRun = "dry_run",
    }
}

impl From<FinalState> for DeliveryState {
    fn from(state: FinalState) -> Self {
        match state {
            FinalState::Delivered => Self::Delivered,
            FinalState::DeadLetter => Self::DeadLetter,
            FinalState::DryRun => Self::DryRun,
            FinalState::Dropped => Self::Dropped,
            FinalState::Discarded => Self::Discarded,
        }
    }
}

/// One delivery, as `list --json` prints it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Listed {
    /// The delivery's id, sent as `X-SpecKit-Id`.
    pub id: DeliveryId,
    /// The subscription it goes to.
    pub subscription: SubscriptionId,
    /// The event's type.
    pub event: EventKind,
    /// The stage that the event tells of, where the files say it: those of earlier versions do not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// How that ended, where the files say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The SPEC of the event.
    pub spec: SpecId,
    /// The event's key.
    pub idempotency_key: IdempotencyKey,
    /// The delivery's state.
    pub state: DeliveryState,
    /// Attempts made so far.
    pub attempts: u32,
    /// HTTP status of the last attempt, if there was an answer.
    pub last_status: Option<u16>,
    /// Why the last attempt failed; `None` after a success.
    pub last_error: Option<String>,
    /// Duration of the last attempt in milliseconds; absent where it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_latency_ms: Option<f64>,
    /// What to do about a dead letter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// When the event was accepted.
    #[serde(with = "clock::millis")]
    pub accepted_at: Timestamp,
    /// When the next attempt is due, while it is pending.
    #[serde(with = "clock::maybe_millis")]
    pub next_attempt_at: Option<Timestamp>,
    /// Whether it waits because a person paused its subscription.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,
}

impl Listed {
    /// An unfinished delivery.
    pub(crate) fn unfinished(
        delivery: &Delivery,
        state: DeliveryState,
        attempts: u32,
        next_attempt_at: Option<Timestamp>,
    ) -> Self {
        Self {
            id: delivery.id,
            subscription: delivery.subscription.clone(),
            event: delivery.kind,
            stage: delivery.stage,
            status: delivery.status,
            spec: delivery.spec.clone(),
            idempotency_key: delivery.key.clone(),
            state,
            attempts,
            last_status: None,
            last_error: None,
            last_latency_ms: None,
            hint: None,
            accepted_at: delivery.accepted_at,
            next_attempt_at,
            paused: false,
        }
    }
}

impl Listed {
    /// The delivery of a SPEC that ended so.
    pub(super) fn of_end(end: End, spec: &SpecId) -> Self {
        Self {
            id: end.delivery,
            subscription: end.subscription,
            event: end.event,
            stage: end.stage,
            status: end.status,
            spec: spec.clone(),
            idempotency_key: end.idempotency_key,
            state: end.state.into(),
            attempts: end.attempts,
            last_status: end.last_status,
            last_error: end.last_error,
            last_latency_ms: end.last_latency_ms,
            hint: None,
            accepted_at: end.accepted_at,
            next_attempt_at: None,
            paused: false,
        }
    }

    fn set_last_attempt(&mut self, last: &AttemptSummary) {
        self.last_status = last.status;
        self.last_error = Some(last.in_words());
        self.last_latency_ms = Some(last.latency_ms);
    }

    /// The delivery of a dead letter.
    pub(super) fn of_letter(letter: &DeadLetter) -> Self {
        let state = DeliveryState::from(FinalState::from(&letter.reason));
        let attempts = u32::try_from(letter.attempts.len()).unwrap_or(u32::MAX);
        let last = letter.attempts.last();
        Self {
            last_status: last.and_then(|last| last.status),
            last_error: Some(letter.failure()),
            last_latency_ms: last.map(|last| last.latency_ms),
            hint: Some(letter.hint.clone()),
            ..Self::unfinished(&letter.delivery(), state, attempts, None)
        }
    }
}

/// Selects deliveries.
///
/// ```
/// use spec_notify::{DeliveryState, Query};
///
/// let dead = Query { states: vec![DeliveryState::DeadLetter], ..Query::newest(20) };
/// assert_eq!(dead.limit, 20);
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// Only deliveries whose id begins so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<IdPrefix>,
    /// Only deliveries of this SPEC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<SpecId>,
    /// Only deliveries to this subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionId>,
    /// Only deliveries in one of these states; empty means any state.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<DeliveryState>,
    /// Only deliveries accepted at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Of those that have ended, only what ended at this time or later: what is new since a look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_since: Option<Timestamp>,
    /// Only deliveries older than this one: the last one of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Cursor>,
    /// Most deliveries to return; at most [`MAX_LISTED`].
    pub limit: usize,
}

/// The place of a delivery in a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// When the event was accepted.
    #[serde(with = "clock::millis")]
    pub accepted_at: Timestamp,
    /// The delivery's id.
    pub id: DeliveryId,
}

impl Listed {
    /// The place of this delivery.
    pub fn cursor(&self) -> Cursor {
        Cursor { accepted_at: self.accepted_at, id: self.id }
    }
}

impl Query {
    /// The newest `limit` of all deliveries.
    pub fn newest(limit: usize) -> Self {
        Self {
            id: None,
            spec: None,
            subscription: None,
            states: Vec::new(),
            since: None,
            ended_since: None,
            before: None,
            limit,
        }
    }

    /// Whether a delivery is selected.
    pub(crate) fn wants(&self, listed: &Listed) -> bool {
        self.wants_id(listed.id)
            && self.spec.as_ref().is_none_or(|spec| *spec == listed.spec)
            && self.subscription.as_ref().is_none_or(|subscription| *subscription == listed.subscription)
            && (self.states.is_empty() || self.states.contains(&listed.state))
            && self.since.is_none_or(|since| listed.accepted_at >= since)
            && self.before.is_none_or(|before| listed.cursor() < before)
    }

    fn wants_id(&self, id: DeliveryId) -> bool {
        self.id.as_ref().is_none_or(|prefix| prefix.matches(id))
    }

    fn wants_any(&self, states: &[DeliveryState]) -> bool {
        self.states.is_empty() || self.states.iter().any(|state| states.contains(state))
    }

    /// Whether it wants any that have ended.
    fn wants_ended(&self) -> bool {
        let is_ended =
            |state: &DeliveryState| !matches!(state, DeliveryState::Pending | DeliveryState::InFlight);
        self.states.is_empty() || self.states.iter().any(is_ended)
    }
}

/// The deliveries that were found, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Listing {
    /// One page.
    pub deliveries: Vec<Listed>,
    /// Whether there are older ones.
    pub more: bool,
}

/// Collects the newest of the deliveries that are added, up to the query's limit.
#[derive(Debug)]
pub(crate) struct Page {
    query: Query,
    rows: BTreeMap<Cursor, Listed>,
    seen: HashSet<DeliveryId>,
    more: bool,
}

impl Page {
    /// An empty page.
    pub(crate) fn new(query: Query) -> Self {
        Self::whole(Query { limit: query.limit.min(MAX_LISTED), ..query })
    }

    /// An empty page that takes as many as the query says.
    pub(crate) fn whole(query: Query) -> Self {
        let query = Query { limit: query.limit.max(1), ..query };
        Self { query, rows: BTreeMap::new(), seen: HashSet::new(), more: false }
    }

    /// The query of this page.
    pub(crate) fn query(&self) -> &Query {
        &self.query
    }

    /// Adds a delivery. Of several with one id, the first one counts.
    pub(crate) fn add(&mut self, listed: Listed) {
        if !self.seen.insert(listed.id) || !self.query.wants(&listed) {
            return;
        }
        self.rows.insert(listed.cursor(), listed);
        if self.rows.len() > self.query.limit {
            self.rows.pop_first();
            self.more = true;
        }
    }

    /// The time before which nothing that ended is wanted.
    fn bound(&self) -> Option<Timestamp> {
        self.query.since.max(self.query.ended_since)
    }

    /// The time before which an accepted delivery can no longer get onto the page.
    fn horizon(&self) -> Timestamp {
        let full = self.rows.len() >= self.query.limit;
        let oldest = self.rows.first_key_value().filter(|_| full).map(|(oldest, _)| oldest.accepted_at);
        oldest.max(self.bound()).unwrap_or(Timestamp::MIN)
    }

    /// Whether a delivery that ended at `at` is too old for the page: it was accepted before that.
    fn is_past(&mut self, at: Timestamp) -> bool {
        let past = at < self.horizon();
        self.more |= past && self.bound().is_none_or(|bound| at >= bound);
        past
    }

    /// Adds the unfinished deliveries from the spool's files, for use when no runtime can be asked.
    ///
    /// # Errors
    /// The spool cannot be listed.
    pub(crate) fn add_unfinished(&mut self, spool_dir: &Path) -> io::Result<()> {
        if !self.query.wants_any(&[DeliveryState::Pending]) {
            return Ok(());
        }
        let specs = match &self.query.spec {
            Some(spec) => vec![spec.clone()],
            None => spool::specs(spool_dir)?,
        };
        let pauses = read_pauses(spool_dir).map_err(io::Error::other)?;
        for spec in specs {
            let found = spool::unfinished_of(spool_dir, &spec)?;
            for Peeked { unfinished, .. } in &found {
                let due = unfinished.next_attempt_at;
                let state = DeliveryState::Pending;
                let listed = Listed::unfinished(&unfinished.delivery, state, unfinished.attempts, due);
                self.add(Listed { paused: pauses.contains_key(&listed.subscription), ..listed });
            }
            let on_page =
                |peeked: &Peeked| self.rows.values().any(|row| row.id == peeked.unfinished.delivery.id);
            let last: Vec<LastAttempt> =
                found.into_iter().filter(on_page).filter_map(|peeked| peeked.last_attempt).collect();
            self.set_last(&last);
        }
        Ok(())
    }

    /// The unfinished deliveries on the page that have been attempted.
    pub(crate) fn tried(&self) -> Vec<(SpecId, DeliveryId)> {
        let unfinished = [DeliveryState::Pending, DeliveryState::InFlight];
        let rows = self.rows.values().filter(|row| row.attempts > 0 && unfinished.contains(&row.state));
        rows.map(|row| (row.spec.clone(), row.id)).collect()
    }

    /// Reads the results of the last attempts of deliveries on the page.
    pub(crate) fn set_last(&mut self, last: &[LastAttempt]) {
        let mut last: HashMap<DeliveryId, &LastAttempt> = last.iter().map(|last| (last.id, last)).collect();
        for row in self.rows.values_mut() {
            if let Some(attempt) = last.remove(&row.id).and_then(LastAttempt::read) {
                row.set_last_attempt(&attempt);
            }
        }
    }

    /// Adds the finished deliveries: dead letters, and the final lines of the evidence.
    ///
    /// # Errors
    /// The directories cannot be listed.
    pub(crate) fn add_finished(&mut self, spool_dir: &Path, evidence_dir: &Path) -> io::Result<()> {
        if self.query.wants_any(&[DeliveryState::DeadLetter, DeliveryState::Dropped]) {
            for spec in self.specs(spool_dir)? {
                self.add_dead_letters(&dead_letter_dir(spool_dir, &spec));
            }
        }
        if self.query.wants_ended() {
            for (spec, path) in evidence_files(evidence_dir, self.query.spec.as_ref())? {
                self.add_ends(&spec, &path);
            }
        }
        Ok(())
    }

    fn specs(&self, dir: &Path) -> io::Result<Vec<SpecId>> {
        match &self.query.spec {
            Some(spec) => Ok(vec![spec.clone()]),
            None => absent_is_empty(spec_dirs(dir)),
        }
    }

    fn add_dead_letters(&mut self, dir: &Path) {
        for (written, id) in dead_letters_by_age(dir).into_iter().rev() {
            // A delivery is accepted before its dead letter is written.
            if Timestamp::try_from(written).is_ok_and(|written| self.is_past(written)) {
                return;
            }
            if !self.query.wants_id(id) {
                continue;
            }
            match read_dead_letter(dir, id) {
                Ok(letter) => self.add(Listed::of_letter(&letter)),
                // It may have been replayed a moment ago.
                Err(error) => log::debug!("{error}"),
            }
        }
    }

    fn add_ends(&mut self, spec: &SpecId, path: &Path) {
        for line in lines_of(path) {
            if !is_record(&line, "final") || !has(&line, self.query.id.as_ref()) {
                continue;
            }
            let Ok(end) = serde_json::from_slice::<End>(&line) else { continue };
            if self.is_past(end.time) {
                return;
            }
            self.add(Listed::of_end(end, spec));
        }
    }

    /// The finished page, newest first.
    pub(crate) fn into_listing(self) -> Listing {
        Listing { deliveries: self.rows.into_values().rev().collect(), more: self.more }
    }
}

/// Whether a line has an id that begins so, without reading it as JSON.
fn has(line: &[u8], id: Option<&IdPrefix>) -> bool {
    let Some(id) = id else { return true };
    let wanted = format!("\"delivery\":\"{id}");
    line.windows(wanted.len()).any(|text| text == wanted.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    use crate::archive::{Archive, DeadLetter, evidence_parts};
    use crate::delivery::{AttemptSummary, Reason};
    use crate::inspect::{TriedQuery, tried};
    use crate::spool::{Accepted, AcceptedDelivery, Record};
    use crate::store::{Store, StoreOptions};

    fn query(limit: usize) -> Query {
        Query::newest(limit)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_760_000_000 + second).unwrap()
    }

    fn delivery(spec: &str, key: &str, accepted_at: Timestamp) -> Delivery {
        Delivery {
            id: DeliveryId::random(),
            subscription: "s".parse().unwrap(),
            spec: spec.parse().unwrap(),
            key: key.parse().unwrap(),
            kind: EventKind::StageCompleted,
            stage: None,
            status: None,
            accepted_at,
            format: crate::payload::Format::SpecKit,
        }
    }

    fn end(store: &mut Store, delivery: &Delivery, time: Timestamp) {
        let Delivery { id, key, kind, subscription, .. } = delivery;
        let (time, accepted_at) = (clock::rfc3339(time), clock::rfc3339(delivery.accepted_at));
        let of = format!(r#""time":"{time}","delivery":"{id}","idempotency_key":"{key}","event":"{kind}""#);
        let to = format!(r#""subscription":"{subscription}","attempts":1,"state":"delivered""#);
        let line = format!(
            r#"{{"v":2,"record":"final",{of},{to},"accepted_at":"{accepted_at}","last_status":200}}"#
        );
        let lines = format!("{line}\n").into_bytes();
        store.add_evidence(&delivery.spec, &lines);
    }

    fn listing(options: &StoreOptions, query: Query) -> Listing {
        let mut page = Page::new(query);
        page.add_unfinished(&options.spool_dir).unwrap();
        page.add_finished(&options.spool_dir, &options.evidence_dir).unwrap();
        page.into_listing()
    }

    #[test]
    fn lines_of_the_first_version_are_read_beside_those_of_the_second() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions::in_dir(dir.path());
        let webhooks = options.evidence_dir.join("commands/SPEC-1/webhooks");
        fs::create_dir_all(&webhooks).unwrap();
        let request = concat!(
            r#""url":"http://127.0.0.1:9 (1a2b3c4d)","headers":{"x-speckit-attempt":"1"},"#,
            r#""body_sha256":"00","body_bytes":1"#,
        );
        let event = r#""idempotency_key":"k","event":"spec-auto.stage.completed","subscription":"s""#;
        let error = r#""error":{"class":"connection","message":"refused"}"#;
        let end = r#""latency_ms":0.5,"resent":false,"outcome":"failed""#;
        let (of_first, of_second) = (r#""method":"POST","#, "");
        let lines = |v: u32, extra: &str, second: i64| {
            let (id, time) = (DeliveryId::random(), clock::rfc3339(at(second)));
            let of = format!(r#""time":"{time}","delivery":"{id}",{event}"#);
            let sent = format!(r#""request":{{{extra}{request}}}"#);
            let attempt = format!(r#"{{"v":{v},"record":"attempt",{of},"attempt":1,{sent},{error},{end}}}"#);
            let ended = format!(r#""state":"dead_letter","accepted_at":"{time}","last_error":"refused""#);
            let last = format!(r#"{{"v":{v},"record":"final",{of},"attempts":1,{ended}}}"#);
            format!("{attempt}\n{last}\n")
        };
        let first = lines(1, of_first, 1);
        let second = lines(2, of_second, 2);
        // A line of a later version is skipped: its meaning is not known.
        let later = lines(3, of_second, 3);
        fs::write(webhooks.join("deliveries.1.jsonl"), &first).unwrap();
        fs::write(webhooks.join("deliveries.jsonl"), lines(1, of_first, 2) + &second + &later).unwrap();
        assert_eq!(listing(&options, query(10)).deliveries.len(), 3);
        let wanted = TriedQuery { spec: None, delivery_id: None, limit: 10 };
        let times: Vec<Timestamp> = tried(&evidence_parts(&options.evidence_dir, None).unwrap(), &wanted)
            .into_iter()
            .map(|tried| tried.time)
            .collect();
        assert_eq!(times, [at(2), at(2), at(1)]);
    }

    #[test]
    fn the_newest_of_all_specs_and_states_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions::in_dir(dir.path());
        let (mut store, _) = Store::open(options.clone()).unwrap();
        // Odd ones end late, so that the order of the ends differs from the order of the listing.
        for n in 0..200 {
            let spec = if n % 3 == 0 { "SPEC-1" } else { "SPEC-2" };
            let done = delivery(spec, &format!("k{n}"), at(n));
            end(&mut store, &done, at(n + 500 * (n % 2)));
        }
        store.flush_evidence();
        let pending = delivery("SPEC-3", "pending", at(150));
        let to = AcceptedDelivery::new(pending.id, pending.subscription.clone());
        let accepted =
            Accepted::new(at(150), pending.key.clone(), pending.kind, vec![to], &r#""{}""#.into()).unwrap();
        store.append(&pending.spec, &Record::Accepted(accepted)).unwrap();
        let summary = AttemptSummary {
            attempt: 1,
            at: at(151),
            status: Some(503),
            error: None,
            response: Some("busy".to_owned()),
            latency_ms: 1.0,
        };
        let next_attempt_at = at(900);
        let attempted = Record::Attempted { id: pending.id, attempt: summary.clone(), next_attempt_at };
        store.append(&pending.spec, &attempted).unwrap();
        assert!(store.commit().is_empty());
        let dead = delivery("SPEC-1", "dead", at(190));
        let reason = Reason::Exhausted { attempts: 1 };
        let letter =
            DeadLetter::new(&dead, &"{}".into(), reason, vec![summary], at(195), Some("mend it")).unwrap();
        Archive::new(options.of_archive()).write_dead_letter(&letter).unwrap();

        let all = listing(&options, query(MAX_LISTED));
        assert_eq!((all.deliveries.len(), all.more), (202, false));
        assert!(all.deliveries.windows(2).all(|pair| pair[0].accepted_at >= pair[1].accepted_at));
        for limit in [1, 10, 60, 201] {
            let page = listing(&options, query(limit));
            let (wanted, got) = (&all.deliveries[..limit], &page.deliveries[..]);
            assert!(page.more && got == wanted, "the page of {limit}");
        }
        let states = |states: &[DeliveryState]| {
            listing(&options, Query { states: states.to_vec(), ..query(10) }).deliveries
        };
        let waits = &states(&[DeliveryState::Pending])[0];
        assert_eq!(
            (waits.id, waits.last_status, waits.next_attempt_at),
            (pending.id, Some(503), Some(at(900)))
        );
        assert_eq!(waits.last_error.as_deref(), Some("status 503: busy"));
        let gone = &states(&[DeliveryState::DeadLetter])[0];
        assert_eq!(gone.last_error.as_deref(), Some("its only attempt failed; status 503: busy"));
        let since = listing(&options, Query { since: Some(at(198)), ..query(10) });
        assert_eq!((since.deliveries.len(), since.more), (2, false));
        let mut paged = Vec::new();
        loop {
            let before = paged.last().map(Listed::cursor);
            let page = listing(&options, Query { before, ..query(60) });
            paged.extend(page.deliveries);
            if !page.more {
                break;
            }
        }
        assert_eq!(paged, all.deliveries);
        let spec = Some("SPEC-3".parse().unwrap());
        assert_eq!(listing(&options, Query { spec, ..query(10) }).deliveries.len(), 1);
    }

    #[test]
    fn what_ended_since_a_look_is_found_however_long_ago_it_was_accepted() {
        let dir = tempfile::tempdir().unwrap();
        let options = StoreOptions::in_dir(dir.path());
        let (mut store, _) = Store::open(options.clone()).unwrap();
        // The first to be accepted ends last.
        let all: Vec<Delivery> = (0..50).map(|n| delivery("SPEC-1", &format!("k{n}"), at(50 - n))).collect();
        for (n, one) in (0..).zip(&all) {
            end(&mut store, one, at(100 + n));
        }
        store.flush_evidence();
        let new = listing(&options, Query { ended_since: Some(at(140)), ..query(100) });
        assert_eq!((new.deliveries.len(), new.more), (10, false));
        assert!(all[40..].iter().all(|one| new.deliveries.iter().any(|listed| listed.id == one.id)));
        let paged = listing(&options, Query { ended_since: Some(at(140)), ..query(4) });
        assert_eq!((paged.deliveries.len(), paged.more), (4, true));
    }
}
