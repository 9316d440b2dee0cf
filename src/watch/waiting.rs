//! What the sources hold that no runtime has taken in: what the next start would tell of. Looks,
//! and changes nothing.

use std::io;
use std::path::Path;
use std::time::Instant;

use super::baseline::Unreadable;
use super::file::{relative, stage_in, stamp, tasks_in, telemetry_in};
use super::late::Late;
use super::lists::Lists;
use super::memory::Memory;
use super::runs;
use super::standing::Standing;
use super::tree::{Kind, Tree};
use crate::config::Config;
use crate::sources::stage::Awaits;

/// See the module's first lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Waiting {
    /// Stages that ended.
    pub(crate) stages: usize,
    /// Tasks that became Done.
    pub(crate) tasks: usize,
    /// Workflow runs of which something is to be told.
    pub(crate) runs: usize,
    /// Not everything was looked at: there may be more.
    pub(crate) is_partial: bool,
    /// Nothing was watched here yet: the next start takes all of it as known.
    pub(crate) is_first: bool,
    /// What cannot be looked at, and why.
    pub(crate) troubles: Vec<String>,
}

impl Waiting {
    /// Looks at a repo, no longer than `until`.
    pub(crate) fn of(config: &Config, until: Option<Instant>) -> Self {
        let mut waiting = Self::default();
        let memory = match Memory::open(&config.spool_dir) {
            Ok((memory, is_first)) => {
                waiting.is_first = is_first;
                memory
            }
            Err(error) => {
                waiting.troubles.push(format!("what the watcher has seen is not known: {error}"));
                return waiting;
            }
        };
        let (mut unreadable, mut lists) = (Unreadable::default(), Lists::new());
        let (is_first, tree) = (waiting.is_first, Tree::of(config));
        for (kind, path) in tree.files() {
            if !is_first && !memory.knows_source(&tree.source_of(kind, &path)) {
                // What it holds becomes its baseline at the next start.
                continue;
            }
            if until.is_some_and(|until| Instant::now() > until) {
                waiting.is_partial = true;
                break;
            }
            let looked = match kind {
                Kind::Telemetry(_) => {
                    stage_waits(&path, config, &memory).map(|waits| waiting.stages += usize::from(waits))
                }
                Kind::Consensus => {
                    waiting.stages += usize::from(correction_waits(&path, config, &memory));
                    Ok(())
                }
                // What it says is told once a run, or is part of the run's end.
                Kind::Costs => Ok(()),
                Kind::WorkflowRun => {
                    runs::untold(&path, config, &memory).map(|events| waiting.runs += usize::from(events > 0))
                }
                Kind::Tasks => match tasks_in(&path, config, &memory, &mut lists) {
                    Ok(tasks) => {
                        waiting.tasks += tasks.map_or(0, |(_, became_done)| became_done);
                        Ok(())
                    }
                    // While git writes there, what is read now is not what the next start finds.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
                    Err(error) => Err(error),
                },
            };
            if let Err(error) = looked {
                let name = relative(&path, config);
                let what = "is not sent before it can";
                unreadable.add(format!("{name} cannot be read, and {what}: {error}"));
            }
        }
        waiting.troubles.extend(unreadable.sentences());
        waiting
    }

    /// Whether a runtime that watches has something to take in.
    pub(crate) fn is_something(&self) -> bool {
        self.stages + self.tasks + self.runs > 0
    }
}

fn stage_waits(path: &Path, config: &Config, memory: &Memory) -> io::Result<bool> {
    let seen = memory.file(&relative(path, config));
    let Some(version) = stamp(path) else { return Ok(false) };
    if seen.is_some_and(|seen| seen.version == Some(version)) {
        return Ok(false);
    }
    let bytes = telemetry_in(path)?;
    Ok(stage_in(path, &bytes, config, memory).is_ok_and(|read| {
        let event = read.event.event;
        // What waits for its agents waits for nobody here.
        read.awaits != Awaits::Synthesis
            && !Standing::of(seen, &event.idempotency_key, event.status, path).is_known()
    }))
}

/// Whether a consensus changes the verdict of a stage that was told.
fn correction_waits(path: &Path, config: &Config, memory: &Memory) -> bool {
    let Some(version) = stamp(path) else { return false };
    let is_read = memory.file(&relative(path, config)).is_some_and(|seen| seen.version == Some(version));
    !is_read && matches!(Late::of(path, version, config, memory).0, Late::Corrects(_))
}
