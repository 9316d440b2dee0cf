//! Decides which event an event without its own identity is: a new one, or one that was just told.
//! A script that emits by flags gives neither session nor key, and the watcher may tell of the same
//! stage shortly before or after.
//!
//! The rule: an event without session or key is a new event of its step (a stage, the pipeline, a
//! task), unless within a [`WINDOW`] before it the last event of the step said the same, or a
//! source told of it. A source's event is the same as an event without an identity that said so
//! within a [`WINDOW`]; each of those is matched once. Order is by when events were made, not when
//! they came, so a repeated or late hand-over gives the same result.

use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::KeyDigest;
use super::session::{Sessions, Version};
use crate::event::{Event, EventKind, IdempotencyKey, KeyOrigin, SpecId, Status};

/// Greatest distance in time between two reports of one event.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// Events of one step that are remembered, and repeats remembered for each. Beyond that, an event
/// within a minute counts as new.
const MAX_RECENT: usize = 16;
const MAX_NONCES: usize = 16;

/// Steps that are remembered; beyond it, the half that was told longest ago is forgotten.
const MAX_STEPS: usize = 1024;

/// What was told of a step, as stored in the spool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    /// `plan`, `pipeline` or `task:<id>`.
    step: String,
    at: Timestamp,
    #[serde(default)]
    origin: KeyOrigin,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    attempt: Option<u32>,
    /// Digest of the content of an event without an identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    says: Option<KeyDigest>,
    /// The version of its session, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<Version>,
    /// The event that this source's event repeats, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) same_as: Option<IdempotencyKey>,
}

/// An event that was told lately.
#[derive(Debug)]
struct Recent {
    key: IdempotencyKey,
    told: Told,
    /// The source's event that repeated this one, which had no identity.
    met_by: Option<IdempotencyKey>,
    /// Nonces of the events without an identity that were found to be this one, its own included.
    nonces: Vec<u64>,
}

/// The events of one step that were told lately.
#[derive(Debug, Default)]
struct Step {
    recent: Vec<Recent>,
    /// The last number used in a made key.
    last_number: u32,
}

/// Which event an event is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// A new event, or one whose key is already known.
    Own(Option<Told>),
    /// A source's repeat of an event told without an identity: remembered as known, and not sent.
    Known(Told),
}

/// The steps and sessions that were told; see the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Identities {
    steps: HashMap<(SpecId, String), Step>,
    sessions: Sessions,
}

impl Identities {
    /// Decides which event this is, which arrived at `now`, and gives it that event's key.
    /// `is_known` says whether an event with a key was accepted.
    pub(crate) fn resolve(
        &mut self,
        event: &mut Event,
        now: Timestamp,
        is_known: impl Fn(&IdempotencyKey) -> bool,
    ) -> Identity {
        let version = self.sessions.resolve(event, &is_known);
        let origin = std::mem::take(&mut event.event.key_origin);
        let Some(name) = step_of(event) else { return Identity::Own(None) };
        self.bound();
        let step = self.steps.entry((event.spec.id.clone(), name.clone())).or_default();
        let mut told = Told { version, ..Told::of(event, name, origin, now) };
        match origin {
            KeyOrigin::Given => {}
            // The source was read once more.
            KeyOrigin::Source(_) | KeyOrigin::Rewritten(_) if is_known(&event.event.idempotency_key) => {
                return Identity::Own(None);
            }
            KeyOrigin::Source(_) | KeyOrigin::Rewritten(_) => {
                let key = &event.event.idempotency_key;
                told.remember_version(key, &mut self.sessions);
                if let Some(met) = step.counterpart_of(key, &told).filter(|recent| is_known(&recent.key)) {
                    met.met_by = Some(key.clone());
                    told.same_as = Some(met.key.clone());
                    return Identity::Known(told);
                }
            }
            KeyOrigin::Made { nonce, .. } => match step.said_before(&told, nonce) {
                Some(said) => event.event.idempotency_key = said,
                None => step.make_key(event, &is_known),
            },
        }
        step.add(event.event.idempotency_key.clone(), told.clone());
        Identity::Own(Some(told))
    }

    /// The key under which the last verdict of the session with this key was told, if another.
    pub(crate) fn last_version(&self, session: &IdempotencyKey) -> Option<IdempotencyKey> {
        self.sessions.last_of(session)
    }

