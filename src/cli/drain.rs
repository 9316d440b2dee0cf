//! `spec-notify drain`: takes in what the sources hold, delivers everything pending, retries
//! included, then exits. Meant as the last step of a CI job.

use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;

use super::interrupt::Interrupt;
use super::render::{Screen, Tone};
use super::test::DRAIN;
use super::{Exit, Failure, Global, load, load_to_act, take};
use crate::clock;
use crate::config::{Config, FleetRole, StageEndsWith, Switch, WatchFrom};
use crate::delivery::{Pause, SubscriptionId};
use crate::env::Environment;
use crate::inspect::{SourcesStatus, StatusReport, SubscriptionStatus, counted};
use crate::inspect::{Survey, delivered_since, unfinished};
use crate::runtime::Runtime;
use crate::watch::Waiting;

/// Interval between checks whether something is left.
const POLL: Duration = Duration::from_millis(50);

/// How long one check may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long another process that does not watch the repo may own the spool before that counts as
/// lasting: commands such as `test` own it for a moment.
const UNWATCHED: Duration = Duration::from_secs(5);

#[derive(Debug, Args)]
#[command(after_help = "\
Example, as the last step of a CI job:
  spec-notify drain --timeout 120

First sends events for stages and tasks that ended while no runtime ran. If the repo was never
watched, existing files are recorded as known and not sent; --from-start sends them. If webhooks are
off, there is nothing to do.

Exit code 1 if something is still pending or unsent at the timeout, became a dead letter, or cannot be
read.")]
pub(super) struct Options {
    /// Longest time to wait, in seconds; the rest stays on disk
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Do not read the repo; deliver only what is pending or in the inbox
    #[arg(long, conflicts_with = "from_start")]
    no_watch: bool,
    /// If the repo was never watched, also send existing files
    #[arg(long)]
    from_start: bool,
}

/// The output of `drain --json`.
#[derive(Debug, Serialize)]
struct Drained {
    outcome: Outcome,
    /// Deliveries that are still pending.
    pending: usize,
    /// Deliveries that arrived meanwhile.
    delivered: usize,
    /// Deliveries that became dead letters meanwhile.
    dead_letters: usize,
    /// What the repo holds that is not sent yet; absent with `--no-watch`.
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<SourcesStatus>,
    /// What was recorded as known and not sent, because this repo was not watched before.
    #[serde(skip_serializing_if = "Option::is_none")]
    baseline: Option<SourcesStatus>,
    /// Paused subscriptions whose deliveries are left.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    paused: Vec<LeftPaused>,
    /// What is set aside and could not be delivered, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aside: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// All that could be sent was delivered.
    Drained,
    /// Something is pending, failed, or could not be read.
    Left,
    /// Webhooks are off: nothing was sent.
    Disabled,
}

