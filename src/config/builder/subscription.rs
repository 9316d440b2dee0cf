//! One subscription of a config made in code.

use std::path::Path;
use std::time::Duration;

use super::toml::{Keys, list, milliseconds, number, text};
use crate::event::{Stage, Status};
use crate::names::printable;
use crate::payload::Format;

/// Who wants which events, where and how: one subscription of a
/// [`ConfigBuilder`](super::ConfigBuilder). What is not said is as in a file that does not say it.
///
/// Secrets are named, never given: each is read from the environment for every attempt.
#[derive(Clone, Debug)]
#[must_use = "a subscription does nothing before it is added to a config"]
pub struct Subscription {
    id: String,
    pub(super) keys: Keys,
    headers: Vec<(String, String)>,
}

/// A setter for each key that is written as it is given.
macro_rules! keys {
    ($($(#[$doc:meta])* $name:ident($given:ty) = $key:literal, $as:expr;)+) => {
        impl Subscription {$(
            $(#[$doc])*
            pub fn $name(mut self, $name: $given) -> Self {
                let written: fn($given) -> String = $as;
                self.keys.set($key, written($name));
                self
            }
        )+}
    };
}

keys! {
    /// Its URL, where that is no secret.
    url(&str) = "url", text;
    /// The variable that holds its URL, where that is a secret itself.
    url_env(&str) = "url_env", text;
    /// Whether it gets anything.
    active(bool) = "active", |on| on.to_string();
    /// Whether events are recorded and not sent.
    dry_run(bool) = "dry_run", |on| on.to_string();
    /// The format that its endpoint understands.
    format(Format) = "format", |format| text(format.as_str());
    /// The variable that holds the secret before this one, during a rotation.
    previous_secret_env(&str) = "previous_secret_env", text;
    /// Who is called on failure, halt, gate and stall, by the chat service's own means.
    owner(&str) = "owner", text;
    /// Attempts before a delivery is given up; from 1 to 1000.
    max_attempts(u32) = "max_attempts", |most| most.to_string();
    /// The wait before the first retry; whole milliseconds.
    initial_backoff(Duration) = "initial_backoff_ms", milliseconds;
    /// By what each further wait is longer; from 1 to 100.
    backoff_factor(f64) = "backoff_factor", number;
    /// The longest wait; whole milliseconds.
    max_backoff(Duration) = "max_backoff_ms", milliseconds;
    /// The longest random addition to a wait; whole milliseconds.
    jitter(Duration) = "jitter_ms", milliseconds;
    /// The deadline of an attempt, from DNS to the last byte; whole milliseconds.
    per_request_timeout(Duration) = "per_request_timeout_ms", milliseconds;
    /// Requests at a time.
    max_in_flight(u32) = "max_in_flight", |most| most.to_string();
    /// Attempts a second, evenly spaced.
    rate_limit_per_s(f64) = "rate_limit_per_s", number;
    /// The proxy's URL; `none` for none, whatever the environment says.
    proxy(&str) = "proxy", text;
}

impl Subscription {
    /// A subscription with this id, whose requests are signed with the secret in the environment
    /// variable `secret_env`. It needs a [`url`](Self::url) or a [`url_env`](Self::url_env).
    ///
    /// ```
    /// use spec_notify::Subscription;
    ///
    /// let audit = Subscription::new("audit", "AUDIT_SECRET").url("https://audit.example.com/");
    /// ```
    pub fn new(id: &str, secret_env: &str) -> Self {
        let mut keys = Keys::with("id", &text(id));
        keys.set("secret_env", text(secret_env));
        Self { id: id.to_owned(), keys, headers: Vec::new() }
    }

    /// Only events of these types; globs, such as `spec-auto.*`.
    pub fn include_events<'a>(mut self, globs: impl IntoIterator<Item = &'a str>) -> Self {
        self.keys.set("include_events", list(globs.into_iter().map(text)));
        self
    }

    /// Only events of these stages, and those of none.
    pub fn include_stages(mut self, stages: impl IntoIterator<Item = Stage>) -> Self {
        self.keys.set("include_stages", list(stages.into_iter().map(|stage| text(stage.as_str()))));
        self
    }

    /// Only events with these statuses, and those without.
    pub fn include_status(mut self, statuses: impl IntoIterator<Item = Status>) -> Self {
        self.keys.set("include_status", list(statuses.into_iter().map(|status| text(status.as_str()))));
        self
    }

    /// Only events of these SPECs; globs.
    pub fn include_specs<'a>(mut self, globs: impl IntoIterator<Item = &'a str>) -> Self {
        self.keys.set("include_specs", list(globs.into_iter().map(text)));
        self
    }

    /// Only these tasks; globs.
    pub fn include_tasks<'a>(mut self, globs: impl IntoIterator<Item = &'a str>) -> Self {
        self.keys.set("include_tasks", list(globs.into_iter().map(text)));
        self
    }

    /// Only failures, halts, gates, stalls and the ends of runs: what a chat channel wants.
    pub fn notify_failures_and_runs(mut self) -> Self {
        self.keys.set("notify", text("failures+runs"));
        self
    }

    /// Statuses from 400 to 499 that are retried.
    pub fn retry_statuses(mut self, statuses: impl IntoIterator<Item = u16>) -> Self {
        self.keys.set("retry_statuses", list(statuses.into_iter().map(|status| status.to_string())));
        self
    }

    /// A further header; a value `env:NAME` is read from the environment and never shown.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Extra trust roots, or the endpoint's own certificate, in PEM; relative to the repo.
    pub fn ca_file(mut self, file: impl AsRef<Path>) -> Self {
        self.keys.set_path("ca_file", file.as_ref());
        self
    }

    /// The certificate of this client and its key, in PEM; relative to the repo.
    pub fn client_cert(mut self, certificate: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        self.keys.set_path("client_cert_file", certificate.as_ref());
        self.keys.set_path("client_key_file", key.as_ref());
        self
    }

    /// Its id as messages name it.
    pub(super) fn name(&self) -> String {
        printable(&self.id, 64)
    }

    /// Adds the line of its headers.
    pub(super) fn write_headers(&self, document: &mut String) {
        if self.headers.is_empty() {
            return;
        }
        let pairs = self.headers.iter().map(|(name, value)| format!("{} = {}", text(name), text(value)));
        document.push_str(&format!("headers = {{ {} }}\n", pairs.collect::<Vec<_>>().join(", ")));
    }
}
