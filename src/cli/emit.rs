//! `spec-notify emit`: reads events, hands them to the runtime, and says what became of each.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Map, Value, json};

use super::render::{Screen, Tone};
use super::{Exit, Failure, Global, OFF, load_good_enough};
use crate::actors::Receipt;
use crate::config::Config;
use crate::control::{Client, ClientError, Emitted, EmittedEvent, Outcome, Request};
use crate::event::{Event, EventKind, MAX_EVENT_BYTES, SpecId, Stage, Status};
use crate::intake::stage::{self, StageRead};
use crate::intake::telemetry::RepoPaths;
use crate::intake::{bounded, repo};
use crate::store::put_in_inbox;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify emit --telemetry docs/…/evidence/commands/SPEC-KIT-065/spec-plan_….json
  some-program | spec-notify emit --event -
  spec-notify emit --type spec-auto.stage.completed --spec SPEC-KIT-065 --stage Plan --status success")]
pub(super) struct Options {
    /// A telemetry file as the guardrail scripts write it; may be given several times
    #[arg(long, value_name = "FILE", conflicts_with_all = ["event", "kind"])]
    telemetry: Vec<PathBuf>,
    /// A file of one JSON object, or of JSON Lines, in the payload's shape; `-` is standard input
    #[arg(long, value_name = "FILE|-", conflicts_with = "kind")]
    event: Option<PathBuf>,
    /// The event's type, such as spec-auto.stage.completed
    #[arg(long = "type", value_name = "TYPE", requires = "spec")]
    kind: Option<EventKind>,
    /// The SPEC's id
    #[arg(long, value_name = "SPEC", requires = "kind")]
    spec: Option<SpecId>,
    /// Plan, Tasks, Implement, Validate, Audit or Unlock
    #[arg(long, requires = "kind")]
    stage: Option<Stage>,
    /// success, failure or halt
    #[arg(long, requires = "kind")]
    status: Option<Status>,
    /// Why the status is what it is; may be given several times
    #[arg(long, value_name = "TEXT", requires = "kind")]
    reason: Vec<String>,
    /// Which try of the stage this was, from 1
    #[arg(long, value_name = "N", requires = "kind", value_parser = clap::value_parser!(u32).range(1..))]
    attempt: Option<u32>,
    /// The session of the run: part of the idempotency key
    #[arg(long, requires = "kind")]
    session: Option<String>,
    /// The task's id
    #[arg(long, requires = "kind")]
    task_id: Option<String>,
    /// The task's title
    #[arg(long, requires = "task_id")]
    task_title: Option<String>,
    /// The idempotency key, instead of one made from the above
    #[arg(long, requires = "kind")]
    key: Option<String>,
    /// Longest this command may take, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    deadline: u64,
}

/// One event as it was given: ready, or why it is none.
pub(super) type Given = Result<Event, String>;

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let deadline = Instant::now() + Duration::from_millis(options.deadline);
    // The secrets are the runtime's affair: the script that emits may well not have them.
    let config = load_good_enough(global, screen)?;
    if !config.enabled {
        screen.note(format_args!("nothing emitted: {OFF}"));
        if screen.is_json() {
            let given = read(options, &config).unwrap_or_default();
            for event in given.iter().map(|event| event.as_ref().ok().map(EmittedEvent::of)) {
                screen.value(&json!({"outcome": Outcome::Disabled, "event": event, "deliveries": []}));
            }
        }
        return Ok(Exit::Done);
    }
    let given = read(options, &config)?;
    let emitted = hand_over(&config, given, deadline);
    let mut exit = Exit::Done;
    for (emitted, refused_as_event) in &emitted {
        if emitted.outcome == Outcome::Refused {
            exit = exit.max(if *refused_as_event { Exit::Usage } else { Exit::Failed });
        }
        if screen.is_json() {
            screen.value(emitted);
        } else {
            show(emitted, screen);
        }
    }
    Ok(exit)
}

/// Gathers the events, in the order given.
fn read(options: &Options, config: &Config) -> Result<Vec<Given>, Failure> {
    if let Some(kind) = options.kind {
        return Ok(vec![from_flags(options, kind)]);
    }
    if let Some(path) = &options.event {
        return read_events(path);
    }
    if options.telemetry.is_empty() {
        return Err(Failure::usage(
            "nothing to emit: give --telemetry FILE, --event FILE|-, or --type TYPE --spec SPEC",
        ));
    }
    let read = |path: &PathBuf| match read_telemetry(path, config) {
        Ok(StageRead { event, conflict, .. }) => std::iter::once(event).chain(conflict).map(Ok).collect(),
        Err(error) => vec![Err(error)],
    };
    Ok(options.telemetry.iter().flat_map(read).collect())
}

pub(super) fn read_telemetry(path: &Path, config: &Config) -> Result<StageRead, String> {
    let absolute = std::path::absolute(path).map_err(|error| format!("{}: {error}", path.display()))?;
    // A guardrail is not slowed by a file of gigabytes.
    let bytes = bounded::read(&absolute, MAX_EVENT_BYTES as u64 + 1)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let paths = RepoPaths { root: &config.repo, evidence_dir: &config.evidence_dir };
    stage::read(&absolute, &bytes, &paths).map_err(|error| error.to_string())
}

