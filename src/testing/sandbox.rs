//! A repo in a temporary folder with a config and secrets, and a runtime in it: embedded, or as the
//! program.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::{Serve, needed, wait_for};
use crate::config::{Config, LoadOptions};
use crate::control::RuntimeFile;
use crate::env::Environment;
use crate::files::open::{self, Links};
use crate::runtime::Runtime;
use crate::secret::Secret;

/// The variable that holds the secret of every subscription that names none.
const SECRET_VARIABLE: &str = "SANDBOX_SECRET";

/// Largest file that is read.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A repo in a temporary folder, removed when dropped. Nothing of the tester's own environment or
/// config is read in it.
///
/// ```
/// use spec_notify::testing::{Endpoint, Sandbox};
///
/// let endpoint = Endpoint::start();
/// let sandbox = Sandbox::new()
///     .settings("max_pending = 50")
///     .subscribe("chatops", &endpoint.url())
///     .subscribe_with("tracker", &endpoint.url(), "include_stages = [\"Unlock\"]");
/// assert!(sandbox.config().is_enabled());
/// ```
#[derive(Debug)]
pub struct Sandbox {
    _dir: tempfile::TempDir,
    /// The canonical path: on some systems the temporary folder is behind a link.
    path: PathBuf,
    settings: String,
    subscriptions: String,
    variables: Vec<(String, String)>,
    secret: String,
}

impl Sandbox {
    /// An empty folder. From the first subscription or setting there is a config, with webhooks on.
    ///
    /// # Panics
    /// There is no temporary folder to be had.
    #[track_caller]
    pub fn new() -> Self {
        let dir = needed("a temporary folder", tempfile::tempdir());
        let path = needed("its path", dir.path().canonicalize());
        let secret = needed("a secret", Secret::generate()).to_string();
        let home = path.join("home").to_string_lossy().into_owned();
        let variables = vec![(SECRET_VARIABLE.to_owned(), secret.clone()), ("HOME".to_owned(), home)];
        Self { _dir: dir, path, settings: String::new(), subscriptions: String::new(), variables, secret }
    }

    /// Makes it a git repo on the branch `main`, with one empty commit.
    ///
    /// # Panics
    /// `git` is not there, or fails.
    #[must_use]
    #[track_caller]
    pub fn with_git(self) -> Self {
        let identity = ["-c", "user.name=sandbox", "-c", "user.email=sandbox@example.com"];
        for arguments in
            [&["init", "-q", "-b", "main"][..], &["commit", "-q", "--allow-empty", "-m", "Begin"]]
        {
            let mut git = self.command("git", &identity);
            let output = needed("git", git.args(arguments).output());
            assert!(
                output.status.success(),
                "git {arguments:?}: {}",
                String::from_utf8_lossy(&output.stderr)
            );
        }
        self
    }

    /// Adds a subscription to the config. It signs with [`secret`](Self::secret).
    ///
    /// # Panics
    /// The config cannot be written.
    #[must_use]
    #[track_caller]
    pub fn subscribe(self, id: &str, url: &str) -> Self {
        self.subscribe_with(id, url, "")
    }

    /// The same with further lines of TOML for its table.
    ///
    /// # Panics
    /// The config cannot be written.
    #[must_use]
    #[track_caller]
    pub fn subscribe_with(mut self, id: &str, url: &str, lines: &str) -> Self {
        let secret = match lines.contains("secret_env") {
            true => String::new(),
            false => format!("secret_env = \"{SECRET_VARIABLE}\"\n"),
        };
        self.subscriptions += &format!(
            "\n[[spec_ops.webhooks.subscriptions]]\nid = \"{id}\"\nurl = \"{url}\"\n{secret}{lines}\n"
        );
        self.with_config()
    }

    /// Adds lines of TOML to the table `[spec_ops.webhooks]`.
    ///
    /// # Panics
    /// The config cannot be written.
    #[must_use]
    #[track_caller]
    pub fn settings(mut self, lines: &str) -> Self {
        self.settings += &format!("{lines}\n");
        self.with_config()
    }

    #[track_caller]
    fn with_config(self) -> Self {
        let text = format!("[spec_ops.webhooks]\nenabled = true\n{}{}", self.settings, self.subscriptions);
        self.write(".spec-kit/config.toml", &text);
        self
    }

    /// Sets a variable of the environment, for the runtime and for programs.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The repo's root.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The secret that every subscription signs with which names no `secret_env`; another one in
    /// each sandbox.
    pub fn secret(&self) -> &str {
        &self.secret
    }

