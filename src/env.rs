//! Environment variables: those of the process, or a fixed set for a host or a test; below either,
//! the variables of an `env_file`.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use zeroize::Zeroizing;

use crate::decode::{self, Form};
use crate::files::open::{self, Links};
use crate::secret::is_variable;

/// Largest `env_file` that is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// A source of variables. They are read anew at each use.
#[derive(Clone, Default)]
pub struct Environment {
    fixed: Option<Arc<HashMap<String, Zeroizing<String>>>>,
    file: Option<Arc<EnvFile>>,
}

/// A dotenv file, read again when it has changed.
struct EnvFile {
    path: PathBuf,
    read: Mutex<Option<Read>>,
}

struct Read {
    version: Version,
    variables: Variables,
}

/// Modification time and length: the version of a file.
type Version = (SystemTime, u64);

impl Environment {
    /// The environment of the process.
    pub fn process() -> Self {
        Self::default()
    }

    /// A fixed set of variables.
    pub fn fixed<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let owned =
            variables.into_iter().map(|(name, value)| (name.to_owned(), Zeroizing::new(value.to_owned())));
        Self { fixed: Some(Arc::new(owned.collect())), file: None }
    }

    /// This environment with the variables of a dotenv file below it; `None` for no file.
    #[must_use]
    pub(crate) fn with_file(&self, path: Option<&Path>) -> Self {
        let file = path.map(|path| Arc::new(EnvFile { path: path.to_owned(), read: Mutex::new(None) }));
        Self { fixed: self.fixed.clone(), file }
    }

    /// The value of a variable. An empty value, or one that is not UTF-8, counts as not set. The
    /// file's variables are those of the last [`refresh`](Self::refresh).
    pub(crate) fn get(&self, name: &str) -> Option<Zeroizing<String>> {
        let own = match &self.fixed {
            None => std::env::var(name).ok().map(Zeroizing::new),
            Some(variables) => variables.get(name).cloned(),
        };
        let of_file = || self.file.as_ref()?.get(name);
        own.filter(|value| !value.is_empty()).or_else(of_file).filter(|value| !value.is_empty())
    }

    /// Whether there is a file, which may change.
    pub(crate) fn has_file(&self) -> bool {
        self.file.is_some()
    }

    /// Reads the file again if it has changed. Blocks on I/O.
    ///
    /// # Errors
    /// [`EnvFileError::Unreadable`]: if the file is gone its variables are dropped, else the
    /// earlier ones remain. [`EnvFileError::Lines`], once per version: the other lines are used.
    pub(crate) fn refresh(&self) -> Result<(), EnvFileError> {
        self.file.as_ref().map_or(Ok(()), |file| file.refresh())
    }
}

/// What is wrong with an `env_file`. Does not repeat its content.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EnvFileError {
    /// The file does not exist, or cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// These lines, counted from 1, are not of the form `NAME=value`.
    #[error("{} no NAME=value; the other lines count", lines(.0))]
    Lines(Vec<usize>),
}

impl EnvFileError {
    /// Whether the file does not exist.
    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Unreadable(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Most lines that are named one by one.
const MAX_NAMED: usize = 20;

fn lines(numbers: &[usize]) -> String {
    let all: Vec<String> = numbers.iter().take(MAX_NAMED).map(usize::to_string).collect();
    let (what, is) = if numbers.len() == 1 { ("line", "is") } else { ("lines", "are") };
    let others = match numbers.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        others => format!(" and {others} more"),
    };
    format!("{what} {}{others} {is}", all.join(", "))
}

impl EnvFile {
    fn get(&self, name: &str) -> Option<Zeroizing<String>> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        read.as_ref()?.variables.get(name).cloned()
    }

    fn refresh(&self) -> Result<(), EnvFileError> {
        let found = fs::metadata(&self.path);
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        // Drop the variables if the file is gone.
        let found = found.inspect_err(|_| *read = None)?;
        let version = (found.modified()?, found.len());
        if read.as_ref().is_some_and(|read| read.version == version) {
            return Ok(());
        }
        let content = Zeroizing::new(open::whole(&self.path, Links::Followed, MAX_BYTES)?);
        let (variables, wrong) = variables(&content);
        *read = Some(Read { version, variables });
        if wrong.is_empty() { Ok(()) } else { Err(EnvFileError::Lines(wrong)) }
    }
}

