//! Reads text as tools write it in practice: UTF-16, a byte order mark, `NaN`, half a surrogate
//! pair. Changes needed to make it JSON are noted.

use std::borrow::Cow;

use serde_json::Value;

/// The UTF-8 byte order mark that some programs write at the beginning.
pub(crate) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The encoding of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Utf8,
    Utf16Little,
    Utf16Big,
}

impl Form {
    /// Detected by the byte order mark, else by the zero bytes beside ASCII characters at the
    /// beginning.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0xff, 0xfe, ..] => Self::Utf16Little,
            [0xfe, 0xff, ..] => Self::Utf16Big,
            [1..0x80, 0, 1..0x80, 0, ..] => Self::Utf16Little,
            [0, 1..0x80, 0, 1..0x80, ..] => Self::Utf16Big,
            _ => Self::Utf8,
        }
    }
}

/// The text without its byte order mark; invalid parts become U+FFFD.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    let units = |unit: fn([u8; 2]) -> u16| {
        let units = bytes.chunks_exact(2).map(move |pair| unit([pair[0], pair[1]]));
        let text: String =
            char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
        // A single byte of a pair: the rest has not arrived.
        if bytes.len().is_multiple_of(2) { text } else { text + "\u{fffd}" }
    };
    let text: Cow<'_, str> = match Form::of(bytes) {
        Form::Utf8 => String::from_utf8_lossy(bytes),
        Form::Utf16Little => units(u16::from_le_bytes).into(),
        Form::Utf16Big => units(u16::from_be_bytes).into(),
    };
    match text.strip_prefix('\u{feff}') {
        None => text,
        Some(rest) => rest.to_owned().into(),
    }
}

/// The changes that made a text JSON: one sentence for each kind.
pub(crate) type Notes = Vec<String>;

/// Parses JSON; also returns what had to be changed in it.
///
/// # Errors
/// The text is not JSON, for another reason than those that are repaired.
pub(crate) fn json(bytes: &[u8]) -> Result<(Value, Notes), serde_json::Error> {
    // Invalid UTF-8 is not JSON, except for half a surrogate pair.
    let (bytes, raw_halves) = match Form::of(bytes) {
        Form::Utf8 => without_halves(bytes),
        Form::Utf16Little | Form::Utf16Big => (Cow::Owned(text(bytes).into_owned().into_bytes()), 0),
    };
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes);
    let strict = serde_json::from_slice(bytes);
    let mut mended = Mended { halves: raw_halves, ..Mended::default() };
    let read = match strict {
        Ok(value) => value,
        Err(error) => {
            let Ok(text) = std::str::from_utf8(bytes) else { return Err(error) };
            mended.text(text);
            if mended.numbers == 0 && mended.halves == raw_halves {
                return Err(error);
            }
            serde_json::from_slice(mended.json.as_bytes()).map_err(|_| error)?
        }
    };
    Ok((read, mended.notes()))
}

/// The text with everything repaired that can be, whether or not it is JSON then: more text may
/// follow.
#[cfg(feature = "cli")]
pub(crate) fn mended(bytes: &[u8]) -> Cow<'_, [u8]> {
    let Ok(text) = std::str::from_utf8(bytes) else { return bytes.into() };
    let mut mended = Mended::default();
    mended.text(text);
    if mended.numbers + mended.halves == 0 { bytes.into() } else { mended.json.into_bytes().into() }
}

/// Whether a text is JSON as [`json`] accepts it.
pub(crate) fn is_json(bytes: &[u8]) -> bool {
    json(bytes).is_ok()
}

/// Replaces half a surrogate pair, which some tools write in UTF-8 (`ED A0 80` to `ED BF BF`), by
/// U+FFFD. Returns how many were replaced.
fn without_halves(bytes: &[u8]) -> (Cow<'_, [u8]>, usize) {
    let is_half = |at: usize| matches!(bytes.get(at..at + 3), Some([0xed, 0xa0..=0xbf, 0x80..=0xbf]));
    if std::str::from_utf8(bytes).is_ok() || !(0..bytes.len()).any(is_half) {
        return (bytes.into(), 0);
    }
    let (mut kept, mut halves, mut at) = (Vec::with_capacity(bytes.len()), 0, 0);
    while at < bytes.len() {
        if is_half(at) {
            kept.extend_from_slice("\u{fffd}".as_bytes());
            halves += 1;
            at += 3;
        } else {
            kept.push(bytes[at]);
            at += 1;
        }
    }
    (kept.into(), halves)
}

/// A text while it is repaired to become JSON.
#[derive(Default)]
struct Mended {
    json: String,
    /// Number of `NaN` and infinities.
    numbers: usize,
    halves: usize,
}

