//! Tests: sequences of emits by flags and by files. Nothing new is swallowed, nothing is told
//! twice.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::event::{
    Event, EventKind, IdempotencyKey, KeyOrigin, Pipeline, Source, SpecId, Stage, Status, Task,
};

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_760_000_000_000 + ms).unwrap()
}

fn spec() -> SpecId {
    "SPEC-KIT-065-x".parse().unwrap()
}

fn by_flags(stage: Stage, status: Option<Status>, ms: i64) -> Event {
    let key = IdempotencyKey::of_step(&spec(), &stage.slug(), 1, None);
    let mut event = Event::new(EventKind::StageCompleted, spec(), key);
    (event.event.stage, event.event.status) = (Some(stage), status);
    event.event.key_origin = made(ms);
    event
}

fn made(ms: i64) -> KeyOrigin {
    KeyOrigin::Made { at: at(ms), nonce: fastrand::u64(..) }
}

fn from_file(stage: Stage, status: Status, session: &str, ms: i64) -> Event {
    let key = IdempotencyKey::of_step(&spec(), &stage.slug(), 1, Some(session));
    let mut event = Event::of_source(EventKind::StageCompleted, spec(), key, at(ms));
    (event.event.stage, event.event.status) = (Some(stage), Some(status));
    event
}

/// Stands in for the Router: what is known, and what was told.
#[derive(Default)]
struct Router {
    identities: Identities,
    known: BTreeSet<IdempotencyKey>,
    told: Vec<Event>,
    /// For a source's event that was told already: the event it repeats.
    same: BTreeMap<IdempotencyKey, IdempotencyKey>,
    /// What the spool would hold.
    spool: Vec<(IdempotencyKey, Told)>,
}

impl Router {
    /// The key of the event that this one is, and whether it was told now.
    fn gets(&mut self, event: Event, ms: i64) -> (IdempotencyKey, bool) {
        self.gets_on_a_disk(event, ms, true)
    }

    /// If the disk does not take it, its emitter comes again.
    fn gets_on_a_disk(&mut self, mut event: Event, ms: i64, takes_it: bool) -> (IdempotencyKey, bool) {
        let known = &self.known;
        let identity = self.identities.resolve(&mut event, at(ms), |key| known.contains(key));
        let key = event.event.idempotency_key.clone();
        if !takes_it && !self.known.contains(&key) {
            return (key, false);
        }
        let is_new = self.known.insert(key.clone());
        match identity {
            Identity::Own(told) if is_new => {
                self.spool.extend(told.map(|told| (key.clone(), told)));
                self.told.push(event);
                (key, true)
            }
            Identity::Own(_) => (self.same.get(&key).cloned().unwrap_or(key), false),
            Identity::Known(told) => {
                let same = told.same_as.clone().unwrap();
                self.same.insert(key.clone(), same.clone());
                self.spool.push((key, told));
                (same, false)
            }
        }
    }

    fn restarts(&mut self) {
        self.identities = Identities::default();
        for (key, told) in self.spool.clone() {
            self.identities.restore(&spec(), key, told);
        }
    }
}

