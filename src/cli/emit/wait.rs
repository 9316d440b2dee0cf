//! `emit --wait`: waits until the deliveries of what was emitted have ended, and says how.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::ask::{EmitOutcome, Emitted};
use crate::cli::ask::Source;
use crate::cli::render::{Screen, Tone};
use crate::cli::{Exit, Failure};
use crate::clock;
use crate::delivery::DeliveryId;
use crate::event::IdempotencyKey;
use crate::inspect::{DeliveryState, Listed, Query, counted};

/// The first pause between two looks; later ones are longer.
const FIRST_PAUSE: Duration = Duration::from_millis(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// No limit for a listing, in effect.
const ALL: usize = 1_000_000;

/// Most deliveries that are named one by one.
const NAMED: usize = 20;

/// Looks in a row at an empty inbox after which everything is taken in: a delivery shows a moment
/// after its event has left the inbox.
const EMPTY_LOOKS: u32 = 3;

/// What is waited for.
pub(super) struct Awaited {
    /// When the command began.
    began: Timestamp,
    /// Deliveries of accepted events.
    ids: BTreeSet<DeliveryId>,
    /// Events whose deliveries are not known here: queued ones, those that were known already, and
    /// those that somebody in a fleet fans out.
    keys: BTreeSet<IdempotencyKey>,
    /// Those of them that are in the inbox, and those of which that is not certain.
    queued: BTreeSet<IdempotencyKey>,
    unconfirmed: BTreeSet<IdempotencyKey>,
    /// Whether none of them was known before.
    is_new: bool,
    /// Whether events go to a fleet.
    is_of_fleet: bool,
}

/// What became of it, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Waited<'a> {
    /// Whether everything ended in time.
    ended: bool,
    /// Events that no runtime has taken in, or that nobody in the fleet has fanned out.
    queued: usize,
    deliveries: Vec<&'a Listed>,
}

impl Awaited {
    pub(super) fn new(is_of_fleet: bool) -> Self {
        let (ids, keys) = (BTreeSet::new(), BTreeSet::new());
        let (queued, unconfirmed) = (BTreeSet::new(), BTreeSet::new());
        Self { began: clock::now(), ids, keys, queued, unconfirmed, is_new: true, is_of_fleet }
    }

    pub(super) fn add(&mut self, emitted: &Emitted) {
        self.ids.extend(emitted.deliveries.iter().map(|delivery| delivery.id));
        let Some(event) = &emitted.event else { return };
        match emitted.outcome {
            EmitOutcome::Duplicate => {
                self.keys.insert(event.idempotency_key.clone());
                self.is_new = false;
            }
            EmitOutcome::Queued => {
                self.keys.insert(event.idempotency_key.clone());
                self.queued.insert(event.idempotency_key.clone());
            }
            EmitOutcome::Unconfirmed => {
                self.keys.insert(event.idempotency_key.clone());
                self.unconfirmed.insert(event.idempotency_key.clone());
            }
            EmitOutcome::Accepted if self.is_of_fleet => {
                self.keys.insert(event.idempotency_key.clone());
            }
            EmitOutcome::Accepted | EmitOutcome::Disabled | EmitOutcome::Refused => {}
        }
    }

