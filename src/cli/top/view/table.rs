//! One pane as a table: its title with what it has no room for, its rows, and the selected one.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Table, TableState};

use super::style;
use crate::cli::render::{Tone, cut};
use crate::cli::top::model::{Model, Pane};
use crate::inspect::grouped;

/// A row of a pane: its cells, and how it looks.
type Cells<const N: usize> = ([Line<'static>; N], Style);

/// The part of a pane.
pub(super) struct Part<const N: usize> {
    pub(super) pane: Pane,
    pub(super) title: String,
    /// How many there are, where that is more than the rows.
    pub(super) total: Option<usize>,
    pub(super) heading: [&'static str; N],
    pub(super) widths: [Constraint; N],
    pub(super) rows: Vec<Cells<N>>,
    /// What stands in the place of rows where there are none.
    pub(super) nothing: &'static str,
}

impl<const N: usize> Part<N> {
    pub(super) fn draw(self, model: &Model, (frame, area): (&mut Frame<'_>, Rect)) {
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
