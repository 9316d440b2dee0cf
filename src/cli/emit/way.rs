//! Brings events into the spool: through the runtime, or into a fleet's cluster, many in flight at
//! once; those it does not take in time go into the inbox, many in one file. The deadline applies
//! to each event; results come in the order of the events.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::told::Handed;
use crate::answer::{EmitError, Receipt};
use crate::ask::{EmitEvent, EmitOutcome, Emitted, EmittedEvent};
use crate::cli::keep::{Kept, Writing};
use crate::config::{Config, FleetConfig};
use crate::control::{Client, ClientError};
use crate::env::Environment;
use crate::event::Event;
use crate::fleet::Link;
use crate::sources::checkout::Checkout;
use crate::sources::host;

/// Most events in flight: as many as a runtime accepts from one connection.
const WINDOW: usize = 256;

/// Most bytes in flight: an amount that both processes can buffer, so that neither blocks on
/// writing.
const WINDOW_BYTES: usize = 1024 * 1024;

/// Most events, and bytes of them, in one inbox file.
const BATCH: usize = 5000;
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// Most unconfirmed inbox writes at a time.
const MAX_WRITING: usize = 4;

/// Delay before a runtime is looked for again (the first one, doubled up to the longest), and how
/// long that look may take.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(500);

/// Least time kept for the inbox, but at most half of the deadline.
const INBOXES_SHARE: Duration = Duration::from_millis(150);

/// Extra time for reading an answer that has already arrived.
const GRACE: Duration = Duration::from_millis(5);

/// The events on their way; see the module's documentation.
pub(super) struct Way {
    spool_dir: PathBuf,
    /// Whether events name this machine.
    show_host: bool,
    /// The fleet that events go to, and the `env_file`.
    fleet: Option<(FleetConfig, Option<PathBuf>)>,
    checkout: Checkout,
    deadline: Duration,
    /// How long the runtime has for an event, so that there is still time for the inbox.
    patience: Duration,
    port: Port,
    /// Every event whose result is not yet returned, in order.
    slots: VecDeque<Slot>,
    /// How many slots are in flight, and their bytes.
    sent: usize,
    sent_bytes: usize,
    /// How many slots are gathered for the inbox, their lines, and why they go there.
    gathered: usize,
    lines: String,
    why: String,
    writing: VecDeque<Writing>,
}

/// What there is to do; see [`Way::state`].
pub(super) enum State {
    /// Nothing.
    Idle,
    /// Wait for answers of the runtime.
    Waits,
    /// Write what is gathered.
    Gathers,
}

enum Slot {
    /// Sent to the runtime.
    Sent {
        event: Box<Event>,
        bytes: usize,
        since: Instant,
    },
    /// Gathered for the inbox.
    Gathered {
        event: EmittedEvent,
        since: Instant,
    },
    Done(Handed),
}

/// The connection to the runtime that owns the spool.
enum Port {
    Untried,
    Open(Client),
    /// A fleet's cluster, and the events that it has not answered yet.
    Cluster(Link, VecDeque<mpsc::Receiver<Result<Receipt, EmitError>>>),
    /// No runtime answers; it is looked for again at `again`.
    Lost {
        why: String,
        again: Instant,
        pause: Duration,
    },
}

