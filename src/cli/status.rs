//! `spec-notify status`: the state of runtime and subscriptions, fit for a ticket; `--banner`: one
//! line, if something is unresolved.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::ask::{PATIENCE, Source};
use super::render::{Line, Screen, Tone, fitted, wrap};
use super::{Exit, Failure, Global};
use crate::clock;
use crate::delivery::HealthState;
use crate::inspect::{StatusReport, SubscriptionStatus, ago};
use crate::run::AwaitedStage;

/// How long a runtime may take for an answer to `--banner`: a prompt cannot wait for one that
/// hangs.
const BANNER_PATIENCE: Duration = Duration::from_millis(150);

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  spec-notify status
  spec-notify status --banner      for a prompt: nothing, or one line
  spec-notify status --json

Exit code 1 while something is unresolved: \
a subscription fails, dead letters are left, records are damaged, or
no runtime runs and deliveries wait, or the repo holds what nobody has told of.")]
pub(super) struct Options {
    /// One line, and only if something is unresolved
    #[arg(long)]
    banner: bool,
}

pub(super) fn run(global: &Global, options: &Options, screen: &mut Screen) -> Result<Exit, Failure> {
    let patience = if options.banner { BANNER_PATIENCE } else { PATIENCE };
    let mut source = Source::find_within(global, patience, screen)?;
    if !source.config.enabled {
        if !options.banner {
            screen.note(super::OFF);
        }
        if !source.config.spool_dir.is_dir() && !screen.is_json() {
            return Ok(Exit::Done);
        }
    }
    let report = if options.banner && !screen.is_json() { source.brief_status() } else { source.status() }?;
    let now = clock::now();
    let banner = report.banner(now);
    if screen.is_json() {
        screen.value(&report);
    } else if options.banner {
        banner.iter().for_each(|banner| screen.line(Tone::Warning, banner));
    } else {
        lines(&report, now, screen.width()).iter().for_each(|line| screen.print(line));
    }
    Ok(if banner.is_some() { Exit::Failed } else { Exit::Done })
}

/// The lines for people.
pub(super) fn lines(report: &StatusReport, now: Timestamp, width: usize) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let runtime = match &report.runtime {
        Some(runtime) => {
            let up =
                ago(now, now - jiff::SignedDuration::from_secs(i64::try_from(runtime.uptime_s).unwrap_or(0)));
            let watches = if runtime.watches { "" } else { ", does not watch the repo" };
            let text = format!(
                "runtime  process {}, up {up}, {}, version {}{watches}",
                runtime.pid, runtime.address, runtime.version
            );
            Line::new(Tone::Plain, text)
        }
        None if report.silent.is_some() => Line::new(Tone::Bad, "runtime  does not answer"),
        None => Line::new(Tone::Warning, "runtime  none is running"),
    };
    let mut wrapped = wrap(&runtime.text, "         ", width).into_iter();
    lines.extend(wrapped.next().map(|first| Line::new(runtime.tone, first.trim_start())));
    lines.extend(wrapped.map(|text| Line::new(runtime.tone, text)));
    lines.push(Line::new(Tone::Plain, format!("at       {}", clock::stamp(now))));
    if report.inbox > 0 {
        lines.push(Line::new(Tone::Plain, format!("inbox    {} waiting", report.inbox)));
    }
    for AwaitedStage { spec, stage, since, .. } in &report.awaited {
        let since = ago(now, *since);
        lines.push(Line::new(Tone::Plain, format!("waits    {stage} of {spec} for its agents, {since}")));
    }
    lines.push(Line::new(Tone::Plain, ""));
    if report.subscriptions.is_empty() {
        lines.push(Line::new(
            Tone::Plain,
            "no subscriptions: add a [[spec_ops.webhooks.subscriptions]] entry",
        ));
    } else {
        let heading = ["SUBSCRIPTION", "HEALTH", "SINCE", "PENDING", "OLDEST", "DEAD", "LAST SUCCESS"];
        let rows = report.subscriptions.iter().map(|subscription| row(subscription, now));
        let rows = std::iter::once(heading.map(str::to_owned)).chain(rows).map(Vec::from);
        let table = fitted(rows.collect(), width, &DROPPED, 0);
        let tones = report.subscriptions.iter().map(|subscription| tone(subscription.health));
        let tones = std::iter::once(Tone::Heading).chain(tones);
        lines.extend(tones.zip(table).map(|(tone, text)| Line::new(tone, text)));
    }
    if !report.warnings.is_empty() {
        lines.push(Line::new(Tone::Plain, ""));
        lines.push(Line::new(Tone::Heading, "WARNINGS"));
        for warning in &report.warnings {
            let mut wrapped = wrap(warning, "    ", width).into_iter();
            lines.extend(
                wrapped.next().map(|first| Line::new(Tone::Plain, format!("  {}", first.trim_start()))),
            );
            lines.extend(wrapped.map(|text| Line::new(Tone::Plain, text)));
        }
    }
    lines
}

