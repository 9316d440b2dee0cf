//! `spec-notify replay`: sends dead letters again, one or many, at a limited rate.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::ask::{Source, moment};
use super::interrupt::Interrupt;
use super::list::lines;
use super::render::{Line, Screen, Tone, cut, wrap};
use super::test::{DRAIN, PATIENCE, show};
use super::{Exit, Failure, Global, load_to_act, resolve};
use crate::answer::RequestError;
use crate::ask::{ReplayDeadLetter, SentOutcome, SentReport};
use crate::clock;
use crate::config::Config;
use crate::delivery::{DeliveryId, IdPrefix, OPEN_AFTER, SubscriptionId};
use crate::env::Environment;
use crate::event::SpecId;
use crate::inspect::counted;
use crate::inspect::{DeliveryState, Listed, Query};
use crate::runtime::{Handle, Runtime};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify replay 0193e5a1
  spec-notify replay SPEC-KIT-065 --delivery-id 0193e5a1-7f00-4abc-8def-0123456789ab
  spec-notify replay --all --subscription chatops-slack --since 2h --dry-run
  spec-notify replay SPEC-KIT-065 --all

Each keeps its X-SpecKit-Id and is signed again with the current secret. A success removes the dead
letter. A failure adds an attempt to it.

With --all the oldest goes first, one at a time. If a subscription fails five times in a row, it gets
no more. A paused subscription gets none. Ctrl-C finishes the running request and prints a summary.

Exit code 1 if one failed or was not tried, or if no id matches; 2 if several ids match.")]
pub(super) struct Options {
    /// Id of the delivery, or its start; with --delivery-id or --all, the SPEC
    #[arg(value_name = "ID|SPEC", required_unless_present_any = ["all", "delivery_id"])]
    what: Option<String>,
    /// Id of a delivery of the SPEC, or its start
    #[arg(long, value_name = "UUID", conflicts_with_all = ["all", "subscription", "since"])]
    delivery_id: Option<IdPrefix>,
    /// Replay all dead letters that match
    #[arg(long)]
    all: bool,
    /// Only dead letters of this subscription; repeat it for several subscriptions
    #[arg(long, value_name = "ID", requires = "all")]
    subscription: Vec<SubscriptionId>,
    /// Only dead letters accepted since then: 30m, 2h, 3d, or a time
    #[arg(long, value_name = "WHEN", requires = "all", value_parser = moment)]
    since: Option<Timestamp>,
    /// List what would be sent, and send nothing
    #[arg(long)]
    dry_run: bool,
    /// Most requests a second with --all; the rate_limit_per_s of a subscription applies too
    #[arg(
        long,
        value_name = "N",
        requires = "all",
        default_value_t = 20,
        value_parser = clap::value_parser!(u32).range(1..=1000)
    )]
    rate: u32,
}

/// One replay, as `--json` prints it.
#[derive(Debug, Serialize)]
struct Replayed {
    id: DeliveryId,
    subscription: SubscriptionId,
    #[serde(skip)]
    of: Option<Listed>,
    outcome: SentOutcome,
    status: Option<u16>,
    latency_ms: Option<f64>,
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl Replayed {
    fn not_sent(letter: &Listed, outcome: SentOutcome, error: Option<String>) -> Self {
        let (id, subscription) = (letter.id, letter.subscription.clone());
        let of = Some(letter.clone());
        Self { id, subscription, of, outcome, status: None, latency_ms: None, error, hint: None }
    }

    fn of(report: SentReport) -> Self {
        Self {
            id: report.id,
            subscription: report.subscription,
            of: None,
            outcome: report.outcome,
            status: report.status,
            latency_ms: Some(report.latency_ms),
            error: report.error,
            hint: report.hint,
        }
    }
}

/// The subscriptions of the config, with their `rate_limit_per_s`.
type Rates = BTreeMap<SubscriptionId, Option<f64>>;

/// What is to be replayed.
enum Meant {
    /// One delivery; of this SPEC, if one is given.
    One(Option<SpecId>, IdPrefix),
    /// All; of this SPEC, if one is given.
    All(Option<SpecId>),
}

impl Meant {
    fn of(options: &Options) -> Result<Self, Failure> {
        let spec = |what: &String| what.parse::<SpecId>().map_err(Failure::usage);
        let what = options.what.as_ref();
        match (&options.delivery_id, options.all) {
            (Some(id), _) => Ok(Self::One(what.map(spec).transpose()?, id.clone())),
            (None, true) => Ok(Self::All(what.map(spec).transpose()?)),
            (None, false) => {
                let what = what.map(String::as_str).unwrap_or_default();
                let id = what.parse().map_err(|error| {
                    let of = "of a SPEC: give --delivery-id, or --all";
                    Failure::usage(format!("`{what}` is no delivery: {error}; {of}"))
                })?;
                Ok(Self::One(None, id))
            }
        }
    }
}

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let meant = Meant::of(options)?;
    if options.dry_run {
        return dry_run(global, options, &meant, screen);
    }
    let config = load_to_act(global, screen)?;
    let meant = match meant {
        Meant::One(spec, prefix) => match (spec, prefix.whole()) {
            // It is refused by its own reason where it is not there.
            (Some(spec), Some(id)) => Ok((spec, id)),
            (spec, _) => {
                let mut source = Source::find(global, screen)?;
                let one = resolve::of_spec(&mut source, &prefix, spec.as_ref(), &DEAD, "dead letter")?;
                Ok((one.spec, one.id))
            }
        },
        Meant::All(spec) => Err(spec),
    };
    let rates = config.subscriptions.iter().map(|entry| (entry.id.clone(), entry.rate_limit_per_s));
    let rates: Rates = rates.collect();
    let runtime = Runtime::start_blocking(Config { takes_part: false, ..config }, Environment::process())
        .map_err(Failure::failed)?;
    let handle = runtime.handle();
    let replayed = match meant {
        Ok((spec, delivery_id)) => {
            one(&handle, ReplayDeadLetter { spec, delivery_id, unless_paused: false }, screen)
        }
        Err(spec) => all(&handle, options, spec.as_ref(), &rates, screen),
    };
    runtime.drain_blocking(DRAIN);
    replayed
}