    /// The event whose acceptance has to finish before this source's event can be decided, if its
    /// acceptance is still in progress.
    pub(crate) fn waits_for(
        &mut self,
        event: &Event,
        is_under_way: impl Fn(&IdempotencyKey) -> bool,
    ) -> Option<IdempotencyKey> {
        let (KeyOrigin::Source(at) | KeyOrigin::Rewritten(at)) = event.event.key_origin else { return None };
        let name = step_of(event)?;
        let step = self.steps.get_mut(&(event.spec.id.clone(), name.clone()))?;
        let told = Told::of(event, name, event.event.key_origin, at);
        let met = step.counterpart_of(&event.event.idempotency_key, &told)?;
        is_under_way(&met.key).then(|| met.key.clone())
    }

    fn bound(&mut self) {
        if self.steps.len() < MAX_STEPS {
            return;
        }
        let mut newest: Vec<Timestamp> = self.steps.values().map(Step::newest).collect();
        newest.sort_unstable();
        let since = newest[newest.len() / 2];
        self.steps.retain(|_, step| step.newest() >= since && step.newest() > newest[0]);
    }

    /// Notes that a told event was counted as this attempt of its step.
    pub(crate) fn counted(
        &mut self,
        spec: &SpecId,
        key: &IdempotencyKey,
        told: &mut Told,
        attempt: Option<u32>,
    ) {
        // An event without an identity names its attempt itself, or leaves it open.
        if matches!(told.origin, KeyOrigin::Made { .. }) {
            return;
        }
        told.attempt = told.attempt.or(attempt);
        let step = self.steps.get_mut(&(spec.clone(), told.step.clone()));
        let recent = step.into_iter().flat_map(|step| &mut step.recent);
        for recent in recent.filter(|recent| recent.key == *key) {
            recent.told.attempt = told.attempt;
        }
    }

    /// Restores what was told before this start, from the spool.
    pub(crate) fn restore(&mut self, spec: &SpecId, key: IdempotencyKey, told: Told) {
        self.bound();
        told.remember_version(&key, &mut self.sessions);
        let step = self.steps.entry((spec.clone(), told.step.clone())).or_default();
        match &told.same_as {
            None => step.add(key, told),
            Some(same) => {
                if let Some(met) = step.recent.iter_mut().find(|recent| recent.key == *same) {
                    met.met_by = Some(key);
                }
            }
        }
    }
}

impl Step {
    fn newest(&self) -> Timestamp {
        self.recent.iter().map(|recent| recent.told.at).max().unwrap_or(Timestamp::MIN)
    }

    /// The event without an identity that the source's event with this key repeats.
    fn counterpart_of(&mut self, key: &IdempotencyKey, source: &Told) -> Option<&mut Recent> {
        self.recent.iter_mut().find(|recent| {
            matches!(recent.told.origin, KeyOrigin::Made { .. })
                && recent.met_by.as_ref().is_none_or(|met| met == key)
                && is_near(recent.told.at, source.at)
                && recent.told.may_be(source)
        })
    }

    /// The key of the event that an event without an identity repeats.
    fn said_before(&mut self, told: &Told, nonce: u64) -> Option<IdempotencyKey> {
        let before = self.recent.iter().enumerate().filter(|(_, recent)| recent.told.at <= told.at);
        let last = before.max_by_key(|(_, recent)| recent.told.at).map(|(at, _)| at);
        let is_said = |at: usize, recent: &Recent| {
            let earlier = &recent.told;
            is_near(earlier.at, told.at)
                && match earlier.origin {
                    KeyOrigin::Made { .. } => Some(at) == last && earlier.says == told.says,
                    KeyOrigin::Source(_) | KeyOrigin::Rewritten(_) => {
                        (Some(at) == last || recent.nonces.is_empty()) && told.may_be(earlier)
                    }
                    KeyOrigin::Given => Some(at) == last && told.may_be(earlier),
                }
        };
        let known = self.recent.iter().position(|recent| recent.nonces.contains(&nonce));
        let same = known.or_else(|| {
            let mut latest_first = self.recent.iter().enumerate().rev();
            latest_first.find(|(at, recent)| is_said(*at, recent)).map(|(at, _)| at)
        });
        let recent = &mut self.recent[same?];
        if !recent.nonces.contains(&nonce) && recent.nonces.len() < MAX_NONCES {
            recent.nonces.push(nonce);
        }
        Some(recent.key.clone())
    }