    /// Writes a file of the repo, and the folders that it needs; returns its path.
    ///
    /// # Panics
    /// It cannot be written.
    #[track_caller]
    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path.join(path);
        if let Some(folder) = path.parent() {
            needed("a folder of the repo", fs::create_dir_all(folder));
        }
        needed("a file of the repo", fs::write(&path, text));
        path
    }

    /// The variables that a runtime in it may read, and no others.
    pub fn environment(&self) -> Environment {
        Environment::fixed(self.variables.iter().map(|(name, value)| (name.as_str(), value.as_str())))
    }

    /// The config as the runtime reads it.
    ///
    /// # Panics
    /// It has errors: the message has each with its place.
    #[track_caller]
    pub fn config(&self) -> Config {
        let loaded = LoadOptions::in_dir(&self.path).repo(&self.path).load(&self.environment());
        needed("the sandbox's config", loaded.into_config())
    }

    /// Starts a runtime in this process. It does not watch the repo: see
    /// [`Config::watching`](crate::Config::watching).
    ///
    /// # Panics
    /// It does not start, or the config has errors.
    #[track_caller]
    pub fn runtime(&self) -> Runtime {
        needed("a runtime", Runtime::start_blocking(self.config(), self.environment()))
    }

    /// A command in the repo, with no variables but `PATH`, `HOME` (a folder of the sandbox) and
    /// the sandbox's own, and nothing on its standard input.
    pub fn command(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&self.path).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("RUST_BACKTRACE", "1");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command
    }

    /// Starts `spec-notify serve` with further arguments and waits until it takes events. `program`
    /// is its path: in the tests of its own package, `env!("CARGO_BIN_EXE_spec-notify")`.
    ///
    /// ```no_run
    /// # use spec_notify::testing::{Endpoint, Run, Sandbox};
    /// let endpoint = Endpoint::start();
    /// let sandbox = Sandbox::new().subscribe("chatops", &endpoint.url());
    /// let serve = sandbox.serve("/usr/bin/spec-notify", &["--from-start"]);
    /// let run = Run::of("SPEC-KIT-065");
    /// run.write_telemetry(&sandbox);
    /// run.assert_told_to(&endpoint);
    /// assert_eq!(serve.terminate().0, 0);
    /// ```
    ///
    /// # Panics
    /// It cannot be started, or ends, or does not get there within [`PATIENCE`](super::PATIENCE).
    #[track_caller]
    pub fn serve(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Serve {
        let mut command = self.command(program, &["serve"]);
        let mut serve = Serve::spawn(command.args(arguments), self.path.join("serve.log"));
        let spool = self.config().spool_dir().to_owned();
        wait_for("serve to be ready", || {
            serve.assert_runs();
            RuntimeFile::read(&spool).ok().filter(|file| file.pid == serve.id())
        });
        serve
    }

    /// The evidence of a SPEC so far, line by line.
    ///
    /// # Panics
    /// The config has errors, or a line is no JSON.
    #[track_caller]
    pub fn evidence(&self, spec: &str) -> Vec<Value> {
        let path = self.config().evidence_dir().join("commands").join(spec).join("webhooks/deliveries.jsonl");
        let bytes = open::whole(&path, Links::Refused, MAX_BYTES).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        // A line that is being written now is not whole yet.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| needed("a line of the evidence", serde_json::from_str(line))).collect()
    }

    /// Waits until the evidence says that so many deliveries of a SPEC have ended, and returns
    /// those lines.
    ///
    /// # Panics
    /// They do not within [`PATIENCE`](super::PATIENCE).
    #[track_caller]
    pub fn wait_for_ends(&self, spec: &str, count: usize) -> Vec<Value> {
        wait_for("deliveries to end", || {
            let mut ends = self.evidence(spec);
            ends.retain(|line| line["record"] == "final");
            (ends.len() >= count).then_some(ends)
        })
    }

    /// The dead letters of a SPEC, as they lie in the spool.
    ///
    /// # Panics
    /// The config has errors, or a dead letter is no JSON.
    #[track_caller]
    pub fn dead_letters(&self, spec: &str) -> Vec<Value> {
        let folder = self.config().spool_dir().join(spec).join("dead-letter");
        let files = fs::read_dir(folder).into_iter().flatten().flatten();
        let paths =
            files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
        // One that a replay delivers goes between the look at the folder and the look at the file.
        let texts = paths.filter_map(|path| open::whole(&path, Links::Refused, MAX_BYTES).ok());
        texts.map(|text| needed("a dead letter", serde_json::from_slice(&text))).collect()
    }
}

impl Default for Sandbox {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}
