//! The state of `top` and the effect of keys on it; independent of terminal and runtime.

use jiff::Timestamp;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use crate::delivery::DeliveryId;
use crate::event::SpecId;
use crate::inspect::StatusReport;
use crate::inspect::{DeliveryState, Listed, Tried};

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

/// The panes, in the order of Tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pane {
    Deliveries,
    Attempts,
    Subscriptions,
}

/// The view that covers the panes.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum View {
    Panes,
    Help,
    Warnings,
    /// One delivery with its attempts, newest first; `None` until they are read.
    Delivery(Box<Listed>, Option<Vec<Tried>>),
}

/// What keys are used for at present.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    Keys,
    Filter,
    /// Asks whether to replay this delivery.
    Confirm(SpecId, DeliveryId),
}

/// What is to be done outside the model.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Action {
    Nothing,
    Quit,
    Refresh,
    Open(SpecId, DeliveryId),
    Replay(SpecId, DeliveryId),
}

/// The state of the screen; see the module's documentation.
pub(super) struct Model {
    pub(super) snapshot: Option<Snapshot>,
    /// Why there is no newer snapshot.
    pub(super) trouble: Option<String>,
    pub(super) pane: Pane,
    /// The selected row of each pane.
    selected: [usize; 3],
    pub(super) filter: String,
    /// Whether finished deliveries are shown too.
    pub(super) all: bool,
    pub(super) view: View,
    /// Number of lines by which the open view is scrolled.
    pub(super) scrolled: u16,
    pub(super) input: Input,
    /// The result of the last command.
    pub(super) note: String,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            snapshot: None,
            trouble: None,
            pane: Pane::Deliveries,
            selected: [0; 3],
            filter: String::new(),
            all: false,
            view: View::Panes,
            scrolled: 0,
            input: Input::Keys,
            note: String::new(),
        }
    }

    /// Takes new data.
    pub(super) fn learn(&mut self, mut snapshot: Snapshot) {
        let rank = |state| match state {
            DeliveryState::DeadLetter | DeliveryState::Dropped => 0,
            DeliveryState::InFlight | DeliveryState::Pending => 1,
            DeliveryState::Delivered | DeliveryState::DryRun | DeliveryState::Discarded => 2,
        };
        // The sort is stable: newest first among deliveries of the same rank.
        snapshot.deliveries.sort_by_key(|delivery| rank(delivery.state));
        self.trouble = snapshot.silent.take();
        self.snapshot = Some(snapshot);
    }

    /// Takes the attempts of the opened delivery, if it is still open.
    pub(super) fn opened(&mut self, id: DeliveryId, attempts: Vec<Tried>) {
        if let View::Delivery(delivery, shown) = &mut self.view
            && delivery.id == id
        {
            *shown = Some(attempts);
        }
    }

    /// The deliveries that match the filter.
    pub(super) fn deliveries(&self) -> Vec<&Listed> {
        let all = self.snapshot.iter().flat_map(|snapshot| &snapshot.deliveries);
        let text = |delivery: &Listed| {
            let Listed { subscription, spec, idempotency_key, state, id, .. } = delivery;
            format!("{subscription} {spec} {idempotency_key} {state} {id}")
        };
        all.filter(|delivery| self.admits(&text(delivery))).collect()
    }

    /// The attempts that match the filter.
    pub(super) fn attempts(&self) -> Vec<&Tried> {
        let all = self.snapshot.iter().flat_map(|snapshot| &snapshot.attempts);
        let text = |tried: &Tried| {
            let Tried { subscription, idempotency_key, delivery, outcome, .. } = tried;
            format!("{subscription} {idempotency_key} {delivery} {outcome}")
        };
        all.filter(|tried| self.admits(&text(tried))).collect()
    }

    fn admits(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.filter.to_lowercase())
    }

    fn rows(&self, pane: Pane) -> usize {
        match pane {
            Pane::Deliveries => self.deliveries().len(),
            Pane::Attempts => self.attempts().len(),
            Pane::Subscriptions => {
                self.snapshot.as_ref().map_or(0, |snapshot| snapshot.status.subscriptions.len())
            }
        }
    }

    /// The selected row of a pane; `None` if the pane is empty.
    pub(super) fn selected(&self, pane: Pane) -> Option<usize> {
        let last = self.rows(pane).checked_sub(1)?;
        Some(self.selected[pane as usize].min(last))
    }

    /// Moves the selection, or scrolls the open view.
    fn go(&mut self, to: impl Fn(usize, usize) -> usize) {
        if self.view == View::Panes {
            let last = self.rows(self.pane).saturating_sub(1);
            self.selected[self.pane as usize] = to(self.selected(self.pane).unwrap_or(0), last).min(last);
        } else {
            let line = to(self.scrolled.into(), LONGEST_VIEW);
            self.scrolled = u16::try_from(line.min(LONGEST_VIEW)).unwrap_or(0);
        }
    }

    fn show(&mut self, view: View) {
        self.view = view;
        self.scrolled = 0;
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

    /// Handles a key press.
    pub(super) fn press(&mut self, key: KeyEvent) -> Action {
        if key.modifiers.contains(KeyModifiers::CONTROL) && key.code == KeyCode::Char('c') {
            return Action::Quit;
        }
        match self.input.clone() {
            Input::Filter => self.type_filter(key.code),
            Input::Confirm(spec, id) => {
                self.input = Input::Keys;
                match key.code {
                    KeyCode::Char('y') => {
                        self.note = format!("replaying {id} …");
                        Action::Replay(spec, id)
                    }
                    _ => {
                        self.note = "not replayed".to_owned();
                        Action::Nothing
                    }
                }
            }
            Input::Keys => self.command(key.code),
        }
    }

    fn type_filter(&mut self, key: KeyCode) -> Action {
        match key {
            KeyCode::Enter => self.input = Input::Keys,
            KeyCode::Esc => {
                self.filter.clear();
                self.input = Input::Keys;
            }
            KeyCode::Backspace => drop(self.filter.pop()),
            KeyCode::Char(typed) => self.filter.push(typed),
            _ => {}
        }
        Action::Nothing
    }

    fn command(&mut self, key: KeyCode) -> Action {
        match key {
            KeyCode::Char('q') => return Action::Quit,
            KeyCode::Esc if self.view != View::Panes => self.show(View::Panes),
            KeyCode::Esc if !self.filter.is_empty() => self.filter.clear(),
            KeyCode::Esc => return Action::Quit,
            KeyCode::Char('?') => self.show(View::Help),
            KeyCode::Char('w') => self.show(View::Warnings),
            KeyCode::Char('/') => self.input = Input::Filter,
            KeyCode::Char('a') => {
                self.all = !self.all;
                return Action::Refresh;
            }
            KeyCode::Tab => {
                self.pane = match self.pane {
                    Pane::Deliveries => Pane::Attempts,
                    Pane::Attempts => Pane::Subscriptions,
                    Pane::Subscriptions => Pane::Deliveries,
                }
            }
            KeyCode::Up | KeyCode::Char('k') => self.go(|at, _| at.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.go(|at, _| at + 1),
            KeyCode::PageUp => self.go(|at, _| at.saturating_sub(PAGE)),
            KeyCode::PageDown => self.go(|at, _| at + PAGE),
            KeyCode::Home => self.go(|_, _| 0),
            KeyCode::End => self.go(|_, last| last),
            KeyCode::Enter => return self.open(),
            KeyCode::Char('r') => self.ask_to_replay(),
            _ => {}
        }
        Action::Nothing
    }

    fn open(&mut self) -> Action {
        match self.meant() {
            Some(delivery) => {
                let action = Action::Open(delivery.spec.clone(), delivery.id);
                self.show(View::Delivery(Box::new(delivery), None));
                action
            }
            None if self.pane == Pane::Attempts => {
                self.note = "its delivery is not on this screen: press a for all deliveries".to_owned();
                Action::Nothing
            }
            None => Action::Nothing,
        }
    }

    fn ask_to_replay(&mut self) {
        match self.meant() {
            Some(delivery)
                if matches!(delivery.state, DeliveryState::DeadLetter | DeliveryState::Dropped) =>
            {
                self.input = Input::Confirm(delivery.spec, delivery.id);
            }
            Some(delivery) => {
                self.note = format!("it is {}: only a dead letter can be replayed", delivery.state)
            }
            None => self.note = "select a dead letter first".to_owned(),
        }
    }
}
