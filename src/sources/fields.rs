//! Texts among the fields of a JSON object.

use serde_json::{Map, Value};

/// A field that is a text with something in it; a placeholder that a template left unexpanded is
/// nothing.
pub(super) fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    filled(fields.get(name)?)
}

/// A value that is a text and says something: it is neither empty nor a variable that nobody
/// filled in.
pub(super) fn filled(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !(text.trim().is_empty() || (text.contains("${") && text.contains('}'))))
}
