//! The state of `top` and the effect of keys on it; independent of terminal and runtime.

use jiff::Timestamp;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::delivery::{DeliveryId, HealthState, SubscriptionId};
use crate::event::SpecId;
use crate::inspect::{DeliveryState, Listed, Tried};
use crate::inspect::{Shown, StatusReport, SubscriptionStatus, Trouble, TroubleKind, grouped};

/// Rows that PageUp and PageDown move by.
const PAGE: usize = 10;

/// Most lines that a view can be scrolled by.
const LONGEST_VIEW: usize = 1000;

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

    /// Moves the selection, or scrolls the open view.
    fn go(&mut self, to: impl Fn(usize, usize) -> usize) {
        if matches!(self.view, View::Panes) {
            let keys = self.keys(self.pane);
            let last = keys.len().saturating_sub(1);
            let at = to(self.selected(self.pane).unwrap_or(0), last).min(last);
            self.selected[self.pane as usize] = Selection { at, on: keys.into_iter().nth(at) };
        } else {
            let line = to(self.scrolled.into(), LONGEST_VIEW);
            self.scrolled = u16::try_from(line.min(LONGEST_VIEW)).unwrap_or(0);
        }
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.scrolled = 0;
    }

    fn turn(&mut self, step: usize) {
        let mut at = self.pane as usize;
        loop {
            at = (at + step) % Pane::ALL.len();
            if self.is_there(Pane::ALL[at]) {
                self.pane = Pane::ALL[at];
                return;
            }
        }
    }

    /// The delivery that Enter and `r` act on.
    fn meant(&self) -> Option<Listed> {
        match (&self.view, self.pane) {
            (View::Delivery(delivery, _), _) => Some((**delivery).clone()),
            (View::Panes, Pane::Deliveries) => {
                self.deliveries().get(self.selected(Pane::Deliveries)?).map(|delivery| (*delivery).clone())
            }
            (View::Panes, Pane::Attempts) => {
                let id = self.attempts().get(self.selected(Pane::Attempts)?)?.delivery;
                let listed = &self.snapshot.as_ref()?.deliveries;
                listed.iter().find(|delivery| delivery.id == id).cloned()
            }
            _ => None,
        }
    }

    /// The cause that `R` acts on: the selected one, or that of the selected dead letter.
    fn meant_cause(&self) -> Option<Trouble> {
        let all = &self.snapshot.as_ref()?.status.troubles;
        let letters = || all.iter().filter(|trouble| trouble.kind == TroubleKind::DeadLetters);
        let of_selected = || {
            let causes = self.causes();
            causes.get(self.selected(Pane::Causes)?).map(|trouble| (**trouble).clone())
        };
        match (&self.view, self.pane) {
            (View::Cause(trouble), _) => Some((**trouble).clone()),
            (View::Panes, Pane::Causes) => of_selected(),
            (View::Subscription(id), _) => letters().find(|one| one.subscriptions == [id.clone()]).cloned(),
            _ => {
                let delivery = self.meant()?;
                letters().find(|trouble| is_of(&delivery, trouble)).cloned()
            }
        }
    }

    /// Handles a key press.
    pub(super) fn press(&mut self, key: KeyEvent) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Action::Quit,
                KeyCode::Char('z') => Action::Suspend,
                _ => Action::Nothing,
            };
        }
        match std::mem::replace(&mut self.input, Input::Keys) {
            Input::Filter => self.type_filter(key.code),
            Input::Confirm(spec, id) => match key.code {
                KeyCode::Char('y') => {
                    self.note = format!("replaying {id} …");
                    Action::Replay(spec, id)
                }
                _ => self.not_replayed(),
            },
            Input::ConfirmAll(trouble) => match key.code {
                KeyCode::Char('y') => Action::ReplayAll(trouble),
                _ => self.not_replayed(),
            },
            Input::Keys => self.command(key.code),
        }
    }

    fn not_replayed(&mut self) -> Action {
        self.note = "not replayed".to_owned();
        Action::Nothing
    }

    fn type_filter(&mut self, key: KeyCode) -> Action {
        match key {
            KeyCode::Enter => return Action::Refresh,
            KeyCode::Esc => {
                self.filter.clear();
                return Action::Refresh;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(typed) => self.filter.push(typed),
            _ => {}
        }
        self.input = Input::Filter;
        Action::Nothing
    }

    fn command(&mut self, key: KeyCode) -> Action {
        match key {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Esc if self.replaying.is_some() => return Action::StopReplaying,
            KeyCode::Esc if !matches!(self.view, View::Panes) => self.show(View::Panes),
            KeyCode::Esc if !self.filter.is_empty() => {
                self.filter.clear();
                return Action::Refresh;
            }
            KeyCode::Esc => return Action::Quit,
            KeyCode::Char('?') if matches!(self.view, View::Help) => self.show(View::Panes),
            KeyCode::Char('?') => self.show(View::Help),
            KeyCode::Char('w') if matches!(self.view, View::Warnings) => self.show(View::Panes),
            KeyCode::Char('w') => self.show(View::Warnings),
            KeyCode::Char('/') => {
                self.show(View::Panes);
                self.input = Input::Filter;
            }
            KeyCode::Char('a') => {
                self.all = !self.all;
                return Action::Refresh;
            }
            KeyCode::Tab => self.turn(1),
            KeyCode::BackTab => self.turn(Pane::ALL.len() - 1),
            KeyCode::Up | KeyCode::Char('k') => self.go(|at, _| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.go(|at, _| at + 1),
            KeyCode::PageUp => self.go(|at, _| at.saturating_sub(PAGE)),
            KeyCode::PageDown => self.go(|at, _| at + PAGE),
            KeyCode::Home => self.go(|_, _| 0),
            KeyCode::End => self.go(|_, last| last),
            KeyCode::Enter => return self.open(),
            KeyCode::Char('r') => self.ask_to_replay(),
            KeyCode::Char('R') => self.ask_to_replay_all(),
            _ => {}
        }
        Action::Nothing
    }

    fn open(&mut self) -> Action {
        if !matches!(self.view, View::Panes) {
            return Action::Nothing;
        }
        match self.pane {
            Pane::Subscriptions => {
                let id = self.selected(self.pane).map(|at| self.subscriptions()[at].id.clone());
                id.into_iter().for_each(|id| self.show(View::Subscription(id)));
            }
            Pane::Causes => {
                let trouble = self.selected(self.pane).map(|at| self.causes()[at].clone());
                trouble.into_iter().for_each(|trouble| self.show(View::Cause(Box::new(trouble))));
            }
            Pane::Deliveries | Pane::Attempts => match self.meant() {
                Some(delivery) => {
                    let action = Action::Open(delivery.spec.clone(), delivery.id);
                    self.show(View::Delivery(Box::new(delivery), Read::NotYet));
                    return action;
                }
                None if self.pane == Pane::Attempts => {
                    self.note = "its delivery is not on this screen: press a for all deliveries".to_owned();
                }
                None => {}
            },
        }
        Action::Nothing
    }

    fn ask_to_replay(&mut self) {
        match self.meant() {
            Some(delivery)
                if matches!(delivery.state, DeliveryState::DeadLetter | DeliveryState::Dropped) =>
            {
                self.input = Input::Confirm(delivery.spec, delivery.id);
            }
            Some(delivery) => {
                self.note = format!("it is {}: only a dead letter can be replayed", delivery.state);
            }
            None => self.note = "select a dead letter first; R replays all of a cause".to_owned(),
        }
    }

    fn ask_to_replay_all(&mut self) {
        match self.meant_cause() {
            _ if self.replaying.is_some() => {
                self.note = "a replay goes on: Esc stops it".to_owned();
            }
            Some(trouble) if trouble.kind == TroubleKind::DeadLetters => {
                self.input = Input::ConfirmAll(Box::new(trouble));
            }
            Some(trouble) => {
                self.note = format!("{} attempts are tried again by themselves", grouped(trouble.count));
            }
            None => self.note = "select dead letters under What fails, or one of them, first".to_owned(),
        }
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
