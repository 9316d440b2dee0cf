//! Finds the config: the order of look-up, the repo's root, and the environment's overrides.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::FleetRole;
use super::check::check;
use super::loaded::Loaded;
use super::{Config, ConfigError, Problem, Switch};
use crate::decode::Form;
use crate::env::Environment;
use crate::files::open::{self, Links};

/// Largest config file that is read.
const MAX_BYTES: u64 = 1024 * 1024;

/// Where to look for the config.
#[derive(Clone, Debug)]
pub struct LoadOptions {
    /// The file to read, instead of searching for one.
    pub(crate) config: Option<PathBuf>,
    /// The repo's root, instead of the one found by git.
    pub(crate) repo: Option<PathBuf>,
    /// The folder where the search for the repo begins.
    pub(crate) working_dir: PathBuf,
    /// Whether secrets and URLs must be in the environment. Only a runtime needs them.
    pub(crate) secrets: bool,
    /// The role in a fleet, instead of the one in the file.
    pub(crate) role: Option<FleetRole>,
}

impl LoadOptions {
    /// Loads the config of the repo that contains `working_dir`, from the places listed in
    /// `docs/reference/config.md`.
    pub fn in_dir(working_dir: impl Into<PathBuf>) -> Self {
        Self { config: None, repo: None, working_dir: working_dir.into(), secrets: true, role: None }
    }

    /// Reads this file instead of searching for one.
    #[must_use]
    pub fn config(self, file: impl Into<PathBuf>) -> Self {
        Self { config: Some(file.into()), ..self }
    }

    /// Uses this root for the repo instead of the one found by git; relative to the working
    /// directory.
    #[must_use]
    pub fn repo(self, root: impl Into<PathBuf>) -> Self {
        Self { repo: Some(root.into()), ..self }
    }

    /// Allows secrets and URLs to be missing from the environment. Such a config can be inspected
    /// but not run.
    #[must_use]
    pub fn without_secrets(self) -> Self {
        Self { secrets: false, ..self }
    }

    /// The repo's root.
    pub(crate) fn root(&self) -> PathBuf {
        let given = self.repo.as_ref().map(|repo| self.working_dir.join(repo));
        given.unwrap_or_else(|| repo_root(&self.working_dir))
    }

    /// Checks the text of a config file instead of looking for one. Paths in it are relative to the
    /// repo.
    ///
    /// ```
    /// use spec_notify::{Environment, LoadOptions};
    ///
    /// let repo = std::env::temp_dir();
    /// let options = LoadOptions::in_dir(&repo).repo(&repo);
    /// let loaded = options.parse("[spec_ops.webhooks]\nmax_pendng = 5", &Environment::fixed([]));
    /// assert_eq!((loaded.errors[0].line, loaded.errors[0].column), (Some(2), Some(1)));
    /// assert!(loaded.errors[0].help.contains("did you mean `max_pending`?"));
    /// ```
    pub fn parse(&self, text: &str, environment: &Environment) -> Loaded {
        let repo = self.root();
        if let Some(problem) = self.repo.as_ref().and_then(|_| no_folder(&repo)) {
            return Loaded::unread(None, problem);
        }
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        check(None, text, &repo, environment, (self.secrets, self.role))
    }

    /// Finds, reads and checks the config, with the variables of `environment`.
    ///
    /// ```
    /// use spec_notify::{Environment, LoadOptions};
    ///
    /// let repo = std::env::temp_dir();
    /// let loaded = LoadOptions::in_dir(&repo).repo(&repo).load(&Environment::process());
    /// for problem in loaded.errors.iter().chain(&loaded.warnings) {
    ///     println!("{problem}");
    /// }
    /// ```
    pub fn load(&self, environment: &Environment) -> Loaded {
        load(self, environment)
    }
}

