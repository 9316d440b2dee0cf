//! Answers for `list`, `status` and `top`: from the runtime that owns the spool, else from the
//! disk.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

use super::{Failure, Global, load_good_enough, render::Screen};
use crate::archive::{AtRest, Part, evidence_parts, left_at_rest, read_healths};
use crate::ask::{Ask, OfFleet, ReadMetrics, ReadStatus, ShowDelivery};
use crate::clock;
use crate::config::Config;
use crate::control::{Client, ClientError, RuntimeFile};
use crate::delivery::DeliveryId;
use crate::env::Environment;
use crate::event::{IdempotencyKey, SpecId};
use crate::figures::{Counts, Totals, from_evidence};
use crate::files::user::check_readable;
use crate::fleet::Link;
use crate::inspect::{
    FleetFacts, Listed, Listing, Metrics, Page, Query, Shown, StatusReport, Survey, Tried, TriedQuery,
    Unfinished, Wait, WaitKind, tried, unfinished,
};
use crate::spool;
use crate::watch::{Waiting, elsewhere};

/// How long a runtime may take to answer; after that the disk is read.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// How long the evidence is read for the figures of a runtime that does not run.
const FIGURES_WITHIN: Duration = Duration::from_secs(2);

/// How long the repo is looked at for an answer in haste.
const SOURCES_WITHIN: Duration = Duration::from_millis(50);

/// How long the cluster of a fleet may take for an answer in haste.
const IN_HASTE: Duration = Duration::from_secs(1);

/// Size of a spool that is read in negligible time, in bytes.
const QUICK_BYTES: u64 = 512 * 1024;

/// A source of answers; see the module's documentation.
pub(super) struct Source {
    pub(super) config: Config,
    /// Whether the config has errors, with which no runtime starts.
    is_wrong: bool,
    client: Option<Client>,
    /// Why a runtime that should answer does not.
    silent: Option<String>,
    /// How long the runtime may take for one answer.
    patience: Duration,
    /// Once it was asked for.
    of_fleet: Option<OfFleet>,
}

impl Source {
    /// Finds the runtime, if one runs. Secrets may be missing and the config may have errors,
    /// because the runtime uses its own.
    pub(super) fn find(global: &Global, screen: &mut Screen) -> Result<Self, Failure> {
        Self::find_within(global, PATIENCE, screen)
    }

    /// Like [`find`](Self::find), for a caller that cannot wait long for a hanging runtime.
    pub(super) fn find_within(
        global: &Global,
        patience: Duration,
        screen: &mut Screen,
    ) -> Result<Self, Failure> {
        let (config, is_wrong) = load_good_enough(global, screen)?;
        let mut source = Self { config, is_wrong, client: None, silent: None, patience, of_fleet: None };
        check_readable(&source.config.spool_dir).map_err(|error| source.unreadable(&error))?;
        source.connect();
        Ok(source)
    }

    fn connect(&mut self) {
        let dir = &self.config.spool_dir;
        (self.client, self.silent) = match Client::connect(dir, self.patience) {
            Ok(client) => (Some(client), None),
            // No process owns the spool. Asking for its lock must not create it.
            Err(_) if !spool::is_owned(dir) => (None, None),
            Err(error) => {
                let who = RuntimeFile::read(dir)
                    .map_or("a process".to_owned(), |file| format!("process {}", file.pid));
                (
                    None,
                    Some(format!(
                        "{who} owns the spool and does not answer ({error}): if it hangs, stop it and start \
                         spec-notify serve again; what follows comes from the {}",
                        if self.config.fleet.is_some() { "cluster" } else { "files" }
                    )),
                )
            }
        };
    }

    /// Asks the runtime, once more on a new connection if the old one has ended, else the fleet's
    /// cluster. `None` if none answers.
    fn ask<A: Ask>(&mut self, ask: &A) -> Result<Option<A::Answer>, Failure> {
        for _ in 0..2 {
            let Some(client) = &mut self.client else { break };
            match client.request(ask, self.patience) {
                Ok(answer) => return Ok(Some(answer)),
                Err(ClientError::Refused(why)) => return Err(Failure::failed(why)),
                Err(ClientError::Unreachable(_) | ClientError::Absent(_)) => self.connect(),
            }
        }
        if self.client.is_none() {
            // A runtime may have been started since.
            self.connect();
        }
        let answered = self.of_fleet()?.and_then(|of_fleet| of_fleet.answer_now(ask.clone().into()));
        Ok(answered.transpose()?.and_then(A::answer_in))
    }

    /// The status of the runtime and its subscriptions.
    pub(super) fn status(&mut self) -> Result<StatusReport, Failure> {
        let counted = |dir: &Path| {
            // From now on: a runtime that hangs took its time already.
            let until = Instant::now() + FIGURES_WITHIN;
            let parts = evidence_parts(dir, None).unwrap_or_default();
            from_evidence(&parts, clock::now(), || Instant::now() < until)
        };
        let look = |dir: &Path| Ok((Unfinished::Listed(unfinished(dir)?), Survey::of(dir)));
        let report = self.status_with(None, counted, look);
        let unread = self.config.enabled.then(|| elsewhere(&self.config)).flatten();
        report.map(|mut report| {
            report.warnings.extend(unread);
            report
        })
    }

