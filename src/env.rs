//! The environment: the process's own, or a fixed one for a host or a test that brings its own values; under either the
//! values of an `env_file`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::open::{self, Links};

/// Largest `env_file` that is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// Where variables are read from, anew each time.
#[derive(Clone, Default)]
pub struct Environment {
    fixed: Option<Arc<HashMap<String, Zeroizing<String>>>>,
    file: Option<Arc<EnvFile>>,
}

/// A dotenv file, read anew when it has changed.
struct EnvFile {
    path: PathBuf,
    read: Mutex<Option<Read>>,
}

struct Read {
    version: Version,
    variables: HashMap<String, Zeroizing<String>>,
}

/// What tells one version of a file from another.
type Version = (SystemTime, u64);

impl Environment {
    /// The process's own.
    pub fn process() -> Self {
        Self::default()
    }

    /// These variables and no others.
    pub fn fixed<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned =
            variables.into_iter().map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned())));
        Self { fixed: Some(Arc::new(owned.collect())), file: None }
    }

    /// The same with the variables of a dotenv file under it; without one, as it is.
    #[must_use]
    pub fn with_file(&self, path: Option<&Path>) -> Self {
        let file = path.map(|path| Arc::new(EnvFile { path: path.to_owned(), read: Mutex::new(None) }));
        Self { fixed: self.fixed.clone(), file }
    }

    /// A variable's value; an empty one and one that is not UTF-8 count as not set. What the file says is what
    /// [`refresh`](Self::refresh) last read.
    pub fn get(&self, name: &str) -> Option<Zeroizing<String>> {
        let own = match &self.fixed {
            None => std::env::var(name).ok().map(Zeroizing::new),
            Some(variables) => variables.get(name).cloned(),
        };
        let of_file = || self.file.as_ref()?.get(name);
        own.filter(|value| !value.is_empty()).or_else(of_file).filter(|value| !value.is_empty())
    }

    /// Whether there is a file that may change.
    pub fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the file if it has changed. Blocks.
    ///
    /// # Errors
    /// It is not there, and its variables are not set; or it cannot be read or holds a line that is none, and what was read
    /// before stands.
    pub fn refresh(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), |file| file.refresh())
    }
}

impl EnvFile {
    fn get(&self, name: &str) -> Option<Zeroizing<String>> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.as_ref()?.variables.get(name).cloned()
    }

    fn refresh(&self) -> io::Result<()> {
        let found = fs::metadata(&self.path);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // What is no longer there is no longer said.
        let found = found.inspect_err(|_| *read = None)?;
        let version = (found.modified()?, found.len());
        if read.as_ref().is_some_and(|read| read.version == version) {
            return Ok(());
        }
        let content = Zeroizing::new(open::whole(&self.path, Links::Followed, MAX_BYTES)?);
        let mut variables = HashMap::new();
        for line in dotenvy::from_read_iter(content.as_slice()) {
            // The error repeats the line, which may hold a secret.
            let (name, value) = line
                .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a line of it is not NAME=value"))?;
            variables.insert(name, Zeroizing::new(value));
        }
        *read = Some(Read { version, variables });
        Ok(())
    }
}

/// Shows no values: some are secrets.
impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.fixed.is_some() { "Environment(fixed" } else { "Environment(process" })?;
        f.write_str(if self.file.is_some() { ", env_file)" } else { ")" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_is_not_set_and_values_are_not_shown() {
        let environment = Environment::fixed([("A", "canary"), ("B", "")]);
        assert_eq!(environment.get("A").unwrap().as_str(), "canary");
        assert_eq!(environment.get("B"), None);
        assert_eq!(environment.get("C"), None);
        assert!(!format!("{environment:?}").contains("canary"));
    }

    #[test]
    fn a_file_stands_under_the_environment_and_is_read_anew_when_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(".env");
        fs::write(&path, "# secrets\nA=of-the-file\nexport B=\"quoted value\"\n").unwrap();
        let environment = Environment::fixed([("A", "own")]).with_file(Some(&path));
        let get = |name: &str| environment.get(name).map(|value| value.to_string());
        assert_eq!(get("B"), None, "not read yet");
        environment.refresh().unwrap();
        assert_eq!((get("A").as_deref(), get("B").as_deref()), (Some("own"), Some("quoted value")));
        fs::write(&path, "B=another\n").unwrap();
        environment.refresh().unwrap();
        assert_eq!(get("B").as_deref(), Some("another"));
        fs::write(&path, "B=canary\nthis is no line with canary-2").unwrap();
        let error = environment.refresh().unwrap_err().to_string();
        assert!(!error.contains("canary"), "{error}");
        assert_eq!(get("B").as_deref(), Some("another"), "what was read before stands");
        fs::remove_file(&path).unwrap();
        assert!(environment.refresh().is_err());
        assert_eq!(get("B"), None);
    }
}
