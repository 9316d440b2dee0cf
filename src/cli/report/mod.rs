//! `spec-notify report`: what happened since a time, for a ticket, a pull request or the summary of
//! a job.

mod html;
mod markdown;

use std::collections::HashSet;

use clap::Args;
use jiff::{SignedDuration, Timestamp};

use super::ask::{Source, moment};
use super::render::Screen;
use super::{Exit, Failure, Global};
use crate::clock;
use crate::delivery::FinalState;
use crate::env::Environment;
use crate::event::Status;
use crate::inspect::report::{Report, RunReport, Tally};
use crate::inspect::{counted, grouped, latency, short};
use crate::names::named;
use crate::sources::checkout::Checkout;

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify report --since 2h
  spec-notify report --since 2026-01-02T03:00:00Z --format html > report.html
  spec-notify report >> \"$GITHUB_STEP_SUMMARY\"
  spec-notify report --format json

Markdown suits tickets and pull requests. html is one file with pictures; it has no scripts and loads \
nothing. The report counts the evidence, with or without a runtime. It holds no URL, header or \
payload.")]
pub(super) struct Options {
    /// Start of the report: 30m, 2h, 3d, or a time
    #[arg(long, value_name = "WHEN", default_value = "24h", value_parser = moment)]
    since: Timestamp,
}

named! {
    /// The forms for people.
    Form, "form" {
        Markdown = "md",
        Html = "html",
    }
}

pub(super) fn run(
    global: &Global,
    options: &Options,
    form: Form,
    screen: &mut Screen,
) -> Result<Exit, Failure> {
    let mut source = Source::find(global, screen)?;
    if !source.config.enabled {
        screen.note(super::OFF);
    }
    let status = source.status()?;
    if let Some(silent) = source.silent() {
        screen.warning(silent);
    }
    let evidence = source.evidence()?;
    let checkout = Checkout::new(&source.config.repo, Environment::process()).current();
    let span = (options.since, clock::now());
    let report = Report::read(&source.config.spool_dir, &evidence, &status, checkout, span);
    let report = report.map_err(|error| Failure::failed(format!("the report cannot be made: {error}")))?;
    if screen.is_json() {
        screen.value(&report);
        return Ok(Exit::Done);
    }
    let text = match form {
        Form::Markdown => markdown::page(&report),
        Form::Html => html::page(&report),
    };
    screen.raw(text.as_bytes());
    Ok(Exit::Done)
}

/// What both forms say, in the same words.
struct Words<'a>(&'a Report);

