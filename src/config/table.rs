//! Reads the keys of one TOML table: each value is checked at its place, and each problem is noted
//! with its place.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Problem;
use crate::names::nearest;
use crate::secret::{NOT_SHOWN, may_be_shown};

/// The problems of one file, collected while it is checked.
pub(super) struct Findings<'a> {
    pub(super) file: Option<PathBuf>,
    pub(super) text: &'a str,
    pub(super) errors: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
    /// Number of errors that leave the rest safe to run.
    pub(super) to_live_with: usize,
}

impl Findings<'_> {
    pub(super) fn error(&mut self, span: Option<Range<usize>>, message: impl Display, help: impl Display) {
        let problem = self.problem(span, message, help);
        self.errors.push(problem);
    }

    /// Adds an error that must be corrected but leaves the rest safe to run.
    pub(super) fn error_to_live_with(
        &mut self,
        span: Option<Range<usize>>,
        message: impl Display,
        help: impl Display,
    ) {
        self.error(span, message, help);
        self.to_live_with += 1;
    }

    pub(super) fn warn(&mut self, span: Option<Range<usize>>, message: impl Display, help: impl Display) {
        let problem = self.problem(span, message, help);
        self.warnings.push(problem);
    }

    fn problem(&self, span: Option<Range<usize>>, message: impl Display, help: impl Display) -> Problem {
        let place = span.map(|span| place(self.text, span.start));
        Problem {
            file: self.file.clone(),
            line: place.map(|(line, _)| line),
            column: place.map(|(_, column)| column),
            message: message.to_string(),
            help: help.to_string(),
        }
    }
}

/// The line and column at a byte offset, both from 1; the column counts characters.
fn place(text: &str, at: usize) -> (usize, usize) {
    let before = text.get(..at).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// A value and its place in the text.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) span: Range<usize>,
}

/// One table, and the keys that were asked for, which are the known ones.
pub(super) struct Table<'t, 'i> {
    table: &'t DeTable<'i>,
    /// Where the table begins.
    pub(super) span: Range<usize>,
    /// Every key that was asked for, in that order. There is no other list of known keys.
    asked: RefCell<Vec<&'static str>>,
}

impl<'t, 'i> Table<'t, 'i> {
    pub(super) fn new(table: &'t DeTable<'i>, span: Range<usize>) -> Self {
        Self { table, span, asked: RefCell::default() }
    }

    fn get(&self, key: &'static str) -> Option<&'t Spanned<DeValue<'i>>> {
        let mut asked = self.asked.borrow_mut();
        if !asked.contains(&key) {
            asked.push(key);
        }
        self.table.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    /// Whether a key is present.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.get(key).is_some()
    }

    /// Whether a key is present with a non-empty text.
    pub(super) fn is_filled(&self, key: &'static str) -> bool {
        self.get(key).and_then(|value| value.get_ref().as_str()).is_some_and(|text| !text.is_empty())
    }

    /// Refuses keys that were not asked for. Must be called last: keys asked for later would be
    /// refused.
    pub(super) fn refuse_unknown(&self, findings: &mut Findings<'_>) {
        let known = self.asked.borrow();
        for name in self.table.keys() {
            let key: &str = name.get_ref();
            if !known.contains(&key) {
                let all = format!("known keys are: {}", known.join(", "));
                let help =
                    nearest(key, known.iter().copied()).map_or(all, |near| format!("did you mean `{near}`?"));
                let shown = if may_be_shown(key) { key } else { NOT_SHOWN };
                findings.error(Some(name.span()), format_args!("unknown key `{shown}`"), help);
            }
        }
    }

    /// Every key with its text.
    pub(super) fn texts(&self, findings: &mut Findings<'_>) -> Vec<(At<String>, At<String>)> {
        let mut texts = Vec::new();
        for (name, value) in self.table.iter() {
            let key = At { value: name.get_ref().to_string(), span: name.span() };
            match value.get_ref().as_str() {
                Some(text) => texts.push((key, At { value: text.to_owned(), span: value.span() })),
                None => wrong_type(&key.value, value, "a string", findings),
            }
        }
        texts
    }