/// One JSON object, over several lines or not; else JSON Lines.
pub(super) fn read_events(path: &Path) -> Result<Vec<Given>, Failure> {
    let failed = |error: io::Error| Failure::usage(format!("cannot read {}: {error}", path.display()));
    let bytes = match path.to_str() {
        Some("-") => {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).map_err(failed)?;
            bytes
        }
        _ => std::fs::read(path).map_err(failed)?,
    };
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::usage(format!("{} is not UTF-8 text: it should hold JSON", path.display())))?;
    let lines: Vec<(usize, &str)> =
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).collect();
    if lines.is_empty() {
        return Err(Failure::usage(format!("{} is empty: it should hold a JSON object", path.display())));
    }
    let is_one =
        serde_json::from_str::<Value>(&text).is_ok() || !lines.iter().all(|(_, l)| l.starts_with('{'));
    if is_one || lines.len() == 1 {
        return Ok(vec![Event::from_json(&text).map_err(|error| format!("{}: {error}", path.display()))]);
    }
    let event = |(at, line): (usize, &str)| {
        Event::from_json(line).map_err(|error| format!("{} line {}: {error}", path.display(), at + 1))
    };
    Ok(lines.into_iter().map(event).collect())
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

/// One result of `emit`, and whether it was refused for what it is.
type Handed = (Emitted, bool);

/// Emits what is an event: through the running runtime, else into the inbox. A thread of its own does the work, so that
/// no runtime that hangs and no disk that stalls keeps us beyond the deadline.
fn hand_over(config: &Config, given: Vec<Given>, deadline: Instant) -> Vec<Handed> {
    let (results, done) = mpsc::sync_channel(given.len());
    let names: Vec<_> = given.iter().map(|event| event.as_ref().ok().map(EmittedEvent::of)).collect();
    let (spool_dir, repo) = (config.spool_dir.clone(), config.repo.clone());
    let worker = thread::spawn(move || {
        let mut way = Way::find(&spool_dir, deadline);
        for event in given {
            let emitted = match event {
                Err(error) => (Emitted::refused(error), true),
                Ok(event) => (way.emit(event, &spool_dir, &repo), false),
            };
            if results.send(emitted).is_err() {
                return;
            }
        }
    });
    let mut emitted = Vec::with_capacity(names.len());
    for event in names {
        emitted.push(done.recv_timeout(left(deadline)).unwrap_or_else(|_| {
            let late = "neither the runtime nor the disk confirmed it within the deadline: emit it again, it is \
                        delivered once either way";
            (Emitted { event, ..Emitted::refused(late.to_owned()) }, false)
        }));
    }
    // Not joined: it may hang, which is why it is a thread.
    drop(worker);
    emitted
}

/// How events reach the spool.
struct Way {
    /// The runtime that owns it, while it answers.
    port: Option<Client>,
    /// Why not, else.
    why: String,
    /// How long it may take to answer: then there is still time for the inbox.
    patience: Instant,
}

impl Way {
    fn find(spool_dir: &Path, deadline: Instant) -> Self {
        let now = Instant::now();
        let patience = now + deadline.saturating_duration_since(now).mul_f64(0.75);
        match Client::connect(spool_dir, left(patience)) {
            Ok(client) => Self { port: Some(client), why: String::new(), patience },
            Err(error) => Self { port: None, why: error.to_string(), patience },
        }
    }

    fn emit(&mut self, mut event: Event, spool_dir: &Path, repo: &Path) -> Emitted {
        let shown = EmittedEvent::of(&event);
        if let Some(client) = &mut self.port {
            let event: Map<String, Value> = match serde_json::to_value(&event) {
                Ok(Value::Object(event)) => event,
                _ => Map::new(),
            };
            match client.request(&Request::Emit { event }, left(self.patience)) {
                Ok(emitted) => return emitted,
                Err(ClientError::Refused(why)) => self.why = why,
                // Whatever it may answer later answers another question.
                Err(ClientError::Unreachable(why)) => {
                    self.why = why;
                    self.port = None;
                }
            }
        }
        event.add_branch(|| repo::current_branch(repo));
        log::info!("into the inbox: {}", self.why);
        match put_in_inbox(spool_dir, &[event]) {
            Ok(()) => Emitted::new(shown, Ok(Receipt::Queued)),
            Err(error) => Emitted {
                event: Some(shown),
                ..Emitted::refused(format!("nothing was kept: {}; and {error}", self.why))
            },
        }
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

fn show(emitted: &Emitted, screen: &mut Screen) {
    let key = emitted.event.as_ref().map_or("", |event| event.idempotency_key.as_str());
    let kind = emitted.event.as_ref().map_or("", |event| event.kind.as_str());
    match emitted.outcome {
        Outcome::Accepted => {
            let names: Vec<_> =
                emitted.deliveries.iter().map(|delivery| delivery.subscription.as_str()).collect();
            let count = names.len();
            let to = match count {
                0 => "no active subscription wants it".to_owned(),
                _ => names.join(", "),
            };
            let plural = if count == 1 { "y" } else { "ies" };
            screen.line(Tone::Plain, format_args!("accepted {count} deliver{plural}: {kind} {key} ({to})"));
        }
        Outcome::Queued => screen.line(
            Tone::Plain,
            format_args!(
                "queued: {kind} {key} (no runtime took it now; the next one does: spec-notify serve)"
            ),
        ),
        Outcome::Duplicate => {
            screen.line(
                Tone::Faint,
                format_args!("duplicate: {kind} {key} was accepted before and is not sent again"),
            );
        }
        Outcome::Disabled => screen.note(OFF),
        Outcome::Refused => screen.error(emitted.error.as_deref().unwrap_or("refused")),
    }
}
