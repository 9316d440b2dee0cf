//! `spec-notify emit`: reads events, hands them to the runtime, and reports the result of each.

mod lines;
mod told;
mod wait;
mod way;

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};
use std::vec;

use clap::Args;
use serde_json::json;

use super::ask::Source;
use super::render::{Screen, Tone};
use super::{Exit, Failure, Global, load, take_good_enough};
use crate::ask::{EmitOutcome, EmittedEvent};
use crate::config::{Config, Loaded};
use crate::event::{Event, EventKind, MAX_EVENT_BYTES, Stage, Status};
use crate::files::open::{self, Links};
use crate::sources::place::RepoPaths;
use crate::sources::stage::{self, Setting, StageRead};
use crate::sources::workflow_run;
pub(super) use lines::Lines;
use told::{Told, Wanted};
use wait::Awaited;
use way::{State, Way};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify emit --telemetry docs/…/commands/SPEC-KIT-065/spec-plan_….json
  some-program | spec-notify emit --event -
  spec-notify emit --type spec-auto.stage.completed --spec SPEC-KIT-065 \\
      --stage Plan --status success
  spec-notify emit --wait --timeout 60 --event release.json     exits with 0 once all have it

If no runtime answers in time, emit saves the event to disk for the next one.

Exit code 1 if an event could be neither accepted nor saved, or with --wait if a delivery did not arrive; \
2 if the input is no event.")]
pub(super) struct Options {
    /// Telemetry file of a guardrail script; repeat it for several files
    #[arg(long, value_name = "FILE", conflicts_with_all = ["event", "kind"])]
    telemetry: Vec<PathBuf>,
    /// File with one event as JSON, or with JSON Lines; `-` reads standard input
    #[arg(long, value_name = "FILE|-", conflicts_with = "kind")]
    event: Option<PathBuf>,
    /// Type of the event, such as spec-auto.stage.completed
    #[arg(long = "type", value_name = "TYPE", requires = "spec")]
    kind: Option<EventKind>,
    /// Id of the SPEC
    #[arg(long, value_name = "SPEC", requires = "kind")]
    spec: Option<String>,
    /// Stage: Plan, Tasks, Implement, Validate, Audit or Unlock, or a stage of GitHub Spec Kit
    #[arg(long, requires = "kind")]
    stage: Option<Stage>,
    /// Status: success, failure or halt
    #[arg(long, requires = "kind")]
    status: Option<Status>,
    /// Reason for the status; repeat it for several reasons
    #[arg(long, value_name = "TEXT", requires = "kind")]
    reason: Vec<String>,
    /// Attempt of the stage, from 1
    #[arg(long, value_name = "N", requires = "kind", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// Session of the run; it becomes part of the idempotency key
    #[arg(long, requires = "kind")]
    session: Option<String>,
    /// Id of the task
    #[arg(long, requires = "kind")]
    task_id: Option<String>,
    /// Title of the task
    #[arg(long, requires = "task_id")]
    task_title: Option<String>,
    /// Idempotency key, instead of one made from the other flags
    #[arg(long, requires = "kind")]
    key: Option<String>,
    /// For a hook of GitHub Spec Kit: if a workflow run is at the command of this stage, report a
    /// duplicate, because the run itself sends the event
    #[arg(long, requires = "stage")]
    hook: bool,
    /// Longest time for one event, in milliseconds
    #[arg(
        long,
        value_name = "MS",
        default_value_t = 2000,
        value_parser = clap::value_parser!(u64).range(1..=600_000)
    )]
    deadline: u64,
    /// Exit with 1 if an event is only in the inbox of this machine
    #[arg(long)]
    require_accepted: bool,
    /// Wait until the deliveries have ended; exit with 1 unless each is delivered or a dry run
    #[arg(long)]
    wait: bool,
    /// Longest time for --wait, in seconds
    #[arg(long, value_name = "SECONDS", requires = "wait", default_value_t = 600)]
    timeout: u64,
}

/// An event from the input, or why the input is not one.
pub(super) type Given = Result<Event, String>;

/// The one event of a file.
pub(super) fn only_event(file: &Path) -> Result<Given, Failure> {
    let mut events = Lines::open_one(file)?;
    let first = events.next();
    if events.next().is_some() {
        return Err(Failure::usage("one event at a time: this file holds several"));
    }
    Ok(first.unwrap_or_else(|| Err("there is no event in it".to_owned())))
}

/// Most events that are passed on together, and most of such groups that wait.
const TOGETHER: usize = 16;
const READ_AHEAD: usize = 2;