impl Words<'_> {
    fn title(&self) -> String {
        format!("Webhooks of {}", self.0.source.repo.as_deref().unwrap_or("this repo"))
    }

    /// The time that it is about, and who says so.
    fn span(&self) -> String {
        let Report { since, until, runtime, .. } = self.0;
        let from = self.time(*since);
        let runtime = match runtime {
            Some(runtime) => format!("a runtime has been up for {}", ago(runtime.uptime_s)),
            None if self.0.of_fleet => "no runtime on this machine".to_owned(),
            None => "no runtime is running".to_owned(),
        };
        let lasts = took(i64::try_from(until.duration_since(*since).as_millis()).unwrap_or(i64::MAX));
        format!("{from} to {} ({lasts}); {}", clock::stamp(*until), runtime)
    }

    /// How it stands, in a sentence; whether that is well.
    fn verdict(&self) -> (bool, String) {
        let report = self.0;
        let mut parts = Vec::new();
        match (report.unwell(), report.subscriptions.len()) {
            (0, _) => {}
            (bad, all) => {
                let needs = if bad == 1 { "needs" } else { "need" };
                parts.push(format!(
                    "{bad} of {} {needs} somebody",
                    counted(all, "subscription", "subscriptions")
                ));
            }
        }
        if report.dead_letters > 0 {
            let noun = if report.dead_letters == 1 { "dead letter" } else { "dead letters" };
            parts.push(format!("{} {noun}", grouped(report.dead_letters as u64)));
        }
        if report.pending > 0 {
            let noun = if report.pending == 1 { "delivery waits" } else { "deliveries wait" };
            parts.push(format!("{} {noun}", grouped(report.pending as u64)));
        }
        if !report.warnings.is_empty() {
            parts.push(counted(report.warnings.len(), "warning", "warnings"));
        }
        let is_well = report.unwell() == 0 && report.dead_letters == 0 && report.warnings.is_empty();
        match (is_well, parts.is_empty()) {
            (_, true) => (true, "Nothing is unresolved.".to_owned()),
            (true, false) => (true, format!("Nothing is unresolved; {}.", parts.join(", "))),
            (false, false) => (false, format!("{}.", parts.join(", "))),
        }
    }

    /// What happened in all, part by part.
    fn totals(&self) -> Vec<(String, String)> {
        let report = self.0;
        if report.is_empty() {
            return Vec::new();
        }
        let total = &report.total;
        let mut totals = vec![("arrived".to_owned(), grouped(total.ended_as(FinalState::Delivered)))];
        for (name, count) in [
            ("moved to dead letter", total.given_up),
            ("discarded", total.ended_as(FinalState::Discarded)),
            ("dry runs", total.ended_as(FinalState::DryRun)),
        ] {
            if count > 0 || name == "moved to dead letter" {
                totals.push((name.to_owned(), grouped(count)));
            }
        }
        totals.push(("attempts".to_owned(), grouped(total.attempts)));
        let share = share(total);
        let share = if share.is_empty() { share } else { format!(" ({share})") };
        totals.push((format!("failed{share}"), grouped(total.failed)));
        for (name, ms) in [("p50", total.p50_ms), ("p95", total.p95_ms), ("slowest", total.max_ms)] {
            totals.extend(ms.map(|ms| (name.to_owned(), latency(ms))));
        }
        if !report.runs.is_empty() {
            totals.push(("runs".to_owned(), (report.runs.len() + report.earlier_runs).to_string()));
        }
        if report.tasks > 0 {
            totals.push(("tasks done".to_owned(), report.tasks.to_string()));
        }
        totals
    }

    /// What fails now, each with what to do: what was said above is not said again.
    fn troubles(&self) -> impl Iterator<Item = (String, &str, &str)> {
        let mut said = HashSet::new();
        self.0.troubles.iter().map(move |trouble| {
            let hint = if said.insert(&trouble.hint) { trouble.hint.as_str() } else { "" };
            (trouble.headline(|at| self.time(at)), hint, trouble.command.as_str())
        })
    }

    /// What is not in it.
    fn gaps(&self) -> Vec<String> {
        let report = self.0;
        let mut gaps = Vec::new();
        if let Some(from) = report.whole_from {
            gaps.push(format!(
                "Attempts before {} may be missing: the evidence of some SPECs was rotated \
                 (max_evidence_bytes).",
                self.time(from)
            ));
        }
        if report.runs_are_partial {
            gaps.push(
                "The spool keeps only the keys of events that ended long ago: runs may lack stages."
                    .to_owned(),
            );
        }
        if report.of_fleet {
            gaps.push("Runs and tasks are not told: a fleet's cluster keeps no events.".to_owned());
        }
        gaps
    }

    fn time(&self, at: Timestamp) -> String {
        clock::local(at, self.0.until)
    }
}

/// The share of attempts that failed, where some did: `9 %`, `<1 %`.
fn share(tally: &Tally) -> String {
    match (tally.failed, tally.attempts) {
        (0, _) | (_, 0) => String::new(),
        (failed, attempts) if failed * 200 < attempts => "<1 %".to_owned(),
        (failed, attempts) => format!("{} %", (failed * 200 / attempts).div_ceil(2)),
    }
}

/// How a run or a stage ended, in a sign and a word.
fn result(status: Option<Status>) -> &'static str {
    match status {
        Some(Status::Success) => "✅ success",
        Some(Status::Failure) => "❌ failure",
        Some(Status::Halt) => "⚠️ halt",
        None => "⏳ goes on",
    }
}

/// A length of time in two parts at most: `2 min 30 s`.
fn took(milliseconds: i64) -> String {
    let seconds = milliseconds / 1000;
    let two = |first: String, more: i64, unit: &str| match more {
        0 => first,
        more => format!("{first} {more} {unit}"),
    };
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0) => format!("{milliseconds} ms"),
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => two(format!("{minutes} min"), seconds, "s"),
        (hours @ ..48, minutes, _) => two(format!("{hours} h"), minutes, "min"),
        (hours, ..) => two(format!("{} d", hours / 24), hours % 24, "h"),
    }
}

fn ago(seconds: u64) -> String {
    short(SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)))
}

fn money(usd: Option<f64>) -> String {
    usd.map_or(String::new(), |usd| format!("${usd:.2}"))
}

/// Which run it is: `run 2`, `workflow run 6f9a3c73`.
fn which(run: &RunReport) -> String {
    match (&run.run, run.number) {
        (Some(id), _) => format!("workflow run {id}"),
        (None, Some(number)) => format!("run {number}"),
        (None, None) => "run".to_owned(),
    }
}
