//! The layout of `top`: a banner, the panes one below the other, and a line for keys and notes, for
//! terminals from 80 columns and 24 lines. What is worst is at the top, and what a pane has no room
//! for is counted in its title.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Block, Borders, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::model::{Input, Model, Pane, Read, Snapshot, View};
use crate::cli::list::{last, tone as state_tone};
use crate::cli::render::{self, Tone, cut};
use crate::cli::show;
use crate::cli::status::{fleet_lines, of_latency, share, sparkline, tone as health_tone, ways};
use crate::clock;
use crate::delivery::{FailureClass, HealthState, SubscriptionId, readable};
use crate::figures::Window;
use crate::inspect::{DeliveryState, Listed, SubscriptionStatus, Tried, Trouble, TroubleKind};
use crate::inspect::{ago, counted, grouped, latency, listed, short};
use crate::names::{is_deceiving, printable};

/// Longest text of a cell or a line, in characters.
const LONGEST: usize = 2000;

/// From this width on there is room for reasons beside what they are the reasons of.
const WIDE: u16 = 120;

/// Most subscriptions that are named beside a cause.
const NAMED: usize = 2;

const KEYS: &str = "? help  Tab pane  Enter open  r replay  R all alike  / filter  a all  q quit";

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

fn style(tone: Tone) -> Style {
    match tone {
        Tone::Plain => Style::new(),
        Tone::Good => Style::new().fg(Color::Green),
        Tone::Warning => Style::new().fg(Color::Yellow),
        Tone::Bad => Style::new().fg(Color::Red),
        Tone::Faint => Style::new().add_modifier(Modifier::DIM),
        Tone::Heading => Style::new().add_modifier(Modifier::BOLD),
    }
}

/// Draws the whole screen as of `now`.
pub(super) fn draw(model: &Model, now: Timestamp, frame: &mut Frame<'_>) {
    let [banner, panes, footer] =
        Layout::vertical([Constraint::Length(1), Constraint::Min(0), Constraint::Length(1)])
            .areas(frame.area());
    let (text, tone) = headline(model, now, banner.width);
    frame.render_widget(Paragraph::new(text).style(style(tone).add_modifier(Modifier::BOLD)), banner);
    match &model.view {
        View::Panes => draw_panes(model, now, frame, panes),
        view => {
            let width = usize::from(panes.width.saturating_sub(2)).max(20);
            let (title, lines) = covering(view, model, now, width);
            cover(title, lines, model, (frame, panes));
        }
    }
    let (text, tone) = footer_line(model);
    frame.render_widget(Paragraph::new(text).style(style(tone)), footer);
    // Cells may contain what others wrote and reach the terminal unchanged.
    for cell in &mut frame.buffer_mut().content {
        if cell.symbol().chars().any(is_deceiving) {
            cell.set_symbol("\u{fffd}");
        }
    }
}

/// The text of the first line.
fn headline(model: &Model, now: Timestamp, width: u16) -> (String, Tone) {
    let Some(snapshot) = &model.snapshot else {
        return match &model.trouble {
            Some(trouble) => (printable(trouble, LONGEST), Tone::Bad),
            None => ("spec-notify: asking …".to_owned(), Tone::Faint),
        };
    };
    if let Some(trouble) = &model.trouble {
        let text = format!("as of {} ago: {}", ago(now, snapshot.at), printable(trouble, LONGEST));
        return (text, Tone::Bad);
    }
    match (snapshot.status.banner(now), &snapshot.status.runtime) {
        (Some(banner), _) => {
            let then = if width >= WIDE { "; w says what to do" } else { "" };
            (banner.replace(" (see spec-notify status)", then), Tone::Warning)
        }
        (None, Some(runtime)) => {
            let all = &snapshot.status.subscriptions;
            let is_tried = |one: &SubscriptionStatus| {
                !matches!(one.health, HealthState::Untried | HealthState::Inactive)
            };
            // What never sent anything is not known to be well.
            let (state, tone) = match all.iter().any(is_tried) {
                true => ("all is well", Tone::Good),
                false => ("ready; nothing has been sent yet", Tone::Plain),
            };
            let fleet = snapshot.status.fleet.as_ref();
            let who = fleet.map_or_else(
                || format!("process {}", runtime.pid),
                |fleet| counted(fleet.members.len(), "member", "members"),
            );
            (format!("spec-notify: {state} ({who})"), tone)
        }
        (None, None) => ("spec-notify: nothing is left to do; no runtime is running".to_owned(), Tone::Plain),
    }
}