/// A config given as the text of a file, for the repo that contains the working directory and with
/// the variables of the process. For another folder or other variables: [`LoadOptions::parse`].
///
/// ```
/// use spec_notify::Config;
///
/// let config: Config = "[spec_ops.webhooks]\nenabled = false\n".parse()?;
/// assert!(!config.is_enabled());
/// # Ok::<(), spec_notify::ConfigError>(())
/// ```
impl FromStr for Config {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let here = env::current_dir().map_err(|error| {
            let what = format!("the working directory cannot be read: {error}");
            ConfigError::Unreadable(Problem::general(what, "name the repo's root: LoadOptions::repo"))
        })?;
        LoadOptions::in_dir(here).parse(text, &Environment::process()).into_config()
    }
}

/// Finds, reads and checks the config.
pub(crate) fn load(options: &LoadOptions, environment: &Environment) -> Loaded {
    let repo = options.root();
    if options.repo.is_some()
        && let Some(problem) = no_folder(&repo)
    {
        return Loaded::unread(None, problem);
    }
    let read = match named(options, environment) {
        Some(file) => read_text(&file).map(|text| Some((file.clone(), text))).map_err(|error| (file, error)),
        None => first_readable(&candidates(&repo, environment)),
    };
    let mut loaded = match read {
        Ok(None) => check(None, "", &repo, environment, (options.secrets, options.role)),
        Ok(Some((file, text))) => {
            check(Some(file), &text, &repo, environment, (options.secrets, options.role))
        }
        Err((file, error)) => {
            let problem = Problem {
                file: Some(file.clone()),
                line: None,
                column: None,
                message: format!("cannot be read: {error}"),
                help: match error.kind() {
                    io::ErrorKind::InvalidData => "save it as UTF-8 text".to_owned(),
                    _ => "check the path given with --config or SPECKIT_WEBHOOKS_CONFIG, and the file's \
                          permissions"
                        .to_owned(),
                },
            };
            Loaded::unread(Some(file), problem)
        }
    };
    if let Switch::NoFile(looked_for) = &mut loaded.switch {
        *looked_for = candidates(&repo, environment);
    }
    if let Some(config) = &mut loaded.config {
        config.source = Some(options.clone());
    }
    loaded
}

/// Why a repo's root that the user named cannot be used, if so. Without this check it would
/// silently count as a repo without a config.
pub(crate) fn no_folder(repo: &Path) -> Option<Problem> {
    let why = match fs::metadata(repo) {
        Ok(found) if found.is_dir() => return None,
        Ok(_) => "it is a file, not a folder".to_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => "there is no such folder".to_owned(),
        Err(error) => error.to_string(),
    };
    let message = format!("the repo {} cannot be used: {why}", repo.display());
    Some(Problem::general(message, "give the repo's root with --repo, or leave it out within the repo"))
}

/// The file that the user named: it must exist.
fn named(options: &LoadOptions, environment: &Environment) -> Option<PathBuf> {
    let from_environment =
        || environment.get("SPECKIT_WEBHOOKS_CONFIG").map(|file| PathBuf::from(file.as_str()));
    options.config.clone().or_else(from_environment).map(|file| options.working_dir.join(file))
}

/// The files to look for; the first that exists is used.
fn candidates(repo: &Path, environment: &Environment) -> Vec<PathBuf> {
    let home = environment.get("HOME").map(|home| PathBuf::from(home.as_str()));
    let of_host = |variable: &str, default: &str| {
        let dir = environment
            .get(variable)
            .map(|dir| PathBuf::from(dir.as_str()))
            .or_else(|| Some(home.as_ref()?.join(default)))?;
        Some(dir.join("config.toml"))
    };
    let in_repo = repo.join(".spec-kit").join("config.toml");
    [Some(in_repo), of_host("CODE_HOME", ".code"), of_host("CODEX_HOME", ".codex")]
        .into_iter()
        .flatten()
        .collect()
}

type Read = Result<Option<(PathBuf, String)>, (PathBuf, io::Error)>;

/// A config file's text, without its byte order mark.
pub(super) fn read_text(file: &Path) -> io::Result<String> {
    let bytes = open::whole(file, Links::Followed, MAX_BYTES)?;
    let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what);
    match (Form::of(&bytes), std::str::from_utf8(&bytes)) {
        (Form::Utf8, Ok(text)) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned()),
        (Form::Utf8, Err(_)) => Err(wrong("it is not UTF-8 text")),
        _ => Err(wrong("it is UTF-16 text")),
    }
}

