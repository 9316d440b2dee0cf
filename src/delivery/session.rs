//! Decides which version of a session an event tells of. A host that retries under the same session
//! rewrites the same file: with another verdict it is a new event; the same verdict read again is
//! not.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::KeyDigest;
use crate::clock;
use crate::event::{Event, IdempotencyKey, KeyOrigin, Status};

/// Sessions whose verdict is remembered. Beyond it the one told first is forgotten, and a later
/// version of it counts as the known event.
pub(crate) const MAX_SESSIONS: usize = 10_000;

/// The version of a session that an event tells of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Version {
    /// The key of the session's first event, if this event has another key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    session: Option<IdempotencyKey>,
    /// Its timestamp: as given by the source, else the time it was written.
    stamp: String,
}

/// The verdict that was told of one version.
#[derive(Clone, Debug)]
struct Verdict {
    key: IdempotencyKey,
    status: Status,
    stamp: String,
    /// When the version was written.
    at: Timestamp,
}

/// The verdicts that were told of one session.
#[derive(Debug)]
struct Session {
    first: Verdict,
    /// `None` if the last verdict is the first.
    last: Option<Verdict>,
}

/// The sessions that were told; see the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    told: HashMap<KeyDigest, Session>,
    /// Sessions in the order in which they were first told.
    order: VecDeque<KeyDigest>,
}

impl Sessions {
    /// Gives an event the key of the version that it tells of. `is_known` says whether an event
    /// with a key was accepted. `None` if it tells of no session, or has no verdict.
    pub(super) fn resolve(
        &self,
        event: &mut Event,
        is_known: impl Fn(&IdempotencyKey) -> bool,
    ) -> Option<Version> {
        let (at, is_rewritten) = match event.event.key_origin {
            KeyOrigin::Source(at) => (at, false),
            KeyOrigin::Rewritten(at) => (at, true),
            KeyOrigin::Given | KeyOrigin::Made { .. } => return None,
        };
        event.numbered_step()?;
        let (status, stamp) = (event.event.status?, stamp_of(event, at));
        let session = event.event.idempotency_key.clone();
        let key = match self.told.get(&(&session).into()) {
            None if is_rewritten => session.of_version(&stamp),
            None => session.clone(),
            Some(told) => told.key_of(&session, status, &stamp, at, is_known),
        };
        let session = (key != session).then_some(session);
        event.event.idempotency_key = key;
        Some(Version { session, stamp })
    }

    /// The key of the last verdict of a session, if that is not the session's own.
    pub(super) fn last_of(&self, session: &IdempotencyKey) -> Option<IdempotencyKey> {
        Some(self.told.get(&session.into())?.last.as_ref()?.key.clone())
    }

    /// Remembers a version that is told now, or was told before this start.
    pub(super) fn tell(&mut self, key: &IdempotencyKey, version: &Version, status: Status, at: Timestamp) {
        let digest = KeyDigest::from(version.session.as_ref().unwrap_or(key));
        let verdict = Verdict { key: key.clone(), status, stamp: version.stamp.clone(), at };
        match self.told.get_mut(&digest) {
            // A version that arrives late does not replace a later one.
            Some(told) if at >= told.last().at && *key != told.last().key => told.last = Some(verdict),
            Some(_) => {}
            None => {
                if self.order.len() >= MAX_SESSIONS
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.told.remove(&oldest);
                }
                self.order.push_back(digest);
                self.told.insert(digest, Session { first: verdict, last: None });
            }
        }
    }
}

impl Session {
    fn last(&self) -> &Verdict {
        self.last.as_ref().unwrap_or(&self.first)
    }

    fn key_of(
        &self,
        session: &IdempotencyKey,
        status: Status,
        stamp: &str,
        at: Timestamp,
        is_known: impl Fn(&IdempotencyKey) -> bool,
    ) -> IdempotencyKey {
        let last = self.last();
        if status == last.status {
            return last.key.clone();
        }
        // A host may keep the same timestamp: then the time the file was written distinguishes its
        // versions.
        let is_later = stamp == last.stamp && at > last.at;
        if !is_later && status == self.first.status && stamp == self.first.stamp {
            return self.first.key.clone();
        }
        let key = session.of_version(stamp);
        match is_later && (key == last.key || is_known(&key)) {
            true => session.of_version(&clock::rfc3339(at)),
            false => key,
        }
    }
}

/// The timestamp of a version: the source's own if it is a valid time, else `at`.
fn stamp_of(event: &Event, at: Timestamp) -> String {
    let said = event.telemetry.as_ref().and_then(|fields| fields.get("timestamp")?.as_str());
    let ended = event.pipeline.as_ref().and_then(|pipeline| pipeline.completed_at.as_deref());
    let mut stamps = [said, ended].into_iter().flatten();
    let stamp = stamps.find(|stamp| stamp.len() <= 64 && stamp.parse::<Timestamp>().is_ok());
    stamp.map_or_else(|| clock::rfc3339(at), str::to_owned)
}
