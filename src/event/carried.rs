//! Fields that are carried as they stand: their numbers too, of which `serde_json` keeps 64 bits.

use std::ops::Deref;

use memchr::memchr2;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

/// Shorter numbers are kept exactly: all integers of 64 bits and all sums of so many digits are.
const SURELY_EXACT: usize = 17;

/// The fields of an object, to be read; written as they were given.
#[derive(Clone, Debug, Default)]
pub struct Carried {
    fields: Map<String, Value>,
    /// The text, where a number in it is more than its value in `fields`.
    exact: Option<Box<RawValue>>,
}

impl Carried {
    /// The fields that `text` holds, which is what they were read from.
    pub fn new(fields: Map<String, Value>, text: &str) -> Self {
        // What was read is JSON.
        let exact = has_long_number(text).then(|| RawValue::from_string(compact(text)).ok()).flatten();
        Self { fields, exact }
    }

    /// Takes the numbers from the text of the event that these are the `telemetry` of.
    pub(super) fn restore(&mut self, event: &str) {
        #[derive(Deserialize)]
        struct Text {
            telemetry: Box<RawValue>,
        }
        if has_long_number(event)
            && let Ok(Text { telemetry }) = serde_json::from_str(event)
        {
            *self = Self::new(std::mem::take(&mut self.fields), telemetry.get());
        }
    }

    /// The fields, to be changed: from then on they are written as they are here.
    pub(crate) fn fields_mut(&mut self) -> &mut Map<String, Value> {
        self.exact = None;
        &mut self.fields
    }

    /// The text that is written in place of the fields.
    pub(super) fn exact_text(&self) -> Option<&str> {
        self.exact.as_deref().map(RawValue::get)
    }
}

impl From<Map<String, Value>> for Carried {
    fn from(fields: Map<String, Value>) -> Self {
        Self { fields, exact: None }
    }
}

impl Deref for Carried {
    type Target = Map<String, Value>;

    fn deref(&self) -> &Self::Target {
        &self.fields
    }
}

impl PartialEq for Carried {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields && self.exact_text() == other.exact_text()
    }
}

impl Serialize for Carried {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.exact {
            Some(text) => text.serialize(serializer),
            None => self.fields.serialize(serializer),
        }
    }
}

/// Numbers are those of `serde_json`: who has the text `restore`s them.
impl<'de> Deserialize<'de> for Carried {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Map::deserialize(deserializer).map(Self::from)
    }
}

/// The parts of a text of JSON: strings with their quotes, and what is between them.
fn parts(text: &str) -> impl Iterator<Item = (bool, &str)> {
    let (mut rest, mut in_string) = (text, false);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = match in_string {
            false => rest.find('"').unwrap_or(rest.len()),
            true => end_of_string(rest),
        };
        let part = (in_string, &rest[..end]);
        rest = &rest[end..];
        in_string = !in_string;
        Some(part)
    })
}

/// Where the string ends that a text begins with.
fn end_of_string(text: &str) -> usize {
    // The quote that opens it ends nothing, and neither does what is escaped.
    let mut from = 1;
    while let Some(found) = text.as_bytes().get(from..).and_then(|rest| memchr2(b'"', b'\\', rest)) {
        from += found + 1;
        if text.as_bytes()[from - 1] == b'"' {
            return from;
        }
        from += 1;
    }
    text.len()
}

/// Whether it has a number that 64 bits do not hold.
fn has_long_number(text: &str) -> bool {
    let is_of_number = |c: char| c.is_ascii_digit() || matches!(c, '-' | '+' | '.' | 'e' | 'E');
    let mut between = parts(text).filter(|(is_string, _)| !is_string);
    between.any(|(_, part)| {
        let mut numbers = part.split(|c| !is_of_number(c)).filter(|number| number.len() > SURELY_EXACT);
        numbers.any(|number| number.parse::<u64>().is_err() && number.parse::<i64>().is_err())
    })
}

/// Without the white space between its parts.
fn compact(text: &str) -> String {
    let mut compact = String::with_capacity(text.len());
    for (is_string, part) in parts(text) {
        match is_string {
            true => compact.push_str(part),
            false => compact.extend(part.chars().filter(|c| !c.is_ascii_whitespace())),
        }
    }
    compact
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Carried {
        Carried::new(serde_json::from_str(text).unwrap(), text)
    }

    #[test]
    fn numbers_are_written_as_they_were_given() {
        for text in [
            r#"{"n":18446744073709551616}"#,
            r#"{"n":-9223372036854775809,"s":" a \" b "}"#,
            r#"{"n":0.1234567890123456789}"#,
            r#"{"n":[1,{"m":123456789012345678901234567890}]}"#,
            r#"{"n":18446744073709551615,"m":-9223372036854775808,"f":1.5}"#,
            "{}",
        ] {
            assert_eq!(serde_json::to_string(&of(text)).unwrap(), text);
            let mut read: Carried = serde_json::from_str(text).unwrap();
            read.restore(&format!(r#"{{"event": 1, "telemetry": {text}}}"#));
            assert_eq!(read, of(text));
        }
        let pretty = "{ \"n\" : 18446744073709551616 ,\r\n\t\"s\": \"a  \\\" : 1\" }";
        let compact = r#"{"n":18446744073709551616,"s":"a  \" : 1"}"#;
        assert_eq!(serde_json::to_string(&of(pretty)).unwrap(), compact);
        let mut carried = of(r#"{"n":18446744073709551616}"#);
        assert!(carried.get("n").is_some_and(Value::is_f64));
        carried.fields_mut().insert("m".to_owned(), 1.into());
        assert_eq!(serde_json::to_string(&carried).unwrap(), r#"{"n":1.8446744073709552e+19,"m":1}"#);
    }

    proptest! {
        #[test]
        fn any_text_is_the_same_value_without_its_white_space(
            texts in prop::collection::vec("\\PC{0,20}", 0..6),
        ) {
            let value = serde_json::json!({"texts": texts, "n": [1, -2.5, null]});
            let pretty = serde_json::to_string_pretty(&value).unwrap();
            prop_assert_eq!(compact(&pretty), value.to_string());
            prop_assert!(!has_long_number(&pretty));
        }
    }
}