#[test]
fn a_retry_that_succeeds_is_told_and_the_same_again_is_not() {
    use Status::{Failure, Success};
    let mut router = Router::default();
    let key = |n| format!("SPEC-KIT-065-x:plan:attempt-{n}");
    for (ms, status, number, is_told) in [
        (0, Failure, 1, true),
        (1_000, Failure, 1, false),
        (2_000, Success, 2, true),
        (50_000, Success, 2, false),
        // More than a minute later it is another event.
        (62_001, Success, 3, true),
        (63_000, Failure, 4, true),
    ] {
        let got = router.gets(by_flags(Stage::Plan, Some(status), ms), ms);
        assert_eq!((got.0.to_string(), got.1), (key(number), is_told), "{ms}");
    }
    let mut elsewhere = by_flags(Stage::Plan, Some(Failure), 63_100);
    let commit = Source { commit: Some("c0ffee".to_owned()), ..Source::default() };
    (elsewhere.source, elsewhere.spec.branch) = (Some(commit), Some("b".to_owned()));
    elsewhere.accepted(at(63_100), 7);
    assert!(!router.gets(elsewhere, 63_100).1, "where and when it was told makes no other event");
    let mut build = by_flags(Stage::Plan, Some(Failure), 63_200);
    build.source = Some(serde_json::from_str(r#"{"build": 7}"#).unwrap());
    assert!(router.gets(build, 63_200).1, "what else the emitter says of its source does");
    let mut reason = by_flags(Stage::Plan, Some(Failure), 63_500);
    reason.event.reasons.push("another one".to_owned());
    assert!(router.gets(reason, 63_500).1, "it says something else");
    let mut pipeline = by_flags(Stage::Plan, Some(Failure), 64_000);
    (pipeline.event.kind, pipeline.event.stage) = (EventKind::PipelineCompleted, None);
    assert!(router.gets(pipeline.clone(), 64_000).1);
    (pipeline.event.status, pipeline.event.key_origin) = (Some(Success), made(64_100));
    assert!(router.gets(pipeline.clone(), 64_100).1, "a run that failed and then did not");
    pipeline.event.key_origin = made(64_200);
    assert!(!router.gets(pipeline, 64_200).1);
}

#[test]
fn what_the_watcher_told_is_the_same_event_whichever_comes_first_and_over_a_restart() {
    for first_by_flags in [true, false] {
        for restart in [true, false] {
            for status in [Some(Status::Success), None] {
                let mut router = Router::default();
                let mut pair =
                    [by_flags(Stage::Plan, status, 0), from_file(Stage::Plan, Status::Success, "s1", 150)];
                if !first_by_flags {
                    pair.reverse();
                }
                let [first, second] = pair;
                let (one, is_told) = router.gets(first, 200);
                assert!(is_told);
                if restart {
                    router.restarts();
                }
                assert_eq!(router.gets(second.clone(), 300), (one.clone(), false));
                assert!(!router.gets(second, 400).1, "once more, as after a restart");
                // Each event has one counterpart: another session is another event.
                let other = from_file(Stage::Plan, Status::Success, "s2", 500);
                assert!(router.gets(other, 600).1, "{first_by_flags} {restart}");
                let failed = from_file(Stage::Plan, Status::Failure, "s3", 700);
                assert!(router.gets(failed, 800).1);
            }
        }
    }
}

#[test]
fn a_key_or_an_attempt_that_was_given_is_taken_at_its_word() {
    let mut router = Router::default();
    let with_key = |key: &str, ms| {
        let mut event = by_flags(Stage::Plan, Some(Status::Success), ms);
        (event.event.idempotency_key, event.event.key_origin) = (key.parse().unwrap(), KeyOrigin::Given);
        event
    };
    assert!(router.gets(with_key("a", 0), 0).1);
    assert!(router.gets(with_key("b", 1), 1).1, "another key is another event");
    assert!(!router.gets(with_key("a", 2), 2).1);
    assert!(!router.gets(by_flags(Stage::Plan, Some(Status::Success), 3), 3).1, "says what the last one did");
    let attempt = |attempt, ms| {
        let mut event = by_flags(Stage::Tasks, Some(Status::Failure), ms);
        event.pipeline = Some(Pipeline { attempt: Some(attempt), ..Pipeline::default() });
        event
    };
    let (key, is_told) = router.gets(attempt(2, 10), 10);
    assert!(is_told && key.as_str().ends_with(":tasks:attempt-2"), "{key}");
    assert!(router.gets(attempt(3, 11), 11).1);
    // The watcher told of the first attempt; the second one is another event.
    let mut router_of_file = Router::default();
    let (key, _) = router_of_file.gets(from_file(Stage::Tasks, Status::Failure, "s1", 0), 0);
    let mut told = router_of_file.spool[0].1.clone();
    router_of_file.identities.counted(&spec(), &key, &mut told, Some(1));
    assert!(router_of_file.gets(attempt(2, 10), 10).1);
    assert!(!router_of_file.gets(attempt(1, 11), 11).1, "it is the one that the watcher told of");
    let task = |ms| {
        let key = IdempotencyKey::unique(&spec(), "T1");
        let mut event = Event::new(EventKind::TaskCompleted, spec(), key);
        event.task = Some(Task { id: "T1".into(), title: None, status: None, extra: Default::default() });
        event.event.key_origin = made(ms);
        event
    };
    assert!(router.gets(task(0), 0).1);
    assert!(!router.gets(task(1_000), 1_000).1);
    assert!(router.gets(task(62_000), 62_000).1);
}

#[test]
fn what_waited_in_the_inbox_is_taken_as_of_when_it_was_said() {
    let mut router = Router::default();
    assert!(router.gets(by_flags(Stage::Plan, Some(Status::Success), 0), 600_000).1);
    assert!(!router.gets(from_file(Stage::Plan, Status::Success, "s", 200), 600_100).1);
    assert!(router.gets(by_flags(Stage::Plan, Some(Status::Success), 599_000), 600_200).1);
}

/// One end of a stage as it happened, and its reporters: by flags, with these delays, and by a
/// file.
#[derive(Clone, Debug)]
struct End {
    gap_ms: i64,
    stage: Stage,
    status: Status,
    flags: Vec<i64>,
    file: Option<i64>,
    restarts: bool,
}

fn end() -> impl Strategy<Value = End> {
    let stage = prop_oneof![Just(Stage::Plan), Just(Stage::Tasks)];
    let status = prop_oneof![Just(Status::Success), Just(Status::Failure)];
    let flags = proptest::collection::vec(0i64..10_000, 0..3);
    (1i64..150_000, stage, status, flags, proptest::option::of(0i64..10_000), any::<bool>()).prop_map(
        |(gap_ms, stage, status, flags, file, restarts)| End { gap_ms, stage, status, flags, file, restarts },
    )
}

proptest! {
    #[test]
    fn nothing_new_is_swallowed_and_nothing_same_is_told_twice(
        ends in proptest::collection::vec(end(), 1..25),
        fails in proptest::collection::vec(any::<bool>(), 1..20),
        has_restarts in any::<bool>(),
    ) {
        let mut fails = fails.into_iter().cycle();
        let mut reports: Vec<(i64, usize, Event, bool)> = Vec::new();
        let mut happened = Vec::new();
        // No two events are made at the same moment, since the clock has nanoseconds.
        let mut moments = BTreeSet::new();
        let mut moment = |mut ms: i64| {
            while !moments.insert(ms) {
                ms += 1;
            }
            ms
        };
        let mut now = 0;
        for (n, end) in ends.iter().enumerate() {
            now += end.gap_ms;
            happened.push(now);
            for delay in &end.flags {
                let ms = moment(now + delay);
                reports.push((ms, n, by_flags(end.stage, Some(end.status), ms), end.restarts));
            }
            if let Some(delay) = end.file {
                let ms = now + delay;
                let event = from_file(end.stage, end.status, &format!("s{n}"), ms);
                // The same file is read twice.
                reports.push((ms, n, event.clone(), false));
                reports.push((ms + 1, n, event, false));
            }
        }
        reports.sort_by_key(|(ms, ..)| *ms);
        let mut router = Router::default();
        let mut told: BTreeMap<usize, usize> = BTreeMap::new();
        let mut when_told: BTreeMap<IdempotencyKey, (i64, Stage, Status)> = BTreeMap::new();
        let all: Vec<Event> = reports.iter().map(|(_, _, event, _)| event.clone()).collect();
        for (ms, n, event, restarts) in reports {
            if fails.next().unwrap() {
                router.gets_on_a_disk(event.clone(), ms, false);
            }
            let (key, is_told) = router.gets(event, ms);
            let end = &ends[n];
            if is_told {
                *told.entry(n).or_default() += 1;
                prop_assert!(when_told.insert(key, (ms, end.stage, end.status)).is_none(), "a key twice");
            } else {
                // An event that is not told repeats one told within the last minute.
                let (then, stage, status) = when_told[&key];
                prop_assert!((ms - then).abs() <= 60_000 && (stage, status) == (end.stage, end.status));
            }
            if restarts && has_restarts {
                router.restarts();
            }
        }
        for (n, end) in ends.iter().enumerate() {
            let is_reported = !end.flags.is_empty() || end.file.is_some();
            let is_alone = ends.iter().enumerate().all(|(other, it)| {
                other == n || it.stage != end.stage || (happened[other] - happened[n]).abs() > 81_000
            });
            if is_alone && is_reported {
                prop_assert_eq!(told.get(&n), Some(&1), "{} of {:?}", n, ends);
            }
        }
        // Handed over again, as by an emitter that did not hear the answer: all of it is known. A
        // repeat of a told event is not on disk, so it is decided anew after a restart.
        let count = router.told.len();
        for event in all.iter().rev().take(8).rev().filter(|_| !has_restarts) {
            router.gets(event.clone(), now);
        }
        prop_assert_eq!(router.told.len(), count);
        // Each session is an event of its own, or the one that flags told.
        let files = ends.iter().filter(|end| end.file.is_some()).count();
        prop_assert!(router.told.len() >= files);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_any_number_of_attempts_is_numbered(count in 1usize..500) {
        let mut router = Router::default();
        for n in 0..count {
            let status = if n % 2 == 0 { Status::Failure } else { Status::Success };
            prop_assert!(router.gets(by_flags(Stage::Plan, Some(status), n as i64), n as i64).1);
        }
        prop_assert_eq!(router.told.len(), count);
    }
}

/// A session's file as written at `ms`; `stamped` is the timestamp it contains.
fn version(status: Status, stamped: i64, ms: i64) -> Event {
    let mut event = from_file(Stage::Plan, status, "s", ms);
    event.telemetry =
        serde_json::from_value(serde_json::json!({"timestamp": at(stamped).to_string()})).unwrap();
    event
}

#[test]
fn another_verdict_of_the_same_session_is_told_under_its_own_timestamp() {
    use Status::{Failure, Success};
    for restarts in [false, true] {
        let mut router = Router::default();
        let first = "SPEC-KIT-065:plan:attempt-1:s".to_owned();
        let of = |stamp: i64| format!("{first}:{}", at(stamp));
        for (status, stamped, ms, key, is_told) in [
            (Failure, 0, 1_000, first.clone(), true),
            (Failure, 0, 1_000, first.clone(), false),
            // The same verdict, later: nothing new.
            (Failure, 5_000, 6_000, first.clone(), false),
            (Success, 10_000, 11_000, of(10_000), true),
            (Success, 10_000, 11_000, of(10_000), false),
            // The version before it, handed over again.
            (Failure, 0, 1_000, first.clone(), false),
            (Failure, 20_000, 21_000, of(20_000), true),
            (Success, 10_000, 11_000, of(10_000), false),
            // Written again with the same timestamp.
            (Success, 20_000, 22_000, format!("{first}:{}", crate::clock::rfc3339(at(22_000))), true),
        ] {
            let got = router.gets(version(status, stamped, ms), ms + 200_000);
            assert_eq!((got.0.to_string(), got.1), (key, is_told), "{status} {stamped} {ms}");
            if restarts {
                router.restarts();
            }
        }
        // The source knows that it told another verdict; the spool has forgotten it.
        let mut router = Router::default();
        let mut event = version(Success, 30_000, 31_000);
        event.event.key_origin = KeyOrigin::Rewritten(at(31_000));
        assert_eq!(router.gets(event.clone(), 31_000), (of(30_000).parse().unwrap(), true));
        assert!(!router.gets(event, 32_000).1);
        // Flags said so a moment before, so the subscribers know it.
        let mut router = Router::default();
        assert!(router.gets(version(Failure, 0, 0), 0).1);
        assert!(router.gets(by_flags(Stage::Plan, Some(Success), 10_000), 10_000).1);
        assert!(!router.gets(version(Success, 10_000, 11_000), 11_000).1);
        if restarts {
            router.restarts();
        }
        assert!(!router.gets(version(Success, 10_000, 11_000), 11_500).1);
        assert!(router.gets(version(Failure, 100_000, 101_000), 101_000).1);
    }
}

proptest! {
    /// A file is rewritten and read several times, sometimes late, over restarts and failed writes.
    /// Each change of the verdict is told once, and the last one told is the file's.
    #[test]
    fn what_was_told_last_is_what_the_file_says(
        writes in proptest::collection::vec(
            (any::<bool>(), any::<bool>(), 1i64..100_000, 1usize..4, any::<bool>()),
            1..20,
        ),
        fails in proptest::collection::vec(any::<bool>(), 1..20),
        is_watched in any::<bool>(),
    ) {
        let mut fails = fails.into_iter().cycle();
        let mut router = Router::default();
        let (mut now, mut stamped) = (0, 0);
        let mut told: Vec<Status> = Vec::new();
        let mut before: Vec<Event> = Vec::new();
        for (passed, has_new_stamp, gap, reads, restarts) in writes {
            now += gap;
            stamped = if has_new_stamp { now } else { stamped };
            let status = if passed { Status::Success } else { Status::Failure };
            let mut event = version(status, stamped, now);
            let is_changed = told.last().is_some_and(|last| *last != status);
            if is_watched && is_changed {
                event.event.key_origin = KeyOrigin::Rewritten(at(now));
            }
            for _ in 0..reads {
                if fails.next().unwrap() {
                    router.gets_on_a_disk(event.clone(), now, false);
                }
                let (_, is_told) = router.gets(event.clone(), now);
                prop_assert_eq!(is_told, told.last() != Some(&status));
                if is_told {
                    told.push(status);
                    before.push(event.clone());
                }
                if restarts {
                    router.restarts();
                }
            }
        }
        let keys: BTreeSet<_> = router.told.iter().map(|event| event.event.idempotency_key.clone()).collect();
        prop_assert_eq!(keys.len(), told.len());
        for event in before {
            prop_assert!(!router.gets(event, now).1, "handed over once more");
        }
    }
}