type Variables = HashMap<String, Zeroizing<String>>;

/// The variables of a file, and the numbers of its invalid lines. A value is taken byte for byte,
/// without surrounding white space and one pair of quotes around all of it (like `EnvironmentFile=`
/// in systemd.exec(5)). Of two lines with one name the last counts.
fn variables(content: &[u8]) -> (Variables, Vec<usize>) {
    let (mut variables, mut wrong) = (Variables::new(), Vec::new());
    let decoded =
        (Form::of(content) != Form::Utf8).then(|| Zeroizing::new(decode::text(content).into_owned()));
    let content = decoded.as_ref().map_or(content, |text| text.as_bytes());
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    for (number, line) in (1..).zip(content.split(|byte| *byte == b'\n')) {
        match std::str::from_utf8(line).ok().map(str::trim) {
            Some(line) if line.is_empty() || line.starts_with(['#', ';']) => {}
            Some(line) => match variable(line) {
                Some((name, value)) => {
                    drop(variables.insert(name.to_owned(), Zeroizing::new(value.to_owned())))
                }
                None => wrong.push(number),
            },
            None => wrong.push(number),
        }
    }
    (variables, wrong)
}

fn variable(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=')?;
    let exported = name.strip_prefix("export").filter(|rest| rest.starts_with(char::is_whitespace));
    let name = exported.unwrap_or(name).trim();
    let value = value.trim();
    let unquoted = |quote: char| value.strip_prefix(quote)?.strip_suffix(quote);
    is_variable(name).then(|| (name, unquoted('"').or_else(|| unquoted('\'')).unwrap_or(value)))
}

/// Shows no values, since some are secrets.
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
        fs::write(&path, "B=canary\nthis is no line with canary-2\n1=x\nC=c").unwrap();
        let error = environment.refresh().unwrap_err().to_string();
        assert_eq!(error, "lines 2, 3 are no NAME=value; the other lines count");
        assert_eq!((get("B").as_deref(), get("C").as_deref()), (Some("canary"), Some("c")));
        environment.refresh().unwrap();
        fs::remove_file(&path).unwrap();
        assert!(environment.refresh().is_err());
        assert_eq!(get("B"), None);
    }

    #[test]
    fn an_error_names_twenty_lines_at_most() {
        assert_eq!(lines(&[3]), "line 3 is");
        assert_eq!(lines(&[1, 2]), "lines 1, 2 are");
        let all: Vec<usize> = (1..=50_000).collect();
        assert!(lines(&all).ends_with(", 19, 20 and 49980 more are"), "{}", lines(&all));
    }

    #[test]
    fn a_value_is_what_stands_there() {
        let values = [
            ("$HOME", "$HOME"),
            ("pa$$word\\n", "pa$$word\\n"),
            ("${A}`b`", "${A}`b`"),
            ("a#b # c", "a#b # c"),
            ("\"a b\"", "a b"),
            ("'$a\\'", "$a\\"),
            ("\"a\"b\"", "a\"b"),
            ("\"a' ", "\"a'"),
            ("\"", "\""),
            ("a=b==", "a=b=="),
            ("  é ü\r", "é ü"),
            ("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"),
        ];
        for (written, value) in values {
            for line in [
                format!("A={written}\n"),
                format!("\u{feff}export  A = {written}\nB=b"),
                format!("A=old\nA={written}"),
            ] {
                let (variables, wrong) = variables(line.as_bytes());
                assert_eq!((variables["A"].as_str(), wrong), (value, vec![]), "{line:?}");
            }
        }
        let utf16: Vec<u8> = "\u{feff}A=é\r\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(variables(&utf16).0["A"].as_str(), "é");
        let (variables, wrong) = variables(b"\n# x\n;y\nA\n=b\nA B=c\nC=\xff\nexport=d\nE=");
        assert_eq!(wrong, [4, 5, 6, 7]);
        assert_eq!((variables["export"].as_str(), variables["E"].as_str()), ("d", ""));
    }
}
