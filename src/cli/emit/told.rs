//! Reports the result of each emitted event, or of many together, and computes the exit code.

use std::collections::BTreeMap;

use super::wait::Awaited;
use crate::ask::{EmitOutcome, Emitted};
use crate::cli::Exit;
use crate::cli::OFF;
use crate::cli::render::{Screen, Tone};
use crate::inspect::counted;

/// The result of one event.
pub(super) struct Handed {
    pub(super) emitted: Emitted,
    /// Whether it was refused because it is not a valid event.
    pub(super) is_no_event: bool,
}

/// What the emitter is to hear.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// `--require-accepted`.
    pub(super) accepted: bool,
    /// Events go to a fleet.
    pub(super) fleet: bool,
}

/// Reports results as they come.
pub(super) struct Told<'a> {
    screen: &'a mut Screen,
    /// Whether there may be any number of events: then people get one summary at the end.
    many: bool,
    /// The first result, as long as it is the only one.
    first: Option<Emitted>,
    count: usize,
    sums: BTreeMap<&'static str, Sum>,
    exit: Exit,
    wanted: Wanted,
    /// What is to be waited for, with `--wait`.
    pub(super) awaited: Option<Awaited>,
}

/// The events with one outcome.
#[derive(Default)]
struct Sum {
    events: usize,
    deliveries: usize,
    /// The reason of the first refusal.
    error: Option<String>,
}

impl<'a> Told<'a> {
    pub(super) fn new(screen: &'a mut Screen, many: bool, awaited: Option<Awaited>, wanted: Wanted) -> Self {
        let sums = BTreeMap::new();
        Self { screen, many, first: None, count: 0, sums, exit: Exit::Done, wanted, awaited }
    }

    pub(super) fn tell(&mut self, Handed { emitted, is_no_event }: Handed) {
        if emitted.outcome == EmitOutcome::Refused {
            self.exit = self.exit.max(if is_no_event { Exit::Usage } else { Exit::Failed });
        }
        let is_kept_here = matches!(emitted.outcome, EmitOutcome::Queued | EmitOutcome::Unconfirmed);
        if self.wanted.accepted && is_kept_here {
            self.exit = self.exit.max(Exit::Failed);
        }
        if let Some(awaited) = &mut self.awaited {
            awaited.add(&emitted);
        }
        if self.screen.is_json() {
            self.screen.value(&emitted);
            return;
        }
        if !self.many {
            show(&emitted, self.wanted, self.screen);
            return;
        }
        let sum = self.sums.entry(emitted.outcome.as_str()).or_default();
        sum.events += 1;
        sum.deliveries += emitted.deliveries.len();
        sum.error = sum.error.take().or_else(|| emitted.error.clone());
        self.count += 1;
        self.first = (self.count == 1).then_some(emitted);
    }

    /// Prints the summary and returns the exit code.
    pub(super) fn end(self) -> (Exit, Option<Awaited>) {
        if let Some(only) = self.first {
            show(&only, self.wanted, self.screen);
            return (self.exit, self.awaited);
        }
        for (outcome, Sum { events, deliveries, error }) in &self.sums {
            let what = counted(*events, "event", "events");
            let tone = if *outcome == "duplicate" { Tone::Faint } else { Tone::Plain };
            let note = match outcome.parse() {
                Ok(EmitOutcome::Accepted) if self.wanted.fleet => IN_THE_CLUSTER.to_owned(),
                Ok(EmitOutcome::Queued) if self.wanted.fleet => TO_HAND_OVER.to_owned(),
                Ok(EmitOutcome::Accepted) => counted(*deliveries, "delivery", "deliveries"),
                Ok(EmitOutcome::Duplicate) => "accepted before, not sent again".to_owned(),
                Ok(EmitOutcome::Queued) => {
                    "no runtime took them now; the next one does: spec-notify serve".to_owned()
                }
                Ok(EmitOutcome::Unconfirmed) => WRITING.to_owned(),
                Ok(EmitOutcome::Refused) => {
                    let why = error.as_deref().unwrap_or("no reason is known");
                    self.screen.error(format_args!("{events} refused: {why}"));
                    continue;
                }
                Ok(EmitOutcome::Disabled) | Err(_) => OFF.to_owned(),
            };
            self.screen.line(tone, format_args!("{outcome} {what} ({note})"));
        }
        (self.exit, self.awaited)
    }
}

const WRITING: &str =
    "the disk did not confirm it within the deadline; the write goes on, and the next runtime finds it";

const IN_THE_CLUSTER: &str = "the cluster has it, and a deliverer sends it";

const TO_HAND_OVER: &str = "this machine has it alone: spec-notify drain hands it over to the cluster";

fn show(emitted: &Emitted, wanted: Wanted, screen: &mut Screen) {
    let key = emitted.event.as_ref().map_or("", |event| event.idempotency_key.as_str());
    let kind = emitted.event.as_ref().map_or("", |event| event.kind.as_str());
    match emitted.outcome {
        EmitOutcome::Accepted if wanted.fleet => {
            screen.line(Tone::Plain, format_args!("accepted: {kind} {key} ({IN_THE_CLUSTER})"));
        }
        EmitOutcome::Queued if wanted.fleet => {
            screen.line(Tone::Warning, format_args!("queued: {kind} {key} ({TO_HAND_OVER})"));
        }
        EmitOutcome::Accepted => {
            let names: Vec<_> =
                emitted.deliveries.iter().map(|delivery| delivery.subscription.as_str()).collect();
            let to = match names.len() {
                0 => "no active subscription wants it".to_owned(),
                _ => names.join(", "),
            };
            let what = counted(names.len(), "delivery", "deliveries");
            screen.line(Tone::Plain, format_args!("accepted {what}: {kind} {key} ({to})"));
        }
        EmitOutcome::Queued => screen.line(
            Tone::Plain,
            format_args!(
                "queued: {kind} {key} (no runtime took it now; the next one does: spec-notify serve)"
            ),
        ),
        EmitOutcome::Unconfirmed => {
            screen.line(Tone::Warning, format_args!("unconfirmed: {kind} {key} ({WRITING})"));
        }
        EmitOutcome::Duplicate => {
            screen.line(
                Tone::Faint,
                format_args!("duplicate: {kind} {key} was accepted before and is not sent again"),
            );
        }
        EmitOutcome::Disabled => screen.note(OFF),
        EmitOutcome::Refused => screen.error(emitted.error.as_deref().unwrap_or("refused")),
    }
}
