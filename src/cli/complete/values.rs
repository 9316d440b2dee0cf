//! The values that an argument can have, as far as they are known: by its type, or where that is
//! text, by the name of its value.

use std::any::TypeId;
use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use clap::Arg;
use jiff::Timestamp;

use super::Candidate;
use crate::archive::{dead_letter_dir, dead_letters_by_age, read_dead_letter};
use crate::clock;
use crate::config::{self, Config, LoadOptions, Role};
use crate::delivery::{DeliveryId, IdPrefix, SubscriptionId};
use crate::env::Environment;
use crate::event::{EventKind, SpecId, Stage, Status};
use crate::files::spec_dirs;
use crate::files::user::check_readable;
use crate::inspect::{DeliveryState, Listed, Page, Query, ago};
use crate::payload::Sample;
use crate::spool;

/// Most ids that are offered, the newest first: more than anyone chooses from by eye.
const MOST: usize = 50;

/// A kind of value.
pub(super) enum Kind {
    File,
    Folder,
    /// One of a closed set.
    Named(Vec<&'static str>),
    /// One that the repo or its config knows.
    Known(Known),
}

#[derive(Clone, Copy)]
pub(super) enum Known {
    Subscription,
    Spec,
    Delivery,
    /// A delivery, or a SPEC.
    DeliveryOrSpec,
}

impl Kind {
    pub(super) fn of(arg: &Arg) -> Option<Self> {
        let is = |id: TypeId| arg.get_value_parser().type_id() == id;
        let name = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
        macro_rules! names_of {
            ($($set:ty),*) => {
                $(if is(TypeId::of::<$set>()) {
                    return Some(Self::Named(<$set>::ALL.iter().map(|one| one.as_str()).collect()));
                })*
            };
        }
        names_of!(DeliveryState, EventKind, Stage, Status, Sample);
        Some(if is(TypeId::of::<PathBuf>()) {
            if name == "DIR" { Self::Folder } else { Self::File }
        } else if is(TypeId::of::<SubscriptionId>()) || name == "SUBSCRIPTION" {
            Self::Known(Known::Subscription)
        } else if is(TypeId::of::<SpecId>()) || name == "SPEC" {
            Self::Known(Known::Spec)
        } else if name == "ID|SPEC" {
            Self::Known(Known::DeliveryOrSpec)
        } else if [TypeId::of::<DeliveryId>(), TypeId::of::<IdPrefix>()].into_iter().any(is)
            || ["ID", "UUID"].contains(&name)
        {
            Self::Known(Known::Delivery)
        } else {
            return None;
        })
    }
}

impl Known {
    /// What is known, for a command with what was given to it so far.
    pub(super) fn find<'g>(self, command: &str, given: &dyn Fn(&str) -> Option<&'g str>) -> Vec<Candidate> {
        let Some(config) = read_config(given) else { return Vec::new() };
        match self {
            Self::Subscription => subscriptions(&config),
            _ if check_readable(&config.spool_dir).is_err() => Vec::new(),
            Self::Spec => specs(&config),
            Self::Delivery => deliveries(&config, command, given),
            Self::DeliveryOrSpec => {
                let mut all = deliveries(&config, command, given);
                all.extend(specs(&config));
                all
            }
        }
    }
}

fn read_config<'g>(given: &dyn Fn(&str) -> Option<&'g str>) -> Option<Config> {
    let path = |name: &str| given(name).map(at_home);
    let options = LoadOptions {
        config: path("config"),
        repo: path("repo"),
        working_dir: std::env::current_dir().ok()?,
        secrets: false,
        role: None,
    };
    let loaded = config::load(&options, &Environment::process());
    loaded.config.or(loaded.salvaged)
}

/// A path as typed: a shell hands `~/` over as it stands.
fn at_home(typed: &str) -> PathBuf {
    match (typed.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => typed.into(),
    }
}

fn subscriptions(config: &Config) -> Vec<Candidate> {
    let candidate = |one: &config::SubscriptionConfig| {
        let state = match one.role() {
            Role::Active => "active",
            Role::DryRun => "dry run",
            Role::Inactive => "inactive",
        };
        Candidate::new(one.id.as_str(), Some(state.to_owned()))
    };
    config.subscriptions.iter().map(candidate).collect()
}

