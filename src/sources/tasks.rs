//! Tasks of a list: rows of Markdown tables that have a status column, and check boxes with an id.
//! Given texts, opens nothing.

#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Component, Path};

use jiff::Timestamp;
use serde_json::{Map, json};

use super::boxes;
use super::dated::without_date;
use super::rows::{self, Row};
use crate::config::Config;
use crate::event::{Event, EventKind, EvidencePaths, IdempotencyKey, SpecId, Task};
use crate::names::printable;

/// The statuses that mean Done, as [`plain`] writes them.
const DONE: [&str; 3] = ["done", "complete", "completed"];

/// Longest id and title that is kept, in characters.
const LONGEST: usize = 160;

/// Rows of a file that count.
const MAX_ROWS: usize = 10_000;

/// Where a list's text comes from.
#[derive(Clone, Debug)]
pub(crate) struct TaskFile<'a> {
    /// The file, relative to the repo.
    pub path: &'a Path,
    /// The same, relative to the folder that holds its sources.
    pub inside: &'a Path,
    /// The evidence tree's root, relative to the repo.
    pub evidence_dir: &'a Path,
    /// Whose tasks they are where nothing says it.
    pub tracker: &'a SpecId,
    /// Further statuses that mean Done, such as `In Review`.
    pub extra_done: &'a [String],
}

/// One row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TaskRow {
    /// As the list has it.
    pub id: String,
    /// Where there is a column for it, or text behind a box's id.
    pub title: Option<String>,
    /// Of a box: what stands in brackets between its id and its title.
    pub markers: Vec<String>,
    /// As the table has it, without emphasis. Of a box `Done`, `Open`, or the box itself.
    pub status: String,
    /// Whether that means Done.
    pub is_done: bool,
    /// Whose task it is.
    pub spec: SpecId,
    /// Whether it is a check box.
    pub is_box: bool,
}

impl<'a> TaskFile<'a> {
    /// A file of a repo, by its path in it or its whole path, read as the config has it.
    pub(crate) fn of(path: &'a Path, config: &'a Config) -> Self {
        let inside = |path: &'a Path| path.strip_prefix(&config.repo).unwrap_or(path);
        let in_repo = inside(path);
        // Of folders within each other the inner one's.
        let folders = config.source_roots.iter().map(|root| root.strip_prefix(&config.repo).unwrap_or(root));
        let inner = folders
            .filter_map(|folder| in_repo.strip_prefix(folder).ok())
            .min_by_key(|path| path.as_os_str().len());
        Self {
            path: in_repo,
            inside: inner.unwrap_or(in_repo),
            evidence_dir: inside(&config.evidence_dir),
            tracker: &config.task_tracker_spec,
            extra_done: &config.task_done_statuses,
        }
    }

    /// The rows of all tables of a text that have an id and a status column, and its check boxes
    /// with an id, in order; the first of an id counts. Of a file with more than any list has the
    /// first 10,000 count.
    pub(crate) fn rows(&self, text: &str) -> Vec<TaskRow> {
        let mut rows: Vec<TaskRow> = Vec::new();
        let mut seen = HashSet::new();
        let mut columns = None;
        rows::each(text, |row| {
            let row = match row {
                Row::Heading(cells) => {
                    columns = Columns::of(cells, self.is_of_a_spec());
                    None
                }
                Row::Cells(cells) => columns.as_ref().and_then(|columns| self.row(cells, columns)),
                Row::Box(sign, text) => self.of_box(sign, text),
            };
            if let Some(row) = row
                && seen.insert(row.id.clone())
            {
                rows.push(row);
            }
            rows.len() < MAX_ROWS
        });
        rows
    }

    /// Whether it is a SPEC's own `tasks.md`, and not the repo's tracker.
    fn is_of_a_spec(&self) -> bool {
        self.path.file_name().is_some_and(|name| name == "tasks.md")
    }

    fn row(&self, cells: &[String], columns: &Columns) -> Option<TaskRow> {
        let text = |column: Option<usize>| cells.get(column?).map(|text| text.trim());
        let cell = |column: Option<usize>| text(column).filter(|text| is_filled(text));
        let id = printable(cell(Some(columns.id))?, LONGEST);
        let status = text(Some(columns.status)).filter(|text| is_filled(text) || is_a_sign(text))?;
        let word = plain(status);
        let extra = self.extra_done.iter().any(|extra| plain(extra) == word);
        let spec = cell(columns.spec)
            .and_then(spec_in_words)
            .or_else(|| self.spec_in(cell(columns.prd)?))
            .or_else(|| self.spec_in(cell(columns.evidence)?))
            .or_else(|| self.spec_of_path());
        Some(TaskRow {
            id,
            title: cell(columns.title).map(|title| printable(title, LONGEST)),
            markers: Vec::new(),
            is_box: false,
            is_done: extra || DONE.contains(&word.as_str()) || DONE.contains(&without_date(status).as_str()),
            status: printable(status, LONGEST),
            spec: spec.unwrap_or_else(|| self.tracker.clone()),
        })
    }

    fn of_box(&self, sign: char, text: &str) -> Option<TaskRow> {
        let said = boxes::task(text)?;
        let status = match sign {
            'x' | 'X' => "Done".to_owned(),
            ' ' | '\t' => "Open".to_owned(),
            other => format!("[{}]", printable(&other.to_string(), 1)),
        };
        Some(TaskRow {
            id: printable(said.id, LONGEST),
            title: (!said.title.is_empty()).then(|| printable(said.title, LONGEST)),
            markers: said.markers.iter().map(|marker| printable(marker, LONGEST)).collect(),
            is_done: matches!(sign, 'x' | 'X'),
            is_box: true,
            status,
            spec: self.spec_of_path().unwrap_or_else(|| self.tracker.clone()),
        })
    }

