//! Fan-out: the record of an event that is to be accepted, and a delivery for each subscription
//! that wants it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Place;
use std::fmt::Display;
use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;

use crate::answer::EmitError;
use crate::config::{Role, SubscriptionConfig};
use crate::delivery::{BodyBudget, Delivery, DeliveryId, Pending};
use crate::event::Event;
use crate::payload::{Format, Reader};
use crate::spool::{Accepted, AcceptedDelivery};

/// Fans `event` out to those of the `subscriptions` that want it; to none where it
/// `is_told_already`. `body` is its payload; what comes with a subscription (`A`) goes with its
/// delivery.
///
/// # Errors
/// [`EmitError::Refused`]: the body cannot be rendered in a format that is wanted.
pub(super) fn fan_out<'a, A>(
    event: &Event,
    body: &Bytes,
    at: Timestamp,
    is_told_already: bool,
    subscriptions: impl Iterator<Item = (&'a SubscriptionConfig, A)>,
    budget: &BodyBudget,
    mut draw_id: impl FnMut() -> DeliveryId,
) -> Result<(Accepted, Vec<(A, Pending)>), EmitError> {
    let envelope = &event.event;
    let wants = |config: &SubscriptionConfig| {
        !is_told_already && config.role() != Role::Inactive && config.filter.admits(event).is_ok()
    };
    // Once per format, however many subscriptions share it.
    let mut rendered = BTreeMap::new();
    let (mut deliveries, mut outgoing) = (Vec::new(), Vec::new());
    for (config, attached) in subscriptions.filter(|(config, _)| wants(config)) {
        let format = config.format;
        let held = match rendered.entry(format) {
            Place::Occupied(place) => place.into_mut(),
            Place::Vacant(place) => {
                let bytes = format.render(event, body, &Reader::default()).map_err(refused)?;
                place.insert((budget.hold(&bytes), bytes))
            }
        };
        let delivery = Delivery {
            id: draw_id(),
            subscription: config.id.clone(),
            spec: event.spec.id.clone(),
            key: envelope.idempotency_key.clone(),
            kind: envelope.kind,
            accepted_at: at,
            format,
        };
        deliveries.push(AcceptedDelivery { format, ..AcceptedDelivery::new(delivery.id, config.id.clone()) });
        outgoing.push((attached, Pending::new(Arc::new(delivery), held.0.clone())));
    }
    let key = envelope.idempotency_key.clone();
    let mut record = Accepted::new(at, key, envelope.kind, deliveries, body).map_err(refused)?;
    // The payload itself is in the record anyway.
    for (format, (_, bytes)) in rendered.iter().filter(|(format, _)| **format != Format::SpecKit) {
        record.add_body(*format, bytes).map_err(refused)?;
    }
    Ok((record, outgoing))
}

