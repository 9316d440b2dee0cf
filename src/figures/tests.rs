//! Figures beside what is counted by hand.

use proptest::prelude::*;

use super::*;
use crate::archive::evidence_parts;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).unwrap()
}

fn id(name: &str) -> SubscriptionId {
    name.parse().unwrap()
}

fn counted(second: i64, latency_ms: f64, failed: Option<Way>) -> Counted {
    Counted { at: at(second), latency_ms, failed, gave_up: false }
}

#[test]
fn each_window_has_what_ended_in_it_and_nothing_else() {
    let mut counts = Counts::default();
    let (own, other) = (id("own"), id("other"));
    let bad = Some(Way::Status(503));
    let timeout = Some(Way::Class(FailureClass::Timeout));
    for (age, failed) in [(90_000, bad), (80_000, timeout), (3000, bad), (3000, None), (500, None), (20, bad)]
    {
        counts.ended(&own, &counted(-age, 10.0, failed));
    }
    counts.ended(&other, &Counted { gave_up: true, ..counted(-5, 3000.0, bad) });
    counts.accepted(&other, at(-5));
    let figures = counts.of(&own, at(0));
    let sums = |window: &Window| (window.attempts, window.delivered, window.failed);
    assert_eq!(sums(&figures.minute), (1, 0, 1));
    assert_eq!(sums(&figures.ten_minutes), (2, 1, 1));
    assert_eq!(sums(&figures.hour), (4, 2, 2));
    assert_eq!(sums(&figures.day), (5, 2, 3), "a day ago is out");
    let failures: Vec<_> = figures.day.failures.iter().map(|(way, count)| (way.as_str(), *count)).collect();
    assert_eq!(failures, [("503", 2), ("timeout", 1)]);
    assert_eq!((figures.day.first_bad_at, figures.day.last_good_at), (Some(at(-80_000)), Some(at(-500))));
    let sum = |counts: &[u64]| counts.iter().sum::<u64>();
    let Minutes { delivered, failed } = &figures.minutes;
    assert_eq!((delivered.len(), sum(delivered), sum(failed)), (60, 2, 2));
    assert_eq!((failed[59], delivered[59 - 500 / 60 - 1] + delivered[59 - 500 / 60]), (1, 1));
    let all = counts.in_all(at(0));
    assert_eq!((sums(&all.minute), all.minute.given_up, all.minute.accepted), ((2, 0, 2), 1, 1));
    assert_eq!((all.minute.max_ms, counts.of(&id("nobody"), at(0)).day), (Some(3000.0), Window::default()));
    assert_eq!(sums(&counts.in_all(at(90_000)).day), (0, 0, 0));
}

#[test]
fn the_queue_is_empty_when_more_end_than_come() {
    let (mut counts, own) = (Counts::default(), id("own"));
    (0..30).for_each(|second| counts.ended(&own, &counted(second, 1.0, None)));
    assert_eq!(counts.of(&own, at(30)).empty_in_s(100), Some(200.0));
    assert_eq!(counts.of(&own, at(30)).empty_in_s(0), None, "nothing waits");
    (0..20).for_each(|second| counts.accepted(&own, at(30 - second % 2)));
    assert_eq!(counts.of(&own, at(30)).empty_in_s(100), Some(600.0));
    (0..20).for_each(|_| counts.accepted(&own, at(30)));
    assert_eq!(counts.of(&own, at(30)).empty_in_s(100), None);
}

/// As the requirements bound it, whatever fails.
#[test]
fn a_subscription_takes_64_kib_at_most() {
    let (mut counts, own) = (Counts::default(), id("own"));
    for second in 0..90_000 {
        let way = Way::Status(500 + u16::try_from(second % 90).unwrap());
        counts.ended(&own, &counted(second, 20.0, Some(way)));
    }
    let rows = &counts.rows[&own];
    let entry = size_of::<(i64, Box<Slot>)>();
    let bytes: usize = rows
        .0
        .iter()
        .map(|row| {
            let ways: usize =
                row.0.iter().map(|(_, slot)| slot.ways.capacity() * size_of::<(Way, u32)>()).sum();
            row.0.capacity() * entry + row.0.len() * size_of::<Slot>() + ways
        })
        .sum();
    assert!(rows.0.iter().zip(ROWS).all(|(row, (_, slots))| row.0.len() == usize::try_from(slots).unwrap()));
    assert!(bytes <= 64 * 1024, "{bytes}");
    let many = (0..1000).map(|n| id(&format!("s{n}")));
    many.for_each(|id| counts.ended(&id, &counted(0, 1.0, None)));
    assert!(counts.rows.len() <= MAX_SUBSCRIPTIONS);
}