/// How long to wait for more events, so that they go into the inbox together.
const LINGER: Duration = Duration::from_millis(20);

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let start = Instant::now();
    // Only the runtime needs the secrets: a script that emits may not have them.
    let loaded = load(global, false)?;
    let switch = loaded.switch.clone();
    let config = match loaded {
        // A misspelled table name must neither fail a script nor switch its webhooks off
        // silently.
        Loaded { only_misnamed: true, salvaged: Some(config), errors, .. } => {
            errors.iter().for_each(|error| screen.warning(error));
            config
        }
        loaded => take_good_enough(loaded, screen)?,
    };
    if !config.enabled {
        screen.note(format_args!("nothing emitted: {switch}"));
        if screen.is_json() {
            for event in given(options, &config).into_iter().flatten() {
                let event = event.as_ref().ok().map(EmittedEvent::of);
                screen.value(&json!({"outcome": EmitOutcome::Disabled, "event": event, "deliveries": []}));
            }
        }
        return Ok(Exit::Done);
    }
    if let Some(event) = told_by_its_run(options, &config) {
        if screen.is_json() {
            screen.value(&json!({"outcome": EmitOutcome::Duplicate, "event": event, "deliveries": []}));
        } else {
            let what = "a workflow run is at this command, and sends the event itself";
            let text = format!("duplicate: {} {} ({what})", event.kind, event.idempotency_key);
            screen.line(Tone::Faint, text);
        }
        return Ok(Exit::Done);
    }
    let mut input = match &options.event {
        Some(path) => Input::coming(Lines::open(path)?),
        None => Input::Ready(given(options, &config)?),
    };
    let mut way = Way::new(&config, Duration::from_millis(options.deadline));
    let awaited = options.wait.then(|| Awaited::new(config.fleet.is_some()));
    let wanted = Wanted { accepted: options.require_accepted, fleet: config.fleet.is_some() };
    let mut told = Told::new(screen, options.event.is_some(), awaited, wanted);
    // The deadline of an event from arguments begins with the command, that of a line when it is
    // read.
    let mut since = Some(start).filter(|_| options.event.is_none());
    loop {
        let next = match way.state() {
            State::Idle => input.next(),
            State::Waits => input.next_within(Duration::ZERO),
            State::Gathers => input.next_within(LINGER),
        };
        match next {
            Next::Given(given) => way.take(*given, since.take().unwrap_or_else(Instant::now)),
            Next::NotYet => way.go_on(),
            Next::End if matches!(way.state(), State::Idle) => break,
            Next::End => way.go_on(),
        }
        while let Some(handed) = way.next() {
            told.tell(handed);
        }
    }
    let (exit, awaited) = told.end();
    let Some(awaited) = awaited else { return Ok(exit) };
    let mut source = Source::find(global, screen)?;
    let waited = awaited.wait(&mut source, Duration::from_secs(options.timeout), screen)?;
    Ok(exit.max(waited))
}

/// The event of a hook whose stage a workflow run tells.
fn told_by_its_run(options: &Options, config: &Config) -> Option<EmittedEvent> {
    let (kind, stage) = options.kind.zip(options.stage.filter(|_| options.hook))?;
    // What is no event is refused as ever.
    let event = from_flags(options, kind).ok()?;
    workflow_run::now::stands_at(&folders_here(config), stage).then(|| EmittedEvent::of(&event))
}

/// The folder that holds sources and in which this command runs: another one's runs tell nothing of
/// it. All of them where it runs in none.
fn folders_here(config: &Config) -> Vec<PathBuf> {
    let real = |path: &Path| path.canonicalize().ok();
    let here = std::env::current_dir().ok().and_then(|here| real(&here));
    let is_above =
        |folder: &&PathBuf| here.as_ref().zip(real(folder)).is_some_and(|(here, it)| here.starts_with(it));
    let inner = config.source_roots.iter().filter(is_above).max_by_key(|folder| folder.as_os_str().len());
    inner.map_or_else(|| config.source_roots.to_vec(), |folder| vec![folder.clone()])
}

/// The source of events.
enum Input {
    /// Events that can be read without waiting.
    Ready(Box<dyn Iterator<Item = Given>>),
    /// Events that arrive over time: another thread waits for them.
    Coming { groups: mpsc::Receiver<Vec<Given>>, here: vec::IntoIter<Given> },
}

enum Next {
    Given(Box<Given>),
    NotYet,
    End,
}

impl Next {
    fn of(given: Given) -> Self {
        Self::Given(Box::new(given))
    }
}

impl Input {
    /// Those that are there already come together: each group wakes a thread.
    fn coming(mut lines: Lines) -> Self {
        let (pass, groups) = mpsc::sync_channel(READ_AHEAD);
        thread::spawn(move || {
            while let Some(first) = lines.next() {
                let mut group = vec![first];
                while group.len() < TOGETHER && lines.is_ready() {
                    group.extend(lines.next());
                }
                if pass.send(group).is_err() {
                    return;
                }
            }
        });
        Self::Coming { groups, here: Vec::new().into_iter() }
    }