/// What cannot be rendered now never can.
pub(super) fn refused(error: impl Display) -> EmitError {
    EmitError::Refused(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::SecretNames;
    use crate::delivery::RetryPolicy;
    use crate::event::EventKind;
    use crate::filter::{EventPattern, Filter};
    use crate::http::TlsFiles;
    use crate::payload;

    fn subscription(id: &str, format: Format) -> SubscriptionConfig {
        SubscriptionConfig {
            id: id.parse().unwrap(),
            endpoint: None,
            secrets: SecretNames { current: "S".to_owned(), previous: None },
            active: true,
            dry_run: false,
            filter: Filter::default(),
            format,
            retry: RetryPolicy::default(),
            timeout: Duration::from_secs(5),
            max_in_flight: 8,
            retry_statuses: [].into(),
            rate_limit_per_s: None,
            headers: Vec::new(),
            proxy: None,
            tls_files: TlsFiles::default(),
        }
    }

    fn event() -> Event {
        Event::new(EventKind::Test, "SPEC-1".parse().unwrap(), "k".parse().unwrap())
    }

    /// What `subscriptions` get of an event; with each its place among them.
    fn fanned(
        subscriptions: &[SubscriptionConfig],
        is_told_already: bool,
        budget: usize,
    ) -> (Accepted, Vec<(usize, Pending)>) {
        let (event, at) = (event(), "2026-01-02T03:04:05Z".parse().unwrap());
        let body = payload::body(&event).unwrap();
        let numbered = subscriptions.iter().zip(0..);
        let mut drawn = 0;
        let draw = || {
            drawn += 1;
            format!("00000000-0000-4000-8000-{drawn:012}").parse().unwrap()
        };
        fan_out(&event, &body, at, is_told_already, numbered, &BodyBudget::new(budget), draw).unwrap()
    }

    fn places(outgoing: &[(usize, Pending)]) -> Vec<usize> {
        outgoing.iter().map(|(place, _)| *place).collect()
    }

    fn bytes(pending: &Pending) -> &Bytes {
        pending.body().unwrap().bytes()
    }

    #[test]
    fn the_record_names_what_goes_out() {
        let (record, outgoing) =
            fanned(&[subscription("a", Format::SpecKit), subscription("b", Format::Slack)], false, 1 << 20);
        assert_eq!(places(&outgoing), [0, 1]);
        for (accepted, (_, pending)) in record.deliveries.iter().zip(&outgoing) {
            let delivery = pending.delivery();
            assert_eq!(
                (accepted.id, &accepted.subscription, accepted.format),
                (delivery.id, &delivery.subscription, delivery.format)
            );
            assert_eq!((delivery.accepted_at, &delivery.key), (record.at, &record.idempotency_key));
        }
        let ids: Vec<_> = record.deliveries.iter().map(|delivery| delivery.id.to_string()).collect();
        assert_eq!(ids, ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"]);
        assert_eq!(record.body.get().as_bytes(), bytes(&outgoing[0].1));
        assert_eq!(record.bodies[&Format::Slack].get().as_bytes(), bytes(&outgoing[1].1));
    }

    #[test]
    fn each_body_is_rendered_once_and_shared() {
        let formats = [Format::Slack, Format::SpecKit, Format::Slack, Format::CloudEvents, Format::SpecKit];
        let subscriptions = formats.map(|format| subscription("s", format));
        let (record, outgoing) = fanned(&subscriptions, false, 1 << 20);
        let kept: Vec<Format> = record.bodies.keys().copied().collect();
        assert_eq!(kept.len(), 2, "the payload is not kept twice: {kept:?}");
        let at = |place: usize| bytes(&outgoing[place].1).as_ptr();
        assert_eq!((at(0), at(1)), (at(2), at(4)));
        // There is room for one body a format and no more.
        let needed = [0, 1, 3].map(|place| bytes(&outgoing[place].1).len()).iter().sum();
        let (_, outgoing) = fanned(&subscriptions, false, needed);
        assert!(outgoing.iter().all(|(_, pending)| pending.body().is_some()));
    }

    #[test]
    fn without_room_in_memory_it_goes_out_without_its_body() {
        let (record, outgoing) = fanned(&[subscription("a", Format::Slack)], false, 0);
        assert!(outgoing[0].1.body().is_none() && record.bodies.contains_key(&Format::Slack));
    }

    #[test]
    fn who_is_inactive_or_does_not_want_it_gets_none() {
        let inactive = SubscriptionConfig { active: false, ..subscription("a", Format::Slack) };
        let dry_run = SubscriptionConfig { dry_run: true, ..subscription("b", Format::SpecKit) };
        let events = Some(vec![EventPattern::parse("spec-auto.*").unwrap()]);
        let filter = Filter { events, ..Filter::default() };
        let other = SubscriptionConfig { filter, ..subscription("c", Format::Discord) };
        let (record, outgoing) = fanned(&[inactive, dry_run, other], false, 1 << 20);
        assert_eq!(places(&outgoing), [1]);
        assert!(record.deliveries.len() == 1 && record.bodies.is_empty());
    }

    #[test]
    fn an_event_that_was_told_already_goes_to_nobody() {
        let (record, outgoing) = fanned(&[subscription("a", Format::Slack)], true, 1 << 20);
        assert!(outgoing.is_empty() && record.deliveries.is_empty() && record.bodies.is_empty());
        assert!(record.body.get().contains("SPEC-1"), "its record is written all the same");
    }

    #[test]
    fn a_body_that_cannot_be_rendered_is_refused() {
        let budget = BodyBudget::new(1 << 20);
        for format in [Format::SpecKit, Format::CloudEvents] {
            let subscription = subscription("a", format);
            let to = [(&subscription, ())].into_iter();
            let body = Bytes::from_static(b"no JSON");
            let at = Timestamp::UNIX_EPOCH;
            let result = fan_out(&event(), &body, at, false, to, &budget, DeliveryId::random);
            assert!(matches!(result, Err(EmitError::Refused(_))), "{format}");
        }
    }
}
