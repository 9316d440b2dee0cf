//! What the watcher makes of one file, and why, in words: the same decisions as its own, for a
//! person who asks.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::file::{age, is_whole, relative, stage_in, stamp, telemetry_in};
use super::late::Late;
use super::memory::Memory;
use super::settle::LONG;
use super::standing::Standing;
use super::tree::{Kind, Tree};
use crate::config::Config;
use crate::event::{Envelope, Event};
use crate::sources::stage::Awaits;

/// What became of a file, or will.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// The watcher passes it over.
    PassedOver,
    /// Its event was told, or was known.
    Told,
    /// It was there at the very first start.
    Baseline,
    /// It is to be told.
    Waits,
    /// What was told of it is not to be had.
    Unknown,
}

/// The watcher's word on one file.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Opinion {
    /// Which source it is of; none where it is passed over.
    pub(crate) source: Option<&'static str>,
    /// What became of it, or will.
    pub(crate) state: State,
    /// The same for people, with the reason.
    pub(crate) why: String,
    /// What is told of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<Envelope>,
}

impl Opinion {
    fn passed_over(why: impl Into<String>) -> Self {
        Self { source: None, state: State::PassedOver, why: why.into(), event: None }
    }

    /// Of a file as it is now. Nothing is changed.
    pub(crate) fn of(path: &Path, config: &Config) -> Self {
        let path = in_the_tree(path, config);
        let tree = Tree::of(config);
        let guardrail = match tree.kind(&path) {
            None => return Self::passed_over(tree.why_not(&path)),
            Some(kind @ Kind::Tasks) => {
                let why = "each task that becomes Done is sent; it is no telemetry";
                return Self {
                    source: Some(kind.source()),
                    state: State::Waits,
                    why: why.to_owned(),
                    event: None,
                };
            }
            Some(kind @ Kind::Costs) => {
                let why = "it is part of the run's end, and of the alert above alerts.cost_threshold_usd; it \
                           is no telemetry";
                return Self {
                    source: Some(kind.source()),
                    state: State::Waits,
                    why: why.to_owned(),
                    event: None,
                };
            }
            Some(Kind::WorkflowRun) => return Self::of_run(&path, config),
            Some(Kind::Consensus) => return Self::of_consensus(&path, config),
            Some(Kind::Telemetry(guardrail)) => guardrail,
        };
        let Some(version) = stamp(&path) else {
            return Self::passed_over("it is no file, or a symbolic link, which is not followed");
        };
        let bytes = match telemetry_in(&path) {
            Ok(bytes) => bytes,
            Err(error) => return Self::passed_over(format!("it cannot be read: {error}")),
        };
        let opened = Memory::open(&config.spool_dir);
        let nothing = Memory::default();
        let memory = opened.as_ref().map_or(&nothing, |(memory, _)| memory);
        let read = match stage_in(&path, &bytes, config, memory) {
            Ok(read) => read,
            Err(not) => return Self::passed_over(not.reason()),
        };
        let rests = age(version) >= LONG;
        let waits_for = match (rests || is_whole(&bytes), read.awaits) {
            (false, _) => Some("may still be being written: it is read once it is whole, or rests for 2 s"),
            (true, Awaits::Consensus) if age(version) < config.consensus_wait => {
                Some("waits for its consensus, up to consensus_wait_ms")
            }
            (true, Awaits::Synthesis) => Some(
                "waits for its synthesis, or for the next stage's guardrail, because stage_ends_with is \
                 consensus",
            ),
            _ => None,
        };
        let (state, why) = told(&path, &read.event, opened, waits_for, config);
        Self { source: Some(guardrail.name), state, why, event: Some(read.event.event) }
    }

