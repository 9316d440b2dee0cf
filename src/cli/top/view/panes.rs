//! The four panes of `top`: how high each is, and what stands in its rows.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::Style;
use ratatui::text::Line;

use super::table::Part;
use super::{LONGEST, NAMED, WIDE, coloured_sparkline, style, why};
use crate::cli::list::{last, tone as state_tone};
use crate::cli::render::Tone;
use crate::cli::status::{of_latency, share, tone as health_tone};
use crate::cli::top::model::{Model, Pane};
use crate::delivery::{HealthState, SubscriptionId, readable};
use crate::figures::Window;
use crate::inspect::{DeliveryState, Listed, SubscriptionStatus, Tried, Trouble, TroubleKind};
use crate::inspect::{ago, grouped, latency, short};
use crate::names::printable;

/// How many rows each pane gets: a few each, and the rest in turns to those that have more.
fn heights(room: u16, wanted: [usize; 4]) -> [u16; 4] {
    const LEAST: [usize; 4] = [3, 2, 3, 2];
    const TURNS: [usize; 7] = [0, 0, 2, 1, 2, 0, 3];
    const ABOVE: u16 = 2;
    let is_shown = |pane: usize| pane != 1 || wanted[1] > 0;
    let heads = (0..4).filter(|pane| is_shown(*pane)).count();
    let mut left = room.saturating_sub(ABOVE * u16::try_from(heads).unwrap_or(4));
    let mut rows = [0_u16; 4];
    for pane in [0, 2, 1, 3] {
        let least = u16::try_from(wanted[pane].clamp(1, LEAST[pane])).unwrap_or(1).min(left);
        rows[pane] = if is_shown(pane) { least } else { 0 };
        left -= rows[pane];
    }
    while left > 0 {
        let before = left;
        for pane in TURNS {
            if left > 0 && is_shown(pane) && usize::from(rows[pane]) < wanted[pane] {
                rows[pane] += 1;
                left -= 1;
            }
        }
        if left == before {
            rows[2] += left;
            break;
        }
    }
    let mut heights = [0; 4];
    for pane in (0..4).filter(|pane| is_shown(*pane)) {
        heights[pane] = rows[pane] + ABOVE;
    }
    heights
}

pub(super) fn draw_panes(model: &Model, now: Timestamp, frame: &mut Frame<'_>, area: Rect) {
    let (subscriptions, causes) = (model.subscriptions(), model.causes());
    let (deliveries, attempts) = (model.deliveries(), model.attempts());
    let is_any = model.snapshot.as_ref().is_some_and(|snapshot| !snapshot.status.troubles.is_empty());
    let wanted =
        [subscriptions.len(), causes.len().max(usize::from(is_any)), deliveries.len(), attempts.len()];
    let areas: [Rect; 4] = Layout::vertical(heights(area.height, wanted).map(Constraint::Length)).areas(area);
    draw_subscriptions(model, &subscriptions, now, (frame, areas[0]));
    if is_any {
        draw_causes(model, &causes, now, (frame, areas[1]));
    }
    draw_deliveries(model, &deliveries, now, (frame, areas[2]));
    draw_attempts(model, &attempts, now, (frame, areas[3]));
}

/// Attempts in the last minute.
fn rate(minute: &Window) -> String {
    match minute.attempts {
        0 => "-".to_owned(),
        attempts @ 1..10_000 => format!("{}/m", grouped(attempts)),
        attempts => format!("{}/s", grouped(attempts / 60)),
    }
}

/// The room for the names in a column: as much as they need, within bounds.
fn names<'a>(all: impl Iterator<Item = &'a SubscriptionId>, most: usize) -> Constraint {
    let longest = all.map(|id| id.as_str().len()).max().unwrap_or(0).clamp(12, most);
    Constraint::Length(u16::try_from(longest).unwrap_or(12))
}

