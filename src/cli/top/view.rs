//! The layout of `top`: a banner, three panes and a line for keys and notes, for terminals from 80
//! columns and 24 lines.

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Text};
use ratatui::widgets::{Block, Clear, Paragraph, Row, Table, TableState, Wrap};

use super::model::{Input, Model, Pane, Snapshot, View};
use crate::cli::list::{last, tone as state_tone};
use crate::cli::render::Tone;
use crate::cli::status::tone as health_tone;
use crate::delivery::readable;
use crate::inspect::{DeliveryState, Listed, Tried};
use crate::inspect::{ago, counted, latency, short};
use crate::names::{is_deceiving, printable};

/// Longest text of a cell or a line, in characters.
const LONGEST: usize = 2000;

const KEYS: &str = "q quit  Tab pane  Enter open  r replay  / filter  a all  w warnings  ? help";

const HELP: [&str; 15] = [
    "q, Ctrl-C         quit",
    "Esc               close what is open, drop the filter, quit",
    "Tab               next pane",
    "Up Down k j       move; PageUp PageDown Home End further",
    "Enter             one delivery with all its attempts",
    "r                 replay the selected dead letter (asks first)",
    "/                 filter by subscription, SPEC, key, state or id",
    "a                 all deliveries, or only those that are not resolved",
    "w                 warnings, and what to do",
    "",
    "degraded          a share of the last minutes' attempts failed",
    "failing, open     nothing succeeds any more; five in a row failed",
    "pending           waits for its next attempt",
    "dead_letter       given up: mend the endpoint, then replay",
    "dropped           pushed out by newer ones: can be replayed too",
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
    let subscriptions = model.snapshot.as_ref().map_or(0, |snapshot| snapshot.status.subscriptions.len());
    let height = u16::try_from(subscriptions.clamp(1, 5) + 3).unwrap_or(8);
    let [banner, top, middle, bottom, footer] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(height),
        Constraint::Min(6),
        Constraint::Length(7),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let (text, tone) = headline(model, now);
    frame.render_widget(Paragraph::new(text).style(style(tone).add_modifier(Modifier::BOLD)), banner);
    draw_subscriptions(model, now, frame, top);
    draw_deliveries(model, now, frame, middle);
    draw_attempts(model, now, frame, bottom);
    let covered = Rect { y: top.y, height: top.height + middle.height + bottom.height, ..frame.area() };
    match &model.view {
        View::Panes => {}
        View::Help => cover("Help", HELP.map(Line::from).to_vec(), model, (frame, covered)),
        View::Warnings => cover("Warnings", warnings(model.snapshot.as_ref()), model, (frame, covered)),
        View::Delivery(delivery, attempts) => {
            cover("Delivery", about(delivery, attempts.as_deref(), now), model, (frame, covered));
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
fn headline(model: &Model, now: Timestamp) -> (String, Tone) {
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
            (banner.replace(" (see spec-notify status)", "; w says what to do"), Tone::Warning)
        }
        (None, Some(runtime)) => (format!("spec-notify: all is well (process {})", runtime.pid), Tone::Good),
        (None, None) => ("spec-notify: nothing is left to do; no runtime is running".to_owned(), Tone::Plain),
    }
}

fn footer_line(model: &Model) -> (String, Tone) {
    match &model.input {
        Input::Filter => (format!("filter: {}▏ (Enter keeps it, Esc drops it)", model.filter), Tone::Heading),
        Input::Confirm(_, id) => (format!("replay {id}? y/n"), Tone::Warning),
        Input::Keys if !model.note.is_empty() => (printable(&model.note, LONGEST), Tone::Heading),
        Input::Keys => (KEYS.to_owned(), Tone::Faint),
    }
}

fn draw_table<const N: usize>(
    (title, pane): (String, Pane),
    heading: [&str; N],
    widths: [Constraint; N],
    rows: Vec<Row<'_>>,
    model: &Model,
    (frame, area): (&mut Frame<'_>, Rect),
) {
    let is_focused = model.pane == pane;
    let border = if is_focused { style(Tone::Heading) } else { style(Tone::Faint) };
    let mut table = Table::new(rows, widths)
        .header(Row::new(heading).style(style(Tone::Heading)))
        .block(Block::bordered().title(title).border_style(border));
    if is_focused {
        table = table.row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    }
    let mut state = TableState::default().with_selected(model.selected(pane));
    frame.render_stateful_widget(table, area, &mut state);
}

fn draw_subscriptions(model: &Model, now: Timestamp, frame: &mut Frame<'_>, area: Rect) {
    let since = |at: Option<Timestamp>| at.map_or("-".to_owned(), |at| ago(now, at));
    let all = model.snapshot.iter().flat_map(|snapshot| &snapshot.status.subscriptions);
    let row = |one: &crate::inspect::SubscriptionStatus| {
        Row::new([
            one.id.to_string(),
            one.health.to_string(),
            since(one.since),
            one.pending.to_string(),
            one.in_flight.to_string(),
            one.dead_letters.to_string(),
            since(one.last_success_at),
        ])
        .style(style(health_tone(one.health)))
    };
    let heading = ["SUBSCRIPTION", "HEALTH", "SINCE", "PENDING", "FLYING", "DEAD", "LAST OK"];
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(8),
        Constraint::Length(5),
        Constraint::Length(7),
        Constraint::Length(6),
        Constraint::Length(5),
        Constraint::Length(7),
    ];
    let title = ("Subscriptions".to_owned(), Pane::Subscriptions);
    draw_table(title, heading, widths, all.map(row).collect(), model, (frame, area));
}

fn draw_deliveries(model: &Model, now: Timestamp, frame: &mut Frame<'_>, area: Rect) {
    let row = |delivery: &&Listed| {
        let next = match delivery.next_attempt_at.filter(|_| delivery.state == DeliveryState::Pending) {
            Some(_) if delivery.paused => "paused".to_owned(),
            Some(at) if at > now => short(at.duration_since(now)),
            Some(_) => "due".to_owned(),
            None => "-".to_owned(),
        };
        Row::new([
            delivery.state.to_string(),
            delivery.subscription.to_string(),
            delivery.attempts.to_string(),
            last(delivery),
            ago(now, delivery.accepted_at),
            next,
            delivery.idempotency_key.to_string(),
        ])
        .style(style(state_tone(delivery.state, delivery.attempts)))
    };
    let heading = ["STATE", "SUBSCRIPTION", "TRIES", "LAST", "AGE", "NEXT", "EVENT"];
    let widths = [
        Constraint::Length(11),
        Constraint::Fill(1),
        Constraint::Length(5),
        Constraint::Length(5),
        Constraint::Length(4),
        Constraint::Length(6),
        Constraint::Fill(2),
    ];
    let which = if model.all { "Deliveries: all" } else { "Deliveries: not resolved" };
    let filter = if model.filter.is_empty() { String::new() } else { format!(" with \"{}\"", model.filter) };
    let rows = model.deliveries().iter().map(row).collect();
    draw_table((format!("{which}{filter}"), Pane::Deliveries), heading, widths, rows, model, (frame, area));
}

fn draw_attempts(model: &Model, now: Timestamp, frame: &mut Frame<'_>, area: Rect) {
    let row = |tried: &&Tried| {
        Row::new([
            ago(now, tried.time),
            tried.subscription.to_string(),
            tried.attempt.to_string(),
            answer(tried),
            latency(tried.latency_ms),
            tried.idempotency_key.to_string(),
        ])
        .style(style(if tried.outcome == "delivered" { Tone::Good } else { Tone::Plain }))
    };
    let heading = ["AGE", "SUBSCRIPTION", "TRY", "ANSWER", "TOOK", "EVENT"];
    let widths = [
        Constraint::Length(4),
        Constraint::Fill(1),
        Constraint::Length(3),
        Constraint::Length(10),
        Constraint::Length(8),
        Constraint::Fill(2),
    ];
    let rows = model.attempts().iter().map(row).collect();
    let title = ("Recent attempts".to_owned(), Pane::Attempts);
    draw_table(title, heading, widths, rows, model, (frame, area));
}

/// The answer in a word.
fn answer(tried: &Tried) -> String {
    match (&tried.response, &tried.error) {
        (Some(response), _) => response.status.to_string(),
        (None, Some(error)) => printable(&error.class, 20),
        (None, None) => "not sent".to_owned(),
    }
}

fn warnings(snapshot: Option<&Snapshot>) -> Vec<Line<'static>> {
    let warnings = snapshot.map(|snapshot| &snapshot.status.warnings[..]).unwrap_or_default();
    if warnings.is_empty() {
        return vec![Line::from("none")];
    }
    warnings.iter().map(|warning| Line::from(printable(warning, LONGEST))).collect()
}

