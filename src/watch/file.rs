//! One watched file as it stands on disk: its version and its age, when its stage ended, what is
//! in it, and its name in the memory.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use jiff::Timestamp;

use super::lists::Lists;
use super::memory::Memory;
use super::settle::Stamp;
use crate::clock;
use crate::config::Config;
use crate::decode;
use crate::event::IdempotencyKey;
use crate::files::open::{self, Links};
use crate::sources::consensus::{self, Identity};
use crate::sources::done::TaskStates;
use crate::sources::outstanding::MAX_TASKS_BYTES;
use crate::sources::place::RepoPaths;
use crate::sources::stage::{self, Setting, StageRead};
use crate::sources::standpoint::Glance;
use crate::sources::tasks::TaskFile;
use crate::sources::telemetry::{self, MAX_TELEMETRY_BYTES, NotTelemetry};

/// The content of a telemetry file, and one byte more of one that is too large to be judged.
pub(super) fn telemetry_in(path: &Path) -> io::Result<Vec<u8>> {
    open::start(path, Links::Refused, MAX_TELEMETRY_BYTES as u64 + 1)
}

/// Whether nothing of a telemetry file is still to come, as far as its content says.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    bytes.len() > MAX_TELEMETRY_BYTES || decode::is_json(bytes)
}

/// What a telemetry file with this content tells of, beside what is remembered.
pub(super) fn stage_in(
    path: &Path,
    bytes: &[u8],
    config: &Config,
    memory: &Memory,
) -> Result<StageRead, NotTelemetry> {
    with_setting(config, memory, |setting| stage::read(path, bytes, setting))
}

/// Does something with what is remembered of the stages and their consensus.
pub(super) fn with_setting<T>(config: &Config, memory: &Memory, act: impl FnOnce(&Setting<'_>) -> T) -> T {
    let is_free = |file: &Path, identity: &Identity, key: &IdempotencyKey| {
        memory.agreed(file, identity).is_none_or(|agreed| agreed.is_free_for(key))
    };
    let told_with = |file: &Path| memory.file(&relative(file, config))?.reached;
    act(&Setting {
        repo: RepoPaths::of(config),
        ends_with: config.stage_ends_with,
        is_free: &is_free,
        told_with: &told_with,
    })
}

/// What the tasks of a file are now, and how many became Done since it was read last; `None` for
/// no file, and for one that is too large to be watched.
///
/// # Errors
/// It cannot be read; `WouldBlock` while git is writing in its repo.
pub(super) fn tasks_in(
    path: &Path,
    config: &Config,
    memory: &Memory,
    lists: &mut Lists,
) -> io::Result<Option<(TaskStates, usize)>> {
    if stamp(path).is_none() {
        return Ok(None);
    }
    let bytes = open::start(path, Links::Refused, MAX_TASKS_BYTES + 1)?;
    if bytes.len() as u64 > MAX_TASKS_BYTES {
        return Ok(None);
    }
    let (text, file) = (decode::text(&bytes), TaskFile::of(path, config));
    let mut states = memory.tasks(&relative(path, config)).cloned().unwrap_or_default();
    let rows = states.whole(file.rows(&text), &text);
    let glance = path.parent().and_then(Glance::at);
    let view = lists.view(path, &file, &text, &rows, &states, glance.as_ref());
    let busy = || io::Error::new(io::ErrorKind::WouldBlock, "git is writing in its repo");
    let became_done = states.apply(&rows, &view.ok_or_else(busy)?, (lists.now)());
    states.completes(&rows, &became_done);
    let tasks = became_done.len();
    Ok(Some((states, tasks)))
}

/// A path as it is remembered: relative to the repo, where it is in it.
pub(super) fn relative(path: &Path, config: &Config) -> String {
    path.strip_prefix(&config.repo).unwrap_or(path).to_string_lossy().into_owned()
}

/// A file's version; `None` for what is no file, a symbolic link included.
pub(super) fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::symlink_metadata(path).ok()?;
    if found.is_symlink() {
        log::debug!("{} is a symbolic link and is not followed", path.display());
    }
    let written = found.modified().ok()?.duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    found.is_file().then_some((found.len(), u64::try_from(written).unwrap_or(u64::MAX)))
}

/// How long ago a version was written, by the wall clock.
pub(super) fn age((_, written): Stamp) -> Duration {
    clock::age(UNIX_EPOCH + Duration::from_nanos(written)).unwrap_or_default()
}

/// What a file is read in order with: the other files of its SPEC, else those of its folder.
pub(super) fn group_of(path: &Path) -> PathBuf {
    let folder = path.parent().unwrap_or(path);
    let of_spec = consensus::folder_of_spec(path).map(Path::new);
    let of_spec = of_spec.or_else(|| telemetry::folder_of_spec(path).map(Path::new));
    of_spec.unwrap_or(folder).to_owned()
}

/// When a stage ended, in nanoseconds: by the session in the file's name, else by when it was
/// written.
pub(super) fn ended_at(path: &Path, (_, written): Stamp) -> i128 {
    let named = telemetry::named(path).and_then(|(_, named)| named.at);
    named.map_or_else(|| written.into(), Timestamp::as_nanosecond)
}
