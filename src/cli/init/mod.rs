//! `spec-notify init`: makes a repo ready, and changes nothing that is there.

mod template;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use zeroize::Zeroizing;

use super::render::{Screen, Tone};
use super::{Exit, Failure, Global, load, load_options};
use crate::config::{Config, Loaded, Problem, Role, Switch};
use crate::env::Environment;
use crate::files::new::{self, Readers};
use crate::files::{self, FileError, git_ignore};
use crate::inspect::{SourcesStatus, counted};
use crate::secret::Secret;
use crate::watch::{Waiting, elsewhere, other_trees};
use template::{ENV_FILE, LOCAL, PORT, SECRETS_DIR, VARIABLE};

pub(super) const AFTER_HELP: &str = "\
Example, in the repo:
  spec-notify init

Writes .spec-kit/config.toml, which you can commit, and .spec-kit/webhooks/secrets.env with a new
secret. Git ignores that file, and only you can read it. Existing files stay as they are.

Exit code 1 if something is in the way; 2 if an existing config has errors.";

/// How long the repo is looked at for what is there already.
const LOOK: Duration = Duration::from_secs(2);

/// The SPEC of the sample in the commands that come next.
const SAMPLE_SPEC: &str = "SPEC-KIT-001";

/// The output of `init --json`.
#[derive(Debug, Serialize)]
struct Ready {
    /// The files that were made.
    made: Vec<PathBuf>,
    /// The config that is used.
    config: PathBuf,
    /// The config that was used before, where another one takes its place now.
    #[serde(skip_serializing_if = "Option::is_none")]
    replaces: Option<PathBuf>,
    /// Whether webhooks are on in it; `null` where it could not be read.
    enabled: Option<bool>,
    /// What the repo holds that the first `serve` takes as known; absent where it is watched
    /// already.
    #[serde(skip_serializing_if = "Option::is_none")]
    sources: Option<SourcesStatus>,
    errors: Vec<Problem>,
    warnings: Vec<Problem>,
    /// The commands that come next.
    next: Vec<String>,
}

pub(super) fn run(global: &Global, screen: &mut Screen) -> Result<Exit, Failure> {
    let options = load_options(global, true)?;
    let (repo, loaded) = (options.root(), load(global, true)?);
    let place = Place::of(&repo);
    let is_named = global.config.is_some() || Environment::process().get("SPECKIT_WEBHOOKS_CONFIG").is_some();
    let (made, replaces) = match &loaded.file {
        Some(file) if is_named || *file == place.config || is_used(&loaded) => {
            let made =
                if lacks_its_secret(global, &place)? { place.make_secrets()? } else { Made::default() };
            (made, None)
        }
        of_home => {
            let evidence = evidence_elsewhere(loaded.config.as_ref());
            (place.make(evidence.as_deref())?, of_home.clone())
        }
    };
    let before = made.files;
    let loaded = if before.is_empty() { loaded } else { load(global, true)? };
    let sources = loaded
        .config
        .as_ref()
        .filter(|config| config.enabled)
        .map(|config| SourcesStatus::of(&Waiting::of(config, Some(Instant::now() + LOOK))));
    let monorepo = loaded.config.as_ref().filter(|config| config.enabled).and_then(elsewhere);
    let help = format!("the key stands in {}, under [spec_ops.webhooks]", place.config.display());
    let monorepo = monorepo.map(|what| Problem::general(what, help));
    let ready = Ready {
        made: before,
        config: loaded.file.clone().unwrap_or(place.config),
        replaces,
        enabled: loaded.switch.enabled(),
        sources: sources.filter(|sources| sources.baseline),
        next: next(&loaded, global),
        errors: loaded.errors.clone(),
        warnings: loaded.warnings.iter().cloned().chain(monorepo).collect(),
    };
    let is_ok = ready.errors.is_empty();
    if screen.is_json() {
        screen.value(&ready);
    } else {
        tell(&ready, &loaded, &repo, screen);
    }
    Ok(if is_ok { Exit::Done } else { Exit::Usage })
}

