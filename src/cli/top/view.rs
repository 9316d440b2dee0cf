//! The layout of `top`: a banner, the panes one below the other, and a line for keys and notes, for
//! terminals from 80 columns and 24 lines. What is worst is at the top, and what a pane has no room
//! for is counted in its title.

mod cover;
mod panes;
mod table;

use jiff::Timestamp;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::model::{Input, Model, View};
use crate::cli::render::Tone;
use crate::cli::status::sparkline;
use crate::delivery::{FailureClass, HealthState, readable};
use crate::inspect::SubscriptionStatus;
use crate::inspect::{ago, counted, grouped, listed};
use crate::names::{is_deceiving, printable};
use cover::{cover, covering};
use panes::draw_panes;

/// Longest text of a cell or a line, in characters.
const LONGEST: usize = 2000;

/// From this width on there is room for reasons beside what they are the reasons of.
const WIDE: u16 = 120;

/// Most subscriptions that are named beside a cause.
const NAMED: usize = 2;

const KEYS: &str = "? help  Tab pane  Enter open  r replay  R all alike  / filter  a all  q quit";

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
