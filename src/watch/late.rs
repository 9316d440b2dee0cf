//! A consensus file by itself: which told stage it belongs to, and whether it changes the verdict
//! of that stage. The same decision for the watcher, and for who only looks.

use std::path::Path;
use std::time::Duration;

use super::file::{age, relative, telemetry_in, with_setting};
use super::memory::{Agreed, Memory};
use super::settle::Stamp;
use crate::config::Config;
use crate::event::{Event, IdempotencyKey, SpecId, Status};
use crate::sources::consensus::{self, Identity, Named, Reached, folder_of_spec};
use crate::sources::place::RepoPaths;
use crate::sources::stage::{self, Ended};

/// So young a file belongs to the run that was told last, where by its times it is of none: clocks
/// differ.
const FRESH: Duration = Duration::from_secs(60);

/// What a consensus file is to the stages that were told.
#[derive(Debug)]
pub(super) enum Late {
    /// It cannot be read, or says nothing.
    Unreadable,
    /// What it says is known.
    Known(Option<IdempotencyKey>),
    /// It belongs to a stage that is not told yet.
    Free,
    /// It belongs to the stage with this key, of which nothing else is to be told.
    Belongs { key: IdempotencyKey, conflict: bool },
    /// It changes the verdict of the stage with this key.
    Corrects(Box<Correction>),
}

/// The stage again, and its conflict.
#[derive(Debug)]
pub(super) struct Correction {
    pub(super) key: IdempotencyKey,
    pub(super) event: Event,
    pub(super) conflict: Event,
    /// Which run of the agents it was is known: no verdict has to be waited for.
    pub(super) names_its_run: bool,
}

impl Late {
    /// Of a file as it is now, and what tells it from others; nothing is changed.
    pub(super) fn of(
        path: &Path,
        version: Stamp,
        config: &Config,
        memory: &Memory,
    ) -> (Self, Option<Identity>) {
        let Some(reached) = consensus::of_file(path) else { return (Self::Unreadable, None) };
        let identity = reached.files.first().map(|(_, identity)| identity.clone());
        let agreed = identity.as_ref().and_then(|identity| memory.agreed(path, identity));
        let is_news = agreed.is_none_or(|agreed| reached.is_conflict() && !agreed.conflict);
        let late = match agreed {
            Some(agreed) if !is_news || (agreed.baseline && agreed.key.is_none()) => {
                Self::Known(agreed.key.clone())
            }
            _ => Self::of_news(path, &reached, version, config, memory, agreed),
        };
        (late, identity)
    }

    fn of_news(
        path: &Path,
        reached: &Reached,
        version: Stamp,
        config: &Config,
        memory: &Memory,
        agreed: Option<&Agreed>,
    ) -> Self {
        let key = agreed.and_then(|agreed| agreed.key.as_ref());
        let Some(told) = told_stage(path, reached, version, config, memory, key) else {
            return Self::Free;
        };
        let Told { ended, key, status, is_followed } = told;
        let conflict = reached.is_conflict();
        if status == Some(Status::Halt) {
            return Self::Belongs { key, conflict };
        }
        let bytes = telemetry_in(&ended.path);
        let corrected = bytes
            .ok()
            .and_then(|bytes| stage::correction(&ended.path, &bytes, &key, reached, &RepoPaths::of(config)));
        match corrected {
            None => Self::Belongs { key, conflict },
            Some((mut event, conflict)) => {
                event.event.is_followed = is_followed;
                let names_its_run = reached.run.is_some();
                Self::Corrects(Box::new(Correction { key, event, conflict, names_its_run }))
            }
        }
    }
}

/// A run of a stage that was told.
struct Told {
    ended: Ended,
    key: IdempotencyKey,
    status: Option<Status>,
    /// A guardrail of its SPEC ended after it.
    is_followed: bool,
}

/// The run of its stage that a consensus belongs to, where that was told: the one with `known`, or
/// by the times.
fn told_stage(
    path: &Path,
    reached: &Reached,
    version: Stamp,
    config: &Config,
    memory: &Memory,
    known: Option<&IdempotencyKey>,
) -> Option<Told> {
    let spec: SpecId = folder_of_spec(path)?.parse().ok()?;
    let stage = Named::of(path)?.stage;
    let mut ended = stage::ended(&spec, &RepoPaths::of(config));
    let last_of_all = ended.last()?.at;
    ended.retain(|ended| ended.stage == stage);
    let seen = |ended: &Ended| memory.file(&relative(&ended.path, config));
    let owner = match known {
        Some(_) => ended.iter().rposition(|one| seen(one).and_then(|seen| seen.key.as_ref()) == known)?,
        None => {
            let of_stage: Vec<&Ended> = ended.iter().collect();
            let runs = with_setting(config, memory, |setting| stage::runs(&of_stage, setting));
            let last = ended.len().checked_sub(1);
            let by_age = || last.filter(|_| runs.are_guardrail_first && age(version) < FRESH);
            consensus::owner(reached, &runs).or_else(by_age)?
        }
    };
    let ended = ended.swap_remove(owner);
    let seen = seen(&ended)?;
    let (key, status) = (seen.key.clone()?, seen.status);
    let is_followed = last_of_all > ended.at;
    Some(Told { ended, key, status, is_followed })
}
