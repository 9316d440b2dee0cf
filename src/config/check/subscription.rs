//! One entry of `[[spec_ops.webhooks.subscriptions]]`: its keys, its filter and its retries. The
//! network settings are read in `network.rs`.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use super::{Checker, wrong_value};
use crate::config::table::{At, Table};
use crate::config::{SecretNames, SubscriptionConfig};
use crate::delivery::{RetryPolicy, SubscriptionId};
use crate::filter::{EventPattern, Filter, Notify};
use crate::payload::Format;

/// Default for the requests of one subscription at a time, if `max_concurrency` allows as many.
const MAX_IN_FLIGHT: u64 = 8;

/// Messages a second of a chat subscription, where it does not say: what such services take.
const CHAT_RATE_PER_S: f64 = 1.0;

impl Checker<'_, '_> {
    /// Reads one subscription. `None` if it has no valid id or secret name, which has been
    /// reported as an error. Every key is read all the same, in the order of
    /// `docs/reference/config.md`.
    pub(super) fn subscription(
        &mut self,
        table: &Table<'_, '_>,
        enabled: bool,
        insecure: bool,
        max_concurrency: u64,
    ) -> Option<SubscriptionConfig> {
        let id = self.required(table, "id", "it names the subscription in messages and files");
        let id = id.and_then(|id| self.parsed::<SubscriptionId>("id", &id, "for example \"chatops-slack\""));
        let active = table.boolean("active", self.findings).unwrap_or(true);
        let dry_run = table.boolean("dry_run", self.findings).unwrap_or(false);
        let needed = enabled && active && self.secrets && self.delivers;
        let format = table.string("format", self.findings).and_then(|format| {
            self.parsed::<Format>("format", &format, "it says what the endpoint understands")
        });
        let endpoint = self.endpoint(table, needed, insecure, format.is_some());
        let current = self.required(
            table,
            "secret_env",
            "it names the environment variable that holds the signing secret",
        );
        if let Some(current) = &current {
            self.secret("secret_env", current, needed);
        }
        let previous = table.string("previous_secret_env", self.findings);
        if let Some(previous) = &previous {
            self.secret("previous_secret_env", previous, needed);
        }
        let filter = self.filter(table);
        let owner = self.owner(table, format.unwrap_or_default());
        let retry = self.retry(table);
        let timeout = table.integer("per_request_timeout_ms", 5000, 1..=600_000, self.findings);
        let usual = max_concurrency.min(MAX_IN_FLIGHT);
        let max_in_flight = table.integer("max_in_flight", usual, 1..=1024, self.findings);
        let retry_statuses = self.retry_statuses(table);
        let rate_limit_per_s = table.optional_float("rate_limit_per_s", 0.001..=100_000.0, self.findings);
        let format = format.unwrap_or_default();
        let of_chats = format.is_chat().then_some(CHAT_RATE_PER_S);
        let headers = self.headers(table, endpoint.as_ref(), needed);
        let proxy = self.proxy(table, endpoint.as_ref(), needed);
        let tls_files = self.tls_files(table, needed);
        table.refuse_unknown(self.findings);
        Some(SubscriptionConfig {
            id: id?,
            endpoint,
            secrets: SecretNames { current: current?.value, previous: previous.map(|name| name.value) },
            active,
            dry_run,
            filter,
            owner,
            format,
            retry,
            timeout: Duration::from_millis(timeout),
            max_in_flight: usize::try_from(max_in_flight).unwrap_or(usize::MAX),
            retry_statuses,
            rate_limit_per_s: rate_limit_per_s.or(of_chats),
            headers,
            proxy,
            tls_files,
        })
    }

    fn required(&mut self, table: &Table<'_, '_>, key: &'static str, why: &str) -> Option<At<String>> {
        let errors = self.findings.errors.len();
        let value = table.string(key, self.findings);
        if value.is_none() && errors == self.findings.errors.len() {
            self.findings.error(
                Some(table.span.clone()),
                format_args!("a subscription has no `{key}`"),
                format_args!("add {key} = \"…\": {why}"),
            );
        }
        value
    }

