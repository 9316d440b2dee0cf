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
use crate::inspect::{DeliveryState, Listed, Query, counted, short};

/// The pause between two looks, and what part of the time looking may take.
const POLL: Duration = Duration::from_millis(300);
const SHARE: u32 = 4;

/// How far before the last look an end is looked for: files may be written a moment after the time
/// that they tell.
const BACK: SignedDuration = SignedDuration::from_secs(10);

/// How long what has ended is remembered: longer than it is looked for.
const REMEMBERED: Duration = Duration::from_secs(120);

/// No limit for a listing, in effect.
const ALL: usize = 1_000_000;

/// What a line tells of.
type Seen = (DeliveryState, u32);

pub(super) fn run(source: &mut Source, query: &Query, screen: &mut Screen) -> Result<Exit, Failure> {
    let interrupt = Interrupt::listen();
    let (began, started) = (clock::now(), Instant::now());
    let mut first = source.list(query)?.deliveries;
    first.reverse();
    // All that is unfinished, whatever its state is now, and what has ended since the last look.
    let of_any = Query { states: Vec::new(), limit: ALL, ..query.clone() };
    let news = |source: &mut Source, looked_at: Timestamp| {
        source.list(&Query { ended_since: Some(looked_at - BACK), ..of_any.clone() })
    };
    let mut looked_at = began;
    let mut seen: HashMap<DeliveryId, (Seen, Instant)> = HashMap::new();
    for one in news(source, looked_at)?.deliveries.iter().chain(&first) {
        seen.insert(one.id, ((one.state, one.attempts), Instant::now()));
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
        let (looked, looks_at) = (Instant::now(), clock::now());
        let listing = match news(source, looked_at) {
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
        looked_at = looks_at;
        if source.silent().is_some_and(|silent| trouble != silent) {
            trouble = source.silent().unwrap_or_default().to_owned();
            screen.warning(&trouble);
        }
        for one in listing.deliveries.iter().rev() {
            let now = (one.state, one.attempts);
            let is_news = seen.insert(one.id, (now, looked)).is_none_or(|(before, _)| before != now);
            if is_news && (query.states.is_empty() || query.states.contains(&one.state)) {
                *changed.entry(one.state).or_default() += 1;
                tell(one, screen);
            }
        }
        pause = POLL.max(looked.elapsed() * SHARE);
        let remembered = REMEMBERED.max(pause * 4);
        seen.retain(|_, ((state, _), at)| is_unended(*state) || at.elapsed() < remembered);
    }
    let left = seen.values().filter(|((state, _), _)| is_unended(*state)).count();
    let lasted = short(SignedDuration::try_from(started.elapsed()).unwrap_or_default());
    let told = changed.iter().map(|(state, count)| format!("{count} {state}"));
    let told = [counted(changed.values().sum(), "change", "changes")].into_iter().chain(told);
    screen.note(format_args!(
        "followed for {lasted}: {}; {left} pending now",
        told.collect::<Vec<_>>().join(", ")
    ));
    Ok(Exit::Done)
}

fn is_unended(state: DeliveryState) -> bool {
    matches!(state, DeliveryState::Pending | DeliveryState::InFlight)
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
