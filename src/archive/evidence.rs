//! The evidence of one SPEC: JSON Lines, one line for each attempt and one for each final state.

mod file;

use std::borrow::Cow;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use super::attempt::{Attempt, Effect, Finished, RequestLine, Unsent};
use super::dead_letter::DeadLetter;
use crate::clock;
use crate::delivery::{
    AttemptSummary, Delivery, DeliveryId, FailureClass, FinalState, Reason, SubscriptionId,
};
use crate::event::{EventKind, IdempotencyKey, Stage, Status};
use crate::files::user;
use crate::names::harmless_json;
pub(super) use file::{CURRENT, EvidenceFile, PREVIOUS};

/// The format version of the lines; a version grows by additions only. Version 1 also wrote, for
/// every request, values that never vary or that the line has elsewhere.
const VERSION: u32 = 2;

/// Whether a line of any known version is a record of this type.
pub(crate) fn is_record(line: &[u8], record: &str) -> bool {
    let versions = [&br#"{"v":2,"record":""#[..], br#"{"v":1,"record":""#];
    let rest = versions.into_iter().find_map(|start| line.strip_prefix(start));
    rest.and_then(|rest| rest.strip_prefix(record.as_bytes())).is_some_and(|rest| rest.starts_with(b"\""))
}

/// The line of one attempt.
#[derive(Debug, Serialize)]
pub(crate) struct AttemptLine<'a> {
    /// Format version.
    pub v: u32,
    /// Always `attempt`.
    pub record: &'static str,
    /// When the request began.
    #[serde(with = "clock::millis")]
    pub time: Timestamp,
    /// The delivery's id, sent as `X-SpecKit-Id`.
    pub delivery: DeliveryId,
    /// The event's key.
    pub idempotency_key: &'a IdempotencyKey,
    /// The event's type.
    pub event: EventKind,
    /// The subscription it goes to.
    pub subscription: &'a SubscriptionId,
    /// The attempt's number, from 1; replays count on.
    pub attempt: u32,
    /// Whether it was a replay.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub replay: bool,
    /// The user who asked for the replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// What was sent.
    pub request: &'a RequestLine,
    /// The answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<ResponseLine<'a>>,
    /// Why there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorLine<'a>>,
    /// From the start of the attempt to the last byte read.
    pub latency_ms: f64,
    /// Whether the request was sent a second time because a kept-alive connection had gone stale.
    pub resent: bool,
    /// `delivered`, `retry`, `failed`, `dry_run` or `sample`.
    pub outcome: &'static str,
    /// When the next attempt is due, for `retry`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
}

impl<'a> AttemptLine<'a> {
    fn of(Finished { delivery, attempt, effect }: &'a Finished) -> Self {
        let result = attempt.outcome.as_ref().map(|outcome| outcome.result.as_ref());
        let is_replay = effect.is_replay();
        Self {
            v: VERSION,
            record: "attempt",
            time: attempt.at,
            delivery: delivery.id,
            idempotency_key: &delivery.key,
            event: delivery.kind,
            subscription: &delivery.subscription,
            attempt: attempt.number,
            replay: is_replay,
            user: is_replay.then(user::name),
            request: &attempt.request,
            response: result.and_then(Result::ok).map(|response| ResponseLine {
                status: response.status,
                headers: &response.headers,
                body: &response.body,
            }),
            error: result
                .and_then(Result::err)
                .map(|failure| ErrorLine { class: failure.class, message: &failure.message }),
            latency_ms: attempt.latency_ms(),
            resent: attempt.outcome.as_ref().is_some_and(|outcome| outcome.resent),
            outcome: effect.outcome(),
            next_attempt_at: match effect {
                Effect::Retry { next_attempt_at } => Some(clock::rfc3339(*next_attempt_at)),
                _ => None,
            },
        }
    }
}

/// The answer to an attempt.
#[derive(Debug, Serialize)]
pub(crate) struct ResponseLine<'a> {
    /// HTTP status.
    pub status: u16,
    /// Selected headers.
    #[serde(serialize_with = "as_object")]
    pub headers: &'a [(String, String)],
    /// The body's first KiB, made printable.
    pub body: &'a str,
}

