//! Fills the figures again from what the evidence has of the last day.

use std::time::Duration;

use hashbrown::HashSet;
use jiff::Timestamp;
use serde::Deserialize;

use super::{Counted, Counts, DAY, Way};
use crate::archive::{Part, is_record};
use crate::delivery::{FailureClass, SubscriptionId};
use crate::transient;

/// Most attempts that are read: what is older is left out.
const MOST: usize = 500_000;

/// An attempt in the evidence, as far as it counts.
#[derive(Deserialize)]
struct Line {
    time: Timestamp,
    subscription: SubscriptionId,
    latency_ms: f64,
    outcome: String,
    response: Option<Answer>,
    error: Option<Error>,
}

#[derive(Deserialize)]
struct Answer {
    status: u16,
}

#[derive(Deserialize)]
struct Error {
    class: FailureClass,
}

/// What ended in the day before `until`. `goes_on` is asked from time to time: what was read until
/// then counts. Blocks.
pub(crate) fn from_evidence(parts: &[Part], until: Timestamp, goes_on: impl Fn() -> bool) -> Counts {
    let mut found: Vec<(SubscriptionId, Counted)> = transient::list(MOST);
    let mut ids = HashSet::new();
    let (mut ends_as_dead_letter, mut from) = (None, None::<Timestamp>);
    let mut unread = parts.iter();
    'parts: while let Some(part) = unread.next() {
        let mut oldest = None;
        for (number, line) in part.lines().enumerate() {
            if found.len() >= MOST || (number % 64 == 0 && !goes_on()) {
                // Of this part what is older is missing, and of the others all.
                from = from.max(oldest.or_else(|| part.written()));
                from = from.max(unread.next().and_then(Part::written));
                break 'parts;
            }
            // Read backwards, a delivery's end comes before the attempt that decided it.
            if is_record(&line, "final") {
                ends_as_dead_letter = delivery_of(&line).filter(|_| is_dead_letter(&line));
                continue;
            }
            if !is_record(&line, "attempt") {
                continue;
            }
            let Ok(attempt) = serde_json::from_slice::<Line>(&line) else { continue };
            let delivery = delivery_of(&line);
            let gave_up = delivery.is_some() && ends_as_dead_letter.take() == delivery;
            let Some((of, counted)) = attempt.counted(gave_up) else { continue };
            if until.duration_since(counted.at) > DAY {
                oldest = None;
                break;
            }
            oldest = Some(counted.at);
            if counted.at < until {
                // One text for all of a subscription's.
                let of = ids.get_or_insert(of);
                found.push((of.clone(), counted));
            }
        }
        if part.is_cut() {
            from = from.max(oldest);
        }
    }
    found.sort_by_key(|(_, counted)| counted.at);
    let mut figures = Counts { from, ..Counts::default() };
    found.iter().for_each(|(of, counted)| figures.ended(of, counted));
    figures
}

impl Line {
    /// As it counts; `None` of one that was not sent.
    fn counted(self, gave_up: bool) -> Option<(SubscriptionId, Counted)> {
        let status = self.response.map(|answer| answer.status);
        let is_success = match self.outcome.as_str() {
            "delivered" => true,
            // What a sample came to stands in its answer alone.
            "sample" => status.is_some_and(|status| (200..300).contains(&status)),
            "dry_run" => return None,
            _ => false,
        };
        let way = status.map(Way::Status).or(self.error.map(|error| Way::Class(error.class)));
        let failed = if is_success { None } else { Some(way?) };
        let latency_ms = self.latency_ms.clamp(0.0, 1e9);
        let at = self.time + Duration::from_secs_f64(latency_ms / 1e3);
        Some((self.subscription, Counted { at, latency_ms, failed, gave_up }))
    }
}

fn is_dead_letter(line: &[u8]) -> bool {
    let state = br#""state":"dead_letter""#;
    line.windows(state.len()).any(|window| window == state)
}

/// The delivery's id in a line, which both kinds of line have near their beginning.
fn delivery_of(line: &[u8]) -> Option<Vec<u8>> {
    let name = br#""delivery":""#;
    let at = line.windows(name.len()).position(|window| window == name)? + name.len();
    line.get(at..at + 36).map(<[u8]>::to_vec)
}
