//! Writes keys as TOML.

use std::path::Path;
use std::time::Duration;

/// The keys of one table, each at most once.
#[derive(Clone, Debug, Default)]
pub(super) struct Keys {
    written: Vec<(&'static str, String)>,
    /// What cannot be written in TOML.
    unwritten: Vec<String>,
}

impl Keys {
    pub(super) fn with(key: &'static str, value: &str) -> Self {
        Self { written: vec![(key, value.to_owned())], unwritten: Vec::new() }
    }

    /// Sets a key to a value that is TOML.
    pub(super) fn set(&mut self, key: &'static str, value: String) {
        match self.written.iter_mut().find(|(known, _)| *known == key) {
            Some((_, known)) => *known = value,
            None => self.written.push((key, value)),
        }
    }

    pub(super) fn set_path(&mut self, key: &'static str, path: &Path) {
        match path.to_str() {
            Some(path) => self.set(key, text(path)),
            None => self.unwritten.push(format!("`{key}`: {} is not UTF-8", path.display())),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written.is_empty()
    }

    pub(super) fn unwritten(&self) -> impl Iterator<Item = &String> {
        self.unwritten.iter()
    }

    /// Adds a line for each key.
    pub(super) fn write(&self, document: &mut String) {
        for (key, value) in &self.written {
            for part in [*key, " = ", value, "\n"] {
                document.push_str(part);
            }
        }
    }
}

/// A basic string, on one line.
pub(super) fn text(text: &str) -> String {
    let mut written = String::with_capacity(text.len() + 2);
    written.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => written.extend(['\\', c]),
            '\u{0}'..='\u{1f}' | '\u{7f}' => written.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => written.push(c),
        }
    }
    written.push('"');
    written
}

/// An array of values that are TOML.
pub(super) fn list(values: impl Iterator<Item = String>) -> String {
    format!("[{}]", values.collect::<Vec<_>>().join(", "))
}

pub(super) fn number(number: f64) -> String {
    if number.is_nan() { "nan".to_owned() } else { format!("{number:?}") }
}

pub(super) fn milliseconds(time: Duration) -> String {
    time.as_millis().to_string()
}

pub(super) fn seconds(time: Duration) -> String {
    time.as_secs().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::toml::Table;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_as_it_was_given(given: String, number: f64) {
            let document = format!("text = {}\nnumber = {}\n", text(&given), super::number(number));
            let read: Table = document.parse().unwrap();
            prop_assert_eq!(read["text"].as_str(), Some(&*given));
            let same = |read: f64| read == number || read.is_nan() && number.is_nan();
            prop_assert!(read["number"].as_float().is_some_and(same), "{}", document);
        }
    }
}
