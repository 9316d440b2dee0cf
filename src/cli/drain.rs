//! `spec-notify drain`: delivers everything that is pending, retries included, then exits: the last step of a CI job.

use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::render::{Screen, Tone};
use super::{Exit, Failure, Global, load_to_act};
use crate::control::{StatusReport, counted};
use crate::delivery::HealthState;
use crate::env::Environment;
use crate::runtime::Runtime;

/// How often to look whether something is left.
const POLL: Duration = Duration::from_millis(50);

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
#[command(after_help = "\
Example, as the last step of a CI job:
  spec-notify drain --timeout 120

Exit code 1 where something is still pending at the timeout, was given up meanwhile, or
stands aside because it cannot be read.")]
pub(super) struct Options {
    /// Longest time to wait, in seconds; what is left then stays on disk
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
}

/// What `drain --json` prints.
#[derive(Debug, Serialize)]
struct Drained {
    /// Deliveries that are still pending.
    pending: usize,
    /// Deliveries that were given up meanwhile.
    dead_letters: usize,
    /// What stands aside and could not be delivered, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aside: Vec<String>,
}

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let config = load_to_act(global, screen)?;
    let deadline = Instant::now() + Duration::from_secs(options.timeout);
    let runtime = Runtime::start(config, Environment::process()).map_err(Failure::failed)?;
    let handle = runtime.handle();
    let look = || {
        let status = handle.block(PATIENCE, handle.status());
        let silent = || Failure::new(Exit::NoRuntime, "no answer from the runtime that owns the spool");
        status.ok_or_else(silent)?.map_err(Failure::from)
    };
    let mut status = look()?;
    let before = dead(&status);
    while Instant::now() < deadline {
        if left(&status) == 0 {
            // A run that has just ended is told of now, and not in a moment.
            handle.block(PATIENCE, handle.idle());
            status = look()?;
            if left(&status) == 0 {
                break;
            }
        }
        let failed = dead(&status).saturating_sub(before);
        screen.progress(format_args!("{} pending, {failed} given up", left(&status)));
        thread::park_timeout(POLL);
        status = look()?;
    }
    screen.progress_ends();
    runtime.drain(Duration::ZERO);
    let drained = Drained {
        pending: left(&status),
        dead_letters: dead(&status).saturating_sub(before),
        aside: status.aside.clone(),
    };
    if screen.is_json() {
        screen.value(&drained);
    } else {
        let parked = parked(&status);
        if parked > 0 {
            let what = counted(parked, "delivery waits", "deliveries wait");
            screen.note(format_args!("{what} for a subscription that is not active"));
        }
        for aside in &drained.aside {
            screen.warning(format_args!("it stands aside and is not delivered: {aside}"));
        }
        match (drained.pending, drained.dead_letters) {
            (0, 0) if !drained.aside.is_empty() => {
                screen.line(Tone::Bad, "drained, but for what stands aside");
            }
            (0, 0) => screen.line(Tone::Good, "drained: nothing is pending"),
            (0, dead) => {
                let what = counted(dead, "delivery was", "deliveries were");
                screen.line(
                    Tone::Bad,
                    format_args!("drained: {what} given up; see spec-notify list --state dead_letter"),
                );
            }
            (pending, _) => {
                let what = counted(pending, "delivery is", "deliveries are");
                screen.line(
                    Tone::Bad,
                    format_args!("{what} still pending after {} s, and stay on disk", options.timeout),
                );
            }
        }
    }
    let is_done = drained.pending == 0 && drained.dead_letters == 0 && drained.aside.is_empty();
    Ok(if is_done { Exit::Done } else { Exit::Failed })
}

fn left(status: &StatusReport) -> usize {
    let active = status.subscriptions.iter().filter(|one| one.health != HealthState::Inactive);
    status.inbox + active.map(|one| one.pending + one.in_flight).sum::<usize>()
}

fn parked(status: &StatusReport) -> usize {
    let inactive = status.subscriptions.iter().filter(|one| one.health == HealthState::Inactive);
    inactive.map(|one| one.pending + one.in_flight).sum()
}

fn dead(status: &StatusReport) -> usize {
    status.subscriptions.iter().map(|one| one.dead_letters).sum()
}
