//! What a host watches: the latest state of a runtime, and the newest deliveries that ended. Costs
//! a look at one number while nobody watches.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::archive::{Attempt, Finished};
use crate::clock;
use crate::delivery::{Delivery, FinalState, Reason};
use crate::inspect::{Listed, StatusReport};
use crate::names::printable;

/// Ended deliveries that are kept for watchers who have not looked yet.
const MAX_ENDS: usize = 256;

/// Longest headline of a runtime that gave up, in characters.
const LONGEST_HEADLINE: usize = 120;

/// What a runtime does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RuntimeState {
    /// Nothing: webhooks are off. This never changes.
    #[default]
    Off,
    /// It starts, or starts again after a fault; events go to the inbox.
    Starting,
    /// It owns the spool: it accepts events and delivers.
    Running,
    /// Another process owns the spool: events go through that one.
    StandingBy,
    /// It was stopped. This never changes.
    Stopped,
    /// It gave up, for this reason; events go to the inbox. This never changes.
    Failed(Arc<str>),
}

impl RuntimeState {
    /// Whether it never changes any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Off | Self::Stopped | Self::Failed(_))
    }
}

/// Displayed in a word or two: `running`, `standing by`.
impl fmt::Display for RuntimeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Off => "off",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::StandingBy => "standing by",
            Self::Stopped => "stopped",
            Self::Failed(_) => "failed",
        })
    }
}

/// A runtime as it was last seen.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Snapshot {
    /// What the runtime does.
    pub state: RuntimeState,
    /// As `Handle::status` tells it. `None` where webhooks are off, and for the moment that the
    /// first look takes after somebody began to watch.
    pub status: Option<Arc<StatusReport>>,
}

impl Snapshot {
    /// One line of at most 120 characters if something is unresolved: the same words as
    /// `spec-notify status --banner`. Times in it are as of this call.
    pub fn headline(&self) -> Option<String> {
        match &self.state {
            RuntimeState::Failed(reason) => {
                Some(printable(&format!("spec-notify: {reason}"), LONGEST_HEADLINE - 1))
            }
            _ => self.status.as_ref()?.headline(),
        }
    }
}

/// A delivery that ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Ended {
    /// When it was on disk that it ended.
    #[serde(with = "clock::millis")]
    pub at: Timestamp,
    /// The delivery: whose it is, what it told, its last attempt, and the state in which it ended.
    #[serde(flatten)]
    pub delivery: Listed,
}

impl Ended {
    fn of(delivery: &Delivery, state: FinalState, attempts: u32) -> Self {
        Self { at: clock::now(), delivery: Listed::unfinished(delivery, state.into(), attempts, None) }
    }

    /// The end of a delivery by this attempt, if it is one.
    pub(crate) fn by(finished: &Finished) -> Option<Self> {
        let Finished { delivery, attempt, effect } = finished;
        let mut ended = Self::of(delivery, effect.end()?, attempt.number);
        let listed = &mut ended.delivery;
        let Attempt { outcome, .. } = attempt;
        listed.last_status = attempt.status();
        listed.last_latency_ms = outcome.as_ref().map(|_| attempt.latency_ms());
        if let Some(reason) = effect.gave_up() {
            let advice = outcome.as_ref().and_then(|outcome| outcome.advice());
            listed.last_error = outcome.as_ref().map(|outcome| outcome.summary());
            listed.hint = Some(reason.hint(advice.as_deref()));
        }
        Some(ended)
    }

    /// The end of a delivery that was given up without an attempt.
    pub(crate) fn given_up(delivery: &Delivery, reason: &Reason, attempts: u32) -> Self {
        let mut ended = Self::of(delivery, reason.into(), attempts);
        ended.delivery.last_error = Some(reason.to_string());
        ended.delivery.hint = Some(reason.hint(None));
        ended
    }

    /// The end of a delivery that a person gave up for good.
    pub(crate) fn discarded(delivery: &Delivery, attempts: u32) -> Self {
        Self::of(delivery, FinalState::Discarded, attempts)
    }
}

/// What watchers see at a moment.
#[derive(Debug, Default)]
pub(crate) struct Latest {
    pub(crate) snapshot: Arc<Snapshot>,
    /// The newest ends, oldest first.
    ends: VecDeque<Arc<Ended>>,
    /// How many ends were told in all.
    told: u64,
}

impl Latest {
    /// How many ends were told in all.
    pub(crate) fn told(&self) -> u64 {
        self.told
    }

    /// The ends after the first `seen`, and how many of them are not kept any more.
    pub(crate) fn ends_after(&self, seen: u64) -> (Vec<Arc<Ended>>, u64) {
        let new = self.told.saturating_sub(seen);
        let kept = usize::try_from(new).unwrap_or(usize::MAX).min(self.ends.len());
        let ends = self.ends.iter().skip(self.ends.len() - kept).cloned().collect();
        (ends, new - kept as u64)
    }
}

/// Where a runtime's parts say what changed, and watchers look. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Feed(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    latest: watch::Sender<Latest>,
    /// Something of the status may have changed since it was last gathered.
    changed: Notify,
}

