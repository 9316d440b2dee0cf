//! A spell of failures at one endpoint: when it began, what it was, and when it is over. Plain
//! decisions over attempts and times.

use std::collections::VecDeque;
use std::fmt;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::clock;
use crate::event::SpecId;

/// The attempts that a verdict looks back on, and in which steps they are counted.
const RECENT_SLOTS: i64 = 20;
const SLOT_S: i64 = 30;

/// The share of failures in the last ten minutes below which an endpoint is well, in percent.
pub(super) const SOME: u64 = 2;

/// Failures that make a spell more than a blip: a delivery's first retries.
const FEW: u32 = 3;

/// How long after the last failure a spell is over: of one that success cut off cleanly, and of
/// one in which successes and failures took turns.
const CALM: SignedDuration = SignedDuration::from_secs(60);
const CALM_AFTER_TURNS: SignedDuration = SignedDuration::from_mins(10);

/// How long a spell that is over is remembered, and how many of them.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(24);
const MAX_REMEMBERED: usize = 8;

/// Most causes that are told apart; what comes beyond counts to the last.
const MAX_CAUSES: usize = 8;

/// Attempts of the last ten minutes, counted in half minutes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Recent(VecDeque<Slot>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Slot {
    /// Half minutes since 1970.
    at: i64,
    ok: u32,
    failed: u32,
}

impl Recent {
    pub(super) fn add(&mut self, at: Timestamp, failed: bool) {
        let now = at.as_second().div_euclid(SLOT_S);
        // What is of the future was counted before the clock was set back.
        self.0.retain(|slot| (now - RECENT_SLOTS..=now).contains(&slot.at));
        if self.0.back().is_none_or(|last| last.at != now) {
            self.0.push_back(Slot { at: now, ok: 0, failed: 0 });
        }
        if let Some(slot) = self.0.back_mut() {
            let count = if failed { &mut slot.failed } else { &mut slot.ok };
            *count = count.saturating_add(1);
        }
    }

    /// How many succeeded and how many failed in the ten minutes before `now`.
    pub(super) fn sums(&self, now: Timestamp) -> (u64, u64) {
        let now = now.as_second().div_euclid(SLOT_S);
        let slots = self.0.iter().filter(|slot| (now - RECENT_SLOTS..=now).contains(&slot.at));
        slots.fold((0, 0), |(ok, failed), slot| (ok + u64::from(slot.ok), failed + u64::from(slot.failed)))
    }

    /// Whether at least this share of them failed, in percent.
    pub(super) fn fail(&self, percent: u64, now: Timestamp) -> bool {
        let (ok, failed) = self.sums(now);
        failed > 0 && failed * 100 >= (ok + failed) * percent
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One way in which attempts failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Cause {
    /// The failure in words: `status 503`, or `cannot connect: connection refused`.
    pub what: String,
    /// Number of attempts that failed so.
    pub count: u32,
    /// When the first of them ended.
    #[serde(with = "clock::millis")]
    pub since: Timestamp,
    /// When the last of them ended.
    #[serde(with = "clock::millis")]
    pub last: Timestamp,
    /// What to do about it.
    pub hint: String,
    /// The SPEC of the last delivery that met it.
    pub spec: SpecId,
}

/// A spell of failures that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Incident {
    /// When the first attempt failed.
    #[serde(with = "clock::millis")]
    pub from: Timestamp,
    /// When the last attempt failed.
    #[serde(with = "clock::millis")]
    pub to: Timestamp,
    /// Number of attempts that failed.
    pub failures: u32,
    /// Number of deliveries that were given up.
    pub given_up: u32,
    /// The most frequent failure, in words.
    pub what: String,
}

/// As the log says it.
impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, to, failures, given_up, what } = self;
        let (from, to) = (clock::rfc3339(*from), clock::rfc3339(*to));
        write!(f, "{failures} attempts failed from {from} to {to}, {given_up} moved to dead letter, {what}")
    }
}

/// A spell of failures that may not be over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Trouble {
    pub(super) since: Timestamp,
    last: Timestamp,
    pub(super) failures: u32,
    given_up: u32,
    /// The share of failures, or their number in a row, was such that somebody should know.
    pub(super) is_marked: bool,
    /// Successes and failures took turns.
    takes_turns: bool,
    pub(super) causes: Vec<Cause>,
}

impl Trouble {
    pub(super) fn new(at: Timestamp) -> Self {
        Self {
            since: at,
            last: at,
            failures: 0,
            given_up: 0,
            is_marked: false,
            takes_turns: false,
            causes: Vec::new(),
        }
    }

    /// An attempt failed; `in_a_row` counts it too.
    pub(super) fn add(&mut self, cause: Cause, in_a_row: u32) {
        self.takes_turns |= self.failures > 0 && in_a_row == 1;
        self.failures = self.failures.saturating_add(1);
        self.last = cause.last;
        let known = self.causes.iter().position(|known| known.what == cause.what);
        let is_full = self.causes.len() == MAX_CAUSES;
        match known.or(is_full.then_some(MAX_CAUSES - 1)) {
            Some(place) => {
                let known = &mut self.causes[place];
                *known = Cause { count: known.count.saturating_add(1), since: known.since, ..cause };
            }
            None => self.causes.push(cause),
        }
    }

    /// Somebody should know. What failed here and there long before is no part of it.
    pub(super) fn mark(&mut self, at: Timestamp) {
        if !self.is_marked && at.duration_since(self.since) > CALM_AFTER_TURNS {
            self.since = at;
        }
        self.is_marked = true;
    }

    pub(super) fn gave_up(&mut self) {
        self.given_up = self.given_up.saturating_add(1);
    }

    /// Whether more failed than a delivery's first retries, in turns with what succeeded: the next
    /// failure may come at any time.
    pub(super) fn is_flaky(&self) -> bool {
        self.takes_turns && self.failures >= FEW
    }

    /// Whether it is over, where the last attempt succeeded.
    pub(super) fn is_over(&self, recent: &Recent, now: Timestamp) -> bool {
        let calm = if self.is_flaky() { CALM_AFTER_TURNS } else { CALM };
        let rests = now.duration_since(self.last);
        rests >= calm || rests.is_negative() || (self.is_marked && !recent.fail(SOME, now))
    }

    /// What is remembered of it; `None` of a blip.
    pub(super) fn into_incident(self) -> Option<Incident> {
        let Self { since, last, failures, given_up, is_marked, causes, .. } = self;
        let what = causes.into_iter().max_by_key(|cause| cause.count).map(|cause| cause.what);
        ((is_marked && failures >= FEW) || given_up > 0).then(|| Incident {
            from: since,
            to: last,
            failures,
            given_up,
            what: what.unwrap_or_default(),
        })
    }
}

/// Adds what is remembered, and forgets what is a day old.
pub(super) fn remember(incidents: &mut Vec<Incident>, incident: Option<Incident>, now: Timestamp) {
    incidents.extend(incident);
    incidents.retain(|incident| now.duration_since(incident.to) < REMEMBERED);
    let surplus = incidents.len().saturating_sub(MAX_REMEMBERED);
    incidents.drain(..surplus);
}
