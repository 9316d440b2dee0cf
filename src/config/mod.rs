//! What the operator configured, checked and ready to use.

mod check;
mod file;
mod loaded;
mod origin;
mod role;
mod switch;
mod table;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

pub use file::LoadOptions;
pub(crate) use file::load;
#[cfg(feature = "cli")]
pub(crate) use file::no_folder;
pub use loaded::{ConfigError, Loaded};
pub(crate) use origin::Origin;
pub(crate) use role::Role;
pub(crate) use switch::Switch;

use crate::delivery::{RetryPolicy, SubscriptionId};
use crate::event::SpecId;
use crate::filter::Filter;
use crate::http::{Proxy, TlsFiles};
use crate::payload::Format;
use crate::run::RunPolicy;
use crate::secret::Endpoint;
use crate::store::StoreOptions;

/// The `[spec_ops.webhooks]` table, checked as a whole: a value of this type is good to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The repo's root; evidence paths in payloads are relative to it.
    pub(crate) repo: PathBuf,
    /// `enabled`, after the environment's override.
    pub(crate) enabled: bool,
    /// Requests at a time, over all subscriptions; at least 1.
    pub(crate) max_concurrency: usize,
    /// Absolute path of the spool.
    pub(crate) spool_dir: PathBuf,
    /// Absolute path of the evidence tree's root.
    pub(crate) evidence_dir: PathBuf,
    /// `max_evidence_bytes`, per SPEC.
    pub(crate) max_evidence_bytes: u64,
    /// `max_dead_letter_bytes`, per SPEC.
    pub(crate) max_dead_letter_bytes: u64,
    /// `max_pending`, per subscription.
    pub(crate) max_pending: usize,
    /// `git_ignore`: whether git is kept from seeing evidence.
    pub(crate) git_ignore: bool,
    /// `dedupe_window_s`.
    pub(crate) dedupe_window: SignedDuration,
    /// `consensus_wait_ms`: how long a stage waits for consensus files that come later.
    pub(crate) consensus_wait: Duration,
    /// `task_done_statuses`: further statuses that mean Done.
    pub(crate) task_done_statuses: Vec<String>,
    /// `task_tracker_spec`: whose tasks those are that name no SPEC.
    pub(crate) task_tracker_spec: SpecId,
    /// `max_stage_attempts` and `cost_threshold_usd`: when a SPEC's run ends, and when it costs
    /// too much.
    pub(crate) runs: RunPolicy,
    /// `env_file`: a dotenv file under the environment.
    pub(crate) env_file: Option<PathBuf>,
    /// Whether the repo is watched. Not in the file: a host sets it, and `serve`.
    pub(crate) watch: Option<WatchFrom>,
    /// The control port on 127.0.0.1; 0 is any that is free. Not in the file: `serve --port` sets
    /// it.
    pub(crate) control_port: u16,
    /// How it was found and read, to be read again at a reload; `None` where a host made it.
    pub(crate) source: Option<LoadOptions>,
    /// The file it was read from, as it was then.
    pub(crate) origin: Option<Origin>,
    /// In the file's order; inactive ones too.
    pub(crate) subscriptions: Vec<SubscriptionConfig>,
}

impl Config {
    /// Whether webhooks are on: `enabled`, after the environment's override.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The repo's root, absolute.
    pub fn repo(&self) -> &Path {
        &self.repo
    }

    /// The spool, absolute.
    pub fn spool_dir(&self) -> &Path {
        &self.spool_dir
    }

    /// The root of the evidence tree, absolute.
    pub fn evidence_dir(&self) -> &Path {
        &self.evidence_dir
    }

    /// The runtime watches the repo, as `spec-notify serve` does.
    #[must_use]
    pub fn watching(self, from: WatchFrom) -> Self {
        Self { watch: Some(from), ..self }
    }

