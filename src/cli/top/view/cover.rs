//! What covers the panes of `top`: help, warnings, or all about what was opened.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};

use super::{LONGEST, coloured_sparkline, dead, style, why};
use crate::cli::render::{self, Tone};
use crate::cli::show;
use crate::cli::status::{fleet_lines, of_latency, tone as health_tone, ways};
use crate::cli::top::model::{Model, Read, View};
use crate::clock;
use crate::inspect::{DeliveryState, Listed, SubscriptionStatus, Trouble, TroubleKind};
use crate::inspect::{ago, counted, grouped};
use crate::names::printable;

const HELP: [&str; 20] = [
    "Tab, Shift-Tab    next pane, previous pane",
    "Up Down k j       move; PageUp PageDown Home End further",
    "Enter             open what is selected: all about it, and what to do",
    "r                 replay the selected dead letter (asks first)",
    "R                 replay all that failed alike (asks first; Esc stops it)",
    "/                 filter: words that all must be there, in any pane; the whole",
    "                  name of a subscription finds all that it has",
    "a                 all deliveries, or only those that are not resolved",
    "w                 warnings, and what to do; of a fleet also who does what",
    "?                 this, and back",
    "Esc               close what is open, drop the filter; with nothing open, quit",
    "q, Ctrl-C         quit; Ctrl-Z stops, fg goes on",
    "",
    "LAST HOUR         ▁ all arrived, █ all failed, blank: nothing was sent",
    "RATE              attempts in the last minute; FAIL and P95 are of the hour",
    "degraded          a share of the last minutes' attempts failed",
    "failing, open     nothing succeeds any more; five in a row failed",
    "dead_letter       not delivered: fix the endpoint, then replay",
    "dropped           pushed out by newer ones: can be replayed too",
    "(5 of 15)         a pane has room for 5 of its 15: move down for more",
];

/// What covers the panes: its title and its lines.
pub(super) fn covering(
    view: &View,
    model: &Model,
    now: Timestamp,
    width: usize,
) -> (&'static str, Vec<Line<'static>>) {
    match view {
        View::Panes => ("", Vec::new()),
        View::Help => ("Help", HELP.map(Line::from).to_vec()),
        View::Warnings => ("Warnings", warnings(model)),
        View::Delivery(delivery, read) => ("Delivery", about_delivery(delivery, read, now, width)),
        View::Subscription(id) => {
            let all = model.snapshot.iter().flat_map(|snapshot| &snapshot.status.subscriptions);
            let lines = all.clone().find(|one| one.id == *id).map(|one| about_subscription(one, now));
            ("Subscription", lines.unwrap_or_else(|| vec![Line::from("it no longer exists")]))
        }
        View::Cause(trouble) => ("What fails", about_cause(trouble, now)),
    }
}

fn line(text: impl AsRef<str>) -> Line<'static> {
    Line::from(printable(text.as_ref(), LONGEST))
}

pub(super) fn heading(text: impl AsRef<str>) -> Line<'static> {
    line(text).style(style(Tone::Heading))
}

fn warnings(model: &Model) -> Vec<Line<'static>> {
    // Why nothing new is known stands here whole: the first line has no room for all of it.
    let trouble = model.trouble.iter().map(|why| line(why).style(style(Tone::Bad)));
    let Some(status) = model.snapshot.as_ref().map(|snapshot| &snapshot.status) else {
        let asking = model.trouble.is_none().then(|| Line::from("asking …"));
        return trouble.chain(asking).collect();
    };
    let fleet = status.fleet.iter().flat_map(fleet_lines);
    let fleet = fleet.map(|render::Line { tone, text }| line(text).style(style(tone)));
    let mut lines: Vec<Line<'_>> = trouble.chain(fleet).collect();
    if !lines.is_empty() {
        lines.push(Line::default());
    }
    if status.warnings.is_empty() {
        lines.push(Line::from("no warnings"));
    }
    // A paragraph each.
    lines.extend(status.warnings.iter().flat_map(|warning| [line(warning), Line::default()]));
    lines
}

/// All about one delivery, as `show` has it.
fn about_delivery(delivery: &Listed, read: &Read, now: Timestamp, width: usize) -> Vec<Line<'static>> {
    match read {
        Read::NotYet => vec![
            heading(format!("{}  {}", delivery.id, delivery.state)),
            Line::from("reading its attempts …"),
        ],
        Read::Gone => vec![
            heading(format!("{}  {}", delivery.id, delivery.state)),
            Line::from("it no longer exists: it was replayed or discarded, and rotated out"),
        ],
        Read::Whole(shown) => {
            let lines = show::lines(shown, now, width).into_iter();
            let can_replay =
                matches!(shown.delivery.state, DeliveryState::DeadLetter | DeliveryState::Dropped);
            let keys =
                can_replay.then(|| line("r replays it, R all that failed alike").style(style(Tone::Heading)));
            lines.map(|render::Line { tone, text }| line(text).style(style(tone))).chain(keys).collect()
        }
    }
}

