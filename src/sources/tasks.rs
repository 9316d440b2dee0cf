//! Tasks of a list: rows of Markdown tables that have a status column, and check boxes with an id.
//! Given texts, opens nothing.

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(path: &str, text: &str) -> Vec<(String, String, bool, String)> {
        let tracker = "SPEC-TRACKER".parse().unwrap();
        let extra_done = ["In Review".to_owned()];
        let file = TaskFile {
            path: Path::new(path),
            inside: Path::new(path),
            evidence_dir: Path::new("docs/SPEC-OPS-004-hooks/evidence"),
            tracker: &tracker,
            extra_done: &extra_done,
        };
        let row = |row: TaskRow| (row.id, row.status, row.is_done, row.spec.to_string());
        file.rows(text).into_iter().map(row).collect()
    }

    fn ids(path: &str, text: &str) -> Vec<(String, bool)> {
        read(path, text).into_iter().map(|(id, _, done, _)| (id, done)).collect()
    }

    fn pair(id: &str, done: bool) -> (String, bool) {
        (id.to_owned(), done)
    }

    #[test]
    fn of_a_table_without_measure_the_first_cells_and_rows_count() {
        let file = TaskFile {
            path: Path::new("SPEC.md"),
            inside: Path::new("SPEC.md"),
            evidence_dir: Path::new("ev"),
            tracker: &SpecId::tracker(),
            extra_done: &[],
        };
        let wide = format!(
            "| ID | Status |{}\n|---|---|{}\n| T1 | Done |\n",
            " x |".repeat(300_000),
            "---|".repeat(300_000)
        );
        let rows = file.rows(&wide);
        assert_eq!((rows.len(), rows[0].id.as_str(), rows[0].is_done), (1, "T1", true));
        let late = format!(
            "|{} ID | Status |\n|{}---|---|\n|{} T1 | Done |\n",
            " x |".repeat(99),
            "---|".repeat(99),
            " y |".repeat(99)
        );
        assert!(file.rows(&late).is_empty());
        let many: String = (0..MAX_ROWS + 9).map(|n| format!("| T{n} | Done |\n")).collect();
        let rows = file.rows(&format!("| ID | Status |\n|---|---|\n{many}"));
        assert_eq!(
            (rows.len(), rows[MAX_ROWS - 1].id.as_str()),
            (MAX_ROWS, format!("T{}", MAX_ROWS - 1).as_str())
        );
    }

    #[test]
    fn a_status_may_say_when_it_was_reached() {
        for (cell, done) in [
            ("Done (2025-09-29)", true),
            ("**DONE** (2025-09-29)", true),
            ("✅ Done 2025-09-29", true),
            ("Completed on 2025/9/29", true),
            ("Done: 29.09.2025", true),
            ("Done (2025-09-29T10:00:00Z)", true),
            ("Complete - Sep 29, 2025", true),
            ("Done (29 September 2025, 10:00 UTC)", true),
            ("Done (1st Oct 2025)", true),
            ("Done (2025-09)", true),
            ("Done 3/5", false),
            ("Done (3 of 5)", false),
            ("Done (in part, 2025-09-29)", false),
            ("Not done (2025-09-29)", false),
            ("In Progress (2025-09-29)", false),
            ("2025-09-29", false),
            ("Done 10:00", false),
            ("May be done", false),
        ] {
            let table = format!("| ID | Status |\n|---|---|\n| T1 | {cell} |\n");
            assert_eq!(ids("SPEC.md", &table), [pair("T1", done)], "{cell}");
        }
    }

    #[test]
    fn a_tracker_of_specs_needs_no_id_column() {
        let table = "| Spec | Status |\n|---|---|\n| SPEC-KIT-902-x | Done (2025-09-29) |\n\
                     | [SPEC-KIT-903](docs/SPEC-KIT-903/spec.md) | Open |\n| Login page | Done |\n";
        let found: Vec<_> =
            read("SPEC.md", table).into_iter().map(|(id, _, done, spec)| (id, done, spec)).collect();
        let row = |id: &str, done, spec: &str| (id.to_owned(), done, spec.to_owned());
        let tracker = SpecId::tracker().to_string();
        let expected = [
            row("SPEC-KIT-902-x", true, "SPEC-KIT-902-x"),
            row("SPEC-KIT-903", false, "SPEC-KIT-903"),
            row("Login page", true, &tracker),
        ];
        assert_eq!(found, expected);
        let with_id = "| ID | Spec | Status |\n|---|---|---|\n| T1 | SPEC-KIT-902 | Done |\n";
        assert_eq!(read("SPEC.md", with_id)[0].3, "SPEC-KIT-902");
    }

    #[test]
    fn a_status_is_compared_without_emphasis_emoji_and_case() {
        for (cell, done) in [
            ("Done", true),
            ("**DONE**", true),
            ("✅ done", true),
            ("`Complete`", true),
            ("*Completed* 🎉", true),
            ("in-review", false),
            ("In Review", true),
            ("Not done", false),
            ("~~Done~~ In Progress", false),
            ("Done (partly)", false),
            ("Backlog", false),
            ("[~]", false),
            ("[~] In Progress", false),
            ("[ ]", false),
            ("🚧", false),
        ] {
            let text = format!("| ID | Status |\n|---|---|\n| T1 | {cell} |\n");
            assert_eq!(ids("SPEC.md", &text), [pair("T1", done)], "{cell}");
        }
        for nothing in ["", "-", "—", "…", "**", "${status}", "~~Done~~"] {
            let text = format!("| ID | Status |\n|---|---|\n| T1 | {nothing} |\n");
            assert_eq!(ids("SPEC.md", &text), [], "{nothing}");
        }
    }

    #[test]
    fn the_id_comes_from_the_first_column_that_is_meant_for_it() {
        let table = |heading: &str| format!("| {heading} | Status |\n|---|---|---|\n| 1 | T1 | Done |\n");
        assert_eq!(ids("SPEC.md", &table("Order | Task ID")), [pair("T1", true)]);
        assert_eq!(ids("SPEC.md", &table("**ID** | Title")), [pair("1", true)]);
        assert_eq!(ids("SPEC.md", &table("Order | Task")), [pair("T1", true)]);
        assert_eq!(ids("docs/SPEC-9-x/tasks.md", &table("Order | Task")), [pair("1", true)]);
        assert_eq!(ids("docs/SPEC-9-x/tasks.md", &table("Order | Task ID")), [pair("T1", true)]);
        assert_eq!(ids("SPEC.md", &table("Order | Owner")), []);
        assert_eq!(ids("SPEC.md", "| ID | Owner |\n|---|---|\n| T1 | Done |\n"), [], "no status column");
    }

    #[test]
    fn the_spec_comes_from_the_prd_then_the_evidence_then_the_folder() {
        let spec = |path: &str, prd: &str, evidence: &str| {
            let text = format!(
                "| ID | Status | PRD | Evidence |\n|---|---|---|---|\n| T1 | Done | {prd} | {evidence} |\n"
            );
            read(path, &text)[0].3.clone()
        };
        let prd = "docs/SPEC-KIT-010-migration/PRD.md";
        let commands = "docs/SPEC-OPS-004-hooks/evidence/commands/SPEC-KIT-013/spec-plan_1.json";
        assert_eq!(spec("SPEC.md", prd, commands), "SPEC-KIT-010-migration");
        assert_eq!(spec("SPEC.md", "", commands), "SPEC-KIT-013");
        assert_eq!(spec("SPEC.md", "-", &format!("`{commands}` and more")), "SPEC-KIT-013");
        assert_eq!(spec("SPEC.md", "", "docs/SPEC-OPS-004-hooks/evidence/commands"), "SPEC-TRACKER");
        assert_eq!(spec("docs/SPEC-9-x/tasks.md", "", ""), "SPEC-9-x");
        assert_eq!(spec("SPEC.md", "see chat", ""), "SPEC-TRACKER");
    }

    #[test]
    fn a_box_is_a_task_beside_the_rows_of_tables() {
        let text = "| ID | Status |\n|---|---|\n| T1 | Open |\n| T2 | Done |\n\n- [x] T1 a\n- [X] **T3** b\n\
                    - [ ] `T4`: c\n  - [~] T5 d\n- [-] T6\n- [x] T3 again\n- [x] No id\n\
                    1. [x] T7 [P] [US1] e\n\n\
                    | ID | Status |\n|---|---|\n| T4 | Done |\n| T8 | Done |\n";
        let found: Vec<_> = read("SPEC.md", text).into_iter().map(|row| (row.0, row.1, row.2)).collect();
        let row = |(id, status, done): (&str, &str, bool)| (id.to_owned(), status.to_owned(), done);
        let expected = [
            ("T1", "Open", false),
            ("T2", "Done", true),
            ("T3", "Done", true),
            ("T4", "Open", false),
            ("T5", "[~]", false),
            ("T6", "[-]", false),
            ("T7", "Done", true),
            ("T8", "Done", true),
        ];
        assert_eq!(found, expected.map(row));
        for (path, spec) in [
            ("SPEC.md", "SPEC-TRACKER"),
            ("docs/SPEC-9-x/tasks.md", "SPEC-9-x"),
            ("specs/tasks.md", "SPEC-TRACKER"),
            ("specs/002-kanban/tasks.md", "002-kanban"),
            ("specs/001-a/phase-2/tasks.md", "001-a"),
            ("specs/001-a/SPEC-2/tasks.md", "001-a"),
            ("specs/a b/tasks.md", "SPEC-TRACKER"),
            ("specs/a b/SPEC-2/tasks.md", "SPEC-2"),
            ("service/specs/001-a/board.md", "001-a"),
            ("my-specs/001-a/tasks.md", "SPEC-TRACKER"),
        ] {
            assert_eq!(read(path, "- [x] T1 a\n")[0].3, spec, "{path}");
        }
        let many: String = (0..MAX_ROWS + 9).map(|n| format!("- [x] T{n}\n")).collect();
        assert_eq!(ids("SPEC.md", &many).len(), MAX_ROWS);
    }

    #[test]
    fn warts_cost_their_own_row_at_most() {
        let text = "\
Intro | with a pipe

| ID | Title | Status |
| --- | --- | --- |
| T1 | a `code | pipe` splits as GFM says | Done |
| T2 | escaped `a \\| b` | Done |
| T3 | missing
| T4 | extra | Done | cell | and more |
| | no id | Done |
| ${id} | placeholder | Done |
| T2 | again | Backlog |

```
| ID | Status |
| --- | --- |
| T5 | Done |
```

| ID | Status |
| :-: | ---: |
| T6 | Done |
";
        let expected = [pair("T2", true), pair("T4", true), pair("T6", true)];
        let found: Vec<_> = ids("SPEC.md", text).into_iter().filter(|(id, _)| id != "T1").collect();
        assert_eq!(found, expected);
        for text in
            ["", "| ID | Status |", "| ID | Status |\n|---|", "\u{feff}| ID | Status |\n|-|-|\n| A | Done |"]
        {
            ids("SPEC.md", text);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[ -~|\\n`*_\\\\-]{0,400}") {
            ids("SPEC.md", &text);
            ids("docs/SPEC-1/tasks.md", &format!("| ID | Status |\n|---|---|\n{text}"));
            ids("specs/1/tasks.md", &format!("- [x] T1 {text}"));
        }
    }
}