    /// The control port on 127.0.0.1; without this, any that is free.
    #[must_use]
    pub fn on_port(self, control_port: u16) -> Self {
        Self { control_port, ..self }
    }

    /// Where everything is on disk, and how much of it there may be.
    pub(crate) fn store_options(&self) -> StoreOptions {
        StoreOptions {
            repo: self.repo.clone(),
            spool_dir: self.spool_dir.clone(),
            evidence_dir: self.evidence_dir.clone(),
            max_evidence_bytes: self.max_evidence_bytes,
            max_dead_letter_bytes: self.max_dead_letter_bytes,
            dedupe_window: self.dedupe_window,
            git_ignore: self.git_ignore,
        }
    }
}

/// What a watcher sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchFrom {
    /// What appears from the very first start on.
    Now,
    /// What is there at the very first start too.
    Start,
}

/// One entry of `[[spec_ops.webhooks.subscriptions]]`.
#[derive(Clone, Debug)]
pub(crate) struct SubscriptionConfig {
    /// `id`.
    pub id: SubscriptionId,
    /// `url`, or what `url_env` named. Always there for an active subscription of an enabled
    /// config whose secrets were checked.
    pub endpoint: Option<Endpoint>,
    /// The environment variables that hold the secrets.
    pub secrets: SecretNames,
    /// `active`: an inactive one gets nothing.
    pub active: bool,
    /// `dry_run`: recorded, not sent.
    pub dry_run: bool,
    /// `include_*`.
    pub filter: Filter,
    /// `format`: what its endpoint understands.
    pub format: Format,
    /// `max_attempts` and the backoff keys.
    pub retry: RetryPolicy,
    /// `per_request_timeout_ms`: one deadline over the whole attempt.
    pub timeout: Duration,
    /// `max_in_flight`: its requests at a time.
    pub max_in_flight: usize,
    /// `retry_statuses`: statuses from 400 to 499 that are tried again.
    pub retry_statuses: BTreeSet<u16>,
    /// `rate_limit_per_s`: attempts a second, evenly spaced.
    pub rate_limit_per_s: Option<f64>,
    /// `headers`.
    pub headers: Vec<ExtraHeader>,
    /// `proxy`, else the environment's.
    pub proxy: Option<Proxy>,
    /// `ca_file`, `client_cert_file`, `client_key_file`.
    pub tls_files: TlsFiles,
}

/// A header that is sent with every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtraHeader {
    /// In lower case.
    pub name: String,
    /// Where its value is.
    pub value: HeaderValue,
}

/// The value of an extra header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderValue {
    /// As it stands in the file.
    Fixed(String),
    /// In this environment variable; never shown.
    Environment(String),
}

/// Where a subscription's secrets are: names of environment variables, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretNames {
    /// `secret_env`.
    pub current: String,
    /// `previous_secret_env`.
    pub previous: Option<String>,
}

impl HeaderValue {
    /// Whether a text can be a header's value: control characters cannot be sent.
    pub(crate) fn is_sendable(text: &str) -> bool {
        !text.bytes().any(|byte| byte < 0x20 || byte == 0x7f)
    }
}

/// One thing that is wrong with the config, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// In which file; none for the environment.
    pub file: Option<PathBuf>,
    /// From 1.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
}

/// `file:line:column: message`, and the help on a line of its own.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let (Some(line), Some(column)) = (self.line, self.column) {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        write!(f, "{}\n  help: {}", self.message, self.help)
    }
}

/// What came of reading a config, as `check --json` and `reload --json` print it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// Whether it is good to run.
    pub ok: bool,
    /// Whether webhooks are on in it; absent where nothing was read.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Everything that must be mended.
    pub errors: Vec<Problem>,
    /// What may not be what was meant.
    pub warnings: Vec<Problem>,
}

impl Problem {
    /// One that has no place in a file.
    pub(crate) fn general(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { file: None, line: None, column: None, message: message.into(), help: help.into() }
    }
}
