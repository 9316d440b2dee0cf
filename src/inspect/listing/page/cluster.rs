//! The page of a listing, filled from what a fleet's cluster has.

use super::Page;
use crate::archive::{DeadLetter, End, Pauses};
use crate::delivery::AttemptSummary;
use crate::fleet::{PlacedLine, Wanted, WantedLines};
use crate::inspect::{Cursor, DeliveryState, Listed};
use crate::spool::Unfinished;

impl Page {
    /// Which deliveries the cluster chooses for this page.
    pub(crate) fn wanted(&self) -> Wanted {
        let query = &self.query;
        Wanted {
            id: query.id.clone(),
            spec: query.spec.clone(),
            subscription: query.subscription.clone(),
            since: query.since,
            ended_since: query.ended_since,
            before: query.before.map(|cursor| (cursor.accepted_at, cursor.id)),
        }
    }

    /// Which lines of evidence may tell of an end on this page, `limit` at a time.
    pub(crate) fn wanted_ends(&self, limit: usize) -> WantedLines {
        let query = &self.query;
        WantedLines {
            id: query.id.clone(),
            spec: query.spec.clone(),
            subscription: query.subscription.clone(),
            is_end: Some(true),
            limit,
            ..WantedLines::default()
        }
    }

    /// Whether it wants deliveries that wait.
    pub(crate) fn wants_waiting(&self) -> bool {
        self.query.wants_any(&[DeliveryState::Pending])
    }

    /// Whether it wants dead letters.
    pub(crate) fn wants_letters(&self) -> bool {
        self.query.wants_any(&[DeliveryState::DeadLetter, DeliveryState::Dropped])
    }

    /// Whether it wants any that have ended.
    pub(crate) fn wants_ends(&self) -> bool {
        self.query.wants_ended()
    }

    /// Adds deliveries that wait, newest first. Answers with where to go on; `None` where nothing
    /// older gets onto the page.
    pub(crate) fn add_waiting(
        &mut self,
        waiting: Vec<(Unfinished, Option<AttemptSummary>)>,
        pauses: &Pauses,
    ) -> Option<Wanted> {
        let mut last = None;
        for (one, tried) in waiting {
            let state = DeliveryState::Pending;
            let mut row = Listed::unfinished(&one.delivery.whole(), state, one.attempts, one.next_attempt_at);
            row.paused = pauses.contains_key(&row.subscription);
            tried.iter().for_each(|tried| row.set_last_attempt(tried));
            last = Some(row.cursor());
            self.add(row);
        }
        self.goes_on_before(last)
    }

    /// Adds dead letters, newest first; as [`add_waiting`](Self::add_waiting).
    pub(crate) fn add_letters(&mut self, letters: &[DeadLetter]) -> Option<Wanted> {
        let mut last = None;
        for row in letters.iter().map(Listed::of_letter) {
            last = Some(row.cursor());
            self.add(row);
        }
        self.goes_on_before(last)
    }

    fn goes_on_before(&self, last: Option<Cursor>) -> Option<Wanted> {
        let last = last.filter(|last| last.accepted_at >= self.horizon())?;
        Some(Wanted { before: Some((last.accepted_at, last.id)), ..self.wanted() })
    }

    /// Adds ends, newest first; whether an older one may get onto the page. Dead letters are to be
    /// added before, which know more.
    pub(crate) fn add_ends_of_fleet(&mut self, ends: &[PlacedLine]) -> bool {
        for PlacedLine { spec, line, .. } in ends {
            let Ok(end) = serde_json::from_str::<End>(line) else { continue };
            if self.is_past(end.time) {
                return false;
            }
            self.add(Listed::of_end(end, spec));
        }
        !ends.is_empty()
    }
}