    fn of_run(path: &Path, config: &Config) -> Self {
        let source = Some(Kind::WorkflowRun.source());
        let (Some(version), Ok((memory, _))) = (stamp(path), Memory::open(&config.spool_dir)) else {
            return Self::passed_over("it is no file, or a symbolic link, which is not followed");
        };
        let (state, why) = match memory.run(&relative(path, config)) {
            Some(seen) if seen.is_all_of(version) && seen.told.crc.is_none() => {
                (State::Baseline, "it existed at the first start; what comes later is sent".to_owned())
            }
            Some(seen) if seen.is_all_of(version) => {
                (State::Told, "all of it was sent; what comes later is sent as it comes".to_owned())
            }
            Some(seen) => {
                let (told, length) = (seen.told.at, version.0);
                (
                    State::Waits,
                    format!("it was sent up to byte {told} of {length}: the rest is sent as it comes"),
                )
            }
            None => (
                State::Waits,
                "it is the log of a workflow run: what its lines say is sent as they come".to_owned(),
            ),
        };
        Self { source, state, why, event: None }
    }

    fn of_consensus(path: &Path, config: &Config) -> Self {
        let source = Some(Kind::Consensus.source());
        let (Some(version), Ok((memory, _))) = (stamp(path), Memory::open(&config.spool_dir)) else {
            return Self::passed_over("it is no file, or a symbolic link, which is not followed");
        };
        let is_read = memory.file(&relative(path, config)).is_some_and(|seen| seen.version == Some(version));
        let (state, why, event) = match Late::of(path, version, config, &memory).0 {
            Late::Unreadable => return Self::passed_over("it is no JSON object of at most 1 MiB"),
            Late::Free => {
                (State::Waits, "it is part of its stage's event, which is still to come".to_owned(), None)
            }
            Late::Known(None) => {
                (State::Baseline, "it existed at the first look at such files".to_owned(), None)
            }
            Late::Known(Some(key)) | Late::Belongs { key, .. } => {
                (State::Told, format!("it belongs to {key}, which was sent"), None)
            }
            Late::Corrects(correction) if is_read => {
                (State::Told, format!("it belongs to {}, which was sent", correction.key), None)
            }
            Late::Corrects(correction) => (
                State::Waits,
                format!("it is a conflict of {}, which was sent before it: it is sent again", correction.key),
                Some(correction.event.event),
            ),
        };
        Self { source, state, why, event }
    }
}

/// What became of a telemetry file's event, as far as the memory says.
fn told(
    path: &Path,
    event: &Event,
    opened: io::Result<(Memory, bool)>,
    waits_for: Option<&str>,
    config: &Config,
) -> (State, String) {
    let (memory, is_first) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            return (State::Unknown, format!("spec-notify cannot see whether it was sent: {error}"));
        }
    };
    let Envelope { idempotency_key: key, status, .. } = &event.event;
    let next = "a serve that watches sends it at once; else the next serve sends it at its start";
    match Standing::of(memory.file(&relative(path, config)), key, *status, path) {
        Standing::Told => (State::Told, "it was sent already".to_owned()),
        Standing::Baseline => (
            State::Baseline,
            "it existed at the first start: it is part of the baseline and is not sent".to_owned(),
        ),
        _ if is_first => (
            State::Waits,
            "nothing was watched here yet: it becomes part of the baseline at the first serve, and is sent \
             only by serve --from-start"
                .to_owned(),
        ),
        Standing::New => (
            State::Waits,
            waits_for.map_or_else(|| format!("it is not sent yet: {next}"), |why| format!("it {why}")),
        ),
        Standing::Changed => (State::Waits, format!("it differs from what is recorded: {next}")),
        Standing::Rewritten => (State::Waits, format!("it was sent with another verdict: {next}")),
    }
}

/// The path by which the watcher finds a file, whichever way it was given: over `..`, or over a
/// link above the repo.
fn in_the_tree(path: &Path, config: &Config) -> PathBuf {
    let real = |path: &Path| path.canonicalize().ok();
    let found = || {
        // The file's own name stays: what a link is called is not what it points to.
        let given = real(path.parent()?)?.join(path.file_name()?);
        let moved = |root: &PathBuf| Some(root.join(given.strip_prefix(real(root)?).ok()?));
        [&config.evidence_dir, &config.repo].into_iter().find_map(moved)
    };
    found().unwrap_or_else(|| path.to_owned())
}