/// The states of what can be replayed.
const DEAD: [DeliveryState; 2] = [DeliveryState::DeadLetter, DeliveryState::Dropped];

fn one(handle: &Handle, letter: ReplayDeadLetter, screen: &mut Screen) -> Result<Exit, Failure> {
    let report = send(handle, letter)?;
    let succeeded = report.outcome != SentOutcome::Failed;
    if screen.is_json() {
        screen.value(&[Replayed::of(report)]);
    } else {
        show(&report, screen);
    }
    Ok(if succeeded { Exit::Done } else { Exit::Failed })
}

fn send(handle: &Handle, letter: ReplayDeadLetter) -> Result<SentReport, RequestError> {
    let no_answer = || RequestError::Unreachable("no answer from the runtime".to_owned());
    handle.block(PATIENCE, handle.ask(letter)).ok_or_else(no_answer)?
}

/// The selected dead letters, oldest first.
fn find(
    options: &Options,
    spec: Option<&SpecId>,
    mut list: impl FnMut(Query) -> Result<crate::inspect::Listing, Failure>,
) -> Result<Vec<Listed>, Failure> {
    let of = match &options.subscription[..] {
        [] => vec![None],
        some => some.iter().cloned().map(Some).collect::<BTreeSet<_>>().into_iter().collect(),
    };
    let mut letters: Vec<Listed> = Vec::new();
    for subscription in of {
        let mut before = None;
        loop {
            let page = list(Query {
                id: None,
                spec: spec.cloned(),
                subscription: subscription.clone(),
                states: DEAD.to_vec(),
                since: options.since,
                ended_since: None,
                before,
                limit: crate::inspect::MAX_LISTED,
            })?;
            before = page.deliveries.last().map(Listed::cursor);
            letters.extend(page.deliveries);
            if before.is_none() || !page.more {
                break;
            }
        }
    }
    letters.sort_by_key(|letter| (letter.accepted_at, letter.id));
    Ok(letters)
}

fn dry_run(global: &Global, options: &Options, meant: &Meant, screen: &mut Screen) -> Result<Exit, Failure> {
    let mut source = Source::find(global, screen)?;
    let letters = match meant {
        Meant::One(spec, prefix) => {
            vec![resolve::of_spec(&mut source, prefix, spec.as_ref(), &DEAD, "dead letter")?]
        }
        Meant::All(spec) => find(options, spec.as_ref(), |query| source.list(&query))?,
    };
    if screen.is_json() {
        let would: Vec<_> =
            letters.iter().map(|letter| Replayed::not_sent(letter, SentOutcome::DryRun, None)).collect();
        screen.value(&would);
    } else if letters.is_empty() {
        screen.note("nothing to replay: no dead letter matches");
    } else {
        lines(&letters, clock::now(), screen.width()).iter().for_each(|line| screen.print(line));
        let what = counted(letters.len(), "dead letter", "dead letters");
        screen.note(format_args!("{what} would be sent again; nothing was sent"));
    }
    Ok(Exit::Done)
}

