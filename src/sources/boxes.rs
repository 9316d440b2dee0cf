//! The text of a list's box as a task: `T001 [P] [US1] title` is an id, markers and a title.

/// Markers of a task that are kept, and characters that one has at most.
const MAX_MARKERS: usize = 16;
const LONGEST_MARKER: usize = 40;

/// What the text of a box says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said<'a> {
    pub(super) id: &'a str,
    /// Without their brackets.
    pub(super) markers: Vec<&'a str>,
    /// May be empty.
    pub(super) title: &'a str,
}

/// The task that a box's text names; `None` where it does not begin with an id.
pub(super) fn task(text: &str) -> Option<Said<'_>> {
    // An emoji before the id says nothing.
    let text = text.trim_start_matches(|c: char| !c.is_alphanumeric() && !matches!(c, '[' | '(' | '<' | '$'));
    let word = text.find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')));
    let (word, rest) = text.split_at(word.unwrap_or(text.len()));
    let id = word.trim_end_matches(['-', '_', '.']);
    let ends =
        rest.chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, ':' | ')' | '：' | '–' | '—'));
    if !ends || !is_id(id) {
        return None;
    }
    let mut rest = after_separator(rest);
    let mut markers = Vec::new();
    while let Some((marker, after)) = marker(rest) {
        if markers.len() < MAX_MARKERS {
            markers.push(marker);
        }
        rest = after.trim_start();
    }
    Some(Said { id, markers, title: after_separator(rest).trim_end() })
}

/// A capital letter first, no small letter before the first digit: `T001`, `T12a`, `T1.2`, `US1-3`,
/// `SPEC-KIT-065`, and not `OAuth2`.
fn is_id(word: &str) -> bool {
    let digit = word.find(|c: char| c.is_ascii_digit());
    word.starts_with(|c: char| c.is_ascii_uppercase())
        && digit.is_some_and(|digit| !word[..digit].contains(|c: char| c.is_ascii_lowercase()))
}

fn after_separator(text: &str) -> &str {
    let text = text.trim_start();
    let after = text.trim_start_matches([':', ')', '：', '–', '—', '-']);
    // What stands without a space is a part of the title, such as `-v`.
    let is_apart =
        after.is_empty() || after.starts_with(char::is_whitespace) || text.starts_with([':', '：']);
    if is_apart { after.trim_start() } else { text }
}

fn marker(text: &str) -> Option<(&str, &str)> {
    let (marker, after) = text.strip_prefix('[')?.split_once(']')?;
    let is_one = marker.chars().any(char::is_alphanumeric)
        && !marker.contains('[')
        && marker.chars().count() <= LONGEST_MARKER;
    is_one.then_some((marker, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_markers_and_a_title() {
        for (text, id, markers, title) in [
            ("T001 Create the project", "T001", &[][..], "Create the project"),
            ("T012 [P] [US1] Create [Entity1] model", "T012", &["P", "US1"], "Create [Entity1] model"),
            ("T3 [P][US1,US2]: Write", "T3", &["P", "US1,US2"], "Write"),
            ("T004: Write it", "T004", &[], "Write it"),
            ("T004:Write it", "T004", &[], "Write it"),
            ("T004. Write it", "T004", &[], "Write it"),
            ("T004 - [P] - Write it - now", "T004", &["P"], "Write it - now"),
            ("T004 — Write it", "T004", &[], "Write it"),
            ("T004) Write it", "T004", &[], "Write it"),
            ("T004 -v is told", "T004", &[], "-v is told"),
            ("✅ T005", "T005", &[], ""),
            ("T006 [ ] [P] a", "T006", &[], "[ ] [P] a"),
            ("T007 [not closed", "T007", &[], "[not closed"),
            ("T1.2 a", "T1.2", &[], "a"),
            ("T12a b", "T12a", &[], "b"),
            ("US1-3 b", "US1-3", &[], "b"),
            ("T-7 b", "T-7", &[], "b"),
            ("SPEC-KIT-065-add b", "SPEC-KIT-065-add", &[], "b"),
            ("FR_001 b", "FR_001", &[], "b"),
        ] {
            let said = Said { id, markers: markers.to_vec(), title };
            assert_eq!(task(text), Some(said), "{text}");
        }
        for none in [
            "",
            "Write it",
            "[P] T001 Write it",
            "[US1] Write it",
            "(T001) Write it",
            "OAuth2 works",
            "v2 is out",
            "3 retries",
            "1.2 a",
            "2026-01-02 a",
            "T a",
            "T001/T002 a",
            "T001's end",
            "T001a\u{300}b",
            "Ö1 a",
            "${id} T1",
            "TODO: T001",
        ] {
            assert_eq!(task(none), None, "{none}");
        }
        let many = format!("T1 {}a", "[P] ".repeat(100));
        let said = task(&many).unwrap();
        assert_eq!((said.markers.len(), said.title), (MAX_MARKERS, "a"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in ".{0,60}", rest in "T1[ -~✓]{0,40}") {
            task(&text);
            task(&rest);
        }
    }
}
