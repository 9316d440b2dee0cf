//! The configuration: checked and ready to use.

mod builder;
mod check;
mod file;
mod fleet;
mod loaded;
mod origin;
mod path_glob;
mod role;
mod switch;
mod table;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

pub use builder::{ConfigBuilder, Subscription};
pub use file::LoadOptions;
pub(crate) use file::load;
#[cfg(feature = "cli")]
pub(crate) use file::no_folder;
pub(crate) use fleet::{Durability, FleetConfig, FleetRole, Namespace};
pub use loaded::{ConfigError, Loaded};
pub(crate) use origin::Origin;
pub(crate) use path_glob::PathGlob;
pub(crate) use role::Role;
pub(crate) use switch::Switch;

use crate::delivery::{RetryPolicy, SubscriptionId};
use crate::event::SpecId;
use crate::filter::Filter;
use crate::http::{Proxy, TlsFiles};
use crate::names::named;
use crate::payload::Format;
use crate::payload::pages::LinkTemplate;
use crate::run::RunPolicy;
use crate::secret::Endpoint;
use crate::store::StoreOptions;

named! {
    /// `stage_ends_with`: what ends a stage.
    StageEndsWith, "end of a stage" {
        /// Its guardrail.
        Guardrail = "guardrail",
        /// Its consensus, in a host whose guardrail runs before the stage's agents.
        Consensus = "consensus",
    }
}

/// The `[spec_ops.webhooks]` table, checked as a whole: a value of this type can be run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The repo's root; evidence paths in payloads are relative to it.
    pub(crate) repo: PathBuf,
    /// `enabled`, after the environment's override.
    pub(crate) enabled: bool,
    /// `max_concurrency`: requests at a time over all subscriptions; at least 1.
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
    /// `git_ignore`: whether evidence gets a `.gitignore`.
    pub(crate) git_ignore: bool,
    /// `dedupe_window_s`.
    pub(crate) dedupe_window: SignedDuration,
    /// `stage_ends_with`.
    pub(crate) stage_ends_with: StageEndsWith,
    /// `consensus_wait_ms`: how long a stage waits for consensus files that come later.
    pub(crate) consensus_wait: Duration,
    /// `gate_notice_s`: a gate at a terminal that is answered sooner is not told.
    pub(crate) gate_notice: Duration,
    /// `source_roots`: the folders that hold sources of their own, absolute; the repo's root where
    /// nothing is said.
    pub(crate) source_roots: Arc<[PathBuf]>,
    /// `task_files`: further lists of tasks.
    pub(crate) task_files: Arc<[PathGlob]>,
    /// `task_done_statuses`: further statuses that mean Done.
    pub(crate) task_done_statuses: Vec<String>,
    /// `task_tracker_spec`: the SPEC of tasks that name none.
    pub(crate) task_tracker_spec: SpecId,
    /// `link_template`: how the pages of the repo are laid out, where its host does not show it.
    pub(crate) link_template: Option<LinkTemplate>,
    /// `show_host`: whether payloads and messages name this machine.
    pub(crate) show_host: bool,
    /// `max_stage_attempts` and `cost_threshold_usd`: when a SPEC's run ends, and when it costs
    /// too much.
    pub(crate) runs: RunPolicy,
    /// `fleet`: the cluster that holds what is accepted, where that is not this machine.
    pub(crate) fleet: Option<FleetConfig>,
    /// Whether it takes its share of the fleet's work, where it delivers for one. Not in the file:
    /// a command that only asks for something takes none.
    pub(crate) takes_part: bool,
    /// `env_file`: a dotenv file; the environment takes precedence over it.
    pub(crate) env_file: Option<PathBuf>,
    /// Whether the repo is watched. Not in the file: set by a host, or by `serve`.
    pub(crate) watch: Option<WatchFrom>,
    /// The control port on 127.0.0.1; 0 for any free one. Not in the file: set by `serve --port`.
    pub(crate) control_port: u16,
    /// How it was found and read, for a reload; `None` if a host made it.
    pub(crate) source: Option<LoadOptions>,
    /// The file it was read from, with its content at that time.
    pub(crate) origin: Option<Origin>,
    /// The subscriptions in the file's order, inactive ones included.
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

    /// The spool's folder, absolute.
    pub fn spool_dir(&self) -> &Path {
        &self.spool_dir
    }

    /// The root of the evidence tree, absolute.
    pub fn evidence_dir(&self) -> &Path {
        &self.evidence_dir
    }

    /// Makes the runtime watch the repo, as `spec-notify serve` does.
    #[must_use]
    pub fn watching(self, from: WatchFrom) -> Self {
        Self { watch: Some(from), ..self }
    }

    /// Sets the control port on 127.0.0.1; without this, any free port is used.
    #[must_use]
    pub fn on_port(self, control_port: u16) -> Self {
        Self { control_port, ..self }
    }

    /// Whether this machine delivers what lies in a fleet's cluster.
    pub(crate) fn delivers_for_a_fleet(&self) -> bool {
        self.fleet.as_ref().is_some_and(|fleet| fleet.role == FleetRole::Deliver)
    }

    /// What two members of a fleet have to agree on, as a text that only compares.
    pub(crate) fn fingerprint(&self) -> String {
        let of = |one: &SubscriptionConfig| {
            let SubscriptionConfig { id, endpoint, active, dry_run, filter, owner, format, retry, .. } = one;
            format!("{id} {endpoint:?} {active} {dry_run} {filter:?} {owner:?} {format} {retry:?}")
        };
        let subscriptions: Vec<String> = self.subscriptions.iter().map(of).collect();
        format!("{subscriptions:?} {:?} {:?}", self.runs, self.dedupe_window)
    }

    /// The folders on disk, and the bounds of their size.
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