/// Serialises pairs as an object without building a map first.
fn as_object<N: Serialize, V: Serialize, S: Serializer>(
    pairs: &impl AsRef<[(N, V)]>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(pairs.as_ref().iter().map(|(name, value)| (name, value)))
}

/// Why there was no answer.
#[derive(Debug, Serialize)]
pub(crate) struct ErrorLine<'a> {
    /// The class of the failure.
    pub class: FailureClass,
    /// The failure in words.
    pub message: &'a str,
}

/// The line of a delivery's end.
#[derive(Debug, Serialize)]
pub(crate) struct FinalLine<'a> {
    /// Format version.
    pub v: u32,
    /// Always `final`.
    pub record: &'static str,
    /// When it ended.
    #[serde(with = "clock::millis")]
    pub time: Timestamp,
    /// The delivery's id, sent as `X-SpecKit-Id`.
    pub delivery: DeliveryId,
    /// The event's key.
    pub idempotency_key: &'a IdempotencyKey,
    /// The event's type.
    pub event: EventKind,
    /// The stage that it tells of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// How that ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The subscription it goes to.
    pub subscription: &'a SubscriptionId,
    /// Number of attempts.
    pub attempts: u32,
    /// The final state.
    pub state: FinalState,
    /// The reason, for a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'a Reason>,
    /// The user who gave it up for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<&'a str>,
    /// When the event was accepted.
    #[serde(with = "clock::millis")]
    pub accepted_at: Timestamp,
    /// HTTP status of the last attempt, if there was an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status: Option<u16>,
    /// Why it failed, as a sentence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Duration of the last attempt, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_latency_ms: Option<f64>,
}

/// A [`FinalLine`] as it is read back, of this version or an earlier one.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct End {
    pub time: Timestamp,
    pub delivery: DeliveryId,
    pub idempotency_key: IdempotencyKey,
    pub event: EventKind,
    pub stage: Option<Stage>,
    pub status: Option<Status>,
    pub subscription: SubscriptionId,
    pub attempts: u32,
    pub state: FinalState,
    pub user: Option<String>,
    pub accepted_at: Timestamp,
    pub last_status: Option<u16>,
    pub last_error: Option<String>,
    pub last_latency_ms: Option<f64>,
}

impl<'a> FinalLine<'a> {
    /// The end of a delivery that its last attempt decided.
    fn of(delivery: &'a Delivery, last: &Attempt, state: FinalState) -> Self {
        Self {
            v: VERSION,
            record: "final",
            time: clock::now(),
            delivery: delivery.id,
            idempotency_key: &delivery.key,
            event: delivery.kind,
            stage: delivery.stage,
            status: delivery.status,
            subscription: &delivery.subscription,
            attempts: if state == FinalState::DryRun { 0 } else { last.number },
            state,
            reason: None,
            user: None,
            accepted_at: delivery.accepted_at,
            last_status: last.status(),
            last_error: None,
            last_latency_ms: last.outcome.as_ref().map(|_| last.latency_ms()),
        }
    }

    /// The end of a delivery that becomes this dead letter.
    fn of_dead_letter(letter: &'a DeadLetter) -> Self {
        Self {
            accepted_at: letter.accepted_at,
            last_status: letter.attempts.last().and_then(|last| last.status),
            last_error: Some(letter.failure()),
            last_latency_ms: letter.attempts.last().map(|last| last.latency_ms),
            v: VERSION,
            record: "final",
            time: letter.dead_at,
            delivery: letter.id,
            idempotency_key: &letter.idempotency_key,
            event: letter.event,
            stage: letter.stage,
            status: letter.status,
            subscription: &letter.subscription,
            attempts: u32::try_from(letter.attempts.len()).unwrap_or(u32::MAX),
            state: (&letter.reason).into(),
            reason: Some(&letter.reason),
            user: None,
        }
    }

