//! Reads a run's log as it grows, piece by piece: cuts it into lines, knows where it stands, and
//! tells nothing twice. Pure: bytes go in, events come out.

use std::time::Duration;

use crc32fast::Hasher;
use jiff::Timestamp;

use super::Name;
use super::fold::{Fold, Mark, Wanting, World};
use super::line::Line;
use crate::event::{Event, SpecId};

/// Longest line that is read; of a longer one nothing is taken.
pub(crate) const MAX_LINE: usize = 256 * 1024;

/// How long something that the log leaves out is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// What came of the bytes at the log's position.
#[derive(Debug)]
pub(crate) enum Next {
    /// A line was taken, or a part of one that is passed over.
    Taken(Vec<Event>),
    /// More is needed than is there.
    Torn,
    /// `workflow.yml` or `state.json` is to be read anew first.
    Wants,
    /// What was read before was not this: it is to be read from its start.
    Replaced,
}

/// See the module's first lines.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    fold: Fold,
    position: u64,
    crc: Hasher,
    /// What ends before this was told at an earlier reading.
    told: Option<Mark>,
    /// Where a line began that is too long and has not ended.
    skipping_from: Option<Mark>,
    /// What was passed over first, in words.
    complaint: Option<String>,
    has_complained: bool,
}

impl Log {
    /// A log of which nothing was read in this process; `told` is how far it was told before.
    pub(crate) fn new(run: Name, spec: Option<SpecId>, told: Option<Mark>) -> Self {
        Self {
            fold: Fold::new(run, spec),
            position: 0,
            crc: Hasher::new(),
            told: told.filter(|told| told.at > 0),
            skipping_from: None,
            complaint: None,
            has_complained: false,
        }
    }

    /// Where reading goes on.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The SPEC, once it is fixed.
    pub(crate) fn spec(&self) -> Option<&SpecId> {
        self.fold.fixed_spec()
    }

    /// Whether what is read was told already.
    pub(crate) fn is_catching_up(&self) -> bool {
        self.told.is_some()
    }

    /// How far everything is told.
    pub(crate) fn told(&self) -> Mark {
        let untold = self.told.or_else(|| self.fold.first_untold()).or(self.skipping_from);
        untold.unwrap_or_else(|| self.here())
    }

    fn here(&self) -> Mark {
        Mark { at: self.position, crc: Some(self.crc.clone().finalize()) }
    }

    /// What was passed over, the first time that this is asked after it was.
    pub(crate) fn complaint(&mut self) -> Option<String> {
        let complaint = self.complaint.take()?;
        (!std::mem::replace(&mut self.has_complained, true)).then_some(complaint)
    }

    /// Takes the first line of what is at its position.
    pub(crate) fn next(&mut self, bytes: &[u8], world: &World<'_>) -> Next {
        let from = self.here();
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            if bytes.is_empty() || (bytes.len() <= MAX_LINE && self.skipping_from.is_none()) {
                return Next::Torn;
            }
            self.skipping_from.get_or_insert(from);
            return self.go_on(bytes, Vec::new(), world);
        };
        let (text, whole) = (&bytes[..end], &bytes[..=end]);
        if let Some(told) = self.told.filter(|told| self.position + whole.len() as u64 > told.at) {
            // What was read ended with a line; only what never was may have ended within one.
            if told.crc.is_some() && self.skipping_from.is_none() {
                return Next::Replaced;
            }
            self.has_caught_up(world);
        }
        let is_too_long = self.skipping_from.is_some() || text.len() > MAX_LINE;
        let line = match is_too_long {
            true => Err("is above 256 KiB".to_owned()),
            false if text.trim_ascii().is_empty() => return self.go_on(whole, Vec::new(), world),
            false => Line::parse(text),
        };
        let told = match line.map(|line| self.fold.take(&line, from, world)) {
            Ok(Ok(told)) => told,
            Ok(Err(Wanting)) => return Next::Wants,
            Err(why) => {
                let at = self.skipping_from.take().unwrap_or(from).at;
                self.complaint.get_or_insert_with(|| format!("has a line at byte {at} that {why}"));
                Vec::new()
            }
        };
        self.go_on(whole, told, world)
    }

    /// Steps over what was taken, and what it told unless that was told at an earlier reading.
    fn go_on(&mut self, over: &[u8], told: Vec<Event>, world: &World<'_>) -> Next {
        self.crc.update(over);
        self.position += over.len() as u64;
        let is_known = self.is_catching_up();
        match self.told.filter(|told| told.at == self.position) {
            Some(Mark { crc: Some(crc), .. }) if Some(crc) != self.here().crc => return Next::Replaced,
            Some(_) => self.has_caught_up(world),
            None => {}
        }
        Next::Taken(if is_known { Vec::new() } else { told })
    }

    fn has_caught_up(&mut self, world: &World<'_>) {
        self.told = None;
        self.fold.is_told(world);
    }

    /// What is due though the log has no more lines.
    pub(crate) fn due(&mut self, notice: Duration, world: &World<'_>) -> Vec<Event> {
        match self.is_catching_up() {
            true => Vec::new(),
            false => self.fold.tell_what_is_due(notice, PATIENCE, world),
        }
    }

    /// When its last line was written, as far as that is known, while the run goes on.
    pub(crate) fn silent_since(&self) -> Option<Option<Timestamp>> {
        self.fold.silent_since().filter(|_| !self.is_catching_up())
    }

    /// The run is silent since then.
    pub(crate) fn stalled(&self, since: Timestamp, world: &World<'_>) -> Event {
        self.fold.stalled(since, world)
    }

    /// How long until something is due.
    pub(crate) fn due_in(&self, notice: Duration, now: Timestamp) -> Option<Duration> {
        self.fold.next(notice, PATIENCE, now).filter(|_| !self.is_catching_up())
    }
}
