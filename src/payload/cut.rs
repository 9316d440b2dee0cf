//! Writes event text in a service's markup and cuts it to the service's limits: at words, and
//! never within an address or an escape.

use std::borrow::Cow;

/// Ends a text that was cut.
pub(super) const MARK: &str = "…";

/// How a service writes text and measures length.
#[derive(Clone, Copy)]
pub(super) struct Spelling {
    /// Takes the meaning from markup that no escape takes it from.
    pub(super) tame: fn(&str) -> Cow<'_, str>,
    /// Writes a character so that it has no meaning as markup before the one that follows it.
    pub(super) escape: fn(char, Option<char>, &mut String),
    /// The length of a text in the unit of the service's limits.
    pub(super) width: fn(&str) -> usize,
}

/// Text as it is, in UTF-16 units.
pub(super) const PLAIN: Spelling = Spelling { tame: as_it_is, escape: verbatim, width: utf16 };

impl Spelling {
    /// `text` escaped, at most `limit` long, with [`MARK`] where it is cut: behind a word where
    /// one ends in the second half of what fits, and before an address that would be cut in two.
    pub(super) fn fit(&self, text: &str, limit: usize) -> String {
        let text = &*(self.tame)(text);
        let mark = (self.width)(MARK);
        let (mut fitted, mut used) = (String::new(), 0);
        // How much of `fitted` there is room for with the mark, up to its last word, and where in
        // both texts the current word begins.
        let (mut kept, mut whole_words, mut word) = (0, 0, (0, 0));
        for (at, c) in text.char_indices() {
            let start = fitted.len();
            if c.is_whitespace() && start <= kept {
                whole_words = start;
            }
            (self.escape)(c, text[at + c.len_utf8()..].chars().next(), &mut fitted);
            used += (self.width)(&fitted[start..]);
            if used > limit {
                let is_whole = c.is_whitespace() && whole_words == start;
                let cut = match !is_whole && is_address(text, word.0) {
                    true => word.1.min(kept),
                    false if whole_words * 2 >= kept => whole_words,
                    false => kept,
                };
                fitted.truncate(cut);
                fitted.truncate(fitted.trim_end().len());
                if limit >= mark {
                    fitted.push_str(MARK);
                }
                break;
            }
            if c.is_whitespace() {
                word = (at + c.len_utf8(), fitted.len());
            }
            if used + mark <= limit {
                kept = fitted.len();
            }
        }
        fitted
    }

    /// The texts, at most `budget` long in all. Each has an equal share; what a short one leaves
    /// of its share is the longer ones'.
    pub(super) fn share(&self, texts: &[&str], budget: usize) -> Vec<String> {
        let whole: Vec<String> = texts.iter().map(|text| self.fit(text, budget)).collect();
        let mut lengths: Vec<usize> = whole.iter().map(|text| (self.width)(text)).collect();
        lengths.sort_unstable();
        let (mut left, mut limit) = (budget, budget);
        for (at, length) in lengths.iter().enumerate() {
            let share = left / (lengths.len() - at);
            if *length > share {
                limit = share;
                break;
            }
            left -= length;
        }
        let fits = |text: &String| (self.width)(text) <= limit;
        let pairs = whole.into_iter().zip(texts);
        pairs.map(|(whole, text)| if fits(&whole) { whole } else { self.fit(text, limit) }).collect()
    }
}

/// A text in which a service finds none of these words, in any case, that it makes something of: a
/// space without width stands before their last letter.
pub(super) fn broken<'a>(text: &'a str, words: &[&str]) -> Cow<'a, str> {
    let lower = text.to_ascii_lowercase();
    let ends = words.iter().flat_map(|word| lower.match_indices(word).map(|(at, word)| at + word.len() - 1));
    let mut ends: Vec<usize> = ends.collect();
    ends.sort_unstable();
    let mut text = Cow::from(text);
    // From the end, so that what was inserted moves no place.
    ends.into_iter().rev().for_each(|at| text.to_mut().insert(at, '\u{200b}'));
    text
}

/// Whether the word that begins there has an address in it.
fn is_address(text: &str, start: usize) -> bool {
    text[start..].split(char::is_whitespace).next().is_some_and(|word| word.contains("://"))
}

/// The length in UTF-16 units. Never less than in characters, so a limit holds whichever of the
/// two a service counts.
pub(super) fn utf16(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Writes a character unchanged.
pub(super) fn verbatim(c: char, _: Option<char>, to: &mut String) {
    to.push(c);
}

/// Leaves a text as it is.
pub(super) fn as_it_is(text: &str) -> Cow<'_, str> {
    text.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HTML: Spelling =
        Spelling { escape: |c, _, to| if c == '<' { to.push_str("&lt;") } else { to.push(c) }, ..PLAIN };

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
        assert_eq!(HTML.fit("a<b", 6), "a&lt;b");
        assert_eq!(HTML.fit("a<bc", 6), "a&lt;…");
        assert_eq!(HTML.fit("ab<<", 6), "ab…");
    }

    #[test]
    fn a_text_is_cut_behind_a_word_and_before_an_address() {
        for (text, limit, fitted) in [
            ("retry after 429", 14, "retry after…"),
            ("retry after 429", 12, "retry after…"),
            ("retry after 429", 11, "retry…"),
            ("a bcdefghijklmnop", 10, "a bcdefgh…"),
            ("see https://host/path?x=1 there", 30, "see https://host/path?x=1…"),
            ("see https://host/path?x=1 there", 24, "see…"),
            ("see (https://host/path) there", 7, "see…"),
            ("https://host/path", 12, "…"),
        ] {
            assert_eq!(PLAIN.fit(text, limit), fitted, "{text} {limit}");
        }
    }

    #[test]
    fn a_word_that_a_service_knows_is_broken() {
        let text = broken("a.gg/ İ A.GG/a.gg/b", &["a.gg/", "."]);
        assert_eq!(text, "a\u{200b}.gg\u{200b}/ İ A\u{200b}.GG\u{200b}/a\u{200b}.gg\u{200b}/b");
        assert!(matches!(broken("a", &["b"]), Cow::Borrowed("a")));
    }

    #[test]
    fn what_a_short_text_leaves_is_the_longer_ones() {
        let (long, longer) = ("a".repeat(60), "b".repeat(1000));
        let shared = PLAIN.share(&["c", &long, &longer], 100);
        assert_eq!((&shared[0], shared[1].len()), (&"c".to_owned(), "…".len() + 48));
        assert_eq!(shared.iter().map(|text| utf16(text)).sum::<usize>(), 99);
        assert_eq!(PLAIN.share(&["c", &long], 100), ["c", &long]);
        assert_eq!(PLAIN.share(&[], 100), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn no_text_is_longer_than_its_limit(
            texts in proptest::collection::vec("([a-z<é🎉 ]|https://a){0,40}", 0..6),
            limit in 0usize..120,
        ) {
            for text in &texts {
                let fitted = HTML.fit(text, limit);
                prop_assert!(utf16(&fitted) <= limit);
                prop_assert_eq!(fitted.matches("&lt;").count(), fitted.matches('&').count());
            }
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let shared = HTML.share(&texts, limit);
            prop_assert!(shared.iter().map(|text| utf16(text)).sum::<usize>() <= limit);
        }
    }
}
