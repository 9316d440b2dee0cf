//! Writes event text in a service's markup and cuts it to the service's limits.

/// Ends a text that was cut.
const MARK: &str = "…";

/// Length kept free in a list for the line that counts the omitted items.
const REST_LINE: usize = 24;

/// Length of a list line besides its item: bullet, code marks, line end.
const LINE_MARKS: usize = 6;

/// How a service escapes characters and measures length.
#[derive(Clone, Copy)]
pub(super) struct Spelling {
    /// Writes a character so that it has no meaning as markup.
    pub(super) escape: fn(char, &mut String),
    /// The length of a text in the unit of the service's limits.
    pub(super) width: fn(&str) -> usize,
}

impl Spelling {
    /// `text` escaped, at most `limit` long, with [`MARK`] where it is cut. An escape is never cut
    /// in two.
    pub(super) fn fit(&self, text: &str, limit: usize) -> String {
        let mark = (self.width)(MARK);
        let (mut fitted, mut used, mut kept) = (String::new(), 0, 0);
        for c in text.chars() {
            let start = fitted.len();
            (self.escape)(c, &mut fitted);
            used += (self.width)(&fitted[start..]);
            if used > limit {
                fitted.truncate(kept);
                fitted.push_str(MARK);
                break;
            }
            if used + mark <= limit {
                kept = fitted.len();
            }
        }
        fitted
    }

    /// A line for each of the first `most` items, and one that counts the rest, at most `budget`
    /// long in all. Every shown item gets an equal share, so a long item does not displace others.
    pub(super) fn lines(
        &self,
        items: &[String],
        most: usize,
        budget: usize,
        line: fn(&str) -> String,
    ) -> Vec<String> {
        let shown = items.len().min(most);
        if shown == 0 {
            return Vec::new();
        }
        let share = (budget.saturating_sub(REST_LINE) / shown).saturating_sub(LINE_MARKS);
        let mut lines: Vec<String> = items[..shown].iter().map(|item| line(&self.fit(item, share))).collect();
        if items.len() > shown {
            lines.push(format!("and {} more{MARK}", items.len() - shown));
        }
        lines
    }
}

/// The length in UTF-16 units. Never less than in characters, so a limit holds whichever of the two
/// a service counts.
pub(super) fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Writes a character unchanged.
pub(super) fn verbatim(c: char, to: &mut String) {
    to.push(c);
}

/// A line with a bullet.
pub(super) fn bullet(item: &str) -> String {
    format!("• {item}")
}

/// A line with a bullet and the item as code.
pub(super) fn bullet_code(item: &str) -> String {
    format!("• `{item}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Spelling = Spelling { escape: verbatim, width: utf16 };

    #[test]
    fn a_text_is_cut_only_where_it_is_too_long() {
        for (text, limit, fitted) in
            [("abc", 3, "abc"), ("abcd", 3, "ab…"), ("", 3, ""), ("a🎉b", 4, "a🎉b"), ("a🎉bc", 4, "a🎉…")]
        {
            assert_eq!(PLAIN.fit(text, limit), fitted);
        }
    }

    #[test]
    fn an_escape_is_not_cut_in_two() {
        let html =
            Spelling { escape: |c, to| if c == '<' { to.push_str("&lt;") } else { to.push(c) }, ..PLAIN };
        assert_eq!(html.fit("a<b", 6), "a&lt;b");
        assert_eq!(html.fit("a<bc", 6), "a&lt;…");
        assert_eq!(html.fit("ab<<", 6), "ab…");
    }

    #[test]
    fn items_share_the_budget() {
        let items: Vec<String> = ["a".repeat(1000), "b".to_owned(), "c".to_owned()].into();
        let lines = PLAIN.lines(&items, 2, 100, bullet);
        assert_eq!(lines[0], format!("• {}…", "a".repeat(31)));
        assert_eq!(lines[1..], ["• b", "and 1 more…"]);
    }
}