    /// Gives an event a key that no other event of its step has.
    fn make_key(&mut self, event: &mut Event, is_known: impl Fn(&IdempotencyKey) -> bool) {
        let Some((step, first)) = event.numbered_step() else { return };
        let key = |number| IdempotencyKey::of_step(&event.spec.id, &step, number, None);
        let taken =
            |key: &IdempotencyKey| is_known(key) || self.recent.iter().any(|recent| recent.key == *key);
        let mut number = first;
        if taken(&key(number)) {
            number = number.max(self.last_number.saturating_add(1));
            while taken(&key(number)) && number < u32::MAX {
                number += 1;
            }
        }
        self.last_number = self.last_number.max(number);
        event.event.idempotency_key = key(number);
    }

    fn add(&mut self, key: IdempotencyKey, told: Told) {
        // A repeated event, or one that was not accepted and comes again.
        if self.recent.iter().any(|recent| recent.key == key) {
            return;
        }
        if self.recent.len() >= MAX_RECENT {
            self.recent.remove(0);
        }
        let nonces = match told.origin {
            KeyOrigin::Made { nonce, .. } => vec![nonce],
            KeyOrigin::Given | KeyOrigin::Source(_) | KeyOrigin::Rewritten(_) => Vec::new(),
        };
        // Most steps are told of once, and a thousand are remembered.
        if self.recent.is_empty() {
            self.recent.reserve_exact(1);
        }
        self.recent.push(Recent { key, told, met_by: None, nonces });
    }
}

impl Told {
    fn of(event: &Event, step: String, origin: KeyOrigin, now: Timestamp) -> Self {
        Self {
            step,
            at: match origin {
                KeyOrigin::Given => now,
                KeyOrigin::Source(at) | KeyOrigin::Rewritten(at) | KeyOrigin::Made { at, .. } => at,
            },
            origin,
            status: event.event.status,
            attempt: event.pipeline.as_ref().and_then(|pipeline| pipeline.attempt),
            says: matches!(origin, KeyOrigin::Made { .. }).then(|| says(event)),
            version: None,
            same_as: None,
        }
    }

    /// Whether it tells of a version of a session.
    pub(crate) fn is_of_a_session(&self) -> bool {
        self.version.is_some()
    }

    fn remember_version(&self, key: &IdempotencyKey, sessions: &mut Sessions) {
        if let (Some(version), Some(status)) = (&self.version, self.status) {
            sessions.tell(key, version, status, self.at);
        }
    }

    /// Whether this event, which may give few fields, does not contradict another.
    fn may_be(&self, other: &Self) -> bool {
        (self.status.is_none() || self.status == other.status)
            && (self.attempt.is_none() || other.attempt.is_none() || self.attempt == other.attempt)
    }
}

fn is_near(one: Timestamp, other: Timestamp) -> bool {
    one.duration_since(other).abs() <= WINDOW
}

/// The step that an event tells of and that several reporters may tell: a stage, a pipeline's end,
/// a task.
fn step_of(event: &Event) -> Option<String> {
    match event.event.kind {
        EventKind::TaskCompleted => Some(format!("task:{}", event.task.as_ref()?.id)),
        _ => event.numbered_step().map(|(step, _)| step),
    }
}

/// Digest of an event's content without its key, its time and what is added of its checkout, which
/// is the same for all events at a time.
fn says(event: &Event) -> KeyDigest {
    let mut event = event.clone();
    (event.event.time, event.event.sequence, event.spec.branch) = (None, None, None);
    // A source that says no more than that is none.
    event.source = event.source.filter(|source| !source.extra.is_empty());
    if let Some(source) = &mut event.source {
        (source.repo, source.commit, source.branch) = (None, None, None);
    }
    let mut said = serde_json::to_value(event).unwrap_or_default();
    if let Some(envelope) = said.get_mut("event").and_then(|part| part.as_object_mut()) {
        envelope.remove("idempotency_key");
        envelope.remove("key_origin");
    }
    // Sorted, so that the order in which the emitter wrote the fields does not matter.
    let sorted: BTreeMap<String, serde_json::Value> = serde_json::from_value(said).unwrap_or_default();
    KeyDigest::of(&serde_json::to_vec(&sorted).unwrap_or_default())
}
