//! The way of events into the spool: through the runtime, many under way at once, and what it does
//! not take in time into the inbox, many at once. The deadline holds for each event; results come
//! in the order of the events.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use super::told::Handed;
use crate::ask::{EmitEvent, EmitOutcome, Emitted, EmittedEvent};
use crate::cli::keep::{Kept, Writing};
use crate::control::{Client, ClientError};
use crate::env::Environment;
use crate::event::Event;
use crate::sources::branch::Branch;

/// Events under way at a time: as many as a runtime has of one connection.
const WINDOW: usize = 64;

/// Bytes of them: what fits between two processes without either waiting for the other's answers.
const WINDOW_BYTES: usize = 1024 * 1024;

/// Events, and bytes of them, that go into one file of the inbox.
const BATCH: usize = 5000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Writes of the inbox that may go on unconfirmed at a time.
const MAX_WRITING: usize = 4;

/// How soon a runtime is looked for again, at first and at most, and how long that may take.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long the inbox has at least, where that is not more than half of the deadline.
const INBOXES_SHARE: Duration = Duration::from_millis(150);

/// An answer that is there already is read however late it is.
const GRACE: Duration = Duration::from_millis(5);

/// See the module's first lines.
pub(super) struct Way {
    spool_dir: PathBuf,
    branch: Branch,
    deadline: Duration,
    /// How long the runtime has for an event: then there is still time for the inbox.
    patience: Duration,
    port: Port,
    /// Every event whose result is not told yet, in order.
    slots: VecDeque<Slot>,
    /// How many of the slots are under way, and their bytes.
    sent: usize,
    sent_bytes: usize,
    /// How many of the slots are gathered for the inbox, as lines, and why.
    gathered: usize,
    lines: String,
    why: String,
    writing: VecDeque<Writing>,
}

/// See [`Way::state`].
pub(super) enum State {
    /// Nothing.
    Idle,
    /// Answers of the runtime are to be waited for.
    Waits,
    /// What is gathered is to be written.
    Gathers,
}

enum Slot {
    /// With the runtime.
    Sent {
        event: Box<Event>,
        bytes: usize,
        since: Instant,
    },
    /// To go into the inbox.
    Gathered {
        event: EmittedEvent,
        since: Instant,
    },
    Done(Handed),
}

/// The runtime that owns the spool.
enum Port {
    Untried,
    Open(Client),
    /// None answers. It is looked for again then.
    Lost {
        why: String,
        again: Instant,
        pause: Duration,
    },
}

impl Way {
    pub(super) fn new(spool_dir: &Path, repo: &Path, deadline: Duration) -> Self {
        let rest = deadline.saturating_sub(INBOXES_SHARE).max(deadline / 2);
        Self {
            spool_dir: spool_dir.to_owned(),
            branch: Branch::new(repo, Environment::process()),
            deadline,
            patience: deadline.mul_f64(0.75).min(rest),
            port: Port::Untried,
            slots: VecDeque::new(),
            sent: 0,
            sent_bytes: 0,
            gathered: 0,
            lines: String::new(),
            why: String::new(),
            writing: VecDeque::new(),
        }
    }

    /// Takes an event that was given at `since`, or what is none, and sends it on its way. May
    /// wait for room, and then for the deadline of those before it at most.
    pub(super) fn take(&mut self, given: Result<Event, String>, since: Instant) {
        let event = match given {
            Ok(event) => event,
            Err(error) => {
                let handed = Handed { emitted: Emitted::refused(error), is_no_event: true };
                return self.slots.push_back(Slot::Done(handed));
            }
        };
        self.find_port(since);
        match &mut self.port {
            Port::Open(client) => {
                let request = EmitEvent { event: as_map(&event) }.into();
                let sent = client.send(&request, since + self.patience);
                let bytes = sent.as_ref().map_or(0, |bytes| *bytes);
                self.slots.push_back(Slot::Sent { event: Box::new(event), bytes, since });
                self.sent += 1;
                self.sent_bytes += bytes;
                if let Err(error) = sent {
                    self.lose_port(&error.to_string());
                }
            }
            Port::Lost { why, .. } => {
                let why = why.clone();
                self.slots.push_back(Slot::Done(nothing()));
                self.gather(self.slots.len() - 1, event, since, why);
            }
            Port::Untried => {}
        }
        while self.sent >= WINDOW || (self.sent > 1 && self.sent_bytes > WINDOW_BYTES) {
            self.hear();
        }
        if self.is_inbox_due() {
            self.write_inbox();
        }
    }

    /// What there is to do while nothing new is there.
    pub(super) fn state(&self) -> State {
        match (self.sent, self.gathered) {
            (0, 0) => State::Idle,
            (0, _) => State::Gathers,
            _ => State::Waits,
        }
    }

    /// Goes on with what is under way, while nothing new is there: waits for one answer, or for
    /// the inbox.
    pub(super) fn go_on(&mut self) {
        if self.sent > 0 {
            self.hear();
        }
        if self.is_inbox_due() || self.sent == 0 {
            self.write_inbox();
        }
    }

    /// The next result, where it is there.
    pub(super) fn next(&mut self) -> Option<Handed> {
        match self.slots.pop_front()? {
            Slot::Done(handed) => Some(handed),
            other => {
                self.slots.push_front(other);
                None
            }
        }
    }

    fn find_port(&mut self, since: Instant) {
        let patience = (since + self.patience).saturating_duration_since(Instant::now());
        let (patience, pause) = match &self.port {
            Port::Open(_) => return,
            Port::Untried => (patience, FIRST_PAUSE),
            Port::Lost { again, .. } if Instant::now() < *again => return,
            Port::Lost { pause, .. } => (patience.min(LOOK_AGAIN), (*pause * 2).min(LONGEST_PAUSE)),
        };
        self.port = match Client::connect(&self.spool_dir, patience) {
            Ok(client) => Port::Open(client),
            Err(error) => Port::Lost { why: error.to_string(), again: Instant::now() + pause, pause },
        };
    }