/// The SPECs with something in the spool or the evidence, the one that changed last first.
fn specs(config: &Config) -> Vec<Candidate> {
    let evidence = config.evidence_dir.join("commands");
    let mut found: Vec<(SystemTime, SpecId)> = Vec::new();
    for (dir, specs) in
        [(&config.spool_dir, spool::specs(&config.spool_dir)), (&evidence, spec_dirs(&evidence))]
    {
        let changed = |spec: &SpecId| fs::metadata(dir.join(spec.as_str())).and_then(|of| of.modified()).ok();
        found.extend(specs.into_iter().flatten().filter_map(|spec| Some((changed(&spec)?, spec))));
    }
    found.sort_by(|a, b| b.cmp(a));
    let mut specs: Vec<Candidate> = Vec::new();
    for (_, spec) in found {
        if specs.len() < MOST && !specs.iter().any(|one| one.word == spec.as_str()) {
            specs.push(Candidate::new(spec.as_str(), None));
        }
    }
    specs
}

fn deliveries<'g>(config: &Config, command: &str, given: &dyn Fn(&str) -> Option<&'g str>) -> Vec<Candidate> {
    use DeliveryState::{Delivered, DryRun, InFlight, Pending};
    let spec: Option<SpecId> = given("spec").or(given("what")).and_then(|spec| spec.parse().ok());
    let subscription: Option<SubscriptionId> = given("subscription").and_then(|id| id.parse().ok());
    let mut found = given_up(config, spec.as_ref(), subscription.as_ref());
    // Only dead letters are replayed or discarded.
    if !matches!(command, "replay" | "discard") {
        let states = vec![Pending, InFlight, Delivered, DryRun];
        let mut page = Page::new(Query { spec, subscription, states, ..Query::newest(MOST) });
        // What can be read is offered.
        drop(page.add_unfinished(&config.spool_dir));
        drop(page.add_finished(&config.spool_dir, &config.evidence_dir));
        let now = clock::now();
        let candidate = |one: Listed| {
            let age = ago(now, one.accepted_at);
            let help = format!("{} to {}, {}, {age} ago", one.state, one.subscription, one.spec);
            (one.accepted_at, Candidate::new(one.id.to_string(), Some(help)))
        };
        found.extend(page.into_listing().deliveries.into_iter().map(candidate));
        found.sort_by_key(|(at, _)| Reverse(*at));
        found.truncate(MOST);
    }
    found.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Deliveries that were given up, the last one first. Unlike a listing, which is by when they were
/// accepted, this opens no more of their files than it offers: there may be thousands.
fn given_up(
    config: &Config,
    spec: Option<&SpecId>,
    subscription: Option<&SubscriptionId>,
) -> Vec<(Timestamp, Candidate)> {
    let specs = match spec {
        Some(spec) => vec![spec.clone()],
        None => spool::specs(&config.spool_dir).unwrap_or_default(),
    };
    let newest = |spec: SpecId| {
        let letters = dead_letters_by_age(&dead_letter_dir(&config.spool_dir, &spec));
        letters.into_iter().rev().take(MOST).map(move |(written, id)| (written, id, spec.clone()))
    };
    let mut letters: Vec<(SystemTime, DeliveryId, SpecId)> = specs.into_iter().flat_map(newest).collect();
    letters.sort_by(|a, b| b.cmp(a));
    let now = clock::now();
    let candidate = |(written, id, spec): (SystemTime, DeliveryId, SpecId)| {
        let letter = read_dead_letter(&dead_letter_dir(&config.spool_dir, &spec), id).ok()?;
        let to = letter.delivery().subscription;
        let written = Timestamp::try_from(written).ok()?;
        let help = format!("dead letter to {to}, {spec}, {} ago", ago(now, written));
        let is_meant = subscription.is_none_or(|subscription| *subscription == to);
        is_meant.then(|| (written, Candidate::new(id.to_string(), Some(help))))
    };
    letters.into_iter().take(MOST).filter_map(candidate).collect()
}
