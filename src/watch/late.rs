//! A consensus file by itself: which told stage it belongs to, and whether it changes the verdict
//! of that stage. The same decision for the watcher, and for who only looks.

use std::path::Path;
use std::time::Duration;

use super::file::{age, relative, repo_paths, telemetry_in, with_setting};
use super::memory::Memory;
use super::settle::Stamp;
use crate::config::Config;
use crate::event::{Event, IdempotencyKey, SpecId, Status};
use crate::sources::consensus::{self, Named, Reached, folder_of_spec};
use crate::sources::stage::{self, Ended};

/// So young a file belongs to the run that was told last, where by its times it is of none: clocks
/// differ.
const FRESH: Duration = Duration::from_secs(60);

/// What a consensus file is to the stages that were told.
#[derive(Debug)]
pub(super) enum Late {
    /// It cannot be read, or says nothing.
    Unreadable,
    /// It belongs to a stage that is not told yet.
    Free,
    /// It belongs to the stage with this key, of which nothing else is to be told.
    Belongs(IdempotencyKey),
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
    /// Of a file as it is now; nothing is changed.
    pub(super) fn of(path: &Path, version: Stamp, config: &Config, memory: &Memory) -> Self {
        let Some(reached) = consensus::of_file(path) else { return Self::Unreadable };
        let Some((ended, key, status)) = told_stage(path, &reached, version, config, memory) else {
            return Self::Free;
        };
        if status == Some(Status::Halt) {
            return Self::Belongs(key);
        }
        let Ok(bytes) = telemetry_in(&ended.path) else { return Self::Belongs(key) };
        match stage::correction(&ended.path, &bytes, &key, &reached, &repo_paths(config)) {
            None => Self::Belongs(key),
            Some((event, conflict)) => Self::Corrects(Box::new(Correction {
                key,
                event,
                conflict,
                names_its_run: reached.run.is_some(),
            })),
        }
    }
}

/// The run of its stage that a consensus belongs to, where that was told: its telemetry file, its
/// key and its verdict.
fn told_stage(
    path: &Path,
    reached: &Reached,
    version: Stamp,
    config: &Config,
    memory: &Memory,
) -> Option<(Ended, IdempotencyKey, Option<Status>)> {
    let spec: SpecId = folder_of_spec(path)?.parse().ok()?;
    let stage = Named::of(path)?.stage;
    let mut ended = stage::ended(&spec, &repo_paths(config));
    ended.retain(|ended| ended.stage == stage);
    let runs =
        with_setting(config, memory, |setting| stage::runs(&ended.iter().collect::<Vec<_>>(), setting));
    let last = ended.len().checked_sub(1);
    let by_age = || last.filter(|_| runs.are_guardrail_first && age(version) < FRESH);
    let owner = consensus::owner(reached, &runs).or_else(by_age)?;
    let ended = ended.swap_remove(owner);
    let seen = memory.file(&relative(&ended.path, config))?;
    Some((ended, seen.key.clone()?, seen.status))
}
