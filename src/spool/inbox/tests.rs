//! Tests: what is put into the inbox is read from it.

use std::fs;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::event::EventKind;
use crate::files::fault;

fn event(key: &str) -> Event {
    Event::new(EventKind::Test, "SPEC-1".parse().unwrap(), key.parse().unwrap())
}

/// All files of the inbox.
fn all(inbox: &Inbox) -> Vec<Taken> {
    inbox.read(&inbox.names().unwrap(), usize::MAX)
}

fn events(taken: &[Taken]) -> Vec<Event> {
    let texts = taken.iter().flat_map(|taken| match &taken.content {
        Content::Events(texts) => texts.clone(),
        other => panic!("{other:?}"),
    });
    texts.map(|text| Event::from_kept(&text).unwrap()).collect()
}

fn keys(taken: &[Taken]) -> Vec<String> {
    events(taken).iter().map(|event| event.event.idempotency_key.to_string()).collect()
}

#[test]
fn events_come_out_in_the_order_they_went_in_one_by_one_and_several_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = Inbox::new(dir.path());
    assert!(inbox.names().unwrap().is_empty());
    let expected: Vec<String> = (0..60).map(|n| format!("k{n}")).collect();
    for keys in expected.chunks(10) {
        let events: Vec<Event> = keys.iter().map(|key| event(key)).collect();
        put(dir.path(), &events[..1]).unwrap();
        put(dir.path(), &events[1..]).unwrap();
    }
    let read = all(&inbox);
    assert_eq!(keys(&read), expected);
    assert_eq!(read.iter().map(|taken| taken.name.events()).sum::<usize>(), 60);
    assert_eq!(inbox.read(&inbox.names().unwrap(), 1).len(), 1);
    read.iter().for_each(|taken| drop(inbox.settle(&taken.name, Settled::Done)));
    assert!(inbox.names().unwrap().is_empty());
}

#[test]
fn what_is_left_of_several_keeps_its_place_and_what_is_no_event_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = Inbox::new(dir.path());
    put(dir.path(), &[event("a"), event("b"), event("c")]).unwrap();
    put(dir.path(), &[event("d")]).unwrap();
    let first = all(&inbox).remove(0);
    let Content::Events(texts) = first.content else { panic!() };
    let rest = inbox.settle(&first.name, Settled::Left(texts[1..].to_vec())).unwrap();
    assert_eq!((keys(&all(&inbox)), rest.events()), (["b", "c", "d"].map(str::to_owned).into(), 2));
    let bad = vec!["{broken".to_owned()];
    assert_eq!(inbox.settle(&rest, Settled::Rejected(bad, "why".to_owned())), None);
    assert_eq!(keys(&all(&inbox)), ["d"]);
    let rejected = dir.path().join("inbox").join(format!("{}.rejected", rest.with_events(1)));
    assert!(fs::read_to_string(rejected).unwrap().ends_with("\n{broken\n"));
}

#[test]
fn what_is_no_event_and_what_cannot_be_read_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let inbox = Inbox::new(dir.path());
    put(dir.path(), &[event("k")]).unwrap();
    let folder = dir.path().join("inbox");
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("0-1-1.event.json", "{broken");
    write("0-1-2.event.json", r#"{"v":2,"queued_at":"2026-01-01T00:00:00Z","event":{}}"#);
    write("0-1-3.events.jsonl", "{\"v\":2,\"queued_at\":\"2026-01-01T00:00:00Z\"}\n{}\n");
    write("0-1-4.events.jsonl", "");
    write("notes.txt", "not ours");
    fs::create_dir(folder.join("0-1-5.event.json")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.join("0-1-6.event.json")).unwrap();
    fs::write(folder.join("0-1-7.event.json"), [0xff, 0xfe]).unwrap();
    let said: Vec<String> = all(&inbox)
        .iter()
        .map(|taken| match &taken.content {
            Content::Events(events) => format!("{} events", events.len()),
            Content::None(why) => format!("none: {why}"),
            Content::Unreadable(why) => format!("unreadable: {why}"),
            Content::Gone => "gone".to_owned(),
        })
        .collect();
    let expected = [
        "none: key must",
        "unreadable: written by a later version",
        "unreadable: written by a later version",
        "none: its first line",
        "unreadable: it is not a file",
        "unreadable: it is not a file",
        "none: it is not UTF-8",
        "1 events",
    ];
    for (said, expected) in said.iter().zip(expected) {
        assert!(said.starts_with(expected), "{said} / {expected}");
    }
    assert_eq!(said.len(), expected.len());
}