impl Mended {
    fn text(&mut self, mut rest: &str) {
        let mut in_string = false;
        while let Some(c) = rest.chars().next() {
            let taken = match (in_string, c) {
                (true, '\\') => self.escape(rest),
                (false, 'N' | 'I' | '-') => self.number(rest),
                _ => {
                    in_string ^= c == '"';
                    self.json.push(c);
                    c.len_utf8()
                }
            };
            rest = &rest[taken..];
        }
    }

    /// Handles an escape within a string; returns its length in bytes.
    fn escape(&mut self, rest: &str) -> usize {
        const ESCAPE: usize = 6;
        let unit = |at: usize| {
            let escape = rest.get(at..at + ESCAPE)?.strip_prefix("\\u")?;
            u16::from_str_radix(escape, 16).ok()
        };
        let taken = match (unit(0), unit(ESCAPE)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 2 * ESCAPE,
            (Some(0xd800..=0xdfff), _) => {
                self.halves += 1;
                self.json.push_str("\\ufffd");
                return ESCAPE;
            }
            _ => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
        };
        self.json.push_str(&rest[..taken]);
        taken
    }

    /// Handles a possible number, and replaces the words that JSON does not allow as numbers;
    /// returns the bytes consumed.
    fn number(&mut self, rest: &str) -> usize {
        let words = ["NaN", "Infinity", "-Infinity", "-NaN"];
        let is_apart = |text: &str| !text.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        let word = words.into_iter().find(|word| rest.strip_prefix(word).is_some_and(is_apart));
        self.numbers += usize::from(word.is_some());
        self.json.push_str(word.map_or(&rest[..1], |_| "null"));
        word.map_or(1, str::len)
    }

    fn notes(&self) -> Notes {
        let times = |count: usize| if count == 1 { "once".to_owned() } else { format!("{count} times") };
        let kinds = [
            (self.numbers, "NaN or Infinity, which JSON does not have, became null"),
            (self.halves, "half a surrogate pair, which is no character, became U+FFFD"),
        ];
        kinds.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{what}, {}", times(n))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json as value;

    fn utf16(text: &str, unit: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(unit).collect()
    }

    #[test]
    fn every_form_is_read() {
        let written = "{\"a\": \"é 😀\"}\r\n";
        let marked = format!("\u{feff}{written}");
        for bytes in [
            written.as_bytes().to_vec(),
            marked.as_bytes().to_vec(),
            utf16(written, u16::to_le_bytes),
            utf16(written, u16::to_be_bytes),
            utf16(&marked, u16::to_le_bytes),
            utf16(&marked, u16::to_be_bytes),
        ] {
            assert_eq!(text(&bytes), written);
            assert_eq!(json(&bytes).unwrap(), (value!({"a": "é 😀"}), vec![]));
        }
        let cut = &utf16(written, u16::to_le_bytes)[..11];
        assert!(!is_json(cut) && text(cut).ends_with('\u{fffd}'));
    }

    #[test]
    fn what_is_changed_is_noted_and_nothing_else_is() {
        let nan = "NaN or Infinity, which JSON does not have, became null";
        let half = "half a surrogate pair, which is no character, became U+FFFD";
        for (written, read, notes) in [
            ("{\"a\":NaN}", value!({"a": null}), vec![format!("{nan}, once")]),
            ("[NaN,Infinity, -Infinity,-1]", value!([null, null, null, -1]), vec![format!("{nan}, 3 times")]),
            (r#"["NaN \" NaN",NaN]"#, value!(["NaN \" NaN", null]), vec![format!("{nan}, once")]),
            (
                r#"["\ud83d\ude00 \ud83d x \ude00"]"#,
                value!(["😀 \u{fffd} x \u{fffd}"]),
                vec![format!("{half}, 2 times")],
            ),
            (r#"["\\ud83d"]"#, value!(["\\ud83d"]), vec![]),
        ] {
            assert_eq!(json(written.as_bytes()).unwrap(), (read, notes), "{written}");
        }
        let raw = [b"[\"a\xed\xa0\xbd".as_slice(), b"b\"]"].concat();
        assert_eq!(json(&raw).unwrap(), (value!(["a\u{fffd}b"]), vec![format!("{half}, once")]));
        for broken in ["", "{", "[NaNa]", "[nan]", "[\"NaN]", "{\"a\":NaN"] {
            assert!(!is_json(broken.as_bytes()), "{broken}");
        }
        assert!(json(b"[\"\xff\"]").is_err(), "bytes that are no text");
    }

    proptest! {
        #[test]
        fn json_is_read_as_it_is(value in "[a-zN\\\\\"\u{e9}😀 -]{0,40}") {
            let written = serde_json::to_vec(&value!({"k": value})).unwrap();
            prop_assert_eq!(json(&written).unwrap(), (value!({"k": value}), vec![]));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            text(&bytes);
            is_json(&bytes);
        }
    }
}