fn all(
    handle: &Handle,
    options: &Options,
    spec: Option<&SpecId>,
    rates: &Rates,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let no_answer = || RequestError::Unreachable("no answer from the runtime".to_owned());
    let listed = |query| Ok(handle.block(PATIENCE, handle.list(query)).ok_or_else(no_answer)??);
    let letters = find(options, spec, listed)?;
    if letters.is_empty() {
        let known: Vec<_> = rates.keys().cloned().collect();
        options.subscription.iter().try_for_each(|id| resolve::known(&known, Some(id)))?;
        match screen.is_json() {
            true => screen.value(&letters),
            false => screen.note("nothing to replay: no dead letter matches"),
        }
        return Ok(Exit::Done);
    }
    let interrupt = Interrupt::listen();
    let mut replayed = Vec::with_capacity(letters.len());
    let mut failures: HashMap<SubscriptionId, u32> = HashMap::new();
    let pace = Duration::from_secs(1) / options.rate;
    let mut next_turn: HashMap<SubscriptionId, Instant> = HashMap::new();
    for (n, letter) in letters.iter().enumerate() {
        // The runtime holds the rate limit too, but a wait in here can be interrupted.
        let turn = next_turn.get(&letter.subscription);
        interrupt.pause(turn.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now())));
        if interrupt.came() {
            let why = Some("interrupted before".to_owned());
            replayed.push(Replayed::not_sent(letter, SentOutcome::NotTried, why));
            continue;
        }
        let in_a_row = failures.entry(letter.subscription.clone()).or_default();
        if *in_a_row >= OPEN_AFTER {
            let why = format!("{in_a_row} replays in a row failed before");
            replayed.push(Replayed::not_sent(letter, SentOutcome::NotTried, Some(why)));
            continue;
        }
        let failed = replayed.iter().filter(|one: &&Replayed| one.outcome == SentOutcome::Failed).count();
        screen.progress(format_args!("replaying {} of {}, {failed} failed", n + 1, letters.len()));
        let started = Instant::now();
        if let Some(rate) = rates.get(&letter.subscription).copied().flatten() {
            let interval = Duration::try_from_secs_f64(1.0 / rate).unwrap_or_default();
            next_turn.insert(letter.subscription.clone(), started + interval);
        }
        let (spec, delivery_id) = (letter.spec.clone(), letter.id);
        let outcome = match send(handle, ReplayDeadLetter { spec, delivery_id, unless_paused: true }) {
            Ok(report) => Replayed { of: Some(letter.clone()), ..Replayed::of(report) },
            Err(error) if error.is_unreachable() => {
                screen.progress_ends();
                return Err(error.into());
            }
            Err(error) if error.is_not_sent() => {
                // The same reason for many is told once.
                let why = error.to_string().replace(&format!("dead letter {}", letter.id), "dead letter");
                Replayed::not_sent(letter, SentOutcome::NotTried, Some(why))
            }
            Err(error) => Replayed::not_sent(letter, SentOutcome::Failed, Some(error.to_string())),
        };
        match outcome.outcome {
            SentOutcome::Failed => *in_a_row += 1,
            // That says nothing of the endpoint.
            SentOutcome::NotTried => {}
            SentOutcome::Delivered | SentOutcome::DryRun => *in_a_row = 0,
        }
        replayed.push(outcome);
        interrupt.pause(pace.saturating_sub(started.elapsed()));
    }
    screen.progress_ends();
    if screen.is_json() {
        screen.value(&replayed);
    } else {
        tell(&replayed, screen);
    }
    let all_good = !replayed.is_empty()
        && replayed.iter().all(|one| matches!(one.outcome, SentOutcome::Delivered | SentOutcome::DryRun));
    Ok(if all_good { Exit::Done } else { Exit::Failed })
}

/// Prints the results of many replays: failures one by one, the rest as counts.
fn tell(replayed: &[Replayed], screen: &mut Screen) {
    let count = |outcome: SentOutcome| replayed.iter().filter(|one| one.outcome == outcome).count();
    for one in replayed.iter().filter(|one| one.outcome == SentOutcome::Failed) {
        let error = one.error.as_deref().unwrap_or("unknown");
        screen.line(Tone::Bad, format_args!("failed: {} to {}", one.id, one.subscription));
        if let Some(letter) = &one.of {
            let what = format!("  {}  {}", letter.spec, letter.idempotency_key);
            screen.line(Tone::Faint, cut(&what, screen.width()));
        }
        let lines = wrap(error, "  ", screen.width());
        lines.into_iter().for_each(|text| screen.print(&Line::new(Tone::Plain, text)));
    }
    let arrived = count(SentOutcome::Delivered);
    let tone = if arrived == replayed.len() { Tone::Good } else { Tone::Warning };
    let tried = replayed.len() - count(SentOutcome::NotTried);
    let mut told = format!("{} replayed: {arrived} delivered", counted(tried, "dead letter", "dead letters"));
    for (outcome, words) in [(SentOutcome::DryRun, "dry run"), (SentOutcome::Failed, "failed")] {
        if count(outcome) > 0 {
            told += &format!(", {} {words}", count(outcome));
        }
    }
    screen.line(tone, told);
    // Why the others were not tried: one line a reason.
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for one in replayed.iter().filter(|one| one.outcome == SentOutcome::NotTried) {
        *reasons.entry(one.error.as_deref().unwrap_or("unknown")).or_default() += 1;
    }
    for (why, count) in reasons {
        screen.line(Tone::Warning, format_args!("{count} not tried: {why}"));
    }
}