#[test]
fn what_could_not_be_taken_from_it_is_not_put_into_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut deep = event("deep");
    deep.extra.insert("x".to_owned(), (0..120).fold(json!(1), |inner, _| json!([inner])));
    let mut large = event("large");
    large.extra.insert("x".to_owned(), "x".repeat(600 * 1024).into());
    // Its JSON has `spec` twice; the second one is not a SPEC.
    let mut twice = event("twice");
    twice.extra.insert("spec".to_owned(), json!("another"));
    for bad in [deep, large, twice] {
        let error = put(dir.path(), &[event("good"), bad.clone()]).unwrap_err().to_string();
        assert!(error.contains("keep an event in"), "{error}");
        put(dir.path(), &[bad]).unwrap_err();
    }
    assert!(Inbox::new(dir.path()).names().unwrap().is_empty());
}

/// Each file operation in turn is the last one: the process stops, or the disk is full.
#[test]
fn several_are_put_whole_or_not_at_all_and_what_is_left_of_them_is_never_lost() {
    let given = [event("a"), event("b"), event("c")];
    for operations in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let mut put_them = Err(());
        let ended = fault::crash_after(operations, || put_them = put(dir.path(), &given).map_err(|_| ()));
        let there = keys(&all(&Inbox::new(dir.path())));
        assert!(there.is_empty() || there == ["a", "b", "c"], "{operations}: {there:?}");
        assert!(put_them.is_err() || there.len() == 3);
        if ended {
            break;
        }
    }
    for (operations, crashes) in (0..12).flat_map(|operations| [(operations, true), (operations, false)]) {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), &given).unwrap();
        let inbox = Inbox::new(dir.path());
        let Taken { name, content: Content::Events(texts) } = all(&inbox).remove(0) else { panic!() };
        let leave = || drop(inbox.settle(&name, Settled::Left(texts[2..].to_vec())));
        match crashes {
            true => drop(fault::crash_after(operations, leave)),
            false => drop(fault::full_after(operations, 1, leave)),
        }
        let there = keys(&all(&inbox));
        assert_eq!(there.last().map(String::as_str), Some("c"), "{operations}: {there:?}");
    }
}

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        ".*".prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        Just(Value::Null)
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(".*", inner, 0..4)
                .prop_map(|map| map.into_iter().collect::<serde_json::Map<_, _>>().into())
        ]
    })
}

fn any_event() -> impl Strategy<Value = Event> {
    let field = prop_oneof![
        Just("spec"),
        Just("event"),
        Just("telemetry"),
        Just("id"),
        Just("schemaVersion"),
        Just("branch"),
        Just("x")
    ];
    let deep = (1_usize..130).prop_map(|levels| (1..levels).fold(json!(1), |inner, _| json!([inner])));
    let long = (0_usize..600 * 1024).prop_map(|length| Value::from("\u{1}".repeat(length / 6)));
    let value = prop_oneof![8 => any_value(), 2 => deep, 1 => long];
    let fields = prop::collection::vec((field, value, 0_u8..3), 0..3);
    ("[a-zA-Z0-9 é\u{1F600}]{1,40}", fields).prop_map(|(key, fields)| {
        let mut event = event(&key);
        for (name, value, place) in fields {
            let extra = match place {
                0 => &mut event.extra,
                1 => &mut event.event.extra,
                _ => &mut event.spec.extra,
            };
            extra.insert(name.to_owned(), value);
        }
        event
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_is_put_is_read_back(given in prop::collection::vec(any_event(), 1..4)) {
        let dir = tempfile::tempdir().unwrap();
        let is_kept = put(dir.path(), &given).is_ok();
        let read = all(&Inbox::new(dir.path()));
        if is_kept {
            let keys: Vec<_> = given.iter().map(|event| event.event.idempotency_key.clone()).collect();
            let events = events(&read);
            let back: Vec<_> = events.iter().map(|event| event.event.idempotency_key.clone()).collect();
            prop_assert_eq!(back, keys);
        } else {
            prop_assert!(read.is_empty());
        }
    }
}
