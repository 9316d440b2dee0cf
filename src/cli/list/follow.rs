//! `spec-notify list --follow`: deliveries as they change, until Ctrl-C.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::{last, short_name, tone};
use crate::cli::ask::Source;
use crate::cli::interrupt::Interrupt;
use crate::cli::render::{Line, Screen, cut};
use crate::cli::{Exit, Failure};
use crate::clock;
use crate::delivery::{DeliveryId, readable};
use crate::inspect::{DeliveryState, Listed, MAX_LISTED, Query, counted, short};

/// The pause between two looks, and what part of the time looking may take.
const POLL: Duration = Duration::from_millis(300);
const SHARE: u32 = 4;

/// States that can change: also dead letters, which are replayed or discarded. Of these the newest
/// 500 are watched.
const UNENDED: [DeliveryState; 2] = [DeliveryState::Pending, DeliveryState::InFlight];
const DEAD: [DeliveryState; 2] = [DeliveryState::DeadLetter, DeliveryState::Dropped];

fn is_open(state: DeliveryState) -> bool {
    UNENDED.contains(&state) || DEAD.contains(&state)
}

/// No limit for a listing, in effect.
const ALL: usize = 1_000_000;

/// What a line tells of.
type Seen = (DeliveryState, u32);

pub(super) fn run(source: &mut Source, query: &Query, screen: &mut Screen) -> Result<Exit, Failure> {
    let interrupt = Interrupt::listen();
    let (began, started) = (clock::now(), Instant::now());
    let mut first = source.list(query)?.deliveries;
    first.reverse();
    // All that is unfinished can change, also where it is filtered out by its state now.
    let of_any = Query { states: Vec::new(), limit: ALL, ..query.clone() };
    let unended = Query { states: UNENDED.to_vec(), ..of_any.clone() };
    let dead = Query { states: DEAD.to_vec(), limit: MAX_LISTED, ..query.clone() };
    let (unended, dead) = (source.list(&unended)?.deliveries, source.list(&dead)?.deliveries);
    let mut seen: HashMap<DeliveryId, (Timestamp, Seen)> = HashMap::new();
    let note = |one: &Listed| (one.accepted_at, (one.state, one.attempts));
    for one in unended.iter().chain(&dead).chain(&first) {
        seen.insert(one.id, note(one));
    }
    if !screen.is_json() {
        screen.note(format_args!("times are in {}; Ctrl-C ends", clock::zone_name(began)));
    }
    for one in &first {
        tell(one, screen);
    }
    let mut changed: BTreeMap<DeliveryState, usize> = BTreeMap::new();
    let mut trouble = String::new();
    let mut pause = POLL;
    while !screen.is_closed() && !interrupt.pause(pause) {
        let looked = Instant::now();
        let open = seen.values().filter(|(_, (state, _))| is_open(*state)).map(|(at, _)| *at).min();
        // What is accepted while this looks must not be missed.
        let since = open
            .unwrap_or(began)
            .min(clock::now() - SignedDuration::from_secs(10))
            .max(query.since.unwrap_or(Timestamp::MIN));
        let listing = match source.list(&Query { since: Some(since), ..of_any.clone() }) {
            Ok(listing) => listing,
            Err(failure) => {
                // It may be mended while this goes on.
                if trouble != failure.message {
                    screen.warning(&failure.message);
                }
                trouble = failure.message;
                continue;
            }
        };
        if source.silent().is_some_and(|silent| trouble != silent) {
            trouble = source.silent().unwrap_or_default().to_owned();
            screen.warning(&trouble);
        }
        for one in listing.deliveries.iter().rev() {
            let before = seen.get(&one.id).map(|(_, seen)| *seen);
            // What ended before this began is no news.
            if before == Some((one.state, one.attempts)) || (before.is_none() && one.accepted_at < began) {
                continue;
            }
            seen.insert(one.id, note(one));
            if query.states.is_empty() || query.states.contains(&one.state) {
                *changed.entry(one.state).or_default() += 1;
                tell(one, screen);
            }
        }
        seen.retain(|_, (at, (state, _))| is_open(*state) || *at >= since);
        pause = POLL.max(looked.elapsed() * SHARE);
    }
    let left = seen.values().filter(|(_, (state, _))| *state == DeliveryState::Pending).count();
    let lasted = short(SignedDuration::try_from(started.elapsed()).unwrap_or_default());
    let told = changed.iter().map(|(state, count)| format!("{count} {state}"));
    let told = [counted(changed.values().sum(), "change", "changes")].into_iter().chain(told);
    screen.note(format_args!(
        "followed for {lasted}: {}; {left} pending now",
        told.collect::<Vec<_>>().join(", ")
    ));
    Ok(Exit::Done)
}

fn tell(one: &Listed, screen: &mut Screen) {
    if screen.is_json() {
        return screen.value(one);
    }
    let now = clock::now();
    let error =
        one.last_error.as_deref().filter(|_| one.state != DeliveryState::Delivered).unwrap_or_default();
    let error = readable(error).split_whitespace().collect::<Vec<_>>().join(" ");
    let id: String = one.id.to_string().chars().take(8).collect();
    let text = format!(
        "{}  {:<11}  {}  {}  {}  #{}  {}  {id}  {error}",
        clock::local(now, now),
        one.state,
        one.subscription,
        one.spec,
        short_name(one.event),
        one.attempts,
        last(one),
    );
    screen.print(&Line::new(tone(one.state, one.attempts), cut(text.trim_end(), screen.width())));
}