/// Whether a config of the user's home already says who is told of this repo: one of the repo's own
/// would take its place and silence it.
fn is_used(loaded: &Loaded) -> bool {
    match loaded.switch {
        Switch::On | Switch::Unknown => true,
        Switch::NoTable(_) | Switch::NotSaid(_) | Switch::SaidOff(_) | Switch::NoFile(_) => {
            !loaded.errors.is_empty()
        }
        Switch::Environment => loaded.config.as_ref().is_none_or(|config| !config.subscriptions.is_empty()),
    }
}

/// Whether the config is one of ours, and the file of its secrets is not there: a fresh clone.
fn lacks_its_secret(global: &Global, place: &Place) -> Result<bool, Failure> {
    let loaded = load(global, false)?;
    let Some(config) = loaded.config.filter(|config| config.env_file.as_ref() == Some(&place.secrets)) else {
        return Ok(false);
    };
    let is_missing =
        Environment::process().get(VARIABLE).is_none() && fs::symlink_metadata(&place.secrets).is_err();
    Ok(is_missing && config.subscriptions.iter().any(|one| one.secrets.current == VARIABLE))
}

/// The evidence tree, relative to the repo, where the repo has one elsewhere than usual and none
/// there.
fn evidence_elsewhere(config: Option<&Config>) -> Option<String> {
    let config = config.filter(|config| !config.evidence_dir.exists())?;
    let [tree] = &other_trees(config)[..] else { return None };
    let tree = tree.strip_prefix(&config.repo).ok()?.to_str()?;
    let is_plain = tree.chars().all(|c| c.is_ascii_alphanumeric() || "/._- ".contains(c));
    is_plain.then(|| tree.to_owned())
}

/// Where everything lies.
struct Place {
    dir: PathBuf,
    config: PathBuf,
    secrets_dir: PathBuf,
    secrets: PathBuf,
}

/// What was made, to be taken away again where not all of it could be made.
#[derive(Default)]
struct Made {
    dirs: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Made {
    fn undo(self) {
        for file in &self.files {
            drop(files::remove(file));
        }
        for dir in self.dirs.iter().rev() {
            drop(files::remove(&dir.join(".gitignore")));
            drop(fs::remove_dir(dir));
        }
    }
}

impl Place {
    fn of(repo: &Path) -> Self {
        Self {
            dir: repo.join(".spec-kit"),
            config: repo.join(".spec-kit/config.toml"),
            secrets_dir: repo.join(SECRETS_DIR),
            secrets: repo.join(ENV_FILE),
        }
    }

    /// Makes the secret and then the config: with the config, webhooks are on.
    fn make(&self, evidence_dir: Option<&str>) -> Result<Made, Failure> {
        self.whole(|made| {
            self.secrets_into(made)?;
            let text = template::config(evidence_dir);
            create(&self.config, text.as_bytes(), Readers::Usual)?;
            made.files.push(self.config.clone());
            Ok(())
        })
    }

    fn make_secrets(&self) -> Result<Made, Failure> {
        self.whole(|made| self.secrets_into(made))
    }

    /// All of it, or nothing.
    fn whole(&self, make: impl FnOnce(&mut Made) -> Result<(), Failure>) -> Result<Made, Failure> {
        let mut made = Made::default();
        match make(&mut made) {
            Ok(()) => Ok(made),
            Err(failure) => {
                made.undo();
                Err(failure)
            }
        }
    }

    /// The file of the secrets. One that an `init` left which was stopped is used as it is.
    fn secrets_into(&self, made: &mut Made) -> Result<(), Failure> {
        if fs::symlink_metadata(&self.dir).is_err() {
            made.dirs.push(self.dir.clone());
        }
        files::create_dir_durably(&self.dir).map_err(failed)?;
        if fs::symlink_metadata(&self.secrets_dir).is_err() {
            made.dirs.push(self.secrets_dir.clone());
        }
        git_ignore::create_dir(&self.secrets_dir).map_err(failed)?;
        if fs::read_dir(&self.secrets_dir).is_ok_and(|mut entries| entries.next().is_none()) {
            git_ignore::ensure(&self.secrets_dir);
        }
        if !git_ignore::hides_all(&self.secrets_dir) {
            return Err(failed(format_args!(
                "{} exists, and git would see a secret in it: it has no .gitignore that says just `*`; \
                 write one, or move the folder away",
                self.secrets_dir.display()
            )));
        }
        if fs::symlink_metadata(&self.secrets).is_ok() {
            return self.check_secrets();
        }
        let secret = Secret::generate().map_err(failed)?;
        let text = Zeroizing::new(template::secrets(&secret));
        create(&self.secrets, text.as_bytes(), Readers::Owner)?;
        made.files.push(self.secrets.clone());
        Ok(())
    }

