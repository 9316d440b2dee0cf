//! The state of `top`: what was read, what of it is selected and shown; independent of terminal
//! and runtime.

mod keys;

use jiff::Timestamp;

use crate::delivery::{DeliveryId, HealthState, SubscriptionId};
use crate::event::SpecId;
use crate::inspect::{DeliveryState, Listed, Tried};
use crate::inspect::{Shown, StatusReport, SubscriptionStatus, Trouble, TroubleKind};

/// The data read at one time.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) at: Timestamp,
    pub(super) status: StatusReport,
    pub(super) deliveries: Vec<Listed>,
    pub(super) attempts: Vec<Tried>,
    /// Why this is only read from the disk, if a runtime should have answered.
    pub(super) silent: Option<String>,
}

/// The panes, from the top of the screen down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Subscriptions,
    Causes,
    Deliveries,
    Attempts,
}

impl Pane {
    const ALL: [Self; 4] = [Self::Subscriptions, Self::Causes, Self::Deliveries, Self::Attempts];
}

/// The view that covers the panes.
#[derive(Clone, Debug)]
pub(super) enum View {
    Panes,
    Help,
    Warnings,
    /// One delivery; what all is known of it once that is read.
    Delivery(Box<Listed>, Read),
    Subscription(SubscriptionId),
    Cause(Box<Trouble>),
}

/// What is known of the open delivery.
#[derive(Clone, Debug)]
pub(super) enum Read {
    NotYet,
    Gone,
    Whole(Box<Shown>),
}

/// What keys are used for at present.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    Keys,
    Filter,
    /// Asks whether to replay this delivery.
    Confirm(SpecId, DeliveryId),
    /// Asks whether to replay all dead letters of this cause.
    ConfirmAll(Box<Trouble>),
}

/// What is to be done outside the model.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Nothing,
    Quit,
    /// The process is to stop until it is continued.
    Suspend,
    Refresh,
    Open(SpecId, DeliveryId),
    Replay(SpecId, DeliveryId),
    ReplayAll(Box<Trouble>),
    /// No further dead letter is to be replayed.
    StopReplaying,
}

/// What is to be read for the screen.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    /// Whether finished deliveries are wanted too.
    pub(super) all: bool,
    /// Where the filter names one.
    pub(super) subscription: Option<SubscriptionId>,
}

/// The selected row of a pane. It follows what it is on when rows change their order.
#[derive(Clone, Debug, Default)]
struct Selection {
    at: usize,
    on: Option<String>,
}