fn footer_line(model: &Model) -> (String, Tone) {
    match (&model.input, &model.replaying) {
        (Input::Filter, _) => {
            (format!("filter: {}▏ (Enter keeps it, Esc drops it)", model.filter), Tone::Heading)
        }
        (Input::Confirm(_, id), _) => (format!("replay {id}? y/n"), Tone::Warning),
        (Input::ConfirmAll(trouble), _) => {
            let count = dead(trouble.count);
            let whose: Vec<&str> = trouble.subscriptions.iter().map(|id| id.as_str()).collect();
            let whose = listed(&whose, NAMED, "subscriptions");
            (format!("replay {count} of {whose} ({})? y/n", printable(&trouble.what, 60)), Tone::Warning)
        }
        (Input::Keys, _) if !model.note.is_empty() => (printable(&model.note, LONGEST), Tone::Heading),
        (Input::Keys, Some(progress)) => (progress.clone(), Tone::Heading),
        (Input::Keys, None) => (KEYS.to_owned(), Tone::Faint),
    }
}

/// `1 dead letter`, `1,204 dead letters`.
fn dead(count: u64) -> String {
    format!("{} dead letter{}", grouped(count), if count == 1 { "" } else { "s" })
}

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

fn draw_panes(model: &Model, now: Timestamp, frame: &mut Frame<'_>, area: Rect) {
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

/// A row of a pane: its cells, and how it looks.
type Cells<const N: usize> = ([Line<'static>; N], Style);

/// The part of a pane.
struct Part<const N: usize> {
    pane: Pane,
    title: String,
    /// How many there are, where that is more than the rows.
    total: Option<usize>,
    heading: [&'static str; N],
    widths: [Constraint; N],
    rows: Vec<Cells<N>>,
    /// What stands in the place of rows where there are none.
    nothing: &'static str,
}

impl<const N: usize> Part<N> {
    fn draw(self, model: &Model, (frame, area): (&mut Frame<'_>, Rect)) {
        let Self { pane, mut title, total, heading, widths, rows, nothing } = self;
        let is_focused = model.pane == pane;
        let room = usize::from(area.height.saturating_sub(2));
        let there = total.unwrap_or(rows.len()).max(rows.len());
        let shown = room.min(rows.len());
        title += &match there {
            0 => String::new(),
            there if there > shown => format!(" ({} of {})", grouped(shown as u64), grouped(there as u64)),
            there => format!(" ({there})"),
        };
        if !model.filter.is_empty() {
            title += &format!(" with \"{}\"", model.filter);
        }
        let (mark, border) =
            if is_focused { ("▸ ", style(Tone::Heading)) } else { ("  ", style(Tone::Faint)) };
        let block = Block::new()
            .borders(Borders::TOP)
            .border_style(style(Tone::Faint))
            .title(Span::styled(format!("{mark}{title} "), border));
        if rows.is_empty() {
            let text = Paragraph::new(format!("  {nothing}")).style(style(Tone::Faint));
            return frame.render_widget(text.block(block), area);
        }
        let columns: [Rect; N] = Layout::horizontal(widths).spacing(1).areas(area);
        let row = |(cells, style): Cells<N>| {
            let rooms = columns.iter().map(|column| usize::from(column.width));
            Row::new(cells.into_iter().zip(rooms).map(|(cell, room)| fitted(cell, room))).style(style)
        };
        let rows: Vec<Row<'_>> = rows.into_iter().map(row).collect();
        let mut table =
            Table::new(rows, widths).header(Row::new(heading).style(style(Tone::Faint))).block(block);
        if is_focused {
            table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        }
        let mut state = TableState::default().with_selected(model.selected(pane));
        frame.render_stateful_widget(table, area, &mut state);
    }
}

/// A cell, marked where it is cut.
fn fitted(cell: Line<'static>, room: usize) -> Line<'static> {
    if cell.width() <= room {
        return cell;
    }
    let text: String = cell.spans.iter().map(|span| span.content.as_ref()).collect();
    Line::styled(cut(&text, room), cell.style)
}

/// Attempts in the last minute.
fn rate(minute: &Window) -> String {
    match minute.attempts {
        0 => "-".to_owned(),
        attempts @ 1..10_000 => format!("{}/m", grouped(attempts)),
        attempts => format!("{}/s", grouped(attempts / 60)),
    }
}

/// Each character in the colour of what it says.
fn coloured_sparkline(one: &SubscriptionStatus, minutes: usize) -> Line<'static> {
    let colour = |c: char| match c {
        '▁' => Tone::Good,
        '▂' | '▃' | '▄' => Tone::Warning,
        _ => Tone::Bad,
    };
    let cells = sparkline(one, minutes)
        .chars()
        .map(|c| Span::styled(c.to_string(), style(colour(c))))
        .collect::<Vec<_>>();
    Line::from(cells)
}

/// Why a subscription is not well, where it is not.
fn why(one: &SubscriptionStatus) -> String {
    if let Some(pause) = &one.paused {
        return format!("paused by {}", printable(&pause.by, 40));
    }
    if let Some(fault) = &one.local_fault {
        return printable(&fault.error, LONGEST);
    }
    let is_told = one.unresolved || one.consecutive_failures > 0 || one.dead_letters > 0;
    let error = one.last_error.as_deref().filter(|_| is_told).unwrap_or_default();
    // The class of a failure says no more than its words.
    let words = error.split_once(": ").filter(|(class, _)| class.parse::<FailureClass>().is_ok());
    printable(&readable(words.map_or(error, |(_, words)| words)), LONGEST)
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

/// What covers the panes: its title and its lines.
fn covering(view: &View, model: &Model, now: Timestamp, width: usize) -> (&'static str, Vec<Line<'static>>) {
    match view {
        View::Panes => ("", Vec::new()),
        View::Help => ("Help", HELP.map(Line::from).to_vec()),
        View::Warnings => ("Warnings", warnings(model.snapshot.as_ref())),
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

fn heading(text: impl AsRef<str>) -> Line<'static> {
    line(text).style(style(Tone::Heading))
}

fn warnings(snapshot: Option<&Snapshot>) -> Vec<Line<'static>> {
    let Some(status) = snapshot.map(|snapshot| &snapshot.status) else { return vec![Line::from("none")] };
    let fleet = status.fleet.iter().flat_map(fleet_lines);
    let mut lines: Vec<Line<'_>> =
        fleet.map(|render::Line { tone, text }| line(text).style(style(tone))).collect();
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

fn cover(title: &str, lines: Vec<Line<'static>>, model: &Model, (frame, area): (&mut Frame<'_>, Rect)) {
    frame.render_widget(Clear, area);
    let room = usize::from(area.height.saturating_sub(2));
    let more = if lines.len() > room { ", arrows scroll" } else { "" };
    let block = Block::bordered().title(format!("{title} (Esc closes{more})"));
    // However far it is scrolled, at least one line stays visible.
    let scrolled = model.scrolled.min(u16::try_from(lines.len().saturating_sub(1)).unwrap_or(0));
    let text = Paragraph::new(Text::from(lines)).wrap(Wrap { trim: false }).scroll((scrolled, 0));
    frame.render_widget(text.block(block), area);
}
