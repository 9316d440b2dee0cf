//! One delivery whole, for `show`: from the spool, the dead letters and the evidence. Reads the
//! files of its SPEC alone.

mod told;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{DeliveryState, Listed};
use crate::archive::{DeadLetter, Part, dead_letter_dir, evidence_parts, read_dead_letter, read_pauses};
use crate::clock;
use crate::delivery::{DeliveryId, Pause};
use crate::event::SpecId;
use crate::names::named;
use crate::payload::Format;
use crate::spool::{self, Kept};
use told::{Told, summarised};

/// Most attempts of one delivery that are shown: the newest ones.
const MAX_SHOWN: usize = 100;

/// One delivery whole, as `show --json` prints it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Shown {
    /// As `list` has it.
    pub delivery: Listed,
    /// The stage that the event tells of.
    pub stage: Option<String>,
    /// What became of it.
    pub status: Option<String>,
    /// The format of its body.
    pub format: Option<Format>,
    /// When it ended.
    #[serde(with = "clock::maybe_millis")]
    pub ended_at: Option<Timestamp>,
    /// The user who discarded it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What it waits for, while it is pending.
    pub waits: Vec<Wait>,
    /// The command that helps: one that sends it again, or lets it go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its attempts, oldest first; of more than a hundred the newest.
    pub attempts: Vec<ShownAttempt>,
    /// Number of earlier attempts that are not shown.
    pub earlier: usize,
    /// The body, byte for byte, if it was asked for and is still there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Box<RawValue>>,
}

named! {
    /// What a pending delivery waits for.
    WaitKind, "wait" {
        /// The time of its next attempt.
        Backoff = "backoff",
        /// A pause that the endpoint asked for.
        EndpointPause = "endpoint_pause",
        /// Those before it in the line.
        Behind = "behind",
        /// A person's pause.
        Paused = "paused",
        /// The breaker: one request at a time until one succeeds.
        Breaker = "breaker",
        /// Its turn among all subscriptions (`max_concurrency`).
        Turn = "turn",
        /// The rate limit.
        RateLimit = "rate_limit",
        /// This machine, which cannot send.
        LocalFault = "local_fault",
        /// The return of its subscription.
        Inactive = "inactive",
        /// A runtime.
        NoRuntime = "no_runtime",
        /// Its turn at the member of a fleet that delivers to its subscription.
        Owner = "owner",
        /// A member of the fleet that delivers to its subscription.
        NoOwner = "no_owner",
    }
}

/// One thing that a delivery waits for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Wait {
    /// What kind of thing.
    #[serde(rename = "for")]
    pub kind: WaitKind,
    /// Until when.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "clock::maybe_millis")]
    pub until: Option<Timestamp>,
    /// How many are before it in the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ahead: Option<usize>,
    /// More about it: who paused it, which fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl Wait {
    pub(crate) fn of(kind: WaitKind) -> Self {
        Self { kind, until: None, ahead: None, note: None }
    }

    pub(crate) fn until(kind: WaitKind, until: Timestamp) -> Self {
        Self { until: Some(until), ..Self::of(kind) }
    }

    pub(crate) fn noted(kind: WaitKind, note: impl Into<String>) -> Self {
        Self { note: Some(note.into()), ..Self::of(kind) }
    }
}

/// One attempt, with all that the evidence has of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShownAttempt {
    /// Its number, from 1.
    pub attempt: u32,
    /// When it began.
    #[serde(with = "clock::millis")]
    pub time: Timestamp,
    /// Whether it was a replay.
    #[serde(default)]
    pub replay: bool,
    /// Who asked for the replay.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// What was sent; absent where its evidence has rotated away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<ShownRequest>,
    /// The answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<ShownResponse>,
    /// Why there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ShownError>,
    /// Duration in milliseconds.
    pub latency_ms: f64,
    /// Whether it was sent a second time at once, because a connection had gone stale.
    #[serde(default)]
    pub resent: bool,
    /// `delivered`, `retry`, `failed`, `dry_run` or `sample`; absent where its evidence has rotated
    /// away.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// When the next attempt was due.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "clock::maybe_millis")]
    pub next_attempt_at: Option<Timestamp>,
}

