//! Metrics: counters from the start of the runtime on and gauges of now, as values and in the text
//! formats that scrapers read. Labels are ids of the config and closed sets of words: nothing in
//! them grows with what endpoints answer, and no URL or secret stands in them.

mod fleet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::status::{StatusReport, SubscriptionStatus};
use crate::clock;
use crate::delivery::{FailureClass, FinalState, HealthState, SubscriptionId};
use crate::figures::{BOUNDS_S, Counters, Totals};
pub use fleet::FleetMetrics;

/// What a scrape shows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metrics {
    /// The program's version.
    pub version: String,
    /// When the runtime started, and all counters were 0; `None` if none runs.
    #[serde(with = "clock::maybe_millis")]
    pub started_at: Option<Timestamp>,
    /// Whether this process waits for another one that owns the spool, and counts nothing itself.
    pub standby: bool,
    /// Events that were accepted.
    pub events: u64,
    /// Number of events in the inbox.
    pub inbox: usize,
    /// Number of warnings of `status`.
    pub warnings: usize,
    /// The fleet that this machine is of, as the cluster has it; absent for one machine alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fleet: Option<FleetMetrics>,
    /// Each subscription.
    pub subscriptions: Vec<SubscriptionMetrics>,
}

/// One subscription in [`Metrics`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SubscriptionMetrics {
    /// Its id.
    pub id: SubscriptionId,
    /// Its health.
    pub health: HealthState,
    /// Whether somebody has to look.
    pub unresolved: bool,
    /// Deliveries that wait.
    pub pending: usize,
    /// Requests under way.
    pub in_flight: usize,
    /// Dead letters, which can be replayed.
    pub dead_letters: usize,
    /// Failed attempts since the last success.
    pub consecutive_failures: u32,
    /// When the oldest unfinished delivery was accepted.
    #[serde(with = "clock::maybe_millis")]
    pub oldest_pending_at: Option<Timestamp>,
    /// When an attempt last succeeded.
    #[serde(with = "clock::maybe_millis")]
    pub last_success_at: Option<Timestamp>,
    /// What was counted since the start.
    pub counters: Counters,
}

/// The text formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exposition {
    /// The Prometheus text format, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Exposition {
    /// The value of the header `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// The one that the header `Accept` asks for: OpenMetrics where it is named and nothing else is
    /// liked better.
    pub fn accepted(accept: &str) -> Self {
        let liked = |wanted: &str| {
            let of = accept.split(',').map(|range| range.split(';').map(str::trim));
            let weights = of.filter_map(|mut range| {
                let is_it = range.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
                let weight = range.find_map(|part| part.strip_prefix("q=")?.parse::<f64>().ok());
                is_it.then(|| weight.unwrap_or(1.0))
            });
            weights.fold(0.0, f64::max)
        };
        let open = liked("application/openmetrics-text");
        if open > 0.0 && open >= liked("text/plain") { Self::OpenMetrics } else { Self::Prometheus }
    }
}

/// What waits and what was given up lies in a fleet's cluster: not known while that is not seen.
const OF_CLUSTER: [&str; 3] = ["pending_deliveries", "dead_letters", "unresolved"];

impl Metrics {
    /// Those where webhooks are off.
    pub(crate) fn off() -> Self {
        Self::of(&StatusReport::off(), &Totals::default(), None)
    }