    /// Waits for the ends, at most for `timeout`.
    pub(super) fn wait(
        mut self,
        source: &mut Source,
        timeout: Duration,
        screen: &mut Screen,
    ) -> Result<Exit, Failure> {
        let until = Instant::now() + timeout;
        // Of what was known already, all that there is; of the rest, what came since.
        // The clock may have been set back a little meanwhile.
        let mut since = self.is_new.then(|| self.began - SignedDuration::from_secs(60));
        let mut empty_looks = 0;
        let mut found: HashMap<DeliveryId, Listed> = HashMap::new();
        let mut pause = FIRST_PAUSE;
        let mut unrouted = self.keys.len();
        loop {
            let looked = Instant::now();
            // Before the listing: what was fanned out by then is in it.
            if unrouted + self.queued.len() + self.unconfirmed.len() > 0 {
                unrouted = source.unrouted(&self.keys)?;
            }
            empty_looks = if source.queued() == 0 { empty_looks + 1 } else { 0 };
            let listing = source.list(&Query { since, ..Query::newest(ALL) })?;
            for one in listing.deliveries {
                if self.keys.contains(&one.idempotency_key) {
                    self.queued.remove(&one.idempotency_key);
                    self.unconfirmed.remove(&one.idempotency_key);
                    self.ids.insert(one.id);
                }
                if self.ids.contains(&one.id) {
                    found.insert(one.id, one);
                }
            }
            // An event that nobody wants has no delivery.
            if empty_looks >= EMPTY_LOOKS {
                self.queued.clear();
            }
            let open: Vec<&Listed> = found.values().filter(|one| is_open(one)).collect();
            // What is in the inbox is not in the cluster.
            let to_take_in = self.queued.len() + self.unconfirmed.len() + unrouted;
            let ended = open.is_empty() && to_take_in == 0 && found.len() == self.ids.len();
            if ended || Instant::now() >= until {
                screen.progress_ends();
                return Ok(self.tell(&found, ended, unrouted, timeout, screen));
            }
            screen.progress(format_args!(
                "waiting: {} of {} ended",
                found.len() - open.len(),
                self.ids.len() + to_take_in
            ));
            // Later looks need not go back further than what is not ended.
            let oldest = open.iter().map(|one| one.accepted_at).min();
            since = since.max(oldest.filter(|_| to_take_in == 0 && found.len() == self.ids.len()));
            let left = until.saturating_duration_since(Instant::now());
            thread::sleep(pause.max(looked.elapsed() * 4).min(left));
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn tell(
        &self,
        found: &HashMap<DeliveryId, Listed>,
        ended: bool,
        unrouted: usize,
        timeout: Duration,
        screen: &mut Screen,
    ) -> Exit {
        let mut deliveries: Vec<&Listed> = found.values().collect();
        deliveries.sort_by_key(|one| one.cursor());
        let is_good = |one: &&&Listed| matches!(one.state, DeliveryState::Delivered | DeliveryState::DryRun);
        let good = deliveries.iter().filter(is_good).count();
        let all_good = ended && good == deliveries.len();
        let queued = self.queued.len() + self.unconfirmed.len();
        let exit = if all_good { Exit::Done } else { Exit::Failed };
        if screen.is_json() {
            screen.value(&Waited { ended, queued: queued + unrouted, deliveries });
            return exit;
        }
        for one in deliveries.iter().filter(|one| !is_good(one)).take(NAMED) {
            let why = one.last_error.as_deref().unwrap_or("no attempt yet");
            let why = if one.paused { "its subscription is paused" } else { why };
            screen.line(Tone::Bad, format_args!("{}: {} to {}: {why}", one.state, one.id, one.subscription));
        }
        let mut states: BTreeMap<DeliveryState, usize> = BTreeMap::new();
        deliveries.iter().for_each(|one| *states.entry(one.state).or_default() += 1);
        let mut told: Vec<String> = states.iter().map(|(state, count)| format!("{count} {state}")).collect();
        let unseen = self.ids.len() - found.len();
        if unseen > 0 {
            told.push(format!("{unseen} of which nothing is known any more"));
        }
        if queued > 0 {
            let what = counted(queued, "event", "events");
            told.push(format!("{what} in the inbox that no runtime has taken in"));
        }
        if unrouted > 0 {
            let what = counted(unrouted, "event", "events");
            told.push(format!("{what} in the cluster that nobody has fanned out"));
        }
        if told.is_empty() {
            told.push("nothing to deliver".to_owned());
        }
        let late = if ended { String::new() } else { format!(" after {} s", timeout.as_secs()) };
        let tone = if all_good { Tone::Good } else { Tone::Bad };
        screen.line(tone, format_args!("{}{late}", told.join(", ")));
        exit
    }
}

fn is_open(one: &Listed) -> bool {
    matches!(one.state, DeliveryState::Pending | DeliveryState::InFlight)
}
