//! `spec-notify pause` and `resume`: hold a subscription's deliveries back, and let them go on.

use clap::Args;

use super::act::act;
use super::render::{Screen, Tone};
use super::{Exit, Failure, Global, load, take_if_on};
use crate::archive::read_pauses;
use crate::ask::{PauseReport, PauseSubscription, ResumeSubscription};
use crate::clock;
use crate::config::Config;
use crate::delivery::{Pause, SubscriptionId};
use crate::files::user;
use crate::inspect::{ago, counted};
use crate::spool::Recovered;
use crate::store::Store;

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  spec-notify pause chatops-slack
  spec-notify resume chatops-slack

The pause lasts until you resume it, also over restarts and reloads. Events are still accepted, and at
most max_pending of them wait. A running request finishes. test and replay ID still send.

Exit code 1 if there is no such subscription.")]
pub(super) struct PauseOptions {
    /// Id of the subscription
    subscription: SubscriptionId,
}

#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  spec-notify resume chatops-slack

Exit code 1 if there is no such subscription.")]
pub(super) struct ResumeOptions {
    /// Id of the subscription
    subscription: SubscriptionId,
}

pub(super) fn pause(global: &Global, options: PauseOptions, screen: &mut Screen) -> Result<Exit, Failure> {
    let config = take_if_on(load(global, false)?, screen)?;
    let PauseOptions { subscription } = options;
    let ask = PauseSubscription { subscription: subscription.clone() };
    let report = act(&config, &ask, |store, recovered| {
        let pause = store.pauses().get(&subscription).cloned();
        let is_new = pause.is_none();
        let pause = pause.unwrap_or_else(|| Pause::now(user::name()));
        set(&config, store, &recovered, &subscription, Some(&pause).filter(|_| is_new), is_new)
    })?;
    tell(&report, screen);
    Ok(Exit::Done)
}

pub(super) fn resume(global: &Global, options: ResumeOptions, screen: &mut Screen) -> Result<Exit, Failure> {
    let config = take_if_on(load(global, false)?, screen)?;
    let ResumeOptions { subscription } = options;
    let ask = ResumeSubscription { subscription: subscription.clone() };
    let report = act(&config, &ask, |store, recovered| {
        let is_paused = store.pauses().contains_key(&subscription);
        set(&config, store, &recovered, &subscription, None, is_paused)
    })?;
    tell(&report, screen);
    Ok(Exit::Done)
}

/// The same without a runtime.
fn set(
    config: &Config,
    store: &mut Store,
    recovered: &Recovered,
    id: &SubscriptionId,
    pause: Option<&Pause>,
    changed: bool,
) -> Result<PauseReport, Failure> {
    let waiting = recovered.unfinished.get(id);
    let is_known = config.subscriptions.iter().any(|entry| entry.id == *id);
    if !is_known && waiting.is_none() && !store.pauses().contains_key(id) {
        let known: Vec<&str> = config.subscriptions.iter().map(|entry| entry.id.as_str()).collect();
        return Err(Failure::failed(format!("no subscription `{id}`; there are: {}", known.join(", "))));
    }
    if changed {
        let failed = |error| Failure::failed(format!("nothing was changed: {error}"));
        store.set_pause(id, pause).map_err(failed)?;
    }
    let paused = read_pauses(&config.spool_dir).map_err(Failure::failed)?.remove(id);
    Ok(PauseReport { subscription: id.clone(), paused, changed, pending: waiting.map_or(0, Vec::len) })
}

fn tell(report: &PauseReport, screen: &mut Screen) {
    if screen.is_json() {
        return screen.value(report);
    }
    let PauseReport { subscription: id, pending, changed, .. } = report;
    let waits = counted(*pending, "delivery waits", "deliveries wait");
    match (&report.paused, changed) {
        (Some(_), true) => screen.line(
            Tone::Warning,
            format_args!("paused: {id}; {waits}; to let them go on: spec-notify resume {id}"),
        ),
        (Some(pause), false) => {
            let lasts = ago(clock::now(), pause.since);
            let what = format_args!("{id} was paused already, by {} for {lasts}; {waits}", pause.by);
            screen.line(Tone::Warning, what);
        }
        (None, true) => screen.line(Tone::Good, format_args!("resumed: {id}; {waits} for their turn")),
        (None, false) => screen.line(Tone::Plain, format_args!("{id} was not paused")),
    }
}