fn first_readable(files: &[PathBuf]) -> Read {
    for file in files {
        match read_text(file) {
            Ok(text) => return Ok(Some((file.clone(), text))),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {}
            Err(error) => return Err((file.clone(), error)),
        }
    }
    Ok(None)
}

/// The git top level above `from`, else `from` itself.
fn repo_root(from: &Path) -> PathBuf {
    from.ancestors().find(|dir| dir.join(".git").exists()).unwrap_or(from).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(working_dir: &Path) -> LoadOptions {
        LoadOptions::in_dir(working_dir)
    }

    fn put(file: &Path) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }

    #[test]
    fn the_first_file_in_the_order_counts() {
        let dir = tempfile::tempdir().unwrap();
        let at = |path: &str| dir.path().join(path);
        let text = |path: &str| at(path).to_str().unwrap().to_owned();
        fs::create_dir_all(at("repo/.git")).unwrap();
        fs::create_dir_all(at("repo/deep/down")).unwrap();
        let (home, code, given) = (text("home"), text("code"), text("given.toml"));
        let plain = Environment::fixed([("HOME", home.as_str())]);
        let with_code = Environment::fixed([("HOME", home.as_str()), ("CODE_HOME", code.as_str())]);
        let with_file = Environment::fixed([("SPECKIT_WEBHOOKS_CONFIG", given.as_str())]);
        let found = |environment| load(&options(&at("repo/deep/down")), environment).file;
        assert_eq!(found(&plain), None);
        for (file, environment) in [
            ("home/.codex/config.toml", &plain),
            ("home/.code/config.toml", &plain),
            ("code/config.toml", &with_code),
            ("repo/.spec-kit/config.toml", &with_code),
            ("given.toml", &with_file),
        ] {
            put(&at(file));
            assert_eq!(found(environment), Some(at(file)));
        }
        put(&at("repo/deep/down/own.toml"));
        let own = LoadOptions { config: Some("own.toml".into()), ..options(&at("repo/deep/down")) };
        assert_eq!(load(&own, &with_file).file, Some(at("repo/deep/down/own.toml")));
    }

    #[test]
    fn the_repo_is_the_git_top_level() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("repo/deep");
        fs::create_dir_all(&deep).unwrap();
        let none = Environment::fixed([]);
        assert_eq!(load(&options(&deep), &none).config.unwrap().repo, deep);
        fs::write(dir.path().join("repo/.git"), "gitdir: elsewhere").unwrap();
        assert_eq!(load(&options(&deep), &none).config.unwrap().repo, dir.path().join("repo"));
    }

    #[test]
    fn a_named_file_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let named = LoadOptions { config: Some("none.toml".into()), ..options(dir.path()) };
        let loaded = load(&named, &Environment::fixed([]));
        assert!(loaded.config.is_none());
        assert!(loaded.errors[0].to_string().contains("none.toml: cannot be read"), "{}", loaded.errors[0]);
    }

    #[test]
    fn a_byte_order_mark_is_nothing_and_utf_16_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let text = "\u{feff}[spec_ops.webhooks]\r\nenabled = false\r\n";
        let load_as = |bytes: &[u8]| {
            fs::write(dir.path().join("c.toml"), bytes).unwrap();
            let named = LoadOptions { config: Some("c.toml".into()), ..options(dir.path()) };
            load(&named, &Environment::fixed([]))
        };
        assert_eq!(load_as(text.as_bytes()).errors, vec![]);
        for unit in [u16::to_le_bytes, u16::to_be_bytes] {
            let bytes: Vec<u8> = text.encode_utf16().flat_map(unit).collect();
            let error = load_as(&bytes).errors.remove(0).to_string();
            assert!(error.contains("UTF-16") && error.contains("save it as UTF-8"), "{error}");
        }
    }
}