    /// The status within the patience. If reading the whole spool would take too long, it lacks the
    /// oldest pending delivery and the counts per subscription; `health.json` has what the last run
    /// left.
    pub(super) fn brief_status(&mut self) -> Result<StatusReport, Failure> {
        let is_silent = self.silent.is_some();
        let until = Instant::now() + SOURCES_WITHIN;
        // Nothing that is asked for in haste shows them.
        let nothing = |_: &Path| Counts::default();
        self.status_with(Some(until), nothing, |dir| match left_at_rest(dir) {
            Some(AtRest { pending, dead_letters }) => {
                Ok((Unfinished::Counted(pending), Survey::beside(dir, dead_letters)))
            }
            // After a kill: what takes long to count is not counted.
            None if is_silent || spool::bytes_of(dir) > QUICK_BYTES => {
                Ok((Unfinished::Unknown, Survey::beside(dir, BTreeMap::new())))
            }
            None => Ok((Unfinished::Listed(unfinished(dir)?), Survey::of(dir))),
        })
    }

    fn status_with(
        &mut self,
        until: Option<Instant>,
        counted: impl FnOnce(&Path) -> Counts,
        look: impl FnOnce(&Path) -> io::Result<(Unfinished, Survey)>,
    ) -> Result<StatusReport, Failure> {
        if let Some(report) = self.ask(&ReadStatus {})? {
            return Ok(report);
        }
        let within = if until.is_some() { IN_HASTE } else { self.patience };
        let fleet = self.of_fleet()?.cloned().map(|of_fleet| (of_fleet.facts_now(within), of_fleet));
        let dir = &self.config.spool_dir;
        let (unfinished, survey) = look(dir).map_err(|error| self.unreadable(&error))?;
        let healths = read_healths(dir);
        // A runtime that does not answer still watches; with webhooks off nothing is watched.
        let is_read = self.silent.is_none() && self.config.enabled;
        let sources = is_read.then(|| Waiting::of(&self.config, until));
        let counts = match &fleet {
            Some((FleetFacts { overview: Ok(_), .. }, of_fleet)) if until.is_none() => {
                let until = Instant::now() + FIGURES_WITHIN;
                of_fleet.counts(|| Instant::now() < until).map_err(Failure::failed)?
            }
            _ => counted(&self.config.evidence_dir),
        };
        let fleet = fleet.map(|(facts, _)| facts);
        let known = (&healths, &counts);
        let silent = self.silent.clone();
        let mut report =
            StatusReport::at_rest(&self.config, unfinished, known, &survey, sources, silent, fleet.as_ref());
        if self.is_wrong && self.config.enabled && self.silent.is_none() {
            let what =
                "no runtime is running, and none starts while the config has errors: spec-notify check";
            report.warnings.insert(0, what.to_owned());
        }
        Ok(report)
    }

    /// The fleet that this machine is of.
    fn of_fleet(&mut self) -> Result<Option<&OfFleet>, Failure> {
        if self.of_fleet.is_none() {
            self.of_fleet = of_fleet(&self.config)?;
        }
        Ok(self.of_fleet.as_ref())
    }

    /// The runtime's metrics; without one the gauges of what lies on the disk.
    pub(super) fn metrics(&mut self) -> Result<Metrics, Failure> {
        if let Some(metrics) = self.ask(&ReadMetrics {})? {
            return Ok(metrics);
        }
        let look = |dir: &Path| Ok((Unfinished::Listed(unfinished(dir)?), Survey::of(dir)));
        let status = self.status_with(None, |_| Counts::default(), look)?;
        Ok(Metrics::of(&status, &Totals::default(), None))
    }

    /// Deliveries, newest first, up to the query's limit, over as many pages as needed.
    pub(super) fn list(&mut self, query: &Query) -> Result<Listing, Failure> {
        let mut listing = Listing::default();
        loop {
            let wanted = Query {
                limit: query.limit - listing.deliveries.len(),
                before: listing.deliveries.last().map(Listed::cursor).or(query.before),
                ..query.clone()
            };
            let page = self.page(wanted)?;
            listing.more = page.more;
            let is_last = page.deliveries.is_empty() || !page.more;
            listing.deliveries.extend(page.deliveries);
            if is_last || listing.deliveries.len() >= query.limit {
                return Ok(listing);
            }
        }
    }

    fn page(&mut self, query: Query) -> Result<Listing, Failure> {
        if let Some(listing) = self.ask(&query)? {
            return Ok(listing);
        }
        // Nothing bounds an answer that crosses no port: the files are read once.
        let mut page = Page::whole(query);
        let read = page.add_unfinished(&self.config.spool_dir);
        let read = read.and_then(|()| page.add_finished(&self.config.spool_dir, &self.config.evidence_dir));
        read.map_err(|error| self.unreadable(&error))?;
        Ok(page.into_listing())
    }

