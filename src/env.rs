//! The environment: the process's own, or a fixed one for a host or a test that brings its own values.

use std::collections::HashMap;
use std::sync::Arc;

/// Where variables are read from, anew each time.
#[derive(Clone, Default)]
pub struct Environment(Option<Arc<HashMap<String, String>>>);

impl Environment {
    /// The process's own.
    pub fn process() -> Self {
        Self(None)
    }

    /// These variables and no others.
    pub fn fixed<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned = variables.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self(Some(Arc::new(owned.collect())))
    }

    /// A variable's value; an empty one and one that is not UTF-8 count as not set.
    pub fn get(&self, name: &str) -> Option<String> {
        let value = match &self.0 {
            None => std::env::var(name).ok(),
            Some(variables) => variables.get(name).cloned(),
        };
        value.filter(|value| !value.is_empty())
    }
}

/// Shows no values: some are secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Environment(fixed)" } else { "Environment(process)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_not_set_and_values_are_not_shown() {
        let environment = Environment::fixed([("A", "canary"), ("B", "")]);
        assert_eq!(environment.get("A").as_deref(), Some("canary"));
        assert_eq!(environment.get("B"), None);
        assert_eq!(environment.get("C"), None);
        assert!(!format!("{environment:?}").contains("canary"));
    }
}
