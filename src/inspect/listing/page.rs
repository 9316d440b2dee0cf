//! One page of a listing, filled from the spool and the evidence, newest first. Reads no more of
//! the files than the page needs.

mod cluster;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::Path;

use jiff::Timestamp;

use super::{Cursor, DeliveryState, Listed, Listing, Query};
use crate::archive::{
    End, dead_letter_dir, dead_letters_by_age, evidence_files, is_record, lines_of, read_dead_letter,
    read_pauses,
};
use crate::delivery::{DeliveryId, IdPrefix};
use crate::event::SpecId;
use crate::files::{absent_is_empty, spec_dirs};
use crate::spool::{self, LastAttempt, Peeked};

/// Most deliveries in one listing; for more, ask again with [`Query::before`].
pub const MAX_LISTED: usize = 500;

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
                let listed =
                    Listed::unfinished(&unfinished.delivery.whole(), state, unfinished.attempts, due);
                self.add(Listed { paused: pauses.contains_key(&listed.subscription), ..listed });
            }
            let on_page =
                |peeked: &Peeked| self.rows.values().any(|row| row.id == peeked.unfinished.delivery.id());
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