    pub(super) fn boolean(&self, key: &'static str, findings: &mut Findings<'_>) -> Option<bool> {
        let value = self.get(key)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            wrong_type(key, value, "true or false", findings);
        }
        boolean
    }

    pub(super) fn string(&self, key: &'static str, findings: &mut Findings<'_>) -> Option<At<String>> {
        let value = self.get(key)?;
        match value.get_ref().as_str() {
            Some(text) => Some(At { value: text.to_owned(), span: value.span() }),
            None => {
                wrong_type(key, value, "a string", findings);
                None
            }
        }
    }

    /// A list of strings, at least one: an empty filter would match nothing.
    pub(super) fn strings(&self, key: &'static str, findings: &mut Findings<'_>) -> Option<Vec<At<String>>> {
        let value = self.get(key)?;
        let Some(list) = value.get_ref().as_array() else {
            wrong_type(key, value, "a list of strings", findings);
            return None;
        };
        if list.is_empty() {
            findings.error(
                Some(value.span()),
                format_args!("`{key}` is empty: it matches nothing"),
                "name what is wanted, or remove the key",
            );
        }
        let mut strings = Vec::new();
        for item in list {
            match item.get_ref().as_str() {
                Some(text) => strings.push(At { value: text.to_owned(), span: item.span() }),
                None => wrong_type(key, item, "a list of strings", findings),
            }
        }
        Some(strings)
    }

    /// A list of whole numbers; empty if the key is absent.
    pub(super) fn integers(&self, key: &'static str, findings: &mut Findings<'_>) -> Vec<At<i64>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let Some(list) = value.get_ref().as_array() else {
            wrong_type(key, value, "a list of whole numbers", findings);
            return Vec::new();
        };
        let mut numbers = Vec::new();
        for item in list {
            let number = item.get_ref().as_integer();
            match number.and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok()) {
                Some(number) => numbers.push(At { value: number, span: item.span() }),
                None => wrong_type(key, item, "a list of whole numbers", findings),
            }
        }
        numbers
    }

    /// A whole number within `range`; the default if the key is absent or wrong.
    pub(super) fn integer(
        &self,
        key: &'static str,
        default: u64,
        range: RangeInclusive<u64>,
        findings: &mut Findings<'_>,
    ) -> u64 {
        let Some(value) = self.get(key) else { return default };
        let number =
            value.get_ref().as_integer().map(|number| i128::from_str_radix(number.as_str(), number.radix()));
        match number {
            None => wrong_type(key, value, "a whole number", findings),
            Some(number) => match number.ok().and_then(|number| u64::try_from(number).ok()) {
                Some(number) if range.contains(&number) => return number,
                _ => out_of_range(key, value, range.start(), range.end(), findings),
            },
        }
        default
    }

    /// A number within `range`; the default if the key is absent or wrong.
    pub(super) fn float(
        &self,
        key: &'static str,
        default: f64,
        range: RangeInclusive<f64>,
        findings: &mut Findings<'_>,
    ) -> f64 {
        let Some(value) = self.get(key) else { return default };
        let text = match value.get_ref() {
            DeValue::Float(number) => number.as_str(),
            DeValue::Integer(number) if number.radix() == 10 => number.as_str(),
            _ => {
                wrong_type(key, value, "a number", findings);
                return default;
            }
        };
        match text.replace('_', "").parse::<f64>() {
            Ok(number) if range.contains(&number) => number,
            _ => {
                out_of_range(key, value, range.start(), range.end(), findings);
                default
            }
        }
    }

    /// A number within `range`; `None` if the key is absent.
    pub(super) fn optional_float(
        &self,
        key: &'static str,
        range: RangeInclusive<f64>,
        findings: &mut Findings<'_>,
    ) -> Option<f64> {
        self.get(key)?;
        let default = *range.end();
        Some(self.float(key, default, range, findings))
    }

    /// A table within this one.
    pub(super) fn table(&self, key: &'static str, findings: &mut Findings<'_>) -> Option<Table<'t, 'i>> {
        let value = self.get(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(Table::new(table, value.span())),
            None => {
                wrong_type(key, value, "a table", findings);
                None
            }
        }
    }

    /// A list of tables within this one.
    pub(super) fn tables(&self, key: &'static str, findings: &mut Findings<'_>) -> Vec<Table<'t, 'i>> {
        let Some(value) = self.get(key) else { return Vec::new() };
        let list = value.get_ref().as_array();
        if list.is_none() {
            wrong_type(key, value, "a list of tables: write [[…]] with two brackets", findings);
        }
        let mut tables = Vec::new();
        for item in list.into_iter().flatten() {
            match item.get_ref().as_table() {
                Some(table) => tables.push(Table::new(table, item.span())),
                None => wrong_type(key, item, "a table", findings),
            }
        }
        tables
    }
}

fn wrong_type(key: &str, value: &Spanned<DeValue<'_>>, wanted: &str, findings: &mut Findings<'_>) {
    let given = value.get_ref().type_str();
    findings.error(
        Some(value.span()),
        format_args!("`{key}` is of type {given}"),
        format_args!("it must be {wanted}"),
    );
}

fn out_of_range(
    key: &str,
    value: &Spanned<DeValue<'_>>,
    least: impl Display,
    most: impl Display,
    findings: &mut Findings<'_>,
) {
    let given = findings.text.get(value.span()).filter(|given| may_be_shown(given));
    let given = given.unwrap_or(NOT_SHOWN).to_owned();
    findings.error(
        Some(value.span()),
        format_args!("`{key}` is {given}"),
        format_args!("it must be from {least} to {most}"),
    );
}

#[cfg(test)]
mod tests {
    use super::place;

    #[test]
    fn columns_count_characters() {
        assert_eq!(place("a\nüb", 0), (1, 1));
        assert_eq!(place("a\nüb", 2), (2, 1));
        assert_eq!(place("a\nüb", 4), (2, 2));
    }
}