/// What was sent, without secrets.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShownRequest {
    /// The method.
    #[serde(default = "post")]
    pub method: String,
    /// Scheme, host, port and a short hash of the URL.
    pub url: String,
    /// Names and values.
    pub headers: Map<String, Value>,
    /// SHA-256 of the body, in hex.
    pub body_sha256: String,
    /// The body's size in bytes.
    pub body_bytes: usize,
}

fn post() -> String {
    "POST".to_owned()
}

/// The answer to an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShownResponse {
    /// HTTP status.
    pub status: u16,
    /// Selected headers.
    #[serde(default)]
    pub headers: Map<String, Value>,
    /// The body's start, made printable.
    #[serde(default)]
    pub body: String,
}

/// Why an attempt had no answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ShownError {
    /// The class of the failure.
    pub class: String,
    /// The failure in words.
    pub message: String,
}

/// What a runtime knows of an unfinished delivery.
pub(crate) type Unended = (Listed, Vec<Wait>);

/// All that there is of a delivery.
pub(crate) struct Traces {
    /// What the spool has.
    pub(crate) kept: Option<Kept>,
    pub(crate) letter: Option<DeadLetter>,
    /// The evidence that may tell of it.
    pub(crate) evidence: Vec<Part>,
}

impl Shown {
    /// Reads a delivery of a SPEC. `unended` is what the runtime says of it; without one
    /// (`is_at_rest`) the spool's files say whether it is unfinished. `None` if nothing knows it.
    ///
    /// # Errors
    /// The files cannot be listed.
    pub(crate) fn read(
        (spool_dir, evidence_dir): (&Path, &Path),
        (spec, id): (&SpecId, DeliveryId),
        want_body: bool,
        unended: Option<Unended>,
        is_at_rest: bool,
    ) -> io::Result<Option<Self>> {
        let kept = spool::kept(spool_dir, spec, id)?;
        let letter = read_dead_letter(&dead_letter_dir(spool_dir, spec), id).ok();
        let evidence = evidence_parts(evidence_dir, Some(spec))?;
        let unended = match unended {
            Some(unended) => Some(unended),
            None if is_at_rest && letter.is_none() => kept
                .as_ref()
                .filter(|kept| !kept.is_finished)
                .map(|kept| at_rest(spool_dir, kept))
                .transpose()?,
            None => None,
        };
        Ok(Self::of((spec, id), Traces { kept, letter, evidence }, want_body, unended))
    }

    /// A delivery of a SPEC, by what there is of it. `None` if nothing knows it.
    pub(crate) fn of(
        (spec, id): (&SpecId, DeliveryId),
        Traces { kept, letter, evidence }: Traces,
        want_body: bool,
        unended: Option<Unended>,
    ) -> Option<Self> {
        let told = Told::of(&evidence, id);
        let (mut delivery, waits) = match unended {
            Some(unended) => unended,
            None => (ended(spec, letter.as_ref(), &told, kept.as_ref())?, Vec::new()),
        };
        let mut attempts = told.attempts;
        let shown: BTreeSet<u32> = attempts.iter().map(|one| one.attempt).collect();
        let summaries = letter.as_ref().map(|letter| &letter.attempts);
        let summaries = summaries.or(kept.as_ref().map(|kept| &kept.attempts)).into_iter().flatten();
        let room = MAX_SHOWN.saturating_sub(attempts.len());
        let others: Vec<_> = summaries.filter(|one| !shown.contains(&one.attempt)).collect();
        // Those that did not fit are among them.
        let earlier = told.earlier.max(others.len().saturating_sub(room));
        if told.earlier == 0 {
            attempts.extend(others.into_iter().rev().take(room).map(summarised));
        }
        attempts.sort_by_key(|one| (one.time, one.attempt));
        if let Some(last) = attempts.last() {
            delivery.last_latency_ms = delivery.last_latency_ms.or(Some(last.latency_ms));
        }
        let tried = kept.as_ref().and_then(|kept| kept.attempts.last());
        if let Some(last) = tried.filter(|_| delivery.last_error.is_none() && !waits.is_empty()) {
            delivery.last_status = last.status;
            delivery.last_error = Some(last.in_words());
        }
        let payload = kept.as_ref().map(|kept| kept.payload.clone());
        let body =
            kept.as_ref().map(|kept| kept.body.clone()).or_else(|| letter.as_ref().map(DeadLetter::payload));
        let facts = facts_in(payload.or_else(|| body.clone()).as_deref());
        let is_dead = matches!(delivery.state, DeliveryState::DeadLetter | DeliveryState::Dropped);
        let can_replay = letter.as_ref().is_some_and(DeadLetter::has_payload);
        let ended_at = match (&told.end, &letter) {
            _ if !waits.is_empty() => None,
            (Some(end), _) if delivery.state == end.state.into() => Some(end.time),
            (_, Some(letter)) => Some(letter.dead_at),
            _ => None,
        };
        Some(Self {
            stage: facts.0,
            status: facts.1,
            format: letter.as_ref().map(|one| one.format).or(kept.as_ref().map(|kept| kept.delivery.format)),
            ended_at,
            user: told.end.filter(|_| delivery.state == DeliveryState::Discarded).and_then(|end| end.user),
            command: (is_dead && can_replay).then(|| format!("spec-notify replay {id}")).or_else(|| {
                let paused = waits.iter().any(|wait| wait.kind == WaitKind::Paused);
                paused.then(|| format!("spec-notify resume {}", delivery.subscription))
            }),
            delivery,
            waits,
            attempts,
            earlier,
            body: body.filter(|_| want_body).and_then(|body| serde_json::from_slice(&body).ok()),
        })
    }
}