impl Feed {
    pub(crate) fn new(state: RuntimeState) -> Self {
        let snapshot = Arc::new(Snapshot { state, status: None });
        let (latest, _) = watch::channel(Latest { snapshot, ..Latest::default() });
        Self(Arc::new(Shared { latest, changed: Notify::new() }))
    }

    /// Begins to watch. What nobody watched was not gathered, so the status of then is not shown.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Latest> {
        if !self.is_watched() {
            self.0.latest.send_modify(|latest| {
                let state = latest.snapshot.state.clone();
                latest.snapshot = Arc::new(Snapshot { state, status: None });
            });
        }
        let receiver = self.0.latest.subscribe();
        self.touch();
        receiver
    }

    /// Whether anybody watches.
    pub(crate) fn is_watched(&self) -> bool {
        self.0.latest.receiver_count() > 0
    }

    /// Says that something of the status may have changed.
    pub(crate) fn touch(&self) {
        if self.is_watched() {
            self.0.changed.notify_one();
        }
    }

    /// Resolves when something may have changed, with whether anybody watches by then.
    pub(crate) async fn touched(&self) -> bool {
        self.0.changed.notified().await;
        self.is_watched()
    }

    /// Shows what the runtime does from now on.
    pub(crate) fn set_state(&self, state: RuntimeState) {
        self.0.latest.send_modify(|latest| {
            let status = latest.snapshot.status.clone();
            latest.snapshot = Arc::new(Snapshot { state, status });
        });
        self.touch();
    }

    /// Shows a status that was just gathered; watchers hear of one that says something else.
    pub(crate) fn show(&self, status: StatusReport) {
        self.0.latest.send_if_modified(|latest| {
            let known = latest.snapshot.status.as_ref();
            let is_news = known.is_none_or(|known| !known.says_the_same(&status));
            let state = latest.snapshot.state.clone();
            latest.snapshot = Arc::new(Snapshot { state, status: Some(Arc::new(status)) });
            is_news
        });
    }

    /// Tells of deliveries that ended, oldest first. Nothing is kept for nobody.
    pub(crate) fn tell(&self, ends: impl IntoIterator<Item = Ended>) {
        let mut ends = ends.into_iter().peekable();
        if ends.peek().is_none() || !self.is_watched() {
            return;
        }
        self.0.latest.send_modify(|latest| {
            for ended in ends {
                if latest.ends.len() == MAX_ENDS {
                    latest.ends.pop_front();
                }
                latest.ends.push_back(Arc::new(ended));
                latest.told += 1;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::DeliveryId;

    fn ended() -> Ended {
        Ended::discarded(&Delivery::sample(DeliveryId::random(), "k"), 1)
    }

    #[test]
    fn who_is_slow_loses_the_oldest_ends_and_hears_how_many() {
        let feed = Feed::new(RuntimeState::Running);
        let watcher = feed.subscribe();
        feed.tell((0..3).map(|_| ended()));
        assert_eq!(watcher.borrow().ends_after(1), (watcher.borrow().ends_after(0).0[1..].to_vec(), 0));
        feed.tell((0..MAX_ENDS).map(|_| ended()));
        let (ends, missed) = watcher.borrow().ends_after(1);
        assert_eq!((ends.len(), missed), (MAX_ENDS, 2));
        let latest = watcher.borrow();
        assert_eq!(latest.ends_after(latest.told()), (Vec::new(), 0));
    }

    #[test]
    fn for_nobody_nothing_is_kept_and_who_comes_later_sees_no_old_status() {
        let feed = Feed::new(RuntimeState::Running);
        feed.tell([ended()]);
        let watcher = feed.subscribe();
        assert_eq!(watcher.borrow().told(), 0);
        feed.show(StatusReport::off());
        assert!(watcher.borrow().snapshot.status.is_some());
        drop(watcher);
        let later = feed.subscribe();
        assert!(later.borrow().snapshot.status.is_none());
        assert_eq!(later.borrow().snapshot.state, RuntimeState::Running);
    }

    #[test]
    fn only_what_says_something_else_wakes_a_watcher() {
        let feed = Feed::new(RuntimeState::Running);
        let mut watcher = feed.subscribe();
        feed.show(StatusReport::off());
        watcher.borrow_and_update();
        feed.show(StatusReport::off());
        assert!(!watcher.has_changed().unwrap());
        let mut other = StatusReport::off();
        other.warnings.push("w".to_owned());
        feed.show(other);
        assert!(watcher.has_changed().unwrap());
    }

    #[test]
    fn a_runtime_that_gave_up_is_a_headline() {
        let failed =
            Snapshot { state: RuntimeState::Failed("it panicked. ".repeat(30).into()), status: None };
        let headline = failed.headline().unwrap();
        assert!(headline.starts_with("spec-notify: it panicked"), "{headline}");
        assert!(headline.chars().count() <= LONGEST_HEADLINE, "{headline}");
        assert_eq!(Snapshot::default().headline(), None);
    }
}
