//! Text that somebody else wrote, as one line of what can be seen.

use std::borrow::Cow;

use crate::names::is_deceiving;

/// More than any service shows, so a longer text is still marked as cut.
const MOST_SHOWN: usize = 5000;

/// Most marks upon one letter. No script needs more, and a pile of them covers other messages.
const MARKS: usize = 3;

/// Longest address that is shown, in characters: what stands behind it would have no room.
const LONGEST_ADDRESS: usize = 200;

/// Stands where a longer one stood.
const LONG_ADDRESS: &str = "(a long address)";

/// `text` as one line of printable characters: without a terminal's colours, what has no width,
/// and the credentials of addresses.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::new();
    let mut chars = text.trim().chars().take(MOST_SHOWN).peekable();
    let mut marks = 0;
    while let Some(c) = chars.next() {
        let shown = match c {
            '\u{1b}' if chars.next_if_eq(&'[').is_some() => {
                while chars.next_if(|c| matches!(c, '0'..='9' | ':'..='?')).is_some() {}
                chars.next_if(|c| matches!(c, '@'..='~'));
                continue;
            }
            // It keeps what it parts on one line; before the first it parts nothing.
            '\u{a0}' if line.is_empty() => continue,
            '\u{a0}' => c,
            c if c.is_whitespace() => ' ',
            c if is_nothing(c) => continue,
            c if is_deceiving(c) => '\u{fffd}',
            c => c,
        };
        marks = if is_mark(shown) { marks + 1 } else { 0 };
        let is_further_space = shown == ' ' && (line.is_empty() || line.ends_with(' '));
        if marks <= MARKS && !is_further_space {
            line.push(shown);
        }
    }
    line.truncate(line.trim_end().len());
    if !line.contains("://") {
        return line;
    }
    let words: Vec<Cow<'_, str>> = line.split(' ').map(address).collect();
    words.join(" ")
}

/// Whether a line says anything.
pub(super) fn says_something(line: &str) -> bool {
    line.chars().any(|c| !c.is_whitespace() && !matches!(c, '\u{fffd}' | '\u{200c}' | '\u{200d}'))
}

/// A word: of addresses in it the user and the password are left out, and one that is too long.
fn address(word: &str) -> Cow<'_, str> {
    let Some(at) = word.find("://") else { return word.into() };
    if word.chars().count() > LONGEST_ADDRESS {
        return LONG_ADDRESS.into();
    }
    let (scheme, rest) = word.split_at(at + "://".len());
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    // Behind a colon stands a port, or else a password, which may have a slash in it.
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let has_password = rest[..end].split_once(':').is_some_and(|(_, text)| !is_port(text));
    let in_path = || rest.rfind('@').filter(|_| has_password);
    let (before, rest) = match rest[..end].rfind('@').or_else(in_path) {
        Some(end) => ("…", &rest[end..]),
        None => ("", rest),
    };
    format!("{scheme}{before}{}", address(rest)).into()
}

/// Whether a character shows nothing and changes nothing. Joiners are not among them: emoji and
/// scripts are made of them.
fn is_nothing(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{200b}' | '\u{3164}'
        | '\u{2060}'..='\u{2064}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e007f}'
    )
}

/// Whether a character stands above or below the letter before it.
fn is_mark(c: char) -> bool {
    matches!(
        u32::from(c),
        0x300..=0x36f | 0x483..=0x489 | 0x591..=0x5bd | 0x5bf..=0x5c7 | 0x610..=0x61a | 0x64b..=0x65f | 0x670
        | 0x6d6..=0x6dc | 0x6df..=0x6e4 | 0x6e7..=0x6ed | 0xe31 | 0xe34..=0xe3a | 0xe47..=0xe4e | 0xeb1
        | 0xeb4..=0xebc | 0xec8..=0xece | 0x1ab0..=0x1aff | 0x1dc0..=0x1dff | 0x20d0..=0x20ff
        | 0xfe20..=0xfe2f
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_one_line_of_what_can_be_seen() {
        for (text, line) in [
            (" a\r\nb\tc\u{7}\u{202e}d\u{0} ", "a b c\u{fffd}\u{fffd}d\u{fffd}"),
            ("a\u{b}b\u{c}c\u{85}d\u{2028}e\u{2029}f\u{a0}g", "a b c d e f\u{a0}g"),
            ("\u{1b}[\u{a0}a", "a"),
            ("\u{1b}[1;31mred\u{1b}[0m and \u{1b}[ plain\u{1b}", "red and plain\u{fffd}"),
            ("a\u{200b}b\u{feff}c\u{2060}d\u{ad}e\u{3164}\u{e0041}", "abcde"),
            ("👩\u{200d}👧 \u{646}\u{200c}\u{645}", "👩\u{200d}👧 \u{646}\u{200c}\u{645}"),
            ("Z\u{301}\u{302}\u{303}\u{304}\u{305}a e\u{301}", "Z\u{301}\u{302}\u{303}a e\u{301}"),
        ] {
            assert_eq!(one_line(text), line, "{text:?}");
        }
        for nothing in ["", " ", "\u{200b}", "\u{7}", "\u{200d}"] {
            assert!(!says_something(&one_line(nothing)), "{nothing:?}");
        }
        assert!(says_something("🎉"));
    }

    #[test]
    fn addresses_have_no_credentials_and_an_endless_one_is_left_out_whole() {
        let long = format!("see https://h.example/{} there", "a/".repeat(200));
        for (text, line) in [
            ("at https://user:s3cret@h.example/x?y=a@b", "at https://…@h.example/x?y=a@b"),
            ("(https://s3cret@h.example:8443)", "(https://…@h.example:8443)"),
            ("https://user:s3/cr@t@h.example/x", "https://…@h.example/x"),
            (
                "ssh://git@h.example:22/x https://h.example/@me",
                "ssh://…@h.example:22/x https://h.example/@me",
            ),
            ("https://a.example,https://u:s3cret@b.example", "https://a.example,https://…@b.example"),
            ("a@b.example", "a@b.example"),
            (&*long, "see (a long address) there"),
        ] {
            assert_eq!(one_line(text), line, "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_it_is_it_is_one_line(text in "(\\PC|[\\x00-\\x1f]|\u{301}|://|@|\u{1b}\\[){0,60}") {
            let line = one_line(&text);
            prop_assert!(!line.chars().any(is_deceiving) && line.trim() == line && !line.contains("  "));
            prop_assert_eq!(one_line(&line), line.clone());
        }
    }
}
