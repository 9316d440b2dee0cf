//! What the evidence has of one delivery: its attempts and its end.

use serde::Deserialize;
use serde_json::Map;

use super::{MAX_SHOWN, ShownAttempt, ShownError, ShownResponse};
use crate::archive::{End, Part, is_record};
use crate::delivery::{AttemptSummary, DeliveryId};
use crate::event::EventKind;
use crate::sign::HIDDEN;

/// Most bytes of evidence of one delivery that are shown: the newest.
const MAX_SHOWN_BYTES: usize = 256 * 1024;

/// A line of an attempt as the evidence has it.
#[derive(Deserialize)]
struct Line {
    delivery: DeliveryId,
    event: EventKind,
    #[serde(flatten)]
    attempt: ShownAttempt,
}

/// What the evidence has of one delivery.
#[derive(Default)]
pub(super) struct Told {
    /// Its newest end.
    pub(super) end: Option<End>,
    /// Newest first.
    pub(super) attempts: Vec<ShownAttempt>,
    pub(super) earlier: usize,
}

impl Told {
    /// Reads it from the evidence of its SPEC.
    pub(super) fn of(parts: &[Part], id: DeliveryId) -> Self {
        let mut told = Self::default();
        let wanted = id.to_string();
        let mut bytes = 0;
        for part in parts {
            for line in part.lines() {
                if !line.windows(wanted.len()).any(|text| text == wanted.as_bytes()) {
                    continue;
                }
                if is_record(&line, "final") {
                    let end = serde_json::from_slice::<End>(&line).ok().filter(|end| end.delivery == id);
                    told.end = told.end.or(end);
                } else if is_record(&line, "attempt") {
                    let Ok(read) = serde_json::from_slice::<Line>(&line) else { continue };
                    if read.delivery != id {
                        continue;
                    }
                    bytes += line.len();
                    if told.attempts.len() >= MAX_SHOWN || bytes > MAX_SHOWN_BYTES {
                        told.earlier += 1;
                    } else {
                        told.attempts.push(whole(read));
                    }
                }
            }
        }
        told
    }
}

/// An attempt with the headers that the evidence leaves out, because the rest of the line implies
/// them (`docs/reference/evidence.md`).
fn whole(Line { delivery, event, mut attempt }: Line) -> ShownAttempt {
    let is_unsent = attempt.error.as_ref().is_some_and(|error| error.class == "secret");
    let (number, seconds) = (attempt.attempt.to_string(), attempt.time.as_second().to_string());
    let Some(request) = attempt.request.as_mut().filter(|_| !is_unsent) else { return attempt };
    let (id, event) = (delivery.to_string(), event.to_string());
    let [spec_kit, standard] = HIDDEN;
    let implied = [
        ("content-type", "application/json"),
        ("accept-encoding", "identity"),
        ("x-speckit-event", &event),
        ("x-speckit-id", &id),
        ("x-speckit-attempt", &number),
        ("x-speckit-request-timestamp", &seconds),
        ("x-speckit-signature", spec_kit),
        ("webhook-id", &id),
        ("webhook-timestamp", &seconds),
        ("webhook-signature", standard),
    ];
    for (name, value) in implied {
        request.headers.entry(name).or_insert_with(|| value.into());
    }
    attempt
}

/// An attempt of which only the summary is left.
pub(super) fn summarised(summary: &AttemptSummary) -> ShownAttempt {
    let response = summary.status.map(|status| ShownResponse {
        status,
        headers: Map::new(),
        body: summary.response.clone().unwrap_or_default(),
    });
    let error = summary.error.as_ref().filter(|_| response.is_none()).map(|error| {
        let (class, message) = error.split_once(": ").unwrap_or(("", error));
        ShownError { class: class.to_owned(), message: message.to_owned() }
    });
    ShownAttempt {
        attempt: summary.attempt,
        time: summary.at,
        replay: false,
        user: None,
        request: None,
        response,
        error,
        latency_ms: summary.latency_ms,
        resent: false,
        outcome: None,
        next_attempt_at: None,
    }
}
