//! `spec-notify discard`: gives dead letters up for good, and what waits for subscriptions that are
//! not active.

use std::collections::HashMap;
use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use clap::Args;

use super::act::act;
use super::ask::Source;
use super::list::lines;
use super::render::{Screen, Tone};
use super::{Exit, Failure, Global, load, resolve, take_if_on};
use crate::ask::{DeliveryOfSpec, DiscardDeliveries, DiscardOutcome, Discarded};
use crate::clock;
use crate::config::Config;
use crate::delivery::{DeliveryId, HealthState, IdPrefix, SubscriptionId};
use crate::event::SpecId;
use crate::files::user;
use crate::inspect::{DeliveryState, Listed, Query, counted};
use crate::spool::Recovered;
use crate::store::{MAX_DISCARDED, NotDiscarded, Store};

/// Deliveries in one request.
const AT_A_TIME: usize = 500;

/// Most deliveries that are shown before the question.
const SHOWN: usize = 20;

/// No limit for a listing, in effect.
const ALL: usize = 1_000_000;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify discard 0193e5a1
  spec-notify discard --all --subscription chatops-slack
  spec-notify discard --all --yes

Discards dead letters, and deliveries that wait for a subscription that is off or no longer in the
config. Deliveries that are pending for an active subscription stay.

Asks first; without a terminal, give --yes. The evidence records each, with the user who discarded it.

Exit code 1 if one stays or no id matches.")]
pub(super) struct Options {
    /// Id of the delivery, or its start
    #[arg(required_unless_present = "all")]
    id: Option<IdPrefix>,
    /// Discard all that match
    #[arg(long, conflicts_with = "id")]
    all: bool,
    /// Only deliveries to this subscription
    #[arg(long, value_name = "ID", requires = "all")]
    subscription: Option<SubscriptionId>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    if !options.yes && !io::stdin().is_terminal() {
        return Err(Failure::usage("discard asks first, and there is no terminal here: give --yes"));
    }
    let config = take_if_on(load(global, false)?, screen)?;
    let mut source = Source::find(global, screen)?;
    let meant = match &options.id {
        Some(prefix) => {
            use DeliveryState::{DeadLetter, Dropped, InFlight, Pending};
            let states = [DeadLetter, Dropped, Pending, InFlight];
            vec![resolve::one(&mut source, prefix, &states, "dead letter and nothing that waits")?]
        }
        None => all(&mut source, options.subscription.as_ref())?,
    };
    drop(source);
    if meant.is_empty() {
        let known: Vec<SubscriptionId> = config.subscriptions.iter().map(|entry| entry.id.clone()).collect();
        resolve::known(&known, options.subscription.as_ref())?;
        match screen.is_json() {
            true => screen.value(&meant),
            false => screen.note("nothing to discard"),
        }
        return Ok(Exit::Done);
    }
    if !options.yes && !is_confirmed(&meant, screen)? {
        screen.note("nothing was discarded");
        return Ok(Exit::Failed);
    }
    let mut discarded = Vec::with_capacity(meant.len());
    for some in meant.chunks(AT_A_TIME) {
        screen.progress(format_args!("discarding {} of {}", discarded.len() + some.len(), meant.len()));
        let of = |one: &Listed| DeliveryOfSpec { spec: one.spec.clone(), id: one.id };
        let ask = DiscardDeliveries { deliveries: some.iter().map(of).collect() };
        let deliveries = ask.deliveries.clone();
        let answer = act(&config, &ask, |store, found| Ok(on_disk(&config, store, &found, &deliveries)));
        match answer {
            Ok(answer) => discarded.extend(answer),
            Err(failure) => {
                screen.progress_ends();
                tell(&meant, &discarded, screen);
                return Err(failure);
            }
        }
    }
    screen.progress_ends();
    tell(&meant, &discarded, screen);
    let all_are = discarded.iter().all(|one| one.outcome == DiscardOutcome::Discarded);
    Ok(if all_are { Exit::Done } else { Exit::Failed })
}

