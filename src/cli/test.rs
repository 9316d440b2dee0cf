//! `spec-notify test`: sends one request now and shows everything about it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::render::{Screen, Tone};
use super::{Exit, Failure, Global, emit, load_to_act};
use crate::answer::RequestError;
use crate::ask::{SendSample, SentOutcome, SentReport};
use crate::config::Config;
use crate::delivery::SubscriptionId;
use crate::env::Environment;
use crate::event::SpecId;
use crate::inspect::latency;
use crate::payload::Sample;
use crate::runtime::Runtime;

/// How long other deliveries that this process began as owner of the spool may take to end.
pub(super) const DRAIN: Duration = Duration::from_secs(5);

/// The longest deadline that a subscription can have for an attempt, plus its turns in the queue
/// and within the rate limit.
pub(super) const PATIENCE: Duration = Duration::from_secs(720);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify test SPEC-KIT-065 --subscription chatops-slack
  spec-notify test SPEC-KIT-065 --subscription local --sample stage-failure

If a runtime is running, it sends the sample. The filters of the subscription do not stop a sample.

Exit code 1 if the endpoint refuses it.")]
pub(super) struct Options {
    /// Id of the SPEC in the sample
    spec: SpecId,
    /// Subscription that gets the sample
    #[arg(long, value_name = "ID")]
    subscription: SubscriptionId,
    /// Show the request and send nothing
    #[arg(long)]
    dry_run: bool,
    /// File with the event to send, as JSON: it gets the given SPEC and the time of now; `-` reads
    /// standard input
    #[arg(long, value_name = "FILE|-")]
    event: Option<PathBuf>,
    /// Built-in event to send: stage-success, stage-failure, stage-halt, run-success,
    /// run-failure, task, conflict, cost, stall, gate, task-list
    #[arg(long, value_name = "NAME", conflicts_with = "event")]
    sample: Option<Sample>,
}

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let config = load_to_act(global, screen)?;
    let Options { spec, subscription, dry_run, event, sample } = options;
    check_subscription(&config, subscription)?;
    let event = match (event, sample) {
        (Some(file), _) => {
            let event = emit::only_event(file)?.map_err(Failure::usage)?;
            serde_json::to_value(&event).map_err(Failure::failed)?.as_object().cloned()
        }
        (None, sample) => sample.map(|sample| sample.event(spec)),
    };
    let sample =
        SendSample { spec: spec.clone(), subscription: subscription.clone(), dry_run: *dry_run, event };
    // Through the runtime that owns the spool, else by owning it for a moment: `Runtime` handles
    // both.
    let runtime = Runtime::start_blocking(Config { takes_part: false, ..config }, Environment::process())
        .map_err(Failure::failed)?;
    let handle = runtime.handle();
    let sent = handle.block(PATIENCE, handle.sample(sample));
    runtime.drain_blocking(DRAIN);
    let no_answer = || RequestError::Unreachable("no answer from the runtime".to_owned());
    let report = sent.ok_or_else(no_answer)??;
    let succeeded = report.outcome != SentOutcome::Failed;
    if screen.is_json() {
        screen.value(&[&report]);
    } else {
        show(&report, screen);
    }
    Ok(if succeeded { Exit::Done } else { Exit::Failed })
}

fn check_subscription(config: &Config, id: &SubscriptionId) -> Result<(), Failure> {
    match config.subscriptions.iter().find(|subscription| subscription.id == *id) {
        Some(subscription) if subscription.active => Ok(()),
        Some(_) => {
            Err(Failure::usage(format!("subscription `{id}` is inactive: set active = true to test it")))
        }
        None => {
            let known: Vec<_> =
                config.subscriptions.iter().map(|subscription| subscription.id.as_str()).collect();
            Err(Failure::usage(format!(
                "no subscription `{id}` in the config; there are: {}",
                known.join(", ")
            )))
        }
    }
}

/// Prints one request and its answer for people.
pub(super) fn show(report: &SentReport, screen: &mut Screen) {
    screen.line(Tone::Heading, format_args!("POST {}", report.request.url));
    for (name, value) in &report.request.headers {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        screen.line(Tone::Faint, format_args!("  {name}: {value}"));
    }
    let body = serde_json::to_string_pretty(&report.request.body).unwrap_or_default();
    for line in body.lines() {
        screen.line(Tone::Plain, format_args!("  {line}"));
    }
    let subscription = &report.subscription;
    match (report.outcome, report.status) {
        (SentOutcome::DryRun, _) => {
            screen.line(Tone::Good, format_args!("dry run: nothing was sent to {subscription}"));
        }
        (SentOutcome::Delivered, Some(status)) => screen.line(
            Tone::Good,
            format_args!("delivered: {subscription} answered {status} in {}", latency(report.latency_ms)),
        ),
        (_, status) => {
            let status = status.map_or(String::new(), |status| format!(" (status {status})"));
            let error = report.error.as_deref().unwrap_or("unknown");
            screen.verdict(
                Tone::Bad,
                format_args!("failed: {subscription}{status} after {}: {error}", latency(report.latency_ms)),
            );
            if let Some(hint) = &report.hint {
                screen.line(Tone::Plain, format_args!("to do: {hint}"));
            }
        }
    }
    if let Some(why) = &report.refused_by {
        screen.warning(format_args!(
            "{subscription} gets no such event: {why}; test sends it all the same, without the filters"
        ));
    }
    if let Some(note) = &report.note {
        screen.warning(note);
    }
    if let Some(response) = &report.response {
        screen.line(Tone::Faint, format_args!("response: {response}"));
    }
}