/// The text about one delivery, its attempts newest first.
fn about(delivery: &Listed, attempts: Option<&[Tried]>, now: Timestamp) -> Vec<Line<'static>> {
    let line = |text: String| Line::from(printable(&text, LONGEST));
    let mut lines = vec![
        line(format!("{}  {}", delivery.id, delivery.state)).style(style(Tone::Heading)),
        line(format!("{} of {}, to {}", delivery.event, delivery.spec, delivery.subscription)),
        line(format!("key {}", delivery.idempotency_key)),
        line(format!(
            "accepted {} ago, {}",
            ago(now, delivery.accepted_at),
            counted(delivery.attempts as usize, "attempt", "attempts")
        )),
    ];
    if let Some(error) = &delivery.last_error {
        lines.push(line(error.clone()).style(style(Tone::Bad)));
    }
    if let Some(hint) = &delivery.hint {
        lines.push(line(format!("to do: {hint}")));
    }
    if matches!(delivery.state, DeliveryState::DeadLetter | DeliveryState::Dropped) {
        let command = format!("spec-notify replay {} --delivery-id {}", delivery.spec, delivery.id);
        lines.push(line("r replays it; so does:".to_owned()));
        lines.push(line(command));
    }
    lines.push(Line::default());
    match attempts {
        None => lines.push(Line::from("reading its attempts …")),
        Some([]) => lines.push(Line::from("no attempt of it is in the evidence")),
        Some(attempts) => {
            for tried in attempts {
                let text = format!(
                    "attempt {} at {}: {} after {:.1} ms, {}",
                    tried.attempt,
                    crate::clock::local(tried.time, now),
                    answer(tried),
                    tried.latency_ms,
                    tried.outcome
                );
                let tone = if tried.outcome == "delivered" { Tone::Good } else { Tone::Warning };
                lines.push(line(text).style(style(tone)));
                let said = tried.response.as_ref().map(|response| response.body.as_str());
                let said = said.or(tried.error.as_ref().map(|error| error.message.as_str()));
                lines.extend(
                    said.filter(|said| !said.is_empty()).map(|said| line(format!("  {}", readable(said)))),
                );
            }
        }
    }
    lines
}

fn cover(title: &str, lines: Vec<Line<'static>>, model: &Model, (frame, area): (&mut Frame<'_>, Rect)) {
    frame.render_widget(Clear, area);
    let block = Block::bordered().title(format!("{title} (Esc closes)"));
    // However far it is scrolled, at least one line stays visible.
    let scrolled = model.scrolled.min(u16::try_from(lines.len().saturating_sub(1)).unwrap_or(0));
    let text = Paragraph::new(Text::from(lines)).wrap(Wrap { trim: false }).scroll((scrolled, 0));
    frame.render_widget(text.block(block), area);
}