/// All dead letters, and all that waits for subscriptions that are not active.
fn all(source: &mut Source, only: Option<&SubscriptionId>) -> Result<Vec<Listed>, Failure> {
    let of = |states: &[DeliveryState], subscription: Option<&SubscriptionId>| Query {
        states: states.to_vec(),
        subscription: subscription.cloned(),
        ..Query::newest(ALL)
    };
    let mut found = source.list(&of(&[DeliveryState::DeadLetter, DeliveryState::Dropped], only))?.deliveries;
    let inactive =
        source.status()?.subscriptions.into_iter().filter(|one| one.health == HealthState::Inactive);
    for one in inactive.filter(|one| only.is_none_or(|only| *only == one.id)) {
        found.extend(source.list(&of(&[DeliveryState::Pending], Some(&one.id)))?.deliveries);
    }
    Ok(found)
}

fn is_confirmed(meant: &[Listed], screen: &mut Screen) -> Result<bool, Failure> {
    let shown = &meant[..meant.len().min(SHOWN)];
    for line in lines(shown, clock::now(), screen.width()) {
        screen.note(line.text);
    }
    if meant.len() > shown.len() {
        screen.note(format_args!("… and {} more", meant.len() - shown.len()));
    }
    let what = counted(meant.len(), "delivery", "deliveries");
    screen.words(&format!("Discard {what} for good? It cannot be undone. [y/N] "));
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(Failure::failed)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The same without a runtime.
fn on_disk(
    config: &Config,
    store: &mut Store,
    recovered: &Recovered,
    deliveries: &[DeliveryOfSpec],
) -> Vec<Discarded> {
    let waiting: HashMap<DeliveryId, _> =
        recovered.unfinished.values().flatten().map(|one| (one.delivery.id(), &one.delivery)).collect();
    let is_active =
        |id: &SubscriptionId| config.subscriptions.iter().any(|entry| entry.id == *id && entry.active);
    let mut discarded = Vec::with_capacity(deliveries.len());
    for some in deliveries.chunks(MAX_DISCARDED) {
        let letters: Vec<(SpecId, DeliveryId)> = some.iter().map(|one| (one.spec.clone(), one.id)).collect();
        let mut parked = Vec::new();
        for ((_, id), tried) in letters.iter().zip(store.discard_letters(&letters, user::name())) {
            match (tried, waiting.get(id).map(|one| Arc::new(one.whole()))) {
                (Ok(subscription), _) => discarded.push(Discarded::done(*id, subscription)),
                (Err(NotDiscarded::Stays(why)), _) => discarded.push(Discarded::refused(*id, None, why)),
                (Err(NotDiscarded::NotThere), None) => discarded.push(Discarded::not_found(*id)),
                (Err(NotDiscarded::NotThere), Some(one)) if is_active(&one.subscription) => {
                    discarded.push(Discarded::is_wanted(*id, one.subscription.clone()));
                }
                (Err(NotDiscarded::NotThere), Some(one)) => parked.push(one),
            }
        }
        let added = store.discard_waiting(&parked, user::name());
        let failed = store.commit();
        for (one, added) in parked.iter().zip(added) {
            let (id, subscription) = (one.id, one.subscription.clone());
            let error = added.err().map(|error| error.to_string());
            let error = error.or_else(|| failed.get(&one.spec).map(ToString::to_string));
            discarded.push(match error {
                None => Discarded::done(id, subscription),
                Some(error) => Discarded::refused(id, Some(subscription), error),
            });
        }
    }
    discarded
}

fn tell(meant: &[Listed], discarded: &[Discarded], screen: &mut Screen) {
    if screen.is_json() {
        return screen.value(&discarded);
    }
    for one in discarded.iter().filter(|one| one.outcome != DiscardOutcome::Discarded) {
        let why = one.error.as_deref().unwrap_or("it no longer exists");
        screen.line(Tone::Bad, format_args!("not discarded: {}: {why}", one.id));
    }
    let done = discarded.iter().filter(|one| one.outcome == DiscardOutcome::Discarded).count();
    let what = counted(done, "delivery", "deliveries");
    let tone = if done == meant.len() { Tone::Good } else { Tone::Warning };
    let left = meant.len() - done;
    let left = if left > 0 { format!(", {left} left") } else { String::new() };
    screen.line(tone, format_args!("discarded {what} for good{left}"));
}