    fn check_secrets(&self) -> Result<(), Failure> {
        let environment = Environment::fixed([]).with_file(Some(&self.secrets));
        let unread = environment.refresh().err().map(|error| format!(": {error}"));
        match environment.get(VARIABLE) {
            Some(_) => Ok(()),
            None => Err(failed(format_args!(
                "{} exists, without {VARIABLE}{}: add that line (spec-notify secret new makes a \
                 secret), or move the file away",
                self.secrets.display(),
                unread.unwrap_or_default()
            ))),
        }
    }
}

fn create(path: &Path, content: &[u8], readers: Readers) -> Result<(), Failure> {
    new::create(path, content, readers).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            failed(format_args!("{} is in the way: move it away; nothing was changed", path.display()))
        }
        _ => failed(FileError::on("create", path)(error)),
    })
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::failed(error)
}

/// The commands that come next; none where webhooks are off or the config has errors.
fn next(loaded: &Loaded, global: &Global) -> Vec<String> {
    let Some(config) = loaded.config.as_ref().filter(|config| config.enabled && loaded.errors.is_empty())
    else {
        return Vec::new();
    };
    let active = |role| config.subscriptions.iter().filter(move |one| one.role() == role);
    let local = active(Role::Active).find_map(|one| {
        let endpoint =
            one.endpoint.as_ref().filter(|endpoint| endpoint.is_loopback() && !endpoint.is_tls())?;
        (one.id.as_str() == LOCAL).then(|| (endpoint.port(), one.secrets.current.as_str()))
    });
    let first = match local {
        Some((port, variable)) => format!("receive --port {port} --secret-env {variable}"),
        None => "check".to_owned(),
    };
    let to = active(Role::Active).chain(active(Role::DryRun)).map(|one| one.id.as_str());
    let to = local.map(|_| LOCAL).or(to.into_iter().next());
    let last = to.map_or("status".to_owned(), |to| format!("test {SAMPLE_SPEC} --subscription {to}"));
    let given = |option: &str, path: Option<&PathBuf>| {
        path.map_or_else(String::new, |path| format!(" --{option} {}", shell_word(&path.to_string_lossy())))
    };
    let given = given("repo", global.repo.as_ref()) + &given("config", global.config.as_ref());
    [first, "serve".to_owned(), last].map(|command| format!("spec-notify {command}{given}")).into()
}

/// A text as one word of a shell's command line.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%".contains(c);
    match !text.is_empty() && text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// Prints it for people.
