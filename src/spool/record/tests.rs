//! What is read of damaged files, of cut ones, and of those that a later version wrote.

use super::*;
use crate::delivery::{Identities, Identity};
use crate::event::{Event, Stage, Status};
use proptest::prelude::*;

fn accepted(key: &str, body: &str) -> Record {
    let delivery = AcceptedDelivery::new(DeliveryId::random(), "s".parse().unwrap());
    let at = "2025-10-14T10:00:00.123Z".parse().unwrap();
    let body = Bytes::from(body.to_owned());
    let kind = EventKind::StageCompleted;
    Record::Accepted(Accepted::of_bytes(at, key.parse().unwrap(), kind, vec![delivery], &body).unwrap())
}

fn keys(scan: &Scan) -> Vec<String> {
    let key = |(_, record): &(_, Record)| match record {
        Record::Accepted(accepted) => accepted.idempotency_key.to_string(),
        other => panic!("{other:?}"),
    };
    scan.records.iter().map(key).collect()
}

proptest! {
    #[test]
    fn decode_reads_what_encode_wrote_and_never_panics(
        key in "[ -~]{1,40}",
        garbage in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let mut line = Vec::new();
        let length = encode(&accepted(&key, r#"{"a":[1,2]}"#), &mut line);
        prop_assert_eq!(length, line.len());
        prop_assert_eq!(line.iter().filter(|b| **b == b'\n').count(), 1);
        prop_assert_eq!(keys(&scan(&line)), std::slice::from_ref(&key));
        let of = key.parse::<IdempotencyKey>().unwrap();
        let (kind, now) = (EventKind::StageCompleted, clock::now());
        let mut event = Event::of_source(kind, "SPEC-1".parse().unwrap(), of, now);
        (event.event.stage, event.event.status) = (Some(Stage::Plan), Some(Status::Failure));
        let identity = Identities::default().resolve(&mut event, now, |_| false);
        let Identity::Own(told @ Some(_)) = identity else {
            panic!("a stage is told of")
        };
        for told in [None, told] {
            let idempotency_key = key.parse().unwrap();
            let length = known_length(&idempotency_key, told.as_ref());
            let known = Record::Known { idempotency_key, at: clock::now(), told };
            prop_assert_eq!(encode(&known, &mut Vec::new()), length);
        }
        prop_assert!(decode::<Box<RawValue>>(&garbage).is_none());
        prop_assert!(scan::<Box<RawValue>>(&garbage).records.is_empty());
    }
}

#[test]
fn a_record_of_a_later_version_is_kept_as_it_is_and_its_event_is_known() {
    let accepted = concat!(
        r#"{"accepted":{"at":"2025-10-14T10:00:00.123Z","idempotency_key":"k1","#,
        r#""event":"spec-auto.of-tomorrow","deliveries":[],"body":{ "a": 1.0 }}}"#,
    );
    let at = 1_760_436_000_123;
    let numbered = accepted.replace(r#""deliveries""#, r#""sequence":1760436000999,"deliveries""#);
    for (json, key, sequence) in [
        (accepted, Some("k1"), at),
        (&*numbered, Some("k1"), 1_760_436_000_999),
        (r#"{"paused":{"subscription":"s"}}"#, None, 0),
    ] {
        let line = format!("{:08x} {:08x} {json}\n", crc32fast::hash(json.as_bytes()), json.len());
        let scan = scan::<serde::de::IgnoredAny>(line.as_bytes());
        assert!(scan.damaged.is_empty() && scan.records.len() == 1, "{json}");
        let Some((Record::<Box<RawValue>>::Later(later), _)) = decode(line.as_bytes()) else {
            panic!("{json} is one of a later version")
        };
        assert_eq!(later.event.as_ref().map(|(key, _)| key.as_str()), key);
        let later = Record::Later(later);
        assert_eq!(later.sequence(), sequence, "{json}");
        let mut again = Vec::new();
        encode(&later, &mut again);
        assert_eq!(String::from_utf8(again).unwrap(), line);
    }
    let broken = "{\"accepted\":";
    let line = format!("{:08x} {:08x} {broken}\n", crc32fast::hash(broken.as_bytes()), broken.len());
    assert!(decode::<Box<RawValue>>(line.as_bytes()).is_none());
}

#[test]
fn one_flipped_byte_costs_at_most_its_own_record() {
    let mut content = Vec::new();
    let mut ends = Vec::new();
    for n in 0..4 {
        encode(&accepted(&format!("k{n}"), r#"{"text":"ü"}"#), &mut content);
        ends.push(content.len());
    }
    for at in 0..content.len() {
        for bits in [0x01, 0x20, 0xff, content[at] ^ b'\n'] {
            let mut flipped = content.clone();
            flipped[at] ^= bits;
            let hit = ends.iter().position(|end| at < *end).unwrap();
            let found = keys(&scan(&flipped));
            for n in (0..4).filter(|n| *n != hit) {
                assert!(found.contains(&format!("k{n}")), "byte {at} with {bits:02x}: {found:?}");
            }
            assert!(found.len() >= 3, "byte {at} with {bits:02x}: {found:?}");
        }
    }
}

#[test]
fn every_cut_keeps_every_whole_record() {
    let mut content = Vec::new();
    let mut ends = Vec::new();
    for n in 0..4 {
        encode(&accepted(&format!("k{n}"), "{}"), &mut content);
        ends.push(content.len());
    }
    for cut in 0..=content.len() {
        // A record counts as whole once only its newline is missing.
        let whole = ends.iter().filter(|end| **end <= cut + 1).count();
        let found: Scan = scan(&content[..cut]);
        assert_eq!(found.records.len(), whole, "cut at {cut}");
        assert!(found.damaged.is_empty());
        assert!(found.torn_at <= cut);
    }
}

#[test]
fn what_is_read_without_payloads_is_what_is_read_with_them() {
    let skipped = |line: &[u8]| {
        decode::<serde::de::IgnoredAny>(line).map(|(record, length)| {
            let Record::Accepted(accepted) = record else { panic!("{record:?}") };
            (accepted.idempotency_key.to_string(), accepted.deliveries.len(), length)
        })
    };
    // What looks like the field within a text, in a payload, or further in than it stands.
    for (key, body) in [(r#"k","body":"{}}"#, "{}"), ("k", r#"{"x":1,"body":{"body":null}}"#), ("}}", "null")]
    {
        let mut line = Vec::new();
        let length = encode(&accepted(key, body), &mut line);
        assert_eq!(skipped(&line), Some((key.to_owned(), 1, length - 1)));
    }
    let further_in = concat!(
        r#"{"accepted":{"at":"2025-10-14T10:00:00.123Z","idempotency_key":"k","#,
        r#""event":"spec-kit.task.completed","of_tomorrow":{"x":1,"body":{}},"deliveries":[],"body":{}}}"#,
    );
    let line =
        format!("{:08x} {:08x} {further_in}\n", crc32fast::hash(further_in.as_bytes()), further_in.len());
    assert_eq!(skipped(line.as_bytes()), Some(("k".to_owned(), 0, line.len() - 1)));
}
