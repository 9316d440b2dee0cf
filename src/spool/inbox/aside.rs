//! Which SPECs and files of the inbox are set aside (SPECs that take no event now, files that
//! cannot be read), when each is tried again, and which files wait for them. One in trouble does
//! not delay the others. No I/O and no clock here.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, RandomState};
use std::time::{Duration, Instant};

use super::InboxName;
use crate::event::SpecId;
use crate::names::counted;

/// Delay before something set aside is tried again: the first one, doubled up to the longest.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Most causes and files that are remembered. Beyond them the rest of the inbox waits unread.
const MAX_CAUSES: usize = 1000;
const MAX_FILES: usize = 200_000;

/// Causes that are reported one by one; the others are only counted.
const MAX_TOLD: usize = 10;

/// Why something is set aside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Cause {
    /// The SPEC takes no event now: its later events wait behind the first one.
    Spec(SpecId),
    /// Files cannot be read, for this reason.
    Files(String),
}

/// Everything that is set aside; see the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Aside {
    ids: HashMap<Cause, u32>,
    held: HashMap<u32, Held>,
    next_id: u32,
    /// By the digest of a file's name: the causes it waits for, and how many of its events wait for
    /// each. Two names with the same digest only cause an early try.
    files: HashMap<u64, Vec<(u32, u32)>>,
    hasher: RandomState,
    /// The causes that may be tried in this pass.
    due: HashSet<u32>,
    pass: Option<Instant>,
}

#[derive(Debug)]
struct Held {
    why: String,
    wait: Duration,
    next: Instant,
}

impl Aside {
    /// Begins a pass over the listed inbox: forgets files that are gone, and lets each cause that
    /// is due be tried once.
    pub(crate) fn begin(&mut self, listed: &[InboxName], now: Instant) {
        let there: HashSet<u64> = listed.iter().map(|name| self.digest(name)).collect();
        self.files.retain(|file, _| there.contains(file));
        let waited_for: HashSet<u32> = self.files.values().flatten().map(|(id, _)| *id).collect();
        self.held.retain(|id, _| waited_for.contains(id));
        self.ids.retain(|_, id| waited_for.contains(id));
        self.due = self.held.iter().filter(|(_, held)| held.next <= now).map(|(id, _)| *id).collect();
        self.pass = Some(now);
    }