/// An unfinished delivery that no runtime was asked about: who sends it, or why nobody does, and
/// what else it waits for.
pub(crate) fn pending(kept: &Kept, sender: Wait, pause: Option<&Pause>) -> Unended {
    let attempts = kept.attempts.last().map_or(0, |last| last.attempt);
    let mut listed =
        Listed::unfinished(&kept.delivery, DeliveryState::Pending, attempts, kept.next_attempt_at);
    if let Some(last) = kept.attempts.last() {
        listed.last_status = last.status;
        listed.last_error = Some(last.in_words());
        listed.last_latency_ms = Some(last.latency_ms);
    }
    let mut waits = vec![sender];
    if let Some(pause) = pause {
        listed.paused = true;
        waits.push(Wait::noted(WaitKind::Paused, pause.by.clone()));
    }
    if let Some(at) = kept.next_attempt_at.filter(|at| *at > clock::now()) {
        waits.push(Wait::until(WaitKind::Backoff, at));
    }
    (listed, waits)
}

/// An unfinished delivery, as the files have it.
fn at_rest(spool_dir: &Path, kept: &Kept) -> io::Result<Unended> {
    let pauses = read_pauses(spool_dir).map_err(io::Error::other)?;
    Ok(pending(kept, Wait::of(WaitKind::NoRuntime), pauses.get(&kept.delivery.subscription)))
}

/// A delivery that has ended: its dead letter, else its newest end in the evidence, else what the
/// spool still has.
fn ended(spec: &SpecId, letter: Option<&DeadLetter>, told: &Told, kept: Option<&Kept>) -> Option<Listed> {
    if let Some(letter) = letter {
        return Some(Listed::of_letter(letter));
    }
    if let Some(end) = &told.end {
        return Some(Listed::of_end(end.clone(), spec));
    }
    let kept = kept.filter(|kept| !kept.is_finished)?;
    let attempts = kept.attempts.last().map_or(0, |last| last.attempt);
    Some(Listed::unfinished(&kept.delivery, DeliveryState::Pending, attempts, kept.next_attempt_at))
}

/// The stage and the status that a payload tells of.
fn facts_in(payload: Option<&[u8]>) -> (Option<String>, Option<String>) {
    #[derive(Deserialize)]
    struct Payload {
        event: Envelope,
    }
    #[derive(Deserialize)]
    struct Envelope {
        stage: Option<String>,
        status: Option<String>,
    }
    let read = payload.and_then(|payload| serde_json::from_slice::<Payload>(payload).ok());
    read.map_or((None, None), |payload| (payload.event.stage, payload.event.status))
}