fn draw_subscriptions(
    model: &Model,
    all: &[&SubscriptionStatus],
    now: Timestamp,
    (frame, area): (&mut Frame<'_>, Rect),
) {
    let since = |at: Option<Timestamp>| at.map_or("-".to_owned(), |at| ago(now, at));
    let minutes = match area.width {
        150.. => 2,
        WIDE.. => 3,
        _ => 5,
    };
    let sparks = u16::try_from(60 / minutes).unwrap_or(30);
    let is_wide = area.width >= WIDE;
    let (name, reason) = match is_wide {
        true => (names(all.iter().map(|one| &one.id), 32), Constraint::Fill(1)),
        false => (Constraint::Fill(1), Constraint::Length(0)),
    };
    let widths = [
        name,
        Constraint::Length(8),
        Constraint::Length(5),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(7),
        Constraint::Length(5),
        Constraint::Length(6),
        Constraint::Length(sparks),
        reason,
    ];
    let row = |one: &&SubscriptionStatus| {
        let hour = &one.figures.hour;
        let dead = if one.dead_letters > 0 { Tone::Bad } else { Tone::Plain };
        let cells = [
            Line::from(one.id.to_string()),
            Line::styled(one.health.to_string(), style(health_tone(one.health))),
            Line::from(since(one.since)),
            Line::styled(grouped(one.dead_letters as u64), style(dead)),
            Line::from(grouped((one.pending + one.in_flight) as u64)),
            Line::from(rate(&one.figures.minute)),
            Line::from(share(hour)),
            Line::from(of_latency(hour.p95_ms)),
            coloured_sparkline(one, minutes),
            Line::from(if is_wide { why(one) } else { String::new() }),
        ];
        let is_off = matches!(one.health, HealthState::Inactive);
        (cells, if is_off { style(Tone::Faint) } else { Style::new() })
    };
    let rows = all.iter().map(row).collect();
    let heading = [
        "SUBSCRIPTION",
        "HEALTH",
        "SINCE",
        "DEAD",
        "WAIT",
        "RATE",
        "FAIL",
        "P95",
        "LAST HOUR",
        if is_wide { "WHY" } else { "" },
    ];
    let nothing = if model.snapshot.is_some() { "none" } else { "" };
    let (pane, title) = (Pane::Subscriptions, "Subscriptions, the worst first".to_owned());
    Part { pane, title, total: None, heading, widths, rows, nothing }.draw(model, (frame, area));
}

fn draw_causes(model: &Model, all: &[&Trouble], now: Timestamp, (frame, area): (&mut Frame<'_>, Rect)) {
    let is_wide = area.width >= WIDE;
    let (what, whose, hint) = match is_wide {
        true => {
            let longest = all.iter().map(|trouble| trouble.what.chars().count()).max().unwrap_or(0);
            let what = u16::try_from(longest.clamp(10, 40)).unwrap_or(40);
            (Constraint::Length(what), Constraint::Fill(2), Constraint::Fill(3))
        }
        false => (Constraint::Fill(3), Constraint::Fill(2), Constraint::Length(0)),
    };
    let widths = [Constraint::Length(12), what, Constraint::Length(5), whose, hint];
    let row = |trouble: &&Trouble| {
        let (noun, tone) = match trouble.kind {
            TroubleKind::DeadLetters => ("dead", Tone::Bad),
            _ => ("tries", Tone::Warning),
        };
        let names: Vec<&str> = trouble.subscriptions.iter().map(|id| id.as_str()).collect();
        let most = if is_wide { NAMED } else { 1 };
        let whose = match names.len() {
            0..=2 if is_wide => names.join(", "),
            1 => names.join(", "),
            count => format!("{} +{}", names[..most].join(", "), count - most),
        };
        let cells = [
            format!("{} {noun}", grouped(trouble.count)),
            printable(&trouble.what, LONGEST),
            ago(now, trouble.since),
            whose,
            if is_wide { printable(&trouble.hint, LONGEST) } else { String::new() },
        ];
        (cells.map(Line::from), style(tone))
    };
    let rows = all.iter().map(row).collect();
    let heading =
        ["COUNT", "WHAT", "SINCE", "WHOSE", if is_wide { "WHAT TO DO (Enter: the command)" } else { "" }];
    let title = "What fails".to_owned();
    Part { pane: Pane::Causes, title, total: None, heading, widths, rows, nothing: "none" }
        .draw(model, (frame, area));
}

fn draw_deliveries(model: &Model, all: &[&Listed], now: Timestamp, (frame, area): (&mut Frame<'_>, Rect)) {
    let is_wide = area.width >= WIDE;
    let widths = [
        Constraint::Length(11),
        names(all.iter().map(|one| &one.subscription), if is_wide { 32 } else { 20 }),
        Constraint::Length(5),
        Constraint::Length(5),
        Constraint::Length(4),
        Constraint::Length(6),
        Constraint::Fill(1),
        if is_wide { Constraint::Fill(1) } else { Constraint::Length(0) },
    ];
    let row = |delivery: &&Listed| {
        let next = match delivery.next_attempt_at.filter(|_| delivery.state == DeliveryState::Pending) {
            Some(_) if delivery.paused => "paused".to_owned(),
            Some(at) if at > now => short(at.duration_since(now)),
            Some(_) => "due".to_owned(),
            None => "-".to_owned(),
        };
        let why = delivery.last_error.as_deref().filter(|_| is_wide).unwrap_or_default();
        let cells = [
            delivery.state.to_string(),
            delivery.subscription.to_string(),
            delivery.attempts.to_string(),
            last(delivery),
            ago(now, delivery.accepted_at),
            next,
            delivery.idempotency_key.to_string(),
            printable(&readable(why), LONGEST),
        ];
        (cells.map(Line::from), style(state_tone(delivery.state, delivery.attempts)))
    };
    let heading =
        ["STATE", "SUBSCRIPTION", "TRIES", "LAST", "AGE", "NEXT", "EVENT", if is_wide { "WHY" } else { "" }];
    let status = model.snapshot.as_ref().map(|snapshot| &snapshot.status);
    let (dead, waiting) = status.map_or((0, 0), |status| {
        (status.subscriptions.iter().map(|one| one.dead_letters).sum(), status.pending)
    });
    let mut title = if model.all { "Deliveries: all" } else { "Deliveries: not resolved" }.to_owned();
    if dead + waiting > 0 && model.filter.is_empty() {
        title += &format!(", {} dead, {} wait", grouped(dead as u64), grouped(waiting as u64));
    }
    // Of all only the newest are read; how many there are is known of what is not resolved.
    let total = (!model.all && model.filter.is_empty()).then_some(dead + waiting);
    let rows = all.iter().map(row).collect();
    let nothing = match (&model.snapshot, model.filter.is_empty()) {
        (None, _) => "",
        (_, false) => "none of the newest matches: the whole name of a subscription finds all that it has",
        (_, true) if model.all => "none yet",
        (_, true) => "none: nothing waits, and there is no dead letter; a shows what arrived",
    };
    Part { pane: Pane::Deliveries, title, total, heading, widths, rows, nothing }.draw(model, (frame, area));
}

fn draw_attempts(model: &Model, all: &[&Tried], now: Timestamp, (frame, area): (&mut Frame<'_>, Rect)) {
    let is_wide = area.width >= WIDE;
    let widths = [
        Constraint::Length(4),
        names(all.iter().map(|one| &one.subscription), if is_wide { 32 } else { 20 }),
        Constraint::Length(3),
        Constraint::Length(10),
        Constraint::Length(7),
        Constraint::Fill(1),
        if is_wide { Constraint::Fill(1) } else { Constraint::Length(0) },
    ];
    let row = |tried: &&Tried| {
        let said = tried.response.as_ref().map(|response| response.body.as_str());
        let said = said.or(tried.error.as_ref().map(|error| error.message.as_str())).filter(|_| is_wide);
        let cells = [
            ago(now, tried.time),
            tried.subscription.to_string(),
            tried.attempt.to_string(),
            answer(tried),
            latency(tried.latency_ms),
            tried.idempotency_key.to_string(),
            printable(&readable(said.unwrap_or_default()), LONGEST),
        ];
        (cells.map(Line::from), style(if tried.outcome == "delivered" { Tone::Good } else { Tone::Plain }))
    };
    let heading =
        ["AGE", "SUBSCRIPTION", "TRY", "ANSWER", "TOOK", "EVENT", if is_wide { "IT SAID" } else { "" }];
    let rows = all.iter().map(row).collect();
    let nothing = if model.snapshot.is_some() { "none" } else { "" };
    let title = "Newest attempts".to_owned();
    Part { pane: Pane::Attempts, title, total: None, heading, widths, rows, nothing }
        .draw(model, (frame, area));
}

/// The answer in a word.
fn answer(tried: &Tried) -> String {
    match (&tried.response, &tried.error) {
        (Some(response), _) => response.status.to_string(),
        (None, Some(error)) => printable(&error.class, 20),
        (None, None) => "not sent".to_owned(),
    }
}