    /// Waits for the oldest answer that is due; what is late goes into the inbox, and so does all
    /// that is under way behind it: whatever the runtime may answer later answers another
    /// question.
    fn hear(&mut self) {
        let Some(at) = self.slots.iter().position(|slot| matches!(slot, Slot::Sent { .. })) else { return };
        let (Slot::Sent { since, .. }, Port::Open(client)) = (&self.slots[at], &mut self.port) else {
            return;
        };
        let patience = *since + self.patience;
        match client.receive::<Emitted>(patience.max(Instant::now() + GRACE)) {
            Ok(emitted) => {
                let handed = Handed { emitted, is_no_event: false };
                self.replace(at, Slot::Done(handed));
            }
            Err(ClientError::Refused(why)) => {
                if let Slot::Sent { event, since, .. } = self.replace(at, Slot::Done(nothing())) {
                    self.gather(at, *event, since, why);
                }
            }
            Err(ClientError::Unreachable(why) | ClientError::Absent(why)) => self.lose_port(&why),
        }
    }

    fn replace(&mut self, at: usize, slot: Slot) -> Slot {
        let before = std::mem::replace(&mut self.slots[at], slot);
        if let Slot::Sent { bytes, .. } = &before {
            self.sent -= 1;
            self.sent_bytes -= bytes;
        }
        before
    }

    /// Everything under way goes into the inbox; if the runtime has it all the same, the key
    /// tells.
    fn lose_port(&mut self, why: &str) {
        let again = Instant::now() + FIRST_PAUSE;
        self.port = Port::Lost { why: why.to_owned(), again, pause: FIRST_PAUSE };
        for at in 0..self.slots.len() {
            if matches!(self.slots[at], Slot::Sent { .. })
                && let Slot::Sent { event, since, .. } = self.replace(at, Slot::Done(nothing()))
            {
                self.gather(at, *event, since, why.to_owned());
            }
        }
    }

    /// Adds an event to what goes into the inbox next.
    fn gather(&mut self, at: usize, mut event: Event, since: Instant, why: String) {
        let shown = EmittedEvent::of(&event);
        self.branch.add_to(&mut event);
        match serde_json::to_string(&event) {
            Ok(line) => {
                if self.gathered > 0 && self.lines.len() + line.len() >= BATCH_BYTES {
                    self.write_inbox();
                }
                self.lines += &line;
                self.lines.push('\n');
                self.gathered += 1;
                self.why = why;
                self.slots[at] = Slot::Gathered { event: shown, since };
            }
            Err(error) => {
                let emitted = Emitted { event: Some(shown), ..Emitted::refused(error.to_string()) };
                self.slots[at] = Slot::Done(Handed { emitted, is_no_event: false });
            }
        }
    }

    /// Whether the inbox cannot wait for more: it is enough, or the oldest has waited for the
    /// runtime in vain.
    fn is_inbox_due(&self) -> bool {
        let oldest = || {
            self.slots.iter().find_map(|slot| match slot {
                Slot::Gathered { since, .. } => Some(*since),
                _ => None,
            })
        };
        let is_late = |since: Instant| since.elapsed() >= self.patience;
        self.gathered >= BATCH || (self.gathered > 0 && oldest().is_some_and(is_late))
    }

    /// Writes what is gathered, and waits for it until the deadline of its oldest event.
    fn write_inbox(&mut self) {
        if self.gathered == 0 {
            return;
        }
        let lines = std::mem::take(&mut self.lines);
        self.gathered = 0;
        let since = self.slots.iter().find_map(|slot| match slot {
            Slot::Gathered { since, .. } => Some(*since),
            _ => None,
        });
        let deadline = since.unwrap_or_else(Instant::now) + self.deadline;
        log::info!("into the inbox: {}", self.why);
        let (outcome, error) = match self.keep(lines, deadline) {
            Kept::Yes => (EmitOutcome::Queued, None),
            Kept::Unconfirmed(writing) => {
                self.writing.push_back(writing);
                (EmitOutcome::Unconfirmed, None)
            }
            Kept::No(error) => {
                (EmitOutcome::Refused, Some(format!("nothing was kept: {}; and {error}", self.why)))
            }
        };
        for slot in &mut self.slots {
            if let Slot::Gathered { event, .. } = slot {
                let (event, error) = (Some(event.clone()), error.clone());
                let emitted = Emitted { outcome, event, deliveries: Vec::new(), error };
                *slot = Slot::Done(Handed { emitted, is_no_event: false });
            }
        }
    }

    fn keep(&mut self, lines: String, deadline: Instant) -> Kept {
        self.writing.retain(|writing| writing.goes_on(Instant::now()));
        while self.writing.len() >= MAX_WRITING {
            if self.writing.front().is_some_and(|writing| writing.goes_on(deadline)) {
                return Kept::No(format!("the disk has not confirmed the last {MAX_WRITING} writes yet"));
            }
            self.writing.pop_front();
        }
        Writing::start(&self.spool_dir, lines).wait(deadline)
    }
}

/// In a slot that is about to be filled.
fn nothing() -> Handed {
    Handed { emitted: Emitted::refused(String::new()), is_no_event: false }
}

fn as_map(event: &Event) -> Map<String, Value> {
    match serde_json::to_value(event) {
        Ok(Value::Object(event)) => event,
        _ => Map::new(),
    }
}
