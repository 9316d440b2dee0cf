//! The `fleet` table: which cluster holds what is accepted, and what this machine does for it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::http::TlsFiles;
use crate::names::named;

named! {
    /// `role`: what a machine does for the fleet.
    FleetRole, "role" {
        /// Hands events over, and delivers nothing.
        Emit = "emit",
        /// Delivers too.
        Deliver = "deliver",
    }
}

named! {
    /// `durability`: what keeps an event that the cluster has taken.
    Durability, "durability" {
        /// A second node has it before it is acknowledged.
        Replicated = "replicated",
        /// The service's storage is replicated, which cannot be seen from here.
        Managed = "managed",
        /// One machine's disk.
        Single = "single",
    }
}

/// What keeps fleets apart that share a database: 1 to 64 lower-case letters, digits, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespace(Box<str>);

/// The text is no namespace.
#[derive(Debug, thiserror::Error)]
#[error("a namespace has 1 to 64 of lower-case letters, digits, `_` and `-`")]
pub(crate) struct InvalidNamespace;

impl FromStr for Namespace {
    type Err = InvalidNamespace;

    fn from_str(text: &str) -> Result<Self, InvalidNamespace> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'-');
        match (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            true => Ok(Self(text.into())),
            false => Err(InvalidNamespace),
        }
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The `[spec_ops.webhooks.fleet]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FleetConfig {
    /// `url_env`: the variable with the cluster's URL, which is itself a secret.
    pub(crate) url_env: String,
    pub(crate) namespace: Namespace,
    pub(crate) role: FleetRole,
    /// `lease_s`: how long a member that went silent keeps its work.
    pub(crate) lease: Duration,
    pub(crate) durability: Durability,
    /// `ca_file`, `client_cert_file`, `client_key_file`.
    pub(crate) tls_files: TlsFiles,
}