    /// Those of a runtime, or, without counters, of what lies on the disk.
    pub(crate) fn of(status: &StatusReport, totals: &Totals, started_at: Option<Timestamp>) -> Self {
        let subscription = |one: &SubscriptionStatus| SubscriptionMetrics {
            id: one.id.clone(),
            health: one.health,
            unresolved: one.unresolved,
            pending: one.pending,
            in_flight: one.in_flight,
            dead_letters: one.dead_letters,
            consecutive_failures: one.consecutive_failures,
            oldest_pending_at: one.oldest_pending_at,
            last_success_at: one.last_success_at,
            counters: totals.of(&one.id),
        };
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at,
            standby: false,
            events: totals.events(),
            inbox: status.inbox,
            warnings: status.warnings.len(),
            fleet: status.fleet.as_ref().map(FleetMetrics::of),
            subscriptions: status.subscriptions.iter().map(subscription).collect(),
        }
    }

    /// Those of a process that waits for the owner of the spool: the owner's own are not repeated,
    /// or a sum over both would have them twice.
    #[cfg(feature = "cli")]
    pub(crate) fn standing_by() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: None,
            standby: true,
            events: 0,
            inbox: 0,
            warnings: 0,
            fleet: None,
            subscriptions: Vec::new(),
        }
    }

    /// The text in one of the formats.
    pub fn text(&self, format: Exposition) -> String {
        let mut text = Text { is_open: format == Exposition::OpenMetrics, out: String::new() };
        text.info("spec_notify_build", "The version of the program.", &self.version);
        let is_up = self.started_at.is_some() || self.standby;
        text.gauge("up", "Whether a runtime is running.");
        text.one("up", Labels::None, u8::from(is_up));
        text.gauge("owner", "Whether it owns the spool; 0 on standby, which shows nothing else.");
        text.one("owner", Labels::None, u8::from(self.started_at.is_some()));
        if !self.standby {
            self.gauges(&mut text);
            if let Some(fleet) = &self.fleet {
                fleet.gauges(&self.subscriptions, &mut text);
            }
        }
        if let Some(started) = self.started_at {
            text.gauge("start_time_seconds", "When the runtime started, and its counters were 0.");
            text.one("start_time_seconds", Labels::None, started.as_second());
            self.counters(&mut text);
        }
        if text.is_open {
            text.out += "# EOF\n";
        }
        text.out
    }

    fn gauges(&self, text: &mut Text) {
        text.gauge("inbox_events", "Events in the inbox, which no runtime has taken in yet.");
        text.one("inbox_events", Labels::None, self.inbox);
        text.gauge("warnings", "Warnings that `spec-notify status` shows.");
        text.one("warnings", Labels::None, self.warnings);
        type Gauge = (&'static str, &'static str, fn(&SubscriptionMetrics) -> u64);
        let gauges: [Gauge; 5] = [
            ("pending_deliveries", "Deliveries that wait.", |one| one.pending as u64),
            ("in_flight_requests", "Requests under way.", |one| one.in_flight as u64),
            ("dead_letters", "Dead letters, which can be replayed.", |one| one.dead_letters as u64),
            ("consecutive_failures", "Failed attempts since the last success.", |one| {
                one.consecutive_failures.into()
            }),
            ("unresolved", "Whether somebody has to look: it fails, or is paused.", |one| {
                one.unresolved.into()
            }),
        ];
        let is_seen = self.fleet.as_ref().is_none_or(|fleet| fleet.seen);
        let is_known = |name: &str| is_seen || !OF_CLUSTER.contains(&name);
        for (name, help, value) in gauges.into_iter().filter(|(name, ..)| is_known(name)) {
            text.gauge(name, help);
            for one in &self.subscriptions {
                text.one(name, Labels::Of(&one.id), value(one));
            }
        }
        text.gauge("health", "1 for the health that the subscription has.");
        for one in &self.subscriptions {
            for state in HealthState::ALL {
                text.one(
                    "health",
                    Labels::And(&one.id, "health", state.as_str()),
                    u8::from(*state == one.health),
                );
            }
        }
        type Time = (&'static str, &'static str, fn(&SubscriptionMetrics) -> Option<Timestamp>);
        let times: [Time; 2] = [
            (
                "oldest_pending_timestamp_seconds",
                "When the oldest unfinished delivery was accepted.",
                |one| one.oldest_pending_at,
            ),
            ("last_success_timestamp_seconds", "When an attempt last succeeded.", |one| one.last_success_at),
        ];
        for (name, help, at) in times {
            text.gauge(name, help);
            for (id, at) in self.subscriptions.iter().filter_map(|one| Some((&one.id, at(one)?))) {
                text.one(name, Labels::Of(id), seconds(at));
            }
        }
    }

    fn counters(&self, text: &mut Text) {
        let each = || self.subscriptions.iter().map(|one| (&one.id, &one.counters));
        text.counter("events_accepted", "Events that were accepted.");
        text.one("events_accepted_total", Labels::None, self.events);
        text.counter("deliveries_accepted", "Deliveries that were accepted.");
        for (id, counters) in each() {
            text.one("deliveries_accepted_total", Labels::Of(id), counters.accepted);
        }
        text.counter("deliveries_ended", "Ends of deliveries, as the evidence has them.");
        for (id, counters) in each() {
            for state in FinalState::ALL.iter().map(|state| state.as_str()) {
                let count = counters.ended.get(state).copied().unwrap_or(0);
                text.one("deliveries_ended_total", Labels::And(id, "state", state), count);
            }
        }
        text.counter("attempts", "Requests, those of test and replay included.");
        for (id, counters) in each() {
            for (outcome, count) in [("delivered", counters.delivered), ("failed", counters.failed)] {
                text.one("attempts_total", Labels::And(id, "outcome", outcome), count);
            }
        }
        text.counter("attempt_failures", "Attempts that failed, by status or class of the failure.");
        for (id, counters) in each() {
            // From the start on, so that a rate sees the first failure of its kind.
            let statuses = ["2xx", "3xx", "4xx", "5xx", "other"].into_iter();
            for reason in statuses.chain(FailureClass::ALL.iter().map(|class| class.as_str())) {
                let count = counters.failures.get(reason).copied().unwrap_or(0);
                text.one("attempt_failures_total", Labels::And(id, "reason", reason), count);
            }
        }
        text.family("attempt_duration_seconds", "histogram", "How long attempts took.");
        for (id, counters) in each() {
            let mut below = 0;
            for (place, count) in counters.latencies.iter().enumerate() {
                below += count;
                let bound = BOUNDS_S.get(place).map_or("+Inf".to_owned(), |bound| format!("{bound:?}"));
                text.one("attempt_duration_seconds_bucket", Labels::And(id, "le", &bound), below);
            }
            text.one("attempt_duration_seconds_sum", Labels::Of(id), counters.latency_s);
            text.one("attempt_duration_seconds_count", Labels::Of(id), below);
        }
    }
}

