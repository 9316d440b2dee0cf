//! What the operator configured, checked and ready to use.

use std::path::PathBuf;
use std::time::Duration;

use crate::delivery::{RetryPolicy, SubscriptionId};
use crate::filter::Filter;
use crate::secret::Endpoint;

/// The `[spec_ops.webhooks]` table, checked as a whole: a value of this type is good to run.
#[derive(Clone, Debug)]
pub struct Config {
    /// The repo's root; evidence paths in payloads are relative to it.
    pub repo: PathBuf,
    /// `enabled`, after the environment's override.
    pub enabled: bool,
    /// Requests at a time, over all subscriptions; at least 1.
    pub max_concurrency: usize,
    /// Absolute path of the spool.
    pub spool_dir: PathBuf,
    /// Absolute path of the evidence tree's root.
    pub evidence_dir: PathBuf,
    /// In the file's order; inactive ones too.
    pub subscriptions: Vec<SubscriptionConfig>,
}

/// One entry of `[[spec_ops.webhooks.subscriptions]]`.
#[derive(Clone, Debug)]
pub struct SubscriptionConfig {
    /// `id`.
    pub id: SubscriptionId,
    /// `url`, or what `url_env` named.
    pub endpoint: Endpoint,
    /// The environment variables that hold the secrets.
    pub secrets: SecretNames,
    /// `active`: an inactive one gets nothing.
    pub active: bool,
    /// `dry_run`: recorded, not sent.
    pub dry_run: bool,
    /// `include_*`.
    pub filter: Filter,
    /// `max_attempts` and the backoff keys.
    pub retry: RetryPolicy,
    /// `per_request_timeout_ms`: one deadline over the whole attempt.
    pub timeout: Duration,
}

/// Where a subscription's secrets are: names of environment variables, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretNames {
    /// `secret_env`.
    pub current: String,
    /// `previous_secret_env`.
    pub previous: Option<String>,
}
