//! `spec-notify baseline`: takes what the sources hold now as known, so that only what ends from
//! here on is told.

use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::ask::PATIENCE;
use super::render::{Screen, Tone};
use super::{Exit, Failure, Global, load, take};
use crate::ask::ReadStatus;
use crate::config::Config;
use crate::control::{Client, ClientError};
use crate::inspect::{RuntimeStatus, SourcesStatus, is_zero};
use crate::spool::{Lock, OpenError};
use crate::watch::{Known, Waiting};

pub(super) const AFTER_HELP: &str = "\
Example, as the first and the last step of a CI job:
  spec-notify baseline
  ...
  spec-notify drain --timeout 120

Events in the inbox and pending deliveries stay as they are.

Exit code 1 if something cannot be read, or if the runtime that owns the spool does not watch.";

/// Interval between looks at a spool that another process owns.
const POLL: Duration = Duration::from_millis(50);

/// How long another process may own the spool without watching: commands such as `test` own it for
/// a moment.
const UNWATCHED: Duration = Duration::from_secs(5);

/// How long a runtime that watches may take for its own baseline.
const ITS_BASELINE: Duration = Duration::from_secs(60);

/// The output of `baseline --json`.
#[derive(Debug, Default, Serialize)]
struct Answer {
    outcome: Outcome,
    /// How many stages and tasks were taken as known that would have been told.
    stages: usize,
    tasks: usize,
    /// Workflow runs of which something was not told.
    #[serde(skip_serializing_if = "is_zero")]
    runs: usize,
    /// Whether nothing was watched here before.
    first: bool,
    /// What could not be read.
    unread: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// What the sources hold is known.
    Taken,
    /// A runtime watches the repo: it has its baseline, and tells what is not told yet.
    Watched,
    /// Webhooks are off.
    #[default]
    Disabled,
}

pub(super) fn run(global: &Global, screen: &mut Screen) -> Result<Exit, Failure> {
    // Nothing is sent here: the secrets may be missing.
    let loaded = load(global, false)?;
    let switch = loaded.switch.clone();
    let config = take(loaded, screen)?;
    if !config.enabled {
        screen.note(format_args!("no baseline taken: {switch}"));
        if screen.is_json() {
            screen.value(&Answer::default());
        }
        return Ok(Exit::Done);
    }
    match own(&config)? {
        Owner::Watches(runtime) => {
            let what = "what ended before it began is known, and what ends from now on is sent";
            answer(&Answer { outcome: Outcome::Watched, ..Answer::default() }, screen, |screen| {
                screen.line(
                    Tone::Good,
                    format_args!("process {} watches this repo and has its baseline: {what}", runtime.pid),
                );
            });
            Ok(Exit::Done)
        }
        Owner::This(lock) => {
            let runs = Waiting::of(&config, None).runs;
            let known = Known::of(&config).map_err(Failure::failed)?;
            drop(lock);
            for trouble in &known.troubles {
                screen.warning(trouble);
            }
            let exit = if known.troubles.is_empty() { Exit::Done } else { Exit::Failed };
            let counts = SourcesStatus {
                stages: known.stages,
                tasks: known.tasks,
                runs,
                partial: false,
                baseline: known.is_first,
            };
            let Known { stages, tasks, is_first: first, troubles: unread, .. } = known;
            answer(
                &Answer { outcome: Outcome::Taken, stages, tasks, runs, first, unread },
                screen,
                |screen| {
                    let text = match counts.is_something() {
                        true => format!("baseline taken: what is here already is not sent: {counts}"),
                        false => "baseline taken: the repo holds nothing new".to_owned(),
                    };
                    screen.line(Tone::Good, text);
                },
            );
            Ok(exit)
        }
    }
}

fn answer(answer: &Answer, screen: &mut Screen, for_people: impl FnOnce(&mut Screen)) {
    if screen.is_json() { screen.value(answer) } else { for_people(screen) }
}

/// Who writes down what is known.
enum Owner {
    /// This process, as long as it holds the lock.
    This(Lock),
    /// A runtime that watches.
    Watches(RuntimeStatus),
}

/// Owns the spool, unless a runtime that watches does.
fn own(config: &Config) -> Result<Owner, Failure> {
    let began = Instant::now();
    loop {
        match Lock::own(&config.spool_dir) {
            Ok(lock) => return Ok(Owner::This(lock)),
            Err(OpenError::Locked(_)) => {}
            Err(error) => return Err(Failure::failed(error)),
        }
        match runtime(config) {
            Ok(Some(runtime)) if runtime.watches => {
                // It watches from its start on; the first time, what it finds then is not known at
                // once.
                if Known::is_written(config) {
                    return Ok(Owner::Watches(runtime));
                }
                if began.elapsed() > ITS_BASELINE {
                    let what = "and has not taken its baseline yet: see its log";
                    return Err(Failure::failed(format!(
                        "process {} watches this repo, {what}",
                        runtime.pid
                    )));
                }
            }
            Ok(found) if began.elapsed() > UNWATCHED => {
                let who =
                    found.map_or("another process".to_owned(), |found| format!("process {}", found.pid));
                return Err(Failure::failed(format!(
                    "{who} owns the spool and does not watch the repo (serve --no-watch): start it without \
                     --no-watch, or end it and run spec-notify baseline again"
                )));
            }
            Err(error) if began.elapsed() > UNWATCHED => return Err(Failure::new(Exit::NoRuntime, error)),
            _ => {}
        }
        thread::park_timeout(POLL);
    }
}

/// The runtime that owns the spool.
fn runtime(config: &Config) -> Result<Option<RuntimeStatus>, ClientError> {
    let mut client = Client::connect(&config.spool_dir, PATIENCE)?;
    Ok(client.request(&ReadStatus {}, PATIENCE)?.runtime)
}