    /// Whether a cause is due to be tried again.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.held.values().any(|held| held.next <= now)
    }

    /// Whether to read a file in this pass: it is new, or a cause it waits for is free or due.
    pub(crate) fn may_look(&self, name: &InboxName) -> bool {
        let free = |id: &u32| !self.held.contains_key(id) || self.due.contains(id);
        self.files.get(&self.digest(name)).is_none_or(|waits| waits.iter().any(|(id, _)| free(id)))
    }

    /// Whether a SPEC takes no event in this pass.
    pub(crate) fn holds(&self, spec: &SpecId) -> bool {
        self.ids.get(&Cause::Spec(spec.clone())).is_some_and(|id| !self.due.contains(id))
    }

    /// Sets a cause aside, or sets it aside again with a longer delay. Returns whether it is new;
    /// `None` when no more can be remembered.
    pub(crate) fn set(&mut self, cause: Cause, why: &str, now: Instant) -> Option<bool> {
        if let Some(id) = self.ids.get(&cause) {
            if matches!(cause, Cause::Spec(_)) {
                self.due.remove(id);
            }
            if let Some(held) = self.held.get_mut(id)
                && self.pass.is_none_or(|pass| held.next <= pass)
            {
                held.wait = (held.wait * 2).min(LONGEST_WAIT);
                held.next = now + held.wait;
                why.clone_into(&mut held.why);
            }
            return Some(false);
        }
        if self.held.len() >= MAX_CAUSES {
            return None;
        }
        self.next_id = self.next_id.wrapping_add(1);
        self.ids.insert(cause, self.next_id);
        let held = Held { why: why.to_owned(), wait: FIRST_WAIT, next: now + FIRST_WAIT };
        self.held.insert(self.next_id, held);
        Some(true)
    }

    /// Notes that the SPEC took an event. Returns whether it was set aside before.
    pub(crate) fn free(&mut self, spec: &SpecId) -> bool {
        let id = self.ids.remove(&Cause::Spec(spec.clone()));
        id.is_some_and(|id| self.held.remove(&id).is_some())
    }

    /// Remembers which causes a file waits for, and how many of its events wait for each. Returns
    /// `false` when no more can be remembered.
    pub(crate) fn remember(&mut self, name: &InboxName, waits: &HashMap<Cause, u32>) -> bool {
        let file = self.digest(name);
        if self.files.len() >= MAX_FILES && !self.files.contains_key(&file) {
            return false;
        }
        let waits: Vec<(u32, u32)> =
            waits.iter().filter_map(|(cause, events)| Some((*self.ids.get(cause)?, *events))).collect();
        self.files.insert(file, waits);
        true
    }

    /// Messages for people: what is set aside and why.
    pub(crate) fn told(&self) -> Vec<String> {
        let mut counts: HashMap<u32, usize> = HashMap::new();
        for (id, events) in self.files.values().flatten() {
            *counts.entry(*id).or_default() += *events as usize;
        }
        let mut causes: Vec<(&Cause, &u32)> = self.ids.iter().collect();
        causes.sort_by_key(|(_, id)| **id);
        let more = causes.len().saturating_sub(MAX_TOLD);
        let one = |(cause, id): (&Cause, &u32)| {
            let count = counts.get(id).copied().unwrap_or(0);
            let why = self.held.get(id).map_or("", |held| held.why.as_str());
            let wait = if count == 1 { "waits" } else { "wait" };
            match cause {
                Cause::Spec(spec) => {
                    format!("inbox: {} of {spec} {wait}: {why}", counted(count, "event", "events"))
                }
                Cause::Files(_) => {
                    let what = counted(count, "file waits", "files wait");
                    format!("inbox: {what} that cannot be read: {why}")
                }
            }
        };
        let mut told: Vec<String> = causes.into_iter().take(MAX_TOLD).map(one).collect();
        if more > 0 {
            told.push(format!("inbox: events of {more} more SPECs wait"));
        }
        told
    }

    fn digest(&self, name: &InboxName) -> u64 {
        self.hasher.hash_one(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: u32) -> InboxName {
        format!("{n:020}-0.event.json").parse().unwrap()
    }

    fn spec(n: u32) -> SpecId {
        format!("SPEC-{n}").parse().unwrap()
    }

    fn waits(cause: &Cause) -> HashMap<Cause, u32> {
        HashMap::from([(cause.clone(), 1)])
    }

    #[test]
    fn a_spec_is_tried_again_after_one_second_and_then_twice_as_long_each_time() {
        let (mut aside, mut now) = (Aside::default(), Instant::now());
        let (file, stuck) = (name(1), Cause::Spec(spec(1)));
        let mut tried_after = Vec::new();
        for _ in 0..7 {
            let failed = now;
            aside.set(stuck.clone(), "the disk says no", failed);
            aside.remember(&file, &waits(&stuck));
            while {
                aside.begin(std::slice::from_ref(&file), now);
                !aside.may_look(&file)
            } {
                assert!(aside.holds(&spec(1)));
                now += Duration::from_millis(500);
            }
            assert!(!aside.holds(&spec(1)));
            tried_after.push((now - failed).as_secs());
        }
        assert_eq!(tried_after, [1, 2, 4, 8, 16, 30, 30]);
        assert!(aside.free(&spec(1)) && !aside.free(&spec(1)));
        assert!(aside.may_look(&file));
    }

    #[test]
    fn once_tried_in_a_pass_the_rest_of_the_spec_waits_however_long_the_pass_takes() {
        let (mut aside, now) = (Aside::default(), Instant::now());
        let stuck = Cause::Spec(spec(1));
        aside.set(stuck.clone(), "no", now);
        let files = [name(1), name(2)];
        assert!(files.iter().all(|file| aside.remember(file, &waits(&stuck))));
        let later = now + Duration::from_secs(2);
        aside.begin(&files, later);
        assert!(aside.may_look(&files[0]));
        aside.set(stuck, "no", later + Duration::from_secs(60));
        assert!(!aside.may_look(&files[1]) && aside.holds(&spec(1)));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten_with_its_file() {
        let (mut aside, now) = (Aside::default(), Instant::now());
        let set = (0..2000).filter(|n| aside.set(Cause::Spec(spec(*n)), "no", now).is_some()).count();
        assert_eq!(set, MAX_CAUSES);
        let cause = Cause::Spec(spec(0));
        for n in 0..3 {
            assert!(aside.remember(&name(n), &waits(&cause)));
        }
        assert_eq!(aside.told().len(), MAX_TOLD + 1);
        aside.begin(&[name(1), name(2)], now);
        assert_eq!(aside.told(), ["inbox: 2 events of SPEC-0 wait: no"]);
        aside.begin(&[], now);
        assert!(aside.told().is_empty() && aside.held.is_empty() && aside.ids.is_empty());
    }
}
