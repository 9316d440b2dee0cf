//! The rows of a Markdown text in which tasks can stand: those of tables, and boxes of lists.

use std::borrow::Cow;

use pulldown_cmark::{Event as Markdown, Options, Parser, Tag, TagEnd};

/// Cells of a row that are looked at, and bytes of a cell or of a box's text: above what any list
/// of people has.
const MAX_CELLS: usize = 64;
const MAX_BYTES: usize = 4096;

/// One row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row<'a> {
    /// The heading of a table.
    Heading(&'a [String]),
    /// The cells of a table's row.
    Cells(&'a [String]),
    /// A list's item with a box: what is in the box, and the item's first paragraph.
    Box(char, &'a str),
}

/// Every row of a text, in order, until `take` has enough: of a table's row the texts of its first
/// [`MAX_CELLS`] cells, each up to [`MAX_BYTES`]. What is struck through is not there; neither are
/// boxes in code, comments and quotes. Nothing of a row is kept for the next.
pub(super) fn each(text: &str, mut take: impl FnMut(Row<'_>) -> bool) {
    let options = Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let read = with_plain_boxes(text);
    let (mut cells, mut count, mut struck, mut quotes) = (Vec::<String>::new(), 0, 0, 0);
    let (mut in_cell, mut in_box) = (false, None::<(char, String)>);
    for (event, range) in Parser::new_ext(&read, options).into_offset_iter() {
        let mut add = |text: &str| {
            let cell = cells.last_mut().filter(|_| in_cell);
            if let Some(to) = cell.or(in_box.as_mut().map(|(_, text)| text))
                && struck == 0
            {
                let room = text.len().min(MAX_BYTES.saturating_sub(to.len()));
                let end = (0..=room).rev().find(|at| text.is_char_boundary(*at));
                to.push_str(&text[..end.unwrap_or_default()]);
            }
        };
        match event {
            Markdown::Text(text) | Markdown::Code(text) => add(&text),
            Markdown::SoftBreak | Markdown::HardBreak => add(" "),
            Markdown::Start(Tag::Strikethrough) => struck += 1,
            Markdown::End(TagEnd::Strikethrough) => struck -= 1,
            Markdown::Start(Tag::TableHead | Tag::TableRow) => {
                cells.clear();
                count = 0;
            }
            Markdown::End(TagEnd::TableHead) if !take(Row::Heading(&cells)) => return,
            Markdown::End(TagEnd::TableRow) if !take(Row::Cells(&cells)) => return,
            Markdown::Start(Tag::TableCell) => {
                count += 1;
                in_cell = count <= MAX_CELLS;
                cells.extend(in_cell.then(String::new));
            }
            Markdown::End(TagEnd::TableCell) => in_cell = false,
            Markdown::TaskListMarker(_) if quotes == 0 => {
                // The parser's box ends behind its bracket.
                let sign = range.end.checked_sub(2).and_then(|at| text.get(at..)?.chars().next());
                in_box = sign.map(|sign| (sign, String::new()));
            }
            // The item's first paragraph has ended.
            Markdown::Start(Tag::Item | Tag::List(_) | Tag::CodeBlock(_) | Tag::HtmlBlock)
            | Markdown::Start(Tag::BlockQuote(_) | Tag::Table(_) | Tag::Heading { .. })
            | Markdown::End(TagEnd::Paragraph | TagEnd::Item) => {
                quotes += u32::from(matches!(event, Markdown::Start(Tag::BlockQuote(_))));
                if let Some((sign, text)) = in_box.take()
                    && !take(Row::Box(sign, &text))
                {
                    return;
                }
            }
            Markdown::End(TagEnd::BlockQuote(_)) => quotes -= 1,
            _ => {}
        }
    }
}

/// The text with each box that has another sign than GitHub knows, such as `[~]`, as an empty one
/// of the same length: to Markdown such a sign can be the beginning of anything.
fn with_plain_boxes(text: &str) -> Cow<'_, str> {
    let mut plain = String::new();
    let (mut copied, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if let Some((within, sign)) = box_of(line)
            && !matches!(sign, ' ' | '\t' | 'x' | 'X')
        {
            plain.push_str(&text[copied..at + within]);
            plain.push_str("[ ]");
            plain.extend(std::iter::repeat_n(' ', sign.len_utf8() - 1));
            copied = at + within + 2 + sign.len_utf8();
        }
        at += line.len();
    }
    if copied == 0 {
        return Cow::Borrowed(text);
    }
    plain.push_str(&text[copied..]);
    Cow::Owned(plain)
}

/// Where in a line an item's box begins, and what is in it.
fn box_of(line: &str) -> Option<(usize, char)> {
    let mut rest = line.trim_start_matches([' ', '\t']);
    // An item may begin with an item.
    while let Some(inner) = after_marker(rest) {
        rest = inner;
    }
    let at = line.len() - rest.len();
    let is_item = line[..at].contains(|c: char| !c.is_whitespace());
    let mut inside = rest.strip_prefix('[').filter(|_| is_item)?.chars();
    let sign = inside.next().filter(|sign| !matches!(sign, '[' | ']' | '\r' | '\n'))?;
    let is_closed = inside.next() == Some(']') && inside.next().is_none_or(char::is_whitespace);
    is_closed.then_some((at, sign))
}

fn after_marker(text: &str) -> Option<&str> {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let marked = match digits.len() == text.len() {
        true => text.strip_prefix(['-', '*', '+']),
        false => digits.strip_prefix(['.', ')']),
    }?;
    marked.starts_with([' ', '\t']).then(|| marked.trim_start_matches([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn boxes(text: &str) -> Vec<(char, String)> {
        let mut found = Vec::new();
        each(text, |row| {
            if let Row::Box(sign, text) = row {
                found.push((sign, text.trim().to_owned()));
            }
            true
        });
        found
    }

    fn found(pairs: &[(char, &str)]) -> Vec<(char, String)> {
        pairs.iter().map(|(sign, text)| (*sign, (*text).to_owned())).collect()
    }

    #[test]
    fn a_box_is_where_a_list_has_one() {
        for (text, expected) in [
            ("- [x] T1 a\n- [ ] T2 b\n- [X] T3 c\n", &[('x', "T1 a"), (' ', "T2 b"), ('X', "T3 c")][..]),
            ("* [x] a\n\n+ [x] b\n\n1. [x] c\n2) [x] d\n", &[('x', "a"), ('x', "b"), ('x', "c"), ('x', "d")]),
            ("- [x] a\n  - [ ] b\n    1. [~] c\n- [x] d", &[('x', "a"), (' ', "b"), ('~', "c"), ('x', "d")]),
            ("- - [~] a\n", &[('~', "a")]),
            ("- [x] a\n\n  more of it\n\n- [ ] b\n", &[('x', "a"), (' ', "b")]),
            ("- [x] a\n  that goes on\n", &[('x', "a that goes on")]),
            ("- [x] **a**: `b` *c* [d](e) f\\_g &amp; h\n", &[('x', "a: b c d f_g & h")]),
            (
                "- [~] a, b~c, ~/d\n- [-] e\n- [*] f*\n- [`] g`\n- [<] h\n- [\\] i\n- [✓] j ✓\n- [1] k\n",
                &[
                    ('~', "a, b~c, ~/d"),
                    ('-', "e"),
                    ('*', "f*"),
                    ('`', "g`"),
                    ('<', "h"),
                    ('\\', "i"),
                    ('✓', "j ✓"),
                    ('1', "k"),
                ],
            ),
            ("- [x] ~~a~~\n- [ ] b ~~c~~\n", &[('x', ""), (' ', "b")]),
            ("- [x] a <!-- b --> c\n", &[('x', "a  c")]),
            ("- [x] a\r\n- [ ] b\r\n", &[('x', "a"), (' ', "b")]),
            ("- [x] a\n  ```\n  b\n  ```\n", &[('x', "a")]),
            ("text\n- [~] a\n", &[('~', "a")]),
        ] {
            assert_eq!(boxes(text), found(expected), "{text}");
        }
        for none in [
            "",
            "[x] a\n",
            "-[x] a\n",
            "- [x]a\n",
            "- [] a\n",
            "- [xx] a\n",
            "- [[] a\n",
            "- x [x] a\n",
            "- [x",
            "- [x]",
            "- [~",
            "- [~]",
            "- [a](b) c\n",
            "```\n- [x] a\n- [~] b\n```\n",
            "~~~\n- [x] a\n",
            "    - [x] a\n    - [~] b\n",
            "- a\n\n      - [x] b\n",
            "<!--\n- [x] a\n\n- [~] b\n-->\n",
            "> - [x] a\n> - [~] b\n",
            "> a\n> > - [x] b\n\n> - [x] c\n",
            "- > - [x] a\n",
        ] {
            assert_eq!(boxes(none), [], "{none}");
        }
        assert_eq!(boxes("> - [x] a\n\n- [x] b\n"), found(&[('x', "b")]));
    }

    #[test]
    fn of_a_text_without_measure_the_beginning_counts() {
        let long = format!("- [x] {}\n- [ ] b\n", "aé`é`\n".repeat(100_000));
        let (first, second) = (&boxes(&long)[0].1, &boxes(&long)[1].1);
        assert!((MAX_BYTES - 3..=MAX_BYTES).contains(&first.len()) && second == "b", "{}", first.len());
        // As deep as anyone likes.
        let deep: String = (0..500).map(|n| format!("{}- [~] {n}\n", "  ".repeat(n))).collect();
        assert_eq!(boxes(&deep).len(), 500);
        assert_eq!(boxes(&format!("{}[~] a", "- ".repeat(20_000))).len(), 1);
        assert_eq!(boxes(&format!("{}a", "- [~] ".repeat(20_000))).len(), 1);
        assert_eq!(boxes(&format!("{}- [~] a", "> ".repeat(20_000))).len(), 0);
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text in "[ -~|\\n\\t`*_\\\\✓é\\[\\]~>xX-]{0,300}") {
            boxes(&text);
            prop_assert_eq!(with_plain_boxes(&text).len(), text.len());
        }
    }
}