/// The state of the screen; see the module's documentation.
pub(super) struct Model {
    pub(super) snapshot: Option<Snapshot>,
    /// Why there is no newer snapshot.
    pub(super) trouble: Option<String>,
    pub(super) pane: Pane,
    selected: [Selection; 4],
    pub(super) filter: String,
    /// Whether finished deliveries are shown too.
    pub(super) all: bool,
    pub(super) view: View,
    /// Number of lines by which the open view is scrolled.
    pub(super) scrolled: u16,
    pub(super) input: Input,
    /// The result of the last command.
    pub(super) note: String,
    /// How far the replay of a cause is, while one goes on.
    pub(super) replaying: Option<String>,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            snapshot: None,
            trouble: None,
            pane: Pane::Deliveries,
            selected: Default::default(),
            filter: String::new(),
            all: false,
            view: View::Panes,
            scrolled: 0,
            input: Input::Keys,
            note: String::new(),
            replaying: None,
        }
    }

    /// Takes new data, and puts the worst first; the deliveries come so.
    pub(super) fn learn(&mut self, mut snapshot: Snapshot) {
        snapshot.status.subscriptions.sort_by_key(badness);
        // Given up is worse than tried again; each kind has its most frequent first.
        let troubles = std::mem::take(&mut snapshot.status.troubles).into_iter();
        let (mut letters, tries): (Vec<_>, Vec<_>) =
            troubles.partition(|trouble| trouble.kind == TroubleKind::DeadLetters);
        letters.extend(tries);
        snapshot.status.troubles = letters;
        self.trouble = snapshot.silent.take();
        self.snapshot = Some(snapshot);
        for pane in Pane::ALL {
            let rows = self.keys(pane);
            let selection = &mut self.selected[pane as usize];
            if let Some(place) = rows.iter().position(|key| Some(key) == selection.on.as_ref()) {
                selection.at = place;
            }
        }
        if !self.is_there(self.pane) {
            self.pane = Pane::Deliveries;
        }
    }

    /// Takes what is known of the opened delivery, if it is still open.
    pub(super) fn opened(&mut self, id: DeliveryId, shown: Option<Shown>) {
        if let View::Delivery(delivery, read) = &mut self.view
            && delivery.id == id
        {
            *read = shown.map_or(Read::Gone, |shown| Read::Whole(Box::new(shown)));
        }
    }

    /// The subscriptions that match the filter.
    pub(super) fn subscriptions(&self) -> Vec<&SubscriptionStatus> {
        let all = self.snapshot.iter().flat_map(|snapshot| &snapshot.status.subscriptions);
        let text = |one: &SubscriptionStatus| {
            format!("{} {} {}", one.id, one.health, one.last_error.as_deref().unwrap_or_default())
        };
        all.filter(|one| self.admits(|| text(one))).collect()
    }

    /// What is wrong, as far as it matches the filter.
    pub(super) fn causes(&self) -> Vec<&Trouble> {
        let all = self.snapshot.iter().flat_map(|snapshot| &snapshot.status.troubles);
        let text = |trouble: &Trouble| {
            let whose: Vec<&str> = trouble.subscriptions.iter().map(|id| id.as_str()).collect();
            format!("{} {} {}", trouble.kind, trouble.what, whose.join(" "))
        };
        all.filter(|trouble| self.admits(|| text(trouble))).collect()
    }

    /// The deliveries that match the filter.
    pub(super) fn deliveries(&self) -> Vec<&Listed> {
        let all = self.snapshot.iter().flat_map(|snapshot| &snapshot.deliveries);
        let text = |delivery: &Listed| {
            let Listed { subscription, spec, idempotency_key, state, id, last_error, .. } = delivery;
            let error = last_error.as_deref().unwrap_or_default();
            format!("{subscription} {spec} {idempotency_key} {state} {id} {error}")
        };
        all.filter(|delivery| self.admits(|| text(delivery))).collect()
    }

    /// The attempts that match the filter.
    pub(super) fn attempts(&self) -> Vec<&Tried> {
        let all = self.snapshot.iter().flat_map(|snapshot| &snapshot.attempts);
        let text = |tried: &Tried| {
            let Tried { subscription, idempotency_key, delivery, outcome, .. } = tried;
            format!("{subscription} {idempotency_key} {delivery} {outcome}")
        };
        all.filter(|tried| self.admits(|| text(tried))).collect()
    }

    /// Whether a text has every word of the filter.
    fn admits(&self, text: impl Fn() -> String) -> bool {
        if self.filter.is_empty() {
            return true;
        }
        let text = text().to_lowercase();
        self.filter.to_lowercase().split_whitespace().all(|word| text.contains(word))
    }

    /// What is to be read: a subscription that the filter names is asked for, because it may have
    /// nothing among the newest of all.
    pub(super) fn wanted(&self) -> Wanted {
        let all = self.snapshot.iter().flat_map(|snapshot| &snapshot.status.subscriptions);
        let is_named = |one: &&SubscriptionStatus| {
            self.filter.split_whitespace().any(|word| word.eq_ignore_ascii_case(one.id.as_str()))
        };
        Wanted { all: self.all, subscription: all.clone().find(is_named).map(|one| one.id.clone()) }
    }

    /// What the rows of a pane are on.
    fn keys(&self, pane: Pane) -> Vec<String> {
        match pane {
            Pane::Subscriptions => self.subscriptions().iter().map(|one| one.id.to_string()).collect(),
            Pane::Causes => self.causes().iter().map(|trouble| key_of(trouble)).collect(),
            Pane::Deliveries => self.deliveries().iter().map(|delivery| delivery.id.to_string()).collect(),
            Pane::Attempts => {
                let key = |tried: &&Tried| format!("{} {} {}", tried.delivery, tried.attempt, tried.time);
                self.attempts().iter().map(key).collect()
            }
        }
    }

    fn rows(&self, pane: Pane) -> usize {
        match pane {
            Pane::Subscriptions => self.subscriptions().len(),
            Pane::Causes => self.causes().len(),
            Pane::Deliveries => self.deliveries().len(),
            Pane::Attempts => self.attempts().len(),
        }
    }

    /// Whether a pane is on the screen: without causes there is none of them.
    fn is_there(&self, pane: Pane) -> bool {
        pane != Pane::Causes || self.snapshot.as_ref().is_some_and(|it| !it.status.troubles.is_empty())
    }

    /// The selected row of a pane; `None` if the pane is empty.
    pub(super) fn selected(&self, pane: Pane) -> Option<usize> {
        let last = self.rows(pane).checked_sub(1)?;
        Some(self.selected[pane as usize].at.min(last))
    }
}

/// Whether a dead letter is of this cause.
pub(super) fn is_of(letter: &Listed, trouble: &Trouble) -> bool {
    matches!(letter.state, DeliveryState::DeadLetter | DeliveryState::Dropped)
        && trouble.subscriptions.contains(&letter.subscription)
        && letter.last_error.as_ref().is_some_and(|error| error.contains(&trouble.what))
}

/// What tells one cause from another while its count grows.
fn key_of(trouble: &Trouble) -> String {
    format!("{} {} {}", trouble.kind, trouble.what, trouble.hint)
}

/// The worst sort first, and those that are so for longest.
fn badness(one: &SubscriptionStatus) -> (u8, Timestamp) {
    let rank = match one.health {
        HealthState::Open => 0,
        HealthState::Failing => 1,
        HealthState::Degraded if one.unresolved => 2,
        _ if one.dead_letters > 0 => 3,
        HealthState::Paused => 4,
        HealthState::Degraded => 5,
        HealthState::Healthy | HealthState::Untried | HealthState::DryRun => 6,
        HealthState::Inactive => 7,
    };
    (rank, one.since.filter(|_| rank < 3).unwrap_or(Timestamp::MAX))
}