proptest! {
    /// Whatever ends when, in whatever order its parts are counted, and though the clock is set
    /// back: a window is the sum of what was counted in its slots.
    #[test]
    fn what_is_counted_in_parts_is_what_is_counted_at_once(
        steps in prop::collection::vec((0_i64..900, 0_u16..4, 0.1_f64..9000.0), 1..80), cut in 0_usize..80
    ) {
        let (own, mut second) = (id("own"), 0);
        let tries: Vec<Counted> = steps
            .into_iter()
            .map(|(step, status, latency_ms)| {
                second += step;
                counted(second, latency_ms, (status > 0).then_some(Way::Status(500 + status)))
            })
            .collect();
        let now = at(second);
        let (first, rest) = tries.split_at(cut.min(tries.len()));
        let mut all = [Counts::default(), Counts::default(), Counts::default()];
        tries.iter().for_each(|one| all[0].ended(&own, one));
        first.iter().for_each(|one| all[1].ended(&own, one));
        rest.iter().for_each(|one| all[2].ended(&own, one));
        let [whole, first, mut merged] = all;
        merged.merge(first);
        prop_assert_eq!(whole.of(&own, now), merged.of(&own, now));
        let windows = [Windows::Minute, Windows::TenMinutes, Windows::Hour, Windows::Day];
        for (which, (slot_s, slots)) in windows.into_iter().zip(ROWS) {
            let from = (now.as_second().div_euclid(slot_s) - slots + 1) * slot_s;
            let within = tries.iter().filter(|one| one.at.as_second() >= from);
            let figures = whole.of(&own, now);
            let window = figures.window(which);
            prop_assert_eq!(window.attempts, within.clone().count() as u64);
            prop_assert_eq!(window.failed, within.filter(|one| one.failed.is_some()).count() as u64);
        }
        // The clock is set back by two days.
        let mut whole = whole;
        whole.ended(&own, &counted(-172_800, 1.0, None));
        prop_assert_eq!(whole.of(&own, at(-172_800)).day.attempts, 1);
    }
}

#[test]
fn where_the_evidence_was_rotated_it_is_said_since_when_the_figures_are_whole() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("commands/SPEC-1/webhooks");
    std::fs::create_dir_all(&folder).unwrap();
    let write = |name: &str, ages: &[i64]| {
        let line = |age: &i64| {
            let time = at(-age);
            let line = serde_json::json!({"time": time.to_string(), "subscription": "own", "latency_ms": 0,
                "delivery": "35f160fc-1d79-42ed-bd1f-50fbb6bd7e98", "outcome": "retry",
                "response": {"status": 503}});
            line.to_string().replacen('{', "{\"v\":2,\"record\":\"attempt\",", 1) + "\n"
        };
        std::fs::write(folder.join(name), ages.iter().map(line).collect::<String>()).unwrap();
    };
    let read = || {
        let counts = from_evidence(&evidence_parts(dir.path(), None).unwrap(), at(0), || true);
        (counts.of(&id("own"), at(0)).day.failed, counts.from(at(0)))
    };
    write("deliveries.jsonl", &[500, 400]);
    assert_eq!(read(), (2, None), "nothing was rotated away");
    write("deliveries.1.jsonl", &[3000, 600]);
    assert_eq!(read(), (4, Some(at(-3000))));
    write("deliveries.1.jsonl", &[90_000, 600]);
    assert_eq!(read(), (3, None), "what was rotated away is older than a day");
    let cut = from_evidence(&evidence_parts(dir.path(), None).unwrap(), at(0), || false);
    assert!(cut.of(&id("own"), at(0)).day.attempts == 0);
    assert!(cut.from(Timestamp::now()).is_some(), "what was not read is missing");
}