    fn next(&mut self) -> Next {
        self.next_of(|groups| groups.recv().map_err(RecvTimeoutError::from))
    }

    fn next_within(&mut self, patience: Duration) -> Next {
        self.next_of(|groups| groups.recv_timeout(patience))
    }

    fn next_of(
        &mut self,
        wait: impl FnOnce(&mpsc::Receiver<Vec<Given>>) -> Result<Vec<Given>, RecvTimeoutError>,
    ) -> Next {
        let (groups, here) = match self {
            Self::Ready(given) => return given.next().map_or(Next::End, Next::of),
            Self::Coming { groups, here } => (groups, here),
        };
        if let Some(given) = here.next() {
            return Next::of(given);
        }
        match wait(groups) {
            Ok(group) => {
                *here = group.into_iter();
                here.next().map_or(Next::NotYet, Next::of)
            }
            Err(RecvTimeoutError::Timeout) => Next::NotYet,
            Err(RecvTimeoutError::Disconnected) => Next::End,
        }
    }
}

/// The events, in the order given.
fn given(options: &Options, config: &Config) -> Result<Box<dyn Iterator<Item = Given>>, Failure> {
    if let Some(kind) = options.kind {
        return Ok(Box::new(std::iter::once(from_flags(options, kind))));
    }
    if let Some(path) = &options.event {
        return Ok(Box::new(Lines::open(path)?));
    }
    if options.telemetry.is_empty() {
        return Err(Failure::usage(
            "nothing to emit: give --telemetry FILE, --event FILE|-, or --type TYPE --spec SPEC",
        ));
    }
    let (paths, config) = (options.telemetry.clone(), config.clone());
    let read = move |path: PathBuf| match read_telemetry(&path, &config) {
        Ok(StageRead { event, conflict, .. }) => std::iter::once(event).chain(conflict).map(Ok).collect(),
        Err(error) => vec![Err(error)],
    };
    Ok(Box::new(paths.into_iter().flat_map(read)))
}

pub(super) fn read_telemetry(path: &Path, config: &Config) -> Result<StageRead, String> {
    let absolute = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // Bounded, so that a file of gigabytes does not slow down a guardrail.
    let bytes = open::start(&absolute, Links::Followed, MAX_EVENT_BYTES as u64 + 1)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let paths = RepoPaths::of(config);
    let setting = Setting::of_files(paths, config.stage_ends_with);
    stage::read(&absolute, &bytes, &setting).map_err(|error| error.to_string())
}

fn from_flags(options: &Options, kind: EventKind) -> Given {
    let mut document = json!({
        "event": {"type": kind, "status": options.status, "stage": options.stage, "reasons": options.reason},
        "spec": {"id": options.spec},
    });
    if let Some(key) = &options.key {
        document["event"]["idempotency_key"] = key.as_str().into();
    }
    if let Some(attempt) = options.attempt {
        document["pipeline"] = json!({"attempt": attempt});
    }
    if let Some(session) = &options.session {
        document["telemetry"] = json!({"sessionId": session});
    }
    if let Some(id) = &options.task_id {
        document["task"] = json!({"id": id, "title": options.task_title, "status": "Done"});
    }
    Event::from_json(&document.to_string()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use std::io::{BufReader, Write as _};

    use super::*;

    const EVENT: &str =
        r#"{"event":{"type":"spec-auto.stage.completed","stage":"Plan"},"spec":{"id":"A-1"}}"#;

    /// What follows may be long in coming: nothing that is there waits for it.
    #[test]
    fn what_has_come_whole_is_passed_on_whatever_comes_after_it() {
        for (come, events) in [
            (format!("{EVENT}\n"), 1),
            (format!("{EVENT}\n\n"), 1),
            (format!("{EVENT}\n{EVENT}\n \n\n"), 2),
            (format!("{EVENT}\n\n{EVENT}\n{{\"event\":"), 2),
            (format!("{EVENT}\n{{broken\n{EVENT}\n"), 3),
            (format!("{EVENT}\n").repeat(3 * TOGETHER + 1), 3 * TOGETHER + 1),
        ] {
            let (reader, mut writer) = std::io::pipe().unwrap();
            writer.write_all(come.as_bytes()).unwrap();
            let mut input = Input::coming(Lines::new(BufReader::new(reader), String::new()));
            for _ in 0..events {
                assert!(matches!(input.next_within(Duration::from_secs(30)), Next::Given(_)), "{come:?}");
            }
            assert!(matches!(input.next_within(Duration::ZERO), Next::NotYet), "{come:?}");
            drop(writer);
        }
    }
}