/// To the millisecond.
fn seconds(at: Timestamp) -> f64 {
    #[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^52")]
    let millis = at.as_millisecond() as f64;
    millis / 1e3
}

/// The labels of a sample.
#[derive(Clone, Copy)]
enum Labels<'a> {
    None,
    Of(&'a SubscriptionId),
    And(&'a SubscriptionId, &'static str, &'a str),
}

/// A text that grows. No label needs escaping: ids have letters, digits, `.`, `_` and `-`, and the
/// other words are ours.
struct Text {
    is_open: bool,
    out: String,
}

impl Text {
    fn gauge(&mut self, name: &str, help: &str) {
        self.family(name, "gauge", help);
    }

    /// Its samples end in `_total`: in OpenMetrics its own name does not.
    fn counter(&mut self, name: &str, help: &str) {
        let ending = if self.is_open { "" } else { "_total" };
        self.family(&format!("{name}{ending}"), "counter", help);
    }

    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.write(format_args!("# HELP spec_notify_{name} {help}\n# TYPE spec_notify_{name} {kind}\n"));
    }

    fn info(&mut self, name: &str, help: &str, version: &str) {
        let (family, kind) =
            if self.is_open { (name.to_owned(), "info") } else { (format!("{name}_info"), "gauge") };
        self.write(format_args!("# HELP {family} {help}\n# TYPE {family} {kind}\n"));
        self.write(format_args!("{name}_info{{version=\"{version}\"}} 1\n"));
    }

    fn one(&mut self, name: &str, labels: Labels<'_>, value: impl std::fmt::Display) {
        match labels {
            Labels::None => self.write(format_args!("spec_notify_{name} {value}\n")),
            Labels::Of(id) => {
                self.write(format_args!("spec_notify_{name}{{subscription=\"{id}\"}} {value}\n"));
            }
            Labels::And(id, label, of) => self.write(format_args!(
                "spec_notify_{name}{{subscription=\"{id}\",{label}=\"{of}\"}} {value}\n"
            )),
        }
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.out += &text.to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn openmetrics_is_for_those_who_ask_for_it() {
        use Exposition::{OpenMetrics, Prometheus};
        let of_prometheus =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
        for (accept, format) in [
            (of_prometheus, OpenMetrics),
            ("application/openmetrics-text; version=1.0.0", OpenMetrics),
            ("text/plain;version=0.0.4;q=0.9,application/openmetrics-text;q=0.5", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
            ("application/openmetrics-textual", Prometheus),
            ("*/*", Prometheus),
            ("", Prometheus),
        ] {
            assert_eq!(Exposition::accepted(accept), format, "{accept}");
        }
    }
}
