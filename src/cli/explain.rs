//! `spec-notify explain`: which subscriptions would get an event and, for the others, which filter
//! refuses it; for a telemetry file also what the watcher does with it.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::render::{Line, Screen, Tone, columns, wrap};
use super::{Exit, Failure, Global, emit, load_config};
use crate::archive::{Pauses, read_pauses};
use crate::config::{Config, Role};
use crate::delivery::SubscriptionId;
use crate::env::Environment;
use crate::event::Event;
use crate::names::printable;
use crate::sources::checkout::Checkout;
use crate::watch::Opinion;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify explain --event event.json
  spec-notify explain --telemetry docs/…/commands/SPEC-KIT-065/spec-plan_….json

Exit code 1 if no subscription matches.")]
pub(super) struct Options {
    /// File with one event as JSON; `-` reads standard input
    #[arg(long, value_name = "FILE|-", required_unless_present = "telemetry")]
    event: Option<PathBuf>,
    /// Telemetry file of a guardrail script; also shows what the watcher of serve does with it
    #[arg(long, value_name = "FILE", conflicts_with = "event")]
    telemetry: Option<PathBuf>,
}

/// The answer for one subscription, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Answer {
    subscription: SubscriptionId,
    matches: bool,
    refused_by: Option<String>,
    /// It matches and is not sent: the subscription has `dry_run = true`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dry_run: bool,
    /// It matches and waits: who paused the subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_by: Option<String>,
    /// The event's branch, the same in each answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    branch: Option<String>,
    /// What the watcher does with the telemetry file, the same in each answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    watcher: Option<Opinion>,
}

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let config = load_config(global, false, screen)?;
    let file = options.telemetry.as_deref().map(std::path::absolute).transpose().map_err(Failure::usage)?;
    let opinion = file.map(|file| Opinion::of(&file, &config));
    let event = match (&options.telemetry, &options.event) {
        (Some(file), _) => emit::read_telemetry(file, &config).map(|read| read.event),
        (None, Some(file)) => emit::only_event(file)?,
        (None, None) => return Err(Failure::usage("give --event FILE or --telemetry FILE")),
    };
    let mut event = event.map_err(|why| {
        // The watcher may have another reason for rejecting the file: show it too.
        if let Some(opinion) = &opinion {
            screen.note(told(opinion));
        }
        Failure::usage(why)
    })?;
    // As `emit` and the runtime do.
    Checkout::new(&config.repo, Environment::process()).add_to(&mut event);
    let pauses = read_pauses(&config.spool_dir).unwrap_or_else(|error| {
        screen.warning(format_args!("{error}: which subscriptions are paused is not known"));
        Pauses::default()
    });
    let answers = answers(&config, &event, &pauses, opinion.as_ref());
    if screen.is_json() {
        screen.value(&answers);
    } else {
        let envelope = &event.event;
        screen.line(Tone::Heading, format_args!("{} {}", envelope.kind, envelope.idempotency_key));
        if let Some(status) = envelope.status {
            screen.line(Tone::Plain, format_args!("status: {status}"));
        }
        if let Some(branch) = &event.spec.branch {
            screen.line(Tone::Plain, format_args!("branch: {}", printable(branch, 255)));
        }
        for reason in &envelope.reasons {
            screen.line(Tone::Plain, format_args!("reason: {}", printable(reason, 500)));
        }
        if let Some(opinion) = &opinion {
            for line in wrap(&told(opinion), "", screen.width()) {
                screen.line(Tone::Plain, line);
            }
        }
        lines(&answers, screen.width()).iter().for_each(|line| screen.print(line));
        if !config.enabled {
            screen.note(super::OFF);
        }
    }
    Ok(if answers.iter().any(|answer| answer.matches) { Exit::Done } else { Exit::Failed })
}

/// The watcher's opinion as a sentence.
fn told(opinion: &Opinion) -> String {
    let what = match opinion.source {
        Some(source) => format!("reads it ({source})"),
        None => "ignores it".to_owned(),
    };
    format!("the watcher {what}: {}", opinion.why)
}

fn answers(config: &Config, event: &Event, pauses: &Pauses, opinion: Option<&Opinion>) -> Vec<Answer> {
    let answer = |entry: &crate::config::SubscriptionConfig| {
        let refused_by = match entry.role() {
            Role::Inactive => Some("active = false: it gets nothing".to_owned()),
            Role::Active | Role::DryRun => entry.filter.admits(event).err().map(|why| why.to_string()),
        };
        let matches = refused_by.is_none();
        let dry_run = matches && entry.role() == Role::DryRun;
        let paused_by = pauses.get(&entry.id).filter(|_| matches).map(|pause| pause.by.clone());
        let (subscription, branch) = (entry.id.clone(), event.spec.branch.clone());
        Answer { subscription, matches, refused_by, dry_run, paused_by, branch, watcher: opinion.cloned() }
    };
    config.subscriptions.iter().map(answer).collect()
}

impl Answer {
    fn verdict(&self) -> &'static str {
        match (self.matches, self.dry_run, &self.paused_by) {
            (false, ..) => "refused",
            (true, true, _) => "dry run",
            (true, false, Some(_)) => "paused",
            (true, false, None) => "gets it",
        }
    }

    /// Why it does not get the event, or not now.
    fn why(&self) -> Option<String> {
        let id = &self.subscription;
        match (&self.refused_by, self.dry_run, &self.paused_by) {
            (Some(why), ..) => Some(why.clone()),
            (None, true, _) => Some("dry_run = true: the request is recorded and not sent".to_owned()),
            (None, false, Some(by)) => {
                Some(format!("paused by {by}: the event waits until spec-notify resume {id}"))
            }
            (None, false, None) => None,
        }
    }
}

fn lines(answers: &[Answer], width: usize) -> Vec<Line> {
    if answers.is_empty() {
        return vec![Line::new(Tone::Plain, "there are no subscriptions")];
    }
    let row = |answer: &Answer| [answer.subscription.to_string(), answer.verdict().to_owned()];
    let mut lines = Vec::new();
    for (answer, text) in answers.iter().zip(columns(answers.iter().map(row))) {
        lines.push(Line::new(if answer.matches { Tone::Good } else { Tone::Plain }, text));
        let why = answer.why().into_iter().flat_map(|why| wrap(&why, "    ", width));
        lines.extend(why.map(|text| Line::new(Tone::Plain, text)));
    }
    lines
}
