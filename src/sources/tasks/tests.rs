//! What is read of task lists in every form, and what is none.

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