/// Columns that a narrow terminal has no room for, the first to go first: LAST SUCCESS, OLDEST,
/// SINCE. Names are cut last.
const DROPPED: [usize; 3] = [6, 4, 2];

fn row(subscription: &SubscriptionStatus, now: Timestamp) -> [String; 7] {
    let since = |at: Option<Timestamp>| at.map_or("-".to_owned(), |at| ago(now, at));
    [
        subscription.id.to_string(),
        subscription.health.to_string(),
        since(subscription.paused.as_ref().map(|pause| pause.since).or(subscription.failing_since)),
        (subscription.pending + subscription.in_flight).to_string(),
        since(subscription.oldest_pending_at),
        subscription.dead_letters.to_string(),
        subscription.last_success_at.map_or("never".to_owned(), |at| format!("{} ago", ago(now, at))),
    ]
}

pub(super) fn tone(health: HealthState) -> Tone {
    match health {
        HealthState::Healthy => Tone::Good,
        HealthState::Failing | HealthState::Paused => Tone::Warning,
        HealthState::Open => Tone::Bad,
        HealthState::Inactive | HealthState::DryRun => Tone::Faint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::text;

    fn report() -> StatusReport {
        serde_json::from_value(serde_json::json!({
            "runtime": {"pid": 4711, "address": "127.0.0.1:40123", "version": "0.1.0",
            "uptime_s": 7384, "watches": true},
            "subscriptions": [
                {"id": "chatops-slack", "health": "open", "pending": 12, "in_flight": 1, "dead_letters": 3,
                 "consecutive_failures": 17, "failing_since": "2025-10-14T08:00:00.000Z",
                 "last_success_at": "2025-10-13T09:00:00.000Z",
                 "oldest_pending_at": "2025-10-14T08:30:00.000Z",
                 "last_error": "status 503: upstream is being deployed"},
                {"id": "audit", "health": "healthy", "pending": 0, "in_flight": 0, "dead_letters": 0,
                 "consecutive_failures": 0, "failing_since": null,
                 "last_success_at": "2025-10-14T09:59:57.000Z",
                 "oldest_pending_at": null, "last_error": null},
                {"id": "next-quarter", "health": "inactive", "pending": 2, "in_flight": 0, "dead_letters": 0,
                 "consecutive_failures": 0, "failing_since": null, "last_success_at": null,
                 "oldest_pending_at": "2025-10-12T08:30:00.000Z", "last_error": null},
            ],
            "pending": 15,
            "inbox": 1,
            "warnings": [
                "chatops-slack: 17 attempts in a row have failed, the last with status 503: \
                 upstream is being deployed; \
                 after mending it: spec-notify test SPEC --subscription chatops-slack",
                "chatops-slack: 3 dead letters; spec-notify replay --all --subscription chatops-slack",
            ],
        }))
        .unwrap()
    }

    #[test]
    fn what_people_read_fits_the_terminal() {
        let now = "2025-10-14T10:00:00Z".parse().unwrap();
        for width in [60, 80, 120] {
            let text = text(&lines(&report(), now, width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
            insta::assert_snapshot!(format!("status_{width}"), text);
        }
    }

    #[test]
    fn the_banner_is_one_line_and_only_while_something_is_unresolved() {
        let now = "2025-10-14T10:00:00Z".parse().unwrap();
        let mut report = report();
        let banner = report.banner(now).unwrap();
        assert_eq!(
            banner,
            "spec-notify: chatops-slack open since 2h, 3 dead letters, 15 pending (see spec-notify status)"
        );
        report.subscriptions.remove(0);
        report.warnings.clear();
        assert_eq!(report.banner(now), None);
        report.warnings.push("something is damaged".to_owned());
        assert_eq!(
            report.banner(now).unwrap(),
            "spec-notify: 1 warning, 15 pending (see spec-notify status)"
        );
    }
}
