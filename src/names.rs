//! Closed sets of names, suggestions for misspelled ones, nouns with their counts, and text made
//! safe for a terminal.

use std::borrow::Cow;
use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::{self, Deserializer, Visitor};

/// A word that is not among those allowed in its place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} `{given}`{}; known are: {}", nearest_hint(.given, .known), .known.join(", "))]
pub struct UnknownName {
    pub(crate) what: &'static str,
    pub(crate) given: String,
    pub(crate) known: Vec<&'static str>,
}

fn nearest_hint(given: &str, known: &[&'static str]) -> String {
    nearest(given, known.iter().copied()).map_or(String::new(), |name| format!(" (did you mean `{name}`?)"))
}

/// The known word closest to `given`, if it is close enough to be a misspelling.
pub(crate) fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&given, &name.to_lowercase()), name))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// Declares an enum whose variants each have one name in files and messages. Generates `ALL`,
/// `as_str`, `Display`, `FromStr` (ignoring case) and serde from one list.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $what:literal {
        $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[allow(unreachable_pub, reason = "some of these sets are the crate's own")]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        #[allow(unreachable_pub, reason = "as above")]
        impl $name {
            /// Every value, in the order in which people would list them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The name used in config files, payloads and messages.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl ::std::fmt::Display for $name {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::std::str::FromStr for $name {
            type Err = $crate::names::UnknownName;

            fn from_str(text: &str) -> Result<Self, $crate::names::UnknownName> {
                let named = |value: &Self| value.as_str().eq_ignore_ascii_case(text);
                Self::ALL.iter().copied().find(named).ok_or_else(|| $crate::names::UnknownName {
                    what: $what,
                    given: text.to_owned(),
                    known: Self::ALL.iter().map(|value| value.as_str()).collect(),
                })
            }
        }

        impl ::serde::Serialize for $name {
            fn serialize<S: ::serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> ::serde::Deserialize<'de> for $name {
            fn deserialize<D: ::serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $crate::names::parsed(deserializer)
            }
        }
    };
}
pub(crate) use named;

/// Deserialises what is parsed from a text, without a copy of the text.
///
/// # Errors
/// It is no text, or cannot be parsed.
pub(crate) fn parsed<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr<Err: Display>,
    D: Deserializer<'de>,
{
    struct Text<T>(PhantomData<T>);

    impl<T: FromStr<Err: Display>> Visitor<'_> for Text<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a string")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            text.parse().map_err(E::custom)
        }
    }

    deserializer.deserialize_str(Text(PhantomData))
}

/// A count with its noun, and the verb where that follows: `1 file`, `2 files wait`.
pub(crate) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// Whether a character affects the text around it when shown: control characters, line separators
/// and direction marks.
pub(crate) fn is_deceiving(c: char) -> bool {
    const MARKS: [char; 3] = ['\u{61c}', '\u{200e}', '\u{200f}'];
    c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}') || MARKS.contains(&c)
}

/// Escapes the deceiving characters within the strings of a JSON text; the meaning stays the same.
pub(crate) fn harmless_json(json: &str) -> Cow<'_, str> {
    if json.is_ascii() && memchr::memchr(0x7f, json.as_bytes()).is_none() {
        return json.into();
    }
    let mut harmless = String::with_capacity(json.len());
    for c in json.chars() {
        // Such characters occur only within strings, and each fits in four hex digits.
        match is_deceiving(c) {
            true => harmless += &format!("\\u{:04x}", u32::from(c)),
            false => harmless.push(c),
        }
    }
    harmless.into()
}

/// `text` for a message or a log line: deceiving characters replaced, at most `limit` characters,
/// `…` where it is cut.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    // Most texts, and each header of each answer, are plain and short.
    if text.len() <= limit && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.to_owned();
    }
    let mut shown: String =
        text.chars().take(limit).map(|c| if is_deceiving(c) { '\u{fffd}' } else { c }).collect();
    if text.chars().nth(limit).is_some() {
        shown.push('…');
    }
    shown
}