/// What a watcher tells of at its very first start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WatchFrom {
    /// Only what appears from the very first start on.
    Now,
    /// Also what is already there at the very first start.
    Start,
}

/// One entry of `[[spec_ops.webhooks.subscriptions]]`.
#[derive(Clone, Debug)]
pub(crate) struct SubscriptionConfig {
    /// `id`.
    pub id: SubscriptionId,
    /// `url`, or the value of the variable in `url_env`. Always present for an active
    /// subscription of an enabled config whose secrets were checked.
    pub endpoint: Option<Endpoint>,
    /// The names of the environment variables that hold the secrets.
    pub secrets: SecretNames,
    /// `active`: an inactive subscription gets nothing.
    pub active: bool,
    /// `dry_run`: events are recorded and not sent.
    pub dry_run: bool,
    /// `include_*` and `notify`.
    pub filter: Filter,
    /// `owner`: who is called where somebody has to do something.
    pub owner: Option<String>,
    /// `format`: the format that its endpoint understands.
    pub format: Format,
    /// `max_attempts` and the backoff keys.
    pub retry: RetryPolicy,
    /// `per_request_timeout_ms`: one deadline for the whole attempt.
    pub timeout: Duration,
    /// `max_in_flight`: requests of this subscription at a time.
    pub max_in_flight: usize,
    /// `retry_statuses`: statuses from 400 to 499 that are retried.
    pub retry_statuses: BTreeSet<u16>,
    /// `rate_limit_per_s`: attempts per second, evenly spaced.
    pub rate_limit_per_s: Option<f64>,
    /// `headers`.
    pub headers: Vec<ExtraHeader>,
    /// `proxy`, else the environment's proxy.
    pub proxy: Option<Proxy>,
    /// `ca_file`, `client_cert_file`, `client_key_file`.
    pub tls_files: TlsFiles,
}

/// A header that is sent with every request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtraHeader {
    /// The name, in lower case.
    pub name: String,
    /// Its value, or where that is.
    pub value: HeaderValue,
}

/// The value of an extra header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HeaderValue {
    /// The value, as written in the file.
    Fixed(String),
    /// The environment variable that holds the value, which is never shown.
    Environment(String),
}

/// The environment variables that hold a subscription's secrets: names, never values.
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

/// One problem of the config, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// The file; `None` for the environment, and for a config that was given as text or made in
    /// code.
    pub file: Option<PathBuf>,
    /// The line, from 1.
    pub line: Option<usize>,
    /// The column in characters, from 1.
    pub column: Option<usize>,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub help: String,
}

/// Displayed as `file:line:column: message`, without a file as `line 1, column 2: message`, with
/// the help on a line of its own.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let (Some(line), Some(column)) = (self.line, self.column) {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        } else if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, "line {line}, column {column}: ")?;
        }
        write!(f, "{}\n  help: {}", self.message, self.help)
    }
}

/// The result of reading a config, as `check --json` and `reload --json` print it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// Whether the config can be run.
    pub ok: bool,
    /// Whether webhooks are on in it; absent if nothing was read.
    #[serde(default)]
    pub enabled: Option<bool>,
    /// Everything that must be corrected.
    pub errors: Vec<Problem>,
    /// What may not be as intended.
    pub warnings: Vec<Problem>,
}

impl Problem {
    /// A problem without a place in a file.
    pub(crate) fn general(message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { file: None, line: None, column: None, message: message.into(), help: help.into() }
    }
}
