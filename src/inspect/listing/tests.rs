//! Pages of listings: their order, their bounds, and what was written by other versions.

use super::*;
use std::fs;

use crate::archive::{Archive, DeadLetter, evidence_parts};
use crate::delivery::{AttemptSummary, Reason};
use crate::inspect::{TriedQuery, tried};
use crate::spool::{Accepted, AcceptedDelivery, Record};
use crate::store::{Store, StoreOptions};

fn query(limit: usize) -> Query {
    Query::newest(limit)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_760_000_000 + second).unwrap()
}

fn delivery(spec: &str, key: &str, accepted_at: Timestamp) -> Delivery {
    let spec = spec.parse().unwrap();
    Delivery { spec, accepted_at, ..Delivery::sample(DeliveryId::random(), key) }
}

fn end(store: &mut Store, delivery: &Delivery, time: Timestamp) {
    let Delivery { id, key, kind, subscription, .. } = delivery;
    let (time, accepted_at) = (clock::rfc3339(time), clock::rfc3339(delivery.accepted_at));
    let of = format!(r#""time":"{time}","delivery":"{id}","idempotency_key":"{key}","event":"{kind}""#);
    let to = format!(r#""subscription":"{subscription}","attempts":1,"state":"delivered""#);
    let line =
        format!(r#"{{"v":2,"record":"final",{of},{to},"accepted_at":"{accepted_at}","last_status":200}}"#);
    let lines = format!("{line}\n").into_bytes();
    store.add_evidence(&delivery.spec, &lines);
}

fn listing(options: &StoreOptions, query: Query) -> Listing {
    let mut page = Page::new(query);
    page.add_unfinished(&options.spool_dir).unwrap();
    page.add_finished(&options.spool_dir, &options.evidence_dir).unwrap();
    page.into_listing()
}

#[test]
fn lines_of_the_first_version_are_read_beside_those_of_the_second() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let webhooks = options.evidence_dir.join("commands/SPEC-1/webhooks");
    fs::create_dir_all(&webhooks).unwrap();
    let request = concat!(
        r#""url":"http://127.0.0.1:9 (1a2b3c4d)","headers":{"x-speckit-attempt":"1"},"#,
        r#""body_sha256":"00","body_bytes":1"#,
    );
    let event = r#""idempotency_key":"k","event":"spec-auto.stage.completed","subscription":"s""#;
    let error = r#""error":{"class":"connection","message":"refused"}"#;
    let end = r#""latency_ms":0.5,"resent":false,"outcome":"failed""#;
    let (of_first, of_second) = (r#""method":"POST","#, "");
    let lines = |v: u32, extra: &str, second: i64| {
        let (id, time) = (DeliveryId::random(), clock::rfc3339(at(second)));
        let of = format!(r#""time":"{time}","delivery":"{id}",{event}"#);
        let sent = format!(r#""request":{{{extra}{request}}}"#);
        let attempt = format!(r#"{{"v":{v},"record":"attempt",{of},"attempt":1,{sent},{error},{end}}}"#);
        let ended = format!(r#""state":"dead_letter","accepted_at":"{time}","last_error":"refused""#);
        let last = format!(r#"{{"v":{v},"record":"final",{of},"attempts":1,{ended}}}"#);
        format!("{attempt}\n{last}\n")
    };
    let first = lines(1, of_first, 1);
    let second = lines(2, of_second, 2);
    // A line of a later version is skipped: its meaning is not known.
    let later = lines(3, of_second, 3);
    fs::write(webhooks.join("deliveries.1.jsonl"), &first).unwrap();
    fs::write(webhooks.join("deliveries.jsonl"), lines(1, of_first, 2) + &second + &later).unwrap();
    assert_eq!(listing(&options, query(10)).deliveries.len(), 3);
    let wanted = TriedQuery { spec: None, delivery_id: None, limit: 10 };
    let times: Vec<Timestamp> = tried(&evidence_parts(&options.evidence_dir, None).unwrap(), &wanted)
        .into_iter()
        .map(|tried| tried.time)
        .collect();
    assert_eq!(times, [at(2), at(2), at(1)]);
}

#[test]
fn the_newest_of_all_specs_and_states_come_first() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let (mut store, _) = Store::open(options.clone()).unwrap();
    // Odd ones end late, so that the order of the ends differs from the order of the listing.
    for n in 0..200 {
        let spec = if n % 3 == 0 { "SPEC-1" } else { "SPEC-2" };
        let done = delivery(spec, &format!("k{n}"), at(n));
        end(&mut store, &done, at(n + 500 * (n % 2)));
    }
    store.flush_evidence();
    let pending = delivery("SPEC-3", "pending", at(150));
    let to = AcceptedDelivery::new(pending.id, pending.subscription.clone());
    let accepted =
        Accepted::of_bytes(at(150), pending.key.clone(), pending.kind, vec![to], &r#""{}""#.into()).unwrap();
    store.append(&pending.spec, &Record::Accepted(accepted)).unwrap();
    let summary = AttemptSummary {
        attempt: 1,
        at: at(151),
        status: Some(503),
        error: None,
        response: Some("busy".to_owned()),
        latency_ms: 1.0,
    };
    let next_attempt_at = at(900);
    let attempted = Record::Attempted { id: pending.id, attempt: summary.clone(), next_attempt_at };
    store.append(&pending.spec, &attempted).unwrap();
    assert!(store.commit().is_empty());
    let dead = delivery("SPEC-1", "dead", at(190));
    let reason = Reason::Exhausted { attempts: 1 };
    let letter =
        DeadLetter::new(&dead, &"{}".into(), reason, vec![summary], at(195), Some("mend it")).unwrap();
    Archive::new(options.of_archive()).write_dead_letter(&letter).unwrap();

    let all = listing(&options, query(MAX_LISTED));
    assert_eq!((all.deliveries.len(), all.more), (202, false));
    assert!(all.deliveries.windows(2).all(|pair| pair[0].accepted_at >= pair[1].accepted_at));
    for limit in [1, 10, 60, 201] {
        let page = listing(&options, query(limit));
        let (wanted, got) = (&all.deliveries[..limit], &page.deliveries[..]);
        assert!(page.more && got == wanted, "the page of {limit}");
    }
    let states = |states: &[DeliveryState]| {
        listing(&options, Query { states: states.to_vec(), ..query(10) }).deliveries
    };
    let waits = &states(&[DeliveryState::Pending])[0];
    assert_eq!((waits.id, waits.last_status, waits.next_attempt_at), (pending.id, Some(503), Some(at(900))));
    assert_eq!(waits.last_error.as_deref(), Some("status 503: busy"));
    let gone = &states(&[DeliveryState::DeadLetter])[0];
    assert_eq!(gone.last_error.as_deref(), Some("its only attempt failed; status 503: busy"));
    let since = listing(&options, Query { since: Some(at(198)), ..query(10) });
    assert_eq!((since.deliveries.len(), since.more), (2, false));
    let mut paged = Vec::new();
    loop {
        let before = paged.last().map(Listed::cursor);
        let page = listing(&options, Query { before, ..query(60) });
        paged.extend(page.deliveries);
        if !page.more {
            break;
        }
    }
    assert_eq!(paged, all.deliveries);
    let spec = Some("SPEC-3".parse().unwrap());
    assert_eq!(listing(&options, Query { spec, ..query(10) }).deliveries.len(), 1);
}

#[test]
fn what_ended_since_a_look_is_found_however_long_ago_it_was_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let options = StoreOptions::in_dir(dir.path());
    let (mut store, _) = Store::open(options.clone()).unwrap();
    // The first to be accepted ends last.
    let all: Vec<Delivery> = (0..50).map(|n| delivery("SPEC-1", &format!("k{n}"), at(50 - n))).collect();
    for (n, one) in (0..).zip(&all) {
        end(&mut store, one, at(100 + n));
    }
    store.flush_evidence();
    let new = listing(&options, Query { ended_since: Some(at(140)), ..query(100) });
    assert_eq!((new.deliveries.len(), new.more), (10, false));
    assert!(all[40..].iter().all(|one| new.deliveries.iter().any(|listed| listed.id == one.id)));
    let paged = listing(&options, Query { ended_since: Some(at(140)), ..query(4) });
    assert_eq!((paged.deliveries.len(), paged.more), (4, true));
}