fn about_subscription(one: &SubscriptionStatus, now: Timestamp) -> Vec<Line<'static>> {
    let since = |at: Option<Timestamp>| at.map_or("never".to_owned(), |at| format!("{} ago", ago(now, at)));
    let lasts = one.since.map_or(String::new(), |since| format!(" for {}", ago(now, since)));
    let mut lines = vec![
        heading(one.id.as_str()),
        line(format!("{}{lasts}", one.health)).style(style(health_tone(one.health))),
        Line::default(),
        line(format!(
            "{} pending, {} in flight, {}",
            grouped(one.pending as u64),
            grouped(one.in_flight as u64),
            dead(one.dead_letters as u64)
        )),
        line(format!("last success {}", since(one.last_success_at))),
    ];
    lines.extend(
        one.oldest_pending_at.map(|at| line(format!("oldest pending accepted {} ago", ago(now, at)))),
    );
    lines.extend(
        one.paused_until
            .map(|at| line(format!("its endpoint asks for a pause until {}", clock::local(at, now)))),
    );
    let reason = why(one);
    if !reason.is_empty() {
        lines.push(Line::default());
        lines.push(line(reason).style(style(Tone::Bad)));
        lines.extend(one.last_hint.as_ref().map(line));
        let spec = one.last_spec.as_ref();
        lines.extend(spec.map(|spec| line(format!("spec-notify test {spec} --subscription {}", one.id))));
    }
    lines.push(Line::default());
    lines.push(heading("           attempts   failed      p50      p95      max   how"));
    for (name, window) in [
        ("minute", &one.figures.minute),
        ("10 minutes", &one.figures.ten_minutes),
        ("hour", &one.figures.hour),
        ("day", &one.figures.day),
    ] {
        lines.push(line(format!(
            "{name:10} {:>8} {:>8} {:>8} {:>8} {:>8}   {}",
            grouped(window.attempts),
            grouped(window.failed),
            of_latency(window.p50_ms),
            of_latency(window.p95_ms),
            of_latency(window.max_ms),
            ways(&window.failures)
        )));
    }
    lines.push(Line::default());
    lines.push(line("last hour, a minute each: ▁ all arrived, █ all failed"));
    lines.push(coloured_sparkline(one, 1));
    for over in &one.incidents {
        let (from, to) = (clock::local(over.from, now), clock::local(over.to, now));
        let given_up = counted(over.given_up as usize, "delivery", "deliveries");
        let failures = counted(over.failures as usize, "attempt", "attempts");
        lines.push(line(format!(
            "over: {failures} failed {from} to {to}, {given_up} moved to dead letter, {}",
            over.what
        )));
    }
    lines
}

fn about_cause(trouble: &Trouble, now: Timestamp) -> Vec<Line<'static>> {
    let mut lines = vec![heading(trouble.headline(|at| clock::local(at, now)))];
    lines.push(Line::default());
    if !trouble.hint.is_empty() {
        lines.push(line(&trouble.hint));
    }
    lines.push(line(&trouble.command));
    if trouble.kind == TroubleKind::DeadLetters {
        lines.push(line("R replays all of them here").style(style(Tone::Heading)));
    }
    lines.push(Line::default());
    lines.push(heading(counted(trouble.subscriptions.len(), "subscription", "subscriptions")));
    lines.extend(trouble.subscriptions.iter().map(|id| line(id.as_str())));
    lines.push(Line::default());
    lines.push(line(format!("last at {}, {} ago", clock::local(trouble.last, now), ago(now, trouble.last))));
    lines
}

pub(super) fn cover(
    title: &str,
    lines: Vec<Line<'static>>,
    model: &Model,
    (frame, area): (&mut Frame<'_>, Rect),
) {
    frame.render_widget(Clear, area);
    let room = usize::from(area.height.saturating_sub(2));
    let more = if lines.len() > room { ", arrows scroll" } else { "" };
    let block = Block::bordered().title(format!("{title} (Esc closes{more})"));
    // However far it is scrolled, at least one line stays visible.
    let scrolled = model.scrolled.min(u16::try_from(lines.len().saturating_sub(1)).unwrap_or(0));
    let text = Paragraph::new(Text::from(lines)).wrap(Wrap { trim: false }).scroll((scrolled, 0));
    frame.render_widget(text.block(block), area);
}