/// What a paused subscription leaves.
#[derive(Debug, Serialize)]
struct LeftPaused {
    subscription: SubscriptionId,
    pending: usize,
    #[serde(flatten)]
    pause: Pause,
}

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let loaded = load(global, false)?;
    if loaded.config.as_ref().is_some_and(|config| !config.enabled) {
        let switch = loaded.switch.clone();
        return off(&take(loaded, screen)?, &switch, screen);
    }
    let mut given = load_to_act(global, screen)?;
    // The end of a job takes no work of a fleet over: it hands over what it has.
    given.fleet.iter_mut().for_each(|fleet| fleet.role = FleetRole::Emit);
    // The pipeline is over: what waits for its agents is told without them, unless another process
    // owns the spool, which goes on waiting.
    let config = Config { stage_ends_with: StageEndsWith::Guardrail, ..given.clone() };
    let deadline = Instant::now() + Duration::from_secs(options.timeout);
    let watch = match (options.no_watch, options.from_start) {
        (true, _) => None,
        (false, true) => Some(WatchFrom::Start),
        (false, false) => Some(WatchFrom::Now),
    };
    let in_repo = |is_ours: bool| {
        let config = if is_ours { &config } else { &given };
        watch.map(|_| Waiting::of(config, None)).unwrap_or_default()
    };
    let baseline = Some(in_repo(true)).filter(|found| found.is_first && watch == Some(WatchFrom::Now));
    // Count before the start: a delivery given up at once must not count as an earlier one.
    let before = Survey::of(&config.spool_dir).dead();
    let began_at = clock::now();
    let started = Runtime::start_blocking(Config { watch, ..config.clone() }, Environment::process());
    let runtime = started.map_err(Failure::failed)?;
    let handle = runtime.handle();
    let look = || {
        let status = handle.block(PATIENCE, handle.status());
        let silent = || Failure::new(Exit::NoRuntime, "no answer from the runtime that owns the spool");
        status.ok_or_else(silent)?.map_err(Failure::from)
    };
    let mut status = look()?;
    let began = Instant::now();
    let mut pause = POLL;
    let interrupt = Interrupt::listen();
    while Instant::now() < deadline && !interrupt.came() {
        if left(&status) == 0 {
            let looked = Instant::now();
            let in_repo = in_repo(is_ours(&status));
            let is_unwatched = !watches(&status) && began.elapsed() > UNWATCHED;
            if is_unwatched || !(in_repo.is_something() || in_repo.is_first && watches(&status)) {
                // Tell the end of a run that has just ended now, not after a delay.
                handle.block(PATIENCE, handle.idle());
                status = look()?;
                if left(&status) == 0 {
                    break;
                }
            }
            pause = POLL.max(looked.elapsed() * 4);
        }
        let failed = dead(&status).saturating_sub(before);
        screen.progress(format_args!("{} pending, {failed} dead letters", left(&status)));
        interrupt.pause(pause);
        status = look()?;
    }
    screen.progress_ends();
    let in_repo = in_repo(is_ours(&status));
    // One that was interrupted lets its requests end.
    let rest = runtime.drain_blocking(if interrupt.came() { DRAIN } else { Duration::ZERO });
    let (delivered, interrupted) = (delivered_since(&config.evidence_dir, began_at), interrupt.came());
    let parked_ones = own(&status).iter().filter(|one| one.is_parked());
    let parked_ones: usize = parked_ones.map(|one| one.pending).sum();
    let pending = match interrupted && is_ours(&status) {
        true => status.inbox + rest.pending.saturating_sub(parked_ones),
        false => left(&status),
    };
    let is_made = |found: &Waiting| found.is_something() && !in_repo.is_first;
    let mut drained = Drained {
        outcome: Outcome::Left,
        pending,
        delivered,
        dead_letters: dead(&status).saturating_sub(before),
        sources: watch.map(|_| SourcesStatus::of(&in_repo)),
        baseline: baseline.as_ref().filter(|found| is_made(found)).map(SourcesStatus::of),
        paused: left_paused(&status),
        aside: status.aside.iter().chain(&in_repo.troubles).cloned().collect(),
    };
    if drained.is_done() {
        drained.outcome = Outcome::Drained;
    }
    if let Some(known) = drained.baseline {
        let spool = config.spool_dir.display();
        screen.warning(format_args!(
            "nothing was watched here before: what the repo held already is taken as known and not sent: \
             {known}; to send it all the same, remove {spool}/watch.jsonl and run spec-notify drain \
             --from-start"
        ));
    }
    if screen.is_json() {
        screen.value(&drained);
    } else {
        tell(&drained, &status, (!interrupted).then_some(options.timeout), screen);
    }
    Ok(if drained.outcome == Outcome::Drained { Exit::Done } else { Exit::Failed })
}

/// With webhooks off there is nothing to do, such as in a fork without the config: a job must not
/// fail for that. What an earlier run left on disk stays there, and is said.
fn off(config: &Config, switch: &Switch, screen: &mut Screen) -> Result<Exit, Failure> {
    let spool = &config.spool_dir;
    let unreadable = |error| Failure::failed(format!("cannot read {}: {error}", spool.display()));
    let pending = unfinished(spool).map_err(unreadable)?.len() + Survey::of(spool).inbox;
    screen.note(format_args!("nothing to drain: {switch}"));
    if pending > 0 {
        let what = counted(pending, "delivery waits", "deliveries wait");
        screen.warning(format_args!("{what} in {} until webhooks are on", spool.display()));
    }
    if screen.is_json() {
        screen.value(&Drained {
            outcome: Outcome::Disabled,
            pending,
            delivered: 0,
            dead_letters: 0,
            sources: None,
            baseline: None,
            paused: Vec::new(),
            aside: Vec::new(),
        });
    }
    Ok(Exit::Done)
}