    /// The end of a waiting delivery that a person gave up.
    fn of_discard(delivery: &'a Delivery, attempts: &[AttemptSummary], by: &'a str) -> Self {
        let last = attempts.last();
        Self {
            v: VERSION,
            record: "final",
            time: clock::now(),
            delivery: delivery.id,
            idempotency_key: &delivery.key,
            event: delivery.kind,
            stage: delivery.stage,
            status: delivery.status,
            subscription: &delivery.subscription,
            attempts: last.map_or(0, |last| last.attempt),
            state: FinalState::Discarded,
            reason: None,
            user: Some(by),
            accepted_at: delivery.accepted_at,
            last_status: last.and_then(|last| last.status),
            last_error: last.map(AttemptSummary::in_words),
            last_latency_ms: last.map(|last| last.latency_ms),
        }
    }
}

/// Adds the line of an attempt.
pub(crate) fn add_attempt_line(finished: &Finished, lines: &mut Vec<u8>) {
    add_line(&AttemptLine::of(finished), finished.attempt.unsent.as_ref(), lines);
}

/// Adds the line of a delivery's end that its last attempt decided.
pub(crate) fn add_final_line(delivery: &Delivery, last: &Attempt, state: FinalState, lines: &mut Vec<u8>) {
    add_line(&FinalLine::of(delivery, last, state), None, lines);
}

/// The line of a delivery's end that becomes a dead letter.
pub(crate) fn burial_line(letter: &DeadLetter) -> Vec<u8> {
    line(&FinalLine::of_dead_letter(letter))
}

/// The line of a waiting delivery's end that the user `by` gave up for good.
pub(crate) fn discard_line(delivery: &Delivery, attempts: &[AttemptSummary], by: &str) -> Vec<u8> {
    line(&FinalLine::of_discard(delivery, attempts, by))
}

/// The line of a dead letter that the user `by` gave up for good.
pub(crate) fn discard_letter_line(letter: &DeadLetter, by: &str) -> Vec<u8> {
    let dead = FinalLine::of_dead_letter(letter);
    line(&FinalLine { time: clock::now(), state: FinalState::Discarded, user: Some(by), ..dead })
}

/// A line of evidence, its newline included; nothing where it cannot be written as JSON.
fn line(of: &impl Serialize) -> Vec<u8> {
    let mut line = Vec::new();
    add_line(of, None, &mut line);
    line
}

/// Adds a [`line`], with the body that was not sent, byte for byte, for a dry run.
fn add_line(of: &impl Serialize, body: Option<&Unsent>, lines: &mut Vec<u8>) {
    let start = lines.len();
    if let Err(error) = serde_json::to_writer(&mut *lines, of) {
        log::error!("an evidence line cannot be written: {error}");
        return lines.truncate(start);
    }
    if let Some(body) = body
        && lines.pop_if(|last| *last == b'}').is_some()
    {
        lines.extend_from_slice(br#","body":"#);
        lines.extend_from_slice(body.json());
        lines.push(b'}');
    }
    // Emitters' text is escaped, so that it has no effect on the terminal of whoever reads the
    // file.
    if let Ok(Cow::Owned(escaped)) = std::str::from_utf8(&lines[start..]).map(harmless_json) {
        lines.truncate(start);
        lines.extend_from_slice(escaped.as_bytes());
    }
    lines.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_emitters_wrote_does_nothing_to_a_terminal() {
        let key = "k \u{202e}\u{200f}\u{9b}31m é";
        let mut lines = b"before\n".to_vec();
        let of = serde_json::json!({"key": key});
        add_line(&of, None, &mut lines);
        add_line(&of, Unsent::of(&of.to_string().into()).as_ref(), &mut lines);
        let text = String::from_utf8(lines).unwrap();
        let escaped = r#"{"key":"k \u202e\u200f\u009b31m é""#;
        assert_eq!(text, format!("before\n{escaped}}}\n{escaped},\"body\":{escaped}}}}}\n"));
        let line: serde_json::Value = serde_json::from_str(text.lines().nth(2).unwrap()).unwrap();
        assert_eq!((&line["key"], &line["body"]["key"]), (&key.into(), &key.into()));
    }
}