    /// The SPEC that the list's own path names: the folder below `specs`, else the innermost one
    /// that is named as a SPEC.
    fn spec_of_path(&self) -> Option<SpecId> {
        let folders = self.inside.parent()?;
        let below = folders.components().skip_while(|folder| folder.as_os_str() != "specs").nth(1);
        let feature = below.and_then(|folder| folder.as_os_str().to_str()?.parse().ok());
        feature.or_else(|| folders.components().rev().find_map(spec_of_folder))
    }

    /// The SPEC whose folder a path leads through. Within the evidence tree that is the folder
    /// below `commands` or `consensus`: the tree itself is a SPEC's too.
    fn spec_in(&self, cell: &str) -> Option<SpecId> {
        let words =
            cell.split(|c: char| c.is_whitespace() || matches!(c, '`' | '(' | ')' | ',' | ';' | '<' | '>'));
        words.filter(|word| word.contains('/')).find_map(|word| {
            let path = Path::new(word);
            let folders = match path.strip_prefix(self.evidence_dir) {
                Ok(inside) => inside,
                Err(_) => path,
            };
            folders.components().find_map(spec_of_folder)
        })
    }
}

fn spec_of_folder(folder: Component<'_>) -> Option<SpecId> {
    let name = folder.as_os_str().to_str()?;
    name.starts_with("SPEC-").then(|| name.parse().ok()).flatten()
}

/// Which columns of a table mean what.
struct Columns {
    id: usize,
    status: usize,
    title: Option<usize>,
    /// The SPEC itself, in a tracker of SPECs.
    spec: Option<usize>,
    prd: Option<usize>,
    evidence: Option<usize>,
}

impl Columns {
    /// `None` where there is no status or no id.
    fn of(heading: &[String], is_of_a_spec: bool) -> Option<Self> {
        let heading: Vec<String> = heading.iter().map(|cell| plain(cell)).collect();
        let find =
            |names: &[&str]| names.iter().find_map(|name| heading.iter().position(|cell| cell == name));
        let ids: &[&str] =
            if is_of_a_spec { &["task id", "id", "order", "task"] } else { &["task id", "id", "task"] };
        let spec = find(&["spec id", "spec-id", "spec"]);
        // A tracker of SPECs needs no other id.
        let id = find(ids).or(spec)?;
        Some(Self {
            id,
            spec: spec.filter(|_| !is_of_a_spec),
            status: find(&["status", "task status"])?,
            title: find(&["title", "task", "description", "name", "summary"]).filter(|column| *column != id),
            prd: find(&["prd", "spec"]),
            evidence: find(&["evidence"]),
        })
    }
}

/// The SPEC that a cell names as one of its words, or as the last part of a path.
fn spec_in_words(cell: &str) -> Option<SpecId> {
    let words = cell.split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
    words.filter(|word| word.starts_with("SPEC-")).find_map(|word| word.trim_end_matches('.').parse().ok())
}

/// A cell as a word to compare: letters, digits and inner hyphens in lower case; emphasis, emoji
/// and signs do not count.
fn plain(cell: &str) -> String {
    let kept: String = cell.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { ' ' }).collect();
    let words = kept.split_whitespace().map(|word| word.trim_matches('-').to_lowercase());
    words.filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Whether a cell says something: dashes stand for nothing, and so do placeholders that a template
/// left.
fn is_filled(text: &str) -> bool {
    let is_placeholder = text.contains("${") && text.contains('}');
    !is_placeholder && text.chars().any(char::is_alphanumeric)
}

/// Whether a cell is a status of signs alone, such as `[~]` or an emoji.
fn is_a_sign(text: &str) -> bool {
    let is_picture =
        |c: char| !c.is_ascii() && !c.is_alphanumeric() && !"‐‑‒–—―−…·\u{fffd}\u{a0}".contains(c);
    text.starts_with('[') && text.ends_with(']') || text.contains(is_picture) && !text.contains("${")
}

/// The event of a task that became Done for the `times`th time, as seen `at`.
pub(crate) fn event(row: &TaskRow, times: u32, file: &TaskFile<'_>, at: Timestamp) -> Event {
    let list = file.path.to_string_lossy();
    let key = IdempotencyKey::of_task(&row.spec, &list, &row.id, times);
    let mut event = Event::of_source(EventKind::TaskCompleted, row.spec.clone(), key, at);
    event.task = Some(Task {
        id: row.id.clone(),
        title: row.title.clone(),
        status: Some(row.status.clone()),
        markers: row.markers.clone(),
        extra: Map::new(),
    });
    event.evidence = Some(evidence(file));
    event
}

/// The event of a list whose last open task, this row, became Done, for the `times`th time.
pub(crate) fn list_event(
    row: &TaskRow,
    times: u32,
    total: usize,
    file: &TaskFile<'_>,
    at: Timestamp,
) -> Event {
    let key = IdempotencyKey::of_task_list(&row.spec, &file.path.to_string_lossy(), times);
    let mut event = Event::of_source(EventKind::TaskListCompleted, row.spec.clone(), key, at);
    event.extra.insert("tasks".to_owned(), json!({ "done": total, "total": total }));
    event.evidence = Some(evidence(file));
    event
}

fn evidence(file: &TaskFile<'_>) -> EvidencePaths {
    let paths = file.path.to_str().map(str::to_owned).into_iter().collect();
    EvidencePaths { paths, extra: Map::new() }
}