fn tell(ready: &Ready, loaded: &Loaded, repo: &Path, screen: &mut Screen) {
    let shown = |path: &Path| path.strip_prefix(repo).unwrap_or(path).display().to_string();
    let has = |path: &str| ready.made.iter().any(|made| made.ends_with(path));
    if has(ENV_FILE) {
        let what = "a fresh secret, which git does not see and only you can read";
        screen.line(Tone::Good, format_args!("made {ENV_FILE}: {what}"));
    }
    let config = shown(&ready.config);
    if ready.made.contains(&ready.config) {
        let commit = if repo.join(".git").exists() { "; commit it, it holds no secret" } else { "" };
        screen.line(
            Tone::Good,
            format_args!("made {config}: webhooks are on, and go to 127.0.0.1:{PORT}, this machine{commit}"),
        );
        screen.note(format_args!(
            "while nothing listens on port {PORT}, deliveries to {LOCAL} become dead letters: once another \
             subscription takes its place, remove it from {config}"
        ));
        if let Some(replaced) = &ready.replaces {
            screen.note(format_args!(
                "{} does not switch webhooks on; for this repo, {config} replaces it",
                replaced.display()
            ));
        }
    } else {
        screen.line(Tone::Plain, format_args!("{config} exists and is used: it was not changed"));
        if has(ENV_FILE) {
            screen.note("a receiver that knows another secret needs this one, or this file needs its secret");
        }
        if !ready.config.starts_with(repo) {
            screen.note(
                "for a config of this repo's own, write .spec-kit/config.toml: spec-notify then uses it \
                 instead",
            );
        }
        let tone = if loaded.switch == Switch::On { Tone::Good } else { Tone::Warning };
        screen.line(tone, &loaded.switch);
    }
    ready.errors.iter().for_each(|error| screen.error(error));
    ready.warnings.iter().for_each(|warning| screen.warning(warning));
    if !ready.errors.is_empty() {
        let errors = counted(ready.errors.len(), "error", "errors");
        return screen.line(Tone::Bad, format_args!("{errors}: correct them, then run spec-notify check"));
    }
    if ready.made.contains(&ready.config) && loaded.switch != Switch::On {
        screen.line(Tone::Warning, &loaded.switch);
    }
    if Environment::process().get(VARIABLE).is_some() && has(ENV_FILE) {
        screen.warning(format_args!("{VARIABLE} is set in this environment and wins over {ENV_FILE}"));
    }
    if let Some(sources) = ready.sources.filter(SourcesStatus::is_something) {
        screen.line(
            Tone::Plain,
            format_args!(
                "the first serve starts to watch; files that exist by then are not sent: {sources} now"
            ),
        );
    }
    if !ready.next.is_empty() {
        screen.line(Tone::Heading, "next, each in a terminal of its own:");
        ready.next.iter().for_each(|command| screen.line(Tone::Plain, format_args!("  {command}")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fault;

    #[test]
    fn a_path_is_one_word_of_the_shells() {
        for (path, word) in [
            ("/a/b-1.c", "/a/b-1.c"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("$(x)", "'$(x)'"),
            ("", "''"),
        ] {
            assert_eq!(shell_word(path), word);
        }
    }

    #[test]
    fn a_fault_at_any_step_leaves_nothing_half_made() {
        let mut faults = 0;
        for step in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let place = Place::of(dir.path());
            let mut made = None;
            let failed = fault::full_after(step, 1, || made = Some(place.make(None)));
            let made = made.unwrap();
            match made {
                Ok(made) => assert_eq!(made.files, [place.secrets.clone(), place.config.clone()]),
                Err(_) => assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "step {step}"),
            }
            if !failed {
                break;
            }
            faults += 1;
        }
        assert!(faults > 8, "{faults}");
    }

    /// Whoever takes off the `#` of an example has a config that is right.
    #[test]
    fn the_examples_are_right_too() {
        let dir = tempfile::tempdir().unwrap();
        let text = template::config(Some("evidence"));
        let is_example = |rest: &str| rest.starts_with(|c: char| c == '[' || c.is_ascii_lowercase());
        let uncommented: String = text
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| is_example(rest)).unwrap_or(line))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(uncommented.matches("\n[[").count(), 3);
        fs::create_dir_all(dir.path().join(SECRETS_DIR)).unwrap();
        fs::write(dir.path().join(ENV_FILE), template::secrets("a-secret-of-sixteen")).unwrap();
        fs::set_permissions(dir.path().join(ENV_FILE), std::os::unix::fs::PermissionsExt::from_mode(0o600))
            .unwrap();
        fs::write(dir.path().join("config.toml"), uncommented).unwrap();
        let environment = Environment::fixed([
            ("SPECKIT_WEBHOOK_SECRET_TRACKER", "another-secret-of-sixteen"),
            ("SLACK_WEBHOOK_URL", "https://hooks.slack.com/services/T0/B0/x"),
        ]);
        let options = crate::config::LoadOptions::in_dir(dir.path()).repo(dir.path()).config("config.toml");
        let loaded = options.load(&environment);
        assert_eq!((loaded.errors, loaded.warnings), (vec![], vec![]));
        let config = loaded.config.unwrap();
        assert_eq!(config.subscriptions.len(), 3);
        assert_eq!(config.spool_dir, dir.path().join("evidence/webhooks"));
    }
}
