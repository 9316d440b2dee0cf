//! What the keys of `top` do: they move, open, filter, and ask before they replay.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::{Action, Input, Model, Pane, Read, Selection, View, is_of};
use crate::inspect::{DeliveryState, Listed};
use crate::inspect::{Trouble, TroubleKind, grouped};

/// Rows that PageUp and PageDown move by.
const PAGE: usize = 10;

/// Most lines that a view can be scrolled by.
const LONGEST_VIEW: usize = 1000;

impl Model {
    /// Handles a key press.
    pub(in crate::cli::top) fn press(&mut self, key: KeyEvent) -> Action {
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
}