    /// One delivery whole.
    pub(super) fn show(
        &mut self,
        spec: &SpecId,
        id: DeliveryId,
        body: bool,
    ) -> Result<Option<Shown>, Failure> {
        if let Some(shown) = self.ask(&ShowDelivery { spec: spec.clone(), id, body })? {
            return Ok(shown);
        }
        let folders = (&*self.config.spool_dir, &*self.config.evidence_dir);
        let read = Shown::read(folders, (spec, id), body, None, true);
        let mut shown = read.map_err(|error| self.unreadable(&error))?;
        if let Some(shown) = &mut shown {
            let of = &shown.delivery.subscription;
            let is_active = self.config.subscriptions.iter().any(|entry| entry.id == *of && entry.active);
            if !is_active && !shown.waits.is_empty() {
                shown.waits.push(Wait::of(WaitKind::Inactive));
            }
        }
        Ok(shown)
    }

    /// Attempts, newest first.
    pub(super) fn tried(&mut self, query: &TriedQuery) -> Result<Vec<Tried>, Failure> {
        match self.ask(query)? {
            Some(tried) => Ok(tried),
            None => {
                let parts = evidence_parts(&self.config.evidence_dir, query.spec.as_ref());
                parts.map(|parts| tried(&parts, query)).map_err(|error| self.unreadable(&error))
            }
        }
    }

    /// The evidence of the repo, or of the fleet.
    pub(super) fn evidence(&mut self) -> Result<Vec<Part>, Failure> {
        if let Some(of_fleet) = self.of_fleet()? {
            return Ok(of_fleet.evidence()?);
        }
        evidence_parts(&self.config.evidence_dir, None).map_err(|error| self.unreadable(&error))
    }

    /// The SPECs in the spool.
    pub(super) fn specs(&self) -> Vec<SpecId> {
        spool::specs(&self.config.spool_dir).unwrap_or_default()
    }

    /// Number of events in the inbox.
    pub(super) fn queued(&self) -> usize {
        Survey::beside(&self.config.spool_dir, BTreeMap::new()).inbox
    }

    /// How many of these events nobody in the fleet has fanned out yet; none of one machine alone,
    /// whose acceptance includes that.
    pub(super) fn unrouted(&mut self, keys: &BTreeSet<IdempotencyKey>) -> Result<usize, Failure> {
        let Some(of_fleet) = self.of_fleet()? else { return Ok(0) };
        Ok(of_fleet.unrouted_now(keys.iter().map(ToString::to_string).collect())?)
    }

    /// Why a runtime that should answer does not.
    pub(super) fn silent(&self) -> Option<&str> {
        self.silent.as_deref()
    }

    fn unreadable(&self, error: &dyn std::fmt::Display) -> Failure {
        Failure::failed(format!("cannot read {}: {error}", self.config.spool_dir.display()))
    }
}

/// The fleet that a config is of, to be asked without a runtime.
pub(super) fn of_fleet(config: &Config) -> Result<Option<OfFleet>, Failure> {
    let Some(fleet) = config.fleet.clone() else { return Ok(None) };
    let environment = Environment::process().with_file(config.env_file.as_deref());
    let link = Link::new(fleet, environment).map_err(Failure::failed)?;
    let subscriptions = config.subscriptions.iter().map(|entry| (entry.id.clone(), entry.active));
    Ok(Some(OfFleet::new(link, subscriptions)))
}

/// Parses a time as typed: a length of time ago such as `2h` or `3 days`, or a time such as
/// `2025-10-14T10:00:00Z`.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    moment_before(crate::clock::now(), text)
}

fn moment_before(now: Timestamp, text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = text.parse::<Timestamp>() {
        return Ok(at);
    }
    let length = length(text).ok_or_else(|| {
        "give a length of time such as 30m, 2h or 3d, or a time such as 2025-10-14T10:00:00Z".to_owned()
    })?;
    now.checked_sub(length).map_err(|error| error.to_string())
}

/// Parses a length of time as typed: `30m`, `2h`, `3d`.
pub(super) fn length(text: &str) -> Option<SignedDuration> {
    let span: jiff::Span = text.parse().ok()?;
    Some(span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_lengths_of_time_or_times() {
        let at = "2025-10-14T10:00:00Z".parse::<Timestamp>().unwrap();
        assert_eq!(moment("2025-10-14T10:00:00Z"), Ok(at));
        let now = at + jiff::SignedDuration::from_hours(1000);
        for (text, seconds) in [("30m", 1800), ("2h", 7200), ("3d", 259_200), ("1h30m", 5400)] {
            let ago = now.duration_since(moment_before(now, text).unwrap());
            assert_eq!(ago.as_secs(), seconds, "{text}");
        }
        for text in ["", "2 parsecs", "yesterday", "-"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