    fn filter(&mut self, table: &Table<'_, '_>) -> Filter {
        let events = table.strings("include_events", self.findings).map(|patterns| {
            let parse = |pattern: &At<String>| {
                EventPattern::parse(&pattern.value)
                    .map_err(|error| {
                        self.findings.error(
                            Some(pattern.span.clone()),
                            wrong_value("include_events", &pattern.value, &error),
                            "correct the pattern: as it is, it can match nothing",
                        )
                    })
                    .ok()
            };
            patterns.iter().filter_map(parse).collect()
        });
        Filter {
            events,
            stages: self.words(table, "include_stages"),
            statuses: self.words(table, "include_status"),
            specs: self.words(table, "include_specs"),
            tasks: self.words(table, "include_tasks"),
            notify: self.notify(table),
        }
    }

    /// `notify`, or the default.
    fn notify(&mut self, table: &Table<'_, '_>) -> Notify {
        let given = table.string("notify", self.findings);
        let help = "all, or failures+runs for failures, halts, gates, stalls and the ends of runs";
        given.and_then(|word| self.parsed("notify", &word, help)).unwrap_or_default()
    }

    /// `owner`: somebody whom messages call.
    fn owner(&mut self, table: &Table<'_, '_>, format: Format) -> Option<String> {
        let At { value, span } = table.string("owner", self.findings)?;
        match format.owner(&value) {
            Ok(()) => Some(value),
            Err(form) => {
                let message = wrong_value("owner", &value, &format_args!("`{value}` is nobody: {form}"));
                self.findings.error(Some(span), message, "name one person or group as the service does");
                None
            }
        }
    }

    fn words<T, C>(&mut self, table: &Table<'_, '_>, key: &'static str) -> Option<C>
    where
        T: FromStr<Err: Display>,
        C: FromIterator<T>,
    {
        let words = table.strings(key, self.findings)?;
        Some(
            words
                .iter()
                .filter_map(|word| self.parsed::<T>(key, word, "correct it: as it is, it can match nothing"))
                .collect(),
        )
    }

    /// `retry_statuses`: statuses that are final otherwise.
    fn retry_statuses(&mut self, table: &Table<'_, '_>) -> BTreeSet<u16> {
        let mut statuses = BTreeSet::new();
        for At { value, span } in table.integers("retry_statuses", self.findings) {
            match u16::try_from(value).ok().filter(|status| (400..=499).contains(status)) {
                Some(status) => drop(statuses.insert(status)),
                None => self.findings.error(
                    Some(span),
                    format_args!("`retry_statuses` has {value}"),
                    "name statuses from 400 to 499 that pass by themselves; 5xx are tried again anyway, and \
                     2xx and 3xx never",
                ),
            }
        }
        statuses
    }

    fn retry(&mut self, table: &Table<'_, '_>) -> RetryPolicy {
        const HOUR: u64 = 3_600_000;
        let default = RetryPolicy::default();
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let attempts = u64::from(default.max_attempts);
        let max_attempts = table.integer("max_attempts", attempts, 1..=1000, self.findings);
        let initial = table.integer("initial_backoff_ms", ms(default.initial), 1..=HOUR, self.findings);
        let factor = table.float("backoff_factor", default.factor, 1.0..=100.0, self.findings);
        let max = table.integer("max_backoff_ms", ms(default.max), 1..=24 * HOUR, self.findings);
        let jitter = table.integer("jitter_ms", ms(default.jitter), 0..=HOUR, self.findings);
        if initial > max {
            self.findings.warn(
                Some(table.span.clone()),
                format_args!(
                    "initial_backoff_ms ({initial}) is above max_backoff_ms ({max}): every wait is {max} ms"
                ),
                "raise max_backoff_ms",
            );
        }
        RetryPolicy {
            max_attempts: u32::try_from(max_attempts).unwrap_or(u32::MAX),
            initial: Duration::from_millis(initial),
            factor,
            max: Duration::from_millis(max),
            jitter: Duration::from_millis(jitter),
        }
    }
}