impl Way {
    pub(super) fn new(config: &Config, deadline: Duration) -> Self {
        let rest = deadline.saturating_sub(INBOXES_SHARE).max(deadline / 2);
        Self {
            spool_dir: config.spool_dir.clone(),
            fleet: config.fleet.clone().map(|fleet| (fleet, config.env_file.clone())),
            checkout: Checkout::new(&config.repo, Environment::process()),
            show_host: config.show_host,
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

    /// Takes an event given at `since`, or an error, and sends the event. May wait for room, at
    /// most until the deadline of earlier events.
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
                let request = EmitEvent::of(&event).map_err(|error| ClientError::Refused(error.to_string()));
                let sent = request.and_then(|request| client.send(&request.into(), since + self.patience));
                let bytes = sent.as_ref().map_or(0, |bytes| *bytes);
                self.slots.push_back(Slot::Sent { event: Box::new(event), bytes, since });
                self.sent += 1;
                self.sent_bytes += bytes;
                if let Err(error) = sent {
                    self.lose_port(&error.to_string());
                }
            }
            Port::Cluster(link, asked) => {
                let mut offered = event.clone();
                self.checkout.add_to(&mut offered);
                // Whoever delivers it is on another machine.
                offered.name_host(host::name(self.show_host));
                let within = (since + self.patience).saturating_duration_since(Instant::now());
                asked.push_back(link.begin_to_accept(&offered, within));
                self.slots.push_back(Slot::Sent { event: Box::new(event), bytes: 0, since });
                self.sent += 1;
            }
            // What cannot be sent is gathered for the inbox, whatever the reason.
            port @ (Port::Lost { .. } | Port::Untried) => {
                let why = match port {
                    Port::Lost { why, .. } => why.clone(),
                    _ => "no runtime was asked".to_owned(),
                };
                self.slots.push_back(Slot::Done(nothing()));
                self.gather(self.slots.len() - 1, event, since, why);
            }
        }
        while self.sent >= WINDOW || (self.sent > 1 && self.sent_bytes > WINDOW_BYTES) || self.has_answer() {
            self.hear();
        }
        if self.is_inbox_due() {
            self.write_inbox();
        }
    }

    /// What there is to do while no new event has arrived.
    pub(super) fn state(&self) -> State {
        match (self.sent, self.gathered) {
            (0, 0) => State::Idle,
            (0, _) => State::Gathers,
            _ => State::Waits,
        }
    }

    /// Continues with events in flight while no new one has arrived: waits for one answer, or for
    /// the inbox.
    pub(super) fn go_on(&mut self) {
        if self.sent > 0 {
            self.hear();
        }
        if self.is_inbox_due() || self.sent == 0 {
            self.write_inbox();
        }
    }

    /// The next result, if it is known.
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
            Port::Open(_) | Port::Cluster(..) => return,
            Port::Untried => (patience, FIRST_PAUSE),
            Port::Lost { again, .. } if Instant::now() < *again => return,
            Port::Lost { pause, .. } => (patience.min(LOOK_AGAIN), (*pause * 2).min(LONGEST_PAUSE)),
        };
        let found = match &self.fleet {
            Some((fleet, env_file)) => {
                let environment = Environment::process().with_file(env_file.as_deref());
                let link = Link::new(fleet.clone(), environment).map_err(|error| error.to_string());
                link.map(|link| Port::Cluster(link, VecDeque::new()))
            }
            None => {
                let client = Client::connect(&self.spool_dir, patience).map_err(|error| error.to_string());
                client.map(Port::Open)
            }
        };
        let again = Instant::now() + pause;
        self.port = found.unwrap_or_else(|why| Port::Lost { why, again, pause });
    }

    /// Waits for the answer to the oldest event in flight. If it is late, that event and all in
    /// flight behind it go into the inbox, because a later answer could not be matched to its
    /// event.
    fn hear(&mut self) {
        let Some(at) = self.slots.iter().position(|slot| matches!(slot, Slot::Sent { .. })) else { return };
        let Slot::Sent { since, event, .. } = &self.slots[at] else { return };
        let patience = (*since + self.patience).max(Instant::now() + GRACE);
        let answer = match &mut self.port {
            Port::Open(client) => client.receive::<Emitted>(patience),
            Port::Cluster(_, asked) => {
                let answer = asked.pop_front();
                let within = patience.saturating_duration_since(Instant::now());
                let answer = answer.map(|answer| answer.recv_timeout(within));
                match answer {
                    Some(Ok(Err(EmitError::Unavailable(why)))) => Err(ClientError::Unreachable(why)),
                    Some(Ok(result)) => Ok(Emitted::of_fleet(EmittedEvent::of(event), result)),
                    Some(Err(_)) | None => {
                        Err(ClientError::Unreachable("the cluster gave no answer in time".to_owned()))
                    }
                }
            }
            Port::Untried | Port::Lost { .. } => return,
        };
        match answer {
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

    /// Whether the answer to the oldest event in flight is there already.
    fn has_answer(&self) -> bool {
        self.sent > 0 && matches!(&self.port, Port::Open(client) if client.has_answer())
    }

    fn replace(&mut self, at: usize, slot: Slot) -> Slot {
        let before = std::mem::replace(&mut self.slots[at], slot);
        if let Slot::Sent { bytes, .. } = &before {
            self.sent -= 1;
            self.sent_bytes -= bytes;
        }
        before
    }

    /// Gives up the connection: everything in flight goes into the inbox. If the runtime has
    /// accepted it too, the key reveals the duplicate.
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

    /// Adds an event to the next inbox file.
    fn gather(&mut self, at: usize, mut event: Event, since: Instant, why: String) {
        let shown = EmittedEvent::of(&event);
        self.checkout.add_to(&mut event);
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

    /// Whether the inbox must be written now: enough is gathered, or the oldest event has used up
    /// the runtime's time.
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

    /// Writes what is gathered, and waits until the deadline of the oldest event.
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
                let emitted = Emitted { outcome, event, deliveries: Vec::new(), routed: None, error };
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

/// A placeholder for a slot that is filled right after.
fn nothing() -> Handed {
    Handed { emitted: Emitted::refused(String::new()), is_no_event: false }
}