/// Prints the result for people.
fn tell(drained: &Drained, status: &StatusReport, timeout: Option<u64>, screen: &mut Screen) {
    // Where more is left, the warnings of the status say it too.
    for LeftPaused { subscription: id, pending, pause } in
        drained.paused.iter().filter(|_| drained.pending == 0)
    {
        let what = counted(*pending, "delivery waits", "deliveries wait");
        screen.warning(format_args!(
            "{what} for {id}, which is paused by {}: spec-notify resume {id} lets them go on",
            pause.by
        ));
    }
    if drained.delivered > 0 {
        screen.note(format_args!("{} delivered", drained.delivered));
    }
    let parked = parked(status);
    if parked > 0 {
        let what = counted(parked, "delivery waits", "deliveries wait");
        screen.note(format_args!("{what} for a subscription that is not active"));
    }
    for aside in &drained.aside {
        screen.warning(format_args!("set aside and not delivered: {aside}"));
    }
    if drained.pending > 0 {
        status.warnings.iter().for_each(|warning| screen.warning(warning));
    }
    let untold = drained.sources.filter(SourcesStatus::is_something);
    if let Some(sources) = untold.filter(|_| !watches(status)) {
        let pid = status.runtime.as_ref().map_or(0, |runtime| runtime.pid);
        screen.warning(format_args!(
            "the repo holds {sources} not sent: process {pid} owns the spool and does not watch \
             it (serve --no-watch); start it without --no-watch, or run spec-notify drain --no-watch, which \
             leaves the repo alone"
        ));
    }
    let text = match (drained.pending, drained.dead_letters, untold) {
        (0, 0, None) if !drained.aside.is_empty() => "drained, except what is set aside".to_owned(),
        (0, 0, None) if !drained.paused.is_empty() => {
            return screen.verdict(Tone::Warning, "drained, except what is paused");
        }
        (0, 0, None) => return screen.verdict(Tone::Good, "drained: nothing is pending"),
        (0, 0, Some(sources)) if sources.baseline => {
            return screen.verdict(Tone::Good, "drained: nothing is pending");
        }
        (0, 0, Some(sources)) => format!("drained, except what the repo holds: {sources} not sent"),
        (0, dead, _) => {
            let what = counted(dead, "delivery was", "deliveries were");
            format!("drained: {what} moved to dead letter; see spec-notify list --state dead_letter")
        }
        (pending, ..) => {
            let what = counted(pending, "delivery is", "deliveries are");
            let stay = if pending == 1 { "stays" } else { "stay" };
            let when = timeout.map_or("interrupted: ".to_owned(), |_| String::new());
            let after = timeout.map_or(String::new(), |timeout| format!(" after {timeout} s"));
            format!("{when}{what} still pending{after}, and {stay} on disk")
        }
    };
    screen.verdict(Tone::Bad, text);
}

impl Drained {
    fn is_done(&self) -> bool {
        // What was never watched does not have to be told.
        let is_told = self.sources.is_none_or(|sources| sources.baseline || !sources.is_something());
        self.pending == 0 && self.dead_letters == 0 && self.aside.is_empty() && is_told
    }
}

fn is_ours(status: &StatusReport) -> bool {
    status.runtime.as_ref().is_some_and(|runtime| runtime.pid == std::process::id())
}

fn watches(status: &StatusReport) -> bool {
    status.runtime.as_ref().is_some_and(|runtime| runtime.watches)
}

/// The subscriptions whose deliveries are this machine's work: none in a fleet, where only the
/// inbox is.
fn own(status: &StatusReport) -> &[SubscriptionStatus] {
    if status.fleet.is_some() { &[] } else { &status.subscriptions }
}

fn left(status: &StatusReport) -> usize {
    let left = own(status).iter().map(|one| match one.is_parked() {
        // A request under way ends all the same.
        true => one.in_flight,
        false => one.pending + one.in_flight,
    });
    status.inbox + left.sum::<usize>()
}

fn parked(status: &StatusReport) -> usize {
    let inactive = own(status).iter().filter(|one| one.is_parked() && one.paused.is_none());
    inactive.map(|one| one.pending).sum()
}

fn left_paused(status: &StatusReport) -> Vec<LeftPaused> {
    let paused = own(status).iter().filter(|one| one.pending > 0);
    let left = paused.filter_map(|one| {
        let (subscription, pending, pause) = (one.id.clone(), one.pending, one.paused.clone()?);
        Some(LeftPaused { subscription, pending, pause })
    });
    left.collect()
}

fn dead(status: &StatusReport) -> usize {
    own(status).iter().map(|one| one.dead_letters).sum()
}
